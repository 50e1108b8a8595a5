"""`ratchet data`: listings, rows of hostile text, and what `verify` finds."""

import json
from pathlib import Path

import pytest

from deployments.cli import main
from deployments.readable import harmless
from tasks.rows import DIALOGUE, PROMPT, make_row

PROVENANCE = {"source": "test", "synthetic": True, "generator": "0" * 32, "licence": "CC0-1.0"}
COMMANDS = ("ls", "show", "trace", "export", "verify", "gc")
HOSTILE = "\x1b[2J\x1b]0;owned\x07 [bold red]not bold[/] [/nope] \x9b31m \r over \u202e txt.exe"


def prompt(text: str) -> dict:
    messages = [{"role": "user", "content": text}]
    return make_row(PROMPT, {"family": "open", "topic": "tea", "messages": messages, **PROVENANCE}, text)


def dialogue(parent: dict, answer: str) -> dict:
    messages = [*parent["messages"], {"role": "assistant", "content": answer}]
    values = {"prompt_id": parent["id"], "family": "open", "messages": messages, "reward": float("nan"), **PROVENANCE}
    return make_row(DIALOGUE, values, messages, [parent["id"]])


@pytest.fixture
def chain(put, put_rows):
    """Prompts → dialogues → a model → a model from it; and a model that saw none of these."""
    asked = [prompt(f"question {n}") for n in range(3)]
    prompts = put_rows("prompts", "prompts", asked, PROMPT, counts={"in": 4, "kept": 3, "dropped:short": 1})
    answered = [dialogue(row, f"answer to {row['messages'][0]['content']}") for row in asked[:2]]
    dialogues = put_rows("dialogues", "dialogues", answered, DIALOGUE, inputs={"prompts": prompts})
    weights = lambda output: output.write_text("model.txt", "weights")  # noqa: E731
    model = put("sft", "sft", weights, kind="checkpoint", inputs={"dialogues": dialogues})
    later = put("preference_tuning", "dpo", weights, kind="checkpoint", inputs={"policy": model})
    other = put("sft", "other", weights, kind="checkpoint")
    return {"rows": asked, "answers": answered, "prompts": prompts, "dialogues": dialogues, "model": model,
            "later": later, "other": other}  # fmt: skip


def test_ls_lists_what_is_there(ratchet, chain):
    listed = {row["uri"]: row for row in ratchet("data", "ls", "--json").document}
    assert set(listed) == {chain[name].uri for name in ("prompts", "dialogues", "model", "later", "other")}
    manifest = chain["prompts"].manifest()
    assert listed[chain["prompts"].uri] == {
        "kind": "dataset", "stage": "prompts", "uri": chain["prompts"].uri, "fingerprint": manifest.fingerprint,
        "rows": 3, "bytes": manifest.bytes, "sha256": manifest.sha256(), "created": manifest.created,
    }  # fmt: skip
    assert [row["uri"] for row in ratchet("data", "ls", "--stage", "dialogues", "--json").document] == [
        chain["dialogues"].uri
    ]
    assert {row["kind"] for row in ratchet("data", "ls", "--kind", "checkpoint", "--json").document} == {"checkpoint"}
    assert f"prompts/{manifest.fingerprint}" in ratchet("data", "ls").out


def test_an_empty_store_lists_nothing(ratchet, workspace):
    ended = ratchet("data", "ls", "--json")
    assert (ended.code, ended.document) == (0, [])
    assert not workspace.exists(), "looking must not make a workspace"


@pytest.mark.parametrize("form", ["uri", "address", "prefix", "manifest"])
def test_show_finds_an_artifact_by_each_of_its_names(ratchet, chain, form):
    artifact = chain["dialogues"]
    names = {
        "uri": artifact.uri,
        "address": f"dialogues/{artifact.fingerprint}",
        "prefix": artifact.fingerprint[:8],
        "manifest": f"{artifact.uri}/manifest.json",
    }
    shown = ratchet("data", "show", names[form], "--rows", "1", "--offset", "1", "--json").document
    assert shown["uri"] == artifact.uri and shown["manifest"]["inputs"] == {"prompts": chain["prompts"].fingerprint}
    (row,) = shown["rows"]
    assert row["id"] == chain["answers"][1]["id"]
    assert row["reward"] is None, "NaN is no JSON"


def test_show_for_people_has_manifest_and_chat(ratchet, chain):
    out = ratchet("data", "show", f"prompts/{chain['prompts'].fingerprint[:6]}").out
    assert all(words in out for words in ("dropped:short", "user: question 2", "family=open", "licence=CC0-1.0"))
    out = ratchet("data", "show", chain["model"].uri).out
    assert f"dialogues/{chain['dialogues'].fingerprint}" in out and "model.txt" in out


def test_hostile_text_is_shown_and_never_obeyed(ratchet, put_rows):
    rows = [dialogue(prompt("hello"), HOSTILE)]
    artifact = put_rows("dialogues", HOSTILE, rows, DIALOGUE, recipe={"note": HOSTILE}, result={"note": HOSTILE})
    ended = ratchet("data", "show", artifact.fingerprint)
    assert ended.code == 0
    assert not set(ended.out) & {"\x1b", "\x07", "\x9b", "\r", "\u202e"}
    for shown in (r"\x1b[2J\x1b]0;owned\x07", "[bold red]not bold[/] [/nope]", r"\x9b31m", r"\r over", r"\u202e"):
        assert ended.out.count(shown) >= 3, shown
    assert ratchet("data", "show", artifact.fingerprint, "--json").document["rows"][0]["messages"][1][
        "content"
    ] == HOSTILE  # fmt: skip


def test_harmless_leaves_ordinary_text_alone():
    text = "Grüße, 東京, שלום, 👩\u200d🚀\n\tcode: x[0] = {'a': 1}"
    assert harmless(text) == text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ffffffff/", ["no artifact matches 'ffffffff/'", "ratchet data ls"]),
        ("nosuch/00", ["no artifact matches 'nosuch/00'"]),
        ("../../etc", ["is no artifact"]),
        ("", ["is no artifact"]),
    ],
)
def test_show_of_what_is_not_there(ratchet, chain, name, words):
    ended = ratchet("data", "show", name)
    assert ended.code == 2 and ended.out == "" and len(ended.err.splitlines()) == 1
    assert all(word in ended.err for word in words), ended.err


def test_an_ambiguous_name_lists_the_candidates(ratchet, chain):
    ended = ratchet("data", "show", "sft")
    assert ended.code == 2 and "2 artifacts match 'sft'" in ended.err
    assert all(f"sft/{chain[name].fingerprint}" in ended.err for name in ("model", "other"))
    assert ratchet("data", "show", "prompts", "--json").document["uri"] == chain["prompts"].uri


def test_verify_passes_a_whole_store(ratchet, chain):
    ended = ratchet("data", "verify", "--json")
    assert (ended.code, ended.document) == (0, {"checked": 5, "bad": []})


def test_verify_names_every_kind_of_damage(ratchet, chain, store):
    changed = Path(chain["model"].uri, "model.txt")
    changed.write_text("weightz")
    missing = Path(chain["other"].uri, "model.txt")
    missing.unlink()
    Path(chain["later"].uri, "manifest.json").write_text("{")
    strange = Path(chain["dialogues"].uri, "manifest.json")
    strange.write_text(json.dumps(json.loads(strange.read_text()) | {"schema_version": "9.0"}))
    ended = ratchet("data", "verify", "--json")
    assert ended.code == 1 and ended.document["checked"] == 5
    bad = {(item["uri"], item["file"]): item["reason"] for item in ended.document["bad"]}
    assert set(bad) == {
        (chain["model"].uri, "model.txt"), (chain["other"].uri, "model.txt"), (chain["later"].uri, "manifest.json"),
        (chain["dialogues"].uri, "manifest.json"),
    }  # fmt: skip
    assert "sha256" in bad[chain["model"].uri, "model.txt"] and bad[chain["other"].uri, "model.txt"] == "missing"
    assert "9.0" in bad[chain["dialogues"].uri, "manifest.json"]
    shown = ratchet("data", "verify")
    assert shown.code == 1 and "5 artifacts checked, 4 bad files" in shown.out
    assert len(ratchet("data", "ls", "--json").document) == 3, "what can be read is still listed"


def test_showing_changed_rows_fails_with_one_json_document(ratchet, chain):
    part = Path(chain["prompts"].uri, "part-00000.parquet")
    data = bytearray(part.read_bytes())
    data[100] ^= 1
    part.write_bytes(data)
    ended = ratchet("data", "show", chain["prompts"].uri, "--json")
    assert ended.code == 1 and "sha256" in ended.document["error"]["message"]


def test_show_names_the_check_where_a_part_is_missing(ratchet, chain):
    Path(chain["prompts"].uri, "part-00000.parquet").unlink()
    ended = ratchet("data", "show", chain["prompts"].uri)
    assert ended.code == 1 and "part-00000.parquet" in ended.err and "ratchet data verify" in ended.err


@pytest.mark.parametrize(
    "arguments", [("data", "nosuch"), ("data", "ls", "--kind", "poem"), ("data", "show", "a", "--rows=-1")]
)
def test_wrong_usage_is_bad_input(ratchet, arguments):
    ended = ratchet(*arguments)
    assert ended.code == 2 and ended.out == "" and ended.err.startswith("ratchet: ")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(ratchet, command):
    ended = ratchet("data", command, "--help")
    assert ended.code == 0 and f"Example: ratchet data {command}" in ended.out


def test_without_a_subcommand_they_are_listed(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["data"])
    captured = capsys.readouterr()
    assert ended.value.code == 2 and captured.out == ""
    assert all(f"\n  {name} " in captured.err for name in COMMANDS)
