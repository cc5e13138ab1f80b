"""Gibbs sampling: draw one part of the variables given all the others, each part in turn."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.data.draw import coins as draw_coins
from ebm_lib.energy import Energy, evaluate
from ebm_lib.require import has_values, require_finite, require_positive
from ebm_lib.sampling.chains import Chains, Path, require_possible, require_schedule, watch_length


class Sweeps(NamedTuple):
    """Where block Gibbs sampling ended.

    Attributes:
        blocks: the last value of each block, (..., D) with its own D.
        paths: for each block the values kept, (T, ..., D) with T = sweeps // keep_every; None with ``keep_every=0``.
    """

    blocks: tuple[Tensor, ...]
    paths: tuple[Tensor, ...] | None


def gibbs(
    start: Sequence[Tensor],
    updates: Sequence[Callable[..., Tensor]],
    *,
    sweeps: int,
    keep_every: int = 0,
    burn_in: int = 0,
    generator: torch.Generator | None = None,
) -> Sweeps:
    r"""Sample blocks of variables by turns, each from its distribution given the others.

    .. math:: y_1 \sim P(y_1 \mid y_2, \dots, y_n), \quad y_2 \sim P(y_2 \mid y_1, y_3, \dots, y_n), \quad \dots

    Every such draw leaves the joint distribution invariant, and none is ever rejected.

    Args:
        start: one tensor per block, (..., D) with its own D; the leading dimensions count chains.
        updates: one sampler per block, called as ``update(*blocks, generator)`` with all blocks (its own old value
            among them) as they are at that moment; returns its block's new value.
        sweeps: rounds through all blocks after the burn-in.
        keep_every: keep every so many-th sweep in ``paths``; 0 keeps none.
        burn_in: sweeps made first, and not kept.
        generator: handed to every update.

    Raises:
        ValueError: not one update per block, a start that is not finite or has no dimension, an update that changes
            its block's shape.
        FloatingPointError: a block is not finite; the message names the sweep, the block and the chain.

    Source: LeCun, Deep Learning (NYU), notes of lecture 05L, on Monte Carlo methods and Boltzmann machines.
        Geman and Geman, Stochastic relaxation, Gibbs distributions, and the Bayesian restoration of images (IEEE
        Trans. PAMI 6, 1984).

    >>> rho = 0.9  # two standard normal variables of correlation rho
    >>> def x_given_y(x, y, generator):
    ...     return rho * y + (1 - rho**2) ** 0.5 * torch.randn(y.shape, generator=generator)
    >>> def y_given_x(x, y, generator):
    ...     return rho * x + (1 - rho**2) ** 0.5 * torch.randn(x.shape, generator=generator)
    >>> start = torch.zeros(10_000, 1), torch.zeros(10_000, 1)
    >>> x, y = gibbs(start, (x_given_y, y_given_x), sweeps=40, generator=torch.Generator().manual_seed(0)).blocks
    >>> torch.allclose((x * y).mean(), torch.tensor(rho), atol=0.05)
    True
    """
    require_schedule("sweeps", sweeps, keep_every, burn_in)
    if not start or len(start) != len(updates):
        raise ValueError(f"updates must hold one function per block, got {len(updates)} for {len(start)} blocks")
    for number, block in enumerate(start):
        if block.ndim == 0:
            raise ValueError(f"start, block {number} must have a last dimension of its own, got shape ()")
    blocks = tuple(
        require_finite(f"start, block {number}", block).detach().clone() for number, block in enumerate(start)
    )
    paths = [Path(block, sweeps, keep_every, burn_in) for block in blocks]
    total, length = burn_in + sweeps, min(map(watch_length, blocks))
    for begin in range(0, total, length):
        rounds = []
        for _ in range(begin, min(begin + length, total)):
            for number, update in enumerate(updates):
                new = update(*blocks, generator)
                if new.shape != blocks[number].shape:
                    raise ValueError(
                        f"update {number} must keep its block's shape {tuple(blocks[number].shape)}, "
                        f"got {tuple(new.shape)}"
                    )
                blocks = (*blocks[:number], new.detach(), *blocks[number + 1 :])
            rounds.append(tuple(block.clone() for block in blocks))  # the next update may work in place
        _watch(rounds, begin)
        for index, kept in enumerate(rounds, begin + 1):
            for path, block in zip(paths, kept, strict=True):
                path.add(index, block)
    return Sweeps(blocks, tuple(path.values for path in paths) if keep_every else None)


def _watch(rounds: list[tuple[Tensor, ...]], begin: int) -> None:
    for number, last in enumerate(rounds[-1]):
        if not has_values(last) or torch.isfinite(torch.stack([blocks[number] for blocks in rounds])).all():
            continue
        for index, blocks in enumerate(rounds, begin + 1):
            bad = ~torch.isfinite(blocks[number])
            if bad.any():
                where = tuple(bad.nonzero()[0].tolist())
                raise FloatingPointError(
                    f"block {number} is not finite in sweep {index}: chain {where[:-1]}, coordinate {where[-1]} is "
                    f"{blocks[number][where].item()}"
                )


def gibbs_binary(
    energy: Energy,
    start: Tensor,
    *,
    sweeps: int,
    beta: float = 1.0,
    keep_every: int = 0,
    burn_in: int = 0,
    generator: torch.Generator | None = None,
) -> Chains:
    r"""Sample vectors of zeros and ones from any energy of them, one coordinate at a time.

    .. math:: P(s_i = 1 \mid s_{\setminus i}) = \sigma\!\left(-\beta\,(E(s_i = 1) - E(s_i = 0))\right)

    A sweep costs D evaluations, each of all chains at once: the energy of the present state is known, so only the
    other value of the coordinate is evaluated. No gradient is needed. Energies that know their own conditionals
    (:class:`ebm_lib.boltzmann.BoltzmannMachine`, :class:`ebm_lib.boltzmann.RBM`) sample themselves much faster.

    Args:
        energy: E(s); (..., D) gives (...).
        start: (..., D), floating point zeros and ones; left as it is.
        sweeps: passes over all coordinates, in their order, after the burn-in.
        beta: inverse temperature β, in units of 1 / energy.
        keep_every: keep every so many-th sweep in ``path``; 0 keeps none.
        burn_in: sweeps made first, and not kept.
        generator: where the coins come from.

    Returns:
        The chains; ``acceptance`` is 1, since a draw from a conditional is never rejected.

    Raises:
        ValueError: bad arguments, a start of other values or of energy +inf, an energy of the wrong shape.
        FloatingPointError: an energy is NaN or -inf; the message names the sweep, the coordinate and the chain.

    Source: LeCun, Deep Learning (NYU), notes of lecture 05L, on Monte Carlo methods and Boltzmann machines.
        Ackley, Hinton and Sejnowski, A learning algorithm for Boltzmann machines (Cognitive Science 9, 1985).

    >>> biased = lambda s: -2 * s.sum(-1)  # P(s = 1) = sigmoid(2) = 0.88 for each
    >>> start, generator = torch.zeros(10_000, 2), torch.Generator().manual_seed(0)
    >>> gibbs_binary(biased, start, sweeps=1, generator=generator).position.mean(0)
    tensor([0.8..., 0.8...])
    """
    require_schedule("sweeps", sweeps, keep_every, burn_in)
    require_positive("beta", beta)
    if not start.is_floating_point():
        raise ValueError(f"start must be floating point, got {start.dtype}")
    if has_values(start) and not ((start == 0) | (start == 1)).all():
        raise ValueError("start must hold zeros and ones only")
    with torch.no_grad():
        state = start.detach().clone()
        value = require_possible(evaluate(energy, state))
        path, path_energy = (Path(like, sweeps, keep_every, burn_in) for like in (state, value))
        for sweep in range(1, burn_in + sweeps + 1):
            coins = draw_coins((state.shape[-1], *value.shape), generator, state.dtype, state.device)
            tried = []
            for index, coin in enumerate(coins):
                other = state.clone()
                other[..., index] = 1 - other[..., index]
                other_value = energy(other)
                tried.append(other_value)
                turn = coin < torch.sigmoid((beta * (value - other_value)).to(coin.dtype))
                state = torch.where(turn.unsqueeze(-1), other, state)
                value = torch.where(turn, other_value, value)
            _watch_values(tried, sweep)
            path.add(sweep, state)
            path_energy.add(sweep, value)
    return Chains(
        state,
        value,
        path.values,
        path_energy.values,
        torch.ones_like(value),
        torch.zeros_like(value, dtype=torch.int64),
        1 + (burn_in + sweeps) * state.shape[-1],
    )


def _watch_values(tried: list[Tensor], sweep: int) -> None:
    if not tried or not has_values(tried[-1]):
        return
    good = torch.stack(tried) > -math.inf  # neither -inf nor NaN
    if not good.all():
        where = tuple((~good).nonzero()[0].tolist())
        raise FloatingPointError(
            f"in sweep {sweep} coordinate {where[0]} of chain {where[1:]} was tried at an energy of "
            f"{tried[where[0]][where[1:]].item()}: an energy must be a number, or +inf where nothing is possible"
        )
