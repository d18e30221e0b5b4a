import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.music import traits as measure
from mammadai_jax.music.notes import HOLD, MAGENTA, OFF
from mammadai_jax.music.traits import traits

NAMES = {
    "register", "range", "density", "slope", "arch", "minor", "triple", "repetition", "rests", "stepwise",
    "leaps", "chromatic", "syncopation", "rhythm_variety", "pitch_variety", "tonic_end",
}  # fmt: skip
measured = jax.jit(traits)


def of(pitches, every=4, steps=96):
    """Traits of pitches that begin `every` so many steps, again and again."""
    events = np.full(steps, HOLD)
    events[::every] = np.resize(pitches, -(-steps // every))
    return of_events(events)


def of_events(events):
    values = measured(MAGENTA.encode(np.asarray(events))[None])
    return {name: float(value[0]) for name, value in values.items()}


def test_names_shapes_and_that_all_is_finite_for_any_tokens():
    rows = np.random.default_rng(0).integers(0, 38, (64, 96))
    rows = np.concatenate([rows, np.zeros((1, 96), int), np.ones((1, 96), int), np.full((1, 96), 37)])
    one = np.zeros((1, 96), int)
    one[0, 95] = 5
    values = measured(jnp.asarray(np.concatenate([rows, one])))
    assert set(values) == NAMES
    for name, value in values.items():
        assert (value.shape, value.dtype) == ((68,), jnp.float32), name
        assert np.isfinite(value).all(), name
    silent = {name: float(value[64]) for name, value in values.items()}
    assert silent["rests"] == 1
    assert silent["register"] == 65.5
    assert all(silent[name] == 0 for name in NAMES - {"rests", "register", "minor", "triple"})


def test_a_row_alone_is_a_row_of_the_batch():
    tokens = jnp.asarray(np.random.default_rng(1).integers(0, 38, (5, 96)))
    batch, mapped = measured(tokens), jax.jit(jax.vmap(traits))(tokens)
    for name in NAMES:
        np.testing.assert_allclose(batch[name], mapped[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_what_was_heard_so_far_is_of_what_was_played():
    tokens = jnp.asarray(np.random.default_rng(2).integers(0, 38, (3, 34)))
    heard = jax.jit(measure.prefix_traits, static_argnums=1)(tokens, 8)
    whole = jax.jit(measure.standardized_traits)
    assert heard.shape == (3, 5, len(NAMES))
    for part in range(5):
        begun = jnp.where(jnp.arange(34) < 8 * part, tokens, MAGENTA.silence)
        np.testing.assert_allclose(heard[:, part], whole(begun), rtol=1e-4, atol=1e-4)


def test_a_rising_scale():
    scale = of([60, 62, 64, 65, 67, 69, 71, 72], every=12)
    assert scale["register"] == pytest.approx(np.mean([60, 62, 64, 65, 67, 69, 71, 72]))
    assert scale["range"] == 12
    assert scale["density"] == pytest.approx(8 / 6)
    # Thirds of 32 steps: 12 of 60, 12 of 62, 8 of 64; and 8 of 69, 12 of 71, 12 of 72.
    assert scale["slope"] == pytest.approx((8 * 69 + 12 * 71 + 12 * 72 - 12 * 60 - 12 * 62 - 8 * 64) / 32)
    assert (scale["stepwise"], scale["leaps"], scale["chromatic"], scale["rests"]) == (1, 0, 0, 0)
    assert (scale["tonic_end"], scale["repetition"]) == (1, 0)
    assert scale["pitch_variety"] == pytest.approx(3)
    assert scale["rhythm_variety"] == 0


def test_an_arch():
    events = np.full(96, HOLD)
    events[[0, 32, 64]] = 60, 72, 60
    arch = of_events(events)
    assert (arch["slope"], arch["arch"]) == (0, 12)
    assert (arch["leaps"], arch["stepwise"]) == (1, 0)


def test_silence():
    events = np.full(96, HOLD)
    events[[0, 8, 48, 72]] = 60, OFF, 62, OFF
    quiet = of_events(events)
    assert quiet["rests"] == pytest.approx((40 + 24) / 96)
    assert quiet["register"] == pytest.approx((8 * 60 + 24 * 62) / 32)
    assert quiet["density"] == pytest.approx(2 / 6)
    assert quiet["tonic_end"] == 0  # on D, though silence follows


def test_mode():
    assert of([60, 64, 67, 72, 71, 67, 65, 62, 60])["minor"] < 0
    assert of([57, 60, 64, 69, 68, 64, 62, 59, 57])["minor"] > 0
    ends_on = {end: of([57, 60, 64, 69, 64, 60, 59, end], every=12)["tonic_end"] for end in (57, 60)}
    assert ends_on == {57: 1, 60: 0}


def test_metre():
    rng = np.random.default_rng(2)
    for bar, lengths in (
        (12, (8, 4)),
        (12, (4, 2, 4, 2)),
        (16, (8, 4, 4)),
        (8, (4, 2, 2)),
        (16, (6, 2, 4, 4)),
    ):
        events = np.full(96, HOLD)
        onsets = (np.arange(0, 96, bar)[:, None] + np.cumsum([0, *lengths[:-1]])).ravel()
        events[onsets] = rng.choice([60, 62, 64, 65, 67], onsets.size)
        assert (of_events(events)["triple"] > 0) == (bar == 12), lengths


def test_repetition():
    rng = np.random.default_rng(3)
    fresh = rng.permutation(np.arange(48, 72))
    assert of(fresh)["repetition"] == 0
    # Bars 1-3 and again: the second half stands before.
    assert of(fresh[:12])["repetition"] == pytest.approx(0.5)
    assert of(fresh[:4])["repetition"] == pytest.approx(80 / 96)
    # Two notes in 12 steps are no motif.
    assert of([60, 62, 64, 65], every=8)["repetition"] == 0


def test_intervals_and_accidentals():
    leaping = of([60, 67, 66, 61])
    assert leaping["leaps"] == pytest.approx((6 + 6) / 23)
    assert leaping["stepwise"] == pytest.approx((6 + 5) / 23)
    assert leaping["chromatic"] == pytest.approx(0.5)


def test_syncopation():
    straight = np.full(96, HOLD)
    straight[::4] = 60
    assert of_events(straight)["syncopation"] == 0
    pushed = np.full(96, HOLD)
    pushed[::16], pushed[2::16], pushed[6::16], pushed[8::16] = 60, 62, 64, 65
    # In each bar the notes on step 2 (of 4 steps) sounds on over step 4.
    assert of_events(pushed)["triple"] < 0
    assert of_events(pushed)["syncopation"] == pytest.approx(0.25)


def test_variety():
    events = np.full(96, HOLD)
    events[[0, 4, 8, 16, 20, 24]] = 60, 62, 60, 62, 60, OFF
    assert of_events(events)["pitch_variety"] == pytest.approx(-(0.6 * np.log2(0.6) + 0.4 * np.log2(0.4)))
    lengths = np.array([4, 1]) / 5  # four of 4 steps, one of 8
    assert of_events(events)["rhythm_variety"] == pytest.approx(-(lengths * np.log2(lengths)).sum())


def test_a_melody_too_short_is_an_error():
    with pytest.raises(ValueError, match="32 steps"):
        traits(jnp.zeros((1, 16), int))


def test_the_steps_to_a_stronger_one_are_those_of_the_metre():
    top = np.iinfo(np.int32).max
    assert measure._steps_to_stronger(measure.DUPLE).tolist() == [top, 1, 2, 1, 4, 1, 2, 1]
    assert measure._steps_to_stronger(measure.TRIPLE).tolist() == [top, 1, 10, 1, 8, 1, 6, 1, 4, 1, 2, 1]
