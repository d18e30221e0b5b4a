import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.music.piece import decision_order
from mammadai_jax.networks.polyphonic import COPY_GAIN, PolyphonicComposer
from tests.agents.table import drawn

FRAMES, B, SIZE = 12, 3, 7
CONDITION = np.random.default_rng(1).normal(size=(B, 5)).astype(np.float32)


class Made:
    """A composer with random parameters, compiled once for whole pieces and once decision by decision."""

    def __init__(self, body, voices, hold=False, **kwargs):
        network = {"width": 8, "num_layers": 2, "num_heads": 2, "attention_window": 6, "match_steps": 5}
        self.composer = PolyphonicComposer(SIZE, voices, hold, body, steps_per_quarter=2, **network | kwargs)
        tokens = np.random.default_rng(2).integers(0, SIZE, (FRAMES * voices, B), np.int32)
        tokens[2 * voices :] %= 3  # so that much repeats itself
        tokens[0, :2] = tokens[7 * voices, 1] = SIZE  # the last row begins within a piece
        self.tokens, self.voices = tokens, voices
        self.times = np.broadcast_to(np.arange(len(tokens), dtype=np.int32)[:, None], tokens.shape)
        self.params = drawn(self.composer, tokens[:1], self.times[:1], CONDITION)
        self.whole, self._stepped = jax.jit(self.composer.apply), jax.jit(self.stepped)

    def stepped(self, params, tokens, times, condition):
        def advance(carry, now):
            return self.composer.apply(params, carry, *now, condition, method="step")[::-1]

        return jax.lax.scan(advance, self.composer.initial_carry(B), (tokens, times))[1]

    def read(self, tokens=None, times=None, condition=CONDITION, one_by_one=False):
        tokens = self.tokens if tokens is None else tokens
        times = self.times if times is None else times
        call = self._stepped if one_by_one else self.whole
        return jax.tree.map(np.asarray, call(self.params, tokens, times, condition))

    def changed(self, place, token=None):
        tokens = self.tokens.copy()
        tokens[place] = (tokens[place] + 1) % 3 if token is None else token
        return tokens


make = functools.cache(Made)
KINDS = [("lstm", 4), ("transformer", 3), ("lstm", 1)]
kinds = pytest.mark.parametrize(("body", "voices"), KINDS)


@pytest.mark.parametrize(
    ("body", "voices", "hold"), [(*KINDS[0], False), (*KINDS[1], True), (*KINDS[2], False)]
)
def test_whole_pieces_and_steps_agree(body, voices, hold):
    made = make(body, voices, hold)
    whole = made.read()
    assert whole.logits.shape == (FRAMES * voices, B, SIZE) and whole.value.shape == (FRAMES * voices, B)
    for one, other in zip(whole, made.read(one_by_one=True), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert np.std(whole.logits) > 0.1


def test_steps_under_vmap_may_be_at_different_voices():
    made = make("lstm", 4)
    step = functools.partial(made.composer.apply, made.params, method="step")
    begin = made.composer.initial_carry(B)

    @jax.jit
    def all_at_once(tokens, times):
        """The carry before each decision, and then all decisions in parallel."""
        advance = lambda carry, now: (step(carry, *now, CONDITION)[1], carry)
        carries = jax.lax.scan(advance, begin, (tokens, times))[1]
        return jax.vmap(step, in_axes=(0, 0, 0, None))(carries, tokens, times, CONDITION)[0]

    found = all_at_once(made.tokens[:10], made.times[:10])
    np.testing.assert_allclose(found.logits, made.read().logits[:10], atol=1e-5)


@kinds
def test_only_what_was_decided_is_seen(body, voices):
    """Neither later frames nor later voices of the same frame."""
    made = make(body, voices)
    for place in range(5 * voices, 6 * voices):
        difference = np.abs(made.read().logits - made.read(made.changed(place)).logits).max(axis=(1, 2))
        np.testing.assert_array_equal(difference[:place], 0)
        assert difference[place] > 1e-4


@kinds
def test_start_token_forgets(body, voices):
    made = make(body, voices)
    begin = 5 * voices
    again, other = made.changed(begin, SIZE), made.changed(begin, SIZE)
    other[voices:begin] = (other[voices:begin] + 1) % 3
    one, two = made.read(again).logits, made.read(other).logits
    np.testing.assert_allclose(one[begin:], two[begin:], atol=1e-6)
    assert np.abs(one[begin - 1] - two[begin - 1]).max() > 1e-3


def test_a_row_may_end_within_a_frame():
    made = make("lstm", 4)
    few = jax.jit(made.composer.apply)(made.params, made.tokens[:6], made.times[:6], CONDITION)
    np.testing.assert_allclose(few.logits, made.read().logits[:6], atol=1e-5)


def test_condition_and_place_in_the_bar_matter():
    made = make("lstm", 4)
    plain = made.read().logits
    assert np.abs(plain - made.read(condition=CONDITION + 1).logits).max() > 1e-3
    assert np.abs(plain - made.read(times=made.times + 4).logits).max() > 1e-3


def test_what_followed_a_repetition_may_be_copied():
    """With no weights but those of the copies, the logits are those of the tokens that followed."""
    made = make("lstm", 4)
    params = jax.tree.map(np.zeros_like, made.params)
    for head in (f"copy_heads_{k}" for k in range(4)):
        params["params"][head]["bias"][:] = [0.2, 0.1]
    piece = np.tile([[1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]], (4, 1))
    played = piece[:, decision_order(4)].reshape(-1)
    tokens = np.concatenate([[SIZE], played[:-1]])[:, None].repeat(B, axis=1)
    logits = made.whole(params, tokens.astype(np.int32), made.times, CONDITION).logits[:, 0]
    np.testing.assert_array_equal(logits[:16], 0)  # nothing has been repeated
    np.testing.assert_allclose(
        logits[16:], COPY_GAIN * 0.3 * (np.arange(SIZE) == played[16:, None]), atol=1e-5
    )


def test_it_starts_near_a_uniform_choice():
    made = make("lstm", 4)
    params = jax.jit(made.composer.init)(jax.random.key(0), made.tokens[:1], made.times[:1], CONDITION)
    output = made.whole(params, made.tokens, made.times, CONDITION)
    np.testing.assert_array_equal(output.value, 0)
    assert 0.01 < np.abs(output.logits).max() < 1.5


@pytest.mark.parametrize(("options", "message"), [({"body": "gru"}, "lstm"), ({"voices": 0}, "1 to 8")])
def test_unknown_bodies_and_no_voices_are_refused(options, message):
    blank = jnp.zeros((1, 1), int)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: PolyphonicComposer(SIZE, **options).init(jax.random.key(0), blank, blank))
