import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.music import harmony
from mammadai_jax.music.harmony.constraints import FREE, allowed
from mammadai_jax.music.notes import VOICES, VOICES_HOLD

CONFIG = harmony.Config(frames=4)
NONE = [FREE] * 4


def token(pitch):
    return pitch - VOICES.lowest + VOICES.first


def after(*pitches, config=CONFIG):
    """The state after decisions, in the order S B T A."""
    state = harmony.initial(config)
    for pitch in pitches:
        state = harmony.advance(state, token(pitch), config)
    return state


def pitches(mask):
    return np.flatnonzero(mask[1:66]) + VOICES.lowest


def of(state, given=NONE, config=CONFIG, **more):
    return np.asarray(allowed(state, jnp.array(given), config, **more))


@pytest.mark.parametrize(
    ("before", "given", "low", "high"),
    [
        ([], NONE, 60, 81),
        ([65], NONE, 36, 64),  # the bass below the soprano
        ([65, 50], NONE, 50, 65),  # the tenor between them
        ([65, 50, 55], NONE, 55, 65),
        ([], [FREE, FREE, FREE, token(62)], 62, 81),  # a bass that is given, and decided later
        ([], [FREE, token(70), FREE, FREE], 70, 81),
    ],
)
def test_a_voice_stays_in_its_range_and_crosses_none(transform, before, given, low, high):
    mask = np.asarray(transform(lambda given: allowed(after(*before), given, CONFIG))(jnp.array(given)))
    np.testing.assert_array_equal(pitches(mask), np.arange(low, high + 1))
    assert not mask[VOICES.silence] and not mask[VOICES_HOLD.hold]  # nothing sounds that could be held


def test_what_sounds_may_be_held_where_it_may_be_struck():
    chord = [72, 48, 60, 67]
    assert of(after(*chord))[VOICES_HOLD.hold]
    assert not of(after(*chord, 62, 48, 60))[VOICES_HOLD.hold]  # the alto's G is above a soprano's D
    assert of(after(*chord, 72, 48, 60))[VOICES_HOLD.hold]


def test_vetoes_are_given_up_before_the_order_and_the_order_before_the_range():
    state = after(65, 50)
    forbids = lambda token: token != VOICES_HOLD.first
    np.testing.assert_array_equal(of(state, forbids=forbids), of(state))
    low = after(50, 40)  # a soprano below the tenor's and the alto's place
    assert pitches(of(low)).tolist() == [48, 49, 50]
    assert pitches(of(after(50, 40, 48))).tolist() == list(range(55, 75))
    assert of(after(50, 40, 48)).any()


def test_vetoes_leave_the_other_tokens():
    state = after(67, 48, 55, 64, 69)  # C, then the soprano's A: the bass may not go up to D in fifths
    parallel = lambda token: harmony.RULES["parallel_fifths"](state, token, CONFIG) < 0
    vetoed = of(state) & ~of(state, forbids=parallel)
    assert pitches(vetoed).tolist() == [50, 62]


def test_other_alphabets_and_ranges():
    config = harmony.Config(voices=2, frames=2, alphabet=VOICES, ranges=jnp.array([[60, 62], [40, 41]]))
    mask = of(harmony.initial(config), [FREE, FREE], config)
    assert mask.shape == (66,) and pitches(mask).tolist() == [60, 61, 62]
    with pytest.raises(AssertionError):
        of(harmony.initial(config), NONE, config)
