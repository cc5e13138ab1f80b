"""The Metropolis-Hastings correction, which MALA and Hamiltonian Monte Carlo share."""

import math

import torch
from torch import Tensor

from ebm_lib.sampling.chains import Info, State


def choose(current: State, proposal: State, log_ratio: Tensor, uniform: Tensor) -> tuple[State, Info]:
    r"""Accept each chain's proposal with the probability that keeps the target invariant.

    .. math:: a = \min\left(1, \frac{P(y')\, q(y \mid y')}{P(y)\, q(y' \mid y)}\right)

    A proposal of energy +inf lies outside the support and is rejected, whatever its gradient.

    Args:
        current: where the chains are.
        proposal: where they might go.
        log_ratio: log of the fraction, (...).
        uniform: numbers in [0, 1), (...).

    Returns:
        The next state, and what happened.
    """
    log_ratio = log_ratio.masked_fill(proposal.energy == math.inf, -math.inf)
    acceptance = log_ratio.clamp(max=0.0).exp()
    accepted = uniform < acceptance
    coordinates = accepted.unsqueeze(-1)
    state = State(
        torch.where(coordinates, proposal.position, current.position),
        torch.where(accepted, proposal.energy, current.energy),
        torch.where(coordinates, proposal.gradient, current.gradient),
    )
    return state, Info(acceptance, accepted, log_ratio, proposal.energy)
