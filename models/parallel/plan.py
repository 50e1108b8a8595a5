"""How many processes train, and what each group of them shares; imports no torch.

    world = replicas * shards * tensor

    replicas   whole copies of the weights; each takes its own examples
    shards     processes that share one copy (FSDP): each keeps a slice of every weight and takes its own examples
    tensor     processes that share the work of every layer on the same examples (heads, MLP width, tokens, vocabulary)

The paper trained with tensor parallelism of 8 and 16 to 64 copies (section 2.4, table 2). Pipeline stages would be a
fourth factor.
"""

from dataclasses import dataclass

from models.config import ModelConfig


@dataclass(frozen=True)
class ParallelPlan:
    replicas: int = 1
    shards: int = 1
    tensor: int = 1

    @property
    def world(self) -> int:
        return self.replicas * self.shards * self.tensor

    @property
    def data_ranks(self) -> int:
        """Groups of processes that take examples of their own."""
        return self.replicas * self.shards

    def check(self, config: ModelConfig) -> None:
        """Raises ValueError, with all that does not divide, where the model's layers cannot be split so."""
        sizes = {
            "query heads": config.num_heads,
            "key/value heads": config.num_kv_heads,
            "MLP width": config.intermediate_size,
        }
        uneven = [f"{size} {name}" for name, size in sizes.items() if size % self.tensor]
        if uneven:
            raise ValueError(
                f"tensor_parallel is {self.tensor}; it does not divide the model's {' and '.join(uneven)}: expected a "
                "common divisor"
            )

    def check_batch(self, examples: int) -> None:
        """Raises ValueError where a global batch cannot give every group of processes an example."""
        if examples < self.data_ranks:
            raise ValueError(
                f"a global batch of {examples} examples leaves some of {self.data_ranks} data-parallel processes "
                "without one; expected at least as many: raise the batch size, or tensor_parallel, or use fewer workers"
            )


ALONE = ParallelPlan()
