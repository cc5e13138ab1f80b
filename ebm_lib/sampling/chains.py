"""What the samplers share: a chain's state, what a run returns, and the watch over chains that diverge."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.energy import Energy, evaluate
from ebm_lib.require import has_values, require_count, require_differentiable, require_finite

# The watch looks at this many steps at once, so that it costs little, and holds at most this many bytes of positions.
_WATCH = 32
_WATCH_BYTES = 2**26
# A log acceptance ratio below this is no bad luck but a broken trajectory: the threshold of Stan.
_DIVERGENT = -1000.0


class State(NamedTuple):
    """Where the chains are.

    Attributes:
        position: (..., D), the leading dimensions count chains.
        energy: E at the position, (...).
        gradient: ∇E at the position, (..., D).
    """

    position: Tensor
    energy: Tensor
    gradient: Tensor


class Info(NamedTuple):
    """What happened to a proposal.

    Attributes:
        acceptance: the probability with which it was accepted, (...).
        accepted: whether it was, (...) boolean.
        log_ratio: log of the Metropolis-Hastings ratio, (...); the acceptance is min(1, its exponential).
        energy: the proposal's energy, (...).
    """

    acceptance: Tensor
    accepted: Tensor
    log_ratio: Tensor
    energy: Tensor


class Chains(NamedTuple):
    """Where the chains ended, and how they went.

    Attributes:
        position: the last point of each chain, (..., D).
        energy: its energy, (...).
        path: the points kept, (T, ..., D) with T = steps // keep_every; None with ``keep_every=0``. The start is
            not among them.
        path_energy: their energies, (T, ...), or None.
        acceptance: each chain's mean probability of acceptance after the burn-in, (...); 1 where nothing is rejected.
        divergences: how many proposals of each chain after the burn-in had a log acceptance ratio below -1000, Stan's
            mark of a trajectory that the step size is too long for, (...) int64. A proposal outside the support
            counts.
        evaluations: evaluations of the energy (and its gradient, where the sampler uses it) per chain, those of the
            start and the burn-in included.
    """

    position: Tensor
    energy: Tensor
    path: Tensor | None
    path_energy: Tensor | None
    acceptance: Tensor
    divergences: Tensor
    evaluations: int


def value_and_gradient(energy: Energy, position: Tensor) -> tuple[Tensor, Tensor]:
    """Return E and ∇E, with no graph left behind and nothing checked: the inner loop of every sampler."""
    leaf = position.detach().requires_grad_()
    with torch.enable_grad():
        value = energy(leaf)
    (gradient,) = torch.autograd.grad(value, leaf, torch.ones_like(value))
    return value.detach(), gradient


def start_state(energy: Energy, start: Tensor) -> State:
    """Evaluate the energy and its gradient where the chains start, and check both.

    Args:
        energy: E(y), differentiable by autograd.
        start: (..., D); copied.

    Raises:
        ValueError: ``start`` not finite or not floating point; an energy of another shape, not finite, or without a
            gradient; called in ``torch.inference_mode``.

    >>> start_state(lambda y: y.square().sum(-1), torch.tensor([[3.0, 4.0]]))
    State(position=tensor([[3., 4.]]), energy=tensor([25.]), gradient=tensor([[6., 8.]]))
    """
    require_finite("start", start)
    if not start.is_floating_point():
        raise ValueError(f"start must be floating point to follow a gradient, got {start.dtype}")
    if torch.is_inference_mode_enabled():
        raise ValueError("samplers follow gradients, which torch.inference_mode rules out: use torch.no_grad")
    position = start.detach().clone()
    leaf = position.detach().requires_grad_()
    with torch.enable_grad():
        value = require_differentiable("energy", evaluate(energy, leaf))
        (gradient,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
    if gradient is None:
        raise ValueError("energy must depend on its argument through torch operations: it has no gradient")
    require_possible(value.detach())
    return State(position, value.detach(), require_finite("the energy's gradient at the start", gradient))


def require_possible(value: Tensor) -> Tensor:
    """Return the energies of the start if none is +inf: a chain cannot start where nothing is possible."""
    if has_values(value) and torch.isposinf(value).any():
        chain = tuple(torch.isposinf(value).nonzero()[0].tolist())
        raise ValueError(f"start must be possible: the energy of chain {chain} there is inf")
    return value


def require_schedule(count_name: str, count: int, keep_every: int, burn_in: int) -> None:
    """Check the number of steps (or sweeps), the thinning and the burn-in."""
    require_count(count_name, count)
    require_count("keep_every", keep_every, minimum=0)
    require_count("burn_in", burn_in, minimum=0)
    if keep_every > count:
        raise ValueError(f"keep_every must be at most {count_name} ({count}), or nothing is kept; got {keep_every}")


def watch_length(position: Tensor) -> int:
    """Tell how many steps to take between two looks at the chains."""
    return max(1, min(_WATCH, _WATCH_BYTES // max(1, position.numel() * position.element_size())))


class Path:
    """The points kept of a run: every ``keep_every``-th after the burn-in."""

    def __init__(self, like: Tensor, steps: int, keep_every: int, burn_in: int) -> None:
        self.keep_every, self.burn_in, self.count = keep_every, burn_in, 0
        self.values = like.new_empty((steps // keep_every, *like.shape)) if keep_every else None

    def add(self, step: int, value: Tensor) -> None:
        """Keep the value after ``step`` (1, 2, …) if it is its turn."""
        after = step - self.burn_in
        if self.values is not None and after > 0 and after % self.keep_every == 0:
            self.values[self.count] = value
            self.count += 1


def run(
    step: Callable[..., tuple[State, Info | None]],
    state: State,
    draw: Callable[[], tuple[Tensor, ...]],
    *,
    steps: int,
    burn_in: int,
    keep_every: int,
    step_size: float,
    gradients: int = 1,
) -> Chains:
    """Take ``burn_in + steps`` steps and watch over them.

    Args:
        step: (state, *noise) → the next state, and what happened to the proposal if there was one.
        state: the start.
        draw: draws the noise of one step.
        steps: counted after the burn-in.
        burn_in: steps before those.
        keep_every: keep one point in so many; 0 keeps none.
        step_size: for messages.
        gradients: how many a step costs.

    Raises:
        FloatingPointError: a chain's position or energy is not finite, or a proposal's energy is NaN or -inf.
    """
    total, block = burn_in + steps, watch_length(state.position)
    path, path_energy = (Path(like, steps, keep_every, burn_in) for like in state[:2])
    acceptance, divergences = torch.zeros_like(state.energy), torch.zeros_like(state.energy, dtype=torch.int64)
    adjusted = False
    for begin in range(0, total, block):
        states, infos = [], []
        for _ in range(begin, min(begin + block, total)):
            state, info = step(state, *draw())
            states.append(state)
            if info is not None:
                infos.append(info)
        _watch(states, infos, begin, total, step_size)
        for index, kept in enumerate(states, begin + 1):
            path.add(index, kept.position)
            path_energy.add(index, kept.energy)
        if infos := infos[max(0, burn_in - begin) :]:
            adjusted = True
            acceptance += torch.stack([info.acceptance for info in infos]).sum(0)
            divergences += (torch.stack([info.log_ratio for info in infos]) < _DIVERGENT).sum(0)
    acceptance = acceptance / steps if adjusted else torch.ones_like(acceptance)
    evaluations = 1 + total * gradients
    return Chains(state.position, state.energy, path.values, path_energy.values, acceptance, divergences, evaluations)


def _watch(states: list[State], infos: list[Info], begin: int, total: int, step_size: float) -> None:
    """Look at a block of steps; if a number in it is not finite, find the first step and chain where that happened."""
    if not has_values(states[-1].energy):
        return
    # A position that is not finite stays so: the last one tells of all. An energy may recover, so all are looked at.
    fine = torch.isfinite(torch.stack([s.energy for s in states])).all() & torch.isfinite(states[-1].position).all()
    if infos:
        fine &= (torch.stack([info.log_ratio for info in infos]) < math.inf).all()  # neither +inf nor NaN
    if fine:
        return
    for offset, state in enumerate(states):
        where = f"at step {begin + offset + 1} of {total} (burn-in included)"
        if infos:
            info = infos[offset]
            _blame(
                ~(info.log_ratio < math.inf),
                lambda chain, where=where, info=info: (
                    f"the proposal of chain {chain} {where}, step_size={step_size}, has energy "
                    f"{info.energy[chain].item()} and log acceptance ratio {info.log_ratio[chain].item()}. An energy "
                    f"is a number, or +inf where nothing is possible, and its gradient is finite where it is a number. "
                    f"If yours is, the step is too long."
                ),
            )
        _blame(
            ~(torch.isfinite(state.energy) & torch.isfinite(state.position).all(-1)),
            lambda chain, where=where, state=state: (
                f"chain {chain} diverged {where}, step_size={step_size}: energy {state.energy[chain].item()}, "
                f"largest coordinate {state.position[chain].abs().max().item()}. Take a smaller step."
            ),
        )


def _blame(bad: Tensor, message: Callable[[tuple[int, ...]], str]) -> None:
    if bad.any():
        raise FloatingPointError(message(tuple(bad.nonzero()[0].tolist())))
