"""The native deformable sampler."""
