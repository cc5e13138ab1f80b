r"""Vector-quantised auto-encoders: a code that can take finitely many values, whatever encoder and decoder do.

.. math::

    F(y) = \lVert y - \text{Dec}(q(\text{Enc}(y))) \rVert^2, \qquad q(h) = W_{\check k}, \quad
    \check k = \operatorname*{argmin}_k \lVert h - W_k \rVert^2

With G codes a sample out of K, at most :math:`K^G` points have zero energy: G log₂ K bits. K-means is the case of one
code and no networks.
"""

import math

import torch
from torch import Tensor, nn

from ebm_lib.latent.model import require_data, require_last
from ebm_lib.latent.prototypes import kmeans_plus_plus
from ebm_lib.latent.quantizer import Quantized, VectorQuantizer
from ebm_lib.require import require_count, require_points, require_positive
from ebm_lib.train import History, fit


class VQAutoEncoder(nn.Module):
    r"""An auto-encoder whose code is quantised: G vectors, each replaced by the nearest of K codebook entries.

    .. math::

        F(y) = \lVert y - \text{Dec}(q(\text{Enc}(y))) \rVert^2, \qquad
        L(y) = F(y) + \lambda_c \lVert \text{Enc}(y) - \text{sg}(q) \rVert^2
        \;\big[ + \lVert \text{sg}(\text{Enc}(y)) - q \rVert^2 \big]

    The last term only where the codebook learns by gradient. The encoder receives the decoder's gradient straight
    through q. There is no free latent variable: the encoder decides, so F is at least the minimum over all codes.

    Args:
        encoder: maps y (..., D) to (..., groups · L).
        decoder: maps (..., groups · L) to (..., D).
        L: dimensions of one code's vector.
        K: size of the codebook, which all groups share.
        groups: G, codes a sample.
        commitment: λ_c, weight of the encoder's pull towards its codes, ≥ 0.
        decay: as :class:`VectorQuantizer`.
        revive_below: as :class:`VectorQuantizer`.
        generator: where the codebook comes from at first; encoder and decoder come as they are.

    Raises:
        ValueError: sizes or options out of range; in every method, points not finite, or networks that return
            another last dimension.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods vs
        Regularized/Architectural Methods" (A2), which names VQ-VAE; van den Oord, Vinyals and Kavukcuoglu, Neural
        Discrete Representation Learning (NeurIPS 2017).

    >>> from ebm_lib.nn import MLP
    >>> g = torch.Generator().manual_seed(0)
    >>> model = VQAutoEncoder(MLP((2, 8, 1), generator=g), MLP((1, 8, 2), generator=g), 1, 4, generator=g)
    >>> model.codes(torch.zeros(5, 2)).shape, model.capacity
    (torch.Size([5, 1]), 2.0)
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        L: int,
        K: int,
        *,
        groups: int = 1,
        commitment: float = 0.25,
        decay: float | None = 0.99,
        revive_below: float = 0.01,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.groups = require_count("groups", groups)
        self.commitment = commitment if commitment == 0 else require_positive("commitment", commitment)
        self.encoder, self.decoder = encoder, decoder
        like = next((p for p in (*encoder.parameters(), *decoder.parameters())), torch.empty(0))
        self.quantizer = VectorQuantizer(
            L, K, decay=decay, revive_below=revive_below, generator=generator, dtype=like.dtype, device=like.device
        )

    @property
    def capacity(self) -> float:
        """What a code can say at most, G log₂ K, in bits."""
        return self.groups * math.log2(self.quantizer.K)

    def vectors(self, y: Tensor) -> Tensor:
        """Enc(y) before quantisation, (..., G, L), for y (..., D)."""
        h = self.encoder(require_points("y", y))
        expected = (*y.shape[:-1], self.groups * self.quantizer.L)
        if h.shape != expected:
            raise ValueError(f"encoder must return {expected}, got {tuple(h.shape)}")
        return h.unflatten(-1, (self.groups, self.quantizer.L))

    def codes(self, y: Tensor) -> Tensor:
        """Numbers of the codebook entries of y, (..., G), int64."""
        return self.quantizer(self.vectors(y)).codes

    def encode(self, y: Tensor) -> Tensor:
        """q(Enc(y)), (..., G · L): gradient flows straight through the quantisation."""
        return self.quantizer(self.vectors(y)).value.flatten(-2)

    def decode(self, z: Tensor) -> Tensor:
        """Dec(z), (..., D), for z (..., G · L)."""
        return self.decoder(require_last("z", z, self.groups * self.quantizer.L))

    def decode_codes(self, codes: Tensor) -> Tensor:
        """Dec of the codebook entries with these numbers, (..., D), for codes (..., G)."""
        if codes.shape[-1:] != (self.groups,):
            raise ValueError(f"codes must be (..., {self.groups}), got shape {tuple(codes.shape)}")
        return self.decode(self.quantizer.W.T[codes].flatten(-2))

    def energy(self, y: Tensor) -> Tensor:
        """F(y), (...), for y (..., D), in squared units of y."""
        return self._cost(y, self.decode(self.encode(y)))

    def free_energy(self, y: Tensor, beta: float = math.inf) -> Tensor:
        """F(y), (...): with no free latent variable, the same for every β."""
        require_positive("beta", beta, allow_inf=True)
        return self.energy(y)

    def forward(self, y: Tensor) -> Tensor:
        """The energy: see :meth:`energy`."""
        return self.energy(y)

    def losses(self, y: Tensor) -> tuple[dict[str, Tensor], Tensor, Quantized]:
        """Return the parts of the mean loss of y (N, D), with ``"loss"`` their sum; Enc(y), (N, G, L); its codes."""
        h = self.vectors(y)
        found = self.quantizer(h)
        parts = {
            "energy": self._cost(y, self.decode(found.value.flatten(-2))).mean(),
            "commitment": self.commitment * found.commitment.sum(-1).mean(),
        }
        if self.quantizer.decay is None:
            parts["codebook"] = found.codebook.sum(-1).mean()
        return {"loss": sum(parts.values()), **parts}, h, found

    def learn(
        self,
        y: Tensor,
        *,
        steps: int = 1000,
        lr: float = 1e-3,
        batch_size: int | None = None,
        seed_codebook: bool = True,
        generator: torch.Generator | None = None,
        progress: bool = False,
    ) -> History:
        """Fit encoder, decoder and codebook by stochastic gradient descent.

        Args:
            y: data, (N, D), N ≥ 2.
            steps: updates by Adam.
            lr: its learning rate.
            batch_size: samples a step; None takes all.
            seed_codebook: start the codebook at vectors of the data, chosen as k-means++ does.
            generator: where batches, seeding and revivals come from.
            progress: show a bar.

        Returns:
            The history: loss and its parts of each step, and as ``metrics["revived"]`` the codes revived.

        Raises:
            ValueError: as :func:`ebm_lib.train.fit`; fewer than two samples; with ``seed_codebook``, fewer vectors than
                entries.
        """
        require_data(y, y.shape[-1] if y.ndim else 0, minimum=2)
        if seed_codebook:
            with torch.no_grad():
                vectors = self.vectors(y).reshape(-1, self.quantizer.L)
                if len(vectors) < self.quantizer.K:
                    raise ValueError(
                        f"K must be at most the number of code vectors, {len(vectors)}, got {self.quantizer.K}; "
                        "or pass seed_codebook=False"
                    )
                self.quantizer.set_codebook(kmeans_plus_plus(vectors, self.quantizer.K, generator=generator))
                self.quantizer.count.fill_((batch_size or len(y)) * self.groups / self.quantizer.K)

        def loss(model: VQAutoEncoder, batch: Tensor) -> dict[str, Tensor]:
            parts, h, found = model.losses(batch)
            revived = model.quantizer.observe(h, found.codes, generator=generator)
            return {**parts, "revived": torch.tensor(float(revived))}

        return fit(self, loss, y, steps=steps, lr=lr, batch_size=batch_size, generator=generator, progress=progress)

    @staticmethod
    def _cost(y: Tensor, reconstruction: Tensor) -> Tensor:
        if reconstruction.shape != y.shape:
            raise ValueError(f"decoder must return {tuple(y.shape)}, got {tuple(reconstruction.shape)}")
        return (y - reconstruction).square().sum(-1)
