"""Concepts in the plane, as data: events of a few points, drawn so that together they show one concept.

A family of concepts is a shape with a parameter: circles of some radius, lines of some direction. One concept is one
value of the parameter, and each of its *events* is a handful of points on that shape, anywhere in the plane (only a
spot has a place of its own). An event of P points is a vector (..., 2P), point after point.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.data.draw import blur, uniform
from ebm_lib.require import require_choice, require_count, require_finite

REACH = 0.6  # a shape whose place is free is put within this distance of the origin, along each coordinate


class Shape(NamedTuple):
    """A family of concepts: points on a shape, one concept for each value of its parameter.

    Attributes:
        names: what the parameter's components are.
        low: lower bounds of the parameter, one number per component.
        high: upper bounds.
        placed: whether the concept has a place of its own; all others may lie anywhere.
        points: (u, parameter) → points of the shape at the origin: u uniform in [0, 1), (..., 2) gives (..., 2).
        distance: (p, parameter) → how far points (..., 2) are from the shape at the origin, (...).
    """

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    placed: bool
    points: Callable[[Tensor, Tensor], Tensor]
    distance: Callable[[Tensor, Tensor], Tensor]


def _turn(angle: Tensor) -> Tensor:
    return torch.stack([torch.cos(angle), torch.sin(angle)], dim=-1)


def _disc(u: Tensor, radius: float) -> Tensor:
    return radius * u[..., :1].sqrt() * _turn(2 * math.pi * u[..., 1])


def _circle_points(u: Tensor, parameter: Tensor) -> Tensor:
    return parameter * _turn(2 * math.pi * u[..., 0])


def _circle_distance(p: Tensor, parameter: Tensor) -> Tensor:
    return (p.norm(dim=-1) - parameter[..., 0]).abs()


def _polygon_points(u: Tensor, corners: Tensor) -> Tensor:
    """Walk along the sides: u[..., 0] says how far, corners (..., C, 2) anticlockwise, sides of one length."""
    count = corners.shape[-2]
    along = count * u[..., 0]
    side = along.floor().clamp(max=count - 1)
    picked = [
        torch.take_along_dim(corners, ((side.long() + k) % count)[..., None, None], -2).squeeze(-2) for k in (0, 1)
    ]
    return torch.lerp(picked[0], picked[1], (along - side)[..., None])


def _polygon_distance(p: Tensor, corners: Tensor) -> Tensor:
    start, end = corners, corners.roll(-1, -2)
    side, off = end - start, p[..., None, :] - start
    share = ((off * side).sum(-1) / side.square().sum(-1)).clamp(0, 1)
    return (off - share[..., None] * side).norm(dim=-1).amin(-1)


def _square(parameter: Tensor) -> Tensor:
    return parameter[..., None, :] * parameter.new_tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]])


def _triangle(parameter: Tensor) -> Tensor:
    angles = math.pi * (0.5 + parameter.new_tensor([0, 2, 4]) / 3)  # a corner on top
    return parameter[..., None, :] * _turn(angles)


def _line_points(u: Tensor, parameter: Tensor) -> Tensor:
    return (2 * u[..., :1] - 1) * _turn(parameter[..., 0])


def _line_distance(p: Tensor, parameter: Tensor) -> Tensor:
    return (p * _turn(parameter[..., 0] + math.pi / 2)).sum(-1).abs()


HEAP, SPOT = 0.1, 0.3  # radii


def _apart(parameter: Tensor) -> Tensor:
    return parameter[..., :1] * _turn(parameter[..., 1])


def _heaps_points(u: Tensor, parameter: Tensor) -> Tensor:
    doubled = 2 * u[..., 0]
    which = doubled.floor()
    within = torch.stack([doubled - which, u[..., 1]], dim=-1)
    return (which - 0.5)[..., None] * _apart(parameter) + _disc(within, HEAP)


def _heaps_distance(p: Tensor, parameter: Tensor) -> Tensor:
    half = _apart(parameter) / 2
    nearest = torch.minimum((p - half).norm(dim=-1), (p + half).norm(dim=-1))
    return (nearest - HEAP).relu()


#: The families of concepts, each a :class:`Shape` under its name.
SHAPES: dict[str, Shape] = {
    "circle": Shape(("radius",), (0.3,), (0.8,), False, _circle_points, _circle_distance),
    "square": Shape(
        ("half side",),
        (0.25,),
        (0.7,),
        False,
        lambda u, parameter: _polygon_points(u, _square(parameter)),
        lambda p, parameter: _polygon_distance(p, _square(parameter)),
    ),
    "line": Shape(("direction",), (0.0,), (math.pi,), False, _line_points, _line_distance),
    "heaps": Shape(("apart", "direction"), (0.5, 0.0), (1.4, math.pi), False, _heaps_points, _heaps_distance),
    "spot": Shape(
        ("place, 1", "place, 2"),
        (-0.8, -0.8),
        (0.8, 0.8),
        True,
        lambda u, parameter: parameter + _disc(u, SPOT),
        lambda p, parameter: ((p - parameter).norm(dim=-1) - SPOT).relu(),
    ),
    "triangle": Shape(
        ("radius",),
        (0.4,),
        (0.9,),
        False,
        lambda u, parameter: _polygon_points(u, _triangle(parameter)),
        lambda p, parameter: _polygon_distance(p, _triangle(parameter)),
    ),
}


def _shape(shape: str) -> Shape:
    return SHAPES[require_choice("shape", shape, SHAPES)]


def _require_parameter(shape: str, parameter: Tensor) -> None:
    size = len(SHAPES[shape].names)
    if parameter.ndim == 0 or parameter.shape[-1] != size:
        raise ValueError(f"parameter of {shape!r} must have last dimension {size}, got shape {tuple(parameter.shape)}")
    require_finite("parameter", parameter)


def draw_parameters(
    shape: str,
    count: int,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Draw concepts of one family: values of the shape's parameter.

    .. math:: \theta \sim U(\text{low}, \text{high})

    Args:
        shape: a key of :data:`SHAPES`.
        count: how many.
        generator: source of randomness.
        dtype: torch's default if None.
        device: where they go.

    Returns:
        (count, D), D the number of components of the shape's parameter, in units of the plane (an angle in radians).

    Raises:
        ValueError: an unknown shape.

    >>> draw_parameters("spot", 3).shape
    torch.Size([3, 2])
    """
    family = _shape(shape)
    require_count("count", count)
    device = None if device is None else torch.device(device)
    u = uniform((count, len(family.low)), generator, dtype or torch.get_default_dtype(), device)
    return u.new_tensor(family.low) + u * (u.new_tensor(family.high) - u.new_tensor(family.low))


def draw_events(
    shape: str,
    parameter: Tensor,
    events: int,
    *,
    points: int = 8,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Draw events of concepts: points on the shape, each event at a place of its own, if the concept leaves it free.

    .. math:: y_i = s_\theta(u_i) + c + \sigma \xi_i, \qquad u_i \sim U(0, 1)^2, \quad c \sim U(-0.6, 0.6)^2

    Args:
        shape: a key of :data:`SHAPES`.
        parameter: θ, (..., D), in float; its dtype and device are the result's.
        events: how many of each concept.
        points: P, in each event.
        noise: σ, in units of the plane.
        generator: source of randomness.

    Returns:
        (..., events, 2P).

    Raises:
        ValueError: an unknown shape, a parameter of the wrong size or not in float, negative noise.

    >>> y = draw_events("circle", torch.tensor([0.5]), 3, points=4, generator=torch.Generator().manual_seed(0))
    >>> y.shape, bool((misfit("circle", y, torch.tensor([0.5])) < 1e-3).all())
    (torch.Size([3, 8]), True)
    """
    family = _shape(shape)
    _require_parameter(shape, parameter)
    if not parameter.is_floating_point():
        raise ValueError(f"parameter must have a floating-point dtype, got {parameter.dtype}")
    require_count("events", events)
    require_count("points", points)
    size = (*parameter.shape[:-1], events, points, 2)
    kind = (generator, parameter.dtype, parameter.device)
    y = family.points(uniform(size, *kind), parameter[..., None, None, :])
    if not family.placed:
        y = y + REACH * (2 * uniform((*size[:-2], 1, 2), *kind) - 1)
    return blur(y, noise, generator).flatten(-2)


def misfit(shape: str, y: Tensor, parameter: Tensor, *, rounds: int = 5) -> Tensor:
    r"""How far the points of an event are from the shape, put where it fits best.

    .. math:: \min_c \sqrt{\tfrac1P \sum_i d_\theta(y_i - c)^2}

    The place c is searched on a grid of 13 × 13 around the points' mean, then on ever finer ones. For a concept with
    a place of its own c = 0.

    Args:
        shape: a key of :data:`SHAPES`.
        y: events, (..., 2P).
        parameter: θ, (..., D), broadcast against the events.
        rounds: how often the grid is refined, each time by a factor of 4.

    Returns:
        (...), in units of the plane. The search leaves less than 0.002 of it.

    Raises:
        ValueError: an unknown shape, y of odd size or not finite, a parameter of the wrong size, leading dimensions
            that do not broadcast.

    >>> y = torch.tensor([0.5, 0.0, -0.5, 0.0, 0.0, 0.5])  # three points of a circle
    >>> misfit("circle", y, torch.tensor([[0.5], [0.6]])) < 0.01
    tensor([ True, False])
    """
    family = _shape(shape)
    _require_parameter(shape, parameter)
    require_count("rounds", rounds)
    p = points_of(require_finite("y", y))
    try:
        leading = torch.broadcast_shapes(p.shape[:-2], parameter.shape[:-1])
    except RuntimeError:
        raise ValueError(
            "the leading dimensions of y and parameter must broadcast, got shapes "
            f"{tuple(y.shape)} and {tuple(parameter.shape)}"
        ) from None
    if family.placed:
        return family.distance(p, parameter[..., None, :]).square().mean(-1).sqrt()
    p, parameter = p.expand(*leading, -1, 2), parameter.expand(*leading, -1)
    centre, span = p.mean(-2), 1.0
    ticks = torch.linspace(-1, 1, 13, dtype=p.dtype, device=p.device)
    offsets = torch.cartesian_prod(ticks, ticks)
    for _ in range(rounds):
        centres = centre[..., None, :] + span * offsets  # (..., 169, 2)
        off = p[..., None, :, :] - centres[..., None, :]
        squared = family.distance(off, parameter[..., None, None, :]).square().mean(-1)
        lowest, index = squared.min(-1)
        centre = torch.take_along_dim(centres, index[..., None, None], -2).squeeze(-2)
        span /= 4
    return lowest.sqrt()


def points_of(y: Tensor) -> Tensor:
    """Take an event apart: (..., 2P) gives (..., P, 2).

    Raises:
        ValueError: not two coordinates for each point.

    >>> points_of(torch.arange(6.0)).tolist()
    [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    """
    if y.ndim == 0 or y.shape[-1] < 2 or y.shape[-1] % 2:
        raise ValueError(f"y must hold two coordinates for each point, shape (..., 2P), got shape {tuple(y.shape)}")
    return y.unflatten(-1, (-1, 2))
