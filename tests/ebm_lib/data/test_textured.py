"""Films of a disc before a texture: what moves, what is drawn anew, and that both can be told from the factors."""

import math

import pytest
import torch

from ebm_lib import data

F64 = torch.float64
NOWHERE = torch.full((2,), -100.0, dtype=F64)  # far outside of the picture


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("count", "size"), [(1, 6), (16, 16), (30, 9), (80, 9)])
def test_patterns_are_orthogonal_waves_and_the_longest_come_first(count, size):
    phi = data.texture_patterns(count, size, dtype=F64)
    gram = torch.einsum("khw,lhw->kl", phi, phi)
    torch.testing.assert_close(gram, size**2 / count * torch.eye(count, dtype=F64), rtol=0, atol=1e-9)
    torch.testing.assert_close(phi.sum((1, 2)), torch.zeros(count, dtype=F64), rtol=0, atol=1e-9)  # no constant
    # A wave is an eigenvector of the path's Laplacian: its slopes tell how many half periods fit in
    slopes = torch.stack([phi.diff(dim=axis).square().sum((1, 2)) for axis in (1, 2)], 1) * count / size**2
    orders = torch.arccos(1 - slopes / 2) * size / math.pi
    torch.testing.assert_close(orders, orders.round(), rtol=0, atol=1e-5)
    assert len({tuple(row) for row in orders.round().tolist()}) == count
    assert (orders.square().sum(1).diff() > -1e-4).all()
    # The first is half a wave from one side to the other
    half = torch.cos(math.pi * (torch.arange(size, dtype=F64) + 0.5) / size)
    first = half.expand(size, size) * math.sqrt(2 / count)
    torch.testing.assert_close(phi[0], first, rtol=0, atol=1e-12)


def test_a_picture_holds_its_factors():
    a = torch.randn(5, 16, generator=seeded(), dtype=F64)
    ground = data.draw_textured(NOWHERE, a, strength=0.7)
    phi = data.texture_patterns(16, dtype=F64)
    found = torch.einsum("nhw,khw->nk", ground, phi) / (0.7 * 16)  # by orthogonality
    torch.testing.assert_close(found, a, rtol=0, atol=1e-12)
    torch.testing.assert_close(ground.square().mean((1, 2)), 0.49 * a.square().mean(-1), rtol=1e-9, atol=0)
    place = torch.tensor([6.3, 8.8], dtype=F64)
    disc = data.draw_textured(place, torch.zeros(1, dtype=F64))
    pixels, mass = torch.arange(16, dtype=F64), disc.sum()
    centre = torch.stack([disc.sum(0) @ pixels, disc.sum(1) @ pixels]) / mass  # right, down
    torch.testing.assert_close(centre, place, rtol=0, atol=0.01)
    # Of a soft disc of radius R and edge s: π (R² + π² s² / 3)
    torch.testing.assert_close(mass.item(), math.pi * (9 + math.pi**2 * 0.4**2 / 3), rtol=0.01, atol=0)
    # The disc hides the texture: between the two, in the share of what it covers
    both = data.draw_textured(place.expand(5, 2), a, strength=0.7)
    torch.testing.assert_close(both, disc + (1 - disc) * ground, rtol=0, atol=1e-12)
    assert (both[:, 9, 6] - 1).abs().max() < 0.01
    far = data.draw_textured(place[None, None], a[:, None].expand(5, 3, 16))
    assert far.shape == (5, 3, 16, 16)


def test_the_disc_moves_at_constant_velocity_inside_the_picture():
    films = data.textured_films(3000, frames=5, speed=1.2, generator=seeded(), dtype=F64)
    steps = films.place.diff(dim=1)
    torch.testing.assert_close(steps, films.velocity[:, None].expand_as(steps), rtol=0, atol=1e-12)
    assert films.place.min() >= 2
    assert films.place.max() <= 13
    assert films.place.min() < 2.2 < 12.8 < films.place.max()
    assert films.velocity.abs().max() <= 1.2
    torch.testing.assert_close(films.velocity.var(), torch.tensor(1.2**2 / 3, dtype=F64), rtol=0.05, atol=0)
    middle = films.place[:, 2]
    joint = torch.corrcoef(torch.cat([middle, films.velocity, films.texture[:, 0, :2]], 1).T)
    assert (joint - torch.eye(6, dtype=F64)).abs().max() < 0.08  # independent of each other
    torch.testing.assert_close(films.frames, data.draw_textured(films.place, films.texture), rtol=0, atol=0)


@pytest.mark.parametrize("persistence", [0.0, 0.6, 1.0])
def test_the_texture_persists_as_far_as_asked(persistence):
    films = data.textured_films(4000, persistence=persistence, patterns=8, generator=seeded(), dtype=F64)
    a = films.texture
    torch.testing.assert_close(a.var((0, 2)), torch.ones(4, dtype=F64), rtol=0.04, atol=0)
    for lag in (1, 2, 3):
        agreement = (a[:, lag:] * a[:, :-lag]).mean()
        torch.testing.assert_close(agreement.item(), persistence**lag, rtol=0, atol=0.02)
    if persistence == 1:
        assert torch.equal(a[:, 0], a[:, 3])


def test_the_same_seed_gives_the_same_motion_whatever_the_texture():
    one = data.textured_films(20, generator=seeded(3))
    other = data.textured_films(20, generator=seeded(3), strength=2.0, persistence=0.9, noise=0.1)
    assert torch.equal(one.place, other.place)
    assert torch.equal(one.texture[:, 0], other.texture[:, 0])
    still = data.textured_films(20, generator=seeded(3), strength=0.0)
    clean = data.draw_textured(one.place, torch.zeros(20, 4, 1))
    torch.testing.assert_close(still.frames, clean)
    grain = other.frames - data.draw_textured(other.place, other.texture, strength=2.0)
    torch.testing.assert_close(grain.std().item(), 0.1, rtol=0.03, atol=0)


def test_pictures_are_smooth_in_place_and_texture():
    place = torch.tensor([[5.0, 7.0], [6.3, 8.8]], dtype=F64, requires_grad=True)  # the first on a pixel
    a = torch.randn(2, 3, generator=seeded(), dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p, c: data.draw_textured(p, c, size=10), (place, a))


def test_follows_dtype_and_device():
    films = data.textured_films(3, patterns=0, size=12, dtype=F64)
    assert all(factor.dtype == F64 for factor in films)
    assert films.frames.shape == (3, 4, 12, 12)
    assert films.texture.shape == (3, 4, 0)
    films = data.textured_films(3, device="meta", noise=0.1)
    assert all(factor.device.type == "meta" for factor in films)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n must be"),
        ({"frames": 0}, "frames must be"),
        ({"size": 3}, "size must be"),
        ({"speed": 4.0}, "speed must be .* leave room for 4 frames in 16 pixels"),
        ({"speed": -1.0}, "speed must be"),
        ({"speed": math.nan}, "speed must be"),
        ({"patterns": -1}, "patterns must be"),
        ({"patterns": 256}, "count must be less than the 256 pixels"),
        ({"strength": -0.1}, "strength must be"),
        ({"strength": math.inf}, "strength must be"),
        ({"persistence": 1.1}, "persistence must be"),
        ({"persistence": math.nan}, "persistence must be"),
        ({"noise": -1.0}, "noise must be"),
    ],
)
def test_bad_films_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        data.textured_films(**{"n": 3} | options)


def test_bad_pictures_are_named():
    a, place = torch.zeros(4), torch.zeros(2)
    with pytest.raises(ValueError, match=r"place must be \(..., 2\)"):
        data.draw_textured(torch.zeros(3), a)
    with pytest.raises(ValueError, match="texture must be"):
        data.draw_textured(place, a.double())
    with pytest.raises(ValueError, match="place must be finite"):
        data.draw_textured(place * math.nan, a)
    with pytest.raises(ValueError, match="texture must be finite"):
        data.draw_textured(place, a + math.inf)
