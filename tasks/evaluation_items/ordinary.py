"""Short factual and common-sense questions with checkable answers: what must not get worse."""

from tasks.configs.evaluation_set import EvaluationSetConfig
from tasks.evaluation_items import Half, Item, curated, halve, item_rng, register, take
from tasks.judges.ground_truth import verifier


@register("ordinary")
def ordinary(config: EvaluationSetConfig, half: Half, count: int) -> list[Item]:
    """Each group is halved by itself, so that both halves ask of everything."""
    items = []
    for group, questions in curated("ordinary").items():
        answers = {question: aliases for question, *aliases in questions}
        items += [_item(group, question, answers[question]) for question in halve(answers, half)]
    item_rng(config, "ordinary", half).shuffle(items)
    return take(items, count, "ordinary", half)


def _item(group: str, question: str, aliases: list[str]) -> Item:
    if aliases[0] == "number":
        checker = verifier("number", {"value": aliases[1]})
    else:
        checker = verifier("contains", {"any": aliases})
    return Item(f"{group}/{question}", f"{question} Answer in one short sentence.", checker)
