"""Annealed importance sampling against Gaussian integrals, enumeration, and weights written out by hand."""

import itertools
import math

import pytest
import torch

from ebm_lib import sampling


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian(precision):
    return lambda y: 0.5 * (y.square() * precision).sum(-1)


def test_a_gaussians_partition_function_is_found_within_its_standard_error():
    precision = torch.tensor([4.0, 0.5, 9.0], dtype=torch.float64)
    path = sampling.geometric_path(gaussian(1.0), gaussian(precision))

    def move(t, y, generator):
        return sampling.hmc(path(t), y, steps=1, step_size=0.3, leapfrog_steps=5, generator=generator).position

    start = torch.randn(2000, 3, generator=seeded(1), dtype=torch.float64)
    found = sampling.annealed_importance(path, start, move, fractions=40, generator=seeded(2))
    assert found.log_ratio.item() == pytest.approx(
        -0.5 * precision.log().sum().item(), abs=4 * found.standard_error.item()
    )
    assert found.standard_error < 0.05
    assert found.effective_samples > 400
    weights = torch.softmax(found.log_weights, 0)[:, None]
    torch.testing.assert_close((weights * found.position.square()).sum(0), 1 / precision, rtol=0.15, atol=0)


def test_one_step_is_plain_importance_sampling_and_its_statistics_are_those_of_the_weights():
    start = torch.randn(50, 2, generator=seeded(3), dtype=torch.float64)
    end = lambda y: (y - 0.5).abs().sum(-1)
    path = sampling.geometric_path(gaussian(1.0), end)
    found = sampling.annealed_importance(path, start, lambda t, y, g: y + t, fractions=1)
    log_w = gaussian(1.0)(start) - end(start)
    torch.testing.assert_close(found.log_weights, log_w)
    w = log_w.exp()
    torch.testing.assert_close(found.log_ratio, w.mean().log())
    torch.testing.assert_close(found.effective_samples, w.sum() ** 2 / w.square().sum())
    torch.testing.assert_close(found.standard_error, w.std() / w.mean() / math.sqrt(50))
    torch.testing.assert_close(found.position, start + 1)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_each_change_of_the_energy_is_weighed_before_the_move_under_it(as_tensor):
    times = [0.0, 0.2, 0.7, 1.0]
    path = lambda t: lambda y: (t + t**2) * y.square().sum(-1) + (1 - t) * y.sum(-1)
    moved = []

    def move(t, y, generator):
        moved.append((t, generator))
        return y * (1 + t)

    y, generator = 1.5, seeded()
    found = sampling.annealed_importance(
        path,
        torch.tensor([[y]], dtype=torch.float64),
        move,
        fractions=torch.tensor(times, dtype=torch.float64) if as_tensor else times,
        generator=generator,
    )
    log_w = 0.0
    energy = lambda t, y: (t + t**2) * y**2 + (1 - t) * y
    for before, now in itertools.pairwise(times):
        log_w += energy(before, y) - energy(now, y)
        y *= 1 + now
    assert found.log_weights.item() == pytest.approx(log_w, rel=1e-12)
    assert found.position.item() == pytest.approx(y, rel=1e-12)
    assert moved == [(t, generator) for t in times[1:]]
    assert found.standard_error == math.inf  # one chain tells nothing of the spread


def test_a_table_of_energies_is_summed_as_enumeration_does():
    table = torch.randn(64, generator=seeded(4), dtype=torch.float64) * 2
    places = 2 ** torch.arange(6, dtype=torch.float64)
    energy = lambda s: table[(s @ places).long()]
    path = sampling.geometric_path(lambda s: 0.0 * s.sum(-1), energy)

    def sweep(t, s, generator):
        return sampling.gibbs_binary(path(t), s, sweeps=1, generator=generator).position

    start = (torch.rand(3000, 6, generator=seeded(5)) < 0.5).double()
    found = sampling.annealed_importance(path, start, sweep, fractions=20, generator=seeded(6))
    exact = torch.logsumexp(-table, 0) - 6 * math.log(2)
    assert found.log_ratio.item() == pytest.approx(exact.item(), abs=4 * found.standard_error.item())
    assert found.standard_error < 0.05


def test_a_geometric_path_mixes_its_ends():
    path = sampling.geometric_path(lambda x, y: (x + y).sum(-1), lambda x, y: (x * y).sum(-1))
    x, y = torch.tensor([2.0]), torch.tensor([5.0])
    assert [path(t)(x, y).item() for t in (0.0, 0.25, 1.0)] == [7.0, 0.75 * 7 + 0.25 * 10, 10.0]


def test_the_ends_of_a_geometric_path_may_be_impossible_where_the_other_is_not():

    def box(y):
        return torch.where((y.abs() < 1).all(-1), 0.0, math.inf)

    outside, g = torch.tensor([[2.0]]), seeded(7)
    assert sampling.geometric_path(box, gaussian(1.0))(1.0)(outside) == 2
    assert sampling.geometric_path(gaussian(1.0), box)(0.0)(outside) == 2
    path = sampling.geometric_path(box, gaussian(4.0))

    def move(t, y, generator):
        return sampling.mala(path(t), y, steps=1, step_size=0.2, generator=generator).position

    start = 2 * torch.rand(4000, 1, generator=g, dtype=torch.float64) - 1
    found = sampling.annealed_importance(path, start, move, fractions=20, generator=g)
    exact = math.log(math.sqrt(math.pi / 2) * math.erf(math.sqrt(2)) / 2)  # E₁ within the box, over the box
    assert found.log_ratio.item() == pytest.approx(exact, abs=4 * found.standard_error.item())
    assert (found.position.abs() > 1).any()


def test_transitions_in_place_leave_the_start_as_it_was():
    start = torch.ones(4, 1)
    path = sampling.geometric_path(gaussian(1.0), gaussian(2.0))
    found = sampling.annealed_importance(path, start, lambda t, y, g: y.mul_(2), fractions=3)
    assert (start == 1).all()
    assert (found.position == 8).all()


@pytest.mark.parametrize(
    ("kw", "message"),
    [
        (dict(fractions=0), "at least 1 step"),
        (dict(fractions=[0.0, 0.5]), "rise from 0 to 1"),
        (dict(fractions=[0.1, 1.0]), "rise from 0 to 1"),
        (dict(fractions=[0.0, 0.6, 0.6, 1.0]), "rise from 0 to 1"),
        (dict(fractions=[1.0]), "rise from 0 to 1"),
        (dict(fractions=torch.empty(3, device="meta")), "tensor without values"),
        (dict(start=torch.ones(4, 1, dtype=torch.int64)), "start must be floating point, got torch.int64"),
        (dict(start=torch.zeros(3)), r"shape \(C, D\)"),
        (dict(start=torch.zeros(0, 2)), "at least one entry"),
        (dict(start=torch.tensor([[math.nan]])), "start must be finite"),
        (dict(transition=lambda t, y, g: y[:1]), "transition must keep the shape"),
        (dict(transition=lambda t, y, g: y * math.nan), "the transition's result must be finite"),
        (dict(path=lambda t: lambda y: y), "one number per sample"),
        (
            dict(path=lambda t: lambda y: torch.where(y[..., 0] > 0.5, math.inf if t else 0.0, 0.0)),
            "change from t = 0 to 0.5 must be finite",
        ),
    ],
)
def test_bad_input_is_refused(kw, message):
    args = dict(
        path=sampling.geometric_path(gaussian(1.0), gaussian(2.0)),
        start=torch.ones(4, 1),
        transition=lambda t, y, g: y,
        fractions=2,
    )
    with pytest.raises(ValueError, match=message):
        sampling.annealed_importance(**args | kw)
