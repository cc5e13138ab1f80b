"""Mazes: every room can be reached, by one way if no loops are asked for, and walls stand where no door is."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.ndimage import label
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from ebm_lib.world import episodes, mazes, rooms

F64 = torch.float64
SHAPES = [(1, 2), (2, 1), (2, 2), (1, 4), (4, 1), (2, 3), (3, 2), (3, 3), (4, 3)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def neighbours(rows, columns):
    """Pairs of rooms with a wall between, and which entry of ``doors`` tells of it."""
    for r in range(rows):
        for c in range(columns):
            if c + 1 < columns:
                yield (r, c), (r, c + 1), (r, c, 0)
            if r + 1 < rows:
                yield (r, c), (r + 1, c), (r, c, 1)


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
@pytest.mark.parametrize("loops", [0.0, 0.3, 1.0])
def test_a_flood_reaches_every_room_and_passes_just_where_the_doors_are(rows, columns, loops):
    maze = mazes.draw_mazes(12, rows, columns, loops=loops, opening=0.12, generator=seeded(), dtype=F64)
    size = 600
    free = (rooms.draw_walls(maze, size=size) == 0).numpy()
    cells = [(np.arange(size) * n // size) for n in (rows, columns)]
    for one, doors in zip(free, maze.doors, strict=True):
        assert label(one)[1] == 1  # all that is not wall hangs together
        for (r, c), (s, d), where in neighbours(rows, columns):
            two = one & np.isin(cells[0][:, None], [r, s]) & np.isin(cells[1][None], [c, d])
            joined = label(two)[1] == 1
            assert joined == (not doors[where].isnan())
    total = rows * (columns - 1) + (rows - 1) * columns
    there = (~maze.doors.isnan()).sum((1, 2, 3))
    assert maze.walls.shape == (12, 2 * total, 4)
    if loops == 0:
        assert (there == rows * columns - 1).all()
    elif loops == 1:
        assert (there == total).all()
    else:
        assert (there >= rows * columns - 1).all()


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_walls_do_not_overlap_and_doors_have_their_width_clear_of_other_walls(rows, columns):
    maze = mazes.draw_mazes(20, rows, columns, loops=0.4, thickness=0.03, opening=0.1, generator=seeded(), dtype=F64)
    width = (maze.walls[..., 2:] - maze.walls[..., :2]).clamp(min=0)
    within = (maze.walls < 1.5).all(-1)
    assert (maze.walls[within] >= 0).all()
    assert (maze.walls[within] <= 1).all()
    assert (maze.walls[within][:, 2:] >= maze.walls[within][:, :2]).all()
    area = width.prod(-1).sum(-1)
    covered = rooms.draw_walls(maze, size=97).mean((-1, -2))  # which counts a pixel once at most
    torch.testing.assert_close(covered, area)
    doors = (~maze.doors.isnan()).sum((1, 2, 3))
    crossings = (rows - 1) * (columns - 1)
    full = 0.03 * (rows - 1 + columns - 1) - crossings * 0.03**2
    torch.testing.assert_close(area, full - doors.to(F64) * 0.03 * 0.1)
    for (r, c), _, (_, _, k) in neighbours(rows, columns):
        middle = maze.doors[:, r, c, k]
        middle = middle[~middle.isnan()]
        line = torch.full_like(middle, (c + 1) / columns if k == 0 else (r + 1) / rows)
        along = torch.linspace(-0.0499, 0.0499, 21, dtype=F64)[:, None] + middle
        for aside in (-0.02, 0, 0.02):  # the whole hole, and a step before and behind it
            x, y = (line + aside).expand_as(along), along
            has = ~maze.doors[:, r, c, k].isnan()
            places = torch.stack([x, y] if k == 0 else [y, x], -1)
            assert rooms.is_free(places, mazes.Maze(maze.walls[has], maze.doors[has])).all()


def test_the_tree_is_the_cheapest_and_each_tree_of_four_rooms_is_as_probable_as_the_others():
    rows, columns = 3, 4
    edges = mazes._neighbours(rows, columns, None)
    assert len({tuple(pair) for pair in edges.tolist()}) == 17
    price = torch.rand(40, 17, generator=seeded(), dtype=F64) + 0.01
    tree = mazes._spanning_tree(price, edges, 12)
    for mine, prices in zip(tree, price, strict=True):
        graph = csr_matrix((prices.numpy(), edges.T.numpy()), shape=(12, 12))
        assert prices[mine].sum().item() == pytest.approx(minimum_spanning_tree(graph).sum())
        kept = csr_matrix((np.ones(11), edges[mine].T.numpy()), shape=(12, 12))
        assert connected_components(kept, directed=False)[0] == 1
    maze = mazes.draw_mazes(4000, 2, 2, generator=seeded())
    missing = maze.doors.isnan()
    counts = torch.stack([missing[:, 0, 0, 0], missing[:, 1, 0, 0], missing[:, 0, 0, 1], missing[:, 0, 1, 1]], -1).sum(
        0
    )
    assert counts.sum() == 4000
    assert (counts - 1000).abs().max() < 4 * (4000 * 0.25 * 0.75) ** 0.5


def test_doors_are_anywhere_along_their_wall():
    maze = mazes.draw_mazes(3000, 1, 2, thickness=0.04, opening=0.2, generator=seeded(), dtype=F64)
    door = maze.doors[:, 0, 0, 0].sort().values
    assert 0.1 <= door[0] < 0.105
    assert 0.895 < door[-1] <= 0.9
    gaps = (door - torch.linspace(0.1, 0.9, 3000, dtype=F64)).abs().max() / 0.8  # Kolmogorov and Smirnov's distance
    assert gaps < 1.63 / 3000**0.5


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_rooms_are_numbered_row_by_row_and_doorways_are_none(rows, columns):
    maze = mazes.draw_mazes(300, rows, columns, thickness=0.06, opening=0.1, generator=seeded(), dtype=F64)
    place = torch.rand(50, 300, 2, generator=seeded(1), dtype=F64)
    x, y = (place * place.new_tensor([columns, rows])).unbind(-1)
    number = y.long() * columns + x.long()
    from_line = [
        torch.stack([(part - k / n).abs() for k in range(1, n)]).amin(0) if n > 1 else torch.ones_like(part)
        for part, n in zip(place.unbind(-1), (columns, rows), strict=True)
    ]
    expected = torch.where(torch.minimum(*from_line) <= 0.03, -1, number)
    assert torch.equal(episodes.room_of(place, maze), expected)
    assert (expected == -1).any()


def test_seeds_decide_all_and_dtype_and_device_are_as_asked():
    first, second, third = (mazes.draw_mazes(5, 3, 3, loops=0.2, generator=seeded(k)) for k in (0, 0, 1))
    assert torch.equal(first.walls, second.walls)
    assert not torch.equal(first.walls, third.walls)
    assert mazes.draw_mazes(2, 2, 2, dtype=F64).doors.dtype == F64
    assert all(a.is_meta for a in mazes.draw_mazes(2, 2, 3, device="meta"))
    assert len({tuple(doors.isnan().flatten().tolist()) for doors in first.doors}) > 1


def test_bad_input_is_refused():
    refused = [
        ({"N": 0}, "N must be"), ({"rows": 0}, "rows must be"), ({"rows": 1, "columns": 1}, "must not both be 1"),
        ({"loops": 1.2}, "loops must be a chance"), ({"loops": -0.1}, "loops must be a chance"),
        ({"opening": 0.47}, r"opening \+ thickness must be below 0.5"), 
        ({"thickness": 0.0}, "thickness must be a positive"),
        ({"opening": -1.0}, "opening must be a positive"), ({"dtype": torch.int64}, "dtype must be"),
    ]  # fmt: skip
    for arguments, message in refused:
        with pytest.raises(ValueError, match=message):
            mazes.draw_mazes(**({"N": 2, "rows": 2, "columns": 2} | arguments))


def test_a_walk_from_room_to_room_is_possible_wherever_the_tree_says_so():
    """Through each door, in straight lines from the middle of a room, before it, behind it, to the next middle."""
    maze = mazes.draw_mazes(8, 3, 3, generator=seeded(), dtype=F64)
    for n in range(8):
        one = maze.at(n)
        for (r, c), (s, d), where in neighbours(3, 3):
            if one.doors[where].isnan():
                continue
            through, k = one.doors[where], where[2]
            stops = [[(c + 0.5) / 3, (r + 0.5) / 3], None, None, [(d + 0.5) / 3, (s + 0.5) / 3]]
            line = ((c + 1) if k == 0 else (r + 1)) / 3
            for i, aside in ((1, -0.03), (2, 0.03)):
                stops[i] = [line + aside, through.item()][:: 1 if k == 0 else -1]
            place = torch.tensor(stops[0], dtype=F64)
            for a, b in pairwise(stops):
                way = (torch.tensor(b, dtype=F64) - torch.tensor(a, dtype=F64)) / 10
                for _ in range(10):
                    place = rooms.move(place, way, one)
            torch.testing.assert_close(place, torch.tensor(stops[-1], dtype=F64))
