"""Where rows from outside go: the steps that a plan with sources comes to."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.plans import load_plan
from deployments.presets import PRESETS
from flows.execution import Planner, running
from flows.foundations import prepare
from flows.iteration import iteration
from flows.steps import Step
from infra.artifacts import Artifact
from tasks.configs.import_model import ImportModelConfig

Steps = dict[str, Step]


@pytest.fixture
def steps(tmp_path: Path) -> Callable[..., Steps]:
    """`steps("a.b=v", …)`: the steps of the first iteration of smollm, by label."""

    def walk(*changes: str) -> Steps:
        plan, planner = load_plan("smollm", None, changes), Planner(str(tmp_path / "store"))
        model = ImportModelConfig(digest="0" * 64, format="hf", source="somewhere")
        with running(planner):
            given = prepare(plan, model, model)
            iteration.fn(plan.for_iteration(1), 1, given.generator, given)
        return {step.label: step for _, found in planner.jobs for step in found}

    return walk


def write(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def labels(steps: Steps, label: str, name: str) -> set[str]:
    """Which steps an input of a step comes from."""
    made = {step.artifact: step.label for step in steps.values()}
    found = steps[label].inputs.get(name, ())
    return {made[item] for item in ((found,) if isinstance(found, Artifact) else found)}


def test_every_kind_of_source_goes_where_it_is_used(steps: Callable[..., Steps], tmp_path: Path) -> None:
    answer = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    files = {
        "asked": ("prompts", [{"prompt": "Why?"}]),
        "said": ("chats", [{"messages": answer}]),
        "liked": ("preferences", [{"prompt": "Hi", "chosen": "Hello", "rejected": "No"}]),
        "pages": ("c4", [{"text": "A page.", "timestamp": "2020-01-01T00:00:00Z", "url": "http://a"}]),
    }
    changes = []
    for name, (reader, rows) in files.items():
        changes += [f"sources.{name}.reader={reader}", f"sources.{name}.path={write(tmp_path / f'{name}.jsonl', rows)}"]
    opened = write(tmp_path / "opened.jsonl", [{"prompt": "Tell me a joke"}])
    changes += ["sources.open.reader=prompts", f"sources.open.path={opened}", "sources.open.use=openers"]
    found = steps(*changes)
    assert labels(found, "clean prompts", "rows") == {"prompts", "source asked"}
    assert labels(found, "prompts", "documents") == {"source pages"}
    assert labels(found, "prompts", "openers") == {"source open"}
    assert labels(found, "clean sources", "rows") == {"source said"}
    assert labels(found, "general mix", "sources") == {"clean sources"}
    assert labels(found, "clean preferences", "rows") == {"source liked"}
    assert labels(found, "dpo pairs", "given") == labels(found, "rpo pairs", "given") == {"clean preferences"}
    assert labels(found, "reward model", "attributes") == {"attributes"}


def test_labelled_answers_take_the_place_of_damaged_ones(steps: Callable[..., Steps], tmp_path: Path) -> None:
    labels_of = dict.fromkeys(("helpfulness", "correctness", "coherence", "complexity", "verbosity"), 3)
    file = write(tmp_path / "train.jsonl", [{"prompt": "Hi", "response": "Hello", **labels_of}])
    found = steps("sources.labels.reader=helpsteer2", f"sources.labels.path={file}")
    assert labels(found, "reward model", "attributes") == {"source labels"} and "attributes" not in found


def test_a_split_is_behind_all_prompts(steps: Callable[..., Steps]) -> None:
    assert "split prompts" not in steps()
    found = steps("split={}")
    assert labels(found, "split prompts", "rows") == {"clean prompts"}
    assert labels(found, "responses", "prompts") == labels(found, "dialogues", "prompts") == {"split prompts"}


def test_keywords_are_what_problems_are_about(steps: Callable[..., Steps]) -> None:
    assert labels(steps(), "prompts", "keywords") == {"keywords"}
    assert labels(steps("keywords=null"), "prompts", "keywords") == set()


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "tiny"])
def test_every_family_of_the_paper_is_in_every_preset_with_a_language(preset: str) -> None:
    from tasks.configs.prompts import PromptsConfig, prompt_families

    prompts = PRESETS[preset](1.0).prompts
    assert isinstance(prompts, PromptsConfig) and sorted(prompts.families) == prompt_families()
