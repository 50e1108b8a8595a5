"""Rows from other inputs that families draw from: all of a few, a draw of many that no order changes."""

import pytest

from tasks.rows import TEXT, make_row
from tasks.write_prompts import drawn


@pytest.fixture
def pages():
    return [make_row(TEXT, {"text": f"page {number}"}, number) for number in range(50)]


def test_a_few_rows_come_all_and_in_order(give_rows, pages):
    two = (give_rows("first", pages[:20], TEXT), give_rows("second", pages[20:], TEXT))
    assert drawn(two, 50, "seed") == pages


def test_of_many_a_draw_is_made_by_ids_alone(give_rows, pages):
    there, back = give_rows("there", pages, TEXT), give_rows("back", pages[::-1], TEXT)
    found = drawn(there, 10, "seed")
    assert len(found) == 10 and found == drawn(back, 10, "seed")
    assert {row["id"] for row in found} != {row["id"] for row in drawn(there, 10, "another seed")}
    assert {row["id"] for row in found} != {row["id"] for row in pages[:10]}
