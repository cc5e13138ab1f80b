"""The yardstick against areas known in advance; effective dimension against spectra made to order."""

import math

import pytest
import torch

from ebm_lib import data
from ebm_lib.energy import grid
from ebm_lib.latent import (
    PCA,
    Unregularized,
    effective_dimension,
    low_energy_volume,
)
from ebm_lib.latent.model import blocks, require_data, require_last

F64 = torch.float64
SQUARE = grid([-2.0, -2.0], [2.0, 2.0], 200, dtype=F64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gauss(n, d=2, seed=0):
    return torch.randn(n, d, generator=seeded(seed), dtype=F64)


def bowl(y):
    return y.square().sum(-1)


# ---- volume


def test_area_of_a_disc_is_found():
    points = gauss(40_000)
    # Of a round Gaussian the share q lies within r² = -2 log(1 - q).
    for q in (0.3, 0.5, 0.8):
        found = low_energy_volume(bowl, points, SQUARE, quantile=q, tolerance=0.0)
        assert found.threshold == pytest.approx(-2 * math.log(1 - q), rel=0.03)
        assert found.volume == pytest.approx(math.pi * found.threshold, rel=2e-3)
        assert found.share == pytest.approx(found.volume / 16, rel=1e-12)
        assert torch.equal(found.inside, bowl(SQUARE.points) <= found.threshold)


def test_a_rising_function_of_the_energy_has_the_same_volume():
    points = gauss(500)
    shares = {
        low_energy_volume(F, points, SQUARE, tolerance=0.0).share
        for F in (bowl, lambda y: 7 * bowl(y) - 100, lambda y: bowl(y).exp(), lambda y: bowl(y).sqrt())
    }
    assert len(shares) == 1


def test_the_threshold_covers_the_share_asked_for_and_no_point_more():
    points = gauss(100)
    for q in (0.001, 0.01, 0.55, 0.57, 0.9, 1.0):
        threshold = low_energy_volume(bowl, points, SQUARE, quantile=q, tolerance=0.0).threshold
        assert int((bowl(points) <= threshold).sum()) == max(1, round(q * 100))


def test_flat_up_to_the_tolerance_is_full_and_without_tolerance_is_not():
    noise = 1e-6 * torch.rand(len(SQUARE.points), generator=seeded(), dtype=F64)
    points = SQUARE.points[::37]

    def rough(y):
        return noise if len(y) == len(noise) else noise[::37]

    assert low_energy_volume(rough, points, SQUARE, block_size=10**6).share == 1.0
    cut = low_energy_volume(rough, points, SQUARE, tolerance=0.0, block_size=10**6)
    assert cut.share == pytest.approx(0.9, abs=0.02)


def test_a_free_latent_as_large_as_y_fills_the_plane_and_a_smaller_one_does_not():
    points = data.two_moons(300, generator=seeded(), dtype=F64)
    full = low_energy_volume(Unregularized(2, 2, generator=seeded(), dtype=F64), points, SQUARE, tolerance=1e-9)
    assert full.share == 1.0
    flat = PCA(2, 1, dtype=F64)
    flat.learn(points)
    assert 0.1 < low_energy_volume(flat, points, SQUARE).share < 0.9


def test_impossible_places_are_outside():
    half = lambda y: torch.where(y[..., 0] > 0, 0.0, math.inf)
    points = gauss(50).abs()
    assert low_energy_volume(half, points, SQUARE).share == 0.5
    with pytest.raises(ValueError, match=r"\+inf on more than 0.1 of the data"):
        low_energy_volume(half, gauss(50), SQUARE)


def test_blocks_do_not_change_the_volume():
    points = gauss(77)
    assert low_energy_volume(bowl, points, SQUARE, block_size=13).inside.equal(
        low_energy_volume(bowl, points, SQUARE).inside
    )


def test_volume_refuses_bad_input():
    points = gauss(10)
    with pytest.raises(ValueError, match=r"data must be \(M, 2\)"):
        low_energy_volume(bowl, gauss(10, 3), SQUARE)
    with pytest.raises(ValueError, match="at least one entry"):
        low_energy_volume(bowl, points[:0], SQUARE)
    for q in (0.0, 1.1, math.nan):
        with pytest.raises(ValueError, match="quantile must be in"):
            low_energy_volume(bowl, points, SQUARE, quantile=q)
    for tolerance in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="tolerance must be zero or a positive finite"):
            low_energy_volume(bowl, points, SQUARE, tolerance=tolerance)
    with pytest.raises(ValueError, match="energy must be finite or"):
        low_energy_volume(lambda y: y[..., 0] * math.nan, points, SQUARE)
    with pytest.raises(ValueError, match="one number per sample"):
        low_energy_volume(lambda y: y, points, SQUARE)
    with pytest.raises(ValueError, match="block_size must be"):
        low_energy_volume(bowl, points, SQUARE, block_size=0)


# ---- effective dimension


def with_spectrum(variances, seed=0):
    """Points whose covariance has exactly these eigenvalues, in a random basis."""
    D = len(variances)
    basis = torch.linalg.qr(gauss(D, D, seed))[0]
    axes = torch.eye(D, dtype=F64) * torch.tensor(variances, dtype=F64).mul(D).sqrt()
    return torch.cat([axes, -axes]) @ basis.T + 3.0


def test_effective_dimension_of_known_spectra():
    for variances in ([1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 0.0], [4.0, 2.0, 1.0], [5.0, 1e-3, 1e-3]):
        found = effective_dimension(with_spectrum(variances))
        total = sum(variances)
        shares = [v / total for v in variances if v]
        assert found.spectrum.tolist() == pytest.approx(variances, abs=1e-12)
        assert found.participation.item() == pytest.approx(1 / sum(p * p for p in shares))
        assert found.entropy.item() == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))
        assert 1 <= found.participation <= found.entropy + 1e-12 <= len(variances) + 1e-9


def test_effective_dimension_does_not_change_with_scale_shift_or_rotation():
    codes = gauss(50, 4) * torch.tensor([3.0, 1.0, 0.5, 0.1], dtype=F64)
    base = effective_dimension(codes)
    turned = effective_dimension(100 * codes @ torch.linalg.qr(gauss(4, 4, 1))[0] - 8)
    torch.testing.assert_close(turned.participation, base.participation)
    torch.testing.assert_close(turned.entropy, base.entropy)


def test_equal_codes_use_no_dimension():
    found = effective_dimension(torch.full((5, 3), 2.0))
    assert (found.participation.item(), found.entropy.item()) == (0.0, 0.0)


def test_effective_dimension_is_differentiable_even_where_directions_are_unused():
    codes = gauss(6, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: effective_dimension(z)[:2], (codes,))
    flat = (gauss(6, 3) * torch.tensor([1.0, 1.0, 0.0], dtype=F64)).requires_grad_()
    found = effective_dimension(flat)
    (slope,) = torch.autograd.grad(found.entropy + found.participation, flat)
    assert torch.isfinite(slope).all()


def test_effective_dimension_refuses_bad_input():
    for codes in (torch.zeros(1, 3), torch.zeros(3), torch.zeros(2, 3, 4)):
        with pytest.raises(ValueError, match="at least 2 codes"):
            effective_dimension(codes)
    with pytest.raises(ValueError, match="codes must be finite"):
        effective_dimension(torch.tensor([[0.0], [math.inf]]))


# ---- what all models share


def test_blocks_cover_every_row_once():
    for count, row_bytes, size in ((0, 8, None), (10, 8, 3), (7, 2**30, None), (10_000, 2**13, None)):
        found = list(blocks(count, row_bytes, size))
        assert [i for part in found for i in range(part.start, part.stop)] == list(range(count))
        if size is None and row_bytes <= 2**25:
            assert all((part.stop - part.start) * row_bytes <= 2**25 for part in found)


def test_shared_checks_name_what_is_wrong():
    with pytest.raises(ValueError, match=r"y must be \(N, 2\), one sample a row, got shape \(2,\)"):
        require_data(torch.zeros(2), 2)
    with pytest.raises(ValueError, match="y must hold at least 1 sample, got 0"):
        require_data(torch.zeros(0, 2), 2)
    with pytest.raises(ValueError, match="y must be floating point"):
        require_last("y", torch.zeros(3, 2, dtype=torch.long), 2)
