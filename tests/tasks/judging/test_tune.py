"""The choice among candidates: the rule on made-up examinations, what is refused, and a search over real trainings."""

import itertools

import pytest

from infra.errors import InputError
from infra.output import Outcome
from tasks import evaluate, sft, tune
from tasks.configs.evaluate import EvaluateConfig
from tasks.configs.training import PreferenceTuningConfig, SFTConfig
from tasks.configs.tune import TuneConfig
from tasks.evaluate import ANSWER
from tasks.rows import DIALOGUE, ITEM


def leave_a_note(config, output):
    """A training's artifact without the training: what the choice reads is in its manifest."""
    output.write_text("note.txt", "weights")
    return Outcome(metrics={"final_loss": 0.25, "tokens": 1000, "tokens_per_s": 7.0})


@pytest.fixture
def search(run_stage, put_rows, answer):
    """`search({config: right}, half="dev")`: candidates of these configs; `right(number)` says what each answers."""
    numbers = itertools.count()

    def make(candidates, key=lambda number: f"tea/{number}", half="dev"):
        models = tuple(run_stage(leave_a_note, config) for config in candidates)
        exams = []
        for model, right in zip(models, candidates.values(), strict=True):
            rows = [answer(number, right(number), half=half, key=key(number)) for number in range(100)]
            exams.append(put_rows(f"exam {next(numbers)}", rows, ANSWER, model=model))
        return {"models": models, "evaluations": tuple(exams)}

    return make


def rate(value: float) -> SFTConfig:
    return SFTConfig(learning_rate=value)


def chosen(run_stage, inputs, config=None):
    return run_stage(tune.run, config or TuneConfig(), **inputs).manifest().result


def test_the_best_on_the_development_half_goes_on(run_stage, search):
    inputs = search({rate(1e-5): lambda n: n < 40, rate(1e-4): lambda n: n < 80, rate(1e-3): lambda n: n < 60})
    artifact = run_stage(tune.run, TuneConfig(), **inputs)
    result = artifact.manifest().result
    assert (result["chosen"], result["settings"], result["half"]) == (1, {"learning_rate": 1e-4}, "dev")
    assert result["rule"] == (
        "best accuracy 80.0% on 100 development items; no other candidate is within 1 standard error of it"
    )
    assert artifact.manifest().metrics == {"accuracy": 0.8, "candidates": 3, "judged_items": 100}


def test_the_table_keeps_every_candidate_and_no_time(run_stage, search):
    inputs = search({rate(1e-5): lambda n: n < 40, rate(1e-4): lambda n: n < 80})
    artifact = run_stage(tune.run, TuneConfig(), **inputs)
    first, second = artifact.rows()
    assert [row["checkpoint"] for row in (first, second)] == [model.fingerprint for model in inputs["models"]]
    assert [row["evaluation"] for row in (first, second)] == [exam.fingerprint for exam in inputs["evaluations"]]
    assert (first["learning_rate"], first["accuracy"], first["judged_items"]) == (1e-5, 0.4, 100)
    assert (first["gap"], second["gap"], second["standard_error"]) == (pytest.approx(0.4), 0.0, 0.0)
    assert first["standard_error"] == pytest.approx((0.24 / 99) ** 0.5), "every item has a key of its own"
    assert (first["beta"], first["sft_weight"], first["final_loss"], first["tokens"]) == (None, None, 0.25, 1000)
    assert [row["chosen"] for row in (first, second)] == [row["tied"] for row in (first, second)] == [False, True]
    assert not {name for name in first if "time" in name or name.endswith("_s")}


def test_a_difference_that_the_items_cannot_tell_goes_to_the_gentler_candidate(run_stage, search):
    """Two points apart with twelve answers changed: the standard error is 3.5 points."""
    inputs = search({rate(1e-4): lambda n: n < 50 or n in (90, 91, 92, 93, 94, 95, 96), rate(1e-5): lambda n: n < 55})
    result = chosen(run_stage, inputs)
    assert result["settings"] == {"learning_rate": 1e-5} and "2 of 2 candidates are within 1 standard" in result["rule"]
    assert chosen(run_stage, inputs, TuneConfig(tie_errors=0))["settings"] == {"learning_rate": 1e-4}


def test_items_of_one_key_move_together(run_stage, search):
    """Eight points apart: more than two standard errors, unless all of them are one topic, which may not carry over."""
    candidates, wary = {rate(1e-4): lambda n: n < 58, rate(1e-5): lambda n: n < 50}, TuneConfig(tie_errors=2)
    assert chosen(run_stage, search(candidates), wary)["settings"] == {"learning_rate": 1e-4}
    together = search(candidates, key=lambda number: "tea" if 50 <= number < 58 else f"tea/{number}")
    assert chosen(run_stage, together, wary)["settings"] == {"learning_rate": 1e-5}


def test_one_topic_alone_decides_nothing(run_stage, search):
    inputs = search({rate(1e-4): lambda n: n < 90, rate(1e-5): lambda n: n < 50}, key=lambda number: "tea")
    result = chosen(run_stage, inputs)
    assert result["settings"] == {"learning_rate": 1e-5}


def test_equal_candidates_keep_to_the_anchor(run_stage, search):
    settings = [(1e-4, 0.1, 0.0), (1e-5, 0.1, 0.1), (1e-5, 0.4, 0.1), (1e-5, 0.4, 0.0)]
    configs = [PreferenceTuningConfig(learning_rate=r, beta=b, sft_weight=w) for r, b, w in settings]
    result = chosen(run_stage, search({config: lambda n: n < 50 for config in configs}))
    assert result["settings"] == {"learning_rate": 1e-5, "beta": 0.4, "sft_weight": 0.0}


def test_items_without_a_verdict_for_every_candidate_are_left_out(run_stage, search):
    first = {rate(1e-5): lambda n: None if n < 20 else n < 60, rate(1e-4): lambda n: None if n > 89 else n < 80}
    artifact = run_stage(tune.run, TuneConfig(), **search(first))
    assert [row["judged_items"] for row in artifact.rows()] == [70, 70]
    assert [row["accuracy"] for row in artifact.rows()] == [pytest.approx(4 / 7), pytest.approx(6 / 7)]


def test_the_gate_s_items_choose_nothing(run_stage, search):
    inputs = search({rate(1e-5): lambda n: True, rate(1e-4): lambda n: True}, half="gate")
    with pytest.raises(InputError, match=r"answers the half \['gate'\]; settings are chosen on the development half"):
        run_stage(tune.run, TuneConfig(), **inputs)


def test_other_items_other_models_and_lone_candidates_are_refused(run_stage, search, put_rows, answer):
    inputs = search({rate(1e-5): lambda n: True, rate(1e-4): lambda n: True})
    models, (first, second) = inputs["models"], inputs["evaluations"]
    with pytest.raises(InputError, match="stands beside"):
        run_stage(tune.run, TuneConfig(), models=models, evaluations=(second, first))
    with pytest.raises(InputError, match="1 checkpoints and 1 evaluations"):
        run_stage(tune.run, TuneConfig(), models=models[:1], evaluations=(first,))
    fewer = put_rows("fewer", [answer(n, True, half="dev") for n in range(90)], ANSWER, model=models[1])
    with pytest.raises(InputError, match="did not answer the same items: 10 differ"):
        run_stage(tune.run, TuneConfig(), models=models, evaluations=(first, fewer))


def test_open_items_alone_are_not_enough(run_stage, search):
    with pytest.raises(InputError, match="none of 100 development items"):
        run_stage(tune.run, TuneConfig(), **search({rate(1e-5): lambda n: None, rate(1e-4): lambda n: None}))


def test_real_trainings_are_examined_and_chosen_among(run_stage, put_rows, tiny_model, dialogue, item):
    talk = [dialogue("Hello?", "Hi!"), dialogue("Tea?", "Yes.")]
    data = {"base": tiny_model(), "dialogues": put_rows("talk", talk, DIALOGUE)}
    items = put_rows("items", [item(f"Question {n}?", "a", half="dev") for n in range(6)], ITEM)
    models = tuple(run_stage(sft.run, rate(value), **data) for value in (1e-3, 1e-6))
    exam = EvaluateConfig(max_tokens=4)
    exams = tuple(run_stage(evaluate.run, exam, model=model, evaluation_set=items) for model in models)
    artifact = run_stage(tune.run, TuneConfig(), models=models, evaluations=exams)
    rows = artifact.rows()
    assert [row["accuracy"] for row in rows] == [exam.manifest().metrics["accuracy"] for exam in exams]
    assert [row["final_loss"] for row in rows] == [model.manifest().metrics["final_loss"] for model in models]
    assert sum(row["chosen"] for row in rows) == 1 and rows[artifact.manifest().result["chosen"]]["chosen"]
