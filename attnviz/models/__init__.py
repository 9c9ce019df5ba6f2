"""The built-in models, one mechanism per file, and loaders for other libraries' models."""
