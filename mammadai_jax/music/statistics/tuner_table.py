"""The evaluation of RL Tuner (Jaques et al. 2017, Table 1), for tokens of the alphabet `rl_tuner`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np

from mammadai_jax.music.notes import RL_TUNER
from mammadai_jax.music.statistics.features import mean

Labels = Literal["released", "corrected"]

FIRST_PITCH = RL_TUNER.first
TONIC = 14  # middle C
C_MAJOR = (0, 1, 2, 4, 6, 7, 9, 11, 13, 14, 16, 18, 19, 21, 23, 25, 26, 28, 30, 31, 33, 35, 37)
MOTIF = 8  # steps
LEAST_MOTIF_PITCHES = 3
LEAP = 7  # semitones
INTERVALS = {"seconds": 2, "thirds": 4, "fourths": 5, "fifths": 7, "sixths": 9, "sevenths": 11}
PER_NOTE = ("notes_not_in_key", "notes_in_motif", "notes_in_repeated_motif", "num_repeated_notes")


def rl_tuner_table(
    tokens: np.ndarray,
    labels: Labels = "released",
    tonic: int = TONIC,
    key: Collection[int] = C_MAJOR,
) -> dict[str, float]:
    """The measures of RL Tuner's Table 1 and its notebook over melodies `tokens` (N, T), by name.

    Shares of all N T steps: notes_not_in_key, notes_in_motif, notes_in_repeated_motif, num_repeated_notes
    ("excessively repeated"). Shares of melodies: num_starting_tonic, num_high_unique, num_low_unique.
    leaps_resolved: resolved / (resolved + doubled) of all melodies' leaps, NaN without any. autocorrelation1,
    2, 3: means over the melodies that are not constant. The rest are means per melody.

    `labels`: "released" reads token 0 as note-off and 1 as no event, as the paper and its program do, and is
    the one to compare with published numbers. "corrected" reads 0 as no event and 1 as note-off, as the data
    behind them were written, and lets a note be held for any length. `tonic` and `key` are tokens.
    """
    counts = rl_tuner_statistics(tokens, labels, tonic, key)
    steps = np.shape(tokens)[1]
    table = {name: mean(values) / (steps if name in PER_NOTE else 1) for name, values in counts.items()}
    resolved, doubled = counts["num_resolved_leaps"].sum(), counts["num_leap_twice"].sum()
    table["leaps_resolved"] = float(resolved / (resolved + doubled)) if resolved + doubled else np.nan
    return table


def rl_tuner_statistics(
    tokens: np.ndarray,
    labels: Labels = "released",
    tonic: int = TONIC,
    key: Collection[int] = C_MAJOR,
) -> dict[str, np.ndarray]:
    """The counts behind `rl_tuner_table`, by name and melody, float64 (N,); same arguments.

    Autocorrelations are NaN for constant melodies. Raises ValueError unless tokens are (N, T) with T >= 1 and
    tokens of the alphabet.
    """
    tokens = _checked(tokens)
    off, hold = _special(labels)
    leaps = _leaps(tokens)
    return {
        "notes_not_in_key": _count(~np.isin(tokens, list(key))),
        **_motifs(tokens),
        "num_starting_tonic": _count(tokens[:, :1] == tonic),
        "num_repeated_notes": _repeated(tokens, off, hold, exempt_hold=labels == "corrected"),
        "num_resolved_leaps": leaps[0],
        "num_leap_twice": leaps[1],
        **_extremes(tokens),
        **{f"autocorrelation{lag}": autocorrelation(tokens, lag) for lag in (1, 2, 3)},
        **_intervals(tokens, off, tonic),
    }


def autocorrelation(tokens: np.ndarray, lag: int) -> np.ndarray:
    """Autocorrelation of each row of numbers (N, T) at a lag, (N,); NaN for constant rows.

    rho_k = sum_i (y_{i+k} - mean)(y_i - mean) / (T var(y)), population variance.
    """
    centred = tokens - tokens.mean(axis=1, keepdims=True)
    power = (centred**2).sum(axis=1)
    covariance = (centred[:, lag:] * centred[:, : max(tokens.shape[1] - lag, 0)]).sum(axis=1)
    varies = (tokens != tokens[:, :1]).any(axis=1)
    return np.divide(covariance, power, out=np.full(len(tokens), np.nan), where=varies)


def _checked(tokens: np.ndarray) -> np.ndarray:
    tokens = np.asarray(tokens).astype(np.int64)
    if tokens.ndim != 2 or not tokens.shape[1]:
        raise ValueError(f"tokens are (melodies, steps) with at least one step, got shape {tokens.shape}")
    if tokens.size and (tokens.min() < 0 or tokens.max() >= RL_TUNER.size):
        raise ValueError(f"tokens of the alphabet 'rl_tuner' are 0..{RL_TUNER.size - 1}")
    return tokens


def _special(labels: Labels) -> tuple[int, int]:
    """The tokens of note-off and of no event."""
    if labels not in ("released", "corrected"):
        raise ValueError(f"labels should be 'released' or 'corrected', got {labels!r}")
    return (0, 1) if labels == "released" else (1, 0)


def _count(steps: np.ndarray) -> np.ndarray:
    return steps.sum(axis=1).astype(float)


def _motifs(tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Steps that end eight events with three pitches or more, and those that repeat such an eight: (N,)."""
    length, steps = tokens.shape
    bits = np.where(tokens >= FIRST_PITCH, np.int64(1) << tokens, 0)
    kinds, codes = np.zeros((2, length, max(steps - MOTIF + 1, 0)), np.int64)
    for offset in range(MOTIF if kinds.size else 0):
        window = slice(offset, offset + kinds.shape[1])
        kinds |= bits[:, window]
        codes = codes * RL_TUNER.size + tokens[:, window]
    motif = np.bitwise_count(kinds) >= LEAST_MOTIF_PITCHES
    repeated = np.zeros(length)
    for end in range(MOTIF, codes.shape[1]):
        # The earlier eight end before these eight begin.
        before = codes[:, : end - MOTIF + 1] == codes[:, end : end + 1]
        repeated += motif[:, end] & before.any(axis=1)
    return {"notes_in_motif": _count(motif), "notes_in_repeated_motif": repeated}


def _extremes(tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Whether the highest token, and the lowest pitch, occur once. Special events count for the highest."""
    highest = tokens == tokens.max(axis=1, keepdims=True)
    pitches = np.where(tokens >= FIRST_PITCH, tokens, RL_TUNER.size)
    lowest = (pitches == pitches.min(axis=1, keepdims=True)) & (pitches < RL_TUNER.size)
    return {"num_high_unique": _count(highest) == 1.0, "num_low_unique": _count(lowest) == 1.0}


def _previous_pitch(tokens: np.ndarray) -> np.ndarray:
    """The last pitch token before each step, -1 if there is none, (N, T)."""
    index = np.where(tokens >= FIRST_PITCH, np.arange(tokens.shape[1]), -1)
    last = np.maximum.accumulate(index, axis=1)
    pitch = np.where(last >= 0, np.take_along_axis(tokens, np.maximum(last, 0), axis=1), -1)
    return np.concatenate([np.full((len(tokens), 1), -1), pitch[:, :-1]], axis=1)


def _intervals(tokens: np.ndarray, off: int, tonic: int) -> dict[str, np.ndarray]:
    """Numbers of intervals of each kind from the previous pitch to each event, by name (N,).

    Thirds from the tonic or its third and fifths from the tonic or the fifth ("in key") are not among the
    thirds and fifths. As in the released program only such fifths are counted as preferred: its test for the
    thirds never succeeds.
    """
    previous = _previous_pitch(tokens)
    degree = (previous - tonic) % 12
    rest = (tokens == off) & (previous >= 0)
    special = np.isin(degree, (0, 7))
    distance = np.where((tokens >= FIRST_PITCH) & (previous >= 0), np.abs(tokens - previous), 0)
    fifth, third = (distance == 7) & special, (distance == 4) & np.isin(degree, (0, 4))
    counts = {"num_octave_jumps": distance > 12, "num_in_key_preferred_intervals": fifth}
    counts |= {f"num_{name}": (distance == size) & ~fifth & ~third for name, size in INTERVALS.items()}
    counts |= {"num_rest_intervals": rest & ~special, "num_special_rest_intervals": rest & special}
    return {name: _count(steps) for name, steps in counts.items()}


def _repeated(tokens: np.ndarray, off: int, hold: int, exempt_hold: bool) -> np.ndarray:
    """Number of excessively repeated events of each melody (N,).

    A pitch may be struck five times in a row, seven times if special events lie between. A rest may be
    entered twice without a pitch between; no event may occur five times, seven if there was also a rest.
    """
    melodies = len(tokens)
    pitch, struck = np.full(melodies, -1), np.zeros(melodies, int)
    interrupted = np.zeros(melodies, bool)  # a special event since the pitch before `pitch`
    offs, holds = np.zeros((2, melodies), int)  # special events since `pitch`
    repeated = np.zeros(melodies)
    for event in tokens.T:
        pitched, same = event >= FIRST_PITCH, event == pitch
        interrupted = np.where(pitched & ~same, False, interrupted) | (pitched & (offs + holds > 0))
        struck = np.where(pitched & ~same, 0, struck)
        excess = pitched & (struck > np.where(interrupted, 6, 4))
        excess |= (event == off) & (offs > 1)
        if not exempt_hold:
            excess |= (event == hold) & (holds > np.where(offs > 0, 6, 4))
        repeated += excess
        pitch, struck = np.where(pitched, event, pitch), struck + pitched
        offs, holds = (
            np.where(pitched, 0, offs + (event == off)),
            np.where(pitched, 0, holds + (event == hold)),
        )
    return repeated


def _leaps(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of leaps resolved and of leaps followed by another in the same direction, each (N,).

    A leap, a fifth or more, is resolved by a pitch at or beyond the one before it, or by a leap back after
    more than six steps; an earlier leap back cancels the first, and counts as neither.
    """
    previous = _previous_pitch(tokens)
    direction, origin, steps, resolved, doubled = np.zeros((5, len(tokens)), int)
    for t in range(1, tokens.shape[1]):
        event, pitched = tokens[:, t], tokens[:, t] >= FIRST_PITCH
        interval = np.where(pitched & (previous[:, t] >= 0), event - previous[:, t], 0)
        leap, towards = np.abs(interval) >= LEAP, np.sign(interval)
        first = leap & (direction == 0)
        double = leap & (direction == towards)
        back = leap & (direction == -towards)
        past = np.where(direction > 0, event <= origin, event >= origin)
        reached = pitched & ~leap & (direction != 0) & past
        resolved += reached | (back & (steps > 6))
        doubled += double
        direction = np.where(first, towards, np.where(back | reached, 0, direction))
        origin = np.where(first, previous[:, t], origin)
        steps = np.where(leap, 0, steps + 1)
    return resolved.astype(float), doubled.astype(float)
