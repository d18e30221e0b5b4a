"""An agent that learns to compose, from noise to music people prefer, in JAX."""

__version__ = "0.1.0"
