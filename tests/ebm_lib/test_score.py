"""Score matching of continuous points against closed forms, quadrature and full Jacobians; the contract of all."""

import itertools
import math

import numpy as np
import pytest
import torch

from ebm_lib import score as sc
from ebm_lib.energy import grid
from ebm_lib.nn import MLP, EnergyMLP

F64 = torch.float64


def half_square(y):
    return y.square().sum(-1) / 2


def network(dim, seed=0):
    return EnergyMLP((dim,), (12, 12), generator=torch.Generator().manual_seed(seed), dtype=F64)


def points(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def hermite(dim, nodes=20):
    """Points and weights that integrate polynomials of degree 39 exactly under the standard normal in ``dim`` D."""
    x, w = (torch.tensor(a, dtype=F64) for a in np.polynomial.hermite_e.hermegauss(nodes))
    w = w / w.sum()
    at = torch.cartesian_prod(*[x] * dim).reshape(-1, dim)
    return at, torch.cartesian_prod(*[w] * dim).reshape(-1, dim).prod(-1)


# ---- the score


def test_the_score_of_a_gaussian_and_that_of_a_network_by_finite_differences():
    y = points(5, 3)
    mean = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
    precision = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 3.0]], dtype=F64)
    gaussian = lambda y: ((y - mean) @ precision * (y - mean)).sum(-1) / 2
    torch.testing.assert_close(sc.score(gaussian, y), -(y - mean) @ precision)
    energy, step = network(3), 1e-6
    by_hand = torch.stack([energy(y - step * e) - energy(y + step * e) for e in torch.eye(3).double()], -1) / (2 * step)
    torch.testing.assert_close(sc.score(energy, y), by_hand.detach(), rtol=1e-7, atol=1e-8)


def test_the_score_is_differentiable_in_y_and_in_the_parameters_and_works_without_a_graph():
    energy, y = network(2), points(3, 2).requires_grad_()
    (through_y,) = torch.autograd.grad(sc.score(energy, y)[:, 0].sum(), y)
    hessian = torch.func.vmap(torch.func.hessian(lambda y: energy(y)))(y.detach())
    torch.testing.assert_close(through_y, -hessian[:, 0])
    assert torch.autograd.grad(sc.score(energy, y).sum(), energy.linears[0].weight)[0].abs().sum() > 0
    with torch.no_grad():
        plain = sc.score(energy, y)
    assert not plain.requires_grad
    torch.testing.assert_close(plain, sc.score(energy, y).detach())
    scale = torch.tensor(2.0, dtype=F64)
    torch.testing.assert_close(sc.score(lambda y: scale * half_square(y), y.detach()), -2 * y.detach())


# ---- exact score matching


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_on_a_standard_normal_it_is_half_the_square_minus_d_and_minus_half_d_on_average(dim):
    y, weight = hermite(dim)
    value = sc.score_matching(half_square, y)
    torch.testing.assert_close(value, y.square().sum(-1) / 2 - dim)
    assert (weight * value).sum().item() == pytest.approx(-dim / 2, rel=1e-12)
    # any other width is worse, by half the squared distance of the scores: (a - 1)² d / 2
    for a in (0.5, 1.5, 3.0):
        other = (weight * sc.score_matching(lambda y, a=a: a * half_square(y), y)).sum().item()
        assert other == pytest.approx(-dim / 2 + dim * (a - 1) ** 2 / 2, rel=1e-12)


@pytest.mark.parametrize("dim", [1, 4])
def test_the_trace_equals_that_of_the_full_hessian_or_jacobian(dim):
    energy, y = network(dim), points(2, 3, dim)
    hessian = torch.func.vmap(torch.func.vmap(torch.func.hessian(lambda y: energy(y))))(y)
    gradient = torch.func.vmap(torch.func.vmap(torch.func.grad(lambda y: energy(y))))(y)
    trace = hessian.diagonal(dim1=-2, dim2=-1).sum(-1)
    torch.testing.assert_close(sc.score_matching(energy, y), gradient.square().sum(-1) / 2 - trace)
    field = MLP((dim, 9, dim), generator=torch.Generator().manual_seed(1), dtype=F64)  # not a gradient of anything
    jacobian = torch.func.vmap(torch.func.vmap(torch.func.jacrev(field)))(y)
    by_hand = field(y).square().sum(-1) / 2 + jacobian.diagonal(dim1=-2, dim2=-1).sum(-1)
    torch.testing.assert_close(sc.score_matching(field, y, field=True), by_hand)
    torch.testing.assert_close(
        sc.score_matching(lambda y: sc.score(energy, y), y, field=True), sc.score_matching(energy, y)
    )


def mixture_on_a_grid():
    """A density on a grid in the plane that vanishes at its border, and its score in closed form."""
    cells = grid([-9.0, -9.0], [9.0, 9.0], 240, dtype=F64)
    means = torch.tensor([[2.0, 0.0], [-1.0, 1.5], [0.0, -2.0]], dtype=F64)
    log_parts = -(cells.points[:, None] - means).square().sum(-1) / 2 + torch.tensor([0.2, 0.5, 0.3], dtype=F64).log()
    share = torch.softmax(log_parts, -1)
    score = (share[..., None] * (means - cells.points[:, None])).sum(1)
    density = log_parts.logsumexp(-1) - math.log(2 * math.pi)
    weight = torch.exp(density + cells.log_cell)
    assert weight.sum().item() == pytest.approx(1, abs=1e-9)
    return cells.points, weight, score


def test_it_is_explicit_score_matching_up_to_a_constant_of_the_data():
    y, weight, true = mixture_on_a_grid()
    constant = -(weight * true.square().sum(-1)).sum().item() / 2
    models = [network(2, seed=s) for s in range(3)] + [half_square, lambda y: y[..., 0].sin() + y[..., 1].square()]
    spread = []
    for energy in models:
        with torch.no_grad():
            implicit = (weight * sc.score_matching(energy, y)).sum().item()
            explicit = (weight * sc.explicit_score_matching(energy, y, true)).sum().item()
        assert implicit - explicit == pytest.approx(constant, abs=1e-9)
        spread.append(implicit)
    assert max(spread) - min(spread) > 0.1
    field = MLP((2, 8, 2), generator=torch.Generator().manual_seed(3), dtype=F64)
    with torch.no_grad():
        implicit = (weight * sc.score_matching(field, y, field=True)).sum().item()
        explicit = (weight * sc.explicit_score_matching(field, y, true, field=True)).sum().item()
    assert implicit - explicit == pytest.approx(constant, abs=1e-9)


def test_explicit_score_matching_by_hand():
    y, target = torch.tensor([[1.0, 2.0]], dtype=F64), torch.tensor([[0.0, -5.0]], dtype=F64)
    assert sc.explicit_score_matching(half_square, y, target).tolist() == [(1.0 + 9.0) / 2]


@pytest.mark.parametrize(
    "loss",
    [
        sc.score_matching,
        lambda f, y: sc.sliced_score_matching(f, y, points(2, *y.shape, seed=5)),
        lambda f, y: sc.sliced_score_matching(f, y, points(2, *y.shape, seed=5), variance_reduced=False),
        lambda f, y: sc.denoising_score_matching(f, y, 0.7, points(*y.shape, seed=6)),
        lambda f, y: sc.explicit_score_matching(f, y, points(*y.shape, seed=6)),
        lambda f, y: sc.ratio_matching(f, (y > 0).double()),
        lambda f, y: sc.minimum_probability_flow(f, (y > 0).double()),
    ],
)
def test_gradients_in_the_parameters_by_finite_differences(loss):
    energy, y = network(3), points(4, 3, seed=4)
    names, values = zip(*energy.named_parameters(), strict=True)

    def of_parameters(*values):
        with_them = lambda y: torch.func.functional_call(energy, dict(zip(names, values, strict=True)), (y,))
        return loss(with_them, y)

    leaves = [v.detach().clone().requires_grad_() for v in values]
    assert torch.autograd.gradcheck(of_parameters, leaves, fast_mode=True)
    total = torch.autograd.grad(of_parameters(*leaves).sum(), leaves[0])[0]
    loss(energy, y).sum().backward()  # the way a training loop does it
    torch.testing.assert_close(energy.linears[0].weight.grad, total)
    assert total.abs().max() > 1e-4


# ---- sliced


@pytest.mark.parametrize("field", [False, True])
@pytest.mark.parametrize("variance_reduced", [True, False])
def test_the_mean_over_all_sign_vectors_is_exact_score_matching(field, variance_reduced):
    model = MLP((3, 8, 3), generator=torch.Generator().manual_seed(2), dtype=F64) if field else network(3)
    y = points(5, 3)
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3)), dtype=F64)[:, None].expand(8, 5, 3)
    sliced = sc.sliced_score_matching(model, y, signs, variance_reduced=variance_reduced, field=field)
    torch.testing.assert_close(sliced, sc.score_matching(model, y, field=field))
    axes = math.sqrt(3) * torch.eye(3, dtype=F64)[:, None].expand(3, 5, 3)  # their covariance is the identity too
    sliced = sc.sliced_score_matching(model, y, axes, variance_reduced=variance_reduced, field=field)
    torch.testing.assert_close(sliced, sc.score_matching(model, y, field=field))


def test_one_projection_by_hand():
    a = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=F64)
    energy = lambda y: (y @ a * y).sum(-1) / 2
    y, v = torch.tensor([[1.0, -1.0]], dtype=F64), torch.tensor([[[3.0, 1.0]]], dtype=F64)
    gradient = y[0] @ a
    curvature = (v[0, 0] @ a @ v[0, 0]).item()
    reduced = sc.sliced_score_matching(energy, y, v).item()
    assert reduced == pytest.approx((gradient @ gradient).item() / 2 - curvature)
    plain = sc.sliced_score_matching(energy, y, v, variance_reduced=False).item()
    assert plain == pytest.approx((gradient @ v[0, 0]).item() ** 2 / 2 - curvature)


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
def test_drawn_projections_have_unit_covariance_and_an_unbiased_mean(distribution):
    field = lambda y: y @ matrix.T
    g = torch.Generator().manual_seed(7)
    matrix = torch.tensor([[1.0, 2.0], [-0.5, 0.3]], dtype=F64)
    y = torch.zeros(4000, 2, dtype=F64)
    seen = sc.sliced_score_matching(field, y, 3, distribution=distribution, field=True, generator=g)
    # At y = 0 the loss is the mean of v'Av over three directions: mean tr A; variance by hand for each distribution.
    symmetric = (matrix + matrix.T) / 2
    off, diagonal = symmetric[0, 1].item(), symmetric.diagonal()
    variance = 4 * off**2 + (2 * diagonal.square().sum().item() if distribution == "gaussian" else 0.0)
    error = math.sqrt(variance / 3 / 4000)
    assert abs(seen.mean().item() - 1.3) < 4 * error
    assert seen.var().item() == pytest.approx(variance / 3, rel=0.15)
    again = sc.sliced_score_matching(
        field, y, 3, distribution=distribution, field=True, generator=torch.Generator().manual_seed(7)
    )
    assert torch.equal(seen, again)


# ---- denoising


def test_denoising_by_hand_with_one_sigma_or_one_for_each_sample():
    y, noise = points(4, 2), points(4, 2, seed=1)
    for sigma in (0.3, 2.0):
        ours = sc.denoising_score_matching(half_square, y, sigma, noise)
        by_hand = (-(y + sigma * noise) + noise / sigma).square().sum(-1) / 2
        torch.testing.assert_close(ours, by_hand)
        each = sc.denoising_score_matching(half_square, y, torch.full((4,), sigma), noise)  # float32 sigma: y decides
        torch.testing.assert_close(each, by_hand, rtol=1e-6, atol=1e-6)
        assert each.dtype == F64
    wide = sc.denoising_score_matching(half_square, y.float(), torch.full((4,), 0.3, dtype=F64), noise.float())
    assert wide.dtype == torch.float32
    sigmas = torch.tensor([0.1, 0.5, 1.0, 4.0], dtype=F64)
    mixed = sc.denoising_score_matching(half_square, y, sigmas, noise)
    for i in range(4):
        one = sc.denoising_score_matching(half_square, y[i : i + 1], sigmas[i].item(), noise[i : i + 1])
        torch.testing.assert_close(mixed[i : i + 1], one)
    # times σ²: the convention of the noise-conditional score networks
    weighted = (sigmas[:, None] * sc.score(half_square, y + sigmas[:, None] * noise) + noise).square().sum(-1) / 2
    torch.testing.assert_close(sigmas.square() * mixed, weighted)


@pytest.mark.parametrize("sigma", [0.4, 1.5])
def test_denoising_on_a_gaussian_learns_the_score_of_the_smoothed_density(sigma):
    # y ~ N(0, λ), s(y) = -a y: the mean loss is ½ [a²λ + (σa - 1/σ)²], least at a = 1/(λ + σ²).
    nodes, weight = hermite(2, 12)
    lam = 2.5
    y, noise = nodes[:, :1] * math.sqrt(lam), nodes[:, 1:]

    def expected(a):
        return (weight * sc.denoising_score_matching(lambda y: a * half_square(y), y, sigma, noise)).sum()

    for a in (0.1, 0.7, 2.0):
        by_hand = (a**2 * lam + (sigma * a - 1 / sigma) ** 2) / 2
        assert expected(torch.tensor(a, dtype=F64)).item() == pytest.approx(by_hand, rel=1e-10)
    best = torch.tensor(1 / (lam + sigma**2), dtype=F64, requires_grad=True)
    slope, curve = torch.autograd.functional.jacobian(expected, best), torch.autograd.functional.hessian(expected, best)
    assert abs(slope.item()) < 1e-12
    assert curve.item() == pytest.approx(lam + sigma**2)
    # the data's own score would be a = 1/λ: not the optimum
    assert expected(torch.tensor(1 / lam, dtype=F64)) > expected(best)


def test_denoising_is_explicit_matching_of_the_smoothed_score_up_to_a_constant():
    data = torch.tensor([[-1.0], [0.2], [1.5]], dtype=F64)
    sigma = 0.6
    noise, weight = hermite(1, 60)
    noisy = (data[:, None] + sigma * noise).reshape(-1, 1)
    weights = weight.repeat(3) / 3
    share = torch.softmax(-(noisy - data.T).square() / (2 * sigma**2), -1)
    smoothed = ((share[..., None] * data).sum(1) - noisy) / sigma**2
    gaps = []
    for energy in (network(1, 1), network(1, 2), half_square):
        y = data[:, None].expand(3, 60, 1).reshape(-1, 1)
        denoising = (weights * sc.denoising_score_matching(energy, y, sigma, noise.repeat(3, 1))).sum().item()
        explicit = (weights * sc.explicit_score_matching(energy, noisy, smoothed)).sum().item()
        gaps.append(denoising - explicit)
    assert max(gaps) - min(gaps) < 1e-8
    assert gaps[0] > 0.1


def test_drawn_noise_is_standard_normal_and_repeatable():
    y = torch.zeros(20_000, 2, dtype=F64)
    nothing = lambda y: 0 * y
    ours = sc.denoising_score_matching(nothing, y, 0.5, field=True, generator=torch.Generator().manual_seed(0))
    # ½‖ε/σ‖² = 2‖ε‖², and ‖ε‖² is chi-square with two degrees of freedom: mean 2, variance 4
    assert ours.mean().item() == pytest.approx(4.0, abs=4 * math.sqrt(16 / 20_000))
    assert ours.var().item() == pytest.approx(16.0, rel=0.1)
    again = sc.denoising_score_matching(nothing, y, 0.5, field=True, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours, again)


# ---- the contract

Y, B = points(4, 3), (points(4, 3) > 0).double()
CALLS = {
    "score": (lambda y: sc.score(half_square, y), Y),
    "explicit_score_matching": (lambda y: sc.explicit_score_matching(half_square, y, -2 * y), Y),
    "score_matching": (lambda y: sc.score_matching(half_square, y), Y),
    "sliced_score_matching": (lambda y: sc.sliced_score_matching(half_square, y, torch.ones_like(y)[None]), Y),
    "denoising_score_matching": (lambda y: sc.denoising_score_matching(half_square, y, 0.5, torch.ones_like(y)), Y),
    "ratio_matching": (lambda y: sc.ratio_matching(half_square, y), B),
    "minimum_probability_flow": (lambda y: sc.minimum_probability_flow(half_square, y), B),
}
ALL = pytest.mark.parametrize(("call", "y"), CALLS.values(), ids=CALLS)


def test_every_public_function_is_held_to_the_contract():
    public = {
        n for n, f in vars(sc).items() if callable(f) and getattr(f, "__module__", "") == sc.__name__ and n[0] != "_"
    }
    assert set(CALLS) == public


@ALL
def test_device_and_dtype_follow_the_points(call, y):
    for dtype in (torch.float32, F64):
        meta = call(y.to("meta", dtype))
        assert (meta.device.type, meta.dtype) == ("meta", dtype)
        real = call(y.to(dtype))
        assert (real.dtype, real.shape) == (dtype, meta.shape)
        torch.testing.assert_close(real.double(), call(y), rtol=1e-4, atol=1e-5)


@ALL
def test_points_that_are_not_finite_or_not_floating_are_refused(call, y):
    for bad in (math.nan, math.inf):
        spoilt = y.clone()
        spoilt[1, 2] = bad
        with pytest.raises(ValueError, match="y must be finite"):
            call(spoilt)
    with pytest.raises(ValueError, match="y must be floating point, got torch.int64"):
        call(y.long())
    with pytest.raises(ValueError, match="at least one coordinate"):
        call(y[:, :0])


@ALL
def test_arguments_are_left_as_they_were_and_vmap_is_the_batch(call, y):
    copy = y.clone()
    result = call(copy)
    assert torch.equal(copy, y)
    assert copy._version == 0
    assert not copy.requires_grad
    torch.testing.assert_close(torch.func.vmap(call)(y), result)


def test_an_ensemble_trains_under_vmap_with_one_gradient_for_each_member():
    energy = network(2)
    y = points(5, 2)
    members = {n: torch.stack([p.detach(), p.detach() * 1.1]) for n, p in energy.named_parameters()}
    loss = lambda p: sc.score_matching(lambda y: torch.func.functional_call(energy, p, (y,)), y).mean()
    together = torch.func.vmap(torch.func.grad(loss))(members)
    for i in range(2):
        alone = torch.func.grad(loss)({n: p[i] for n, p in members.items()})
        for n in members:
            torch.testing.assert_close(together[n][i], alone[n])


def test_drawn_directions_and_noise_stay_on_the_points_device_whatever_the_generators():
    y, g = torch.empty(4, 2, device="meta"), torch.Generator().manual_seed(0)
    assert sc.sliced_score_matching(half_square, y, 2, generator=g).device.type == "meta"
    assert sc.denoising_score_matching(half_square, y, 0.1, generator=g).device.type == "meta"
    assert sc.sliced_score_matching(half_square, y).device.type == "meta"


y2 = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sc.score(half_square, torch.tensor(1.0)), "at least one coordinate, got shape"),
        (lambda: sc.score(lambda y: y, y2), "one number per sample"),
        (lambda: sc.score(lambda y: y.sum(-1).detach(), y2), "it has no gradient"),
        (lambda: sc.score(lambda y: y.sum(-1) + math.inf, y2), "energy must be finite: 2 of 2"),
        (lambda: sc.score(lambda y: y.sum(-1).sqrt(), y2), "score must be finite: 6 of 6"),
        (lambda: sc.score_matching(lambda y: y[..., :2], y2, field=True), r"vector per point, \(2, 3\), got \(2, 2\)"),
        (lambda: sc.score_matching(lambda y: y / 0, y2, field=True), "field must be finite"),
        (lambda: sc.explicit_score_matching(half_square, y2, y2[:1]), r"shape of y, \(2, 3\), got \(1, 3\)"),
        (lambda: sc.explicit_score_matching(half_square, y2, y2 + math.nan), "target must be finite"),
        (lambda: sc.sliced_score_matching(half_square, y2, 0), "projections must be a whole number of at least 1"),
        (lambda: sc.sliced_score_matching(half_square, y2, y2), r"projections must be \(M, ..., D\) = \(M, 2, 3\)"),
        (lambda: sc.sliced_score_matching(half_square, y2, torch.zeros(0, 2, 3)), r"got \(0, 2, 3\)"),
        (lambda: sc.sliced_score_matching(half_square, y2, y2[None] + math.nan), "projections must be finite"),
        (lambda: sc.sliced_score_matching(half_square, y2, distribution="sphere"), "one of gaussian, rademacher"),
        (lambda: sc.denoising_score_matching(half_square, y2, 0.0), "sigma must be a positive number, got 0"),
        (lambda: sc.denoising_score_matching(half_square, y2, math.inf), "sigma must be a positive finite number"),
        (lambda: sc.denoising_score_matching(half_square, y2, torch.ones(3)), r"per sample, \(2,\), got \(3,\)"),
        (lambda: sc.denoising_score_matching(half_square, y2, torch.tensor([1.0, -1.0])), "the lowest is -1"),
        (lambda: sc.denoising_score_matching(half_square, y2, torch.tensor([1.0, math.nan])), "sigma must be finite"),
        (lambda: sc.denoising_score_matching(half_square, y2, 1.0, y2[0]), r"shape of y, \(2, 3\), got \(3,\)"),
        (lambda: sc.denoising_score_matching(half_square, y2, 1.0, y2 + math.inf), "noise must be finite"),
        (lambda: sc.ratio_matching(half_square, y2 + 0.5), "zeros and ones, got values from 0.5 to 0.5"),
        (
            lambda: sc.ratio_matching(half_square, torch.tensor([[0.0, 0.5]])),
            "zeros and ones, got values from 0 to 0.5",
        ),
        (lambda: sc.minimum_probability_flow(half_square, y2 - 1), "zeros and ones, got values from -1 to -1"),
        (lambda: sc.ratio_matching(lambda y: y, y2), "one number per sample"),
        (lambda: sc.ratio_matching(lambda y: y.sum(-1) + math.inf, y2), "energy of the data must be finite"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call()
