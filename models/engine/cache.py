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
SLAB_TOKENS = 8192


def capacity_for(length: int) -> int:
    """Tokens of space for a row of `length` tokens: steps of 64, coarser for long rows, at most a quarter unused."""
    step = STEP
    while length > 8 * step:
        step *= 2
    return -(-length // step) * step


class Slab:
    """Space for several rows of one capacity, [2, layers, slots, K, L, d]."""

    def __init__(self, config: ModelConfig, capacity: int, tokens: int, like: Tensor) -> None:
        slots = max(1, tokens // capacity)
        shape = (2, config.num_layers, slots, config.num_kv_heads, capacity, config.head_dim)
        self.storage = like.new_empty(shape)
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

    def fill(self, source_LKTd: Tensor | None) -> None:
        """Take over `length` tokens of [2, layers, K, T, d]; what lies behind them becomes zero, never another's."""
        target = self.slab.storage[:, :, self.index]
        if source_LKTd is not None:
            target[..., : self.length, :] = source_LKTd[..., : self.length, :]
        target[..., self.length :, :] = 0


class RowCache:
    """The slabs of one generation."""

    def __init__(self, config: ModelConfig, like: Tensor, slab_tokens: int = SLAB_TOKENS) -> None:
        """`like`: a weight whose device and precision are taken."""
        self.config = config
        self.like = like
        self.slab_tokens = slab_tokens
        self.slabs: list[Slab] = []

    def open(self, source_LKTd: Tensor | None, length: int) -> Slot:
        """Space for a row that starts with `length` tokens of a prompt's and is about to see one token more."""
        slot = Slot(length=length)
        self._slab(capacity_for(length + 1)).add(slot)
        slot.fill(source_LKTd)
        return slot

    def growth(self) -> int:
        """Tokens of space that rows need beyond theirs, to see one token more."""
        slots = (slot for slab in self.slabs for slot in slab.slots)
        return sum(capacity_for(slot.length + 1) - slot.slab.capacity for slot in slots)

    def make_room(self, slot: Slot) -> None:
        """Ensure that one token more fits."""
        capacity = capacity_for(slot.length + 1)
        if capacity != slot.slab.capacity:
            slab, source = self._slab(capacity), slot.slab.storage[:, :, slot.index].clone()
            self.close(slot)  # only now: where memory is out the row stays as it was
            slab.add(slot)
            slot.fill(source)

    def close(self, slot: Slot) -> None:
        slot.slab.remove(slot)
        if not slot.slab.slots:
            self.slabs.remove(slot.slab)

    def _slab(self, capacity: int) -> Slab:
        """One of this capacity with room for a row more."""
        slab = next((slab for slab in self.slabs if slab.capacity == capacity and not slab.full), None)
        if slab is None:
            slab = Slab(self.config, capacity, self.slab_tokens, self.like)
            self.slabs.append(slab)
        return slab
