r"""The variational auto-encoder: an encoder that answers with a fuzzy ball, and a decoder that must do with any point.

.. math::

    E(y, z) = C(y, \text{Dec}(z)), \qquad q(z \mid y) = \mathcal N\bigl(m(y), \operatorname{diag} s(y)^2\bigr), \qquad
    \mathcal L = \tilde F(y) = \langle E(y, z) \rangle_q + \tfrac1\beta\,\mathrm{KL}\bigl(q(z \mid y) \Vert p(z)\bigr)

β is the inverse temperature. A β-VAE weighs the information by :math:`\beta_H` beside −log p(y|z) (Higgins and others,
ICLR 2017). With the squared error and a noise of variance σ², :math:`\beta_H = 1/(2\sigma^2\beta)`; with the
cross-entropy, :math:`\beta_H = 1/\beta`. A low β here is a high :math:`\beta_H`: little information.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ebm_lib.data.draw import coins, normal
from ebm_lib.latent.model import blocks, require_data, require_decoded, require_last
from ebm_lib.latent.variational.bound import Bound, ImportanceBound, importance_bound
from ebm_lib.latent.variational.descent import descend
from ebm_lib.latent.variational.gaussian import DiagonalGaussian, Estimate, mean_estimate, reparameterize
from ebm_lib.latent.variational.learning import bound_objective, information_terms
from ebm_lib.nn import MLP
from ebm_lib.require import has_values, require_choice, require_count, require_positive
from ebm_lib.train import History, fit

COSTS = ("squared", "bernoulli")


class ActiveUnits(NamedTuple):
    """Which dimensions of the code answer to the data.

    Attributes:
        variance: of m_i(y) over the data, (L,): 0 for a dimension that has collapsed onto the prior.
        active: variance above the threshold, (L,), bool.
    """

    variance: Tensor
    active: Tensor


class VAE(nn.Module):
    r"""A variational auto-encoder.

    The cost C is the squared error ‖y − ȳ‖², with which the model says that y is ȳ plus Gaussian noise of variance
    1/2β; or the cross-entropy :math:`-\sum_i y_i \log \bar y_i + (1 - y_i) \log(1 - \bar y_i)` for y in [0, 1], which
    is −log P(y|z) where y is 0 or 1.

    Args:
        D: dimensions of y.
        L: dimensions of z.
        beta: inverse temperature, > 0 and finite.
        hidden: widths of the encoder's hidden layers; the decoder has them the other way round.
        encoder: any module (..., D) → (..., 2 L), m and then log s², in place of the perceptron.
        decoder: any module (..., L) → (..., D): ȳ, or its logits with the cross-entropy.
        cost: ``"squared"`` or ``"bernoulli"``.
        activation: the perceptrons'.
        generator: draws the perceptrons' weights.
        device: where they live.
        dtype: their dtype.

    Attributes:
        encoder: the module.
        decoder: the module.
        beta: as given.
        cost: as given.

    Raises:
        ValueError: sizes or options out of range; in every method, data of another shape, not finite, or outside
            [0, 1] with the cross-entropy, and networks that return another shape.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Variational Auto-Encoder"; LeCun, From
    Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Variational Auto-Encoder"; Kingma and
    Welling, Auto-Encoding Variational Bayes (ICLR 2014).

    >>> model = VAE(4, 2, beta=10.0, hidden=(16,), generator=torch.Generator().manual_seed(0))
    >>> model.bound(torch.zeros(5, 4)).information.shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        D: int,
        L: int,
        *,
        beta: float,
        hidden: tuple[int, ...] = (256,),
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        cost: str = "squared",
        activation: str = "silu",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.D, self.L = require_count("D", D), require_count("L", L)
        self.beta, self.cost = require_positive("beta", beta), require_choice("cost", cost, COSTS)
        made = {"activation": activation, "generator": generator, "device": device, "dtype": dtype}
        self.encoder = MLP((D, *hidden, 2 * L), **made) if encoder is None else encoder
        self.decoder = MLP((L, *reversed(hidden), D), **made) if decoder is None else decoder

    def encode(self, y: Tensor) -> DiagonalGaussian:
        """q(z|y): m and s, each (..., L), for y (..., D)."""
        out = self.encoder(self._data(y))
        if out.shape != (*y.shape[:-1], 2 * self.L):
            raise ValueError(f"encoder must return {(*y.shape[:-1], 2 * self.L)}, m and log s², got {tuple(out.shape)}")
        mean, log_var = out.chunk(2, -1)
        return DiagonalGaussian(mean, (log_var / 2).exp())

    def decode(self, z: Tensor) -> Tensor:
        """ȳ, (..., D), for z (..., L): between 0 and 1 with the cross-entropy."""
        out = self._decoded(z)
        return out.sigmoid() if self.cost == "bernoulli" else out

    def energy(self, y: Tensor, z: Tensor) -> Tensor:
        """E(y, z) = C(y, Dec(z)), (...), for y (..., D) and z (..., L), without the prior's price on z."""
        self._data(y)
        out = self._decoded(z)
        if self.cost == "squared":
            return (y - out).square().sum(-1)
        return (F.softplus(out) - y * out).sum(-1)

    def infer(self, y: Tensor, *, steps: int = 100) -> Tensor:
        """ž of low E(y, z), (..., L), by :func:`descend` from the encoder's mean; no gradient flows through."""
        with torch.no_grad():
            start = self.encode(y).mean
        return descend(lambda z: self.energy(y, z), start, steps=steps)

    def bound(
        self,
        y: Tensor,
        *,
        samples: int = 1,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        analytic: bool = True,
    ) -> Bound:
        r"""F̃(y) of the encoder's q, in its parts.

        Args:
            y: (..., D).
            samples: K draws from each q.
            noise: ξ of the draws, (..., K, L); drawn if None.
            generator: draws ξ.
            analytic: take the information from its closed form; False averages log q − log p over the draws.
        """
        mean, std = self.encode(y)
        z = reparameterize(mean, std, samples=require_count("samples", samples), noise=noise, generator=generator)
        values = self.energy(y.unsqueeze(-2), z)
        per_draw = information_terms(mean, std, None if analytic else z)
        error = mean_estimate(values + (0 if analytic else per_draw.sum(-1) / self.beta), -1).error
        information = per_draw if analytic else per_draw.mean(-2)
        mean_energy = values.mean(-1)
        return Bound(mean_energy + information.sum(-1) / self.beta, mean_energy, information, error)

    def importance(
        self,
        y: Tensor,
        beta: float | None = None,
        *,
        samples: int = 100,
        repeats: int = 1,
        widen: float = 1.0,
        generator: torch.Generator | None = None,
        block_size: int | None = None,
    ) -> ImportanceBound:
        """F_β(y) by importance weighting with the encoder as proposal: :func:`importance_bound`.

        The lowest bound makes q narrower than the posterior, and a proposal that is too narrow has rare draws of huge
        weight: the estimate is then high and its error bar too short. A somewhat wider one, just as valid, avoids it.

        Args:
            y: (..., D).
            beta: another inverse temperature than the model's, finite.
            samples: K.
            repeats: independent estimates, for the error bar.
            widen: multiplies the standard deviations of the proposal, > 0.
            generator: draws.
            block_size: rows of y taken at a time; None keeps K decoded rows within 32 MiB.
        """
        beta, widen = self.beta if beta is None else beta, require_positive("widen", widen)
        flat = self._data(y).reshape(-1, self.D)
        parts = []
        cuts = list(blocks(len(flat), 3 * samples * self.D * flat.element_size(), block_size))
        for cut in cuts or [slice(0)]:  # of no samples there is one block, an empty one
            mean, std = self.encode(flat[cut])
            how = {"samples": samples, "repeats": repeats, "generator": generator}
            parts.append(importance_bound(self.energy, flat[cut], mean, widen * std, beta, **how))
        return ImportanceBound(*(torch.cat(part).reshape(y.shape[:-1]) for part in zip(*parts, strict=True)))

    def free_energy(
        self,
        y: Tensor,
        beta: float | None = None,
        *,
        samples: int = 100,
        generator: torch.Generator | None = None,
        block_size: int | None = None,
    ) -> Tensor:
        """F_β(y), (...), for y (..., D), an estimate by draws as in :meth:`importance`; ∞ is E at :meth:`infer`'s ž."""
        if beta is not None and math.isinf(require_positive("beta", beta, allow_inf=True)):
            return self.energy(y, self.infer(y.detach()))
        return self.importance(y, beta, samples=samples, generator=generator, block_size=block_size).free_energy

    forward = free_energy

    def log_density(
        self,
        y: Tensor,
        *,
        samples: int = 100,
        repeats: int = 1,
        widen: float = 1.0,
        generator: torch.Generator | None = None,
        block_size: int | None = None,
    ) -> Estimate:
        r"""Log p(y), (...), in nats, for y (..., D), with its error: low on average, less so with more samples.

        .. math:: \log p(y) = -\beta F_\beta(y) - \tfrac D2 \log \tfrac\pi\beta \quad\text{(squared error)}, \qquad
            \log P(y) = -F_1(y) \quad\text{(cross-entropy, y of 0 and 1)}

        Raises:
            ValueError: the cross-entropy with β ≠ 1, or values other than 0 and 1: then there is no such probability.
        """
        constant = self.D / 2 * math.log(math.pi / self.beta)
        if self.cost == "bernoulli":
            constant = 0.0
            if self.beta != 1:
                raise ValueError(f"beta must be 1 for the cross-entropy to be minus a log-probability, got {self.beta}")
            if has_values(y) and not ((y == 0) | (y == 1)).all():
                raise ValueError("y must hold zeros and ones only, to have a probability under the cross-entropy")
        how = {"samples": samples, "repeats": repeats, "widen": widen, "generator": generator}
        found = self.importance(y, block_size=block_size, **how)
        return Estimate(-self.beta * found.free_energy - constant, self.beta * found.error)

    def sample(self, n: int, *, noise: bool = True, generator: torch.Generator | None = None) -> Tensor:
        """Draw n points, (n, D), decoded from the prior.

        Args:
            n: how many.
            noise: add the model's own noise, of variance 1/2β, or draw zeros and ones; False returns ȳ.
            generator: draws z and the noise.
        """
        like = next(self.parameters())
        with torch.no_grad():
            y = self.decode(normal((require_count("n", n), self.L), generator, like.dtype, like.device))
            if not noise:
                return y
            if self.cost == "bernoulli":
                return (coins(y.shape, generator, y.dtype, y.device) < y).to(y.dtype)
            return y + normal(y.shape, generator, y.dtype, y.device) / math.sqrt(2 * self.beta)

    def active_units(self, y: Tensor, *, threshold: float = 0.01) -> ActiveUnits:
        r"""Dimensions whose mean moves with y, so that they say something.

        .. math:: A_i = \operatorname{Var}_y\, m_i(y) > \text{threshold}

        Args:
            y: (N, D), N ≥ 2.
            threshold: at least 0.

        Raises:
            ValueError: a batch of one, which has no variance; a negative threshold.

        Source: Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders (ICLR 2016), section 5.2.
        """
        require_data(y, self.D, minimum=2)
        if not threshold >= 0:
            raise ValueError(f"threshold must be at least 0, got {threshold}")
        with torch.no_grad():
            variance = self.encode(y).mean.var(0)
        return ActiveUnits(variance, variance > threshold)

    def learn(
        self,
        y: Tensor,
        *,
        lr: float | None = None,
        batch_size: int | None = 128,
        samples: int = 1,
        importance: bool = False,
        warmup: int = 0,
        free_bits: float = 0.0,
        spring: float = 1.0,
        size: float = 1.0,
        generator: torch.Generator | None = None,
        progress: bool = False,
        **options: Any,
    ) -> History:
        r"""Lower the mean bound of the data.

        .. math:: \mathcal L = \langle E \rangle_q + \frac{a_t}{\beta} \sum_i \max\Bigl(\lambda,\;
            \operatorname*{mean}_b \bigl[k_1 \tfrac12 m_{bi}^2
            + k_2 \bigl(\tfrac12 (s_{bi}^2 - 1) - \log s_{bi}\bigr)\bigr]\Bigr)

        Args:
            y: (N, D), N ≥ 2.
            lr: Adam's learning rate; 1e-3 if neither it nor an ``optimizer`` is given.
            batch_size: samples a step, at least 2; None takes all.
            samples: K draws from each q.
            importance: lower F̃_K instead, the bound with K draws under the logarithm.
            warmup: steps in which a_t rises from 0 to 1 in a straight line, so that dimensions come to use before
                their price does.
            free_bits: λ, nats of each dimension that cost nothing, on the mean of a batch.
            spring: k₁, weight of the pull to the origin. 0 lets the balls fly apart.
            size: k₂, weight of the price of sizes other than 1. With both at 0 it is an auto-encoder.
            generator: batches and draws.
            progress: show a bar.
            options: of :func:`ebm_lib.train.fit`: ``steps`` or ``epochs`` (one of them is needed), ``scheduler``,
                ``callback``, ``checkpoint``, ...

        Returns:
            The history; ``metrics`` hold the batch's ``energy``, its ``information`` (true KL, in nats, whatever the
            weights) and that of each dimension, which :func:`information_history` stacks.

        Raises:
            ValueError: fewer than two samples, a batch of one, no draws, negative options, ``importance`` with weights
                other than 1, a warm-up or free bits.

        Source: Kingma and others, Improved variational inference with inverse autoregressive flow (NeurIPS 2016), for
        free bits; Bowman and others, Generating sentences from a continuous space (CoNLL 2016), for the warm-up; Burda,
        Grosse and Salakhutdinov, Importance Weighted Autoencoders (ICLR 2016).
        """
        self._data(require_data(y, self.D, minimum=2))
        weights = {"warmup": warmup, "free_bits": free_bits, "spring": spring, "size": size}
        loss, clock = bound_objective(self.beta, samples=samples, importance=importance, generator=generator, **weights)
        if batch_size is not None:
            require_count("batch_size", batch_size, minimum=2)

        def of_batch(model: VAE, batch: Tensor) -> dict[str, Tensor]:
            mean, std = model.encode(batch)
            return loss(lambda z: model.energy(batch.unsqueeze(-2), z), mean, std)

        options["stateful"] = [clock, *options.get("stateful", ())]
        return fit(self, of_batch, y, lr=lr, batch_size=batch_size, generator=generator, progress=progress, **options)

    def _data(self, y: Tensor) -> Tensor:
        require_last("y", y, self.D)
        if self.cost == "bernoulli" and has_values(y) and ((y < 0) | (y > 1)).any():
            raise ValueError(f"y must lie in [0, 1] for the cross-entropy, got {y.min():.3g} to {y.max():.3g}")
        return y

    def _decoded(self, z: Tensor) -> Tensor:
        return require_decoded(self.decoder(require_last("z", z, self.L)), self.D, z)
