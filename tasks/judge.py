"""Judging: answers get five attributes and a reward, and the judges are measured against one another.

Ground truth's verdicts came with the answers. The reward model scores all open ones, and a sample of those that truth
decides on. The LLM compares a sample of pairs in both orders. judges.json tells how far each can be trusted: agreement
by family, flips, bias for length and seat.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from statistics import mean
from typing import Any

from infra.artifacts import Artifact
from infra.errors import EmptyDataset
from infra.output import Outcome, Output
from models.engine import Generator
from tasks.configs.judging import JudgingConfig
from tasks.engines.abilities import Meter
from tasks.generation import open_engine
from tasks.judges.base import GROUND_TRUTH, LLM, REWARD_MODEL, GroundTruthJudge, Judge, Pair, Verdict, agreement
from tasks.judges.llm import LLMJudge
from tasks.judges.reward import RewardJudge, Scorer
from tasks.rows import RESPONSE
from tasks.streams import Source, stream

JUDGES: dict[str, type[Judge]] = {GROUND_TRUTH: GroundTruthJudge, REWARD_MODEL: RewardJudge, LLM: LLMJudge}

Row = dict[str, Any]
Verdicts = dict[int, Verdict]
"""A judge's verdicts by the place of the pair."""


def run(
    config: JudgingConfig,
    output: Output,
    responses: Source,
    reward_model: Artifact,
    generator: Artifact,
) -> Outcome:
    """The scored RESPONSE rows, llm_verdicts.json and judges.json. Raises EmptyDataset where there is no answer."""
    rows = [*stream(responses)]
    if not rows:
        raise EmptyDataset("no answer to judge: the responses stage made 0 rows", "ask for more prompts or samples")
    scored = score_rows(config, output, rows, reward_model)
    opened, checked = pairs_of(scored, config.seed)
    output.say(f"{len(opened)} pairs of open and {len(checked)} of checked prompts for the judges")
    meters: list[Meter] = []

    def open_judge() -> Generator:
        meters.append(Meter(open_engine(generator, config.resources)))
        return meters[-1].engine

    judges = {name: judge(config, open_judge) for name, judge in JUDGES.items()}
    pairs, verdicts = [*opened, *checked], compare(config, judges, opened, checked)
    report = report_of(judges, pairs, verdicts)
    output.write_json("judges.json", report)
    output.write_json("llm_verdicts.json", verdict_rows(pairs, verdicts[LLM]))
    for name, facts in report["judges"].items():
        if not facts.get("consistent", facts.get("decided")):
            reason = f": {facts['silence']}" if facts.get("silence") else ""
            output.say(f"judge {name}: no verdict on {facts['pairs']} pairs{reason}")
    return Outcome(
        rows=len(scored),
        counts={"in": len(rows), "kept": len(scored)},
        metrics=metrics_of(scored, report) | {name: value for one in meters for name, value in one.metrics().items()},
        result={"agreement": report["agreement"]},
    )


def score_rows(config: JudgingConfig, output: Output, rows: Sequence[Row], reward_model: Artifact) -> list[Row]:
    """Rows with the reward model's scores where it is asked, shard by shard; finished shards are read back."""
    scored: list[Row] = []
    scorer, measured = Scorer(reward_model, config.resources), measured_prompts(config, rows)
    for shard, start in enumerate(range(0, len(rows), config.shard_rows)):
        if not output.has_shard(shard):
            part: list[Row] = []
            for row in rows[start : start + config.shard_rows]:
                asked = row["passed"] is None or row["prompt_id"] in measured
                part.append(row | scorer.score(row["prompt"], row["response"]) if asked else row)
                output.progress(start + len(part), len(rows), "answers")
            output.write_shard(shard, part, RESPONSE)
        scored += output.read_shard(shard)
    return scored


def measured_prompts(config: JudgingConfig, rows: Iterable[Row]) -> set[str]:
    """Prompts of checked answers that differ in ground truth, up to the configured number, in a seeded order."""
    truths: defaultdict[str, set[bool | None]] = defaultdict(set)
    for row in rows:
        truths[row["prompt_id"]].add(row["passed"])
    telling = [prompt for prompt, found in truths.items() if found == {True, False}]
    return {*sorted(telling, key=lambda prompt: _draw(config.seed, prompt))[: config.truth_prompts]}


def pairs_of(rows: Iterable[Row], seed: int) -> tuple[list[Pair], list[Pair]]:
    """One pair of different answers per prompt: of open prompts, and of those that truth checks.

    The latter are a passing and a failing answer. The prompts' order and who is first are drawn from the seed.
    """
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: _draw(seed, row["id"])):
        groups[row["prompt_id"]].append(row)
    opened: list[Pair] = []
    checked: list[Pair] = []
    for prompt in sorted(groups, key=lambda prompt: _draw(seed, prompt)):
        for first, second in combinations(groups[prompt], 2):
            truth = {first["passed"], second["passed"]}
            if truth in ({None}, {True, False}) and first["response"] != second["response"]:
                (opened if truth == {None} else checked).append(Pair(first, second))
                break
    return opened, checked


def _draw(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}/{text}".encode()).digest()


def compare(
    config: JudgingConfig, judges: Mapping[str, Judge], opened: Sequence[Pair], checked: Sequence[Pair]
) -> dict[str, Verdicts]:
    """Every judge's verdicts on open, then checked pairs; costly judges see the configured numbers of each."""
    pairs, start = [*opened, *checked], len(opened)
    sample = [*range(len(opened[: config.llm_pairs])), *range(start, start + len(checked[: config.llm_truth_pairs]))]
    found = {}
    for name, judge in judges.items():
        places = sample if judge.costly else [*range(len(pairs))]
        found[name] = dict(zip(places, judge.compare([pairs[place] for place in places]), strict=True))
    return found


def report_of(judges: Mapping[str, Judge], pairs: Sequence[Pair], verdicts: Mapping[str, Verdicts]) -> dict[str, Any]:
    """Each judge's own calibration, and how often two judges agree, overall and by family."""
    calibration = {
        name: judge.calibrate([pairs[place] for place in verdicts[name]], [*verdicts[name].values()])
        for name, judge in judges.items()
    }
    table = {
        f"{one}/{other}": agree_by_family(pairs, verdicts[one], verdicts[other])
        for one, other in combinations(verdicts, 2)
    }
    return {"judges": calibration, "agreement": table}


def agree_by_family(pairs: Sequence[Pair], one: Verdicts, other: Verdicts) -> dict[str, Any]:
    places = sorted(one.keys() & other.keys())
    families = sorted({pairs[place].first["family"] or "" for place in places})
    members = {name: [place for place in places if (pairs[place].first["family"] or "") == name] for name in families}
    groups = {"all": places, **members}
    table = {name: agreement([one[i] for i in group], [other[i] for i in group]) for name, group in groups.items()}
    return {name: numbers for name, numbers in table.items() if numbers["pairs"] or name == "all"}


def verdict_rows(pairs: Sequence[Pair], verdicts: Verdicts) -> list[dict[str, Any]]:
    """The LLM's verdicts by the answers' ids; winner and loser are null where the orders disagree."""
    rows = []
    for place, verdict in verdicts.items():
        ids = (pairs[place].first["id"], pairs[place].second["id"])
        winner, loser = {"first": ids, "second": ids[::-1], None: (None, None)}[verdict.choice]
        rows.append({"prompt_id": pairs[place].first["prompt_id"], "first": ids[0], "second": ids[1], "winner": winner,
                     "loser": loser, "consistent": verdict.choice is not None, **verdict.detail})  # fmt: skip
    return rows


def metrics_of(rows: Sequence[Row], report: Mapping[str, Any]) -> dict[str, float]:
    """What the tracker plots; a judge without verdicts has no metric."""
    truths = [row["passed"] for row in rows if row["passed"] is not None]
    rewards = [row["reward"] for row in rows if row["reward"] is not None]
    facts = {
        "reward_mean": mean(rewards) if rewards else None,
        "passed_share": mean(truths) if truths else None,
        "reward_model_accuracy": report["agreement"][f"{GROUND_TRUTH}/{REWARD_MODEL}"]["all"]["agree"],
        "llm_reward_model_agreement": report["agreement"][f"{REWARD_MODEL}/{LLM}"]["all"]["agree"],
        "llm_flip_rate": report["judges"][LLM].get("flip_rate"),
        "llm_first_seat_share": report["judges"][LLM].get("first_seat_share"),
    }
    return {name: float(value) for name, value in facts.items() if value is not None}
