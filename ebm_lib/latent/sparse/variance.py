r"""Sparse coding with any decoder: what keeps the code from shrinking is its own variance, not the decoder's norm.

.. math:: E(y, z) = \lVert y - \text{Dec}(z) \rVert^2 + \lambda \lVert z \rVert_1

A decoder of several layers can make large what is small, so that λ‖z‖₁ costs nothing, and its weights cannot simply be
normalised. Instead the codes of a batch are found together, at a price for every unit that varies too little in it.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ebm_lib.latent.model import Learned, require_data, require_decoded, require_last
from ebm_lib.latent.sparse.shrinkage import soft_threshold
from ebm_lib.nn import MLP
from ebm_lib.require import require_count, require_finite, require_positive


def variance_hinge(z: Tensor, *, target: float = 1.0) -> Tensor:
    r"""Price of units whose standard deviation over a batch is below a target.

    .. math:: V(Z) = \sum_k \Big[\max\Big(0,\; T - \sqrt{\operatorname{Var}_b(z_{bk})}\Big)\Big]^2

    Args:
        z: codes of a batch, (B, K), B ≥ 2; the variance divides by B − 1.
        target: T > 0, in units of z.

    Returns:
        One number, from 0 to K·T².

    Raises:
        ValueError: a batch of one, which has no variance; T not positive; codes that are not finite.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), references; Evtimova
    and LeCun, Sparse Coding with Multi-layer Decoders using Variance Regularization (TMLR 2022).

    >>> variance_hinge(torch.tensor([[0.0, 0.0], [0.0, 2.0]]))
    tensor(1.)
    """
    if z.ndim != 2 or len(z) < 2:
        raise ValueError(f"z must be the codes of a batch, (B, K) with B of at least 2, got shape {tuple(z.shape)}")
    require_positive("target", target)
    require_finite("z", z)
    # The root's slope at 0 is infinite: a unit that is off everywhere would not know which way to go, and is left.
    variance = z.var(0)
    safe = torch.where(variance > 0, variance, torch.ones_like(variance))
    deviation = torch.where(variance > 0, safe.sqrt(), torch.zeros_like(variance))
    return (target - deviation).clamp_min(0).square().sum()


class VarianceSparseCoding(nn.Module):
    r"""Sparse coding with a decoder of any kind, whose codes keep their variance in learning.

    .. math::

        E(y, z) = \lVert y - \text{Dec}(z) \rVert^2 + \lambda \lVert z \rVert_1, \qquad z \ge 0, \qquad
        \check Z = \operatorname{argmin}_Z \sum_b E(y_b, z_b) + \gamma B\,V(Z)

    with V from :func:`variance_hinge`, in learning only: then the decoder's weights take one step down the slope of
    E at Ž. With γ = 0 the codes shrink as the decoder grows.

    Args:
        sizes: widths of the decoder from code to data: (K, ..., D); two for a linear one.
        lam: λ > 0.
        gamma: γ ≥ 0, price of a missing variance.
        target: T > 0, the standard deviation asked for.
        activation: between the decoder's layers.
        decoder: another decoder, (..., K) → (..., D), in place of the perceptron; sizes then says K and D.
        generator: where the decoder's weights come from.
        device: where the parameters live.
        dtype: their dtype.

    Attributes:
        decoder: the decoder.

    Raises:
        ValueError: bad sizes, λ or T not positive, γ negative; in every method, another last dimension or values that
            are not finite.

    Source: Evtimova and LeCun, Sparse Coding with Multi-layer Decoders using Variance Regularization (TMLR 2022).

    >>> model = VarianceSparseCoding((8, 16, 4), lam=0.1, generator=torch.Generator().manual_seed(0))
    >>> model.infer(torch.zeros(3, 4)).shape
    torch.Size([3, 8])
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        *,
        lam: float,
        gamma: float = 1.0,
        target: float = 1.0,
        activation: str = "relu",
        decoder: nn.Module | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= gamma < math.inf:
            raise ValueError(f"gamma must be a finite number of at least 0, got {gamma}")
        self.lam, self.gamma, self.target = require_positive("lam", lam), gamma, require_positive("target", target)
        if decoder is None:
            decoder = MLP(sizes, activation=activation, generator=generator, device=device, dtype=dtype)
        self.K, self.D = require_count("sizes[0]", sizes[0]), require_count("sizes[-1]", sizes[-1])
        self.decoder = decoder

    def decode(self, z: Tensor) -> Tensor:
        """ȳ = Dec(z), (..., K) gives (..., D)."""
        return require_decoded(self.decoder(require_last("z", z, self.K)), self.D, z)

    def energy(self, y: Tensor, z: Tensor) -> Tensor:
        """E(y, z): (..., D) and (..., K) give (...), their leading dimensions broadcast."""
        require_last("y", y, self.D)
        return (y - self.decode(z)).square().sum(-1) + self.lam * z.abs().sum(-1)

    def infer(self, y: Tensor, *, steps: int = 100, start: Tensor | None = None) -> Tensor:
        r"""ž ≥ 0 of low E(y, z), (..., K), each point on its own; no gradient flows through.

        By proximal steps whose length each point finds by halving, so that its energy never rises; E need not be
        convex, and the minimum found is a local one.

        Args:
            y: (..., D).
            steps: how many.
            start: (..., K); 0.1 everywhere if None.
        """
        require_last("y", y, self.D)
        begin = self._begin(y, start)

        def smooth(z: Tensor) -> Tensor:
            return (y - self.decoder(z)).square().sum(-1)

        return _descend(smooth, begin, self.lam, steps)

    def infer_batch(self, y: Tensor, *, steps: int = 100, start: Tensor | None = None) -> Tensor:
        r"""The codes of a batch found together, with the price of missing variance, (B, K); no gradient flows through.

        Args:
            y: (B, D), B ≥ 2.
            steps: how many.
            start: (B, K); 0.1 everywhere if None.

        Raises:
            ValueError: a batch of one, which has no variance.
        """
        require_data(y, self.D, minimum=2)
        begin = self._begin(y, start)

        def smooth(z: Tensor) -> Tensor:
            error = (y - self.decoder(z)).square().sum()
            return error + self.gamma * len(y) * variance_hinge(z, target=self.target)

        return _descend(smooth, begin, self.lam, steps)

    def free_energy(self, y: Tensor, beta: float = math.inf) -> Tensor:
        """F(y) = min_z E(y, z), (...), as far as :meth:`infer` finds it; its gradients are those of E at ž.

        Raises:
            ValueError: a finite beta: that integral over z has no closed form.
        """
        require_positive("beta", beta, allow_inf=True)
        if not math.isinf(beta):
            raise ValueError(f"beta must be inf: a sparse code has no closed form at a finite one, got {beta}")
        return self.energy(y, self.infer(y.detach()))

    def forward(self, y: Tensor) -> Tensor:
        """The free energy at β = ∞: see :meth:`free_energy`."""
        return self.free_energy(y)

    def learn(
        self,
        y: Tensor,
        *,
        steps: int = 300,
        batch_size: int = 128,
        lr: float = 3e-3,
        code_steps: int = 50,
        generator: torch.Generator | None = None,
        progress: bool = True,
    ) -> Learned:
        """Learn the decoder: codes of a batch by :meth:`infer_batch`, then one step of Adam on its mean energy.

        Args:
            y: (N, D), N ≥ batch_size.
            steps: how many batches.
            batch_size: B ≥ 2 points in each, drawn with replacement.
            lr: Adam's learning rate.
            code_steps: steps of inference.
            generator: draws the batches.
            progress: show a bar.

        Returns:
            A Learned: the mean energy of each batch, without the price of variance; it has no stopping test.

        Raises:
            ValueError: data that are not (N, D), fewer than a batch, or a batch of one.
        """
        require_data(y, self.D, minimum=require_count("batch_size", batch_size, minimum=2))
        require_count("steps", steps)
        optimizer = torch.optim.Adam(self.decoder.parameters(), lr=require_positive("lr", lr))
        origin = y.device if generator is None else generator.device
        losses: list[float] = []
        with tqdm(total=steps, unit="step", disable=not progress) as bar:
            for _ in range(steps):
                rows = torch.randint(len(y), (batch_size,), generator=generator, device=origin).to(y.device)
                batch = y[rows]
                loss = self.energy(batch, self.infer_batch(batch, steps=code_steps)).mean()
                require_finite("energy", loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                bar.update()
                bar.set_postfix(energy=f"{losses[-1]:.4g}", refresh=False)
        return Learned(losses, False)

    def _begin(self, y: Tensor, start: Tensor | None) -> Tensor:
        # Away from 0, where rectifiers have no slope. All alike they have no variance, and no slope of it: the first
        # step, down the reconstruction error, tells the points of a batch apart.
        if start is None:
            return y.new_full((*y.shape[:-1], self.K), 0.1)
        return require_last("start", start, self.K).clamp_min(0)


def _descend(smooth: Callable[[Tensor], Tensor], z: Tensor, lam: float, steps: int) -> Tensor:
    """Proximal gradient steps on smooth(z) + λ‖z‖₁, z ≥ 0; a step that goes too far is undone and halved.

    ``smooth`` gives one number per row of z, or one for all rows together.
    """
    require_count("steps", steps)
    z = z.detach()
    rate = None
    for _ in range(steps):
        with torch.enable_grad():
            at = z.requires_grad_()
            value = smooth(at)
            (slope,) = torch.autograd.grad(value.sum(), at)
        with torch.no_grad():
            z, value = at.detach(), value.detach()
            if rate is None:
                rate = torch.full_like(value, 0.5)
            step = rate.unsqueeze(-1) if value.ndim else rate
            new = soft_threshold(z - step * slope, lam * step, nonnegative=True)
            move = new - z
            over = (slope * move).sum(-1), move.square().sum(-1)
            linear, square = over if value.ndim else (over[0].sum(), over[1].sum())
            # The test of Beck and Teboulle (2009): the quadratic bound of this step must hold at its end.
            good = smooth(new) <= value + linear + square / (2 * rate) + 1e-6 * value.abs()
            z = torch.where(good.unsqueeze(-1) if value.ndim else good, new, z)
            rate = torch.where(good, rate * 1.2, rate / 2)
    return z.detach()
