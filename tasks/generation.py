"""What every generating stage shares: a model's engine, opened once a process, and shards of rows written with it.

writer = Writer(open_engine(generator, config.resources), output)
write_shards(output, writer, items, config.shard_rows, SCHEMA, lambda shard: rows_of(shard, writer.write(asks)))
"""

import time
from collections.abc import Callable, Mapping, Sequence
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
        self._place = (0, 1, 1)

    def write(self, asks: Sequence[Ask], share: tuple[float, float] = (0.0, 1.0)) -> list[Result]:
        """The answers in order, in one engine call. `share` is the part of the shard's work that this call is."""
        params = [replace(ask.params, seed=row_seed(self.output.fingerprint, ask.id)) for ask in asks]
        started, before = time.monotonic(), self.meter.used

        def report(done: int, total: int, tokens: int) -> None:
            rate = (self.tokens + tokens) / max(1e-9, self.seconds + time.monotonic() - started)
            self._report(share[0] + (share[1] - share[0]) * done / max(1, total), tokens_per_s=round(rate, 1))

        results = self.engine.generate([[*ask.messages] for ask in asks], params, report)
        self.seconds += time.monotonic() - started
        if self.meter.counts:
            self.tokens += (self.meter.used - before).generated_tokens
            self._tell_errors([result.error for result in results if result.error], len(results))
        else:
            self.tokens += sum(len(output.token_ids) + 1 for result in results for output in result.outputs)
        return results

    def _tell_errors(self, errors: Sequence[str], of: int) -> None:
        """A hosted model has other reasons than length to leave a row unanswered."""
        if errors:
            self.output.say(f"{len(errors)} of {of} requests were not answered, the first: {errors[0]}")

    def metrics(self) -> dict[str, float]:
        """For the manifest: generated tokens (stop tokens included) and the engine's rate.

        Of a hosted model, what it was asked besides counts too, with the prompts' tokens and the cost.
        """
        own = {"generated_tokens": self.tokens, "tokens_per_s": self.tokens / max(1e-9, self.seconds)}
        return own | self.meter.metrics()

    def begin(self, done: int, end: int, total: int) -> None:
        """The next calls work on items `done` to `end` of `total`."""
        self._place = (done, end, total)

    def _report(self, part: float, **more: Any) -> None:
        done, end, total = self._place
        self.output.progress(done + part * (end - done), total, "rows", **more)


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
