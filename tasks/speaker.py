"""Both roles of many dialogues at once: the generator answers, and speaks for the user who asks on.

All dialogues take each turn together, so that the engine's batch stays full.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from models.engine import SamplingParams
from tasks.answer_checks import copied_share, runs_in_circles, whole_sentences
from tasks.configs.dialogues import DialoguesConfig
from tasks.engines.abilities import Tokenized
from tasks.follow_ups import User, choose, opened_turn, swapped_roles
from tasks.generation import Ask, Writer
from tasks.judges.ground_truth import verify
from tasks.rows import row_seed
from tasks.selection import Row, by_family
from tasks.user_turns import refusal, user_turn

COPIED = 0.4
"""An answer with this part of its word sequences out of an earlier answer of its dialogue repeats that one."""


ASKING_SHARE = 0.25
"""Of a turn's progress; the rest is the answer's."""


@dataclass
class Dialogue:
    """One in the making."""

    opener: Row
    user: User
    rng: Random
    verifier: Any
    messages: list[dict[str, str]]
    said: list[str] = field(default_factory=list)
    """The assistant's answers so far."""
    ended: str = ""
    """Why it broke off; from "user_" on where the user's turn was refused."""
    refused: str = ""
    """What was refused then."""
    asked: list[Row] = field(default_factory=list)
    """The prompts that its user turns are from, the opener first."""

    @property
    def complete_messages(self) -> list[dict[str, str]]:
        """Up to the last answer: a user turn that stayed unanswered is no part of it."""
        return self.messages[:-1] if self.messages[-1]["role"] == "user" else self.messages

    @property
    def story(self) -> list[dict[str, str]]:
        """All of it, with what was refused at its end."""
        role = "user" if self.ended.startswith("user_") else "assistant"
        return [*self.messages, *([{"role": role, "content": self.refused}] if self.refused else [])]


Follow = Callable[[Sequence[Dialogue], int], None]
"""Give each dialogue its user's turn of this number, or a reason why it ended."""


class Speaker:
    """Speaks for the user and for the assistant."""

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
                self.follow[self.config.asking](live(dialogues), turn)
            self._answer(live(dialogues), turn)
        return dialogues

    def _begin(self, opener: Row) -> Dialogue:
        rng = Random(self._seed(opener["id"]))
        user = choose(self.config, rng)
        messages = [dict(message) for message in opener["messages"]]
        return Dialogue(opener, user, rng, opener["verifier"], messages, asked=[opener])

    def _answer(self, dialogues: Sequence[Dialogue], turn: int) -> None:
        config = self.config
        params = SamplingParams(temperature=config.temperature, max_tokens=config.max_tokens)
        asks = [Ask(f"{one.opener['id']}/{turn}/assistant", one.messages, params) for one in dialogues]
        share = ((turn + ASKING_SHARE * (turn > 0)) / config.turns, (turn + 1) / config.turns)
        for one, result in zip(dialogues, self.writer.write(asks, share), strict=True):
            answer = result.text.strip()
            answer = answer if result.finish_reason == "stop" else whole_sentences(answer)
            one.ended = answer_refusal(answer, one) if not result.error else "too_long"
            one.refused = result.text.strip() if one.ended else ""
            if not one.ended:
                one.said.append(answer)
                one.messages.append({"role": "assistant", "content": answer})

    def _continue(self, dialogues: Sequence[Dialogue], turn: int) -> None:
        openings = [one.rng.choice(one.user.openings) for one in dialogues]
        engine = self.writer.engine
        prompts = [
            opened_turn(engine.tokenizer, one.user.note(), one.messages, opening)
            if isinstance(engine, Tokenized)
            else swapped_roles(one.user.note(), one.messages, opening)
            for one, opening in zip(dialogues, openings, strict=True)
        ]
        self._take(dialogues, turn, prompts, openings)

    def _instruct(self, dialogues: Sequence[Dialogue], turn: int) -> None:
        prompts = [[{"role": "user", "content": one.user.request(one.messages)}] for one in dialogues]
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
        results = self.writer.generate(prompts, params, (turn / config.turns, (turn + ASKING_SHARE) / config.turns))
        for one, opening, result in zip(dialogues, openings, results, strict=True):
            for draft in result.outputs:
                text = user_turn(opening + draft.text, draft.finish_reason == "stop")
                one.ended = "user_" + reason if (reason := refusal(text, one.messages)) else ""
                one.refused = opening + draft.text if one.ended else ""
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


def live(dialogues: Sequence[Dialogue]) -> list[Dialogue]:
    """Those that go on."""
    return [one for one in dialogues if not one.ended]
