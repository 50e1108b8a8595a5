"""The table of a search in the report: every candidate with its setting, the chosen one marked, the rule in words."""

import re

import pytest

from infra.output import Outcome
from tasks import tune
from tasks.configs.tune import TuneConfig
from tests.tasks.reporting.conftest import answers, examine


@pytest.fixture
def searched(turn):
    """A turn whose general SFT was chosen among three learning rates, and the table of that search."""
    made = turn("better")
    models, exams = [], []
    for place, (rate, right) in enumerate(((1e-5, 3), (1e-4, 9), (1e-3, 4)), 1):
        label = f"general sft [{place} of 3]"
        outcome = Outcome(metrics={"final_loss": 0.5 / place, "tokens": 12345})
        models.append(made.workshop.put(label, "sft", "checkpoint", recipe={"learning_rate": rate}, outcome=outcome))
        rows = answers("dev", lambda number, right=right: number % right != 0, label, 60)
        exams.append(examine(made.workshop, f"{label} dev", rows, model=models[-1]))
    inputs = {"models": tuple(models), "evaluations": tuple(exams)}
    return made, made.workshop.make("general sft search", tune.run, TuneConfig(), **inputs)


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_every_candidate_is_shown_and_the_chosen_one_marked(searched):
    made, table = searched
    said = text_of(made.html({"searches": (table,)}))
    assert "general sft search: 3 candidates candidate learning rate development accuracy" in said
    assert "1 1e−05 66.7 % 21.7 %" in said and "2 chosen 0.0001 88.3 % 0.0 % 0.0 % 0.25 12 345" in said
    assert "Best accuracy 88.3% on 60 development items; no other candidate is within 1 standard error" in said


def test_a_search_s_jobs_are_timed_with_the_candidates_that_lost(searched):
    made, table = searched
    steps = [f"general sft [{place} of 3]{exam}" for place in (1, 2, 3) for exam in ("", " dev")]
    timeline = ({"job": "general sft", "seconds": 20.0, "steps": [*steps, "general sft search"]},)
    assert "general sft 20.0 s 17.5 s" in text_of(made.html({"searches": (table,)}, timeline=timeline, seed=1))


def test_a_turn_without_searches_says_nothing_of_them(turn):
    assert " search" not in text_of(turn("better").html())
