import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import second_jury
from mammadai_jax.agents import prior
from mammadai_jax.listening.gathering import Request
from mammadai_jax.music import corpus
from mammadai_jax.music.excerpts import excerpts
from mammadai_jax.music.notes import MAGENTA


@pytest.fixture(scope="module")
def tokens():
    rows = excerpts(corpus.embedded(), 96).tokens
    return rows[np.random.default_rng(0).permutation(len(rows))[:24]]


BIAS = np.linspace(-1, 1, MAGENTA.size).astype(np.float32)


@pytest.fixture(scope="module")
def params():
    """Of a prior that always says the same: zeros but for the biases of its logits."""
    shapes = jax.eval_shape(lambda: prior.init(jax.random.key(0), second_jury.PRIOR, MAGENTA.size).params)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    zeros["params"]["logits_head"]["bias"] = BIAS
    return zeros


@pytest.fixture(scope="module")
def measure(params):
    return second_jury.measures(params)


@pytest.fixture(scope="module")
def panel(measure, tokens):
    return second_jury.panel(jax.random.key(1), 12, measure(tokens))


def test_the_likelihood_is_that_of_the_prior(measure, tokens):
    log_probs = BIAS - np.log(np.exp(BIAS).sum())
    np.testing.assert_allclose(measure(tokens)["likelihood"], log_probs[tokens].mean(-1), atol=1e-5)


@pytest.mark.nightly
def test_the_likelihood_of_a_step_is_given_those_before(tokens):
    params = prior.init(jax.random.key(0), second_jury.PRIOR, MAGENTA.size).params
    said = prior.log_probs(prior.make_composer(second_jury.PRIOR, MAGENTA.size), params, list(tokens))
    expected = [np.take_along_axis(p, row[:, None], 1).mean() for p, row in zip(said, tokens, strict=True)]
    np.testing.assert_allclose(second_jury.likelihood(params, jnp.asarray(tokens)), expected, atol=1e-4)


def test_parts_are_standardised_on_real_tunes_and_clipped(panel, measure, tokens):
    real = second_jury.parts(panel, measure(tokens))
    assert real.shape == (12, 3, len(tokens))
    np.testing.assert_allclose(real[:, 1].mean(-1), 0, atol=0.05)
    np.testing.assert_allclose(real[:, 1].std(-1), 1, atol=0.1)
    likely = {**measure(tokens), "likelihood": jnp.full(len(tokens), 0.0)}
    assert (second_jury.parts(panel, likely)[:, 2] == 1).all()  # the most that likelihood can gain
    unlikely = {**measure(tokens), "likelihood": jnp.full(len(tokens), -1e4)}
    assert (second_jury.parts(panel, unlikely)[:, 2] == -4).all()


def test_the_utility_is_a_weighted_sum_and_asks_for_no_claims(panel, measure, tokens):
    measures = measure(tokens)
    parts = second_jury.parts(panel, measures)
    expected = second_jury.SCALE * (panel.weight[:, :, None] * parts).sum(1)
    found = second_jury.utility(panel, measures, jnp.ones(len(tokens)))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(found, second_jury.utility(panel, measures))
    np.testing.assert_allclose(jnp.linalg.norm(panel.weight, axis=-1), 1, atol=1e-6)
    gold = second_jury.gold(panel, measures)
    np.testing.assert_allclose(gold["second_gold"], found.mean(0), atol=1e-5)


def test_listeners_differ_in_their_functionals(panel, measure, tokens):
    random = np.asarray(second_jury.parts(panel, measure(tokens))[:, 1])
    between = np.corrcoef(random)[np.triu_indices(12, 1)]
    assert abs(between.mean()) < 0.2 and between.std() > 0.1


def test_random_features_do_not_depend_on_the_batch_and_differ_between_melodies(measure, tokens):
    features = measure(tokens)["random_features"]
    assert features.shape == (len(tokens), len(second_jury.NETWORKS) * second_jury.FEATURES)
    np.testing.assert_allclose(features[::-1], measure(tokens[::-1])["random_features"], atol=1e-4)
    assert (np.asarray(features).std(axis=0) > 1e-3).mean() > 0.9


def gathered(panel, measure, a, b, noise=1.0):
    jury = second_jury.jury(panel.replace(noise=noise * panel.noise), measure, jax.random.key(2), votes=4)
    requests = [Request("", x, y, "a", "b") for x, y in zip(a, b, strict=True)]
    return jury.gather(requests)


def test_the_jury_chooses_like_the_first_and_is_surer_with_less_noise(panel, measure, tokens):
    damaged = np.random.default_rng(1).permuted(tokens, axis=1)
    wins = {}
    for noise in (0.01, 1.0, 100.0):
        made = gathered(panel, measure, tokens, damaged, noise)
        assert len(made) == 4 * len(tokens) and all(one.simulated for one in made)
        assert {one.listener.rpartition("-")[0] for one in made} == {"simulated-second-jury"}
        utilities = [np.asarray(second_jury.utility(panel, measure(rows))) for rows in (tokens, damaged)]
        listeners = np.array([int(one.listener.rpartition("-")[2]) for one in made])
        places = np.repeat(np.arange(len(tokens)), 4)
        better = np.sign(utilities[0][listeners, places] - utilities[1][listeners, places])
        signs = np.array([one.sign for one in made])
        wins[noise] = (better == signs).mean()
    assert wins[0.01] > 0.85 > wins[1.0] > wins[100.0]


def test_the_priors_learner_is_of_another_body_and_seed_than_the_composer(tokens):
    learner = second_jury.prior_learner(0, tokens[:4], 2)
    assert (learner.name, learner.updates, learner.chunk) == ("jury-prior", 2, 2)
    assert second_jury.PRIOR.body == "lstm"
    state = jax.eval_shape(learner.init)
    after, metrics = jax.eval_shape(learner.step, state, learner.data)
    assert jax.tree.structure(after) == jax.tree.structure(state) and "bits" in metrics
