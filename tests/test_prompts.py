import math
import re
import time
from itertools import pairwise

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from variety import share

from ctrl.prompts import HIGHEST, Piece, escape, parse, plain, prompt_notes, simplified

many = settings(max_examples=share(200), deadline=None)
bits = st.sampled_from([*"()[]|: a🚀", "\\(", "\\)", "\\[", "\\]", "((", "))", ":1.2)", ":9)", ":nan)"])
anything = st.one_of(
    st.text(max_size=200),
    st.text("()[]\\:.,0159 -+enaif\n", max_size=60),
    st.lists(bits, max_size=40).map("".join),
)
words = st.text(st.characters(exclude_characters="()[]\\", exclude_categories=("Cs",)), min_size=1, max_size=12)
numbers = st.floats(0, HIGHEST, allow_nan=False)
SYNTAX = re.compile(r"\\[()\[\]]|:[^:()]*\)|\(\(|\[")  # wider than the grammar: what surely has none


def test_a_weight_is_a_number_after_a_colon_before_a_parenthesis():
    assert parse("a (red:1.2) ball") == (Piece("a ", 1), Piece("red", 1.2), Piece(" ball", 1))


def test_nested_weights_multiply():
    assert parse("((a:1.2) b:1.1)") == (Piece("a", 1.1 * 1.2), Piece(" b", 1.1))
    assert parse("(((a:0.5):0.5):2)c") == (Piece("a", 0.5), Piece("c", 1))


@pytest.mark.parametrize("number", ["0", "5", "2.", ".5", "+1.5", "1e-1", "-0", "0.50"])
def test_numbers_are_written_as_anyone_writes_them(number):
    assert parse(f"(a b:{number})c") == (Piece("a b", float(number)), Piece("c", 1))


@pytest.mark.parametrize("text", ["(a b: 1.2)c", "(a b:1.2 )c", "(a b:\t1.2\n)c", "(a b:  1.2  )c"])
def test_spaces_around_a_number_are_allowed(text):
    assert parse(text) == (Piece("a b", 1.2), Piece("c", 1))


def test_words_that_end_in_digits_may_be_weighed():
    assert parse("(2girls:2)") == (Piece("2girls", 2),)
    assert parse("(sd2:3)") == (Piece("sd2", 3),)
    assert parse("(blade runner 2049:1.3)") == (Piece("blade runner 2049", 1.3),)
    assert parse("(the year 2049:2.0)") == (Piece("the year 2049", 2),)
    assert parse("((a:1.2) in 4:3)") == (Piece("(", 1), Piece("a", 1.2), Piece(" in 4:3)", 1))


def test_doubled_parentheses_and_brackets_are_weights():
    assert parse("a ((very red)) ball") == (Piece("a ", 1), Piece("very red", 1.21), Piece(" ball", 1))
    assert parse("(((a)))") == parse("(a:1.331)")
    assert parse("((a:1.5))") == (Piece("a", 1.65),)
    assert parse("[a]") == (Piece("a", 1 / 1.1),)
    assert parse("[[a]]") == (Piece("a", round(1 / 1.21, 12)),)
    assert parse("[((a)) b]") == (Piece("a", 1.1), Piece(" b", 1 / 1.1))
    assert parse("(a ((b)) [c]:1.2)") == tuple(map(Piece, ("a ", "b", " ", "c"), (1.2, 1.452, 1.2, 1.090909090909)))
    assert parse(r"\[a\] \(\(b\)\)") == (Piece("[a] ((b))", 1),)
    with pytest.raises(ValueError, match="weight in the prompt"):
        parse("(" * 18 + "a" + ")" * 18)


def test_a_weight_of_one_is_none():
    assert parse("a (red:1.0) ball") == parse("a red ball") == (Piece("a red ball", 1),)


ORDINARY = [
    "",
    " ",
    "a red ball, on grass",
    "a (red) ball",
    "((masterpiece)",
    "((16:9)) ((a) b) ( (a))",
    "(()) [ ]",
    "[at 10:30]",
    "[cow|horse]",
    "a ) and ( b",
    "((((",
    "))))",
    ":1.2)",
    "(a:1.2",
    "(a:)",
    "(16:9)",
    "( 16:9 )",
    "(2.39:1)",
    "(4:3), wide",
    "(in 4:3)",
    "(a photograph in 16:9)",
    "(at 10:30)",
    "(a:1,2)",
    "(a:1.2.3)",
    "(a:\N{ARABIC-INDIC DIGIT ONE})",
    "(a:b)",
    "(bread:naan)",
    "(a :-)",
    "(:1.2)",
    "( \n:1.2)",
    "(:3)",
    "16:9",
    "[a:b:0.5]",
    "back\\slash \\\\ \\n \\",
    "a\0b\r\n\t c  d",
    "👩\u200d🚀 مرحبا \u202e e\u0301 \U0001d160",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_what_has_no_weight_is_text_as_it_stands(text):
    assert parse(text) == ((Piece(text, 1.0),) if text else ())
    assert plain(text) == text


def test_plain_parentheses_around_and_inside_a_group_stay():
    assert parse("(a (b (c):1.5) d)") == (Piece("(a ", 1), Piece("b (c)", 1.5), Piece(" d)", 1))
    assert parse("((a:1.5) b)") == (Piece("(", 1), Piece("a", 1.5), Piece(" b)", 1))
    assert parse("((:2):3)") == (Piece("(:2)", 3),)


def test_a_group_ends_at_its_own_parenthesis():
    assert parse("(a:b:1.5)") == (Piece("a:b", 1.5),)
    assert parse("( (a:2) (b:3)") == (Piece("( ", 1), Piece("a", 2), Piece(" ", 1), Piece("b", 3))
    assert parse("(a:2) b:3)") == (Piece("a", 2), Piece(" b:3)", 1))


def test_escaped_parentheses_are_text():
    assert parse(r"\(a:1.2\)") == (Piece("(a:1.2)", 1),)
    assert parse(r"(a \(b\):1.2)") == (Piece("a (b)", 1.2),)
    assert parse(r"(\(:1.2)") == (Piece("(", 1.2),)
    assert plain(r"(a:1.2\)") == "(a:1.2)"
    assert plain(r"\\(") == r"\("


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("(red ball:9)", "9"),
        ("(a:-1)", "-1"),
        ("(a:5.01)", "5.01"),
        ("(a:1e999)", "inf"),
        ("(a:nan)", "nan"),
        ("(a:inf)", "inf"),
        ("(a:-inf)", "-inf"),
        ("((a:9):0.1)", "9"),
        ("((a:2):3)", "6"),
        ("((a:5):5)" + " a" * 500, "25"),
        ("(a:" + "9" * 5000 + ")", "inf"),
    ],
)
def test_a_weight_out_of_bounds_is_refused_in_one_sentence(text, got):
    with pytest.raises(ValueError, match="weight in the prompt") as refused:
        parse(text)
    message = str(refused.value)
    assert f"got {got} at '(" in message
    assert "from 0 to 5" in message
    assert len(message) < 300
    assert message.endswith(".") and ". " not in message


@given(anything)
@many
@example("(" * 10_000)
@example("(a:1.1" * 3_000)
@example("(" * 4_000 + "a" + ":1)" * 4_000)
@example(":" + "1" * 20_000)
def test_parse_raises_nothing_but_value_error(text):
    try:
        pieces = parse(text)
    except ValueError as error:
        assert "weight in the prompt" in str(error)
        return
    assert "".join(piece.text for piece in pieces) == plain(text)
    assert all(piece.text and 0 <= piece.weight <= HIGHEST for piece in pieces)
    assert all(one.weight != other.weight for one, other in pairwise(pieces))


@given(anything)
@many
def test_a_prompt_without_the_syntax_is_itself(text):
    text = SYNTAX.sub("", text)
    while SYNTAX.search(text):
        text = SYNTAX.sub("", text)
    assert plain(text) == text


@given(anything)
@many
def test_an_escaped_text_comes_back_whole(text):
    assert parse(escape(text)) == ((Piece(text, 1.0),) if text else ())


@given(anything)
@many
@example("((a:1.2) (b:1.2):1.1)")
@example("(the year 2049:2.0)")
@example(r"\(16:9\) (a:1.0)")
def test_prompts_that_read_alike_have_one_spelling(text):
    try:
        pieces = parse(text)
    except ValueError:
        return
    assert parse(simplified(text)) == pieces
    assert simplified(simplified(text)) == simplified(text)


def test_a_prompt_without_weights_is_spelt_as_it_is():
    for text in ("a (red) ball", "a red ball", "", "back\\slash"):
        assert simplified(text) == text
    assert simplified(r"a \(red\) ball") == simplified("a (red) (ball:1)") == "a (red) ball"


@given(words, words, numbers, numbers)
@many
def test_weights_of_nested_groups_multiply(inner, outer, first, second):
    product = second if first == 1 else first if second == 1 else round(first * second, 12)
    assume(first * second <= HIGHEST and inner.strip() and not inner.strip().replace(".", "").isdecimal())
    prompt = f"(({escape(inner)}:{first!r}) x{outer}:{second!r})"
    expected = [Piece(inner, product), Piece(f" x{outer}", second)]
    if product == second:
        expected = [Piece(f"{inner} x{outer}", second)]
    assert parse(prompt) == tuple(expected)


@given(words.filter(lambda text: text.strip() and not text.strip().replace(".", "").isdecimal()), numbers)
@many
def test_a_weighted_text_comes_back_with_its_weight(text, weight):
    (piece,) = parse(f"({escape(text)}:{weight!r})")
    assert piece.text == text
    assert math.isclose(piece.weight, weight)


NOTED = [
    ("((masterpiece))", "'((masterpiece))' is read as (masterpiece:1.21)"),
    ("a (((very red))) ball", "'(((very red)))' is read as (very red:1.33)"),
    ("((a:1.5))", "'((a:1.5))' is read as (a:1.65)"),
    ("a [red] ball", "'[red]' is read as (red:0.909); for brackets as text write \\[ and \\]"),
    ("[[red]]", "'[[red]]' is read as (red:0.826); for brackets as text write \\[ and \\]"),
    *((text, f"{text!r} is read as text; only the prompt and negative change during a run, by [from:to:0.5] and "
       "[one|another]") for text in ("[a:b:0.5]", "[a:0.5]", "[a::10]", "[cow|horse]")),
    ("<lora:toy:0.8> a", "'<lora:toy:0.8>' is read as text; give it as loras=[ctrl.Lora('toy', 0.8)]"),
    ("<lora:toy:0.8:1.0>", "'<lora:toy:0.8:1.0>' is read as text; give it as loras=[ctrl.Lora('toy', 1.0, text=0.8)]"),
    ("<lyco:toy:0.8>", "'<lyco:toy:0.8>' is read as text; give it as loras=[ctrl.Lora('toy', 0.8)]"),
    ("<lora:toy:1:lbw=ALL>", "'<lora:toy:1:lbw=ALL>' is read as text; give it as loras=[ctrl.Lora('toy', weight)]"),
    ("withLora(toy, 0.8)", "'withLora(toy, 0.8)' is read as text; write <lora:name:0.8>"),
    ("(best:1.4, red:1.2)",
     "'(best:1.4, red:1.2)' has one weight, its last number; for two write two groups"),
    ("\uff08red:1.2\uff09 ball",
     "'\uff08red:1.2\uff09' is read as text; weights are written with ( ) and : as on an English keyboard"),
    ("(red\uff1a1.2) ball",
     "'(red\uff1a1.2)' is read as text; weights are written with ( ) and : as on an English keyboard"),
    ("a /* red */ ball", "'/* red */' is read as text; comments have no counterpart here"),
    ("<lora:toy>", "'<lora:toy>' is read as text; give it as loras=[ctrl.Lora('toy', 1)]"),
    ("<hypernet:toy:1>", "'<hypernet:toy:1>' is read as text; hypernet has no counterpart here"),
    ("a ball BREAK on grass", "'BREAK' is read as the end of a chunk; for the word write break"),
    ("a cat AND a dog", "'AND' is read as text; to combine prompts give each a part of the picture by ctrl.Region"),
    ("a, embedding:easy",
     "'embedding:easy' is read as text; the model has no such embedding; ctrl.load(..., embeddings=...) brings one"),
    ("a {red|blue} ball", "'{red|blue}' is read as text; write one recipe for each of its choices"),
    ("a __colour__ ball", "'__colour__' is read as text; wildcards have no counterpart here"),
    ("a (red:1,2) ball", "'(red:1,2)' is read as text; a weight's decimals follow a point"),
    ("a ball (red:1.2", "'(red:1.2' is read as text; a parenthesis is not closed"),
    ("a red++ ball", "'red++' is read as text; for emphasis write (words:1.2)"),
    ("a (very red)+ ball", "'(very red)+' is read as text; for emphasis write (words:1.2)"),
    ("a (very red)1.3 ball", "'(very red)1.3' is read as text; for emphasis write (words:1.2)"),
    ("a cat, BREAK, grass", "'BREAK' is read as the end of a chunk; for the word write break"),
    ("a {{red}} ball", "'{{red}}' is read as text; for emphasis write (words:1.2)"),
    ("Embedding:easy",
     "'Embedding:easy' is read as text; the model has no such embedding; ctrl.load(..., embeddings=...) brings one"),
    ("<embedding:easy>", "'<embedding:easy>' is read as text; write its word alone"),
    ("<segment:face>", "'<segment:face>' is read as text; segment has no counterpart here"),
    ("a cat --ar 16:9", "'--ar 16:9' is read as text; settings are arguments of the recipe, such as width, height, "
     "seed and negative"),
    ("cat::2", "'::2' is read as text; for emphasis write (words:1.2)"),
    ('("a", "b").and()', "').and(' is read as text; prompts are not combined by functions here"),
    ("a cat MASK(0 0.5, 0 1)", "'MASK(0 0.5, 0 1)' is read as text; for a part of the picture use ctrl.Region"),
    ("Negative prompt: blur", "'Negative prompt:' is read as text; give what follows as negative=..."),
    ("(blade runner 2049:2)",
     "'(blade runner 2049:2)' is read as text; two whole numbers are a ratio; for a weight give it a point, as in 2.0"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "note"), NOTED)
def test_syntax_of_other_programs_is_noted(text, note):
    assert prompt_notes(text) == (note,)
    assert prompt_notes(f"{text}, {text}")[0] == note or "not closed" in note


@pytest.mark.parametrize(
    "text",
    [
        "", "a red ball, on grass", "a (red) ball", "(red:1.2) ball", "((red:1.2) ball:1.1)", "(red: 1.2)", "(16:9)",
        r"\(\(red\)\) \[red\]", "break and BREAKFAST", "rock and roll", "HANDS, LAND", "a:b", "at 10:30", "5 < 6 > 4",
        "a smile :)", "snake_case __", "C-3PO -- a robot", "std::vector", "BREAKER", "a {red} ball", "x<y:z",
        "a well-known --", "A CAT AND A DOG", "A CAT, BREAK OF DAY", "1girl, 2boys", "embedding of a jewel",
        "(a photograph in 16:9)", "embedding:own.safetensors, (embedding:own:1.2)",
    ],
)  # fmt: skip
def test_an_ordinary_prompt_is_not_noted(text):
    assert prompt_notes(text, ["own"]) == ()


@given(anything)
@many
@example("(" * 10_000)
@example("[" * 20_000)
@example("((" * 4_000 + "a" + "))" * 4_000)
@example("(a:1" * 5_000)
@example("(" + "1" * 19_000)
@example("__" * 10_000)
@example("embedding:" * 2_000)
def test_notes_are_sentences_about_how_it_is_read(text):
    try:
        parse(text)
    except ValueError:
        return
    for note in prompt_notes(text):
        assert " read as " in note


@pytest.mark.parametrize(
    "text",
    [
        "(" * 20_000,
        "[" * 20_000,
        "(a:1" * 5_000,
        "a" * 20_000,
        "{|" * 10_000,
        "((a" * 6_000,
        "[:" * 10_000,
        "[(a" * 6_000,
    ],
)
def test_notes_of_a_long_prompt_take_no_time(text):
    started = time.perf_counter()
    prompt_notes(text)
    assert time.perf_counter() - started < 2
