"""An examination: one model's greedy answers to one half of the evaluation items.

Ground truth judges what can be checked. Open items have no truth: the reward model scores them, and where a baseline's
answers are given, says who wins.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import pyarrow as pa

from infra.artifacts import Artifact
from infra.errors import EmptyDataset
from infra.output import Outcome, Output
from models.engine import Result, SamplingParams
from tasks.configs.evaluate import EvaluateConfig
from tasks.generation import Ask, Writer, licence_of, open_engine, write_shards
from tasks.judges.ground_truth import verify
from tasks.judges.reward import Scorer
from tasks.rows import MESSAGES, PROVENANCE, SCHEMA_VERSION, make_row

Row = dict[str, Any]

ANSWER = pa.schema(
    [
        ("id", pa.string()), ("item_id", pa.string()), ("family", pa.string()), ("key", pa.string()),
        ("half", pa.string()), ("messages", MESSAGES), ("answer", pa.string()), ("finish_reason", pa.string()),
        ("passed", pa.bool_()), ("reward", pa.float32()), ("baseline_reward", pa.float32()), *PROVENANCE,
    ],
    metadata={"ratchet.schema": SCHEMA_VERSION},
)  # fmt: skip
"""One item's answer. `passed` is null on open items, the rewards on all others (and where nothing scores them)."""


def run(
    config: EvaluateConfig,
    output: Output,
    model: Artifact,
    evaluation_set: Artifact,
    reward_model: Artifact | None = None,
    baseline: Artifact | None = None,
) -> Outcome:
    """ANSWER rows, with accuracies by family, the mean reward and the win rate as metrics.

    Raises EmptyDataset where the half has no item of the asked families.
    """
    found = evaluation_set.rows()
    items = chosen_items(config, found)
    if not items:
        families = sorted({row["family"] for row in found if row["half"] == config.half})
        raise EmptyDataset(
            f"no item of the half {config.half!r} in the families {list(config.families)}: "
            f"{len(found)} items, families of that half {families}",
            "correct the examination's families",
        )
    scorer = Scorer(reward_model, config.resources) if reward_model else None
    opponent = baseline_rewards(baseline, reward_model, scorer)
    writer = Writer(open_engine(model, config.resources), output)
    provenance = {
        "source": "evaluation",
        "synthetic": True,
        "generator": model.fingerprint,
        "licence": licence_of(model),
    }
    examiner = Examiner(writer, config.max_tokens, scorer, opponent, provenance)
    write_shards(output, writer, items, config.shard_items, ANSWER, examiner.examine)
    rows = [row for shard in range(-(-len(items) // config.shard_items)) for row in output.read_shard(shard)]
    errors = sum(row["finish_reason"] == "error" for row in rows)
    counts = {"in": len(found), "kept": len(rows), "dropped:not_asked": len(found) - len(rows)}
    result = {"half": config.half, "unanswered": errors, "families": table_of(rows)}
    return Outcome(rows=len(rows), metrics=metrics_of(rows) | writer.metrics(), result=result, counts=counts)


def chosen_items(config: EvaluateConfig, items: Sequence[Row]) -> list[Row]:
    """The asked items of the half: families take turns, ordered by id, up to the limit."""
    families: defaultdict[str, list[Row]] = defaultdict(list)
    for item in sorted(items, key=lambda item: item["id"]):
        if item["half"] == config.half and (not config.families or item["family"] in config.families):
            families[item["family"]].append(item)
    ranked = [(place, name, item) for name, members in families.items() for place, item in enumerate(members)]
    return [item for _, _, item in sorted(ranked, key=lambda entry: entry[:2])][: config.max_items]


def baseline_rewards(
    baseline: Artifact | None, reward_model: Artifact | None, scorer: Scorer | None
) -> dict[str, float]:
    """Rewards of the baseline's open answers by item, scored anew where another reward model had scored them."""
    if baseline is None or reward_model is None or scorer is None:
        return {}
    comparable = baseline.manifest().inputs.get("reward_model") == reward_model.fingerprint
    opened = [row for row in baseline.rows() if row["passed"] is None]
    return {
        row["item_id"]: row["reward"]
        if comparable and row["reward"] is not None
        else scorer.score(row["messages"], row["answer"])["reward"]
        for row in opened
    }


@dataclass(frozen=True)
class Examiner:
    """Asks a model and judges its answers."""

    writer: Writer
    max_tokens: int
    scorer: Scorer | None
    opponent: Mapping[str, float]
    """Rewards of the baseline's answers by item."""
    provenance: Mapping[str, Any]

    def examine(self, items: Sequence[Row]) -> list[Row]:
        """ANSWER rows of a shard's items."""
        params = SamplingParams(temperature=0.0, max_tokens=self.max_tokens)
        results = self.writer.write([Ask(item["id"], item["messages"], params) for item in items])
        return [self.judge(item, result) for item, result in zip(items, results, strict=True)]

    def judge(self, item: Row, result: Result) -> Row:
        passed = verify(item["verifier"], result.text)
        reward = None
        if self.scorer is not None and passed is None:
            with self.writer.at_work():
                reward = self.scorer.score(item["messages"], result.text)["reward"]
        values = {
            **{name: item[name] for name in ("family", "key", "half", "messages")},
            "item_id": item["id"],
            "answer": result.text,
            "finish_reason": result.finish_reason,
            "passed": passed,
            "reward": reward,
            "baseline_reward": None if reward is None else self.opponent.get(item["id"]),
            **self.provenance,
        }
        return make_row(ANSWER, values, result.text, [item["id"]])


def metrics_of(rows: Sequence[Row]) -> dict[str, float]:
    """Accuracy on truth-judged items, overall and by family; mean reward and win rate on open ones, as fractions."""
    judged = [row for row in rows if row["passed"] is not None]
    rewards = [row["reward"] for row in rows if row["reward"] is not None]
    contests = [(row["reward"], row["baseline_reward"]) for row in rows if row["baseline_reward"] is not None]
    metrics = {"items": float(len(rows)), "judged_items": float(len(judged))}
    if judged:
        metrics["accuracy"] = mean(row["passed"] for row in judged)
        by_family = table_of(judged)
        metrics |= {f"accuracy/{name}": facts["passed"] / facts["judged"] for name, facts in by_family.items()}
    if rewards:
        metrics["reward_mean"] = mean(rewards)
    if contests:
        metrics["win_rate"] = mean(0.5 if ours == theirs else float(ours > theirs) for ours, theirs in contests)
    return metrics


def table_of(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Items, truth-judged items and passed ones by family."""
    table: dict[str, dict[str, int]] = {}
    for row in sorted(rows, key=lambda row: row["family"]):
        facts = table.setdefault(row["family"], {"items": 0, "judged": 0, "passed": 0})
        facts["items"] += 1
        facts["judged"] += row["passed"] is not None
        facts["passed"] += bool(row["passed"])
    return table
