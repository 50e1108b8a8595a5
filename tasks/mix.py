"""The supervised set: kept dialogues, verified answers, human rows, other data sets, replay, a carry-over of code.

Verified answers are what the model can learn beyond itself: each passed its ground-truth check, sometimes with an aid,
and training sees the prompt without the aid. Replay is the model's own best-rewarded ordinary answers, so that what it
could do stays. The share of synthetic rows is counted from the rows' own provenance, never assumed.

Two passes, a batch of rows in memory: the first notes what choosing needs of each row, the second writes the chosen.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from infra.errors import EmptyDataset, InputError
from infra.output import Outcome, Output
from tasks.answer_checks import runs_in_circles
from tasks.configs.mix import WEIGHTED_PARTS, MixConfig
from tasks.pools import BestAnswers, Chosen, Pool, in_proportion
from tasks.rows import ATTRIBUTES, DIALOGUE, make_row, row_seed
from tasks.streams import Reordered, ShardWriter, Source, rows_in, stream

Row = dict[str, Any]

PARTS = ("dialogues", "verified", "human", "sources", "replay", "code")


def run(
    config: MixConfig,
    output: Output,
    dialogues: Source | None = None,
    judged: Source | None = None,
    code: Source | None = None,
    human: Source | None = None,
    sources: Source | None = None,
) -> Outcome:
    """DIALOGUE rows from DIALOGUE rows (`dialogues`, `code`, `human`, `sources`) and scored RESPONSE rows (`judged`).

    Raises InputError where code or a weighted part is missing, EmptyDataset where no row comes out.
    """
    inputs = {"dialogues": dialogues, "judged": judged, "human": human, "sources": sources, "code": code}
    total = sum(map(rows_in, inputs.values()))
    survey = Survey(config)
    for place, (name, row) in enumerate(named_rows(inputs)):
        survey.note(place, name, row)
        output.progress(place, 2 * total, "rows")
    parts = proportion(config, survey.found())
    if not sum(map(len, parts.values())):
        raise empty(total, survey.dropped)
    tally = write(config, output, inputs, parts, total)
    return outcome(config, parts, tally, total, survey.dropped)


def named_rows(inputs: Mapping[str, Source | None]) -> Iterator[tuple[str, Row]]:
    for name, source in inputs.items():
        for row in stream(source):
            yield name, row


class Survey:
    """What choosing needs of each row, and why other answers have no part."""

    def __init__(self, config: MixConfig) -> None:
        self.config, self.seed = config, str(config.seed)
        self.pools = {name: Pool() for name in ("dialogues", "human", "sources", "code")}
        self.verified, self.replay = BestAnswers(), BestAnswers()
        self.dropped: Counter[str] = Counter()

    def note(self, place: int, name: str, row: Row) -> None:
        if name == "judged":
            self._note_answer(place, row)
        else:
            self.pools[name].add(place, row_seed(self.seed, row["id"]), row["family"] or "")

    def _note_answer(self, place: int, row: Row) -> None:
        if reason := flaw(row):
            self.dropped[reason] += 1
            return
        seed = row_seed(self.seed, as_dialogue(row)["id"])
        best = self.verified if row["passed"] else self.replay
        by = (bool(row["aid"]), row["sample"] or 0) if row["passed"] else (-(row["reward"] or 0.0),)
        if not best.offer(row["prompt_id"], (*by, row["id"]), (place, seed, row["family"] or "")):
            self.dropped["second_answer"] += 1

    def found(self) -> dict[str, Chosen]:
        """Every part's rows in the order in which they are taken."""
        config = self.config
        return {
            "dialogues": self.pools["dialogues"].drawn(config.max_dialogues),
            "verified": self.verified.pool().drawn(config.max_verified),
            "human": self.pools["human"].drawn(config.max_human),
            "sources": self.pools["sources"].drawn(config.max_sources),
            "replay": self.replay.best_first(),
            "code": self.pools["code"].drawn(config.max_code),
        }


def flaw(response: Row) -> str:
    """Why an answer is not learnt from, "" for a good one."""
    if response["side"] == "preference":
        return "preference_side"
    if response["unsafe"]:
        return "unsafe"  # where prompts are not split the preference side alone keeps them, too
    if response["passed"] is False:
        return "failed"
    if response["finish_reason"] != "stop" or not response["response"].strip():
        return "unfinished"
    return "runs_in_circles" if runs_in_circles(response["response"]) else ""


def as_dialogue(response: Row) -> Row:
    """A response with its plain prompt as one conversation, provenance and scores kept."""
    messages = [*response["prompt"], {"role": "assistant", "content": response["response"]}]
    copied = ("prompt_id", "family", *ATTRIBUTES, "reward", "source", "synthetic", "generator", "licence")
    values = {name: response[name] for name in copied} | {"messages": messages, "teaches": taught_turns(response)}
    return make_row(DIALOGUE, values, messages, [response["id"]])


def taught_turns(response: Row) -> str:
    """Of an instruction announced for every turn a passing answer teaches all turns; else the prompt is only given."""
    payload = (response["verifier"] or {}).get("payload")
    several = response["passed"] and payload and json.loads(payload).get("form") == "multi_turn"
    return "all" if several else "last"


def proportion(config: MixConfig, found: Mapping[str, Chosen]) -> dict[str, Chosen]:
    """Every part at its size. Shares count in the whole set: n other rows and shares c, r make n / (1 - c - r) rows."""
    if config.code_share == 1:
        return {name: rows if name == "code" else rows[:0] for name, rows in found.items()}
    if config.code_share and not len(found["code"]):
        raise InputError(
            f"mix.code_share is {config.code_share}, but there are no code rows", "give code rows or set it to 0"
        )
    sizes = {name: len(found[name]) for name in WEIGHTED_PARTS}
    if config.weights:
        sizes |= dict.fromkeys(WEIGHTED_PARTS, 0) | in_proportion(config.weights, sizes)
    others = sum(sizes.values())
    whole = others / (1 - config.code_share - config.replay_share)
    sizes["replay"] = round(whole * config.replay_share)
    sizes["code"] = max(1, round(whole * config.code_share)) if config.code_share and others else 0
    return {name: found[name][: sizes[name]] for name in PARTS}


class Tally:
    """Rows, synthetic rows and families of what went in, from the rows themselves."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.synthetic: Counter[str] = Counter()
        self.families: Counter[str] = Counter()

    def add(self, part: str, row: Row) -> None:
        self.rows[part] += 1
        self.synthetic[part] += bool(row["synthetic"])
        self.families[row["family"] or ""] += 1


def write(
    config: MixConfig, output: Output, inputs: Mapping[str, Source | None], parts: Mapping[str, Chosen], total: int
) -> Tally:
    """The chosen rows, shuffled by their seeds, into shards."""
    chosen = np.concatenate([*parts.values()])
    places = np.full(total, -1, np.int64)
    places[chosen["place"][np.argsort(chosen["seed"], kind="stable")]] = np.arange(len(chosen))
    shuffled, tally = Reordered(output.scratch_folder(), len(chosen)), Tally()
    for number, (name, row) in enumerate(named_rows(inputs)):
        output.progress(total + number, 2 * total, "rows")
        if (place := int(places[number])) >= 0:
            part, made = as_part(name, row)
            tally.add(part, made)
            shuffled.put(place, made)
    shards = ShardWriter(output, DIALOGUE, config.shard_rows)
    for row in shuffled:
        shards.add(row)
    shards.close()
    shuffled.close()
    output.progress(2 * total, 2 * total, "rows")
    return tally


def as_part(name: str, row: Row) -> tuple[str, Row]:
    if name != "judged":
        return name, row
    return "verified" if row["passed"] else "replay", as_dialogue(row)


def outcome(config: MixConfig, parts: Mapping[str, Chosen], tally: Tally, total: int, dropped: Counter[str]) -> Outcome:
    """What the set is made of: rows and synthetic rows by part, the shares, and why other rows are not in it."""
    kept = tally.rows.total()
    share = tally.synthetic.total() / kept
    counts = {"in": total, "kept": kept, **{f"dropped:{reason}": n for reason, n in dropped.items()}}
    result = {
        "parts": {name: tally.rows[name] for name in parts},
        "synthetic": {name: tally.synthetic[name] for name in parts},
        "synthetic_share": share,
        "code_share": {"asked": config.code_share, "got": tally.rows["code"] / kept},
        "replay_share": {"asked": config.replay_share, "got": tally.rows["replay"] / kept},
        "weights": weights_got(config, tally),
        "families": dict(sorted(tally.families.items())),
    }
    metrics = {"synthetic_share": share, **{f"rows/{name}": float(tally.rows[name]) for name in parts}}
    unused = total - kept - dropped.total()
    return Outcome(rows=kept, metrics=metrics, result=result, counts=counts | {"dropped:over_limit": unused})


def weights_got(config: MixConfig, tally: Tally) -> dict[str, dict[str, float]]:
    """Each weighted part's share of them all, as asked for and as it came out."""
    weights = config.weights or {}
    whole, rows = sum(weights.values()), sum(tally.rows[part] for part in weights)
    return {part: {"asked": weights[part] / whole, "got": tally.rows[part] / max(1, rows)} for part in weights}


def empty(total: int, dropped: Mapping[str, int]) -> EmptyDataset:
    lost = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count) or "none came in"
    return EmptyDataset(
        f"no row for the mix out of {total}: {lost}",
        "raise mix.max_dialogues or mix.max_verified, or loosen the filters of the stages before",
    )
