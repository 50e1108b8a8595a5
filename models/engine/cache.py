"""Keys and values of the tokens that running rows have seen.

A row's space depends on its own length alone: `capacity_for(length)` tokens. Rows of the same capacity lie side by side
in slabs, so that one batched product serves them all without gathering; a row that outgrows its space moves to a slab
of the next capacity. A slab is one block of about SLAB_TOKENS tokens, whatever it is cut into. Rows fill a slab from
the front without holes.

K = key/value heads, d = dimensions of a head, L = capacity in tokens.
"""

from dataclasses import dataclass, field

from torch import Tensor

from models.config import ModelConfig

STEP = 64
"""Tokens by which the space of a short row grows."""
SLAB_TOKENS = 2048


def capacity_for(length: int) -> int:
    """Tokens of space for a row of `length` tokens: steps of 64, coarser for long rows, at most a quarter unused."""
    step = STEP
    while length > 8 * step:
        step *= 2
    return -(-length // step) * step


class PromptCache:
    """Keys and values of one prompt while it is read, and until all of its samples have a copy."""

    def __init__(self, config: ModelConfig, length: int, like: Tensor) -> None:
        """`like`: a weight whose device and precision are taken."""
        self.storage = like.new_empty((2, config.num_layers, config.num_kv_heads, length, config.head_dim))

    @property
    def length(self) -> int:
        return self.storage.shape[3]

    def write(self, layer: int, start: int, key_TKd: Tensor, value_TKd: Tensor) -> None:
        end = start + key_TKd.shape[0]
        self.storage[0, layer, :, start:end] = key_TKd.transpose(0, 1)
        self.storage[1, layer, :, start:end] = value_TKd.transpose(0, 1)

    def read(self, layer: int, end: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the first `end` tokens, each [K, end, d]."""
        return self.storage[0, layer, :, :end], self.storage[1, layer, :, :end]


class Slab:
    """Space for several rows of one capacity, [2, layers, slots, K, L, d]."""

    def __init__(self, config: ModelConfig, capacity: int, like: Tensor) -> None:
        slots = max(1, SLAB_TOKENS // capacity)
        shape = (2, config.num_layers, slots, config.num_kv_heads, capacity, config.head_dim)
        self.storage = like.new_zeros(shape)
        self.capacity = capacity
        self.slots: list[Slot] = []

    @property
    def full(self) -> bool:
        return len(self.slots) == self.storage.shape[2]

    def add(self, slot: "Slot") -> None:
        slot.slab, slot.index = self, len(self.slots)
        self.slots.append(slot)

    def remove(self, slot: "Slot") -> None:
        """The last row takes the place that becomes free."""
        last = self.slots.pop()
        if last is not slot:
            self.storage[:, :, slot.index] = self.storage[:, :, last.index]
            last.index = slot.index
            self.slots[last.index] = last


@dataclass(eq=False)
class Slot:
    """Where one row's keys and values lie, and how many tokens of them there are."""

    length: int = 0
    index: int = 0
    slab: Slab = field(init=False, repr=False)

    def fill(self, source_LKTd: Tensor) -> None:
        """Take over `length` tokens of [2, layers, K, T, d]; what lies behind them becomes zero, never another's."""
        target = self.slab.storage[:, :, self.index]
        target[..., : self.length, :] = source_LKTd[..., : self.length, :]
        target[..., self.length :, :] = 0


class RowCache:
    """The slabs of one generation."""

    def __init__(self, config: ModelConfig, like: Tensor) -> None:
        self.config = config
        self.like = like
        self.slabs: list[Slab] = []

    def open(self, prompt: PromptCache) -> Slot:
        """Space for a row that starts with a copy of the prompt and is about to see one token more."""
        slot = Slot(length=prompt.length)
        self._place(slot, capacity_for(prompt.length + 1), prompt.storage)
        return slot

    def make_room(self, slot: Slot) -> None:
        """Ensure that one token more fits."""
        capacity = capacity_for(slot.length + 1)
        if capacity != slot.slab.capacity:
            source = slot.slab.storage[:, :, slot.index].clone()
            self.close(slot)
            self._place(slot, capacity, source)

    def close(self, slot: Slot) -> None:
        slot.slab.remove(slot)
        if not slot.slab.slots:
            self.slabs.remove(slot.slab)

    def _place(self, slot: Slot, capacity: int, source_LKTd: Tensor) -> None:
        slab = next((slab for slab in self.slabs if slab.capacity == capacity and not slab.full), None)
        if slab is None:
            slab = Slab(self.config, capacity, self.like)
            self.slabs.append(slab)
        slab.add(slot)
        slot.fill(source_LKTd)
