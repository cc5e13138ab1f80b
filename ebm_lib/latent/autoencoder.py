r"""Auto-encoders: energies without a free latent variable, since the code is computed.

.. math:: F(y) = \lVert y - \text{Dec}(\text{Enc}(y)) \rVert^2

Their capacity is limited by a bottleneck, by extra linear layers that make gradient descent prefer a code of few
dimensions, or by a penalty while learning (:mod:`ebm_lib.latent.regularized_autoencoder`).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from ebm_lib import train
from ebm_lib.latent.model import require_data, require_decoded, require_last
from ebm_lib.nn import MLP, init_
from ebm_lib.require import require_choice, require_count, require_positive

CODES: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda a: a,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": functional.relu,
    "saturated": functional.hardtanh,
    "shrink": lambda a: functional.softshrink(a, 1.0),
}


class AutoEncoder(nn.Module):
    r"""An auto-encoder, its capacity limited by the size of its code.

    .. math::

        a = \text{Enc}_w(y), \qquad \bar z = M_n \cdots M_1\, f(a), \qquad
        F(y) = \lVert y - \text{Dec}(\bar z) \rVert^2

    Linear layers :math:`M` after the encoder add nothing to what it can compute, yet gradient descent through them
    prefers matrices of low rank: the code fills fewer dimensions than it has (implicit rank minimisation).

    Args:
        D: dimensions of y.
        K: dimensions of the code.
        hidden: widths of the encoder's hidden layers; the decoder's are the same in reverse.
        code: f, a key of ``CODES``: ``"linear"``, ``"sigmoid"``, ``"tanh"``, ``"relu"``, ``"saturated"`` (clipped at
            -1 and 1) or ``"shrink"`` (0 from -1 to 1).
        extra_linear: n, how many square linear layers follow the encoder, without offset.
        weights: ``"free"``; ``"tied"``, the decoder is the encoder's transpose, which takes ``hidden=()``; or
            ``"unit"``, a linear decoder with columns of length one. The last two stop a penalty on the code from
            being evaded by a smaller code and a larger decoder.
        encoder: any module (..., D) → (..., K) in place of the perceptron.
        decoder: any module (..., K) → (..., D) in place of the perceptron; with ``weights="free"``.
        activation: of the perceptrons' hidden layers.
        generator: draws the weights (see :func:`ebm_lib.nn.init_`).
        device: where they live.
        dtype: their dtype.

    Attributes:
        encoder: the module that computes a.
        linears: the extra layers.
        decoder: the module, or None if tied.

    Raises:
        ValueError: a size below 1, an unknown name, tied weights with hidden layers or with a module of one's own.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Auto-Encoder with Bottleneck"; Jing,
    Zbontar and LeCun, Implicit rank-minimizing autoencoder (NeurIPS 2020), the effective dimension of LeCun, From
    Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Regularized Latent Variable EBM".

    >>> model = AutoEncoder(2, 1, (16,), generator=torch.Generator().manual_seed(0))
    >>> model(torch.zeros(5, 2)).shape, model.encode(torch.zeros(5, 2)).shape
    (torch.Size([5]), torch.Size([5, 1]))
    """

    def __init__(
        self,
        D: int,
        K: int,
        hidden: Sequence[int] = (64,),
        *,
        code: str = "linear",
        extra_linear: int = 0,
        weights: str = "free",
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        activation: str = "softplus",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.D, self.K, hidden = require_count("D", D), require_count("K", K), tuple(hidden)
        self.code = require_choice("code", code, CODES)
        self.weights = require_choice("weights", weights, ("free", "tied", "unit"))
        require_count("extra_linear", extra_linear, minimum=0)
        if self.weights == "tied" and (hidden or encoder is not None or extra_linear):
            raise ValueError("weights='tied' transposes a single layer: give hidden=(), no encoder, no extra_linear")
        if self.weights != "free" and decoder is not None:
            raise ValueError(f"weights={weights!r} makes the decoder itself: give no decoder")
        place = {"device": device or torch.get_default_device(), "dtype": dtype}
        made = {"activation": activation, "generator": generator, **place}
        self.encoder = encoder or MLP((D, *hidden, K), **made)
        self.linears = nn.Sequential(
            *(nn.utils.skip_init(nn.Linear, K, K, bias=False, **place) for _ in range(extra_linear))
        )
        init_(self.linears, generator)
        if self.weights == "tied":
            self.decoder, self.offset = None, nn.Parameter(torch.zeros(D, **place))
        else:
            self.decoder = decoder or MLP((K, *(hidden[::-1] if weights == "free" else ()), D), **made)

    @property
    def linear_map(self) -> Tensor:
        """Product of the extra layers, of shape (K, K); the one matrix that can replace them once learning is over."""
        product = torch.eye(self.K, **_kind(self))
        for layer in self.linears:
            product = layer.weight @ product
        return product

    def activations(self, y: Tensor) -> Tensor:
        """Return a, (..., K), what the code's curve is applied to, for y (..., D)."""
        return self.encoder(require_last("y", y, self.D))

    def encode(self, y: Tensor) -> Tensor:
        """Return the code z̄ = Enc(y), (..., K), for y (..., D)."""
        return self.linears(CODES[self.code](self.activations(y)))

    def decode(self, z: Tensor) -> Tensor:
        """Return ȳ = Dec(z), (..., D), for z (..., K)."""
        require_last("z", z, self.K)
        if self.weights == "free":
            return require_decoded(self.decoder(z), self.D, z)
        if self.weights == "tied":
            return z @ self.encoder.linears[0].weight + self.offset
        (layer,) = self.decoder.linears
        return functional.linear(z, functional.normalize(layer.weight, dim=0), layer.bias)

    def energy(self, y: Tensor) -> Tensor:
        """Return F(y), (...), for y (..., D)."""
        return (y - self.decode(self.encode(y))).square().sum(-1)

    def free_energy(self, y: Tensor, beta: float = math.inf) -> Tensor:
        """Return F(y), (...), for y (..., D): nothing is minimised or marginalised, so β changes nothing."""
        require_positive("beta", beta, allow_inf=True)
        return self.energy(y)

    forward = free_energy

    def penalty(self, y: Tensor) -> Tensor:
        """Return λR, (...), for y (..., D): what learning pays besides the energy; nothing here."""
        return y.new_zeros(y.shape[:-1])

    def learn(self, y: Tensor, *, steps: int = 1000, progress: bool = False, **options: Any) -> train.History:
        """Minimise the mean energy and penalty of the data by gradient descent.

        Args:
            y: (N, D).
            steps: how many.
            progress: show a bar.
            options: of :func:`ebm_lib.train.fit`, such as ``lr``, ``batch_size`` and ``generator``.

        Returns:
            The history; its metrics ``energy`` and ``penalty`` are the two parts of the loss.

        Raises:
            ValueError: data of another shape or not finite; as :func:`ebm_lib.train.fit`.
        """
        require_data(y, self.D)
        return train.fit(self, _parts, y, steps=steps, progress=progress, **options)


def _kind(module: nn.Module) -> dict[str, Any]:
    parameter = next(module.parameters())
    return {"dtype": parameter.dtype, "device": parameter.device}


def _parts(model: AutoEncoder, y: Tensor) -> dict[str, Tensor]:
    energy, penalty = model.energy(y).mean(), model.penalty(y).mean()
    return {"loss": energy + penalty, "energy": energy, "penalty": penalty}
