"""A dot in a square with walls: two rooms and a door, or a maze of rooms, moved and drawn exactly, by the thousand.

The world is the unit square, x to the right and y downwards. Its walls are rectangles that touch at most. The dot is a
point; an action is a displacement, cut to ±``REACH`` in each coordinate. Leading dimensions broadcast as everywhere in
torch: layouts (N,) go with places (N, 2), and with places (S, N, 2) of S samples for each. Films (N, T, 2) want layouts
(N, 1), which ``layout.at((..., None))`` makes.
"""

from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

from ebm_lib.data.draw import kind_of, require_plane, uniform
from ebm_lib.require import has_values, require_count, require_finite, require_positive

REACH = 0.06  # the farthest that the dot moves in a step, in each coordinate
MARGIN = 1e-4  # the dot stops this far from what it meets: far above the rounding of float32
THICKNESS, OPENING = 0.08, 0.2  # of a wall; of its door
SPOT = 0.04  # standard deviation of the dot's picture
NOWHERE = 2.0  # where rectangles are put that only fill up a tensor

Range = float | tuple[float, float]


class Rooms(Protocol):
    """Rooms of any kind: to move in them and to draw them takes walls alone, rectangles x0, y0, x1, y1, (..., R, 4)."""

    @property
    def walls(self) -> Tensor: ...  # noqa: D102

    def at(self, index: object) -> Self: ...  # noqa: D102


class Layout(NamedTuple):
    """Two rooms, left and right of an upright wall that has a door.

    Attributes:
        walls: rectangles x0, y0, x1, y1, (..., 2, 4): the wall above the door and the wall below it.
        wall: x of the wall's middle, (...).
        door: y of the door's middle, (...).
    """

    walls: Tensor
    wall: Tensor
    door: Tensor

    def at(self, index: object) -> "Layout":
        """Index the leading dimensions: ``layouts.at(0)``, ``layouts.at(slice(5))``, ``layouts.at((..., None))``."""
        return Layout(self.walls[leading(index, 2)], self.wall[index], self.door[index])


def leading(index: object, behind: int) -> object:
    """Make the same index for a tensor that has this many dimensions more, behind.

    >>> leading((..., None), 1), leading(0, 1)
    ((Ellipsis, None, slice(None, None, None)), 0)
    """
    parts = index if isinstance(index, tuple) else (index,)
    return (*parts, *[slice(None)] * behind) if any(part is Ellipsis for part in parts) else index


def two_rooms(wall: Tensor, door: Tensor, *, thickness: float = THICKNESS, opening: float = OPENING) -> Layout:
    """Build the layouts whose walls and doors have their middles here.

    Args:
        wall: x of the wall's middle, (...).
        door: y of the door's middle, broadcasting with ``wall``.
        thickness: of the wall.
        opening: width of the door.

    Returns:
        The layouts, (...).

    Raises:
        ValueError: a wall or a door that is not inside the square, values not finite.

    >>> two_rooms(torch.tensor(0.5), torch.tensor(0.3)).walls
    tensor([[0.4600, 0.0000, 0.5400, 0.2000],
            [0.4600, 0.4000, 0.5400, 1.0000]])
    """
    for name, middle, width in (("wall", wall, thickness), ("door", door, opening)):
        require_finite(name, middle)
        require_positive("thickness" if name == "wall" else "opening", width)
        if has_values(middle) and ((middle - width / 2 <= 0) | (middle + width / 2 >= 1)).any():
            low, high = middle.min().item(), middle.max().item()
            raise ValueError(f"{name} must lie in ({width / 2:g}, {1 - width / 2:g}), got {low:g} to {high:g}")
    wall, door = torch.broadcast_tensors(wall, door)
    left, right, top, bottom = wall - thickness / 2, wall + thickness / 2, door - opening / 2, door + opening / 2
    above, below = (left, torch.zeros_like(wall), right, top), (left, bottom, right, torch.ones_like(wall))
    return Layout(torch.stack([torch.stack(part, -1) for part in (above, below)], -2), wall, door)


def draw_layouts(
    N: int,
    *,
    wall: Range = 0.5,
    door: Range = 0.5,
    thickness: float = THICKNESS,
    opening: float = OPENING,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Layout:
    """Draw layouts of two rooms: what is a number is fixed, what is a pair is uniform between the two.

    Args:
        N: layouts.
        wall: x of the wall's middle.
        door: y of the door's middle.
        thickness: of the wall.
        opening: width of the door.
        generator: source of randomness.
        dtype: of the layouts; torch's default if None.
        device: of the result.

    Returns:
        The layouts, (N,).

    Raises:
        ValueError: a range that is empty, or leads out of the square.

    >>> layout = draw_layouts(5, door=(0.2, 0.8), generator=torch.Generator().manual_seed(0))
    >>> layout.walls.shape, layout.wall.unique()
    (torch.Size([5, 2, 4]), tensor([0.5000]))
    """
    require_count("N", N)
    kind = kind_of(None, dtype, device)
    middles = []
    for name, given in (("wall", wall), ("door", door)):
        low, high = given if isinstance(given, tuple) else (given, given)
        if not low <= high:
            raise ValueError(f"{name} must be a number or a pair (low, high) in this order, got {given}")
        middles.append(low + (high - low) * uniform((N,), generator, *kind))
    return two_rooms(*middles, thickness=thickness, opening=opening)


def move(place: Tensor, action: Tensor, layout: Rooms, *, reach: float = REACH) -> Tensor:
    r"""Move the dot along a segment, up to what it meets.

    .. math:: p' = p + t d, \qquad d = \max(-\rho, \min(\rho, a)), \qquad t = \min(1, t_1, \dots, t_R, t_\square)

    where t_r is when the segment enters wall r widened by ``MARGIN`` on each side, and t_□ when it comes that near to
    the border. A dot nearer than that (it was put there) may leave but not approach. A free step is exactly p + d.
    Where it meets nothing or one thing, p′ has a slope in p and a.

    Args:
        place: (..., 2), not in a wall.
        action: displacements, (..., 2).
        layout: where. The three broadcast.
        reach: ρ, the farthest in each coordinate.

    Returns:
        Where the dot is then, (..., 2).

    Raises:
        ValueError: shapes other than (..., 2), values not finite, a place in a wall or outside the square, too low a
            precision.

    >>> layout = two_rooms(torch.tensor(0.5), torch.tensor(0.5))
    >>> move(torch.tensor([[0.43, 0.5], [0.43, 0.2]]), torch.tensor([0.05, 0.0]), layout)
    tensor([[0.4800, 0.5000],
            [0.4599, 0.2000]])
    """
    require_plane("place", place)
    if torch.finfo(place.dtype).eps > MARGIN / 100:
        raise ValueError(f"place must be float32 or float64, got {place.dtype}")
    d = require_plane("action", action).clamp(-require_positive("reach", reach), reach)
    gaps = _gaps(place, layout.walls)
    if has_values(place) and not _inside(place, gaps).all():
        raise ValueError(f"place must be in the square and in no wall: {_misplaced(place, gaps)}")
    first = _entry(gaps, d, MARGIN).amin(-1)
    still = d == 0
    room = (torch.where(d > 0, 1 - place, place) - MARGIN).clamp(min=0)
    border = torch.where(still, torch.inf, room / torch.where(still, 1, d.abs())).amin(-1)
    return place + torch.minimum(first, border).clamp(max=1)[..., None] * d


def is_free(place: Tensor, layout: Rooms) -> Tensor:
    """Tell which places are free: more than half of ``MARGIN`` from every wall and from the border.

    Wherever the dot moves from a free place is free again.

    Args:
        place: (..., 2).
        layout: broadcasting with it.

    Returns:
        bool, (...).

    Raises:
        ValueError: shapes other than (..., 2), values not finite.

    >>> is_free(torch.tensor([[0.2, 0.2], [0.5, 0.2]]), two_rooms(torch.tensor(0.5), torch.tensor(0.5)))
    tensor([ True, False])
    """
    gaps = _gaps(require_plane("place", place), layout.walls)
    return (gaps.amax((-1, -2)) > MARGIN / 2).all(-1) & ((place > MARGIN / 2) & (place < 1 - MARGIN / 2)).all(-1)


def draw_dot(place: Tensor, *, size: int = 28, spot: float = SPOT) -> Tensor:
    r"""Draw the dot as a Gaussian spot whose peak is 1, cut off at the border.

    .. math:: I_{ij} = \exp\Big({-\frac{(x_j - p_x)^2 + (y_i - p_y)^2}{2 \sigma^2}}\Big), \qquad
        x_j = \frac{j + 1/2}{S}, \quad y_i = \frac{i + 1/2}{S}

    Args:
        place: p, (..., 2).
        size: S, height and width in pixels.
        spot: σ. From about one pixel on, the picture's centre of mass is the place.

    Returns:
        (..., S, S).

    Raises:
        ValueError: shapes other than (..., 2), values not finite, sizes not positive.

    >>> draw_dot(torch.tensor([0.5, 0.5]), size=3, spot=0.3).round(decimals=2)
    tensor([[0.2900, 0.5400, 0.2900],
            [0.5400, 1.0000, 0.5400],
            [0.2900, 0.5400, 0.2900]])
    """
    centre = (torch.arange(require_count("size", size), dtype=place.dtype, device=place.device) + 0.5) / size
    away = (centre[:, None] - require_plane("place", place)[..., None, :]) / require_positive("spot", spot)
    x, y = (away.square() * -0.5).exp().unbind(-1)
    return y[..., :, None] * x[..., None, :]


def draw_walls(layout: Rooms, *, size: int = 28) -> Tensor:
    """Draw the walls: the share of each pixel that they cover, exactly.

    Args:
        layout: (...).
        size: S, height and width in pixels.

    Returns:
        (..., S, S), from 0 to 1.

    Raises:
        ValueError: a size that is not positive.

    >>> draw_walls(two_rooms(torch.tensor(0.5), torch.tensor(0.5), thickness=0.25, opening=0.5), size=4)
    tensor([[0.0000, 0.5000, 0.5000, 0.0000],
            [0.0000, 0.0000, 0.0000, 0.0000],
            [0.0000, 0.0000, 0.0000, 0.0000],
            [0.0000, 0.5000, 0.5000, 0.0000]])
    """
    walls = layout.walls
    edge = torch.arange(require_count("size", size) + 1, dtype=walls.dtype, device=walls.device) / size
    low, high = walls[..., :2, None], walls[..., 2:, None]
    x, y = (size * (torch.minimum(high, edge[1:]) - torch.maximum(low, edge[:-1]))).clamp(min=0).unbind(-2)
    return (y.mT @ x).clamp_(max=1)


def render(place: Tensor, layout: Rooms, *, size: int = 28, spot: float = SPOT) -> Tensor:
    """Draw what is seen of the world: the dot in one channel, the walls in the other.

    Args:
        place: (..., 2).
        layout: broadcasting with it; its walls are drawn once for each layout, however many places there are.
        size: S, height and width in pixels.
        spot: as :func:`draw_dot`.

    Returns:
        (..., 2, S, S): :func:`draw_dot`, then :func:`draw_walls`.

    Raises:
        ValueError: as those.

    >>> layout = draw_layouts(5)
    >>> render(torch.full((5, 9, 2), 0.2), layout.at((..., None))).shape
    torch.Size([5, 9, 2, 28, 28])
    """
    return torch.stack(
        torch.broadcast_tensors(draw_dot(place, size=size, spot=spot), draw_walls(layout, size=size)), -3
    )


def _gaps(place: Tensor, walls: Tensor) -> Tensor:
    """How far each place is before the low edges, and beyond the high edges, of each wall, (..., R, 2, x and y)."""
    place = place[..., None, :]
    return torch.stack([walls[..., :2] - place, place - walls[..., 2:]], -2)


def entry_times(place: Tensor, d: Tensor, layout: Rooms, *, margin: float = MARGIN) -> Tensor:
    """When the rays p + t d, t ≥ 0, enter each wall widened by a margin on each side: slabs in each coordinate.

    Args:
        place: p, (..., 2), in no wall.
        d: (..., 2).
        layout: broadcasting with both.
        margin: how wide; less for a wall that p is nearer to, so that it is outside.

    Returns:
        t for each wall, (..., R); infinite where the ray misses it.

    >>> layout = two_rooms(torch.tensor(0.5), torch.tensor(0.5))
    >>> entry_times(torch.tensor([0.2, 0.2]), torch.tensor([0.52, 0.0]), layout)
    tensor([0.4998,    inf])
    """
    return _entry(_gaps(place, layout.walls), d, margin)


def _entry(gaps: Tensor, d: Tensor, margin: float) -> Tensor:
    aside = gaps.amax((-1, -2), keepdim=True).clamp(max=margin)  # a dot that is nearer must not approach
    low, high = (gaps - aside).unbind(-2)
    d = d[..., None, :]
    still = d == 0
    speed = torch.where(still, 1, d.abs())
    ahead, behind = torch.where(d > 0, low, high), torch.where(d > 0, high, low)
    within = torch.where((low < 0) & (high < 0), -torch.inf, torch.inf)
    begin = torch.where(still, within, ahead / speed).amax(-1)
    end = torch.where(still, torch.inf, -behind / speed).amin(-1)
    return torch.where((begin < end) & (end > 0), begin, torch.inf)


def _inside(place: Tensor, gaps: Tensor) -> Tensor:
    return (gaps.amax((-1, -2)) > 0).all(-1) & ((place > 0) & (place < 1)).all(-1)


def _misplaced(place: Tensor, gaps: Tensor) -> str:
    bad = ~_inside(place, gaps)
    where = tuple(bad.nonzero()[0].tolist())
    example = place.expand(*bad.shape, 2)[where].tolist()
    return f"{int(bad.sum())} of {bad.numel()} are not, the first at index {where} is {example}"
