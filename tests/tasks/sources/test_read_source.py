"""The stage: rows with their provenance, filters, bad rows, files cut off, and going on after a kill."""

import json
import weakref
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.steps import make_step
from infra.artifacts import Artifact
from infra.errors import EmptyDataset, InputError
from infra.output import Output
from tasks import read_source
from tasks.rows import ATTRIBUTE, DIALOGUE, DROPPED, PREFERENCE, PROMPT, TEXT

BAD = {"prompt": 7}


def asked(number: int) -> dict[str, object]:
    return {"prompt": f"What comes after the number {number}, and why is that so?"}


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

    def test_nobody_knows_how_many_rows_there_will_be(self, source, store, tmp_path):
        config, events = source([asked(n) for n in range(9)], shard_rows=9), []
        read_source.run(config, Output(make_step("", config, store.uri, {}).artifact, store, events.append, tmp_path))
        told = [event for event in events if event["event"] == "progress"]
        assert [(one["done"], one["total"]) for one in told] == [(9, None), (9, 9)]

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


class TestMostRows:
    def test_nothing_after_them_is_read(self, source, read):
        artifact = read(source([*[asked(n) for n in range(5)], BAD], max_rows=5))
        assert len(texts(artifact)) == 5 and artifact.manifest().counts == {"in": 5, "kept": 5}

    @pytest.mark.parametrize("shards", [1, 2, 3])
    def test_a_killed_stage_tells_of_the_same_files_cut_off(self, source, read, interrupt, shards):
        settings = {"shard_rows": 2, "bad_rows": "quarantine", "max_rows": 5}
        first = source([asked(1), asked(2), '{"cut'], name="a.jsonl", **settings)
        source([asked(3), asked(4), asked(5), '{"cut'], name="b.jsonl")
        config = first.model_copy(update={"path": str(Path(first.path).parent)})
        interrupt(read_source.run, config, shards)
        resumed, whole = read(config), read(config.model_copy(update={"salt": "another"}))
        assert contents(resumed) == contents(whole) and resumed.manifest().result == whole.manifest().result
        assert [cut["file"] for cut in whole.manifest().result["cut_off"]] == ["a.jsonl"]

    def test_records_are_let_go_one_by_one_but_for_the_first_of_a_part(self):
        class Held:
            pass

        alive: list[weakref.ref[Held]] = []

        def items():
            for _ in range(10):
                assert sum(held() is not None for held in alive) <= 2
                item = Held()
                alive.append(weakref.ref(item))
                yield item

        for part in read_source.parts(items(), 10):
            for _ in part:
                pass
        assert len(alive) == 10


def test_bad_rows_alone_are_told_as_such(source, read):
    with pytest.raises(EmptyDataset, match=r"none of 2 rows is kept: .*bad.*look whether the file is what the reader"):
        read(source([BAD, BAD], bad_rows="quarantine", max_bad_share=1.0))
