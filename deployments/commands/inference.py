"""`ratchet eval`, `chat` and `reward`: one model in this process, wherever its reference leads."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track

from deployments.commands.options import (
    STDERR,
    debug_option,
    json_option,
    print_json,
    read_plan,
    read_settings,
    setting_options,
    workspace_option,
)
from deployments.conversations import read_conversations
from deployments.in_process import as_artifact, model_folder, resolve_all, run_here
from deployments.readable import print_table
from deployments.speakers import converse, open_speaker, print_answers
from deployments.terminal import Terminal
from flows.events import listening
from infra.artifacts import Artifact
from infra.errors import InputError
from infra.settings import Settings
from models.engine import SamplingParams
from models.reward import RewardScorer, load_reward_model, scalar_reward
from tasks.configs.plan import Plan


def say(text: str) -> None:
    STDERR.print(text, style="dim", markup=False)


def stdout() -> Console:
    return Console(file=sys.stdout, highlight=False)


@click.command("eval")
@click.argument("model")
@click.option("--half", type=click.Choice(("dev", "gate")), default="dev", show_default=True)
@click.option("--unseal", is_flag=True, help="Open the gate half; what is tuned on it can no longer be judged by it.")
@click.option("--reward-model", metavar="REF", help="Scores the open items.")
@setting_options
@workspace_option
@json_option
@debug_option
def evaluate(
    model: str, half: str, unseal: bool, reward_model: str | None, preset: str | None, config: Path | None,
    changes: tuple[str, ...], workspace: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Examine a model on the evaluation set of a preset; a second time it is found, not made again.

    Example: ratchet eval models:/smollm@generator --preset smollm
    """
    if half == "gate" and not unseal:
        raise InputError(
            "--half gate: that half is sealed, the gate alone opens it",
            "examine on --half dev, or add --unseal if nothing will be tuned on the result",
        )
    plan, settings = read_plan(preset, config, changes, fresh=False), read_settings(workspace)
    references = [model] if reward_model is None else [model, reward_model]
    sources = resolve_all(references, settings, say, hosted=True)
    if not all(isinstance(source, Artifact) for source in sources[1:]):
        raise InputError(
            f"--reward-model {reward_model}: a model from outside has no reward head here",
            "give a reward model of this store: models:/NAME@reward or its uri (`ratchet data ls --kind checkpoint`)",
        )
    with Terminal(STDERR) as terminal, listening(terminal):
        examined = as_artifact(sources[0], settings)
        judge = {} if reward_model is None else {"reward_model": as_artifact(sources[1], settings)}
        found = examine(plan, half, settings, {"model": examined, **judge})
    document = result_document(examined, found)
    if as_json:
        print_json(document)
    else:
        print_result(document)


def examine(plan: Plan, half: str, settings: Settings, models: dict[str, Artifact]) -> Artifact:
    """The evaluation artifact of one half, made if need be, with the evaluation set before it."""
    items = run_here("evaluation set", plan.evaluation_set, settings, {})
    exam = plan.dev_exam if half == "dev" else plan.gate_exam
    return run_here(f"{half} exam", exam, settings, {**models, "evaluation_set": items})


def result_document(model: Artifact, evaluation: Artifact) -> dict[str, Any]:
    """The document of `ratchet eval --json`."""
    manifest = evaluation.manifest()
    families = {
        name: facts | {"accuracy": facts["passed"] / facts["judged"] if facts["judged"] else None}
        for name, facts in manifest.result["families"].items()
    }
    return {
        "model": model.uri,
        "evaluation": evaluation.uri,
        "half": manifest.result["half"],
        "items": manifest.rows,
        "unanswered": manifest.result["unanswered"],
        "accuracy": manifest.metrics.get("accuracy"),
        "reward_mean": manifest.metrics.get("reward_mean"),
        "families": families,
    }


def print_result(document: dict[str, Any]) -> None:
    """Accuracies by family, for people, on stdout."""
    rows = [
        (name, facts["items"], facts["judged"], facts["passed"], decimal(facts["accuracy"]))
        for name, facts in document["families"].items()
    ]
    columns = ("family", "items", "judged", "passed", "accuracy")
    print_table(stdout(), columns, rows, numbers=columns[1:])
    print(f"accuracy {decimal(document['accuracy']) or '-'} on the {document['half']} half")
    if document["reward_mean"] is not None:
        print(f"reward   {decimal(document['reward_mean'])} on open items")
    if document["unanswered"]:
        print(f"{document['unanswered']} items could not be answered: they do not fit the model's context")
    print(f"`ratchet data show {document['evaluation']}` shows every answer")


def decimal(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


@click.command("chat")
@click.argument("model")
@click.option("--prompt", metavar="T", help="Ask this once and end; without it you talk until Ctrl-D.")
@click.option("--beside", metavar="MODEL2", help="A second model that answers the same, side by side.")
@click.option("--temperature", type=float, default=0.0, show_default=True, help="0 takes the likeliest token.")
@click.option("--top-p", type=float, default=1.0, show_default=True, help="Share of the likeliest tokens to draw from.")
@click.option("--max-tokens", type=int, default=256, show_default=True, help="Longest answer.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the sampling.")
@workspace_option
@json_option
@debug_option
def chat(
    model: str, prompt: str | None, beside: str | None, temperature: float, top_p: float, max_tokens: int, seed: int,
    workspace: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Talk to a model, or to two side by side. /reset starts anew, Ctrl-D ends.

    Example: ratchet chat models:/smollm@generator --prompt "Name three teas."
    """
    try:
        params = SamplingParams(temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed)
    except ValueError as error:
        raise InputError(f"--{str(error).replace('_', '-')}", "correct that option") from error
    check_prompt(prompt, as_json)
    settings, names = read_settings(workspace), [model] if beside is None else [model, beside]
    sources = resolve_all(names, settings, say)
    with Terminal(STDERR) as terminal, listening(terminal):
        folders = [model_folder(source, settings) for source in sources]
    speakers = [open_speaker(name, folder) for name, folder in zip(names, folders, strict=True)]
    if prompt is None:
        say("/reset starts anew, Ctrl-D ends")
        converse(speakers, params, lambda: input("> "), stdout())
        return
    if as_json:
        print_json({"prompt": prompt, "answers": [speaker.answer(prompt, params) for speaker in speakers]})
    else:
        print_answers(speakers, prompt, params, stdout())


def check_prompt(prompt: str | None, as_json: bool) -> None:
    """Raise InputError for what cannot be asked."""
    if prompt is None and as_json:
        raise InputError("--json without --prompt: a conversation is no JSON document", "give --prompt")
    if prompt is not None and (not prompt.strip() or any("\ud800" <= letter <= "\udfff" for letter in prompt)):
        raise InputError(f"--prompt {prompt!r} is empty or no valid Unicode", "give a question")


@click.command("reward")
@click.argument("model")
@click.option(
    "--input", "path", type=click.Path(path_type=Path), required=True, metavar="FILE", help="JSONL or Parquet."
)
@workspace_option
@json_option
@debug_option
def reward(model: str, path: Path, workspace: Path | None, as_json: bool) -> None:
    """Score conversations with a reward model: five attributes, 0 to 4, and their weighted sum.

    Each row of FILE has `messages` that end with the assistant, or `prompt` and `response`.

    Example: ratchet reward models:/smollm@reward --input answers.jsonl
    """
    conversations = read_conversations(path)
    settings = read_settings(workspace)
    (source,) = resolve_all([model], settings, say)
    scorer = open_scorer(model, model_folder(source, settings))
    rows = [
        {"row": number, **score_row(scorer, messages, f"{path}: row {number}")}
        for number, messages in track(conversations, "scoring", console=STDERR, transient=True)
    ]
    if as_json:
        print_json(rows)
    else:
        print_scores(rows)


def open_scorer(name: str, folder: Path) -> RewardScorer:
    """Raises InputError where the folder holds no reward model."""
    try:
        return RewardScorer(*load_reward_model(folder))
    except (FileNotFoundError, ValueError) as error:
        raise InputError(
            f"{name} is no reward model that can be opened: {error}", "give one such as models:/NAME@reward"
        ) from error


def score_row(scorer: RewardScorer, messages: Sequence[dict[str, str]], where: str) -> dict[str, float]:
    """Attributes and reward of the last answer. Raises InputError for what the model cannot read."""
    try:
        (values,) = scorer.score([messages])
    except ValueError as error:
        raise InputError(f"{where} cannot be scored: {error}", "change or remove that row") from error
    config = scorer.model.config
    return dict(zip(config.attributes, values, strict=True)) | {"reward": scalar_reward(values, config.weights)}


def print_scores(rows: Sequence[dict[str, float]]) -> None:
    columns = [*rows[0]]
    cells = [[row["row"], *(decimal(row[name]) for name in columns[1:])] for row in rows]
    print_table(stdout(), columns, cells, numbers=columns)


COMMANDS = {"eval": evaluate, "chat": chat, "reward": reward}
