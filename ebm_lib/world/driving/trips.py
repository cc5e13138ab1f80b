"""Trips in the traffic: to record how others drive, and to test how a policy does.

An action of our car, car 0, lasts ``HOLD`` steps of the traffic. In a record it drives like the others and errs a
little; in a test it is driven by a policy, until it crashes, leaves the road, or time is up.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.data.draw import normal
from ebm_lib.require import require_count
from ebm_lib.world.driving.collisions import between, crashes, off_road
from ebm_lib.world.driving.traffic import DT, Traffic, controls, drive

SIGHT = 60.0  # m; cars farther than this ahead or behind are not seen
HOLD = 2  # steps of the traffic that an action lasts

Policy = Callable[[Tensor, Tensor], Tensor]


class Neighbourhood(NamedTuple):
    """What our driver sees.

    Attributes:
        own: distance from the road's middle, to the right (m), speed (m/s), heading (rad), (..., 3).
        cars: how far ahead and to the right (m), how much faster ahead and to the right (m/s), and whether there is
            such a car (1, or 0 and the rest 0 too), (..., K, 5).
        who: which cars these are, (..., K).
    """

    own: Tensor
    cars: Tensor
    who: Tensor


def neighbourhood(traffic: Traffic, K: int = 6, *, who: Tensor | None = None) -> Neighbourhood:
    """See the K nearest cars, the nearest first; or those of an earlier look, in their order, wherever they are now.

    Args:
        traffic: (..., C).
        K: how many.
        who: ``Neighbourhood.who`` of an earlier look.

    Raises:
        ValueError: fewer cars than K.
    """
    if require_count("K", K) >= traffic.x.shape[-1]:
        raise ValueError(f"K must be below the number of cars, {traffic.x.shape[-1]}, got {K}")
    way = between(traffic)[..., 0, :, :]
    if who is None:
        distance = way.square().sum(-1)
        distance = torch.cat([torch.full_like(distance[..., :1], torch.inf), distance[..., 1:]], -1)
        who = distance.sort(dim=-1, stable=True).indices[..., :K]
    fast = torch.stack([traffic.speed * traffic.heading.cos(), traffic.speed * traffic.heading.sin()], -1)
    fast = fast - fast[..., :1, :]
    every = torch.cat([way, fast], -1)
    cars = every.gather(-2, who[..., None].expand(*who.shape, 4))
    there = (cars[..., :1].abs() <= SIGHT).to(cars.dtype)
    own = torch.stack([traffic.y[..., 0], traffic.speed[..., 0], traffic.heading[..., 0]], -1)
    return Neighbourhood(own, torch.cat([cars * there, there], -1), who)


class Transitions(NamedTuple):
    """What a forward model is taught.

    Attributes:
        own: (n, 3) before, as in :class:`Neighbourhood`.
        cars: (n, K, 5) before.
        action: acceleration in m/s² and steering angle, (n, 2).
        own_next: (n, 3) after.
        cars_next: (n, K, 5) after, the same cars in the same order.
    """

    own: Tensor
    cars: Tensor
    action: Tensor
    own_next: Tensor
    cars_next: Tensor

    @property
    def stays(self) -> Tensor:
        """1 for each car that is there before and after, else 0, (n, K)."""
        return self.cars[..., 4] * self.cars_next[..., 4]


class Outcomes(NamedTuple):
    """What became of episodes.

    Attributes:
        crashed: ended by meeting a car, bool, (N,).
        off: ended by leaving the road, bool, (N,).
        distance: until the end, m, (N,).
        seconds: until the end, (N,).
    """

    crashed: Tensor
    off: Tensor
    distance: Tensor
    seconds: Tensor


@torch.no_grad()
def road_test(
    policy: Policy | None,
    traffic: Traffic,
    *,
    actions: int = 100,
    K: int = 6,
    seen: bool = True,
    generator: torch.Generator | None = None,
) -> Outcomes:
    """Let car 0 be driven by the policy, or by the traffic's own drivers if None, until it crashes or time is up.

    Args:
        policy: own (N, 3) and cars (N, K, 5) to actions (N, 2).
        traffic: where, (N, C).
        actions: how many, at most.
        K: cars that the policy sees.
        seen: whether the others see car 0.
        generator: draws what the others want.

    Raises:
        ValueError: no action.

    Source: the measures of Henaff, Canziani and LeCun (ICLR 2019), "Policy Evaluation Results", where nobody sees the
    car that is tested.
    """
    N = len(traffic.x)
    require_count("actions", actions)
    crashed, off = (torch.zeros(N, dtype=torch.bool, device=traffic.x.device) for _ in range(2))
    distance, alive = torch.zeros_like(traffic.x[:, 0]), torch.zeros_like(traffic.x[:, 0])
    for _ in range(actions):
        look = neighbourhood(traffic, K)
        action = None if policy is None else policy(look.own, look.cars)
        for _ in range(HOLD):
            after = drive(traffic, action, seen=seen, generator=generator)
            on = ~(crashed | off)
            distance = distance + on * ((after.x - traffic.x)[:, 0] % traffic.ring)
            alive = alive + on * DT
            crashed = crashed | (on & crashes(traffic, after)[:, 0].any(-1))
            off = off | (on & ~crashed & off_road(after)[:, 0])
            traffic = after
    return Outcomes(crashed, off, distance, alive)


def record(
    traffic: Traffic,
    T: int,
    *,
    K: int = 6,
    noise: tuple[float, float] = (1.0, 0.006),
    generator: torch.Generator | None = None,
) -> tuple[Transitions, Traffic]:
    """Watch car 0 for T actions: it drives like the others, and errs by noise that lasts about two seconds.

    Args:
        traffic: (N, C).
        T: actions.
        K: cars that are seen.
        noise: standard deviations of the error of acceleration and steering angle.
        generator: draws what all want, and the errors.

    Returns:
        N · T transitions, world by world at each time, (T, N) flattened; and where the traffic is then.

    Raises:
        ValueError: T below 1.
    """
    require_count("T", T)
    x = traffic.x
    keep, error, seen = 0.8, x.new_zeros(*x.shape[:-1], 2), []
    for _ in range(T):
        fresh = normal(error.shape, generator, x.dtype, x.device) * x.new_tensor(noise)
        error = keep * error + (1 - keep**2) ** 0.5 * fresh
        now = neighbourhood(traffic, K)
        action = controls(traffic)[..., 0, :] + error
        for _ in range(HOLD):
            traffic = drive(traffic, action, generator=generator)
        then = neighbourhood(traffic, K, who=now.who)
        seen.append(Transitions(now.own, now.cars, action, then.own, then.cars))
    return Transitions(*(torch.cat(part) for part in zip(*seen, strict=True))), traffic
