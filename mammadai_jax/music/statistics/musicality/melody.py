"""Measures of single notes: their place in the meter, their lengths and intervals, key and harmony."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mammadai_jax.music.keys import correlations
from mammadai_jax.music.notes import Note, sounding
from mammadai_jax.music.statistics.musicality.tune import QUARTER, WHOLE, Tune

LEAP = 7  # semitones: a fifth, as RL Tuner's rules have it
STEP = 2  # semitones
DISSONANT = (1, 2, 6, 10, 11)  # semitones between pitch classes: seconds, sevenths and the tritone


def share(chosen: Sequence[bool] | np.ndarray) -> float:
    """The share of a row of booleans (n,) that is true; NaN for an empty row."""
    return float(np.mean(chosen)) if np.size(chosen) else np.nan


def onsets_on_beats(tune: Tune) -> float:
    """Share of the notes that begin on a beat: a quarter note, in compound meters a dotted quarter."""
    return share(tune.position % tune.meter.beat == 0)


def onsets_on_weak_sixteenths(tune: Tune) -> float:
    """Share of the notes that begin between eighth notes."""
    return share(tune.position % 2 == 1)


def meter_agreement(tune: Tune) -> float:
    """How much heavier the notes' places are than all places, as a share of the downbeat's excess over them.

    The weight of a place is the number of metrical levels on which it is a beat (Lerdahl & Jackendoff 1983);
    notes of composed music begin on places in the order of these weights (Palmer & Krumhansl 1990). 1 if all
    notes are downbeats, 0 if they ignore the meter, below 0 against it.
    """
    weights = tune.meter.weights
    if not tune.onset.size or weights.max() == weights.mean():
        return np.nan
    mean = weights.mean()
    return float((weights[tune.position].mean() - mean) / (weights.max() - mean))


def silence_at_start(tune: Tune) -> float:
    """Bars of silence before the first note, those before an upbeat not counted; NaN without notes."""
    return float(tune.onset[0] - tune.start) / tune.bar if tune.onset.size else np.nan


def notes_per_quarter(tune: Tune) -> float:
    """Notes in a quarter note's time; NaN for a melody without steps."""
    return len(tune.onset) * QUARTER / tune.steps if tune.steps else np.nan


def rhythm_entropy(tune: Tune) -> float:
    """Entropy in bits of the steps from note to note, those beyond a whole note counted as one.

    NaN with fewer than two notes.
    """
    if len(tune.onset) < 2:
        return np.nan
    counts = np.bincount(np.minimum(np.diff(tune.onset), WHOLE))
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def leaps(tune: Tune) -> float:
    """Share of the intervals that are a fifth or more; NaN with fewer than two notes."""
    return share(np.abs(np.diff(tune.pitch)) >= LEAP)


def repeated_notes(tune: Tune) -> float:
    """Share of the notes after the first with the pitch of the one before."""
    return share(np.diff(tune.pitch) == 0)


def key_clarity(tune: Tune) -> float:
    """The best correlation of the pitch classes' time with a key's profile: 1 is the clearest.

    Krumhansl & Schmuckler's key finding (Krumhansl 1990) with the profiles of songs of Aarden 2003; 0 where
    all pitch classes sound equally long. NaN without notes.
    """
    if not tune.onset.size:
        return np.nan
    notes = zip(tune.onset, tune.duration, tune.pitch, strict=True)
    return max(correlations([Note(*note) for note in notes]).values())


def consonance_on_beats(tune: Tune) -> float:
    """Of the beats at which melody and accompaniment sound, the share without a second, seventh or tritone.

    These are the dissonant interval classes of Huron 1994. NaN without an accompaniment or such a beat.
    """
    if tune.line is None:
        return np.nan
    beats = np.arange(0, min(len(tune.events), len(tune.line)), tune.meter.beat)
    upper, lower = sounding(tune.events)[beats], sounding(tune.line)[beats]
    both = (upper >= 0) & (lower >= 0)
    return share(~np.isin((upper - lower)[both] % 12, DISSONANT))


def ends_long(tune: Tune) -> float:
    """1 if the last note lasts a beat or more, and longer than the others do on average; else 0."""
    if not tune.onset.size:
        return np.nan
    others = tune.duration[:-1].mean() if len(tune.duration) > 1 else 0
    return float(tune.duration[-1] >= tune.meter.beat and tune.duration[-1] > others)


def ends_on_strong_beat(tune: Tune) -> float:
    """1 if the last note begins a bar, or the second half of one in 4/4, 2/2 and 6/8; else 0."""
    return float(tune.position[-1] % tune.meter.strong == 0) if tune.onset.size else np.nan


def ends_on_tonic(tune: Tune) -> float:
    """1 if the last note is the tonic, which is also the final of a mode; else 0."""
    return float(tune.pitch[-1] % 12 == tune.tonic) if tune.onset.size else np.nan


def full_close(tune: Tune) -> float:
    """1 if the last note is long, on a strong beat and the tonic; else 0."""
    return ends_long(tune) * ends_on_strong_beat(tune) * ends_on_tonic(tune)


def cadence_approach(tune: Tune) -> float:
    """1 if the last pitch is reached by step, or from the pitch class a fifth above it; else 0.

    Repetitions of the last pitch are passed over. NaN where no other pitch is before it.
    """
    other = tune.pitch[tune.pitch != tune.pitch[-1]] if tune.pitch.size else tune.pitch
    if not other.size:
        return np.nan
    distance = other[-1] - tune.pitch[-1]
    return float(abs(distance) <= STEP or distance % 12 == LEAP)
