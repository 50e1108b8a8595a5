"""The stage: rows with their provenance, filters, bad rows, files cut off, and going on after a kill."""

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from infra.artifacts import Artifact
from infra.errors import EmptyDataset, InputError
from infra.identity import fingerprint_of
from infra.output import Output
from tasks import read_source
from tasks.configs.sources import SourceConfig, folder_beside, made_for, source_readers
from tasks.read_source import check_source
from tasks.rows import ATTRIBUTE, DIALOGUE, DROPPED, PREFERENCE, PROMPT, TEXT
from tasks.sources.base import READERS

BAD = {"prompt": 7}


def asked(number: int) -> dict[str, object]:
    return {"prompt": f"What comes after the number {number}, and why is that so?"}


@pytest.fixture
def source(tmp_path):
    """`source(records, reader="prompts", **settings)`: the config of a file with these records."""

    def make(records, reader="prompts", name="own.jsonl", **settings) -> SourceConfig:
        path = tmp_path / "data" / name
        path.parent.mkdir(exist_ok=True)
        lines = "".join(record if isinstance(record, str) else json.dumps(record) + "\n" for record in records)
        path.write_bytes(gzip.compress(lines.encode()) if name.endswith(".gz") else lines.encode())
        return SourceConfig(reader=reader, path=str(path), **settings)

    return make


@pytest.fixture
def output(store, tmp_path):
    """`output(events)`: where a stage that is called by itself writes."""

    def make(events) -> Output:
        fingerprint = fingerprint_of("source", 1, {"by": "itself"}, {})
        artifact = Artifact(stage="source", kind="dataset", fingerprint=fingerprint, store=store.uri)
        return Output(artifact, store, events, tmp_path)

    return make


@pytest.fixture
def read(run_stage):
    return lambda config: run_stage(read_source.run, config)


def texts(artifact: Artifact) -> list[str]:
    return [row["messages"][0]["content"] for row in artifact.rows()]


def test_rows_have_their_provenance_and_stay_in_order(source, read):
    config = source([asked(n) for n in range(10)], shard_rows=4, licence="CC-BY-4.0")
    artifact = read(config)
    rows = artifact.rows()
    assert texts(artifact) == [asked(n)["prompt"] for n in range(10)]
    assert {(row["source"], row["family"], row["licence"], row["synthetic"], row["generator"]) for row in rows} == {
        ("prompts", "prompts", "CC-BY-4.0", False, "")
    }
    assert len({row["id"] for row in rows}) == 10 and set(rows[0]) == set(PROMPT.names)
    manifest = artifact.manifest()
    assert manifest.counts == {"in": 10, "kept": 10} and manifest.rows == 10
    assert manifest.result == {"source": "prompts", "use": "prompts", "licences": ["CC-BY-4.0"], "cut_off": [],
                               "synthetic": 0}  # fmt: skip
    assert len([file for file in manifest.files if file.path.startswith("part-")]) == 3


@pytest.mark.parametrize(
    ("reader", "use", "record", "schema", "synthetic"),
    [
        ("chats", "", {"prompt": "Hello there?", "completion": "Hello!"}, DIALOGUE, True),
        ("human_sft", "", {"prompt": "Hello there?", "completion": "Hello!"}, DIALOGUE, False),
        ("chats", "prompts", {"prompt": "Hello there?", "completion": "Hello!"}, PROMPT, False),
        ("preferences", "", {"prompt": "Hello?", "chosen": "Hello!", "rejected": "Bye."}, PREFERENCE, True),
        ("plain_text", "", {"text": "A page."}, TEXT, False),
        ("helpsteer2", "", {"prompt": "a", "response": "b", "helpfulness": 1, "correctness": 2, "coherence": 3,
                            "complexity": 4, "verbosity": 0}, ATTRIBUTE, False),
    ],
)  # fmt: skip
def test_every_use_has_its_schema(source, read, reader, use, record, schema, synthetic):
    (row,) = read(source([record], reader, use=use)).rows()
    assert set(row) == set(schema.names) and row["synthetic"] is synthetic and row["source"] == reader
    assert row.get("family", reader) == reader


def test_settings_say_more_than_the_reader(source, read):
    config = source([{"prompt": "a", "completion": "b"}], "chats", family="mine", synthetic=False, licence="MIT")
    (row,) = read(config).rows()
    assert (row["family"], row["synthetic"], row["licence"]) == ("mine", False, "MIT")


class TestFilters:
    def test_lengths_and_duplicates(self, source, read):
        records = [{"prompt": "x" * length} for length in (2, 5, 5, 20)]
        artifact = read(source(records, min_chars=3, max_chars=10))
        assert texts(artifact) == ["xxxxx"]
        assert artifact.manifest().counts == {
            "in": 4, "kept": 1, "dropped:too_short": 1, "dropped:too_long": 1, "dropped:duplicate": 1
        }  # fmt: skip

    def test_languages_are_told_from_the_text(self, source, read):
        german = "Die Kinder spielen am Nachmittag gerne im Garten hinter dem alten Haus."
        artifact = read(source([asked(1), {"prompt": german}], languages=("de",)))
        assert texts(artifact) == [german] and artifact.manifest().counts["dropped:language"] == 1

    def test_a_language_that_the_data_set_names_is_believed(self, source, read):
        record = {
            "conversation_id": "a", "conversation": [{"role": "user", "content": "Die Kinder spielen im Garten."}],
            "openai_moderation": [{"flagged": True}], "redacted": False, "language": "English",
        }  # fmt: skip
        (row,) = read(source([record], "lmsys_chat", languages=("en",))).rows()
        assert row["unsafe"] is True and row["licence"] == "LicenseRef-LMSYS-Chat-1M"

    def test_licences(self, source, read):
        records = [{"content": "import os", "license": "MIT"}, {"content": "import re", "license": "GPL-3.0-only"}]
        artifact = read(source(records, "python_files", licences=("MIT",)))
        assert [row["text"] for row in artifact.rows()] == ["import os"]
        assert artifact.manifest().result["licences"] == ["MIT"]

    def test_max_rows_counts_what_is_kept(self, source, read):
        records = [{"prompt": "x"}, *[asked(n) for n in range(9)]]
        artifact = read(source(records, max_rows=5, min_chars=3, shard_rows=4))
        assert texts(artifact) == [asked(n)["prompt"] for n in range(5)]
        assert artifact.manifest().counts == {"in": 6, "kept": 5, "dropped:too_short": 1}

    def test_what_was_left_out_can_be_looked_at(self, source, read):
        artifact = read(source([asked(1), {"prompt": "x" * 5000}], max_chars=100))
        (entry,) = read_parquet(artifact, "dropped.parquet")
        assert set(entry) == set(DROPPED.names) and entry["reason"] == "too_long" and len(entry["row_id"]) == 32
        assert entry["messages"][0]["content"] == "x" * 2000

    @pytest.mark.parametrize(
        ("settings", "remedy"),
        [
            ({"languages": ("fi",)}, "name more languages than ('fi',)"),
            ({"max_chars": 3}, "raise max_chars (now 3)"),
            ({"min_chars": 3000}, "lower min_chars (now 3000)"),
            ({"licences": ("MIT",)}, "licences=('MIT',) keeps"),
        ],
    )
    def test_filters_that_leave_nothing_say_which_setting_to_change(self, source, read, settings, remedy):
        with pytest.raises(EmptyDataset) as caught:
            read(source([asked(1), asked(2)], **settings))
        assert "none of 2 rows is kept: " in caught.value.message and remedy in caught.value.remedy

    def test_an_empty_file_says_so(self, source, read):
        with pytest.raises(EmptyDataset, match="none of 0 rows is kept: it holds no row"):
            read(source([]))


class TestBadRows:
    RECORDS = (asked(1), BAD, asked(2), '{"prompt": }\n', asked(3), asked(4))

    def test_the_first_one_stops_the_stage(self, source, read):
        with pytest.raises(InputError) as caught:
            read(source(self.RECORDS))
        assert "own.jsonl, row 2 (byte " in caught.value.message and "found 7, expected a text" in caught.value.message
        assert "bad_rows=quarantine" in caught.value.remedy

    def test_quarantine_lists_them_and_keeps_the_others(self, source, read):
        artifact = read(source(self.RECORDS, bad_rows="quarantine", max_bad_share=0.4))
        assert len(texts(artifact)) == 4 and artifact.manifest().counts == {"in": 6, "kept": 4, "dropped:bad": 2}
        lines = [json.loads(line) for line in (artifact.folder() / "quarantine.jsonl").read_text().splitlines()]
        assert [(line["file"], line["row"], line["field"]) for line in lines] == [
            ("own.jsonl", 2, "prompt or question or input or text"), ("own.jsonl", 4, "")
        ]  # fmt: skip
        assert lines[1]["byte"] == len("".join(json.dumps(record) + "\n" for record in self.RECORDS[:3]))
        entries = read_parquet(artifact, "dropped.parquet")
        assert [entry["messages"][0]["content"] for entry in entries] == ['{"prompt": 7}', ""]

    def test_too_many_show_their_number_and_the_first_three(self, source, read):
        with pytest.raises(InputError) as caught:
            read(source([asked(1), BAD, BAD, BAD, BAD], bad_rows="quarantine", max_bad_share=0.5))
        said = caught.value.message
        assert "4 of 5 rows are bad (80.00%), more than max_bad_share=0.5" in said and "max_bad_share" in said
        assert [place in said for place in ("row 2", "row 3", "row 4", "row 5")] == [True, True, True, False]

    def test_no_place_of_this_machine_is_in_what_is_kept(self, source, read, tmp_path):
        artifact = read(source(self.RECORDS, bad_rows="quarantine", max_bad_share=0.4))
        for file in artifact.folder().iterdir():
            assert file.name == "manifest.json" or str(tmp_path).encode() not in file.read_bytes()


class TestCutOff:
    RECORDS = (asked(1), asked(2), '{"prompt": "and')

    def test_it_stops_the_stage_and_says_where(self, source, read):
        with pytest.raises(
            InputError, match=r"is cut off at byte 145, within row 3, .* 2 rows stand before it.*quarantine"
        ):
            read(source(self.RECORDS))

    def test_quarantine_keeps_what_is_whole_and_tells(self, source, read):
        artifact = read(source(self.RECORDS, bad_rows="quarantine"))
        assert len(texts(artifact)) == 2
        assert artifact.manifest().result["cut_off"] == [
            {"file": "own.jsonl", "row": 3, "byte": 130, "end": 145, "reason": "the last line is no whole record"}
        ]

    def test_other_files_of_the_folder_are_read_on(self, source, read):
        first = source(self.RECORDS, name="a.jsonl")
        source([asked(3)], name="b.jsonl")
        artifact = read(first.model_copy(update={"path": str(Path(first.path).parent), "bad_rows": "quarantine"}))
        assert len(texts(artifact)) == 3 and [cut["file"] for cut in artifact.manifest().result["cut_off"]] == [
            "a.jsonl"
        ]


class TestResume:
    RECORDS = (asked(1), BAD, asked(2), asked(1), asked(3), BAD, asked(1), asked(4), asked(5), '{"cut')

    @pytest.mark.parametrize("shards", [1, 2, 3])
    def test_a_killed_stage_makes_what_an_unbroken_one_makes(self, source, read, interrupt, run_stage, shards):
        settings = {"shard_rows": 2, "bad_rows": "quarantine", "max_bad_share": 0.5}
        config = source(self.RECORDS, **settings)
        interrupt(read_source.run, config, shards)
        resumed, whole = read(config), read(config.model_copy(update={"salt": "another"}))
        assert resumed.fingerprint != whole.fingerprint
        assert contents(resumed) == contents(whole)
        assert resumed.manifest().counts == {"in": 9, "kept": 5, "dropped:bad": 2, "dropped:duplicate": 2}
        assert resumed.manifest().result == whole.manifest().result


def contents(artifact: Artifact) -> dict[str, bytes]:
    return {file.path: (artifact.folder() / file.path).read_bytes() for file in artifact.manifest().files}


def read_parquet(artifact: Artifact, name: str) -> list[dict]:
    return pq.read_table(artifact.folder() / name).to_pylist()


class TestChanges:
    """Rows of another content than the fingerprint tells are never made."""

    def test_between_the_plan_and_the_job(self, source, read):
        planned = SourceConfig.model_validate(source([asked(1)]).model_dump(mode="json"))
        assert planned.recipe() == source([asked(1)]).recipe() and len(read(planned).rows()) == 1
        source([asked(2)])
        with pytest.raises(InputError, match=rf"own.jsonl: its digest is [0-9a-f]+, expected {planned.digest}.*again"):
            read(planned.model_copy(update={"salt": "another"}))

    def test_while_the_rows_are_read(self, source, output):
        config = source([asked(n) for n in range(10)], shard_rows=4)
        with pytest.raises(InputError, match="it changed since the plan was made"):
            read_source.run(config, output(lambda event: source([asked(1)])))


class TestConfig:
    def test_every_registered_reader_can_be_named(self):
        assert source_readers() == sorted(READERS)

    def test_the_readers_names_need_none_of_them(self):
        code = "import sys; from tasks.configs.sources import source_readers; source_readers(); " \
               "sys.exit('bs4' in sys.modules or 'torch' in sys.modules)"  # fmt: skip
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0

    def test_an_unknown_reader_is_told_with_the_known_ones(self):
        with pytest.raises(ValidationError, match=r"no source reader 'shargpt'; readers: .*sharegpt"):
            SourceConfig(reader="shargpt", path="x")

    def test_lengths_that_no_text_has(self):
        with pytest.raises(ValidationError, match="min_chars is 5 and max_chars 4"):
            SourceConfig(reader="prompts", path="x", min_chars=5, max_chars=4)

    def test_the_recipe_names_the_content_not_the_place(self, source):
        one = source([asked(1)])
        two = two.model_copy(update={"path": str(Path(one.path).parents[1] / "elsewhere/data/own.jsonl")})
        shutil.copytree(Path(one.path).parent, Path(two.path).parent)
        assert one.recipe() == two.recipe() and one.path not in json.dumps(one.recipe())
        assert source([asked(2)]).recipe() != two.recipe()

    def test_what_belongs_to_a_data_set_is_in_the_recipe(self, source, tmp_path):
        told = {name: (made_for(name), folder_beside(name)) for name in READERS}
        assert told == {name: (reader.use, reader.beside) for name, reader in READERS.items()}
        config = source(["id\n"], "wiki_table_questions", name="a.tsv")
        before = config.recipe()
        (tmp_path / "csv/200-csv").mkdir(parents=True)
        (tmp_path / "csv/200-csv/1.csv").write_text("a\n")
        assert config.recipe() != before

    def test_a_missing_file_is_told(self):
        with pytest.raises(InputError, match=r"/nowhere/a.jsonl: no such file"):
            SourceConfig(reader="prompts", path="/nowhere/a.jsonl").recipe()


class TestCheck:
    def test_the_first_records_are_read(self, source):
        assert check_source(source([asked(n) for n in range(80)])) == 50

    def test_a_wrong_use_is_told(self, source):
        with pytest.raises(InputError, match=r"'prompts' has no rows for use='preferences' \(use prompts or openers\)"):
            check_source(source([asked(1)], use="preferences"))

    def test_a_file_of_something_else_is_told(self, source):
        config = source([{"question": "a", "answer": "b"}] * 3, "sharegpt", bad_rows="quarantine")
        with pytest.raises(InputError, match=r"its first rows are all bad: own.jsonl, row 1, field 'conversations'"):
            check_source(config)
        with pytest.raises(InputError, match=r"row 1 .*field 'conversations'"):
            check_source(config.model_copy(update={"bad_rows": "fail"}))

    def test_an_empty_file_is_told(self, source):
        with pytest.raises(InputError, match="no row in it"):
            check_source(source([]))
