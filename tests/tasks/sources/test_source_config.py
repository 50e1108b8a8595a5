"""The stage's settings: what identifies a source, changes since the plan was made, and the check before a run."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.errors import InputError
from tasks import read_source
from tasks.configs.sources import SourceConfig, folder_beside, made_for, source_readers
from tasks.read_source import check_source
from tasks.sources.base import READERS


def asked(number: int) -> dict[str, object]:
    return {"prompt": f"What comes after the number {number}?"}


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
        two = one.model_copy(update={"path": str(Path(one.path).parents[1] / "elsewhere/data/own.jsonl")})
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
