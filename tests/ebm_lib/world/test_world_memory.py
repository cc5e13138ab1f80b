"""Short-term memory: against sums written out, geometric series, a list that is cut, and nearest neighbours."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_lib.world import ShortTermMemory, discounted

F64 = torch.float64


def drawn(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


def filled(lengths=(4, 3, 5), capacity=100, D=2):
    memory = ShortTermMemory(capacity)
    for k, T in enumerate(lengths):
        memory.store(drawn(T, D, seed=k), drawn(T, seed=10 + k))
    return memory


# ---- discounted sums


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.floats(0, 1), st.data())
def test_sums_written_out(T, gamma, data):
    K = data.draw(st.one_of(st.none(), st.integers(1, T)))
    costs, reach = drawn(3, T, seed=T), T if K is None else K
    found = discounted(costs, gamma, K)
    assert found.shape == (3, T if K is None else T - K + 1)
    for t in range(found.shape[-1]):
        sums = sum(gamma**k * costs[:, t + k] for k in range(min(reach, T - t)))
        torch.testing.assert_close(found[:, t], sums)


def test_a_constant_cost_is_a_geometric_series():
    torch.testing.assert_close(
        discounted(torch.ones(50, dtype=F64), 0.9, 20)[7], torch.tensor((1 - 0.9**20) / 0.1).to(F64)
    )


def test_with_no_patience_only_now_counts_and_with_all_the_last_cost_counts_everywhere():
    costs = torch.tensor([0.0, 0.0, 5.0])
    assert discounted(costs, 0.0).tolist() == [0, 0, 5]
    assert discounted(costs).tolist() == [5, 5, 5]


@pytest.mark.parametrize(
    ("costs", "options", "told"),
    [
        (torch.ones(3), {"gamma": 1.1}, "gamma"),
        (torch.ones(3), {"gamma": math.nan}, "gamma"),
        (torch.ones(3), {"window": 4}, "at least 4"),
        (torch.ones(3), {"window": 0}, "window"),
        (torch.ones(0), {}, "at least 1"),
        (torch.tensor(1.0), {}, "at least 1"),
    ],
)
def test_sums_refuse(costs, options, told):
    with pytest.raises(ValueError, match=told):
        discounted(costs, **options)


def test_sums_on_meta_and_in_single_precision():
    assert discounted(torch.ones(4, 7, device="meta"), 0.9, 3).shape == (4, 5)
    assert discounted(torch.ones(4, 7), 0.9).dtype == torch.float32


# ---- what is held


def test_episodes_come_back_as_they_were_written():
    for k, episode in enumerate(filled().episodes()):
        assert torch.equal(episode.states, drawn((4, 3, 5)[k], 2, seed=k))
        assert torch.equal(episode.costs, drawn((4, 3, 5)[k], seed=10 + k))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(-9, 9)), max_size=30), st.integers(1, 12))
def test_it_is_the_tail_of_all_that_was_written(events, capacity):
    memory, written, episode = ShortTermMemory(capacity), [], 0
    for begin, value in events:
        if begin:
            memory.begin()
            episode += 1
        memory.write(torch.tensor([value], dtype=F64), torch.tensor(-value, dtype=F64))
        written.append((episode, value))
    kept = written[-capacity:]
    assert len(memory) == len(kept)
    expected = [[v for e, v in kept if e == k] for k in dict.fromkeys(e for e, _ in kept)]
    assert [e.states[:, 0].tolist() for e in memory.episodes()] == expected
    assert all(torch.equal(e.states[:, 0], -e.costs) for e in memory.episodes())


def test_it_keeps_copies_without_a_graph():
    memory, state = ShortTermMemory(3), torch.zeros(2, requires_grad=True)
    memory.write(state, state.sum())
    with torch.no_grad():
        state += 1
    (episode,) = memory.episodes()
    assert episode.states.tolist() == [[0, 0]]
    assert not episode.states.requires_grad
    assert not episode.costs.requires_grad


# ---- pairs


@pytest.mark.parametrize("window", [None, 1, 4])
def test_pairs_never_sum_beyond_an_episode(window):
    memory = filled()
    known = [e for e in memory.episodes() if len(e.costs) >= (window or 1)]
    states, values = memory.pairs(0.7, window)
    torch.testing.assert_close(values, torch.cat([discounted(e.costs, 0.7, window) for e in known]))
    cut = [len(e.costs) - (window or 1) + 1 for e in known]
    assert torch.equal(states, torch.cat([e.states[:n] for e, n in zip(known, cut, strict=True)]))
    assert len(states) == {None: 12, 1: 12, 4: 3}[window]


# ---- reading


def test_a_narrow_reading_is_the_nearest_neighbour_s_and_a_wide_one_the_mean():
    memory, query = filled(), drawn(6, 3, 2, seed=9)
    states, values = memory.pairs(0.9)
    nearest = values[(query[..., None, :] - states).norm(dim=-1).argmin(-1)]
    torch.testing.assert_close(memory.read(query, width=1e-4, gamma=0.9), nearest)
    wide = memory.read(query, width=1e6, gamma=0.9)
    torch.testing.assert_close(wide, values.mean().expand(6, 3))


def test_two_memories_weigh_by_their_distances():
    memory = ShortTermMemory(5)
    memory.store(torch.tensor([[0.0], [2.0]]), torch.tensor([0.0, 1.0]))
    share = math.exp(-(1.5**2) / 2) / (math.exp(-(0.5**2) / 2) + math.exp(-(1.5**2) / 2))
    assert math.isclose(memory.read(torch.tensor([0.5]), width=1.0, window=1).item(), share, rel_tol=1e-5)
    far = memory.read(torch.tensor([1e4]), width=0.1, window=1)  # all weights would underflow but for the softmax
    assert far == 1


def test_what_is_read_lies_within_what_is_remembered():
    memory = filled()
    values = memory.pairs(window=2).values
    found = memory.read(drawn(200, 2, seed=3), width=0.5, window=2)
    assert values.min() <= found.min()
    assert found.max() <= values.max()


# ---- bad input


def test_refuses():
    memory = ShortTermMemory(3)
    with pytest.raises(ValueError, match="it has 0"):
        memory.pairs()
    memory.write(torch.zeros(2), torch.tensor(0.0))
    for state, cost in (
        (torch.zeros(3), torch.tensor(0.0)),
        (torch.zeros(1, 2), torch.tensor(0.0)),
        (torch.zeros(2), torch.zeros(1)),
        (torch.full((2,), torch.nan), torch.tensor(0.0)),
        (torch.zeros(2), torch.tensor(torch.inf)),
    ):
        with pytest.raises(ValueError, match="must be"):
            memory.write(state, cost)
    assert len(memory) == 1
    with pytest.raises(ValueError, match="episode of at least 2"):
        memory.pairs(window=2)
    with pytest.raises(ValueError, match="costs"):
        memory.store(torch.zeros(4, 2), torch.zeros(3))
    with pytest.raises(ValueError, match="query"):
        memory.read(torch.zeros(3), width=1.0)
    with pytest.raises(ValueError, match="width"):
        memory.read(torch.zeros(2), width=0.0)
    with pytest.raises(ValueError, match="capacity"):
        ShortTermMemory(0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_as_on_the_processor():
    there, query = ShortTermMemory(100), drawn(5, 2)
    for episode in filled().episodes():
        there.store(*(part.cuda() for part in episode))
    torch.testing.assert_close(there.read(query.cuda(), width=1.0).cpu(), filled().read(query, width=1.0))
