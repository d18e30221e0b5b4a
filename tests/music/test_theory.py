import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.agents import projection, tuner
from mammadai_jax.environments import Theory
from mammadai_jax.music import theory
from mammadai_jax.music.theory import RULES, SIZE, Config, advance, in_key, initial, motifs, reward, score
from mammadai_jax.networks.note_rnn import NoteRNN

GOLDEN = Path(__file__).parent.parent / "data" / "rl_tuner_golden_theory.npz"
OFF, HOLD = 0, 1
C, D, E, F, G, A, B = 14, 16, 18, 19, 21, 23, 25  # middle C and up


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


def row(name, *tokens, config=None):
    """Rewards by one rule of one melody, (T,)."""
    config = Config() if config is None else config
    padded = np.pad(tokens, (0, config.length - len(tokens)))
    return np.asarray(score(padded[None], config)[name])[0, : len(tokens)]


def melodies(count, steps, seed=0, kinds=38):
    """Half wandering, half leaping about, with special events; few kinds of token repeat themselves more."""
    rng = np.random.default_rng(seed)
    wander = 2 + np.cumsum(rng.integers(-2, 3, (count, steps)), axis=1) % (kinds - 2)
    tokens = np.where(rng.random((count, 1)) < 0.5, wander, rng.integers(0, kinds, (count, steps)))
    return np.where(rng.random((count, steps)) < 0.25, rng.integers(0, 2, (count, steps)), tokens)


@pytest.mark.parametrize("steps", [32, 64])
def test_rules_are_the_released_programs(golden, steps):
    tokens, expected = golden[f"tokens_{steps}"], golden[f"rewards_{steps}"]
    scores = score(tokens)
    assert list(scores) == list(RULES) == golden["rules"].tolist()
    for index, (name, values) in enumerate(scores.items()):
        wrong = np.abs(np.asarray(values) - expected[..., index]) > 1e-3
        if name == "penalize_autocorrelation":
            wrong &= ~at_threshold(tokens)
        assert not wrong.any(), (name, np.argwhere(wrong))


def at_threshold(tokens):
    """Where an autocorrelation so far is 0.15 exactly, (N, T)."""
    tie = np.zeros(tokens.shape, bool)
    for n in range(2, tokens.shape[1] + 1):
        y = tokens[:, :n].astype(np.int64)
        y = y * n - y.sum(axis=1, keepdims=True)
        for lag in range(1, min(4, n)):
            tie[:, n - 1] |= 20 * np.abs((y[:, lag:] * y[:, :-lag]).sum(axis=1)) == 3 * (y**2).sum(axis=1)
    return tie & (tokens != tokens[:, :1]).cumsum(axis=1).astype(bool)


# Slow and plain versions of the three rules that remember much


def plain_repeating(x, a):
    same, held, broken = 0, False, False
    for y in reversed(x):
        if y == a:
            same += 1
        elif y == OFF:
            broken = True
        elif y == HOLD:
            held = True
        else:
            break
    return (a == OFF and same > 1) or same > (6 if held or broken else 4)


def plain_repeated_motif(x, a, bar):
    block = [*x, a][-bar:]
    pitches = len({y for y in block if y > 1})
    blocks = [x[i : i + bar] for i in range(len(x) - 2 * bar + 2)]
    return 1.0 + pitches if len(block) == bar and pitches >= 3 and block in blocks else 0.0


def plain_autocorrelation(y):
    z = np.array(y) - np.mean(y)
    if not z.any():
        return 0.0
    rho = [abs((z[k:] * z[:-k]).sum() / (z**2).sum()) if len(z) > k else 0.0 for k in (1, 2, 3)]
    return -3 * sum(r for r in rho if r > 0.15)


@pytest.mark.parametrize("kinds", [3, 6, 38])
@pytest.mark.parametrize("bar", [4, 8, 16])
def test_long_melodies_agree_with_plain_rules(kinds, bar):
    tokens = melodies(6, 150, seed=kinds, kinds=kinds)
    tokens[:3, 60:110] = tokens[:3, 5:55]  # repeats at a distance
    tokens[3, 60:110] = np.tile(tokens[3, 5:10], 10)  # repeats that overlap themselves
    scores = {name: np.asarray(values) for name, values in score(tokens, Config(length=150, bar=bar)).items()}
    tie = at_threshold(tokens)
    for melody, x in enumerate(tokens.tolist()):
        for t, a in enumerate(x):
            got = {name: float(values[melody, t]) for name, values in scores.items()}
            assert got["penalize_repeating"] == (-100 if plain_repeating(x[:t], a) else 0)
            assert got["repeated_motif"] == plain_repeated_motif(x[:t], a, bar)
            if not tie[melody, t]:
                assert got["penalize_autocorrelation"] == pytest.approx(
                    plain_autocorrelation(x[: t + 1]), abs=1e-4
                )


def test_autocorrelation_keeps_its_precision_in_long_melodies():
    tokens = np.full((1, 10_000), 37)
    tokens[0, ::2] = 36
    tokens[0, 0] = 0  # far from the rest, which is nearly constant
    got = np.asarray(score(tokens)["penalize_autocorrelation"])[0, -1]
    assert got == pytest.approx(plain_autocorrelation(tokens[0]), abs=1e-3)


# Each rule by hand


def test_key():
    np.testing.assert_array_equal(row("key", OFF, HOLD, C, C + 1, D, 37), [0, 0, 0, -1, 0, 0])
    flat = Config(key=in_key((10, 0, 2, 3, 5, 7, 9)))  # B flat major
    np.testing.assert_array_equal(
        row("key", OFF, HOLD, E, E - 1, B, B - 1, config=flat), [0, 0, -1, 0, -1, 0]
    )


def test_tonic():
    end = (C, HOLD, OFF, HOLD)
    np.testing.assert_array_equal(
        row("tonic", C, C, *[D] * 26, *end)[[0, 1, 27, 28, 29, 30, 31]], 3 * np.array([1, 0, 0, 1, 1, 1, 1])
    )
    assert row("tonic", C + 12, *[C] * 27, C - 12, OFF, C, D).sum() == 0
    config = Config(length=16, ending=8, tonic=G)
    tokens = (G, *[C] * 7, G, HOLD, HOLD, HOLD, OFF, HOLD, OFF, OFF)
    np.testing.assert_array_equal(row("tonic", *tokens, config=config), [3] + [0] * 7 + [3] * 8)


def test_penalize_repeating():
    np.testing.assert_array_equal(row("penalize_repeating", *[C] * 6, D, C), [0] * 5 + [-100, 0, 0])
    np.testing.assert_array_equal(row("penalize_repeating", C, HOLD, *[C] * 7), [0] * 8 + [-100])
    np.testing.assert_array_equal(
        row("penalize_repeating", OFF, HOLD, OFF, OFF, C, OFF), [0, 0, 0, -100, 0, 0]
    )
    np.testing.assert_array_equal(row("penalize_repeating", C, *[HOLD] * 6), [0] * 6 + [-100])


def test_penalize_autocorrelation():
    got = row("penalize_autocorrelation", C, C, D, D, C)
    expected = [plain_autocorrelation([C, C, D, D, C][:n]) for n in range(1, 6)]
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert not row("penalize_autocorrelation", *[E] * 20).any()


def test_motifs():
    tune = (C, D, E, F, C, HOLD, OFF, C)
    np.testing.assert_allclose(
        row("motif", *tune, C, C, C, C, C), [0] * 7 + [3.3, 3.3, 3.0, 0, 0, 0], rtol=1e-6
    )
    np.testing.assert_array_equal(row("repeated_motif", *tune, *tune), [0] * 15 + [5])
    overlap = (C, D, E, F) * 4  # the first eight come back, but only the eight after them count
    np.testing.assert_array_equal(row("repeated_motif", *overlap), [0] * 15 + [5])


def test_preferred_intervals():
    got = row("preferred_intervals", HOLD, C, HOLD, OFF, G, D, HOLD, OFF, F + 1, B, C + 12, C + 23, E)
    expected = [0, 0, 1.5, 0.75, 0.5, 0.35, 0.375, 0.25, 0.45, 0.35, 0, -1.5, -5]
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    np.testing.assert_allclose(
        row("preferred_intervals", C, E, C, A, D, D + 7, D - 4),
        [0, 0.75, 0.75, 0.25, 0.1, 0.1, -1.5],
        rtol=1e-6,
    )


def test_leap_up_back():
    np.testing.assert_array_equal(row("leap_up_back", C, G, F, D, C), [0, 0, 0, 0, 5])
    np.testing.assert_array_equal(row("leap_up_back", C, G, G + 7, G + 14), [0, 0, -5, -5])
    np.testing.assert_array_equal(row("leap_up_back", C, G, C, D), [0, 0, 0, 0])  # back at once: forgotten
    np.testing.assert_array_equal(row("leap_up_back", C, C + 12, *[HOLD] * 7, G - 2), [0] * 9 + [5])


def test_high_low_unique():
    config = Config(length=4)
    last = lambda *tokens: row("high_low_unique", *tokens, config=config).tolist()
    assert last(C, D, E, D) == [0, 0, 0, 6]
    assert last(C, E, E, D) == [0, 0, 0, 3]
    assert last(OFF, OFF, HOLD, OFF) == [0, 0, 0, 3]  # no event is the highest token
    assert last(OFF, OFF, OFF, OFF) == [0, 0, 0, 0]


# Labels, parameters, programs


def test_corrected_labels_are_the_released_ones_exchanged():
    tokens = melodies(20, 32)
    swapped = np.where(tokens < 2, 1 - tokens, tokens)
    released, corrected = score(tokens), score(swapped, Config(labels="corrected"))
    for name in set(RULES) - {"penalize_autocorrelation", "penalize_repeating"}:
        np.testing.assert_array_equal(released[name], corrected[name], err_msg=name)
    held = tokens == HOLD
    expected = np.where(held, 0, released["penalize_repeating"])
    np.testing.assert_array_equal(corrected["penalize_repeating"], expected)
    long_note = np.array([[C, *[0] * 31]])
    assert not np.any(score(long_note, Config(labels="corrected"))["penalize_repeating"])
    assert np.sum(score(long_note)["penalize_repeating"]) == -2900


def test_a_note_alone_agrees_with_whole_melodies(transform):
    config, tokens = Config(length=11), melodies(1, 11)[0]
    expected = {name: np.asarray(values[0]) for name, values in score(tokens[None], config).items()}
    step = transform(lambda state, action: (advance(state, action, config), *reward(state, action, config)))
    state = initial(config)
    for t, action in enumerate(tokens):
        state, total, each = step(state, jnp.int32(action))
        for name, value in each.items():
            assert float(value) == pytest.approx(float(expected[name][t]), abs=1e-5), name
        assert float(total) == pytest.approx(sum(map(float, each.values())), abs=1e-4)


def test_traced_parameters_are_swept_in_one_program():
    tokens = jnp.asarray(melodies(4, 32))
    config = lambda tonic: Config(tonic=tonic, key=in_key(np.arange(12)))
    swept = jax.vmap(lambda tonic: score(tokens, config(tonic)))(jnp.array([C, G]))
    for index, tonic in enumerate((C, G)):
        single = score(tokens, config(tonic))
        for name, values in single.items():
            np.testing.assert_allclose(swept[name][index], values, atol=1e-5)


def test_users_rules_and_weights():
    def no_middle_c(state, action, config):
        return jnp.where(action == C, -1.0, 0.0)

    rules = {**RULES, "no_middle_c": no_middle_c}
    config = Config()
    total, each = reward(initial(config), jnp.int32(C), config, {"tonic": 2.0, "no_middle_c": 10.0}, rules)
    assert (float(each["tonic"]), float(each["no_middle_c"]), float(total)) == (3, -1, -4)
    assert float(score(np.array([[C, D]]), rules=rules)["no_middle_c"].sum()) == -1
    with pytest.raises(ValueError, match=r"\['tonics'\] belong to no rule"):
        reward(initial(config), jnp.int32(C), config, {"tonics": 2.0})


def test_the_state_is_small_and_stays_so():
    size = lambda length: sum(leaf.nbytes for leaf in jax.tree.leaves(initial(Config(length=length))))
    assert size(32) < 2048
    assert size(1024) < 48 * 1024
    config = Config(length=8)
    state = initial(config)
    step = jax.jit(functools.partial(advance, config=config))
    for action in melodies(1, 40)[0]:
        after = step(state, jnp.int32(action))
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
        state = after
    assert int(state.time) == 40


def test_every_token_of_the_alphabet_is_remembered_and_no_other_is_taken():
    """Of six bits each: a token of a larger alphabet would be remembered as another."""
    recent = jnp.zeros(motifs.words(8), jnp.uint32)
    for token in range(SIZE):
        recent = motifs.push(recent, jnp.int32(token), 8)
        assert [int(motifs.event(recent, age)) for age in range(8)] == [
            max(token - age, 0) for age in range(8)
        ]
    start = initial(Config())
    for token in (-1, SIZE, 64, 100):
        for function in (advance, reward):
            with pytest.raises(ValueError, match=r"tokens of the alphabet 'rl_tuner' should be 0..37, got"):
                function(start, token, Config())


def test_a_network_of_more_tokens_than_the_rules_know_is_refused():
    for learner in (tuner, projection):
        with pytest.raises(ValueError, match=r"the network has 100 tokens, and the rules know the 38 of "):
            learner.play(None, None, learner.Config(), NoteRNN(100), Theory(), jax.random.key(0))


@pytest.mark.parametrize("other", [-1, 1])
def test_motifs_of_one_bucket_and_tag_are_told_apart(other):
    """Two motifs may be packed to the same bucket and tag: their events decide."""
    recent = jnp.array([5, 105], jnp.uint32)
    table = motifs.insert(jnp.zeros((1, motifs.WAYS), jnp.uint32), recent, jnp.int32(3), jnp.bool_(True))
    past = motifs.past(40, 8).at[2].set(recent)
    assert int(motifs.first_end(table, past, recent, jnp.int32(9))) == 3
    past = past.at[2].set((recent.astype(jnp.int32) + other).astype(jnp.uint32))
    assert int(motifs.first_end(table, past, recent, jnp.int32(9))) == 0


def test_a_full_bucket_forgets_but_never_mistakes():
    table, past = jnp.zeros((1, motifs.WAYS), jnp.uint32), motifs.past(40, 8)
    tokens = [jnp.array([i, 100 + i], jnp.uint32) for i in range(30)]
    for i, recent in enumerate(tokens):
        time = jnp.int32(i)
        assert int(motifs.first_end(table, past, recent, time)) == 0
        table, past = motifs.insert(table, recent, time + 1, jnp.bool_(True)), past.at[i].set(recent)
    found = [int(motifs.first_end(table, past, recent, jnp.int32(30))) for recent in tokens]
    assert found == [*range(1, motifs.WAYS + 1), *[0] * (30 - motifs.WAYS)]


def test_the_longest_melody_and_the_shortest_motif():
    longest = Config(length=motifs.LONGEST, bar=4)
    assert (longest.length, longest.bar) == (65535, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: score(np.zeros(32, int)), "tokens should be"),
        (lambda: score(np.zeros((1, 33), int), Config()), "longer than"),
        (lambda: score(np.full((1, 32), 38)), "0..37"),
        (lambda: Config(labels="paper"), "labels should be"),
        (lambda: Config(length=0), "length should be 1 to 65535"),
        (lambda: Config(length=65536), "length should be 1 to 65535"),
        (lambda: Config(bar=3), "bar 4 or more"),
        *((lambda pitch=pitch: in_key((pitch,)), "pitch classes should be") for pitch in (-1, 12, 13)),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_everything_public_is_there():
    assert set(theory.__all__) <= set(dir(theory))
