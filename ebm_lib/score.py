r"""Score matching and its kin: learn an energy from its differences near the data, without samples or a normaliser.

The score of a density is the gradient of its logarithm. For :math:`p = e^{-F}/Z` it is minus the gradient of the
energy, and Z is gone:

.. math:: s(y) = \nabla_y \log p(y) = -\nabla_y F(y)

:func:`score_matching`, :func:`sliced_score_matching` and :func:`denoising_score_matching` fit it to continuous data,
:func:`ratio_matching` and :func:`minimum_probability_flow` do the same for binary data with the energy differences of
one-bit flips. Each returns one value per sample, differentiable in the parameters; take ``.mean()`` to train.

The first three also take a vector field in place of an energy, ``field=True``: a function s of y, (..., D) → (..., D),
which need not be a gradient of anything. The inverse temperature is 1: for another pass ``lambda y: beta * F(y)``. With
an x, pass ``fix(F, x)``. Samples must not influence each other inside the energy (no batch normalisation).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ebm_lib.data.draw import normal
from ebm_lib.energy import Energy, evaluate
from ebm_lib.require import (
    has_values,
    require_choice,
    require_count,
    require_differentiable,
    require_finite,
    require_points,
    require_positive,
)

Field = Callable[[Tensor], Tensor]


def score(energy: Energy, y: Tensor) -> Tensor:
    r"""Score of an energy: minus its gradient, which points to where the energy is lower.

    .. math:: s(y) = -\nabla_y F(y)

    One evaluation and one backward pass. Differentiable in y and in the parameters of the energy.

    Args:
        energy: F(y), differentiable in y.
        y: (..., D), floating point.

    Returns:
        The vector field at y, (..., D).

    Raises:
        ValueError: y not finite or not floating point, an energy of the wrong shape, not finite or without gradient.

    Source: Hyvärinen, Estimation of Non-Normalized Statistical Models by Score Matching (JMLR 2005).

    >>> score(lambda y: (y - 3).square().sum(-1) / 2, torch.tensor([[1.0], [5.0]]))
    tensor([[ 2.],
            [-2.]])
    """
    require_points("y", y)

    def minus_total(y: Tensor) -> Tensor:
        value = require_differentiable("energy", evaluate(energy, y))
        return -require_finite("energy", value).sum()

    return require_finite("score", torch.func.grad(minus_total)(y))


def explicit_score_matching(energy: Energy | Field, y: Tensor, target: Tensor, *, field: bool = False) -> Tensor:
    r"""Explicit score matching: squared distance to a score that is known (on data of known density, or by a teacher).

    .. math:: J = \tfrac12 \lVert s(y) - s_\text{true}(y) \rVert^2

    Its mean over the data is (half) the Fisher divergence.

    Args:
        energy: F(y), or with ``field`` a vector field s(y).
        y: (..., D).
        target: the true score there, (..., D).
        field: the first argument is a vector field.

    Returns:
        One value per sample, (...), ≥ 0.

    Raises:
        ValueError: as :func:`score`; a target that is not finite or of another shape.

    Source: Hyvärinen, Estimation of Non-Normalized Statistical Models by Score Matching (JMLR 2005).

    >>> explicit_score_matching(lambda y: y.square().sum(-1) / 2, torch.tensor([[3.0]]), torch.tensor([[-1.0]]))
    tensor([2.])
    """
    require_points("y", y)
    if target.shape != y.shape:
        raise ValueError(f"target must have the shape of y, {tuple(y.shape)}, got {tuple(target.shape)}")
    require_finite("target", target)
    return (_vectors(energy, field)(y) - target).square().sum(-1) / 2


def score_matching(energy: Energy | Field, y: Tensor, *, field: bool = False) -> Tensor:
    r"""Score matching: a small gradient and a large curvature at the data, with the curvature computed exactly.

    .. math::

        J = \tfrac12 \lVert s(y) \rVert^2 + \operatorname{tr} \nabla s(y)
          = \tfrac12 \lVert \nabla F(y) \rVert^2 - \operatorname{tr} \nabla^2 F(y)

    On average over data with the score :math:`s_*` this is explicit score matching less a constant of the data,
    :math:`\mathbb E\,J = \tfrac12 \mathbb E \lVert s - s_* \rVert^2 - \tfrac12 \mathbb E \lVert s_* \rVert^2`, provided
    that the density times s vanishes at the border of the space. So its minimum is at the true score and negative: for
    F = ½‖y‖² on standard normal data it is −D/2. Where the data have no thickness there is no minimum: the curvature
    grows without end.

    The trace takes D backward passes through the gradient: exact, and costly when D is large.

    Args:
        energy: F(y), twice differentiable in y (a ReLU network has no curvature), or with ``field`` a field s(y).
        y: data, (..., D).
        field: the first argument is a vector field.

    Returns:
        One value per sample, (...).

    Raises:
        ValueError: as :func:`score`; a field of the wrong shape.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods vs
    Regularized/Architectural Methods" (A4); Hyvärinen, Estimation of Non-Normalized Statistical Models by Score
    Matching (JMLR 2005).

    >>> score_matching(lambda y: y.square().sum(-1) / 2, torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    tensor([-1., -2.])
    """
    require_points("y", y)
    s, pull = torch.func.vjp(_vectors(energy, field), y)
    unit = torch.eye(y.shape[-1], dtype=s.dtype, device=s.device)
    trace = sum(pull(row.expand_as(s))[0][..., i] for i, row in enumerate(unit))
    return s.square().sum(-1) / 2 + trace


def sliced_score_matching(
    energy: Energy | Field,
    y: Tensor,
    projections: int | Tensor = 1,
    *,
    distribution: str = "rademacher",
    variance_reduced: bool = True,
    field: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Sliced score matching: the curvature along random directions in place of the whole trace.

    .. math::

        J = \tfrac12 \lVert s(y) \rVert^2 + \frac1M \sum_{m=1}^M v_m^\top \nabla s(y)\, v_m, \qquad
        \mathbb E\, v v^\top = I

    Its mean over v is :func:`score_matching`, constant included. One backward pass through the gradient for each
    projection, whatever D.

    Args:
        energy: F(y), twice differentiable in y, or with ``field`` a vector field s(y).
        y: data, (..., D).
        projections: how many directions M to draw for each sample, or the directions, (M, ..., D).
        distribution: what to draw: ``"rademacher"`` (each coordinate ±1; exact at M = 1 where the curvature is
            diagonal) or ``"gaussian"``.
        variance_reduced: use all of ‖s‖², as above; else its projections, :math:`\frac1M \sum_m (v_m^\top s)^2`.
        field: the first argument is a vector field.
        generator: where the directions come from.

    Returns:
        One value per sample, (...).

    Raises:
        ValueError: as :func:`score_matching`; projections too few, of another shape or distribution, or not finite.

    Source: Song, Garg, Shi and Ermon, Sliced Score Matching (UAI 2019).

    >>> F = lambda y: y.square().sum(-1) / 2
    >>> sliced_score_matching(F, torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    tensor([-1., -2.])
    """
    require_points("y", y)
    require_choice("distribution", distribution, ("rademacher", "gaussian"))
    if isinstance(projections, Tensor):
        if projections.ndim != y.ndim + 1 or projections.shape[1:] != y.shape or len(projections) == 0:
            expected = ", ".join(map(str, y.shape))
            raise ValueError(f"projections must be (M, ..., D) = (M, {expected}), got {tuple(projections.shape)}")
        directions = require_finite("projections", projections)
    else:
        shape = (require_count("projections", projections), *y.shape)
        directions = normal(shape, generator, y.dtype, y.device)
        if distribution == "rademacher":
            directions = torch.where(directions < 0, -1.0, 1.0).to(y.dtype)
    s, pull = torch.func.vjp(_vectors(energy, field), y)
    curvature = sum((pull(v)[0] * v).sum(-1) for v in directions) / len(directions)
    if variance_reduced:
        return s.square().sum(-1) / 2 + curvature
    return (s * directions).sum(-1).square().mean(0) / 2 + curvature


def denoising_score_matching(
    energy: Energy | Field,
    y: Tensor,
    sigma: float | Tensor,
    noise: Tensor | None = None,
    *,
    field: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Denoising score matching: at a noisy point, the score points back to the data.

    .. math:: J = \tfrac12 \Big\lVert s(y + \sigma\epsilon) + \frac{\epsilon}{\sigma} \Big\rVert^2, \qquad
        \epsilon \sim \mathcal N(0, I)

    Its optimum is the score of the data smoothed by the noise, not of the data: s(ỹ) = (𝔼[y | ỹ] − ỹ)/σ², so that
    ỹ + σ²s(ỹ) is the optimal denoiser. No second derivative: the smoothing has replaced the curvature, at the price of
    a bias of order σ² and a variance of order 1/σ².

    This is Vincent's scale (½, no weight). Multiplied by σ², as when several noise levels are trained together, it is
    :math:`\tfrac12 \lVert \sigma s + \epsilon \rVert^2`, the weighting of Song and Ermon (2019).

    Args:
        energy: F(y), or with ``field`` a vector field s(y).
        y: data, (..., D).
        sigma: standard deviation of the noise, in units of y, > 0: a number, or one for each sample, (...).
        noise: ε, (..., D), of unit variance: the point is y + σ·noise; drawn if None.
        field: the first argument is a vector field.
        generator: where the noise comes from.

    Returns:
        One value per sample, (...), ≥ 0.

    Raises:
        ValueError: as :func:`score`; σ not positive and finite, σ or noise of another shape or not finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods in NLP / Denoising
    AE / Masked AE"; Vincent, A Connection Between Score Matching and Denoising Autoencoders (Neural Computation 2011).

    >>> F = lambda y: y.square().sum(-1) / 2
    >>> denoising_score_matching(F, torch.tensor([[1.0]]), 0.5, noise=torch.tensor([[2.0]]))
    tensor([2.])
    """
    require_points("y", y)
    if isinstance(sigma, Tensor):
        if sigma.shape != y.shape[:-1]:
            expected = tuple(y.shape[:-1])
            raise ValueError(f"sigma must be a number or one per sample, {expected}, got {tuple(sigma.shape)}")
        require_finite("sigma", sigma)
        if has_values(sigma) and (sigma <= 0).any():
            raise ValueError(f"sigma must be positive, the lowest is {sigma.min().item()}")
        sigma = sigma.to(y.dtype).unsqueeze(-1)
    else:
        require_positive("sigma", sigma)
    if noise is None:
        noise = normal(y.shape, generator, y.dtype, y.device)
    elif noise.shape != y.shape:
        raise ValueError(f"noise must have the shape of y, {tuple(y.shape)}, got {tuple(noise.shape)}")
    require_finite("noise", noise)
    return explicit_score_matching(energy, y + sigma * noise, -noise / sigma, field=field)


def ratio_matching(energy: Energy, y: Tensor) -> Tensor:
    r"""Ratio matching: score matching for binary data, with the ratio of probabilities to each one-bit neighbour.

    .. math::

        J = \sum_{i=1}^D \Big(1 + \frac{P(y)}{P(\bar y_i)}\Big)^{-2} = \sum_{i=1}^D \sigma\big(F(y) - F(\bar y_i)\big)^2

    where :math:`\bar y_i` is y with bit i flipped; Z drops out of the ratio. On average over the data it is, up to a
    constant, the squared error of the model's ratios, through the bounded map u ↦ 1/(1 + u). Bounded by D, so an
    outlier does little harm. All D flips of a batch are evaluated in one call: D + 1 energies a sample.

    Args:
        energy: F(y) of vectors of zeros and ones, of a floating dtype; +inf marks an impossible state.
        y: data, (..., D), zeros and ones.

    Returns:
        One value per sample, (...), from 0 to D.

    Raises:
        ValueError: y holds other values, the energy has the wrong shape, is NaN or -inf, or +inf at a data point.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods vs
    Regularized/Architectural Methods" (C2); Hyvärinen, Some Extensions of Score Matching (2007).

    >>> ratio_matching(lambda y: 0 * y.sum(-1), torch.tensor([[0.0, 1.0]]))
    tensor([0.5000])
    """
    return torch.sigmoid(_flip_gaps(energy, y)).square().sum(-1)


def minimum_probability_flow(energy: Energy, y: Tensor) -> Tensor:
    r"""Minimum probability flow: as little probability as possible leaves the data for their one-bit neighbours.

    .. math:: J = \sum_{i=1}^D e^{\frac12 (F(y) - F(\bar y_i))}

    where :math:`\bar y_i` is y with bit i flipped: the rate at which dynamics whose equilibrium is the model would
    carry probability away from the data. Convex in the parameters where F is linear in them, as in a Boltzmann machine.
    The paper multiplies by a time ε and leaves out neighbours that are data themselves; without that the truth is still
    the minimum for unlimited data. D + 1 energies a sample, in one call.

    Args:
        energy: F(y) of vectors of zeros and ones, of a floating dtype; +inf marks an impossible state.
        y: data, (..., D), zeros and ones.

    Returns:
        One value per sample, (...), > 0.

    Raises:
        ValueError: as :func:`ratio_matching`.
        FloatingPointError: a difference of energies so large that the exponential overflows.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods vs
    Regularized/Architectural Methods" (C2); Sohl-Dickstein, Battaglino and DeWeese, Minimum Probability Flow Learning
    (ICML 2011).

    >>> minimum_probability_flow(lambda y: 2 * y.sum(-1), torch.tensor([[0.0], [1.0]]))
    tensor([0.3679, 2.7183])
    """
    gaps = _flip_gaps(energy, y)
    flow = torch.exp(gaps / 2).sum(-1)
    if has_values(flow) and torch.isinf(flow).any():
        raise FloatingPointError(
            f"the flow overflowed: a flip lowers the energy of a data point by {gaps.max().item():.4g}. "
            "Start from a flatter energy, or use ratio_matching, which is bounded"
        )
    return flow


def _vectors(energy: Energy | Field, field: bool) -> Field:
    if not field:
        return lambda y: score(energy, y)

    def checked(y: Tensor) -> Tensor:
        s = energy(y)
        if s.shape != y.shape:
            raise ValueError(f"the field must return a vector per point, {tuple(y.shape)}, got {tuple(s.shape)}")
        return require_finite("field", s)

    return checked


def _flip_gaps(energy: Energy, y: Tensor) -> Tensor:
    """Return F(y) − F(y with bit i flipped), (..., D)."""
    require_points("y", y)
    if has_values(y) and not ((y == 0) | (y == 1)).all():
        raise ValueError(f"y must hold zeros and ones, got values from {y.min().item():.4g} to {y.max().item():.4g}")
    flip = torch.eye(y.shape[-1], dtype=y.dtype, device=y.device)
    states = y.unsqueeze(-2)
    neighbours = states + flip * (1 - 2 * states)
    values = evaluate(energy, torch.cat([states, neighbours], dim=-2))
    here = require_finite("energy of the data", values[..., :1])
    return here - values[..., 1:]
