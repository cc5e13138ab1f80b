"""Toy sets against the equations and densities that define them."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from sklearn import datasets

from ebm_lib import data

N = 4000
F64 = {"dtype": torch.float64}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def angles_match(found, expected, atol):
    """Compare angles on the circle, where 2π and 0 are the same place."""
    apart = (found - expected + math.pi).remainder(2 * math.pi) - math.pi
    return apart.abs().max() < atol


# Each noise-free set satisfies its equation.


@pytest.mark.parametrize("radii", [(2.0, 1.0), (0.3, 5.0)])
def test_ellipse_satisfies_its_equation_and_covers_all_angles(radii):
    y = data.ellipse(N, radii=radii, noise=0.0, generator=seeded(), **F64)
    scaled = y / torch.tensor(radii, **F64)
    torch.testing.assert_close(scaled.square().sum(-1), torch.ones(N, **F64))
    angle = torch.atan2(scaled[:, 0], scaled[:, 1]).remainder(2 * math.pi)
    assert stats.kstest((angle / (2 * math.pi)).numpy(), "uniform").pvalue > 1e-4


def test_ellipse_takes_given_angles_sine_first():
    z = torch.tensor([[0.0], [math.pi / 2], [math.pi]], **F64)
    y = data.ellipse(3, radii=(3.0, 1.0), noise=0.0, z=z)
    torch.testing.assert_close(y, torch.tensor([[0.0, 1.0], [3.0, 0.0], [0.0, -1.0]], **F64), atol=1e-12, rtol=0)
    assert y.dtype == torch.float64


def test_two_moons_lie_where_scikit_learn_puts_them():
    labels = torch.arange(N) % 2
    y = data.two_moons(N, noise=0.0, labels=labels, generator=seeded(), **F64).numpy()
    theirs, their_labels = datasets.make_moons(20_000, noise=0.0, shuffle=False)
    for moon in (0, 1):
        a, b = y[labels == moon], theirs[their_labels == moon]
        nearest = np.sqrt(((a[:, None] - b[None, ::10]) ** 2).sum(-1)).min(1)
        assert nearest.max() < 2 * math.pi / 1000  # no farther than the spacing of theirs
    assert (y[labels == 0, 1] >= 0).all()
    assert (y[labels == 1, 1] <= 0.5).all()


@pytest.mark.parametrize(("arms", "turns", "radius"), [(2, 1.5, 2.0), (1, 3.0, 1.0), (5, 0.5, 4.0)])
def test_spiral_angle_grows_with_radius(arms, turns, radius):
    labels = torch.arange(N) % arms
    y = data.spiral(N, arms=arms, turns=turns, radius=radius, noise=0.0, labels=labels, generator=seeded(), **F64)
    t = y.norm(dim=-1) / radius
    assert t.max() < 1
    assert angles_match(torch.atan2(y[:, 1], y[:, 0]), 2 * math.pi * (turns * t + labels.double() / arms), 1e-9)
    assert stats.kstest(t.square().numpy(), "uniform").pvalue > 1e-4


def test_swiss_roll_is_scikit_learns_scaled():
    y = data.swiss_roll(N, radius=3.0, noise=0.0, generator=seeded(), **F64)
    theirs, t = datasets.make_swiss_roll(N, noise=0.0, random_state=0)
    scale = 3.0 / (4.5 * math.pi)
    np.testing.assert_allclose(scale * np.linalg.norm(theirs[:, [0, 2]], axis=1), scale * t)  # their radius is t
    ours = y.norm(dim=-1) / scale
    assert angles_match(torch.atan2(y[:, 1], y[:, 0]), ours, 1e-9)
    assert stats.ks_2samp(ours.numpy(), t).pvalue > 1e-4


def test_rings_have_their_radii():
    labels = torch.arange(N) % 3
    y = data.rings(N, radii=(0.5, 1.0, 3.0), noise=0.0, labels=labels, generator=seeded(), **F64)
    torch.testing.assert_close(y.norm(dim=-1), torch.tensor([0.5, 1.0, 3.0], **F64)[labels])


def test_pinwheel_arms_bend_as_stated():
    labels = torch.arange(N) % 5
    y = data.pinwheel(N, arms=5, twist=0.7, length=0.2, noise=0.0, labels=labels, generator=seeded(), **F64)
    f = y.norm(dim=-1) / 2  # with this length, f < 0 would be five standard deviations away
    assert angles_match(torch.atan2(y[:, 1], y[:, 0]), 2 * math.pi / 5 * labels.double() + 0.7 * f.exp(), 1e-9)
    assert stats.kstest(f.numpy(), "norm", args=(1.0, 0.2)).pvalue > 1e-4


@pytest.mark.parametrize(("cells", "half_width"), [(2, 1.0), (4, 2.0), (6, 0.7)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_checkerboard_fills_the_dark_cells_evenly_and_no_other(cells, half_width, dtype):
    y = data.checkerboard(20_000, cells=cells, half_width=half_width, generator=seeded(), dtype=dtype)
    col, row = ((y.double() + half_width) * cells / (2 * half_width)).floor().long().unbind(-1)
    counts = torch.zeros(cells, cells).index_put_((col, row), torch.ones(20_000), accumulate=True)
    dark = (torch.arange(cells)[:, None] + torch.arange(cells)) % 2 == 0
    assert (counts[~dark] == 0).all()
    assert stats.chisquare(counts[dark].numpy()).pvalue > 1e-4
    if dtype == torch.float64:
        inside = ((y + half_width) * cells / (2 * half_width)).frac()
        assert stats.kstest(inside.flatten().numpy(), "uniform").pvalue > 1e-4


def test_checkerboard_edges_never_round_into_a_light_cell():
    # A generator of the extreme draws is not to be had: a quarter of a million float16 draws hit every edge.
    y = data.checkerboard(250_000, half_width=1.0, generator=seeded(), dtype=torch.float16)
    assert data.checkerboard_log_density(y.double(), half_width=1.0).isfinite().all()


# Labels and mixtures.

PARTS = [
    ("two_moons", 2, {}),
    ("spiral", 3, {"arms": 3}),
    ("rings", 4, {"radii": (1.0, 2.0, 3.0, 4.0)}),
    ("pinwheel", 5, {}),
    ("ring_of_gaussians", 6, {"components": 6}),
    ("grid_of_gaussians", 9, {"side": 3}),
]


def nearest_part(name, y, parts, options):
    """Tell by geometry, from noise-free points, which part each came from."""
    if name == "two_moons":
        return ((y.norm(dim=-1) - 1).abs() > 1e-9).long()
    if name == "rings":
        return y.norm(dim=-1).round().long() - 1
    angle = torch.atan2(y[:, 1], y[:, 0])
    if name == "spiral":
        return ((angle / (2 * math.pi) - 1.5 * y.norm(dim=-1) / 2) * parts).round().long() % parts
    if name == "pinwheel":
        return ((angle - 0.25 * (y.norm(dim=-1) / 2).exp()) * parts / (2 * math.pi)).round().long() % parts
    means = data.ring_means(6, **F64) if name == "ring_of_gaussians" else data.grid_means(3, **F64)
    return torch.cdist(y, means).argmin(-1)


@pytest.mark.parametrize(("name", "parts", "options"), PARTS)
def test_parts_are_equally_likely_and_labels_choose_them(name, parts, options):
    y = data.toy(name, N, noise=0.0, generator=seeded(), **F64, **options)
    counts = torch.bincount(nearest_part(name, y, parts, options), minlength=parts)
    assert counts.sum() == N
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4
    labels = torch.randint(parts, (N,), generator=seeded(1))
    y = data.toy(name, N, noise=0.0, labels=labels, generator=seeded(2), **F64, **options)
    assert (nearest_part(name, y, parts, options) == labels).float().mean() > 0.999  # an f < 0 crosses the pinwheel


def test_ring_and_grid_means():
    ring = data.ring_means(8, 2.0, **F64)
    torch.testing.assert_close(ring.norm(dim=-1), torch.full((8,), 2.0, **F64))
    neighbours = (ring - ring.roll(1, 0)).norm(dim=-1)
    torch.testing.assert_close(neighbours, torch.full((8,), 4 * math.sin(math.pi / 8), **F64))
    grid = data.grid_means(5, 0.5, **F64)
    torch.testing.assert_close(grid.mean(0), torch.zeros(2, **F64))
    nearest = torch.cdist(grid, grid).fill_diagonal_(math.inf).min(-1).values
    torch.testing.assert_close(nearest, torch.full((25,), 0.5, **F64))
    assert grid.max() == 1.0


def test_mixture_moments_match_their_closed_form():
    means = torch.tensor([[0.0, 0.0, 1.0], [4.0, 0.0, 0.0], [0.0, -2.0, 0.0]], **F64)
    spreads = torch.tensor([0.1, 0.5, 1.0], **F64)
    w = torch.tensor([0.5, 0.3, 0.2], **F64)
    n = 200_000
    y = data.gaussian_mixture(n, means, noise=spreads, weights=[5, 3, 2], generator=seeded())
    mean = w @ means
    centred = means - mean
    cov = (w[:, None] * centred).T @ centred + (w @ spreads.square()) * torch.eye(3, **F64)
    # Five standard errors: of a mean, sqrt(var / n); of a covariance, about sqrt(2 * 4th moment / n).
    assert ((y.mean(0) - mean).abs() < 5 * (cov.diagonal() / n).sqrt()).all()
    products = (y - mean)[:, :, None] * (y - mean)[:, None]
    assert ((products.mean(0) - cov).abs() < 5 * products.std(0) / math.sqrt(n)).all()


def test_mixture_noise_is_gaussian_around_the_chosen_mean():
    means = torch.tensor([[10.0, -10.0], [3.0, 3.0]], **F64)
    labels = torch.arange(N) % 2
    y = data.gaussian_mixture(N, means, noise=0.3, labels=labels, generator=seeded())
    assert stats.kstest(((y - means[labels]) / 0.3).flatten().numpy(), "norm").pvalue > 1e-4


# Densities.


def test_mixture_log_density_is_scipys():
    rng = np.random.default_rng(0)
    means, spreads, w = rng.normal(size=(4, 3)), rng.uniform(0.2, 2.0, 4), rng.dirichlet(np.ones(4))
    y = rng.normal(size=(50, 3))
    expected = np.log(
        sum(w[k] * stats.multivariate_normal(means[k], spreads[k] ** 2 * np.eye(3)).pdf(y) for k in range(4))
    )
    found = data.mixture_log_density(
        torch.from_numpy(y), torch.from_numpy(means), torch.from_numpy(spreads), weights=3 * w
    )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_mixture_log_density_survives_where_the_density_underflows():
    far = torch.tensor([[100.0, 0.0]], **F64)
    found = data.mixture_log_density(far, torch.zeros(1, 2, **F64), 0.1)
    expected = -(100.0**2) / (2 * 0.01) - math.log(2 * math.pi * 0.01)
    assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("noise", [0.05, 0.5, 3.0])
def test_rings_log_density_is_the_integral_over_the_angle(noise):
    radii = (1.0, 2.0)
    for point in ([0.0, 0.0], [0.9, 0.1], [-1.5, 1.5], [0.0, -2.0]):

        def integrand(z, r, point=point):
            apart = (point[0] - r * math.cos(z)) ** 2 + (point[1] - r * math.sin(z)) ** 2
            return math.exp(-apart / (2 * noise**2)) / (2 * math.pi * noise**2) / (2 * math.pi)

        middle = math.atan2(point[1], point[0])
        total = sum(
            integrate.quad(integrand, middle - math.pi, middle + math.pi, args=(r,), points=[middle], limit=500)[0]
            for r in radii
        )
        found = data.rings_log_density(torch.tensor(point, **F64), radii=radii, noise=noise)
        assert found.exp().item() == pytest.approx(total / 2, rel=1e-6)


def test_rings_log_density_has_a_gradient_everywhere_and_points_to_the_ring():
    y = torch.tensor([[0.0, 0.0], [0.5, 0.0], [3.0, 0.0]], **F64, requires_grad=True)
    (grad,) = torch.autograd.grad(data.rings_log_density(y, radii=(1.0,), noise=0.01).sum(), y)
    assert grad.isfinite().all()
    assert grad[0].abs().max() == 0
    assert grad[1, 0] > 0 > grad[2, 0]


@pytest.mark.parametrize(
    ("sample", "log_density", "low", "high"),
    [
        (
            lambda n, g: data.ring_of_gaussians(n, components=5, noise=0.3, generator=g, **F64),
            lambda y: data.mixture_log_density(y, data.ring_means(5, 2.0, **F64), 0.3),
            -4.0,
            4.0,
        ),
        (
            lambda n, g: data.grid_of_gaussians(n, side=3, noise=0.2, generator=g, **F64),
            lambda y: data.mixture_log_density(y, data.grid_means(3, 1.0, **F64), 0.2),
            -3.0,
            3.0,
        ),
        (
            lambda n, g: data.rings(n, radii=(1.0, 2.0), noise=0.2, generator=g, **F64),
            lambda y: data.rings_log_density(y, radii=(1.0, 2.0), noise=0.2),
            -4.0,
            4.0,
        ),
        (
            lambda n, g: data.checkerboard(n, cells=4, half_width=2.0, generator=g, **F64),
            lambda y: data.checkerboard_log_density(y, cells=4, half_width=2.0),
            -2.0,
            2.0,
        ),
    ],
    ids=["ring of Gaussians", "grid of Gaussians", "rings", "checkerboard"],
)
def test_densities_integrate_to_one_and_describe_the_samples(sample, log_density, low, high):
    cells, fine = 8, 40  # midpoints in 8 × 8 squares of 40 × 40 points each
    line = low + (torch.arange(cells * fine, **F64) + 0.5) * (high - low) / (cells * fine)
    p = log_density(torch.cartesian_prod(line, line)).exp() * ((high - low) / (cells * fine)) ** 2
    assert p.sum().item() == pytest.approx(1.0, abs=1e-4)
    mass = p.reshape(cells, fine, cells, fine).sum((1, 3)).flatten()
    n = 50_000
    square = ((sample(n, seeded()) - low) / (high - low) * cells).floor().long()
    counts = torch.bincount(cells * square[:, 0] + square[:, 1], minlength=cells**2).double()
    likely = mass > 10 / n  # chi-square needs a few expected counts in each
    assert counts[~likely].sum() < 10 + 5 * mass[~likely].sum() * n
    expected = mass[likely] / mass[likely].sum() * counts[likely].sum()
    assert stats.chisquare(counts[likely].numpy(), expected.numpy()).pvalue > 1e-4


# Noise, seeds, devices, types.


@pytest.mark.parametrize("name", data.TOY_NAMES)
def test_noise_is_added_last_with_the_standard_deviation_asked_for(name):
    if name in ("ring_of_gaussians", "grid_of_gaussians"):
        labels = torch.zeros(N, dtype=torch.long)
        clean, noisy = (data.toy(name, N, noise=s, labels=labels, generator=seeded(3), **F64) for s in (0.0, 0.25))
    else:
        clean, noisy = (data.toy(name, N, noise=s, generator=seeded(3), **F64) for s in (0.0, 0.25))
    assert stats.kstest(((noisy - clean) / 0.25).flatten().numpy(), "norm").pvalue > 1e-4


@pytest.mark.parametrize("name", data.TOY_NAMES)
def test_same_seed_same_points_other_seed_other_points(name):
    first, again, other = (data.toy(name, 50, generator=seeded(s)) for s in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", data.TOY_NAMES)
def test_no_global_seed_is_touched(name):
    before = torch.get_rng_state()
    data.toy(name, 10, generator=seeded())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", data.TOY_NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_dtype_and_device(name, dtype):
    y = data.toy(name, 7, dtype=dtype)
    assert (y.shape, y.dtype, y.device.type) == ((7, 2), dtype, "cpu")
    assert y.isfinite().all()
    for generator in (None, seeded()):
        meta = data.toy(name, 7, dtype=dtype, device="meta", generator=generator)
        assert (meta.shape, meta.dtype, meta.device.type) == ((7, 2), dtype, "meta")


def test_default_dtype_is_torchs():
    assert data.rings(3).dtype == torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        assert data.rings(3).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("name", "parts", "options"), PARTS)
def test_device_follows_the_labels(name, parts, options):
    labels = torch.zeros(4, dtype=torch.long, device="meta")
    assert data.toy(name, 4, labels=labels, **options).device.type == "meta"


def test_mixture_follows_its_means():
    y = data.gaussian_mixture(4, torch.zeros(2, 3, dtype=torch.float64, device="meta"))
    assert (y.shape, y.dtype, y.device.type) == ((4, 3), torch.float64, "meta")


@pytest.mark.parametrize(
    "log_density",
    [
        lambda y: data.mixture_log_density(y, data.ring_means(4, dtype=y.dtype, device=y.device), 0.5),
        lambda y: data.rings_log_density(y, noise=0.5),
        data.checkerboard_log_density,
    ],
)
def test_densities_follow_shape_dtype_device_and_vmap(log_density):
    y = torch.randn(3, 5, 2, generator=seeded(), **F64)
    found = log_density(y)
    assert (found.shape, found.dtype) == ((3, 5), torch.float64)
    assert log_density(y.float()).dtype == torch.float32
    assert log_density(y.to("meta")).shape == (3, 5)
    torch.testing.assert_close(torch.func.vmap(log_density)(y), found)


# Refusals.


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="three_moons") as caught:
        data.toy("three_moons", 10)
    assert all(name in str(caught.value) for name in data.TOY_NAMES)


@pytest.mark.parametrize("name", data.TOY_NAMES)
def test_every_set_refuses_bad_counts_noise_and_dtypes(name):
    for n in (0, -3):
        with pytest.raises(ValueError, match="n must be"):
            data.toy(name, n)
    for noise in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="noise must be"):
            data.toy(name, 5, noise=noise)
    with pytest.raises(TypeError, match="noise must be a number"):
        data.toy(name, 5, noise="much")
    with pytest.raises(ValueError, match="dtype must be"):
        data.toy(name, 5, dtype=torch.int64)


@pytest.mark.parametrize(("name", "parts", "options"), PARTS)
def test_labels_are_checked(name, parts, options):
    for labels in (torch.zeros(4, dtype=torch.long), torch.zeros(5, 1, dtype=torch.long)):
        with pytest.raises(ValueError, match=r"labels must have shape \(5,\)"):
            data.toy(name, 5, labels=labels, **options)
    with pytest.raises(ValueError, match="labels must be whole numbers"):
        data.toy(name, 5, labels=torch.zeros(5), **options)
    for bad in (-1, parts):
        with pytest.raises(ValueError, match=rf"labels must lie in 0..{parts - 1}"):
            data.toy(name, 5, labels=torch.full((5,), bad), **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.ellipse(5, radii=(1.0,)), "radii must be two"),
        (lambda: data.ellipse(5, radii=(1.0, -1.0)), r"radii\[1\] must be"),
        (lambda: data.ellipse(5, z=torch.zeros(5)), r"z must have shape \(5, 1\)"),
        (lambda: data.ellipse(1, z=torch.tensor([[math.nan]])), "z must be finite"),
        (lambda: data.spiral(5, arms=0), "arms must be"),
        (lambda: data.spiral(5, turns=0), "turns must be"),
        (lambda: data.spiral(5, radius=-1), "radius must be"),
        (lambda: data.swiss_roll(5, radius=0.0), "radius must be"),
        (lambda: data.checkerboard(5, cells=3), "cells must be even"),
        (lambda: data.checkerboard(5, half_width=0), "half_width must be"),
        (lambda: data.checkerboard_log_density(torch.zeros(2), cells=5), "cells must be even"),
        (lambda: data.checkerboard_log_density(torch.zeros(3)), r"y must have shape \(..., 2\)"),
        (lambda: data.rings(5, radii=()), "at least one circle"),
        (lambda: data.rings(5, radii=(1.0, 0.0)), r"radii\[1\] must be"),
        (lambda: data.rings_log_density(torch.zeros(2), noise=0.0), "noise must be"),
        (lambda: data.rings_log_density(torch.tensor([0.0, math.inf])), "y must be finite"),
        (lambda: data.pinwheel(5, length=0.0), "length must be"),
        (lambda: data.pinwheel(5, twist=math.nan), "twist must be"),
        (lambda: data.ring_means(0), "components must be"),
        (lambda: data.grid_means(2, 0.0), "spacing must be"),
        (lambda: data.gaussian_mixture(5, torch.zeros(2)), r"means must have shape \(K, D\)"),
        (lambda: data.gaussian_mixture(5, torch.zeros(0, 2)), "means must have at least one"),
        (lambda: data.gaussian_mixture(5, torch.full((1, 2), math.nan)), "means must be finite"),
        (lambda: data.gaussian_mixture(5, torch.zeros(2, 2), weights=[1.0]), r"weights must have shape \(2,\)"),
        (lambda: data.gaussian_mixture(5, torch.zeros(2, 2), weights=[1.0, -1.0]), "weights must be at least 0"),
        (lambda: data.gaussian_mixture(5, torch.zeros(2, 2), weights=[0.0, 0.0]), "weights must be at least 0"),
        (lambda: data.gaussian_mixture(5, torch.zeros(2, 2), noise=torch.zeros(3)), "noise must be a number or"),
        (lambda: data.gaussian_mixture(5, torch.zeros(1, 2), noise=torch.tensor([-1.0])), "noise must be at least 0"),
        (lambda: data.mixture_log_density(torch.zeros(2), torch.zeros(1, 3), 1.0), "means must have shape"),
        (lambda: data.mixture_log_density(torch.zeros(2), torch.zeros(1, 2), 0.0), "noise must be"),
        (lambda: data.mixture_log_density(torch.zeros(2), torch.zeros(1, 2), torch.zeros(1)), "noise must be positive"),
        (lambda: data.mixture_log_density(torch.zeros(2), torch.zeros(1, 2), torch.ones(2)), "noise must be a number"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
