"""Verifiable instructions in three forms (paper, section 3.2): the generator's requests, and what code can check.

    single_turn   request and instruction
    multi_turn    [BEGIN OF INSTRUCTION] … [END OF INSTRUCTION] and a question, its answer, the next question
    second_turn   request, the generator's answer, "revise it: …"

The verifier's payload: {"checks", "plain": the last request without them, "form", and for second_turn "draft": the
answer to revise}. An aid may start from the draft or from an answer to "plain".
"""

from collections.abc import Generator, Sequence
from itertools import islice

from tasks.generation import Ask
from tasks.prompts import instructions, open_qa, writing
from tasks.prompts.calls import Answer
from tasks.prompts.family import Conversation, Draft, Job, Questions, asked, register, template
from tasks.prompts.instructions.drafting import Drafts, Request, Turns, draft
from tasks.prompts.instructions.forms import form_counts
from tasks.prompts.instructions.revising import second_turns
from tasks.prompts.instructions.standing import multi_turns

TEMPLATE = template("instruction")


@register("instruction")
def write(job: Job) -> Conversation:
    """Single turns stand in for what the other forms could not make."""
    counts = form_counts(job.wanted, job.config.forms)
    sizes = [job.rng.choice(TEMPLATE["standing_questions"]) for _ in range(counts["multi_turn"])]
    alone = job.wanted - counts["multi_turn"]
    tasks = round(alone * TEMPLATE["writing_share"])
    questions = iter((yield from open_qa.draft(job, alone - tasks + sum(sizes))))
    groups = [group for size in sizes if len(group := list(islice(questions, size))) == size]
    requests = [*islice(questions, alone - tasks), *(yield from _short_tasks(job, tasks))]
    job.rng.shuffle(requests)
    revised, single = requests[: counts["second_turn"]], [*requests[counts["second_turn"] :], *questions]
    turns = Turns(job)
    drafts = yield from _side_by_side([multi_turns(job, turns, groups), second_turns(job, turns, revised)])
    wanted = job.wanted - len(drafts) if counts["single_turn"] else 0
    return [*drafts, *(_single_turn(job, turns, request) for request in single[:wanted])]


def _short_tasks(job: Job, wanted: int) -> Questions:
    if not wanted:
        return []
    return (yield from writing.draft(job, wanted, writing.TEMPLATE["short_documents"]))[:wanted]


def _single_turn(job: Job, turns: Turns, request: Request) -> Draft:
    topic, text = request
    instructed = instructions.ask(turns.draw("single_turn"), text, job.rng, "training")
    return draft(topic, asked(instructed.message), instructed, "single_turn")


def _side_by_side(parts: Sequence[Drafts]) -> Generator[list[Ask], list[Answer], list[Draft]]:
    """Their calls together, round by round; their drafts in the order of the parts."""
    done: dict[int, list[Draft]] = {}
    said: dict[int, list[Answer] | None] = dict.fromkeys(range(len(parts)))
    while said:
        asks = {}
        for place, answers in said.items():
            try:
                asks[place] = next(parts[place]) if answers is None else parts[place].send(answers)
            except StopIteration as ended:
                done[place] = ended.value
        given = iter((yield [ask for mine in asks.values() for ask in mine]) if asks else ())
        said = {place: list(islice(given, len(mine))) for place, mine in asks.items()}
    return [one for place in sorted(done) for one in done[place]]
