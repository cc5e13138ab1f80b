"""What representations pay for carrying little information, against formulas written out."""

import functools
import math

import pytest
import torch

from ebm_lib import joint
from ebm_lib.jepa import gaussianity, variance_covariance

F64 = torch.float64
EPS = 1e-4  # VICReg's, under the root


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def z(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def close(found, expected, tolerance=1e-12):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), rtol=tolerance, atol=tolerance)


def written_out(s, mu, nu, gamma):
    """VICReg's equations, in plain Python."""
    rows = s.tolist()
    N, D = len(rows), len(rows[0])
    mean = [sum(row[j] for row in rows) / N for j in range(D)]
    C = [[sum((r[i] - mean[i]) * (r[j] - mean[j]) for r in rows) / (N - 1) for j in range(D)] for i in range(D)]
    v = sum(max(0.0, gamma - math.sqrt(C[j][j] + EPS)) for j in range(D)) / D
    c = sum(C[i][j] ** 2 for i in range(D) for j in range(D) if i != j) / D
    return mu / 2 * v + nu * c


def axes(N=40, D=3):
    """Variables of mean 0, variance 1 (over N − 1) and no correlation."""
    q = torch.linalg.qr(torch.cat([torch.ones(N, 1, dtype=F64), z(N, D)], 1)).Q[:, 1:]
    return q * (N - 1) ** 0.5


# ---- variance and covariance


@pytest.mark.parametrize("shape", [(7, 3), (3, 5), (2, 1)])  # more samples than variables, and fewer
@pytest.mark.parametrize(("mu", "nu", "gamma"), [(1.0, 0.04, 1.0), (3.0, 0.7, 2.0), (0.0, 1.0, 1.0), (2.0, 0.0, 0.5)])
def test_variance_and_covariance_by_the_equations(shape, mu, nu, gamma):
    s = 0.6 * z(*shape)
    close(variance_covariance(s, variance=mu, covariance=nu, gamma=gamma), written_out(s, mu, nu, gamma))


def test_the_weights_are_vicregs_unless_others_are_given():
    s = 0.6 * z(9, 4)
    close(variance_covariance(s), written_out(s, 1.0, 0.04, 1.0))
    close(variance_covariance(s), (joint.vicreg(s, s).loss / 50).item())


@pytest.mark.parametrize(("invariance", "variance", "covariance"), [(25.0, 25.0, 1.0), (10.0, 4.0, 3.0)])
def test_both_branches_and_the_prediction_are_vicreg(invariance, variance, covariance):
    a, b = 0.6 * z(9, 4, seed=1), 0.6 * z(9, 4, seed=2)
    mine = sum(variance_covariance(s, variance=variance / invariance, covariance=covariance / invariance)
               for s in (a, b)) + (a - b).square().mean()  # fmt: skip
    theirs = joint.vicreg(a, b, invariance=invariance, variance=variance, covariance=covariance).loss
    close(invariance * mine, theirs.item())


@pytest.mark.parametrize("gamma", [1.0, 3.0])
def test_what_a_collapsed_batch_pays(gamma):
    """μ/2 (γ − √ε): all of the variance term, and nothing of the covariance, which it cannot tell from perfection."""
    collapsed = z(1, 6).expand(20, 6)
    close(variance_covariance(collapsed, variance=2.0, covariance=5.0, gamma=gamma), gamma - EPS**0.5, 1e-9)
    close(variance_covariance(collapsed), 0.495, 1e-9)


def test_a_batch_that_lies_along_a_line_pays_by_the_covariance():
    line = axes(D=1).expand(-1, 4)  # every variance is 1, every correlation too: 12 squares of 1, by 4 dimensions
    close(variance_covariance(line, covariance=0.5), 1.5)


def test_spread_and_uncorrelated_variables_pay_nothing():
    close(variance_covariance(axes()), 0.0)
    close(variance_covariance(5 * axes() + 3), 0.0)
    assert variance_covariance(0.5 * axes()) > 0.1


def test_mean_signs_and_orders_carry_no_information():
    s = 0.6 * z(9, 4)
    for moved in (s + z(1, 4, seed=3), -s, s * torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=F64),
                  s[torch.randperm(9, generator=seeded(4))], s[:, torch.tensor([2, 0, 3, 1])]):  # fmt: skip
        close(variance_covariance(moved), variance_covariance(s).item())


def test_its_gradient_drives_a_narrow_batch_apart():
    s = (0.01 * z(20, 3)).requires_grad_()
    slope = torch.autograd.grad(variance_covariance(s), s)[0]
    assert variance_covariance((s - 0.1 * slope).detach()) < variance_covariance(s)
    assert (joint.spread((s - 0.1 * slope).detach()) > joint.spread(s.detach())).all()


# ---- gaussianity


def epps_pulley(x, knots=17, t_max=3.0):
    """The statistic by the trapezoidal rule, in plain Python."""
    values, step, total = x.tolist(), t_max / (knots - 1), 0.0
    for k in range(knots):
        t, phi = k * step, math.exp(-((k * step) ** 2) / 2)
        real = sum(math.cos(t * v) for v in values) / len(values) - phi
        imaginary = sum(math.sin(t * v) for v in values) / len(values)
        total += (0.5 if k in (0, knots - 1) else 1.0) * (real**2 + imaginary**2) * phi
    return len(values) * 2 * step * total


@pytest.mark.parametrize("weight", [0.05, 0.3, 2.0])
def test_in_one_dimension_gaussianity_is_the_statistic_itself(weight):
    s = 0.7 * z(12, 1) + 0.2
    close(gaussianity(s, weight=weight, generator=seeded(1)), weight * epps_pulley(s[:, 0]))


@pytest.mark.parametrize("options", [{}, {"weight": 0.4}, {"slices": 3}, {"weight": 0.01, "slices": 40}])
def test_gaussianity_is_sigreg_along_directions_of_the_generator(options):
    s = z(12, 5)
    weight, slices = options.get("weight", 0.05), options.get("slices", 256)
    theirs = joint.sigreg(s, slices=slices, generator=seeded(7))
    close(gaussianity(s, **options, generator=seeded(7)), weight * theirs.item())


def test_a_collapsed_batch_pays_in_proportion_to_its_size():
    for N in (10, 40):
        expected = 0.05 * epps_pulley(torch.zeros(N))
        close(gaussianity(torch.zeros(N, 4, dtype=F64), generator=seeded()), expected)
    assert gaussianity(z(2000, 4), generator=seeded()) < 0.05 * 5


def test_its_gradient_drives_a_collapsed_batch_apart():
    s = (0.01 * z(20, 3)).requires_grad_()
    slope = torch.autograd.grad(gaussianity(s, generator=seeded(2)), s)[0]
    moved = (s - 0.1 * slope).detach()
    assert gaussianity(moved, generator=seeded(2)) < gaussianity(s, generator=seeded(2))
    assert (joint.spread(moved) > joint.spread(s.detach())).all()


# ---- what both keep

TERMS = {
    "variance_covariance": variance_covariance,
    "gaussianity": functools.partial(gaussianity, slices=8),
    "weighted": functools.partial(variance_covariance, variance=0.3, covariance=2.0),
}
EACH = pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)


@EACH
@pytest.mark.parametrize("D", [1, 3])
def test_a_term_is_a_scalar_of_the_representations_kind(term, D):
    for dtype in (torch.float32, F64):
        s = z(6, D).to(dtype)
        real, meta = term(s, generator=seeded()), term(s.to("meta"), generator=seeded())
        assert (real.dtype, real.shape) == (dtype, ())
        assert (meta.device.type, meta.dtype, meta.shape) == ("meta", dtype, ())
        if D == 1:  # along a line there is one direction only, whatever is drawn
            torch.testing.assert_close(real.to(F64), term(z(6, 1), generator=seeded()), rtol=1e-4, atol=1e-5)


@EACH
def test_its_gradient_by_finite_differences(term):
    s = (0.5 * z(5, 3)).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: term(s, generator=seeded()), s)


@EACH
def test_all_chance_is_the_generators(term):
    s, before = z(6, 3), torch.get_rng_state()
    assert torch.equal(term(s, generator=seeded(1)), term(s, generator=seeded(1)))
    assert torch.equal(before, torch.get_rng_state())
    draws = {term(s, generator=seeded(seed)).item() for seed in range(4)}
    assert len(draws) == (4 if term is TERMS["gaussianity"] else 1)


def test_variance_and_covariance_draw_nothing():
    generator = seeded(3)
    before = generator.get_state()
    variance_covariance(z(6, 3), generator=generator)
    assert torch.equal(before, generator.get_state())


@EACH
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_no_numbers_are_refused(term, bad):
    s = z(6, 3)
    s[4, 1] = bad
    with pytest.raises(ValueError, match="s must be finite"):
        term(s)


@EACH
@pytest.mark.parametrize("s", [z(1, 3), z(3), z(4, 0), torch.ones(4, 3, dtype=torch.long), [[1.0], [2.0]]])
def test_what_is_not_a_batch_of_representations_is_refused(term, s):
    with pytest.raises((ValueError, TypeError), match=r"\bs\b"):
        term(s)


@pytest.mark.parametrize("name", ["variance", "covariance", "gamma"])
def test_weights_out_of_range_are_refused_by_name(name):
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=name):
            variance_covariance(z(6, 3), **{name: bad})
    with pytest.raises(TypeError, match=name):
        variance_covariance(z(6, 3), **{name: "1"})


def test_gaussianitys_options_out_of_range_are_refused_by_name():
    for name, bad in (("weight", -1.0), ("weight", math.nan), ("slices", 0), ("slices", 2.5)):
        with pytest.raises((ValueError, TypeError), match=name):
            gaussianity(z(6, 3), **{name: bad})


def test_a_weight_of_0_switches_a_term_off():
    s = 0.5 * z(6, 3)
    assert variance_covariance(s, variance=0.0, covariance=0.0) == 0
    assert gaussianity(s, weight=0.0) == 0
