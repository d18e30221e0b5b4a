"""How often Bach breaks and keeps the rules of harmony, on a grid of quarter notes.

Measured on the 222 training chorales of the standard split (music/jsb.py) in music21's edition, to their last
note, 61.8 quarters on average, transposed so that they end on C: `tests/music/test_harmony.py` measures them
again where music21 is installed. Events on a finer grid are some more.
"""

from __future__ import annotations

# events in a quarter note: as rewards, so that most are negative
RATES = {
    "parallel_fifths": -0.01093,
    "parallel_octaves": -0.00758,
    "contrary_fifths": -0.00605,
    "contrary_octaves": -0.00262,
    "hidden_fifths": -0.00780,
    "hidden_octaves": -0.00233,
    "crossing": -0.01334,
    "overlap": -0.04759,
    "spacing": -0.01020,
    "voice_ranges": -0.03520,
    "bad_leaps": -0.02106,
    "wide_leaps": -0.00219,
    "unresolved_dissonance": -0.03593,
    "unjustified_dissonance": -0.08679,
    "doubled_leading_tone": -0.00838,
    "unresolved_sevenths": -0.03075,
    "repeated_chords": -0.03396,
    "cadence": 0.03542,
}
FINAL_TONIC = 0.991  # share of the chorales whose last chord is the tonic's triad in root position
CHORD_ENTROPY = 4.190  # nats, see statistics.chord_entropy


def events(quarters: float) -> dict[str, float]:
    """Bach's events, by the names of the rules, in a piece of so many quarter notes."""
    return {**{rule: rate * quarters for rule, rate in RATES.items()}, "final_tonic": FINAL_TONIC}
