"""Readers of sets that ask about a page, a document or a table: FinQA, ChatQA, WikiTableQuestions."""

import json
from typing import Any

import pytest

from tasks.judges.ground_truth import verify
from tasks.sources import chatqa, finqa, wiki_table_questions
from tasks.sources.base import READERS, BadRow, Place, Record
from tasks.sources.files import read_file
from tasks.sources.places import source_files


def rows_of(reader, *values, use: Any = "", file="train.json"):
    return [row for n, value in enumerate(values, 1) for row in reader.read(Record(value, Place(file, n), use, file))]


def records(path):
    """What stands in a file, where nothing is broken."""
    items = [*read_file(source_files(str(path))[0], "prompts")]
    assert items and all(isinstance(item, Record) for item in items), items
    return [item for item in items if isinstance(item, Record)]


def refused(reader, value, field, file="train.json"):
    """The record is a bad row that names file, row and field."""
    with pytest.raises(BadRow) as bad:
        rows_of(reader, value, file=file)
    assert str(bad.value).startswith(f"{file}, row 1") and field in bad.value.field, bad.value


def report(qa=None, **changes):
    """An entry of FinQA's files."""
    question = {
        "question": "what was the percentage change in sales from 2020 to 2021?", "answer": "25%",
        "program": "subtract(50, 40), divide(#0, 40)", "gold_inds": {"table_1": "…"}, "exe_ans": 0.25,
    }  # fmt: skip
    return {
        "id": "AB/2021/page_7.pdf-1", "pre_text": ["sales grew .", ".", "costs did too ."],
        "post_text": ["see note 3 ."],
        "table": [["( in millions )", "2021", "2020"], ["sales | net", "$ 50", "$ 40"], ["costs", "30"]],
        "qa": question | (qa or {}),
    } | changes  # fmt: skip


def test_finqa_shows_text_and_table(tmp_path):
    path = tmp_path / "train.json"
    path.write_text(json.dumps([report(), report(pre_text=[], qa={"exe_ans": "yes", "answer": "yes"})]))
    change, yes = [row for record in records(path) for row in finqa.read(record)]
    asked = change["messages"][0]["content"]
    assert asked.startswith(
        "sales grew . . costs did too .\n\n| ( in millions ) | 2021 | 2020 |\n| --- | --- | --- |\n"
    )
    assert "| sales \\| net | $ 50 | $ 40 |\n| costs | 30 |  |\n\nsee note 3 .\n\nwhat was the percentage" in asked
    for answer, right in (("25%", True), ("0.25", True), ("25.2", True), ("26%", False), ("40", False)):
        assert verify(change["verifier"], f"The answer is {answer}") is right, answer
    assert yes["messages"][0]["content"].startswith("| ( in") and yes["answer_format"] == "yes_no"
    assert verify(yes["verifier"], "The answer is yes.") and not verify(yes["verifier"], "The answer is no.")


def test_finqa_reads_flat_copies_and_plain_amounts():
    flat = {**report(), "question": "what were sales in 2021?", "answer": "$ 50", "final_result": "50.0"}
    del flat["qa"]
    (row,) = rows_of(finqa, flat)
    assert verify(row["verifier"], "The answer is $50 million") and not verify(row["verifier"], "The answer is 5000")


@pytest.mark.parametrize(
    ("value", "field"),
    [(report(qa={"exe_ans": None}), "qa.exe_ans"), (report(qa={"exe_ans": "maybe"}), "qa.exe_ans"),
     (report(qa={"question": ""}), "qa.question"), (report(qa={"question": 1}), "qa.question"),
     (report(table=[]), "table"), (report(table=[["a"], "b"]), "table, row 2"), (report(pre_text="sales"), "pre_text"),
     (report(post_text=[1]), "post_text"), (report() | {"qa": ["?"]}, "qa")],
)  # fmt: skip
def test_finqa_refuses(value, field):
    refused(finqa, value, field)


ASKED = [{"role": "user", "content": "Who built the mill?"}]
TALK = [*ASKED, {"role": "assistant", "content": "Ann did."}, {"role": "user", "content": "When?"}]


def test_chatqa_grounds_the_first_question_and_answers_the_last():
    value = {"messages": TALK, "document": "The mill, by Ann, is of 1820.", "answers": ["In 1820."]}
    (row,) = rows_of(chatqa, value, file="chatqa/synthetic_convqa/train.json")
    assert [message["role"] for message in row["messages"]] == ["user", "assistant", "user", "assistant"]
    assert row["messages"][0]["content"] == "The mill, by Ann, is of 1820.\n\nWho built the mill?"
    assert row["messages"][-1]["content"] == "In 1820."
    assert (row["licence"], row["synthetic"]) == ("LicenseRef-non-commercial", True)
    assert TALK[0]["content"] == "Who built the mill?"


@pytest.mark.parametrize(
    ("part", "answers", "licence"),
    [("drop", ["Ann"], "CC-BY-SA-4.0"), ("narrativeqa", [["Ann", "It was Ann"]], "Apache-2.0"),
     ("squad1.1", [{"text": "Ann", "answer_start": 3}], "CC-BY-SA-4.0"), ("newsqa", ["Ann"], ""),
     ("squad2.0", {"text": ["Ann"], "answer_start": [3]}, "CC-BY-SA-4.0")],
)  # fmt: skip
def test_chatqa_takes_every_form_of_answers(part, answers, licence):
    value = {"messages": ASKED, "document": "Ann built it.", "answers": answers}
    (row,) = rows_of(chatqa, value, file=f"{part}/train.json")
    assert row["messages"][-1] == {"role": "assistant", "content": "Ann"} and row["synthetic"] is False
    assert (row["source"], row["licence"]) == (f"chatqa/{part}", licence)


def test_chatqa_without_document_or_known_folder():
    (row,) = rows_of(chatqa, {"messages": ASKED, "answers": ["Ann"]}, file="mine.json")
    assert row["messages"][0]["content"] == "Who built the mill?" and "licence" not in row


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"messages": None}, "messages"), ({"messages": TALK[:2]}, "messages"), ({"messages": TALK[1:]}, "messages"),
     ({"messages": ["Who?"]}, "messages, turn 1"), ({"messages": [{"role": "x", "content": "?"}]}, "turn 1, role"),
     ({"messages": [{"role": "user", "content": 3}]}, "turn 1, content"), ({"answers": []}, "answers"),
     ({"answers": [[]]}, "answers"), ({"answers": [{"span": "Ann"}]}, "answers"), ({"answers": [" "]}, "answers"),
     ({"document": 4}, "document"), ({"answers": None}, "messages")],
)  # fmt: skip
def test_chatqa_refuses(changes, field):
    refused(chatqa, {"messages": ASKED, "document": "Ann built it.", "answers": ["Ann"]} | changes, field)


CSV = '"Year","Winner","Said\nor sung"\n"2001","Ann","\\"Oh | no\\""\n"2002","Bo, jr.","12,467"\n'


@pytest.fixture
def tables(tmp_path):
    """WikiTableQuestions' folder with one table; gives a writer of data/training.tsv."""
    (tmp_path / "csv/200-csv").mkdir(parents=True)
    (tmp_path / "csv/200-csv/7.csv").write_text(CSV)
    (tmp_path / "secret.csv").write_text(CSV)
    (tmp_path / "data").mkdir()

    def write(*lines, folder="data"):
        path = tmp_path / folder / "training.tsv"
        path.write_text("id\tutterance\tcontext\ttargetValue\n" + "".join("\t".join(line) + "\n" for line in lines))
        return records(path)

    return write


def test_wiki_table_questions_shows_the_table(tables):
    items = tables(
        ("nt-0", 'who said "oh" first?', "csv/200-csv/7.csv", "Ann"),
        ("nt-1", "how many?", "csv/200-csv/7.csv", "12,467"),
        ("nt-2", "who won?", "csv/200-csv/7.csv", "Ann|Bo, jr."),
        ("nt-3", "what?", "csv/200-csv/7.csv", r"Oh \p no"),
    )
    first, number, both, bar = [row for item in items for row in wiki_table_questions.read(item)]
    assert first["messages"][0]["content"] == (
        "| Year | Winner | Said or sung |\n| --- | --- | --- |\n"
        '| 2001 | Ann | "Oh \\| no" |\n| 2002 | Bo, jr. | 12,467 |\n\nwho said "oh" first?'
    )
    assert verify(first["verifier"], "It was Ann.") and not verify(first["verifier"], "It was Annabel.")
    assert verify(number["verifier"], "12467 of them") and not verify(number["verifier"], "2002")
    assert verify(both["verifier"], "Bo, Jr. and Ann") and not verify(both["verifier"], "Ann")
    assert json.loads(bar["verifier"]["payload"]) == {"all": ["Oh | no"]}


def test_wiki_table_questions_reads_files_beside_the_tables_and_the_hubs_rows(tables):
    (item,) = tables(("nt-0", "who won?", "csv/200-csv/7.csv", "Ann"), folder=".")
    hub = {
        "id": "nt-0", "question": "who won?", "answers": ["Ann"],
        "table": {"header": ["Year", "Winner"], "rows": [["2001", "Ann"]], "name": "csv/200-csv/7.csv"},
    }  # fmt: skip
    (row,), (copy,) = [*wiki_table_questions.read(item)], rows_of(wiki_table_questions, hub)
    assert "| 2001 | Ann |" in row["messages"][0]["content"] and row["verifier"] == copy["verifier"]
    assert copy["messages"][0]["content"].startswith("| Year | Winner |\n| --- | --- |\n| 2001 | Ann |")
    refused(wiki_table_questions, hub | {"answers": []}, "answers")
    refused(wiki_table_questions, hub | {"table": {"header": ["Year"], "rows": "none"}}, "table.rows")


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (("nt-0", "who won?", "csv/200-csv/../../secret.csv", "Ann"), "context"),
        (("nt-0", "who won?", "/etc/passwd", "Ann"), "context"),
        (("nt-0", "who won?", "csv/200-csv/8.csv", "Ann"), "context"),
        (("nt-0", "", "csv/200-csv/7.csv", "Ann"), "utterance"),
        (("nt-0", "who won?", "csv/200-csv/7.csv", ""), "targetValue"),
        (("nt-0", "who won?", "csv/200-csv/7.csv", "Ann|"), "targetValue"),
    ],
)
def test_wiki_table_questions_refuses(tables, line, field):
    (item,) = tables(line)
    with pytest.raises(BadRow, match=r"training\.tsv, row 1") as bad:
        list(wiki_table_questions.read(item))
    assert field in bad.value.field


@pytest.mark.parametrize("content", [b'"a","\xff"\n', b'"a"\n"' + b"x" * (1 << 27)])
def test_wiki_table_questions_refuses_a_broken_table(tables, tmp_path, content):
    (item,) = tables(("nt-0", "who won?", "csv/200-csv/9.csv", "Ann"))
    (tmp_path / "csv/200-csv/9.csv").write_bytes(content)
    with pytest.raises(BadRow, match="a table that can be read") as bad:
        list(wiki_table_questions.read(item))
    assert str(tmp_path) not in bad.value.reason


def test_what_the_registers_say():
    said = {name: READERS[name] for name in ("finqa", "chatqa", "wiki_table_questions")}
    assert {name: (reader.licence, reader.synthetic, reader.uses) for name, reader in said.items()} == {
        "finqa": ("MIT", False, ("prompts",)),
        "chatqa": ("", False, ("dialogues",)),
        "wiki_table_questions": ("CC-BY-SA-4.0", False, ("prompts",)),
    }
