"""Training of the weights that attnviz ships, from images of Debian packages; not part of the wheel."""
