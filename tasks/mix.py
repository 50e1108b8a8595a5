"""The supervised set: kept dialogues, verified answers, replay, human rows, and a carry-over of code.

Verified answers are what the model can learn beyond itself: each passed its ground-truth check, sometimes with an aid,
and training sees the prompt without the aid. Replay is the model's own best-rewarded ordinary answers, so that what it
could do stays. The share of synthetic rows is counted from the rows' own provenance, never assumed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from infra.artifacts import Artifact
from infra.errors import EmptyDataset, InputError
from infra.output import Outcome, Output
from tasks.answer_checks import runs_in_circles
from tasks.configs.mix import MixConfig
from tasks.rows import ATTRIBUTES, DIALOGUE, make_row, row_seed, synthetic_share
from tasks.selection import draw

Row = dict[str, Any]
Source = Artifact | tuple[Artifact, ...] | None


def run(
    config: MixConfig,
    output: Output,
    dialogues: Source = None,
    judged: Source = None,
    code: Source = None,
    human: Source = None,
) -> Outcome:
    """DIALOGUE rows from DIALOGUE rows (`dialogues`, `code`, `human`) and scored RESPONSE rows (`judged`), shuffled.

    Raises InputError where the code that the setting asks for is missing, EmptyDataset where no row comes out.
    """
    responses = rows_of(judged)
    dropped: Counter[str] = Counter()
    found = {
        "dialogues": draw(rows_of(dialogues), config.seed, config.max_dialogues),
        "verified": draw(verified(responses, dropped), config.seed, config.max_verified),
        "human": draw(rows_of(human), config.seed, config.max_human),
        "replay": replayable(responses, dropped),
        "code": draw(rows_of(code), config.seed, config.max_code),
    }
    parts = proportion(config, found)
    rows = [row for part in parts.values() for row in part]
    mixed = sorted(rows, key=lambda row: row_seed(str(config.seed), row["id"]))
    total = sum(len(rows_of(source)) for source in (dialogues, judged, code, human))
    if not mixed:
        raise empty(total, dropped)
    for shard, start in enumerate(range(0, len(mixed), config.shard_rows)):
        output.write_shard(shard, mixed[start : start + config.shard_rows], DIALOGUE)
    output.progress(len(mixed), len(mixed), "rows")
    return outcome(config, parts, mixed, total, dropped)


def outcome(
    config: MixConfig, parts: Mapping[str, Sequence[Row]], mixed: Sequence[Row], total: int, dropped: Counter[str]
) -> Outcome:
    """What the set is made of: rows and synthetic rows by part, the shares, and why other rows are not in it."""
    share = synthetic_share(mixed)
    unused = total - len(mixed) - sum(dropped.values())
    counts = {"in": total, "kept": len(mixed), **{f"dropped:{reason}": n for reason, n in dropped.items()}}
    result = {
        "parts": {name: len(rows) for name, rows in parts.items()},
        "synthetic": {name: sum(bool(row["synthetic"]) for row in rows) for name, rows in parts.items()},
        "synthetic_share": share,
        "code_share": {"asked": config.code_share, "got": len(parts["code"]) / len(mixed)},
        "replay_share": {"asked": config.replay_share, "got": len(parts["replay"]) / len(mixed)},
        "families": dict(sorted(Counter(row["family"] or "" for row in mixed).items())),
    }
    metrics = {"synthetic_share": share, **{f"rows/{name}": float(len(rows)) for name, rows in parts.items()}}
    return Outcome(rows=len(mixed), metrics=metrics, result=result, counts=counts | {"dropped:over_limit": unused})


def rows_of(source: Source) -> list[Row]:
    artifacts = () if source is None else source if isinstance(source, tuple) else (source,)
    return [row for artifact in artifacts for row in artifact.iter_rows()]


def empty(total: int, dropped: Mapping[str, int]) -> EmptyDataset:
    lost = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count) or "none came in"
    return EmptyDataset(
        f"no row for the mix out of {total}: {lost}",
        "raise mix.max_dialogues or mix.max_verified, or loosen the filters of the stages before",
    )


def verified(responses: Iterable[Row], dropped: Counter[str]) -> list[Row]:
    """One passing, finished answer per prompt as a single-turn dialogue: the model's own before an aided one."""
    passing: dict[str, Row] = {}
    for row in sorted(responses, key=lambda row: (row["prompt_id"], bool(row["aid"]), row["sample"] or 0, row["id"])):
        if row["passed"] is False:
            dropped["failed"] += 1
        elif row["passed"] and row["finish_reason"] != "stop":
            dropped["unfinished"] += 1
        elif row["passed"] and runs_in_circles(row["response"]):
            dropped["runs_in_circles"] += 1
        elif row["passed"] and row["prompt_id"] in passing:
            dropped["second_answer"] += 1
        elif row["passed"]:
            passing[row["prompt_id"]] = row
    return [as_dialogue(row) for row in passing.values()]


def replayable(responses: Iterable[Row], dropped: Counter[str]) -> list[Row]:
    """The best-rewarded finished answer to each open prompt, best first, as single-turn dialogues."""
    best: dict[str, Row] = {}
    opened = [row for row in responses if row["passed"] is None]
    for row in sorted(opened, key=lambda row: (-(row["reward"] or 0.0), row["id"])):
        if row["finish_reason"] != "stop" or not row["response"].strip():
            dropped["unfinished"] += 1
        elif runs_in_circles(row["response"]):
            dropped["runs_in_circles"] += 1
        elif row["prompt_id"] in best:
            dropped["second_answer"] += 1
        else:
            best[row["prompt_id"]] = row
    return [as_dialogue(row) for row in best.values()]


def as_dialogue(response: Row) -> Row:
    """A response with its plain prompt as one conversation, provenance and scores kept."""
    messages = [*response["prompt"], {"role": "assistant", "content": response["response"]}]
    copied = ("prompt_id", "family", *ATTRIBUTES, "reward", "source", "synthetic", "generator", "licence")
    values = {name: response[name] for name in copied} | {"messages": messages}
    return make_row(DIALOGUE, values, messages, [response["id"]])


def proportion(config: MixConfig, found: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """Every part at its size. Shares count in the whole set: n other rows and shares c, r make n / (1 - c - r) rows."""
    if config.code_share == 1:
        return {name: rows if name == "code" else [] for name, rows in found.items()}
    if config.code_share and not found["code"]:
        raise InputError(
            f"mix.code_share is {config.code_share}, but there are no code rows", "give code rows or set it to 0"
        )
    others = sum(len(found[name]) for name in ("dialogues", "verified", "human"))
    whole = others / (1 - config.code_share - config.replay_share)
    code = max(1, round(whole * config.code_share)) if config.code_share and others else 0
    return {
        "dialogues": found["dialogues"],
        "verified": found["verified"],
        "human": found["human"],
        "replay": found["replay"][: round(whole * config.replay_share)],
        "code": found["code"][:code],
    }
