import numpy as np
import pytest

from experiments import desk
from mammadai_jax.music.controls import of_prompt
from mammadai_jax.music.masks import mask_of
from mammadai_jax.music.notes import HOLD, Melody
from mammadai_jax.music.sample import unaccompanied

TUNE = Melody([60, *[HOLD] * 3, 64, *[HOLD] * 3, 79, *[HOLD] * 3, 60, *[HOLD] * 3], tonic=0, mode="major")


def test_what_prompts_ask_for_is_what_is_read_in_them(random):
    for _ in range(300):
        prompt, controls, (low, high) = desk.asked(random)
        found = of_prompt(prompt)
        assert low <= (found.tempo or 0) <= high, prompt
        expected = {name: value for name, value in vars(controls).items() if name != "tempo"}
        assert {name: getattr(found, name) for name in expected} == expected, prompt


def test_whatever_keeps_the_mask_keeps_all_but_what_is_estimated(random):
    request = desk.asked(random)
    controls = of_prompt(request.prompt)
    mask = mask_of(controls, 64 * 3)
    tokens = np.array([[random.choice(np.flatnonzero(row)) for row in mask]])
    (sample,) = unaccompanied(tokens, "", [request.prompt])
    found = desk.kept(request, sample.melody, controls.program or 0)
    assert not found.pop("length")  # it has not the bars that were asked for
    found.pop("scale estimated from the notes")
    assert all(found.values()), found
    wrong = desk.kept(request, sample.melody.transpose(1), 127)
    lost = ("key, as the file says", "last note its tonic", "instrument")
    assert not any(wrong[name] for name in lost)


def test_leaps_at_the_joins():
    assert desk.joins(TUNE, 4, 12) == [4, 19] and desk.joins(TUNE, 0, 12) == [0, 19]
    assert desk.joins(TUNE, 12, 16) == [19, 0]


@pytest.mark.parametrize(("tempo", "bounds"), [(59.9, (0, 60)), (60, (60, 80)), (160, (160, 1000))])
def test_bins_of_tempi(tempo, bounds):
    assert desk.bin_of(tempo) == bounds


def test_the_table_names_each_part_and_its_size():
    text = desk.table({"prompts": {"key": 1.0}, "continued": {"range": 0.5}}, {"prompts": 3, "continued": 2})
    assert "| prompts (3) |  |" in text and "| continued (2) |  |" in text and "| range | 0.500 |" in text
