import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.learning.harmonise import RULES, Config, Given, harmonise
from mammadai_jax.music import harmony
from mammadai_jax.music.harmony.constraints import FREE, allowed
from mammadai_jax.music.notes import VOICES, VOICES_HOLD
from mammadai_jax.music.piece import decisions
from mammadai_jax.networks.mlp import Output
from mammadai_jax.networks.polyphonic import PolyphonicComposer
from tests.agents.table import drawn


class Markov(NamedTuple):
    """A network of two voices whose next decision depends on the last one only."""

    voices: int = 2
    hold: bool = False
    start: int = VOICES.size

    def initial_carry(self, batch):
        return jnp.zeros(batch)

    def apply(self, params, carry, token, time, method):
        assert method == "step"
        return Output(params[time % 2, token], carry), carry


def token(pitch):
    return pitch - VOICES.lowest + VOICES.first


def two_voices():
    """Tokens of a given upper voice, and what a lower voice of three pitches may do in three frames."""
    tokens = np.full((3, 2), FREE, np.int32)
    tokens[:, 0] = token(64), token(65), token(62)
    return Given(tokens, np.array([True, True, True]), np.array([[60, 72], [57, 59]]))


def test_the_estimate_of_the_evidence_and_the_draws_are_those_of_the_target():
    params = 2 * jax.random.normal(jax.random.key(1), (2, VOICES.size + 1, VOICES.size))
    config = Config(
        num_particles=16,
        vetoes=(),
        temperature=0.8,
        ess_fraction=0.9,
        rule_weights={"bad_leaps": 0.5, "no_chord": 1.5},
    )
    given, pieces = two_voices(), 300
    log_p = np.asarray(jax.nn.log_softmax(params / 0.8))
    choices = [np.array(row) for row in itertools.product([token(57), token(58), token(59)], repeat=3)]
    tokens = np.stack([np.stack([given.tokens[:, 0], row], axis=1) for row in choices]).astype(np.int32)
    path = np.concatenate([np.full((len(tokens), 1), VOICES.size), tokens.reshape(len(tokens), -1)], axis=1)
    target = sum(log_p[n % 2, path[:, n], path[:, n + 1]] for n in range(6))
    rules = {name: RULES[name] for name in config.rule_weights}
    rewards = harmony.score(tokens, harmony.Config(voices=2, frames=3, alphabet=VOICES), rules)
    target = target + sum(weight * rewards[name] for name, weight in config.rule_weights.items())
    results = harmonise(jax.random.key(2), Markov(), params, [given] * pieces, config)
    evidence = np.exp([result.log_evidence for result in results] - np.logaddexp.reduce(target))
    assert abs(evidence.mean() - 1) < 4 * evidence.std() / np.sqrt(pieces)
    assert evidence.std() < 1  # of 16 particles
    places = {row.tobytes(): n for n, row in enumerate(tokens)}
    found = [places[result.tokens.astype(np.int32).tobytes()] for result in results]
    np.testing.assert_allclose(
        [result.log_target for result in results], np.asarray(target)[found], rtol=1e-4
    )
    share, exact = np.bincount(found, minlength=27) / pieces, np.exp(target - np.logaddexp.reduce(target))
    assert np.abs(share - exact).sum() / 2 < 0.15  # total variation


@functools.cache
def network():
    composer = PolyphonicComposer(VOICES_HOLD.size, 4, hold=True, width=8, steps_per_quarter=1, match_steps=4)
    blank = np.zeros((1, 1), np.int32)
    return composer, drawn(composer, blank, blank)


def soprano(*pitches):
    tokens = np.full((len(pitches), 4), FREE, np.int32)
    tokens[:, 0] = [VOICES_HOLD.hold if p == "hold" else token(p) for p in pitches]
    on_beat = np.arange(len(pitches)) % 2 == 0
    on_beat[-1] = True
    return Given(tokens, on_beat, harmony.ranges(4))


GIVEN = [soprano(67, 69, "hold", 71, 72), soprano(64, 62, 60)]


CONFIG = Config(num_particles=4)


def harmonised(*given, seed=0):
    """Harmonisations of two pieces, by a program that is compiled once."""
    return harmonise(jax.random.key(seed), *network(), given, CONFIG)


@functools.partial(jax.jit, static_argnums=0)
def replay(piece, ranges, given, on_beat, states, chosen):
    """Whether tokens are allowed, and the states of all frames and of those on beats after the chosen one."""
    events = lambda state, token: sum(RULES[name](state, token, piece) for name in CONFIG.vetoes)
    forbids = lambda token: (events(states[0], token) < 0) | (on_beat & (events(states[1], token) < 0))
    mask = allowed(states[0], given, piece.replace(ranges=ranges), forbids)
    after = [harmony.advance(state, chosen, piece) for state in states]
    return mask, (after[0], jax.tree.map(lambda *x: jnp.where(on_beat, *x), after[1], states[1]))


def test_masks_score_what_they_sample():
    composer, params = network()
    piece, read = harmony.Config(frames=8), jax.jit(composer.apply)
    for given, result in zip(GIVEN, harmonised(*GIVEN), strict=True):
        row = decisions(result.tokens, piece.decision_order)
        before, times = np.append(composer.start, row[:-1])[:, None], np.arange(len(row))[:, None]
        logits = read(params, before, times).logits[:, 0]
        log_p = np.asarray(jax.nn.log_softmax(logits / CONFIG.temperature))
        states, log_prob = (harmony.initial(piece),) * 2, 0.0
        for n, chosen in enumerate(row):
            frame = n // 4
            now = given.ranges, given.tokens[frame], given.on_beat[frame]
            mask, states = replay(piece, *now, states, chosen)
            if given.tokens[frame, piece.decision_order[n % 4]] == FREE:
                assert mask[chosen]
                log_prob += log_p[n, chosen] - np.logaddexp.reduce(log_p[n][np.asarray(mask)])
        np.testing.assert_allclose(result.log_prob, log_prob, rtol=1e-4)


def test_given_voices_are_kept_and_constraints_hold():
    for given, result in zip(GIVEN, harmonised(*GIVEN), strict=True):
        np.testing.assert_array_equal(result.tokens[:, 0], given.tokens[:, 0])
        padded = np.concatenate([result.tokens, np.full((5 - len(result.tokens), 4), VOICES_HOLD.hold)])
        counts = harmony.score(padded[None])
        for name in ("crossing", "voice_ranges", "parallel_fifths", "parallel_octaves"):
            assert counts[name][0] == 0, name


def test_any_voices_may_be_given():
    given = GIVEN[0].tokens.copy()
    given[:, 0], given[:, 3], given[1:, 2] = FREE, token(48), token(55)
    result = harmonised(GIVEN[0]._replace(tokens=given), GIVEN[1])[0]
    np.testing.assert_array_equal(result.tokens[given != FREE], given[given != FREE])
    assert (result.tokens != VOICES.silence).all()


def test_the_key_decides_and_pieces_do_not_depend_on_the_others():
    both, again = harmonised(*GIVEN), harmonised(GIVEN[0], GIVEN[0])
    other = harmonised(*GIVEN, seed=1)
    np.testing.assert_array_equal(both[0].tokens, again[0].tokens)
    assert (other[0].tokens != again[0].tokens).any() and (again[1].tokens != again[0].tokens).any()
    np.testing.assert_allclose(both[0].log_target, again[0].log_target, rtol=1e-5)


def test_mistakes_are_named():
    composer, params = network()
    go = functools.partial(harmonise, jax.random.key(0), composer, params)
    with pytest.raises(
        ValueError, match=r"given tokens should be \(frames, 4\) for this network, got shape \(3, 2\)"
    ):
        go([two_voices()], CONFIG)
    with pytest.raises(ValueError, match=r"\['jazz'\] are no rules; the rules are"):
        go(GIVEN, Config(rule_weights={"jazz": 1.0}))
