"""Python problems about a keyword, for beginners, intermediate and advanced programmers (paper, section 3.2)."""

from tasks.prompts.family import Conversation, Job, register, template
from tasks.prompts.problems import ask_problems, plan_problems, problems

LEVELS = template("coding")["levels"]


@register("coding")
def write(job: Job) -> Conversation:
    planned = plan_problems(job, "python", LEVELS, job.wanted)
    answers = yield ask_problems(job, LEVELS, planned)
    return problems(job, LEVELS, planned, answers, "code")
