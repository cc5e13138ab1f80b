r"""Normalising flow: an energy whose low-energy volume is bounded because the model is normalised by construction.

.. math::

    F(y) = -\log p(y) = \tfrac12 \lVert g(y) \rVert^2 + \tfrac{D}{2} \log 2\pi - \log \lvert \det \nabla g(y) \rvert,
    \qquad \int e^{-F(y)}\, dy = 1

The map g is invertible, so stretching space at one place, which lowers the energy there, takes volume from others.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ebm_lib.data.draw import normal
from ebm_lib.latent.model import require_data, require_last
from ebm_lib.nn import MLP
from ebm_lib.require import has_values, require_count, require_positive
from ebm_lib.train import History, fit


class Mapped(NamedTuple):
    """Points on the other side of an invertible map.

    Attributes:
        points: (..., D).
        log_det: logarithm of the absolute determinant of the map's Jacobian where it was applied, (...).
    """

    points: Tensor
    log_det: Tensor


class AffineCoupling(nn.Module):
    r"""One layer of a flow: some coordinates stay, and say how to scale and shift the others.

    .. math::

        z_a = y_a, \qquad z_b = y_b \odot e^{s(y_a)} + t(y_a), \qquad \log \lvert \det \rvert = \sum_i s_i(y_a)

    The Jacobian is triangular, so its determinant is a sum, and the inverse needs no inverse of the networks s and t:
    :math:`y_b = (z_b - t(z_a)) \odot e^{-s(z_a)}`. Scales are bounded, :math:`s = c \tanh(\hat s / c)`. The last layer
    starts at 0, so the whole layer starts as the identity.

    Args:
        kept: which coordinates stay, (D,) boolean, some and not all.
        hidden: widths of the network for s and t.
        bound: c > 0.
        generator: where the weights come from.
        device: where they live.
        dtype: their dtype.

    Attributes:
        kept: as given, a buffer.
        network: from the coordinates that stay to ŝ and t, an :class:`~ebm_lib.nn.MLP`.

    Raises:
        ValueError: a mask that keeps all or none, bad widths or bound; in both directions, another last dimension.

    Source: Dinh, Sohl-Dickstein and Bengio, Density Estimation Using Real NVP (ICLR 2017), section 3.2.

    >>> layer = AffineCoupling(torch.tensor([True, False]), (8,))
    >>> layer(torch.tensor([1.0, 2.0])).points.detach()
    tensor([1., 2.])
    """

    def __init__(
        self,
        kept: Tensor,
        hidden: tuple[int, ...] = (64, 64),
        *,
        bound: float = 2.0,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if kept.dtype != torch.bool or kept.ndim != 1 or not 0 < int(kept.sum()) < len(kept):
            raise ValueError(f"kept must be a boolean (D,) that keeps some coordinates and not all, got {kept}")
        self.bound = require_positive("bound", bound)
        stay, change = int(kept.sum()), int((~kept).sum())
        self.register_buffer("kept", kept.to(device))
        # Indices, not the mask: boolean indexing has a shape that meta tensors and compilers cannot know.
        order = torch.argsort(kept.to(torch.int8), stable=True)
        self.register_buffer("_change", order[:change].to(device), persistent=False)
        self.register_buffer("_stay", order[change:].to(device), persistent=False)
        self.register_buffer("_back", torch.argsort(order).to(device), persistent=False)
        self.network = MLP(
            (stay, *hidden, 2 * change), activation="silu", generator=generator, device=device, dtype=dtype
        )
        with torch.no_grad():
            self.network.linears[-1].weight.zero_()
            self.network.linears[-1].bias.zero_()

    def _split(self, name: str, points: Tensor) -> tuple[Tensor, Tensor]:
        if points.shape[-1:] != self.kept.shape:  # a wider one would lose coordinates in silence
            raise ValueError(f"{name} must be (..., {len(self.kept)}), got shape {tuple(points.shape)}")
        return points[..., self._stay], points[..., self._change]

    def _scale_and_shift(self, stay: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.network(stay).chunk(2, dim=-1)
        return self.bound * torch.tanh(log_scale / self.bound), shift

    def forward(self, y: Tensor) -> Mapped:
        """Map y to z, (..., D)."""
        stay, change = self._split("y", y)
        log_scale, shift = self._scale_and_shift(stay)
        z = torch.cat([change * log_scale.exp() + shift, stay], -1)[..., self._back]
        return Mapped(z, log_scale.sum(-1))

    def inverse(self, z: Tensor) -> Mapped:
        """Map z back to y, (..., D), with the inverse map's log-determinant."""
        stay, change = self._split("z", z)
        log_scale, shift = self._scale_and_shift(stay)
        y = torch.cat([(change - shift) * (-log_scale).exp(), stay], -1)[..., self._back]
        return Mapped(y, -log_scale.sum(-1))


class Flow(nn.Module):
    r"""Normalising flow of affine couplings (RealNVP): an energy that is minus a log-density, exactly.

    .. math::

        F(y) = \tfrac12 \lVert z \rVert^2 + \tfrac{D}{2} \log 2\pi - \sum_l \log \lvert \det{}_l \rvert, \qquad
        z = g_L \circ \dots \circ g_1(y)

    The first map standardises the data, coordinate by coordinate; :meth:`learn` sets it. Couplings follow that keep, in
    turn, every other coordinate, in an order drawn at the start so that all pairs meet.

    Args:
        D: dimension of y, at least 2: with one there is nothing to condition on.
        layers: how many couplings; at least two, so that every coordinate moves.
        hidden: widths of the network in each.
        bound: of each layer's log-scales.
        generator: where weights and order come from.
        device: where the weights live.
        dtype: their dtype.

    Attributes:
        mean: of the standardisation, (D,), a buffer.
        std: of the standardisation, (D,), a buffer.
        couplings: the layers, an ``nn.ModuleList`` of :class:`AffineCoupling`.

    Raises:
        ValueError: D or layers below 2, bad widths or bound. In every method, another last dimension or values that are
            not finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Architectural Methods"; Dinh,
    Sohl-Dickstein and Bengio, Density Estimation Using Real NVP (ICLR 2017).

    >>> flow = Flow(2, generator=torch.Generator().manual_seed(0))
    >>> flow(torch.zeros(2)).detach()  # before learning, the standard normal: log 2π
    tensor(1.8379)
    """

    def __init__(
        self,
        D: int,
        layers: int = 6,
        hidden: tuple[int, ...] = (64, 64),
        *,
        bound: float = 2.0,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.D = require_count("D", D, minimum=2)
        require_count("layers", layers, minimum=2)
        place = {"device": device, "dtype": dtype}
        self.register_buffer("mean", torch.zeros(D, **place))
        self.register_buffer("std", torch.ones(D, **place))
        couplings = []
        for layer in range(layers):
            if layer % 2 == 0:
                origin = "cpu" if generator is None else generator.device
                kept = (torch.randperm(D, generator=generator, device=origin) % 2 == 0).cpu()
            couplings.append(AffineCoupling(kept, hidden, bound=bound, generator=generator, **place))
            kept = ~kept
        self.couplings = nn.ModuleList(couplings)

    def transform(self, y: Tensor) -> Mapped:
        """Map y to z, (..., D), with the logarithm of the Jacobian's absolute determinant, (...)."""
        z = (require_last("y", y, self.D) - self.mean) / self.std
        log_det = -self.std.log().sum().expand(z.shape[:-1])
        for coupling in self.couplings:
            z, more = coupling(z)
            log_det = log_det + more
        return Mapped(z, log_det)

    def inverse(self, z: Tensor) -> Mapped:
        """Map z to y, (..., D), with the log-determinant of this inverse map, (...)."""
        y = require_last("z", z, self.D)
        log_det = self.std.log().sum().expand(z.shape[:-1])
        for coupling in reversed(self.couplings):
            y, more = coupling.inverse(y)
            log_det = log_det + more
        return Mapped(y * self.std + self.mean, log_det)

    def encode(self, y: Tensor) -> Tensor:
        """The code z = g(y), (..., D): standard normal if the model is right."""
        return self.transform(y).points

    def decode(self, z: Tensor) -> Tensor:
        """The point y with g(y) = z, (..., D)."""
        return self.inverse(z).points

    def energy(self, y: Tensor) -> Tensor:
        """F(y) = −log p(y), in nats, (...)."""
        z, log_det = self.transform(y)
        return z.square().sum(-1) / 2 + self.D / 2 * math.log(2 * math.pi) - log_det

    def free_energy(self, y: Tensor, beta: float = math.inf) -> Tensor:
        """The energy, (...): with no free latent, the same at every β."""
        require_positive("beta", beta, allow_inf=True)
        return self.energy(y)

    def forward(self, y: Tensor) -> Tensor:
        """The energy, (...)."""
        return self.energy(y)

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws from p(y) = exp(−F(y)), (n, D), without a chain: decode standard normal codes."""
        z = normal((require_count("n", n), self.D), generator, self.mean.dtype, self.mean.device)
        return self.inverse(z).points

    def learn(
        self,
        y: Tensor,
        *,
        steps: int = 2000,
        batch_size: int | None = 256,
        lr: float = 2e-3,
        clip: float = 10.0,
        generator: torch.Generator | None = None,
        progress: bool = True,
    ) -> History:
        """Maximum likelihood: standardise the data, then lower their mean energy, with a rate that falls to 0.

        Args:
            y: data, (N, D), N ≥ 2.
            steps: updates.
            batch_size: samples per update, at most N; None takes all.
            lr: Adam's learning rate at the start.
            clip: largest norm of a gradient: a point far out pulls hard.
            generator: draws the batches.
            progress: show a bar.

        Returns:
            The history; ``loss`` is the mean energy of each batch.

        Raises:
            ValueError: data of another shape, one point only, or a coordinate that never changes: its density is
                infinite.
        """
        require_data(y, self.D, minimum=2)
        std = y.std(0)
        if has_values(std) and (std == 0).any():
            raise ValueError(
                f"y must vary in every coordinate, and {(std == 0).nonzero().flatten().tolist()} do not: "
                "the likelihood has no maximum"
            )
        with torch.no_grad():
            self.mean.copy_(y.mean(0))
            self.std.copy_(std)
        optimizer = torch.optim.Adam(self.parameters(), lr=require_positive("lr", lr))
        return fit(
            self,
            lambda flow, y: flow.energy(y).mean(),
            y,
            steps=steps,
            batch_size=batch_size,
            optimizer=optimizer,
            scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, require_count("steps", steps)),
            clip=clip,
            generator=generator,
            progress=progress,
        )
