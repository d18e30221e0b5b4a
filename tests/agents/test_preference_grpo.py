import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.agents import preference
from mammadai_jax.agents.preference.rollout import group_scores
from tests.agents.table import drawn, table_of

A, GROUP = 4, 4
TABLE = table_of(A)
CONFIG = preference.Config(
    method="grpo", group_size=GROUP, num_envs=16, num_steps=3, num_epochs=2, num_minibatches=2,
    learning_rate=3e-2, kl_coef=0.01, temperature=1.0,
)  # fmt: skip
PROMPTS = {"condition": np.eye(3, 3, dtype=np.float32), "number": np.arange(3)}
PARAMS = drawn(TABLE, *np.zeros((2, 1, 1), int), np.zeros((1, 3)), scale=0.1)


def matching(_, rows, tokens):
    """The share of notes that are the prompt's number."""
    return (tokens == rows["number"][:, None]).mean(axis=1)


update = jax.jit(preference.step, static_argnums=2, static_argnames="reward_fn")


def test_melodies_of_a_prompt_lie_side_by_side_and_prompts_are_counted():
    state = preference.init(jax.random.key(0), CONFIG, TABLE, PARAMS)
    asked = []

    def noting(_, rows, tokens):
        jax.debug.callback(lambda number: asked.append(np.array(number)), rows["number"], ordered=True)
        return tokens[:, 0] * 1.0

    state, metrics = update(state, CONFIG, TABLE, PROMPTS, reward_fn=noting)
    jax.effects_barrier()
    (numbers,) = asked
    assert (numbers.reshape(-1, GROUP) == numbers[::GROUP, None]).all() and len(set(numbers)) == 3
    assert int(state.position) == 4 and metrics["episode"] == 16


def test_each_prompt_s_favourite_is_learned_without_a_value():
    state = preference.init(jax.random.key(0), CONFIG, TABLE, PARAMS)
    head = jax.tree.map(np.array, state.params["policy"]["params"]["value_head"])
    scores = []
    for _ in range(60):
        state, metrics = update(state, CONFIG, TABLE, PROMPTS, reward_fn=matching)
        scores.append(float(metrics["objective/scores"]))
    assert np.mean(scores[:3]) < 0.4 and np.mean(scores[-5:]) > 0.9
    assert metrics["loss/value_avg"] == 0
    jax.tree.map(np.testing.assert_array_equal, state.params["policy"]["params"]["value_head"], head)


def test_decoupled_each_term_is_standardised_by_itself():
    terms = {"small": jnp.array([0.0, 0.01, 0.0, 0.01]), "large": jnp.array([0.0, 0.0, 100.0, 100.0])}
    config = CONFIG.replace(group_size=4, decouple_rewards=True, reward_weights={"large": 0.5})
    score = terms["small"] + 0.5 * terms["large"]
    found = group_scores(config, score, terms)
    np.testing.assert_allclose(found, np.array([-1.5, 0.5, -0.5, 1.5]) / np.sqrt(1.25), rtol=1e-5)
    together = group_scores(config.replace(decouple_rewards=False), score, terms)
    np.testing.assert_allclose(together, [-1, -1, 1, 1], atol=1e-3)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"group_size": 5}, "16 melodies are no groups of 5: let group_size divide num_envs"),
        ({"critic_width": 8}, "grpo has no value: set critic_width to 0"),
        ({"separate_value": True}, "grpo has no value"),
    ],
)
def test_what_does_not_fit_is_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        preference.check(CONFIG.replace(**changed))
