"""Damage to answers and the labels that it leaves; the stage with a real model; HelpSteer2's file through the stage."""

import json
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
import torch

from infra.errors import EmptyDataset, InputError
from tasks import attributes
from tasks.attributes import list_questions, usable
from tasks.configs.attributes import AttributesConfig
from tasks.configs.base import Resources
from tasks.damage import OPERATORS, SEVERITIES, Answer, damaged, labels_of
from tasks.rows import ATTRIBUTES

TIDES = (
    "Tides are caused by the Moon. The Moon pulls on the water of the Earth, which is always moving. "
    "There are 2 high tides each day. Sailors plan their trips before the tide changes."
)
LOOP = "A loop repeats a block of code. It stops when a condition is false. Most languages have several kinds of it."


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", list(OPERATORS))
def test_every_operator_changes_the_text_and_repeats_itself(name, severity):
    answer = Answer(TIDES, LOOP)
    text = OPERATORS[name].damage(answer, severity, Random(1))
    assert text != TIDES and text == OPERATORS[name].damage(answer, severity, Random(1))
    labels = labels_of(text, OPERATORS[name].cuts[severity - 1])
    assert list(labels) == list(ATTRIBUTES) and all(0 <= value <= 4 for value in labels.values())


@pytest.mark.parametrize("name", list(OPERATORS))
def test_more_damage_is_never_labelled_better(name):
    cuts = OPERATORS[name].cuts
    assert sum(cuts[0]) < sum(cuts[2]) and all(cuts[i][0] <= cuts[i + 1][0] for i in range(2))


def test_operators_do_what_they_say():
    def damage(name, severity):
        return OPERATORS[name].damage(Answer(TIDES, LOOP), severity, Random(3))

    assert TIDES.startswith(damage("truncate", 3)) and len(damage("truncate", 3).split()) < 8
    assert sorted(damage("word_salad", 3).split()) == sorted(TIDES.split())
    assert sorted(damage("shuffle_sentences", 1)) == sorted(TIDES)
    assert damage("off_topic", 3) == LOOP
    assert "is not" in damage("swap_facts", 3) or " not " in damage("swap_facts", 3)
    assert len(damage("pad", 3).split()) > 2 * len(TIDES.split()) > 2 * len(damage("simplify", 2).split())
    assert len(damage("repeat", 3)) > 2 * len(TIDES)


def test_measured_labels_follow_the_text():
    assert labels_of("Yes.")["verbosity"] == 0 and labels_of(" ".join([TIDES] * 5))["verbosity"] == 4
    plain, heavy = "The cat sat on the mat.", "Photosynthesis converts electromagnetic radiation efficiently."
    assert labels_of(plain)["complexity"] < labels_of(heavy)["complexity"]


def test_operators_take_turns():
    used = [name for turn in range(8) for name, _, _ in damaged(Answer(TIDES, LOOP), 3, 3 * turn, Random(turn))]
    assert {used.count(name) for name in OPERATORS} == {3}


def test_an_answer_with_nothing_to_damage_gives_fewer_copies():
    copies = damaged(Answer("Yes", ""), 7, 0, Random(0))
    assert all(text not in ("Yes", "") for _, _, text in copies) and len(copies) < 7


def test_questions_are_all_different():
    questions = list_questions()
    assert len(questions) == len(set(questions)) == 96


def test_what_counts_as_undamaged():
    sentence = "The lungs take oxygen from the air and give it to the blood every second."
    assert usable(f"{sentence} They also", "length") == sentence
    assert usable(f" {sentence} They also ", "stop") == f"{sentence} They also"
    assert usable("Too short.", "stop") == "" and usable(" ".join([sentence] * 4), "stop") == ""


CONFIG = AttributesConfig(prompts=3, rows_per_prompt=4, max_tokens=150, temperature=1.0, shard_prompts=2)


def test_rows_of_one_question_stand_together_and_know_their_parent(run_stage, smollm):
    config = CONFIG.model_copy(
        update={"prompts": 2, "max_tokens": 45, "temperature": 0.0, "resources": Resources(batch_rows=4)}
    )
    artifact = run_stage(attributes.run, config, generator=smollm)
    rows = artifact.rows()
    prompts = [row["prompt"][0]["content"] for row in rows]
    assert len(prompts) >= 5 and prompts == sorted(prompts, key=prompts.index) and set(prompts) <= set(list_questions())
    originals = {row["id"]: row for row in rows if not row["parents"]}
    assert len(originals) == artifact.manifest().result["questions"]
    for row in rows:
        assert row["source"] == "procedural-damage" and row["synthetic"] and row["generator"] == smollm.fingerprint
        for parent in row["parents"]:
            assert originals[parent]["prompt"] == row["prompt"] and originals[parent]["response"] != row["response"]
            assert row["helpfulness"] < originals[parent]["helpfulness"] == 4


def test_a_model_that_says_nothing_usable_is_told(run_stage, tiny_model):
    with pytest.raises(EmptyDataset, match="0 of 3 questions have a usable answer: 12 words or more"):
        run_stage(attributes.run, CONFIG.model_copy(update={"max_tokens": 16}), generator=tiny_model())


def test_more_questions_than_the_list_has():
    with pytest.raises(ValueError, match="prompts=97, but the curated list has 96"):
        AttributesConfig(prompts=97)


def helpsteer2(path: Path, count: int = 6) -> Path:
    rows = [{"prompt": f"p{n // 2}", "response": f"r{n}", **dict.fromkeys(ATTRIBUTES, n % 5)} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_users_file_is_read_and_known_by_its_content(run_stage, tmp_path, store):
    one, two = helpsteer2(tmp_path / "a.jsonl"), helpsteer2(tmp_path / "b.jsonl")
    configs = [AttributesConfig(helpsteer2=str(path), max_rows=5) for path in (one, two)]
    assert configs[0].recipe() == configs[1].recipe() and str(one) not in json.dumps(configs[0].recipe())
    artifact = run_stage(attributes.run, configs[0])
    assert artifact.manifest().rows == 5 and artifact.manifest().result["source"] == "helpsteer2"
    assert {row["licence"] for row in artifact.rows()} == {"CC-BY-4.0"}
    helpsteer2(two, count=4)
    assert configs[0].recipe() != configs[1].recipe()


def test_a_missing_file_is_told_before_any_work(tmp_path):
    with pytest.raises(InputError, match=r"attributes.helpsteer2: .*nowhere.jsonl: No such file"):
        AttributesConfig(helpsteer2=str(tmp_path / "nowhere.jsonl")).recipe()


def test_labels_can_be_learnt_from_simple_features():
    """Words, repeats and overlap predict the damage on unseen answers: the labels carry a signal."""

    def features(text):
        words = text.lower().split()
        pairs = set(pairwise(words))
        normal = set(pairwise(TIDES.lower().split()))
        return [len(words) / 50, len(set(words)) / max(1, len(words)), len(pairs & normal) / max(1, len(pairs))]

    copies = [copy for seed in range(40) for copy in damaged(Answer(TIDES, LOOP), 4, seed, Random(seed))]
    rows = [(features(text), OPERATORS[name].cuts[severity - 1]) for name, severity, text in copies]
    inputs = torch.tensor([row for row, _ in rows])
    coherence = torch.tensor([4.0 - cut[2] for _, cut in rows])
    half = len(rows) // 2
    design = torch.cat([inputs, torch.ones(len(rows), 1)], dim=1)
    weights = torch.linalg.lstsq(design[:half], coherence[:half, None]).solution
    predicted = (design[half:] @ weights)[:, 0]
    assert torch.corrcoef(torch.stack([predicted, coherence[half:]]))[0, 1] > 0.5
