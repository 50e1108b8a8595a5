"""Requests without a single right answer: for the mean reward and the win rate against the generator."""

from tasks.configs.evaluation_set import EvaluationSetConfig
from tasks.evaluation_items import Half, Item, curated, item_rng, register, take


@register("open")
def open_ended(config: EvaluationSetConfig, half: Half, count: int) -> list[Item]:
    """Every second request of each group goes to the development half."""
    requests = [
        Item(f"{group}/{request}", f"{request} Keep it short.", None)
        for group, asked in curated("open_ended").items()
        for request in (asked[::2] if half == "dev" else asked[1::2])
    ]
    item_rng(config, "open", half).shuffle(requests)
    return take(requests, count, "open", half)
