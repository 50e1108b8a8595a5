"""`ratchet eval`, `chat` and `reward` with real models of random weights, no servers."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deployments.readable import harmless
from infra.artifacts import list_artifacts
from infra.stack import Stack
from infra.tracking import Registry, Tracker
from models.checkpoint import load_model
from models.engine import Engine, SamplingParams
from models.reward import RewardScorer, load_reward_model, scalar_reward
from tasks.rows import ATTRIBUTES

CONVERSATION = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
SETTINGS = ("evaluation_set.dev=5", "evaluation_set.gate=3", "evaluation_set.open=2", "dev_exam.max_tokens=4",
            "gate_exam.max_tokens=4")  # fmt: skip
SMALL = ["--preset", "tiny", *(part for setting in SETTINGS for part in ("--set", setting))]


def greedy(folder: Path, text: str, tokens: int) -> str:
    model, tokenizer = load_model(folder)
    params = SamplingParams(temperature=0.0, max_tokens=tokens)
    return Engine(model, tokenizer).generate([[{"role": "user", "content": text}]], params)[0].text


def test_eval_examines_once_and_finds_it_then(ratchet, model_folder, store):
    folder = model_folder()
    first = ratchet("eval", folder, *SMALL, "--json")
    assert first.code == 0, first.err
    document = first.document
    assert document["half"] == "dev" and document["items"] == 7
    assert document["families"]["open"] == {"items": 2, "judged": 0, "passed": 0, "accuracy": None}
    (evaluation,) = list_artifacts(store, "evaluate")
    rows = evaluation.rows()
    assert document["evaluation"] == evaluation.uri and {row["half"] for row in rows} == {"dev"}
    judged = [row["passed"] for row in rows if row["passed"] is not None]
    assert document["accuracy"] == sum(judged) / len(judged)
    (imported,) = list_artifacts(store, "import_model")
    assert document["model"] == imported.uri and rows[0]["generator"] == imported.fingerprint
    again = ratchet("eval", imported.uri, *SMALL, "--json")
    assert again.document == document and "dev exam" in again.err and again.err.count("cached") == 2


def test_eval_for_people_names_families_and_answers(ratchet, model_folder):
    out = ratchet("eval", model_folder(), *SMALL).out
    assert "open" in out and "accuracy" in out and "ratchet data show" in out


def test_the_gate_half_stays_sealed(ratchet, model_folder, store):
    ended = ratchet("eval", model_folder(), *SMALL, "--half", "gate")
    assert ended.code == 2 and "sealed" in ended.err and "--unseal" in ended.err
    assert list_artifacts(store) == []
    opened = ratchet("eval", model_folder(), *SMALL, "--half", "gate", "--unseal", "--json").document
    assert (opened["half"], opened["items"]) == ("gate", 5)


def test_eval_takes_a_reward_model_of_the_store_only(ratchet, model_folder, reward_folder, put):
    ended = ratchet("eval", model_folder(), *SMALL, "--reward-model", reward_folder)
    assert ended.code == 2 and "--reward-model" in ended.err and "models:/NAME@reward" in ended.err
    judge = put("reward_model", "judge", lambda output: output.write_folder(reward_folder), kind="checkpoint")
    ended = ratchet("eval", model_folder(), *SMALL, "--reward-model", judge.uri, "--json")
    assert ended.code == 0, ended.err
    assert isinstance(ended.document["reward_mean"], float)


def test_chat_answers_once_on_stdout(ratchet, model_folder):
    folder = model_folder()
    ended = ratchet("chat", folder, "--prompt", "Say a", "--max-tokens", "8", "--json")
    (answer,) = ended.document["answers"]
    assert ended.document["prompt"] == "Say a" and answer["answer"] == greedy(folder, "Say a", 8)
    assert 0 < answer["tokens"] <= 8 and answer["model"] == str(folder)
    plain = ratchet("chat", folder, "--prompt", "Say a", "--max-tokens", "8")
    assert plain.code == 0 and plain.out.strip() and "\x1b" not in plain.out


def test_chat_with_two_models_side_by_side(ratchet, model_folder):
    one, two = model_folder(0), model_folder(1)
    ended = ratchet("chat", one, "--beside", two, "--prompt", "Hi", "--max-tokens", "6", "--json")
    assert [entry["answer"] for entry in ended.document["answers"]] == [greedy(one, "Hi", 6), greedy(two, "Hi", 6)]
    shown = ratchet("chat", one, "--beside", two, "--prompt", "Hi", "--max-tokens", "6").out
    assert "model-0" in shown.replace("\n", "") and "│" in shown


def test_a_conversation_is_remembered_until_it_is_reset(ratchet, model_folder, monkeypatch):
    folder = model_folder()
    once = greedy(folder, "Hi", 5)
    monkeypatch.setattr("sys.stdin", io.StringIO("Hi\nHi\n\n/reset\nHi\n"))
    ended = ratchet("chat", folder, "--max-tokens", "5")
    assert ended.code == 0
    model, tokenizer = load_model(folder)
    ask = {"role": "user", "content": "Hi"}
    history = [ask, {"role": "assistant", "content": once}, ask]
    second = Engine(model, tokenizer).generate([history], SamplingParams(temperature=0.0, max_tokens=5))[0].text
    assert second != once, "the test needs answers that differ"
    assert ended.out == f"> {harmless(once)}\n> {harmless(second)}\n> > forgotten\n> {harmless(once)}\n> \n"


def test_a_registered_model_is_found_through_the_servers_that_run(ratchet, model_folder, put, workspace):
    folder = model_folder()
    artifact = put("sft", "candidate", lambda output: output.write_folder(folder), kind="checkpoint")
    with Stack(workspace) as stack:
        registry = Registry(Tracker(str(stack.start({"mlflow"}).mlflow_tracking_uri), "teas"))
        registry.set_alias("generator", registry.register(artifact, {}, "a test"))
        ended = ratchet("chat", "models:/teas@generator", "--prompt", "Hi", "--max-tokens", "5", "--json")
        assert ended.code == 0, ended.err
        assert ended.document["answers"][0]["answer"] == greedy(folder, "Hi", 5)
        missing = ratchet("chat", "models:/teas@nobody", "--prompt", "Hi")
        assert missing.code == 2 and "models:/teas@nobody" in missing.err
        assert stack.status().mode == "embedded", "a server that the command found is left running"


def test_a_question_that_is_too_long_does_not_end_the_conversation(ratchet, model_folder, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("a" * 400 + "\nHi\n"))
    ended = ratchet("chat", model_folder(), "--max-tokens", "4")
    assert ended.code == 0 and "do not fit the model's context of 256" in ended.out.replace("\n", " ")
    assert ratchet("chat", model_folder(), "--prompt", "a" * 400).code == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chat", "/no/such/model", "--prompt", "Hi"], ["no model at '/no/such/model'", "models:/NAME@ALIAS"]),
        (["chat", "{model}", "--json"], ["--json without --prompt"]),
        (["chat", "{model}", "--prompt", " "], ["--prompt"]),
        (["chat", "{model}", "--prompt", "Hi", "--temperature", "-1"], ["--temperature is -1.0"]),
        (["chat", "{model}", "--prompt", "Hi", "--max-tokens", "0"], ["--max-tokens is 0"]),
        (["chat", "openai:http://127.0.0.1:9#x", "--prompt", "Hi"], ["a hosted model has no weights"]),
        (["chat", "models:/nothing@generator", "--prompt", "Hi"], ["ratchet up"]),
        (["eval", "{model}", "--preset", "nosuch"], ["'nosuch'"]),
        (["eval", "{model}", "--set", "dev_exam.max_token=3"], ["dev_exam.max_token", "max_tokens"]),
        (["reward", "{model}", "--input", "{rows}"], ["no reward model", "reward_head"]),
        (["reward", "{model}", "--input", "/no/such/file"], ["--input /no/such/file", "No such file"]),
    ],
)
def test_bad_input_is_one_line_and_exit_2(ratchet, model_folder, tmp_path, arguments, words):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"messages": CONVERSATION}))
    given = [text.format(model=model_folder(), rows=rows) for text in arguments]
    ended = ratchet(*given)
    assert ended.code == 2 and len(ended.err.splitlines()) == 1, ended.err
    assert all(word in ended.err for word in words), ended.err


def test_a_folder_with_damaged_weights_is_refused(ratchet, model_folder):
    folder = model_folder()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    ended = ratchet("chat", folder, "--prompt", "Hi", "--json")
    assert ended.code == 2 and "damaged" in ended.document["error"]["message"]


ROWS = [
    {"messages": CONVERSATION},
    {"prompt": "Hi", "response": "Hello!"},
    {"prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}], "response": "No."},
]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_reward_scores_each_row(ratchet, reward_folder, tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    rows = ROWS if kind == "jsonl" else [{"messages": CONVERSATION, "prompt": None, "response": None, "id": 1.5}]
    if kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    scored = ratchet("reward", reward_folder, "--input", path, "--json").document
    assert [row["row"] for row in scored] == list(range(1, len(rows) + 1))
    judge, tokenizer = load_reward_model(reward_folder)
    (expected,) = RewardScorer(judge, tokenizer).score([CONVERSATION])
    assert scored[0] == {"row": 1, **dict(zip(ATTRIBUTES, expected, strict=True)), "reward": scalar_reward(expected)}
    if kind == "jsonl":
        assert {**scored[1], "row": 1} == scored[0] and scored[2]["reward"] != scored[0]["reward"]
        shown = ratchet("reward", reward_folder, "--input", path).out
        assert "helpfulness" in shown and f"{scored[2]['reward']:.3f}" in shown


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", ["row 2 is no JSON"]),
        ("[1]", ["row 2 is a list"]),
        ('{"prompt": "Hi"}', ["row 2, response: missing", "'prompt'"]),
        ('{"prompt": "Hi", "response": 3}', ["row 2, response[0].content: found '3'"]),
        ('{"messages": [{"role": "robot", "content": "x"}]}', ["row 2, messages[0].role", "'robot'"]),
        ('{"messages": [{"role": "user", "content": "x"}]}', ["row 2, messages: ends with user"]),
        ('{"messages": []}', ["row 2, messages: ends with nothing"]),
        ('{"prompt": "\\ud800", "response": "x"}', ["row 2, prompt[0].content", "Unicode"]),
        (json.dumps({"prompt": "a" * 400, "response": "x"}), ["row 2 cannot be scored", "context of 256"]),
    ],
)
def test_a_bad_row_is_named(ratchet, reward_folder, tmp_path, line, words):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n" + line + "\n")
    ended = ratchet("reward", reward_folder, "--input", path)
    assert ended.code == 2 and ended.out == "" and f"{path}: {words[0]}" in ended.err, ended.err
    assert all(word in ended.err for word in words), ended.err


@pytest.mark.parametrize(("content", "words"), [(b"", "holds no rows"), (b"PAR1 damaged", "no readable Parquet")])
def test_a_file_without_rows(ratchet, reward_folder, tmp_path, content, words):
    path = tmp_path / "rows"
    path.write_bytes(content)
    ended = ratchet("reward", reward_folder, "--input", path)
    assert ended.code == 2 and words in ended.err


@pytest.mark.parametrize("command", ["eval", "chat", "reward"])
def test_help_has_an_example(ratchet, command):
    ended = ratchet(command, "--help")
    assert ended.code == 0 and f"Example: ratchet {command}" in ended.out
