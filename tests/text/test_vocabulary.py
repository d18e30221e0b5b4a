import json

import numpy as np
import pytest

from mammadai_jax.text.vocabulary import Vocabulary, spelling, tokenize

TEXTS = ["A slow tune in 6/8.", "a SLOW, falling tune", "Slow"]
SLOW = (450, 220, 1019, 706, 0, 0, 0, 0)  # runs in other processes and on other machines must agree


def test_words():
    assert tokenize("A slow-falling Tune, in 6/8 (très)!") == [
        "a",
        "slow",
        "falling",
        "tune",
        "in",
        "6/8",
        "très",
    ]


def test_the_most_frequent_words_are_known():
    vocabulary = Vocabulary.fit(TEXTS)
    assert vocabulary.words == ("slow", "a", "tune", "6/8", "falling", "in")
    assert vocabulary.size == 8
    assert Vocabulary.fit(TEXTS, size=4).words == ("slow", "a")


def test_encode_by_hand():
    rows = Vocabulary.fit(TEXTS).encode(["Tune slowly", "a a a a a"], width=3)
    assert rows.shape == (2, 3, 9) and rows.dtype == np.int32
    np.testing.assert_array_equal(rows[:, :, 0], [[4, 1, 0], [3, 3, 3]])
    np.testing.assert_array_equal(rows[0, 2], np.zeros(9))
    np.testing.assert_array_equal((rows[:, :, 1:] > 0).sum(axis=2), [[4, 6, 0], [1, 1, 1]])


def test_the_words_of_a_text_that_count():
    vocabulary = Vocabulary.fit(TEXTS)
    assert not vocabulary.reading("a SLOW tune").is_partial
    assert str(vocabulary.reading("Slow banjo tune")) == "understood: slow, tune; not understood: banjo"
    read = vocabulary.reading("slow tune in banjo 6/8, banjo", width=4)
    assert read == (["slow", "tune", "in"], ["banjo"], ["6/8", "banjo"]) and read.is_partial
    assert str(read).endswith("; past the length that is read: 6/8, banjo")
    many = vocabulary.reading(" ".join(f"word{i}" for i in range(30)))
    assert str(many).endswith("word18, word19, and 10 more")


def test_spelling_is_fixed_and_shared_by_inflections():
    assert spelling("slow", 2048) == SLOW
    shared = set(spelling("slow", 2048)) & set(spelling("slowly", 2048)) - {0}
    assert len(shared) == 3  # <sl, slo, low
    long = spelling("extraordinarily", 50)
    assert len(long) == 8 and min(long) > 0 and max(long) < 50


@pytest.mark.parametrize("texts", [[""], ["slow", " ?! "]])
def test_a_text_without_words(texts):
    with pytest.raises(ValueError, match="no words in the text"):
        Vocabulary.fit(TEXTS).encode(texts)


def test_one_string_is_not_a_list_of_texts():
    with pytest.raises(ValueError, match="put it into a list"):
        Vocabulary.fit(TEXTS).encode("slow")


def test_through_json():
    vocabulary = Vocabulary.fit(TEXTS, buckets=77)
    assert Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict()))) == vocabulary


@pytest.mark.parametrize("data", [{}, {"words": "ab", "buckets": 9}, {"words": ["a"], "buckets": "9"}])
def test_something_else_is_no_vocabulary(data):
    with pytest.raises(ValueError, match="vocabulary has 'words'"):
        Vocabulary.from_dict(data)
