"""The rules of harmony written out with loops over whole pieces, each event at the decision it belongs to."""

import itertools

import numpy as np

from mammadai_jax.music import harmony

DISSONANT = {1, 2, 6, 10, 11}
TRIADS = {True: ({0, 4, 7}, {0, 3, 7}), False: ({0, 4, 7},)}


def sounding(tokens):
    """Pitches (T, V) of tokens of the alphabet `voices_hold`, -1 for silence."""
    rows, now = [], np.full(tokens.shape[1], -1)
    for frame in tokens:
        now = np.where(frame == 66, now, np.where(frame == 0, -1, frame + 32))
        rows.append(now)
    return np.array(rows)


def changed(pitch, time, voice):
    """The frame in which the pitch that a voice sounds in a frame began."""
    while time and pitch[time - 1, voice] == pitch[time, voice]:
        time -= 1
    return time


def rewards(tokens, config):
    """{rule: (T, V)} of one piece (T, V); the event of a pair is at the voice decided later."""
    pitch = sounding(tokens)
    found = {name: np.zeros(pitch.shape) for name in harmony.RULES}
    rank = np.argsort(config.decision_order)
    for time in range(len(pitch)):
        before = pitch[time - 1] if time else np.full(config.voices, -1)
        for upper, lower in itertools.combinations(range(config.voices), 2):
            later = max(upper, lower, key=lambda voice: rank[voice])
            for name, count in pair_events(pitch, time, before, upper, lower, config):
                found[name][time, later] -= count
        for voice in range(config.voices):
            for name in single_events(pitch, time, before, voice, config):
                found[name][time, voice] -= 1
        last = config.decision_order[-1]
        chord_events(found, pitch, time, last, config)
        leads = lambda row: [
            v for v in range(config.voices) if row[v] >= 0 and row[v] % 12 == (config.tonic - 1) % 12
        ]
        now = sorted(leads(pitch[time]), key=lambda voice: rank[voice])
        if len(now) >= 2 and len(leads(before)) < 2:
            found["doubled_leading_tone"][time, now[1]] -= 1
    return found


def pair_events(pitch, time, before, upper, lower, config):
    """(rule, count) of a pair in a frame."""
    a, b, a0, b0 = *pitch[time, [upper, lower]], *before[[upper, lower]]
    outer, adjacent = lower - upper == config.voices - 1, lower - upper == 1
    both, both_before = min(a, b) >= 0, min(a0, b0) >= 0
    if both and both_before:
        for size, name in ((7, "fifths"), (0, "octaves")):
            before_too, now = (a0 - b0) % 12 == size, (a - b) % 12 == size
            direction = np.sign(a - a0) * np.sign(b - b0)
            yield f"parallel_{name}", before_too and now and direction == 1
            yield f"contrary_{name}", before_too and now and direction == -1
            yield f"hidden_{name}", outer and now and not before_too and direction == 1 and abs(a - a0) > 2
        yield from dissonances(pitch, time, before, upper, lower)
    if adjacent:
        cross, cross_before = both and a < b, both_before and a0 < b0
        yield "crossing", cross and not cross_before
        if both_before and not cross and not cross_before:
            yield "overlap", (b != b0 and b > a0) + (a >= 0 and a != a0 and a < b0)
        limit = 24 if lower == config.voices - 1 else 12
        yield "spacing", both and a - b > limit and not (both_before and a0 - b0 > limit)


def dissonances(pitch, time, before, upper, lower):
    """(rule, count) of a pair that sounds in this frame and the one before."""
    voices = [upper, lower]
    intervals = pitch[time, voices] - before[voices]
    if abs(before[upper] - before[lower]) % 12 not in DISSONANT or not intervals.any():
        return
    step = lambda interval: 1 <= abs(interval) <= 2
    leaves = [step(interval) for interval in intervals]
    yield "unresolved_dissonance", not any(leaves)
    began = max(changed(pitch, time - 1, voice) for voice in voices)
    if began == 0 or min(pitch[began - 1, voices]) < 0:
        return
    came = pitch[began, voices] - pitch[began - 1, voices]
    prepared = [interval == 0 or step(interval) for interval in came]
    yield "unjustified_dissonance", not np.logical_and(prepared, leaves).any()


def single_events(pitch, time, before, voice, config):
    """Names of the rules that a voice breaks by itself in a frame."""
    now, was = pitch[time, voice], before[voice]
    low, high = harmony.ranges(config.voices)[voice]
    outside = lambda p: p >= 0 and not low <= p <= high
    if outside(now) and not outside(was):
        yield "voice_ranges"
    if min(now, was) < 0:
        return
    if abs(now - was) in (6, 10, 11):
        yield "bad_leaps"
    if abs(now - was) > 12:
        yield "wide_leaps"
    classes = {int(p - was) % 12 for p in before if p >= 0}
    seventh = any(-size % 12 in classes and {(3 - size) % 12, (4 - size) % 12} & classes for size in (10, 11))
    if seventh and now - was not in (0, -1, -2):
        yield "unresolved_sevenths"


def chord_events(found, pitch, time, last, config):
    """Writes what a whole frame earns, at the voice that is decided last."""
    age = time - max(changed(pitch, time, voice) for voice in range(config.voices))
    silent = (pitch[: time + 1] < 0).all()  # before the first note there is silence, which is no new chord
    age += silent
    if age and 2 * age % config.steps_per_bar == 0:
        found["repeated_chords"][time, last] -= 1
    bass = pitch[time, -1]
    if bass < 0:
        return
    classes = {int(p - bass) % 12 for p in pitch[time] if p >= 0}
    final = time + 1 == config.frames
    began = changed(pitch, time, config.voices - 1)
    came = bass - pitch[began - 1, -1] if began and pitch[began - 1, -1] >= 0 else 0
    triad = any(classes <= chord for chord in TRIADS[True]) and classes & {3, 4}
    phrase_ends = (time + 1) % (config.phrase_bars * config.steps_per_bar) == 0 or final
    if phrase_ends and triad and came % 12 in (5, 7):
        found["cadence"][time, last] += 1
    tonic = any(classes <= chord for chord in TRIADS[bool(config.minor)])
    if final and tonic and bass % 12 == config.tonic:
        found["final_tonic"][time, last] += 1
