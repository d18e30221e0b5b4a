import dataclasses

import jax
import numpy as np
import pytest
from scipy import special

from mammadai_jax.agents import prior
from mammadai_jax.music import corpus, theory
from mammadai_jax.music.notes import MAGENTA, PIANO
from mammadai_jax.training import loop, preference, stages, teach
from mammadai_jax.training.settings import overlay, preset
from tests.training.tiny import ROAD

SMOKE = preset("smoke")
EMBEDDED = corpus.embedded()
FEW = {"preference": {"num_excerpts": 4}}


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
    settings = overlay(SMOKE, {"prior": {"max_length": 40}}, "here")
    learn, held_out = stages.tokens_of(settings, EMBEDDED)
    assert len(learn) + len(held_out) == 10 and learn and held_out
    assert all(0 < len(row) <= 40 and row.max() < MAGENTA.size for row in learn + held_out)
    again = stages.tokens_of(settings, EMBEDDED)
    for rows, same in zip((learn, held_out), again, strict=True):
        np.testing.assert_array_equal(np.concatenate(rows), np.concatenate(same))
    assert not {row.tobytes() for row in learn} & {row.tobytes() for row in held_out}


def test_ten_tunes_in_three_keys_are_shown_to_imitation():
    demonstrations = stages.imitation_data("counts", "both").demonstrations
    assert demonstrations.action.shape == (30 * stages.LENGTH,)
    assert demonstrations.observation.shape[0] == 30 * stages.LENGTH


@pytest.mark.parametrize("name", ["smoke", "quick", "full"])
def test_every_preset_fits_together(name):
    settings = preset(name)
    given = preference.material(overlay(settings, FEW, "here"), EMBEDDED)
    assert given.tokens.shape == (4, settings.preference.length)
    for stage in (
        stages.prior_stage(settings, EMBEDDED),
        stages.cloning_stage(settings),
        stages.gail_stage(settings, None),
        stages.theory_stage(settings, None),
    ):
        loop.dry_run(stage)
    preference.dry_run(settings, given)


def test_imitation_begins_with_the_cloned_parameters(taught):
    cloned = teach.restore(ROAD, taught, "cloning").params
    warm = jax.jit(lambda: stages.gail_stage(ROAD, cloned).init().policy.params)()
    same = jax.tree.map(np.array_equal, warm, cloned)
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


@pytest.mark.parametrize("stage", ["prior", "gail", "theory"])
def test_composers_write_what_was_asked_and_the_same_for_the_same_key(taught, stage):
    compose, params = stages.COMPOSERS[stage], teach.params_of(ROAD, taught, stage)
    one, same, other = (compose(ROAD, params, jax.random.key(seed), 3, bars=2) for seed in (0, 0, 1))
    assert [len(sample.melody.events) for sample in one] == [32] * 3
    played = [[sample.melody.events.tolist() for sample in samples] for samples in (one, same, other)]
    assert played[0] == played[1] != played[2]
    assert len({tuple(row) for row in played[0]}) == 3


def test_theory_begins_as_the_prior_and_keeps_it(taught):
    given = teach.params_of(ROAD, taught, "prior")
    stage = stages.theory_stage(ROAD, given)
    learned = teach.restore(ROAD, taught, "theory")
    begun = jax.jit(lambda: [getattr(stage.init(), name) for name in ("params", "average", "prior")])()
    for params in (*begun, learned.prior):
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, params, given)))
    for params in (learned.params, learned.average):
        assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, params, given)))
    metrics = jax.eval_shape(stage.step, jax.eval_shape(stage.init), ())[1]
    assert {"theory", "log_prior", "entropy", "loss", *theory.RULES} == set(metrics)


def test_pieces_are_as_long_as_those_that_were_learned(taught):
    params = teach.params_of(ROAD, taught, "theory")
    samples = stages.from_theory(ROAD, params, jax.random.key(0), 2)
    assert [len(sample.melody.events) for sample in samples] == [ROAD.theory.length] * 2


# A network whose logits are the same before every note: what is played must follow them as documented.
WIDTH = {"prior": {"learner": {"width": 4}}}


def flat(logits):
    """Parameters of which only the bias of the logits counts."""
    learner = overlay(SMOKE, WIDTH, "x").prior.learner
    params = jax.eval_shape(lambda: prior.init(jax.random.key(0), learner, MAGENTA.size).average)
    blank = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), params)
    blank["params"]["logits_head"]["bias"] = np.asarray(logits, np.float32)
    return blank


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_tuned_prior_composes_by_its_logits(temperature):
    """Whatever the temperature of learning was, and without copying."""
    learner = {"temperature": 0.5, "copy_lag": 8, "copy_prob": 1.0}
    settings = overlay(SMOKE, {**WIDTH, "theory": {"learner": learner}}, "here")
    logits = np.random.default_rng(0).normal(size=MAGENTA.size) * 0.4
    rows = stages.theory_tokens(settings, flat(logits), jax.random.key(0), 200, 64, temperature)
    shares = np.bincount(rows.ravel(), minlength=MAGENTA.size) / rows.size
    np.testing.assert_allclose(shares, special.softmax(logits / temperature), atol=0.012)
