"""One-step word problems whose answer a program computes; wordings that training does not use."""

from random import Random

from tasks.configs.evaluation_set import EvaluationSetConfig
from tasks.evaluation_items import Half, Item, curated, halve, item_rng, register, take
from tasks.judges.ground_truth import verifier
from tasks.prompts.arithmetic import SOLVE

NAMES = ("Ivo", "Lena", "Tariq", "Wanda", "Yuki", "Bruno")


@register("maths")
def maths(config: EvaluationSetConfig, half: Half, count: int) -> list[Item]:
    """Operations in turn; the halves share no pair of numbers in any operation."""
    rng = item_rng(config, "maths", half)
    templates = curated("maths")
    pairs = [rng.sample(mine := halve(_pairs(operation), half), len(mine)) for operation in templates]
    items = [
        _item(operation, pair, templates[operation], rng)
        for turn in zip(*pairs, strict=False)
        for operation, pair in zip(templates, turn, strict=True)
    ]
    return take(items, count, "maths", half)


def _pairs(operation: str) -> list[str]:
    """Pairs "a b" with a > b, small enough for a pupil's head."""
    if operation == "share":
        return [f"{quotient * b} {b}" for b in range(2, 7) for quotient in range(3, 10)]
    largest = 10 if operation == "multiply" else 20
    return [f"{a} {b}" for a in range(4, largest + 1) for b in range(2, a)]


def _item(operation: str, pair: str, templates: list[str], rng: Random) -> Item:
    a, b = (int(number) for number in pair.split())
    problem = rng.choice(templates).format(name=rng.choice(NAMES), a=a, b=b)
    answer = verifier("number", {"value": str(SOLVE[operation](a, b))})
    return Item(f"{operation}/{pair}", f"{problem} Answer in one sentence with the final number.", answer)
