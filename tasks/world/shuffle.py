"""A control: conversations whose last answers are dealt out anew, so that their form stays and their content goes."""

import random

from infra.artifacts import Artifact
from infra.errors import EmptyDataset
from infra.output import Outcome, Output
from tasks.configs.world import ShuffleAnswersConfig
from tasks.rows import DIALOGUE, make_row, row_seed


def run(config: ShuffleAnswersConfig, output: Output, dialogues: Artifact) -> Outcome:
    """Every row keeps its prompt and gets the last answer of another row, by a rotation of a shuffled order."""
    rows = dialogues.rows()
    if len(rows) < 2:
        raise EmptyDataset(f"{len(rows)} rows, and shuffling answers takes two", "ask for more rows")
    order = list(range(len(rows)))
    random.Random(row_seed(output.fingerprint, "order")).shuffle(order)
    dealt = {order[place]: order[place - 1] for place in range(len(order))}
    shuffled = []
    for index, row in enumerate(rows):
        other = rows[dealt[index]]
        messages = [*row["messages"][:-1], other["messages"][-1]]
        values = {name: value for name, value in row.items() if name not in ("id", "parents")}
        values |= {"messages": messages, "source": "shuffled"}
        shuffled.append(make_row(DIALOGUE, values, messages, [row["id"], other["id"]]))
    output.write_shard(0, shuffled, DIALOGUE)
    return Outcome(rows=len(shuffled), counts={"in": len(rows), "kept": len(shuffled)})
