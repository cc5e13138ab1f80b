r"""Predictive sparse decomposition: a dictionary and an encoder learned together, with the code between them."""

import math

import torch
from torch import Tensor, nn

from ebm_lib.data.draw import kind_of, normal
from ebm_lib.latent.model import require_data, require_last
from ebm_lib.latent.sparse.codes import fista, require_codes, sparse_energy
from ebm_lib.latent.sparse.decoder import normalize_columns
from ebm_lib.nn import init_
from ebm_lib.require import require_count, require_positive
from ebm_lib.train import History, fit


class ScaledTanh(nn.Module):
    r"""The encoder of the paper on PSD: one layer, with a gain per unit.

    .. math:: \text{Enc}(y) = g \odot \tanh(U y + b)

    Args:
        D: dimension of y.
        K: dimension of the code.
        generator: where U comes from; b starts at 0 and g at 1.
        device: where the parameters live.
        dtype: their dtype.

    Attributes:
        linear: U and b.
        gain: g, (K,).

    Source: Kavukcuoglu, Ranzato and LeCun, Fast Inference in Sparse Coding Algorithms with Applications to Object
    Recognition (2008).

    >>> ScaledTanh(3, 5)(torch.zeros(2, 3)).detach().abs().sum()
    tensor(0.)
    """

    def __init__(
        self,
        D: int,
        K: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.linear = init_(nn.Linear(D, K, device=device, dtype=dtype), generator)
        self.gain = nn.Parameter(torch.ones(K, device=device, dtype=dtype))
        with torch.no_grad():
            self.linear.bias.zero_()

    def forward(self, y: Tensor) -> Tensor:
        """Map (..., D) to (..., K)."""
        return self.gain * torch.tanh(self.linear(y))


class PSD(nn.Module):
    r"""Predictive sparse decomposition: sparse coding whose code must also be near what an encoder predicts.

    .. math:: E(y, z) = \lVert y - W z \rVert^2 + \lambda \lVert z \rVert_1 + \kappa \lVert z - \text{Enc}(y) \rVert^2

    Inference starts at the encoder's guess, which after learning leaves little to do. The last term pulls both ways: in
    learning it trains the encoder, and it keeps codes predictable.

    Args:
        D: dimension of y.
        K: number of atoms.
        lam: λ > 0.
        prediction: κ > 0.
        encoder: a module from (..., D) to (..., K); :class:`ScaledTanh` if None.
        generator: where atoms and weights come from.
        device: where the parameters live.
        dtype: their dtype.

    Attributes:
        W: the decoder, (D, K): columns of length one.
        encoder: as given.

    Raises:
        ValueError: sizes below 1; λ or κ not positive. In every method, another last dimension or values that are not
            finite.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Latent-Variable
    Regularized Auto-Encoders"; LeCun, Energy-Based Models, part 1 (NYU Deep Learning, spring 2020), "Predictive Sparse
    Decomposition (PSD): Training"; Kavukcuoglu, Ranzato and LeCun (2008).

    >>> psd = PSD(4, 6, lam=0.5, generator=torch.Generator().manual_seed(0))
    >>> y = torch.ones(4)
    >>> bool(psd(y) <= psd.energy(y, psd.encode(y)))
    True
    """

    def __init__(
        self,
        D: int,
        K: int,
        *,
        lam: float,
        prediction: float = 1.0,
        encoder: nn.Module | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_count("D", D)
        require_count("K", K)
        self.lam, self.prediction = require_positive("lam", lam), require_positive("prediction", prediction)
        place = {"device": device, "dtype": dtype}
        dtype, device = kind_of(None, dtype, device)
        self.W = nn.Parameter(normal((D, K), generator, dtype, device))
        self.normalize_()
        self.encoder = ScaledTanh(D, K, generator=generator, **place) if encoder is None else encoder

    @torch.no_grad()
    def normalize_(self) -> None:
        """Scale every atom to length one: else codes shrink, atoms grow, and λ loses its meaning."""
        self.W.copy_(normalize_columns(self.W))

    def encode(self, y: Tensor) -> Tensor:
        """The encoder's guess Enc(y), (..., K), for y (..., D). Gradients flow."""
        guess = self.encoder(require_last("y", y, len(self.W)))
        require_codes("the encoder's code", guess, self.W)
        return guess

    def decode(self, z: Tensor) -> Tensor:
        """ȳ = W z, (..., D)."""
        require_codes("z", z, self.W)
        return z @ self.W.mT

    def energy(self, y: Tensor, z: Tensor) -> Tensor:
        """E(y, z), (...); leading dimensions broadcast."""
        return sparse_energy(y, z, self.W, self.lam) + self.prediction * (z - self.encode(y)).square().sum(-1)

    @torch.no_grad()
    def infer(self, y: Tensor, *, steps: int = 100, tol: float = 1e-6, start: Tensor | None = None) -> Tensor:
        r"""The code of lowest energy, by :func:`fista`, since the two squares are one.

        .. math::

            \left\lVert \binom{y}{\sqrt\kappa\,\text{Enc}(y)} - \binom{W}{\sqrt\kappa\,I} z \right\rVert^2

        Args:
            y: (..., D).
            steps: iterations at most.
            tol: as in :func:`fista`.
            start: where to begin, (..., K); the encoder's guess if None.

        Returns:
            (..., K), without gradient.
        """
        guess, root = self.encode(y), math.sqrt(self.prediction)
        both = torch.cat([y, root * guess], -1)
        identity = torch.eye(self.W.shape[1], dtype=self.W.dtype, device=self.W.device)
        W = torch.cat([self.W, root * identity])
        return fista(both, W, self.lam, steps=steps, tol=tol, start=guess if start is None else start, restart=True).z

    def free_energy(self, y: Tensor, beta: float = math.inf) -> Tensor:
        """F(y) = min_z E(y, z), (...). Only β = ∞ has a closed form.

        Its gradient in y and in the parameters is that of E at the best code.
        """
        if beta != math.inf:
            raise ValueError(f"beta must be inf: the integral over z has no closed form, got {beta}")
        return self.energy(y, self.infer(y))

    def forward(self, y: Tensor) -> Tensor:
        """The free energy at β = ∞, (...)."""
        return self.free_energy(y)

    def learn(
        self,
        y: Tensor,
        *,
        steps: int = 1000,
        batch_size: int | None = 128,
        lr: float = 3e-3,
        inference_steps: int = 20,
        generator: torch.Generator | None = None,
        progress: bool = True,
    ) -> History:
        r"""Alternate: codes of a batch from the encoder's guess, then one step of W and encoder at these codes.

        Atoms are scaled to length one after each step; the rate falls to 0.

        Args:
            y: data, (N, D).
            steps: updates.
            batch_size: samples per update, at most N; None takes all.
            lr: Adam's learning rate at the start.
            inference_steps: iterations for the codes of each batch.
            generator: draws the batches.
            progress: show a bar.

        Returns:
            The history; ``loss`` is the mean E(y, ž) of each batch, ``metrics["prediction"]`` the part
            κ‖ž − Enc(y)‖² of it.

        Raises:
            ValueError: data of another shape or not finite.
        """
        require_data(y, len(self.W))
        require_count("inference_steps", inference_steps)

        def loss(psd: "PSD", y: Tensor) -> dict[str, Tensor]:
            z = psd.infer(y, steps=inference_steps, tol=0.0)
            gap = psd.prediction * (z - psd.encode(y)).square().sum(-1).mean()
            return {"loss": sparse_energy(y, z, psd.W, psd.lam).mean() + gap, "prediction": gap}

        optimizer = torch.optim.Adam(self.parameters(), lr=require_positive("lr", lr))
        return fit(
            self,
            loss,
            y,
            steps=steps,
            batch_size=batch_size,
            optimizer=optimizer,
            scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, require_count("steps", steps)),
            callback=lambda _: self.normalize_(),
            generator=generator,
            progress=progress,
        )

    def extra_repr(self) -> str:
        """Show what the parameters do not."""
        return f"D={len(self.W)}, K={self.W.shape[1]}, lam={self.lam}, prediction={self.prediction}"
