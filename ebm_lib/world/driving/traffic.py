r"""Traffic on a motorway, by the thousand: cars that follow, brake and change lane, one of which may be ours.

.. math::

    \dot x = v \cos(\theta + \beta), \quad \dot y = v \sin(\theta + \beta), \quad \dot v = a, \quad
    \dot\theta = \frac{2 v}{\ell} \sin\beta, \quad \tan\beta = \tfrac12 \tan\delta

is how a car of length ℓ moves under an acceleration a and a steering angle δ. The road is straight and closes on itself
after ``ring`` metres, so that its density stays. It has ``LANES`` lanes; y is measured from its middle, to the right.
Drivers keep their distance by :func:`~ebm_lib.world.driving.idm`, and change lane where that lets them accelerate and
harms nobody. What they want is hidden, and changes. Car 0 is ours: it takes an action, and the others may or may not
see it.

Leading dimensions are worlds, (..., C) for C cars each. Lengths are in m, times in s, angles in rad.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.data.draw import kind_of, uniform
from ebm_lib.require import require_count, require_finite, require_positive
from ebm_lib.world.driving.following import STANDSTILL, idm

LANES, WIDTH = 3, 4.0  # of the road; of a lane
LONG, WIDE = 5.0, 2.0  # a car
DT = 0.2  # seconds in a step
DESIRED = (15.0, 33.0)  # the speeds that drivers may want
SAFE, GAIN, TASTE = 3.0, 0.0, 0.5  # MOBIL, in m/s²: braking imposed at most, gain wanted, and how much that varies
LOOKS, MOODS = 1.0, 0.1  # a second: how often a driver thinks of changing lane; wants another speed


class Traffic(NamedTuple):
    """Cars on ring roads.

    Attributes:
        x: along the road, (..., C), from 0 to ``ring``.
        y: to the right of the road's middle, (..., C).
        speed: (..., C), not negative.
        heading: to the right of straight on, (..., C).
        goal: the lane that each driver is in or changes to, (..., C), whole numbers; 0 is the leftmost.
        desired: speed that each driver would have on an empty road, (..., C).
        ring: length of the road.
    """

    x: Tensor
    y: Tensor
    speed: Tensor
    heading: Tensor
    goal: Tensor
    desired: Tensor
    ring: float


def lane_of(y: Tensor) -> Tensor:
    """Number of the nearest lane, (...), whole; 0 is the leftmost.

    >>> lane_of(torch.tensor([-9.0, -1.9, 2.1]))
    tensor([0, 1, 2])
    """
    return (y / WIDTH + (LANES - 1) / 2).round().clamp(0, LANES - 1).long()


def middle_of(lane: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return y of the lane's middle, (...).

    >>> middle_of(torch.arange(3))
    tensor([-4.,  0.,  4.])
    """
    return (lane - (LANES - 1) / 2).to(dtype) * WIDTH


def draw_traffic(
    N: int,
    cars: int = 15,
    *,
    ring: float = 250.0,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Traffic:
    """Put cars on roads, evenly spaced in each lane, with drivers of all moods. Let them drive a while before use.

    Args:
        N: roads.
        cars: C, on each.
        ring: length of the road.
        generator: source of randomness.
        dtype: of the numbers; torch's default if None.
        device: of the result.

    Returns:
        The traffic, (N, C).

    Raises:
        ValueError: no road, no car, or more cars than there is room for.

    >>> draw_traffic(3, 12, generator=torch.Generator().manual_seed(0)).x.shape
    torch.Size([3, 12])
    """
    require_count("N", N)
    kind = kind_of(None, dtype, device)
    rows = -(-require_count("cars", cars) // LANES)
    if require_positive("ring", ring) / rows < LONG + 2 * STANDSTILL:
        raise ValueError(f"ring must have {rows * (LONG + 2 * STANDSTILL):g} m for {cars} cars, got {ring}")
    first, start = (uniform((N, 1), generator, *kind) for _ in range(2))
    number = (torch.arange(cars, device=device) + (first * cars).long()) % cars  # car 0 may be in any lane
    lane = number % LANES
    place = number // LANES + (number % LANES).to(start) / LANES  # in rows
    x = (start * ring + place * (ring / rows)) % ring
    desired = DESIRED[0] + (DESIRED[1] - DESIRED[0]) * uniform((N, cars), generator, *kind)
    flat = torch.zeros_like(desired)
    return Traffic(x, middle_of(lane, x.dtype), flat + DESIRED[0], flat, lane, desired, float(ring))


def _around(traffic: Traffic, seen: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Look ahead and behind in every lane: gaps (..., C, LANES), infinite if there is nobody, and speeds there.

    A car is in a lane if it is nearest to that lane's middle, and if it is about to be.
    """
    lanes = torch.arange(LANES, device=traffic.x.device)
    inside = (lane_of(traffic.y)[..., None] == lanes) | (traffic.goal[..., None] == lanes)
    there = ~torch.eye(traffic.x.shape[-1], dtype=torch.bool, device=traffic.x.device)
    if not seen:
        there[:, 0] = False
    there = there[..., None] & inside[..., None, :, :]
    ahead = (traffic.x[..., None, :] - traffic.x[..., :, None]) % traffic.ring
    found = []
    for far in (ahead, (-ahead) % traffic.ring):
        gap, who = torch.where(there, far[..., None], torch.inf).min(-2)
        speed = traffic.speed[..., None].expand_as(inside).gather(-2, who)
        found += [gap - LONG, speed]
    return tuple(found)


def decide(
    traffic: Traffic,
    *,
    seen: bool = True,
    draws: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Traffic:
    r"""Let the drivers want what they want: now and then another speed, now and then another lane.

    A driver who thinks of changing lane does so if :math:`a' - a > g`, with a and a′ the accelerations (:func:`idm`)
    that the lanes allow, and if neither a′ nor what the car behind must do is below −``SAFE``; the gain g that they ask
    for varies from moment to moment. In one step all cars of a road look to the same side.

    Args:
        traffic: (..., C).
        seen: whether the others see car 0.
        draws: uniform numbers in [0, 1), (..., C, 5), in place of the generator: on thinking of it, side (of car 0's
            row), gain, another speed, which.
        generator: source of randomness.

    Returns:
        The traffic with other goals and other desired speeds.

    Raises:
        ValueError: draws of another shape.

    Source: Kesting, Treiber and Helbing, General lane-changing model MOBIL for car-following models (Transportation
    Research Record 1999, 2007), with politeness 0.
    """
    shape = (*traffic.x.shape, 5)
    if draws is None:
        draws = uniform(shape, generator, *kind_of(traffic.x, None, None))
    elif draws.shape != shape:
        raise ValueError(f"draws must be {shape}, got shape {tuple(draws.shape)}")
    front, front_speed, back, back_speed = _around(traffic, seen)
    v, desired = traffic.speed[..., None], traffic.desired[..., None]
    own = idm(v, front, v - front_speed, desired)
    # what the car behind would have to do: its own wish for speed aside
    behind = idm(back_speed, back, back_speed - v, torch.full_like(v, math.inf))
    side = torch.where(draws[..., :1, 1] < 0.5, -1, 1)
    wanted = traffic.goal + side
    on_road = (wanted >= 0) & (wanted < LANES)
    there = wanted.clamp(0, LANES - 1)[..., None]
    new, old = own.gather(-1, there)[..., 0], own.gather(-1, traffic.goal[..., None])[..., 0]
    room = (front.gather(-1, there) > STANDSTILL) & (back.gather(-1, there) > STANDSTILL)
    safe = (new > -SAFE) & (behind.gather(-1, there)[..., 0] > -SAFE) & room[..., 0]
    settled = (traffic.y - middle_of(traffic.goal, v.dtype)).abs() < 0.5
    gain = GAIN + TASTE * (2 * draws[..., 2] - 1)
    change = (draws[..., 0] < LOOKS * DT) & on_road & settled & safe & (new - old > gain)
    mood = DESIRED[0] + (DESIRED[1] - DESIRED[0]) * draws[..., 4]
    return traffic._replace(
        goal=torch.where(change, wanted, traffic.goal),
        desired=torch.where(draws[..., 3] < MOODS * DT, mood, traffic.desired),
    )


def controls(traffic: Traffic, *, seen: bool = True) -> Tensor:
    """Return what the drivers do to get where they want: acceleration and steering angle, (..., C, 2).

    They keep their distance in the lane that they are in and in the one that they go to, and steer smoothly to the
    middle of the latter.
    """
    front, front_speed, _, _ = _around(traffic, seen)
    v = traffic.speed[..., None]
    allowed = idm(v, front, v - front_speed, traffic.desired[..., None])
    both = torch.stack([lane_of(traffic.y), traffic.goal], -1)
    aside = middle_of(traffic.goal, traffic.y.dtype) - traffic.y
    pace = traffic.speed.clamp(min=5)
    heading = (aside / 1.5 / pace).clamp(-0.15, 0.15)
    slip = torch.asin((LONG / 2 * (heading - traffic.heading) / 0.5 / pace).clamp(-0.5, 0.5))
    return torch.stack([allowed.gather(-1, both).amin(-1), torch.atan(2 * slip.tan())], -1)


def step(traffic: Traffic, action: Tensor) -> Traffic:
    """Move all cars by one Euler step of ``DT`` under acceleration and steering angle, (..., C, 2); none backwards.

    Raises:
        ValueError: actions of another shape, or not finite.
    """
    if action.shape != (*traffic.x.shape, 2):
        raise ValueError(f"action must be {(*traffic.x.shape, 2)}, got shape {tuple(action.shape)}")
    pull, turn = require_finite("action", action).unbind(-1)
    slip = torch.atan(turn.tan() / 2)
    course = traffic.heading + slip
    return traffic._replace(
        x=(traffic.x + DT * traffic.speed * course.cos()) % traffic.ring,
        y=traffic.y + DT * traffic.speed * course.sin(),
        speed=(traffic.speed + DT * pull).clamp(min=0),
        heading=traffic.heading + DT * traffic.speed * slip.sin() / (LONG / 2),
    )


def drive(
    traffic: Traffic,
    action: Tensor | None = None,
    *,
    seen: bool = True,
    generator: torch.Generator | None = None,
) -> Traffic:
    """Let all drive for one step; car 0 by these actions, (..., 2), or like the others if None."""
    traffic = decide(traffic, seen=seen, generator=generator)
    act = controls(traffic, seen=seen)
    if action is not None:
        act = torch.cat([action[..., None, :], act[..., 1:, :]], -2)
    return step(traffic, act)
