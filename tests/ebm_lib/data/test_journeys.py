"""Journeys: a digit is where it is said to be, goals change on arrival only, turns follow the rule as asked."""

import pytest
import torch
from torch.nn.functional import avg_pool2d

from ebm_lib import data

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def films():
    return data.digit_journeys(300, 60, generator=seeded(), dtype=F64)


@pytest.mark.parametrize(("size", "jitter"), [(16, 0.03), (13, 0.5), (20, 0.0)])
def test_place_is_the_centre_of_mass_and_nothing_leaves_the_picture(size, jitter):
    films = data.digit_journeys(200, 9, size=size, jitter=jitter, generator=seeded(), dtype=F64)
    assert films.frames.shape == (200, 9, size, size)
    assert films.frames.min() >= 0
    assert films.frames.max() <= 1
    axis = (2 * torch.arange(size, dtype=F64) + 1) / size - 1
    mass = films.frames.sum((2, 3))
    centre = torch.stack([(films.frames.sum(2) * axis).sum(-1), (films.frames.sum(3) * axis).sum(-1)], -1)
    torch.testing.assert_close(centre / mass[..., None], films.place)
    torch.testing.assert_close(mass, mass[:, :1].expand_as(mass))  # none of it is cut off
    assert films.place.abs().max() <= 1 - 8 / size + 1e-12


@pytest.mark.parametrize("held_out", [False, True])
def test_on_whole_pixels_a_frame_shows_a_bundled_digit_of_its_class(held_out):
    images, classes, _ = data.load_digits(dtype=F64)
    part = slice(8000, None) if held_out else slice(8000)
    small = avg_pool2d(images[part, None], 4)[:, 0]
    films = data.digit_journeys(40, 1, held_out=held_out, generator=seeded(), dtype=F64)
    for frame, label in zip(films.frames[:, 0], films.labels, strict=True):
        total = small.sum((1, 2)) - frame.sum()
        rows = (total.abs() < 1e-9).nonzero().squeeze(1)  # drawing keeps the brightness
        assert label in classes[part][rows]
    assert torch.equal(data.draw_journeys(films.digits, films.place), films.frames)
    axis = torch.arange(7, dtype=F64) - 3
    mass = small[:3].sum((1, 2))
    middle = torch.stack([(small[:3].sum(1) * axis).sum(1), (small[:3].sum(2) * axis).sum(1)], 1) / mass[:, None]
    whole = data.draw_journeys(small[:3], (middle * 2 / 13)[:, None], size=13)  # 7 pixels in the middle of 13
    torch.testing.assert_close(whole[:, 0, 3:10, 3:10], small[:3])
    assert whole.sum() == pytest.approx(small[:3].sum())


def test_steps_are_those_of_the_formula(films):
    place, after, goal = films.place[:, :-1], films.place[:, 1:], films.goal[:, :-1]
    distance = (goal - place).norm(dim=-1, keepdim=True)
    meant = (goal - place) / distance * distance.clamp(max=0.08)
    torch.testing.assert_close(after - place - meant, films.jitter[:, 1:])
    free = films.place[:, 1:].abs().amax(-1) < 0.5 - 1e-9  # not held back by the edge
    drift = films.jitter[:, 1:][free]
    assert drift.mean(0).abs().max() < 4 * 0.03 / len(drift) ** 0.5 + 1e-3
    assert drift.std(0).tolist() == pytest.approx([0.03, 0.03], rel=0.03)
    assert films.jitter[:, 0].abs().max() == 0
    still = data.digit_journeys(50, 30, jitter=0.0, speed=0.1, generator=seeded(), dtype=F64)
    assert still.jitter.abs().max() < 1e-12
    assert still.place.diff(dim=1).norm(dim=-1).max() <= 0.1 + 1e-12


def test_goals_are_corners_and_change_on_arrival_only(films):
    assert films.goal.abs().sub(0.4).abs().max() < 1e-12
    assert len(films.goal.flatten(0, 1).unique(dim=0)) == 4
    arrived = (films.goal[:, :-1] - films.place[:, 1:]).norm(dim=-1) <= 0.08
    assert torch.equal(films.stage.diff(dim=1), arrived.long())
    assert torch.equal((films.goal.diff(dim=1) != 0).any(-1), arrived)
    assert films.stage[:, 0].max() == 0
    assert films.stage[:, -1].min() >= 3
    assert torch.equal(films.corner[:, 1:][arrived], films.following[:, :-1][arrived])
    assert (films.following != films.corner).all()
    # the first leg has begun: the first place is on the way between two corners
    first = films.place[:, 0].abs()
    assert ((first - 0.4).abs().amin(-1) < 1e-9).logical_or((first[:, 0] - first[:, 1]).abs() < 1e-9).all()


@pytest.mark.parametrize("faith", [0.0, 0.7, 1.0])
def test_turns_follow_the_rule_of_the_class_as_often_as_asked(faith):
    films = data.digit_journeys(2000, 41, size=12, faith=faith, generator=seeded())
    turns = (films.following - films.corner)[:, ::20].remainder(4)
    rule = torch.where(films.labels % 2 == 0, 1, 3)[:, None]
    obeyed = (turns == rule).double().mean().item()
    assert obeyed == pytest.approx(faith, abs=0.03)
    if faith < 1:
        across = (turns == 2).double().mean().item()
        assert across == pytest.approx((1 - faith) / 2, abs=0.03)
        assert (turns == (4 - rule)).double().mean().item() == pytest.approx((1 - faith) / 2, abs=0.03)
    assert (turns != 0).all()
    # clockwise on the screen, where y points down: from the upper right the next is the lower right
    even = (films.labels % 2 == 0)[:, None] & (films.following == (films.corner + 1) % 4)
    here, there = films.goal, torch.tensor(data.journeys.CORNERS)[films.following]
    cross = here[..., 0] * there[..., 1] - here[..., 1] * there[..., 0]
    assert (cross[even] > 0).all()


def test_the_seed_is_the_film_and_labels_may_be_chosen():
    a, b = (data.digit_journeys(20, 8, generator=seeded(3)) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(a.frames, data.digit_journeys(20, 8, generator=seeded(4)).frames)
    labels = torch.arange(20) % 10
    assert torch.equal(data.digit_journeys(20, 3, labels=labels, generator=seeded()).labels, labels)
    counts = torch.bincount(data.digit_journeys(2000, 1, generator=seeded()).labels, minlength=10)
    assert counts.min() > 140


def test_follows_dtype_and_device():
    double, single = (data.digit_journeys(6, 5, generator=seeded(), dtype=d) for d in (F64, torch.float32))
    assert double.frames.dtype == double.jitter.dtype == F64
    assert single.goal.dtype == torch.float32
    assert torch.equal(double.labels, single.labels)
    meta = data.digit_journeys(6, 5, device="meta")
    assert {part.device.type for part in meta} == {"meta"}
    assert [part.shape for part in meta] == [part.shape for part in double]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 0}, "n must"),
        ({"frames": 0}, "frames must"),
        ({"size": 11}, "size"),
        ({"speed": 0.0}, "speed"),
        ({"speed": float("nan")}, "speed"),
        ({"jitter": -0.1}, "jitter"),
        ({"faith": 1.1}, "faith"),
        ({"labels": torch.tensor([0, 10])}, "labels"),
        ({"dtype": torch.int64}, "dtype"),
    ],
)
def test_bad_input_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        data.digit_journeys(**{"n": 2, "frames": 3} | wrong)


@pytest.mark.parametrize(
    ("digits", "place", "message"),
    [
        (torch.ones(2, 7, 6), torch.zeros(2, 1, 2), "digits"),
        (torch.zeros(2, 7, 7), torch.zeros(2, 1, 2), "bright"),
        (torch.ones(2, 7, 7), torch.zeros(3, 1, 2), "place"),
        (torch.ones(2, 7, 7), torch.full((2, 1, 2), torch.nan), "place"),
    ],
)
def test_what_cannot_be_drawn_is_named(digits, place, message):
    with pytest.raises(ValueError, match=message):
        data.draw_journeys(digits, place)
