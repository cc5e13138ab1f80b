"""The Metropolis-adjusted Langevin algorithm: a Langevin step as a proposal, and a coin to remove its bias."""

import math

import torch
from torch import Tensor

from ebm_lib.data.draw import coins, normal
from ebm_lib.energy import Energy
from ebm_lib.require import require_positive
from ebm_lib.sampling._langevin import langevin_step
from ebm_lib.sampling.chains import Chains, Info, State, require_schedule, run, start_state
from ebm_lib.sampling.metropolis import choose


def mala_step(
    energy: Energy, state: State, noise: Tensor, uniform: Tensor, *, step_size: float, beta: float = 1.0
) -> tuple[State, Info]:
    r"""Propose a Langevin step with the given noise, and accept it or stay.

    The proposal's density is :math:`q(y' \mid y) = N(y';\, y - \eta\nabla E(y),\, 2\eta/\beta)`. With the forward
    noise ξ and the noise ξ' that would lead back,

    .. math::
        \log\frac{P(y')\,q(y \mid y')}{P(y)\,q(y' \mid y)}
            = -\beta\,(E(y') - E(y)) + \tfrac12\left(\|\xi\|^2 - \|\xi'\|^2\right), \qquad
        \xi' = \sqrt{\eta\beta/2}\,\left(\nabla E(y) + \nabla E(y')\right) - \xi

    Args:
        energy: E(y).
        state: where the chains are.
        noise: ξ, standard normal, (..., D).
        uniform: numbers in [0, 1), (...).
        step_size: η.
        beta: inverse temperature.

    Returns:
        The next state, and what happened to the proposal: one gradient. Nothing is checked.
    """
    proposal = langevin_step(energy, state, noise, step_size=step_size, beta=beta)
    back = torch.add(state.gradient, proposal.gradient).mul_(math.sqrt(step_size * beta / 2)).sub_(noise)
    log_reverse = (noise.square() - back.square()).sum(-1)  # twice log q(y | y') / q(y' | y)
    log_ratio = log_reverse.div_(2).sub_(proposal.energy - state.energy, alpha=beta)
    return choose(state, proposal, log_ratio, uniform)


def mala(
    energy: Energy,
    start: Tensor,
    *,
    steps: int,
    step_size: float,
    beta: float = 1.0,
    keep_every: int = 0,
    burn_in: int = 0,
    generator: torch.Generator | None = None,
) -> Chains:
    r"""Sample by Langevin proposals with a Metropolis-Hastings correction: no bias at any step size.

    .. math:: y' = y - \eta \nabla E(y) + \sqrt{2\eta/\beta}\;\xi, \qquad
        a = \min\left(1, \frac{e^{-\beta E(y')}\, q(y \mid y')}{e^{-\beta E(y)}\, q(y' \mid y)}\right)

    The proposal density q is not symmetric, since the gradient differs at the two ends; leaving it out of the ratio
    is a common slip. An energy of +inf marks what lies outside the support; a proposal there is rejected. The best
    acceptance in many dimensions is about 0.57.

    Args:
        energy: E(y), differentiable by autograd; (..., D) gives (...).
        start: where the chains start, (..., D); left as it is.
        steps: steps after the burn-in.
        step_size: η, in units of y² / energy: the same as :func:`langevin`'s.
        beta: inverse temperature β, in units of 1 / energy.
        keep_every: keep every so many-th point in ``path``; 0 keeps none.
        burn_in: steps taken first, and not kept.
        generator: where the noise comes from.

    Raises:
        ValueError: bad arguments, a start of energy +inf, an energy of the wrong shape.
        FloatingPointError: a proposal's energy is NaN or -inf, or its gradient is not finite where the energy is; the
            message names the step, the chain, the energy and the step size.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods: Max likelihood /
        Probabilistic Methods". Roberts and Tweedie (Bernoulli 2, 1996); Roberts and Rosenthal, Optimal scaling of
        discrete approximations to Langevin diffusions (J. R. Statist. Soc. B 60, 1998).

    >>> start = torch.zeros(10_000, 1)
    >>> chains = mala(lambda y: y.square().sum(-1) / 2, start, steps=50, step_size=0.5,
    ...               generator=torch.Generator().manual_seed(0))
    >>> abs(chains.position.var() - 1) < 0.05
    tensor(True)
    """
    require_schedule("steps", steps, keep_every, burn_in)
    require_positive("step_size", step_size)
    require_positive("beta", beta)
    state = start_state(energy, start)

    def step(state: State, noise: Tensor, coin: Tensor) -> tuple[State, Info]:
        return mala_step(energy, state, noise, coin, step_size=step_size, beta=beta)

    def draw() -> tuple[Tensor, Tensor]:
        return (
            normal(start.shape, generator, start.dtype, start.device),
            coins(start.shape[:-1], generator, start.dtype, start.device),
        )

    return run(step, state, draw, steps=steps, burn_in=burn_in, keep_every=keep_every, step_size=step_size)
