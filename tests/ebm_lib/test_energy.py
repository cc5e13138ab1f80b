"""Energies on a grid against closed forms; filling in blanks against masks written out by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from ebm_lib import energy as en


def square(y):
    return y.square().sum(-1)


def test_partition_function_of_a_gaussian_in_one_two_and_three_dimensions():
    for d, steps in ((1, 4000), (2, 400), (3, 120)):
        cells = en.grid([-12.0] * d, [12.0] * d, steps, dtype=torch.float64)
        for beta in (0.5, 2.0):
            log_z = en.log_partition(square(cells.points), beta, log_volume=cells.log_cell)
            assert abs(log_z.item() - d / 2 * math.log(math.pi / beta)) < 1e-8


def test_partition_function_of_a_double_well_against_quadrature():
    cells = en.grid([-6.0], [6.0], 20_000, dtype=torch.float64)
    y = cells.points[:, 0]
    value = integrate.quad(lambda t: math.exp(-3 * ((t * t - 1) ** 2 + 0.3 * t)), -6, 6, points=[-1, 1])[0]
    log_z = en.log_partition((y.square() - 1).square() + 0.3 * y, 3.0, log_volume=cells.log_cell)
    assert abs(log_z.item() - math.log(value)) < 1e-8


def test_gibbs_is_the_softmax_of_minus_beta_energy_and_the_density_integrates_to_one():
    energy = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(en.gibbs(energy, 2.5, dim=0), torch.softmax(-2.5 * energy, 0))
    cells = en.grid([-5.0, -5.0], [5.0, 5.0], (50, 70), dtype=torch.float64)
    log_density = en.log_gibbs_density(square(cells.points), 1.0, log_volume=cells.log_cell)
    assert abs((log_density.exp().sum() * math.exp(cells.log_cell)).item() - 1) < 1e-12
    peak = -math.log(math.pi)
    nearest = cells.points.norm(dim=-1).argmin()
    expected = peak - square(cells.points[nearest])
    torch.testing.assert_close(log_density[nearest], expected, rtol=1e-6, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=8), st.floats(0.01, 100), st.floats(-30, 30))
def test_adding_a_constant_changes_no_probability_and_scaling_is_temperature(values, beta, shift):
    energy = torch.tensor(values, dtype=torch.float64)
    p = en.gibbs(energy, beta)
    assert abs(p.sum().item() - 1) < 1e-12
    torch.testing.assert_close(en.gibbs(energy + shift, beta), p, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(en.gibbs(energy * beta, 1.0), p, rtol=1e-9, atol=1e-12)
    odds = math.exp(-beta * (values[0] - values[1])) if abs(beta * (values[0] - values[1])) < 600 else None
    if odds is not None and p[1] > 1e-200 and p[0] > 1e-200:
        assert (p[0] / p[1]).item() == pytest.approx(odds, rel=1e-9)


def test_extreme_temperatures_do_not_overflow():
    energy = torch.tensor([1e4, 1e4 + 1, 0.0], dtype=torch.float64)
    for beta in (1e-6, 1.0, 1e6):
        assert torch.isfinite(en.log_partition(energy, beta))
        assert abs(en.gibbs(energy, beta).sum().item() - 1) < 1e-12
    assert en.gibbs(energy, 1e6).tolist() == [0, 0, 1]
    torch.testing.assert_close(en.gibbs(energy, 1e-9), torch.full((3,), 1 / 3).double(), rtol=1e-4, atol=0)


def test_grid_tiles_the_box():
    cells = en.grid([0.0, -1.0], [2.0, 2.0], (4, 6), dtype=torch.float64)
    assert cells.shape == (4, 6)
    assert math.exp(cells.log_cell) * 24 == pytest.approx(6.0)
    image = cells.points.reshape(4, 6, 2)
    assert image[0, 0].tolist() == [0.25, -0.75]
    assert image[3, 5].tolist() == [1.75, 1.75]
    assert (image[0, 1] - image[0, 0]).tolist() == [0.0, 0.5]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=6), st.integers(0, 2**31 - 1))
def test_fill_puts_each_unknown_coordinate_where_the_mask_has_it(mask, seed):
    g = torch.Generator().manual_seed(seed)
    known, y = torch.tensor(mask), torch.randn(len(mask), generator=g)
    unknown = torch.randn(3, mask.count(False), generator=g)
    ours = en.fill(y, known, unknown)
    for row, u in zip(ours, unknown, strict=True):
        expected, rest = y.clone(), iter(u)
        for i, given_ in enumerate(mask):
            if not given_:
                expected[i] = next(rest)
        assert row.tolist() == expected.tolist()
    if mask.count(False):
        torch.testing.assert_close(en.blank(square, y, known)(unknown), square(ours))


def test_a_gradient_reaches_the_unknown_coordinates_only():
    y = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    u = torch.tensor([5.0], requires_grad=True)
    en.blank(lambda y: y[..., 0] * y[..., 1] * y[..., 2], y, torch.tensor([True, False, True]))(u).backward()
    assert u.grad.tolist() == [3.0]
    assert y.grad.tolist() == [15.0, 0.0, 5.0]


def test_fix_holds_the_first_variable():
    energy = lambda x, y, z: (x + 10 * y + 100 * z).sum(-1)
    one = torch.ones(1)
    assert en.fix(energy, 2 * one)(3 * one, 4 * one).item() == 432


def test_protocols_count_functions_and_modules():
    assert isinstance(square, en.Energy)
    assert isinstance(torch.nn.Linear(2, 1), en.LatentEnergy)
    assert not isinstance(3, en.Energy)


def test_everything_works_on_meta_tensors_and_under_vmap():
    meta = torch.empty(4, 3, device="meta")
    assert en.gibbs(meta).device.type == "meta"
    assert en.log_partition(meta).shape == (4,)
    assert en.evaluate(square, meta).shape == (4,)
    assert en.grid([0.0], [1.0], 5, device="meta").points.shape == (5, 1)
    batch = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.func.vmap(en.gibbs)(batch), en.gibbs(batch))
    torch.testing.assert_close(torch.func.vmap(lambda y: en.evaluate(square, y))(batch), square(batch))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: en.evaluate(square), "at least one variable"),
        (lambda: en.evaluate(square, torch.tensor(1.0)), "last dimension of its own"),
        (lambda: en.evaluate(lambda a, b: a, torch.ones(2, 1), torch.ones(3, 1)), "must broadcast, got shapes"),
        (lambda: en.evaluate(lambda y: y, torch.ones(2, 3)), "sum over the last dimension"),
        (lambda: en.evaluate(lambda y: y.sum(), torch.ones(2, 3)), r"shape \(2,\), got shape \(\)"),
        (lambda: en.evaluate(lambda y: y.sum(-1) / 0 * 0, torch.ones(2, 3)), "must be finite or"),
        (lambda: en.evaluate(lambda y: -y.sum(-1) / 0, torch.ones(2, 3)), "is -inf"),
        (lambda: en.grid([0.0], [1.0, 2.0], 3), "one bound per coordinate, got 1 and 2"),
        (lambda: en.grid([], [], 3), "one bound per coordinate"),
        (lambda: en.grid([1.0], [1.0], 3), "low must be below high"),
        (lambda: en.grid([0.0], [math.inf], 3), "both finite"),
        (lambda: en.grid([0.0], [1.0], 0), "steps must be a whole number of at least 1"),
        (lambda: en.grid([0.0], [1.0], (3, 3)), r"one per coordinate \(1\), got 2"),
        (lambda: en.fill(torch.ones(2), torch.ones(2), torch.ones(1)), "known must be a boolean mask"),
        (lambda: en.fill(torch.ones(2), torch.tensor([True]), torch.ones(1)), r"mask of shape \(2,\)"),
        (lambda: en.fill(torch.ones(2), torch.tensor([True, False]), torch.ones(2)), "must hold 1 coordinates"),
        (lambda: en.log_partition(torch.ones(2), 0), "beta must be a positive number, got 0"),
        (lambda: en.gibbs(torch.ones(2), math.inf), "beta must be a positive finite number"),
        (lambda: en.gibbs(torch.tensor([math.nan])), "energy must be finite"),
        (lambda: en.gibbs(torch.ones(0)), "at least one entry"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call()
