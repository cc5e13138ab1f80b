r"""Many futures for one past: a conditional variational auto-encoder with latent drop-out, and how to judge it.

.. math::

    h = \text{Pred}(x), \qquad E(x, y, z) = \lVert y - \text{Dec}(h, z) \rVert^2, \qquad
    q(z \mid x, y) = \mathcal N(m, \operatorname{diag} s^2), \quad (m, \log s^2) = \text{Enc}(x, y)

A regression from x to y is the same network with z = 0 throughout, and answers the mean of the futures, which may be
none of them.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ebm_lib.data.draw import normal
from ebm_lib.latent.model import require_data, require_decoded, require_last
from ebm_lib.latent.variational.bound import Bound, ImportanceBound, importance_bound
from ebm_lib.latent.variational.descent import descend
from ebm_lib.latent.variational.gaussian import DiagonalGaussian, mean_estimate, reparameterize
from ebm_lib.latent.variational.learning import bound_objective, information_terms
from ebm_lib.latent.variational.shapes import joined, leading
from ebm_lib.nn import MLP, random_mask
from ebm_lib.require import require_count, require_points, require_positive
from ebm_lib.train import History, fit


class ConditionalVAE(nn.Module):
    r"""A variational auto-encoder of y given x, whose latent variable is dropped for a share of the samples.

    A kept sample's loss is its bound, :math:`\langle E \rangle_q + \mathrm{KL}/\beta`; a dropped sample's is
    :math:`E(x, y, 0)`, and its q costs nothing as nothing is drawn from it. The decoder thus learns to predict what it
    can from x alone, and z is left to say what x does not. (The code published with the paper draws a dropped z from
    the prior instead.)

    Args:
        Dx: dimensions of x.
        Dy: dimensions of y.
        L: dimensions of z.
        beta: inverse temperature, > 0 and finite.
        dropout: share of the samples whose z is 0 in learning, from 0 to 1. With 1 the model is a deterministic
            predictor: the encoder is not trained, and :meth:`predict` is the regression.
        features: dimensions of h.
        hidden: widths of the hidden layers of each perceptron.
        predictor: any module (..., Dx) → (..., features), in place of a perceptron.
        encoder: any module (..., Dx + Dy) → (..., 2 L), of x and y side by side, to m and then log s².
        decoder: any module (..., features + L) → (..., Dy), of h and z side by side.
        activation: the perceptrons'.
        generator: draws their weights.
        device: where they live.
        dtype: their dtype.

    Attributes:
        predictor: Pred.
        encoder: Enc.
        decoder: Dec.
        beta: as given.
        dropout: as given.

    Raises:
        ValueError: sizes or options out of range; in every method, data of another shape or not finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Conditional VAE + Drop Out"; Sohn, Lee
    and Yan, Learning structured output representation using deep conditional generative models (NIPS 2015); Henaff,
    Canziani and LeCun, Model-predictive policy learning with uncertainty regularization (ICLR 2019).

    >>> model = ConditionalVAE(3, 2, 1, beta=10.0, hidden=(8,), generator=torch.Generator().manual_seed(0))
    >>> model.futures(torch.zeros(5, 3), 7).shape, model.predict(torch.zeros(5, 3)).shape
    (torch.Size([5, 7, 2]), torch.Size([5, 2]))
    """

    def __init__(
        self,
        Dx: int,
        Dy: int,
        L: int,
        *,
        beta: float,
        dropout: float = 0.5,
        features: int = 64,
        hidden: tuple[int, ...] = (128,),
        predictor: nn.Module | None = None,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        activation: str = "silu",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.Dx, self.Dy, self.L = require_count("Dx", Dx), require_count("Dy", Dy), require_count("L", L)
        require_count("features", features)
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout must be a share of the samples, from 0 to 1, got {dropout}")
        self.beta, self.dropout = require_positive("beta", beta), dropout
        made = {"activation": activation, "generator": generator, "device": device, "dtype": dtype}
        self.predictor = MLP((Dx, *hidden, features), **made) if predictor is None else predictor
        self.encoder = MLP((Dx + Dy, *hidden, 2 * L), **made) if encoder is None else encoder
        self.decoder = MLP((features + L, *reversed(hidden), Dy), **made) if decoder is None else decoder

    def encode(self, x: Tensor, y: Tensor) -> DiagonalGaussian:
        """q(z|x, y): m and s, each (..., L), for x (..., Dx) and y (..., Dy)."""
        out = self.encoder(joined(x=require_last("x", x, self.Dx), y=require_last("y", y, self.Dy)))
        if out.shape[-1] != 2 * self.L:
            raise ValueError(f"encoder must return (..., {2 * self.L}), m and log s², got {tuple(out.shape)}")
        mean, log_var = out.chunk(2, -1)
        return DiagonalGaussian(mean, (log_var / 2).exp())

    def decode(self, x: Tensor, z: Tensor) -> Tensor:
        """ȳ = Dec(Pred(x), z), (..., Dy), for x (..., Dx) and z (..., L), whose leading dimensions broadcast."""
        both = joined(x=self.predictor(require_last("x", x, self.Dx)), z=require_last("z", z, self.L))
        return require_decoded(self.decoder(both), self.Dy, both)

    def energy(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """E(x, y, z), (...), the squared error, for x (..., Dx), y (..., Dy) and z (..., L)."""
        return (require_last("y", y, self.Dy) - self.decode(x, z)).square().sum(-1)

    def predict(self, x: Tensor) -> Tensor:
        """Dec(Pred(x), 0), (..., Dy): the future without anything known of it."""
        return self.decode(x, x.new_zeros(self.L))

    def futures(self, x: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Several futures of each x (..., Dx), (..., n, Dy): z drawn from the prior, without the model's noise on y.

        With ``dropout=1`` the decoder never learned what to do with a z: all futures are then :meth:`predict`'s.
        """
        shape = (*require_last("x", x, self.Dx).shape[:-1], require_count("n", n), self.L)
        z = normal(shape, generator, x.dtype, x.device)
        return self.decode(x.unsqueeze(-2), torch.zeros_like(z) if self.dropout == 1 else z)

    def infer(self, x: Tensor, y: Tensor, *, steps: int = 100) -> Tensor:
        """ž of low E(x, y, z), (..., L), by :func:`descend` from the encoder's mean; no gradient flows through."""
        with torch.no_grad():
            start = self.encode(x, y).mean
        return descend(lambda z: self.energy(x, y, z), start, steps=steps)

    def bound(
        self,
        x: Tensor,
        y: Tensor,
        *,
        samples: int = 1,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Bound:
        """F̃(x, y) of the encoder's q, in its parts, with K = ``samples`` draws and no latent drop-out."""
        mean, std = self.encode(x, y)
        z = reparameterize(mean, std, samples=require_count("samples", samples), noise=noise, generator=generator)
        mean_energy, error = mean_estimate(self.energy(x.unsqueeze(-2), y.unsqueeze(-2), z), -1)
        information = information_terms(mean, std)
        return Bound(mean_energy + information.sum(-1) / self.beta, mean_energy, information, error)

    def importance(
        self,
        x: Tensor,
        y: Tensor,
        beta: float | None = None,
        *,
        samples: int = 100,
        repeats: int = 1,
        generator: torch.Generator | None = None,
    ) -> ImportanceBound:
        """F_β(x, y), (...), by importance weighting with the encoder as proposal: :func:`importance_bound`."""
        around = x.unsqueeze(-2)
        return importance_bound(
            lambda y, z: self.energy(around, y, z),
            y,
            *self.encode(x, y),
            self.beta if beta is None else beta,
            samples=samples,
            repeats=repeats,
            generator=generator,
        )

    def free_energy(
        self,
        x: Tensor,
        y: Tensor,
        beta: float | None = None,
        *,
        samples: int = 100,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """F_β(x, y), (...), an estimate by draws as in :meth:`importance`; at β = ∞, E at :meth:`infer`'s ž."""
        if beta is not None and math.isinf(require_positive("beta", beta, allow_inf=True)):
            return self.energy(x, y, self.infer(x.detach(), y.detach()))
        return self.importance(x, y, beta, samples=samples, generator=generator).free_energy

    forward = free_energy

    def learn(
        self,
        x: Tensor,
        y: Tensor,
        *,
        lr: float | None = None,
        batch_size: int | None = 128,
        samples: int = 1,
        warmup: int = 0,
        free_bits: float = 0.0,
        generator: torch.Generator | None = None,
        progress: bool = False,
        **options: Any,
    ) -> History:
        """Lower the mean bound of the data, with latent drop-out.

        Args:
            x: (N, Dx), N ≥ 2.
            y: (N, Dy).
            lr: Adam's learning rate; 1e-3 if neither it nor an ``optimizer`` is given.
            batch_size: samples a step, at least 2; None takes all.
            samples: draws from each q.
            warmup: as :meth:`VAE.learn`.
            free_bits: as :meth:`VAE.learn`.
            generator: batches, draws and drop-out.
            progress: show a bar.
            options: of :func:`ebm_lib.train.fit`; ``steps`` or ``epochs`` is needed.

        Returns:
            The history; ``metrics`` hold ``energy`` and ``information``, in all and of each dimension, over the batch's
            kept samples, and ``alone``, E(x, y, 0) of the dropped ones; 0 where there were none.

        Raises:
            ValueError: unequal numbers of x and y, fewer than two, a batch of one, options out of range.
        """
        require_data(x, self.Dx, minimum=2, name="x")
        require_data(y, self.Dy, minimum=2)
        if batch_size is not None:
            require_count("batch_size", batch_size, minimum=2)
        objective, clock = bound_objective(
            self.beta, samples=samples, warmup=warmup, free_bits=free_bits, generator=generator
        )

        def of_batch(model: ConditionalVAE, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            dropped = random_mask(x.shape[:1], model.dropout, generator=generator, device=x.device)
            share = dropped.to(x.dtype).mean()
            zero = x.new_zeros(())
            parts = {"loss": zero, "energy": zero, "information": zero}
            parts |= {f"information_{i}": zero for i in range(model.L)}
            kept_x, kept_y = x[~dropped], y[~dropped]
            if len(kept_x):
                around = kept_x.unsqueeze(-2), kept_y.unsqueeze(-2)
                parts = objective(lambda z: model.energy(*around, z), *model.encode(kept_x, kept_y))
            else:
                clock.step += 1
            alone = zero
            if len(kept_x) < len(x):
                alone = model.energy(x[dropped], y[dropped], x.new_zeros(model.L)).mean()
            return {**parts, "loss": (1 - share) * parts["loss"] + share * alone, "alone": alone}

        options["stateful"] = [clock, *options.get("stateful", ())]
        return fit(
            self, of_batch, (x, y), lr=lr, batch_size=batch_size, generator=generator, progress=progress, **options
        )


def best_of(futures: Tensor, y: Tensor) -> Tensor:
    r"""Squared error of the best of several predictions.

    .. math:: \min_k \lVert y - \bar y_k \rVert^2

    It falls with the number of predictions for any model that varies; compare models at the same number.

    Args:
        futures: ȳ, (..., K, D).
        y: what came, (..., D).

    Returns:
        (...).

    Raises:
        ValueError: no predictions, shapes that do not fit, values not finite.

    >>> best_of(torch.tensor([[0.0], [3.0]]), torch.tensor([2.0]))
    tensor(1.)
    """
    return _errors(futures, require_points("y", y).unsqueeze(-2)).amin(-2).squeeze(-1)


def coverage(futures: Tensor, truths: Tensor, tolerance: float) -> Tensor:
    r"""Share of the possible futures that some prediction comes close to.

    .. math:: \frac{1}{M} \bigl\lvert \{ j : \min_k \lVert y_j - \bar y_k \rVert^2 \le \tau \} \bigr\rvert

    Args:
        futures: predictions, (..., K, D).
        truths: all the futures that can come, (..., M, D).
        tolerance: τ, a squared distance, > 0.

    Returns:
        (...), from 0 to 1.

    Raises:
        ValueError: nothing to compare, shapes that do not fit, values not finite, a tolerance that is not positive.

    >>> coverage(torch.tensor([[0.1], [0.2]]), torch.tensor([[0.0], [1.0]]), 0.05)
    tensor(0.5000)
    """
    require_positive("tolerance", tolerance)
    close = _errors(futures, truths).amin(-2) <= tolerance
    return close.to(futures.dtype).mean(-1)


def sharpness(pictures: Tensor, shape: tuple[int, ...]) -> Tensor:
    r"""How much neighbouring pixels differ: the squared slope of a picture, summed. A blur lowers it.

    .. math:: \sum_{i,j} (y_{i+1,j} - y_{i,j})^2 + (y_{i,j+1} - y_{i,j})^2

    Args:
        pictures: (..., D), D the product of ``shape``.
        shape: of one, (..., height, width); frames before height are summed too.

    Returns:
        (...), in squared units of a pixel.

    Raises:
        ValueError: a shape of fewer than two dimensions or another size than D, values not finite.

    >>> sharpness(torch.tensor([0.0, 1.0, 0.0, 1.0]), (2, 2))
    tensor(2.)
    """
    require_points("pictures", pictures)
    if len(shape) < 2 or min(shape) < 1 or math.prod(shape) != pictures.shape[-1]:
        raise ValueError(f"shape must be (..., height, width) of {pictures.shape[-1]} pixels in all, got {shape}")
    y = pictures.unflatten(-1, shape)
    return (y.diff(dim=-1).square().flatten(-len(shape)).sum(-1)) + y.diff(dim=-2).square().flatten(-len(shape)).sum(-1)


def _errors(futures: Tensor, truths: Tensor) -> Tensor:
    """Squared distances of K predictions from M truths, (..., K, M)."""
    require_points("futures", futures)
    require_points("truths", truths)
    sizes = futures.ndim > 1 and truths.ndim > 1 and futures.shape[-1] == truths.shape[-1]
    if not sizes or 0 in (futures.shape[-2], truths.shape[-2]):
        raise ValueError(
            "futures must be (..., K, D) with at least one prediction, of the same D as what came, and that at least "
            f"one too, got shapes {tuple(futures.shape)} and {tuple(truths.shape)}"
        )
    leading(futures=futures[..., 0, :], truths=truths[..., 0, :])
    # Differences, not inner products: a small distance between large vectors keeps its digits.
    return torch.stack([(futures - one.unsqueeze(-2)).square().sum(-1) for one in truths.unbind(-2)], -1)
