"""Resume checkpoints of one step and of several, by one process and by two: which is the newest, and what goes when."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.artifacts import Artifact
from infra.attempts import Checkpoints, checkpoint_names, whole_checkpoints
from infra.storage import Storage
from infra.team import Team

Open = Callable[[], Checkpoints]


@pytest.fixture
def begin(store: Storage, tmp_path: Path) -> Open:
    artifact = Artifact(stage="sft", kind="checkpoint", fingerprint="1" * 32, store=store.uri)
    return lambda: Checkpoints(store, artifact, tmp_path / "in", Team())


def save(checkpoints: Checkpoints, step: int, text: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"state-{checkpoints.team.rank}").write_text(text)
    checkpoints.save(step, folder, {"said": text})


def save_cut_short(
    checkpoints: Checkpoints, step: int, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the marker is written."""
    put = checkpoints.store.put

    def killed(key: str, data: bytes) -> None:
        if key.endswith("complete.json"):
            raise KeyboardInterrupt
        put(key, data)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(checkpoints.store, "put", killed)
        save(checkpoints, step, text, folder)


def newest(checkpoints: Checkpoints) -> tuple[int, str]:
    found = checkpoints.last()
    assert found is not None
    step, folder, extra = found
    text = (folder / f"state-{checkpoints.team.rank}").read_text()
    assert extra["said"] == text
    return step, text


def test_of_several_of_one_step_the_last_is_the_newest(begin: Open, store: Storage, tmp_path: Path) -> None:
    checkpoints = begin()
    for number in range(12):
        save(checkpoints, 9, f"part {number}", tmp_path / "out")
        assert newest(begin()) == (9, f"part {number}")
    assert checkpoint_names(store, checkpoints.key) == ["step-00000009-00011"]
    save(begin(), 10, "next step", tmp_path / "out")
    assert newest(begin()) == (10, "next step")
    assert checkpoint_names(store, checkpoints.key) == ["step-00000010"]


def test_one_of_the_same_step_stays_until_the_newer_is_whole(
    begin: Open, store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(begin(), 9, "first", tmp_path / "out")
    cut_short = begin()
    save_cut_short(cut_short, 9, "second", tmp_path / "out", monkeypatch)
    assert newest(begin()) == (9, "first")
    save(begin(), 9, "third", tmp_path / "out")
    assert newest(begin()) == (9, "third")
    assert checkpoint_names(store, cut_short.key) == ["step-00000009-00002"]


def test_what_was_cut_short_does_not_pile_up_nor_count(
    begin: Open, store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes that always die while they write must be seen to come no further, and must not fill the store."""
    save(begin(), 9, "first", tmp_path / "out")
    key = begin().key
    for _ in range(3):
        save_cut_short(begin(), 9, "cut short", tmp_path / "out", monkeypatch)
        assert len(checkpoint_names(store, key)) == 2
        assert whole_checkpoints(store, key) == ["step-00000009"]
    assert newest(begin()) == (9, "first")


def test_a_damaged_one_of_the_same_step_is_skipped(begin: Open, store: Storage, tmp_path: Path) -> None:
    """The older is still there where the newer's writer was killed before it removed it."""
    save(begin(), 9, "first", tmp_path / "out")
    key = begin().key
    kept = {name: store.read(name) for name in store.list(key)}
    save(begin(), 9, "second", tmp_path / "out")
    for name, data in kept.items():
        store.put(name, data)
    assert newest(begin()) == (9, "second")
    store.put(f"{key}/step-00000009-00001/state-0", b"other bytes")
    assert newest(begin()) == (9, "first")


def test_two_processes_choose_the_same_one(store: Storage, tmp_path: Path) -> None:
    artifact = Artifact(stage="sft", kind="checkpoint", fingerprint="1" * 32, store=store.uri)
    gate = threading.Barrier(2, timeout=60)

    def meet() -> None:
        gate.wait()

    def work(rank: int) -> list[tuple[int, str]]:
        checkpoints = Checkpoints(store, artifact, tmp_path / f"in-{rank}", Team(rank, 2, meet))
        assert checkpoints.last() is None
        found = []
        for step, text in ((4, "whole"), (4, "part"), (4, "more"), (5, "whole")):
            folder = tmp_path / f"out-{rank}"
            folder.mkdir(exist_ok=True)
            (folder / f"state-{rank}").write_text(text)
            checkpoints.save(step, folder, {"said": text})
            found.append(newest(checkpoints))
            meet()  # `newest` reads; the next save removes
        return found

    with ThreadPoolExecutor(2) as pool:
        results = [*pool.map(work, range(2))]
    assert results == [[(4, "whole"), (4, "part"), (4, "more"), (5, "whole")]] * 2
