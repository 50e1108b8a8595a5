"""A training stage in several processes: Ray Train places and starts them, each runs the stage's own code.

The processes meet in a torch process group. All read the same inputs and hold the same plan; the first of them speaks
and commits the artifact. Where one dies, all start again from the last checkpoint.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, get_context
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Empty, Queue

from infra import errors
from infra.artifacts import Artifact
from infra.attempts import whole_checkpoints
from infra.storage import Storage
from infra.team import Team
from tasks.configs.base import Resources
from tasks.distribution import GPU_BACKEND
from tasks.ray_cluster import join, reason

ATTEMPTS = 3
"""Starts of the processes without a new checkpoint in between, before the stage fails."""
MEETING_S = 1800
"""Seconds that a process waits in an exchange of training before it gives up."""
SAVING_S = 24 * 3600
"""Seconds that it waits for the others to put files into the store. Ray sees to processes that died."""
POLL_S = 0.5

Event = dict[str, Any]
Make = Callable[[dict[str, Any], Storage, Path, Callable[[Event], None], Team], None]


def run_on_workers(
    make: Make,
    step: dict[str, Any],
    resources: Resources,
    store: Storage,
    workspace: Path,
    tell: Callable[[Event], None],
) -> None:
    """Call `make` in every process of `resources` and pass on what the first of them tells.

    Raises what the processes raised, InputError where the cluster is too small, StageFailed where they keep dying.
    """
    _connect(resources)
    spec = {
        "make": make, "step": step, "threads": cores_each(resources), "store": store.uri, "workspace": str(workspace),
    }  # fmt: skip
    artifact, failed, reached, why = Artifact.model_validate(step["artifact"]), 0, "", ""
    for start in count(1):
        if failed == ATTEMPTS or artifact.exists():
            break
        place = f"attempts/{artifact.stage}/{artifact.fingerprint}/ray-{start}"
        mailbox: Any = Queue(actor_options={"num_cpus": 0})
        with Listening(mailbox, tell) as heard:
            try:
                _trainer(spec | {"mailbox": mailbox}, resources, store, place).fit()
            except (RayError, TrainingFailedError) as error:
                why = reason(error)
            finally:
                store.delete_folder(place)
        if heard.failure is not None:
            raise heard.failure
        if not artifact.exists():
            before, reached = reached, newest_checkpoint(store, artifact)
            failed = 1 if reached > before else failed + 1
            tell({"event": "line", "text": f"training's processes died ({why}); attempt {failed} of {ATTEMPTS}"})
    if artifact.exists():
        return
    raise errors.StageFailed(
        f"training's processes died {ATTEMPTS} times, at last with: {why}",
        "look into the job's log; give them more memory, or lower microbatch_tokens",
    )


def newest_checkpoint(store: Storage, artifact: Artifact) -> str:
    """Name of the newest whole one, which sorts by age; "" without any."""
    return max(whole_checkpoints(store, f"attempts/{artifact.stage}/{artifact.fingerprint}"), default="")


def _trainer(spec: dict[str, Any], resources: Resources, store: Storage, place: str) -> TorchTrainer:
    """`place`: where Ray Train keeps its notes, which all nodes must see."""
    folder, name = place.rsplit("/", 1)
    filesystem, path = store.arrow(folder)
    each: dict[str, float] = {"CPU": cores_each(resources), "GPU": 1 if resources.gpus else 0}
    return TorchTrainer(
        _work,
        train_loop_config=spec,
        scaling_config=ScalingConfig(
            num_workers=resources.training_workers, use_gpu=bool(resources.gpus), resources_per_worker=each
        ),
        torch_config=TorchConfig(backend=GPU_BACKEND if resources.gpus else "gloo", timeout_s=MEETING_S),
        run_config=RunConfig(
            name=name,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=0),
        ),
    )


def _work(spec: dict[str, Any]) -> None:
    """What each process does."""
    torch.set_num_threads(spec["threads"])
    group: Any = dist.new_group(backend="gloo", timeout=timedelta(seconds=SAVING_S))

    def meet() -> None:
        dist.barrier(group)

    team = Team(get_context().get_world_rank(), dist.get_world_size(), meet)
    mailbox = spec["mailbox"]
    try:
        spec["make"](spec["step"], Storage.open(spec["store"]), Path(spec["workspace"]), mailbox.put, team)
    except errors.RatchetError as error:
        mailbox.put({"event": "raised", "type": type(error).__name__, "args": [error.message, error.remedy]})
        raise


class Listening:
    """Passes on what is put into a mailbox until the block ends; an error that is put there is kept."""

    def __init__(self, mailbox: Any, tell: Callable[[Event], None]) -> None:
        self.mailbox, self.tell = mailbox, tell
        self.failure: errors.RatchetError | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> "Listening":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        self.mailbox.shutdown()

    def _listen(self) -> None:
        while not self._over.is_set():
            self._next(POLL_S)
        with suppress(Empty):
            while True:
                self._hear(self.mailbox.get_nowait())

    def _next(self, timeout: float) -> None:
        with suppress(Empty):
            self._hear(self.mailbox.get(timeout=timeout))

    def _hear(self, event: Event) -> None:
        if event["event"] == "raised":
            self.failure = getattr(errors, event["type"])(*event["args"])
        else:
            self.tell(event)


def cores_each(resources: Resources) -> int:
    """Cores of each process: its share of the smallest node's that may hold it."""
    on_node = max(1, resources.training_workers // resources.nodes)
    cores = resources.cpus or int(min(node.get("CPU", 1) for node in _eligible(resources)))
    return max(1, cores // on_node)


def _eligible(resources: Resources) -> list[dict[str, float]]:
    """What each living node has, of those with GPUs where these are asked for."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [node for node in nodes if node.get("GPU", 0) >= 1 or not resources.gpus] or [{}]


def _connect(resources: Resources) -> None:
    """Join the job's cluster, or start a private one. Raises InputError where it is too small."""
    join(max(resources.training_workers, resources.cpus))
    workers, cores = resources.training_workers, cores_each(resources)
    nodes = _eligible(resources)
    room = [min(int(n.get("CPU", 0) // cores), int(n.get("GPU", 0)) if resources.gpus else workers) for n in nodes]
    if sum(room) < workers:
        each = f"{cores} CPU and 1 GPU" if resources.gpus else f"{cores} CPU"
        raise errors.InputError(
            f"resources: {workers} training processes of {each} each; the cluster has room for {sum(room)}",
            "lower resources.workers or cpus, or add nodes",
        )
