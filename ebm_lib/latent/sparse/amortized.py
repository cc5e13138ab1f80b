r"""Amortised inference: an encoder learns to say at once what an iteration finds slowly.

.. math::

    \bar z = \text{Enc}(y) \approx \check z
    = \operatorname{argmin}_z \lVert y - W z \rVert^2 + \lambda \lVert z \rVert_1

:class:`LISTA` is ISTA cut off after a few steps, with its matrices learned, for a dictionary that is there already.
:class:`~ebm_lib.latent.sparse.PSD` learns a dictionary and an encoder together.
"""

import math

import torch
from torch import Tensor, nn

from ebm_lib.latent.model import require_data, require_last
from ebm_lib.latent.sparse.codes import fista, max_step_size, require_codes, require_dictionary, sparse_energy
from ebm_lib.latent.sparse.shrinkage import soft_threshold
from ebm_lib.require import require_choice, require_count, require_positive
from ebm_lib.train import History, fit


class LISTA(nn.Module):
    r"""Learned ISTA: a few steps of ISTA as the layers of a network, whose matrices then learn to get farther.

    .. math::

        z_1 = \operatorname{Shrink}_{\theta_1}[W_{e,1}\, y], \qquad
        z_{t+1} = \operatorname{Shrink}_{\theta_{t+1}}[W_{e,t+1}\, y + S_{t+1} z_t], \qquad \text{Enc}(y) = z_T

    It begins as ISTA from z = 0, step for step: :math:`W_e = 2\eta W^\top`, :math:`S = I - 2\eta W^\top W`,
    :math:`\theta = \lambda\eta` at the longest safe step η. The paper shares one :math:`W_e, S, \theta` between all
    layers; ``tied=False`` gives each its own, which gets farther still. The dictionary stays as it is.

    As an auto-encoder it has no free latent: its energy is that of sparse coding at the code it computes, so never
    below that model's F(y).

    Args:
        W: the dictionary, (D, K), without zero columns.
        lam: λ > 0.
        layers: T, how many shrinkages: ISTA's steps.
        tied: share the matrices and the thresholds between layers.

    Attributes:
        W: the dictionary, a buffer.
        lam: as given.
        encoder: :math:`W_e^\top`, (T or 1, D, K).
        lateral: :math:`S^\top`, (T − 1 or 1, K, K); none with one layer.
        log_threshold: log θ, (T or 1, K): one threshold per code unit, kept positive by the logarithm.

    Raises:
        ValueError: W not (D, K), with a zero column or not finite; λ not positive; fewer than one layer. In every
            method, another last dimension or values that are not finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Giving the “right” structure to the
    encoder" and "LISTA: Train We and S matrices to give a good approximation quickly"; Gregor and LeCun, Learning Fast
    Approximations of Sparse Coding (ICML 2010).

    >>> lista = LISTA(torch.eye(2), lam=1.0, layers=1)
    >>> lista.encode(torch.tensor([3.0, 0.2])).detach()
    tensor([2.5000, 0.0000])
    """

    def __init__(self, W: Tensor, lam: float, layers: int = 3, *, tied: bool = True) -> None:
        super().__init__()
        require_count("layers", layers)
        eta = max_step_size(W)
        require_dictionary(W.mT, W)
        self.lam, self.layers, self.tied = require_positive("lam", lam), layers, tied
        W = W.detach().clone()
        self.register_buffer("W", W)
        own, passed = (min(1, layers), min(1, layers - 1)) if tied else (layers, layers - 1)
        identity = torch.eye(W.shape[1], dtype=W.dtype, device=W.device)
        self.encoder = nn.Parameter((2 * eta * W).repeat(own, 1, 1))
        self.lateral = nn.Parameter((identity - 2 * eta * (W.mT @ W)).repeat(passed, 1, 1))
        self.log_threshold = nn.Parameter(W.new_full((own, W.shape[1]), math.log(lam * eta)))

    def _codes(self, y: Tensor) -> list[Tensor]:
        codes, threshold = [], self.log_threshold.exp()
        for t in range(self.layers):
            here = 0 if self.tied else t
            drive = y @ self.encoder[here]
            if t > 0:
                drive = drive + codes[-1] @ self.lateral[0 if self.tied else t - 1]
            codes.append(soft_threshold(drive, threshold[here]))
        return codes

    def path(self, y: Tensor) -> Tensor:
        """Codes after each layer, 0 first, (T + 1, ..., K): what :func:`ista` calls its path."""
        codes = self._codes(require_last("y", y, len(self.W)))
        return torch.stack([torch.zeros_like(codes[0]), *codes])

    def encode(self, y: Tensor) -> Tensor:
        """Enc(y), (..., K), for y (..., D): the code of the last layer. Gradients flow."""
        return self._codes(require_last("y", y, len(self.W)))[-1]

    def decode(self, z: Tensor) -> Tensor:
        """ȳ = W z, (..., D)."""
        require_codes("z", z, self.W)
        return z @ self.W.mT

    def energy(self, y: Tensor) -> Tensor:
        r"""Energy of sparse coding at the encoder's code.

        .. math:: F(y) = \lVert y - W\,\text{Enc}(y) \rVert^2 + \lambda \lVert \text{Enc}(y) \rVert_1
        """
        return sparse_energy(y, self.encode(y), self.W, self.lam)

    def free_energy(self, y: Tensor, beta: float = math.inf) -> Tensor:
        """The energy, (...): with no free latent, the same at every β."""
        require_positive("beta", beta, allow_inf=True)
        return self.energy(y)

    def forward(self, y: Tensor) -> Tensor:
        """The energy, (...)."""
        return self.energy(y)

    def learn(
        self,
        y: Tensor,
        *,
        target: str = "codes",
        codes: Tensor | None = None,
        steps: int = 2000,
        batch_size: int | None = 256,
        lr: float = 1e-3,
        generator: torch.Generator | None = None,
        progress: bool = True,
    ) -> History:
        r"""Fit the matrices and thresholds by gradient descent through the layers, with a rate that falls to 0.

        .. math:: L = \lVert \text{Enc}(y) - \check z \rVert^2 \qquad \text{or} \qquad L = F(y)

        Args:
            y: data, (N, D).
            target: ``"codes"``, the paper's squared distance to the best codes, or ``"energy"``, which needs none.
            codes: the best codes ž, (N, K), for ``"codes"``; found by :func:`fista` if None.
            steps: updates.
            batch_size: samples per update, at most N; None takes all.
            lr: Adam's learning rate at the start.
            generator: draws the batches.
            progress: show a bar.

        Returns:
            The history; ``loss`` is L per sample at each update.

        Raises:
            ValueError: data that do not fit, an unknown target, codes that do not fit or have no use.
        """
        require_data(y, len(self.W))
        require_choice("target", target, ("codes", "energy"))
        if target == "energy" and codes is not None:
            raise ValueError("codes have no use with target='energy', and were given")
        if target == "codes":
            if codes is None:
                codes = fista(y, self.W, self.lam, steps=2000, tol=1e-6, restart=True).z
            require_codes("codes", codes, self.W)
            if codes.shape != (len(y), self.W.shape[1]):
                raise ValueError(f"codes must be one row per sample of y, {len(y)}, got shape {tuple(codes.shape)}")

        def loss(module: "LISTA", y: Tensor, codes: Tensor | None = None) -> Tensor:
            z = module._codes(y)[-1]
            if codes is not None:
                return (z - codes).square().sum(-1).mean()
            return ((y - z @ module.W.mT).square().sum(-1) + module.lam * z.abs().sum(-1)).mean()

        optimizer = torch.optim.Adam(self.parameters(), lr=require_positive("lr", lr))
        return fit(
            self,
            loss,
            (y,) if codes is None else (y, codes.detach()),
            steps=steps,
            batch_size=batch_size,
            optimizer=optimizer,
            scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, require_count("steps", steps)),
            generator=generator,
            progress=progress,
        )

    def extra_repr(self) -> str:
        """Show what the parameters do not."""
        return f"D={len(self.W)}, K={self.W.shape[1]}, lam={self.lam}, layers={self.layers}, tied={self.tied}"
