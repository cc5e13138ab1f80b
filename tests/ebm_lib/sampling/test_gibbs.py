"""Gibbs sampling against a hand-written recursion and against the enumeration of all states."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ebm_lib import sampling
from ebm_lib.sampling import _gibbs


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --- blocks --------------------------------------------------------------------------------------------------------
@settings(max_examples=20, deadline=None)
@given(st.floats(-0.95, 0.95), st.integers(1, 40), st.integers(0, 30), st.integers(1, 5))
def test_each_update_sees_what_the_ones_before_it_drew(rho, sweeps, burn_in, keep_every):
    keep_every, spread = min(keep_every, sweeps), math.sqrt(1 - rho**2)
    draw = lambda generator: spread * torch.randn(4, 1, generator=generator, dtype=torch.float64)
    found = sampling.gibbs(
        (torch.ones(4, 1, dtype=torch.float64), torch.full((4, 1), 2.0, dtype=torch.float64)),
        (lambda x, y, g: rho * y + draw(g), lambda x, y, g: rho * x + draw(g)),
        sweeps=sweeps,
        burn_in=burn_in,
        keep_every=keep_every,
        generator=seeded(1),
    )
    generator, y, xs, ys = seeded(1), np.full((4, 1), 2.0), [], []
    for _ in range(burn_in + sweeps):
        x = rho * y + draw(generator).numpy()
        y = rho * x + draw(generator).numpy()
        xs.append(x)
        ys.append(y)
    for path, last, hand in zip(found.paths, found.blocks, (xs, ys), strict=True):
        np.testing.assert_allclose(path.numpy(), np.stack(hand[burn_in:][keep_every - 1 :: keep_every]), rtol=1e-12)
        np.testing.assert_allclose(last.numpy(), hand[-1], rtol=1e-12)


def test_blocks_of_different_sizes_reach_the_joint_law():
    draw = lambda mean, variance, g: mean + math.sqrt(variance) * torch.randn(mean.shape, generator=g)
    # a ~ N(0, 1) and b = (b1, b2) with b_i given a ~ N(a, 1/2), so a given b ~ N(0.4 (b1 + b2), 0.2)
    found = sampling.gibbs(
        (torch.zeros(20_000, 1), torch.zeros(20_000, 2)),
        (
            lambda a, b, g: draw(0.4 * b.sum(-1, keepdim=True), 0.2, g),
            lambda a, b, g: draw(a.expand(-1, 2), 0.5, g),
        ),
        sweeps=30,
        generator=seeded(2),
    )
    a, b = found.blocks
    joint = torch.cov(torch.cat([a, b], -1).T)
    expected = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.5, 1.0], [1.0, 1.0, 1.5]])
    torch.testing.assert_close(joint, expected, rtol=0, atol=0.06)
    assert found.paths is None


def test_updates_in_place_change_neither_the_start_nor_the_path():
    start = torch.zeros(3, 1)
    found = sampling.gibbs((start,), (lambda x, g: x.add_(1),), sweeps=40, keep_every=1)
    assert (start == 0).all()
    assert torch.equal(found.paths[0], torch.arange(1.0, 41.0)[:, None, None].expand(-1, 3, 1))


@pytest.mark.parametrize("at", [1, 32, 33, 40])
def test_a_block_that_is_not_finite_is_named(at):
    calls = 0

    def bad(x, y, generator):
        nonlocal calls
        calls += 1
        new = torch.zeros(3, 2)
        new[1, 1] = math.inf if calls == at else 0.0
        return new

    start = (torch.zeros(3, 2), torch.zeros(3, 2))
    message = rf"block 1 is not finite in sweep {at}: chain \(1,\), coordinate 1 is inf"
    with pytest.raises(FloatingPointError, match=message):
        sampling.gibbs(start, (lambda x, y, g: x, bad), sweeps=38, burn_in=2)


def test_bad_blocks_are_refused():
    same = lambda x, g: x
    for call, message in (
        (lambda: sampling.gibbs((), (), sweeps=1), "one function per block, got 0 for 0"),
        (lambda: sampling.gibbs((torch.zeros(1),), (same, same), sweeps=1), "got 2 for 1 blocks"),
        (lambda: sampling.gibbs((torch.tensor([math.nan]),), (same,), sweeps=1), "start, block 0 must be finite"),
        (lambda: sampling.gibbs((torch.zeros(2),), (lambda x, g: x[:1],), sweeps=1), r"update 0 must keep .*\(2,\)"),
        (lambda: sampling.gibbs((torch.tensor(1.0),), (same,), sweeps=1), "start, block 0 must have a last dimension"),
        (lambda: sampling.gibbs((torch.zeros(2),), (same,), sweeps=0), "sweeps must be a whole number"),
        (
            lambda: sampling.gibbs((torch.zeros(2),), (same,), sweeps=2, keep_every=3),
            "keep_every must be at most sweeps",
        ),
        (lambda: sampling.gibbs((torch.zeros(2),), (same,), sweeps=2, burn_in=-1), "burn_in must be"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


# --- zeros and ones ------------------------------------------------------------------------------------------------
STATES = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=torch.float64)  # the first bit is highest
PLACES = torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)
TABLE = torch.randn(16, generator=seeded(3), dtype=torch.float64) * 1.5


def table_energy(s):
    return TABLE[(s @ PLACES).long()]


def counts(position):
    return np.bincount((position @ PLACES).long().numpy(), minlength=16)


def sweep_matrix(beta):
    """T[a, b]: the probability that a sweep leads from a to b, from the definition of the conditionals."""
    total = np.eye(16)
    for i in range(4):
        one = np.zeros((16, 16))
        for a, state in enumerate(STATES):
            up, down = state.clone(), state.clone()
            up[i], down[i] = 1, 0
            weights = [math.exp(-beta * table_energy(s).item()) for s in (up, down)]
            for s, w in zip((up, down), weights, strict=True):
                one[a, int(s @ PLACES)] += w / sum(weights)
        total = total @ one
    return total


@pytest.mark.parametrize("beta", [0.4, 2.0])
@pytest.mark.parametrize("sweeps", [1, 3])
def test_the_law_after_some_sweeps_is_the_product_of_the_conditionals(beta, sweeps):
    first = 5
    start = STATES[first].expand(30_000, 4)
    found = sampling.gibbs_binary(table_energy, start, sweeps=sweeps, beta=beta, generator=seeded(4))
    law = np.linalg.matrix_power(sweep_matrix(beta), sweeps)[first]
    assert stats.chisquare(counts(found.position), 30_000 * law).pvalue > 1e-3
    gibbs = torch.softmax(-beta * TABLE, 0).numpy()
    np.testing.assert_allclose(gibbs @ sweep_matrix(beta), gibbs, rtol=1e-10)
    if sweeps == 1:
        assert stats.chisquare(counts(found.position), 30_000 * gibbs).pvalue < 1e-6  # not there yet


def test_the_path_and_the_bookkeeping():
    calls = 0

    def counted(s):
        nonlocal calls
        calls += 1
        return table_energy(s)

    start = STATES[:3].clone()
    found = sampling.gibbs_binary(counted, start, sweeps=6, burn_in=3, keep_every=2, generator=seeded(5))
    assert calls == found.evaluations == 1 + 9 * 4
    assert found.path.shape == (3, 3, 4)
    assert torch.equal(found.path_energy, table_energy(found.path))
    assert torch.equal(found.path[-1], found.position)
    assert torch.equal(found.energy, table_energy(found.position))
    assert torch.equal(start, STATES[:3])
    generator = seeded(5)
    part = sampling.gibbs_binary(table_energy, start, sweeps=5, generator=generator)
    part = sampling.gibbs_binary(table_energy, part.position, sweeps=4, generator=generator)
    assert torch.equal(part.position, found.position)


def test_what_is_impossible_is_never_visited():
    energy = lambda s: torch.where(s.sum(-1) > 2, math.inf, -s.sum(-1))
    found = sampling.gibbs_binary(energy, torch.zeros(500, 4), sweeps=20, keep_every=1, generator=seeded(6))
    assert found.path.sum(-1).max() == 2
    assert (found.path.sum(-1) == 2).any()


def test_no_draw_of_a_conditional_is_rejected():
    found = sampling.gibbs_binary(table_energy, STATES[:5], sweeps=2, generator=seeded())
    assert found.acceptance.tolist() == [1.0] * 5
    assert found.divergences.tolist() == [0] * 5


def test_a_coin_of_zero_does_not_lead_where_nothing_is_possible(monkeypatch):
    monkeypatch.setattr(_gibbs, "draw_coins", lambda shape, generator, dtype, device: torch.zeros(shape, dtype=dtype))

    def barred(s):
        return torch.where(s[..., 0] > 0, math.inf, 0 * s[..., 1])

    assert sampling.gibbs_binary(barred, torch.zeros(2), sweeps=1).position.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("likely", [0.0, 1.0])
def test_rare_events_stay_rare_in_half_precision(dtype, likely):
    count, p = 1_000_000, 1 / (1 + math.exp(8))
    start = torch.full((count, 1), 1 - likely, dtype=dtype)
    found = sampling.gibbs_binary(lambda s: 8 * (s[..., 0] - likely).abs(), start, sweeps=1, generator=seeded())
    rare = (found.position != likely).double().mean().item()
    assert rare == pytest.approx(p, abs=5 * math.sqrt(p / count))


def test_without_units_there_is_one_state():
    found = sampling.gibbs_binary(lambda s: s.sum(-1), torch.zeros(3, 0), sweeps=2, keep_every=1)
    assert found.position.shape == (3, 0)
    assert found.path.shape == (2, 3, 0)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_an_energy_that_is_no_number_is_named(value):
    energy = lambda s: torch.where((s[..., 0] == 1) & (s[..., 2] == 1), value, 0.0)
    start = torch.tensor([[0.0, 0, 0], [1.0, 0, 0]]).expand(2, 2, 3)
    up = lambda s: energy(s) - 50 * s[..., 1]  # the second unit goes up in the first sweep, then nothing else does
    message = r"in sweep 1 coordinate 2 of chain \(0, 1\) was tried at an energy of " + str(value)
    stay = lambda s: up(s) + 50 * (s[..., 0] - start[..., 0]).abs()
    with pytest.raises(FloatingPointError, match=message):
        sampling.gibbs_binary(stay, start, sweeps=3, generator=seeded(7))


@pytest.mark.parametrize(
    ("start", "kw", "message"),
    [
        (torch.tensor([0.0, 0.5]), {}, "zeros and ones only"),
        (torch.tensor([0.0, math.nan]), {}, "zeros and ones only"),
        (torch.tensor([0, 1]), {}, "floating point"),
        (torch.zeros(2), dict(sweeps=0), "sweeps must be"),
        (torch.zeros(2), dict(beta=-1.0), "beta must be"),
        (torch.ones(2), {}, r"the energy of chain \(\) there is inf"),
    ],
)
def test_bad_binary_input_is_refused(start, kw, message):
    energy = lambda s: torch.where(s.sum(-1) == 2, math.inf, s.sum(-1))
    with pytest.raises(ValueError, match=message):
        sampling.gibbs_binary(energy, start, **dict(sweeps=1) | kw)
