"""Flax modules: the composer and the discriminator."""
