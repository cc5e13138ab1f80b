"""Mazes of several rooms: a random spanning tree of doors, so that every room can be reached from every other."""

from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.data.draw import kind_of, uniform
from ebm_lib.require import require_count, require_positive
from ebm_lib.world.rooms import NOWHERE, leading


class Maze(NamedTuple):
    """Rooms in rows and columns, each pair of them joined by doors.

    Attributes:
        walls: rectangles x0, y0, x1, y1, (..., R, 4), of which some lie outside the square and only fill up.
        doors: for the room in row r and column c, where along the wall the door's middle is, (..., rows, columns, 2):
            y of the door to its right, x of the door below it; NaN where there is none.
    """

    walls: Tensor
    doors: Tensor

    def at(self, index: object) -> "Maze":
        """Index the leading dimensions, as :meth:`Layout.at`."""
        return Maze(self.walls[leading(index, 2)], self.doors[leading(index, 3)])


def draw_mazes(
    N: int,
    rows: int,
    columns: int,
    *,
    loops: float = 0.0,
    thickness: float = 0.04,
    opening: float = 0.15,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Maze:
    """Draw mazes of equal rooms whose doors are a random spanning tree, and perhaps some more.

    The tree is the cheapest one (Prim) when each wall between neighbours has a random price. Each door is anywhere
    along its wall. Between any two rooms there is exactly one way if ``loops`` is 0.

    Args:
        N: mazes.
        rows: of rooms.
        columns: of rooms; not both 1.
        loops: chance that a wall which the tree leaves shut has a door as well.
        thickness: of the walls.
        opening: width of the doors.
        generator: source of randomness.
        dtype: of the mazes; torch's default if None.
        device: of the result.

    Returns:
        The mazes, with R = 2 · (rows (columns − 1) + (rows − 1) columns) rectangles each.

    Raises:
        ValueError: no wall at all, doors wider than the rooms, a chance out of range.

    >>> maze = draw_mazes(4, 3, 3, generator=torch.Generator().manual_seed(0))
    >>> maze.walls.shape, (~maze.doors.isnan()).sum((1, 2, 3))
    (torch.Size([4, 24, 4]), tensor([8, 8, 8, 8]))
    """
    for name, number in (("N", N), ("rows", rows), ("columns", columns)):
        require_count(name, number)
    if rows * columns == 1:
        raise ValueError("rows and columns must not both be 1: one room has no doors")
    require_positive("thickness", thickness)
    if not require_positive("opening", opening) + thickness < 1 / max(rows, columns):
        total = f"{opening:g} + {thickness:g}"
        raise ValueError(f"opening + thickness must be below {1 / max(rows, columns):g}, a room's side, got {total}")
    if not 0 <= loops <= 1:
        raise ValueError(f"loops must be a chance, from 0 to 1, got {loops}")
    kind = dtype, device = kind_of(None, dtype, device)
    edges = _neighbours(rows, columns, device)
    price, more, along = uniform((3, N, len(edges)), generator, *kind)
    open_ = _spanning_tree(price, edges, rows * columns) | (more < loops)
    doors = price.new_full((N, rows * columns, 2), torch.nan)
    parts = []
    upright = rows * (columns - 1)  # walls, between rooms that lie side by side
    for k, which in enumerate((slice(upright), slice(upright, None))):
        first = edges[which, 0]
        row, column = first // columns, first % columns
        line, place, n, across = (column, row, rows, columns) if k == 0 else (row, column, columns, rows)
        line = (line + 1).to(dtype) / across
        low, high = place.to(dtype) / n, (place + 1).to(dtype) / n
        # what is left of the wall beside the walls that it meets at its ends
        clear_low, clear_high = low + (place > 0) * thickness / 2, high - (place < n - 1) * thickness / 2
        if k == 1:  # level walls end at the upright ones, which go through
            low, high = clear_low, clear_high
        middle = clear_low + opening / 2 + along[:, which] * (clear_high - clear_low - opening)
        has = open_[:, which]
        doors[:, first, k] = torch.where(has, middle, torch.nan)
        near, far = line - thickness / 2, line + thickness / 2
        begin = torch.where(has, middle - opening / 2, high)
        before, behind = (
            torch.stack([x.expand_as(has) for x in ((near, a, far, b) if k == 0 else (a, near, b, far))], -1)
            for a, b in ((low, begin), (middle + opening / 2, high))
        )
        parts += [before, torch.where(has[..., None], behind, NOWHERE)]
    return Maze(torch.cat(parts, 1), doors.view(N, rows, columns, 2))


def _neighbours(rows: int, columns: int, device: torch.device | None) -> Tensor:
    """Pairs of rooms that share a wall, (edges, 2): those side by side, then those one below the other."""
    room = torch.arange(rows * columns, device=device).view(rows, columns)
    pairs = ((room[:, :-1], room[:, 1:]), (room[:-1], room[1:]))
    return torch.cat([torch.stack([a.flatten(), b.flatten()], -1) for a, b in pairs])


def _spanning_tree(price: Tensor, edges: Tensor, rooms: int) -> Tensor:
    """Which edges the cheapest tree has that joins all rooms, (N, edges): Prim's algorithm for all N at once."""
    reached = torch.zeros(len(price), rooms, dtype=torch.bool, device=price.device)
    reached[:, 0] = True
    tree = torch.zeros_like(price, dtype=torch.bool)
    for _ in range(rooms - 1):
        leads_out = reached[:, edges[:, 0]] ^ reached[:, edges[:, 1]]
        cheapest = torch.where(leads_out, price, torch.inf).argmin(1, keepdim=True)
        tree = tree.scatter(1, cheapest, True)
        reached = reached.scatter(1, edges[cheapest.squeeze(1)], True)
    return tree
