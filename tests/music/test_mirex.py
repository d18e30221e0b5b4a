import json

import numpy as np
import pytest

from mammadai_jax.music import mirex
from mammadai_jax.music.notes import HOLD, OFF, Melody, Note

# The upbeat and the beginning of a song in F; below it a bass, and a chord.
PROMPT = [
    {"start": 12, "pitch": 72, "duration": 4},
    {"start": 16, "pitch": 69, "duration": 8},
    {"start": 16, "pitch": 41, "duration": 8},
    {"start": 20, "pitch": 53, "duration": 2},
    {"start": 28, "pitch": 69, "duration": 2},
    {"start": 30, "pitch": 72, "duration": 2},
    {"start": 32, "pitch": 67, "duration": 46},
    {"start": 78, "pitch": 65, "duration": 6},
]


def parsed(notes):
    return mirex.parse(json.dumps({"prompt": notes}).encode(), "folder/song.json")


def test_a_prompt_is_its_highest_voice():
    melody = parsed(PROMPT)
    expected = [(12, 4, 72), (16, 8, 69), (28, 2, 69), (30, 2, 72), (32, 46, 67), (78, 2, 65)]
    assert melody.notes == [Note(*note) for note in expected] and len(melody) == 80
    assert (melody.title, melody.meter, melody.pickup, melody.fill) == ("song", "4/4", 4, 12)
    assert (melody.tonic, melody.mode) == (5, "major")
    assert melody.left_out == {"below the highest of a chord": 1, mirex.COVERED: 1}


def test_an_empty_bar_of_the_upbeat_is_left_out():
    melody = parsed(PROMPT[1:2])
    assert melody.notes == [Note(0, 8, 69)] and len(melody) == 64 and melody.pickup == 0


def test_an_answer_begins_in_the_sixth_bar():
    events = np.full(96, HOLD)
    events[[0, 64, 68, 72]] = 60, 62, OFF, 64
    assert json.loads(mirex.generation(Melody(events), 64)) == {
        "generation": [
            {"start": 80, "pitch": 62, "duration": 4},
            {"start": 88, "pitch": 64, "duration": 24},
        ]
    }


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "x is no prompt of MIREX"),
        (b"[" * 100_000, "x is no prompt of MIREX"),
        (b"[]", "x is no prompt of MIREX"),
        (b'{"notes": []}', "x is no prompt of MIREX.*KeyError"),
        (b'{"prompt": 3}', "x is no prompt of MIREX"),
        (b'{"prompt": [3]}', "x is no prompt of MIREX"),
        (b'{"prompt": []}', "x: the prompt has no notes"),
        (b'{"prompt": [{"start": 80, "pitch": 60, "duration": 1}]}', "start is 0 to 79, not 80"),
        (b'{"prompt": [{"start": 1.5, "pitch": 60, "duration": 1}]}', "start is 0 to 79, not 1.5"),
        (b'{"prompt": [{"start": true, "pitch": 60, "duration": 1}]}', "start is 0 to 79, not True"),
        (b'{"prompt": [{"start": 0, "pitch": 128, "duration": 1}]}', "pitch is 0 to 127, not 128"),
        (b'{"prompt": [{"start": 0, "pitch": 60, "duration": 0}]}', "duration is 1 to 1279, not 0"),
        (b'{"prompt": [{"start": 0, "pitch": 60}]}', "x is no prompt of MIREX.*KeyError"),
    ],
)
def test_what_is_no_prompt_is_refused(data, said):
    with pytest.raises(ValueError, match=said):
        mirex.parse(data, "x")
