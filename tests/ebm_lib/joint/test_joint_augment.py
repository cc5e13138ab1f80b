"""Augmentations against kornia's own functions, known pictures, and the same seed twice."""

import sys

import kornia
import pytest
import torch

from ebm_lib.joint import Augmentation, Kornia, Views, jigsaw

STILL = {"crop": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0,
         "hue": 0.0, "grey": 0.0}  # fmt: skip


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n=6, height=16, width=16, seed=0):
    return 0.3 + 0.4 * torch.rand(n, 3, height, width, generator=seeded(seed))


def only(size=16, **change):
    return Augmentation(size, **(STILL | change))


def test_with_all_amounts_at_zero_nothing_changes():
    x = pictures()
    torch.testing.assert_close(only()(x, seeded()), x, atol=1e-5, rtol=0)


def test_a_flip_is_a_mirror_image():
    x = pictures()
    torch.testing.assert_close(only(flip=1.0)(x, seeded()), x.flip(-1), atol=1e-5, rtol=0)
    some = only(flip=0.5)(pictures(200), seeded())
    mirrored = (some - pictures(200).flip(-1)).abs().amax((1, 2, 3)) < 1e-4
    assert 70 < mirrored.sum() < 130


def test_a_crop_is_a_part_of_the_picture_enlarged():
    """A picture whose values are its coordinates shows where a crop was taken, and that it lies inside."""
    axis = (torch.arange(32) + 0.5) / 32
    x = torch.stack([axis.expand(32, 32), axis[:, None].expand(32, 32), torch.zeros(32, 32)]).expand(300, 3, 32, 32)
    view = only(32, crop=(0.25, 0.64), ratio=(0.8, 1.25))(x, seeded())
    left, right = view[:, 0, :, 2], view[:, 0, :, -3]
    width = (right - left).mean(1) * 32 / 27  # between the pixels 2 and 29 of 32
    height = (view[:, 1, -3] - view[:, 1, 2]).mean(1) * 32 / 27
    area = width * height
    assert area.min() > 0.24
    assert area.max() < 0.65
    assert area.mean().item() == pytest.approx(0.445, abs=0.02)
    ratio = width / height
    assert ratio.min() > 0.79
    assert ratio.max() < 1.27
    centre = view[:, :2].mean((2, 3))
    assert ((centre - torch.stack([width, height], -1) / 2) > -0.02).all()
    assert ((centre + torch.stack([width, height], -1) / 2) < 1.02).all()
    assert centre.std(0).min() > 0.03


def test_a_crop_of_any_aspect_stays_inside_unless_it_is_larger_than_the_picture():
    axis = (torch.arange(32) + 0.5) / 32
    x = torch.stack([axis.expand(32, 32), axis[:, None].expand(32, 32), torch.zeros(32, 32)]).expand(50, 3, 32, 32)
    view = only(32, crop=(0.9, 1.0), ratio=(0.5, 2.0))(x, seeded())
    assert (view[:, 0].diff(dim=2).mean((1, 2)) > 0.5 / 32).all()
    assert (view[:, 0, :, 2:-2].diff(dim=2) > 0).all()  # nothing is mirrored
    assert (view[:, 1, 2:-2].diff(dim=1) > 0).all()
    flat = torch.full((3, 3, 32, 32), 0.5)
    torch.testing.assert_close(only(32, crop=(4.0, 4.0))(flat, seeded()), flat)  # mirrored, not framed in black
    small = only(32, crop=(4.0, 4.0))(x, seeded())
    inner = small[:, 0, 16].diff(dim=1).abs()  # half as large: twice the slope
    assert inner.median().item() == pytest.approx(2 / 32, rel=0.05)


def test_a_turned_and_mirrored_picture_keeps_its_shape():
    draws = torch.rand(40, 12, generator=seeded())
    linear = only(33, rotate=60.0, flip=0.5).warps(draws, 33, 33)[..., :2]
    torch.testing.assert_close(linear @ linear.mT, torch.eye(2).expand(40, 2, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(linear), torch.where(draws[:, 4] < 0.5, -1.0, 1.0))


def test_size_may_change_and_pictures_need_not_be_square():
    axis = (torch.arange(24) + 0.5) / 24
    x = axis.expand(2, 3, 48, 24)
    view = only(12)(x, seeded())
    torch.testing.assert_close(view[0, 0, 5], (torch.arange(12) + 0.5) / 12, atol=1e-3, rtol=0)


def test_a_turn_is_by_at_most_its_angle_and_about_the_centre():
    x = torch.zeros(100, 3, 33, 33)
    x[:, :, 16, 26] = 1.0  # right of the centre
    view = only(33, rotate=40.0)(x, seeded())[:, 0]
    axis = torch.arange(33) - 16.0
    weight = view / view.sum((1, 2), keepdim=True)
    across, down = (weight * axis).sum((1, 2)), (weight * axis[:, None]).sum((1, 2))
    torch.testing.assert_close(torch.hypot(across, down), torch.full((100,), 10.0), atol=0.3, rtol=0)
    degrees = torch.rad2deg(torch.atan2(down, across))
    assert degrees.abs().max() < 42
    assert degrees.min() < -25
    assert degrees.max() > 25


def test_the_colours_are_kornias_functions():
    x, augment = pictures(), only()
    draws = torch.full((6, 12), 0.5)
    for column, name in ((7, "brightness"), (8, "contrast"), (9, "saturation")):
        augment = only(**{name: 0.3}, jitter=1.0)
        moved = draws.clone()
        moved[:, column] = torch.linspace(0.05, 0.95, 6)
        factor = 1 + 0.3 * (2 * moved[:, column] - 1)
        A, t = augment.colours(moved, x.mean((2, 3)))
        found = torch.einsum("nij,njhw->nihw", A, x) + t[:, :, None, None]
        enhance = {
            "brightness": kornia.enhance.adjust_brightness_accumulative,
            "contrast": kornia.enhance.adjust_contrast_with_mean_subtraction,
            "saturation": kornia.enhance.adjust_saturation_with_gray_subtraction,
        }[name]
        torch.testing.assert_close(found.clamp(0, 1), enhance(x, factor), atol=1e-5, rtol=1e-5)


def test_contrast_is_about_each_pictures_own_grey():
    x = torch.stack([0.3 + 0.1 * pictures(1)[0], 0.5 + 0.2 * pictures(1, seed=1)[0]])
    found = only(contrast=0.5, jitter=1.0)(x, seeded())
    grey = lambda pictures: kornia.color.rgb_to_grayscale(pictures).mean((1, 2, 3))
    torch.testing.assert_close(grey(found), grey(x), atol=1e-5, rtol=0)
    assert (found.std((1, 2, 3)) / x.std((1, 2, 3)) - 1).abs().min() > 0.01


def test_brightness_contrast_and_saturation_follow_each_other_as_in_kornia():
    x, augment = pictures(), only(brightness=0.2, contrast=0.2, saturation=0.2, jitter=1.0)
    draws = torch.full((6, 12), 0.5)
    draws[:, 7:10] = torch.rand(6, 3, generator=seeded())
    b, c, s = (1 + 0.2 * (2 * draws[:, 7:10] - 1)).T
    expected = kornia.enhance.adjust_brightness_accumulative(x, b)
    expected = kornia.enhance.adjust_contrast_with_mean_subtraction(expected, c)
    expected = kornia.enhance.adjust_saturation_with_gray_subtraction(expected, s)
    assert 0 < expected.min()
    assert expected.max() < 1  # nothing was clipped in between
    A, t = augment.colours(draws, x.mean((2, 3)))
    found = torch.einsum("nij,njhw->nihw", A, x) + t[:, :, None, None]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_grey_is_kornias_grey_and_comes_as_often_as_asked():
    x = pictures()
    grey = kornia.color.rgb_to_grayscale(x).expand(-1, 3, -1, -1)
    torch.testing.assert_close(only(grey=1.0)(x, seeded()), grey, atol=1e-5, rtol=0)
    some = only(4, grey=0.2)(pictures(500, 4, 4), seeded())
    without = (some.amax(1) - some.amin(1)).amax((1, 2)) < 1e-4
    assert 70 < without.sum() < 130


def test_the_hue_turns_at_constant_luminance_and_a_whole_turn_is_none():
    x = pictures()
    augment, draws = only(hue=1.0, jitter=1.0), torch.full((6, 12), 0.5)
    draws[:, 10] = torch.tensor([0.5, 0.625, 0.75, 0.875, 1.0, 0.0])  # turns of 0, ¼, ½, ¾, 1, −1
    A, t = augment.colours(draws, x.mean((2, 3)))
    eye = torch.eye(3)
    assert t.abs().max() < 1e-6
    for k in (0, 4, 5):
        torch.testing.assert_close(A[k], eye, atol=1e-5, rtol=0)
    torch.testing.assert_close(A[1] @ A[1], A[2], atol=1e-5, rtol=0)
    torch.testing.assert_close(A[1] @ A[3], eye, atol=1e-5, rtol=0)
    luminance = torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(luminance @ A, luminance.expand(6, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(A.sum(-1), torch.ones(6, 3), atol=1e-5, rtol=0)  # grey stays grey
    assert (A[2] - eye).abs().max() > 0.5


def test_the_jitter_spares_a_share_of_pictures():
    augment = only(4, brightness=0.5, jitter=0.7)
    changed = (augment(pictures(500, 4, 4), seeded()) - pictures(500, 4, 4)).abs().amax((1, 2, 3)) > 1e-4
    assert 300 < changed.sum() < 400


def test_the_seed_is_the_view_and_torchs_generator_is_left_alone():
    x, augment = pictures(), Augmentation(16, rotate=30.0)
    state = torch.get_rng_state()
    first, second, other = (augment(x, seeded(s)) for s in (1, 1, 2))
    blur = Kornia(kornia.augmentation.RandomGaussianBlur((3, 3), (0.1, 2.0), p=0.5))
    one, same, another = (blur(x, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(one, same)
    assert not torch.equal(one, another)
    before = x.clone()
    augment(x, seeded())
    assert torch.equal(x, before)


def test_every_picture_gets_its_own_draw_and_stays_in_range():
    x = pictures(1).expand(50, -1, -1, -1)
    view = Augmentation(16, brightness=1.0, contrast=1.0)(x, seeded())
    assert len({tuple(v.flatten().tolist()) for v in view}) == 50
    assert 0 <= view.min()
    assert view.max() <= 1


def test_device_and_dtype_follow_the_pictures():
    assert Augmentation(8)(pictures().double(), seeded()).dtype == torch.float64


def test_views_are_one_of_each():
    large, small = Augmentation(16), Augmentation(8, crop=(0.2, 0.5))
    views = Views(large, large, small)(pictures(), seeded())
    assert [tuple(v.shape) for v in views] == [(6, 3, 16, 16), (6, 3, 16, 16), (6, 3, 8, 8)]
    assert not torch.equal(views[0], views[1])
    again = Views(large, large, small)(pictures(), seeded())
    assert all(torch.equal(a, b) for a, b in zip(views, again, strict=True))


def test_a_jigsaw_holds_a_patch_of_each_cell_in_an_order_of_its_own():
    cell = torch.arange(9.0).view(3, 3).repeat_interleave(10, 0).repeat_interleave(10, 1)
    column = torch.arange(30.0).expand(30, 30)
    x = torch.stack([cell, column]).expand(40, 2, 30, 30)
    patches = jigsaw(x, grid=3, patch=7, generator=seeded())
    assert patches.shape == (40, 9, 2, 7, 7)
    which = patches[:, :, 0].amax((2, 3))
    assert torch.equal(which, patches[:, :, 0].amin((2, 3)))  # no patch crosses a cell's edge
    assert torch.equal(which.sort(1).values, torch.arange(9.0).expand(40, 9))
    assert len({tuple(order) for order in which.tolist()}) > 35
    places = patches[:, :, 1, 0, 0] % 10
    assert set(places.flatten().tolist()) == {0.0, 1.0, 2.0, 3.0}
    torch.testing.assert_close(patches[:, :, 1].diff(dim=-1), torch.ones(40, 9, 7, 6))  # upright and whole
    down = jigsaw(x.mT, grid=3, patch=7, generator=seeded())[:, :, 1, 0, 0] % 10  # the same draws, seen the other way
    assert set(zip(places.flatten().tolist(), down.flatten().tolist(), strict=True)) == {
        (a, b) for a in range(4) for b in range(4)
    }


def test_without_kornia_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "kornia.geometry.transform", None)
    with pytest.raises(ImportError, match="pip install kornia"):
        Augmentation(8)(pictures())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Augmentation(0), "size"),
        (lambda: Augmentation(8, crop=(0.0, 1.0)), "crop"),
        (lambda: Augmentation(8, crop=(0.9, 0.5)), "crop"),
        (lambda: Augmentation(8, ratio=(1.0, float("inf"))), "ratio"),
        (lambda: Augmentation(8, flip=1.5), "flip"),
        (lambda: Augmentation(8, jitter=-0.1), "jitter"),
        (lambda: Augmentation(8, grey=2.0), "grey"),
        (lambda: Augmentation(8, brightness=1.5), "brightness"),
        (lambda: Augmentation(8, hue=-0.1), "hue"),
        (lambda: Augmentation(8)(torch.zeros(2, 1, 8, 8)), "images"),
        (lambda: Augmentation(8)(torch.full((2, 3, 8, 8), float("nan"))), "finite"),
        (lambda: Kornia(kornia.augmentation.RandomHorizontalFlip())(torch.full((2, 3, 8, 8), float("nan"))), "finite"),
        (lambda: Views(), "at least one"),
        (lambda: jigsaw(torch.zeros(3, 8, 8)), "images"),
        (lambda: jigsaw(torch.zeros(1, 3, 8, 8), grid=3, patch=3), "patch"),
        (lambda: jigsaw(torch.zeros(1, 3, 8, 8), grid=9), "patch"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
