"""The evaluation set: questions fixed by rule and by hand, written by no generator, in two halves that share no key."""

import importlib
import pkgutil
from typing import Any

from infra.errors import InputError
from infra.output import Outcome, Output
from tasks import evaluation_items
from tasks.configs.evaluation_set import EvaluationSetConfig
from tasks.evaluation_items import MAKERS, Half, Item
from tasks.rows import ITEM, make_row

for _module in pkgutil.iter_modules(evaluation_items.__path__):
    importlib.import_module(f"{evaluation_items.__name__}.{_module.name}")


def run(config: EvaluationSetConfig, output: Output) -> Outcome:
    """One shard, the gate half after the development half. Raises InputError for a family without enough items."""
    rows = [*half_rows(config, "dev"), *half_rows(config, "gate")]
    output.write_shard(0, rows, ITEM)
    judged = sum(row["half"] == "gate" and row["verifier"] is not None for row in rows)
    return Outcome(
        rows=len(rows),
        counts={"kept": len(rows)},
        metrics={"gate_items_with_truth": judged},
        result={"licences": ["Apache-2.0"]},
    )


def half_rows(config: EvaluationSetConfig, half: Half) -> list[dict[str, Any]]:
    counts: dict[str, int] = getattr(config, half)
    if unknown := sorted(set(counts) - set(MAKERS)):
        raise InputError(f"no evaluation family {', '.join(unknown)}", f"families: {', '.join(sorted(MAKERS))}")
    return [
        _row(family, half, item) for family, count in counts.items() for item in MAKERS[family](config, half, count)
    ]


def _row(family: str, half: Half, item: Item) -> dict[str, Any]:
    messages = [{"role": "user", "content": item.request}]
    values = {
        "family": family,
        "key": item.key,
        "half": half,
        "messages": messages,
        "verifier": item.verifier,
        "source": f"evaluation_items/{family}",
        "synthetic": False,
        "generator": "",
        "licence": "Apache-2.0",
    }
    return make_row(ITEM, values, {"family": family, "messages": messages, "verifier": item.verifier})
