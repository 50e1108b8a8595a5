"""A global batch's loss and gradient, summed up in rounds: in each, every data-parallel group takes one packed row.

    dealt      [[[7, 2], [0, 5]],  [[1], [4, 3]]]      rounds of one row for each group; numbers are places in the batch

Between two rounds the sums can be stored, and a process that deals the batch out alike goes on with the next round.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from torch import Tensor

from models.dealing import deal
from models.flops import Work
from models.objectives import Objective
from models.packing import grown, work_of
from models.parallel.workers import Workers

Example = TypeVar("Example")


class Accumulation(Generic[Example]):
    """Of the whole batch, known at once: `tokens` as its examples have them alone, `work` as its rows do."""

    def __init__(
        self,
        objective: Objective[Example],
        batch: Sequence[Example],
        microbatch_tokens: int,
        workers: Workers,
        started: float | None = None,
    ) -> None:
        """`started`: when the batch began to be fetched, by `time.perf_counter`; None counts no time before."""
        self.objective, self.batch, self.workers = objective, batch, workers
        sequences = [objective.sequences(example) for example in batch]
        self.lengths = [grown(alone).tokens for alone in sequences]
        self.tokens = sum(self.lengths)
        self.total_weight = sum(map(objective.weight, batch))
        self.dealt = deal(sequences, microbatch_tokens, workers.plan.data_ranks)
        rows = [[one for index in row for one in sequences[index]] for bins in self.dealt for row in bins if row]
        self.work = sum(map(work_of, rows), Work(0, 0, 0))
        self.done = self.tokens_done = 0
        """Rounds, and the tokens in them, by all processes."""
        self.parts: dict[str, float] = {}
        """Sums of the objective's metrics over this process's rows."""
        ready = time.perf_counter()
        self.started = ready if started is None else started
        self.waited = ready - self.started
        """Seconds that went by with fetching and packing."""

    def rounds(self, learn: Callable[[Tensor], None]) -> Iterator[float]:
        """Give `learn` the losses of the rounds that are left; yields the share of the batch done after each."""
        while self.done < len(self.dealt):
            members = self.dealt[self.done][self.workers.data_rank]
            # A process with nothing to do in a round still takes part in its exchanges, with an example of no weight.
            examples = [self.batch[index] for index in members] or [self.batch[0]]
            loss, metrics = self.objective.loss(examples, self.total_weight)
            learn(loss if members else 0.0 * loss)
            weight = float(bool(members))
            self.parts = {name: self.parts.get(name, 0.0) + weight * float(value) for name, value in metrics.items()}
            self.tokens_done += sum(self.lengths[index] for bins in self.dealt[self.done] for index in bins)
            self.done += 1
            yield self.tokens_done / self.tokens

    def metrics(self) -> dict[str, float]:
        """The objective's, over the global batch."""
        return self.workers.sum(self.parts)

    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def state(self) -> dict[str, Any]:
        """What a process of the same data-parallel group needs to go on, beside the gradients; plain JSON."""
        names = ("dealt", "done", "tokens_done", "parts", "waited")
        return {name: getattr(self, name) for name in names} | {"seconds": self.seconds()}

    def go_on(self, state: dict[str, Any]) -> bool:
        """Go on from a state; False, and nothing changes, where the batch was dealt out in another way."""
        if state["dealt"] != self.dealt:
            return False
        self.done, self.tokens_done, self.parts = state["done"], state["tokens_done"], state["parts"]
        self.started, self.waited = time.perf_counter() - state["seconds"], state["waited"]
        return True
