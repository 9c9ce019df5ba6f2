"""The steps of an explanation: inputs, capture, attribution, scores and notes."""
