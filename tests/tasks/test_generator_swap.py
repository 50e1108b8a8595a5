"""Another generator, and every synthetic row says something else: nothing canned stands in for a model's words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from infra.artifacts import Artifact
from models.checkpoint import load_model, save_model
from tasks import (
    code_instruct,
    deduplicate,
    dialogues,
    evaluation_set,
    judge,
    mix,
    preferences,
    responses,
    topics,
    write_prompts,
)
from tasks.configs.code_instruct import CodeInstructConfig
from tasks.configs.dialogues import DialoguesConfig
from tasks.configs.evaluation_set import EvaluationSetConfig
from tasks.configs.judging import JudgingConfig, PreferencesConfig
from tasks.configs.mix import DeduplicateConfig, MixConfig
from tasks.configs.prompts import PromptsConfig, TopicsConfig
from tasks.configs.responses import Responder, ResponsesConfig

SPOKEN = ("messages", "prompt", "response", "chosen", "rejected")
"""Columns that hold words; of a topic's row, its topic."""
NOISE = 0.08
"""Of each matrix's own spread: the model still writes English, and other sentences."""


def swapped(folder: Path, target: Path) -> Path:
    """The model in `folder` with noise on its weights."""
    model, tokenizer = load_model(folder)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in model.layers:
            for weight in layer.parameters():
                if weight.dim() == 2:
                    weight += NOISE * weight.std() * torch.randn(weight.shape, generator=generator)
    save_model(model, tokenizer, target)
    return target


def turn(run: Callable[..., Artifact], generator: Artifact, reward_model: Artifact) -> dict[str, Artifact]:
    """Every stage that writes for an iteration, small."""
    items = run(evaluation_set.run, EvaluationSetConfig())
    subjects = run(topics.run, TopicsConfig(n_macro=2, n_sub=2, target=16), generator=generator)
    wanted = {"open_qa": 3, "writing": 5, "maths": 3, "instruction": 4}
    asked = PromptsConfig(families=wanted, oversample=4)
    drafts = run(write_prompts.run, asked, generator=generator, topics=subjects)
    prompts = run(deduplicate.run, DeduplicateConfig(), rows=drafts, evaluation_set=items)
    talk = DialoguesConfig(rows=4, min_turns=1, turns=2, max_tokens=40)
    spoken = run(dialogues.run, talk, generator=generator, prompts=prompts, reward_model=reward_model)
    small = CodeInstructConfig(colonies=1, generations=1, population=6, fit_share=1.0, code_max_tokens=96, seed=3)
    code = run(code_instruct.run, small, generator=generator)
    responders = (Responder(label="greedy", max_tokens=32), Responder(label="warm", temperature=0.8, max_tokens=32))
    short = ResponsesConfig(responders=responders)
    answers = run(responses.run, short, prompts=prompts, generator=generator, base=generator)
    no_llm = JudgingConfig(llm_pairs=0, llm_truth_pairs=0)
    judged = run(judge.run, no_llm, responses=answers, reward_model=reward_model, generator=generator)
    pairs = run(
        preferences.run,
        PreferencesConfig(objective="rpo", chosen_floor=0.0, min_margin=0.0, allow_truncated=True),
        judged=judged,
    )
    mixed = run(mix.run, MixConfig(), dialogues=spoken, judged=judged, code=code)
    return {"topics": subjects, "prompts": prompts, "dialogues": spoken, "code": code, "responses": answers,
            "pairs": pairs, "mix": mixed}  # fmt: skip


def words(row: dict[str, Any]) -> set[str]:
    """What a row says, piece by piece: a new prompt must not hide a canned answer."""
    said = [row[name] for name in SPOKEN if name in row] or [row["topic"]]
    return {one["content"] for many in said if isinstance(many, list) for one in many} | {
        one for one in said if isinstance(one, str)
    }


@pytest.mark.timeout(900)
def test_every_synthetic_row_changes_with_the_generator(
    run_stage: Callable[..., Artifact], give: Callable[..., Artifact], smollm: Artifact, smollm_folder: Path,
    a_reward_model: Artifact, tmp_path: Path,
) -> None:  # fmt: skip
    said: list[dict[str, set[str]]] = []
    folder = swapped(smollm_folder, tmp_path / "another")
    another = give("another", lambda output: output.write_folder(folder), kind="checkpoint", licence="MIT")
    for model in (smollm, another):
        made = turn(run_stage, model, a_reward_model)
        rows = {stage: [row for row in artifact.rows() if row["synthetic"]] for stage, artifact in made.items()}
        assert all(rows.values()), {stage: len(found) for stage, found in rows.items()}
        assert {row["generator"] for found in rows.values() for row in found} == {model.fingerprint}
        said.append({stage: set().union(*map(words, found)) for stage, found in rows.items()})
    same = {stage: sorted(said[0][stage] & said[1][stage]) for stage in said[0]}
    assert not any(same.values()), same
