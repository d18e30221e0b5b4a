import numpy as np
import pytest

from mammadai_jax.music.draws import draw

COLLECTIONS = np.repeat(["essen", "ryan", "bach"], [600, 300, 3])  # in their order, as a corpus has them


def counts(rows):
    return {name: int((COLLECTIONS[rows] == name).sum()) for name in ("essen", "ryan", "bach")}


@pytest.mark.parametrize("count", [3, 30, 90, 902])
def test_every_stratum_has_its_share(count):
    rows = draw(np.random.default_rng(0), count, COLLECTIONS)
    assert len(set(rows.tolist())) == len(rows) == count
    for name, size in {"essen": 600, "ryan": 300, "bach": 3}.items():
        assert abs(counts(rows)[name] - count * size / 903) <= 1


def test_rows_are_drawn_from_all_over_a_stratum():
    rows = draw(np.random.default_rng(0), 300, COLLECTIONS)
    assert np.corrcoef(np.arange(300), rows)[0, 1] < 0.1
    essen = rows[rows < 600]
    assert essen.min() < 20 and essen.max() > 580 and abs(essen.mean() - 300) < 50


def test_a_draw_is_pure_in_its_source_and_the_first_rows_are_a_draw():
    once, again, other = (draw(np.random.default_rng(seed), 100, COLLECTIONS) for seed in (0, 0, 1))
    np.testing.assert_array_equal(once, again)
    assert once.tolist() != other.tolist()
    np.testing.assert_array_equal(draw(np.random.default_rng(0), 10, COLLECTIONS), once[:10])


def test_when_all_are_drawn_they_are_drawn_anew():
    rows = draw(np.random.default_rng(0), 7, ["a", "b", "a"])
    assert sorted(rows[:3]) == sorted(rows[3:6]) == [0, 1, 2]


def test_nothing_is_drawn_of_nothing():
    assert draw(np.random.default_rng(0), 0, ["a"]).tolist() == []
    with pytest.raises(ValueError, match="no rows"):
        draw(np.random.default_rng(0), 1, [])
