"""The outer loop: stages, run directory, checkpoints, logging and the report."""
