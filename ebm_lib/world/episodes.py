"""What happens in the rooms: random walks to learn from, starts and goals to be tested on, and the shortest way."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.data.draw import normal, require_plane, uniform
from ebm_lib.require import has_values, require_count
from ebm_lib.world.mazes import Maze
from ebm_lib.world.rooms import MARGIN, REACH, Layout, Rooms, entry_times, is_free, move

ROUNDS = 1000  # of drawing again what does not fit


class Walks(NamedTuple):
    """What a dot did.

    Attributes:
        places: where it was, (..., T, 2).
        actions: what it tried to do there, (..., T − 1, 2).
    """

    places: Tensor
    actions: Tensor


class Errands(NamedTuple):
    """Where to begin and where to go, each (..., 2)."""

    start: Tensor
    goal: Tensor


@torch.no_grad()
def walks(
    layout: Rooms,
    T: int,
    *,
    turn: float = 0.4,
    speed: tuple[float, float] = (0.0, 1.0),
    rebound: bool = True,
    start: Tensor | None = None,
    reach: float = REACH,
    generator: torch.Generator | None = None,
) -> Walks:
    r"""Let a dot walk at random in each layout: the data that a model of the world is learned from.

    .. math:: \theta_{t+1} = \theta_t + \sigma \varepsilon_t, \qquad
        a_t = \rho v_t \frac{(\cos \theta_t, \sin \theta_t)}{\max(|\cos \theta_t|, |\sin \theta_t|)}, \qquad
        v_t \sim U(v_{\min}, v_{\max})

    The data policy, in words. It begins anywhere in free space, each place as probable as any other, heads anywhere,
    turns a little from step to step, and takes steps of random length, up to the farthest that an action can reach in
    that direction: so all actions occur. When a wall or the border has stopped it, it heads somewhere new, drawn from
    all directions alike. It knows nothing of walls, doors or goals, and goes through a door by chance alone.

    Args:
        layout: (...), one walk in each; ``layout.at(indices)`` repeats layouts.
        T: places, at least 2.
        turn: σ ≥ 0 in radians: 0 walks straight on, from about 3 on every heading is new.
        speed: v_min and v_max, shares of what an action can reach, from 0 to 1.
        rebound: whether it heads somewhere new when it was stopped, or keeps pushing until it has turned away.
        start: (..., 2) where to begin; anywhere free if None.
        reach: ρ, as :func:`~ebm_lib.world.move`.
        generator: source of randomness.

    Returns:
        The walks. Where nothing was in the way, places[t + 1] = places[t] + actions[t].

    Raises:
        ValueError: numbers out of range, a start that is not free.

    Source: after the two rooms of Sobal et al., Learning from Reward-Free Offline Data: A Case for Planning with Latent
    Dynamics Models (2025), whose data are random walks too; headings and numbers are ours.

    >>> from ebm_lib.world.rooms import draw_layouts
    >>> layout = draw_layouts(3, generator=torch.Generator().manual_seed(0))
    >>> places, actions = walks(layout, 10, generator=torch.Generator().manual_seed(0))
    >>> places.shape, actions.shape
    (torch.Size([3, 10, 2]), torch.Size([3, 9, 2]))
    """
    require_count("T", T, minimum=2)
    if not 0 <= turn < math.inf:
        raise ValueError(f"turn must be a finite angle of at least 0, got {turn}")
    low, high = speed
    if not 0 <= low <= high <= 1:
        raise ValueError(f"speed must be (low, high) with 0 <= low <= high <= 1, got {speed}")
    place = draw_places(layout, generator=generator) if start is None else require_plane("start", start)
    if start is not None and has_values(start) and not is_free(start, layout).all():
        raise ValueError("start must be free, away from walls and border")
    leading = torch.broadcast_shapes(place.shape[:-1], layout.walls.shape[:-2])
    place, kind = place.expand(*leading, 2), (place.dtype, place.device)
    turns = turn * normal((T - 1, *leading), generator, *kind)
    speeds = low + (high - low) * uniform((T - 1, *leading), generator, *kind)
    headings = 2 * math.pi * uniform((T - 1, *leading), generator, *kind)
    heading, stopped = headings[0], torch.zeros(leading, dtype=torch.bool, device=place.device)
    places, actions = [place], []
    for t in range(T - 1):
        if t:
            heading = torch.where(stopped, headings[t], heading + turns[t])
        way = torch.stack([heading.cos(), heading.sin()], -1)
        action = reach * speeds[t, ..., None] * way / way.abs().amax(-1, keepdim=True)
        action = action.clamp(-reach, reach)
        after = move(place, action, layout, reach=reach)
        stopped = (after != place + action).any(-1) & rebound
        place = after
        places.append(place)
        actions.append(action)
    return Walks(torch.stack(places, -2), torch.stack(actions, -2))


def draw_places(layout: Rooms, *, samples: tuple[int, ...] = (), generator: torch.Generator | None = None) -> Tensor:
    """Draw places uniformly from free space.

    Args:
        layout: (...).
        samples: how many in each layout, as dimensions that come first.
        generator: source of randomness.

    Returns:
        ``(*samples, ..., 2)``.

    Raises:
        ValueError: there is no free space to be found.

    >>> from ebm_lib.world.rooms import draw_layouts
    >>> layout = draw_layouts(3)
    >>> draw_places(layout, samples=(5,), generator=torch.Generator().manual_seed(0)).shape
    torch.Size([5, 3, 2])
    """
    return _until(lambda: _anywhere(layout, samples, generator), lambda place: is_free(place, layout), "free space")


def cross_room(
    layout: Layout | Maze,
    *,
    distance: float = 0.0,
    samples: tuple[int, ...] = (),
    generator: torch.Generator | None = None,
) -> Errands:
    """Draw starts and goals in different rooms, uniformly among such pairs that are far enough from each other.

    Neither is in a doorway.

    Args:
        layout: (...).
        distance: least distance between start and goal, as the crow flies.
        samples: how many in each layout, as dimensions that come first.
        generator: source of randomness.

    Returns:
        Two places, each ``(*samples, ..., 2)``.

    Raises:
        ValueError: there are no such pairs to be found.

    >>> from ebm_lib.world.rooms import draw_layouts
    >>> layout = draw_layouts(3)
    >>> start, goal = cross_room(layout, distance=0.3, generator=torch.Generator().manual_seed(0))
    >>> (room_of(start, layout) + room_of(goal, layout)).tolist()
    [1, 1, 1]
    """
    if not 0 <= distance < math.sqrt(2):
        raise ValueError(f"distance must be at least 0 and below the diagonal, got {distance}")

    def draw() -> Tensor:
        return torch.stack([_anywhere(layout, samples, generator) for _ in range(2)], -2)

    def fits(pair: Tensor) -> Tensor:
        start, goal = pair.unbind(-2)
        far = torch.linalg.vector_norm(goal - start, dim=-1) >= distance
        rooms = room_of(start, layout), room_of(goal, layout)
        apart = (rooms[0] != rooms[1]) & (torch.minimum(*rooms) >= 0)  # and none in a doorway
        return far & apart & is_free(start, layout) & is_free(goal, layout)

    return Errands(*_until(draw, fits, f"pairs in different rooms at a distance of {distance}").unbind(-2))


def room_of(place: Tensor, layout: Layout | Maze) -> Tensor:
    """Number the room that each place is in: 0 left and 1 right of the wall, or row by row in a maze.

    Args:
        place: (..., 2).
        layout: broadcasting with it.

    Returns:
        int64, (...); −1 in a doorway, between the two sides of a wall.

    Raises:
        ValueError: shapes other than (..., 2), values not finite.

    >>> from ebm_lib.world.rooms import two_rooms
    >>> layout = two_rooms(torch.tensor(0.5), torch.tensor(0.5))
    >>> room_of(torch.tensor([[0.2, 0.2], [0.5, 0.5], [0.7, 0.2]]), layout)
    tensor([ 0, -1,  1])
    """
    require_plane("place", place)
    extent = layout.walls[..., 0, 2:] - layout.walls[..., 0, :2]  # of the first wall, which is upright if any is
    if hasattr(layout, "wall"):
        doorway = (place[..., 0] - layout.wall).abs() <= extent[..., 0] / 2
        room = (place[..., 0] > layout.wall).long()
    else:
        rows, columns = layout.doors.shape[-3:-1]
        in_rooms = place * place.new_tensor([columns, rows])
        nearest = in_rooms.round()
        line = (nearest > 0) & (nearest < nearest.new_tensor([columns, rows]))
        away = (place - nearest / nearest.new_tensor([columns, rows])).abs()
        thickness = extent[..., :1] if columns > 1 else extent[..., 1:]
        doorway = (line & (away <= thickness / 2)).any(-1)
        column, row = (in_rooms[..., k].long().clamp(0, n - 1) for k, n in enumerate((columns, rows)))
        room = row * columns + column
    return torch.where(doorway, -1, room)


@torch.no_grad()
def shortest(place: Tensor, goal: Tensor, layout: Rooms) -> Tensor:
    r"""The length of the shortest way from place to goal around the walls.

    .. math:: \min \sum_k \lVert q_{k+1} - q_k \rVert, \qquad q_0 = p, \quad q_n = g, \quad
        q_1, \dots, q_{n-1} \text{ corners that see each other}

    A shortest way among rectangles is straight from corner to corner: Bellman and Ford's relaxation over all of them.
    It keeps as far from the walls as free places do.

    Args:
        place: p, (..., 2), free.
        goal: g, (..., 2), free.
        layout: broadcasting with both.

    Returns:
        (...); infinite where there is no way.

    Raises:
        ValueError: shapes other than (..., 2), values not finite, a place or goal that is not free.

    >>> from ebm_lib.world.rooms import draw_layouts
    >>> layout = draw_layouts(1)
    >>> shortest(torch.tensor([0.2, 0.2]), torch.tensor([0.8, 0.2]), layout)
    tensor([0.7362])
    """
    for name, point in (("place", place), ("goal", goal)):
        require_plane(name, point)
        if has_values(point) and not is_free(point, layout).all():
            raise ValueError(f"{name} must be free, away from walls and border")
    walls = layout.walls
    leading = torch.broadcast_shapes(place.shape[:-1], goal.shape[:-1], walls.shape[:-2])
    aside = MARGIN  # of the corners, and the way keeps half of that: places near a wall are included
    x0, y0, x1, y1 = (walls + walls.new_tensor([-aside, -aside, aside, aside])).unbind(-1)
    corners = torch.stack([torch.stack(part, -1) for part in ((x0, y0), (x0, y1), (x1, y0), (x1, y1))], -2).flatten(
        -3, -2
    )
    nodes = torch.cat([part.expand(*leading, -1, 2) for part in (place[..., None, :], corners, goal[..., None, :])], -2)
    room = layout.at((..., None))
    usable = is_free(nodes, room)
    steps = []  # from each node to all
    for k in range(nodes.shape[-2]):
        way = nodes - nodes[..., k : k + 1, :]
        seen = entry_times(nodes[..., k : k + 1, :], way, room, margin=MARGIN / 2).amin(-1) >= 1
        steps.append(
            torch.where(seen & usable & usable[..., k : k + 1], torch.linalg.vector_norm(way, dim=-1), torch.inf)
        )
    step = torch.stack(steps, -2)
    length = step[..., 0, :]
    for _ in range(nodes.shape[-2] - 2):
        shorter = (length[..., :, None] + step).amin(-2)
        if has_values(shorter) and torch.equal(shorter, length):
            break
        length = shorter
    return length[..., -1]


def _anywhere(layout: Rooms, samples: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    walls = layout.walls
    return MARGIN + (1 - 2 * MARGIN) * uniform((*samples, *walls.shape[:-2], 2), generator, walls.dtype, walls.device)


def _until(draw, fits, what: str) -> Tensor:
    """Draw, and draw again whatever does not fit."""
    found = draw()
    if not has_values(found):
        return found
    for _ in range(ROUNDS):
        fine = fits(found)
        if fine.all():
            return found
        found = torch.where(fine.view(*fine.shape, *[1] * (found.ndim - fine.ndim)), found, draw())
    raise ValueError(f"layout must have {what}: none found for {int((~fine).sum())} in {ROUNDS} draws")
