"""What the planners share: a plan, the bounds, an energy held to its contract, and the search by samples."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.data.draw import normal
from ebm_lib.energy import Energy
from ebm_lib.require import has_values, require_count, require_finite, require_positive

Bounds = tuple[float | Tensor, float | Tensor]


class Plan(NamedTuple):
    """What a planner found, and how.

    Attributes:
        actions: the plan of lowest energy of all that were tried, the start among them, (..., H, A).
        energy: its energy, (...).
        centre: where the search itself ended, (..., H, A): the last point of a descent, the mean of the samples.
        history: the energy of the search's centre, at the start and after each iteration, (iterations + 1, ...).
        effective: how many of its samples each iteration's mean is made of, (iterations, ...); None but for ``mppi``.
    """

    actions: Tensor
    energy: Tensor
    centre: Tensor
    history: Tensor
    effective: Tensor | None = None


Refit = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor | None]]


@torch.no_grad()
def search(
    energy: Energy,
    start: Tensor,
    refit: Refit,
    spread: float | Tensor,
    samples: int,
    iterations: int,
    hold: int,
    bounds: Bounds | None,
    generator: torch.Generator | None,
) -> Plan:
    """Draw plans around a centre and move it by ``refit(drawn, energies, centre, deviation)``, over and over."""
    for name, number in (("samples", samples), ("iterations", iterations), ("hold", hold)):
        require_count(name, number)
    project = projection(start, bounds)
    centre = best = project(start)
    lowest = start.new_full(start.shape[:-2], math.inf)
    deviation = _deviation(spread, start)
    *lead, H, A = start.shape
    history: list[Tensor] = []
    effective: list[Tensor] = []
    for k in range(iterations):
        noise = normal((samples, *lead, -(-H // hold), A), generator, start.dtype, start.device)
        noise = noise.repeat_interleave(hold, -2)[..., :H, :]
        tried = torch.cat([centre[None], project(centre + deviation * noise)])
        energies = plan_energies(energy, tried, f"iteration {k}")
        history.append(energies[0])
        value, index = energies.min(0)
        found = tried.take_along_dim(index[None, ..., None, None], 0)[0]
        lowest, best = lower(value, found, lowest, best)
        centre, deviation, size = refit(tried[1:], energies[1:], centre, deviation)
        centre = project(centre)  # where it is but for rounding
        effective += [] if size is None else [size]
    history.append(plan_energies(energy, centre[None], f"iteration {iterations}")[0])
    lowest, best = lower(history[-1], centre, lowest, best)
    return Plan(best, lowest, centre, torch.stack(history), torch.stack(effective) if effective else None)


def lower(value: Tensor, plan: Tensor, lowest: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    better = value < lowest
    return torch.where(better, value, lowest), torch.where(better[..., None, None], plan, best)


def plan_energies(energy: Energy, plans: Tensor, when: str) -> Tensor:
    value = energy(plans)
    if value.shape != plans.shape[:-2]:
        raise ValueError(
            f"energy must return one number per plan, shape {tuple(plans.shape[:-2])} for plans of shape "
            f"{tuple(plans.shape)}, got shape {tuple(value.shape)}"
        )
    return require_finite(f"energy of the plans tried in {when}", value)


def projection(start: Tensor, bounds: Bounds | None) -> Callable[[Tensor], Tensor]:
    if start.ndim < 2 or 0 in start.shape[-2:]:
        raise ValueError(f"start must be a plan (..., H, A) of at least one action, got shape {tuple(start.shape)}")
    if not start.is_floating_point():
        raise ValueError(f"start must be floating point, got {start.dtype}")
    require_finite("start", start)
    if bounds is None:
        return torch.clone
    low, high = (torch.as_tensor(bound, dtype=start.dtype, device=start.device).detach() for bound in bounds)
    for name, bound in (("low", low), ("high", high)):
        if bound.ndim and bound.shape != start.shape[-1:]:
            raise ValueError(
                f"bounds, {name} must be a number or one per component of an action, shape "
                f"{tuple(start.shape[-1:])}, got shape {tuple(bound.shape)}"
            )
    if has_values(low) and has_values(high) and not (low <= high).all():
        raise ValueError(f"bounds must have low at most high, got {bounds}")
    return lambda plans: torch.minimum(torch.maximum(plans, low), high)


def _deviation(spread: float | Tensor, start: Tensor) -> Tensor:
    if not isinstance(spread, Tensor):
        return torch.full_like(start, require_positive("spread", spread))
    require_finite("spread", spread)
    if has_values(spread) and not (spread > 0).all():
        raise ValueError(f"spread must be positive, got {spread.min().item()}")
    try:
        return spread.detach().to(start).expand(start.shape)
    except RuntimeError:
        shapes = f"{tuple(start.shape)}, got shape {tuple(spread.shape)}"
        raise ValueError(f"spread must be a number or broadcast to the start's shape {shapes}") from None
