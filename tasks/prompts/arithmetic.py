"""One-step arithmetic for word problems: what each operation's answer is."""

from collections.abc import Callable

SOLVE: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "share": lambda a, b: a // b,
}
