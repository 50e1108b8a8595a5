"""Useful tokens a second: our engine beside transformers' `generate`, in one run, on the real SmolLM2-135M-Instruct.

64 chat prompts of mixed length, limits of 16 to 160 tokens, real stops, greedy. Useful tokens are those up to a row's
own stop or limit; what a padded batch computes behind them is not counted. A matrix product of 512 rows is timed before
each run, so that a busy machine shows.

    python benchmarks/generation.py [--skip-peer]      writes benchmarks/generation.md
"""

import argparse
import datetime
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from infra.offline_model import install_offline_model
from models.chat import encode_prompt
from models.checkpoint import load_model
from models.engine import Engine, SamplingParams
from models.gguf import import_gguf

TABLE = Path(__file__).with_suffix(".md")
ROWS = 64
PEER_BATCHES = (16, 32, 64)
QUESTIONS = (
    "What is the capital of France?",
    "Explain in two sentences why the sky is blue.",
    "Write a short poem about a lighthouse in winter.",
    "List five things to pack for a day in the mountains.",
    "Write a Python function that returns the sum of the even numbers in a list.",
    "Give me a polite e-mail that asks a colleague to move our meeting from Monday to Wednesday afternoon.",
    "Summarise the following text in one sentence:",
    "Name three differences between a frog and a toad, and say which of the two lives nearer to water.",
)
PASSAGE = (
    "The harbour town had grown around its fish market. Every morning the boats came in before sunrise, and by eight "
    "the crates stood in rows on wet stone. Buyers walked along them with small lamps, spoke little, and pointed. "
    "When the railway came, ice came with it, and the fish went inland to cities that had never seen the sea. "
)


def make_requests() -> list[tuple[list[dict[str, str]], int]]:
    """Conversations and their limits in tokens, always the same ones."""
    requests = []
    for number in range(ROWS):
        question = QUESTIONS[number % len(QUESTIONS)]
        # Prompts of about 35 to 270 tokens: every third has a passage, one to three times over.
        passage = "\n\n" + PASSAGE * (1 + number // 3 % 3) if number % 3 == 0 else f" (Answer {number}.)"
        requests.append(([{"role": "user", "content": question + passage}], 16 + number * 37 % 145))
    return requests


def product_rate() -> float:
    """GFLOP/s of one fp32 matrix product with 512 rows, the best of several."""
    left, right = torch.randn(512, 576), torch.randn(576, 3072)
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - start)
    return 2 * left.shape[0] * right.numel() / best / 1e9


def timed(run: Callable[[], list[tuple[int, ...]]]) -> tuple[list[tuple[int, ...]], float, float]:
    """Rows of useful tokens, seconds, and the machine's rate just before."""
    rate = product_rate()
    start = time.perf_counter()
    rows = run()
    return rows, time.perf_counter() - start, rate


def run_peer(
    model: torch.nn.Module, prompts: list[list[int]], limits: list[int], stop: set[int], batch: int
) -> list[tuple[int, ...]]:
    """transformers in padded batches of prompts sorted by length, each to the largest limit in it."""
    rows: dict[int, tuple[int, ...]] = {}
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    for first in range(0, len(order), batch):
        members = order[first : first + batch]
        width = max(len(prompts[row]) for row in members)
        token_ids = torch.tensor([[0] * (width - len(prompts[row])) + prompts[row] for row in members])
        mask = torch.tensor([[0] * (width - len(prompts[row])) + [1] * len(prompts[row]) for row in members])
        made = model.generate(
            input_ids=token_ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=max(limits[row] for row in members),
            eos_token_id=sorted(stop),
            pad_token_id=min(stop),
        )[:, width:].tolist()
        for row, tokens in zip(members, made, strict=True):
            kept = tokens[: limits[row]]
            end = next((place for place, token in enumerate(kept) if token in stop), len(kept))
            rows[row] = tuple(kept[:end])
    return [rows[row] for row in range(len(prompts))]


def measure(folder: Path, skip_peer: bool) -> list[tuple[str, int, float, float, float]]:
    """One line each: name, useful tokens, seconds, share of rows equal to ours, machine's GFLOP/s."""
    model, tokenizer = load_model(folder)
    engine = Engine(model, tokenizer, max_rows=ROWS)
    requests = make_requests()
    prompts = [encode_prompt(tokenizer, messages) for messages, _ in requests]
    limits = [limit for _, limit in requests]
    params = [SamplingParams(temperature=0, max_tokens=limit) for limit in limits]
    engine.generate(prompts[:4], [SamplingParams(temperature=0, max_tokens=4)] * 4)
    ours, seconds, rate = timed(lambda: [result.token_ids for result in engine.generate(prompts, params)])
    lines = [(f"Ratchet, {ROWS} rows", sum(map(len, ours)), seconds, 1.0, rate)]
    if skip_peer:
        return lines
    peer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    stop = set(engine.ending.stop_ids)
    for batch in PEER_BATCHES:
        made, seconds, rate = timed(lambda batch=batch: run_peer(peer, prompts, limits, stop, batch))
        same = sum(a == b for a, b in zip(made, ours, strict=True)) / ROWS
        lines.append((f"transformers generate, batch {batch}", sum(map(len, made)), seconds, same, rate))
    return lines


def write_table(lines: list[tuple[str, int, float, float, float]]) -> str:
    """The table as Markdown."""
    text = [
        "# Generation throughput",
        "",
        f"`python benchmarks/generation.py`, {datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} torch threads, torch {torch.__version__}, fp32, SmolLM2-135M-Instruct; {ROWS} chat "
        f"prompts, limits 16–160 tokens, real stops, greedy. Load average at the end {os.getloadavg()[0]:.1f}.",
        "",
        "| engine | useful tokens | seconds | useful tokens/s | beside ours | rows with our tokens | machine, GFLOP/s |",  # noqa: E501
        "|---|---|---|---|---|---|---|",
    ]
    best = lines[0][1] / lines[0][2]
    for name, tokens, seconds, same, rate in lines:
        speed = tokens / seconds
        text.append(
            f"| {name} | {tokens} | {seconds:.1f} | {speed:.1f} | {speed / best:.2f} | {same:.0%} | {rate:.0f} |"
        )
    text += [
        "",
        "Useful tokens are counted up to a row's own stop or limit. The last column is a matrix product of 512 rows "
        "timed just before each run: it says how busy the machine was.",
    ]
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skip-peer", action="store_true", help="time our engine only and write nothing")
    skip_peer = parser.parse_args().skip_peer
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        import_gguf(install_offline_model(), Path(folder))
        table = write_table(measure(Path(folder), skip_peer))
    print(table)
    if not skip_peer:
        TABLE.write_text(table)


if __name__ == "__main__":
    main()
