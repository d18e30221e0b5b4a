import hashlib

import numpy as np
import pytest

from mammadai_jax.listening import pairs
from mammadai_jax.listening.comparison import Comparison
from mammadai_jax.stages import divided, reward_model
from mammadai_jax.training import teach
from mammadai_jax.training.context import context_of
from mammadai_jax.training.settings import overlay
from tests.training.tiny import ROAD


def choice(prompt="a calm tune", preferred="a", tokens=(2, 0, 4, 0)):
    return Comparison(prompt=prompt, a=tokens, b=tokens[::-1], choice=preferred, simulated=False)


def rated(path, chosen):
    pairs.write(path / "ratings.jsonl", chosen)
    return overlay(ROAD, {"reward_model": {"ratings": str(path / "ratings.jsonl")}}, "here")


def test_comparisons_become_arrays(joint):
    chosen = [choice(), choice("a busy tune", "b"), choice(preferred="tie")]
    data = reward_model.pairs_of(chosen, joint, 96)
    assert data.choice.tolist() == [1, -1, 0] and data.a.shape == data.b.shape == (3, 96)
    assert data.a[0, :4].tolist() == [2, 0, 4, 0] and data.b[0, :4].tolist() == [0, 4, 0, 2]
    np.testing.assert_array_equal(data.condition, joint.condition([one.prompt for one in chosen]))


@pytest.mark.parametrize("chosen", [[], [choice(preferred="tie"), choice(preferred="both_bad")]])
def test_comparisons_without_a_preference_are_refused(joint, chosen):
    with pytest.raises(ValueError, match=f"none of {len(chosen)} comparisons prefers a melody"):
        reward_model.pairs_of(chosen, joint, 96)


def test_ratings_take_the_listeners_place(taught, tmp_path):
    chosen = [choice(), choice("a busy tune", "b")]
    settings = rated(tmp_path, chosen)
    context = context_of(*divided(settings), taught)
    assert reward_model.data(settings.reward_model, context).comparisons == chosen
    digest = hashlib.sha256((tmp_path / "ratings.jsonl").read_bytes()).hexdigest()
    assert reward_model.files(settings.reward_model) == {"ratings": digest}


@pytest.mark.parametrize(
    ("chosen", "said"),
    [([choice(preferred="tie")], "none of 1 comparisons prefers"), ([choice("")], "there are no words in")],
)
def test_ratings_that_teach_nothing_are_refused_before_anything_is_learned(tmp_path, chosen, said):
    settings = rated(tmp_path, chosen)
    with pytest.raises(ValueError, match=said):
        run, parts = divided(settings)
        teach.dry_run(parts, context_of(run, parts, tmp_path))


def test_a_file_of_ratings_that_is_missing_or_has_a_bad_line_is_one_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file of comparisons .*ratings.jsonl"):
        reward_model.files(reward_model.Settings(ratings=str(tmp_path / "ratings.jsonl")))
    settings = rated(tmp_path, [choice()])
    with (tmp_path / "ratings.jsonl").open("a") as file:
        file.write("nonsense\n")
    with pytest.raises(ValueError, match=r"ratings.jsonl, line 2: the line is not JSON"):
        reward_model.files(settings.reward_model)
