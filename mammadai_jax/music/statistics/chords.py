"""Statistics of pieces of several voices: how varied their chords are, and what they copy.

Pieces are tokens int (T, V) of the alphabet `voices_hold` or `voices`. A chord is the pitch classes that
sound in a frame, and which of them is the lowest voice's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mammadai_jax.music.notes import VOICES_HOLD
from mammadai_jax.music.statistics.novelty import longest_runs

SILENT, NO_INTERVAL = -1, -999


def sounding(piece: np.ndarray) -> np.ndarray:
    """The MIDI pitch of every voice in every frame, -1 for silence: int64 (T, V)."""
    piece = np.asarray(piece, np.int64)
    struck = piece != VOICES_HOLD.hold
    since = np.maximum.accumulate(np.where(struck, np.arange(len(piece))[:, None], 0), axis=0)
    token = np.where(struck, piece, VOICES_HOLD.silence)[since, np.arange(piece.shape[1])]
    return np.where(token == VOICES_HOLD.silence, SILENT, token - VOICES_HOLD.first + VOICES_HOLD.lowest)


def chords(piece: np.ndarray) -> np.ndarray:
    """The chords of a piece (T, V) where its lowest voice sounds, equal integers for equal ones: (n,)."""
    pitches = sounding(piece)
    pitches = pitches[pitches[:, -1] > SILENT]
    bits = np.where(pitches > SILENT, 1 << (pitches % 12), 0)
    return np.bitwise_or.reduce(bits, axis=1) * 12 + pitches[:, -1] % 12


def chord_entropy(pieces: Sequence[np.ndarray]) -> float:
    """Entropy, in nats, of all chords of pieces (T_i, V) taken together; 0 without a chord."""
    shares = np.unique(np.concatenate([chords(piece) for piece in pieces]), return_counts=True)[1]
    shares = shares / max(shares.sum(), 1)
    return float(-(shares * np.log(shares)).sum())


def copied_frames(generated: Sequence[np.ndarray], corpus: Sequence[np.ndarray]) -> np.ndarray:
    """The longest run of frames that each generated piece shares with any one of a corpus, int (N,).

    All voices must sound the same in each frame, at one transposition of the whole run; silent frames at the
    beginning do not count.
    """
    rows = [_moves(sounding(piece)) for piece in (*generated, *corpus)]
    kinds = np.unique(np.concatenate(rows), axis=0, return_inverse=True)[1].ravel()
    ends = np.cumsum([len(row) for row in rows])
    symbols = np.insert(kinds, ends, -1 - np.arange(len(rows)))
    owner = np.repeat(np.arange(len(rows)), [len(row) + 1 for row in rows])
    longest = longest_runs(symbols, owner, len(generated))[0]
    return np.where(longest > 0, longest + 1, 0)


def _moves(pitches: np.ndarray) -> np.ndarray:
    """From each frame to the next, the lowest voice's interval and the voices above it: (T - 1, 2 V - 1)."""
    begun = pitches[np.argmax((pitches > SILENT).any(axis=1)) :]
    above = np.where(begun[:, :-1] > SILENT, begun[:, :-1] - begun[:, -1:], NO_INTERVAL)
    return np.concatenate([np.diff(begun[:, -1:], axis=0), above[:-1], above[1:]], axis=1)
