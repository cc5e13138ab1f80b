r"""Concepts as energies: one network that judges whether points in the plane are an example of a concept.

.. math::
    \check z = \operatorname{argmin}_z \sum_k E(y^{(k)}, z), \qquad \check y = \operatorname{argmin}_y E(y, \check z)

A concept is never given: it is a latent vector z that several events y share, and it is inferred from a few of them by
descending in z. With z held still, descending in y makes new events. The attention a, one weight for each point, says
who takes part; searching over a finds the points that belong. Events are drawn by :mod:`ebm_lib.data.concepts`.
"""

import math

import torch
from torch import Tensor, nn

from ebm_lib.data.concepts import points_of
from ebm_lib.data.draw import normal, uniform
from ebm_lib.nn import init_
from ebm_lib.require import has_values, require_count, require_finite


class ConceptEnergy(nn.Module):
    r"""The energy of an event under a concept, from what each point sees of all others.

    .. math::
        E(y, z, a) = \tfrac12 \sum_i a_i \bigl\lVert f(m_i, y_i, z) \bigr\rVert^2, \qquad
        m_i = \frac{\sum_j a_j\, g(y_i - y_j, \lVert y_i - y_j \rVert^2, z)}{\sum_j a_j}

    The order of the points does not matter, and any number of them will do. The square keeps the energy at zero or
    above, as a squared distance: trained by :func:`denoising_loss`, it is about half the sum of the squared distances
    of the points to where they belong, in units of the plane squared.

    Args:
        latent: L, the size of a concept.
        hidden: width of g and of f.
        residuals: size of f's output.
        steps: of the descent in z.
        generator: where the weights come from (see :func:`~ebm_lib.nn.init_`).
        device: where they live.
        dtype: their dtype.

    Attributes:
        start: (L,), where the descent in z starts; learned.
        log_gain: the logarithm of its step size; learned.

    Raises:
        ValueError: a size below 1; when called, an event of odd size, a concept of another size, an attention that is
            not one weight for each point, negative or zero throughout, and leading dimensions that do not broadcast.

    Source: Mordatch, Concept learning with energy-based models (2018), equation 6, where the attention enters g for
        both points and there is one output.

    >>> energy = ConceptEnergy(latent=4, hidden=8, generator=torch.Generator().manual_seed(0))
    >>> y = torch.randn(5, 1, 6, generator=torch.Generator().manual_seed(1))  # 5 events of 3 points
    >>> energy(y, torch.zeros(7, 4)).shape, energy.infer(y).shape
    (torch.Size([5, 7]), torch.Size([5, 4]))
    """

    def __init__(
        self,
        latent: int = 8,
        hidden: int = 64,
        residuals: int = 4,
        *,
        steps: int = 5,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        for name, size in (("latent", latent), ("hidden", hidden), ("residuals", residuals)):
            require_count(name, size)
        super().__init__()
        kind = {"device": torch.get_default_device() if device is None else device, "dtype": dtype}

        def linear(n: int, m: int) -> nn.Module:
            # skip_init leaves torch's global generator alone: the weights are drawn once, by init_
            return nn.utils.skip_init(nn.Linear, n, m, **kind)

        self.latent, self.steps = latent, require_count("steps", steps)
        self.pair = linear(3 + latent, hidden)
        self.event = nn.Sequential(
            linear(hidden + 2 + latent, hidden),
            nn.SiLU(),
            linear(hidden, hidden),
            nn.SiLU(),
            linear(hidden, residuals),
        )
        self.start = nn.Parameter(torch.empty(latent, **kind))
        self.log_gain = nn.Parameter(torch.empty((), **kind))
        init_(self, generator)

    def reset_parameters(self) -> None:
        """Draw weights of twice the fan-in's inverse variance, so that a new network already tells events apart."""
        for layer in (self.pair, *self.event[::2]):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.in_features))
        nn.init.normal_(self.pair.weight[:, :3], std=math.sqrt(2 / 3))  # the offset and its square count as one input
        nn.init.normal_(self.start, std=0.1)
        nn.init.constant_(self.log_gain, 3.0)

    def forward(self, y: Tensor, z: Tensor, attention: Tensor | None = None) -> Tensor:
        """Map events (..., 2P), concepts (..., L) and attention (..., P) to one energy each; all attend if None."""
        p = points_of(y)
        if z.ndim == 0 or z.shape[-1] != self.latent:
            raise ValueError(f"z must have shape (..., {self.latent}), got {tuple(z.shape)}")
        if attention is None:
            attention = y.new_ones(p.shape[-2])
        self._require_attention(attention, p.shape[-2])
        try:
            leading = torch.broadcast_shapes(p.shape[:-2], z.shape[:-1], attention.shape[:-1])
        except RuntimeError:
            raise ValueError(
                "the leading dimensions of y, z and attention must broadcast, got shapes "
                f"{tuple(y.shape)}, {tuple(z.shape)} and {tuple(attention.shape)}"
            ) from None
        p, z = p.expand(*leading, -1, 2), z.expand(*leading, -1)[..., None, :]
        offset = p[..., :, None, :] - p[..., None, :, :]
        # the concept's part of g is the same for all pairs: it is computed once an event
        weight, bias = self.pair.weight, self.pair.bias
        seen = torch.cat([offset, offset.square().sum(-1, keepdim=True)], dim=-1) @ weight[:, :3].T
        pairs = nn.functional.silu(seen + (z @ weight[:, 3:].T + bias)[..., None, :])
        shares = attention / attention.sum(-1, keepdim=True)
        mean = (pairs * shares[..., None, :, None]).sum(-2)
        residual = self.event(torch.cat([mean, p, z.expand(*p.shape[:-1], -1)], dim=-1))
        return 0.5 * (attention * residual.square().sum(-1)).sum(-1)

    def _require_attention(self, attention: Tensor, points: int) -> None:
        if attention.ndim == 0 or attention.shape[-1] != points:
            raise ValueError(
                f"attention must have one weight for each of {points} points, got {tuple(attention.shape)}"
            )
        require_finite("attention", attention)
        if has_values(attention) and ((attention < 0).any() or (attention.sum(-1) == 0).any()):
            raise ValueError("attention must be zero or positive, and positive for a point of each event")

    def infer(
        self, y: Tensor, attention: Tensor | None = None, *, steps: int | None = None, create_graph: bool = False
    ) -> Tensor:
        r"""Infer the concept that several events share, by a few long steps down their mean energy.

        .. math::
            z \leftarrow z - \frac{d}{\sqrt{1 + \lVert d \rVert^2}}, \qquad
            d = s\, \nabla_z\, \frac1K \sum_k \frac{E(y^{(k)}, z, a^{(k)})}{\sum_i a^{(k)}_i}

        Start and step size s are learned, so that few steps suffice; no step is longer than 1.

        Args:
            y: K demonstrations of each concept, (..., K, 2P).
            attention: (..., K, P), or None: all points take part.
            steps: as many as in training if None.
            create_graph: let gradients flow through the descent, as training needs; cut otherwise.

        Returns:
            (..., L).

        Raises:
            ValueError: no demonstrations; as in the call.
            FloatingPointError: z is not finite after a step.
        """
        steps = self.steps if steps is None else require_count("steps", steps)
        if y.ndim < 2 or y.shape[-2] == 0:
            raise ValueError(f"y must hold at least one demonstration, shape (..., K, 2P), got {tuple(y.shape)}")
        each = y.shape[-1] / 2 if attention is None else attention.sum(-1)
        with torch.enable_grad():
            z = self.start.expand(*y.shape[:-2], -1)
            for step in range(steps):
                if not create_graph or not z.requires_grad:  # the start of a frozen network needs no gradient
                    z = z.detach().requires_grad_()
                mean = (self(y, z[..., None, :], attention) / each).mean(-1)
                (slope,) = torch.autograd.grad(mean.sum(), z, create_graph=create_graph)
                move = self.log_gain.exp() * slope
                z = z - move / (1 + move.square().sum(-1, keepdim=True)).sqrt()
                if has_values(z) and not z.isfinite().all():
                    raise FloatingPointError(f"the concept is not finite after step {step + 1}")
        return z if create_graph else z.detach()


def denoising_loss(
    energy: ConceptEnergy,
    y: Tensor,
    z: Tensor,
    attention: Tensor | None = None,
    *,
    low: float = 0.02,
    high: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Make the slope in y point from where points belong to where noise has put them.

    .. math::
        \frac{1}{2 \sum_i a_i} \sum_i a_i
        \frac{\lVert \partial E(\tilde y, z, a) / \partial \tilde y_i - (\tilde y_i - y_i) \rVert^2}{\sigma^2},
        \qquad \tilde y = y + \sigma \xi, \quad \log \sigma \sim U(\log \text{low}, \log \text{high})

    Each event has a noise of its own. A step of size 1 down the slope of a perfect energy leads to the mean of all
    events that the noisy one may come from. Where E does what is asked, it is half the squared distance to them, and a
    flat energy costs 1.

    Args:
        energy: E(y, z, a).
        y: events, (..., 2P).
        z: their concepts, (..., L); gradients flow into them.
        attention: (..., P), or None.
        low: least standard deviation of the noise, in units of the plane.
        high: largest one.
        generator: source of randomness.

    Returns:
        (...), zero or positive.

    Raises:
        ValueError: not 0 < low ≤ high; as in the energy's call.

    Source: Vincent, A connection between score matching and denoising autoencoders (Neural Computation 23, 2011), here
        over many noise levels at once and with the noise's variance as weight.

    >>> energy = ConceptEnergy(latent=4, hidden=8, generator=torch.Generator().manual_seed(0))
    >>> denoising_loss(energy, torch.zeros(5, 6), torch.zeros(5, 4), generator=torch.Generator()).shape
    torch.Size([5])
    """
    if not 0 < low <= high < math.inf:
        raise ValueError(f"low and high must be finite standard deviations, 0 < low ≤ high, got {low} and {high}")
    clean = points_of(y)
    kind = (generator, y.dtype, y.device)
    sigma = low * (high / low) ** uniform((*clean.shape[:-2], 1, 1), *kind)
    noise = sigma * normal(clean.shape, *kind)
    noisy = (clean + noise).flatten(-2).requires_grad_()
    if attention is None:
        attention = y.new_ones(clean.shape[-2])
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(energy(noisy, z, attention).sum(), noisy, create_graph=True)
    wrong = ((points_of(slope) - noise) / sigma).square().sum(-1)
    return 0.5 * (attention * wrong).sum(-1) / attention.sum(-1)
