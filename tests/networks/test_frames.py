import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.networks import longest_match
from mammadai_jax.networks.frames import DECAYS, LINE, UNKNOWN, Frames, by_frame, frames_before

SIZE = 9  # silence and eight pitches, or seven and a hold
PLAIN, HOLDING = Frames(SIZE, 2, False, 1, 4), Frames(SIZE, 2, True, 2, 4)


def views(frames, rows, starts=(0,)):
    """The views of one piece (T, V), without the axis of the batch; pieces begin at the frames `starts`."""
    begins = np.isin(np.arange(len(rows)), starts)[:, None]
    view = jax.jit(Frames.views, static_argnums=0)(frames, jnp.asarray(rows)[:, None], begins)
    return jax.tree.map(lambda x: np.asarray(x)[:, 0], view)


def test_what_sounds_since_when_and_what_sounded_before():
    rows = [[0, 0], [3, 5], [3, 5], [4, 5], [0, 6], [4, 6]]  # the first one is before the piece
    view = views(PLAIN, rows)
    np.testing.assert_array_equal(view.sounding, [[SIZE, SIZE], *rows[1:]])
    np.testing.assert_array_equal(view.ages.T, [[0, 0, 1, 0, 0, 0], [0, 0, 1, 2, 0, 1]])
    assert view.lines.shape == (6, LINE, 2)
    np.testing.assert_array_equal(view.lines[4, :, 0], [4, 3, SIZE])
    np.testing.assert_array_equal(view.lines[5, :, 0], [0, 4, 3])
    np.testing.assert_array_equal(view.lines[5, :, 1], [5, SIZE, UNKNOWN])


def test_a_hold_sounds_as_what_it_holds_and_a_repeated_note_is_a_new_one():
    hold = SIZE - 1
    view = views(HOLDING, [[0, 0], [3, 5], [hold, 5], [hold, 0], [2, hold]])
    np.testing.assert_array_equal(view.sounding[1:], [[3, 5], [3, 5], [3, 0], [2, 0]])
    np.testing.assert_array_equal(view.ages[1:], [[0, 0], [1, 0], [2, 0], [0, 1]])
    np.testing.assert_array_equal(view.lines[2, 0], [SIZE, SIZE])  # a repeated note is no other pitch
    assert (PLAIN.pitches, HOLDING.pitches) == (8, 7)
    np.testing.assert_array_equal(HOLDING.is_pitch(np.array([UNKNOWN, 0, 1, 7, 8, 9])), [0, 0, 1, 1, 0, 0])


def test_shares_of_pitch_classes_decay_by_the_quarter():
    tokens = [[0, 0], [1, 5], [1, 0], [13, 2]]
    for quarter in (1, 2):
        view = views(Frames(20, 2, False, quarter, 0), tokens)
        for row, decay in zip(view.classes[3], DECAYS, strict=True):
            factor = decay ** (1 / quarter)
            sums = np.zeros(12)
            sums[0] = factor**2 + factor + 1  # of the tokens 1, 1 and 13
            sums[4], sums[1] = factor**2, 1
            np.testing.assert_allclose(row, sums / (sums.sum() + 1e-3), rtol=1e-5)


def repetition(rows, t, same, limit):
    """The largest number of frames before t that equal those at a distance, the nearest, by searching."""
    best = (0, None)
    for distance in range(1, limit + 1):
        length = 0
        while t - length - distance >= 1 and same(rows[t - length], rows[t - length - distance]):
            length += 1
        if length > best[0]:
            best = (length, distance)
    return best


def test_repetitions_are_the_longest_ones(random):
    rows = random.integers(1, 3, (40, 2))
    view = views(PLAIN, rows)
    kinds = [
        lambda a, b: (a == b).all(),
        lambda a, b: a[0] == b[0],
        lambda a, b: a[1] == b[1],
    ]
    lengths = set()
    for t in range(1, 40):
        for kind, same in enumerate(kinds):
            length, distance = repetition(rows, t, same, 4)
            which, voices = (0, [0, 1]) if kind == 0 else (1, [kind - 1])
            lengths.add(length)
            for voice in voices:
                assert view.lengths[t, which, voice] == length
                followed = rows[t - distance + 1, voice] if distance else UNKNOWN
                assert view.followed[t, which, voice] == followed
    assert len(lengths) > 4


def test_repetitions_may_be_left_out(random):
    view = views(PLAIN._replace(match_steps=0), random.integers(1, 3, (9, 2)))
    assert (view.followed == UNKNOWN).all() and (view.lengths == 0).all()


def test_of_one_voice_they_are_those_of_longest_match(random):
    tokens = random.integers(1, 4, 30)
    tokens[0] = SIZE
    view = views(Frames(SIZE, 1, False, 1, 5), tokens[:, None])
    found, lengths = longest_match.find(tokens[:, None], (tokens == SIZE)[:, None], 5, UNKNOWN)
    np.testing.assert_array_equal(view.lengths[:, 1], lengths)
    np.testing.assert_array_equal(view.followed[:, 0], found)


def test_a_piece_that_begins_forgets_the_one_before(random):
    rows = random.integers(0, 3, (12, 2))
    alone, later = views(PLAIN, rows[5:]), views(PLAIN, rows, starts=(0, 5))
    for one, other in zip(alone, later, strict=True):
        np.testing.assert_array_equal(one, other[5:])
    unknown = views(PLAIN, np.concatenate([[[UNKNOWN, 2]], rows]), starts=())
    np.testing.assert_array_equal(unknown.sounding[0], [UNKNOWN, 2])
    assert (unknown.followed[0] == UNKNOWN).all()


def test_one_frame_at_a_time_gives_the_same_in_every_way(transform, random):
    rows = jnp.asarray(random.integers(0, 3, (9, 3, 2)))
    starts = jnp.arange(9)[:, None] == jnp.array([0, 4, 20])

    def last(rows, starts):
        memory = PLAIN.initial(3)
        for now in zip(rows, starts, strict=True):
            memory = PLAIN.advance(memory, *now)
        return memory.view

    whole = jax.tree.map(lambda x: x[-1], PLAIN.views(rows, starts))
    for one, other in zip(transform(last)(rows, starts), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_rows_of_decisions_are_cut_into_frames():
    rows = np.arange(1, 6)[:, None] * np.array([1, 10])
    np.testing.assert_array_equal(by_frame(rows, 2)[:, 0], [[1, 2], [3, 4], [5, 0]])
    np.testing.assert_array_equal(by_frame(rows, 2)[:, 1, 0], [10, 30, 50])
    np.testing.assert_array_equal(frames_before(rows, 2, -1)[:, 0], [[-1, 1], [2, 3], [4, 5]])
    np.testing.assert_array_equal(frames_before(rows, 1, -1)[..., 0], rows)


@pytest.mark.parametrize("rows", [np.zeros((3, 2), int), np.zeros((3, 1, 2, 1), int)])
def test_other_shapes_are_refused(rows):
    with pytest.raises(AssertionError):
        PLAIN.views(rows, np.zeros((3, 1), bool))
    with pytest.raises(AssertionError):
        by_frame(rows[..., None], 2)
