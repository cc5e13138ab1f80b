"""Signatures: what one hand's have in common by construction, and what a new signing changes."""

import importlib
import math

import pytest
import torch

from ebm_lib import data

module = importlib.import_module("ebm_lib.data.signatures")  # which its function hides in the package


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def affine_misfit(pen):
    """How far the second signature of each writer is from an affine image of the first, relative to its size."""
    one, other = pen[:, 0], pen[:, 1]
    corners = torch.cat([one, torch.ones_like(one[:, :1])], 1).mT  # (writers, points, 3)
    map_ = torch.linalg.lstsq(corners, other.mT).solution
    error = (other.mT - corners @ map_).square().sum((1, 2))
    return (error / (other - other.mean(-1, keepdim=True)).square().sum((1, 2))).sqrt()


def test_without_wobble_hurry_and_tremor_a_writers_signatures_are_affine_images_of_each_other():
    still = {"wobble": 0.0, "hurry": 0.0, "tremor": 0.0}
    exact = data.signatures(50, 2, **still, generator=seeded(), dtype=torch.float64)
    assert affine_misfit(exact).max() < 1e-10
    for name in still:
        moved = data.signatures(50, 2, **still | {name: 0.05}, generator=seeded(), dtype=torch.float64)
        assert affine_misfit(moved).min() > 1e-3, name


def upright(monkeypatch):
    """Let the pen neither turn nor lean, keep its size and start where it is told: A = 1 and s = 0."""
    for name in ("TURN", "LEAN", "SIZE", "SHIFT"):
        monkeypatch.setattr(module, name, 0.0)


def waves(tau):
    phase = math.pi * torch.arange(1, 7, dtype=torch.float64)[:, None] * tau
    return torch.cat([torch.ones_like(tau)[None], tau[None], phase.cos(), phase.sin()]).T


def test_an_unhurried_pen_is_a_line_and_six_waves(monkeypatch):
    """The coefficients, read off by least squares. Half waves are no orthogonal set: the others nearly make up for one
    that is left out, so what a fit without it lacks says little."""
    upright(monkeypatch)
    pen = data.signatures(400, 2, wobble=0.5, hurry=0.0, tremor=0.0, generator=seeded(), dtype=torch.float64)
    basis, paths = waves(torch.linspace(0, 1, 40, dtype=torch.float64)), pen.flatten(0, 2).T
    found = torch.linalg.lstsq(basis, paths).solution
    assert (basis @ found - paths).abs().max() < 1e-10
    assert found[0].abs().max() < 1e-7
    torch.testing.assert_close(
        found[1].view(800, 2), torch.tensor([[4.0, 0.0]]).double().expand(800, 2), atol=1e-7, rtol=0
    )
    k = torch.arange(1, 7, dtype=torch.float64)
    hand = (
        found[2:].view(2, 6, 400, 2, 2) * k.sqrt()[:, None, None, None]
    )  # (cosine or sine, wave, writer, signing, xy)
    own, changes = hand.mean(3), hand.diff(dim=3)[:, :, :, 0]
    for part, deviation in ((own, (1 + 0.5**2 / 2) ** 0.5), (changes, 0.5 * 2**0.5)):
        assert (part.std(2) / deviation - 1).abs().max() < 0.15
        independent = torch.corrcoef(part.movedim(2, -1).flatten(0, 2)) - torch.eye(24)
        assert independent.abs().max() < 0.25


def test_what_is_new_at_each_signing_is_an_affine_map_of_the_stated_size(monkeypatch):
    options = {"wobble": 0.0, "hurry": 0.0, "tremor": 0.0, "dtype": torch.float64}
    pen = data.signatures(20, 100, **options, generator=seeded()).flatten(0, 1)
    upright(monkeypatch)
    plain = data.signatures(20, 100, **options, generator=seeded()).flatten(0, 1)
    corners = torch.cat([plain, torch.ones_like(plain[:, :1])], 1).mT
    fitted = torch.linalg.lstsq(corners, pen.mT).solution.mT  # (2000, 2, 3)
    A, place = fitted[..., :2], fitted[..., 2]
    size = torch.linalg.det(A).log() / 2
    turn = torch.atan2(A[:, 1, 0], A[:, 0, 0])
    rotation = torch.stack([turn.cos(), -turn.sin(), turn.sin(), turn.cos()], -1).view(-1, 2, 2)
    sheared = torch.linalg.solve(rotation, A) / size.exp()[:, None, None]
    lean = sheared[:, 0, 1]
    expected = torch.stack([torch.ones_like(lean), lean, torch.zeros_like(lean), torch.ones_like(lean)], -1)
    torch.testing.assert_close(sheared.flatten(1), expected)
    for name, drawn, deviation in (("turn", turn, 0.25), ("lean", lean, 0.3), ("size", size, 0.2)):
        assert drawn.std().item() == pytest.approx(deviation, rel=0.06), name
        assert abs(drawn.mean()) < 0.1 * deviation, name
    assert place.std(0).tolist() == pytest.approx([1.0, 1.0], rel=0.06)
    assert abs(torch.corrcoef(place.T)[0, 1]) < 0.1


def test_a_hurried_pen_runs_along_the_same_waves_at_other_times(monkeypatch):
    upright(monkeypatch)
    options = {"points": 400, "wobble": 0.0, "tremor": 0.0, "dtype": torch.float64}
    pen = data.signatures(30, 1, hurry=0.05, **options, generator=seeded())[:, 0]
    steady = data.signatures(30, 1, hurry=0.0, **options, generator=seeded())[:, 0]
    t = torch.linspace(0, 1, 400, dtype=torch.float64)
    g = seeded()
    for _ in range(2):  # the hands, and how they wobble
        torch.randn(30, 1, 2, 2, 6, generator=g, dtype=torch.float64)
    h = 0.05 * torch.randn(30, 1, 2, generator=g, dtype=torch.float64)[:, 0]
    for path, still, own in zip(pen, steady, h, strict=True):
        coefficients = torch.linalg.lstsq(waves(t), still.T).solution
        tau = t + own[0] * (math.pi * t).sin() + own[1] * (2 * math.pi * t).sin()
        torch.testing.assert_close(path, (waves(tau) @ coefficients).T, atol=1e-6, rtol=0)


def test_two_writers_are_no_affine_images_of_each_other():
    pen = data.signatures(100, 1, wobble=0.0, hurry=0.0, tremor=0.0, generator=seeded(), dtype=torch.float64)
    assert affine_misfit(pen.view(50, 2, 2, 40)).median() > 0.3


def test_tremor_is_noise_of_its_size_on_each_point():
    without, with_ = (data.signatures(40, 5, tremor=t, generator=seeded()) for t in (0.0, 0.1))
    assert (with_ - without).std().item() == pytest.approx(0.1, rel=0.03)


def test_the_same_seed_signs_the_same_in_another_precision():
    one = data.signatures(3, 2, generator=seeded(5))
    assert torch.equal(one, data.signatures(3, 2, generator=seeded(5)))
    assert data.signatures(3, 2, points=7, generator=seeded(5), dtype=torch.float64).dtype == torch.float64


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"writers": 0}, "writers"),
        ({"each": 0}, "each"),
        ({"points": 1}, "points"),
        ({"wobble": -0.1}, "wobble"),
        ({"hurry": float("nan")}, "hurry"),
        ({"tremor": float("inf")}, "tremor"),
    ],
)
def test_bad_input_is_named(wrong, named):
    with pytest.raises(ValueError, match=named):
        data.signatures(**{"writers": 2, "each": 2} | wrong)
