"""A stage whose code changed has a new version, or a written waiver says that its bytes stay the same."""

import shutil
from pathlib import Path

import pytest

from tests.tasks import stage_code


def test_no_stage_changed_behind_its_version() -> None:
    record, now = stage_code.Record.read(), stage_code.current()
    settle = "then run `python tests/tasks/stage_code.py` (its --help tells of waivers)"
    assert not stage_code.unsettled(record, now), f"raise these stages' versions, {settle}"
    assert (record.modules, record.versions) == (now.modules, now.versions), f"versions were raised; {settle}"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the counted code that a test may change."""
    for folder in stage_code.COUNTED:
        shutil.copytree(stage_code.ROOT / folder, tmp_path / folder)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "stage", "spared"),
    [
        ("tasks/sft.py", "sft", "gate"),
        ("models/losses/rpo.py", "preference-tuning", "evaluate"),
        ("tasks/judges/verifiers/number.py", "evaluate", "pretrain"),
    ],
)
def test_changed_code_is_found_in_every_stage_that_runs_it(tree: Path, path: str, stage: str, spared: str) -> None:
    before = stage_code.current(tree)
    (tree / path).write_text((tree / path).read_text() + "\nADDED = 1\n")
    found = stage_code.unsettled(before, stage_code.current(tree), tree)
    module = path.removesuffix(".py").replace("/", ".")
    assert module in found[stage] and spared not in found


def test_words_beside_the_code_do_not_count(tree: Path) -> None:
    before = stage_code.current(tree)
    path = tree / "tasks/sft.py"
    path.write_text("# A comment.\n\n" + path.read_text() + '\n\n"""A docstring."""\n')
    assert stage_code.unsettled(before, stage_code.current(tree), tree) == {}


def test_a_waiver_holds_for_the_code_it_names_and_a_raised_version_for_any(tree: Path) -> None:
    before = stage_code.current(tree)
    path = tree / "tasks/gate.py"
    path.write_text(path.read_text() + "\nADDED = 1\n")
    now = stage_code.current(tree)
    before.waivers = [{"modules": {"tasks.gate": now.modules["tasks.gate"]}, "reason": "adds a name"}]
    assert stage_code.unsettled(before, now, tree) == {}
    path.write_text(path.read_text() + "ADDED = 2\n")
    now = stage_code.current(tree)
    assert list(stage_code.unsettled(before, now, tree)) == ["gate"]
    now.versions["gate"] += 1
    assert stage_code.unsettled(before, now, tree) == {}
