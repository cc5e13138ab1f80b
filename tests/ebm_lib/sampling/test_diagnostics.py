"""Diagnostics against their formulas written as loops, scipy's ranks, and the closed form of an AR(1) process."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ebm_lib import sampling


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def ar1(phi, steps, chains, dim=1, seed=0):
    """A stationary first-order autoregression of unit variance."""
    noise = torch.randn(steps, chains, dim, generator=seeded(seed), dtype=torch.float64)
    path = torch.empty_like(noise)
    path[0] = noise[0]
    for t in range(1, steps):
        path[t] = phi * path[t - 1] + math.sqrt(1 - phi**2) * noise[t]
    return path


def autocovariance_by_hand(x, lag):
    mean = sum(x) / len(x)
    return sum((x[t] - mean) * (x[t + lag] - mean) for t in range(len(x) - lag)) / len(x)


def split_by_hand(x):
    half = len(x) // 2
    return np.concatenate([x[:half].T, x[len(x) - half :].T])


def ess_by_hand(chains):
    """Stan's estimate from the halves of chains, as its authors write it down."""
    count, many = len(chains[0]), len(chains)
    covariance = [np.mean([autocovariance_by_hand(list(c), k) for c in chains]) for k in range(count)]
    within = covariance[0] * count / (count - 1)
    total = within * (count - 1) / count + np.var([np.mean(c) for c in chains], ddof=1)
    rho = [1.0] + [1 - (within - covariance[k]) / total for k in range(1, count)]
    t, pairs = 0, []
    while t < count - 5 and rho[t] + rho[t + 1] > 0:
        pairs.append(rho[t] + rho[t + 1])
        t += 2
    last = max(rho[t], 0.0)
    for k in range(1, len(pairs)):
        pairs[k] = min(pairs[k], pairs[k - 1])
    tau = max(-1 + 2 * sum(pairs) + last, 1 / math.log10(many * count))
    return many * count / tau


def rhat_by_hand(chains):
    count, means = len(chains[0]), [np.mean(c) for c in chains]
    within = np.mean([np.var(c, ddof=1) for c in chains])
    between = count * np.var(means, ddof=1)
    return math.sqrt(((count - 1) / count * within + between / count) / within)


def ranked_by_hand(x):
    return stats.norm.ppf((stats.rankdata(x) - 0.375) / (x.size + 0.25)).reshape(x.shape)


paths = st.tuples(st.integers(12, 60), st.integers(1, 4), st.floats(-0.95, 0.95), st.integers(0, 9999))


@settings(max_examples=30, deadline=None)
@given(paths)
def test_autocorrelation_is_the_sum_over_the_lags(case):
    steps, chains, phi, seed = case
    path = ar1(phi, steps, chains, dim=2, seed=seed)
    found = sampling.autocorrelation(path)
    assert found.shape == path.shape
    for c in range(chains):
        x = path[:, c, 1].tolist()
        expected = [autocovariance_by_hand(x, k) / autocovariance_by_hand(x, 0) for k in range(steps)]
        np.testing.assert_allclose(found[:, c, 1].numpy(), expected, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(paths, st.floats(0, 3), st.booleans())
def test_the_effective_sample_size_is_stans(case, apart, ranked):
    steps, chains, phi, seed = case
    path = ar1(phi, steps, chains, dim=2, seed=seed)
    path[:, 0] += apart  # a chain of its own mean
    found = sampling.effective_sample_size(path, ranked=ranked)
    for d in range(2):
        halves = split_by_hand(path[..., d].numpy())
        expected = ess_by_hand(ranked_by_hand(halves) if ranked else halves)
        assert found[d].item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("phi", [-0.5, 0.0, 0.5, 0.9])
def test_the_effective_sample_size_of_an_autoregression_is_its_closed_form(phi):
    path = ar1(phi, 5000, 4, dim=30, seed=1)
    expected = 20_000 * (1 - phi) / (1 + phi)
    assert sampling.effective_sample_size(path).mean().item() == pytest.approx(expected, rel=0.05)
    rho = sampling.autocorrelation(path[:, 0, 0])
    torch.testing.assert_close(rho[:5], phi ** torch.arange(5, dtype=torch.float64), rtol=0, atol=0.06)


def test_alternating_chains_are_capped():
    path = torch.tensor([1.0, -1.0]).repeat(50)[:, None, None] + 1e-3 * ar1(0, 100, 1, seed=2)
    assert sampling.effective_sample_size(path).item() == pytest.approx(100 * 2, rel=1e-6)


def test_chains_that_disagree_are_worth_little():
    path = ar1(0.0, 1000, 4, seed=3)
    alike = sampling.effective_sample_size(path)
    path[:, 0] += 3
    assert sampling.effective_sample_size(path) < 0.01 * alike


@settings(max_examples=40, deadline=None)
@given(paths, st.floats(0, 3), st.floats(0.3, 3))
def test_rhat_is_its_formula(case, apart, wide):
    steps, chains, phi, seed = case
    path = ar1(phi, steps, chains, dim=2, seed=seed)
    path[:, 0] = wide * path[:, 0] + apart
    halves = split_by_hand(path[..., 1].numpy())
    assert sampling.split_rhat(path)[1].item() == pytest.approx(rhat_by_hand(halves), rel=1e-9)
    folded = abs(halves - np.median(halves))
    expected = max(rhat_by_hand(ranked_by_hand(y)) for y in (halves, folded))
    assert sampling.split_rhat(path, ranked=True)[1].item() == pytest.approx(expected, rel=1e-9)


def test_rhat_by_hand_on_six_numbers():
    path = torch.tensor([1.0, 3.0, 2.0, 6.0])[:, None, None]  # halves (1, 3) and (2, 6): means 2, 4; variances 2, 8
    assert sampling.split_rhat(path).item() == pytest.approx(math.sqrt((0.5 * 5 + 2) / 5), rel=1e-6)
    odd = torch.tensor([1.0, 3.0, 100.0, 2.0, 6.0])[:, None, None]  # the middle is left out
    assert torch.equal(sampling.split_rhat(odd), sampling.split_rhat(path))


def test_ties_share_their_rank_and_equal_means_of_different_width_show_only_when_ranked():
    path = ar1(0.0, 400, 4, seed=4)
    path[:, 0] *= 10
    assert sampling.split_rhat(path).item() < 1.02
    assert sampling.split_rhat(path, ranked=True).item() > 1.1
    rounded = path.round()
    halves = split_by_hand(rounded[..., 0].numpy())
    expected = max(rhat_by_hand(ranked_by_hand(y)) for y in (halves, abs(halves - np.median(halves))))
    assert sampling.split_rhat(rounded, ranked=True).item() == pytest.approx(expected, rel=1e-9)


def test_chains_that_stand_still():
    still = torch.tensor([0.1, 0.3]).expand(50, 2)[..., None]  # sums of 0.1 round: the variance must be 0 all the same
    assert sampling.split_rhat(still).item() == math.inf
    assert sampling.effective_sample_size(still).item() < 4
    mixed = torch.cat([still[:, :1], ar1(0.0, 50, 1).float()], 1)
    assert math.isfinite(sampling.split_rhat(mixed).item())
    two_values = (ar1(0.0, 50, 2) > 0).float()
    assert math.isfinite(sampling.split_rhat(two_values, ranked=True).item())
    for function in (sampling.split_rhat, sampling.effective_sample_size):
        with pytest.raises(ValueError, match="coordinate 1 is the same in all of it"):
            function(torch.cat([ar1(0.0, 50, 2), torch.full((50, 2, 1), 0.1)], -1))
    with pytest.raises(ValueError, match=r"chain and coordinate \(1, 0\) never does"):
        sampling.autocorrelation(torch.cat([ar1(0.0, 50, 1), torch.full((50, 1, 1), 0.1)], 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_diagnostics_do_not_depend_on_the_unit(dtype):
    path = ar1(0.5, 101, 4, dim=2, seed=7).to(dtype) + 5 * torch.arange(4)[:, None]
    for scale in (1e-250, 1e-25, 1e25, 1e250) if dtype == torch.float64 else (1e-25, 1e-12, 1e25):
        scaled = scale * path
        for function in (
            sampling.effective_sample_size,
            sampling.split_rhat,
            sampling.autocorrelation,
            lambda p: sampling.split_rhat(p, ranked=True),
        ):
            torch.testing.assert_close(function(scaled), function(path), rtol=1e-3, atol=1e-5)
    exact = torch.ldexp(path.double(), torch.tensor(-90)).to(dtype)  # another unit without rounding
    assert torch.equal(sampling.effective_sample_size(exact), sampling.effective_sample_size(path))


def test_a_path_that_varies_in_its_unused_middle_alone_is_refused():
    path = torch.zeros(13, 2, 1)
    path[6] = 1.0
    for function in (sampling.split_rhat, sampling.effective_sample_size):
        with pytest.raises(ValueError, match="must vary: coordinate 0 is the same in all"):
            function(path)


def test_a_chain_whose_mean_rounds_stands_still_all_the_same():
    with pytest.raises(ValueError, match="never does"):
        sampling.autocorrelation(torch.full((3,), 0.1, dtype=torch.float64))  # their mean is not 0.1


def test_acceptance_counts_the_moves_and_agrees_with_the_samplers_own():
    path = torch.tensor([[[0.0, 1.0]], [[0.0, 1.0]], [[0.0, 2.0]], [[0.0, 2.0]], [[5.0, 2.0]]])
    assert sampling.acceptance(path).tolist() == [0.5]
    energy = lambda y: 0.5 * y.square().sum(-1)
    start = torch.randn(50, 5, generator=seeded(5))
    found = sampling.mala(energy, start, steps=400, step_size=0.8, keep_every=1, generator=seeded(6))
    assert sampling.acceptance(found.path).mean().item() == pytest.approx(found.acceptance.mean().item(), abs=0.01)


@pytest.mark.parametrize(
    ("function", "path", "message"),
    [
        (sampling.autocorrelation, torch.zeros(1), "at least 2 points"),
        (sampling.autocorrelation, torch.tensor(1.0), r"shape \(T, ...\)"),
        (sampling.autocorrelation, torch.arange(4), "floating point"),
        (sampling.effective_sample_size, torch.rand(30, 2), r"shape \(T, C, D\), got \(30, 2\)"),
        (sampling.effective_sample_size, torch.rand(30, 0, 2), r"shape \(T, C, D\)"),
        (sampling.effective_sample_size, torch.rand(11, 2, 1), "at least 12 points, got 11"),
        (sampling.effective_sample_size, torch.full((30, 2, 1), math.nan), "path must be finite"),
        (sampling.split_rhat, torch.rand(3, 2, 1), "at least 4 points"),
        (sampling.split_rhat, torch.full((30, 2, 1), math.inf), "path must be finite"),
        (sampling.acceptance, torch.rand(30), r"shape \(T, ..., D\)"),
        (sampling.acceptance, torch.rand(1, 3), "at least 2 points"),
    ],
)
def test_bad_paths_are_refused(function, path, message):
    with pytest.raises(ValueError, match=message):
        function(path)


def test_diagnostics_work_under_vmap():
    batch = torch.stack([ar1(0.5, 40, 3, dim=2, seed=s) for s in range(3)])
    for function in (
        sampling.autocorrelation,
        sampling.effective_sample_size,
        sampling.split_rhat,
        sampling.acceptance,
        lambda p: sampling.split_rhat(p, ranked=True),
    ):
        torch.testing.assert_close(torch.func.vmap(function)(batch), torch.stack([function(p) for p in batch]))
