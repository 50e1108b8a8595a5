"""The two-turn and the supplementary families together: their data, and a run with SmolLM2."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.artifacts import Artifact
from infra.output import Output
from infra.parquet import open_parquet
from tasks import write_prompts
from tasks.configs.prompts import PromptsConfig
from tasks.evaluation_items import evaluation_topics
from tasks.prompts import document_qa, function_calling, incapable, topic_keeping
from tasks.prompts.family import FORMATS
from tasks.prompts.quality import names
from tasks.prompts.table_qa import TABLES
from tasks.rows import TOPIC, make_row

FAMILIES = ("two_turn", "topic_keeping", "incapable", "function_calling", "document_qa", "table_qa")
TWO_TURNS = ["user", "assistant", "user"]


@pytest.mark.parametrize(
    "data",
    [topic_keeping.TEMPLATE["scenarios"], incapable.KINDS, function_calling.FUNCTIONS, TABLES, document_qa.TEMPLATE],
)
def test_nothing_shipped_is_an_evaluation_topic(data: Any) -> None:
    pieces = data.values() if isinstance(data, dict) else data
    assert [found for piece in pieces if (found := names(json.dumps(piece), evaluation_topics()))] == []


def write_topics(output: Output) -> None:
    named = ("coffee", "wolves", "fractions", "rivers", "robots", "hay fever", "trains", "gravity")
    known = {"source": "topics/curated", "synthetic": False, "generator": "", "licence": "Apache-2.0"}
    rows = [make_row(TOPIC, {"topic": name, "macro_topic": "", **known}, name) for name in named]
    output.write_shard(0, rows, TOPIC)


def test_smollm_writes_every_family(
    give: Callable[..., Artifact], smollm_folder: Path, run_stage: Callable[..., Artifact]
) -> None:
    model = give("smollm", lambda output: output.write_folder(smollm_folder), kind="checkpoint", licence="Apache-2.0")
    config = PromptsConfig(families=dict.fromkeys(FAMILIES, 3), oversample=2.5, max_tokens=64, shard_rows=64)
    made = run_stage(write_prompts.run, config, generator=model, topics=give("topics", write_topics))
    rows = made.rows()
    kept = Counter(row["family"] for row in rows)
    assert set(kept) == set(FAMILIES) and kept.total() >= 12
    for row in rows:
        roles = [message["role"] for message in row["messages"]]
        assert roles in (["user"], ["system", "user"], TWO_TURNS, ["system", *TWO_TURNS])
        assert row["answer_format"] in FORMATS and row["task"] and "Apache-2.0" in row["licence"]
        assert not names(row["messages"][-1]["content"], evaluation_topics())
        assert (row["verifier"] is None or not row["verifier"]["kind"]) is (row["family"] == "two_turn")
    dropped = open_parquet(made.read_bytes("dropped.parquet")).read().to_pylist()
    assert dropped and {entry["family"] for entry in dropped} <= set(FAMILIES)
