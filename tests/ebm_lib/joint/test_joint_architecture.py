"""Encoder, heads, momentum copy, queue and bank against what their definitions say, entry by entry."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ebm_lib.joint import MemoryBank, Momentum, Queue, SmallEncoder, head, momentum_schedule

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


# ---- encoder and heads


def test_the_encoder_is_convolutions_and_a_mean():
    encoder = SmallEncoder((4, 6), inputs=2, generator=seeded(), dtype=F64).eval()
    x = draw(3, 2, 9, 12)
    first, second = (layer for layer in encoder.layers if isinstance(layer, nn.Conv2d))
    shrink = 1 / math.sqrt(1 + 1e-5)  # an untrained batch normalisation in evaluation mode
    h = torch.relu(shrink * torch.conv2d(x, first.weight, stride=2, padding=1))
    h = torch.relu(shrink * torch.conv2d(h, second.weight, stride=2, padding=1))
    torch.testing.assert_close(encoder(x), h.mean((2, 3)))
    assert encoder.width == 6


def test_the_seed_is_the_network_and_torchs_generator_is_left_alone():
    state = torch.get_rng_state()
    a, b, c = (SmallEncoder((4, 4), generator=seeded(s)) for s in (1, 1, 2))
    first, second = (head((4, 8, 2), generator=seeded(1)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(a.layers[0].weight, b.layers[0].weight)
    assert not torch.equal(a.layers[0].weight, c.layers[0].weight)
    assert torch.equal(first[0].weight, second[0].weight)


def test_without_batch_norm_the_layers_have_biases():
    plain = SmallEncoder((4, 4), batch_norm=False, generator=seeded())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in plain.layers)
    assert all(layer.bias is not None for layer in plain.layers if isinstance(layer, nn.Conv2d))
    assert all(layer.bias is not None for layer in head((3, 4, 2), batch_norm=False, generator=seeded())[::2])


def test_heads_as_published():
    names = lambda net: [type(layer).__name__ for layer in net]
    assert names(head((8, 16, 16, 4), generator=seeded())) == [
        "Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear"]  # fmt: skip
    normed = head((8, 4), norm_output=True, generator=seeded())
    assert names(normed) == ["Linear", "BatchNorm1d"]
    z = normed(draw(50, 8).float())
    torch.testing.assert_close(z.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(4), atol=1e-3, rtol=0)
    assert sum(p.numel() for p in head((8, 16, 4), generator=seeded()).parameters()) == 8 * 16 + 2 * 16 + 16 * 4 + 4


def test_networks_follow_device_and_dtype():
    encoder = SmallEncoder((4, 4), generator=seeded(), device="meta")
    assert encoder(torch.empty(2, 3, 8, 8, device="meta")).device.type == "meta"
    assert head((4, 8, 2), generator=seeded(), dtype=F64)(draw(5, 4)).dtype == F64
    for batch_norm in (True, False):
        options = {"batch_norm": batch_norm, "generator": seeded(), "device": "meta"}
        for net in (SmallEncoder((4, 4), **options), head((4, 8, 2), norm_output=batch_norm, **options)):
            assert {t.device.type for t in net.state_dict().values()} == {"meta"}


# ---- momentum


def test_the_average_is_the_sum_it_stands_for():
    online = nn.Linear(2, 2, dtype=F64)
    slow = Momentum(online, momentum=0.9)
    start, seen = slow.copy.weight.clone(), []
    for k in range(5):
        with torch.no_grad():
            online.weight.copy_(draw(2, 2, seed=k))
        seen.append(online.weight.detach().clone())
        slow.update(online)
    expected = 0.9**5 * start + sum(0.1 * 0.9 ** (4 - k) * w for k, w in enumerate(seen))
    torch.testing.assert_close(slow.copy.weight, expected)


def test_momentum_zero_follows_and_momentum_one_stays():
    online = nn.Linear(2, 2)
    slow = Momentum(online)
    before = slow.copy.weight.clone()
    with torch.no_grad():
        online.weight.add_(1.0)
    slow.update(online, momentum=1.0)
    assert torch.equal(slow.copy.weight, before)
    slow.update(online, momentum=0.0)
    torch.testing.assert_close(slow.copy.weight, online.weight.detach())


def test_the_copy_keeps_its_own_dtype():
    online = nn.Linear(2, 2)
    slow = Momentum(online, momentum=0.5).double()
    expected = (online.weight.double() + 0.5).detach()  # half the way
    with torch.no_grad():
        online.weight.add_(1.0)
    slow.update(online)
    torch.testing.assert_close(slow.copy.weight, expected)
    assert slow.copy.weight.dtype == F64


def test_the_copy_is_a_copy_without_gradient_and_with_its_own_statistics():
    online = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    slow = Momentum(online)
    x = torch.randn(8, 3, generator=seeded(), requires_grad=True)
    assert not slow(x).requires_grad
    assert not any(p.requires_grad for p in slow.parameters())
    assert slow.copy[1].num_batches_tracked == 1
    assert online[1].num_batches_tracked == 0
    online(x).sum().backward()
    assert slow.copy[0].weight.grad is None
    assert slow.copy[0].weight is not online[0].weight


def test_the_schedule_is_half_a_cosine():
    for k in range(11):
        expected = 1 - (1 - 0.9) * (math.cos(math.pi * k / 10) + 1) / 2
        assert momentum_schedule(k / 10, 0.9) == pytest.approx(expected, abs=1e-15)


# ---- queue and bank


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.lists(st.integers(1, 14), min_size=1, max_size=8))
def test_the_ring_holds_the_last_entries_whatever_the_batches(size, batches):
    queue = Queue(size, 2, generator=seeded())
    ring, place, count = list(queue.values), 0, 0
    for batch in batches:
        angle = torch.arange(count, count + batch) * 0.1
        z = torch.stack([angle.cos(), angle.sin()], -1)
        for row in z:  # one at a time
            ring[place] = row
            place = (place + 1) % size
        count += batch
        queue.push(3 * z)
        torch.testing.assert_close(queue.values, torch.stack(ring))
        assert queue.place == place


def test_a_queue_starts_on_the_sphere_and_a_loss_that_holds_it_survives_a_push():
    queue = Queue(5, 3, generator=seeded(), dtype=F64)
    torch.testing.assert_close(queue.values.norm(dim=1), torch.ones(5, dtype=F64))
    q = draw(2, 3).requires_grad_()
    loss = (q @ queue.values.T).exp().sum()
    expected = torch.autograd.grad(loss, q, retain_graph=True)[0]
    queue.push(draw(2, 3, seed=1))
    assert torch.equal(torch.autograd.grad(loss, q)[0], expected)


def test_memories_keep_no_graph():
    z = draw(2, 3).float().requires_grad_()
    queue, bank = Queue(5, 3, generator=seeded()), MemoryBank(5, 3, generator=seeded())
    queue.push(z)
    bank.update(torch.tensor([1, 3]), z)
    assert not queue.values.requires_grad
    assert not bank.values.requires_grad


def test_queue_and_bank_are_in_the_checkpoint():
    queue, bank = Queue(5, 3, generator=seeded()), MemoryBank(5, 3, generator=seeded())
    queue.push(torch.ones(2, 3))
    bank.update(torch.tensor([1]), torch.ones(1, 3))
    for module, fresh in ((queue, Queue(5, 3, generator=seeded(1))), (bank, MemoryBank(5, 3, generator=seeded(1)))):
        fresh.load_state_dict(module.state_dict())
        assert all(torch.equal(a, b) for a, b in zip(fresh.buffers(), module.buffers(), strict=True))


def test_the_bank_averages_and_normalises_the_rows_it_is_told():
    bank = MemoryBank(6, 2, momentum=0.25, generator=seeded(), dtype=F64)
    before, z = bank.values.clone(), draw(2, 2)
    bank.update(torch.tensor([4, 1]), z)
    for row, new in ((4, z[0]), (1, z[1])):
        mixed = 0.25 * before[row] + 0.75 * new / new.norm()
        torch.testing.assert_close(bank.values[row], mixed / mixed.norm())
    others = torch.tensor([0, 2, 3, 5])
    assert torch.equal(bank.values[others], before[others])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_rows_may_be_any_whole_numbers(dtype):
    one, other = (MemoryBank(6, 2, generator=seeded()) for _ in range(2))
    rows = torch.tensor([4, 1])
    one.update(rows, torch.ones(2, 2))
    other.update(rows.to(dtype), torch.ones(2, 2))
    assert torch.equal(one.values, other.values)
    found = [bank.negatives(r, 3, generator=seeded()) for bank, r in ((one, rows), (other, rows.to(dtype)))]
    assert torch.equal(*found)


def test_the_banks_negatives_are_never_the_batchs_own():
    bank = MemoryBank(10, 10, generator=seeded())
    bank.values = torch.eye(10)
    seen = set()
    for seed in range(30):
        rows = torch.tensor([2, 5, 7])
        found = bank.negatives(rows, 4, generator=seeded(seed)).argmax(1).tolist()
        assert len(set(found)) == 4
        assert not set(found) & {2, 5, 7}
        seen |= set(found)
    assert seen == {0, 1, 3, 4, 6, 8, 9}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SmallEncoder(()), "channels"),
        (lambda: SmallEncoder((4, 0)), "channels"),
        (lambda: SmallEncoder((4,))(torch.zeros(2, 1, 8, 8)), "images"),
        (lambda: SmallEncoder((4,))(torch.full((2, 3, 8, 8), math.nan)), "finite"),
        (lambda: head((4,)), "sizes"),
        (lambda: head((4, 0)), "sizes"),
        (lambda: Momentum(nn.Linear(1, 1), momentum=1.5), "momentum"),
        (lambda: Momentum(nn.Linear(1, 1)).update(nn.Linear(1, 2)), "online"),
        (lambda: momentum_schedule(1.1), "progress"),
        (lambda: Queue(0, 2), "size"),
        (lambda: Queue(3, 2).push(torch.ones(2, 3)), "2 dimensions"),
        (lambda: Queue(3, 2).push(torch.zeros(2, 2)), "length 0"),
        (lambda: Queue(3, 2).push(torch.full((2, 2), math.nan)), "finite"),
        (lambda: MemoryBank(3, 2, momentum=1.0), "momentum"),
        (lambda: MemoryBank(3, 2).update(torch.tensor([3]), torch.ones(1, 2)), "rows"),
        (lambda: MemoryBank(3, 2).update(torch.tensor([0]), torch.ones(2, 2)), "z must"),
        (lambda: MemoryBank(3, 2).update(torch.tensor([0.0]), torch.ones(1, 2)), "rows"),
        (lambda: MemoryBank(3, 2).update(torch.tensor([True, False, True]), torch.ones(3, 2)), "rows"),
        (lambda: MemoryBank(3, 2).update(torch.tensor([1, 1]), torch.ones(2, 2)), "once"),
        (lambda: MemoryBank(3, 2).update(torch.tensor([-1]), torch.ones(1, 2)), "rows"),
        (lambda: MemoryBank(3, 2, momentum=math.nan), "momentum"),
        (lambda: MemoryBank(3, 2).negatives(torch.tensor([0]), 3), "count"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
