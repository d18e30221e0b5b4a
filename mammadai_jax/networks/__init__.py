"""Flax modules: composers, reward models, critics, discriminators, encoders of text and music."""
