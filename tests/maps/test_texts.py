"""Words are found by their letters, on the tokens that were read."""

import pytest

from ctrl.maps import Text

#       0         1         2         3
PLAIN = "a red ball, a catball and a Red ball"
TOKENS = [
    (1, 0, 1), (2, 2, 5), (3, 6, 10), (4, 10, 11), (5, 12, 13), (6, 14, 17), (7, 17, 21),
    (8, 22, 25), (9, 26, 27), (10, 28, 31), (80, 32, 36),
]  # fmt: skip
TEXT = Text.of(PLAIN, TOKENS)


@pytest.mark.parametrize(
    ("word", "occurrence", "positions"),
    [
        ("red", 0, (2,)),
        ("red", 1, (10,)),
        ("ball", 1, (80,)),  # in the second chunk; the ball of "catball" is none
        ("CATBALL", 0, (6, 7)),
        ("red  ball", 1, (10, 80)),
        ("ball,", 0, (3, 4)),
        (",", 0, (4,)),
    ],
)
def test_a_word_is_all_its_pieces_and_nothing_else(word, occurrence, positions):
    found = TEXT.find(word, occurrence)
    assert TEXT.between(found.start, found.end) == positions


@pytest.mark.parametrize(
    ("word", "occurrence", "says"),
    [
        ("cat", 0, "'cat' is not in .*; its words are a, red, ball, catball, and, Red"),
        ("ball", 2, "'ball' is there 2 times, and occurrences count from 0; got 2"),
        ("ball", -1, "got -1"),
        (" ", 0, "a word must have letters"),
    ],
)
def test_a_word_that_is_not_there_is_named(word, occurrence, says):
    with pytest.raises(KeyError, match=says):
        TEXT.find(word, occurrence)


def test_a_word_that_was_cut_says_so():
    with pytest.raises(KeyError, match="'ball' was cut"):
        Text.of(PLAIN, TOKENS[:-1]).find("ball", 1)


def test_words_know_which_of_their_equals_they_are():
    words = [(word.text, word.occurrence) for word in TEXT.words]
    assert words == [
        ("a", 0),
        ("red", 0),
        ("ball", 0),
        ("a", 1),
        ("catball", 0),
        ("and", 0),
        ("a", 2),
        ("Red", 1),
        ("ball", 1),
    ]


def test_chosen_words_are_kept_wherever_they_occur():
    assert TEXT.positions(None) == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 80)
    assert TEXT.positions(["ball", "green"]) == (3, 80)
    assert TEXT.positions(["red ball"]) == (2, 3, 10, 80)


@pytest.mark.parametrize("asked", [3, None, ("ball", "1"), (1, 0)])
def test_what_is_no_word_is_refused_in_a_sentence(asked):
    word, occurrence = asked if isinstance(asked, tuple) else (asked, 0)
    with pytest.raises(TypeError, match=r"a word is asked by its letters, as in attention\['shirt'\]"):
        TEXT.find(word, occurrence)
