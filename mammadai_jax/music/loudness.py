"""Loudness of audio as ITU-R BS.1770-4 measures it, of one channel or two."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

BLOCK, STEP = 0.4, 0.1  # seconds of the blocks, and between their beginnings
SILENT, RELATIVE = -70.0, -10.0  # LUFS below which a block does not count; LU below the mean of the others
PEAK = 10 ** (-1 / 20)  # full scale less 1 dB


def loudness(audio: np.ndarray, rate: int) -> float:
    """Integrated loudness in LUFS of audio (samples,), or (samples, 2) in stereo; -inf for silence.

    ValueError for another shape.
    """
    if audio.ndim != 1 and audio.shape[1:] != (2,):
        raise ValueError(f"audio is (samples,) or (samples, 2), got shape {audio.shape}")
    squared = _weighted(audio, rate) ** 2
    squares = np.concatenate([[0.0], np.cumsum(squared if audio.ndim == 1 else squared.sum(axis=1))])
    size = min(round(BLOCK * rate), len(audio))
    begins = np.arange(0, len(audio) - size + 1, max(1, round(STEP * rate)))
    power = (squares[begins + size] - squares[begins]) / max(size, 1)
    power = power[power > _power(SILENT)]
    if not power.size:
        return -math.inf
    return _lufs(power[power > power.mean() * 10 ** (RELATIVE / 10)].mean())


def at_loudness(audio: np.ndarray, rate: int, target: float) -> np.ndarray:
    """Audio (samples,) or (samples, 2) at a loudness in LUFS; silence stays.

    It is softer if its peak would exceed -1 dBFS.
    """
    now = loudness(audio, rate)
    if now == -math.inf:
        return audio
    gain = min(10 ** ((target - now) / 20), PEAK / float(np.abs(audio).max()))
    return audio * np.float32(gain)


def _lufs(power: float) -> float:
    return -0.691 + 10 * math.log10(power)


def _power(lufs: float) -> float:
    return 10 ** ((lufs + 0.691) / 10)


def _weighted(audio: np.ndarray, rate: int) -> np.ndarray:
    """The K-weighted audio: a shelf that stands for the head, and a high pass.

    The standard gives their coefficients for 48 kHz; these are the analogue filters behind them,
    brought to any rate by the bilinear transform (Mansbridge et al. 2012).
    """
    from scipy import signal  # slow to import

    k, q = math.tan(math.pi * 1681.974450955533 / rate), 0.7071752369554196
    high = 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    scale = 1 + k / q + k * k
    shelf = [
        (high + band * k / q + k * k) / scale,
        2 * (k * k - high) / scale,
        (high - band * k / q + k * k) / scale,
    ]
    shelved: Any = signal.lfilter(
        shelf, [1, 2 * (k * k - 1) / scale, (1 - k / q + k * k) / scale], audio, axis=0
    )
    k, q = math.tan(math.pi * 38.13547087602444 / rate), 0.5003270373238773
    scale = 1 + k / q + k * k
    weighted: Any = signal.lfilter(
        [1, -2, 1], [1, 2 * (k * k - 1) / scale, (1 - k / q + k * k) / scale], shelved, axis=0
    )
    return weighted
