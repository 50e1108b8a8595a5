"""Two-turn prompts: a real user's first turn, the generator's answer, and a second turn that the generator writes for
the user (paper, section 3.2.1).

    User: XXX; Assistant: XXX; User: XXX
"""

from collections.abc import Sequence
from functools import lru_cache

from tasks.answer_checks import similarity
from tasks.prompts.exchanges import replies, reply_fault, said
from tasks.prompts.family import Conversation, Draft, Job, Row, asked, register, template
from tasks.prompts.quality import copies, flaw, names
from tasks.prompts.sentences import sentences, words
from tasks.rows import PROMPT, make_row
from tasks.user_turns import refusal, user_turn

TEMPLATE = template("two_turn")
SAME = 0.6
"""Similarity from which a turn is an example with a word changed."""


@register("two_turn")
def write(job: Job) -> Conversation:
    openers = _openers(job)
    answers = yield replies(job, [asked(_first(row)) for row in openers], TEMPLATE["answer_tokens"])
    exchanges: list[tuple[Row, list[dict[str, str]]]] = []
    for row, answer in zip(openers, answers, strict=True):
        messages = [*asked(_first(row)), {"role": "assistant", "content": said(answer)}]
        if fault := reply_fault(messages[-1]["content"]):
            job.reject(f"answer_{fault}", messages)
        else:
            exchanges.append((row, messages))
    variants = [job.rng.choice([*TEMPLATE["variants"]]) for _ in exchanges]
    openings = [job.rng.choice(TEMPLATE["variants"][variant]) for variant in variants]
    turns = yield [
        job.ask(TEMPLATE["follow_up"], user=_first(row), assistant=messages[1]["content"], variant=variant,
                opening=opening)
        for (row, messages), variant, opening in zip(exchanges, variants, openings, strict=True)
    ]  # fmt: skip
    drafts = []
    for (row, messages), variant, opening, answer in zip(exchanges, variants, openings, turns, strict=True):
        turn = "".join(sentences(user_turn(answer.text, answer.finished))[:1])
        if fault := _turn_fault(turn, opening, messages, job):
            job.reject(f"follow_up_{fault}", [*messages, {"role": "user", "content": answer.text}])
        else:
            drafts.append(_draft(row, [*messages, {"role": "user", "content": turn}], variant))
    return drafts


def _openers(job: Job) -> list[Row]:
    """As many as drafts are needed, in an order of the job's own; each once."""
    given = job.material.get("openers") or shipped_openers()
    suited = [row for row in given if _suits(row, job.reserved)]
    return job.rng.sample(suited, min(len(suited), job.drafts(1)))


def _suits(row: Row, reserved: Sequence[str]) -> bool:
    first = row["messages"][0]
    length = len(words(first["content"]))
    return (
        first["role"] == "user"
        and not row["unsafe"]
        and 3 <= length <= TEMPLATE["opener_words"]
        and not names(first["content"], reserved)
    )


def _first(row: Row) -> str:
    return row["messages"][0]["content"]


def _turn_fault(turn: str, opening: str, messages: Sequence[Row], job: Job) -> str:
    if fault := refusal(turn, messages) or flaw(turn):
        return fault
    shown = [text for _, text in TEMPLATE["follow_up"]["shots"]]
    if (
        copies(turn.removeprefix(opening), TEMPLATE["follow_up"])
        or max(similarity(turn, text) for text in shown) > SAME
    ):
        return "copies_an_example"
    return "evaluation_topic" if any(names(text, job.reserved) for text in (turn, messages[1]["content"])) else ""


def _draft(row: Row, messages: list[dict[str, str]], variant: str) -> Draft:
    return Draft(
        None, messages, "follow_up", "follow_up", parents=(row["id"],), licences=(row["licence"],),
        details={"variant": variant, "opener": row["source"]},
    )  # fmt: skip


@lru_cache(maxsize=1)
def shipped_openers() -> tuple[Row, ...]:
    """The project's own, written by hand, as rows like those of a source."""
    return tuple(
        make_row(
            PROMPT,
            {"family": "openers", "topic": "", "task": "", "answer_format": "", "messages": asked(text), "side": "",
             "unsafe": False, "details": "{}", "source": "two_turn/openers", "synthetic": False, "generator": "",
             "licence": TEMPLATE["licence"]},
            ["openers", text],
        )
        for text in TEMPLATE["openers"]
    )  # fmt: skip
