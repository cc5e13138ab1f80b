"""Inference against brute force, closed forms and scipy's minimiser."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from ebm_lib import inference
from ebm_lib.energy import fix


def test_exhaustive_is_brute_force():
    g = torch.Generator().manual_seed(0)
    x, candidates = torch.randn(40, 3, generator=g), torch.randn(17, 3, generator=g)
    found = inference.exhaustive(lambda y: (x[:, None] - y).abs().sum(-1), candidates)
    for i in range(40):
        distances = [sum(abs(a - b) for a, b in zip(x[i].tolist(), c, strict=True)) for c in candidates.tolist()]
        assert found.index[i] == distances.index(min(distances))
        assert found.energy[i].item() == pytest.approx(min(distances), rel=1e-5)
        assert torch.equal(found.argmin[i], candidates[found.index[i]])


def test_exhaustive_takes_a_set_of_candidates_per_sample_and_the_first_of_equals():
    candidates = torch.tensor([[[1.0], [1.0], [0.0]], [[2.0], [-2.0], [3.0]]])
    found = inference.exhaustive(lambda y: y.abs().sum(-1), candidates)
    assert found.index.tolist() == [2, 0]
    assert found.argmin.tolist() == [[0.0], [2.0]]


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 10), st.floats(0.05, 1.9), st.integers(1, 30))
def test_descent_on_a_quadratic_contracts_by_one_minus_lr_times_curvature(curvature, product, steps):
    lr = product / curvature
    found = inference.gradient_descent(
        lambda y: curvature / 2 * y.square().sum(-1), torch.ones(1, dtype=torch.float64), steps=steps, lr=lr
    )
    assert found.argmin.item() == pytest.approx((1 - product) ** steps, rel=1e-6, abs=1e-12)
    assert found.grad_norm.item() == pytest.approx(curvature * abs((1 - product) ** steps), rel=1e-6, abs=1e-12)


def test_momentum_follows_the_heavy_ball_recursion():
    y, v, lr, mu = 1.0, 0.0, 0.1, 0.8
    for _ in range(15):
        v = mu * v - lr * 3 * y
        y += v
    start = torch.ones(1, dtype=torch.float64)
    found = inference.gradient_descent(lambda y: 1.5 * y.square().sum(-1), start, steps=15, lr=lr, momentum=mu)
    assert found.argmin.item() == pytest.approx(y, rel=1e-10)


def test_descent_finds_the_minimum_that_scipy_finds_on_rosenbrock():
    rosenbrock = lambda y: (1 - y[..., 0]).square() + 5 * (y[..., 1] - y[..., 0].square()).square()
    start = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    found = inference.gradient_descent(rosenbrock, start, steps=5000, lr=0.01, momentum=0.9, tol=1e-10)
    theirs = optimize.minimize(lambda y: rosenbrock(torch.from_numpy(y)).item(), [-1.0, 1.0], method="BFGS")
    torch.testing.assert_close(found.argmin, torch.from_numpy(theirs.x), rtol=1e-4, atol=1e-4)
    assert found.steps < 5000
    assert found.grad_norm.item() <= 1e-10


def test_the_path_starts_at_the_start_ends_at_the_end_and_the_start_is_left_alone():
    start = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    copy = start.detach().clone()
    weight = torch.nn.Parameter(torch.tensor(1.0))
    found = inference.gradient_descent(lambda y: weight * y.square().sum(-1), start, steps=7, keep_path=True)
    assert found.path.shape == (8, 2, 2)
    assert torch.equal(found.path[0], copy)
    assert torch.equal(start.detach(), copy)
    assert torch.equal(found.path[-1], found.argmin)
    assert weight.grad is None
    assert start.grad is None
    assert not found.argmin.requires_grad


def test_no_step_is_taken_where_the_gradient_is_already_short():
    start = torch.zeros(3, 2)
    found = inference.gradient_descent(lambda y: y.square().sum(-1), start, tol=1e-6, steps=50)
    assert found.steps == 0
    start += 1  # what was returned does not share the start's memory
    assert found.argmin.abs().max() == 0


def test_descent_goes_on_until_every_sample_has_converged():
    start = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    found = inference.gradient_descent(lambda y: y.square().sum(-1), start, tol=1e-6, steps=500)
    assert 0 < found.steps < 500
    assert (found.grad_norm <= 1e-6).all()


def test_a_step_too_long_is_reported_as_divergence():
    with pytest.raises(FloatingPointError, match=r"diverged at step \d+ with lr=0.9"):
        inference.gradient_descent(lambda y: y.pow(4).sum(-1), torch.full((2,), 3.0), lr=0.9, steps=500)


def ellipse(y, z, r1=2.0, r2=1.0):
    return (y[..., 0] - r1 * torch.sin(z[..., 0])).square() + (y[..., 1] - r2 * torch.cos(z[..., 0])).square()


def ellipse_exact(y, r1=2.0, r2=1.0):
    """The global minimum over the angle, from the quartic's real roots, in numpy."""
    import numpy as np

    # With t = tan(z/2): E'(z) = 0 is a quartic in t; t = ∞ (z = π) is tried as well.
    best = []
    for a, b in y.tolist():
        # −r1 a cos z + r2 b sin z + (r1² − r2²) sin z cos z = 0
        k = r1 * r1 - r2 * r2
        quartic = [r1 * a, 2 * (r2 * b - k), 0.0, 2 * (r2 * b + k), -r1 * a]
        roots = np.roots(quartic) if any(quartic) else np.array([])
        angles = [2 * math.atan(t.real) for t in roots if abs(t.imag) < 1e-7] + [math.pi, 0.0]
        best.append(min((a - r1 * math.sin(z)) ** 2 + (b - r2 * math.cos(z)) ** 2 for z in angles))
    return torch.tensor(best, dtype=torch.float64)


def test_a_few_starts_find_the_ellipses_angle_for_999_of_1000_points_where_one_start_does_not():
    g = torch.Generator().manual_seed(0)
    y = (torch.rand(1000, 2, generator=g, dtype=torch.float64) - 0.5) * torch.tensor([6.0, 4.0])
    exact = ellipse_exact(y)
    starts = torch.arange(4, dtype=torch.float64)[:, None, None] * math.pi / 2 + 0.3
    descent = inference.gradient_descent(lambda z: ellipse(y, z), starts.expand(4, 1000, 1), steps=500, lr=0.05)
    several = inference.best_start(descent)
    found = (several.energy - exact).abs() < 1e-6
    assert (several.energy > exact - 1e-9).all()  # nothing can be lower than the exact minimum
    assert found.double().mean() >= 0.999
    single = ((descent.energy[0] - exact).abs() < 1e-6).double().mean()
    assert 0.5 < single < 0.97


def test_best_start_picks_per_sample_and_keeps_its_path():
    wells = lambda y: ((y.square() - 1).square() + 0.3 * y).sum(-1)
    starts = torch.tensor([[[1.0], [-1.0]], [[-1.0], [1.0]], [[0.9], [0.9]]])
    descent = inference.gradient_descent(wells, starts, lr=0.05, keep_path=True)
    best = inference.best_start(descent)
    assert best.path.shape == (201, 2, 1)
    assert best.path[0].tolist() == [[-1.0], [-1.0]]
    assert torch.equal(best.path[-1], best.argmin)
    assert torch.equal(best.energy, descent.energy.min(0).values)
    swapped = inference.gradient_descent(wells, starts.transpose(0, 1), lr=0.05)
    assert torch.equal(inference.best_start(swapped, dim=1).argmin, best.argmin)
    assert torch.equal(inference.best_start(swapped, dim=-1).argmin, best.argmin)


def test_alternating_reaches_the_joint_minimum_of_a_convex_quadratic_and_never_rises():
    g = torch.Generator().manual_seed(3)
    root = torch.randn(5, 5, generator=g, dtype=torch.float64)
    a = root @ root.T + torch.eye(5)
    b = torch.randn(5, generator=g, dtype=torch.float64)

    def energy(y, z):
        u = torch.cat([y, z], -1)
        return 0.5 * ((u @ a) * u).sum(-1) - u @ b

    found = inference.alternating(
        energy,
        torch.zeros(2, dtype=torch.float64),
        torch.zeros(3, dtype=torch.float64),
        minimize_y=lambda y, z: torch.linalg.solve(a[:2, :2], b[:2] - a[:2, 2:] @ z),
        minimize_z=lambda y, z: torch.linalg.solve(a[2:, 2:], b[2:] - a[2:, :2] @ y),
        rounds=2000,
    )
    torch.testing.assert_close(torch.cat([found.y, found.z]), torch.linalg.solve(a, b), rtol=1e-6, atol=1e-6)
    assert (found.history.diff(dim=0) <= 1e-12).all()
    assert found.history[0] == 0


def test_alternating_moves_z_first_so_that_a_start_of_z_does_not_matter():
    def run(z):
        return inference.alternating(
            lambda y, z: ((y - z).square() + (z - 1).square()).sum(-1),
            torch.zeros(1),
            torch.tensor([z]),
            minimize_y=lambda y, z: z,
            minimize_z=lambda y, z: (y + 1) / 2,
            rounds=1,
        )

    assert run(-50.0).y.item() == run(3.0).y.item() == 0.5


def test_alternating_refuses_a_half_step_that_raises_the_energy():
    with pytest.raises(ValueError, match="minimize_y raised the energy in round 1 by"):
        inference.alternating(
            lambda y, z: (y - z).square().sum(-1),
            torch.zeros(1),
            torch.zeros(1),
            minimize_y=lambda y, z: y + 1,
            minimize_z=lambda y, z: y,
        )


def test_functions_follow_dtype_and_device():
    quadratic = lambda y: y.square().sum(-1)
    for dtype in (torch.float32, torch.float64):
        assert inference.gradient_descent(quadratic, torch.ones(2, dtype=dtype)).argmin.dtype == dtype
        assert inference.exhaustive(quadratic, torch.ones(3, 2, dtype=dtype)).energy.dtype == dtype
    meta = torch.empty(4, 2, device="meta")
    assert inference.gradient_descent(quadratic, meta, steps=3).argmin.device.type == "meta"
    assert inference.exhaustive(quadratic, meta).argmin.device.type == "meta"
    x = torch.empty(5, 2, device="meta")
    both = fix(lambda x, y: (x - y).square().sum(-1), x[:, None])
    assert inference.exhaustive(both, meta).argmin.shape == (5, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda q: inference.exhaustive(q, torch.ones(0, 2)), "at least one entry along dimension -2"),
        (lambda q: inference.exhaustive(q, torch.ones(2)), "candidates must be"),
        (lambda q: inference.exhaustive(lambda y: y, torch.ones(3, 2)), "one number per candidate"),
        (lambda q: inference.exhaustive(lambda y: y.sum(-1) * math.nan, torch.ones(3, 2)), "energy must be finite"),
        (
            lambda q: inference.exhaustive(lambda y: y.sum(-1) * math.inf, torch.ones(3, 2)),
            "every candidate has energy",
        ),
        (lambda q: inference.gradient_descent(q, torch.ones(2) * math.nan), "start must be finite"),
        (lambda q: inference.gradient_descent(q, torch.ones(2, dtype=torch.int64)), "floating point"),
        (lambda q: inference.gradient_descent(q, torch.ones(2), lr=0.0), "lr must be a positive number"),
        (lambda q: inference.gradient_descent(q, torch.ones(2), steps=0), "steps must be a whole number"),
        (lambda q: inference.gradient_descent(q, torch.ones(2), momentum=1.0), "momentum must be in"),
        (lambda q: inference.gradient_descent(q, torch.ones(2), tol=-1.0), "tol must be at least 0"),
        (lambda q: inference.gradient_descent(lambda y: y, torch.ones(2)), "one number per sample"),
        (lambda q: inference.gradient_descent(lambda y: torch.zeros(()), torch.ones(2)), "depend on its argument"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call(lambda y: y.square().sum(-1))
