"""What Python files are about, told from their syntax trees."""

import pytest

from tasks.mined_keywords import Mined, keywords_of, mine, seed_files, split_name, vocabulary
from tasks.python_code import parsed

FIRST = """
import os.path
import numpy as np
from collections import Counter
from . import sibling
from .own import thing

class ShoppingCart:
    def total_price(self, items):
        self._tax = os.path.getsize("x")
        return sum(item.price for item in items) + helper(np.array(items)) + len(Counter(items))

def helper(xqz_temperature):
    return sorted(xqz_temperature)
"""


def words_of(code: str) -> set[str]:
    tree = parsed(code)
    assert tree is not None
    return keywords_of(tree, vocabulary())


def test_imports_calls_and_real_words_of_names() -> None:
    found = words_of(FIRST)
    assert {"numpy", "collections"} <= found  # imports, by their top-level module
    assert {"sum", "sorted", "array", "Counter", "getsize"} <= found  # calls
    assert {"shopping", "cart", "total", "price", "items", "temperature"} <= found  # parts of names
    assert not found & {"np", "os", "helper", "xqz", "sibling", "own", "self", "_tax", "total_price", "ShoppingCart"}


def test_a_files_own_functions_are_not_what_it_calls() -> None:
    assert "zblorp" not in words_of("def zblorp(): pass\nzblorp()")
    assert "zblorp" in words_of("zblorp()") and "zblorp" in words_of("from x import zblorp\nzblorp()")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("total_price", ["total", "price"]),
        ("maxHTTPRetries", ["max", "http", "retries"]),
        ("ShoppingCart2", ["shopping", "cart"]),
        ("__init__", ["init"]),
        ("x", ["x"]),
        ("LOWER_CASE", ["lower", "case"]),
        ("_", []),
    ],
)
def test_names_are_split_at_underscores_and_humps(name: str, parts: list[str]) -> None:
    assert split_name(name) == parts


def test_document_frequency_decides_and_broken_files_are_counted() -> None:
    files = [
        "import json\nimport csv\n",
        "def broken(:\n",
        "import csv\ncsv.reader(csv.reader)",
        "import json, csv",
        "\0",
    ]
    assert mine(files, 2) == ([Mined("csv", 3, 0), Mined("json", 2, 0)], 2)
    assert mine(files, 1)[0][-1] == Mined("reader", 1, 2)
    assert mine([], 1) == ([], 0)


def test_the_projects_own_code_has_keywords() -> None:
    found, skipped = mine(seed_files(), 2)
    assert skipped == 0 and {"sorted", "word", "split"} <= {mined.text for mined in found} and len(found) >= 20
    assert found == sorted(found, key=lambda mined: (-mined.files, mined.text))
