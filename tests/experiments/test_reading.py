import pytest

from experiments import reading
from mammadai_jax.music import folk


@pytest.mark.parametrize("reader", ["MIDI", "ABC", "chorales"])
def test_no_note_of_a_varied_input_is_lost(reader):
    found = [outcome for _, outcome in reading.outcomes(reader, count=40, seed=1)]
    assert [outcome for outcome in found if not outcome.sound] == []
    assert sum(outcome.named for outcome in found) > 20
    assert sum(outcome.read for outcome in found) > 200


def test_no_note_of_a_varied_folk_tune_is_lost():
    try:
        folk.find()
    except folk.CorpusMissing:
        pytest.skip("music21 is not installed")
    assert [outcome for _, outcome in reading.outcomes("folk", count=5, seed=1) if not outcome.sound] == []


def test_a_lost_note_and_a_wrong_fact_are_found(monkeypatch):
    assert reading.Outcome(3, 2, 1).sound
    assert not reading.Outcome(3, 2, 0).sound and not reading.Outcome(3, 3, 0, "tempo").sound
    monkeypatch.setattr(reading.midi, "parse", lambda data, parse=reading.midi.parse: parse(data, "", 2))
    found = [outcome for _, outcome in reading.outcomes("MIDI", count=5, seed=1)]
    assert not all(outcome.sound for outcome in found)
