"""Preference pairs out of judged answers, by precedence of the judges (paper, section 3.2.3).

    ground truth   a passing answer (the model's own before an aided one) over the model's own failure
    reward model   best over worst by scalar reward, where no truth exists
    llm            a verdict that held in both orders, where the reward model saw no clear difference

Where truth or the LLM decided, the pair gets the configured reward gap: the reward model's values may disagree with the
verdict, and RPO would then learn the opposite of it.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from statistics import mean, median, pstdev
from typing import Any

from infra.artifacts import Artifact
from infra.errors import EmptyDataset
from infra.output import Outcome, Output
from tasks.answer_checks import runs_in_circles
from tasks.configs.judging import PreferencesConfig
from tasks.judges.base import GROUND_TRUTH, JUDGES, LLM, REWARD_MODEL
from tasks.rows import PREFERENCE, make_row, synthetic_share
from tasks.selection import joined_licence
from tasks.streams import Source, stream

Row = Mapping[str, Any]

REMEDIES = {
    "no_contrast": "ask for more samples or aids in the responses stage",
    "below_floor": "lower chosen_floor",
    "below_margin": "lower min_margin, or answer at a higher temperature",
    "single_answer": "ask for more samples in the responses stage",
    "too_similar": "raise max_similarity",
    "runs_in_circles": "answer at another temperature, or with a larger model",
    "truncated": "raise the responses' max_tokens, or set allow_truncated",
    "over_limit": "raise max_pairs",
    "sft_side": "lower split_prompts.sft_share",
}


@dataclass(frozen=True)
class Candidate:
    """A pair before the filters; rewards are those that RPO will see."""

    chosen: Row
    rejected: Row
    judge: str
    chosen_reward: float
    rejected_reward: float


@dataclass(frozen=True)
class Scale:
    """Where a set's open answers lie on the reward model's scale."""

    floor: float
    margin: float


def run(config: PreferencesConfig, output: Output, judged: Artifact, given: Source | None = None) -> Outcome:
    """PREFERENCE rows from scored RESPONSE rows and the LLM's verdicts, then those that `given` data sets bring.

    Raises EmptyDataset when no pair is left.
    """
    dropped: Counter[str] = Counter()
    rows = for_preferences(judged.iter_rows(), dropped)
    verdicts = judged.read_json("llm_verdicts.json")
    scale = scale_of(config, rows)
    prompts = [group for prompt, group in by_prompt(rows) if part_of(prompt, config.parts) == config.part]
    drafts = [pair for group in prompts for pair in pairs_of(config, group, verdicts, scale, dropped)]
    good = [pair for pair in drafts if passes(config, pair, scale, dropped)]
    kept = take_turns(good, config.max_pairs, config.seed)
    dropped["over_limit"] = len(good) - len(kept)
    mine = (row for row in stream(given) if part_of(row["prompt_id"] or row["id"], config.parts) == config.part)
    brought = [with_gap(row, config.truth_gap) for row in mine]
    pairs = [preference_row(pair) for pair in kept] + brought
    counts = {"in": len(pairs) + sum(dropped.values()), "kept": len(pairs)}
    counts |= {f"dropped:{reason}": n for reason, n in sorted(dropped.items()) if n}
    if not pairs:
        raise empty(config, len(prompts), dropped)
    for shard, start in enumerate(range(0, len(pairs), config.shard_rows)):
        output.write_shard(shard, pairs[start : start + config.shard_rows], PREFERENCE)
    output.progress(len(pairs), len(pairs), "pairs")
    metrics = {**statistics_of(pairs), "synthetic_share": synthetic_share(pairs)}
    result = {
        "objective": config.objective,
        "judges": dict.fromkeys(JUDGES, 0) | dict(Counter(row["judge"] or "" for row in pairs)),
        "families": dict(sorted(Counter(row["family"] or "" for row in pairs).items())),
        "aided": sum(bool(pair.chosen["aid"]) for pair in kept),
        "given": len(brought),
        "floor": scale.floor,
        "margin": scale.margin,
    }
    return Outcome(rows=len(pairs), metrics=metrics, result=result, counts=counts)


def for_preferences(rows: Iterable[dict[str, Any]], dropped: Counter[str]) -> list[dict[str, Any]]:
    """Answers whose prompt is not on the supervised side; prompts that are, are counted."""
    found = [*rows]
    dropped["sft_side"] = len({row["prompt_id"] for row in found if row["side"] == "sft"})
    return [row for row in found if row["side"] != "sft"]


def with_gap(row: dict[str, Any], gap: float) -> dict[str, Any]:
    """A pair of another data set: where it comes without rewards, people decided, as truth does elsewhere."""
    if row["chosen_reward"] is None or row["rejected_reward"] is None:
        return row | {"chosen_reward": gap, "rejected_reward": 0.0}
    return row


def empty(config: PreferencesConfig, prompts: int, dropped: Counter[str]) -> EmptyDataset:
    """The error that names what was lost where, and the setting that lost most."""
    lost = ", ".join(f"{n} {reason}" for reason, n in dropped.most_common() if n) or "no prompts came in"
    worst = next((reason for reason, n in dropped.most_common() if n), "")
    remedy = REMEDIES.get(worst, "look at the judging stage: it made no rows")
    return EmptyDataset(f"no {config.objective} pair is left of {prompts} prompts: {lost}", remedy)


def scale_of(config: PreferencesConfig, rows: Iterable[Row]) -> Scale:
    """Floor and margin in the reward model's own units, from the answers that no truth judges."""
    rewards = sorted(row["reward"] for row in rows if row["passed"] is None and row["reward"] is not None)
    if not rewards:
        return Scale(0.0, 0.0)
    return Scale(rewards[round(config.chosen_floor * (len(rewards) - 1))], config.min_margin * pstdev(rewards))


def by_prompt(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    """Answers by prompt, prompts in the order of their ids."""
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["prompt_id"]].append(row)
    return [(prompt, sorted(groups[prompt], key=lambda row: row["id"])) for prompt in sorted(groups)]


def part_of(prompt: str, parts: int) -> int:
    """Which of `parts` disjoint parts a prompt belongs to."""
    return int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") % parts


def pairs_of(
    config: PreferencesConfig, group: Sequence[Row], verdicts: Sequence[Row], scale: Scale, dropped: Counter[str]
) -> list[Candidate]:
    """Up to pairs_per_prompt pairs by the first judge who has a say; the reason is counted where none has."""
    if any(row["passed"] is not None for row in group):
        pairs = truth_pairs(config, group)
        if not pairs:
            dropped["no_contrast"] += 1
        return pairs[: config.pairs_per_prompt]
    if len({row["response"] for row in group}) < 2:
        dropped["single_answer"] += 1
        return []
    ranked = reward_pairs(group, scale)
    pairs = ranked or llm_pairs(config, group, verdicts)
    if not pairs:
        dropped["below_margin"] += 1
    return pairs[: config.pairs_per_prompt]


def truth_pairs(config: PreferencesConfig, group: Sequence[Row]) -> list[Candidate]:
    """Passing answers, own ones first, each against another failure that the model made without help."""
    passed = sorted((row for row in group if row["passed"]), key=lambda row: bool(row["aid"]))
    failed = [row for row in group if row["passed"] is False and not row["aid"]]
    return [
        Candidate(chosen, rejected, GROUND_TRUTH, config.truth_gap, 0.0)
        for chosen, rejected in zip(passed, failed, strict=False)
    ] + [Candidate(passed[0], rejected, GROUND_TRUTH, config.truth_gap, 0.0)
         for rejected in failed[len(passed):] if passed]  # fmt: skip


def reward_pairs(group: Sequence[Row], scale: Scale) -> list[Candidate]:
    """Best against worst, second best against second worst, …, as long as the gap is above the margin."""
    ranked = sorted((row for row in group if row["reward"] is not None), key=lambda row: (-row["reward"], row["id"]))
    pairs = zip(ranked[: len(ranked) // 2], reversed(ranked), strict=False)
    return [
        Candidate(best, worst, REWARD_MODEL, best["reward"], worst["reward"])
        for best, worst in pairs
        if best["reward"] - worst["reward"] > scale.margin
    ]


def llm_pairs(config: PreferencesConfig, group: Sequence[Row], verdicts: Iterable[Row]) -> list[Candidate]:
    """Consistent verdicts on this prompt's answers; they get the configured gap."""
    answers = {row["id"]: row for row in group}
    return [
        Candidate(answers[verdict["winner"]], answers[verdict["loser"]], LLM, config.truth_gap, 0.0)
        for verdict in verdicts
        if verdict["consistent"] and verdict["winner"] in answers and verdict["loser"] in answers
    ]


def passes(config: PreferencesConfig, pair: Candidate, scale: Scale, dropped: Counter[str]) -> bool:
    """Whether a pair is worth learning from; the reason is counted where it is not."""
    reason = flaw(config, pair, scale)
    if reason:
        dropped[reason] += 1
    return not reason


def flaw(config: PreferencesConfig, pair: Candidate, scale: Scale) -> str:
    """Why a pair is dropped, "" for a good one. The floor is the reward model's, for pairs that no truth decided."""
    chosen, rejected = pair.chosen["response"], pair.rejected["response"]
    if not chosen.strip() or not rejected.strip():
        return "no_text"
    if not config.allow_truncated and pair.chosen["finish_reason"] == "length" and not pair.chosen["aid"]:
        return "truncated"
    if runs_in_circles(chosen):
        return "runs_in_circles"
    if pair.judge != GROUND_TRUTH and (pair.chosen["reward"] is None or pair.chosen["reward"] < scale.floor):
        return "below_floor"
    limit = 1.0 if pair.judge == GROUND_TRUTH else config.max_similarity
    return "too_similar" if similarity(chosen, rejected) >= limit else ""


def similarity(one: str, other: str) -> float:
    """Share of words in common runs, 0..1; 1 only for equal texts (upper and lower case differ)."""
    if one == other:
        return 1.0
    return min(SequenceMatcher(None, one.split(), other.split(), autojunk=False).ratio(), 0.9999)


def take_turns(pairs: Sequence[Candidate], limit: int, seed: int) -> list[Candidate]:
    """At most `limit` pairs: judges and families take turns, each in an order drawn from the seed."""
    groups: defaultdict[tuple[int, str], list[Candidate]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda pair: _shuffle_key(pair, seed)):
        groups[JUDGES.index(pair.judge), pair.chosen["family"] or ""].append(pair)
    ranked = [(place, group, pair) for group, members in groups.items() for place, pair in enumerate(members)]
    return [pair for _, _, pair in sorted(ranked, key=lambda entry: entry[:2])][:limit]


def _shuffle_key(pair: Candidate, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{pair.chosen['id']}/{pair.rejected['id']}".encode()).digest()


def preference_row(pair: Candidate) -> dict[str, Any]:
    """The pair as messages, with both answers as parents."""
    chosen, rejected = ([{"role": "assistant", "content": row["response"]}] for row in (pair.chosen, pair.rejected))
    values = {
        "prompt_id": pair.chosen["prompt_id"],
        "family": pair.chosen["family"],
        "prompt": pair.chosen["prompt"],
        "chosen": chosen,
        "rejected": rejected,
        "chosen_reward": pair.chosen_reward,
        "rejected_reward": pair.rejected_reward,
        "judge": pair.judge,
        "source": pair.chosen["source"],
        "synthetic": bool(pair.chosen["synthetic"] or pair.rejected["synthetic"]),
        "generator": pair.chosen["generator"],
        "licence": joined_licence([pair.chosen["licence"], pair.rejected["licence"]]),
    }
    content = [pair.chosen["prompt"], chosen, rejected, pair.judge]
    return make_row(PREFERENCE, values, content, [pair.chosen["id"], pair.rejected["id"]])


def statistics_of(pairs: Sequence[Row]) -> dict[str, float]:
    """Length balance in words, and the median gap that decides eta (reward gaps times eta should be about 2)."""
    lengths = [tuple(len(row[side][-1]["content"].split()) for side in ("chosen", "rejected")) for row in pairs]
    return {
        "reward_gap_median": median(row["chosen_reward"] - row["rejected_reward"] for row in pairs),
        "chosen_words": mean(chosen for chosen, _ in lengths),
        "rejected_words": mean(rejected for _, rejected in lengths),
        "chosen_longer": mean(0.5 if chosen == rejected else float(chosen > rejected) for chosen, rejected in lengths),
    }
