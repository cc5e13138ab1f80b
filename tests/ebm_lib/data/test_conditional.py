"""Conditional sets: equations, exact conditional densities, and the failure of the average."""

import math

import pytest
import torch
from scipy import stats

from ebm_lib import data

N = 4000
F64 = {"dtype": torch.float64}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_horn_has_the_practicums_half_axes():
    # Canziani writes them with alpha = 1.5 and beta = 2: r1 = (alpha x + beta (1 - x)) e^2x, and r2 the other way.
    x = torch.linspace(0, 1, 11, **F64)[:, None]
    r1 = (1.5 * x + 2.0 * (1 - x)) * torch.exp(2 * x)
    r2 = (2.0 * x + 1.5 * (1 - x)) * torch.exp(2 * x)
    torch.testing.assert_close(data.ellipse_radii(x), torch.cat((r1, r2), -1))


def test_each_x_has_its_own_ellipse():
    x, y = data.ellipse_family(N, noise=0.0, generator=seeded(), **F64)
    assert x.shape == (N, 1)
    torch.testing.assert_close((y / data.ellipse_radii(x)).square().sum(-1), torch.ones(N, **F64))
    assert stats.kstest(x.flatten().numpy(), "uniform").pvalue > 1e-4
    angle = torch.atan2(*(y / data.ellipse_radii(x)).unbind(-1)).remainder(2 * math.pi)
    assert stats.kstest((angle / (2 * math.pi)).numpy(), "uniform").pvalue > 1e-4


def test_family_without_growth_between_equal_ends_is_the_plain_ellipse():
    z = 2 * math.pi * torch.rand(N, 1, generator=seeded(), **F64)
    _, y = data.ellipse_family(N, first=(3.0, 1.0), last=(3.0, 1.0), growth=0.0, noise=0.0, z=z)
    torch.testing.assert_close(y, data.ellipse(N, radii=(3.0, 1.0), noise=0.0, z=z))


def test_family_takes_given_x_and_z():
    x = torch.tensor([[0.0], [1.0]], **F64)
    z = torch.tensor([[math.pi / 2], [math.pi]], **F64)
    pair = data.ellipse_family(2, x=x, z=z, noise=0.0)
    assert torch.equal(pair.x, x)
    expected = torch.tensor([[2.0, 0.0], [0.0, -2.0 * math.e**2]], **F64)
    torch.testing.assert_close(pair.y, expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("branches", [2, 3, 5])
def test_fork_is_one_road_then_several(branches):
    x = torch.linspace(0, 1, 101, **F64)[:, None]
    roads = data.fork_roads(x, branches=branches, split=0.25, spread=1.5)
    assert (roads[x[:, 0] <= 0.25] == 0).all()
    apart = roads.diff(dim=-1)
    assert (apart[x[:, 0] > 0.26] > 0).all()
    assert (apart.diff(dim=0) >= 0).all()
    torch.testing.assert_close(roads[-1], torch.linspace(-1.5, 1.5, branches, **F64))
    # Halfway between the split and the end a smooth step has done half of its way.
    half = data.fork_roads(torch.tensor([[0.625]], **F64), branches=branches)
    torch.testing.assert_close(half[0], torch.linspace(-0.5, 0.5, branches, **F64))


def test_fork_points_lie_on_their_road():
    labels = torch.arange(N) % 3
    x, y = data.fork(N, branches=3, labels=labels, noise=0.0, generator=seeded(), **F64)
    torch.testing.assert_close(y[:, 0], data.fork_roads(x, branches=3)[torch.arange(N), labels])


def test_fork_takes_roads_as_often_as_asked():
    x = torch.ones(N, 1, **F64)
    _, y = data.fork(N, x=x, noise=0.0, weights=(7, 3), generator=seeded())
    right = int((y > 0).sum())
    assert stats.binomtest(right, N, 0.3).pvalue > 1e-4


def test_fork_density_is_exact():
    # p(y | x) at one x: samples against the distribution function of the stated mixture.
    x = torch.full((N, 1), 0.9, **F64)
    _, y = data.fork(N, x=x, noise=0.2, weights=(1, 3), generator=seeded())
    left, right = data.fork_roads(x)[0].tolist()

    def cdf(value):
        return 0.25 * stats.norm.cdf(value, left, 0.2) + 0.75 * stats.norm.cdf(value, right, 0.2)

    assert stats.kstest(y.flatten().numpy(), cdf).pvalue > 1e-4
    found = data.mixture_log_density(y, data.fork_roads(x)[..., None], 0.2, weights=(1, 3))
    density = 0.25 * stats.norm.pdf(y[:, 0], left, 0.2) + 0.75 * stats.norm.pdf(y[:, 0], right, 0.2)
    torch.testing.assert_close(found.exp(), torch.from_numpy(density))


def test_the_average_of_the_futures_is_off_every_road():
    x, y = data.fork(N, x=torch.ones(N, 1, **F64), noise=0.03, generator=seeded())
    average = y.mean()
    assert (data.fork_roads(x)[0] - average).abs().min() > 0.9
    answers = torch.tensor([[average], [1.0]], **F64)
    off, on = data.mixture_log_density(answers, data.fork_roads(x[:2])[..., None], 0.03)
    assert on - off > 100


@pytest.mark.parametrize("draw", [data.ellipse_family, data.fork])
def test_seeds_noise_types_and_devices(draw):
    first, again, other = (draw(50, generator=seeded(s)) for s in (5, 5, 6))
    assert torch.equal(first.x, again.x)
    assert torch.equal(first.y, again.y)
    assert not torch.equal(first.y, other.y)
    clean, noisy = (draw(N, noise=s, generator=seeded(3), **F64) for s in (0.0, 0.25))
    assert torch.equal(clean.x, noisy.x)
    assert stats.kstest(((noisy.y - clean.y) / 0.25).flatten().numpy(), "norm").pvalue > 1e-4
    assert draw(4).y.dtype == torch.float32
    given = torch.zeros(4, 1, dtype=torch.float64, device="meta")
    for pair in (draw(4, device="meta", **F64), draw(4, x=given), draw(4, x=given, generator=seeded())):
        assert (pair.x.dtype, pair.x.device.type) == (torch.float64, "meta")
        assert (pair.y.dtype, pair.y.device.type) == (torch.float64, "meta")


def test_functions_of_x_broadcast_and_work_under_vmap():
    x = torch.rand(2, 3, 1, generator=seeded(), **F64)
    assert data.ellipse_radii(x).shape == (2, 3, 2)
    assert data.fork_roads(x, branches=4).shape == (2, 3, 4)
    torch.testing.assert_close(torch.func.vmap(data.ellipse_radii)(x), data.ellipse_radii(x))
    torch.testing.assert_close(torch.func.vmap(data.fork_roads)(x), data.fork_roads(x))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.ellipse_radii(torch.zeros(3)), r"x must have shape \(..., 1\)"),
        (lambda: data.ellipse_radii(torch.tensor([math.nan])), "x must be finite"),
        (lambda: data.ellipse_radii(torch.zeros(1), first=(1.0,)), "first must be two"),
        (lambda: data.ellipse_radii(torch.zeros(1), last=(1.0, 0.0)), r"last\[1\] must be"),
        (lambda: data.ellipse_radii(torch.zeros(1), growth=math.inf), "growth must be finite"),
        (lambda: data.ellipse_family(3, x=torch.zeros(3)), r"x must have shape \(3, 1\)"),
        (lambda: data.ellipse_family(3, z=torch.zeros(4, 1)), r"z must have shape \(3, 1\)"),
        (lambda: data.ellipse_family(0), "n must be"),
        (lambda: data.ellipse_family(3, noise=-1.0), "noise must be"),
        (lambda: data.fork_roads(torch.zeros(2)), r"x must have shape \(..., 1\)"),
        (lambda: data.fork_roads(torch.zeros(1), branches=1), "branches must be"),
        (lambda: data.fork_roads(torch.zeros(1), split=1.0), "split must lie"),
        (lambda: data.fork_roads(torch.zeros(1), spread=0.0), "spread must be"),
        (lambda: data.fork(0), "n must be"),
        (lambda: data.fork(3, labels=torch.tensor([0, 1, 2])), "labels must lie in 0..1"),
        (lambda: data.fork(3, weights=(1, 1, 1)), r"weights must have shape \(2,\)"),
        (lambda: data.fork(3, noise=math.nan), "noise must be"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
