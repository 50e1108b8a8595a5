"""The two-turn and the supplementary families together: their data, and a run with SmolLM2."""

import json
from collections import Counter
from typing import Any

import pytest

from infra.artifacts import Artifact
from infra.parquet import open_parquet
from tasks.evaluation_items import evaluation_topics
from tasks.prompts import document_qa, function_calling, incapable, topic_keeping
from tasks.prompts.family import FORMATS
from tasks.prompts.quality import names
from tasks.prompts.table_qa import TABLES

FAMILIES = ("two_turn", "topic_keeping", "incapable", "function_calling", "document_qa", "table_qa")
TWO_TURNS = ["user", "assistant", "user"]


@pytest.mark.parametrize(
    "data",
    [topic_keeping.TEMPLATE["scenarios"], incapable.KINDS, function_calling.FUNCTIONS, TABLES, document_qa.TEMPLATE],
)
def test_nothing_shipped_is_an_evaluation_topic(data: Any) -> None:
    pieces = data.values() if isinstance(data, dict) else data
    assert [found for piece in pieces if (found := names(json.dumps(piece), evaluation_topics()))] == []


def test_smollm_writes_every_family(written: Artifact) -> None:
    rows = [row for row in written.rows() if row["family"] in FAMILIES]
    kept = Counter(row["family"] for row in rows)
    assert set(kept) == set(FAMILIES) and kept.total() >= 8
    for row in rows:
        roles = [message["role"] for message in row["messages"]]
        assert roles in (["user"], ["system", "user"], TWO_TURNS, ["system", *TWO_TURNS])
        assert row["answer_format"] in FORMATS and row["task"] and "Apache-2.0" in row["licence"]
        assert not names(row["messages"][-1]["content"], evaluation_topics())
        assert (row["verifier"] is None or not row["verifier"]["kind"]) is (row["family"] == "two_turn")
    dropped = open_parquet(written.read_bytes("dropped.parquet")).read().to_pylist()
    assert {entry["family"] for entry in dropped} & set(FAMILIES)
