"""A learned encoder for convolutional sparse codes, and with its decoder a convolutional sparse auto-encoder."""

import math

import torch
from torch import Tensor, nn

from ebm_lib.latent.model import require_data, require_last
from ebm_lib.latent.sparse.convolutional import ConvSparseCoding, conv_correlate, conv_decode
from ebm_lib.latent.sparse.shrinkage import soft_threshold
from ebm_lib.require import require_choice, require_count, require_positive
from ebm_lib.train import History, fit


class ConvLISTA(nn.Module):
    r"""Learned ISTA on pictures: convolutions and thresholds, as many as there are layers.

    .. math::

        z_{t+1} = \operatorname{Shrink}_{\theta}\big[z_t + V \star (y - U * z_t)\big], \qquad z_0 = 0, \qquad
        F(y) = \lVert y - W * z_T \rVert^2 + \lambda \lVert z_T \rVert_1

    with ⋆ for correlation and ∗ for convolution. It begins as ISTA with the model's filters W, step for step:
    :math:`V = 2\eta W`, :math:`U = W`, :math:`\theta = \lambda\eta`. The matrix S of :class:`LISTA` would be a kernel
    between every two maps; here it is I − V ⋆ U ∗, a product of two thin ones.

    :meth:`learn` fits the encoder to the model's filters, or encoder and decoder together: then it is the lecture's
    convolutional sparse auto-encoder with a recurrent encoder and a linear decoder.

    Args:
        model: what the codes are codes of. It is part of this module, not a copy.
        layers: T.
        tied: share V, U and θ between layers.

    Attributes:
        model: as given.
        encoder: V, (T or 1, K, C, s, s): the encoder's filters.
        decoder: U, (T − 1 or 1, K, C, s, s); none with one layer.
        log_threshold: log θ, (T or 1, K, 1, 1): one per map.

    Raises:
        ValueError: fewer than one layer. In every method, another last dimension or values that are not finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Convolutional Sparse Auto-Encoder on
    Natural Images"; Gregor and LeCun, Learning Fast Approximations of Sparse Coding (ICML 2010); Sreter and Giryes,
    Learned Convolutional Sparse Coding (ICASSP 2018).

    >>> model = ConvSparseCoding((1, 8, 8), 4, 3, lam=0.1, generator=torch.Generator().manual_seed(0))
    >>> y = torch.ones(1, 64)
    >>> ista = model.infer(y, steps=2, accelerated=False)
    >>> torch.allclose(ConvLISTA(model, 2).encode(y), ista, atol=1e-6)
    True
    """

    def __init__(self, model: ConvSparseCoding, layers: int = 3, *, tied: bool = True) -> None:
        super().__init__()
        self.model, self.layers, self.tied = model, require_count("layers", layers), tied
        own, passed = (min(1, layers), min(1, layers - 1)) if tied else (layers, layers - 1)
        eta, W = model.max_step_size(), model.W.detach()
        self.encoder = nn.Parameter((2 * eta * W).repeat(own, 1, 1, 1, 1))
        self.decoder = nn.Parameter(W.repeat(passed, 1, 1, 1, 1))
        self.log_threshold = nn.Parameter(W.new_full((own, len(W), 1, 1), math.log(model.lam * eta)))

    def encode(self, y: Tensor) -> Tensor:
        """Enc(y) = z_T, (..., K · h · w), for pictures (..., C · H · W). Gradients flow."""
        model = self.model
        y = require_last("y", y, math.prod(model.shape)).unflatten(-1, model.shape)
        threshold, z = self.log_threshold.exp(), None
        for t in range(self.layers):
            here = 0 if self.tied else t
            if z is None:
                drive = conv_correlate(y, self.encoder[here], model.stride)
            else:
                guess = conv_decode(z, self.decoder[0 if self.tied else t - 1], model.shape[1:], model.stride)
                drive = z + conv_correlate(y - guess, self.encoder[here], model.stride)
            z = soft_threshold(drive, threshold[here])
        return z.flatten(-3)

    def decode(self, z: Tensor) -> Tensor:
        """ȳ = W ∗ z by the model's filters, (..., C · H · W)."""
        return self.model.decode(z)

    def energy(self, y: Tensor) -> Tensor:
        """The model's energy at the encoder's code, (...)."""
        return self.model.energy(y, self.encode(y))

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
        target: str = "energy",
        codes: Tensor | None = None,
        dictionary: bool = False,
        steps: int = 300,
        batch_size: int | None = 16,
        lr: float = 1e-3,
        generator: torch.Generator | None = None,
        progress: bool = True,
    ) -> History:
        r"""Fit the encoder, or encoder and decoder, by gradient descent through the layers.

        .. math:: L = F(y) \qquad \text{or} \qquad L = \lVert \text{Enc}(y) - \check z \rVert^2

        Args:
            y: pictures, (N, C · H · W).
            target: ``"energy"``, or ``"codes"`` for the distance to the model's best codes.
            codes: the best codes for ``"codes"``, (N, K · h · w).
            dictionary: learn the model's filters too, scaled to length one after each step; only by energy, since best
                codes hold for given filters.
            steps: updates.
            batch_size: pictures per update, at most N; None takes all.
            lr: Adam's learning rate at the start, for V 2η times that, with the model's η; it falls to 0.
            generator: draws the batches.
            progress: show a bar.

        Returns:
            The history; ``loss`` is L per picture.

        Raises:
            ValueError: data that do not fit, an unknown target, codes without ``"codes"`` or missing with it, codes for
                filters that move.
        """
        require_data(y, math.prod(self.model.shape))
        require_choice("target", target, ("codes", "energy"))
        if (codes is None) != (target == "energy"):
            raise ValueError(f"codes must be given with target='codes' and only then, target is {target!r}")
        if codes is not None:
            if dictionary:
                raise ValueError("dictionary=True needs target='energy': best codes hold for filters that stay")
            require_data(codes, math.prod(self.model.code_shape), name="codes")

        def loss(module: "ConvLISTA", y: Tensor, codes: Tensor | None = None) -> Tensor:
            if codes is None:
                return module.energy(y).mean()
            return (module.encode(y) - codes).square().sum(-1).mean()

        # V begins as 2ηW, far smaller than the rest, and one rate for all would throw it about: Adam's steps do not
        # shrink with what they move
        require_positive("lr", lr)
        rest = [parameter for parameter in self.parameters() if parameter is not self.encoder]
        groups = [{"params": [self.encoder], "lr": 2 * self.model.max_step_size() * lr}, {"params": rest}]
        optimizer = torch.optim.Adam(groups, lr=lr)
        wanted = self.model.W.requires_grad
        self.model.W.grad = None  # what has no gradient, Adam leaves alone
        self.model.W.requires_grad_(dictionary)
        try:
            return fit(
                self,
                loss,
                (y,) if codes is None else (y, codes.detach()),
                steps=steps,
                batch_size=batch_size,
                optimizer=optimizer,
                scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, require_count("steps", steps)),
                callback=(lambda _: self.model.normalize_()) if dictionary else None,
                generator=generator,
                progress=progress,
            )
        finally:
            self.model.W.requires_grad_(wanted)
