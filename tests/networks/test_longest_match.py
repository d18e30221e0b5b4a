import jax
import numpy as np

from mammadai_jax.networks import longest_match

START = 9


def by_hand(tokens, reach):
    """Of each step of one melody: what followed the longest match, and its length."""
    found = []
    for time in range(len(tokens)):
        lengths = []
        for distance in range(1, reach + 1):
            length = 0
            while time - length - distance >= 0 and tokens[time - length] == tokens[time - length - distance]:
                length += 1
            lengths.append(length)
        longest = max(lengths)
        followed = tokens[time - lengths.index(longest)] if longest else START
        found.append((followed, longest))
    return np.array(found)


def test_the_longest_match_is_found_by_hand():
    tokens = np.array([START, 1, 2, 3, 1, 2, 3, 1, 1, 2])
    followed, length = jax.jit(lambda x: longest_match.find(x, x == START, 4, START))(tokens[:, None])
    np.testing.assert_array_equal(followed[:, 0], [9, 9, 9, 9, 2, 3, 1, 2, 1, 3])
    np.testing.assert_array_equal(length[:, 0], [0, 0, 0, 0, 1, 2, 3, 4, 1, 2])


def test_melodies_in_a_row_match_only_themselves(random):
    rows = [np.concatenate([[START], random.integers(0, 3, length)]) for length in (25, 14, 30)]
    tokens = np.concatenate(rows)
    found = jax.jit(lambda x: longest_match.find(x, x == START, 12, START))(
        np.stack([tokens, tokens[::-1]], 1)
    )
    expected = np.concatenate([by_hand(row, 12) for row in rows])
    np.testing.assert_array_equal(np.stack(found)[:, :, 0].T, expected)


def test_kinds_of_length_double():
    lengths = np.array([0, 1, 2, 3, 6, 7, 126, 127, 500])
    np.testing.assert_array_equal(jax.jit(longest_match.kind)(lengths), [0, 1, 1, 2, 2, 3, 6, 7, 7])
    assert longest_match.KINDS == 8
