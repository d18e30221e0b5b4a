"""Forms of operations that are written for one kind of processor, each beside its plain form.

`jax.lax.platform_dependent` chooses between them by the platform that a program is lowered for, so what is
exported on one machine for another holds the other's form. Tests hold both forms to the same values and
gradients.
"""
