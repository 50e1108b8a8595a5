"""`ratchet data trace`: from a row to its ancestors and to what it taught, and from a model back to its rows."""

import time
from pathlib import Path

import pyarrow as pa
import pytest

from deployments.lineage import trace
from deployments.row_counts import count_rows
from infra.records import IterationRecord, Records, VerdictRecord
from tasks.rows import DIALOGUE, PREFERENCE, PROMPT, make_row

LOGPROBS = pa.schema([("id", pa.string()), ("chosen_logprob", pa.float64())], metadata={"ratchet.schema": "1.1"})
PROVENANCE = {"synthetic": True, "generator": "0" * 32, "licence": "CC0-1.0"}


def prompt(text: str, source: str = "written") -> dict:
    messages = [{"role": "user", "content": text}]
    values = {"family": "open", "topic": "tea", "messages": messages, "source": source, **PROVENANCE}
    return make_row(PROMPT, values, text)


def dialogue(parent: dict, answer: str) -> dict:
    messages = [*parent["messages"], {"role": "assistant", "content": answer}]
    values = {
        "prompt_id": parent["id"],
        "family": "open",
        "messages": messages,
        "source": parent["source"],
        **PROVENANCE,
    }
    return make_row(DIALOGUE, values, messages, [parent["id"]])


def pair(one: dict, other: dict) -> dict:
    values = {"prompt": one["messages"][:1], "chosen": one["messages"], "rejected": other["messages"], "judge": "truth",
              "source": "preferences", **PROVENANCE}  # fmt: skip
    return make_row(PREFERENCE, values, [one["id"], other["id"]], [one["id"], other["id"]])


def weights(output) -> None:
    output.write_text("model.txt", "weights")


@pytest.fixture
def chain(put, put_rows, store):
    """Prompts → dialogues → SFT; pairs of the dialogues, with reference log-probabilities → DPO; and a bystander."""
    asked = [prompt(f"question {number}", "book" if number else "written") for number in range(3)]
    answered = [dialogue(row, f"answer {number}") for number, row in enumerate(asked[:2])]
    pairs = [pair(*answered)]
    made = {"prompts": put_rows("prompts", "prompts", asked, PROMPT)}
    made["base"] = put("import_model", "base", weights, kind="checkpoint")
    made["dialogues"] = put_rows("dialogues", "dialogues", answered, DIALOGUE, inputs={"prompts": made["prompts"]})
    made["pairs"] = put_rows("preferences", "pairs", pairs, PREFERENCE, inputs={"judged": made["dialogues"]})
    made["sft"] = put("sft", "sft", weights, kind="checkpoint",
                      inputs={"base": made["base"], "dialogues": made["dialogues"]})  # fmt: skip
    scored = [{"id": pairs[0]["id"], "chosen_logprob": -1.0}]
    inputs = {"policy": made["sft"], "pairs": made["pairs"]}
    made["reference"] = put_rows("reference-logprobs", "reference", scored, LOGPROBS, inputs=inputs)
    made["dpo"] = put("preference-tuning", "dpo", weights, kind="checkpoint",
                      inputs=inputs | {"reference": made["reference"]})  # fmt: skip
    made["other"] = put("sft", "other", weights, kind="checkpoint")
    records, base, candidate = Records(store, "demo", "abc"), made["base"], made["dpo"]
    begun = IterationRecord(number=1, lineage="abc", plan_digest="d", generator=base, base=base)
    records.put("iteration", 1, begun)
    ended = VerdictRecord(number=1, verdict="promote", candidate=candidate, generator=base, next_generator=candidate)
    records.put("verdict", 1, ended)
    return {"asked": asked, "answered": answered, "row": pairs[0], **made}


def test_a_row_up_and_down(ratchet, chain):
    first, answer = chain["asked"][0], chain["answered"][0]
    found = ratchet("data", "trace", first["id"], "--json").document
    assert (found["kind"], found["artifacts"], found["parents"]) == ("row", [chain["prompts"].uri], [])
    assert found["children"] == [
        {"id": answer["id"], "depth": 1, "artifacts": [chain["dialogues"].uri]},
        {"id": chain["row"]["id"], "depth": 2, "artifacts": [chain["pairs"].uri, chain["reference"].uri]},
    ]
    assert {entry["uri"]: entry["count"] for entry in found["datasets"]} == {
        chain[name].uri: 1 for name in ("prompts", "dialogues", "pairs", "reference")
    }
    assert {model["uri"] for model in found["models"]} == {chain["sft"].uri, chain["dpo"].uri}
    below = ratchet("data", "trace", chain["row"]["id"][:12], "--json").document
    assert [(entry["id"], entry["depth"]) for entry in below["parents"]] == [
        (chain["answered"][0]["id"], 1), (chain["answered"][1]["id"], 1), (first["id"], 2), (chain["asked"][1]["id"], 2)
    ]  # fmt: skip
    assert [model["uri"] for model in below["models"]] == [chain["dpo"].uri]


def test_a_row_that_no_model_read_taught_none(ratchet, chain):
    unused = ratchet("data", "trace", chain["asked"][2]["id"], "--json").document
    assert (unused["children"], unused["models"]) == ([], [])


def test_models_have_their_part_in_the_records(ratchet, chain):
    found = ratchet("data", "trace", chain["row"]["id"], "--json").document
    (model,) = found["models"]
    role = {"project": "demo", "lineage": "abc", "iteration": 1, "role": "candidate", "verdict": "promote"}
    assert (model["roles"], model["versions"], found["versions"]) == ([role], None, None)
    ended = ratchet("data", "trace", chain["row"]["id"])
    assert "models taught: 1" in ended.out and "candidate of demo iteration 1 (promote)" in ended.out
    assert "registered versions are not known: no MLflow server runs" in ended.err


def test_a_model_back_to_its_rows(ratchet, chain):
    found = ratchet("data", "trace", chain["dpo"].fingerprint, "--json").document
    lessons = {entry["uri"]: entry for entry in found["taught_by"]}
    assert [*lessons] == [chain["pairs"].uri, chain["dialogues"].uri], "the last lesson first"
    assert lessons[chain["dialogues"].uri]["source"] == {"written": 1, "book": 1}
    assert (lessons[chain["dialogues"].uri]["taught"], lessons[chain["pairs"].uri]["taught"]) == ("sft", "dpo")
    assert lessons[chain["pairs"].uri]["licence"] == {"CC0-1.0": 1} and "row_ids" not in lessons[chain["pairs"].uri]
    listed = ratchet("data", "trace", chain["dpo"].fingerprint, "--rows", "--json").document["taught_by"]
    assert [entry["row_ids"] for entry in listed] == [[chain["row"]["id"]], [row["id"] for row in chain["answered"]]]
    shown = ratchet("data", "trace", chain["dpo"].fingerprint, "--rows").out
    assert "\ncandidate of demo iteration 1 (promote)\n" in shown
    assert "taught by: 2" in shown and "sources: written 1, book 1" in shown and chain["row"]["id"] in shown


def test_an_artifact_up_and_down(ratchet, chain):
    found = ratchet("data", "trace", chain["dialogues"].fingerprint, "--json").document
    assert [entry["artifacts"] for entry in found["parents"]] == [[chain["prompts"].uri]]
    assert {model["uri"] for model in found["models"]} == {chain["sft"].uri, chain["dpo"].uri}
    assert (found["datasets"], found["taught_by"]) == ([], [])


def test_what_is_not_there(ratchet, chain):
    assert ratchet("data", "trace", "0" * 32).code == 2
    ended = ratchet("data", "trace", "models:/demo/1", "--json")
    assert ended.code == 2 and "this workspace has no registry" in ended.err
    assert ratchet("data", "trace", "").code == 2


def test_a_long_list_is_cut_for_people_only(ratchet, put_rows):
    root = prompt("root")
    put_rows("prompts", "root", [root], PROMPT)
    put_rows("dialogues", "many", [dialogue(root, f"answer {number}") for number in range(60)], DIALOGUE)
    ended = ratchet("data", "trace", root["id"])
    assert "children: 60" in ended.out and "… and 20 more" in ended.out
    assert len(ratchet("data", "trace", root["id"], "--json").document["children"]) == 60


@pytest.mark.parametrize("damage", ["cut", "lost"])
def test_a_broken_part_is_named_and_the_rest_is_traced(ratchet, chain, damage):
    part = Path(chain["pairs"].uri, "part-00000.parquet")
    part.chmod(0o644)
    part.write_bytes(part.read_bytes()[:100]) if damage == "cut" else part.unlink()
    asked = chain["asked"][2]["id"]
    found = ratchet("data", "trace", asked, "--json").document
    (lost,) = found["unreadable"]
    assert found["id"] == asked and lost.startswith(f"preferences/{chain['pairs'].fingerprint}/part-00000.parquet: ")
    ended = ratchet("data", "trace", asked)
    assert ended.code == 0 and "cannot be read, and is missing here: preferences/" in ended.err
    ended = ratchet("data", "trace", "0" * 32)
    assert ended.code == 2 and "1 parts cannot be read" in ended.err
    whole = ratchet("data", "trace", chain["prompts"].fingerprint, "--json").document
    assert whole["unreadable"] == [], "an artifact is traced without a look at rows"


def test_stage_and_fingerprint_or_a_uri_will_do(ratchet, chain):
    for name in (f"prompts/{chain['prompts'].fingerprint[:8]}", chain["prompts"].uri):
        ended = ratchet("data", "trace", name, "--json")
        assert ended.code == 0 and ended.document["id"] == chain["prompts"].fingerprint
    assert ratchet("data", "trace", "prompts/0000").code == 2


def test_parents_that_no_artifact_holds_are_explained(ratchet, chain, put_rows):
    document = "d" * 32
    row = prompt("of a bundled document") | {"parents": [document]}
    put_rows("prompts", "shipped", [row], PROMPT)
    shown = ratchet("data", "trace", row["id"]).out
    assert f"{document}  not in this store" in shown
    assert "rows that ship with the project have no artifact" in shown
    assert "have no artifact" not in ratchet("data", "trace", chain["row"]["id"]).out


def test_stray_files_among_records_are_no_projects(ratchet, chain, store):
    for key in ("records/README", "records/.DS_Store", "records/demo/notes.txt"):
        store.put(key, b"x")
    assert ratchet("data", "trace", chain["row"]["id"], "--json").code == 0


def test_twenty_thousand_rows_in_seconds(put_rows, store):
    asked = [prompt(f"question {number}") for number in range(10_000)]
    prompts = put_rows("prompts", "many", asked, PROMPT)
    answered = [dialogue(row, "an answer " * 60) for row in asked]
    put_rows("dialogues", "many", answered, DIALOGUE, inputs={"prompts": prompts})
    started = time.monotonic()
    found = trace(store, asked[5000]["id"])
    assert time.monotonic() - started < 5
    assert [entry["id"] for entry in found["children"]] == [answered[5000]["id"]]


def test_counts_of_rows(chain):
    counts = count_rows(chain["prompts"])
    assert counts["source"] == {"book": 2, "written": 1} and counts["synthetic"] == {"true": 3}
    assert count_rows(chain["reference"]) == {}
