"""Composing picks the candidate of which most claims hold, then the one with the highest score."""

import dataclasses
from unittest import mock

import jax
import numpy as np
import pytest

from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.stages import STAGES, divided, picking
from mammadai_jax.stages.captioned import claims_by_name, claims_that_hold, in_groups
from mammadai_jax.training.compose import compose
from mammadai_jax.training.context import context_of
from mammadai_jax.training.run import RunError
from mammadai_jax.training.stage import ComposeRequest
from tests.training.tiny import ROAD

PROMPT = "a low falling tune in minor with few notes"
(SPEC,) = (spec for spec in STAGES if spec.name == "prompted")


def composed(context, **request):
    learned, request = context.learned("prompted"), ComposeRequest(3, bars=2, prompt=PROMPT, **request)
    return SPEC.compose(ROAD.prompted, context, learned, jax.random.key(0), request)


def test_more_claims_hold_of_what_is_picked(taught):
    context = context_of(*divided(ROAD), taught)
    bare, picked = (composed(context, candidates=number) for number in (1, 32))
    share = lambda samples: np.mean([list(sample.claims.values()) for sample in samples])
    assert share(picked) > share(bare)
    assert [list(sample.claims) for sample in picked] == [
        ["mode: minor", "register: low", "density: calm", "contour: falling"]
    ] * 3


CANDIDATES = np.array([[[2 + 20]], [[2 + 1]], [[2 + 2]], [[2 + 24]]]) + np.zeros((4, 1, 32), int)


@pytest.mark.parametrize(("best", "prompt"), [(2, "a low tune"), (3, "a high tune"), (3, "a tune")])
def test_the_score_decides_between_equal_claims(best, prompt):
    """Four candidates: two of them are low, two high, and the later one of each has the higher score."""
    scorer = picking.Scorer(None, None, mock.Mock(music=lambda tokens: tokens[:, :2].astype(float)))
    drawn = iter(range(4))
    with (
        mock.patch.object(picking.prompted, "compose", lambda *_, **__: CANDIDATES[next(drawn)]),
        mock.patch.object(picking.reward_model, "rewards", lambda *a: a[4][None, :, 0] * 1.0),
        mock.patch.object(picking, "best_of_n", one_by_one),
        jax.disable_jit(),
    ):
        tokens = picking.pick(
            None, None, jax.random.key(0), [prompt], np.ones((1, 2)), candidates=4, steps=32, scorer=scorer
        )
    np.testing.assert_array_equal(tokens, CANDIDATES[best])


def one_by_one(key, n, sample, score):
    """`best_of_n` without a scan, which would trace `sample` once."""
    tokens = [sample(key) for _ in range(n)]
    scores = [float(score(jax.numpy.asarray(each))[0]) for each in tokens]
    return tokens[int(np.argmax(scores))], max(scores)


def test_a_run_without_a_reward_model_picks_by_claims_alone(taught):
    context = context_of(*divided(ROAD), taught)
    assert picking.scorer_of(context).config == ROAD.reward_model.learner

    def learned(name):
        if name == "reward_model":
            raise RunError("not yet")
        return context.learned(name)

    without = dataclasses.replace(context, learned=learned)
    assert picking.scorer_of(without) is None
    assert picking.scorer_of(dataclasses.replace(context, learned={}.get)) is None
    assert len(composed(without, candidates=2)) == 3


def test_other_stages_do_not_pick(taught):
    for stage, candidates in (("noise", 2), ("prompted", 0)):
        with pytest.raises(ValueError, match=f"stage {stage} cannot pick from {candidates} candidates"):
            compose(taught, STAGES, stage, ComposeRequest(1, candidates=candidates))


def test_claims_are_named_and_checked():
    low = np.full((1, 32), MAGENTA.hold) + np.eye(1, 32, dtype=int) * (MAGENTA.first - MAGENTA.hold)
    (claims,) = claims_by_name(["a low jig with many notes"], low)
    assert claims.pop("density: busy") is False and claims.pop("register: low") is True
    assert not [name for name in claims if name.startswith("kind")]
    (agreed,) = claims_that_hold(["a low tune with many notes"], low)
    assert agreed == 0.5
    assert claims_by_name(["a low tune"], low[:, :16]) == [{}]


def test_groups_are_written_one_after_another(monkeypatch):
    monkeypatch.setattr("mammadai_jax.stages.captioned.GROUP", 2)
    rows, keys = np.arange(5)[:, None], []

    def write(key, places):
        keys.append(jax.random.key_data(key).tolist())
        return rows[places]

    np.testing.assert_array_equal(in_groups(5, jax.random.key(0), write), rows)
    assert len({tuple(key) for key in keys}) == 3
