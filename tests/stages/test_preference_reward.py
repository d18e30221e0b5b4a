import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.music import captions
from mammadai_jax.music.notes import HOLD, MAGENTA
from mammadai_jax.stages.preference_reward import SLACK, claim_rates, claims_kept

KINDS = list(captions.ATTRIBUTES)


def tune(pitch):
    events = np.full(96, HOLD)
    events[::4] = pitch
    return MAGENTA.encode(events)


TOKENS = jnp.asarray(np.stack([tune(55), tune(76), tune(55)]))
CODES = captions.encode(
    [
        {"register": "low", "kind": "jig"},
        {"register": "low", "repetition": "repetitive"},
        {"register": "high"},
    ]
)


def test_rates_are_of_the_melodies_of_which_something_is_claimed(transform):
    rates = transform(claim_rates)(CODES, TOKENS)
    assert rates.dtype == jnp.float32 and rates.shape == (len(KINDS),)
    np.testing.assert_allclose(rates[KINDS.index("register")], (1 + 0.5) / (3 + 1))
    np.testing.assert_allclose(rates[KINDS.index("repetition")], (1 + 0.5) / (1 + 1))
    unclaimed = [KINDS.index(name) for name in ("mode", "kind")]
    np.testing.assert_allclose(rates[np.array(unclaimed)], 0.5)


def test_each_kind_of_claim_is_on_its_own_scale(transform):
    rates = jnp.full(len(KINDS), 0.5).at[KINDS.index("register")].set(0.9)
    kept = transform(lambda *given: claims_kept(*given, rates))(CODES, TOKENS)
    register = np.array([0.1, -0.9]) / np.sqrt(0.09 + SLACK)
    both = (register[1] + 0.5 / np.sqrt(0.25 + SLACK)) / np.sqrt(2)
    np.testing.assert_allclose(kept, [register[0], both, register[1]], rtol=1e-5)


def test_of_its_own_melodies_the_mean_is_nearly_zero_and_nothing_claimed_is_zero(random):
    tokens = jnp.asarray(random.integers(0, MAGENTA.size, (200, 96)))
    codes = np.full((200, len(KINDS)), -1)
    for name in ("mode", "register", "ending"):
        codes[:, KINDS.index(name)] = random.integers(0, 2, 200)
    kept = jax.jit(claims_kept)(codes, tokens, claim_rates(codes, tokens))
    assert abs(kept.mean()) < 0.02 and 0.7 < kept.std() < 1.1
    np.testing.assert_array_equal(claims_kept(np.full((2, len(KINDS)), -1), TOKENS[:2], jnp.full(11, 0.5)), 0)
