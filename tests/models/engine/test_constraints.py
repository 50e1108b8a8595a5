"""Answers have the shape that is asked for, on a model that would write anything."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from models.checkpoint import load_model
from models.decoder import Decoder
from models.engine import Constraint, Engine, SamplingParams
from models.tokenizer import Tokenizer

NAMES = {"type": "object", "additionalProperties": False, "required": ["name", "age"],
         "properties": {"name": {"type": "string", "maxLength": 4}, "age": {"enum": [7, 8]}}}  # fmt: skip


@pytest.fixture
def engine(make_model: Callable[..., Decoder], tokenizer: Tokenizer) -> Engine:
    return Engine(make_model(), tokenizer)


def answers(engine: Engine, constraint: Constraint | None, n: int = 24, max_tokens: int = 60) -> list[str]:
    params = SamplingParams(max_tokens=max_tokens, n=n, seed=5, constraint=constraint)
    (result,) = engine.generate([[9, 10, 11]], params)
    assert result.error is None and all(output.finish_reason == "stop" for output in result.outputs)
    return [output.text for output in result.outputs]


def test_one_of_several_texts_is_picked(engine: Engine) -> None:
    picks = ["yes", "no", "no way", 'a "quoted" \\ one\n']
    found = answers(engine, Constraint.choices(picks))
    assert set(found) <= set(picks) and len(set(found)) > 2


def test_a_regular_expression_is_followed_to_its_end(engine: Engine) -> None:
    pattern = "[a-c]{2,5}-[0-9]{2}"
    found = answers(engine, Constraint("regex", pattern))
    assert all(re.fullmatch(pattern, text) for text in found) and len(set(found)) > 10


def test_json_has_its_schema(engine: Engine) -> None:
    for text in answers(engine, Constraint("json_schema", json.dumps(NAMES)), max_tokens=200):
        found = json.loads(text)
        assert sorted(found) == ["age", "name"] and len(found["name"]) <= 4 and found["age"] in (7, 8)


def test_a_grammar_makes_a_yaml_list(engine: Engine) -> None:
    grammar = 'start: item{3}\nitem: "- " /[a-z]{3,9}/ "\\n"'
    for text in answers(engine, Constraint("lark", grammar)):
        assert len(yaml.safe_load(text)) == 3


def test_rows_with_and_without_a_constraint_run_together_and_apart_alike(engine: Engine, make_model, tokenizer) -> None:
    settings = [
        SamplingParams(max_tokens=20, seed=n, constraint=Constraint("regex", "[0-9]{4,8}") if n % 2 else None)
        for n in range(8)
    ]
    together = engine.generate([[9, 10, 11]] * 8, settings)
    assert together == [Engine(make_model(), tokenizer).generate([[9, 10, 11]], one)[0] for one in settings]
    assert all(re.fullmatch("[0-9]{4,8}", result.text) for result in together[1::2])


def test_a_constraint_cut_short_says_so(engine: Engine) -> None:
    params = SamplingParams(max_tokens=3, constraint=Constraint("regex", "[a-z]{9}"))
    (result,) = engine.generate([[9]], params)
    assert result.finish_reason == "length" and re.fullmatch("[a-z]{3}", result.text)


@pytest.mark.parametrize(
    ("constraint", "reason"),
    [
        (Constraint("regex", "[a"), "constraint regex"),
        (Constraint("lark", "nonsense"), "constraint lark"),
        (Constraint("json_schema", "{"), "constraint json_schema"),
        (Constraint("json_schema", '{"type": "nothing"}'), "constraint json_schema"),
        (Constraint("choice", "[]"), "constraint choice"),
        (Constraint("choice", "yes"), "constraint choice"),
    ],
)
def test_what_cannot_be_read_is_refused_before_anything_runs(
    engine: Engine, constraint: Constraint, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        engine.generate([[9]], SamplingParams(constraint=constraint))
    with pytest.raises(ValueError, match="kind is 'xml'"):
        Constraint("xml", "")  # type: ignore[arg-type]


def test_a_real_model_keeps_to_it_where_it_would_not(smollm_folder: Path) -> None:
    engine = Engine(*load_model(smollm_folder))
    asked = [[{"role": "user", "content": f"Is {thing} alive?"}] for thing in ("a stone", "a cat")]
    params = SamplingParams(temperature=0, max_tokens=12)
    free = engine.generate(asked, params)
    assert not any(result.text in ("Yes", "No") for result in free)
    held = engine.generate(
        asked, SamplingParams(temperature=0, max_tokens=12, constraint=Constraint.choices(["Yes", "No"]))
    )
    assert all(result.text in ("Yes", "No") and result.finish_reason == "stop" for result in held)
