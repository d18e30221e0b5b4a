import pytest

from mammadai_jax.music import signatures
from mammadai_jax.music.signatures import Meter
from mammadai_jax.music.smf import KEY_SIGNATURE, TEMPO, TIME_SIGNATURE, InvalidMidi, Meta

QUARTER = 480


def meter(*stated, end=100 * QUARTER):
    """The meter of signatures (quarter, beats, unit)."""
    metas = [
        Meta(at * QUARTER, TIME_SIGNATURE, bytes([beats, unit.bit_length() - 1]))
        for at, beats, unit in stated
    ]
    return signatures.meter(metas, end, QUARTER, 4)


def tempi(*stated):
    return [Meta(tick, TEMPO, round(60e6 / tempo).to_bytes(3, "big")) for tick, tempo in stated]


def keys(*stated):
    return [Meta(tick, KEY_SIGNATURE, bytes([fifths % 256, minor])) for tick, fifths, minor in stated]


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ([], Meter("4/4", 16)),
        ([(0, 4, 4), (0, 3, 4)], Meter("3/4", 12)),
        ([(0, 3, 4), (0, 4, 4), (0, 6, 8)], Meter("6/8", 12)),
        ([(4, 3, 4)], Meter("3/4", 12, 4 * QUARTER)),
        ([(0, 1, 4), (1, 4, 4)], Meter("4/4", 16, QUARTER)),
        ([(0, 1, 4), (1, 2, 2)], Meter("2/2", 16, QUARTER)),
        ([(0, 3, 4), (3, 4, 4)], Meter("4/4", 16, 3 * QUARTER)),
        ([(0, 4, 4), (16, 4, 4)], Meter("4/4", 16)),
        ([(0, 4, 4), (16, 2, 2)], Meter("2/2", 16, 16 * QUARTER)),
        ([(0, 4, 4), (80, 3, 4)], Meter("4/4", 16, 0, 1)),
        ([(0, 4, 4), (8, 3, 4)], Meter("3/4", 12, 8 * QUARTER, 1)),
        ([(0, 4, 4), (17, 4, 4)], Meter("4/4", 16, 0, 1)),
        ([(0, 1, 4), (1, 4, 4), (49, 3, 4), (52, 1, 4), (53, 4, 4)], Meter("4/4", 16, QUARTER, 2)),
        ([(0, 4, 4), (200, 3, 4)], Meter("4/4", 16)),
    ],
)
def test_meters(stated, expected):
    assert meter(*stated) == expected


def test_an_upbeat_of_three_eighths():
    metas = [Meta(0, TIME_SIGNATURE, b"\3\3"), Meta(720, TIME_SIGNATURE, b"\4\2")]
    assert signatures.meter(metas, 10_000, QUARTER, 4) == Meter("4/4", 16, 720)


def test_other_events_are_none_of_the_kind():
    metas = [*tempi((0, 90)), *keys((0, 2, 0)), Meta(0, TIME_SIGNATURE, b"\3\2")]
    assert (signatures.tempo(metas), signatures.key(metas)) == (90, (2, "major"))
    assert signatures.meter(metas, 1000, QUARTER, 4).name == "3/4"


@pytest.mark.parametrize("data", [b"", b"\4", b"\0\2", b"\1\5", b"\4\xff"])
def test_meters_that_are_none(data):
    with pytest.raises(InvalidMidi, match=r"meter|bar"):
        signatures.meter([Meta(0, TIME_SIGNATURE, data)], 1000, QUARTER, 4)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ([], 120.0),
        ([(0, 120), (0, 90)], 90.0),
        ([(0, 90), (960, 120)], 90.0),
        ([(480, 72)], 72.0),
        ([(0, 93.5)], 93.5),
    ],
)
def test_tempi(stated, expected):
    assert signatures.tempo(tempi(*stated)) == expected


@pytest.mark.parametrize("data", [b"", b"\0\0\0", b"\7\xa1", b"\xff\xff\xff", b"\7\xa1\x20\0"])
def test_tempi_that_are_none(data):
    with pytest.raises(InvalidMidi, match="tempo"):
        signatures.tempo([Meta(0, TEMPO, data)])


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ([], (-1, "")),
        ([(0, 0, 0), (0, -3, 1)], (0, "minor")),
        ([(960, 2, 0)], (2, "major")),
        ([(0, 1, 0), (960, 2, 0)], (7, "major")),
        ([(0, 9, 0), (960, 2, 1)], (11, "minor")),
        ([(0, 1, 7)], (-1, "")),
    ],
)
def test_keys(stated, expected):
    assert signatures.key(keys(*stated)) == expected
