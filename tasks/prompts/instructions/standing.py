"""Multi-turn prompts: one instruction for every question, and every answer before the last question follows it.

The generator's own answer is taken where it passes, else one that code repairs.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

from tasks.answer_checks import runs_in_circles
from tasks.generation import Ask
from tasks.prompts.calls import Answer
from tasks.prompts.family import Job, Topic
from tasks.prompts.instructions import Asked, Check, repair, verify
from tasks.prompts.instructions.drafting import SAY, Drafts, Request, Turns, draft, usable
from tasks.prompts.instructions.forms import announce


@dataclass
class Standing:
    """A conversation on the way to its last question."""

    topic: Topic
    """Of the last question."""
    turns: list[Asked]
    pairs: list[tuple[str, str]] = field(default_factory=list)
    """What was said so far: question, answer."""
    made: list[str] = field(default_factory=list)
    """How each answer came to be: "own" or "repair"."""

    @property
    def checks(self) -> Sequence[Check]:
        return self.turns[0].checks

    def messages(self) -> list[dict[str, str]]:
        said = [
            {"role": role, "content": text}
            for pair in self.pairs
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
        return [*said, {"role": "user", "content": self.turns[len(self.pairs)].message}]


def multi_turns(job: Job, turns: Turns, groups: Sequence[Sequence[Request]]) -> Drafts:
    """One prompt for each group of questions whose earlier answers could be made to pass."""
    open_ones = [
        Standing(group[-1][0], announce(turns.draw("multi_turn"), [text for _, text in group], job.rng, "training"))
        for group in groups
    ]
    drafts = []
    while open_ones:
        ready = [one for one in open_ones if len(one.pairs) == len(one.turns) - 1]
        drafts += [draft(one.topic, one.messages(), one.turns[-1], "multi_turn", answers=one.made) for one in ready]
        open_ones = yield from _answered(job, [one for one in open_ones if one not in ready])
    return drafts


def _answered(job: Job, open_ones: Sequence[Standing]) -> Generator[list[Ask], list[Answer], list[Standing]]:
    """The conversations after one more answer; those without a passing one are left out."""
    if not open_ones:
        return []
    asks = [job.ask({**SAY, "shots": one.pairs}, message=one.turns[len(one.pairs)].message) for one in open_ones]
    own = yield asks
    failing = [one for one, said in zip(open_ones, own, strict=True) if not _passes(one.checks, said)]
    asks = [job.ask(SAY, message=one.turns[len(one.pairs)].plain) for one in failing]
    plain = (yield asks) if asks else []
    plain_of = {id(one): said.text for one, said in zip(failing, plain, strict=True)}
    going_on = []
    for one, said in zip(open_ones, own, strict=True):
        passes = id(one) not in plain_of
        answer = said.text if passes else _repaired(one.checks, [plain_of[id(one)], said.text])
        if answer is None:
            job.reject("standing_unmet", [*one.messages(), {"role": "assistant", "content": said.text}])
            continue
        one.pairs.append((one.turns[len(one.pairs)].message, answer))
        one.made.append("own" if passes else "repair")
        going_on.append(one)
    return going_on


def _passes(checks: Sequence[Check], said: Answer) -> bool:
    return usable(said) and verify(checks, said.text)


def _repaired(checks: Sequence[Check], sources: Sequence[str]) -> str | None:
    tries = (repair(checks, text) for text in sources if text and not runs_in_circles(text))
    return next((text for text in tries if text), None)
