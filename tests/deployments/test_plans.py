"""What a user writes becomes a plan, or one clear error that names the field."""

from pathlib import Path

import pytest

from deployments.plans import load_plan
from deployments.presets import PRESETS
from infra.errors import InputError


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_whole_plan(name: str) -> None:
    plan = load_plan(name, None, ())
    assert plan.preset == name
    assert plan.turn_labels() == ["dpo", "rpo 1", "rpo 2", "rpo 3"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["general_sft.learning_rat=1e-4"], ["general_sft.learning_rat", "did you mean 'learning_rate'"]),
        (["general_sft.learning_rate=-1"], ["general_sft.learning_rate", "-1", "greater than 0"]),
        (["preference_tuning.9.beta=1"], ["preference_tuning.9", "positions 0 to 3"]),
        (["preference_tuning.1.beta=0"], ["preference_tuning.1.beta", "found 0"]),
        (["gate"], ["--set 'gate'", "--set name.of.field=value"]),
        (["scale=0"], ["scale", "found 0"]),
        (["gate.min_gain=[1"], ["--set", "no YAML"]),
    ],
)
def test_bad_settings_are_named(changes: list[str], words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        load_plan("tiny", None, changes)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_an_unknown_preset_gets_the_nearest_name() -> None:
    with pytest.raises(InputError, match="did you mean 'smollm'"):
        load_plan("smolm", None, ())


def test_a_file_names_its_preset_and_what_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("preset: tiny\ngate: {min_gain: 0.05}\npreference_tuning: {1: {beta: 0.3}}\n")
    plan = load_plan(None, path, ["gate.min_items=250"])
    assert (plan.gate.min_gain, plan.gate.min_items, plan.preference_tuning[1].beta) == (0.05, 250, 0.3)


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [1\n"])
def test_an_unreadable_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=r"mine\.yaml"):
        load_plan(None, path, ())


def test_resources_are_no_part_of_a_plan_s_identity() -> None:
    plain = load_plan("tiny", None, ())
    assert load_plan("tiny", None, ["general_sft.resources.cpus=1"]).digest() == plain.digest()
    assert load_plan("tiny", None, ["general_sft.epochs=1"]).digest() != plain.digest()


def test_iterations_seed_the_data_stages_and_nothing_else() -> None:
    plan = load_plan("tiny", None, ())
    first, second = plan.for_iteration(1), plan.for_iteration(2)
    assert first.prompts.seed != second.prompts.seed
    assert first.general_sft == second.general_sft
    assert plan.for_iteration(1) == first
