"""Addresses, manifests, damage found and named, quarantine, the cache of remote artifacts."""

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.artifacts import Artifact, FileEntry, Manifest, addresses, fingerprint_of, input_fingerprints, list_artifacts
from infra.errors import ArtifactCorrupt, ArtifactMissing, InputError
from infra.identity import canonical_json
from infra.output import Outcome, Output
from infra.parquet import to_parquet
from infra.storage import Storage
from infra.version import code_version

SCHEMA = pa.schema([("id", pa.string()), ("n", pa.int64())], metadata={"ratchet.schema": "1.0"})
PROVENANCE: dict[str, Any] = {"version": 1, "label": "numbers", "device": "cpu", "wall_s": 1.5, "code_version": "v0"}


def rows_of(start: int, stop: int) -> list[dict[str, Any]]:
    return [{"id": f"row-{number}", "n": number} for number in range(start, stop)]


@pytest.fixture
def made(store: Storage, workspace: Path) -> Artifact:
    """A dataset of five rows in two shards, with one more file in a subfolder."""
    recipe = {"stop": 5}
    fingerprint = fingerprint_of("numbers", 1, recipe, {})
    artifact = Artifact(stage="numbers", kind="dataset", fingerprint=fingerprint, store=store.uri)
    output = Output(artifact, store, lambda event: None, workspace)
    output.write_shard(0, rows_of(0, 3), SCHEMA)
    output.write_shard(1, rows_of(3, 5), SCHEMA)
    output.write_json("extra/notes.json", {"why": "tests"})
    return output.commit(Outcome(metrics={"mean": 2.0}), recipe=recipe, inputs={}, **PROVENANCE)


class TestReading:
    def test_rows_in_order(self, made: Artifact) -> None:
        assert made.rows() == rows_of(0, 5)
        assert [row["n"] for row in made.iter_rows(batch=2)] == [0, 1, 2, 3, 4]
        assert made.table().column("n").to_pylist() == [0, 1, 2, 3, 4]
        assert made.parts() == ["part-00000.parquet", "part-00001.parquet"]

    def test_files(self, made: Artifact, store: Storage) -> None:
        assert made.read_json("extra/notes.json") == {"why": "tests"}
        assert made.uri == f"{store.uri}/{made.key}"
        with pytest.raises(ArtifactMissing, match=r"no file 'x'.*extra/notes\.json"):
            made.read_bytes("x")

    def test_a_file_that_no_manifest_names_is_not_read(self, made: Artifact, store: Storage) -> None:
        store.put(f"{made.key}/part-00002.parquet", to_parquet(rows_of(5, 9), SCHEMA))
        assert len(made.rows()) == 5
        with pytest.raises(ArtifactMissing):
            made.read_bytes("part-00002.parquet")

    def test_handle_survives_json(self, made: Artifact) -> None:
        assert Artifact.model_validate_json(made.model_dump_json()) == made

    def test_unknown_row_version(self, store: Storage, workspace: Path) -> None:
        artifact = Artifact(stage="future", kind="dataset", fingerprint="0" * 32, store=store.uri)
        output = Output(artifact, store, lambda event: None, workspace)
        output.write_shard(0, rows_of(0, 1), SCHEMA.with_metadata({"ratchet.schema": "1.7"}))
        output.commit(Outcome(), recipe={}, inputs={}, **PROVENANCE)
        assert artifact.rows() == rows_of(0, 1)
        other = Artifact(stage="future", kind="dataset", fingerprint="1" * 32, store=store.uri)
        data = to_parquet(rows_of(0, 1), SCHEMA.with_metadata({"ratchet.schema": "2.0"}))
        copy_with_file(artifact, other, "part-00000.parquet", data)
        with pytest.raises(InputError, match=r"schema version 2\.0"):
            other.rows()

    def test_no_rows_to_read(self, store: Storage, workspace: Path) -> None:
        artifact = Artifact(stage="report", kind="report", fingerprint="0" * 32, store=store.uri)
        output = Output(artifact, store, lambda event: None, workspace)
        output.write_text("report.html", "<p>")
        output.commit(Outcome(), recipe={}, inputs={}, **PROVENANCE)
        with pytest.raises(InputError, match=r"holds no rows.*report"):
            artifact.table()


def copy_with_file(source: Artifact, target: Artifact, name: str, data: bytes) -> None:
    """An artifact like `source`, with another file and a manifest that agrees with it."""
    manifest = source.manifest().model_copy(
        update={"files": [FileEntry.of(name, data)], "fingerprint": target.fingerprint}
    )
    store = target.storage()
    store.put(f"{target.key}/{name}", data)
    store.create(f"{target.key}/manifest.json", manifest.to_json().encode())


class TestManifest:
    def test_says_what_the_artifact_is(self, made: Artifact) -> None:
        manifest = made.manifest()
        assert (manifest.stage, manifest.fingerprint, manifest.kind) == ("numbers", made.fingerprint, "dataset")
        assert (manifest.rows, manifest.metrics, manifest.label) == (5, {"mean": 2.0}, "numbers")
        assert [file.path for file in manifest.files] == ["extra/notes.json", *made.parts()]
        assert manifest.bytes == sum(made.storage().size(f"{made.key}/{file.path}") for file in manifest.files)
        assert Manifest.model_validate_json(manifest.to_json()) == manifest

    def test_checksum_is_of_data_only(self, made: Artifact) -> None:
        manifest = made.manifest()
        other = manifest.model_copy(update={"created": "2000-01-01T00:00:00+00:00", "wall_s": 9.0, "device": "gpu"})
        assert other.sha256() == manifest.sha256()
        curves = manifest.files[0].model_copy(update={"path": "curves.json"})
        assert manifest.model_copy(update={"files": [curves, *manifest.files]}).sha256() == manifest.sha256()
        assert manifest.model_copy(update={"files": manifest.files[1:]}).sha256() != manifest.sha256()

    def test_missing(self, store: Storage) -> None:
        artifact = Artifact(stage="none", kind="dataset", fingerprint="0" * 32, store=store.uri)
        assert not artifact.exists()
        assert artifact.check() == artifact.verify() == [("manifest.json", "missing")]
        with pytest.raises(ArtifactMissing, match=r"no manifest at .*artifacts/none/0000"):
            artifact.manifest()

    @pytest.mark.parametrize(
        "damage",
        [
            lambda raw: b"{",
            lambda raw: b"",
            lambda raw: b"[]",
            lambda raw: b"\xff\xfe",
            lambda raw: json.dumps({k: v for k, v in raw.items() if k != "files"}).encode(),
            lambda raw: json.dumps(raw | {"rows": "5"}).encode(),
            lambda raw: json.dumps(raw | {"stage": "other"}).encode(),
            lambda raw: json.dumps(raw | {"files": [raw["files"][0] | {"path": "../../../etc/passwd"}]}).encode(),
        ],
    )
    def test_unreadable(self, made: Artifact, store: Storage, damage: Callable[[dict[str, Any]], bytes]) -> None:
        key = f"{made.key}/manifest.json"
        store.put(key, damage(json.loads(store.read(key))))
        with pytest.raises(ArtifactCorrupt, match=r"manifest\.json"):
            made.manifest()
        assert not made.exists()
        assert [file for file, _ in made.verify()] == ["manifest.json"]

    def test_unknown_major_version_is_refused_not_remade(self, made: Artifact, store: Storage) -> None:
        key = f"{made.key}/manifest.json"
        store.put(key, json.dumps(json.loads(store.read(key)) | {"schema_version": "2.0"}).encode())
        for call in (made.manifest, made.exists, made.verify):
            with pytest.raises(InputError, match=r"schema version 2\.0"):
                call()

    def test_unknown_minor_version_is_read(self, made: Artifact, store: Storage) -> None:
        key = f"{made.key}/manifest.json"
        store.put(key, json.dumps(json.loads(store.read(key)) | {"schema_version": "1.3", "new": 1}).encode())
        assert made.exists()


class TestDamage:
    def test_missing_file(self, made: Artifact, store: Storage, caplog: pytest.LogCaptureFixture) -> None:
        store.delete(f"{made.key}/part-00001.parquet")
        with caplog.at_level(logging.WARNING):
            assert not made.exists()
        assert f"{made.uri} is damaged: part-00001.parquet: missing" in caplog.text
        assert made.check() == [("part-00001.parquet", "missing")]

    def test_wrong_size(self, made: Artifact, store: Storage) -> None:
        key = f"{made.key}/part-00000.parquet"
        store.put(key, store.read(key)[:-1])
        size = store.size(key)
        assert made.check() == [("part-00000.parquet", f"has {size} bytes, the manifest says {size + 1}")]

    def test_changed_byte(self, made: Artifact, store: Storage) -> None:
        key = f"{made.key}/part-00000.parquet"
        data = bytearray(store.read(key))
        data[len(data) // 2] ^= 1
        store.put(key, bytes(data))
        assert made.exists()
        [(file, reason)] = made.verify()
        assert file == "part-00000.parquet" and reason.startswith("sha256 is ")
        with pytest.raises(ArtifactCorrupt, match=r"part-00000\.parquet .*the manifest says"):
            made.rows()

    def test_several(self, made: Artifact, store: Storage) -> None:
        store.delete(f"{made.key}/part-00001.parquet")
        store.put(f"{made.key}/extra/notes.json", b"x" * store.size(f"{made.key}/extra/notes.json"))
        assert [file for file, _ in made.verify()] == ["part-00001.parquet", "extra/notes.json"]

    def test_quarantine_and_making_again(self, made: Artifact, store: Storage, workspace: Path) -> None:
        before = made.manifest().sha256()
        store.put(f"{made.key}/part-00000.parquet", b"broken")
        first = made.quarantine("a test broke it")
        assert not made.exists() and store.list(made.key) == []
        assert store.read(f"{first}/reason.txt") == b"a test broke it"
        assert store.read(f"{first}/part-00000.parquet") == b"broken"
        assert store.exists(f"{first}/manifest.json")
        self.make_again(made, store, workspace)
        assert made.verify() == [] and made.manifest().sha256() == before
        second = made.quarantine("again")
        assert first != second and store.exists(f"{first}/manifest.json")

    def test_output_quarantines_a_damaged_artifact_itself(
        self, made: Artifact, store: Storage, workspace: Path
    ) -> None:
        store.put(f"{made.key}/part-00000.parquet", b"broken")
        self.make_again(made, store, workspace)
        assert made.verify() == [] and made.rows() == rows_of(0, 5)
        assert b"part-00000.parquet: has 6 bytes" in store.read(
            f"quarantine/{made.stage}/{made.fingerprint}/1/reason.txt"
        )

    def make_again(self, made: Artifact, store: Storage, workspace: Path) -> None:
        output = Output(made, store, lambda event: None, workspace)
        assert not output.has_shard(0)
        output.write_shard(0, rows_of(0, 3), SCHEMA)
        output.write_shard(1, rows_of(3, 5), SCHEMA)
        output.write_json("extra/notes.json", {"why": "tests"})
        output.commit(Outcome(), recipe={"stop": 5}, inputs={}, **PROVENANCE)


class TestFolder:
    def test_has_every_file(self, made: Artifact, workspace: Path) -> None:
        folder = made.folder()
        for file in made.manifest().files:
            assert (folder / file.path).read_bytes() == made.read_bytes(file.path)
        if made.store.startswith("s3:"):
            assert folder == workspace / "cache" / f"numbers-{made.fingerprint}"
            assert [path.name for path in folder.parent.iterdir()] == [folder.name]
        else:
            assert folder == Path(made.store, made.key)

    def test_remote_files_are_fetched_once(self, made: Artifact, store: Storage) -> None:
        if not made.store.startswith("s3:"):
            return
        folder = made.folder()
        for file in made.manifest().files:
            store.delete(f"{made.key}/{file.path}")
        assert made.folder() == folder

    def test_another_content_replaces_the_cached_one(self, made: Artifact, store: Storage) -> None:
        if not made.store.startswith("s3:"):
            return
        folder = made.folder()
        (folder / "manifest.json").write_text(
            made.manifest().model_copy(update={"files": made.manifest().files[1:]}).to_json()
        )
        (folder / "extra" / "notes.json").unlink()
        assert (made.folder() / "extra" / "notes.json").exists()

    def test_damaged_download_is_refused(self, made: Artifact, store: Storage, workspace: Path) -> None:
        if not made.store.startswith("s3:"):
            return
        key = f"{made.key}/extra/notes.json"
        store.put(key, b"x" * store.size(key))
        with pytest.raises(ArtifactCorrupt, match=r"extra/notes\.json arrived with sha256"):
            made.folder()
        assert [*(workspace / "cache").iterdir()] == []

    def test_missing(self, store: Storage) -> None:
        with pytest.raises(ArtifactMissing):
            Artifact(stage="none", kind="checkpoint", fingerprint="0" * 32, store=store.uri).folder()


class TestListing:
    def test_only_with_manifests(self, made: Artifact, store: Storage, caplog: pytest.LogCaptureFixture) -> None:
        store.put(f"artifacts/numbers/{'0' * 32}/part-00000.parquet", b"half-made")
        store.put(f"artifacts/other/{'1' * 32}/manifest.json", b"{")
        assert list_artifacts(store) == list_artifacts(store, "numbers") == [made]
        assert list_artifacts(store, "none") == []
        assert f"other/{'1' * 32}/manifest.json" in caplog.text
        assert addresses(store) == [("numbers", made.fingerprint), ("other", "1" * 32)]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)
RECIPES = st.dictionaries(st.text(max_size=5), PLAIN, max_size=5)


class TestFingerprint:
    @settings(max_examples=100, deadline=None)
    @given(RECIPES)
    def test_does_not_depend_on_order_and_survives_json(self, recipe: dict[str, Any]) -> None:
        found = fingerprint_of("stage", 1, recipe, {"a": "1", "b": ["2", "3"]})
        assert len(found) == 32 and set(found) <= set("0123456789abcdef")
        reordered = dict(reversed([*recipe.items()]))
        assert fingerprint_of("stage", 1, reordered, {"b": ["2", "3"], "a": "1"}) == found
        assert fingerprint_of("stage", 1, json.loads(json.dumps(recipe)), {"a": "1", "b": ["2", "3"]}) == found

    @settings(max_examples=100, deadline=None)
    @given(RECIPES, RECIPES)
    def test_different_recipes_have_different_addresses(self, one: dict[str, Any], two: dict[str, Any]) -> None:
        same = canonical_json(one) == canonical_json(two)
        assert (fingerprint_of("s", 1, one, {}) == fingerprint_of("s", 1, two, {})) == same
        if not same:
            assert json.loads(canonical_json(one)) == one

    def test_everything_counts(self) -> None:
        base = fingerprint_of("s", 1, {"a": 1}, {"x": ["1", "2"]})
        others = [
            fingerprint_of("t", 1, {"a": 1}, {"x": ["1", "2"]}),
            fingerprint_of("s", 2, {"a": 1}, {"x": ["1", "2"]}),
            fingerprint_of("s", 1, {"a": 2}, {"x": ["1", "2"]}),
            fingerprint_of("s", 1, {"a": 1}, {"x": ["2", "1"]}),
            fingerprint_of("s", 1, {"a": 1}, {"y": ["1", "2"]}),
        ]
        assert len({base, *others}) == 6

    def test_is_frozen(self) -> None:
        """An address is for ever: a change here loses every user's cache."""
        assert (
            fingerprint_of("sft", 1, {"lr": 5e-5, "é": None}, {"base": "0" * 32}) == "a631f64d6233f2799e83c151714826cf"
        )

    @pytest.mark.parametrize(
        ("recipe", "place"),
        [
            ({"a": {"b": [1, math.nan]}}, r"\$\.recipe\.a\.b\[1\] is nan"),
            ({"a": math.inf}, r"\$\.recipe\.a is inf"),
            ({"a": {1: 2}}, r"\$\.recipe\.a has the key 1 of type int"),
            ({"a": Path("x")}, r"\$\.recipe\.a is of type"),
            ({"a": "\ud800"}, "no valid Unicode"),
        ],
    )
    def test_refuses_what_json_cannot_hold(self, recipe: dict[str, Any], place: str) -> None:
        with pytest.raises(InputError, match=place):
            fingerprint_of("s", 1, recipe, {})

    def test_inputs_by_name(self, store: Storage) -> None:
        one, two = (
            Artifact(stage="s", kind="dataset", fingerprint=digit * 32, store=store.uri) for digit in ("1", "2")
        )
        assert input_fingerprints({"a": one, "b": (one, two)}) == {"a": "1" * 32, "b": ["1" * 32, "2" * 32]}


def test_code_version_names_the_commit() -> None:
    assert code_version().split("+")[0].isalnum() and len(code_version().split("+")[0]) == 12
