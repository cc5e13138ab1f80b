"""Hamiltonian Monte Carlo: give each chain a push, let it roll for a while, and correct the integrator's error."""

import math

import torch
from torch import Tensor

from ebm_lib.data.draw import coins, normal, uniform
from ebm_lib.energy import Energy
from ebm_lib.require import has_values, require_count, require_finite, require_positive
from ebm_lib.sampling.chains import Chains, Info, State, require_schedule, run, start_state, value_and_gradient
from ebm_lib.sampling.metropolis import choose


def leapfrog(
    energy: Energy,
    state: State,
    momentum: Tensor,
    *,
    step_size: float | Tensor,
    steps: int,
    mass: Tensor | None = None,
) -> tuple[State, Tensor]:
    r"""Follow the Hamiltonian flow: half a kick, then drifts and kicks by turns, and half a kick at the end.

    .. math::
        p \leftarrow p - \tfrac{\epsilon}{2}\nabla E(y), \qquad y \leftarrow y + \epsilon\, p / m, \qquad
        p \leftarrow p - \tfrac{\epsilon}{2}\nabla E(y)

    The map preserves volume, and going back with −p undoes it; the error in :math:`E + \|p\|^2/2m` stays bounded, and
    is of order ε². On a quadratic of curvature λ it is stable for ε²λ/m < 4.

    Args:
        energy: E(y).
        state: where the chains are.
        momentum: p, (..., D).
        step_size: ε, a number, or (..., 1) for a step per chain.
        steps: how many.
        mass: m, (D,); all ones if None.

    Returns:
        The state at the end, and the momentum there: ``steps`` gradients. Nothing is checked.

    >>> spring = lambda y: y.square().sum(-1) / 2
    >>> there, p = leapfrog(spring, start_state(spring, torch.ones(1)), torch.zeros(1), step_size=0.1, steps=7)
    >>> back, p = leapfrog(spring, there, -p, step_size=0.1, steps=7)
    >>> torch.allclose(back.position, torch.ones(1))
    True
    """
    position, value, gradient = state
    momentum = _along(momentum, gradient, -step_size / 2)
    for index in range(steps):
        position = _along(position, momentum if mass is None else momentum / mass, step_size)
        value, gradient = value_and_gradient(energy, position)
        momentum = _along(momentum, gradient, -step_size if index < steps - 1 else -step_size / 2)
    return State(position, value, gradient), momentum


def _along(point: Tensor, direction: Tensor, distance: float | Tensor) -> Tensor:
    return torch.add(point, direction, alpha=distance) if isinstance(distance, float) else point + distance * direction


def hmc_step(
    energy: Energy,
    state: State,
    noise: Tensor,
    uniform: Tensor,
    *,
    step_size: float | Tensor,
    leapfrog_steps: int,
    beta: float = 1.0,
    mass: Tensor | None = None,
) -> tuple[State, Info]:
    r"""Draw a momentum, follow the flow, and accept where it leads or stay.

    .. math:: p = \sqrt{m/\beta}\;\xi, \qquad H(y, p) = E(y) + \sum_i \frac{p_i^2}{2m_i}, \qquad
        a = \min\left(1, e^{-\beta\,(H(y', p') - H(y, p))}\right)

    Args:
        energy: E(y).
        state: where the chains are.
        noise: ξ, standard normal, (..., D).
        uniform: numbers in [0, 1), (...).
        step_size: ε, a number, or (..., 1) for a step per chain.
        leapfrog_steps: how many steps to follow the flow for.
        beta: inverse temperature.
        mass: m, (D,); all ones if None.

    Returns:
        The next state, and what happened to the proposal: ``leapfrog_steps`` gradients. Nothing is checked.
    """
    scale = 1 / math.sqrt(beta) if mass is None else (mass / beta).sqrt()
    proposal, momentum = leapfrog(energy, state, noise * scale, step_size=step_size, steps=leapfrog_steps, mass=mass)
    kinetic = (noise.square() - (momentum / scale).square()).sum(-1).div_(2)  # β K before, minus β K after
    log_ratio = kinetic.sub_(proposal.energy - state.energy, alpha=beta)
    return choose(state, proposal, log_ratio, uniform)


def hmc(
    energy: Energy,
    start: Tensor,
    *,
    steps: int,
    step_size: float,
    leapfrog_steps: int = 10,
    beta: float = 1.0,
    mass: Tensor | None = None,
    jitter: float = 0.0,
    keep_every: int = 0,
    burn_in: int = 0,
    generator: torch.Generator | None = None,
) -> Chains:
    r"""Sample by Hamiltonian Monte Carlo: long moves that still are accepted, and no bias.

    .. math:: p \sim N(0, m/\beta), \qquad (y, p) \to (y', p') \text{ by leapfrog}, \qquad
        a = \min\left(1, e^{-\beta\,(H(y', p') - H(y, p))}\right)

    The dynamics is at the temperature 1/β, so the flow itself does not depend on β. With one leapfrog step it is
    :func:`mala` with η = ε²/2. On a quadratic whose period is a multiple of the trajectory's length the chain returns
    to where it started: ``jitter`` breaks such resonances. The best acceptance in many dimensions is about 0.65.

    Args:
        energy: E(y), differentiable by autograd; (..., D) gives (...). +inf marks what lies outside the support.
        start: where the chains start, (..., D); left as it is.
        steps: trajectories after the burn-in.
        step_size: ε of the leapfrog, in units of y / √energy with unit mass.
        leapfrog_steps: steps of each trajectory, and gradients it costs.
        beta: inverse temperature β, in units of 1 / energy.
        mass: (D,), positive, a constant; all ones if None. Large where the curvature is large evens out the periods.
        jitter: each chain multiplies its step size by a number drawn from [1 − jitter, 1 + jitter) for each
            trajectory; from 0 to below 1.
        keep_every: keep every so many-th point in ``path``; 0 keeps none.
        burn_in: trajectories taken first, and not kept.
        generator: where the noise comes from.

    Returns:
        The chains. ``divergences`` counts trajectories whose energy error passed 1000/β.

    Raises:
        ValueError: bad arguments, a start of energy +inf, an energy of the wrong shape.
        FloatingPointError: a trajectory ended at an energy of NaN or -inf, or at a gradient that is not finite; the
            message names the step, the chain, the energy and the step size.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods: Max likelihood /
        Probabilistic Methods". Duane, Kennedy, Pendleton and Roweth, Hybrid Monte Carlo (Phys. Lett. B 195, 1987);
        Neal, MCMC using Hamiltonian dynamics (Handbook of Markov Chain Monte Carlo, 2011); Beskos et al., Optimal
        tuning of the hybrid Monte Carlo algorithm (Bernoulli 19, 2013).

    >>> start = torch.zeros(10_000, 1)
    >>> chains = hmc(lambda y: y.square().sum(-1) / 2, start, steps=10, step_size=0.5, leapfrog_steps=3,
    ...              generator=torch.Generator().manual_seed(0))
    >>> abs(chains.position.var() - 1) < 0.05
    tensor(True)
    """
    require_schedule("steps", steps, keep_every, burn_in)
    require_positive("step_size", step_size)
    require_positive("beta", beta)
    require_count("leapfrog_steps", leapfrog_steps)
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter must be from 0 to below 1, got {jitter}")
    state = start_state(energy, start)
    if mass is not None:
        mass = _require_mass(mass, start)
    step_size = float(step_size)

    def step(state: State, noise: Tensor, coin: Tensor, stretch: Tensor | None = None) -> tuple[State, Info]:
        length = step_size if stretch is None else step_size * (1 + jitter * (2 * stretch - 1))
        return hmc_step(
            energy, state, noise, coin, step_size=length, leapfrog_steps=leapfrog_steps, beta=beta, mass=mass
        )

    def draw() -> tuple[Tensor, ...]:
        kind = (generator, start.dtype, start.device)
        noise, coin = normal(start.shape, *kind), coins(start.shape[:-1], *kind)
        return (noise, coin, uniform((*start.shape[:-1], 1), *kind)) if jitter else (noise, coin)

    return run(
        step,
        state,
        draw,
        steps=steps,
        burn_in=burn_in,
        keep_every=keep_every,
        step_size=step_size,
        gradients=leapfrog_steps,
    )


def _require_mass(mass: Tensor, start: Tensor) -> Tensor:
    if mass.shape != start.shape[-1:]:
        raise ValueError(f"mass must hold one number per coordinate, shape {tuple(start.shape[-1:])}, got {mass.shape}")
    mass = require_finite("mass", mass.detach().to(start))
    if has_values(mass) and not (mass > 0).all():
        raise ValueError(f"mass must be positive, got {mass.min().item()}")
    return mass
