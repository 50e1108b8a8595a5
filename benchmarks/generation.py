"""Generation and scoring beside transformers and vLLM, in one run, on the real SmolLM2-135M-Instruct in fp32.

Useful tokens are those up to a row's own stop or limit. A matrix product of 512 rows is timed before each measurement,
so that a busy machine shows. vLLM's CPU build is installed into an environment of its own when it is not there (three
minutes). With --rows a quick look at our engine alone.

    python benchmarks/generation.py [--skip vllm continuous …] [--rows N]      writes benchmarks/generation.md
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from peers import transformers_generation as theirs
from transformers import AutoModelForCausalLM
from workload import as_document, judge_prompts, requests

from infra.offline_model import install_offline_model
from infra.vllm_environment import install_vllm
from models.checkpoint import load_model
from models.engine import Engine, SamplingParams
from models.gguf import import_gguf

HERE = Path(__file__).parent
TABLE = HERE / "generation.md"
ROWS, SEARCH_ROWS, JUDGE_PAIRS, STREAMS = 256, 24, 48, 6
PEER_BATCHES = (8, 16, 32)
SKIPPED = ("throughput", "transformers", "continuous", "vllm")
VLLM = {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_OMP_THREADS_BIND": "0-1", "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}  # fmt: skip


@dataclass
class Line:
    work: str
    who: str
    amount: int
    """Useful tokens, or prompts judged."""
    seconds: float
    same: str
    rate: float
    """GFLOP/s of the machine just before."""

    @property
    def speed(self) -> float:
        return self.amount / self.seconds


def product_rate(rows: int = 512) -> float:
    """GFLOP/s of one fp32 matrix product, the best of several."""
    left, right = torch.randn(rows, 576), torch.randn(576, 3072)
    best = min(timed(lambda: left @ right)[1] for _ in range(20))
    return 2 * rows * right.numel() / best / 1e9


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    found = run()
    return found, time.perf_counter() - start


def agreement(rows: list[Any], ours: list[Any]) -> str:
    return f"{sum(list(a) == list(b) for a, b in zip(rows, ours, strict=True)) / len(ours):.0%}"


class Bench:
    def __init__(self, folder: Path, skip: set[str]) -> None:
        self.folder, self.skip = folder, skip
        model, self.tokenizer = load_model(folder)
        self.engine = Engine(model, self.tokenizer)
        self.stop = sorted(self.engine.ending.stop_ids)
        self.peer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.lines: list[Line] = []
        self.described = self.search = "not asked in this run"

    def add(self, work: str, who: str, run: Callable[[], list[Any]], ours: list[Any] | None = None) -> list[Any]:
        rate = product_rate()
        rows, seconds = timed(run)
        same = "" if ours is None else agreement(rows, ours)
        self.lines.append(Line(work, who, sum(map(len, rows)), seconds, same, rate))
        print(self.lines[-1], flush=True)
        return rows

    def throughput(self, rows: int) -> None:
        work = f"{rows} prompts"
        asked = requests(self.tokenizer, rows)
        prompts, limits = [self.engine.encode(one.messages) for one in asked], [one.limit for one in asked]
        self.described = (
            f"{sum(map(len, prompts))} prompt tokens, {min(map(len, prompts))}–{max(map(len, prompts))} each"
        )
        params = [SamplingParams(temperature=0, max_tokens=limit) for limit in limits]
        self.engine.generate(prompts[:2], SamplingParams(temperature=0, max_tokens=4))
        ours = self.add(work, "Ratchet", lambda: [r.token_ids for r in self.engine.generate(prompts, params)])
        if "vllm" not in self.skip:
            self.vllm(work, prompts, limits, ours)
        if "transformers" not in self.skip:
            few = slice(0, SEARCH_ROWS)
            search = {
                batch: timed(lambda b=batch: theirs.padded(self.peer, prompts[few], limits[few], self.stop, b))[1]
                for batch in PEER_BATCHES
            }
            best = min(search, key=lambda batch: search[batch])
            self.search = ", ".join(f"{batch}: {seconds:.0f} s" for batch, seconds in search.items())
            run = lambda: theirs.padded(self.peer, prompts, limits, self.stop, best)  # noqa: E731
            self.add(work, f"transformers generate, batch {best}", run, ours)
        if "continuous" not in self.skip:
            # All of them would take it a quarter of an hour and more than 14 GB.
            few, some = slice(0, SEARCH_ROWS), f"{SEARCH_ROWS} prompts"
            run = lambda: [r.token_ids for r in self.engine.generate(prompts[few], params[few])]  # noqa: E731
            self.add(some, "Ratchet", run)
            run = lambda: theirs.continuous(self.peer, prompts[few], limits[few], self.stop)  # noqa: E731
            self.add(some, "transformers continuous batching", run, ours[few])

    def vllm(self, work: str, prompts: list[list[int]], limits: list[int], ours: list[Any]) -> None:
        rate = product_rate()
        with tempfile.TemporaryDirectory() as folder:
            asked, answered = Path(folder) / "requests.json", Path(folder) / "answers.json"
            asked.write_text(json.dumps(as_document(prompts, limits, self.stop)))
            script = HERE / "peers" / "vllm_generation.py"
            python = install_vllm(on_gpus=False)
            command = [str(python), str(script), str(self.folder), str(asked), str(answered)]
            subprocess.run(command, check=True, env=os.environ | VLLM, stdout=subprocess.DEVNULL)
            found = json.loads(answered.read_text())
        amount = sum(map(len, found["rows"]))
        self.lines.append(Line(work, "vLLM, CPU build", amount, found["seconds"], agreement(found["rows"], ours), rate))
        print(self.lines[-1], flush=True)

    def judging(self) -> None:
        work = "judge prompts"
        prompts = [self.engine.encode(messages) for messages in judge_prompts(self.tokenizer, JUDGE_PAIRS)]
        words = [self.tokenizer.encode(f" {letter}")[0] for letter in "AB"]
        pairs = [(prompt, [word]) for prompt in prompts for word in words]

        def judge() -> list[list[float]]:
            scores = self.engine.logprobs([prompt for prompt, _ in pairs], [word for _, word in pairs])
            return [[a[0], b[0]] for a, b in zip(scores[::2], scores[1::2], strict=True)]

        ours = self.add(work, "Ratchet", judge)
        best: tuple[list[Any], float] | None = None
        for batch in PEER_BATCHES:
            rows, seconds = timed(lambda b=batch: theirs.scores(self.peer, prompts, words, b))
            best = (rows, seconds) if best is None or seconds < best[1] else best
        assert best is not None
        far = max(abs(x - y) for a, b in zip(ours, best[0], strict=True) for x, y in zip(a, b, strict=True))
        self.lines.append(
            Line(work, "transformers, best batch", 2 * len(prompts), best[1], f"≤ {far:.0e}", product_rate())
        )
        print(self.lines[-1], sum(map(len, prompts)), flush=True)

    def streams(self) -> None:
        work = "one stream"
        asked = [self.engine.encode(one.messages) for one in requests(self.tokenizer, STREAMS)]
        params = SamplingParams(temperature=0, max_tokens=64)
        ours = self.add(work, "Ratchet", lambda: [self.engine.generate([p], params)[0].token_ids for p in asked])
        limits = [64] * STREAMS
        self.add(work, "transformers generate", lambda: theirs.padded(self.peer, asked, limits, self.stop, 1), ours)

    @torch.inference_mode()
    def roofline(self) -> str:
        """Work per second of a decoding step against what the machine does with the same shapes and nothing else."""
        text = []
        shapes = [tuple(w.shape) for w in self.peer.state_dict().values() if w.dim() == 2]  # tied: the embedding once
        for rows in (128, 256):
            step = self.step_seconds(rows)
            inputs = {size: torch.randn(rows, size) for size in {inputs for _, inputs in shapes}}
            weights = [torch.randn(shape) for shape in sorted(set(shapes))]
            alone = 0.0
            for weight in weights:
                count = shapes.count(tuple(weight.shape)) - (len(weight) == self.engine.config.vocab_size)
                x = inputs[weight.shape[1]]
                alone += max(count, 1) * min(timed(lambda x=x, w=weight: x @ w.T)[1] for _ in range(7))
            flops = 2 * rows * sum(rows_ * columns for rows_, columns in shapes[1:])
            text.append(
                f"- {rows} rows: {flops / step / 1e9:.0f} GFLOP/s in a whole step (only products counted), "
                f"{flops / alone / 1e9:.0f} in torch's products of the same shapes alone: **{alone / step:.0%}**."
            )
        step, size = self.step_seconds(1), 4 * sum(a * b for a, b in shapes[1:])
        source = torch.randn(64 * 2**20)
        target = torch.empty_like(source)
        copy = min(timed(lambda: target.copy_(source))[1] for _ in range(7))
        moved = 2 * 4 * source.numel() / copy
        text.append(
            f"- 1 row: {size / 1e6:.0f} MB of weights in {1e3 * step:.1f} ms, {size / step / 1e9:.1f} GB/s; a copy "
            f"moves {moved / 1e9:.1f} GB/s, read and write together: **{size / step / moved:.0%}**."
        )
        return "\n".join(text)

    def step_seconds(self, rows: int) -> float:
        """The median step of a batch in the middle of its answers."""
        engine = Engine(load_model(self.folder)[0], self.tokenizer, max_rows=rows)
        params = SamplingParams(temperature=0, max_tokens=60)
        work = [row for n in range(rows) for row in engine.rows([5 + n, *range(100, 160)], params)]
        engine.scheduler.submit(work)
        while len(engine.scheduler.running) < rows:
            engine.scheduler.step()
        return sorted(timed(engine.scheduler.step)[1] for _ in range(12))[6]

    def table(self, roofline: str) -> str:
        text = [
            "# Generation",
            "",
            f"`python benchmarks/generation.py`, {datetime.date.today()}, {cpu_name()}, {os.cpu_count()} cores, "
            f"{torch.get_num_threads()} torch threads, torch {torch.__version__}, transformers "
            f"{transformers.__version__}, SmolLM2-135M-Instruct in fp32, greedy, real stops. Load average at the end "
            f"{os.getloadavg()[0]:.1f}.",
            "",
            f"{ROWS} first turns of ShareGPT ({self.described}), limits of 16–160 tokens. transformers' batch "
            f"was chosen on {SEARCH_ROWS} of them ({self.search}).",
            "",
            "| work | engine | useful tokens | seconds | per second | Ratchet is | same as ours | machine, GFLOP/s |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for line in self.lines:
            first = next(other for other in self.lines if other.work == line.work)
            ratio = "" if line is first else f"**{first.speed / line.speed:.2f}×**"
            text.append(
                f"| {line.work} | {line.who} | {line.amount} | {line.seconds:.1f} | {line.speed:.1f} | {ratio} | "
                f"{line.same} | {line.rate:.0f} |"
            )
        text += [
            "",
            "Judge prompts have rules and examples in common, and each pair comes in both orders; what is counted are "
            "the two letters' log-probabilities, and the sameness is the largest difference between them. vLLM's time "
            "is without loading. The last column is a matrix product of 512 rows timed just before: it says how busy "
            "the machine was.",
            "",
            "A decoding step against the machine:",
            "",
            roofline,
        ]
        return "\n".join(text) + "\n"


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skip", nargs="*", default=[], choices=SKIPPED)
    parser.add_argument("--rows", type=int, help="ask so many prompts of our engine alone; nothing is written")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        import_gguf(install_offline_model(), Path(folder))
        bench = Bench(Path(folder), {"transformers", "continuous", "vllm"} if options.rows else set(options.skip))
        if options.rows:
            bench.throughput(options.rows)
            return
        if "throughput" not in bench.skip:
            bench.throughput(ROWS)
        bench.judging()
        bench.streams()
        table = bench.table(bench.roofline())
    print(table)
    if not options.skip:
        TABLE.write_text(table)


if __name__ == "__main__":
    main()
