r"""Inference: search for the value of lowest energy.

.. math:: \check y = \operatorname{argmin}_y F(x, y), \qquad \check y, \check z = \operatorname{argmin}_{y,z} E(x, y, z)

Each function minimises an energy over its one argument; fix the others first (:func:`ebm_lib.energy.fix`, a lambda).
To infer a latent variable for each of B observations, pass ``lambda z: E(y, z)``.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.energy import Energy, LatentEnergy, evaluate
from ebm_lib.require import (
    has_values,
    require_count,
    require_differentiable,
    require_finite,
    require_nonempty,
    require_positive,
)


class Minimum(NamedTuple):
    """The lowest of a set of candidates.

    Attributes:
        argmin: the candidate, (..., D).
        energy: its energy, (...).
        index: its place among the candidates, (...).
    """

    argmin: Tensor
    energy: Tensor
    index: Tensor


def exhaustive(energy: Energy, candidates: Tensor) -> Minimum:
    r"""Try every candidate and keep the lowest: exact when the variable is discrete.

    .. math:: \check y = \operatorname{argmin}_{y \in \{y_1, \dots, y_K\}} F(y)

    Args:
        energy: called once on all candidates; may return (..., K) with more leading dimensions than they have,
            for instance ``lambda y: F(x[:, None], y)`` with x of shape (B, D).
        candidates: (K, D), or (..., K, D) for a set of its own per sample.

    Returns:
        The minimum; among equals the first.

    Raises:
        ValueError: no candidates, an energy of the wrong shape or not finite, or all candidates at +inf.

    >>> F = lambda x, y: (x - y).square().sum(-1)
    >>> x = torch.tensor([[0.9], [3.2]])
    >>> exhaustive(lambda y: F(x[:, None], y), torch.tensor([[0.0], [1.0], [3.0]])).index
    tensor([1, 2])
    """
    if candidates.ndim < 2:
        raise ValueError(f"candidates must be (K, D) or (..., K, D), got shape {tuple(candidates.shape)}")
    require_nonempty("candidates", candidates, -2)
    values = energy(candidates)
    if values.ndim < candidates.ndim - 1 or values.shape[-1] != candidates.shape[-2]:
        raise ValueError(
            f"energy must return one number per candidate, shape (..., {candidates.shape[-2]}), "
            f"got shape {tuple(values.shape)}"
        )
    require_finite("energy", values, allow_posinf=True)
    lowest, index = values.min(dim=-1)
    if has_values(lowest) and torch.isposinf(lowest).any():
        raise ValueError("every candidate has energy +inf for at least one sample: none of them is possible")
    options = candidates.expand(*values.shape, candidates.shape[-1])
    picked = index[..., None, None].expand(*index.shape, 1, options.shape[-1])
    return Minimum(options.gather(-2, picked).squeeze(-2), lowest, index)


class Descent(NamedTuple):
    """Where gradient descent ended.

    Attributes:
        argmin: the last point, (..., D).
        energy: its energy, (...).
        grad_norm: length of the gradient there, (...): far from 0 means not converged.
        steps: how many steps were taken.
        path: every point from the start on, (steps + 1, ..., D), if it was asked for.
    """

    argmin: Tensor
    energy: Tensor
    grad_norm: Tensor
    steps: int
    path: Tensor | None


def gradient_descent(
    energy: Energy,
    start: Tensor,
    *,
    steps: int = 200,
    lr: float = 0.1,
    momentum: float = 0.0,
    tol: float = 0.0,
    keep_path: bool = False,
) -> Descent:
    r"""Descend the energy from ``start``, all samples at once.

    .. math:: v \leftarrow \mu v - \eta \nabla F(y), \qquad y \leftarrow y + v

    The parameters of the energy receive no gradient, and no graph is kept. On a quadratic of curvature λ plain
    descent contracts by 1 − ηλ a step, so it converges for 0 < η < 2/λ.

    Args:
        energy: F(y), smooth in y; ``start`` gives (...) numbers.
        start: (..., D); left as it is.
        steps: how many steps, at most.
        lr: step size η, in units of y² / energy.
        momentum: μ in [0, 1).
        tol: stop when every sample's gradient is this short; 0 takes all steps.
        keep_path: also return every point visited.

    Raises:
        ValueError: bad ``start``, ``lr``, ``momentum`` or ``tol``; an energy that does not depend on its argument.
        FloatingPointError: the descent diverged (the step is too long for the curvature).

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Energy-Based Model: gradient-based
    inference".

    >>> found = gradient_descent(lambda y: (y - 3).square().sum(-1), torch.zeros(1), steps=100)
    >>> found.argmin.round(decimals=3)
    tensor([3.])
    """
    require_finite("start", start)
    if not start.is_floating_point():
        raise ValueError(f"start must be floating point to descend, got {start.dtype}")
    require_count("steps", steps)
    require_positive("lr", lr)
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    if not tol >= 0:
        raise ValueError(f"tol must be at least 0, got {tol}")
    y, velocity = start.detach().clone(), torch.zeros_like(start)
    path = [y] if keep_path else None
    taken = 0
    value, gradient = _value_and_gradient(energy, y)
    while taken < steps and not (tol and bool((gradient.norm(dim=-1) <= tol).all())):
        velocity = momentum * velocity - lr * gradient
        y = y + velocity
        taken += 1
        try:
            value, gradient = _value_and_gradient(energy, require_finite("y", y))
        except ValueError as error:
            raise FloatingPointError(
                f"gradient descent diverged at step {taken} with lr={lr}: {error}. Take a smaller lr."
            ) from error
        if path is not None:
            path.append(y)
    return Descent(y, value, gradient.norm(dim=-1), taken, None if path is None else torch.stack(path))


def _value_and_gradient(energy: Energy, y: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = y.detach().requires_grad_()
        value = require_differentiable("energy", evaluate(energy, leaf))
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), require_finite("gradient", gradient)


def best_start(descent: Descent, dim: int = 0) -> Descent:
    r"""Keep, for each sample, the start that ended lowest.

    One descent finds one minimum, which need not be the lowest; several starts, stacked along ``dim``, and the best
    of them is the plainest global search.

    Args:
        descent: from ``gradient_descent(energy, starts)`` with starts (S, ..., D).
        dim: the dimension of the starts in ``descent.energy``.

    Returns:
        A descent without that dimension, path included.

    >>> wells = lambda y: ((y.square() - 1).square() + 0.3 * y).sum(-1)
    >>> starts = torch.tensor([[1.0], [-1.0]])
    >>> best_start(gradient_descent(wells, starts, lr=0.05)).argmin
    tensor([-1.0356])
    """
    require_nonempty("descent.energy", descent.energy, dim)
    dim = dim % descent.energy.ndim
    best = descent.energy.argmin(dim, keepdim=True)

    def pick(values: Tensor, dim: int, best: Tensor) -> Tensor:
        return torch.take_along_dim(values, best, dim).squeeze(dim)

    point = best.unsqueeze(-1)
    path = None if descent.path is None else pick(descent.path, dim + 1, point.unsqueeze(0))
    return Descent(
        pick(descent.argmin, dim, point),
        pick(descent.energy, dim, best),
        pick(descent.grad_norm, dim, best),
        descent.steps,
        path,
    )


class Alternation(NamedTuple):
    """Where coordinate descent ended.

    Attributes:
        y: (..., D).
        z: (..., L).
        energy: E(y, z), (...).
        history: the energy before the first and after each round, (rounds + 1, ...); it never rises.
    """

    y: Tensor
    z: Tensor
    energy: Tensor
    history: Tensor


def alternating(
    energy: LatentEnergy,
    y: Tensor,
    z: Tensor,
    *,
    minimize_y: Callable[[Tensor, Tensor], Tensor],
    minimize_z: Callable[[Tensor, Tensor], Tensor],
    rounds: int = 20,
) -> Alternation:
    r"""Minimise over two variables by turns (coordinate descent).

    .. math:: z \leftarrow \operatorname{argmin}_z E(y, z), \qquad y \leftarrow \operatorname{argmin}_y E(y, z)

    Each half-step may not raise the energy, so the energy falls monotonically to a value that neither half-step can
    improve: a minimum along both coordinates, not always of both together.

    Args:
        energy: E(y, z).
        y: the start, (..., D).
        z: the start, (..., L).
        minimize_y: (y, z) → a new y, at least as good for this z.
        minimize_z: (y, z) → a new z, at least as good for this y.
        rounds: how many times to do both, z first.

    Raises:
        ValueError: a half-step raised the energy by more than rounding, or returned another shape.

    >>> E = lambda y, z: ((y - z).square() + (z - 1).square()).sum(-1)
    >>> alternating(E, torch.zeros(1), torch.zeros(1), minimize_y=lambda y, z: z,
    ...             minimize_z=lambda y, z: (y + 1) / 2, rounds=30).y
    tensor([1.])
    """
    require_count("rounds", rounds)
    value = evaluate(energy, y, z)
    history = [value]
    for step in range(rounds):
        for name, update in (("minimize_z", minimize_z), ("minimize_y", minimize_y)):
            new = update(y, z)
            old = z if name == "minimize_z" else y
            if new.shape != old.shape:
                raise ValueError(f"{name} must keep the shape {tuple(old.shape)}, got {tuple(new.shape)}")
            y, z = (y, new) if name == "minimize_z" else (new, z)
            before, value = value, evaluate(energy, y, z)
            # Rounding may lift a converged energy by an ulp of its own size; anything more is a faulty half-step.
            slack = 100 * torch.finfo(value.dtype).eps * (1 + before.abs())
            if has_values(value) and (value > before + slack).any():
                raise ValueError(f"{name} raised the energy in round {step + 1} by {(value - before).max().item():.3g}")
        history.append(value)
    return Alternation(y, z, value, torch.stack(history))
