"""Rows a second and memory of every data stage at 10k, 100k and 1M rows; near-duplicates beside datasketch.

python benchmarks/data.py [--rows 10000 100000 1000000]      writes benchmarks/data.md

Each stage runs in a process of its own, on one core, and reads what the stage before it wrote. What was planted in the
rows must be found, all of it and nothing else, by us and by datasketch.
"""

import argparse
import datetime
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_rows import address, answers, commit, dialogues, items, open_output, put, write_prompts
from datasketch import MinHash, MinHashLSH
from machine import peak_bytes

from infra.output import Output
from tasks import deduplicate, mix, read_source, split_prompts
from tasks.configs.mix import DeduplicateConfig, MixConfig, SplitPromptsConfig
from tasks.configs.sources import SourceConfig
from tasks.rows import DIALOGUE, ITEM, RESPONSE
from tasks.shingles import Gram, grams_of, jaccard, read_batch, texts_of, words_of
from tasks.similarity_index import SimilarityIndex, bands_for
from tasks.streams import batches, stream

TABLE = Path(__file__).with_suffix(".md")
LIMIT_BYTES = 2 << 30
ALONE, PEER = "near-duplicates alone", f"the same by datasketch {version('datasketch')}"
PEER_ROWS = 100_000
"""Most rows for this comparison."""
SHARD_ROWS = 4096
Result = dict[str, Any]


def make(folder: Path, rows: int) -> Result:
    planted = write_prompts(folder / "prompts.jsonl", rows)
    put(folder, "items", items(), ITEM)
    put(folder, "dialogues", dialogues(rows // 2, "open_qa", 4), DIALOGUE)
    put(folder, "code", dialogues(rows // 10, "code", 5), DIALOGUE)
    put(folder, "judged", answers(rows - rows // 2 - rows // 10), RESPONSE)
    return planted


def stage(folder: Path, name: str, run: Callable[[Output], Any]) -> Result:
    output = open_output(folder, name)
    outcome = run(output)
    commit(output, outcome)
    return outcome.counts


def run_source(folder: Path, rows: int) -> Result:
    config = SourceConfig(reader="prompts", path=str(folder / "prompts.jsonl"), shard_rows=SHARD_ROWS)
    return stage(folder, "source", lambda output: read_source.run(config, output))


def run_deduplicate(folder: Path, rows: int) -> Result:
    config, evaluation_set = DeduplicateConfig(shard_rows=SHARD_ROWS), address(folder, "items")
    return stage(
        folder, "clean", lambda output: deduplicate.run(config, output, address(folder, "source"), evaluation_set)
    )


def run_split(folder: Path, rows: int) -> Result:
    config = SplitPromptsConfig(shard_rows=SHARD_ROWS)
    return stage(folder, "sides", lambda output: split_prompts.run(config, output, address(folder, "clean")))


def run_mix(folder: Path, rows: int) -> Result:
    config = MixConfig(shard_rows=SHARD_ROWS)
    inputs = {name: address(folder, name) for name in ("dialogues", "judged", "code")}
    return stage(folder, "mixed", lambda output: mix.run(config, output, **inputs))


def near_duplicates(folder: Path, rows: int) -> Result:
    """The part of deduplicate that datasketch does too: no contamination, no rows written."""
    index = SimilarityIndex(DeduplicateConfig(), Path(tempfile.mkdtemp(dir=folder)))
    for batch in batches(address(folder, "source")):
        index.add(read_batch(batch))
    reasons, _ = deduplicate.sort_out(index)
    return {"found": [int(number) for number in (reasons != deduplicate.KEPT).nonzero()[0]]}


def near_duplicates_datasketch(folder: Path, rows: int) -> Result:
    """The same shingles, permutations, bands and exact confirmation."""
    config, found, kept = DeduplicateConfig(), [], dict[Any, set[Gram]]()
    lsh = MinHashLSH(num_perm=config.permutations, params=bands_for(config.similarity, config.permutations))
    for number, row in enumerate(stream(address(folder, "source"))):
        words = [word for text in texts_of(row) for word in words_of(text)]
        sketch = MinHash(config.permutations, seed=1)
        shingles = grams_of(words, config.shingle_words)
        sketch.update_batch([" ".join(gram).encode() for gram in shingles])
        if any(jaccard(shingles, kept[other]) >= config.similarity for other in lsh.query(sketch)):
            found.append(number)
        else:
            lsh.insert(number, sketch)
            kept[number] = shingles
    return {"found": found}


PARTS: dict[str, Callable[[Path, int], Result]] = {
    "make": make,
    "read source (JSONL)": run_source,
    "deduplicate + decontaminate": run_deduplicate,
    "split prompts": run_split,
    "mix": run_mix,
    ALONE: near_duplicates,
    PEER: near_duplicates_datasketch,
}


def run_part(name: str, folder: Path, rows: int) -> Result:
    """In this process; the figures are for the part, the memory is the process's with all its imports."""
    started, cpu_started = time.perf_counter(), time.process_time()
    result = PARTS[name](folder, rows)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    return {"seconds": seconds, "cpu": cpu, "peak": peak_bytes(), "result": result}


def in_process(name: str, folder: Path, rows: int) -> Result:
    command = [sys.executable, __file__, "--part", name, "--folder", str(folder), "--rows", str(rows)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def check(folder: Path, planted: Result, measured: dict[str, Result]) -> None:
    """All that was planted was found, nothing else, by everyone, in the memory that there is."""
    counts = measured["deduplicate + decontaminate"]["result"]
    found = {kind: counts[f"dropped:{kind}"] for kind in ("equal", "near_duplicate", "contaminated")}
    assert found == {kind: planted[kind] for kind in found}, f"found {found}, planted {planted}"
    clean = hashlib.sha256()
    for row in stream(address(folder, "clean")):
        clean.update(row["messages"][0]["content"].encode())
    assert clean.hexdigest() == planted["clean"], "other rows are left than those where nothing was planted"
    if PEER in measured:
        ours, theirs = (measured[name]["result"]["found"] for name in (ALONE, PEER))
        assert ours == theirs, f"we find {len(ours)} duplicates, datasketch {len(theirs)}"
    for name, result in measured.items():
        assert name == PEER or result["peak"] < LIMIT_BYTES, f"{name} took {result['peak']} bytes"


def measure(rows: int) -> dict[str, Result]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        planted = in_process("make", folder, rows)["result"]
        measured = {}
        for part in PARTS:
            if part != "make" and (rows <= PEER_ROWS or part not in (ALONE, PEER)):
                measured[part] = in_process(part, folder, rows)
                print(
                    rows, part, {key: round(measured[part][key], 1) for key in ("seconds", "cpu", "peak")}, flush=True
                )
        check(folder, planted, measured)
    return measured


def table(measured: dict[int, dict[str, Result]]) -> list[str]:
    head = [f"{rows:,} rows" for rows in measured]
    lines = ["| stage | " + " | ".join(head) + " | memory at most |", "|---" * (len(head) + 2) + "|"]
    for part in [part for part in PARTS if part != "make"]:
        found = {rows: results[part] for rows, results in measured.items() if part in results}
        cells = [
            f"{rows / found[rows]['seconds']:,.0f} ({rows / found[rows]['cpu']:,.0f})" if rows in found else "–"
            for rows in measured
        ]
        peak = max(result["peak"] for result in found.values()) / 2**20
        lines.append(f"| {part} | " + " | ".join(cells) + f" | {peak:,.0f} MiB |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(run_part(options.part, options.folder, options.rows[0])))
        return
    measured = {rows: measure(rows) for rows in options.rows}
    text = [
        "# Data stages at scale",
        "",
        f"`python benchmarks/data.py --rows {' '.join(map(str, options.rows))}`, {datetime.date.today()}, "
        f"{os.cpu_count()} cores, of which each stage uses one; prompts of 60 words, of 20 rows one equal to an "
        "earlier one, two near-duplicates, one with an exam item; the mix is of dialogues, answers, code: as many "
        "rows in all. Every stage in a fresh process.",
        "",
        "Rows a second, in brackets rows a second of processor time; memory of the whole process at most. What was "
        "planted was found, all of it and nothing else, and datasketch (same shingles, permutations and bands; asked "
        f"for up to {PEER_ROWS:,} rows) found the same duplicates.",
        "",
        *table(measured),
    ]
    TABLE.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
