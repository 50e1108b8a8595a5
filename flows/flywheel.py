"""The wheel: iterations one after another, each starting from the generator that the last gate left in place."""

from prefect import flow

from flows.bookkeeping import BOOK
from flows.execution import running
from flows.foundations import Source, prepare
from flows.iteration import iteration
from tasks.configs.plan import Plan


@flow(name="flywheel", validate_parameters=False)
def flywheel(plan: Plan, generator: Source | None, base: Source | None, iterations: int) -> None:
    """Turn `iterations` times in all; what is there already is found, not made again."""
    book = BOOK.get()
    book.check_code()
    runner = book.open(1)
    with running(runner):
        given = prepare(plan, generator, base)
    for number in range(1, iterations + 1):
        runner = runner if number == 1 else book.open(number)
        pinned = book.pin(number, given)
        with running(runner):
            turn = iteration(plan.for_iteration(number), number, pinned, given)
        book.close(number, turn, runner, given)
