"""The gate: candidate and generator answered the same sealed items; does the wheel move?

Ground truth decides: the gain in accuracy must be worth it and surely above zero, and no family may have surely got
worse. The reward model that selected the training data never promotes; it may veto, and its win rate is shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from infra.artifacts import Artifact
from infra.errors import InputError
from infra.output import Outcome, Output
from tasks.configs.gate import GateConfig
from tasks.statistics import Gain, bootstrap_gain, cluster, holm, regression_p_value, smallest_detectable_gain

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Paired:
    """One item with both models' answers (rows of tasks/evaluate.py)."""

    before: Row
    after: Row

    @property
    def judged(self) -> bool:
        return self.before["passed"] is not None and self.after["passed"] is not None

    def cluster(self, by: str) -> str:
        """The item's key, or its family and the key's first part."""
        key = self.before["key"]
        return key if by == "key" else f"{self.before['family']}/{key.partition('/')[0]}"

    @property
    def difference(self) -> int:
        """1 where only the candidate passes, -1 where only the generator does; judged items only."""
        return int(self.after["passed"]) - int(self.before["passed"])

    @property
    def rewarded(self) -> bool:
        return self.before["reward"] is not None and self.after["reward"] is not None

    @property
    def win(self) -> float:
        """1 where the candidate's answer gets the larger reward, 0.5 for a tie; rewarded items only."""
        gap = self.after["reward"] - self.before["reward"]
        return 0.5 if gap == 0 else float(gap > 0)


def run(config: GateConfig, output: Output, candidate: Artifact, generator: Artifact) -> Outcome:
    """Compare two evaluations of the sealed half. InputError when they don't cover the same items.

    The result holds the verdict, its reasons and the numbers behind them; flips.json the answers that changed sides.
    """
    pairs = pair_items(candidate.rows(), generator.rows())
    result = decide(config, pairs, same_reward_model(candidate, generator))
    output.write_json("flips.json", flips(pairs, config.max_flips))
    output.write_json("verdict.json", result)
    output.say(f"{result['verdict']}: {'; '.join(result['reasons'])}")
    metrics = {
        name: float(result[name]) for name in ("gain", "n", "smallest_detectable_gain") if result[name] is not None
    }
    return Outcome(metrics=metrics, result=result)


def pair_items(after: Sequence[Row], before: Sequence[Row]) -> list[Paired]:
    """Items in the order of their ids, which is as good as random. Raises InputError for different item sets."""
    answers = [{row["item_id"]: row for row in rows} for rows in (before, after)]
    if halves := {row["half"] for row in (*before, *after)} - {"gate"}:
        raise InputError(f"answers to the half {sorted(halves)}, the gate compares the sealed half only",
                         'evaluate both models with half="gate"')  # fmt: skip
    missing, extra = answers[0].keys() - answers[1].keys(), answers[1].keys() - answers[0].keys()
    if missing or extra or len(answers[0]) != len(before) or len(answers[1]) != len(after):
        raise InputError(
            f"the two evaluations are not paired: {len(before)} and {len(after)} answers, {len(missing)} items only "
            f"the generator answered {sorted(missing)[:3]}, {len(extra)} only the candidate {sorted(extra)[:3]}",
            "evaluate both models on the same evaluation set with the same families",
        )
    return [Paired(answers[0][item], answers[1][item]) for item in sorted(answers[0])]


def same_reward_model(candidate: Artifact, generator: Artifact) -> bool:
    """Whether rewards of the two evaluations can be compared."""
    ours, theirs = (artifact.manifest().inputs.get("reward_model") for artifact in (candidate, generator))
    return ours is not None and ours == theirs


def decide(config: GateConfig, pairs: Sequence[Paired], rewards_comparable: bool) -> dict[str, Any]:
    """The verdict with everything that led to it; every mean is a fraction of items."""
    judged = [pair for pair in pairs if pair.judged]
    overall, by_key = (gain_of(config, judged, by) if judged else None for by in (config.cluster_by, "key"))
    families = family_table(config, judged)
    wins = win_rate(config, [pair for pair in pairs if pair.rewarded] if rewards_comparable else [])
    discordance = sum(pair.difference != 0 for pair in judged) / max(1, len(judged))
    detectable = None if overall is None else smallest_detectable_gain(
        overall, discordance, confidence=config.confidence, min_gain=config.min_gain)  # fmt: skip
    verdict, reasons = judge_numbers(config, overall, families, wins)
    if verdict == "keep" and overall is not None and overall.lower <= 0:
        reasons.append(f"with {overall.n} items this gate sees gains from {points(detectable)} on (80 % power)")
        if by_key is not None and by_key.lower > 0:
            reasons.append(f"few kinds carry the gain: over single questions its bound would be {points(by_key.lower)}")
    return {
        "verdict": verdict,
        "reasons": reasons,
        "accuracy": accuracies(judged),
        "gain": overall.gain if overall else None,
        "ci": [overall.lower, overall.upper] if overall else None,
        "ci_by_key": [by_key.lower, by_key.upper] if by_key else None,
        "confidence": config.confidence,
        "n": len(judged),
        "clusters": overall.clusters if overall else 0,
        "unjudged": len(pairs) - len(judged),
        "discordance": discordance,
        "smallest_detectable_gain": detectable,
        "gained": sum(pair.difference > 0 for pair in judged),
        "lost": sum(pair.difference < 0 for pair in judged),
        "families": families,
        "win_rate": asdict(wins) if wins else None,
    }


def gain_of(config: GateConfig, judged: Sequence[Paired], by: str) -> Gain:
    """The accuracy's gain; bounds that say nothing for a single cluster."""
    groups = cluster([pair.difference for pair in judged], [pair.cluster(by) for pair in judged])
    if len(groups.sums_C) < 2:
        return Gain(groups.gain, -1.0, 1.0, 1.0, groups.n, 1)
    return bootstrap_gain(groups, confidence=config.confidence, resamples=config.resamples, seed=config.seed)


def win_rate(config: GateConfig, rewarded: Sequence[Paired]) -> Gain | None:
    """The reward model's opinion on open items, clustered like the rest; None where it has none."""
    opened = [pair for pair in rewarded if not pair.judged]
    clusters = cluster([pair.win for pair in opened], [pair.before["key"] for pair in opened]) if opened else None
    if clusters is None or len(clusters.sums_C) < 2:
        return None
    return bootstrap_gain(clusters, confidence=config.confidence, resamples=config.resamples, seed=config.seed)


def family_table(config: GateConfig, judged: Sequence[Paired]) -> dict[str, dict[str, Any]]:
    """Both accuracies per family, and whether its regression is significant after Holm's correction."""
    names = sorted({pair.before["family"] for pair in judged})
    members = {name: [pair for pair in judged if pair.before["family"] == name] for name in names}
    p_values = [
        regression_p_value(
            cluster([pair.difference for pair in members[name]], [pair.before["key"] for pair in members[name]]),
            config.resamples,
            config.seed,
        )
        for name in names
    ]
    significant = holm(p_values, config.regression_level)
    return {
        name: {
            "n": len(members[name]),
            **accuracies(members[name]),
            "gain": sum(pair.difference for pair in members[name]) / len(members[name]),
            "gained": sum(pair.difference > 0 for pair in members[name]),
            "lost": sum(pair.difference < 0 for pair in members[name]),
            "p_regression": p_values[i],
            "regressed": significant[i],
        }
        for i, name in enumerate(names)
    }


def accuracies(judged: Sequence[Paired]) -> dict[str, float | None]:
    count = len(judged)
    return {
        "generator": sum(pair.before["passed"] for pair in judged) / count if count else None,
        "candidate": sum(pair.after["passed"] for pair in judged) / count if count else None,
    }


def judge_numbers(
    config: GateConfig, overall: Gain | None, families: Mapping[str, Mapping[str, Any]], wins: Gain | None
) -> tuple[str, list[str]]:
    """The rule itself: "promote", "keep" or "insufficient", with a reason for each test."""
    n, clusters = (overall.n, overall.clusters) if overall else (0, 0)
    if overall is None or n < config.min_items or clusters < config.min_clusters:
        return "insufficient", [
            f"{n} paired truth-judged items in {clusters} clusters; "
            f"a verdict needs {config.min_items} items in {config.min_clusters} clusters"
        ]
    tests = [
        (overall.gain >= config.min_gain, f"gain {points(overall.gain)}, asked for {points(config.min_gain)}"),
        (overall.lower > 0, f"lower bound {points(overall.lower)} at {config.confidence:.1%}, must be above 0"),
    ]
    for name, family in families.items():
        if family["regressed"]:
            tests.append((False, f"{name} got worse: {points(family['gain'])} on {family['n']} items, "
                                 f"p {family['p_regression']:.4f} (Holm)"))  # fmt: skip
    if config.veto_win_rate is not None and wins is not None:
        text = f"win rate {wins.gain:.0%} on {wins.n} open items (at most {wins.upper:.0%})"
        tests.append(
            (wins.upper >= config.veto_win_rate, f"reward model: {text}, veto below {config.veto_win_rate:.0%}")
        )
    elif config.veto_win_rate is not None:
        tests.append((True, "the reward model has no say: no open item that one reward model scored for both"))
    failed = [text for passed, text in tests if not passed]
    return ("keep", failed) if failed else ("promote", [text for _, text in tests])


def points(value: float | None) -> str:
    """0.05 as "+5.0 points"."""
    return "?" if value is None else f"{100 * value:+.1f} points"


def flips(pairs: Sequence[Paired], limit: int) -> dict[str, list[dict[str, Any]]]:
    """Items that changed sides, with both answers; at most `limit` each way, in the order of the items' ids."""
    changed = {"gained": 1, "lost": -1}
    return {
        name: [
            {
                "item_id": pair.before["item_id"],
                "family": pair.before["family"],
                "key": pair.before["key"],
                "messages": pair.before["messages"],
                "generator": pair.before["answer"],
                "candidate": pair.after["answer"],
            }
            for pair in [pair for pair in pairs if pair.judged and pair.difference == sign][:limit]
        ]
        for name, sign in changed.items()
    }
