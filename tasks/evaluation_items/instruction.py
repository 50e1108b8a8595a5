"""Verifiable instructions over topics that training never has: kinds that are trained, and kinds held out of it.

Half of the items of a trained kind are worded as in training, half in words that training never shows.
"""

import json
from collections.abc import Sequence
from itertools import count as numbers
from itertools import cycle
from random import Random

from tasks.configs.evaluation_set import EvaluationSetConfig
from tasks.evaluation_items import Half, Item, curated, evaluation_topics, halve, item_rng, register, take
from tasks.judges.ground_truth import verifier
from tasks.prompts import instructions
from tasks.prompts.instructions import Check, Use
from tasks.rows import canonical

DRAWS = 200
"""Draws that show all parameters of a kind."""


@register("instruction")
def trained_kinds(config: EvaluationSetConfig, half: Half, count: int) -> list[Item]:
    return _items(config, "instruction", config.trained_kinds, half, count, ("training", "evaluation"))


@register("held_out_instruction")
def held_out_kinds(config: EvaluationSetConfig, half: Half, count: int) -> list[Item]:
    return _items(config, "held_out_instruction", config.held_out_kinds, half, count, ("evaluation",))


def _items(
    config: EvaluationSetConfig, family: str, kinds: Sequence[str], half: Half, count: int, uses: Sequence[Use]
) -> list[Item]:
    """Kinds in turn, each walking through the half's topics in an order of its own, wordings of `uses` in turn."""
    rng = item_rng(config, family, half)
    topics = {kind: rng.sample(shared := halve(evaluation_topics(), half), len(shared)) for kind in kinds}
    checks = {kind: _checks(kind, half) for kind in kinds}
    items = []
    for number, kind in zip(numbers(), cycle(kinds), strict=False):
        turn = number // len(kinds)
        if len(items) == count or turn == len(topics[kind]):
            break
        items.append(_item(rng.choice(checks[kind]), topics[kind][turn], rng, uses[turn % len(uses)]))
    return take(items, count, family, half)


def _checks(kind: str, half: Half) -> list[Check]:
    """The half's share of the kind's parameters."""
    rng = Random(kind)
    drawn = {canonical(instructions.draw(kind, rng)) for _ in range(DRAWS)}
    return [json.loads(check) for check in halve(drawn, half)]


def _item(check: Check, topic: str, rng: Random, use: Use) -> Item:
    request = rng.choice(curated("requests")).format(topic=topic)
    asked = instructions.ask([check], request, rng, use)
    told_apart = canonical(check["params"]) if check["params"] else topic
    payload = {"checks": [*asked.checks], "plain": asked.plain}
    return Item(f"{check['kind']}/{told_apart}", asked.message, verifier("instruction", payload))
