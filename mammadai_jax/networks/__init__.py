"""Flax modules: the composer, the discriminator and a critic."""
