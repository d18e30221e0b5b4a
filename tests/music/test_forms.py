from collections import Counter

import numpy as np
import pytest

from mammadai_jax.music import corpus
from mammadai_jax.music.controls import BARS, Controls
from mammadai_jax.music.forms import (
    CERTAIN,
    FINALS,
    FIRST,
    LATER,
    LIKELIER,
    SECTION,
    Plan,
    drawn,
    form_of,
    in_letters,
    parse_form,
    together,
)
from mammadai_jax.music.masks import ENDINGS
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.stages import prior


def bars_back(distance, bar):
    """How many bars back each bar returns; every step of a bar returns as far."""
    rows = distance.reshape(-1, bar)
    assert (rows == rows[:, :1]).all() and (rows % bar == 0).all()
    return (rows[:, 0] // bar).tolist()


def returning(tokens):
    """The form of a melody in bars of 16 tokens: how far back the farthest bar is that each is equal to."""
    rows = tokens[: len(tokens) // 16 * 16].reshape(-1, 16)
    equal = lambda place, far: far <= place and (rows[place] == rows[place - far]).all()
    farthest = [next((far for far in (8, 4, 2, 1) if equal(place, far)), 0) for place in range(len(rows))]
    has_notes = (rows > 1).any(axis=1)
    return "".join(str(far) if far and notes else "." for far, notes in zip(farthest, has_notes, strict=True))


@pytest.mark.nightly
def test_the_forms_are_those_of_the_corpus():
    rows, _ = prior.split(prior.PRESETS["quick"], corpus.load("folk"), 0)
    forms = [returning(row) for row in rows if row[0] > 1 and len(row) >= SECTION * 16]
    first = Counter(form[:SECTION] for form in forms)
    later = Counter(form[SECTION : 2 * SECTION] for form in forms if len(form) >= 2 * SECTION)
    assert (len(forms), later.total()) == (630, 277)
    assert {form: count for form, count in first.items() if count >= 6} == FIRST
    assert {form: count for form, count in later.items() if count >= 4} == LATER


def test_no_form_returns_to_what_was_not_yet_heard():
    for forms, first in ((FIRST, 0), (LATER, SECTION)):
        for form in forms:
            assert len(form) == SECTION
            assert all(mark == "." or 0 < int(mark) <= place + first for place, mark in enumerate(form))


def test_forms_are_drawn_as_often_as_they_are_counted(random):
    plans = [bars_back(drawn(random, 16 * 16, 16)[0], 16) for _ in range(4000)]
    for forms, part in ((FIRST, slice(0, 8)), (LATER, slice(8, 15))):  # the last bar is new
        total = sum(forms.values())
        for form in list(forms)[:3]:
            expected = [0 if mark == "." else int(mark) for mark in form][: part.stop - part.start]
            share = sum(
                count for other, count in forms.items() if other[: len(expected)] == form[: len(expected)]
            )
            found = np.mean([plan[part] == expected for plan in plans])
            assert abs(found - share / total) < 0.035
    assert {plan[-1] for plan in plans} == {0}


@pytest.mark.parametrize("bars", [1, 2, 3, 6, 8, 9, 11, 16, 40])
@pytest.mark.parametrize("bar", sorted(set(BARS.values())))
def test_what_a_prompt_claims_of_repetition_is_followed(random, bars, bar):
    for returns in (None, True, False):
        for _ in range(20):
            distance, strength = drawn(random, bars * bar, bar, returns)
            back = bars_back(distance, bar)
            assert len(back) == bars and back[-1] == 0 and strength == LIKELIER
            assert all(far <= place for place, far in enumerate(back))
            if returns is not None and bars > 3:
                assert any(back[:SECTION]) == returns


def test_a_form_in_letters():
    assert bars_back(in_letters("AABA", 8 * 16, 16)[0], 16) == [0, 0, 2, 2, 0, 0, 4, 4]
    assert bars_back(in_letters("ABAC", 4 * 12, 12)[0], 12) == [0, 0, 2, 0]
    assert in_letters("AB", 32, 16)[1] == CERTAIN
    with pytest.raises(ValueError, match="7 bars have no 2 equal sections for the form AB"):
        in_letters("AB", 7 * 16, 16)


@pytest.mark.parametrize("text", ["", "A", "BA", "AXA", "A A", "A" * 17])
def test_what_is_no_form_is_refused(text):
    with pytest.raises(ValueError, match=r"no form .*: write a letter for each section, such as AABA"):
        parse_form(text)
    assert parse_form("aaba") == "AABA"


def test_what_is_asked_for_decides(random):
    returns = lambda prompt, **asked: form_of(random, Controls(**asked), prompt, 96, 128)
    assert bars_back(returns("", form="AB", meter="3/4")[0], 12) == [0] * 8
    assert bars_back(returns("", form="AA")[0], 16) == [0, 0, 0, 3, 3, 3]
    plan = returns("a tune that repeats its motifs")
    assert plan.strength == 0 and not plan.distance.any()  # nobody knows where its bars are
    for _ in range(10):
        assert returns("a tune that repeats its motifs", meter="4/4")[0].any()
        assert not returns("a tune that hardly repeats", meter="4/4")[0].any()


def test_forms_of_several_melodies():
    plans = [(*in_letters("AA", 32, 16), 0), (np.zeros(32, int), 0.0, 8), (*in_letters("AB", 32, 16), 16)]
    form = together([Plan(*plan) for plan in plans[:2]] + [Plan(*plans[2], FINALS["minor"])])
    assert form.distance.shape == (32, 3) and form.distance.dtype == np.int32
    assert form.distance[16:, 0].tolist() == [16] * 16 and not form.distance[:, 1:].any()
    part = form.of(slice(1, 3))
    assert part.distance.shape == (32, 2) and part.strength.tolist() == [0.0, CERTAIN]
    assert part.last.tolist() == [8, 16] and part.last.dtype == np.int32
    assert [np.flatnonzero(row).tolist() for row in part.finals.T] == [[0, 9], [9]]


def last(random, prompt="", steps=64, **asked):
    return form_of(random, Controls(**asked), prompt, steps, 128).last


def test_the_end_is_free_where_something_else_decides_it(random):
    for claim in ("", "comes home at the end"):
        assert last(random, f"a tune that {claim}", meter="3/4") == 12
    assert last(random, "a tune that ends away from the tonic", meter="3/4") == 0
    assert last(random, tonic=2, mode="major", meter="3/4") == 0
    assert last(random, form="ABA", steps=96) == 0 and last(random, form="AB") > 0
    assert last(random, steps=8) == 0 and last(random, steps=9) == 8 and last(random, steps=1) == 0
    assert {meter: max(sizes) <= BARS[meter] for meter, sizes in ENDINGS.items()} == dict.fromkeys(BARS, True)


def test_a_melody_closes_in_the_mode_that_is_claimed(random):
    finals = lambda prompt: form_of(random, Controls(), prompt, 64, 128).finals
    assert (finals("a sad tune in minor"), finals("in major"), finals("a tune")) == ((9,), (0,), (0, 9))


def test_last_notes_are_as_long_as_they_are_counted(random):
    found = Counter(last(random) for _ in range(3000))
    assert found.keys() == {8, 16} and found[8] / 3000 == pytest.approx(275 / 452, abs=0.03)


def test_a_melody_closes_with_one_tonic_that_lasts_to_the_end():
    plans = [(8, FINALS[""]), (0, FINALS[""]), (24, FINALS["minor"])]
    form = together([Plan(np.zeros(24, int), 0.0, *plan) for plan in plans])
    kept = np.stack([form.closing(np.full(3, time)) for time in range(24)], axis=1)
    assert kept[0, :16].all() and kept[1].all()
    for row, begin, finals in ((0, 16, {0, 9}), (2, 0, {9})):
        classes = {pitch % 12 for pitch in MAGENTA.decode(np.flatnonzero(kept[row, begin]))}
        assert classes == finals and not kept[row, begin, [MAGENTA.hold, MAGENTA.silence]].any()
        assert [np.flatnonzero(each).tolist() for each in kept[row, begin + 1 :]] == [[MAGENTA.hold]] * (
            23 - begin
        )
