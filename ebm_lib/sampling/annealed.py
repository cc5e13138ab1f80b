"""Annealed importance sampling: the partition function, by walking from an energy whose own is known."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.energy import Energy, evaluate
from ebm_lib.require import has_values, require_finite, require_nonempty


class Annealed(NamedTuple):
    """What annealed importance sampling found.

    Attributes:
        log_ratio: the estimate of log Z₁ / Z₀, ().
        standard_error: of ``log_ratio``, from the spread of the weights, (). Trust it only while
            ``effective_samples`` is large: weights that none of the chains has seen are not in it.
        effective_samples: (Σw)² / Σw², from 1 to the number of chains, ().
        log_weights: log w of each chain, (C,).
        position: where the chains ended, (C, D); weighted by w, a sample of the end's distribution.
    """

    log_ratio: Tensor
    standard_error: Tensor
    effective_samples: Tensor
    log_weights: Tensor
    position: Tensor


def geometric_path(start: Energy, end: Energy) -> Callable[[float], Energy]:
    r"""Mix two energies: the path that annealed importance sampling takes when none is better.

    .. math:: E_t = (1 - t)\,E_0 + t\,E_1

    Its ends are E₀ and E₁ themselves, also where the other one is +inf.

    Args:
        start: E₀.
        end: E₁.

    Returns:
        t → the energy :math:`E_t`.

    >>> path = geometric_path(lambda y: y.square().sum(-1), lambda y: y.sum(-1))
    >>> path(0.25)(torch.tensor([[2.0]]))
    tensor([3.5000])
    """

    def at(t: float) -> Energy:
        if t in (0, 1):  # 0 · ∞ is no number
            return end if t else start
        return lambda *variables: (1 - t) * start(*variables) + t * end(*variables)

    return at


def annealed_importance(
    path: Callable[[float], Energy],
    start: Tensor,
    transition: Callable[[float, Tensor, torch.Generator | None], Tensor],
    *,
    fractions: Sequence[float] | Tensor | int = 1000,
    generator: torch.Generator | None = None,
) -> Annealed:
    r"""Estimate the ratio of two partition functions by annealed importance sampling.

    .. math::
        \log w = \sum_{k=1}^{K} \left( E_{t_{k-1}}(y_{k-1}) - E_{t_k}(y_{k-1}) \right), \qquad
        \frac{Z_1}{Z_0} = \langle w \rangle, \qquad Z_t = \sum_y e^{-E_t(y)}

    A chain starts with a sample of E₀; its weight takes up each change of the energy, and a transition then moves it
    under the new one. The mean weight is an unbiased estimate of the ratio, so its log is too small on average: a
    log-likelihood that subtracts it looks better than it is until the weights are even. More steps, rather than more
    chains, make them so. Energies are at β = 1: for another temperature pass βE.

    Args:
        path: t → the energy :math:`E_t`, from E₀ at t = 0 (with known Z₀) to E₁ at t = 1; :func:`geometric_path`.
        start: (C, D), independent samples of :math:`e^{-E_0}/Z_0`; left as they are.
        transition: ``transition(t, y, generator)`` moves the chains, leaving :math:`e^{-E_t}/Z_t` invariant: a step of
            :func:`hmc`, a sweep of :func:`gibbs`.
        fractions: t from 0 to 1, rising; or how many equal steps to take.
        generator: handed to ``transition``.

    Raises:
        ValueError: fractions that do not rise from 0 to 1, a bad start, an energy that is not finite at a sample (E₁
            must be finite wherever E₀ is), a transition that changes the shape.

    Source: LeCun, Deep Learning (NYU), notes of lecture 05L: the integral of maximum likelihood is mostly intractable.
        Neal, Annealed importance sampling (Statistics and Computing 11, 2001).

    >>> wide, narrow = (lambda y: y.square().sum(-1) / 2), (lambda y: 2 * y.square().sum(-1))
    >>> path = geometric_path(wide, narrow)
    >>> def move(t, y, generator):  # an exact draw, for the example: E_t has the precision 1 + 3t
    ...     return torch.randn(y.shape, generator=generator) / (1 + 3 * t) ** 0.5
    >>> generator = torch.Generator().manual_seed(0)
    >>> annealed_importance(path, torch.randn(1000, 1, generator=generator), move, fractions=100,
    ...                     generator=generator).log_ratio  # log(1/2) = -0.693
    tensor(-0.6...)
    """
    times = fraction_list(fractions)
    require_nonempty("start", require_finite("start", start), 0)
    if start.ndim != 2:
        raise ValueError(f"start must have shape (C, D), got {tuple(start.shape)}")
    if not start.is_floating_point():
        raise ValueError(f"start must be floating point, got {start.dtype}")
    position = start.detach().clone()
    log_weights = position.new_zeros(position.shape[0])
    for before, now in itertools.pairwise(times):
        with torch.no_grad():
            log_weights += require_finite(
                f"the energy's change from t = {before:.6g} to {now:.6g}",
                evaluate(path(before), position) - evaluate(path(now), position),
            )
        moved = transition(now, position, generator)
        if moved.shape != position.shape:
            raise ValueError(f"transition must keep the shape {tuple(position.shape)}, got {tuple(moved.shape)}")
        position = require_finite("the transition's result", moved.detach())
    count = len(log_weights)
    log_ratio = torch.logsumexp(log_weights, 0) - math.log(count)
    relative = (log_weights - log_ratio).exp()  # w / mean w
    error = relative.std() / math.sqrt(count) if count > 1 else relative.new_tensor(math.inf)
    return Annealed(log_ratio, error, relative.sum().square() / relative.square().sum(), log_weights, position)


def fraction_list(fractions: Sequence[float] | Tensor | int) -> list[float]:
    """Return the fractions as numbers, if they rise from 0 to 1; so many equal steps for a whole number."""
    if isinstance(fractions, int):
        if fractions < 1:
            raise ValueError(f"fractions must be at least 1 step, got {fractions}")
        return [k / fractions for k in range(fractions + 1)]
    if isinstance(fractions, Tensor) and not has_values(fractions):
        raise ValueError("fractions must be numbers that can be read here, got a tensor without values")
    times = [float(t) for t in fractions]
    if len(times) < 2 or times[0] != 0 or times[-1] != 1 or not all(a < b for a, b in itertools.pairwise(times)):
        raise ValueError(f"fractions must rise from 0 to 1, got {times[:3]} … {times[-3:]}")
    return times
