r"""The semiring that a dynamic programme runs in: energies are added along a path and minimised over paths.

.. math::

    E(\text{path}) = \sum_a E_a, \qquad F_\infty = \min_{\text{paths}} E(\text{path}), \qquad
    F_\beta = -\frac{1}{\beta} \log \sum_{\text{paths}} e^{-\beta E(\text{path})}

Addition distributes over both minima, min(a, b) + c = min(a + c, b + c), so one recursion computes each: it adds
energies with ``+`` and reduces over alternatives with a semiring, a callable ``(energy, dim) -> Tensor``. The
impossible alternative is +inf; the empty sum is 0.

The derivative of F by the energy of a factor, :func:`~ebm_lib.structured.occupation`, says how much that factor is
used: by the best path (:class:`~ebm_lib.structured.Minimum`), on average (:class:`~ebm_lib.structured.SoftMinimum`)
or by one path drawn at random (:class:`~ebm_lib.structured.Sampled`). Backward recursions and backpointers are this
derivative; automatic differentiation writes them.
"""

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ebm_lib.require import has_values, require_positive


class Semiring(Protocol):
    """Reduce the energies of alternatives to one energy: what is called as ``semiring(energy, dim)``."""

    def __call__(self, energy: Tensor, dim: int) -> Tensor:
        """Return one energy for the alternatives along ``dim``, which is removed."""
        ...


class Minimum:
    r"""Min-sum: :math:`\min_k E_k`. The derivative is 1 at one minimum, the first among equals, and 0 elsewhere.

    >>> Minimum()(torch.tensor([3.0, 1.0]), 0)
    tensor(1.)
    """

    def __call__(self, energy: Tensor, dim: int) -> Tensor:
        """Return the lowest energy along ``dim``."""
        # amin is vectorised but shares its derivative among equals; min(dim) names one of them, at a price.
        return energy.min(dim).values if energy.requires_grad else energy.amin(dim)


class SoftMinimum:
    r"""Log-sum-exp: :math:`-\frac{1}{\beta} \log \sum_k e^{-\beta E_k}`. The derivative is the Gibbs distribution.

    If every alternative is impossible, +inf, so is the result, and the derivative is 0.

    Args:
        beta: inverse temperature, in units of 1/energy, > 0 and finite.

    Raises:
        ValueError: beta not positive and finite.

    >>> SoftMinimum(1.0)(torch.tensor([1.0, 1.0]), 0) + math.log(2)
    tensor(1.)
    """

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = require_positive("beta", beta)

    def __call__(self, energy: Tensor, dim: int) -> Tensor:
        """Return the free energy of the alternatives along ``dim``."""
        lowest = energy.detach().amin(dim, keepdim=True)
        impossible = torch.isposinf(lowest)
        shift = torch.where(impossible, 0.0, lowest)
        total = torch.exp(-self.beta * (energy - shift)).sum(dim)
        # The inner where keeps the derivative of log away from 0, where it would be 0 · inf.
        impossible = impossible.squeeze(dim)
        free = shift.squeeze(dim) - torch.where(impossible, 1.0, total).log() / self.beta
        return torch.where(impossible, math.inf, free)


class Sampled:
    r"""Log-sum-exp whose derivative is 1 at one alternative, drawn with probability ∝ :math:`e^{-\beta E_k}`.

    Followed backwards through a dynamic programme, the draws are one path from the Gibbs distribution over paths:
    forward filtering, backward sampling.

    Args:
        beta: inverse temperature, > 0 and finite.
        generator: source of the draws.

    Raises:
        ValueError: beta not positive and finite.

    >>> energy = torch.tensor([0.0, torch.inf], requires_grad=True)
    >>> torch.autograd.grad(Sampled(1.0)(energy, 0), energy)
    (tensor([1., 0.]),)
    """

    def __init__(self, beta: float = 1.0, generator: torch.Generator | None = None) -> None:
        self.soft = SoftMinimum(beta)
        self.generator = generator

    def __call__(self, energy: Tensor, dim: int) -> Tensor:
        """Return the free energy along ``dim``, with the derivative of one draw."""
        fixed = energy.detach()
        # The smallest of E − G/β with Gumbel noise G is a draw from the Gibbs distribution; −log of an Exp(1) is one.
        noise = torch.empty_like(fixed).exponential_(generator=self.generator).log_()
        drawn = (self.soft.beta * fixed + noise).argmin(dim, keepdim=True)
        chosen = energy.gather(dim, drawn).squeeze(dim)
        chosen = torch.where(torch.isposinf(chosen), 0.0, chosen)
        return self.soft(fixed, dim) + (chosen - chosen.detach())


def of_temperature(beta: float) -> Semiring:
    """Return the semiring of an inverse temperature: a soft minimum, and the minimum for ``inf``.

    Raises:
        ValueError: beta not positive.

    >>> of_temperature(math.inf)(torch.tensor([3.0, 1.0]), 0)
    tensor(1.)
    """
    require_positive("beta", beta, allow_inf=True)
    return Minimum() if math.isinf(beta) else SoftMinimum(beta)


def occupation(program: Callable[..., Tensor], *factors: Tensor) -> tuple[Tensor, ...]:
    r"""How much each factor is used: the derivative of the free energy by its energy.

    .. math:: n_a = \frac{\partial F}{\partial E_a}

    In min-sum, 1 for the factors of the best path and 0 for the others; with a soft minimum, the probability that the
    path uses the factor; with a sampled one, 1 along one random path. A factor that is used at several places, or by
    several samples of a batch, gets the sum: expand it beforehand to see each.

    Args:
        program: takes the factors and returns F, (...), one for each sample.
        factors: energies, floating point, of any shape.

    Returns:
        A tensor for each factor, of its shape.

    Raises:
        ValueError: a factor that is not floating point; F is not finite: then no path is possible, and none is used.

    >>> occupation(lambda energy: SoftMinimum(1.0)(energy, -1), torch.tensor([1.0, 1.0]))
    (tensor([0.5000, 0.5000]),)
    """
    for place, factor in enumerate(factors):
        if not factor.is_floating_point():
            raise ValueError(f"factors must be floating point, factor {place} is {factor.dtype}")
    leaves = [factor.detach().requires_grad_() for factor in factors]
    with torch.enable_grad():
        free = program(*leaves)
        total = free.sum()
    if has_values(free) and not torch.isfinite(free).all():
        raise ValueError(
            f"every sample needs a possible configuration: {int((~torch.isfinite(free)).sum())} of {free.numel()} "
            "have a free energy that is not finite"
        )
    if not total.requires_grad:  # nothing was used: sequences of length 0
        return tuple(torch.zeros_like(leaf) for leaf in leaves)
    return torch.autograd.grad(total, leaves, materialize_grads=True)
