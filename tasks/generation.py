"""What every generating stage shares: a model's engine, opened once a process, and shards of rows written with it.

writer = Writer(open_engine(generator, config.resources), output)
write_shards(output, writer, items, config.shard_rows, SCHEMA, lambda shard: rows_of(shard, writer.write(asks)))
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import torch

from infra.artifacts import Artifact
from infra.errors import InputError
from infra.output import Output
from models.checkpoint import load_model
from models.engine import Engine, Generator, Result, SamplingParams
from models.engine.interface import Prompt
from tasks.configs.base import Resources
from tasks.configs.endpoint_model import ENDPOINT_FILE, EndpointModelConfig
from tasks.engines.abilities import Meter
from tasks.engines.endpoint import EndpointEngine
from tasks.engines.placement import placed
from tasks.rows import row_seed

if TYPE_CHECKING:
    from tasks.engines.actors import EngineFleet

Messages = Sequence[Mapping[str, str]]
T = TypeVar("T")


def open_engine(model: Artifact, resources: Resources) -> Generator:
    """What writes with a checkpoint: our own engine, shared by the stages of a process, or a hosted model's endpoint.

    Raises InputError where there is no model.
    """
    folder = model.folder()
    if (folder / ENDPOINT_FILE).is_file():
        return EndpointEngine(EndpointModelConfig.model_validate_json((folder / ENDPOINT_FILE).read_bytes()),
                              resources.endpoint)  # fmt: skip
    if resources.engines.count:
        return _open_fleet(model, resources)
    return _open(str(folder), resources.batch_rows, resources.gpus > 0, resources.written_precision)


_fleets: dict[str, "EngineFleet"] = {}
"""By what they were opened with; one of them is at work at a time."""


def _open_fleet(model: Artifact, resources: Resources) -> "EngineFleet":
    from tasks.engines.actors import EngineFleet  # noqa: PLC0415 - Ray takes a second to import

    opened_with = (resources.engines, resources.batch_rows, resources.written_precision)
    key = repr((model, opened_with))
    if key not in _fleets:
        _fleets[key] = EngineFleet(model, *opened_with)
    return _fleets[key]


@lru_cache(maxsize=2)
def _open(folder: str, batch_rows: int, on_gpu: bool, precision: str) -> Engine:
    if on_gpu and not torch.cuda.is_available():
        raise InputError("the stage asks for a GPU and torch sees none", "set its resources.gpus to 0")
    try:
        model, tokenizer = load_model(folder)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"{folder} holds no model that can be opened: {error}", "give a checkpoint") from error
    return Engine(placed(model, on_gpu, precision), tokenizer, max_rows=batch_rows)


def licence_of(model: Artifact) -> str:
    """The licence that a model's manifest states, which what it writes inherits; "" where none is stated."""
    result = model.manifest().result
    return str(result.get("licence") or ", ".join(sorted(result.get("licences", []))))


@dataclass(frozen=True)
class Ask:
    """One call of the model."""

    id: str
    """Unique within the stage; with the stage's fingerprint it seeds the answer."""
    messages: Messages
    """A last message of the assistant's is gone on with."""
    params: SamplingParams
    """Its own seed is replaced."""


class Writer:
    """A model that writes for one stage. An answer depends on its ask alone, never on its batch. Counts its speed."""

    def __init__(self, engine: Generator, output: Output) -> None:
        self.engine, self.output = engine, output
        self.meter = Meter(engine)
        self.tokens, self.seconds = 0, 0.0
        self.busy, self.began = 0.0, math.inf
        """Seconds in which an engine was at work, and when the first began."""
        self._place = (0, 1, 1)

    def write(self, asks: Sequence[Ask], share: tuple[float, float] = (0.0, 1.0)) -> list[Result]:
        """The answers in order, in one engine call. `share` is the part of the shard's work that this call is."""
        params = [replace(ask.params, seed=row_seed(self.output.fingerprint, ask.id)) for ask in asks]
        return self.generate([[*ask.messages] for ask in asks], params, share)

    def generate(
        self, prompts: Sequence[Prompt], params: Sequence[SamplingParams], share: tuple[float, float] = (0.0, 1.0)
    ) -> list[Result]:
        """As `write`, for prompts that may be token ids and settings with seeds of their own."""
        started, before = time.monotonic(), self.meter.used

        def report(done: int, total: int, tokens: int) -> None:
            rate = (self.tokens + tokens) / max(1e-9, self.seconds + time.monotonic() - started)
            self._report(share[0] + (share[1] - share[0]) * done / max(1, total), tokens_per_s=round(rate, 1))

        with self.at_work():
            results = self.engine.generate(prompts, params, report)
        self.seconds += time.monotonic() - started
        if self.meter.counts:
            self.tokens += (self.meter.used - before).generated_tokens
            self._tell_errors([result.error for result in results if result.error], len(results))
        else:
            self.tokens += sum(len(output.token_ids) + 1 for result in results for output in result.outputs)
        return results

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Meanwhile an engine of this stage writes or reads: this one, or a reward model's."""
        started = time.monotonic()
        self.began = min(self.began, started)
        try:
            yield
        finally:
            self.busy += time.monotonic() - started

    def _tell_errors(self, errors: Sequence[str], of: int) -> None:
        """A hosted model has other reasons than length to leave a row unanswered."""
        if errors:
            self.output.say(f"{len(errors)} of {of} requests were not answered, the first: {errors[0]}")

    def metrics(self) -> dict[str, float]:
        """For the manifest."""
        return metrics_of([self])

    def begin(self, done: int, end: int, total: int) -> None:
        """The next calls work on items `done` to `end` of `total`."""
        self._place = (done, end, total)

    def _report(self, part: float, **more: Any) -> None:
        done, end, total = self._place
        self.output.progress(done + part * (end - done), total, "rows", **more)


def metrics_of(writers: Sequence[Writer]) -> dict[str, float]:
    """For the manifest, of a stage's writers together: generated tokens (stop tokens included) and their rate.

    `engine_busy` is the share of the time from the first engine call until now in which an engine was at work (models
    are opened before it). Of a hosted model, what it was asked besides counts too, with the prompts' tokens and the
    cost; it is at work while a request is under way. {} where nothing was written.
    """
    total: Counter[str] = Counter()
    for writer in writers:
        total.update({"generated_tokens": writer.tokens} | writer.meter.metrics())  # type: ignore[arg-type]
    tokens, seconds, busy = (sum(getattr(one, name) for one in writers) for name in ("tokens", "seconds", "busy"))
    if not busy:
        return {}
    passed = time.monotonic() - min(writer.began for writer in writers)
    return {**total, "tokens_per_s": tokens / max(1e-9, seconds), "engine_busy": busy / passed}


def write_shards(
    output: Output,
    writer: Writer,
    items: Sequence[T],
    shard_size: int,
    schema: pa.Schema,
    make_rows: Callable[[Sequence[T]], list[dict[str, Any]]],
) -> None:
    """Rows of `shard_size` items at a time, skipping shards that an earlier attempt finished.

    A shard should hold more items than the engine holds rows, so that the engine's batch stays full.
    """
    for number, start in enumerate(range(0, len(items), shard_size)):
        shard = items[start : start + shard_size]
        writer.begin(start, start + len(shard), len(items))
        if not output.has_shard(number):
            output.write_shard(number, make_rows(shard), schema)
        output.progress(start + len(shard), len(items), "rows")
