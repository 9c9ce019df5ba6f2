"""The steps of an explanation: what the model is shown, where it runs, what is watched, and what is measured."""
