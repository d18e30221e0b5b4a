import numpy as np
import pytest

from mammadai_jax.music.theory import FURTHER, RULES, Config, score

HOLD, OFF = 0, 1  # corrected labels
C, D, E, G, HIGH_C = 14, 16, 18, 21, 26


def rewards(name, tokens, labels="corrected"):
    """Rewards of one melody by one rule, (T,); the tokens are of corrected labels."""
    tokens = np.asarray(tokens)
    if labels == "released":
        tokens = np.where(tokens < 2, 1 - tokens, tokens)
    config = Config(length=len(tokens), labels=labels, ending=8)
    return np.asarray(score(tokens[None], config, FURTHER)[name])[0].tolist()


def held(*notes):
    """Tokens of (pitch or silence, steps)."""
    return [token for pitch, steps in notes for token in (pitch, *[HOLD] * (steps - 1))]


def plain(name, tokens):
    """The rules once more, from a list of where notes begin."""
    onsets = [step for step, token in enumerate(tokens) if token > 1]
    earned = [0.0] * len(tokens)
    for onset in onsets:
        beat = onset // 4 * 4
        syncopated = onset % 4 and not any(beat <= other < onset for other in onsets)
        earned[onset] -= {"weak_sixteenth": onset % 2, "off_beat": syncopated}.get(name, 0)
    if name == "phrase_end":
        for end in range(63, len(tokens), 64):
            earned[end] = float(
                bool(onsets) and onsets[0] <= end and not {*range(end - 3, end + 1)} & {*onsets}
            )
    if name == "cadence" and onsets and onsets[-1] % 8 == 0 and len(tokens) - onsets[-1] >= 4:
        earned[-1] = float(tokens[onsets[-1]] % 12 == C % 12)
    return earned


@pytest.mark.parametrize("labels", ["corrected", "released"])
@pytest.mark.parametrize("name", FURTHER)
def test_further_rules_agree_with_plain_ones(random, name, labels):
    seen = set()
    for steps in (1, 3, 8, 20, 64, 130):
        for share in (0.05, 0.3, 0.8):
            tokens = np.where(
                random.random(steps) < share, random.integers(2, 38, steps), random.integers(0, 2, steps)
            )
            tokens[-8:] = np.where(
                random.random() < 0.5, held((int(random.choice([2, 14, 26, 27])), 8))[:steps], tokens[-8:]
            )
            found = rewards(name, tokens, labels)
            assert found == plain(name, tokens.tolist())
            seen |= set(found)
    assert len(seen) == 2


def test_notes_between_eighths():
    assert rewards("weak_sixteenth", [C, D, E, HOLD, OFF, C, HOLD, D]) == [0, -1, 0, 0, 0, -1, 0, -1]


def test_syncopations():
    """A dotted note is none, a note off the beat that follows a rest or a tie is."""
    assert rewards("off_beat", held((C, 3), (D, 1), (C, 2), (D, 2))) == [0] * 8
    assert rewards("off_beat", held((C, 2), (D, 4), (E, 2))) == [0, 0, 0, 0, 0, 0, -1, 0]
    assert rewards("off_beat", held((OFF, 2), (D, 2))) == [0, 0, -1, 0]


def test_phrases_that_come_to_rest():
    restful, restless = held(*[(C, 4)] * 16), held(*[(C, 4)] * 15, (C, 2), (D, 2))
    assert np.flatnonzero(rewards("phrase_end", [*held((C, 60), (OFF, 4)), *restless])).tolist() == [63]
    assert not any(rewards("phrase_end", restful)) and not any(rewards("phrase_end", restless))
    assert rewards("phrase_end", held(*[(C, 4)] * 14, (D, 8)))[63] == 1
    assert not any(rewards("phrase_end", [OFF] * 64))  # nothing has sounded


def test_cadences():
    closes = lambda *notes: rewards("cadence", held(*notes))[-1]
    assert (
        closes((G, 8), (C, 8))
        == closes((G, 8), (HIGH_C, 4), (OFF, 4))
        == closes((G, 8), (HIGH_C, 2), (OFF, 6))
        == 1
    )
    assert closes((G, 8), (G, 8)) == closes((G, 12), (C, 4)) == 0  # not the tonic, not on a strong beat
    assert closes((G, 8), (C, 3)) == 0 and closes((G, 8), (C, 4)) == 1  # too short, and long enough
    assert rewards("cadence", held((G, 8), (C, 8)))[:-1] == [0] * 15


def test_the_rules_have_names_of_their_own():
    assert not {*FURTHER} & {*RULES}
