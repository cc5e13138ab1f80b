"""Gabor fits: functions drawn with known parameters are found again; noise, SciPy and symmetries agree."""

import math

import pytest
import torch

from ebm_lib.latent import gabor as module
from ebm_lib.latent.gabor import fit_gabor, gabor_function

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def some(n=64, side=12, seed=0):
    """Parameters of Gabor functions that a filter of this side can show."""
    u = lambda low, high: low + (high - low) * torch.rand(n, generator=g, dtype=F64)
    g = seeded(seed)
    return {
        "center": torch.stack([u(0.3, 0.7) * side, u(0.3, 0.7) * side], -1),
        "orientation": u(0.02, math.pi - 0.02),
        "frequency": u(0.1, 0.35),
        "phase": u(-3.0, 3.0),
        "sigma": torch.stack([u(0.12, 0.25) * side, u(0.12, 0.3) * side], -1),
        "amplitude": u(0.1, 5.0),
    }


def test_the_function_by_hand():
    t = lambda *v: torch.tensor(v, dtype=F64)
    picture = gabor_function((5, 7), t(3.0, 2.0), t(0.3)[0], t(0.2)[0], t(0.7)[0], t(1.5, 2.5), 2.0)
    assert picture.shape == (5, 7)
    x, y = 5, 1  # column 5, row 1
    u = (x - 3) * math.cos(0.3) + (y - 2) * math.sin(0.3)
    v = -(x - 3) * math.sin(0.3) + (y - 2) * math.cos(0.3)
    by_hand = 2 * math.exp(-(u**2) / (2 * 1.5**2) - v**2 / (2 * 2.5**2)) * math.cos(2 * math.pi * 0.2 * u + 0.7)
    assert picture[y, x].item() == pytest.approx(by_hand)


def test_orientation_zero_means_upright_bars():
    one = torch.ones((), dtype=F64)
    upright = gabor_function((9, 9), torch.tensor([4.0, 4.0], dtype=F64), 0 * one, one / 8, 0 * one, 3 * torch.ones(2))
    assert (upright[0, 0:3] - upright[0, 4]).abs().min() > 0.01
    down, across = (upright.diff(dim=d).abs().sum() for d in (0, 1))
    assert across > 2 * down


def test_parameters_are_found_again():
    truth = some(128)
    drawn = gabor_function((12, 12), **truth)
    found = fit_gabor(drawn)
    assert found.r2.min() > 1 - 1e-9
    torch.testing.assert_close(found.fitted, drawn, rtol=0, atol=1e-4)
    for name in ("center", "orientation", "frequency", "phase", "sigma", "amplitude"):
        torch.testing.assert_close(getattr(found, name), truth[name], rtol=2e-3, atol=2e-3, msg=name)
    again = gabor_function(
        (12, 12), found.center, found.orientation, found.frequency, found.phase, found.sigma, found.amplitude
    )
    torch.testing.assert_close(again, found.fitted, rtol=0, atol=1e-10)


def test_the_jacobian_is_autograds():
    p = torch.randn(8, generator=seeded(), dtype=F64) * 0.3
    p[:2] += 4
    p[3] = 0.2
    pixels = module._pixels(9, 8, p)
    value, jacobian = module._value_and_jacobian(p, pixels)
    torch.testing.assert_close(value, module._value(p, pixels))
    torch.testing.assert_close(jacobian, torch.autograd.functional.jacobian(lambda p: module._value(p, pixels), p))


def test_noise_lowers_r2_by_its_share_of_the_variance():
    drawn = gabor_function((12, 12), **some(96, seed=1))
    drawn = drawn / drawn.std((1, 2), keepdim=True)
    noisy = drawn + torch.randn(drawn.shape, generator=seeded(2), dtype=F64)
    # half the variance is noise; eight parameters of 144 fit some of it
    assert fit_gabor(noisy).r2.mean().item() == pytest.approx(0.5 + 0.5 * 8 / 144, abs=0.02)
    noise = torch.randn(64, 12, 12, generator=seeded(3), dtype=F64)
    assert fit_gabor(noise).r2.max() < 0.5


def test_no_search_of_scipy_from_the_truth_ends_lower():
    least_squares = pytest.importorskip("scipy.optimize").least_squares
    truth = some(12, seed=4)
    noisy = gabor_function((10, 10), **truth) + 0.3 * torch.randn(12, 10, 10, generator=seeded(5), dtype=F64)
    found = fit_gabor(noisy)
    ours = (noisy - found.fitted).square().sum((1, 2))
    keys = ("center", "orientation", "frequency", "phase", "sigma", "amplitude")
    for i in range(12):
        start = torch.cat([truth[k][i].reshape(-1) for k in keys]).numpy()

        def residual(q, i=i):
            q = torch.tensor(q)
            drawn = gabor_function((10, 10), q[:2], q[2], q[3], q[4], q[5:7].abs() + 1e-3, q[7])
            return (drawn - noisy[i]).flatten().numpy()

        theirs = 2 * least_squares(residual, start, method="lm").cost
        assert ours[i] <= theirs * 1.02


def test_symmetries():
    drawn = gabor_function((12, 12), **some(32, seed=6))
    drawn = drawn + 0.02 * torch.randn(drawn.shape, generator=seeded(7), dtype=F64)
    found = fit_gabor(drawn)
    louder = fit_gabor(-3 * drawn)
    torch.testing.assert_close(louder.r2, found.r2, rtol=0, atol=1e-6)
    torch.testing.assert_close(louder.amplitude, 3 * found.amplitude, rtol=1e-3, atol=1e-3)
    apart = (louder.phase - found.phase) % (2 * math.pi)
    torch.testing.assert_close(apart, torch.full_like(apart, math.pi), rtol=0, atol=1e-2)
    turned = fit_gabor(drawn.rot90(1, (1, 2)))
    difference = (found.orientation - turned.orientation) % math.pi
    torch.testing.assert_close(difference, torch.full_like(difference, math.pi / 2), rtol=0, atol=1e-2)
    torch.testing.assert_close(turned.frequency, found.frequency, rtol=0, atol=2e-3)
    assert ((found.orientation >= 0) & (found.orientation < math.pi)).all()


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_upright_bars_and_mirrored_waves_stay_within_the_ranges_of_their_angles(dtype):
    known = some(24, seed=9)
    known["orientation"] = torch.zeros(24, dtype=F64)
    known["phase"] = torch.tensor([0.0, math.pi, 1.0, -2.0], dtype=F64).repeat(6)
    drawn = gabor_function((12, 12), **known).to(dtype)
    found = fit_gabor(drawn)
    assert found.r2.min() > 0.9999
    assert ((found.orientation.double() >= 0) & (found.orientation.double() < math.pi)).all()
    upright = found.orientation < 0.1
    assert (upright | (found.orientation > math.pi - 0.1)).all()  # both are upright: the angle is a circle's
    assert (found.phase > -torch.tensor(math.pi, dtype=dtype)).all()
    again = gabor_function((12, 12), *(part.double() for part in found[:6]))
    torch.testing.assert_close(again, found.fitted.double(), rtol=0, atol=1e-4)


def test_the_fit_stays_within_its_bounds_and_reaches_them():
    known = some(8, 6, seed=10)
    known["center"] = torch.tensor([8.5, 2.5], dtype=F64).expand(8, 2)
    wide = fit_gabor(gabor_function((6, 11), **known))
    assert wide.r2.min() > 0.99  # the centre may lie anywhere on a filter that is not square
    found = fit_gabor(torch.randn(40, 6, 11, generator=seeded(11), dtype=F64))
    x, y = found.center.unbind(-1)
    assert ((x >= 0) & (x <= 10) & (y >= 0) & (y <= 5)).all()
    turn = found.orientation
    assert (found.frequency * torch.maximum(turn.cos().abs(), turn.sin().abs()) <= 0.5 + 1e-9).all()
    assert (found.frequency >= 0.5 / 11 - 1e-9).all()
    assert ((found.sigma >= 0.4 - 1e-9) & (found.sigma <= 22 + 1e-9)).all()


def test_filters_do_not_influence_each_other_and_shapes_need_not_be_square():
    drawn = gabor_function((9, 14), **some(7, 9, seed=8))
    together, apart = fit_gabor(drawn), fit_gabor(drawn, block_size=2)
    torch.testing.assert_close(together.r2, apart.r2)
    torch.testing.assert_close(together.orientation, apart.orientation)
    assert together.fitted.shape == (7, 9, 14)
    assert together.r2.min() > 0.999
    single = fit_gabor(drawn.float())
    assert single.r2.dtype == torch.float32
    torch.testing.assert_close(single.frequency, together.frequency.float(), rtol=1e-3, atol=1e-3)


def test_bad_input_is_refused():
    good = gabor_function((8, 8), **some(2, 8))
    for bad in (good[0], good[:, :3], good[:0]):
        with pytest.raises(ValueError, match="filters must"):
            fit_gabor(bad)
    with pytest.raises(ValueError, match="number 1 is constant"):
        fit_gabor(torch.stack([good[0], torch.ones(8, 8, dtype=F64)]))
    with pytest.raises(ValueError, match="filters must be finite"):
        fit_gabor(good / 0)
    with pytest.raises(ValueError, match="floating point"):
        fit_gabor(torch.ones(1, 8, 8, dtype=torch.int64))
    one = torch.ones(())
    with pytest.raises(ValueError, match="sigma must be positive"):
        gabor_function((4, 4), torch.ones(2), one, one, one, torch.tensor([0.0, 1.0]))
    with pytest.raises(ValueError, match="center must be"):
        gabor_function((4, 4), one, one, one, one, torch.ones(2))


def test_device():
    shadow = {name: value.to("meta") for name, value in some(3).items()}
    assert gabor_function((12, 12), **shadow).shape == (3, 12, 12)
    assert fit_gabor(torch.empty(3, 12, 12, device="meta"), steps=2).r2.is_meta
