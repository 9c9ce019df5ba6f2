"""One file per family of attribution methods; every file of this folder is imported."""
