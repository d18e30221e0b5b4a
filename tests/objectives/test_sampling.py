import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.objectives import sampling
from mammadai_jax.objectives.distributions import Categorical


def test_without_distrax_the_same_is_drawn(random, transform):
    logits = jnp.asarray(random.normal(0, 3, (9, 5)), jnp.float32).at[:, 0].set(-jnp.inf)
    found = transform(lambda x: sampling.sample_and_log_prob(jax.random.key(2), x))(logits)
    expected = transform(lambda x: Categorical(x).sample_and_log_prob(seed=jax.random.key(2)))(logits)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert (ours.dtype, ours.shape) == (theirs.dtype, (9,))
