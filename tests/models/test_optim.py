import pytest
import torch
from torch import nn

from models.batches import ExampleBatches
from models.optim import OptimizerSettings, make_optimizer


def rates(steps: int = 10, **settings) -> list[float]:
    return [OptimizerSettings(2.0, **settings).rate(step, steps) for step in range(steps)]


def test_constant_after_a_linear_warmup():
    assert rates(6, warmup_steps=3) == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert rates(2) == [2.0, 2.0]


def test_cosine_is_half_way_at_its_middle_and_ends_at_the_final_rate():
    found = rates(10, schedule="cosine", final_fraction=0.1)
    assert found[4] == pytest.approx(2.0 * 0.55)
    assert found[-1] == pytest.approx(0.2)
    assert found == sorted(found, reverse=True)


def test_wsd_is_flat_then_a_straight_line():
    found = rates(10, schedule="wsd", decay_fraction=0.4, warmup_steps=1)
    assert found == pytest.approx([1.0, 2, 2, 2, 2, 2, 1.5, 1.0, 0.5, 0.0])


def test_decay_falls_by_the_same_factor_each_step():
    found = rates(4, schedule="decay", final_fraction=0.01)
    factors = [b / a for a, b in zip([2.0, *found], found, strict=False)]
    assert found[-1] == pytest.approx(0.02)
    assert factors == pytest.approx([0.01**0.25] * 4)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "wsd", "decay"])
def test_every_schedule_stays_between_zero_and_the_full_rate(schedule):
    for steps in (1, 2, 7):
        for warmup in (0, 1, 9):
            found = rates(steps, schedule=schedule, warmup_steps=warmup, final_fraction=0.1)
            assert all(0 < rate <= 2.0 for rate in found), (steps, warmup, found)


def test_norms_and_biases_do_not_decay():
    matrix, vector = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
    optimizer = make_optimizer([matrix, vector], OptimizerSettings(0.1, weight_decay=0.5))
    matrix.grad, vector.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    assert torch.allclose(matrix, torch.tensor(1 - 0.1 * 0.5))
    assert torch.equal(vector, torch.ones(2))


def test_nothing_to_train_is_an_error():
    with pytest.raises(ValueError, match="no parameter is trainable"):
        make_optimizer([], OptimizerSettings(0.1))


def test_every_epoch_visits_every_example_once_in_its_own_order():
    plan = ExampleBatches(10, 4, seed=3, epochs=2)
    batches = [plan.batch(step) for step in range(plan.steps)]
    assert [len(batch) for batch in batches] == [4, 4, 4, 4, 4]
    visits = [index for batch in batches for index in batch]
    assert sorted(visits[:10]) == sorted(visits[10:]) == list(range(10))
    assert visits[:10] != visits[10:]
    assert visits != list(range(10)) * 2


def test_batches_depend_on_seed_and_step_only():
    plan, again = ExampleBatches(9, 4, seed=3, epochs=3), ExampleBatches(9, 4, seed=3, epochs=3)
    assert [plan.batch(s) for s in reversed(range(plan.steps))] == [again.batch(s) for s in range(again.steps)][::-1]
    assert plan.batch(0) != ExampleBatches(9, 4, seed=4, epochs=3).batch(0)
    assert len(plan.batch(plan.steps - 1)) == 3
    assert ExampleBatches(9, 4, seed=2**63, steps=1).batch(0)


def test_steps_take_full_batches_for_as_long_as_asked():
    plan = ExampleBatches(3, 4, seed=0, steps=5)
    assert plan.steps == 5
    assert [len(plan.batch(step)) for step in range(5)] == [4] * 5


def test_examples_of_one_key_follow_each_other_in_every_epoch():
    keys = [number % 5 for number in range(10)]
    plan = ExampleBatches(10, 4, seed=3, epochs=2, together=keys)
    visits = [index for step in range(plan.steps) for index in plan.batch(step)]
    for epoch in (visits[:10], visits[10:]):
        assert sorted(epoch) == [*range(10)]
        assert [keys[index] for index in epoch[::2]] == [keys[index] for index in epoch[1::2]]
    assert visits[:10] != visits[10:]
    assert visits != [index for step in range(5) for index in ExampleBatches(10, 4, seed=3, epochs=2).batch(step)]


def test_wrong_plans_are_named():
    with pytest.raises(ValueError, match="2 examples have 3 keys"):
        ExampleBatches(2, 4, seed=0, epochs=1, together="abc")
    with pytest.raises(ValueError, match="examples is 0"):
        ExampleBatches(0, 4, seed=0, epochs=1)
    with pytest.raises(ValueError, match="exactly one"):
        ExampleBatches(2, 4, seed=0)


def test_moments_in_bf16_follow_those_in_fp32():
    """The direction of 30 updates on a noisy quadratic: within 3 % of fp32's path, with half the state."""
    ends, states = [], []
    for dtype in ("fp32", "bf16"):
        generator = torch.Generator().manual_seed(0)
        weight = nn.Parameter(torch.ones(40, 30))
        optimizer = make_optimizer([weight], OptimizerSettings(1e-2, weight_decay=0.1, state_dtype=dtype))
        for _ in range(30):
            weight.grad = weight.detach() + 0.3 * torch.randn(40, 30, generator=generator)
            optimizer.step()
        ends.append(1 - weight.detach())
        states.append(optimizer.state[weight])
    assert (ends[0] - ends[1]).norm() < 0.03 * ends[0].norm()
    assert {states[1][name].dtype for name in ("exp_avg", "exp_avg_sq")} == {torch.bfloat16}
    assert states[0]["exp_avg"].dtype == torch.float32 and float(states[1]["step"]) == 30
