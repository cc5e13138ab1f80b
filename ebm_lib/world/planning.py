r"""Planning: search for the sequence of actions of lowest energy.

.. math:: \check a = \operatorname{argmin}_{a_0, \dots, a_{H-1}} E(a_0, \dots, a_{H-1})

A planner takes ``energy(actions)``, from (..., H, A) to (...): what a world model makes of H actions of A components
each, and what that costs. It starts from ``start`` (..., H, A), one plan for each of the problems (...), which do not
know of each other. Samples stand in front, (S, ..., H, A), so that what the energy holds for (...) broadcasts.
"""

import math

import torch
from torch import Tensor

from ebm_lib.energy import Energy
from ebm_lib.require import has_values, require_count, require_differentiable, require_finite, require_positive
from ebm_lib.world._search import Bounds, Plan, lower, plan_energies, projection, search

_SQUARES = 0.95  # ν, how much of the squared gradients' mean stays


def plan_by_gradient(
    energy: Energy,
    start: Tensor,
    *,
    steps: int = 100,
    lr: float = 0.1,
    momentum: float = 0.9,
    bounds: Bounds | None = None,
) -> Plan:
    r"""Descend the energy: through the world model, by backpropagation in time.

    .. math::

        m \leftarrow \mu m + (1 - \mu)\, g, \qquad v \leftarrow \nu v + (1 - \nu)\, g^2, \qquad
        a \leftarrow \Pi\Big(a - \eta_k \frac{\hat m}{\sqrt{\hat v}}\Big), \qquad g = \nabla_a E(a)

    This is Adam, with hats for its correction of the start from 0, Π the projection onto the bounds and
    :math:`\eta_k = \frac{\eta}{2} (1 + \cos(\pi k / K))`, which falls to 0 over the K steps: long steps first, exact
    at the end. Each component moves by about η a step at first, whatever the scale of the energy. ν is 0.95 rather than
    Adam's 0.999, which is for gradients with noise: an unstable world's first gradients are thousands of times its
    last ones, and a long memory of them would keep the steps short. There, a momentum of 0.98 pays, with more steps.
    Descent finds a valley, which need not be the deepest: for several starts, put them in front, (S, ..., H, A), and
    keep the lowest.

    Args:
        energy: E(actions), smooth; (..., H, A) gives (...).
        start: (..., H, A); left as it is.
        steps: K.
        lr: η, in units of the actions.
        momentum: μ in [0, 1).
        bounds: (low, high), numbers or (A,); every plan is held within them before its energy is taken.

    Returns:
        A Plan. No graph is kept, and parameters of the energy receive no gradient.

    Raises:
        ValueError: bad arguments; an energy of the wrong shape, not finite, or without a gradient.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Forward Model for Model-Predictive
    Control"; Kingma and Ba, Adam (ICLR 2015).

    >>> goal = torch.tensor([[1.0], [3.0]])
    >>> plan = plan_by_gradient(lambda a: (a - goal).square().sum((-2, -1)), torch.zeros(2, 1), bounds=(-2, 2))
    >>> plan.actions.round(decimals=2)
    tensor([[1.],
            [2.]])
    """
    require_count("steps", steps)
    require_positive("lr", lr)
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    hold = projection(start, bounds)
    actions = best = hold(start.detach())
    lowest = start.new_full(start.shape[:-2], math.inf)
    first, second = torch.zeros_like(actions), torch.zeros_like(actions)
    history: list[Tensor] = []
    for k in range(steps):
        with torch.enable_grad():
            leaf = actions.detach().requires_grad_()
            value = plan_energies(energy, leaf, f"step {k}")
            (gradient,) = torch.autograd.grad(require_differentiable("energy", value).sum(), leaf)
        require_finite(f"gradient of the energy at step {k}", gradient)
        lowest, best = lower(value.detach(), actions, lowest, best)
        history.append(value.detach())
        first, second = torch.lerp(gradient, first, momentum), torch.lerp(gradient.square(), second, _SQUARES)
        scale = (second / (1 - _SQUARES ** (k + 1))).sqrt() + torch.finfo(actions.dtype).tiny ** 0.5
        rate = lr * (1 + math.cos(math.pi * k / steps)) / 2
        actions = hold(actions - rate / (1 - momentum ** (k + 1)) * first / scale)
    with torch.no_grad():
        history.append(plan_energies(energy, actions, f"step {steps}"))
    lowest, best = lower(history[-1], actions, lowest, best)
    return Plan(best, lowest, actions, torch.stack(history))


def cem(
    energy: Energy,
    start: Tensor,
    *,
    spread: float | Tensor,
    samples: int = 256,
    elites: int = 32,
    iterations: int = 10,
    least_spread: float = 0.0,
    smoothing: float = 0.0,
    hold: int = 1,
    bounds: Bounds | None = None,
    generator: torch.Generator | None = None,
) -> Plan:
    r"""Plan by the cross-entropy method: sample plans, keep the best few, sample around those.

    .. math::

        a^{(s)} \sim N(\mu, \sigma^2), \qquad
        \mu \leftarrow \alpha\mu + (1 - \alpha) \operatorname{mean}_{s \in \text{elites}} a^{(s)}, \qquad
        \sigma \leftarrow \max\!\big(\sigma_\min,\ \alpha\sigma + (1 - \alpha)
        \operatorname{std}_{s \in \text{elites}} a^{(s)}\big)

    with a mean and a deviation for each step and component. The deviation is that of the likelihood's maximum (divided
    by the number of elites, not by one less), which is what minimises the cross-entropy that the method is named after.

    ``actions`` are the best plan ever seen, as in the other planners: never worse than the start, and right where the
    mean of two good plans is a bad one. A world model with flaws can make a single sample look better than it is; the
    mean averages over elites and is less easily fooled: it is in ``centre``, and its own energy counts as well.

    Args:
        energy: E(actions); called without a graph on (samples + 1, ..., H, A), of which the first is the mean.
        start: the first mean, (..., H, A); left as it is.
        spread: the first deviation, in units of the actions: a number or what broadcasts to ``start``.
        samples: how many plans each iteration draws.
        elites: how many of them are kept, at most ``samples``; ties go to whichever comes.
        iterations: how often.
        least_spread: :math:`\sigma_\min \ge 0`.
        smoothing: α in [0, 1), the share of the last mean and deviation that stays.
        hold: for how many steps in a row a sample keeps its noise: 1 draws afresh for each step, H moves a plan as a
            whole. Held noise gets further from the start in a few samples.
        bounds: (low, high), numbers or (A,); samples beyond are moved onto them before their energy is taken.
        generator: where the noise comes from.

    Returns:
        A Plan.

    Raises:
        ValueError: bad arguments; an energy of the wrong shape or not finite.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Mode-1
    Perception-Action Cycle", for planning; de Boer, Kroese, Mannor and Rubinstein, A Tutorial on the Cross-Entropy
    Method (Annals of Operations Research 134, 2005).

    >>> goal = torch.tensor([[1.0], [3.0]])
    >>> plan = cem(lambda a: (a - goal).square().sum((-2, -1)), torch.zeros(2, 1), spread=1.0, bounds=(-2, 2),
    ...            iterations=20, generator=torch.Generator().manual_seed(0))
    >>> plan.actions.round(decimals=3)
    tensor([[1.],
            [2.]])
    """
    require_count("elites", elites)
    if elites > require_count("samples", samples):
        raise ValueError(f"elites must be at most samples = {samples}, got {elites}")
    for name, number, limit in (("least_spread", least_spread, math.inf), ("smoothing", smoothing, 1)):
        if not 0 <= number < limit:
            raise ValueError(f"{name} must be in [0, {limit}), got {number}")

    def refit(drawn: Tensor, energies: Tensor, centre: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor, None]:
        index = energies.topk(elites, dim=0, largest=False).indices[..., None, None]
        variance, mean = torch.var_mean(drawn.take_along_dim(index, 0), 0, correction=0)
        deviation = torch.lerp(variance.sqrt(), deviation, smoothing).clamp(min=least_spread)
        return torch.lerp(mean, centre, smoothing), deviation, None

    return search(energy, start, refit, spread, samples, iterations, hold, bounds, generator)


def mppi(
    energy: Energy,
    start: Tensor,
    *,
    spread: float | Tensor,
    samples: int = 256,
    temperature: float = 1.0,
    iterations: int = 10,
    hold: int = 1,
    bounds: Bounds | None = None,
    generator: torch.Generator | None = None,
) -> Plan:
    r"""Plan by model-predictive path integrals: sample plans, and average them, the better ones with more weight.

    .. math::

        a^{(s)} = \mu + \sigma \epsilon^{(s)}, \qquad
        w_s = \frac{e^{-E(a^{(s)})/T}}{\sum_r e^{-E(a^{(r)})/T}}, \qquad \mu \leftarrow \sum_s w_s\, a^{(s)}

    One iteration moves the mean to that of the Gibbs density :math:`N(a; \mu, \sigma^2)\, e^{-E(a)/T}`, as far as
    the samples tell. The energy is divided by T, here β = 1/T: code that calls β the temperature has it upside down.

    Convention: Williams et al. (2017) weigh with
    :math:`E(a^{(s)}) + \lambda \sum_t \mu_t^\top \Sigma^{-1} \sigma \epsilon_t^{(s)}`, λ being T and Σ = σ² the noise's
    covariance. That term reweighs samples drawn around μ as if they had been drawn around 0: their target is
    :math:`N(a; 0, \sigma^2)\, e^{-E(a)/T}` wherever the search stands, which prices actions at
    :math:`\tfrac{T}{2} a^\top \Sigma^{-1} a`. It is not here: what actions cost is the energy's to say, the Gaussian
    moves along with the mean, and iterations go on downhill. For theirs, do one iteration and add
    :math:`T \mu^\top \Sigma^{-1} (a - \mu)` to the energy, μ being the start; from a start of 0 the two are the same.

    Args:
        energy: E(actions); called without a graph on (samples + 1, ..., H, A), of which the first is the mean.
        start: the first mean, (..., H, A); left as it is.
        spread: σ, in units of the actions, the same in all iterations: a number or what broadcasts to ``start``.
        samples: S, how many plans each iteration draws.
        temperature: T > 0, in units of the energy. As T → ∞ all samples count alike, as T → 0 only the best one does.
        iterations: how often.
        hold: as in :func:`cem`.
        bounds: (low, high), numbers or (A,); samples beyond are moved onto them before their energy is taken.
        generator: where the noise comes from.

    Returns:
        A Plan; ``centre`` is the mean, which is what Williams et al. execute, and ``effective`` the number of samples
        that count, by :func:`effective_sample_size`.

    Raises:
        ValueError: bad arguments; an energy of the wrong shape or not finite.

    Source: Williams, Wagener, Goldfain, Drews, Rehg, Boots and Theodorou, Information theoretic MPC for model-based
    reinforcement learning (ICRA 2017), algorithm 2; Williams, Drews, Goldfain, Rehg and Theodorou,
    Information-Theoretic Model Predictive Control (IEEE Transactions on Robotics 34, 2018).

    >>> goal = torch.tensor([[1.0], [3.0]])
    >>> plan = mppi(lambda a: (a - goal).square().sum((-2, -1)), torch.zeros(2, 1), spread=0.5, temperature=0.01,
    ...             bounds=(-2, 2), generator=torch.Generator().manual_seed(0))
    >>> plan.actions.round(decimals=1)
    tensor([[1.],
            [2.]])
    """

    def refit(drawn: Tensor, energies: Tensor, centre: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weights = plan_weights(energies, temperature)
        return (weights[..., None, None] * drawn).sum(0), deviation, effective_sample_size(weights)

    require_positive("temperature", temperature)
    return search(energy, start, refit, spread, samples, iterations, hold, bounds, generator)


def plan_weights(energies: Tensor, temperature: float) -> Tensor:
    r"""How much each of S plans counts: the Gibbs distribution over them.

    .. math:: w_s = \frac{e^{-E_s/T}}{\sum_r e^{-E_r/T}}

    Args:
        energies: (S, ...).
        temperature: T > 0, in units of the energy.

    Returns:
        Weights that sum to 1 over the first dimension, (S, ...).

    Raises:
        ValueError: no plans, energies that are not finite, a temperature that is not positive.

    >>> plan_weights(torch.tensor([1.0, 2.0, 1.0]), temperature=0.1).round(decimals=4)
    tensor([0.5000, 0.0000, 0.5000])
    """
    require_positive("temperature", temperature)
    if energies.ndim == 0 or len(energies) == 0:
        raise ValueError(f"energies must be (S, ...) with at least one plan, got shape {tuple(energies.shape)}")
    require_finite("energies", energies)
    return torch.softmax((energies.amin(0) - energies) / temperature, 0)  # the difference first: no overflow


def effective_sample_size(weights: Tensor) -> Tensor:
    r"""How many equal weights would average as well as these do.

    .. math:: \text{ESS} = \frac{1}{\sum_s w_s^2}

    Args:
        weights: (S, ...), at least 0, with sum 1 over the first dimension.

    Returns:
        From 1, where one sample has all the weight, to S, where all weigh the same, (...).

    Raises:
        ValueError: weights that are negative, or do not sum to 1.

    Source: Kong, Liu and Wong, Sequential Imputations and Bayesian Missing Data Problems (JASA 89, 1994).

    >>> effective_sample_size(torch.tensor([0.5, 0.5, 0.0]))
    tensor(2.)
    """
    if has_values(weights):
        total = weights.sum(0)
        if weights.ndim == 0 or not (weights >= 0).all() or not torch.allclose(total, torch.ones_like(total), 1e-3):
            raise ValueError("weights must be at least 0 and sum to 1 over the first dimension")
    return weights.square().sum(0).reciprocal()
