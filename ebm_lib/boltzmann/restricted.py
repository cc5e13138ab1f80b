"""The restricted Boltzmann machine: two layers that see each other, and not themselves."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ebm_lib.boltzmann.units import SPREAD, coins_of, log_sum, require_units
from ebm_lib.energy import Energy
from ebm_lib.nn import init_
from ebm_lib.require import require_count, require_finite, require_positive
from ebm_lib.sampling.annealed import annealed_importance, fraction_list


class PartitionEstimate(NamedTuple):
    """A partition function by annealed importance sampling.

    Attributes:
        log_partition: the estimate of log Z, ().
        standard_error: of it, ().
        effective_samples: how many chains' worth of even weights, ().
    """

    log_partition: Tensor
    standard_error: Tensor
    effective_samples: Tensor


class RBM(nn.Module):
    r"""Restricted Boltzmann machine: no weights within a layer, so each layer is independent given the other.

    .. math::
        E(v, h) = -h^\top W v - a^\top v - b^\top h, \qquad
        F_\beta(v) = -a^\top v - \tfrac1\beta \sum_j \log\!\left(1 + e^{\beta (W v + b)_j}\right)

    Train it by gradient descent on ``rbm.free_energy(v).mean() - rbm.free_energy(negatives).mean()``, with negatives
    from :meth:`contrastive_divergence`.

    Args:
        visible: number of visible units.
        hidden: number of hidden units.
        generator: where the weights come from, N(0, 0.01²); biases start at 0 (see :func:`log_odds`).
        device: where the parameters live.
        dtype: their dtype.

    Attributes:
        weight: W, (hidden, visible).
        visible_bias: a, (visible,).
        hidden_bias: b, (hidden,).

    Raises:
        ValueError: bad numbers of units; in every method, another last dimension or values that are not finite.

    Source: LeCun, Deep Learning (NYU), notes of lecture 05L, on how restricted Boltzmann machines are trained.
        Smolensky, Information processing in dynamical systems: foundations of harmony theory (1986); Hinton, A
        practical guide to training restricted Boltzmann machines (2010).

    >>> rbm = RBM(4, 3, generator=torch.Generator().manual_seed(0))
    >>> rbm.free_energy(torch.zeros(4)).detach()  # -log 2 for each hidden unit
    tensor(-2.0794)
    """

    def __init__(
        self,
        visible: int,
        hidden: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.visible, self.hidden = require_count("visible", visible), require_count("hidden", hidden)
        self.weight = nn.Parameter(torch.empty(hidden, visible, device=device, dtype=dtype))
        self.visible_bias = nn.Parameter(torch.empty(visible, device=device, dtype=dtype))
        self.hidden_bias = nn.Parameter(torch.empty(hidden, device=device, dtype=dtype))
        init_(self, generator)

    def reset_parameters(self) -> None:
        """Draw the weights anew, and set the biases to 0."""
        self.weight.normal_(0.0, SPREAD)
        self.visible_bias.fill_(0.0)
        self.hidden_bias.fill_(0.0)

    def energy(self, v: Tensor, h: Tensor) -> Tensor:
        """E(v, h): (..., visible) and (..., hidden) give (...), their leading dimensions broadcast."""
        v, h = require_units("v", v, self.visible), require_units("h", h, self.hidden)
        return -(h * F.linear(v, self.weight)).sum(-1) - v @ self.visible_bias - h @ self.hidden_bias

    def forward(self, v: Tensor, h: Tensor) -> Tensor:
        """The energy: see :meth:`energy`."""
        return self.energy(v, h)

    def infer(self, v: Tensor) -> Tensor:
        """The hidden units of lowest energy, argmin_h E(v, h): each is on where that lowers the energy."""
        return (self._drive(require_units("v", v, self.visible)) > 0).to(v.dtype)

    # Unchecked: what the loops below call.
    def _drive(self, v: Tensor) -> Tensor:
        return F.linear(v, self.weight, self.hidden_bias)

    def _hidden_logit(self, v: Tensor, beta: float) -> Tensor:
        return beta * self._drive(v)

    def _visible_logit(self, h: Tensor, beta: float) -> Tensor:
        return beta * (h @ self.weight + self.visible_bias)

    # Checked: what the public methods call.
    def _checked_hidden_logit(self, v: Tensor, beta: float) -> Tensor:
        return self._hidden_logit(require_units("v", v, self.visible), require_positive("beta", beta))

    def _checked_visible_logit(self, h: Tensor, beta: float) -> Tensor:
        return self._visible_logit(require_units("h", h, self.hidden), require_positive("beta", beta))

    def free_energy(self, v: Tensor, beta: float = 1.0) -> Tensor:
        """F_β(v), (..., visible) gives (...); ``beta=inf`` is the minimum over the hidden units."""
        require_positive("beta", beta, allow_inf=True)
        drive = self._drive(require_units("v", v, self.visible))
        soft = F.relu(drive) if math.isinf(beta) else _soft(beta * drive) / beta
        return -(v @ self.visible_bias) - soft.sum(-1)

    def hidden_probability(self, v: Tensor, beta: float = 1.0) -> Tensor:
        """P(h_j = 1 | v) = σ(β(Wv + b)_j), (..., hidden)."""
        return torch.sigmoid(self._checked_hidden_logit(v, beta))

    def visible_probability(self, h: Tensor, beta: float = 1.0) -> Tensor:
        """P(v_i = 1 | h) = σ(β(Wᵀh + a)_i), (..., visible)."""
        return torch.sigmoid(self._checked_visible_logit(h, beta))

    @torch.no_grad()
    def sample_hidden(self, v: Tensor, beta: float = 1.0, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw the hidden units given the visible ones: zeros and ones, (..., hidden)."""
        return coins_of(self._checked_hidden_logit(v, beta), generator)

    @torch.no_grad()
    def sample_visible(self, h: Tensor, beta: float = 1.0, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw the visible units given the hidden ones: zeros and ones, (..., visible)."""
        return coins_of(self._checked_visible_logit(h, beta), generator)

    @torch.no_grad()
    def gibbs(self, v: Tensor, *, sweeps: int, beta: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Block Gibbs sampling: hidden given visible, then visible given hidden, ``sweeps`` times.

        To keep the path, hand :meth:`sample_hidden` and :meth:`sample_visible` to :func:`ebm_lib.sampling.gibbs`.

        Args:
            v: where the chains start, (..., visible); left as it is.
            sweeps: how often.
            beta: inverse temperature.
            generator: where the coins come from.

        Returns:
            The visible units, (..., visible).
        """
        v = require_units("v", v, self.visible)
        require_positive("beta", beta)
        for _ in range(require_count("sweeps", sweeps)):
            h = coins_of(self._hidden_logit(v, beta), generator)
            v = coins_of(self._visible_logit(h, beta), generator)
        return v

    def contrastive_divergence(
        self, start: Tensor, k: int = 1, *, beta: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""The negatives of CD-k: ``k`` sweeps of Gibbs sampling away from ``start``, without a gradient.

        .. math:: \nabla\left( \langle F\rangle_\text{data} - \langle F\rangle_\text{negatives} \right)

        With ``start`` the data it is contrastive divergence: fast, and blind to wells far from the data. With
        ``start`` the last negatives it is persistent contrastive divergence, whose chains go on to find those. As
        k → ∞ both give the gradient of the likelihood.

        Args:
            start: (B, visible), the data, or the last call's result.
            k: sweeps.
            beta: inverse temperature.
            generator: where the coins come from.

        Returns:
            (B, visible).

        Source: Hinton, Training products of experts by minimizing contrastive divergence (Neural Computation 14,
            2002); Tieleman (ICML 2008).
        """
        return self.gibbs(start, sweeps=require_count("k", k), beta=beta, generator=generator)

    def log_partition(self, beta: float = 1.0) -> Tensor:
        """Log Z, one layer summed out and the smaller one enumerated (at most 20 units), differentiable."""
        require_positive("beta", beta)
        if self.visible <= self.hidden:
            return log_sum(lambda v: self.free_energy(v, beta), self.visible, beta, self.visible_bias)

        def other_side(h: Tensor) -> Tensor:
            drive = h @ self.weight + self.visible_bias
            return -(h @ self.hidden_bias) - _soft(beta * drive).sum(-1) / beta

        return log_sum(other_side, self.hidden, beta, self.hidden_bias)

    def log_likelihood(self, v: Tensor, beta: float = 1.0, *, log_partition: Tensor | None = None) -> Tensor:
        """Log P(v) = −βF_β(v) − log Z of each sample, with log Z exact or, if it is given, as given."""
        log_z = self.log_partition(beta) if log_partition is None else log_partition
        return -beta * self.free_energy(v, beta) - log_z

    @torch.no_grad()
    def estimate_log_partition(
        self,
        base: Tensor,
        *,
        chains: int = 100,
        fractions: Sequence[float] | Tensor | int = 1000,
        samples: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> PartitionEstimate:
        r"""Log Z by annealed importance sampling from independent units of the data's rates, at β = 1.

        .. math::
            F_t(v) = -(1 - t)\,a_0^\top v - t\,a^\top v - \sum_j \log\!\left(1 + e^{t (W v + b)_j}\right), \qquad
            Z_0 = 2^{\text{hidden}} \prod_i \left(1 + e^{a_{0,i}}\right)

        The estimate of log Z is too small on average, as every chain may have missed where the mass is. Run backwards
        from samples of the model the same walk gives one that is too large on average; when the two agree, both are
        right.

        Args:
            base: a₀, (visible,): :func:`log_odds` of the data. The nearer to the data, the evener the weights.
            chains: how many.
            fractions: t from 0 to 1, or how many equal steps.
            samples: (C, visible) samples of the model, to walk backwards from; then ``chains`` is not used. What long
                chains from the data give is only nearly such a sample.
            generator: where the samples come from.

        Raises:
            ValueError: a ``base`` of another shape or not finite; bad ``samples`` or ``fractions``.

        Source: Salakhutdinov and Murray, On the quantitative analysis of deep belief networks (ICML 2008), section
            4.1. Backwards: Grosse, Ghahramani and Adams, Sandwiching the marginal likelihood using bidirectional
            Monte Carlo (2015).
        """
        require_count("chains", chains)
        if base.shape != self.visible_bias.shape:
            raise ValueError(f"base must have shape {tuple(self.visible_bias.shape)}, got {tuple(base.shape)}")
        base = require_finite("base", base).to(self.visible_bias)

        def visible_bias(t: float) -> Tensor:
            return (1 - t) * base + t * self.visible_bias

        last: list[Tensor] = []  # the energy before a change, the one after it and the move ask for the same product

        def drive(v: Tensor) -> Tensor:
            if not last or last[0] is not v:
                last[:] = v, self._drive(v)
            return last[1]

        def path(t: float) -> Energy:
            return lambda v: -(v @ visible_bias(t)) - _soft(t * drive(v)).sum(-1)

        def sweep(t: float, v: Tensor, generator: torch.Generator | None) -> Tensor:
            h = coins_of(t * drive(v), generator)
            return coins_of(visible_bias(t) + t * (h @ self.weight), generator)

        log_z0 = self.hidden * math.log(2) + _soft(base).sum()
        if samples is not None:
            found = annealed_importance(
                lambda s: path(1 - s),
                require_units("samples", samples, self.visible),
                lambda s, v, generator: sweep(1 - s, v, generator),
                fractions=[1 - t for t in reversed(fraction_list(fractions))],
                generator=generator,
            )
            return PartitionEstimate(log_z0 - found.log_ratio, found.standard_error, found.effective_samples)
        start = coins_of(base.expand(chains, -1), generator)
        found = annealed_importance(path, start, sweep, fractions=fractions, generator=generator)
        return PartitionEstimate(log_z0 + found.log_ratio, found.standard_error, found.effective_samples)


def _soft(x: Tensor) -> Tensor:
    """log(1 + exp x): torch's softplus is x from 20 on by default, where float64 can tell them apart."""
    return F.softplus(x, threshold=40.0 if x.dtype == torch.float64 else 20.0)
