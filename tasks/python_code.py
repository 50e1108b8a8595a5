"""What can be told about a model's Python without running it: its syntax tree alone is looked at.

    "Sure:\\n```python\\ndef f(x):\\n    return 2 * x\\n```"  →  "def f(x):\\n    return 2 * x"  →  ""  (no fault)

Code that a model wrote is never executed, imported or compiled here.
"""

import ast
import builtins
import io
import re
import types
import warnings
from collections.abc import Callable, Iterator

FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
Function = ast.FunctionDef | ast.AsyncFunctionDef
BRANCHES = (ast.If, ast.IfExp, ast.BoolOp, ast.While, ast.Try, ast.Match)
_OWN_TYPES = (str, bytes, int, float, complex, list, tuple, dict, set, frozenset, range, slice, io.TextIOWrapper,
              Exception, types.FunctionType, types.GeneratorType)  # fmt: skip
KNOWN_ATTRIBUTES = frozenset(name for kind in _OWN_TYPES for name in dir(kind))


def code_block(text: str) -> str | None:
    """The first fenced block's code, None where there is none; a block that nothing closes reaches to the end."""
    found = FENCE.search(text)
    return found.group(1).strip("\n").rstrip() if found else None


def fault(code: str) -> str:
    """The first reason why this is no usable solution, "" where none is seen."""
    tree = parsed(code)
    if tree is None:
        return "syntax"
    functions = [node for node in tree.body if isinstance(node, Function)]
    if not functions:
        return "no_function"
    return next((reason for reason, wrong in _CHECKS.items() if wrong(tree, functions)), "")


def parsed(code: str) -> ast.Module | None:
    """The syntax tree, None where the text is no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in a model's string is its own affair
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def skeleton(code: str) -> str:
    """Equal for programs that differ in names, layout and comments only. Raises ValueError for what is no Python."""
    tree = parsed(code)
    if tree is None:
        raise ValueError(f"no Python: {code[:80]!r}; check it with fault() first")
    own: dict[str, str] = {}
    bound = names_bound(tree)
    for node in ast.walk(tree):
        for place in ("id", "arg", "name"):
            name = getattr(node, place, None)
            if isinstance(name, str) and name in bound:
                setattr(node, place, own.setdefault(name, f"n{len(own)}"))
    return ast.dump(tree)


def names_bound(tree: ast.AST) -> set[str]:
    """Every name that the code itself gives a meaning, wherever that is."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, Function | ast.ClassDef | ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            found.add(node.name or "")
        elif isinstance(node, ast.MatchMapping):
            found.add(node.rest or "")
    return found


def _trivial(tree: ast.Module, functions: list[Function]) -> bool:
    """A function of which nothing but `pass`, `...`, a text or a constant result is left."""
    return any(all(_says_nothing(statement) for statement in function.body) for function in functions)


def _says_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Pass):
        return True
    if isinstance(statement, ast.Expr | ast.Return):
        return statement.value is None or isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Raise) and "NotImplemented" in ast.dump(statement)


def _returns_nothing(tree: ast.Module, functions: list[Function]) -> bool:
    """No function hands out or prints anything."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Return) and node.value is not None:
            return False
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return False
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            return False
    return True


def _ignores_arguments(tree: ast.Module, functions: list[Function]) -> bool:
    return any(
        argument not in ("self", "cls") and not argument.startswith("_") and argument not in set(_read(function))
        for function in functions
        for argument in _arguments(function)
    )


def _arguments(function: Function) -> list[str]:
    given = function.args
    return [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]


def _read(node: ast.AST) -> Iterator[str]:
    return (one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load))


def _endless_recursion(tree: ast.Module, functions: list[Function]) -> bool:
    return any(function.name in set(_read(function)) and not _has_way_out(function) for function in functions)


def _has_way_out(function: Function) -> bool:
    """Something in it decides, and some result comes without another call of itself."""
    if not any(isinstance(node, BRANCHES) for node in ast.walk(function)):
        return False
    results = [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value is not None]
    choices = [any(isinstance(node, ast.IfExp | ast.BoolOp) for node in ast.walk(result)) for result in results]
    return not results or any(choices) or any(function.name not in set(_read(result)) for result in results)


def _undefined_name(tree: ast.Module, functions: list[Function]) -> bool:
    bound = names_bound(tree)
    return "*" not in bound and not set(_read(tree)) <= bound | set(dir(builtins))


def _unknown_method(tree: ast.Module, functions: list[Function]) -> bool:
    """A method that no built-in type has, in code that has no other types."""
    if any(isinstance(node, ast.Import | ast.ImportFrom | ast.ClassDef) for node in ast.walk(tree)):
        return False
    return any(isinstance(node, ast.Attribute) and node.attr not in KNOWN_ATTRIBUTES for node in ast.walk(tree))


_CHECKS: dict[str, Callable[[ast.Module, list[Function]], bool]] = {
    "trivial_body": _trivial,
    "returns_nothing": _returns_nothing,
    "ignores_arguments": _ignores_arguments,
    "endless_recursion": _endless_recursion,
    "undefined_name": _undefined_name,
    "unknown_method": _unknown_method,
}
