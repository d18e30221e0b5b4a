import dataclasses

import jax
import numpy as np
import pytest

from mammadai_jax.agents import cloning, gail, prior
from mammadai_jax.music import corpus, theory
from mammadai_jax.music.notes import MAGENTA, PIANO
from mammadai_jax.training import loop, preference, stages
from mammadai_jax.training.settings import overlay, preset

SMOKE = preset("smoke")
EMBEDDED = corpus.embedded()
FEW = {"preference": {"excerpts": 4}}


def test_keys_depend_on_purpose_and_seed_alone():
    other = dataclasses.replace(SMOKE, seed=1)
    keys = [
        stages.key_of(settings, purpose)
        for settings in (SMOKE, other)
        for purpose in ("prior", "gail", "prior samples", "gail samples", "noise samples")
    ]
    assert len({jax.random.key_data(key).tobytes() for key in keys}) == len(keys)
    assert (
        jax.random.key_data(stages.key_of(SMOKE, "prior")).tolist() == jax.random.key_data(keys[0]).tolist()
    )


def test_the_corpus_is_split_once_and_cut():
    settings = overlay(SMOKE, {"prior": {"longest": 40}}, "here")
    learn, held_out = stages.tokens_of(settings, EMBEDDED)
    assert len(learn) + len(held_out) == 10 and learn and held_out
    assert all(0 < len(row) <= 40 and row.max() < MAGENTA.size for row in learn + held_out)
    again = stages.tokens_of(settings, EMBEDDED)
    for rows, same in zip((learn, held_out), again, strict=True):
        np.testing.assert_array_equal(np.concatenate(rows), np.concatenate(same))
    assert not {row.tobytes() for row in learn} & {row.tobytes() for row in held_out}


def test_ten_tunes_in_three_keys_are_shown_to_imitation():
    demonstrations = stages.lesson("counts", "both").demonstrations
    assert demonstrations.action.shape == (30 * stages.LENGTH,)
    assert demonstrations.observation.shape[0] == 30 * stages.LENGTH


@pytest.mark.parametrize("name", ["smoke", "quick", "full"])
def test_every_preset_fits_together(name):
    settings = preset(name)
    for stage in (
        stages.prior_stage(settings, EMBEDDED),
        stages.cloning_stage(settings),
        stages.gail_stage(settings, None),
        stages.theory_stage(settings, None),
    ):
        loop.rehearse(stage)
    preference.rehearse(settings, preference.material(overlay(settings, FEW, "here"), EMBEDDED))


def test_imitation_begins_with_the_cloned_parameters():
    state = cloning.init(jax.random.key(5), SMOKE.imitation.cloning, stages.lesson("counts", "both").env)
    warm = stages.gail_stage(SMOKE, state.params).init()
    same = jax.tree.map(np.array_equal, warm.policy.params, state.params)
    assert all(jax.tree.leaves(same))


def test_noise_is_every_action_alike_over_every_accompaniment():
    samples = stages.noise(jax.random.key(0), 10)
    tokens = np.concatenate([PIANO.encode(sample.melody.events) for sample in samples])
    assert set(tokens.tolist()) == set(range(PIANO.size))
    assert {sample.title for sample in samples} == {
        f"Noise {i + 1} over {name}" for i, name in enumerate(names(10))
    }
    for sample in samples:
        assert sample.line is not None and len(sample.line) == len(sample.melody.events) == 256
        assert sample.drums and all(0 <= step < 256 for steps in sample.drums.values() for step in steps)


def names(count):
    return [stages.ACCOMPANIMENTS[i % len(stages.ACCOMPANIMENTS)].name for i in range(count)]


def test_the_tunes_are_heard_over_their_accompaniments():
    samples = stages.tunes_as_samples()
    assert len(samples) == 10
    assert all(len(sample.melody.events) == 256 and sample.line is not None for sample in samples)


def params_of(stage):
    key = jax.random.key(0)
    if stage == "theory":
        return stages.LEARNED[stage](jax.jit(stages.theory_stage(SMOKE, None).init)())
    if stage == "prior":
        return jax.jit(lambda: prior.init(key, SMOKE.prior.learner, MAGENTA.size).average)()
    env = stages.lesson(SMOKE.imitation.representation, SMOKE.imitation.source).env
    return jax.jit(lambda: gail.init(key, SMOKE.imitation.learner, env).policy.params)()


@pytest.mark.parametrize("stage", ["prior", "gail", "theory"])
def test_composers_write_what_was_asked_and_the_same_for_the_same_key(stage):
    compose, params = stages.COMPOSERS[stage], params_of(stage)
    one, same, other = (compose(SMOKE, params, jax.random.key(seed), 3, bars=2) for seed in (0, 0, 1))
    assert [len(sample.melody.events) for sample in one] == [32] * 3
    played = [[sample.melody.events.tolist() for sample in samples] for samples in (one, same, other)]
    assert played[0] == played[1] != played[2]
    assert len({tuple(row) for row in played[0]}) == 3


def test_theory_begins_as_the_prior_and_keeps_it():
    given = jax.tree.map(lambda x: x + 1, params_of("prior"))
    stage = stages.theory_stage(SMOKE, given)
    state = jax.jit(stage.init)()
    for params in (state.params, state.target, state.prior):
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, params, given)))
    after, metrics = jax.jit(stage.step)(state, ())
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, after.prior, given)))
    assert {"theory", "log_prior", "entropy", "loss", *theory.RULES} == set(metrics)


def test_pieces_are_as_long_as_those_that_were_learned():
    samples = stages.from_theory(SMOKE, params_of("theory"), jax.random.key(0), 2)
    assert [len(sample.melody.events) for sample in samples] == [SMOKE.theory.length] * 2


# A network whose logits are the same before every note: what is played must follow them as documented.
WIDTH = {"prior": {"learner": {"width": 4}}}


def flat(logits):
    """Parameters of which only the bias of the logits counts."""
    params = prior.init(jax.random.key(0), overlay(SMOKE, WIDTH, "x").prior.learner, MAGENTA.size).average
    blank = jax.tree.map(np.zeros_like, params)
    blank["params"]["logits_head"]["bias"] = np.asarray(logits, np.float32)
    return blank


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"value_head": True, "algorithm": "psi"}, lambda own, old: own),
        ({"value_head": True, "algorithm": "g"}, lambda own, old: own),
        ({"value_head": False, "algorithm": "q"}, lambda own, old: 2 * own),
        ({"value_head": False, "algorithm": "g"}, lambda own, old: 2 * (own + old)),
    ],
)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_policy_is_the_logits_or_of_the_action_values(changes, expected, temperature):
    learner = {
        **changes,
        "learns_from": "melodies",
        "temperature": 0.5,
        "exploration": "epsilon",
        "epsilon": 1.0,
        "echo": 8,
        "copying": 1.0,
    }
    settings = overlay(SMOKE, {**WIDTH, "theory": {"learner": learner}}, "here")
    own, old = np.random.default_rng(0).normal(size=(2, MAGENTA.size)) * 0.4
    rows = stages.theory_tokens(settings, (flat(own), flat(old)), jax.random.key(0), 200, 64, temperature)
    found = np.bincount(rows.ravel(), minlength=MAGENTA.size) / rows.size
    wanted = np.exp(expected(own, old) / temperature)
    np.testing.assert_allclose(found, wanted / wanted.sum(), atol=0.012)
