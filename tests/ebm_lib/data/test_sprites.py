"""Sprites: areas by geometry, factors that are what they say, and views that share what is asked."""

import math

import pytest
import torch

from ebm_lib import data
from ebm_lib.data.sprites import FACTORS, RADIUS, SHAPES

SIDES = {"triangle": 3, "square": 4, "pentagon": 5, "hexagon": 6}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def plain(shape, *, place=(0.0, 0.0), radius=0.8, angle=0.0, size=96):
    """One white shape on black: the coverage itself."""
    flat = torch.zeros(1, 3, size, size)
    white, black = torch.full((1, 3), 1 - 120 / 255), torch.full((1, 3), 0.0)
    figure = data.draw_sprites(
        torch.tensor([SHAPES.index(shape)]), torch.tensor([place]), torch.tensor([radius]), torch.tensor([angle]),
        black, white, torch.tensor([True]), flat, flat,
    )  # fmt: skip
    return figure[0, 0]


def area(picture):
    return 4 * picture.mean().item()  # the picture is [-1, 1]²


@pytest.mark.parametrize("angle", [0.1, 0.7, 2.0])
def test_areas_are_those_of_geometry(angle):
    r = 0.8
    for shape, n in SIDES.items():
        assert area(plain(shape, angle=angle)) == pytest.approx(n / 2 * r**2 * math.sin(2 * math.pi / n), rel=1e-2)
    assert area(plain("ellipse", angle=angle)) == pytest.approx(math.pi * 0.55 * r**2, rel=1e-2)
    assert area(plain("star", angle=angle)) == pytest.approx(5 * 0.42 * r**2 * math.sin(math.pi / 5), rel=1e-2)
    assert area(plain("cross", angle=angle)) == pytest.approx((4 * 0.94 * 0.66 - 0.66**2) * r**2, rel=1e-2)
    assert area(plain("L", angle=angle)) == pytest.approx((0.5 * 1.6 + 0.7 * 0.5) * r**2, rel=1e-2)
    ring = (math.pi - 0.7) * (1 - 0.55**2) * r**2
    assert area(plain("C", angle=angle)) == pytest.approx(ring, rel=1e-2)


def test_edges_are_smooth_and_a_heart_stands_upright():
    for shape in SHAPES:
        ninths = 9 * plain(shape, angle=0.3)
        torch.testing.assert_close(ninths, ninths.round(), atol=1e-4, rtol=0)
        assert len(ninths.round().unique()) > 5
    heart = plain("heart") > 0.5
    assert area(heart.float()) == pytest.approx(3.662 / 1.43**2 * 0.8**2, rel=1e-2)
    rows = heart.any(1).nonzero().squeeze(1)
    assert heart[rows[-1]].sum() < 8  # the point, below
    assert not heart[rows[0], 40:56].any()  # the notch, above
    torch.testing.assert_close(heart, heart.flip(1))


def test_textures_are_pieces_of_photographs_reduced_threefold():
    drawn = data.sprites(4, generator=seeded())
    photographs = [torch.nn.functional.avg_pool2d(p, 3) for p in data.load_photographs(colour=True).values()]
    for texture in torch.cat([drawn.ground_texture, drawn.figure_texture]):
        places = [
            p[:, y : y + 32, x : x + 32]
            for p in photographs
            for y, x in (p[:, :-31, :-31] == texture[:, :1, :1]).all(0).nonzero().tolist()
        ]
        assert any(torch.equal(place, texture) for place in places)


def test_every_shape_stays_in_its_circle_and_turns_with_its_angle():
    axis = (torch.arange(96) + 0.5) / 48 - 1
    far = torch.hypot(axis[:, None] - 0.1, axis - 0.2) > 0.7 + 0.03
    for shape in SHAPES:
        picture = plain(shape, place=(0.2, 0.1), radius=0.7)
        assert picture[far].max() == 0
        assert picture.max() == pytest.approx(1, abs=1e-6)
        centred = plain(shape)
        torch.testing.assert_close(plain(shape, angle=math.pi / 2), centred.rot90(-1), atol=0.35, rtol=0)
        assert (plain(shape, angle=math.pi / 2) - centred.rot90(-1)).abs().mean() < 2e-3
        symmetric = shape in ("square", "cross")
        assert ((centred.rot90(-1) - centred).abs().mean() < 2e-3) == symmetric


def test_pictures_are_the_stated_mixture():
    drawn = data.sprites(50, generator=seeded())
    front = 0.25 * drawn.figure_texture + drawn.figure[:, :, None, None] + 120 / 255 * drawn.bright[:, None, None, None]
    back = 0.35 * drawn.ground_texture + drawn.ground[:, :, None, None] + 100 / 255 * ~drawn.bright[:, None, None, None]
    share = (drawn.images - back) / (front - back)
    inner = (front - back).abs() > 0.02
    spread = torch.where(inner, share, torch.nan).nan_to_num(0.5)
    assert spread.min() > -1e-3
    assert spread.max() < 1 + 1e-3
    corner = torch.where(drawn.radius + drawn.place.norm(dim=1) < 1.3, 1, 0).bool()
    torch.testing.assert_close(drawn.images[corner, :, 0, 0], back[corner, :, 0, 0])
    assert drawn.images.min() >= 0
    assert drawn.images.max() <= 1


def test_factors_lie_where_they_should_and_do_not_tell_the_label():
    drawn = data.sprites(2000, generator=seeded())
    assert torch.bincount(drawn.labels, minlength=10).min() > 150
    assert RADIUS[0] <= drawn.radius.min() < RADIUS[0] + 0.01
    assert RADIUS[1] - 0.01 < drawn.radius.max() <= RADIUS[1]
    assert (drawn.place.abs().amax(1) + drawn.radius).max() <= 1 + 1e-6
    assert drawn.bright.float().mean().item() == pytest.approx(0.5, abs=0.04)
    for tint in (drawn.ground, drawn.figure):
        assert 0 <= tint.min() < 0.01 * 60 / 255
        assert 0.99 * 60 / 255 < tint.max() <= 60 / 255
    assert drawn.radius.mean().item() == pytest.approx(sum(RADIUS) / 2, abs=0.01)
    assert drawn.angle.min() < 0.1
    assert 2 * math.pi - 0.1 < drawn.angle.max() < 2 * math.pi
    where = drawn.place / (1 - drawn.radius)[:, None]
    singles = torch.stack([drawn.radius, drawn.angle, drawn.bright.float()], 1)
    together = torch.corrcoef(torch.cat([singles, where, drawn.ground, drawn.figure], 1).T)
    assert (together - torch.eye(11)).abs().max() < 0.1  # each is drawn on its own
    for factor in (drawn.radius, drawn.angle, drawn.ground[:, 0], drawn.figure[:, 2], drawn.bright.float()):
        means = torch.stack([factor[drawn.labels == k].mean() for k in range(10)])
        assert (means - factor.mean()).abs().max() < 5 * factor.std() / 200**0.5


def test_the_seed_is_the_set_and_labels_may_be_chosen():
    a, b = (data.sprites(20, generator=seeded(3)) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(a.images, data.sprites(20, generator=seeded(4)).images)
    labels = torch.arange(20) % 10
    assert torch.equal(data.sprites(20, labels=labels, generator=seeded()).labels, labels)
    assert data.sprites(2, size=48, generator=seeded(), dtype=torch.float64).images.shape == (2, 3, 48, 48)
    torch.testing.assert_close(data.draw_sprites(*a[1:]), a.images)


def test_pairs_share_what_is_named_and_nothing_else():
    for shared in ((), ("labels",), ("labels", "angle", "ground_texture"), FACTORS):
        one, other = data.sprite_pairs(40, shared=shared, generator=seeded())
        for name in FACTORS:
            assert torch.equal(getattr(one, name), getattr(other, name)) == (name in shared)
        assert torch.equal(one.images, other.images) == (shared == FACTORS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.sprites(0), "n must"),
        (lambda: data.sprites(2, size=4), "size"),
        (lambda: data.sprites(2, labels=torch.tensor([0, 10])), "labels"),
        (lambda: data.sprite_pairs(2, shared=("colour",)), "shared"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_factors_that_do_not_go_together_are_refused():
    good = list(data.sprites(3, generator=seeded())[1:])
    for position, name in enumerate(FACTORS):
        bad = good.copy()
        bad[position] = bad[position][:2] if position else bad[position][:, None]
        with pytest.raises(ValueError, match=f"{name} must have shape"):
            data.draw_sprites(*bad)
    for position, spoil, message in (
        (0, torch.Tensor.float, "whole numbers"),
        (2, torch.neg, "radius must be positive"),
        (2, torch.zeros_like, "radius must be positive"),
        (6, torch.Tensor.float, "bool"),
        (7, lambda texture: texture / 0, "finite"),
    ):
        bad = good.copy()
        bad[position] = spoil(bad[position])
        with pytest.raises(ValueError, match=message):
            data.draw_sprites(*bad)
    with pytest.raises(ValueError, match="labels must lie"):
        data.draw_sprites(good[0] + 10, *good[1:])
