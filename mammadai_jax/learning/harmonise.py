"""Harmonising: the free voices of a piece are sampled around given ones, by sequential Monte Carlo.

A network over decisions (`networks.polyphonic`) gives each decision x_n a distribution p(x_n | x_<n), here at
a temperature. Wanted are the free decisions given the others, without what is not allowed, and preferring
what the rules of harmony reward (r, weighted):

    pi(x) ~ prod_n p(x_n | x_<n) m_n(x_n) exp(r_n(x))

where m_n is 1 for allowed tokens and 0 for others, and 1 for given ones. Particles are proposed from left to
right (Gordon et al. 1993). A free decision is drawn from p m / Z, with Z the mass of the allowed tokens, and
weighs Z exp(r); a given one is played, and weighs p exp(r). So what a particle decided counts by how well the
melody goes on from it. Where the effective sample size falls, the particles of a frame are drawn anew by
their weights. The mean weight is an unbiased estimate of the sum of the right side; Lew et al. (2023) steer
language models in this way.

Ranges, the order of the voices and the vetoes are in m, see `music.harmony.constraints`; vetoes and rules
hold from beat to beat, vetoes from frame to frame as well. The last frame is the one that ends the piece for
the rules.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mammadai_jax.fields import static, traced
from mammadai_jax.learning.particles import Particles, Rows, by_piece, drawn_anew, traced_back
from mammadai_jax.music import harmony
from mammadai_jax.music.harmonisation import Given
from mammadai_jax.music.harmony.chords import no_chord
from mammadai_jax.music.harmony.constraints import FREE, allowed
from mammadai_jax.music.notes import VOICES, VOICES_HOLD
from mammadai_jax.objectives import distributions, sampling

CHUNK = 32  # frames of a compiled program
BATCH = 32  # pieces that it decides together, at most
RULES = {**harmony.RULES, "no_chord": no_chord}
WEIGHTS = {
    "no_chord": 1.0,
    "spacing": 1.0,
    "overlap": 0.5,
    "bad_leaps": 1.0,
    "wide_leaps": 2.0,
    "unresolved_dissonance": 0.5,
    "doubled_leading_tone": 1.0,
    "final_tonic": 6.0,
    "cadence": 4.0,
}
VETOES = ("parallel_fifths", "parallel_octaves")


@struct.dataclass
class Config:
    """Settings of harmonising.

    Attributes:
        num_particles: partial pieces of which a harmonisation is drawn; 1 for sampling without look-ahead.
        vetoes: names of rules that no free decision may break, unless every other token does.
        temperature: divisor of the logits.
        ess_fraction: least effective sample size of the importance weights, as a share of the sample.
        rule_weights: weights of the rules' rewards by name, in nats; a rule without one is not used.

    """

    num_particles: int = static(64, low=1)
    vetoes: tuple[str, ...] = static(VETOES)
    temperature: float = traced(0.7, low=0)
    ess_fraction: float = traced(0.5, low=0, high=1)
    rule_weights: Mapping[str, float] = traced(default_factory=lambda: dict(WEIGHTS))


class Harmonised(NamedTuple):
    """A harmonisation.

    Attributes:
        tokens: int32 (T, V).
        log_prob: of the free decisions under the distributions that they were drawn from.
        log_target: log p of all decisions, and the rules' rewards.
        log_evidence: the logarithm of the estimate of the target's sum.

    """

    tokens: np.ndarray
    log_prob: float
    log_target: float
    log_evidence: float


def harmonise(
    key: jax.Array, composer: Any, params: Any, pieces: Sequence[Given], config: Config
) -> list[Harmonised]:
    """Harmonise pieces; the same key gives the same harmonisations, each drawn from its own particles.

    Args:
        key: consumed; piece g has the key fold_in(key, g).
        composer: a network over decisions, see `networks.polyphonic`.
        params: its parameters.
        pieces: what is given; tokens (T_g, V) of each.
        config: settings.

    Raises:
        ValueError: if the pieces do not have the network's voices, or for the weight of no rule.

    """
    _check(pieces, composer, config)
    model = _Model(composer, _piece(composer), config.vetoes)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(pieces)))
    parts = [slice(begin, begin + BATCH) for begin in range(0, len(pieces), BATCH)]
    return [each for part in parts for each in _batch(model, params, config, keys[part], pieces[part])]


class _Model(NamedTuple):
    """What a program is compiled for."""

    composer: Any
    piece: harmony.Config
    vetoes: tuple[str, ...]


def _batch(model, params, config, keys, pieces: Sequence[Given]) -> Iterator[Harmonised]:
    """Harmonise pieces with a key each, (G,)."""
    keys = jax.vmap(lambda key: jax.random.split(key, 3))(keys).T
    ranges = jnp.stack([jnp.asarray(piece.ranges, jnp.int32) for piece in pieces])
    count, lengths = len(pieces), [len(piece.tokens) for piece in pieces]
    particles, moves = _initial(model, pieces, config.num_particles), []
    for begin in range(0, max(lengths), CHUNK):
        rows = _frames([p.tokens for p in pieces], begin), _frames([p.on_beat for p in pieces], begin)
        particles, move = _chunk(model, params, config, (keys[:2], ranges), rows, particles)
        moves.append(jax.device_get(move))
    last = np.asarray(jax.vmap(jax.random.categorical)(keys[2], particles.log_weight))
    decided, ancestors = (np.concatenate(part) for part in zip(*moves, strict=True))
    drawn = traced_back(decided, ancestors, last)[..., np.argsort(model.piece.decision_order)]
    of_last = lambda x: np.asarray(x).reshape(count, -1)[np.arange(count), last].tolist()
    scores = (of_last(x) for x in (particles.rows.log_prob, particles.rows.log_target))
    rows = zip(drawn, lengths, *scores, particles.evidence.tolist(), strict=True)
    return (Harmonised(row[:length], *of_row) for row, length, *of_row in rows)


def _check(pieces: Sequence[Given], composer: Any, config: Config) -> None:
    for tokens in (piece.tokens for piece in pieces):
        if np.ndim(tokens) != 2 or not len(tokens) or np.shape(tokens)[1] != composer.voices:
            raise ValueError(
                f"given tokens should be (frames, {composer.voices}) for this network, "
                f"got shape {np.shape(tokens)}"
            )
    if unknown := sorted({*config.vetoes, *config.rule_weights} - {*RULES}):
        raise ValueError(f"{unknown} are no rules; the rules are {sorted(RULES)}")


def _piece(composer: Any) -> harmony.Config:
    """What the rules need, of pieces that are one phrase."""
    alphabet = VOICES_HOLD if composer.hold else VOICES
    return harmony.Config(voices=composer.voices, alphabet=alphabet, phrase_bars=2**20)


def _frames(rows: Sequence[np.ndarray], begin: int) -> np.ndarray:
    """CHUNK frames (F, G, ...) of rows (T_g, ...) of each piece, with zeros past their end."""
    parts = [np.asarray(row)[begin : begin + CHUNK] for row in rows]
    filled = [np.pad(part, ((0, CHUNK - len(part)), *[(0, 0)] * (part.ndim - 1))) for part in parts]
    return np.stack(filled, axis=1)


def _initial(model: _Model, pieces: Sequence[Given], count: int) -> Particles:
    """Particles before the first decision."""
    spread = lambda values, dtype: jnp.repeat(jnp.array(values, dtype), count)
    size = len(pieces) * count
    blank = harmony.initial(model.piece)
    blank = jax.tree.map(lambda x: jnp.broadcast_to(x, (size, *x.shape)), blank)
    piece = blank.replace(
        tonic=spread([piece.tonic for piece in pieces], jnp.int32),
        minor=spread([piece.minor for piece in pieces], bool),
        frames=spread([len(piece.tokens) for piece in pieces], jnp.int32),
    )
    beats = piece.replace(frames=spread([int(np.sum(piece.on_beat)) for piece in pieces], jnp.int32))
    token, none = jnp.full(size, model.composer.start, jnp.int32), jnp.zeros(size)
    rows = Rows(model.composer.initial_carry(size), piece, beats, token, none, none)
    return Particles(rows, none.reshape(-1, count), jnp.zeros(len(pieces)))


@functools.partial(jax.jit, static_argnums=0)
def _chunk(model, params, config, of_pieces, frames, particles):
    """Decide CHUNK frames: int32 (F, G, V) and bool (F, G), of pieces with their keys (2, G) and ranges.

    Returns:
        Particles, and (decisions int32 (F, V, G, N), ancestors int32 (F, G, N)).

    """
    keys, ranges = of_pieces

    def decide_frame(particles, frame):
        def decide(particles, _):
            keys_now = _at(keys[0], particles.time)
            return _decide(model, params, config, keys_now, (*frame, ranges), particles)

        particles, decided = jax.lax.scan(decide, particles, length=model.piece.voices)
        keys_now = _at(keys[1], particles.time)
        particles, ancestors = drawn_anew(keys_now, particles, jnp.asarray(config.ess_fraction))
        return particles, (decided, ancestors)

    return jax.lax.scan(decide_frame, particles, frames)


def _decide(model, params, config, keys, frame, particles):
    """The next decision of all particles -> particles, tokens int32 (G, N)."""
    rows, shape, piece = particles.rows, particles.log_weight.shape, model.piece
    given, on_beat, ranges = (jnp.repeat(x, shape[1], axis=0) for x in frame)
    time = rows.piece.time
    output, carry = model.composer.apply(params, rows.carry, rows.token, time, method="step")
    log_p = jax.nn.log_softmax(distributions.at_temperature(output.logits, config.temperature))
    mask = jax.vmap(functools.partial(_allowed, model))(rows.piece, rows.beats, given, on_beat, ranges)
    logits = jnp.where(mask, log_p, distributions.LEAST)
    drawn, log_q = by_piece(sampling.sample_and_log_prob, keys, logits)
    fixed = given[:, jnp.asarray(piece.decision_order)[time[0] % piece.voices]]
    is_free = fixed == FREE
    token = jnp.where(is_free, drawn, fixed)
    chosen = jnp.take_along_axis(log_p, token[:, None], axis=1)[:, 0]
    reward = jnp.where(on_beat, jax.vmap(functools.partial(_reward, model, config))(rows.beats, token), 0.0)
    counted = time < rows.piece.frames * piece.voices
    weight = jnp.where(is_free, jax.nn.logsumexp(logits, axis=-1), chosen) + reward
    advance = jax.vmap(functools.partial(harmony.advance, config=piece))
    keep = lambda new, old: jnp.where(on_beat.reshape(-1, *[1] * (new.ndim - 1)), new, old)
    rows = Rows(
        carry=carry,
        piece=advance(rows.piece, token),
        beats=jax.tree.map(keep, advance(rows.beats, token), rows.beats),
        token=token,
        log_prob=rows.log_prob + jnp.where(counted & is_free, log_q, 0.0),
        log_target=rows.log_target + jnp.where(counted, chosen + reward, 0.0),
    )
    log_weight = particles.log_weight + jnp.where(counted, weight, 0.0).reshape(shape)
    return Particles(rows, log_weight, particles.log_evidence), token.reshape(shape)


def _at(keys, time):
    """Keys (G,) for a time ()."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, time)


def _allowed(model, state, beats, given, on_beat, ranges):
    """The tokens bool (A,) that a particle's next decision may take."""

    def forbids(token):
        broken = lambda state: jnp.array(
            [RULES[name](state, token, model.piece) < 0 for name in model.vetoes]
        )
        return broken(state).any() | (on_beat & broken(beats).any())

    return allowed(state, given, model.piece.replace(ranges=ranges), forbids if model.vetoes else None)


def _reward(model, config, state, token):
    """The rules' weighted reward () of a decision on a beat."""
    rules = {name: RULES[name] for name in config.rule_weights}
    return harmony.reward(state, token, model.piece, config.rule_weights, rules)[0]
