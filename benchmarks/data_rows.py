"""Rows for benchmarks/data.py: seeded word salad, with equal rows, near-duplicates and exam items planted in it."""

import hashlib
import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from infra.artifacts import Artifact, fingerprint_of
from infra.output import Outcome, Output
from infra.storage import Storage
from tasks.rows import DIALOGUE, ITEM, RESPONSE, make_row
from tasks.streams import ShardWriter

Row = dict[str, Any]

WORDS = 60
"""Of a prompt and of an answer."""
VOCABULARY = np.array([f"w{number}" for number in range(30_000)])
ITEMS, ITEM_WORDS = 500, 40
PERIOD, PLANTED = 20, {5: "equal", 9: "near_duplicate", 13: "near_duplicate", 19: "contaminated"}
"""What is planted at which row of so many: an earlier row's words, those with one changed, an exam item."""
EARLIER = 50_000
"""Rows back to which a planted duplicate reaches, among those where nothing is planted."""
MARKS = str.maketrans("01", ".!")
SAMPLES = 2
"""Answers to a prompt."""
PROVENANCE = {"source": "benchmark", "synthetic": True, "generator": "0" * 32, "licence": "CC0-1.0"}


def address(folder: Path, name: str) -> Artifact:
    store = str(folder / "store")
    return Artifact(stage=name, kind="dataset", fingerprint=fingerprint_of(name, 1, {}, {}), store=store)


def open_output(folder: Path, name: str) -> Output:
    artifact = address(folder, name)
    return Output(artifact, Storage.open(artifact.store), lambda event: None, folder)


def commit(output: Output, outcome: Outcome) -> None:
    output.commit(outcome, recipe={}, inputs={}, version=1, label="", device="", wall_s=0.0, code_version="")


def put(folder: Path, name: str, rows: Iterable[Row], schema: pa.Schema) -> None:
    output = open_output(folder, name)
    shards = ShardWriter(output, schema, 4096)
    for row in rows:
        shards.add(row)
    shards.close()
    commit(output, Outcome())


def salad(rng: np.random.Generator, words: int = WORDS) -> list[str]:
    return VOCABULARY[rng.integers(0, len(VOCABULARY), words)].tolist()


def asked(words: list[str]) -> list[dict[str, str]]:
    return [{"role": "user", "content": " ".join(words)}]


def items() -> list[Row]:
    rng = np.random.default_rng(1)
    values = {"family": "open", "half": "gate", **PROVENANCE}
    texts = [asked(salad(rng, ITEM_WORDS)) for _ in range(ITEMS)]
    return [make_row(ITEM, values | {"key": str(n), "messages": text}, [n, text]) for n, text in enumerate(texts)]


def write_prompts(path: Path, rows: int) -> dict[str, Any]:
    """A JSONL file as a user brings it; returns what is planted: counts, and the digest of the texts that stay."""
    rng, exam, earlier = np.random.default_rng(0), items(), deque[list[str]](maxlen=EARLIER)
    counts, clean = Counter[str](), hashlib.sha256()
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            kind, words = PLANTED.get(number % PERIOD, ""), salad(rng)
            if kind in ("equal", "near_duplicate"):
                words = [*earlier[rng.integers(len(earlier))]]
            if kind == "near_duplicate":
                words[rng.integers(WORDS)] = f"changed{number}"
            if kind == "contaminated":
                words[WORDS - ITEM_WORDS :] = exam[rng.integers(ITEMS)]["messages"][0]["content"].split()
            text = " ".join(words) + (f" {number:b}".translate(MARKS) if kind == "equal" else "")
            record = {"prompt": text, "topic": f"topic {number % 97}", "unsafe": number % 50 == 0}
            file.write(json.dumps(record) + "\n")
            counts[kind] += 1
            if not kind:
                clean.update(text.encode())
                earlier.append(words)
    return {**counts, "clean": clean.hexdigest()}


def dialogues(rows: int, family: str, seed: int) -> Iterator[Row]:
    rng = np.random.default_rng(seed)
    for number in range(rows):
        said = [*asked(salad(rng)), {"role": "assistant", "content": " ".join(salad(rng))}]
        values = {"prompt_id": f"{family}{number}", "family": family, "messages": said, "teaches": "all"}
        yield make_row(DIALOGUE, values | PROVENANCE, said)


def answers(rows: int) -> Iterator[Row]:
    """Half of them to prompts that ground truth checks."""
    rng = np.random.default_rng(3)
    for number in range(rows):
        prompt, text = number // SAMPLES, " ".join(salad(rng)) + "."
        values = {
            "prompt_id": f"prompt {prompt}", "family": "open_qa", "topic": "", "prompt": asked([f"question {prompt}"]),
            "side": "", "response": text, "responder": "greedy", "sample": number % SAMPLES, "aid": "",
            "finish_reason": "stop", "passed": number % 3 > 0 if prompt % 2 else None, "reward": float(rng.random()),
        }  # fmt: skip
        yield make_row(RESPONSE, values | PROVENANCE, [prompt, text])
