"""Shapes and their events against geometry: closed forms, sums over sides, counts along a perimeter."""

import math
from itertools import pairwise

import pytest
import torch
from scipy.stats import chi2

from ebm_lib.data.concepts import (
    HEAP,
    REACH,
    SHAPES,
    SPOT,
    draw_events,
    draw_parameters,
    misfit,
    points_of,
)

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def tasks(shape, count=40, events=3, points=8, noise=0.0, seed=0):
    g = seeded(seed)
    theta = draw_parameters(shape, count, generator=g, dtype=F64)
    return theta, draw_events(shape, theta, events, points=points, noise=noise, generator=g)


def turn(angle):
    return torch.stack([torch.cos(angle), torch.sin(angle)], dim=-1)


# ---- draws


@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_fill_the_stated_range_evenly(shape):
    theta = draw_parameters(shape, 20_000, generator=seeded(), dtype=F64)
    low, high = (torch.tensor(side, dtype=F64) for side in (SHAPES[shape].low, SHAPES[shape].high))
    assert theta.shape == (20_000, len(SHAPES[shape].names)) == (20_000, len(low))
    u = (theta - low) / (high - low)
    assert ((u >= 0) & (u < 1)).all()
    for column in u.T:
        seen = torch.histc(column, 20, 0, 1)
        assert ((seen - 1000).square() / 1000).sum().item() < chi2.ppf(1 - 1e-6, 19)


@pytest.mark.parametrize("shape", SHAPES)
def test_events_without_noise_have_no_misfit(shape):
    theta, y = tasks(shape)
    assert y.shape == (40, 3, 16)
    assert y.dtype == F64
    assert misfit(shape, y, theta[:, None]).max().item() < 2e-3


@pytest.mark.parametrize("shape", SHAPES)
def test_another_value_of_the_parameter_does_not_fit(shape):
    low, high = (torch.tensor(side) for side in (SHAPES[shape].low, SHAPES[shape].high))
    if shape == "line":
        high = high / 2
    y = draw_events(shape, high[None], 200, points=16, generator=seeded())
    assert misfit(shape, y, low).min().item() > 0.04


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "spot"])
def test_each_event_has_a_place_of_its_own_within_reach(shape):
    theta = torch.tensor([SHAPES[shape].low], dtype=F64).expand(4000, -1)
    y = points_of(draw_events(shape, theta, 1, points=1, generator=seeded()))[:, 0, 0]
    bare = points_of(draw_events(shape, theta[:1], 1, points=4000, generator=seeded(1)))[0, 0]
    extent = (bare - bare.mean(0)).norm(dim=-1).max() * 1.1
    assert y.abs().max() <= REACH + extent
    variance = REACH**2 / 3  # of the place, added to that of the shape
    for wide, narrow in zip(y.var(0).tolist(), bare.var(0).tolist(), strict=True):
        assert wide == pytest.approx(variance + narrow, rel=0.1)


def test_a_spot_stays_where_it_is_and_fills_its_disc_evenly():
    centre = torch.tensor([0.3, -0.7], dtype=F64)
    p = points_of(draw_events("spot", centre, 500, points=40, generator=seeded())) - centre
    share = (p.norm(dim=-1) / SPOT).square().flatten()  # uniform, if the area is filled evenly
    assert share.max() <= 1
    seen = torch.histc(share, 20, 0, 1)
    assert ((seen - 1000).square() / 1000).sum().item() < chi2.ppf(1 - 1e-6, 19)


@pytest.mark.parametrize(
    ("shape", "corners"),
    [
        ("square", [[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]),
        ("triangle", [[0.0, 0.5], [-0.5 * math.cos(math.pi / 6), -0.25], [0.5 * math.cos(math.pi / 6), -0.25]]),
    ],
)
def test_points_are_spread_evenly_along_a_perimeter(shape, corners):
    # one event has one place; each of its points is told by the side it lies on and how far along
    p = points_of(draw_events(shape, torch.tensor([0.5], dtype=F64), 1, points=24_000, generator=seeded()))[0]
    c = torch.tensor(corners, dtype=F64)
    p = p - (torch.stack([p.amin(0), p.amax(0)]).mean(0) - torch.stack([c.amin(0), c.amax(0)]).mean(0))
    bins = torch.zeros(len(c), 8)
    side = c.roll(-1, 0) - c
    for k in range(len(c)):
        off = p - c[k]
        along = (off @ side[k]) / side[k].square().sum()
        away = (off - along[:, None] * side[k]).norm(dim=-1)
        on = (away < 1e-3) & (along > 0) & (along < 1)
        bins[k] = torch.histc(along[on], 8, 0, 1)
    expected = 24_000 / bins.numel()
    assert bins.sum().item() == pytest.approx(24_000, abs=150)  # corners may be counted twice
    assert ((bins - expected).square() / expected).sum().item() < chi2.ppf(1 - 1e-6, bins.numel())


def test_heaps_are_two_equal_discs_their_distance_apart():
    p = points_of(draw_events("heaps", torch.tensor([1.2, 0.9], dtype=F64), 1, points=8000, generator=seeded()))[0]
    along = (p - p.mean(0)) @ turn(torch.tensor(0.9, dtype=F64))
    right = along > 0
    assert right.double().mean().item() == pytest.approx(0.5, abs=0.03)
    gap = p[right].mean(0) - p[~right].mean(0)
    torch.testing.assert_close(gap, 1.2 * turn(torch.tensor(0.9, dtype=F64)), atol=0.01, rtol=0)
    assert (p[right] - p[right].mean(0)).norm(dim=-1).max() < HEAP + 0.01


def test_a_generator_decides_and_no_global_state_moves():
    state = torch.get_rng_state()
    first, again, other = (tasks("heaps", noise=0.1, seed=s) for s in (3, 3, 4))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("shape", SHAPES)
def test_dtype_and_device_follow(shape):
    theta = draw_parameters(shape, 2, dtype=torch.float32, device="meta")
    y = draw_events(shape, theta, 3, points=5, noise=0.1)
    assert (y.shape, y.dtype, y.device.type) == ((2, 3, 10), torch.float32, "meta")
    assert misfit(shape, y, theta[:, None]).shape == (2, 3)
    assert draw_parameters(shape, 2, dtype=F64).dtype == F64


# ---- misfit


@pytest.mark.parametrize("shape", SHAPES)
def test_noise_is_measured_as_what_it_adds_and_more_is_worse(shape):
    means = [misfit(shape, y, t[:, None]).mean().item()
             for t, y in (tasks(shape, 60, noise=s, seed=7) for s in (0.01, 0.05, 0.15, 0.4))]  # fmt: skip
    assert all(a < b for a, b in pairwise(means))


def test_noise_across_a_line_is_the_misfit():
    theta, y = tasks("line", 20, events=1, points=2000, noise=0.1)
    assert misfit("line", y, theta[:, None]).mean().item() == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "spot"])
def test_a_shift_changes_nothing_where_the_place_is_free(shape):
    theta, y = tasks(shape, 20, noise=0.1)
    moved = (points_of(y) + torch.tensor([3.0, -5.0], dtype=F64)).flatten(-2)
    torch.testing.assert_close(misfit(shape, moved, theta[:, None]), misfit(shape, y, theta[:, None]))


def test_a_spot_off_its_place_is_as_far_off_as_it_was_moved():
    y = torch.tensor([0.0, 0.0, SPOT, 0.0, 0.0, -SPOT])
    far = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    distances = [3 - SPOT, 3 - 2 * SPOT, math.hypot(3, SPOT) - SPOT]
    expected = math.sqrt(sum(d**2 for d in distances) / 3)
    assert misfit("spot", y, far).tolist() == pytest.approx([0, expected], abs=1e-6)


@pytest.mark.parametrize("radius", [0.3, 0.5, 0.8])
def test_many_points_of_a_circle_miss_another_circle_by_the_difference(radius):
    p = 0.5 * turn(2 * math.pi * torch.arange(24, dtype=F64) / 24)
    value = misfit("circle", p.flatten(), torch.tensor([radius], dtype=F64))
    assert value.item() == pytest.approx(abs(radius - 0.5), abs=2e-3)


def test_two_points_further_apart_than_a_circle_is_wide_miss_it_by_half_the_rest():
    y = torch.tensor([-0.7, 0.0, 0.7, 0.0], dtype=F64)
    assert misfit("circle", y, torch.tensor([0.4], dtype=F64)).item() == pytest.approx(0.3, abs=2e-3)


def test_three_points_of_a_triangle_against_its_circle_and_against_a_line():
    corners = turn(math.pi * torch.tensor([0.5, 7 / 6, 11 / 6], dtype=F64)) * 0.6
    y = corners.flatten()
    assert misfit("circle", y, torch.tensor([0.6], dtype=F64)).item() < 2e-3
    assert misfit("triangle", y, torch.tensor([0.6], dtype=F64)).item() < 2e-3
    # the best level line has the heights' standard deviation
    heights = corners[:, 1].std(correction=0).item()
    assert misfit("line", y, torch.tensor([0.0], dtype=F64)).item() == pytest.approx(heights, abs=2e-3)


def test_the_distance_to_a_square_is_that_to_its_nearest_side():
    p = torch.randn(300, 2, generator=seeded(), dtype=F64)
    h, (x, y) = 0.6, p.abs().unbind(-1)
    outside = torch.stack([(x - h).relu(), (y - h).relu()]).norm(dim=0)
    expected = torch.where((x < h) & (y < h), h - torch.maximum(x, y), outside)
    torch.testing.assert_close(SHAPES["square"].distance(p, torch.full((300, 1), h, dtype=F64)), expected)


def test_rounds_sharpen_the_search():
    theta, y = tasks("circle", 30)
    worst = [misfit("circle", y, theta[:, None], rounds=k).max().item() for k in (1, 3, 5)]
    assert worst[0] > worst[1] > worst[2]


def test_events_and_parameters_broadcast():
    _, y = tasks("circle", 4, events=2)
    theta = draw_parameters("circle", 3, generator=seeded(), dtype=F64)
    whole = misfit("circle", y[:, :, None], theta)
    assert whole.shape == (4, 2, 3)
    torch.testing.assert_close(whole[1, 0, 2], misfit("circle", y[1, 0], theta[2]))


# ---- bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_parameters("blob", 2), "shape must be one of"),
        (lambda: draw_parameters("line", 0), "count must"),
        (lambda: draw_events("blob", torch.zeros(1), 2), "shape must be one of"),
        (lambda: draw_events("heaps", torch.zeros(3), 2), r"parameter of 'heaps' must have last dimension 2.*\(3,\)"),
        (lambda: draw_events("circle", torch.tensor(0.5), 2), "last dimension 1"),
        (lambda: draw_events("circle", torch.tensor([math.nan]), 2), "parameter must be finite"),
        (lambda: draw_events("circle", torch.tensor([1]), 2), "floating-point dtype, got torch.int64"),
        (lambda: draw_events("circle", torch.ones(1), 0), "events must"),
        (lambda: draw_events("circle", torch.ones(1), 1, points=0), "points must"),
        (lambda: draw_events("circle", torch.ones(1), 1, noise=-0.1), "noise must"),
        (lambda: misfit("circle", torch.zeros(5), torch.ones(1)), r"two coordinates for each point.*\(5,\)"),
        (lambda: misfit("circle", torch.zeros(()), torch.ones(1)), "two coordinates for each point"),
        (lambda: misfit("circle", torch.zeros(0), torch.ones(1)), "two coordinates for each point"),
        (lambda: misfit("circle", torch.full((4,), math.nan), torch.ones(1)), "y must be finite"),
        (lambda: misfit("spot", torch.zeros(3, 4), torch.ones(2, 2)), r"must broadcast.*\(3, 4\) and \(2, 2\)"),
        (lambda: misfit("circle", torch.zeros(4), torch.ones(1), rounds=0), "rounds must"),
    ],
)
def test_bad_input_is_refused_with_its_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
