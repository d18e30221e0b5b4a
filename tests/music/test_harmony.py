import functools
import importlib.util
import pickletools
import zipfile
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.music import harmony, jsb
from mammadai_jax.music.harmony import RULES, Config, bach
from mammadai_jax.music.notes import RL_TUNER, VOICES, VOICES_HOLD
from mammadai_jax.music.piece import decision_order, on_tonic
from mammadai_jax.music.statistics import chord_entropy
from tests.music import harmony_oracle

HOLD = VOICES_HOLD.hold
CHORALES = Path(__file__).parents[3] / "shared" / "jsb" / "Jsb16thSeparated.npz"
# few pitches and small movements, so that every rule has events
LOW = {1: [60], 3: [64, 58, 45], 4: [66, 59, 52, 43]}


def tokens_of(pitches):
    """Tokens of MIDI pitches, 0 for silence in both."""
    pitches = np.asarray(pitches)
    return np.where(pitches > 0, pitches - VOICES.lowest + VOICES.first, 0)


def pieces(count, frames, voices, seed=0):
    """Tokens (count, frames, voices) of voices that wander, leap, rest and hold."""
    rng = np.random.default_rng(seed)
    moves = rng.choice([0, 0, 1, -1, 2, -2, 5, -5, 7, -7], (count, frames, voices))
    pitches = np.array(LOW[voices]) + np.cumsum(moves, axis=1) % 14
    pitches = np.where(rng.random((count, frames, voices)) < 0.05, pitches + 12, pitches)
    tokens = np.where(rng.random((count, frames, voices)) < 0.03, 0, tokens_of(pitches))
    held = rng.random((count, frames, voices)) < 0.2
    still = (np.arange(frames) % 6 > 1) & (np.arange(count)[:, None] < 2)  # the same chord for half of a bar
    return np.where(held | still[..., None], HOLD, tokens)


@jax.jit
def decide(decisions, config):
    """Rewards (N, T V) of each decision by rule."""

    def one(state, action):
        return harmony.advance(state, action, config), harmony.reward(state, action, config)[1]

    return jax.vmap(lambda row: jax.lax.scan(one, harmony.initial(config), row)[1])(decisions)


def with_ends(tokens, tonic):
    """Pieces of which every fourth ends with a cadence on the tonic's major triad."""
    voices, tokens = tokens.shape[2], tokens.copy()
    tokens[::4, -2] = tokens_of(tonic + np.array([62, 59, 55, 43])[-voices:])
    tokens[::4, -1] = tokens_of(tonic + np.array([64, 55, 48, 36])[-voices:])
    return tokens


def by_loops(tokens, config):
    """{rule: (N, T, V)} of pieces, by the oracle."""
    found = [harmony_oracle.rewards(piece, config) for piece in tokens]
    return {name: np.stack([piece[name] for piece in found]) for name in RULES}


def test_every_decision_earns_what_loops_over_the_piece_find():
    config = Config(voices=3, frames=24, order=(1, 2, 0), tonic=9, minor=True)
    tokens = with_ends(pieces(64, 24, 3), 9)[:, :, [1, 2, 0]]
    found = decide(tokens.reshape(64, -1), config)
    expected = by_loops(tokens[:, :, [2, 0, 1]], config)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values[:, :, [1, 2, 0]].reshape(64, -1), err_msg=name)
        assert values.any(), name


WHOLE = Config(frames=24, tonic=7)


@pytest.mark.parametrize(
    "config", [WHOLE, pytest.param(Config(voices=1, frames=24, tonic=7), marks=pytest.mark.nightly)]
)
def test_whole_pieces_earn_what_loops_find(config):
    tokens = with_ends(pieces(64, 24, config.voices), 7)
    scores = harmony.score(tokens, config)
    for name, values in by_loops(tokens, config).items():
        np.testing.assert_array_equal(scores[name], values.sum(axis=(1, 2)), err_msg=name)
        assert values.any() or config.voices == 1, name


# Rule, voices from the highest as rows of pitches, and what the whole piece earns; tonic C, in major.
GOLDEN = [
    ("parallel_fifths", [[67, 69], [60, 62]], -1),
    ("parallel_fifths", [[79, 81], [60, 62]], -1),  # twelfths
    ("parallel_fifths", [[67, 67, 69, 69], [60, 60, 62, 62]], -1),
    ("parallel_fifths", [[67, 67], [60, 60]], 0),  # repeated
    ("parallel_fifths", [[67, 74], [60, 55]], 0),  # in contrary motion
    ("parallel_fifths", [[67, 69], [60, 63]], 0),  # into a tritone
    ("parallel_fifths", [[67, 0, 69], [60, 0, 62]], 0),  # over a rest
    ("contrary_fifths", [[67, 74], [60, 55]], -1),
    ("parallel_octaves", [[72, 74], [60, 62]], -1),
    ("parallel_octaves", [[60, 62], [60, 62]], -1),  # unisons
    ("parallel_octaves", [[72, 79], [60, 55]], 0),
    ("contrary_octaves", [[72, 79], [60, 55]], -1),
    ("hidden_fifths", [[64, 69], [60, 62]], -1),
    ("hidden_fifths", [[67, 69], [58, 62]], 0),  # the upper voice by step
    ("hidden_fifths", [[71, 67], [58, 60]], 0),  # in contrary motion
    ("hidden_octaves", [[64, 72], [57, 60]], -1),
    ("hidden_octaves", [[67, 72], [55, 60]], 0),  # parallel octaves instead
    ("crossing", [[64, 60, 60, 64, 60], [55, 62, 62, 55, 62]], -2),
    ("crossing", [[64, 60], [55, 60]], 0),  # a unison
    ("overlap", [[60, 67], [55, 62]], -1),
    ("overlap", [[67, 60], [62, 55]], -1),
    ("overlap", [[60, 67], [55, 60]], 0),
    ("overlap", [[60, 61], [55, 62]], 0),  # a crossing
    ("spacing", [[80, 80, 72, 80], [55, 55, 55, 55]], -2),
    ("spacing", [[79], [55]], 0),  # two octaves above the lowest voice
    ("voice_ranges", [[82, 82, 81, 84], [64, 64, 64, 64]], -2),
    ("voice_ranges", [[60], [35]], -1),
    ("bad_leaps", [[60, 66, 56, 67, 79], [0, 0, 0, 0, 0]], -3),
    ("wide_leaps", [[60, 73, 61], [36, 36, 48]], -1),
    ("wide_leaps", [[60, 0, 73], [36, 36, 36]], 0),
    ("unresolved_dissonance", [[65, 65, 69], [63, 63, 60]], -1),
    ("unresolved_dissonance", [[65, 69], [63, 62]], 0),
    ("unresolved_dissonance", [[65, 65], [63, 63]], 0),  # still sounding at the end
    ("unjustified_dissonance", [[64, 62, 60], [60, 60, 60]], 0),  # a passing note
    ("unjustified_dissonance", [[65, 65, 64], [57, 55, 55]], 0),  # a suspension
    ("unjustified_dissonance", [[67, 62, 60], [60, 60, 60]], -1),  # reached by leap
    ("unjustified_dissonance", [[64, 62, 67], [60, 60, 60]], -1),  # left by leap
    ("unjustified_dissonance", [[62, 67], [60, 60]], 0),  # from the start: not judged
    ("doubled_leading_tone", [[71, 71, 72, 71], [59, 59, 60, 59]], -2),
    ("repeated_chords", [[60, 60, 60, 60, 60], [48, 48, 48, 48, 48]], -2),
    ("repeated_chords", [[60, 60, 62, 62, 60], [48, 48, 48, 48, 48]], 0),
    ("cadence", [[71, 64], [55, 48]], 1),
    ("cadence", [[71, 64], [53, 48]], 1),
    ("cadence", [[71, 64, 64], [55, 48, 48]], 1),  # prepared
    ("cadence", [[71, 64], [50, 48]], 0),  # by step
    ("cadence", [[71, 67], [55, 48]], 0),  # without a third
    ("cadence", [[71, 64, 65], [55, 48, 47]], 0),  # not at the end
    ("final_tonic", [[71, 64], [55, 48]], 1),
    ("final_tonic", [[71, 63], [55, 48]], 0),  # minor
    ("final_tonic", [[71, 72], [55, 52]], 0),  # inverted
    ("final_tonic", [[71, 62], [55, 55]], 0),  # another chord
]


@functools.cache
def golden_scores():
    rows = np.zeros((len(GOLDEN), 5, 2), int)
    for row, (_, voices, _) in zip(rows, GOLDEN, strict=True):
        row[: len(voices[0])] = tokens_of(voices).T
    return harmony.score(rows, frames=np.array([len(voices[0]) for _, voices, _ in GOLDEN]))


@pytest.mark.parametrize("case", range(len(GOLDEN)), ids=[name for name, *_ in GOLDEN])
def test_golden_pieces(case):
    name, _, expected = GOLDEN[case]
    assert golden_scores()[name][case] == expected


def test_every_rule_has_golden_pieces():
    assert {name for name, *_ in GOLDEN} == set(RULES) - {"unresolved_sevenths"}
    assert list(golden_scores()) == list(RULES)


@pytest.mark.parametrize(
    ("seventh", "after", "expected"),
    [(65, 64, 0), (65, 65, 0), (65, 67, -1), (65, 60, -1), (62, 67, 0), (65, 0, 0)],
)
def test_sevenths_fall_by_step_or_are_held(seventh, after, expected):
    """The upper voice over G and B: F is a seventh, D is none."""
    config, state = Config(voices=3, frames=2), None
    state = harmony.initial(config)
    for pitch in (seventh, 43, 59):
        state = harmony.advance(state, tokens_of(pitch), config)
    assert RULES["unresolved_sevenths"](state, jnp.asarray(tokens_of(after)), config) == expected


def test_a_chord_s_last_decision_earns_the_same_however_it_is_compiled(transform):
    """The alto completes parallel fifths with the bass, and the triad of D minor."""
    config = Config(frames=2, tonic=2, minor=True)
    state = harmony.initial(config)
    for pitch in (72, 48, 64, 67, 74, 50, 65):
        state = harmony.advance(state, tokens_of(pitch), config)
    decide = transform(lambda state, action: harmony.reward(state, action, config, {"final_tonic": 3.0}))
    total, each = decide(state, jnp.asarray(tokens_of(69)))
    expected = {"parallel_fifths": -1.0, "final_tonic": 1.0}
    assert {name: float(value) for name, value in each.items() if value != 0} == expected
    assert total == 2.0 and all(value.dtype == jnp.float32 for value in each.values())


def test_a_finer_grid_has_the_same_events():
    """Also where notes are held rather than repeated."""
    tokens, tonic = pieces(64, 24, 4, seed=1), np.arange(64) % 12
    held = np.full((64, 96, 4), HOLD)
    held[:, ::4] = tokens
    coarse = harmony.score(tokens, WHOLE, tonic=tonic)
    fine = harmony.score(held, Config(frames=96, steps_per_bar=16), tonic=tonic)
    chex.assert_trees_all_equal(coarse, fine)
    assert sum(np.any(values != 0) for values in coarse.values()) > 15


def test_transposed_pieces_earn_the_same_but_for_their_ranges():
    tokens, tonic = pieces(64, 24, 4, seed=1), np.arange(64) % 12
    higher = np.where((tokens > 0) & (tokens < HOLD), tokens + 3, tokens)
    scores = harmony.score(tokens, WHOLE, tonic=tonic)
    moved = harmony.score(higher, WHOLE, tonic=(tonic + 3) % 12)
    assert [name for name in RULES if np.any(moved[name] != scores[name])] == ["voice_ranges"]
    assert np.any(
        harmony.score(higher, WHOLE, tonic=tonic)["doubled_leading_tone"] != moved["doubled_leading_tone"]
    )


def test_padding_earns_nothing():
    tokens, frames = pieces(64, 24, 4, seed=1), np.arange(64) % 20 + 4
    other = np.where(np.arange(24)[:, None] < frames[:, None, None], tokens, pieces(64, 24, 4, seed=2))
    scores = harmony.score(tokens, WHOLE, frames=frames)
    chex.assert_trees_all_equal(harmony.score(other, WHOLE, frames=frames), scores)
    whole = harmony.score(tokens, WHOLE)
    assert sum(np.any(whole[name] != scores[name]) for name in RULES) > 10


def test_a_decision_late_in_a_piece_is_as_one_early():
    config = Config(frames=1 << 20)
    tokens = jnp.asarray(tokens_of([67, 48, 55, 64, 69, 50]))

    @jax.jit
    def last(later):
        state = harmony.initial(config)
        for action in tokens[:5]:
            state = harmony.advance(state, action, config)
        return harmony.reward(state.replace(time=state.time + later), tokens[5], config)

    chex.assert_trees_all_equal(last(0), last(40_000))
    assert last(0)[1]["parallel_fifths"] == -1


def test_a_rule_of_ones_own_and_weights():
    def low_bass(state, action, config):
        seen = harmony.view(state, action, config)
        return jnp.where(seen.own[-1] & (seen.now[-1] < 48), -1.0, 0.0)

    config = Config(frames=2)
    state = harmony.advance(harmony.initial(config), tokens_of(72), config)
    rules = {"low_bass": low_bass, "wide_leaps": RULES["wide_leaps"]}
    total, each = harmony.reward(state, tokens_of(40), config, {"low_bass": 3.0}, rules)
    assert (float(total), {name: float(value) for name, value in each.items()}) == (
        -3.0,
        {"low_bass": -1.0, "wide_leaps": 0.0},
    )
    with pytest.raises(ValueError, match=r"\['cadence'\] belong to no rule"):
        harmony.reward(state, tokens_of(40), config, {"cadence": 1.0}, rules)


def test_outer_voices_are_decided_first_unless_an_order_is_given():
    assert Config(voices=3).decision_order == decision_order(3) == (0, 2, 1)
    assert Config(voices=3, order=(2, 0, 1)).decision_order == (2, 0, 1)


def test_ranges_of_any_number_of_voices():
    assert harmony.ranges(4).tolist() == [[60, 81], [55, 74], [48, 69], [36, 64]]
    assert harmony.ranges(1).tolist() == [[60, 81]]
    assert harmony.ranges(3)[:, 0].tolist() == [60, 55, 36]
    assert harmony.ranges(6)[:, 0].tolist() == [60, 60, 55, 55, 48, 36]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Config(voices=9), "1 to 8 voices, got 9"),
        (lambda: Config(frames=0), "frames and steps_per_bar should be 1 or more, got 0 and 4"),
        (lambda: Config(order=(0, 1, 2, 2)), r"each voice 0..3 once, got \(0, 1, 2, 2\)"),
        (lambda: harmony.score(np.zeros((2, 3), int)), r"\(pieces, frames, voices\).*got shape \(2, 3\)"),
        (lambda: harmony.score(np.zeros((2, 0, 4), int)), "with a frame or more"),
        (lambda: harmony.score(np.full((1, 2, 2), 67)), r"'voices_hold' should be 0\.\.66"),
        (lambda: harmony.score(np.zeros((1, 2, 2), int), Config(voices=3)), "2 voices, the config 3"),
        (lambda: harmony.score(np.zeros((1, 2, 2), int), frames=[3]), "should be 1 to 2"),
        (lambda: harmony.token(67), r"0\.\.66, got 67"),
        (lambda: Config(alphabet=RL_TUNER), "'voices' or 'voices_hold', not 'rl_tuner'"),
    ],
)
def test_what_is_wrong_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def chorales(split):
    """Pitches (T, 4) of each chorale of a split at quarters, 0 for silence, read without unpickling."""
    with zipfile.ZipFile(CHORALES) as file:
        content = file.read(f"{split}.npy")
    strings = (
        arg
        for op, arg, _ in pickletools.genops(content[content.index(b"\n") + 1 :])
        if op.name == "BINSTRING"
    )
    arrays = [np.frombuffer(text.encode("latin-1"), np.float16).reshape(-1, 4) for text in strings]
    return [np.nan_to_num(array[::4]).astype(int) for array in arrays]


# Events a piece and the share of pieces with any, of Bach's 229 and 77 chorales.
BACH = {
    "parallel_fifths": (0.69, 0.39, 0.81, 0.38),
    "parallel_octaves": (0.44, 0.25, 0.21, 0.14),
    "contrary_fifths": (0.38, None, 0.40, None),
    "contrary_octaves": (0.16, None, 0.08, None),
    "hidden_fifths": (0.45, None, 0.55, None),
    "hidden_octaves": (0.13, None, 0.08, None),
    "crossing": (0.90, 0.46, 0.90, 0.48),
    "overlap": (3.0, 0.86, 3.1, 0.82),
    "spacing": (0.60, 0.36, 0.73, 0.43),
    "voice_ranges": (0.03, None, 0.0, None),
    "bad_leaps": (1.35, 0.65, 1.43, 0.69),
    "wide_leaps": (0.12, None, 0.10, None),
    "unresolved_dissonance": (2.3, 0.73, 2.7, 0.73),
    "unjustified_dissonance": (5.4, 0.94, 6.5, 0.94),
    "doubled_leading_tone": (0.53, 0.33, 0.62, 0.34),
    "final_tonic": (0.99, 0.99, 1.0, 1.0),
}


@pytest.mark.nightly
@pytest.mark.skipif(not CHORALES.exists(), reason="needs the standard JSB chorales beside the repository")
def test_bach_breaks_the_rules_as_often_as_others_have_counted():
    found = {}
    for split, count in (("train", 229), ("test", 77)):
        parts = [tokens_of(piece) for piece in chorales(split)]
        assert len(parts) == count
        frames = np.array([len(part) for part in parts])
        tokens = np.stack([np.pad(part, ((0, 160 - len(part)), (0, 0))) for part in parts])
        tonic = np.array([(part[-1, 3] + VOICES.lowest - VOICES.first) % 12 for part in parts])
        scores = harmony.score(tokens, frames=frames, tonic=tonic, minor=np.ones(count, bool))
        for name, values in scores.items():
            found.setdefault(name, []).extend((np.abs(values).mean(), (np.asarray(values) != 0).mean()))
    for name, published in BACH.items():
        for ours, theirs in zip(found[name], published, strict=True):
            digits = 2 if theirs is None or theirs < 2 else 1
            assert theirs is None or abs(ours - theirs) <= 0.51 * 10**-digits, (name, found[name])


@pytest.mark.nightly
@pytest.mark.skipif(importlib.util.find_spec("music21") is None, reason="needs music21")
def test_bach_s_rates_are_those_of_the_training_chorales():
    parts = [
        on_tonic(piece.first(piece.span.stop), 0, VOICES_HOLD).on_grid(1).tokens(VOICES_HOLD)
        for piece in jsb.load().train
    ]
    frames = np.array([len(part) for part in parts])
    tokens = np.stack([np.pad(part, ((0, frames.max() - len(part)), (0, 0))) for part in parts])
    scores = harmony.score(tokens, frames=frames, tonic=0, minor=True)
    for name, rate in bach.RATES.items():
        assert scores[name].sum() / frames.sum() == pytest.approx(rate, abs=1e-5), name
    assert scores["final_tonic"].mean() == pytest.approx(bach.FINAL_TONIC, abs=1e-3)
    assert chord_entropy(parts) == pytest.approx(bach.CHORD_ENTROPY, abs=1e-3)


def test_bach_has_a_rate_of_every_rule():
    assert list(bach.events(1)) == list(RULES)
    assert bach.events(64)["crossing"] == 64 * bach.RATES["crossing"]
