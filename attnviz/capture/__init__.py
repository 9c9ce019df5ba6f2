"""Find and capture ``g(x)`` by operation, in any PyTorch vision model."""
