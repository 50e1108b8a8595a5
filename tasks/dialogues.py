"""Dialogues in which the generator plays both roles, filtered by what they say and by reward (paper, section 3.2.2).

prompt → answer → the user's follow-up → answer → follow-up → answer → reward → kept or dropped
"""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

from infra.artifacts import Artifact
from infra.errors import EmptyDataset
from infra.output import Outcome, Output
from tasks.configs.dialogues import DialoguesConfig
from tasks.diversity import measure_diversity
from tasks.dropped import dropped_row, write_dropped
from tasks.generation import Writer, licence_of, open_engine
from tasks.judges.reward import Scorer
from tasks.rows import DIALOGUE, make_row
from tasks.selection import Row, by_family, draw, joined_licence, verifiable
from tasks.speaker import Dialogue, Speaker
from tasks.tallies import Tallies, told

Scored = tuple[Dialogue, dict[str, float]]
MILLIONTHS = 1e6
"""Rewards are summed up in whole numbers, as tallies are."""


def run(
    config: DialoguesConfig, output: Output, *, generator: Artifact, prompts: Artifact, reward_model: Artifact
) -> Outcome:
    """Raises EmptyDataset where no prompt suits or no dialogue is kept, with the counts by reason."""
    suited = suited_prompts(config, prompts.rows())
    openers = draw(suited, config.seed, config.rows)
    writer = Writer(open_engine(generator, config.resources), output)
    speaker = Speaker(config, writer, suited)
    scorer = Scorer(reward_model, config.resources)
    licence, tallies = licence_of(generator), Tallies(output)
    shards = range(0, len(openers), config.shard_rows)
    for number, start in enumerate(shards):
        shard = openers[start : start + config.shard_rows]
        writer.begin(start, start + len(shard), len(openers))
        if output.has_shard(number):
            continue
        dialogues = speaker.converse(shard)
        with writer.at_work():
            scored = [(one, reward_of(one, scorer)) for one in dialogues if long_enough(config, one)]
        kept = best(config, scored)
        tallies.put(number, tally(config, dialogues, scored, kept), left_out(config, dialogues, scored, kept))
        output.write_shard(number, [_row(one, scores, generator, licence) for one, scores in kept], DIALOGUE)
        output.progress(start + len(shard), len(openers), "dialogues", kept=len(kept))
    write_dropped(output, tallies.dropped())
    total = tallies.total()
    counts = {name: count for name, count in total.items() if "|" not in name}
    if not total["kept"]:
        raise EmptyDataset(
            f"none of {counts['in']} dialogues was kept: {told(counts)}",
            "lower reward_threshold or min_turns, raise rows or max_tokens, or take a stronger generator",
        )
    output.say(f"dialogues: {told(counts)}")
    rows = chain.from_iterable(output.read_shard(number) for number in range(len(shards)))
    return Outcome(
        rows=total["kept"],
        counts=counts,
        metrics=mean_rewards(total) | measure_diversity(rows) | writer.metrics(),
        result={"variants": variants(total)},
    )


def suited_prompts(config: DialoguesConfig, rows: Sequence[Row]) -> list[Row]:
    """Prompts that can open a dialogue: of a wanted family, ending with the user, and not verifiable unless asked for.

    Those that were set aside for preferences, or are unsafe, are not for supervised training. Raises EmptyDataset, with
    the families that are there, where none is left.
    """
    wanted = [
        row for row in rows
        if (not config.families or row["family"] in config.families)
        and row["messages"][-1]["role"] == "user"
        and row["side"] != "preference" and not row["unsafe"]
        and (config.asking == "prompts" or not verifiable(row))
    ]  # fmt: skip
    if not wanted:
        families = {family: len(members) for family, members in by_family(rows).items()}
        raise EmptyDataset(
            f"no prompt can open a dialogue: families={config.families or 'any'}, asking={config.asking!r}, "
            f"prompts by family: {told(families)}",
            'name families that are there; prompts with a verifier open dialogues with asking="prompts" only, those of '
            "the preference side and unsafe ones never",
        )
    return wanted


def long_enough(config: DialoguesConfig, dialogue: Dialogue) -> bool:
    return len(dialogue.said) >= min(config.min_turns, config.turns)


def reward_of(dialogue: Dialogue, scorer: Scorer) -> dict[str, float]:
    """The reward model's view of the last answer, in the light of the whole dialogue."""
    messages = dialogue.complete_messages
    return scorer.score(messages[:-1], messages[-1]["content"])


def best(config: DialoguesConfig, scored: Sequence[Scored]) -> list[Scored]:
    """Those above the threshold and, by reward, within the share that is kept; in their original order."""
    floor = -math.inf if config.reward_threshold is None else config.reward_threshold
    passing = [pair for pair in scored if pair[1]["reward"] >= floor]
    ranked = sorted(passing, key=lambda pair: -pair[1]["reward"])[: round(config.keep_share * len(scored))]
    chosen = {id(dialogue) for dialogue, _ in ranked}
    return [pair for pair in passing if id(pair[0]) in chosen]


def left(scored: Sequence[Scored], kept: Sequence[Scored]) -> list[Scored]:
    """Those whose reward was too low."""
    chosen = {id(dialogue) for dialogue, _ in kept}
    return [pair for pair in scored if id(pair[0]) not in chosen]


def tally(
    config: DialoguesConfig, dialogues: Sequence[Dialogue], scored: Sequence[Scored], kept: Sequence[Scored]
) -> Counter[str]:
    """By fate; a dialogue that broke off but is long enough is "shortened" and may be kept.

    Beside the counts, with "|" in their names: sums of rewards, and dialogues by the user's variant.
    """
    low = left(scored, kept)
    counts = Counter({"in": len(dialogues), "kept": len(kept)})
    counts.update(f"dropped:{one.ended}" for one in dialogues if not long_enough(config, one))
    counts.update(f"shortened:{one.ended}" for one, _ in scored if one.ended)
    counts.update("dropped:low_reward" for _ in low)
    for name, part in (("kept", kept), ("dropped", low)):
        counts[f"reward|{name}"] = round(MILLIONTHS * sum(scores["reward"] for _, scores in part))
    if config.asking != "prompts":
        counts.update(f"{one.user.variant}|in" for one in dialogues)
        counts.update(f"{one.user.variant}|kept" for one, _ in kept)
    return counts


def left_out(
    config: DialoguesConfig, dialogues: Sequence[Dialogue], scored: Sequence[Scored], kept: Sequence[Scored]
) -> list[dict[str, Any]]:
    """Entries of tasks/dropped.py: what was refused, after the conversation so far, and what got too low a reward."""
    entries = []
    for one in dialogues:
        if one.ended:
            fate = one.ended if not long_enough(config, one) else f"shortened:{one.ended}"
            entries.append(_entry(fate, one, one.story, _speaker(config, one)))
    for one, scores in left(scored, kept):
        told_of = f"reward {scores['reward']:.3f}; {_speaker(config, one)}".removesuffix("; ")
        entries.append(_entry("low_reward", one, one.complete_messages, told_of))
    return entries


def mean_rewards(total: Counter[str]) -> dict[str, float]:
    """Of the dialogues kept, and of those left out for their reward where there are any."""
    numbers = {"kept": total["kept"], "dropped": total["dropped:low_reward"]}
    return {f"reward_{name}": total[f"reward|{name}"] / MILLIONTHS / n for name, n in numbers.items() if n}


def variants(total: Counter[str]) -> dict[str, dict[str, int]]:
    """Dialogues begun and kept by the user's variant; {} where no persona asked."""
    names = sorted(name.removesuffix("|in") for name in total if name.endswith("|in"))
    return {name: {"in": total[f"{name}|in"], "kept": total[f"{name}|kept"]} for name in names}


def _speaker(config: DialoguesConfig, dialogue: Dialogue) -> str:
    return "" if config.asking == "prompts" else f"{dialogue.user.persona.name}, {dialogue.user.variant}"


def _entry(reason: str, dialogue: Dialogue, messages: Sequence[dict[str, str]], detail: str) -> dict[str, Any]:
    opener = dialogue.opener
    known = {"row_id": opener["id"], "family": opener["family"], "topic": opener["topic"] or "", "detail": detail}
    return dropped_row(reason, messages, **known)


def _row(dialogue: Dialogue, scores: dict[str, float], generator: Artifact, licence: str) -> Row:
    messages, opener = dialogue.complete_messages, dialogue.opener
    prompts = dialogue.asked[: len(dialogue.said)]  # not one whose answer was refused
    values = {
        "prompt_id": opener["id"],
        "family": opener["family"],
        "messages": messages,
        "teaches": "all",
        **scores,
        "source": "dialogues",
        "synthetic": True,
        "generator": generator.fingerprint,
        "licence": joined_licence([licence, *(prompt["licence"] for prompt in prompts)]),
    }
    return make_row(DIALOGUE, values, messages, [prompt["id"] for prompt in prompts])
