"""Simulated listeners: limits, ceilings against simulation, one answer under every transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.listening import panel as panels

NAMES = tuple(panels.TASTE)


def a_panel(listeners=12, **options):
    count = len(NAMES)
    return panels.panel(jax.random.key(0), listeners, NAMES, np.zeros(count), np.ones(count), **options)


def a_set(random, count=50):
    return {name: jnp.asarray(random.normal(size=count), jnp.float32) for name in NAMES}, jnp.asarray(
        random.uniform(size=count), jnp.float32
    )


def alone(panel, **fields):
    """The panel with some fields set to one number for all."""
    return panel.replace(**{name: jnp.full((panel.listeners,), value) for name, value in fields.items()})


def test_probabilities_sum_to_one_under_every_transformation(random, transform):
    panel = a_panel()
    listener = jnp.asarray(random.integers(0, 12, 30))
    worth = jnp.asarray(random.normal(size=(2, 30)) * 50, jnp.float32)
    first = jnp.asarray(random.uniform(size=30) < 0.5)
    chances = transform(panels.probabilities)(panel, listener, *worth, first)
    assert chances.shape == (30, 3)
    assert np.isfinite(chances).all() and (chances >= 0).all()
    np.testing.assert_allclose(chances.sum(axis=-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(chances, panels.probabilities(panel, listener, *worth, first), atol=1e-6)


def test_odds_are_davidsons(random):
    panel = alone(a_panel(1), noise=2.0, position=0.0, tie=0.7, inattention=0.0)
    a, tie, b = panels.probabilities(panel, 0, jnp.float32(3.0), jnp.float32(1.0), True)
    np.testing.assert_allclose(a / b, np.exp(1.0), rtol=1e-5)
    np.testing.assert_allclose(tie / np.sqrt(a * b), 0.7, rtol=1e-5)


def test_limits_of_ties_bias_and_attention():
    panel = alone(a_panel(1), position=0.0, inattention=0.0)
    equal = lambda p, first=True: panels.probabilities(p, 0, jnp.float32(0), jnp.float32(0), first)
    np.testing.assert_allclose(equal(alone(panel, tie=0.0)), [0.5, 0, 0.5], atol=1e-6)
    np.testing.assert_allclose(equal(alone(panel, tie=1e6)), [0, 1, 0], atol=1e-5)
    np.testing.assert_allclose(equal(alone(panel, tie=1.0)), [1 / 3] * 3, atol=1e-6)
    biased = alone(panel, position=100.0, tie=0.5)
    np.testing.assert_allclose(equal(biased, True), [1, 0, 0], atol=1e-5)
    np.testing.assert_allclose(equal(biased, False), [0, 0, 1], atol=1e-5)
    asleep = alone(panel, inattention=1.0)
    chances = panels.probabilities(asleep, 0, jnp.float32(90.0), jnp.float32(0), True)
    np.testing.assert_allclose(chances, [1 / 3] * 3, atol=1e-6)


def test_exchanging_the_melodies_exchanges_the_probabilities(random):
    panel, listener = a_panel(), jnp.arange(12)
    worth = jnp.asarray(random.normal(size=(2, 12)), jnp.float32)
    chances = panels.probabilities(panel, listener, worth[0], worth[1], True)
    swapped = panels.probabilities(panel, listener, worth[1], worth[0], False)
    np.testing.assert_allclose(chances, swapped[:, ::-1], atol=1e-6)


def test_utility_is_highest_at_the_ideal_and_saturates():
    panel, count = a_panel(3), len(NAMES)
    best = np.asarray(panel.ideal[0])

    def worth(moved):
        """To the first listener, of the best melody with each trait moved in turn, and with none moved."""
        values = best + moved * np.eye(count + 1, count)
        traits = {name: jnp.asarray(values[:, k]) for k, name in enumerate(NAMES)}
        return np.asarray(panels.utility(panel, traits, jnp.zeros(count + 1)))[0]

    near, far, farther = map(worth, (1.0, 50.0, 90.0))
    np.testing.assert_allclose(near[-1], panel.weight[0].sum(), rtol=1e-5)
    assert (near[:-1] < near[-1]).all() and (far[:-1] < near[:-1]).all()
    np.testing.assert_allclose(far, farther, rtol=1e-5)


def test_utility_rises_with_adherence(random):
    panel = a_panel()
    traits, _ = a_set(random)
    full, none = (panels.utility(panel, traits, jnp.full(50, share)) for share in (1.0, 0.0))
    np.testing.assert_allclose(full - none, np.tile(panel.adherence[:, None], 50), rtol=1e-4, atol=1e-4)


def test_taste_is_musical():
    """In real melodies' terms: steps are liked better than leaps, an end on the tonic better than none."""
    panel = a_panel(200)
    plain = {name: jnp.zeros(1) for name in NAMES}
    worth = lambda **moved: float(
        panels.gold(panel, plain | {k: jnp.full(1, v) for k, v in moved.items()}, jnp.zeros(1))[0]
    )
    assert worth(stepwise=1.0) > worth(stepwise=-1.0)
    assert worth(tonic_end=1.0) > worth(tonic_end=-1.0)
    assert worth(chromatic=0.0) > worth(chromatic=2.0)
    assert worth(rests=0.0) > worth(rests=2.0)
    assert worth(repetition=0.5) > max(worth(repetition=-1.5), worth(repetition=2.5))
    for name in ("range", "density", "leaps"):
        assert worth() > max(worth(**{name: 2.0}), worth(**{name: -2.0}))


def test_utility_is_equal_under_every_transformation(random, transform):
    panel = a_panel()
    traits, adherence = a_set(random)
    worth = transform(panels.utility)(panel, traits, adherence)
    assert worth.shape == (12, 50)
    np.testing.assert_allclose(worth, panels.utility(panel, traits, adherence), rtol=1e-5)


def test_split_parts_differ_and_make_the_whole(random):
    panel = a_panel()
    training, held_out = panels.split(panel, 4)
    assert (training.listeners, held_out.listeners) == (8, 4)
    whole = jax.tree.map(lambda *x: jnp.concatenate(x), training, held_out)
    jax.tree.map(np.testing.assert_array_equal, whole, panel)
    traits, adherence = a_set(random)
    assert not np.allclose(panels.gold(training, traits, adherence), panels.gold(held_out, traits, adherence))
    for wrong in (0, 12, -1):
        with pytest.raises(ValueError, match="held_out should be"):
            panels.split(panel, wrong)


def test_listeners_are_alike_without_difference(random):
    panel = a_panel(difference=0.0)
    worth = panels.utility(panel, *a_set(random))
    np.testing.assert_allclose(worth, np.tile(worth[:1], (12, 1)), rtol=1e-6)


def test_ceiling_agrees_with_simulation(random):
    panel, count, votes = a_panel(6), 40, 400
    traits, adherence = a_set(random, 2 * count)
    worth = panels.utility(panel, traits, adherence)
    ours, theirs = worth[:, :count], worth[:, count:]
    found = panels.ceiling(panel, ours, theirs)
    who = jnp.arange(6)[:, None, None]
    shape = (6, count, votes)
    first = jnp.asarray(random.uniform(size=shape) < 0.5)
    spread = (jnp.broadcast_to(x[..., None], shape) for x in (ours, theirs))
    choice = np.asarray(panels.choose(jax.random.key(1), panel, jnp.broadcast_to(who, shape), *spread, first))
    decided = choice != 0
    majority = np.sign(choice.sum(axis=(0, 2)))[None, :, None]
    personal = np.sign(choice.sum(axis=2))[:, :, None]
    accuracy = lambda guess: ((choice == guess) & decided).sum() / decided.sum()
    np.testing.assert_allclose(found.taste, accuracy(majority), atol=0.01)
    np.testing.assert_allclose(found.listener, accuracy(personal), atol=0.01)
    np.testing.assert_allclose(found.ties, 1 - decided.mean(), atol=0.01)
    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    both = [decided[i] & decided[j] for i, j in pairs]
    same = [(choice[i] == choice[j]) & mask for (i, j), mask in zip(pairs, both, strict=True)]
    np.testing.assert_allclose(found.agreement, np.sum(same) / np.sum(both), atol=0.01)


def test_ceilings_are_ordered_and_reach_their_limits(random):
    traits, adherence = a_set(random)
    panel = a_panel()
    worth = panels.utility(panel, traits, adherence)
    found = panels.ceiling(panel, worth[:, :25], worth[:, 25:])
    assert 0.5 < found.taste < found.listener < 1.0
    sure = alone(panel, noise=1e-4, inattention=0.0, position=0.0)
    np.testing.assert_allclose(panels.ceiling(sure, worth[:, :25], worth[:, 25:]).listener, 1.0, atol=1e-3)
    asleep = alone(panel, inattention=1.0)
    np.testing.assert_allclose(panels.ceiling(asleep, worth[:, :25], worth[:, 25:])[:3], 0.5, atol=1e-5)


def test_reference_keeps_known_traits_and_no_scale_of_zero():
    found = panels.reference(
        {"density": np.array([2.0, 4.0]), "chromatic": np.zeros(2), "colour": np.ones(2)}
    )
    assert found.names == ("density", "chromatic")
    np.testing.assert_allclose(found.mean, [3, 0])
    np.testing.assert_allclose(found.scale, [1, 0.05])
    assert panels.panel(jax.random.key(0), 2, *found).names == found.names


def test_wrong_panels_are_refused():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="no liking for colour"):
        panels.panel(key, 2, ["colour"], np.zeros(1), np.ones(1))
    with pytest.raises(ValueError, match="scales above 0"):
        panels.panel(key, 2, ["range"], np.zeros(1), np.zeros(1))
    with pytest.raises(ValueError, match="missing: leaps"):
        two = panels.panel(key, 2, ["range", "leaps"], np.zeros(2), np.ones(2))
        panels.utility(two, {"range": jnp.zeros(3)}, jnp.zeros(3))


def test_opinions_are_of_five_points_around_what_is_ordinary():
    attentive = alone(a_panel(3), noise=1e-3, inattention=0.0)
    worth = jnp.tile(jnp.array([-9.0, 1.0, 2.0, 2.9, 4.0, 30.0]), (3, 1))
    mean, scale = jnp.array([2.0, 0.0, 4.0]), jnp.array([1.0, 1.8, 0.5])
    who = jnp.arange(3)[:, None] * jnp.ones(6, jnp.int32)
    points = panels.opinions(jax.random.key(0), attentive, who, worth, mean, scale)
    np.testing.assert_array_equal(points, [[1, 2, 3, 4, 5, 5], [1, 4, 4, 5, 5, 5], [1, 1, 1, 1, 3, 5]])


def test_opinions_of_who_does_not_listen_are_any(random):
    asleep = alone(a_panel(1), inattention=1.0)
    points = panels.opinions(
        jax.random.key(0), asleep, jnp.zeros(4000, int), jnp.full(4000, 99.0), jnp.zeros(1), jnp.ones(1)
    )
    shares = np.bincount(points, minlength=6)[1:] / 4000
    np.testing.assert_allclose(shares, 0.2, atol=0.03)
