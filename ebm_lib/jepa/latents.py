r"""Latent variables of limited capacity for a predictor: discrete, sparse, noisy, and bounded with noise.

.. math::

    F(x, y) = \min_z E(x, y, z) + R(z) \qquad\text{or}\qquad
    F_\beta(x, y) = \min_q \langle E(x, y, z) \rangle_q + \tfrac1\beta \text{KL}(q \,\Vert\, p)

What a future has that the past does not tell must come from z; and what z may say is bounded, so that it does not say
everything. Each class here bounds it in another way, and offers what :class:`ebm_lib.jepa.Latent` asks for. Where z is
found by a search (:class:`Discrete`, :class:`Sparse`) it is handed over without gradient: by the envelope theorem the
free energy's gradient is that of E at the z found. Where a network gives it (:class:`Noisy`, :class:`Bounded`),
gradients flow through.

Prices are in units of the energy, information is in nats: 1/β is what a nat costs.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ebm_lib import free_energy as fe
from ebm_lib.data.draw import normal, uniform
from ebm_lib.jepa.latent import Inferred
from ebm_lib.joint._require import require_weight
from ebm_lib.latent.sparse import soft_threshold
from ebm_lib.latent.variational import DiagonalGaussian, gaussian_kl, project_ball, reparameterize
from ebm_lib.latent.variational.shapes import joined, leading
from ebm_lib.nn import MLP
from ebm_lib.require import has_values, require_count, require_finite, require_positive

EnergyOfZ = Callable[[Tensor], Tensor]
HALVINGS = 60  # of a step, before it is given up: from 1e6 to 1e-12
GROWTH, LONGEST = 1.2, 1e6  # of a step that was right, for the next one; where z stays at 0 it always is


class Discrete(nn.Module):
    r"""One of K values, tried one by one: at most log K nats.

    .. math::

        \check z = \operatorname{argmin}_k E(x, y, e_k), \quad R = 0 \qquad\text{or, at a finite } \beta, \qquad
        z \sim P_k \propto p_k\, e^{-\beta E(x, y, e_k)}, \quad R = \tfrac1\beta \text{KL}(P \,\Vert\, p)

    z is a unit vector, whose product with the predictor's weights is a learned code. At β = ∞ the best value is taken,
    and costs nothing: ``K`` alone limits what it says. At a finite β it is drawn, and ⟨E⟩ + R is
    :math:`F_\beta(x, y)`, whose gradient is that of E on average over the draws. The frequencies p of the values are
    observed while training, as batch normalisation's statistics are, and are uniform before; :meth:`sample` draws from
    them.

    Args:
        K: values; with 1 there is nothing to say.
        beta: inverse temperature, > 0, in 1 / energy.
        momentum: share of a new batch in the frequencies, in (0, 1].

    Attributes:
        L: K.
        frequencies: p, (K,).

    Raises:
        ValueError: options out of range; when inferring, an energy that is not finite.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Latent-Variable
        Generative EBM"; Guzman-Rivera, Batra and Kohli, Multiple Choice Learning (NIPS 2012), for training the best.

    >>> latent = Discrete(3)
    >>> roads, s_y = torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([[0.9], [-0.2]])
    >>> latent.infer(lambda z: (z @ roads - s_y[:, 0]).square(), s_y, s_y).z.argmax(-1)
    tensor([2, 1])
    """

    frequencies: Tensor

    def __init__(self, K: int, *, beta: float = math.inf, momentum: float = 0.02) -> None:
        super().__init__()
        self.L = require_count("K", K)
        self.beta = require_positive("beta", beta, allow_inf=True)
        if isinstance(momentum, bool) or not 0 < momentum <= 1:
            raise ValueError(f"momentum must be in (0, 1], got {momentum}")
        self.momentum = momentum
        self.register_buffer("frequencies", torch.full((K,), 1 / K))

    def energies(self, energy: EnergyOfZ, s_x: Tensor) -> Tensor:
        """E of each value, (..., K), for the energy of z and any tensor (..., D) that tells the pairs' shape."""
        values = torch.eye(self.L, dtype=s_x.dtype, device=s_x.device)
        values = values.view(self.L, *[1] * (s_x.ndim - 1), self.L)
        return require_finite("energy", energy(values)).movedim(0, -1)

    @torch.no_grad()
    def infer(self, energy: EnergyOfZ, s_x: Tensor, s_y: Tensor, generator: torch.Generator | None = None) -> Inferred:
        """The best value, or one drawn; without gradient."""
        energies = self.energies(energy, s_x if s_x.ndim >= s_y.ndim else s_y)
        if math.isinf(self.beta):
            chosen = energies.argmin(-1)
            posterior, cost = self._values(chosen, energies), torch.zeros_like(energies[..., 0])
        else:
            prior = self.frequencies.to(energies).log()
            posterior = fe.posterior(energies, self.beta, log_volume=prior)
            chosen = _pick(posterior, uniform(posterior.shape[:-1], generator, posterior.dtype, posterior.device))
            ratio = (posterior / self.frequencies.to(energies)).log()
            cost = torch.where(posterior > 0, posterior * ratio, 0).sum(-1).clamp(min=0) / self.beta
        if self.training:
            self.frequencies.lerp_(posterior.reshape(-1, self.L).mean(0).to(self.frequencies), self.momentum)
        return Inferred(self._values(chosen, energies), cost)

    def sample(self, s_x: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Values as frequent as they were, (..., n, K)."""
        shape = (*s_x.shape[:-1], require_count("n", n))
        chances = self.frequencies.to(s_x).expand(*shape, -1)
        return self._values(_pick(chances, uniform(shape, generator, s_x.dtype, s_x.device)), s_x)

    def _values(self, chosen: Tensor, like: Tensor) -> Tensor:
        return torch.eye(self.L, dtype=like.dtype, device=like.device)[chosen]


class Sparse(nn.Module):
    r"""A code with a price on its length: few numbers that are not zero.

    .. math::

        \check z = \operatorname{argmin}_z E(x, y, z) + \lambda \lVert z \rVert_1, \qquad
        z \leftarrow \operatorname{Shrink}_{\eta\lambda}\big[z - \eta \nabla_z E(x, y, z)\big]

    from z = 0, with a step η for each pair that is halved until
    :math:`E(z') \le E(z) + \nabla E \cdot (z' - z) + \lVert z' - z \rVert^2 / 2\eta` and tried a little longer
    the next time, so that E + R never rises, whatever the predictor. What it finds is the minimum where E is convex in
    z, as for :class:`Dictionary`, else a nearby one.

    The price is of z, not of what the predictor makes of it: a predictor that multiplies z by a thousand makes it a
    thousand times cheaper. Give it one that cannot, such as :class:`Dictionary`. Codes inferred while training are
    kept, and :meth:`sample` draws from these, as they come, whatever x; before, it returns zeros.

    Args:
        L: dimensions of z.
        weight: λ ≥ 0, in energy; large enough, z is 0, and there is nothing to say.
        steps: of the search.
        memory: codes that are kept.

    Attributes:
        codes: those kept last, (memory, L).

    Raises:
        ValueError: options out of range; when inferring, an energy that is not finite.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Regularized Latent
        Variable: Sparse Coding"; Beck and Teboulle, A Fast Iterative Shrinkage-Thresholding Algorithm for Linear
        Inverse Problems (SIAM Journal on Imaging Sciences 2009), section 3, for the step.

    >>> s = torch.tensor([[3.0, 0.2]])
    >>> Sparse(2, 1.0).infer(lambda z: (z - s).square().sum(-1), s, s)
    Inferred(z=tensor([[2.5000, 0.0000]]), cost=tensor([2.5000]))
    """

    codes: Tensor
    kept: Tensor

    def __init__(self, L: int, weight: float, *, steps: int = 20, memory: int = 1024) -> None:
        super().__init__()
        self.L, self.weight, self.steps = require_count("L", L), require_weight("weight", weight), steps
        require_count("steps", steps)
        self.register_buffer("codes", torch.zeros(require_count("memory", memory), L))
        self.register_buffer("kept", torch.zeros((), dtype=torch.long))

    def infer(self, energy: EnergyOfZ, s_x: Tensor, s_y: Tensor, generator: torch.Generator | None = None) -> Inferred:
        """ž by proximal descent, without gradient; nothing is drawn."""
        with torch.no_grad():
            z = s_x.new_zeros(*leading(s_x=s_x, s_y=s_y), self.L)
            rate = torch.ones_like(z[..., :1])
            for _ in range(self.steps):
                before = z
                z, rate = self._step(energy, z, rate)
                if has_values(z) and torch.equal(z, before):
                    break
            if self.training:
                self._keep(z.reshape(-1, self.L))
            return Inferred(z, self.weight * z.abs().sum(-1))

    def sample(self, s_x: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Codes that were inferred for some pair or other, (..., n, L)."""
        shape = (*s_x.shape[:-1], require_count("n", n))
        stored = self.codes[: min(len(self.codes), int(self.kept))] if has_values(self.kept) else self.codes
        stored = stored if len(stored) else self.codes
        rows = (len(stored) * uniform(shape, generator, s_x.dtype, s_x.device)).long().clamp(max=len(stored) - 1)
        return stored.to(s_x)[rows]

    def _step(self, energy: EnergyOfZ, z: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            at = z.detach().requires_grad_()
            here = require_finite("energy", energy(at))
            (slope,) = torch.autograd.grad(here.sum(), at)
        rounding = 4 * torch.finfo(z.dtype).eps * here.abs()
        for _ in range(HALVINGS if has_values(z) else 1):
            new = soft_threshold(z - rate * slope, rate * self.weight)
            moved = new - z
            bound = here + (slope * moved).sum(-1) + moved.square().sum(-1) / (2 * rate[..., 0])
            fits = (energy(new) <= bound + rounding).unsqueeze(-1)
            if has_values(fits) and fits.all():
                break
            rate = torch.where(fits, rate, rate / 2)
        return torch.where(fits, new, z), (GROWTH * rate).clamp(max=LONGEST)

    def _keep(self, z: Tensor) -> None:
        z = z[-len(self.codes) :]
        rows = (self.kept + torch.arange(len(z), device=self.codes.device)) % len(self.codes)
        self.codes[rows] = z.to(self.codes)
        self.kept += len(z)


class _Amortized(nn.Module):
    """What a network reads off both representations, side by side: ``values`` numbers for each pair."""

    def __init__(
        self, D: int, L: int, values: int, out: int | None, hidden: Sequence[int], activation: str,
        generator: torch.Generator | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.L = L
        width = require_count("D", D) + (D if out is None else out)
        self.encoder = MLP((width, *hidden, values), activation=activation, generator=generator)

    def read(self, s_x: Tensor, s_y: Tensor) -> Tensor:
        """The network's answer, (..., values), for s_x (..., D) and s_y (..., D')."""
        both, width = joined(s_x=s_x, s_y=s_y), self.encoder.sizes[0]
        if both.shape[-1] != width:
            raise ValueError(
                f"s_x and s_y must have {width} dimensions together, "
                f"got shapes {tuple(s_x.shape)} and {tuple(s_y.shape)}"
            )
        return self.encoder(both)


class Noisy(_Amortized):
    r"""A Gaussian code that a network reads off both representations: fuzzy, and paid for by the nat.

    .. math::

        q(z \mid s_x, s_y) = \mathcal N(m, \operatorname{diag} s^2), \qquad z = m + s \odot \xi, \qquad
        R = \tfrac1\beta \text{KL}\big(q \,\Vert\, \mathcal N(0, I)\big)

    With E on average over draws, E + R is the variational free energy, never below :math:`F_\beta`. Gradients reach the
    network, and through it s_x and s_y. For a small β the network says nothing, s = 1 and m = 0, and z is noise; for a
    large one z may say all.

    Args:
        D: dimensions of s_x.
        L: dimensions of z.
        beta: what a nat costs is 1/β, > 0.
        out: dimensions of s_y; D if None.
        hidden: widths of the network's hidden layers.
        activation: a key of ``ebm_lib.nn.ACTIVATIONS``.
        generator: where the weights come from.

    Attributes:
        encoder: s_x and s_y, side by side, to m and log s².

    Raises:
        ValueError: sizes or options out of range; when inferring, representations of another width.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Making z a noisy
        variable to reduce its information content"; Kingma and Welling, Auto-Encoding Variational Bayes (ICLR 2014).

    >>> latent = Noisy(4, 2, beta=10.0, generator=torch.Generator().manual_seed(0))
    >>> s_x, s_y = torch.zeros(2, 5, 4)
    >>> found = latent.infer(lambda z: z.sum(-1), s_x, s_y, torch.Generator().manual_seed(0))
    >>> found.z.shape, bool((found.cost >= 0).all())
    (torch.Size([5, 2]), True)
    """

    def __init__(
        self,
        D: int,
        L: int,
        *,
        beta: float,
        out: int | None = None,
        hidden: Sequence[int] = (64,),
        activation: str = "silu",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(D, require_count("L", L), 2 * L, out, hidden, activation, generator)
        self.beta = require_positive("beta", beta)

    def encode(self, s_x: Tensor, s_y: Tensor) -> DiagonalGaussian:
        """q: m and s, each (..., L)."""
        mean, log_var = self.read(s_x, s_y).chunk(2, -1)
        return DiagonalGaussian(mean, (log_var / 2).exp())

    def infer(self, energy: EnergyOfZ, s_x: Tensor, s_y: Tensor, generator: torch.Generator | None = None) -> Inferred:
        """One draw from q, and q's price; the energy is not looked at."""
        q = self.encode(s_x, s_y)
        return Inferred(reparameterize(*q, generator=generator), gaussian_kl(*q) / self.beta)

    def sample(self, s_x: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws from N(0, I), (..., n, L)."""
        return normal((*s_x.shape[:-1], require_count("n", n), self.L), generator, s_x.dtype, s_x.device)


class Bounded(_Amortized):
    r"""A code within a ball, plus noise of a fixed size: no price, and no more nats than the noise lets through.

    .. math::

        z = \Pi_{\sqrt L}\big[\text{Enc}(s_x, s_y)\big] + \sigma \xi, \quad \xi \sim \mathcal N(0, I), \qquad
        I \le \tfrac L2 \log\Big(1 + \frac1{\sigma^2}\Big) \text{ nats}

    with Π the nearest point of the ball of radius √L, in which a coordinate has a mean square of at most 1: a Gaussian
    channel of that power. :meth:`sample` puts the noise around points spread evenly over the ball.

    Args:
        D: dimensions of s_x.
        L: dimensions of z.
        noise: σ > 0.
        out: dimensions of s_y; D if None.
        hidden: widths of the network's hidden layers.
        activation: a key of ``ebm_lib.nn.ACTIVATIONS``.
        generator: where the weights come from.

    Attributes:
        encoder: s_x and s_y, side by side, to the code before it is put into the ball.
        capacity: the bound, in nats.

    Raises:
        ValueError: as :class:`Noisy`.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Regularized Latent Variable EBM" ("Add
        noise to z while limiting its L2 norm"); Shannon, A Mathematical Theory of Communication (Bell System Technical
        Journal 1948), theorem 17, for the bound.

    >>> round(Bounded(4, 2, noise=1.0).capacity, 4)
    0.6931
    """

    def __init__(
        self,
        D: int,
        L: int,
        *,
        noise: float,
        out: int | None = None,
        hidden: Sequence[int] = (64,),
        activation: str = "silu",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(D, require_count("L", L), L, out, hidden, activation, generator)
        self.noise = require_positive("noise", noise)
        self.capacity = L / 2 * math.log1p(1 / noise**2)

    def encode(self, s_x: Tensor, s_y: Tensor) -> DiagonalGaussian:
        """Where z is drawn around, and σ: (..., L) each."""
        mean = project_ball(self.read(s_x, s_y), radius=math.sqrt(self.L))
        return DiagonalGaussian(mean, torch.full_like(mean, self.noise))

    def infer(self, energy: EnergyOfZ, s_x: Tensor, s_y: Tensor, generator: torch.Generator | None = None) -> Inferred:
        """The code with noise on it, and a price of 0; the energy is not looked at."""
        z = reparameterize(*self.encode(s_x, s_y), generator=generator)
        return Inferred(z, torch.zeros_like(z[..., 0]))

    def sample(self, s_x: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Points of the ball, with noise, (..., n, L)."""
        shape = (*s_x.shape[:-1], require_count("n", n), self.L)
        way, noise = normal((2, *shape), generator, s_x.dtype, s_x.device)
        far = uniform((*shape[:-1], 1), generator, s_x.dtype, s_x.device) ** (1 / self.L)
        return math.sqrt(self.L) * far * torch.nn.functional.normalize(way, dim=-1) + self.noise * noise


def _pick(chances: Tensor, u: Tensor) -> Tensor:
    """Which value uniform numbers (...) stand for under chances (..., K)."""
    return (u.unsqueeze(-1) >= chances.cumsum(-1)).sum(-1).clamp(max=chances.shape[-1] - 1)
