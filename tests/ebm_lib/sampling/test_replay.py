"""The replay buffer: what it keeps, what it hands out, and that it goes on exactly where it stopped."""

import math

import pytest
import torch
from scipy import stats

from ebm_lib import sampling


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def fresh(count, generator):
    return -1 - torch.rand(count, 2, generator=generator)  # fresh starts are negative, stored samples are not


def numbered(*numbers):
    return torch.tensor(numbers, dtype=torch.float32)[:, None].expand(-1, 2)


def ids(samples):
    return sorted(int(x) for x in samples[:, 0])


def test_the_oldest_make_room():
    buffer = sampling.ReplayBuffer(5, fresh, generator=seeded())
    assert len(buffer) == 0
    assert buffer.samples is None
    buffer.put(numbered(0, 1, 2))
    assert ids(buffer.samples) == [0, 1, 2]
    buffer.put(numbered(3, 4, 5, 6))
    assert ids(buffer.samples) == [2, 3, 4, 5, 6]
    buffer.put(numbered(7))
    assert ids(buffer.samples) == [3, 4, 5, 6, 7]
    buffer.put(numbered(8, 9, 10, 11, 12))
    assert ids(buffer.samples) == [8, 9, 10, 11, 12]
    assert len(buffer) == 5


def test_with_one_batch_and_no_reinitialisation_the_chains_are_persistent():
    buffer = sampling.ReplayBuffer(6, fresh, reinit=0.0, generator=seeded())
    buffer.put(numbered(*range(6)))
    for step in range(1, 5):
        start = buffer.take(6)
        assert ids(start) == [i + 10 * (step - 1) for i in range(6)]
        buffer.put(start + 10)


def test_samples_are_distinct_evenly_chosen_and_now_and_then_fresh():
    buffer = sampling.ReplayBuffer(40, fresh, reinit=0.2, generator=seeded(1))
    buffer.put(numbered(*range(40)))
    seen, renewed = torch.zeros(40), 0
    for _ in range(400):
        taken = buffer.take(10)[:, 0]
        stored = taken[taken >= 0].long()
        assert len(stored.unique()) == len(stored)
        renewed += int((taken < 0).sum())
        seen[stored] += 1
    assert stats.binomtest(renewed, 4000, 0.2).pvalue > 1e-3
    assert stats.chisquare(seen.numpy()).pvalue > 1e-3
    assert ids(buffer.samples) == list(range(40))  # taking removes nothing


@pytest.mark.parametrize(("reinit", "renewed"), [(0.0, 0), (1.0, 8)])
def test_the_extremes_of_reinitialisation(reinit, renewed):
    buffer = sampling.ReplayBuffer(20, fresh, reinit=reinit, generator=seeded(2))
    buffer.put(numbered(*range(20)))
    assert int((buffer.take(8) < 0).all(-1).sum()) == renewed


def test_what_is_missing_is_fresh():
    buffer = sampling.ReplayBuffer(20, fresh, reinit=0.0, generator=seeded(3))
    assert (buffer.take(7) < 0).all()
    buffer.put(numbered(1, 2, 3))
    assert int((buffer.take(7) < 0).all(-1).sum()) == 4


def test_nothing_is_shared_with_the_caller():
    buffer = sampling.ReplayBuffer(3, fresh, reinit=0.0, generator=seeded(4))
    samples = numbered(1, 2, 3).clone().requires_grad_()
    buffer.put(samples)
    with torch.no_grad():
        samples += 100
    taken = buffer.take(3)
    assert not taken.requires_grad
    taken += 100
    assert ids(buffer.samples) == [1, 2, 3]


def test_pictures_are_kept_in_their_shape_dtype_and_device():
    buffer = sampling.ReplayBuffer(
        4, lambda n, g: torch.rand(n, 1, 3, 3, generator=g, dtype=torch.float64), generator=seeded(5)
    )
    buffer.put(torch.zeros(2, 1, 3, 3, dtype=torch.float64))
    assert buffer.take(4).shape == (4, 1, 3, 3)
    assert buffer.take(4).dtype == torch.float64
    shadow = sampling.ReplayBuffer(4, lambda n, g: torch.empty(n, 2, device="meta"))
    shadow.put(shadow.take(3))
    assert shadow.take(4).device.type == "meta"


def test_a_restored_buffer_goes_on_exactly(tmp_path):
    one = sampling.ReplayBuffer(5, fresh, reinit=0.5, generator=seeded(6))
    one.put(numbered(*range(5)))
    one.put(numbered(5, 6))
    torch.save(one.state_dict(), tmp_path / "buffer.pt")
    other = sampling.ReplayBuffer(5, fresh, reinit=0.5, generator=seeded(99))
    other.load_state_dict(torch.load(tmp_path / "buffer.pt", weights_only=True))
    for step in range(5):
        a, b = one.take(4), other.take(4)
        assert torch.equal(a, b)
        one.put(numbered(10 + step))
        other.put(numbered(10 + step))
    assert torch.equal(one.samples, other.samples)
    state = one.state_dict()
    one.put(numbered(77))
    assert 77 not in ids(state["samples"])  # a copy
    empty = sampling.ReplayBuffer(5, fresh)
    empty.load_state_dict(sampling.ReplayBuffer(5, fresh).state_dict())
    assert len(empty) == 0


def test_a_buffer_restored_before_it_was_full_goes_on_filling():
    one, other = (sampling.ReplayBuffer(5, fresh, generator=seeded(s)) for s in (0, 1))
    one.put(numbered(0, 1))
    other.load_state_dict(one.state_dict())
    for buffer in (one, other):
        buffer.put(numbered(2, 3))
        assert torch.equal(buffer.samples, numbered(0, 1, 2, 3))


@pytest.mark.parametrize("restored", [False, True])
def test_a_buffer_begun_in_inference_mode_goes_on_outside(restored):
    buffer = sampling.ReplayBuffer(5, fresh, generator=seeded())
    with torch.inference_mode():
        buffer.put(numbered(0, 1) + 0)
        if restored:
            buffer.load_state_dict(buffer.state_dict())
    buffer.put(numbered(2))
    with torch.inference_mode():
        buffer.put(numbered(3))
    assert ids(buffer.samples) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b: sampling.ReplayBuffer(0, fresh), "capacity must be a whole number"),
        (lambda b: sampling.ReplayBuffer(1, fresh, reinit=1.1), "reinit must be a probability"),
        (lambda b: sampling.ReplayBuffer(1, fresh, reinit=math.nan), "reinit must be a probability"),
        (lambda b: b.take(0), "count must be a whole number"),
        (lambda b: b.put(torch.full((1, 2), math.nan)), "samples must be finite"),
        (lambda b: b.put(torch.zeros(0, 2)), "at least one entry"),
        (lambda b: b.put(torch.zeros(4, 2)), "capacity of 3, got 4"),
        (lambda b: b.put(torch.zeros(1, 5)), r"samples must have shape \(1, 2\), got \(1, 5\)"),
        (lambda b: b.put(torch.zeros(1, 2, dtype=torch.float64)), "samples must be torch.float32"),
        (
            lambda b: sampling.ReplayBuffer(3, lambda n, g: torch.zeros(1, 2)).take(2),
            r"fresh starts must have shape \(2",
        ),
        (lambda b: sampling.ReplayBuffer(3, lambda n, g: torch.zeros(n, 2) * math.nan).take(2), "must be finite"),
        (lambda b: b.load_state_dict(sampling.ReplayBuffer(4, fresh).state_dict()), "of capacity 4, this one's is 3"),
        (lambda b: b.load_state_dict(sampling.ReplayBuffer(3, fresh).state_dict()), "both have a generator"),
        (lambda b: sampling.ReplayBuffer(3, fresh).load_state_dict(b.state_dict()), "both have a generator"),
    ],
)
def test_bad_input_is_refused(call, message):
    buffer = sampling.ReplayBuffer(3, fresh, generator=seeded())
    buffer.put(numbered(1))
    with pytest.raises(ValueError, match=message):
        call(buffer)
