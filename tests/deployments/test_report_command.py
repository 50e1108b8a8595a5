"""`ratchet report`: found by the records, named when it is gone, made again when it is damaged."""

import importlib.util
from pathlib import Path

import pytest

from infra.manifest import MANIFEST
from infra.records import Records, VerdictRecord
from tasks.configs.report import ReportConfig

COMMAND = "ratchet run --preset tiny --workspace there"
WHOLE_TURN = Path(__file__).parents[1] / "tasks" / "reporting" / "conftest.py"


@pytest.fixture
def whole_turn(store, tmp_path):
    """A report with its iteration's whole chain of artifacts, made as the report's own tests make it."""
    spec = importlib.util.spec_from_file_location("whole_turn", WHOLE_TURN)
    assert spec is not None and spec.loader is not None, WHOLE_TURN
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_turn(module.Workshop(store, tmp_path), lambda number: number % 5 != 0, llm=False, min_items=200)


@pytest.fixture
def iteration(put, store):
    """`iteration(1)` puts a verdict with its record and (unless told otherwise) a report page; returns the page."""

    def make(number: int, project: str = "teas", page: str | None = "<h1>hello</h1>", created: str = ""):
        weights = lambda output: output.write_text("model.txt", f"weights {number}")  # noqa: E731
        model = put("sft", f"{project} {number}", weights, kind="checkpoint")
        verdict = put("gate", f"{project} {number}", lambda output: None, kind="verdict", inputs={"candidate": model})
        record = VerdictRecord(
            number=number, verdict="keep", candidate=model, generator=model, next_generator=model,
            created=created or f"2026-01-0{number}T00:00:00+00:00",
        )  # fmt: skip
        Records(store, project, "a1").put("verdict", number, record)
        if page is None:
            return None
        config = ReportConfig(project=project, lineage="a1", number=number, preset="tiny", steps=("general sft",),
                              data=(), reproduce=COMMAND)  # fmt: skip
        return put("report", f"report {number}", lambda output: output.write_text("report.html", page), kind="report",
                   inputs={"verdict": verdict, "exams": [model], "controls": []}, recipe=config.recipe())  # fmt: skip

    return make


def test_the_latest_iteration_s_page_is_found(ratchet, iteration):
    pages = {number: iteration(number) for number in (1, 2)}
    found = ratchet("report", "--open", "no", "--json").document
    assert found == {
        "project": "teas", "lineage": "a1", "iteration": 2, "report": f"{pages[2].uri}/report.html",
        "uri": pages[2].uri, "state": "found",
    }  # fmt: skip
    assert ratchet("report", "1").out == f"{pages[1].uri}/report.html\n"


def test_the_project_is_told_by_the_environment(ratchet, iteration, monkeypatch):
    teas, coffees = iteration(1), iteration(1, project="coffees", created="2026-02-01T00:00:00+00:00")
    assert ratchet("report", "--json").document["uri"] == coffees.uri
    monkeypatch.setenv("RATCHET_PROJECT", "teas")
    assert ratchet("report", "--json").document["uri"] == teas.uri


@pytest.mark.parametrize(
    ("arguments", "words"), [((), "no finished iteration"), (("7",), "no finished iteration 7"), (("0",), "0")]
)
def test_an_iteration_that_is_not_there(ratchet, iteration, arguments, words):
    if arguments:
        iteration(1)
    ended = ratchet("report", *arguments)
    assert ended.code == 2 and words in ended.err
    if arguments == ("7",):
        assert "1 (teas)" in ended.err


def test_a_missing_page_names_the_command_that_makes_it(ratchet, iteration):
    iteration(1)
    iteration(2, page=None)
    ended = ratchet("report", "--json")
    assert ended.code == 1
    assert COMMAND in ended.document["error"]["remedy"] and "--iterations 2" in ended.document["error"]["remedy"]


def test_a_damaged_page_whose_inputs_are_gone_stays_where_it_is(ratchet, iteration):
    page = iteration(1)
    Path(page.uri, "report.html").write_text("changed")
    verdict = page.manifest().inputs["verdict"]
    Path(page.store, "artifacts", "gate", str(verdict), MANIFEST).unlink()
    ended = ratchet("report")
    assert ended.code == 1 and f"gate/{verdict}" in ended.err and COMMAND in ended.err
    assert page.manifest(), "nothing may be moved away that cannot be made again"


def test_a_damaged_page_is_made_again_from_its_manifest(ratchet, whole_turn, store):
    made, before = whole_turn, whole_turn.html()
    exams = made.inputs["exams"]
    record = VerdictRecord(number=1, verdict="keep", candidate=exams[1], generator=exams[0], next_generator=exams[0])
    Records(store, made.config.project, made.config.lineage).put("verdict", 1, record)
    page = Path(ratchet("report").out.strip())
    assert page.read_text() == before
    page.write_bytes(b"X" + page.read_bytes()[1:])
    ended = ratchet("report", "--json")
    assert ended.code == 0 and ended.document["state"] == "made", ended.err
    assert "sha256" in ended.err and ended.document["report"] == str(page)
    after = page.read_text()
    assert after.count("<h2") == before.count("<h2") > 0
    (link,) = (url for url in made.config.links.values() if url.startswith("http"))
    assert link in before and link not in after, "clock readings and links are no part of what can be made again"
    assert next(Path(store.uri).glob("quarantine/report/*/1/report.html")).read_text()[0] == "X"
    assert ratchet("report", "--json").document["state"] == "found"
    assert ratchet("report", "--remake", "--json").document["state"] == "made"


def test_help_has_an_example(ratchet):
    assert "Example: ratchet report" in ratchet("report", "--help").out
