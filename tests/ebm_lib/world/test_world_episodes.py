"""Walks, errands and the shortest way: the data policy is what it says, and lengths are what others find, too."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from ebm_lib.world import episodes, mazes, rooms
from ebm_lib.world.rooms import REACH

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def layouts(N, dtype=torch.float32, seed=0):
    return rooms.draw_layouts(N, wall=(0.3, 0.7), door=(0.2, 0.8), generator=seeded(seed), dtype=dtype)


def turns_of(actions):
    """Angles between successive actions, (N, T − 2)."""
    heading = torch.atan2(actions[..., 1], actions[..., 0])
    return torch.remainder(heading.diff(dim=-1) + math.pi, 2 * math.pi) - math.pi


# --- walks ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("world", ["two rooms", "maze"])
def test_a_walk_is_made_of_moves_and_stays_free(world):
    layout = layouts(60) if world == "two rooms" else mazes.draw_mazes(60, 3, 3, generator=seeded())
    places, actions = episodes.walks(layout, 100, generator=seeded(1))
    assert places.shape == (60, 100, 2)
    assert actions.shape == (60, 99, 2)
    film = layout.at((..., None))
    assert torch.equal(rooms.move(places[:, :-1], actions, film), places[:, 1:])
    assert rooms.is_free(places, film).all()
    assert actions.abs().max() <= REACH
    again = episodes.walks(layout, 100, generator=seeded(1))
    assert torch.equal(again.places, places)
    assert not torch.equal(episodes.walks(layout, 100, generator=seeded(2)).places, places)


def test_headings_turn_as_asked_and_lengths_are_uniform_shares_of_what_can_be_reached():
    layout = rooms.draw_layouts(3000, dtype=F64)
    for turn in (0.0, 0.2, 0.6):
        places, actions = episodes.walks(layout, 6, turn=turn, speed=(0.2, 0.8), generator=seeded())
        free = (places[:, 1:] == places[:, :-1] + actions).all(-1)
        angle = turns_of(actions)[free[:, :-1]]
        if turn == 0:
            assert angle.abs().max() < 1e-9
        else:
            assert angle.std().item() == pytest.approx(turn, rel=0.03)
            assert angle.mean().abs() < 4 * turn / len(angle) ** 0.5
            free_at = free[:, :-2] & free[:, 1:-1]  # turns at successive steps have nothing to do with each other
            pair = torch.stack([turns_of(actions)[:, :-1][free_at], turns_of(actions)[:, 1:][free_at]])
            assert torch.corrcoef(pair)[0, 1].abs() < 4 / pair.shape[1] ** 0.5
        share = actions.abs().amax(-1).flatten() / REACH
        assert 0.2 <= share.min() < 0.201
        assert 0.799 < share.max() <= 0.8
        assert share.mean().item() == pytest.approx(0.5, abs=4 * 0.6 / 12**0.5 / len(share) ** 0.5)


def test_the_first_heading_and_the_one_after_a_stop_are_any_and_without_rebound_it_pushes_on():
    layout = rooms.draw_layouts(4000, dtype=F64)
    places, actions = episodes.walks(layout, 30, turn=0.0, speed=(0.5, 1.0), generator=seeded())
    stopped = (places[:, 1:] != places[:, :-1] + actions).any(-1)
    assert 0.02 < stopped.double().mean() < 0.5
    angle = turns_of(actions)
    for after, count in ((angle[stopped[:, :-1]], 8), (torch.atan2(actions[:, 0, 1], actions[:, 0, 0]), 8)):
        quarters = torch.histc(after, count, -math.pi, math.pi) if count else after
        expected = len(after) / count
        assert ((quarters - expected) ** 2 / expected).sum() < 30  # χ² of 7 degrees: a chance of 1e-4
    assert angle[~stopped[:, :-1]].abs().max() < 1e-9
    stubborn = episodes.walks(layout, 30, turn=0.0, rebound=False, generator=seeded())
    assert turns_of(stubborn.actions).abs().max() < 1e-6


def test_all_actions_occur_also_in_the_corners_of_what_can_be_reached():
    actions = episodes.walks(rooms.draw_layouts(5000), 20, generator=seeded()).actions.reshape(-1, 2) / REACH
    cells = ((actions + 1) / 2 * 4).long().clamp(0, 3)
    counts = torch.bincount(cells[:, 0] * 4 + cells[:, 1], minlength=16)
    assert counts.min() > 0.02 * len(actions)


def test_what_it_does_does_not_depend_on_the_layout_so_it_knows_no_door():
    start = torch.full((1, 2), 0.1, dtype=F64)
    walk = [
        episodes.walks(world, 40, rebound=False, start=start, generator=seeded(4)).actions
        for world in (rooms.draw_layouts(1, dtype=F64), rooms.draw_layouts(1, wall=0.3, door=0.8, dtype=F64))
    ]
    assert torch.equal(*walk)


def test_a_walk_begins_where_it_is_told_and_may_begin_at_one_place_for_all():
    layout = layouts(5)
    start = torch.tensor([0.1, 0.2])
    places, actions = episodes.walks(layout, 3, start=start, generator=seeded())
    assert torch.equal(places[:, 0], start.expand(5, 2))
    assert actions.shape == (5, 2, 2)
    assert episodes.walks(layout.at(0), 4).places.shape == (4, 2)
    assert episodes.walks(layout.at((slice(None), None)), 4, start=torch.full((5, 7, 2), 0.1)).places.shape == (
        5,
        7,
        4,
        2,
    )


# --- starts and goals -----------------------------------------------------------------------------------------------
def test_places_are_uniform_over_free_space():
    layout = rooms.two_rooms(torch.tensor(0.3, dtype=F64), torch.tensor(0.4, dtype=F64))
    n = 40_000
    place = episodes.draw_places(layout, samples=(n,), generator=seeded())
    assert rooms.is_free(place, layout).all()
    for low, high in (((0, 0), (0.26, 1)), ((0.26, 0.3), (0.34, 0.5)), ((0.34, 0), (1, 0.5)), ((0.6, 0.9), (1, 1))):
        inside = ((place > place.new_tensor(low)) & (place < place.new_tensor(high))).all(-1).double().mean()
        share = (high[0] - low[0]) * (high[1] - low[1]) / (1 - 0.08 * 0.8)
        assert abs(inside - share) < 4 * (share * (1 - share) / n) ** 0.5 + 3e-4
    assert episodes.draw_places(layouts(3), samples=(2, 4)).shape == (2, 4, 3, 2)


@pytest.mark.parametrize("world", ["two rooms", "maze"])
def test_errands_lead_to_another_room_far_enough_and_begin_in_any(world):
    layout = layouts(2000, F64) if world == "two rooms" else mazes.draw_mazes(2000, 2, 3, generator=seeded(), dtype=F64)
    start, goal = episodes.cross_room(layout, distance=0.4, generator=seeded(3))
    assert rooms.is_free(start, layout).all()
    assert rooms.is_free(goal, layout).all()
    assert (goal - start).norm(dim=-1).min() >= 0.4
    if world == "two rooms":
        half = layout.walls[:, 0, 2] - layout.wall
        sides = [(place[:, 0] - layout.wall) / half for place in (start, goal)]
        assert (sides[0] * sides[1] < -1).all()
        assert min(side.abs().min() for side in sides) > 1  # none in the doorway
        assert 0.46 < (sides[0] < 0).double().mean() < 0.54
    else:
        cells = [(place * place.new_tensor([3, 2])).long() for place in (start, goal)]
        assert (cells[0] != cells[1]).any(-1).all()
        counts = torch.bincount(cells[0][:, 1] * 3 + cells[0][:, 0], minlength=6)
        assert counts.min() > 200
    assert torch.equal(episodes.cross_room(layout, distance=0.4, generator=seeded(3)).goal, goal)
    assert episodes.cross_room(layout.at(slice(3)), samples=(5,)).goal.shape == (5, 3, 2)


# --- the shortest way -----------------------------------------------------------------------------------------------
def through_the_door(place, goal, layout):
    """The same length as a convex problem: where to enter and to leave the doorway."""
    (x0, _, x1, top), (_, bottom, _, _) = layout.walls.tolist()
    if place[0] > goal[0]:
        place, goal = goal, place
    pieces = lambda y: (
        math.hypot(x0 - place[0], y[0] - place[1])
        + math.hypot(x1 - x0, y[1] - y[0])
        + math.hypot(goal[0] - x1, goal[1] - y[1])
    )
    found = [minimize(pieces, [y, y], bounds=[(top, bottom)] * 2, tol=1e-12) for y in (top, (top + bottom) / 2, bottom)]
    return min(one.fun for one in found)


def test_between_two_rooms_it_is_the_convex_optimum_through_the_door():
    layout = layouts(80, F64)
    start, goal = episodes.cross_room(layout, generator=seeded())
    length = episodes.shortest(start, goal, layout)
    expected = [through_the_door(start[n].tolist(), goal[n].tolist(), layout.at(n)) for n in range(80)]
    torch.testing.assert_close(length, torch.tensor(expected, dtype=F64), rtol=0, atol=1e-3)
    torch.testing.assert_close(episodes.shortest(goal, start, layout), length)
    assert (length >= (goal - start).norm(dim=-1) - 1e-12).all()
    assert (length > (goal - start).norm(dim=-1) + 0.01).double().mean() > 0.5


def test_in_one_room_it_is_the_straight_line_and_from_the_doorway_too():
    layout = rooms.two_rooms(torch.tensor(0.5, dtype=F64), torch.tensor(0.5, dtype=F64))
    place = torch.tensor([[0.1, 0.1], [0.5, 0.5], [0.2, 0.2], [0.45, 0.2]], dtype=F64)
    goal = torch.tensor([[0.4, 0.9], [0.9, 0.52], [0.2, 0.2], [0.45, 0.9]], dtype=F64)
    torch.testing.assert_close(episodes.shortest(place, goal, layout), (goal - place).norm(dim=-1))
    around = episodes.shortest(torch.tensor([0.4, 0.2], dtype=F64), torch.tensor([0.6, 0.2], dtype=F64), layout)
    assert around.item() == pytest.approx(2 * math.hypot(0.06, 0.2) + 0.08, abs=1e-3)


def grid_length(place, goal, walls, n=240):
    """Dijkstra on a grid with moves to 16 neighbours: at most 2.8 % too long, beside its own rounding."""
    centre = (np.arange(n) + 0.5) / n
    x, y = np.meshgrid(centre, centre)
    walls = walls.numpy()[:, None, None]
    free = ~((x > walls[..., 0]) & (x < walls[..., 2]) & (y > walls[..., 1]) & (y < walls[..., 3])).any(0)
    number, rows, columns, costs = np.arange(n * n).reshape(n, n), [], [], []
    for i, j in ((0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (2, 1), (1, -2), (2, -1)):
        a = (slice(0, n - i), slice(max(0, -j), n - max(0, j)))
        b = (slice(i, n), slice(max(0, j), n - max(0, -j)))
        ok = free[a] & free[b]
        rows.append(number[a][ok])
        columns.append(number[b][ok])
        costs.append(np.full(ok.sum(), math.hypot(i, j) / n))
    graph = coo_matrix((np.concatenate(costs), (np.concatenate(rows), np.concatenate(columns))), shape=(n * n, n * n))
    cell = lambda p: number[int(p[1] * n), int(p[0] * n)]
    return dijkstra(graph.tocsr(), directed=False, indices=cell(place))[cell(goal)]


def test_in_mazes_and_two_rooms_it_is_what_dijkstra_finds_on_a_grid():
    six, nine = (
        mazes.draw_mazes(6, n, 3, loops=loops, generator=seeded(), dtype=F64) for n, loops in ((2, 0.0), (3, 0.3))
    )
    for layout in (six, nine, layouts(6, F64)):
        start, goal = episodes.cross_room(layout, distance=0.3, generator=seeded(1))
        length = episodes.shortest(start, goal, layout)
        for n in range(6):
            found = grid_length(start[n], goal[n], layout.walls[n])
            assert length[n].item() - 0.02 < found < 1.028 * length[n].item() + 0.02


def test_lengths_broadcast_and_without_a_way_they_are_infinite():
    layout = layouts(3, F64)
    start, goal = episodes.cross_room(layout, samples=(4,), generator=seeded())
    length = episodes.shortest(start, goal[0], layout)
    assert length.shape == (4, 3)
    assert length[2, 1].item() == pytest.approx(episodes.shortest(start[2, 1], goal[0, 1], layout.at(1)).item())
    shut = mazes.Maze(torch.tensor([[0.4, 0.0, 0.5, 0.5], [0.4, 0.5, 0.5, 1.0]], dtype=F64), torch.zeros(1, 2, 2))
    places = torch.tensor([[0.1, 0.5], [0.9, 0.5], [0.3, 0.9]], dtype=F64)
    assert episodes.shortest(places[0], places[1:], shut).tolist() == [math.inf, pytest.approx(math.hypot(0.2, 0.4))]


def test_no_walk_is_shorter_than_the_shortest_way():
    layout = layouts(100, F64)
    places, _ = episodes.walks(layout, 60, speed=(0.8, 1.0), turn=0.1, generator=seeded())
    went = places.diff(dim=1).norm(dim=-1).sum(1)
    assert (went >= episodes.shortest(places[:, 0], places[:, -1], layout) - 1e-3).all()


# --- the contract ---------------------------------------------------------------------------------------------------
def test_dtype_and_device_follow_the_layout():
    layout = layouts(2, F64)
    assert episodes.walks(layout, 3).actions.dtype == episodes.cross_room(layout).goal.dtype == F64
    meta = rooms.draw_layouts(4, device="meta")
    walk = episodes.walks(meta, 5)
    assert walk.places.is_meta
    assert walk.actions.shape == (4, 4, 2)
    start, goal = episodes.cross_room(meta, samples=(3,))
    assert start.shape == (3, 4, 2)
    assert episodes.shortest(start, goal, meta).shape == (3, 4)


def test_bad_input_is_refused():
    layout = rooms.draw_layouts(2)
    wall, free = torch.tensor([0.5, 0.1]), torch.tensor([0.2, 0.1])
    full = mazes.Maze(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.zeros(1, 1, 2))
    refused = [
        (lambda: episodes.walks(layout, 1), "T must be"),
        (lambda: episodes.walks(layout, 3, turn=-0.1), "turn must be"),
        (lambda: episodes.walks(layout, 3, turn=math.inf), "turn must be"),
        (lambda: episodes.walks(layout, 3, speed=(0.5, 0.2)), "speed must be"),
        (lambda: episodes.walks(layout, 3, speed=(0.5, 1.5)), "speed must be"),
        (lambda: episodes.walks(layout, 3, reach=-0.1), "reach must be"),
        (lambda: episodes.walks(layout, 3, start=wall), "start must be free"),
        (lambda: episodes.walks(layout, 3, start=torch.zeros(3)), "start must have shape"),
        (lambda: episodes.cross_room(layout, distance=1.5), "distance must be"),
        (lambda: episodes.cross_room(layout, distance=1.41), "layout must have pairs in different rooms"),
        (lambda: episodes.draw_places(full), "layout must have free space"),
        (lambda: episodes.shortest(wall, free, layout), "place must be free"),
        (lambda: episodes.shortest(free, wall, layout), "goal must be free"),
        (lambda: episodes.shortest(free, torch.zeros(3), layout), "goal must have shape"),
    ]
    for call, message in refused:
        with pytest.raises(ValueError, match=message):
            call()
