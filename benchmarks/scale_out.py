"""Engines in Ray actors: useful tokens a second with one, two, … of them, each on one core (or one GPU).

python benchmarks/scale_out.py [--engines 1 2] [--gpus]      writes benchmarks/scale_out.md
"""

import argparse
import datetime
import os
import tempfile
import time
from pathlib import Path

import ray
import torch
from workload import requests

from infra.artifacts import Artifact
from infra.offline_model import install_offline_model
from infra.output import Outcome, Output
from infra.storage import Storage
from models.engine import SamplingParams
from models.gguf import import_gguf
from tasks.configs.base import EngineResources
from tasks.engines.actors import EngineFleet

TABLE = Path(__file__).with_suffix(".md")
ROWS = 80


def offline_model(folder: Path) -> Artifact:
    store = Storage.open(folder / "store")
    artifact = Artifact(store=store.uri, stage="model", fingerprint="0" * 32, kind="checkpoint")
    output = Output(artifact, store, lambda event: None, folder)
    import_gguf(install_offline_model(), folder / "model")
    output.write_folder(folder / "model")
    return output.commit(
        Outcome(), recipe={}, inputs={}, version=1, label="model", device="", wall_s=0.0, code_version=""
    )


def measure(model: Artifact, engines: int, gpus: int) -> tuple[int, float]:
    fleet = EngineFleet(model, EngineResources(count=engines, cpus=1, gpus=gpus), batch_rows=64)
    asked = requests(fleet.tokenizer, ROWS)
    params = [SamplingParams(temperature=0, max_tokens=one.limit) for one in asked]
    fleet.generate([one.messages for one in asked[: 2 * engines]], SamplingParams(max_tokens=2))
    start = time.perf_counter()
    made = fleet.generate([one.messages for one in asked], params)
    seconds = time.perf_counter() - start
    fleet.close()
    return sum(len(result.token_ids) for result in made), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--gpus", action="store_true", help="one GPU for each engine")
    options = parser.parse_args()
    measured: list[tuple[int, int, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        ray.init(num_cpus=max(options.engines), include_dashboard=False, log_to_driver=False)
        model = offline_model(Path(folder))
        for engines in options.engines:
            measured.append((engines, *measure(model, engines, int(options.gpus))))
            print(measured[-1], flush=True)
        ray.shutdown()
    each = torch.cuda.get_device_name() if options.gpus else "core"
    text = [
        "# Scale-out of generation",
        "",
        f"`python benchmarks/scale_out.py --engines {' '.join(map(str, options.engines))}`, {datetime.date.today()}, "
        f"{os.cpu_count()} cores, one {each} an engine, {ROWS} first turns of ShareGPT, SmolLM2-135M-Instruct, greedy.",
        "",
        "| engines | useful tokens | seconds | per second | of the first line's rate per engine |",
        "|---|---|---|---|---|",
    ]
    alone = measured[0][1] / measured[0][2] / measured[0][0]
    for engines, tokens, seconds in measured:
        rate = tokens / seconds
        text.append(f"| {engines} | {tokens} | {seconds:.1f} | {rate:.1f} | {rate / engines / alone:.0%} |")
    TABLE.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
