"""`ratchet data show --html`: what is put into the page; tests/browser looks at it with a browser."""

import base64
import gzip
import hashlib
import json
import re
from pathlib import Path

from deployments.data_page.page import FIELDS, MOST_NUMBERS, data_page, lengths, measured
from tasks.dropped import dropped_row, write_dropped
from tasks.rows import DIALOGUE, PREFERENCE
from tests.deployments.test_data_trace import dialogue, pair, prompt

HOSTILE = "</script><img src=x onerror=alert(1)> <!-- [[script]] ]]> \x1b[2J \u202e"


def contents(page: str) -> list[dict]:
    """The documents in the page's data block: the artifact's facts, then the rows."""
    (block,) = re.findall(r'<script type="text/plain" id="data">([^<]*)</script>', page)
    lines = gzip.decompress(base64.b64decode(block)).decode().splitlines()
    return [json.loads(line) for line in lines]


def mixed(put, count=3):
    rows = [dialogue(prompt(f"question {number}"), "two words") for number in range(count)]

    def fill(output):
        output.write_shard(0, rows, DIALOGUE)
        write_dropped(output, [dropped_row("too_short", HOSTILE, family="open", detail="3 words", row_id="a" * 32)])

    return rows, put("mix", "mix", fill, counts={"in": count + 1, "kept": count, "dropped:too_short": 1})


def test_rows_and_what_was_left_out(put):
    rows, artifact = mixed(put)
    facts, *shown, dropped = contents(data_page(artifact))
    assert facts["counts"]["dropped:too_short"] == 1 and facts["fields"] == FIELDS and facts["rows"] == 3
    assert [row["id"] for row in shown] == [row["id"] for row in rows]
    assert shown[0]["outcome"] == "kept" and (shown[0]["words"], shown[0]["turns"]) == (4, 2)
    assert "reward" not in shown[0], "empty columns are left out"
    assert (dropped["outcome"], dropped["id"], dropped["detail"]) == ("dropped: too_short", "a" * 32, "3 words")
    assert dropped["messages"] == [{"role": "user", "content": HOSTILE}]


def test_rows_can_add_no_markup(put):
    page = data_page(mixed(put)[1])
    assert "onerror" not in page and page.count("</script>") == 2
    assert page.count("\x1b") == 0 and "http" not in re.sub(r"http://www.w3.org/2000/svg|http-equiv", "", page)


def test_the_policy_lets_one_script_run_and_nothing_be_fetched(put):
    page = data_page(mixed(put)[1])
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert f'http-equiv="Content-Security-Policy" content="{policy}"' in page


def test_no_script_of_ours_parses_markup():
    folder = Path(data_page.__code__.co_filename).parent
    for script in folder.glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", script.read_text()), (
            script
        )


def test_equal_artifacts_make_equal_pages(put):
    _, artifact = mixed(put)
    assert data_page(artifact) == data_page(artifact)


def test_lengths_of_pairs_and_texts():
    one, other = dialogue(prompt("q"), "a b c"), dialogue(prompt("q"), "d")
    row = pair(one, other) | {"chosen_reward": 2.0, "rejected_reward": 0.5}
    assert lengths(row) == {"chosen_words": 3, "rejected_words": 1, "reward_gap": 1.5}
    assert lengths(pair(one, other)) == {"chosen_words": 3, "rejected_words": 1}
    for half in ({"chosen_reward": 2.0}, {"rejected_reward": 2.0}):
        assert "reward_gap" not in lengths(pair(one, other) | half)
    assert lengths({"text": "three words here"}) == {"words": 3} and lengths({}) == {"words": 0}


def test_long_lists_of_numbers_are_cut():
    row = measured(
        {"token_ids": [*range(100)], "parents": [str(number) for number in range(100)], "text": "", "topic": None}
    )
    assert row["token_ids"] == [*range(MOST_NUMBERS), "… 100 in all"] and len(row["parents"]) == 100
    assert set(row) == {"token_ids", "parents", "words"}


def test_the_command_writes_a_file(ratchet, put, tmp_path):
    _, artifact = mixed(put, 10)
    file = tmp_path / "new" / "page.html"
    document = ratchet("data", "show", "mix", "--html", file, "--json").document
    assert document == {"uri": artifact.uri, "file": str(file), "rows": 10, "bytes": file.stat().st_size}
    assert len(contents(file.read_text())) == 12
    some = ratchet("data", "show", "mix", "--html", file, "--rows", "4", "--offset", "7")
    assert some.code == 0 and some.out == "" and "3 of 10 rows are in" in some.err
    assert [item.name for item in file.parent.iterdir()] == ["page.html"]


def test_what_has_no_rows_has_no_page(ratchet, put, put_rows, tmp_path):
    put("sft", "model", lambda output: output.write_text("w", "w"), kind="checkpoint")
    ended = ratchet("data", "show", "sft", "--html", tmp_path / "page.html")
    assert ended.code == 2 and "holds no rows" in ended.err and not (tmp_path / "page.html").exists()
    put_rows("preferences", "none", [], PREFERENCE)
    assert ratchet("data", "show", "preferences", "--html", tmp_path / "page.html").code == 0
    assert ratchet("data", "show", "preferences", "--html", tmp_path).code == 2
