"""Scenes: boxes are tight, counts and classes as asked for, seeds reproduce, places as promised."""

import time

import pytest
import torch

from ebm_lib.data.scenes import SCENE_SHAPES, scenes


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def corners(boxes, size):
    low = (boxes[..., :2] - boxes[..., 2:] / 2) * size
    return low, low + boxes[..., 2:] * size


def test_the_box_is_tight_around_the_pixels_of_an_object_alone():
    drawn = scenes(300, objects=(1, 1), texture=0.0, noise=0.0, generator=seeded())
    ground = drawn.images[:, :, :1, :1].clone()
    corner = drawn.images[:, :, -1:, -1:]
    same = (ground == corner).all(1).flatten()  # no object in either corner, so this is the background
    assert same.sum() > 250
    figure = (drawn.images != ground).any(1)
    low, high = corners(drawn.boxes[:, 0], 48)
    for k in same.nonzero().flatten().tolist():
        y, x = figure[k].nonzero().T
        assert low[k].tolist() == pytest.approx([x.min().item(), y.min().item()], abs=1e-4)
        assert high[k].tolist() == pytest.approx([x.max().item() + 1, y.max().item() + 1], abs=1e-4)


def test_each_class_fills_its_share_of_the_box():
    drawn = scenes(2000, objects=(1, 1), texture=0.0, noise=0.0, size=64, generator=seeded())
    centre = drawn.images.flatten(2)
    ground = centre.mode(-1).values  # most of the picture
    area = (drawn.images != ground[..., None, None]).any(1).flatten(1).sum(-1) / 64**2
    share = area / drawn.boxes[:, 0, 2:].prod(-1)
    for k, expected in enumerate((torch.pi / 4, 1.0, 0.5, 5 / 9)):
        chosen = drawn.labels[:, 0] == k
        assert share[chosen].mean().item() == pytest.approx(expected, abs=0.03), SCENE_SHAPES[k]


def test_later_objects_lie_in_front_and_boxes_keep_what_is_hidden():
    drawn = scenes(2000, objects=(2, 2), texture=0.0, noise=0.0, overlap=1.0, generator=seeded())
    low, high = corners(drawn.boxes, 48)
    assert (low > -1e-4).all()
    assert (high < 48 + 1e-4).all()
    # Two squares that cross: the front one fills its box, the other's box is larger than what is left of it.
    crossing = (drawn.labels == 1).all(-1) & (low[:, 0] + 1 < high[:, 1]).all(-1) & (low[:, 1] + 1 < high[:, 0]).all(-1)
    assert crossing.sum() > 10
    for k in crossing.nonzero().flatten().tolist():
        (left, top), (right, bottom) = low[k, 1].round().int().tolist(), high[k, 1].round().int().tolist()
        patch = drawn.images[k, :, top:bottom, left:right]
        assert (patch == patch[:, :1, :1]).all()
    area = (drawn.boxes[..., 2:] * 48).prod(-1)
    assert (area[crossing] > 60).all()


def test_overlap_stays_below_what_is_asked_for():
    for most in (0.0, 0.25):
        drawn = scenes(500, objects=(4, 4), overlap=most, generator=seeded())
        low, high = corners(drawn.boxes.double(), 1)
        common = (torch.minimum(high[:, :, None], high[:, None]) - torch.maximum(low[:, :, None], low[:, None])).clamp(
            min=0
        )
        area = drawn.boxes.double()[..., 2:].prod(-1)
        share = common.prod(-1) / torch.minimum(area[:, :, None], area[:, None])
        pairs = ~torch.eye(4, dtype=torch.bool)
        assert share[:, pairs].max() <= most + 0.13  # boxes are rounded to whole pixels after they were placed


def test_counts_and_padding():
    drawn = scenes(2000, objects=(0, 3), generator=seeded())
    assert drawn.labels.shape == (2000, 3)
    assert (drawn.counts.bincount(minlength=4) / 2000 - 0.25).abs().max() < 0.04
    real = torch.arange(3) < drawn.counts[:, None]
    assert (drawn.labels[real] >= 0).all()
    assert (drawn.labels[~real] == -1).all()
    assert (drawn.boxes[~real] == 0).all()
    assert (drawn.boxes[real][:, 2:] > 8 / 48).all()
    frequency = drawn.labels[real].bincount(minlength=4) / real.sum()
    assert (frequency - 0.25).abs().max() < 0.03


def test_seeds_reproduce_and_kinds_are_as_asked_for():
    one, same, other = (scenes(20, generator=seeded(k), dtype=torch.float64) for k in (1, 1, 2))
    for a, b in zip(one, same, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.images, other.images)
    assert one.images.dtype == one.boxes.dtype == torch.float64
    assert one.labels.dtype == one.counts.dtype == torch.int64
    assert one.images.min() >= 0
    assert one.images.max() <= 1
    assert scenes(2, size=32, generator=seeded()).images.shape == (2, 3, 32, 32)


def test_noise_is_the_last_draw():
    plain, noisy = (scenes(5, noise=noise, generator=seeded()) for noise in (0.0, 0.02))
    assert torch.equal(plain.boxes, noisy.boxes)
    assert (plain.images - noisy.images).std().item() == pytest.approx(0.02, rel=0.2)


def test_thousands_take_seconds():
    start = time.process_time()
    scenes(2000, generator=seeded())
    assert time.process_time() - start < 20


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_scenes_follow_the_generators_device():
    drawn = scenes(5, generator=torch.Generator("cuda").manual_seed(0))
    assert all(part.is_cuda for part in drawn)


def test_scenes_refuse():
    for wrong, message in (
        ({"objects": (3, 2)}, "objects"),
        ({"objects": (-1, 2)}, "objects"),
        ({"size": 8}, "size"),
        ({"overlap": 1.5}, "overlap"),
        ({"texture": -1.0}, "texture"),
        ({"noise": -1.0}, "noise"),
        ({"objects": (30, 30)}, "room"),
    ):
        with pytest.raises(ValueError, match=message):
            scenes(2, generator=seeded(), **wrong)
