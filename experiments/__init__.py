"""Scripts that reproduce the results in the README."""
