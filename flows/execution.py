"""How a chain of steps becomes one Ray job inside one Prefect task.

    with ray_job("prompts") as stage:            # addresses are fixed as the block runs, work starts when it ends
        topics = stage("topics", plan.topics, generator=generator)
        drafts = stage("prompts", plan.prompts, generator=generator, topics=topics)

A `Runner` decides what running means: `flows.runner.JobRunner` submits and follows, `Planner` only notes the steps.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture

from flows.steps import Step, make_step
from infra.artifacts import Artifact
from tasks.configs.base import StageConfig

P = ParamSpec("P")
R = TypeVar("R")


class Runner(Protocol):
    """Runs the steps of one job, in order; `dry` runners are called without Prefect."""

    store: str
    dry: bool

    def run(self, job: str, steps: list[Step]) -> None: ...
    def stop_all(self) -> None: ...


class Planner:
    """Notes every step and whether its artifact is there; runs nothing."""

    dry = True

    def __init__(self, store: str) -> None:
        self.store = store
        self.jobs: list[tuple[str, list[Step]]] = []

    def run(self, job: str, steps: list[Step]) -> None:
        self.jobs.append((job, steps))

    def stop_all(self) -> None:
        """Nothing runs."""


RUNNER: ContextVar[Runner] = ContextVar("runner")


@contextmanager
def running(runner: Runner) -> Iterator[None]:
    """Every job inside this block goes through `runner`."""
    token = RUNNER.set(runner)
    try:
        yield
    finally:
        RUNNER.reset(token)


StageCall = Callable[..., Artifact]


@contextmanager
def ray_job(name: str) -> Iterator[StageCall]:
    """Collect steps by calling the yielded function; run them as one Ray job when the block ends.

    What is asked for twice is one step, under its first label.
    """
    runner = RUNNER.get()
    steps: dict[Artifact, Step] = {}

    def stage(label: str, config: StageConfig, **inputs: Artifact | tuple[Artifact, ...]) -> Artifact:
        step = make_step(label, config, runner.store, inputs)
        steps.setdefault(step.artifact, step)
        return step.artifact

    yield stage
    runner.run(name, [*steps.values()])


class Pending(Generic[R]):
    """A job under way beside others; `result()` waits for what it returns.

    Where that is an error or Ctrl-C, the jobs beside it are stopped: Prefect would wait for them to the end.
    """

    def __init__(self, future: PrefectFuture[R] | None, value: R | None = None) -> None:
        self._future, self._value = future, value

    def result(self) -> R:
        if self._future is None:
            return self._value  # type: ignore[return-value]
        try:
            return self._future.result()
        except BaseException:
            RUNNER.get().stop_all()
            raise


class Job(Generic[P, R]):
    """A function around one `ray_job` block, as a Prefect task of the same name; `run_name` names each of its runs."""

    def __init__(self, function: Callable[P, R], run_name: str = "") -> None:
        self.function = function
        name = function.__name__.replace("_", " ")
        make_task: Any = task  # its overloads know no ParamSpec
        self.task: Any = make_task(
            function, name=name, task_run_name=run_name or name, cache_policy=NO_CACHE, persist_result=False
        )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return (self.function if RUNNER.get().dry else self.task)(*args, **kwargs)

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Pending[R]:
        """Start without waiting, where the cluster has room."""
        if RUNNER.get().dry:
            return Pending(None, self.function(*args, **kwargs))
        return Pending(self.task.submit(*args, **kwargs))


def job(run_name: str) -> Callable[[Callable[P, R]], Job[P, R]]:
    """A Job whose runs go by a template over its arguments, such as "{label}"."""
    return lambda function: Job(function, run_name)


def call(flow: Any, *args: Any) -> Any:
    """Run a flow inside another one, or, when only planning, the plain function behind it."""
    return (flow.fn if RUNNER.get().dry else flow)(*args)
