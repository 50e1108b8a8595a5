"""What the syntax tree says about a model's Python, case by case; and that nothing of it is ever run."""

from pathlib import Path

import pytest

from tasks.python_code import code_block, fault, skeleton

GOOD = {
    "plain": "def double(x):\n    return 2 * x",
    "generator": "def firsts(rows):\n    for row in rows:\n        yield row[0]",
    "prints": "def greet(name):\n    print('hello', name)",
    "recursion with a way out": "def down(n):\n    return [] if n == 0 else [n] + down(n - 1)",
    "recursion after a test": "def down(n):\n    if n == 0:\n        return []\n    return [n] + down(n - 1)",
    "import": "import math\n\ndef root(x):\n    return math.isqrt(x)",
    "alias and star": "from itertools import *\n\ndef ends(rows):\n    return list(chain.from_iterable(rows))",
    "helper": "def twice(x):\n    return x + x\n\ndef four_times(x):\n    return twice(twice(x))",
    "own class": "class Bag:\n    def fill(self):\n        self.full = True\n\ndef filled(bag):\n    bag.fill()\n"
    "    return bag",
    "every kind of binding": (
        "def f(a, *rest, key=None, **more):\n    try:\n        with open(a) as file:\n            text = file.read()\n"
        "    except OSError as error:\n        return error, rest, key, more\n"
        "    return [line for line in text.splitlines() if (found := line.strip()) and found]"
    ),
    "match": "def kind(x):\n    match x:\n        case {'a': one, **others}:\n            return one, others\n"
    "        case [first, *_]:\n            return first\n    return None",
    "unused argument by name": "def first(_index, item):\n    return item",
    "async": "async def later(x):\n    return x",
    "odd escape": 'def pattern(text):\n    return text.split("\\d")',
}
BAD = [
    ("def broken(x:\n    return x", "syntax"),
    ("Sure! Here is the function you asked for.", "syntax"),
    ("def zero(x):\n    return x\x00", "syntax"),
    ("def deep(x):\n    return " + "(" * 5000 + "x" + ")" * 5000, "syntax"),
    ("", "no_function"),
    ("print(sum([1, 2]))", "no_function"),
    ("class Sum:\n    def add(self, x):\n        return x", "no_function"),
    ("def todo(x):\n    pass", "trivial_body"),
    ("def todo(x):\n    ...", "trivial_body"),
    ('def todo(x):\n    """Returns twice x."""', "trivial_body"),
    ("def todo(x):\n    return None", "trivial_body"),
    ("def todo(x):\n    raise NotImplementedError('later')", "trivial_body"),
    ("def good(x):\n    return x\n\ndef todo(x):\n    pass", "trivial_body"),
    ("def lost(x):\n    y = x + 1", "returns_nothing"),
    ("def early(x):\n    if x:\n        return", "returns_nothing"),
    ("def deaf(x):\n    return 1 + 1", "ignores_arguments"),
    ("def half_deaf(x, y):\n    return x + x", "ignores_arguments"),
    ("def down(n):\n    return down(n - 1) + 1", "endless_recursion"),
    ("def down(n):\n    if n < 0:\n        raise ValueError(n)\n    return down(n - 1) + 1", "endless_recursion"),
    ("def scale(x):\n    return x * factor", "undefined_name"),
    ("def root(x):\n    return math.sqrt(x)", "undefined_name"),
    ("def total(cart):\n    return cart.sum_of_prices()", "unknown_method"),
]


@pytest.mark.parametrize("name", GOOD)
def test_usable_code_has_no_fault(name: str) -> None:
    assert fault(GOOD[name]) == ""


@pytest.mark.parametrize(("code", "reason"), BAD, ids=[f"{number}-{reason}" for number, (_, reason) in enumerate(BAD)])
def test_unusable_code_says_why(code: str, reason: str) -> None:
    assert fault(code) == reason


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\ndef f(x):\n    return x\n```", "def f(x):\n    return x"),
        ("Sure:\n\n```py\nx = 1\n```\nIt sets x.\n```python\ny = 2\n```", "x = 1"),
        ("```\n\n    indented = 1\n\n```", "    indented = 1"),
        ("```Python\nstopped = 1\n", "stopped = 1"),
        ("```python\n", ""),
        ("def f(x):\n    return x", None),
        ("`inline`", None),
    ],
)
def test_the_first_block_is_taken(text: str, code: str | None) -> None:
    assert code_block(text) == code


def test_a_skeleton_sees_through_names_layout_and_comments() -> None:
    one = "def add(numbers, extra):\n    # add it\n    return [number + extra for number in numbers]"
    same = "def plus(xs, y):\n    return [\n        x + y for x in xs\n    ]"
    assert skeleton(one) == skeleton(same)
    for other in ("def add(xs, y):\n    return [x - y for x in xs]", "def add(xs, y):\n    return [y + x for x in xs]",
                  "def add(xs, y):\n    return [len(x) + y for x in xs]"):  # fmt: skip
        assert skeleton(one) != skeleton(other)
    assert skeleton("def f(x):\n    return min(x)") != skeleton("def f(x):\n    return max(x)")
    with pytest.raises(ValueError, match="no Python: 'def'"):
        skeleton("def")


def test_code_is_looked_at_and_never_run(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    code = f"open({str(trace)!r}, 'w').close()\n\ndef f(x=open({str(trace)!r}, 'w')):\n    return x"
    assert fault(code) == "" and skeleton(code)
    assert not trace.exists()
