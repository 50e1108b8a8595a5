"""When a row is finished, and what its answer then is; the general rule is checked against a plain one."""

from collections.abc import Callable, Sequence
from random import Random

import pytest

from models.engine.interface import Completion, SamplingParams
from models.engine.rows import Ending, Row
from models.tokenizer import Tokenizer

END = 2  # <|im_end|>
SPECIAL = 1  # <|im_start|>, which leaves no text
PROMPT = (7, 8, 9)


@pytest.fixture
def make_row(make_tokenizer: Callable[..., Tokenizer]) -> Callable[..., Row]:
    tokenizer = make_tokenizer()
    hidden = frozenset(tokenizer.special_tokens.values())

    def make(stop: Sequence[str] = (), max_tokens: int = 1000, max_positions: int = 10_000) -> Row:
        ending = Ending(tokenizer, frozenset({END}), hidden, max_positions)
        return Row(PROMPT, SamplingParams(stop=stop, max_tokens=max_tokens), ending, 0)

    return make


def feed(row: Row, tokens: Sequence[int]) -> Completion:
    """The completion; what comes after the end must not be asked for."""
    for number, token in enumerate(tokens, start=1):
        if row.accept(token):
            assert row.completion is not None
            return row.completion
        assert row.completion is None and row.last_token == token and len(row.token_ids) == number
    raise AssertionError(f"the row did not end within {len(tokens)} tokens")


def tokens_of(row: Row, text: str) -> list[int]:
    return row.ending.tokenizer.encode(text)


def test_a_stop_token_ends_the_row_and_is_no_part_of_it(make_row: Callable[..., Row]) -> None:
    row = make_row()
    said = tokens_of(row, "well")
    assert feed(row, [*said, END, 9]) == Completion("well", tuple(said), "stop")
    assert feed(make_row(), [END]) == Completion("", (), "stop")


def test_a_limit_ends_the_row(make_row: Callable[..., Row]) -> None:
    row = make_row(max_tokens=3)
    said = tokens_of(row, "abcdef")
    assert feed(row, said) == Completion("abc", tuple(said[:3]), "length")
    full = make_row(max_positions=len(PROMPT) + 2)
    assert feed(full, said) == Completion("ab", tuple(said[:2]), "length")


@pytest.mark.parametrize(
    ("text", "stop", "left"),
    [("one. END two", ["END"], "one. "),
     ("hello", ["o"], "hell"),
     ("hello", ["llo"], "he"),  # one token spells "hell": its first letters stay in the text
     ("a → b", ["→"], "a "),  # three bytes, three tokens
     ("ab\n\nc", ["\n"], "ab"),  # one token spells both line breaks
     ("xxab", ["b", "ab"], "xx"),
     ("stop", ["s"], ""),
     ("x" * 300 + "END", ["END", "never"], "x" * 300)],
)  # fmt: skip
def test_a_stop_text_is_cut_off(make_row: Callable[..., Row], text: str, stop: list[str], left: str) -> None:
    row = make_row(stop)
    completion = feed(row, [*tokens_of(row, text), END])
    assert (completion.text, completion.finish_reason) == (left, "stop")
    kept = row.ending.tokenizer.decode(completion.token_ids)
    assert left.startswith(kept) and tuple(row.token_ids[: len(completion.token_ids)]) == completion.token_ids
    longer = row.ending.tokenizer.decode(row.token_ids[: len(completion.token_ids) + 1])
    assert not left.startswith(longer), "one token more would still have ended before the stop text"


def test_special_tokens_do_not_hide_a_stop_text(make_row: Callable[..., Row]) -> None:
    row = make_row(["END"])
    tokens = [*tokens_of(row, "ok EN"), *[SPECIAL] * 30, *tokens_of(row, "D")]
    assert feed(row, tokens) == Completion("ok ", tuple(tokens_of(row, "ok ")), "stop")


def test_a_stop_text_in_the_last_allowed_token_is_a_stop(make_row: Callable[..., Row]) -> None:
    row = make_row(["b"], max_tokens=2)
    assert feed(row, tokens_of(row, "ab")).finish_reason == "stop"


def test_a_stop_text_of_the_prompt_ends_nothing(make_row: Callable[..., Row]) -> None:
    row = make_row()
    spelled = row.ending.tokenizer.decode(PROMPT)
    row = make_row([spelled], max_tokens=4)
    assert feed(row, tokens_of(row, "abcd")).finish_reason == "length"


def naive(row: Row, tokens: Sequence[int], stops: Sequence[str]) -> tuple[str, str]:
    """Decode everything after each token and look for the first stop text."""
    for number, token in enumerate(tokens, start=1):
        if token == END:
            return row.ending.tokenizer.decode(tokens[: number - 1]), "stop"
        text = row.ending.tokenizer.decode(tokens[:number])
        places = [text.index(stop) for stop in stops if stop in text]
        if places:
            return text[: min(places)], "stop"
        if number == row.params.max_tokens:
            return text, "length"
    raise AssertionError("give an end")


def test_any_tokens_and_stop_texts_end_as_the_plain_rule_says(make_row: Callable[..., Row]) -> None:
    rng, ended = Random(5), set()
    alphabet = [*tokens_of(make_row(), "hellhe\n\n w ab→é한"), SPECIAL]
    pieces = ["h", "he", "ll", "ello", "\n", "\n\n", " w", "a", "ab", "→", "é", "é한", "한b", "never"]
    for _ in range(400):
        stops = rng.sample(pieces, rng.randint(1, 3))
        tokens = [rng.choice(alphabet) for _ in range(rng.randint(1, 30))]
        row = make_row(stops, max_tokens=rng.randint(1, 40))
        completion = feed(row, [*tokens, END])
        assert (completion.text, completion.finish_reason) == naive(row, [*tokens, END], stops), (tokens, stops)
        ended.add((completion.finish_reason, bool(completion.text)))
    assert ended >= {("length", True), ("stop", True), ("stop", False)}


def test_reserved_space_covers_prompt_and_answer(make_row: Callable[..., Row]) -> None:
    assert make_row(max_tokens=60).reserved == 64
    assert make_row(max_tokens=62).reserved == 128
    assert make_row(max_tokens=1000, max_positions=100).reserved == 128
