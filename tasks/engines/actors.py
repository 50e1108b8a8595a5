"""Several engines at work at once, each in a Ray actor of its own.

A call's prompts are dealt out in parts, the longest first, each to the engine that is free next. An engine that dies
takes only its part with it, which is done again by another: with our own engine an answer depends on its prompt,
settings and seed alone, so it comes out the same. The stage that called writes its shards as ever.
"""

import math
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import ray
import torch
import torch.distributed as dist
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from infra.artifacts import Artifact
from infra.errors import InputError, StageFailed
from infra.ports import free_ports
from models.checkpoint import load_model
from models.config import ModelConfig
from models.decoder import Decoder
from models.engine import Engine
from models.engine.interface import Progress, Prompt, Result, SamplingParams, one_each
from models.engine.memory import default_cache_bytes
from models.engine.parallel import split, split_config
from models.engine.prompts import prompt_ids
from models.folders import load_config
from models.tokenizer import Tokenizer
from tasks.configs.base import EngineResources
from tasks.engines.placement import placed
from tasks.engines.vllm_engine import VLLMEngine
from tasks.ray_cluster import join, reason

ATTEMPTS = 3
"""Of one part, before the stage fails: a prompt that kills engines must not kill them for ever."""
START_S = 1800.0
"""Seconds for the cluster to have room for an engine, and for that to load its model."""
PARTS_PER_ENGINE = 2
"""Of one call: more would balance better and keep each engine's batch full for less of the time."""


@dataclass(frozen=True)
class Opening:
    """What an actor needs to open its engine, or its part of one."""

    model: dict[str, Any]
    resources: dict[str, Any]
    batch_rows: int
    precision: str


class EngineActor:
    """What runs in the actor's process."""

    def __init__(self, opening: Opening) -> None:
        self.opening = opening
        self.resources = EngineResources.model_validate(opening.resources)
        torch.set_num_threads(self.resources.cpus)
        self.engine: Any = None
        if self.resources.kind == "vllm" or self.resources.tensor_parallel == 1:
            self.engine = self._open(0)

    def join(self, port: int, rank: int) -> None:
        """Open part `rank` of a split engine, whose parts meet at a port of this node."""
        dist.init_process_group(
            "nccl" if self.resources.gpus else "gloo",
            init_method=f"tcp://127.0.0.1:{port}",
            rank=rank,
            world_size=self.resources.tensor_parallel,
        )
        self.engine = self._open(rank)

    def _open(self, rank: int) -> Any:
        opening, parts = self.opening, self.resources.tensor_parallel
        folder = Artifact.model_validate(opening.model).folder()
        if self.resources.kind == "vllm":
            return VLLMEngine(folder, opening.batch_rows, parts, opening.precision)
        model, tokenizer = load_model(folder)
        if parts == 1:
            model = placed(model, self.resources.gpus > 0, opening.precision)
            return Engine(model, tokenizer, max_rows=opening.batch_rows, cache_bytes=self._cache_bytes(model))
        model = placed(split(model, rank, parts), self.resources.gpus > 0, opening.precision)
        # Parts must admit the same rows at the same time: the scarcest memory counts.
        room = torch.tensor(self._cache_bytes(model), device=model.unembedding_VD.device)
        dist.all_reduce(room, dist.ReduceOp.MIN)
        return Engine(model, tokenizer, max_rows=opening.batch_rows, cache_bytes=int(room))

    def _cache_bytes(self, model: Decoder) -> int:
        """Engines without a GPU may all be on one node."""
        sharing = 1 if self.resources.gpus else self.resources.count
        return default_cache_bytes(model.unembedding_VD.device) // sharing

    def process(self) -> int:
        """Its process id; returns once it is there."""
        return os.getpid()

    def free_port(self) -> int:
        """One of this node's."""
        return free_ports(1)[0]

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self.engine, method)(*arguments)


class EngineFleet:
    """Our engine's interface over `resources.count` actors. Opens a private Ray where the process is in no cluster.

    One fleet of a process is at work at a time: a call of another one closes it, and its own next call starts it again.
    """

    _at_work: ClassVar["EngineFleet | None"] = None

    def __init__(self, model: Artifact, resources: EngineResources, batch_rows: int, precision: str = "fp32") -> None:
        """Raises InputError where the cluster can never hold the engines, or a model cannot be opened."""
        self.resources, self.batch_rows = resources, batch_rows
        folder = model.folder()
        self.tokenizer: Tokenizer = Tokenizer.load(folder)
        self.config: ModelConfig = load_config(folder)
        if resources.kind == "own":
            try:
                split_config(self.config, resources.tensor_parallel)
            except ValueError as error:
                raise InputError(
                    f"resources.engines.tensor_parallel: {error}", "choose a divisor of all three"
                ) from error
        self._opening = Opening(model.model_dump(mode="json"), resources.model_dump(mode="json"), batch_rows, precision)
        connect(resources)
        self._engines: list[RemoteEngine] = []
        self._open()

    def _open(self) -> None:
        """Start the engines where they are not at work. A fleet takes much of a cluster: the last one goes first."""
        if EngineFleet._at_work is self:
            return
        if EngineFleet._at_work is not None:
            EngineFleet._at_work.close()
        EngineFleet._at_work = self
        self._engines = [self._start() for _ in range(self.resources.count)]
        for engine in self._engines:
            self._wait_until_loaded(engine)

    def generate(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        on_progress: Progress | None = None,
    ) -> list[Result]:
        """One result per prompt, in order. Raises StageFailed where a part's engines die again and again."""
        settings = one_each(len(prompts), params)
        encoded = [prompt_ids(self.tokenizer, prompt) for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda number: -settings[number].max_tokens)
        results: list[Result | None] = [None] * len(prompts)
        rows, done, tokens = sum(one.n for one in settings), 0, 0
        parts = self._parts(order)
        calls = [([encoded[n] for n in part], [settings[n] for n in part]) for part in parts]
        for number, made in self._spread("generate", calls):
            for place, result in zip(parts[number], made, strict=True):
                results[place] = result
                done += settings[place].n
                tokens += sum(len(output.token_ids) + 1 for output in result.outputs)
            if on_progress is not None:
                on_progress(done, rows, tokens)
        return [result for result in results if result is not None]

    def logprobs(
        self, prompts_ids: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """As Engine.logprobs."""
        scores: list[list[float]] = [[] for _ in prompts_ids]
        parts = self._parts(range(len(prompts_ids)))  # neighbours stay together: they begin alike
        calls = [([prompts_ids[n] for n in part], [continuations[n] for n in part]) for part in parts]
        for number, found in self._spread("logprobs", calls):
            for place, one in zip(parts[number], found, strict=True):
                scores[place] = one
        return scores

    def close(self) -> None:
        for engine in self._engines:
            engine.close()
        self._engines = []
        if EngineFleet._at_work is self:
            EngineFleet._at_work = None

    def _parts(self, order: Sequence[int]) -> list[Sequence[int]]:
        size = max(1, math.ceil(len(order) / (PARTS_PER_ENGINE * self.resources.count)))
        size = max(size, min(self.batch_rows, math.ceil(len(order) / self.resources.count)))
        return [order[start : start + size] for start in range(0, len(order), size)]

    def _spread(self, method: str, calls: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        """The calls' numbers and what they returned, as they come in."""
        self._open()
        waiting, deaths, failed_starts = deque(range(len(calls))), Counter[int](), 0
        idle, busy, starting = [*range(len(self._engines))], {}, {}
        while waiting or busy:
            while waiting and idle:
                engine, number = idle.pop(0), waiting.popleft()
                busy[self._engines[engine].call(method, *calls[number])] = (engine, number)
            done, _ = ray.wait([*busy, *starting], num_returns=1, timeout=None if busy else START_S)
            if not done:
                raise StageFailed(f"no engine has started again within {START_S:.0f} s", "look at the cluster's nodes")
            if (ready := done[0]) in starting:
                engine = starting.pop(ready)
                try:
                    self._wait_until_loaded(self._engines[engine])
                    idle.append(engine)
                except InputError:
                    failed_starts += 1
                    if failed_starts == ATTEMPTS:
                        raise
                    starting[self._restart(engine)] = engine
                continue
            engine, number = busy.pop(ready)
            try:
                yield number, ray.get(ready)
            except RayError as error:
                if isinstance(error, RayTaskError) and not self._lost_a_part(error):
                    raise error.as_instanceof_cause() from error
                deaths[number] += 1
                if deaths[number] == ATTEMPTS:
                    raise StageFailed(
                        f"an engine died {ATTEMPTS} times at the same part: {reason(error)}",
                        "give engines more memory, or lower batch_rows",
                    ) from error
                waiting.appendleft(number)
                starting[self._restart(engine)] = engine
            else:
                idle.append(engine)

    def _lost_a_part(self, error: RayTaskError) -> bool:
        """Whether the first part of a split engine waited for another in vain."""
        return self.resources.tensor_parallel > 1 and isinstance(error.as_instanceof_cause(), RuntimeError)

    def _start(self) -> "RemoteEngine":
        return RemoteEngine(self._opening, self.resources)

    def _restart(self, engine: int) -> Any:
        """What is known once it has started, or has failed to."""
        self._engines[engine].close()
        self._engines[engine] = self._start()
        return self._engines[engine].ready[0]

    def _wait_until_loaded(self, engine: "RemoteEngine") -> None:
        try:
            ray.get(engine.ready, timeout=START_S)
        except GetTimeoutError as error:
            raise StageFailed(
                f"an engine had not started after {START_S:.0f} s; free now: {ray.available_resources()}",
                "wait until other jobs have ended, or lower resources.engines.count",
            ) from error
        except RayError as error:
            raise InputError(f"an engine could not be started: {reason(error)}", "look into the job's log") from error


class RemoteEngine:
    """One engine: an actor, or an actor for each part of its model, all on one node."""

    def __init__(self, opening: Opening, resources: EngineResources) -> None:
        parts = resources.tensor_parallel if resources.kind == "own" else 1
        options: dict[str, Any] = {"num_cpus": resources.cpus, "num_gpus": resources.gpus / parts}
        if resources.python:
            options["runtime_env"] = {"py_executable": resources.python}
        self.group = None
        if parts > 1:
            bundle: dict[str, float] = {"CPU": resources.cpus, "GPU": resources.gpus / parts}
            self.group = placement_group([bundle] * parts, strategy="STRICT_PACK")
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(self.group)
        make: Any = ray.remote(**options)(EngineActor)
        self.actors: list[Any] = [make.remote(opening) for _ in range(parts)]
        self.ready: Any = [actor.process.remote() for actor in self.actors]
        if parts > 1:
            port = self.actors[0].free_port.remote()
            self.ready = [actor.join.remote(port, rank) for rank, actor in enumerate(self.actors)]

    def call(self, method: str, *arguments: Any) -> Any:
        """What the first part will return; all do the same work."""
        first, *_ = [actor.call.remote(method, *arguments) for actor in self.actors]
        return first

    def close(self) -> None:
        for actor in self.actors:
            ray.kill(actor)
        if self.group is not None:
            remove_placement_group(self.group)


def connect(resources: EngineResources) -> None:
    """Join the job's cluster. Raises InputError where it is too small for the engines."""
    join(resources.count * resources.all_cpus)
    found = ray.cluster_resources()
    for name, each in (("CPU", resources.all_cpus), ("GPU", resources.gpus)):
        if each * resources.count > found.get(name, 0):
            raise InputError(
                f"resources.engines: {resources.count} engines of {each} {name} each need {each * resources.count}; "
                f"the cluster has {found.get(name, 0):g}",
                "lower resources.engines.count, or add nodes",
            )
