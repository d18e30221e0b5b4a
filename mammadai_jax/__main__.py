"""`python -m mammadai_jax` is the command `mammadai`."""

import sys

from mammadai_jax.cli import main

sys.exit(main())
