"""The rooms: the dot stops for a wall, only for a wall, and before it; pictures show where things are."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from ebm_lib.world import episodes, mazes, rooms
from ebm_lib.world.rooms import MARGIN, REACH, Layout

F64 = torch.float64
NO_WALL = torch.full((1, 4), 2.0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def walled(walls):
    """A world of any rectangles."""
    walls = torch.as_tensor(walls)
    return mazes.Maze(walls, walls.new_zeros(*walls.shape[:-2], 1, 1, 2))


def layouts(N, dtype=torch.float32, seed=0):
    return rooms.draw_layouts(N, wall=(0.3, 0.7), door=(0.2, 0.8), generator=seeded(seed), dtype=dtype)


# --- an independent judge: points along the segment, in numpy -------------------------------------------------------
def blocked(points, walls, aside):
    """Which points lie in a wall widened by ``aside``, or nearer to the border than that."""
    points, walls = np.asarray(points, float)[..., None, :], np.asarray(walls, float)
    low, high = walls[..., :2] - aside, walls[..., 2:] + aside
    inside = ((points > low) & (points < high)).all(-1).any(-1)
    return inside | ((points < aside) | (points > 1 - aside)).any((-1, -2))


def judge(place, action, after, walls):
    """The dot went along the segment, through nothing; and where it stopped early, there was something."""
    place, action, after = (np.asarray(part, float) for part in (place, action, after))
    d = np.clip(action, -REACH, REACH)
    t = np.linspace(0, 1, 2001)[:, None]
    assert not blocked(place + t * (after - place), walls, 0.999 * min(MARGIN, *[gap(place, walls)])).any()
    went, wanted = after - place, d
    assert abs(went[0] * wanted[1] - went[1] * wanted[0]) < 1e-12  # along the segment
    length = np.abs(wanted).max()
    if length < 1e-12:
        assert np.abs(went).max() <= 1e-12
        return
    share = np.abs(went).max() / length
    assert went @ wanted >= -1e-12
    assert (share - 1) * length <= 1e-15
    if (1 - share) * length > 1e-14:  # it stopped: a hair further on, there is something
        ahead = place + (share + np.linspace(0, 1e-6 / length, 50)[:, None]) * wanted
        assert blocked(ahead, walls, MARGIN + 1e-9).any()


def gap(place, walls):
    """How far the place is from walls and border, by the larger coordinate."""
    walls = np.asarray(walls, float)
    from_walls = np.maximum(walls[:, :2] - place, place - walls[:, 2:]).max(-1)
    return min(from_walls.min(), *place, *(1 - place))


share = st.floats(0, 1, allow_subnormal=False)
component = st.one_of(st.floats(-2 * REACH, 2 * REACH), st.sampled_from([0.0, -0.0, REACH, -REACH, 1e-9, -1e-300]))


@st.composite
def scenes(draw):
    walls = []
    for _ in range(draw(st.integers(1, 4))):
        a, b, c, d = (draw(share) for _ in range(4))
        walls.append([min(a, b), min(c, d), max(a, b), max(c, d)])
    at = [draw(share), draw(share)]
    for k in (0, 1):  # often, right at a wall or at the border
        wall = draw(st.sampled_from(walls))
        side = draw(st.sampled_from([None, None, wall[k] - MARGIN, wall[k + 2] + MARGIN, wall[k] - MARGIN / 3, MARGIN]))
        at[k] = at[k] if side is None else side
    return walls, at, [draw(component), draw(component)]


@settings(max_examples=600, deadline=None)
@given(scenes())
def test_the_dot_goes_along_the_segment_and_stops_for_a_wall_and_only_for_a_wall(scene):
    walls, at, action = scene
    if gap(np.array(at), walls) <= 1e-7:
        return
    place, action = torch.tensor(at, dtype=F64), torch.tensor(action, dtype=F64)
    after = rooms.move(place, action, walled(torch.tensor(walls, dtype=F64)))
    judge(place, action, after, walls)


def test_the_dot_passes_the_door_and_not_the_wall_and_meets_the_corner_it_should():
    layout = rooms.two_rooms(torch.tensor(0.5, dtype=F64), torch.tensor(0.5, dtype=F64))  # 0.46..0.54, 0.4..0.6

    def go(place, action):
        return rooms.move(torch.tensor(place, dtype=F64), torch.tensor(action, dtype=F64), layout).tolist()

    assert go([0.45, 0.5], [0.06, 0.0]) == [0.51, 0.5]
    assert go([0.45, 0.3], [0.04, 0.02]) == pytest.approx([0.46 - MARGIN, 0.3 + (0.01 - MARGIN) / 2], abs=1e-12)
    assert go([0.5, 0.45], [0.03, -0.06]) == pytest.approx([0.5 + (0.05 - MARGIN) / 2, 0.4 + MARGIN], abs=1e-12)
    assert go([0.55, 0.3], [-0.02, 0.0]) == pytest.approx([0.54 + MARGIN, 0.3], abs=1e-12)
    assert go([0.02, 0.98], [-0.06, 0.06]) == pytest.approx([MARGIN, 1 - MARGIN], abs=1e-12)
    # past the corner (0.46, 0.4) on the one side and on the other
    assert go([0.43, 0.37], [0.06, 0.08]) == pytest.approx([0.46 - MARGIN, 0.4 - MARGIN], abs=1e-12)  # cut to 0.06
    assert go([0.43, 0.38], [0.05, 0.05]) == [0.48, 0.43]
    assert go([0.44, 0.37], [0.05, 0.05])[0] == pytest.approx(0.46 - MARGIN, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_where_nothing_is_in_the_way_a_step_is_an_exact_sum(dtype):
    place = 0.07 + 0.86 * torch.rand(1000, 2, generator=seeded(), dtype=dtype)
    action = REACH * (2 * torch.rand(1000, 2, generator=seeded(1), dtype=dtype) - 1)
    assert torch.equal(rooms.move(place, action, walled(NO_WALL.to(dtype))), place + action)
    beyond = rooms.move(place, 50 * action, walled(NO_WALL.to(dtype)))
    assert torch.equal(beyond, place + (50 * action).clamp(-REACH, REACH))
    assert torch.equal(rooms.move(place, 0 * action, walled(NO_WALL.to(dtype))), place)
    short = rooms.move(place, action, walled(NO_WALL.to(dtype)), reach=0.01)
    assert torch.equal(short, place + action.clamp(-0.01, 0.01))


@pytest.mark.parametrize("way", ["anywhere", "on the grid", "against the wall"])
def test_in_single_precision_ten_thousands_of_steps_cross_no_wall_and_end_in_none(way):
    layout = layouts(400)
    place = torch.rand(400, 2, generator=seeded()) * torch.tensor([0.25, 0.98]) + 0.01
    noise = seeded(2)
    for _ in range(300):
        action = REACH * torch.randn(400, 2, generator=noise)
        if way == "on the grid":
            action = REACH * (torch.randint(3, (400, 2), generator=noise) - 1)
        if way == "against the wall":  # a little along it
            action = torch.stack([0.05 * (layout.wall - place[:, 0]).sign(), 0.1 * action[:, 1]], -1)
        after = rooms.move(place, action, layout)
        assert rooms.is_free(after, layout).all()
        along = torch.linspace(0, 1, 33)[:, None, None] * (after - place) + place
        low, high = layout.walls[..., :2], layout.walls[..., 2:]
        inside = (along[:, :, None] > low) & (along[:, :, None] < high)
        assert not inside.all(-1).any()
        assert ((after > 0) & (after < 1)).all()
        place = after


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_dot_at_a_wall_does_not_creep_slides_freely_and_leaves_freely(dtype):
    layout = layouts(200, dtype)
    into, along = torch.tensor([[0.05, 0.02], [0.0, 0.01]], dtype=dtype)
    place = torch.stack([layout.wall - 0.06, torch.where(layout.door < 0.5, 0.9, 0.05).to(dtype)], -1)
    stopped = rooms.move(place, into, layout)
    torch.testing.assert_close(stopped[:, 0], layout.walls[:, 0, 0] - MARGIN, rtol=0, atol=2e-7)
    again = stopped
    for _ in range(100):
        again = rooms.move(again, into, layout)
    torch.testing.assert_close(again, stopped, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-15)
    for way in (along, -along, -into, torch.tensor([-0.03, 0.0], dtype=dtype)):
        assert torch.equal(rooms.move(stopped, way, layout), stopped + way)


def test_a_dot_put_nearer_than_the_margin_may_leave_and_not_approach():
    layout = rooms.two_rooms(torch.tensor(0.5, dtype=F64), torch.tensor(0.5, dtype=F64))
    near = torch.tensor([0.46 - 0.2 * MARGIN, 0.2], dtype=F64)
    for action, free in (([0.01, 0.0], False), ([1e-5, 0.01], False), ([-0.01, 0.0], True), ([0.0, 0.01], True)):
        action = torch.tensor(action, dtype=F64)
        expected = near + action if free else near
        assert torch.equal(rooms.move(near, action, layout), expected)
    corner = torch.tensor([0.2 * MARGIN, 1 - 0.2 * MARGIN], dtype=F64)
    assert torch.equal(rooms.move(corner, torch.tensor([-0.01, 0.0], dtype=F64), layout), corner)
    assert torch.equal(
        rooms.move(corner, torch.tensor([0.01, -0.01], dtype=F64), layout), corner + 0.01 * near.new_tensor([1, -1])
    )


def test_samples_times_batch_is_a_loop_and_all_is_deterministic():
    layout = layouts(6, F64)
    place = torch.rand(6, 2, generator=seeded(), dtype=F64) * 0.2 + 0.05
    place[:3, 0] = layout.wall[:3] - 0.05
    actions = 0.1 * torch.randn(40, 6, 2, generator=seeded(), dtype=F64)
    together = rooms.move(place, actions, layout)
    assert together.shape == (40, 6, 2)
    assert torch.equal(together, rooms.move(place, actions, layout))
    for s in range(40):
        for n in range(6):
            assert torch.equal(together[s, n], rooms.move(place[n], actions[s, n], layout.at(n)))
    assert rooms.move(place[0], actions[:, 0], layout.at((0, None))).shape == (40, 2)
    assert rooms.move(place[:, None], actions.mT.mT[:4, 0], layout.at((slice(None), None))).shape == (6, 4, 2)


def test_a_step_has_the_slopes_of_its_closed_form():
    layout = rooms.two_rooms(torch.tensor(0.5, dtype=F64), torch.tensor(0.5, dtype=F64))
    place = torch.tensor([[0.2, 0.2], [0.44, 0.2], [0.2, 0.98], [0.3, 0.3]], dtype=F64, requires_grad=True)
    action = torch.tensor([[0.03, 0.02], [0.04, 0.03], [0.01, 0.05], [0.0, 0.01]], dtype=F64, requires_grad=True)
    assert gradcheck(
        lambda p, a: rooms.move(p, a, layout),
        (place[:3].detach().requires_grad_(), action[:3].detach().requires_grad_()),
    )
    after = rooms.move(place, action, layout)
    slopes = torch.autograd.grad(after[:, 0].sum(), (place, action), retain_graph=True)
    assert slopes[0][:, 0].tolist() == pytest.approx([1, 0, 1, 1])  # at the wall it is the wall that decides
    assert slopes[1][:, 0].tolist() == pytest.approx([1, 0, (0.02 - MARGIN) / 0.05, 1])
    assert all(part.isfinite().all() for part in torch.autograd.grad(after.sum(), (place, action)))


# --- layouts --------------------------------------------------------------------------------------------------------
def test_two_rooms_are_a_wall_with_a_hole():
    layout = layouts(300, F64)
    walls = layout.walls
    assert layout.walls.shape == (300, 2, 4)
    area = ((walls[..., 2:] - walls[..., :2]).prod(-1)).sum(-1)
    torch.testing.assert_close(area, torch.full((300,), 0.08 * 0.8, dtype=F64))
    assert (walls[:, 0, 1] == 0).all()
    assert (walls[:, 1, 3] == 1).all()
    torch.testing.assert_close((walls[:, 0, 3] + walls[:, 1, 1]) / 2, layout.door)
    torch.testing.assert_close((walls[..., 0] + walls[..., 2]) / 2, layout.wall[:, None].expand(-1, 2))
    for name, low, high in (("wall", 0.3, 0.7), ("door", 0.2, 0.8)):
        drawn = getattr(layout, name)
        assert low <= drawn.min() < low + 0.02
        assert high - 0.02 < drawn.max() <= high
    fixed = rooms.draw_layouts(7, wall=0.4, door=0.7)
    assert (fixed.wall == 0.4).all()
    assert (fixed.door == 0.7).all()
    assert rooms.two_rooms(torch.full((3, 1), 0.5), torch.full((2,), 0.3)).walls.shape == (3, 2, 2, 4)


def test_layouts_are_indexed_like_tensors():
    layout = layouts(5)
    for index in (
        0,
        slice(1, 3),
        torch.tensor([4, 0, 4]),
        (..., None),
        (None, ...),
        (slice(None), None),
        layout.wall > 0.5,
    ):
        part = layout.at(index)
        assert isinstance(part, Layout)
        assert torch.equal(part.wall, layout.wall[index])
        assert part.walls.shape == (*part.wall.shape, 2, 4)
        again = rooms.two_rooms(part.wall, part.door)
        torch.testing.assert_close(part.walls, again.walls)
    maze = mazes.Maze(torch.arange(2 * 3 * 4.0).view(2, 3, 4), torch.zeros(2, 2, 2, 2))
    assert torch.equal(maze.at(1).walls, maze.walls[1])
    assert maze.at((..., None)).doors.shape == (2, 1, 2, 2, 2)


def test_free_places_and_rooms_are_what_they_should_be():
    layout = rooms.two_rooms(torch.tensor(0.5), torch.tensor(0.5))
    places = torch.tensor(
        [[0.2, 0.5], [0.5, 0.5], [0.5, 0.2], [0.8, 0.5], [0.46, 0.2], [1.0, 0.5], [0.3, -0.1], [0.459, 0.2]]
    )
    assert rooms.is_free(places, layout).tolist() == [True, True, False, True, False, False, False, True]
    assert episodes.room_of(places, layout).tolist()[:4] == [0, -1, -1, 1]
    high = rooms.two_rooms(torch.tensor(0.5), torch.tensor(0.11))  # above its door there is almost no wall
    assert episodes.room_of(torch.tensor([[0.47, 0.11], [0.45, 0.11]]), high).tolist() == [-1, 0]
    both = layouts(3)
    assert torch.equal(
        episodes.room_of(torch.stack([both.wall, both.door], -1) + 0.05, both), torch.ones(3, dtype=torch.long)
    )


# --- pictures -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("size", "spot"), [(28, 0.04), (40, 0.03), (64, 0.04)])
def test_the_spots_centre_of_mass_is_the_place(size, spot):
    place = 0.3 + 0.4 * torch.rand(200, 2, generator=seeded(), dtype=F64)
    picture = rooms.draw_dot(place, size=size, spot=spot)
    centre = (torch.arange(size, dtype=F64) + 0.5) / size
    mass = picture.sum((-1, -2))
    mean = torch.stack([picture.sum(-2) @ centre, picture.sum(-1) @ centre], -1) / mass[:, None]  # x over columns
    torch.testing.assert_close(mean, place, rtol=0, atol=1e-7)
    torch.testing.assert_close(mass, torch.full_like(mass, 2 * np.pi * (spot * size) ** 2), rtol=1e-7, atol=0)
    spread = (picture.sum(-2) * (centre - place[:, :1]) ** 2).sum(-1) / mass
    torch.testing.assert_close(spread, torch.full_like(spread, spot**2), rtol=1e-5, atol=0)


def test_the_walls_cover_exactly_their_area_pixel_by_pixel():
    layout = layouts(50, F64)
    for size in (5, 28, 64):
        picture = rooms.draw_walls(layout, size=size)
        assert picture.shape == (50, size, size)
        torch.testing.assert_close(picture.mean((-1, -2)), torch.full((50,), 0.064, dtype=F64))
        assert picture.max() <= 1
    fine = (torch.arange(7000, dtype=F64) + 0.5) / 7000  # 1000 points a side of each of 7 pixels
    x0, y0, x1, y1 = layout.walls[0].T[:, :, None]
    across, down = (
        ((fine > low) & (fine < high)).to(F64).view(2, 7, 1000).mean(-1) for low, high in ((x0, x1), (y0, y1))
    )
    expected = (down[:, :, None] * across[:, None]).sum(0)
    torch.testing.assert_close(rooms.draw_walls(layout.at(0), size=7), expected, rtol=0, atol=2e-3)
    outside = walled(torch.tensor([[2.0, 2, 2, 2], [-0.5, -0.5, 0.25, 0.5]], dtype=F64))
    assert rooms.draw_walls(outside, size=4).tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [0] * 4, [0] * 4]


def test_a_film_is_rendered_as_its_frames_are_one_by_one():
    layout = layouts(3)
    place = torch.rand(3, 5, 2, generator=seeded())
    film = rooms.render(place, layout.at((..., None)), size=16, spot=0.06)
    assert film.shape == (3, 5, 2, 16, 16)
    for n in range(3):
        for t in range(5):
            assert torch.equal(film[n, t], rooms.render(place[n, t], layout.at(n), size=16, spot=0.06))
            torch.testing.assert_close(film[n, t, 0], rooms.draw_dot(place[n, t], size=16, spot=0.06))
            torch.testing.assert_close(film[n, t, 1], rooms.draw_walls(layout.at(n), size=16))
    assert rooms.render(place.transpose(0, 1), layout).shape == (5, 3, 2, 28, 28)
    assert rooms.render(place[0, 0], layout).shape == (3, 2, 28, 28)


# --- the contract ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_dtype_and_device_follow_the_input(dtype):
    with torch.device("meta"):
        place, action = torch.empty(4, 3, 2, dtype=dtype), torch.empty(3, 2, dtype=dtype)
        wall = torch.empty(3, dtype=dtype)
    layout = rooms.two_rooms(wall, wall)
    results = rooms.move(place, action, layout), rooms.render(place, layout), layout.walls
    assert all(part.dtype == dtype and part.is_meta for part in results)
    assert rooms.is_free(place, layout).shape == episodes.room_of(place, layout).shape == (4, 3)
    drawn = rooms.draw_layouts(2, dtype=dtype, device="meta")
    assert drawn.walls.is_meta
    assert drawn.walls.dtype == dtype


def test_under_vmap_it_is_the_same():
    layout = layouts(4, F64)
    place, action = torch.rand(2, 4, 2, generator=seeded(), dtype=F64) * 0.2 + 0.05
    mapped = torch.vmap(lambda p, a, walls: rooms.move(p, a, walled(walls)))(place, action, layout.walls)
    torch.testing.assert_close(mapped, rooms.move(place, action, layout))


def test_bad_input_is_refused():
    layout, place = rooms.draw_layouts(2), torch.full((2, 2), 0.2)
    in_wall = torch.tensor([[0.2, 0.2], [0.5, 0.1]])
    refused = [
        (lambda: rooms.move(in_wall, place, layout), r"place must be in the square and in no wall: 1 of 2 .*\(1,\)"),
        (lambda: rooms.move(place - 1, place, layout), "place must be in the square"),
        (lambda: rooms.move(place * torch.nan, place, layout), "place must be finite"),
        (lambda: rooms.move(place, place / 0, layout), "action must be finite"),
        (lambda: rooms.move(place[:, :1], place, layout), r"place must have shape \(..., 2\)"),
        (lambda: rooms.move(place.half(), place, layout), "float32 or float64"),
        (lambda: rooms.move(place, place, layout, reach=0.0), "reach must be a positive"),
        (lambda: rooms.two_rooms(torch.tensor(0.02), torch.tensor(0.5)), "wall must lie in"),
        (lambda: rooms.two_rooms(torch.tensor(0.5), torch.tensor(0.95)), "door must lie in"),
        (lambda: rooms.two_rooms(torch.tensor(torch.nan), torch.tensor(0.5)), "wall must be finite"),
        (lambda: rooms.two_rooms(place, place, opening=-0.1), "opening must be a positive"),
        (lambda: rooms.draw_layouts(0), "N must be"),
        (lambda: rooms.draw_layouts(1, wall=(0.6, 0.5)), "wall must be a number or a pair"),
        (lambda: rooms.draw_layouts(9, door=(0.0, 0.5)), "door must lie in"),
        (lambda: rooms.render(place, layout, size=0), "size must be"),
        (lambda: rooms.render(place, layout, spot=0.0), "spot must be"),
        (lambda: rooms.is_free(place[:, :1], layout), "place must have shape"),
        (lambda: episodes.room_of(place[:, :1], layout), "place must have shape"),
    ]
    for call, message in refused:
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_it_is_the_same_world():
    here, there = (
        rooms.draw_layouts(50, door=(0.2, 0.8), generator=seeded(), dtype=F64, device=device)
        for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(there.walls.cpu(), here.walls)
    place, action = torch.rand(2, 50, 2, generator=seeded(), dtype=F64) * 0.3 + 0.1
    after = rooms.move(place.cuda(), action.cuda(), there)
    torch.testing.assert_close(after.cpu(), rooms.move(place, action, here))
    torch.testing.assert_close(rooms.render(after, there).cpu(), rooms.render(after.cpu(), here))
