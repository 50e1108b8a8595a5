"""What a stage writes: deterministic shards, resume, curves, progress, one manifest at the end whatever is killed."""

import hashlib
import math
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.artifacts import Artifact, fingerprint_of
from infra.errors import ArtifactCorrupt, InputError, StageFailed
from infra.output import Outcome, Output
from infra.parquet import is_whole, open_parquet, to_parquet
from infra.storage import Storage
from tasks.rows import ATTRIBUTE, DIALOGUE, ITEM, PREFERENCE, PROMPT, RESPONSE, TEXT, TOPIC, make_row

SCHEMA = pa.schema([("id", pa.string()), ("n", pa.int64())], metadata={"ratchet.schema": "1.0"})
PROVENANCE: dict[str, Any] = {"recipe": {}, "inputs": {}, "version": 1, "label": "numbers", "device": "cpu",
                              "wall_s": 1.5, "code_version": "v0"}  # fmt: skip
NewOutput = Callable[[], Output]


def rows_of(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": f"row-{number}", "n": number} for number in numbers]


@pytest.fixture
def artifact(store: Storage) -> Artifact:
    return Artifact(stage="numbers", kind="dataset", fingerprint=fingerprint_of("numbers", 1, {}, {}), store=store.uri)


@pytest.fixture
def events() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def begin(artifact: Artifact, store: Storage, workspace: Path, events: list[dict[str, Any]]) -> NewOutput:
    """A fresh Output at the same address: what a restarted job has."""
    return lambda: Output(artifact, store, events.append, workspace)


class TestShards:
    def test_a_restarted_job_skips_what_is_there(self, begin: NewOutput) -> None:
        first = begin()
        first.write_shard(0, rows_of(1, 2), SCHEMA)
        again = begin()
        assert [again.has_shard(number) for number in (0, 1)] == [True, False]
        assert again.read_shard(0) == rows_of(1, 2)
        again.write_shard(1, rows_of(3), SCHEMA)
        made = again.commit(Outcome(), **PROVENANCE)
        assert made.rows() == rows_of(1, 2, 3)
        assert made.manifest().rows == 3
        assert made.verify() == []

    def test_a_complete_shard_wins(self, begin: NewOutput, artifact: Artifact, store: Storage) -> None:
        begin().write_shard(0, rows_of(1), SCHEMA)
        before = store.read(f"{artifact.key}/part-00000.parquet")
        output = begin()
        output.write_shard(0, rows_of(2, 3), SCHEMA)
        assert store.read(f"{artifact.key}/part-00000.parquet") == before
        assert output.commit(Outcome(), **PROVENANCE).manifest().rows == 1

    @pytest.mark.parametrize("schema", [PROMPT, DIALOGUE, RESPONSE, PREFERENCE, ATTRIBUTE, ITEM, TEXT, TOPIC])
    def test_every_row_schema_resumes(self, store: Storage, workspace: Path, schema: pa.Schema) -> None:
        artifact = Artifact(stage="rows", kind="dataset", fingerprint="0" * 32, store=store.uri)
        Output(artifact, store, lambda event: None, workspace).write_shard(0, [make_row(schema, {}, 0)], schema)
        before = store.read(f"{artifact.key}/part-00000.parquet")
        output = Output(artifact, store, lambda event: None, workspace)
        assert output.has_shard(0)
        output.write_shard(0, [make_row(schema, {}, 2)], schema)
        assert store.read(f"{artifact.key}/part-00000.parquet") == before
        output.write_shard(1, [make_row(schema, {}, 1)], schema)
        made = output.commit(Outcome(), **PROVENANCE)
        assert made.rows() == [make_row(schema, {}, 0), make_row(schema, {}, 1)]

    def test_a_broken_shard_is_made_again(self, begin: NewOutput, artifact: Artifact, store: Storage) -> None:
        begin().write_shard(0, rows_of(*range(100)), SCHEMA)
        key = f"{artifact.key}/part-00000.parquet"
        whole = store.read(key)
        flipped = bytearray(whole)
        flipped[60] ^= 0xFF
        for broken in (b"", whole[:-10], whole[:50], bytes(flipped), b"PAR1"):
            store.put(key, broken)
            output = begin()
            assert not output.has_shard(0)
            with pytest.raises(ArtifactCorrupt, match="no readable shard"):
                output.read_shard(0)
            output.write_shard(0, rows_of(*range(100)), SCHEMA)
            assert store.read(key) == whole

    def test_a_shard_of_another_schema_is_made_again(self, begin: NewOutput) -> None:
        begin().write_shard(0, [{"other": "x"}], pa.schema([("other", pa.string())]))
        output = begin()
        output.write_shard(0, rows_of(1), SCHEMA)
        assert output.commit(Outcome(), **PROVENANCE).rows() == rows_of(1)

    def test_shards_that_differ_in_schema_are_refused(self, begin: NewOutput) -> None:
        begin().write_shard(0, [{"other": "x"}], pa.schema([("other", pa.string())]))
        output = begin()
        assert output.has_shard(0)
        output.write_shard(1, rows_of(1), SCHEMA)
        with pytest.raises(StageFailed, match="shards differ in their schema"):
            output.commit(Outcome(), **PROVENANCE)

    def test_no_rows(self, begin: NewOutput) -> None:
        output = begin()
        output.write_shard(0, [], SCHEMA)
        made = output.commit(Outcome(), **PROVENANCE)
        assert made.rows() == [] and made.table().schema.names == ["id", "n"]

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ({"id": "x"}, r"row 1: missing columns \['n'\]"),
            ({"id": "x", "n": 1, "m": 2}, r"row 1: .*unknown columns \['m'\]"),
            ({"id": "x", "n": "one"}, r"row 1, column 'n': .*expected int64"),
            ({"id": "x", "n": 2**70}, r"row 1, column 'n'"),
            ({"id": "\ud800", "n": 1}, r"row 1, column 'id'"),
        ],
    )
    def test_rows_that_do_not_fit(self, begin: NewOutput, row: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            begin().write_shard(0, [*rows_of(1), row], SCHEMA)

    def test_shard_numbers(self, begin: NewOutput) -> None:
        for number in (-1, 100_000):
            with pytest.raises(InputError, match=f"shard number {number}"):
                begin().write_shard(number, rows_of(1), SCHEMA)


class TestParquet:
    ROW = {"family": "f", "topic": "t", "messages": [{"role": "user", "content": "é"}], "verifier": None}

    def test_same_rows_same_bytes(self) -> None:
        rows = [make_row(PROMPT, self.ROW, number) for number in range(5000)]
        assert to_parquet(rows, PROMPT) == to_parquet([dict(reversed(row.items())) for row in rows], PROMPT)

    def test_bytes_are_frozen(self) -> None:
        """The promise across machines for this pyarrow version; a change here changes every dataset's checksum."""
        found = to_parquet([make_row(TEXT, {"text": "a"}, "a")], TEXT)
        assert hashlib.sha256(found).hexdigest() == "706dc61e8a2e6623f73eae9ca030ecc27130fba2f3c22a557f682a2cac276ca7"

    def test_metadata_holds_the_schema_version_and_nothing_of_the_run(self) -> None:
        metadata = open_parquet(to_parquet([make_row(TEXT, {"text": "a"}, "a")], TEXT)).metadata
        assert set(metadata.metadata) == {b"ratchet.schema", b"ARROW:schema"}
        assert metadata.created_by == f"parquet-cpp-arrow version {pa.__version__}"

    def test_whole_shards_of_every_shape(self) -> None:
        for count in (0, 1, 5000, 10_000):
            assert is_whole(to_parquet([make_row(PROMPT, self.ROW, number) for number in range(count)], PROMPT))

    def test_every_changed_or_missing_byte_is_seen(self) -> None:
        rows = [{"id": hashlib.sha256(bytes([number])).hexdigest(), "n": number} for number in range(20)]
        whole = to_parquet(rows, SCHEMA)
        for position in range(len(whole)):
            broken = bytearray(whole)
            broken[position] ^= 0x10
            assert not is_whole(bytes(broken)), position
            assert not is_whole(whole[:position]), position

    def test_misspelt_keys_inside_messages(self) -> None:
        row = make_row(DIALOGUE, {"messages": [{"role": "user", "contents": "x"}]}, "x")
        with pytest.raises(InputError, match=r"row 0, column 'messages'\[0\] is .*contents"):
            to_parquet([row], DIALOGUE)
        row = make_row(PROMPT, {"messages": [], "verifier": "sum"}, "x")
        with pytest.raises(InputError, match=r"column 'verifier' is 'sum'"):
            to_parquet([row], PROMPT)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.none() | st.integers(-(2**63), 2**63 - 1))))
    def test_rows_come_back(self, values: list[tuple[str, int | None]]) -> None:
        rows = [{"id": text, "n": number} for text, number in values]
        assert open_parquet(to_parquet(rows, SCHEMA)).read().to_pylist() == rows


class TestFiles:
    def test_all_kinds(self, begin: NewOutput, tmp_path: Path) -> None:
        (tmp_path / "model" / "sub").mkdir(parents=True)
        (tmp_path / "model" / "config.json").write_text("{}")
        (tmp_path / "model" / "sub" / "weights").write_bytes(b"\0" * 1000)
        output = begin()
        output.write_folder(tmp_path / "model")
        output.write_folder(tmp_path / "model", "copy")
        output.write_json("value.json", {"b": [1.5, None], "a": "é"})
        output.write_text("report.html", "<p>é")
        output.write_bytes("raw.bin", b"\xff")
        made = output.commit(Outcome(rows=None), **PROVENANCE)
        assert made.verify() == []
        names = [file.path for file in made.manifest().files]
        assert names == sorted(
            [
                "config.json",
                "sub/weights",
                "copy/config.json",
                "copy/sub/weights",
                "value.json",
                "report.html",
                "raw.bin",
            ]
        )
        assert made.read_json("value.json") == {"b": [1.5, None], "a": "é"}
        assert made.read_bytes("report.html").decode() == "<p>é"
        assert (tmp_path / "model" / "config.json").exists()
        assert (made.folder() / "sub" / "weights").read_bytes() == b"\0" * 1000

    def test_the_last_write_counts(self, begin: NewOutput) -> None:
        output = begin()
        output.write_text("a", "one")
        output.write_text("a", "two")
        assert output.commit(Outcome(), **PROVENANCE).read_bytes("a") == b"two"

    def test_equal_values_are_equal_bytes(self, begin: NewOutput) -> None:
        output = begin()
        output.write_json("a", {"x": 1, "y": 2})
        output.write_json("b", {"y": 2, "x": 1})
        made = output.commit(Outcome(), **PROVENANCE)
        assert made.read_bytes("a") == made.read_bytes("b")

    def test_refused_names_and_values(self, begin: NewOutput) -> None:
        output = begin()
        for name in ("manifest.json", "part-00000.parquet", "../x", "/x", "a b"):
            with pytest.raises(InputError):
                output.write_bytes(name, b"")
        with pytest.raises(InputError, match=r"x\.json\.a is nan"):
            output.write_json("x.json", {"a": math.nan})

    def test_leftovers_of_other_attempts_are_removed(
        self, begin: NewOutput, artifact: Artifact, store: Storage, workspace: Path
    ) -> None:
        begin().write_shard(7, rows_of(9), SCHEMA)
        store.put(f"{artifact.key}/old.json", b"{}")
        begin().write_text("lost-with-its-process", "x")
        output = begin()
        output.write_shard(0, rows_of(1), SCHEMA)
        output.commit(Outcome(), **PROVENANCE)
        assert store.list(artifact.key) == [
            f"{artifact.key}/{name}" for name in ("manifest.json", "part-00000.parquet")
        ]


class TestCommit:
    def test_nothing_exists_before(self, begin: NewOutput, artifact: Artifact) -> None:
        output = begin()
        output.write_shard(0, rows_of(1), SCHEMA)
        output.write_text("a", "x")
        assert not artifact.exists()
        output.commit(Outcome(), **PROVENANCE)
        assert artifact.exists()

    def test_manifest_says_where_it_comes_from(self, begin: NewOutput, artifact: Artifact, store: Storage) -> None:
        one, two = (
            Artifact(stage=f"s{digit}", kind="dataset", fingerprint=digit * 32, store=store.uri) for digit in "12"
        )
        outcome = Outcome(rows=7, metrics={"m": 0.5}, result={"verdict": "keep"}, counts={"in": 9, "kept": 7})
        begin().commit(outcome, **(PROVENANCE | {"inputs": {"base": one, "sets": (one, two)}, "recipe": {"a": 1}}))
        manifest = artifact.manifest()
        assert manifest.inputs == {"base": "1" * 32, "sets": ["1" * 32, "2" * 32]}
        assert manifest.input_stages == {"base": "s1", "sets": ["s1", "s2"]}
        assert (manifest.rows, manifest.metrics, manifest.result) == (7, {"m": 0.5}, {"verdict": "keep"})
        assert (manifest.counts, manifest.recipe, manifest.kind) == ({"in": 9, "kept": 7}, {"a": 1}, "dataset")

    def test_scratch_and_checkpoints_are_gone_afterwards(
        self, begin: NewOutput, store: Storage, workspace: Path
    ) -> None:
        output = begin()
        output.save_checkpoint(3, lambda folder: (folder / "w").touch())
        output.write_text("a", "x")
        output.scratch_folder()
        output.commit(Outcome(), **PROVENANCE)
        assert store.list("attempts") == []
        assert [*(workspace / "scratch").iterdir()] == []

    def test_of_two_writers_one_wins_and_the_other_adopts(self, begin: NewOutput, artifact: Artifact) -> None:
        outputs = [begin() for _ in range(4)]
        gate = threading.Barrier(4)

        def work(number: int) -> None:
            outputs[number].write_shard(0, rows_of(1, 2), SCHEMA)
            outputs[number].write_json("a", [1])
            gate.wait()
            outputs[number].commit(Outcome(), **(PROVENANCE | {"wall_s": float(number)}))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert artifact.verify() == [] and artifact.rows() == rows_of(1, 2)

    def test_a_late_writer_changes_nothing(self, begin: NewOutput, artifact: Artifact, store: Storage) -> None:
        late, first = begin(), begin()
        for output, text in ((first, "first"), (late, "late")):
            output.write_text("a", text)
            output.commit(Outcome(metrics={"m": 1.0 if text == "first" else 2.0}), **PROVENANCE)
        assert artifact.verify() == []
        assert (artifact.read_bytes("a"), artifact.manifest().metrics) == (b"first", {"m": 1.0})

    def test_a_writer_overtaken_at_the_last_moment_notices_damage(
        self, begin: NewOutput, artifact: Artifact, store: Storage
    ) -> None:
        """Both put their files, whose bytes differ against all promises; then the first one's manifest lands."""
        first, second = begin(), begin()
        first.write_text("a", "first")
        second.write_text("a", "other")
        first.commit(Outcome(), **PROVENANCE)
        manifest = artifact.manifest()
        store.put(f"{artifact.key}/a", b"other")
        with pytest.raises(ArtifactCorrupt, match=r"another writer .*'a'.*sha256"):
            second._put_manifest(manifest)
        assert not artifact.exists() and store.list("quarantine")

    def test_metrics_must_be_finite(self, begin: NewOutput, artifact: Artifact) -> None:
        with pytest.raises(StageFailed, match=r"metrics are not finite: \{'loss': nan\}") as caught:
            begin().commit(Outcome(metrics={"loss": math.nan, "m": 1.0}), **PROVENANCE)
        assert caught.value.stage == "numbers" and not artifact.exists()

    def test_row_count_must_agree(self, begin: NewOutput) -> None:
        output = begin()
        output.write_shard(0, rows_of(1, 2), SCHEMA)
        with pytest.raises(StageFailed, match="says 3 rows, its shards hold 2"):
            output.commit(Outcome(rows=3), **PROVENANCE)


class TestCheckpoints:
    def test_resume(self, begin: NewOutput, store: Storage) -> None:
        output = begin()
        assert output.last_checkpoint() is None
        for step in (10, 20):
            output.save_checkpoint(step, lambda folder, step=step: write_state(folder, step))
        step, folder = begin().last_checkpoint() or (0, Path())
        assert step == 20
        assert (folder / "state").read_text() == "20" and (folder / "deep" / "w").read_bytes() == b"\0" * 20
        assert {key.split("/")[-2] for key in store.list("attempts") if "deep" not in key} == {"step-00000020"}

    def test_half_written_is_ignored(self, begin: NewOutput, artifact: Artifact, store: Storage) -> None:
        begin().save_checkpoint(10, lambda folder: write_state(folder, 10))
        store.put(f"attempts/{artifact.stage}/{artifact.fingerprint}/step-00000020/state", b"20")
        assert (begin().last_checkpoint() or (0,))[0] == 10
        begin().save_checkpoint(20, lambda folder: write_state(folder, 20))
        assert (begin().last_checkpoint() or (0,))[0] == 20

    def test_damaged_is_skipped(
        self, begin: NewOutput, artifact: Artifact, store: Storage, caplog: pytest.LogCaptureFixture
    ) -> None:
        begin().save_checkpoint(10, lambda folder: write_state(folder, 10))
        key = f"attempts/{artifact.stage}/{artifact.fingerprint}/step-00000010"
        store.put(f"{key}/state", b"11")
        assert begin().last_checkpoint() is None
        assert "step 10 is damaged" in caplog.text and "has sha256" in caplog.text
        store.delete(f"{key}/state")
        assert begin().last_checkpoint() is None

    def test_older_stays_until_the_newer_is_whole(self, begin: NewOutput) -> None:
        begin().save_checkpoint(10, lambda folder: write_state(folder, 10))

        def fail(folder: Path) -> None:
            write_state(folder, 20)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            begin().save_checkpoint(20, fail)
        assert (begin().last_checkpoint() or (0,))[0] == 10

    def test_curves_have_no_seam(self, begin: NewOutput, events: list[dict[str, Any]]) -> None:
        output = begin()
        for step in range(1, 6):
            output.log_metrics(step, {"loss": 1.0 / step})
            if step == 3:
                output.save_checkpoint(step, lambda folder: write_state(folder, 3))
        resumed = begin()
        step, _ = resumed.last_checkpoint() or (0, None)
        for again in range(step + 1, 8):
            resumed.log_metrics(again, {"loss": 1.0 / again})
        resumed.log_metrics(7, {"reward": math.inf})
        curves = resumed.commit(Outcome(), **PROVENANCE).read_json("curves.json")
        assert curves == [
            *({"step": step, "values": {"loss": 1.0 / step}} for step in range(1, 7)),
            {"step": 7, "values": {"loss": 1.0 / 7, "reward": None}},
        ]
        assert events[0] == {"event": "metrics", "step": 1, "values": {"loss": 1.0}}

    def test_points_beyond_the_checkpoint_are_dropped(self, begin: NewOutput) -> None:
        output = begin()
        for step in range(1, 6):
            output.log_metrics(step, {"loss": 1.0})
        output.save_checkpoint(3, lambda folder: write_state(folder, 3))
        resumed = begin()
        assert (resumed.last_checkpoint() or (0,))[0] == 3
        curves = resumed.commit(Outcome(), **PROVENANCE).read_json("curves.json")
        assert [point["step"] for point in curves] == [1, 2, 3]


def write_state(folder: Path, step: int) -> None:
    (folder / "state").write_text(str(step))
    (folder / "deep").mkdir()
    (folder / "deep" / "w").write_bytes(b"\0" * step)


class TestEvents:
    def test_progress_is_throttled_but_ends(self, begin: NewOutput, events: list[dict[str, Any]]) -> None:
        output = begin()
        for done in range(1, 1001):
            output.progress(done, 1000, "rows", rate=2.5)
        assert [event["done"] for event in events] == [1, 1000]
        assert events[-1] == {"event": "progress", "done": 1000, "total": 1000, "unit": "rows", "rate": 2.5}

    def test_the_last_progress_gets_through_at_commit(self, begin: NewOutput, events: list[dict[str, Any]]) -> None:
        output = begin()
        for done in (1, 2, 3):
            output.progress(done, 10, "rows")
        output.commit(Outcome(), **PROVENANCE)
        assert [event["done"] for event in events] == [1, 3]

    def test_say(self, begin: NewOutput, events: list[dict[str, Any]]) -> None:
        begin().say("hello")
        assert events == [{"event": "line", "text": "hello"}]


STAGE = """
import sys, time
from pathlib import Path
import pyarrow as pa
from infra.artifacts import Artifact
from infra.output import Outcome, Output
from infra.storage import Storage

artifact = Artifact.model_validate_json(sys.argv[1])
schema = pa.schema([("n", pa.int64())], metadata={"ratchet.schema": "1.0"})
output = Output(artifact, Storage.open(artifact.store), lambda event: None, Path(sys.argv[2]))
print("started", flush=True)
for shard in range(12):
    if not output.has_shard(shard):
        output.write_shard(shard, [{"n": shard * 1000 + number} for number in range(1000)], schema)
        time.sleep(0.02)
output.write_bytes("model.bin", b"x" * 5_000_000)
output.commit(Outcome(), recipe={}, inputs={}, version=1, label="s", device="cpu", wall_s=1.0, code_version="v")
"""


def test_killed_anywhere_it_ends_with_the_same_bytes(
    store: Storage, artifact: Artifact, workspace: Path, tmp_path: Path
) -> None:
    def start(artifact: Artifact) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", textwrap.dedent(STAGE), artifact.model_dump_json(), str(workspace)]
        return subprocess.Popen(command, stdout=subprocess.PIPE)

    calm = artifact.model_copy(update={"stage": "undisturbed"})
    with start(calm) as process:
        process.communicate()
    assert process.returncode == 0
    for delay in (0.0, 0.15, 0.35):
        with start(artifact) as process:
            assert process.stdout and process.stdout.readline() == b"started\n"
            try:
                process.wait(timeout=delay)
            except subprocess.TimeoutExpired:
                process.kill()
        assert not artifact.check() or artifact.check() == [("manifest.json", "missing")]
    with start(artifact) as process:
        process.communicate()
    assert process.returncode == 0
    assert artifact.verify() == []
    assert artifact.manifest().files == calm.manifest().files
    assert artifact.manifest().rows == 12_000
    assert [*(workspace / "scratch").iterdir()] == []
