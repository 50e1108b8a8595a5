"""The page of `ratchet data show --html`, in a real browser: search, filters, counts, keys, and hostile rows."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.data_page.page import data_page
from infra.artifacts import Artifact
from infra.output import Outcome, Output
from infra.storage import Storage
from tasks.dropped import dropped_row, write_dropped
from tasks.rows import (
    ATTRIBUTE,
    DIALOGUE,
    ITEM,
    KEYWORD,
    PREFERENCE,
    PROMPT,
    RESPONSE,
    TEXT,
    TOPIC,
    make_row,
)

pytestmark = pytest.mark.browser

PROVENANCE = {"source": "responses", "synthetic": True, "generator": "1f" * 16, "licence": "Apache-2.0"}
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script> \u202e\x1b[2J"
QUESTION = [{"role": "user", "content": "Which tea?"}]
FAMILIES = ("writing", "open_qa", "maths")
WORDS = ["tea", "leaf", "water", "cup", "steam", "kettle", "green", "black", "oolong", "harvest", "mountain", "morning"]

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Write]:
    """`write("judge", rows, RESPONSE, dropped)` makes the artifact, then its page."""
    folder = tmp_path_factory.mktemp("pages")
    store = Storage.open(folder / "store")

    def make(stage: str, rows: list[dict[str, Any]], schema: Any, dropped: Any = ()) -> Path:
        artifact = Artifact(stage=stage, kind="dataset", fingerprint="ab" * 16, store=store.uri)
        output = Output(artifact, store, lambda event: None, folder)
        output.write_shard(0, rows, schema)
        if dropped:
            write_dropped(output, dropped)
        counts = {"in": len(rows) + len(dropped), "kept": len(rows)}
        output.commit(Outcome(counts=counts), recipe={"seed": 1}, inputs={}, version=1, label=f"the {stage}",
                      device="cpu", wall_s=1.0, code_version="test")  # fmt: skip
        file = folder / f"{stage}.html"
        file.write_text(data_page(artifact), encoding="utf-8")
        return file

    yield make


def response(number: int, rng: random.Random) -> dict[str, Any]:
    family = FAMILIES[number % 3]
    text = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(20, 400)))
    values = {
        "family": family, "topic": f"topic {rng.randrange(40)}",
        "prompt": [{"role": "user", "content": f"Question {number}?"}],
        "response": text, "responder": "greedy", "sample": 0, "finish_reason": "stop",
        "passed": number % 2 == 0 if family == "maths" else None,
        "reward": None if family == "maths" else rng.gauss(3, 1), **PROVENANCE,
    }  # fmt: skip
    return make_row(RESPONSE, values, number, ["0" * 32])


@pytest.fixture(scope="module")
def responses() -> list[dict[str, Any]]:
    rng = random.Random(0)
    return [response(number, rng) for number in range(20_000)]


@pytest.fixture(scope="module")
def large(write: Write, responses: list[dict[str, Any]]) -> Path:
    """20,000 rows, and 30 that were left out."""
    reasons = ("empty", "too_long", "repeats")
    dropped = [
        dropped_row(reasons[number % 3], f"draft {number}", family="writing", detail="why") for number in range(30)
    ]
    return write("judge", responses, RESPONSE, dropped)


def choose(page: Any, facet: str, value: str) -> None:
    page.click(f'[data-facet="{facet}"] [data-value="{value}"] input')


def count(page: Any) -> str:
    return page.text("#count")


def test_it_opens_soon_and_shows_few_elements(page: Any, large: Path) -> None:
    started = time.monotonic()
    page.open(large)
    assert time.monotonic() - started < 15
    assert count(page) == "20,030 rows" and page.text("#title") == "the judge"
    assert page.run("document.querySelectorAll('.row').length") < 40
    page.run("document.getElementById('list').scrollTop = 1e9")
    page.wait("document.querySelector('.row:last-child .asked').textContent === 'draft 29'")


def test_filters_meet(page: Any, large: Path, responses: list[dict[str, Any]]) -> None:
    page.open(large)
    choose(page, "family", "maths")
    assert count(page) == f"{sum(row['family'] == 'maths' for row in responses):,} of 20,030 rows"
    writing = page.text('[data-facet="family"] [data-value="writing"] .count')
    assert writing == f"{sum(row['family'] == 'writing' for row in responses) + 30:,}", "what choosing it too would add"
    choose(page, "verdict", "passed")
    passed = sum(row["family"] == "maths" and bool(row["passed"]) for row in responses)
    assert count(page) == f"{passed:,} of 20,030 rows"
    counted = page.text('[data-facet="topic"] [data-value="topic 7"] .count')
    expected = sum(row["topic"] == "topic 7" and row["family"] == "maths" and bool(row["passed"]) for row in responses)
    assert counted == str(expected), "a facet counts what the other filters leave"
    assert page.texts("#active .chip") == ["family: maths×", "verdict: passed×"]
    page.click("#active .chip")
    assert page.texts("#active .chip") == ["verdict: passed×"]
    page.press("c")
    assert count(page) == "20,030 rows"


def test_kept_and_dropped_and_why(page: Any, large: Path) -> None:
    page.open(large)
    values = page.texts('[data-facet="outcome"] .label')
    assert values == ["kept", "dropped: empty", "dropped: repeats", "dropped: too_long"]
    choose(page, "outcome", "dropped: repeats")
    assert count(page) == "10 of 20,030 rows"
    page.press("j")
    assert page.text("#detail .why") == "Left out: repeats. why"


def test_search(page: Any, large: Path, responses: list[dict[str, Any]]) -> None:
    page.open(large)
    page.press("/")
    page.write('"kettle green" -oolong')
    expected = sum("kettle green" in row["response"] and "oolong" not in row["response"] for row in responses)
    assert 0 < expected < 20_000
    page.wait(f"document.getElementById('count').textContent === '{expected:,} of 20,030 rows'")
    assert page.run("CSS.highlights.get('found').size") > 0
    page.press("Escape")
    assert page.run("document.getElementById('search').value") == '"kettle green" -oolong', "leaving is not clearing"
    page.press("/")
    page.run("document.getElementById('search').value = ''")
    page.write(responses[77]["id"])
    page.wait("document.getElementById('count').textContent === '1 of 20,030 rows'")


def test_a_range_of_a_histogram(page: Any, large: Path) -> None:
    page.open(large)
    x, y, width, height = page.run("(({x, y, width, height}) => [x, y, width, height])"
                                   "(document.getElementById('first-histogram').getBoundingClientRect())")  # fmt: skip
    page.drag([x + 1, y + height / 2], [x + width / 2, y + height / 2])
    low, high = page.run("table.number.words.filter.chosen")
    expected = page.run(f"table.rows.filter((row) => row.words >= {low} && row.words <= {high}).length")
    assert 0 < expected < 20_030 and count(page) == f"{expected:,} of 20,030 rows"
    page.drag([x + 5, y + 5], [x + 5, y + 5])
    assert count(page) == "20,030 rows", "a click takes the range away"


def test_the_map_filters(page: Any, large: Path) -> None:
    page.open(large)
    tile = page.run("document.querySelector('.tile:not(.rest)').title")
    group, rest = tile.split(" › ")
    page.click(".tile:not(.rest)")
    topic, size = rest.rsplit(": ", 1)
    assert count(page) == f"{size.split()[0]} of 20,030 rows"
    assert set(page.texts("#active .chip")) == {f"family: {group}×", f"topic: {topic}×"}


def test_keys_addresses_and_order(page: Any, large: Path, responses: list[dict[str, Any]]) -> None:
    page.open(large, responses[12_345]["id"])
    assert page.text("#detail .user .prose") == "Question 12345?"
    assert page.text("#trace") == f"ratchet data trace {responses[12_345]['id']}"
    page.press("j")
    assert page.run("location.hash") == f"#{responses[12_346]['id']}"
    page.press("k")
    page.press("G")
    assert page.text("#detail .place") == "20,030 of 20,030"
    page.press("g")
    assert page.text("#detail .place") == "1 of 20,030"
    page.run("document.getElementById('sort').value = 'reward down'; document.getElementById('sort')"
             ".dispatchEvent(new Event('change'))")  # fmt: skip
    best = max((row for row in responses if row["reward"] is not None), key=lambda row: row["reward"])
    page.press("g")
    assert page.run("location.hash") == f"#{best['id']}"


def test_light_and_dark(page: Any, large: Path) -> None:
    page.open(large)
    colours = set()
    for _ in range(3):
        page.press("t")
        colours.add(page.run("getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2


def test_filtering_is_quick(page: Any, large: Path) -> None:
    page.open(large)
    took = page.run("(() => { const start = performance.now(); toggle(table.facet.family, 'maths'); changed();"
                    " return performance.now() - start; })()")  # fmt: skip
    assert took < 1000


def test_hostile_rows_are_text(page: Any, write: Write) -> None:
    values = dict.fromkeys(("family", "topic", "response", "responder"), HOSTILE) | PROVENANCE
    values |= {"prompt": [{"role": HOSTILE, "content": HOSTILE}]}
    values |= {"verifier": {"kind": HOSTILE, "version": 1, "payload": HOSTILE}}
    rows = [make_row(RESPONSE, values | {"source": f"s{number}{HOSTILE}"}, number, [HOSTILE]) for number in range(3)]
    page.open(write("hostile", rows, RESPONSE, [dropped_row(HOSTILE, HOSTILE, detail=HOSTILE)]))
    for _ in range(4):
        page.press("j")
    page.press("i")
    assert page.run("document.title").startswith("the hostile") and page.run("document.images.length") == 0
    assert page.run("document.scripts.length") == 2
    shown = page.text("#detail")
    assert "</script><img src=x onerror=" in shown and r"\u202e\u001b[2J" in shown and "\u202e" not in shown


@pytest.mark.parametrize(
    ("schema", "values", "seen"),
    [
        (TOPIC, {"topic": "green tea", "macro_topic": "food"}, "green tea"),
        (KEYWORD, {"keyword": "list", "field": "python", "origin": "mined"}, "list"),
        (TEXT, {"text": "a whole document"}, "a whole document"),
        (PROMPT, {"messages": QUESTION, "family": "writing", "task": "email", "details": '{"level":2}'}, '"level": 2'),
        (ITEM, {"messages": QUESTION, "half": "dev", "key": "k"}, "Which tea?"),
        (ATTRIBUTE, {"prompt": QUESTION, "response": "Oolong.", "helpfulness": 3.0}, "helpfulness"),
        (DIALOGUE, {"messages": [*QUESTION, {"role": "assistant", "content": "```python\nx = 1\n```"}]}, "x = 1"),
        (PREFERENCE, {"prompt": QUESTION, "chosen": [*QUESTION, {"role": "assistant", "content": "Oolong."}],
                      "rejected": [{"role": "assistant", "content": "None."}], "chosen_reward": 2.0,
                      "rejected_reward": -1.0, "judge": "truth"}, "rejected1 word"),
    ],
    ids=["topic", "keyword", "text", "prompt", "item", "attribute", "dialogue", "preference"],
)  # fmt: skip
def test_every_schema(page: Any, write: Write, request: Any, schema: Any, values: Any, seen: str) -> None:
    rows = [make_row(schema, values | PROVENANCE, number) for number in range(2)]
    page.open(write(request.node.callspec.id, rows, schema))
    assert count(page) == "2 rows" and seen in page.text("#detail"), page.text("#detail")


def test_answers_of_a_pair_stand_beside_each_other(page: Any, write: Write) -> None:
    sides = {name: [*QUESTION, {"role": "assistant", "content": name.upper()}] for name in ("chosen", "rejected")}
    values = {
        "prompt": QUESTION,
        **sides,
        "chosen_reward": 2.5,
        "rejected_reward": -0.5,
        "judge": "truth",
        **PROVENANCE,
    }
    page.open(write("pairs", [make_row(PREFERENCE, values, 1)], PREFERENCE))
    assert page.texts(".side .prose") == ["CHOSEN", "REJECTED"], "the prompt is not repeated"
    assert page.texts(".side .score b") == ["2.5", "-0.5"]
    (left, right) = page.run("[...document.querySelectorAll('.side')].map((side) => side.getBoundingClientRect().x)")
    assert left < right


def test_no_rows_at_all(page: Any, write: Write) -> None:
    page.open(write("nothing", [], TEXT))
    assert count(page) == "0 rows"
    page.press("j")


def test_an_address_that_was_cut_short_opens_the_page(page: Any, write: Write) -> None:
    page.open(write("cut", [make_row(TEXT, {"text": "tea", **PROVENANCE}, 1)], TEXT), "%E0%A4%A")
    assert page.text("#title") == "the cut" and page.problems == []


def test_a_page_whose_data_is_damaged_says_so(page: Any, write: Write) -> None:
    file = write("damaged", [make_row(TEXT, {"text": "tea", **PROVENANCE}, 1)], TEXT)
    start = '<script type="text/plain" id="data">'
    before, data = file.read_text().split(start)
    file.write_text(before + start + data[9:])
    page.send("Page.navigate", url=file.as_uri())
    page.wait("document.getElementById('title')?.textContent === 'This page cannot be shown'")
    assert "make it again with `ratchet data show --html`" in page.text("#subtitle")
    page.problems.clear()
