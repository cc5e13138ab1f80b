"""What is seen from a place in a maze, against the maze itself."""

import pytest
import torch

from ebm_lib.world import Maze, draw_mazes, look, room_views


def mazes(N=6, rows=3, columns=4, seed=0):
    return draw_mazes(N, rows, columns, generator=torch.Generator().manual_seed(seed))


def test_a_room_s_view_is_its_four_walls_and_those_that_meet_them():
    maze = mazes(1, 3, 4)
    views = room_views(maze).view(1, 3, 4, 2, 2, 4)  # rooms, their doors right and below, and where
    has = ~maze.doors.isnan()
    for r in range(3):
        for c in range(4):
            seen = views[0, r, c]
            assert (seen[1, 1, 0] == 1) == has[0, r, c, 0]  # to the right
            assert (seen[1, 1, 1] == 1) == has[0, r, c, 1]  # below
            assert (seen[1, 0, 0] == 1) == (c > 0 and has[0, r, c - 1, 0])  # to the left
            assert (seen[0, 1, 1] == 1) == (r > 0 and has[0, r - 1, c, 1])  # above


def test_a_door_in_the_middle_is_at_0_and_one_at_the_wall_s_end_at_2():
    doors = torch.full((2, 2, 2), torch.nan)
    doors[0, 0] = torch.tensor([0.25, 0.5])  # right door in the middle of the upper left room, lower one at its corner
    views = room_views(Maze(torch.zeros(1, 4), doors)).view(2, 2, 2, 2, 4)
    assert views[0, 0, 1, 1, 2] == 0
    assert views[0, 0, 1, 1, 3] == 2


def test_where_a_door_is_counts_from_the_middle_of_its_room_s_side():
    doors = torch.full((3, 4, 2), torch.nan)
    doors[2, 1] = torch.tensor([2.25 / 3, 1.75 / 4])  # right door a quarter down, lower one three quarters along
    views = room_views(Maze(torch.zeros(1, 4), doors)).view(3, 4, 2, 2, 4)
    assert torch.allclose(views[2, 1, 1, 1], torch.tensor([1.0, 1.0, -1.0, 1.0]), atol=1e-5)


def test_places_alike_in_rooms_alike_look_alike():
    doors = torch.full((3, 3, 2), torch.nan)
    doors[1, 0, 0] = 0.5
    views = room_views(Maze(torch.zeros(1, 4), doors))
    place = torch.tensor([[0.1, 0.4], [0.1 + 2 / 3, 0.1]])
    seen = look(place, views)
    assert torch.allclose(seen[0, :2], torch.tensor([-0.8, -1.2]), atol=1e-5)
    assert not torch.equal(seen[0, 2:], seen[1, 2:])
    assert torch.allclose(look(place[1] - torch.tensor([0, -2 / 3]), views)[2:], seen[1, 2:])


@pytest.mark.parametrize("radius", [0, 1, 2])
def test_views_count_and_follow_the_dtype(radius):
    views = room_views(draw_mazes(2, 2, 3, dtype=torch.float64), radius)
    assert views.shape == (2, 2, 3, 4 * (2 * radius + 2) ** 2)
    assert views.dtype == torch.float64
    assert views.isfinite().all()


def test_samples_in_front_and_each_maze_its_own():
    maze = mazes()
    views, place = room_views(maze, 1), torch.rand(5, 6, 2, generator=torch.Generator().manual_seed(1))
    seen = look(place, views)
    for s in range(5):
        for n in range(6):
            assert torch.equal(seen[s, n], look(place[s, n], views[n]))
    film = look(place.transpose(0, 1), views[:, None])
    assert torch.equal(film, seen.transpose(0, 1))


def test_each_room_has_its_own_view_up_to_the_border_and_beyond():
    views = room_views(mazes(), 1)  # of 3 rows and 4 columns
    middle = torch.cartesian_prod(torch.arange(3) + 0.5, torch.arange(4) + 0.5) / torch.tensor([3, 4])
    seen = look(middle.flip(-1)[:, None].expand(12, 6, 2), views)
    assert torch.equal(seen[..., 2:], views.flatten(1, 2).transpose(0, 1))
    assert torch.allclose(seen[..., :2], torch.zeros(2), atol=1e-5)
    ends = look(torch.tensor([[[1.0, 1.0]], [[1.1, 1.0]], [[0.0, -0.1]]]).expand(3, 6, 2), views)
    assert torch.equal(ends[..., 2:], torch.stack([views[:, -1, -1], views[:, -1, -1], views[:, 0, 0]]))
    assert torch.allclose(ends[:, 0, :2], torch.tensor([[2.0, 2.0], [3.6, 2.0], [-2.0, -3.2]]), atol=1e-5)


def test_the_place_within_its_room_has_a_slope():
    place = torch.tensor([0.2, 0.7], requires_grad=True)
    (slope,) = torch.autograd.grad(look(place, room_views(mazes(1).at(0)))[:2].sum(), place)
    assert torch.allclose(slope, torch.tensor([16.0, 12.0]))


def test_bad_input():
    views = room_views(mazes())
    with pytest.raises(ValueError, match="radius"):
        room_views(mazes(), -1)
    with pytest.raises(ValueError, match="views"):
        look(torch.rand(2), torch.rand(3, 4))
    with pytest.raises(ValueError, match="leading"):
        look(torch.rand(5, 2), views)
    with pytest.raises(ValueError, match="leading"):
        look(torch.rand(2), views)
    with pytest.raises(ValueError, match="place"):
        look(torch.full((6, 2), torch.nan), views)
    assert look(torch.zeros(6, 2, device="meta"), views.to("meta")).shape == (6, 18)
