"""Space for rows: sizes, slabs without holes, and contents that survive every move."""

from random import Random

import torch

from models.config import ModelConfig
from models.engine.cache import SLAB_TOKENS, RowCache, Slot, capacity_for
from models.engine.prefixes import PromptCache

CONFIG = ModelConfig("llama", 10, 8, 8, num_layers=2, num_heads=2, num_kv_heads=2, head_dim=4)
LIKE = torch.zeros(1)


def test_capacity_grows_in_steps_and_wastes_little() -> None:
    assert [capacity_for(n) for n in (1, 64, 65, 512, 513, 1024, 1025)] == [64, 64, 128, 512, 640, 1024, 1280]
    capacities = [capacity_for(length) for length in range(1, 20_000)]
    assert capacities == sorted(capacities)
    for length, capacity in enumerate(capacities, start=1):
        assert length <= capacity and (length <= 256 or capacity - length <= capacity / 4)
    assert len(set(capacities)) < 80, "each capacity has slabs of its own: few are wanted"


def a_prompt(length: int, fill: float) -> PromptCache:
    cache = PromptCache(CONFIG, length, LIKE)
    for layer in range(CONFIG.num_layers):
        key_TKd = torch.full((length, 2, 4), fill + layer / 10)
        cache.write(layer, 0, key_TKd, -key_TKd)
    return cache


def test_a_prompt_is_written_in_parts_and_read_from_its_start() -> None:
    cache = PromptCache(CONFIG, 6, LIKE)
    keys_TKd, values_TKd = torch.randn(6, 2, 4), torch.randn(6, 2, 4)
    for start, end in ((0, 4), (4, 6)):
        cache.write(1, start, keys_TKd[start:end], values_TKd[start:end])
    found = cache.read(1, 5)
    assert torch.equal(found[0], keys_TKd[:5].transpose(0, 1)) and torch.equal(found[1], values_TKd[:5].transpose(0, 1))


def append(slot: Slot, value: float) -> None:
    """What a step does: one token more, in every layer and head."""
    slot.slab.storage[:, :, slot.index, :, slot.length] = value
    slot.length += 1


def test_rows_keep_their_contents_while_others_come_and_go() -> None:
    rng, cache, expected, most = Random(0), RowCache(CONFIG, LIKE), {}, 0
    for turn in range(250):
        if not expected or (len(expected) < 90 and rng.random() < 0.9):
            length = rng.choice([0, 1, 62, 63, 64, 126, 127])
            slot = cache.open(a_prompt(length, float(turn)).storage, length)
            expected[slot] = [float(turn)] * length
        for slot, values in expected.items():
            cache.make_room(slot)
            append(slot, float(len(values)))
            values.append(float(len(values)))
        if rng.random() < 0.5:
            slot = rng.choice(list(expected))
            cache.close(slot)
            del expected[slot]
        check(cache, expected)
        most = max(most, len(cache.slabs))
    assert max(map(len, expected.values())) > 192 and most > 4, "rows moved between many slabs"
    for slot in expected:
        cache.close(slot)
    assert cache.slabs == []


def check(cache: RowCache, expected: dict[Slot, list[float]]) -> None:
    assert {slot for slab in cache.slabs for slot in slab.slots} == set(expected)
    for slab in cache.slabs:
        assert [slot.index for slot in slab.slots] == list(range(len(slab.slots))), "slabs have no holes"
        assert len(slab.slots) <= max(1, SLAB_TOKENS // slab.capacity)
    for slot, values in expected.items():
        assert slot.slab.capacity == capacity_for(slot.length) and slot.length == len(values)
        kept = slot.slab.storage[0, 0, slot.index, 0, : slot.length, 0]
        assert kept.tolist() == values
        assert not slot.slab.storage[:, :, slot.index, :, slot.length :].any(), "another row's numbers were left behind"


def test_a_prompt_is_copied_not_shared() -> None:
    cache, prompt = RowCache(CONFIG, LIKE), a_prompt(3, 5.0)
    first, second = cache.open(prompt.storage, 3), cache.open(prompt.storage, 3)
    append(first, 9.0)
    prompt.storage.zero_()
    assert first.slab.storage[0, 1, first.index, 0, :4, 0].tolist() == torch.tensor([5.1, 5.1, 5.1, 9.0]).tolist()
    assert second.slab.storage[0, 1, second.index, 0, :4, 0].tolist() == torch.tensor([5.1, 5.1, 5.1, 0.0]).tolist()
