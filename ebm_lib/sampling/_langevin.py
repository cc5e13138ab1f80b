"""Langevin dynamics: walk down the gradient, with just enough noise to sample rather than to descend."""

import math

import torch
from torch import Tensor

from ebm_lib.data.draw import normal
from ebm_lib.energy import Energy
from ebm_lib.require import has_values, require_finite, require_positive
from ebm_lib.sampling.chains import Chains, State, require_schedule, run, start_state, value_and_gradient

Bounds = tuple[float | Tensor, float | Tensor]


def reflect(position: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    r"""Fold a point back into a box, as light between two mirrors: as often as it takes.

    .. math:: y \mapsto l + \bigl|\,((y - l + w) \bmod 2w) - w\,\bigr|, \qquad w = h - l

    Points inside stay as they are, to the last bit.

    Args:
        position: (..., D).
        low: l, a number or (D,).
        high: h, likewise.

    >>> reflect(torch.tensor([-0.25, 0.5, 1.5, 3.25]), 0.0, 1.0)
    tensor([0.2500, 0.5000, 0.5000, 0.7500])
    """
    width = high - low
    folded = (torch.remainder(position - low + width, 2 * width) - width).abs() + low
    return torch.where((position >= low) & (position <= high), position, folded.clamp(min=low).clamp(max=high))


def langevin_step(
    energy: Energy, state: State, noise: Tensor, *, step_size: float, beta: float = 1.0, bounds: Bounds | None = None
) -> State:
    r"""Take one Langevin step with the given noise.

    .. math:: y \leftarrow y - \eta \nabla E(y) + \sqrt{2\eta/\beta}\;\xi

    Args:
        energy: E(y).
        state: where the chains are, from :func:`start_state` or the last step.
        noise: ξ, standard normal, (..., D).
        step_size: η.
        beta: inverse temperature.
        bounds: reflect at these walls.

    Returns:
        The next state, evaluated: one gradient. Nothing is checked.

    >>> state = start_state(lambda y: y.square().sum(-1) / 2, torch.ones(1))
    >>> langevin_step(lambda y: y.square().sum(-1) / 2, state, torch.zeros(1), step_size=0.1).position
    tensor([0.9000])
    """
    position = torch.add(state.position, state.gradient, alpha=-step_size)
    position = position.add_(noise, alpha=math.sqrt(2 * step_size / beta))
    if bounds is not None:
        position = reflect(position, *bounds)
    return State(position, *value_and_gradient(energy, position))


def langevin(
    energy: Energy,
    start: Tensor,
    *,
    steps: int,
    step_size: float,
    beta: float = 1.0,
    bounds: Bounds | None = None,
    keep_every: int = 0,
    burn_in: int = 0,
    generator: torch.Generator | None = None,
) -> Chains:
    r"""Sample by Langevin dynamics, without correction (the unadjusted Langevin algorithm).

    .. math:: y \leftarrow y - \eta \nabla E(y) + \sqrt{2\eta/\beta}\;\xi, \qquad \xi \sim N(0, I)

    As η → 0 the chain's law tends to :math:`e^{-\beta E}/Z`. At a finite step it is biased: on a quadratic of
    curvature λ it converges for 0 < ηλ < 2, to a variance of :math:`1/(\beta\lambda(1 - \eta\lambda/2))` instead of
    :math:`1/(\beta\lambda)`. :func:`mala` and :func:`hmc` have no such bias.

    Other conventions, and what they are here:

    - :math:`y - \tfrac{\epsilon}{2}\nabla E + \sqrt{\epsilon}\,\xi` (Welling and Teh 2011): η = ε/2, β = 1;
    - :math:`y - \tfrac{\epsilon^2}{2}\nabla E + \epsilon\,\xi` (Neal 2011): η = ε²/2, β = 1;
    - torchebm's ``step_size`` η and ``noise_scale`` σ, :math:`y - \eta\nabla E + \sigma\sqrt{2\eta}\,\xi`: the same
      η, β = 1/σ²;
    - image models' separate step α and noise σ, :math:`y - \alpha\nabla E + \sigma\,\xi` (Du and Mordatch 2019):
      η = α, β = 2α/σ². With α = 10 and σ = 0.005 the chain samples at β = 800,000: near to descent.

    Args:
        energy: E(y), differentiable by autograd; (..., D) gives (...).
        start: where the chains start, (..., D); left as it is.
        steps: steps after the burn-in.
        step_size: η, in units of y² / energy.
        beta: inverse temperature β, in units of 1 / energy.
        bounds: (low, high), constants, numbers or (D,) tensors: walls that reflect the chains. As η → 0 that keeps
            the target restricted to the box invariant (with E constant, the uniform law at any η). Clamping does not:
            it heaps the chains up on the walls.
        keep_every: keep every so many-th point in ``path``; 0 keeps none.
        burn_in: steps taken first, and not kept.
        generator: where the noise comes from.

    Returns:
        The chains; ``acceptance`` is 1.

    Raises:
        ValueError: bad arguments, a start outside the walls or of energy +inf, an energy of the wrong shape.
        FloatingPointError: a chain diverged; the message names the step, the chain, its energy and the step size.

    Source: LeCun, Energy-Based Models, part 1 (NYU Deep Learning, spring 2020), "Seven Strategies to Shape the
        Energy Function", C2. Roberts and Tweedie, Exponential convergence of Langevin distributions and their
        discrete approximations (Bernoulli 2, 1996).

    >>> start = torch.zeros(10_000, 1)
    >>> chains = langevin(lambda y: y.square().sum(-1) / 2, start, steps=50, step_size=0.5,
    ...                   generator=torch.Generator().manual_seed(0))
    >>> chains.position.var()  # 1 / (1 - 0.5 / 2) = 1.33, not 1
    tensor(1.3...)
    """
    require_schedule("steps", steps, keep_every, burn_in)
    require_positive("step_size", step_size)
    require_positive("beta", beta)
    state = start_state(energy, start)
    if bounds is not None:
        bounds = _require_inside(start, bounds)

    def step(state: State, noise: Tensor) -> tuple[State, None]:
        return langevin_step(energy, state, noise, step_size=step_size, beta=beta, bounds=bounds), None

    def draw() -> tuple[Tensor]:
        return (normal(start.shape, generator, start.dtype, start.device),)

    return run(step, state, draw, steps=steps, burn_in=burn_in, keep_every=keep_every, step_size=step_size)


def _require_inside(start: Tensor, bounds: Bounds) -> Bounds:
    low, high = (torch.as_tensor(bound, dtype=start.dtype, device=start.device).detach() for bound in bounds)
    for name, bound in (("low", low), ("high", high)):
        require_finite(f"bounds, {name}", bound)
        if bound.ndim and bound.shape != start.shape[-1:]:
            raise ValueError(
                f"bounds, {name} must be a number or one per coordinate, shape {tuple(start.shape[-1:])}, "
                f"got shape {tuple(bound.shape)}"
            )
    if has_values(low) and has_values(high) and not (low < high).all():
        raise ValueError(f"bounds must have low below high, got {bounds}")
    if has_values(start) and not ((start >= low) & (start <= high)).all():
        raise ValueError(f"start must lie within the bounds {bounds}")
    # Tensors take the chains' dtype, and bring no graph; numbers stay as they are, for arithmetic in double precision.
    return (
        bounds[0] if isinstance(bounds[0], int | float) else low,
        bounds[1] if isinstance(bounds[1], int | float) else high,
    )
