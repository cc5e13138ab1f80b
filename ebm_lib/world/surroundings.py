"""What there is to see of a maze from a place in it: the place within its room, and the doors of the rooms around."""

import torch
from torch import Tensor

from ebm_lib.data.draw import require_plane
from ebm_lib.require import require_count
from ebm_lib.world.mazes import Maze


def room_views(maze: Maze, radius: int = 0) -> Tensor:
    """Describe the walls around each room: which have a door, and where.

    A room knows the wall to its right and the one below it. The one to its left is known by its neighbour there. So a
    view is what the rooms know that are from ``radius`` + 1 to the left or above to ``radius`` to the right or below:
    for each of these, row by row, whether its two walls have a door, 1 or −1, and where along the wall the door's
    middle is, from −2 at one end to 2 at the other, 0 without. Beyond the border there are no doors.

    Args:
        maze: (...).
        radius: how many rooms away one sees.

    Returns:
        (..., rows, columns, 4 · (2 radius + 2)²). What each room knows comes together: the doors of two walls, then
        where they are.

    Raises:
        ValueError: a negative radius.

    >>> from ebm_lib.world import draw_mazes
    >>> maze = draw_mazes(5, 3, 3, generator=torch.Generator().manual_seed(0))
    >>> room_views(maze).shape, room_views(maze, 1).shape
    (torch.Size([5, 3, 3, 16]), torch.Size([5, 3, 3, 64]))
    """
    require_count("radius", radius, minimum=0)
    doors = maze.doors  # y to the right, x below
    *_, rows, columns, _ = doors.shape
    count = doors.new_tensor([rows, columns])
    row, column = (torch.arange(n, device=doors.device, dtype=doors.dtype) for n in (rows, columns))
    low = torch.stack([row[:, None].expand(rows, columns), column.expand(rows, columns)], -1)
    along = 4 * (doors * count - low - 0.5)
    shut = doors.isnan()
    walls = torch.cat([1 - 2 * shut.to(doors), torch.where(shut, 0, along)], -1)
    size = 2 * radius + 2
    padded = walls.new_zeros(*walls.shape[:-3], rows + size - 1, columns + size - 1, 4)
    padded[..., :2] = -1
    padded[..., radius + 1 : radius + 1 + rows, radius + 1 : radius + 1 + columns, :] = walls
    blocks = padded.unfold(-3, size, 1).unfold(-3, size, 1)  # (..., rows, columns, 4, size, size)
    return blocks.movedim(-3, -1).flatten(-3)


def look(place: Tensor, views: Tensor) -> Tensor:
    """Look around: where in its room a place is, and what is to be seen from there.

    Two places that look alike are alike to a model that is given this, in whatever room and maze they are: what it
    learns of one door it knows of all.

    Args:
        place: (..., 2), in the unit square; what is outside counts to the nearest room.
        views: of the mazes, (..., rows, columns, F), as :func:`room_views` makes them. Its leading dimensions are the
            last ones of the place's, or 1: samples of places stand in front.

    Returns:
        (..., 2 + F): x and y from the room's middle, from −2 to 2 between its walls, then the view.

    Raises:
        ValueError: shapes other than (..., 2), values not finite, views that do not fit.

    >>> from ebm_lib.world import draw_mazes
    >>> views = room_views(draw_mazes(5, 3, 3, generator=torch.Generator().manual_seed(0)))
    >>> look(torch.full((7, 5, 2), 0.5), views)[0, 0, :2]
    tensor([0., 0.])
    """
    require_plane("place", place)
    if views.ndim < 3:
        raise ValueError(f"views must be (..., rows, columns, F), got shape {tuple(views.shape)}")
    *lead, rows, columns, F = views.shape
    try:
        fits = torch.broadcast_shapes(place.shape[:-1], tuple(lead)) == place.shape[:-1]
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(f"place must have the views' leading dimensions {tuple(lead)} last, got {tuple(place.shape)}")
    in_rooms = place * place.new_tensor([columns, rows])
    column, row = (in_rooms[..., k].long().clamp(0, n - 1) for k, n in enumerate((columns, rows)))
    corner = torch.stack([column, row], -1)
    maze = torch.arange(views[..., 0, 0, 0].numel(), device=place.device).view(lead) * (rows * columns)
    seen = views.reshape(-1, F)[maze + row * columns + column]
    return torch.cat([4 * (in_rooms - corner - 0.5), seen], -1)
