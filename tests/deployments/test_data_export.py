"""`ratchet data export`: the folder that comes out opens in `datasets`, and its card tells what it is."""

import json
import re
from pathlib import Path

import datasets
import pytest
import yaml

from deployments.data_card import plain
from tasks.rows import ATTRIBUTE, DIALOGUE, KEYWORD, PREFERENCE, PROMPT, RESPONSE, TEXT, TOPIC, make_row
from tests.deployments.test_data_trace import dialogue as answered
from tests.deployments.test_data_trace import pair
from tests.deployments.test_data_trace import prompt as asked

HOSTILE = "evil | `code` <script>\n# heading"


@pytest.fixture
def opened(tmp_path):
    """`opened(folder)` gives the rows as `datasets` reads them, with a cache of the test's own."""
    return lambda folder: datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))["train"]


@pytest.fixture
def mixed(put, put_rows):
    """Two shards of dialogues; the first rows have no reward, of two licences and two sources."""
    prompts = put_rows("prompts", "prompts", [asked("hello")], PROMPT)
    first, second = answered(asked("one"), "1"), answered(asked("two", "book"), "2") | {"reward": float("nan")}
    third = answered(asked("three", HOSTILE), "3") | {"reward": 3.5, "licence": "MIT, CC-BY-4.0", "synthetic": False}

    def fill(output):
        output.write_shard(0, [first, second], DIALOGUE)
        output.write_shard(1, [third], DIALOGUE)

    counts = {"in": 5, "kept": 3, "dropped:too short": 2}
    return put("mix", "general mix", fill, inputs={"prompts": prompts}, recipe={"code_share": 0.02}, counts=counts)


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_datasets_opens_it(ratchet, mixed, opened, tmp_path, kind):
    ended = ratchet("data", "export", f"mix/{mixed.fingerprint[:8]}", tmp_path / "out", "--format", kind, "--json")
    assert ended.code == 0, ended.err
    document = ended.document
    assert (document["rows"], document["artifact"]) == (3, mixed.uri)
    assert document["files"] == ["README.md", f"data/part-00000.{kind}", f"data/part-00001.{kind}"]
    assert document["licences"] == ["CC-BY-4.0", "CC0-1.0", "MIT"]
    rows = opened(tmp_path / "out")
    assert rows["id"][:] == [row["id"] for row in mixed.iter_rows()]
    assert rows["reward"][2] == 3.5 and rows["reward"][0] is None
    assert rows[0]["messages"] == [{"role": "user", "content": "one"}, {"role": "assistant", "content": "1"}]
    assert str(rows.features["reward"]) == "Value('float32')"


def test_parquet_is_the_stores_own_bytes(ratchet, mixed, tmp_path):
    ratchet("data", "export", mixed.uri, tmp_path / "out")
    for name in mixed.parts():
        assert (tmp_path / "out" / "data" / name).read_bytes() == mixed.read_bytes(name)


def test_the_card(ratchet, mixed, tmp_path):
    ratchet("data", "export", mixed.uri, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    _, head, body = card.split("---\n", 2)
    facts = yaml.safe_load(head)
    assert facts["license"] == ["cc-by-4.0", "cc0-1.0", "mit"] and facts["tags"] == ["ratchet", "synthetic"]
    assert facts["size_categories"] == ["n<1K"]
    assert body.index("3 licences apply") < body.index("## Fields")
    for words in (
        "| `dropped:too short` | 2 |", "| `kept` | 3 |", "| `book` | 1 | 33.3% |", "| `MIT, CC-BY-4.0` | 1 | 33.3% |",
        "| `messages` | list of {role: string, content: string} | the conversation", "| `true` | 2 | 66.7% |",
        f"`{mixed.fingerprint}`", mixed.manifest().sha256(), "code_share: 0.02", "version 1", "| prompts | dataset |",
        "`data/part-00001.parquet`", "code version: `test`",
    ):  # fmt: skip
        assert words in body, words
    for file in mixed.manifest().files:
        assert file.sha256 in body
    assert "\n# heading" not in body and "evil \\| 'code' <script> # heading`" in body, "in code marks on one line"


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        (TOPIC, {"topic": "tea", "macro_topic": "food"}),
        (KEYWORD, {"keyword": "list", "field": "python", "origin": "mined"}),
        (TEXT, {"text": "a document"}),
        (ATTRIBUTE, {"prompt": [{"role": "user", "content": "q"}], "response": "a", "helpfulness": 3.0}),
        (RESPONSE, {"prompt": [{"role": "user", "content": "q"}], "response": "a",
                    "verifier": {"kind": "number", "version": 1, "payload": "{}"}}),
    ],
    ids=["topic", "keyword", "text", "attribute", "response"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_every_schema_goes_out(ratchet, put_rows, opened, tmp_path, schema, values, kind):
    row = make_row(schema, values, "x")
    artifact = put_rows("some", "some", [row], schema)
    assert ratchet("data", "export", artifact.uri, tmp_path / "out", "--format", kind).code == 0
    (read,) = opened(tmp_path / "out")
    assert read == row


def test_pairs_open_as_trl_wants_them(ratchet, put_rows, opened, tmp_path):
    one = answered(asked("q"), "good")
    artifact = put_rows("preferences", "pairs", [pair(one, answered(asked("q"), "bad"))], PREFERENCE)
    ratchet("data", "export", artifact.uri, tmp_path / "out", "--format", "jsonl")
    assert opened(tmp_path / "out")[0]["chosen"] == one["messages"]


def test_nothing_is_overwritten(ratchet, mixed, tmp_path):
    (tmp_path / "out").mkdir()
    assert ratchet("data", "export", mixed.uri, tmp_path / "out").code == 0, "an empty folder is fine"
    before = (tmp_path / "out" / "README.md").stat().st_mtime_ns
    ended = ratchet("data", "export", mixed.uri, tmp_path / "out", "--json")
    assert ended.code == 2 and "holds something already" in ended.err
    assert (tmp_path / "out" / "README.md").stat().st_mtime_ns == before


@pytest.mark.parametrize("below", ["out", "more/out"])
def test_a_file_in_the_way_is_one_line(ratchet, mixed, tmp_path, below):
    (tmp_path / "file").write_text("x")
    for command in (("data", "export", mixed.uri), ("data", "show", mixed.uri, "--html")):
        ended = ratchet(*command, tmp_path / "file" / below)
        assert ended.code in (1, 2) and "file" in ended.err and len(ended.err.splitlines()) == 1


def test_nothing_in_a_row_becomes_a_link_or_an_image(ratchet, put_rows, tmp_path):
    hostile = "![x](http://evil.example/a.png)"
    rows = [answered(asked("one"), "1") | {"licence": licence} for licence in (hostile, "MIT")]
    artifact = put_rows("mix", hostile, rows, DIALOGUE)
    ratchet("data", "export", artifact.uri, tmp_path / "out")
    body = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)[2]
    assert "evil.example" in body and "2 licences apply" in body
    outside = re.sub(r"`[^`]*`|^    .*$", "", body, flags=re.M)  # code, in marks or indented
    assert not re.search(r"(?<!\\)\](?=\()|(?<!\\)!\[", outside) and "http://" not in outside
    assert plain("[a] ! b*c_d & <e> | f") == "\\[a\\] \\! b\\*c\\_d &amp; &lt;e> \\| f"


def test_a_damaged_part_leaves_nothing_behind(ratchet, mixed, tmp_path):
    part = Path(mixed.uri, "part-00001.parquet")
    part.chmod(0o644)
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    ended = ratchet("data", "export", mixed.uri, tmp_path / "out")
    assert ended.code == 1 and "part-00001.parquet" in ended.err
    assert not (tmp_path / "out").exists() and [path for path in tmp_path.iterdir() if "out" in path.name] == []


def test_a_model_is_no_data_set(ratchet, put, tmp_path):
    model = put("sft", "model", lambda output: output.write_text("w", "w"), kind="checkpoint")
    ended = ratchet("data", "export", model.uri, tmp_path / "out")
    assert ended.code == 2 and "holds no rows" in ended.err
    assert ratchet("data", "export", model.uri, tmp_path / "out", "--format", "csv").code == 2


def test_jsonl_holds_no_nan(ratchet, mixed, tmp_path):
    ratchet("data", "export", mixed.uri, tmp_path / "out", "--format", "jsonl")
    lines = (tmp_path / "out" / "data" / "part-00000.jsonl").read_text().splitlines()
    assert [json.loads(line)["reward"] for line in lines] == [None, None] and "NaN" not in lines[1]
