"""Calls as models write them, well and badly."""

import json

import pytest

from tasks.judges.ground_truth import verifier, verify
from tasks.judges.verifiers.function_call import parse_call

TABLE = verifier("function_call", {"name": "book_table", "arguments": {"restaurant": "Luigi's", "guests": 4}})
CALL = '<functioncall> {"name": "book_table", "arguments": {"restaurant": "Luigi\'s", "guests": 4}}'


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (CALL, True),
        (f"Sure!\n{CALL} <|endoftext|>", True),
        (CALL.replace(" {", "{", 1).replace(", ", ",\n  ") + "</functioncall>", True),
        (CALL.replace("<functioncall> ", "<functioncall>\n```json\n") + "\n```", True),
        (CALL.replace("4", '"4"').replace("Luigi's", " luigi’s "), True),
        (CALL.replace("4", "4.0"), True),
        (CALL.replace('{"restaurant', "'{\"restaurant").replace("}}", "}'}"), True),
        (CALL.replace("4", "5"), False),
        (CALL.replace("4", "true"), False),
        (CALL.replace("book_table", "book_room"), False),
        (CALL.replace("book_table", "Book_Table"), False),
        (CALL.replace('"guests": 4', '"guests": 4, "date": "today"'), False),
        (CALL.replace(', "guests": 4', ""), False),
        (CALL.removeprefix("<functioncall> "), False),
        (CALL[:-1], False),
        (CALL + CALL, False),
        (CALL + "\nHere's a list of functions that can be used to book a table:", False),
        ('<functioncall> ["book_table", 4]', False),
        ('<functioncall> {"name": "book_table"}', False),
        ('<functioncall> {"name": "book_table", "arguments": "four"}', False),
        ("I have booked a table for 4 at Luigi's.", False),
        ("", False),
    ],
)
def test_a_call_is_right_or_wrong(answer: str, verdict: bool) -> None:
    assert verify(TABLE, answer) is verdict


def test_arguments_are_compared_by_type() -> None:
    wanted = {"name": "f", "arguments": {"on": True, "days": ["Monday", 2], "note": None}}
    call = verifier("function_call", wanted)
    told = '<functioncall> {"name": "f", "arguments": %s}'
    assert verify(call, told % '{"on": true, "days": ["monday", "2"], "note": null}') is True
    assert verify(call, told % '{"on": "true", "days": ["Monday", 2.0], "note": null}') is True
    for wrong in ({"on": 1}, {"on": "yes"}, {"days": [2, "Monday"]}, {"days": ["Monday"]}, {"note": ""}):
        assert verify(call, told % json.dumps({**wanted["arguments"], **wrong})) is False


def test_a_call_without_arguments() -> None:
    assert verify(verifier("function_call", {"name": "now", "arguments": {}}), '<functioncall> {"name": "now"}') is True
    assert parse_call('<functioncall> {"name": 3, "arguments": {}}') is None


def test_where_no_function_fits_words_are_wanted() -> None:
    none = verifier("function_call", {"name": None})
    assert verify(none, "None of my functions does that, but wolves hunt at night.") is True
    assert verify(none, CALL) is False
    assert verify(none, CALL.removeprefix("<functioncall> ")) is False
    assert verify(none, " ") is False


def test_one_name_among_several() -> None:
    check = verifier("named_only", {"any": ["Emma"], "others": ["Dune", "The Hobbit"]})
    assert verify(check, "It is Emma, with 380 pages.") is True
    assert verify(check, "Dune") is False
    assert verify(check, "Emma has more pages than Dune.") is None
    assert verify(check, "") is False
