"""What a user writes becomes a plan, or one clear error that names the field."""

from pathlib import Path

import pytest

from deployments.commands.deploy import all_changes
from deployments.plans import load_plan
from deployments.presets import PRESETS
from infra.errors import InputError
from tasks.configs.plan import Plan
from tests.own_texts import write_example, write_one_source


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_whole_plan(name: str) -> None:
    plan = PRESETS[name](1.0)
    assert plan.preset == name
    assert plan.turn_labels() == ["dpo", "rpo 1", "rpo 2", "rpo 3"]
    assert Plan.model_validate(plan.model_dump()) == plan
    assert bool(plan.pretraining) != bool(plan.generator and plan.base)


def test_texts_that_only_the_user_has_are_asked_for() -> None:
    with pytest.raises(InputError) as error:
        load_plan("nemotron_4_15b", None, ["pretraining.documents.code.path=/data/code"])
    assert "pretraining.documents.english.path, pretraining.documents.multilingual.path" in error.value.message
    assert "continued_documents.questions.path, pretraining.human_rows.path" in error.value.message
    assert "pretraining.documents.code.path" not in error.value.message
    assert "--set pretraining.documents.english.path=" in error.value.remedy


def test_the_documented_file_is_the_paper_s_pretraining(tmp_path: Path) -> None:
    """Sections 2.1 and 2.4: blend, ramp, 8 T and 1 T tokens, two distributions, a steep decay from the last rate."""
    parts = load_plan(None, write_example(tmp_path / "data"), ()).pretraining
    preset = PRESETS["nemotron_4_15b"](1.0).pretraining
    assert parts is not None and preset is not None
    main, late = parts.main, parts.continued
    assert (main.mixture, main.batch_sizes) == (preset.main.mixture, preset.main.batch_sizes)
    assert main.mixture == {"english": 0.7, "multilingual": 0.15, "code": 0.15} == late.mixture
    assert [size for _, size in main.batch_sizes] == [count * 4096 for count in (768, 1536, 2304)]
    assert (main.max_tokens, main.model.max_positions, late.batch_sizes) == (4096, 4096, ((0, 2304 * 4096),))
    assert (main.most_tokens, late.most_tokens) == (pytest.approx(8e12, rel=1e-5), pytest.approx(1e12, rel=1e-5))
    assert (late.learning_rate_from, late.schedule, late.final_fraction) == ("base", "decay", 0.01)
    assert (late.switch_at, late.second_mixture["questions"]) == (0.8, 0.3)


def test_settings_that_do_not_fit_are_told_without_all_the_others(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        load_plan(None, write_example(tmp_path / "data"), ["pretraining.main.mixture={french: 1.0}"])
    assert error.value.message == (
        "pretraining: documents and main do not fit: mixture has weights for ['french']; the documents are of the "
        "sources ['english', 'multilingual', 'code']: take these weights out (null), or add the documents"
    )


def test_one_source_takes_the_mixtures_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_one_source(tmp_path / "mine.yaml")
    monkeypatch.chdir(tmp_path)
    parts = load_plan(None, path, ()).pretraining
    assert parts is not None and parts.main.mixture == {} == parts.continued.mixture
    assert (parts.continued.second_mixture, parts.continued.switch_at) == ({}, 1.0)


def test_relative_places_are_the_current_folder_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, found = write_one_source(tmp_path / "mine.yaml"), []
    changes = ["pretraining.human_rows.path=s3://bucket/people.jsonl", "sources={more: {reader: chats, path: ./more}}"]
    for name in ("here", "there"):
        (tmp_path / name / "mine").mkdir(parents=True)
        (tmp_path / name / "mine" / "a.txt").write_text("The same.")
        monkeypatch.chdir(tmp_path / name)
        plan = load_plan(None, path, changes)
        places = {setting: source.path for setting, source in plan.files().items()}
        texts = f"{tmp_path}/{name}/mine"
        assert places == {
            "sources.more": f"{tmp_path}/{name}/more",
            "pretraining.documents.mine": texts, "pretraining.continued_documents.mine": texts,
            "pretraining.human_rows": "s3://bucket/people.jsonl",
        }  # fmt: skip
        monkeypatch.chdir(tmp_path)
        deployed = all_changes(plan, path, tuple(changes))
        assert load_plan("nemotron_4_15b", None, deployed) == plan, "from a worker's folder"
        found.append(plan.files()["pretraining.documents.mine"].recipe())
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("documents=/data", "documents: found '/data': expected sources by name, such as {english: {reader"),
        ("human_rows=/data", "pretraining.human_rows: found '/data': expected settings, such as {reader: human_sft"),
        ("documents.english=/data", "english is '/data': expected a source, such as {english: {reader"),
        ("documents={no: {reader: plain_text, path: /data}}", "called False, which is no text in YAML: put its name"),
        ("documents={2023: {path: /data}}", "called 2023, which is no text in YAML: put its name in quotes"),
        ("documents.englsh.path=/data", "documents.englsh: no such source; did you mean 'english'?; there are"),
        ("documents.mine.path=/data", "give a new one a reader: pretraining.documents.mine={reader: plain_text"),
        ("documents.english.pth=/data", "pretraining.documents.english.pth: no such setting; did you mean 'path'"),
        ("documents.code=null", "mixture has weights for ['code']; the documents are of the sources"),
    ],
)  # fmt: skip
def test_what_is_no_source_is_told(tmp_path: Path, change: str, words: str) -> None:
    with pytest.raises(InputError) as error:
        load_plan(None, write_example(tmp_path / "data"), [f"pretraining.{change}"])
    assert words in str(error.value), str(error.value)


def test_a_scale_that_a_preset_cannot_take_is_named() -> None:
    with pytest.raises(
        InputError, match=r"^scale: 1e-05 does not suit the preset nemotron_4_15b: continued: switch_at"
    ):
        load_plan("nemotron_4_15b", None, ["scale=0.00001"])


@pytest.mark.parametrize("field", ["generator", "base"])
def test_models_are_not_named_beside_a_pretraining_part(field: str) -> None:
    with pytest.raises(InputError, match=f"{field}='hf:a/b'.* and the pretraining part makes both: set them to ''"):
        load_plan("tiny", None, [f"{field}=hf:a/b"])
    assert load_plan("tiny", None, ["generator=hf:a/b", "base=hf:a/b", "pretraining=null"]).base == "hf:a/b"


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
