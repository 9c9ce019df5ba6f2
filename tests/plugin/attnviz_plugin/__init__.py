"""An example of a package that adds to attnviz one entry of each kind: each is one file and one entry point."""
