"""Dialogues in which the generator plays both roles, filtered by what they say and by reward (paper, section 3.2.2).

    prompt → answer → the persona's follow-up → answer → follow-up → answer → reward → kept or dropped

All dialogues of a shard take each turn together, so that the engine's batch stays full.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from infra.artifacts import Artifact
from infra.errors import EmptyDataset
from infra.output import Outcome, Output
from models.engine import SamplingParams
from tasks.answer_checks import copied_share, runs_in_circles, whole_sentences
from tasks.configs.dialogues import DialoguesConfig
from tasks.engines.abilities import Tokenized
from tasks.follow_ups import Persona, choose, opened_turn, swapped_roles
from tasks.generation import Ask, Writer, licence_of, open_engine
from tasks.judges.ground_truth import verify
from tasks.judges.reward import Scorer
from tasks.rows import DIALOGUE, make_row, row_seed
from tasks.selection import Row, by_family, draw, joined_licence, verifiable
from tasks.tallies import Tallies, told
from tasks.user_turns import refusal, user_turn

COPIED = 0.4
"""An answer with this part of its word sequences out of an earlier answer of its dialogue repeats that one."""


@dataclass
class Dialogue:
    """One in the making."""

    opener: Row
    persona: Persona
    rng: Random
    verifier: Any
    messages: list[dict[str, str]]
    said: list[str] = field(default_factory=list)
    """The assistant's answers so far."""
    ended: str = ""
    """Why it broke off."""
    asked: list[Row] = field(default_factory=list)
    """The prompts that its user turns are from, the opener first."""

    @property
    def complete_messages(self) -> list[dict[str, str]]:
        """Up to the last answer: a user turn that stayed unanswered is no part of it."""
        return self.messages[:-1] if self.messages[-1]["role"] == "user" else self.messages


Follow = Callable[[Sequence[Dialogue], int], None]
"""Give each dialogue its user's turn of this number, or a reason why it ended."""


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
    for number, start in enumerate(range(0, len(openers), config.shard_rows)):
        shard = openers[start : start + config.shard_rows]
        writer.begin(start, start + len(shard), len(openers))
        if output.has_shard(number):
            continue
        dialogues = speaker.converse(shard)
        scored = [(dialogue, reward_of(dialogue, scorer)) for dialogue in dialogues if long_enough(config, dialogue)]
        kept = best(config, scored)
        tallies.put(number, _counts(config, dialogues, kept))
        rows = [_row(dialogue, scores, generator, licence) for dialogue, scores in kept]
        output.write_shard(number, rows, DIALOGUE)
        output.progress(start + len(shard), len(openers), "dialogues", kept=len(rows))
    counts = tallies.total()
    if not counts["kept"]:
        raise EmptyDataset(
            f"none of {counts['in']} dialogues was kept: {told(counts)}",
            "lower reward_threshold or min_turns, raise rows or max_tokens, or take a stronger generator",
        )
    output.say(f"dialogues: {told(counts)}")
    return Outcome(rows=counts["kept"], counts=dict(counts), metrics=writer.metrics() if writer.tokens else {})


def suited_prompts(config: DialoguesConfig, rows: Sequence[Row]) -> list[Row]:
    """Prompts that can open a dialogue: of a wanted family, ending with the user, and not verifiable unless asked for.

    Raises EmptyDataset, with the families that are there, where none does.
    """
    wanted = [
        row for row in rows
        if (not config.families or row["family"] in config.families)
        and row["messages"][-1]["role"] == "user"
        and (config.asking == "prompts" or not verifiable(row))
    ]  # fmt: skip
    if not wanted:
        families = {family: len(members) for family, members in by_family(rows).items()}
        raise EmptyDataset(
            f"no prompt can open a dialogue: families={config.families or 'any'}, asking={config.asking!r}, "
            f"prompts by family: {told(families)}",
            'name families that are there; prompts with a verifier open dialogues with asking="prompts" only',
        )
    return wanted


class Speaker:
    """Both roles of many dialogues at once."""

    def __init__(self, config: DialoguesConfig, writer: Writer, pool: Sequence[Row]) -> None:
        self.config, self.writer = config, writer
        self.pool = by_family(row for row in pool if len(row["messages"]) == 1)
        self.follow: dict[str, Follow] = {
            "continue": self._continue, "instruct": self._instruct, "prompts": self._next_prompt,
        }  # fmt: skip

    def converse(self, openers: Sequence[Row]) -> list[Dialogue]:
        """One dialogue per prompt, in order; some end early."""
        dialogues = [self._begin(opener) for opener in openers]
        for turn in range(self.config.turns):
            if turn:
                self.follow[self.config.asking](_live(dialogues), turn)
            self._answer(_live(dialogues), turn)
        return dialogues

    def _begin(self, opener: Row) -> Dialogue:
        rng = Random(self._seed(opener["id"]))
        persona = choose(self.config.personas, rng)
        messages = [dict(message) for message in opener["messages"]]
        return Dialogue(opener, persona, rng, opener["verifier"], messages, asked=[opener])

    def _answer(self, dialogues: Sequence[Dialogue], turn: int) -> None:
        config = self.config
        params = SamplingParams(temperature=config.temperature, max_tokens=config.max_tokens)
        asks = [Ask(f"{one.opener['id']}/{turn}/assistant", one.messages, params) for one in dialogues]
        share = (turn / config.turns, (turn + 1) / config.turns)
        for one, result in zip(dialogues, self.writer.write(asks, share), strict=True):
            answer = result.text.strip()
            answer = answer if result.finish_reason == "stop" else whole_sentences(answer)
            one.ended = answer_refusal(answer, one) if not result.error else "too_long"
            if not one.ended:
                one.said.append(answer)
                one.messages.append({"role": "assistant", "content": answer})

    def _continue(self, dialogues: Sequence[Dialogue], turn: int) -> None:
        openings = [one.rng.choice(one.persona.openings) for one in dialogues]
        engine = self.writer.engine
        prompts = [
            opened_turn(engine.tokenizer, one.persona.note(), one.messages, opening)
            if isinstance(engine, Tokenized)
            else swapped_roles(one.persona.note(), one.messages, opening)
            for one, opening in zip(dialogues, openings, strict=True)
        ]
        self._take(dialogues, turn, prompts, openings)

    def _instruct(self, dialogues: Sequence[Dialogue], turn: int) -> None:
        prompts = [[{"role": "user", "content": one.persona.request(one.messages)}] for one in dialogues]
        self._take(dialogues, turn, prompts, [""] * len(prompts))

    def _take(self, dialogues: Sequence[Dialogue], turn: int, prompts: Sequence[Any], openings: Sequence[str]) -> None:
        """The first draft of each that is a user's turn; the dialogue ends with the last draft's reason otherwise."""
        config = self.config
        params = [
            SamplingParams(
                temperature=config.user_temperature, top_p=config.user_top_p, max_tokens=config.user_max_tokens,
                n=config.user_samples, stop=("\n",), seed=self._seed(f"{one.opener['id']}/{turn}/user"),
            )
            for one in dialogues
        ]  # fmt: skip
        results = self.writer.engine.generate(prompts, params)
        for one, opening, result in zip(dialogues, openings, results, strict=True):
            for draft in result.outputs:
                text = user_turn(opening + draft.text, draft.finish_reason == "stop")
                one.ended = "user_" + reason if (reason := refusal(text, one.messages)) else ""
                if not one.ended:
                    one.messages.append({"role": "user", "content": text})
                    break

    def _next_prompt(self, dialogues: Sequence[Dialogue], turn: int) -> None:
        for one in dialogues:
            asked = {row["id"] for row in one.asked}
            others = [row for row in self.pool.get(one.opener["family"], []) if row["id"] not in asked]
            if not others:
                one.ended = "user_no_prompt"
                continue
            chosen = one.rng.choice(others)
            one.messages += [dict(message) for message in chosen["messages"]]
            one.verifier, one.asked = chosen["verifier"], [*one.asked, chosen]

    def _seed(self, place: str) -> int:
        return row_seed(self.writer.output.fingerprint, place)


def answer_refusal(answer: str, dialogue: Dialogue) -> str:
    """Why an answer is not fit to be learnt, "" where it is. Ground truth, where there is one, decides alone."""
    verdict = verify(dialogue.verifier, answer) if answer else False
    if verdict is not None:
        return "" if verdict else "wrong" if answer else "cut_off"
    if runs_in_circles(answer):
        return "runs_in_circles"
    if max((copied_share(answer, said) for said in dialogue.said), default=0.0) >= COPIED:
        return "repeats_answer"
    return ""


def long_enough(config: DialoguesConfig, dialogue: Dialogue) -> bool:
    return len(dialogue.said) >= min(config.min_turns, config.turns)


def reward_of(dialogue: Dialogue, scorer: Scorer) -> dict[str, float]:
    """The reward model's view of the last answer, in the light of the whole dialogue."""
    messages = dialogue.complete_messages
    return scorer.score(messages[:-1], messages[-1]["content"])


def best(
    config: DialoguesConfig, scored: Sequence[tuple[Dialogue, dict[str, float]]]
) -> list[tuple[Dialogue, dict[str, float]]]:
    """Those above the threshold and, by reward, within the share that is kept; in their original order."""
    floor = -math.inf if config.reward_threshold is None else config.reward_threshold
    passing = [pair for pair in scored if pair[1]["reward"] >= floor]
    ranked = sorted(passing, key=lambda pair: -pair[1]["reward"])[: round(config.keep_share * len(scored))]
    chosen = {id(dialogue) for dialogue, _ in ranked}
    return [pair for pair in passing if id(pair[0]) in chosen]


def _live(dialogues: Sequence[Dialogue]) -> list[Dialogue]:
    return [one for one in dialogues if not one.ended]


def _counts(config: DialoguesConfig, dialogues: Sequence[Dialogue], kept: Sequence[Any]) -> Counter[str]:
    """By fate; a dialogue that broke off but is long enough is "shortened" and may be kept."""
    counts = Counter({"in": len(dialogues), "kept": len(kept)})
    good = [one for one in dialogues if long_enough(config, one)]
    counts.update(f"dropped:{one.ended}" for one in dialogues if not long_enough(config, one))
    counts.update(f"shortened:{one.ended}" for one in good if one.ended)
    if len(good) > len(kept):
        counts["dropped:low_reward"] = len(good) - len(kept)
    return counts


def _row(dialogue: Dialogue, scores: dict[str, float], generator: Artifact, licence: str) -> Row:
    messages, opener = dialogue.complete_messages, dialogue.opener
    prompts = dialogue.asked[: len(dialogue.said)]  # not one whose answer was refused
    values = {
        "prompt_id": opener["id"],
        "family": opener["family"],
        "messages": messages,
        **scores,
        "source": "dialogues",
        "synthetic": True,
        "generator": generator.fingerprint,
        "licence": joined_licence([licence, *(prompt["licence"] for prompt in prompts)]),
    }
    return make_row(DIALOGUE, values, messages, [prompt["id"] for prompt in prompts])
