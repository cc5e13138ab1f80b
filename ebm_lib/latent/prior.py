r"""Models whose latent variable has a fixed, normalised prior: the prior's entropy bounds their low-energy volume.

.. math::

    E(y, z) = \lVert y - \text{Dec}(z) \rVert^2, \qquad
    F_\beta(y) = -\frac{1}{\beta} \log \sum_k p_k\,e^{-\beta E(y, z_k)}

With a prior that sums to one, :math:`\int e^{-\beta F_\beta(y)}\,dy = (\pi/\beta)^{D/2}` whatever the decoder: the
model is normalised, so energy that is lowered in one place rises in another, and no contrastive points are needed.
"""

import math
import sys
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ebm_lib import train
from ebm_lib.data.draw import kind_of, normal, uniform
from ebm_lib.free_energy import over_discrete, posterior
from ebm_lib.latent.model import require_data, require_decoded, require_last
from ebm_lib.nn import MLP
from ebm_lib.require import (
    has_values,
    require_choice,
    require_count,
    require_finite,
    require_nonempty,
    require_points,
    require_positive,
)


class Prior(NamedTuple):
    """A normalised distribution over K latent values.

    Attributes:
        codes: the values, (K, L).
        log_mass: log of each one's probability, (K,); -inf rules a value out.
    """

    codes: Tensor
    log_mass: Tensor

    @property
    def entropy(self) -> Tensor:
        """Entropy of z in nats, a scalar; at most log K."""
        return torch.special.entr(self.log_mass.exp()).sum()


def latent_prior(
    kind: str,
    L: int,
    K: int,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Prior:
    r"""Represent a simple prior in L dimensions by K values of equal mass.

    In one dimension the values are the quantiles at the middles of K equal masses, so nothing is drawn and averages
    over them converge fast; in more they are independent draws.

    Args:
        kind: ``"normal"``, the standard Gaussian; ``"uniform"``, on [-1, 1] in each dimension.
        L: dimensions of z.
        K: how many values.
        generator: source of randomness, used if L > 1.
        dtype: of the values.
        device: of the values.

    Raises:
        ValueError: an unknown kind, a size below 1.

    >>> latent_prior("uniform", 1, 4).codes.flatten()
    tensor([-0.7500, -0.2500,  0.2500,  0.7500])
    """
    require_choice("kind", kind, ("normal", "uniform"))
    require_count("L", L)
    require_count("K", K)
    dtype, device = kind_of(None, dtype, device)
    if L == 1:
        codes = 2 * ((torch.arange(K, dtype=dtype, device=device) + 0.5) / K).unsqueeze(-1) - 1
        if kind == "normal":
            codes = math.sqrt(2) * torch.erfinv(codes)
    elif kind == "normal":
        codes = normal((K, L), generator, dtype, device)
    else:
        codes = 2 * uniform((K, L), generator, dtype, device) - 1
    return Prior(codes, codes.new_full((K,), -math.log(K)))


def volume_bound(threshold: float, beta: float, D: int) -> float:
    r"""Largest volume on which the free energy of any model with a normalised prior can be as low as a threshold.

    .. math::

        \lvert \{y : F_\beta(y) \le t\} \rvert \le e^{\beta t} \int e^{-\beta F_\beta(y)}\,dy
        = e^{\beta t} \left(\frac{\pi}{\beta}\right)^{D/2}

    Args:
        threshold: t, in units of energy.
        beta: inverse temperature, > 0 and finite.
        D: dimensions of y.

    Returns:
        The volume, in units of y to the power D; inf where it is beyond a float.

    Raises:
        ValueError: beta not positive and finite, D below 1, a threshold that is not finite.

    >>> round(volume_bound(0.0, math.pi, 2), 6)
    1.0
    """
    require_positive("beta", beta)
    require_count("D", D)
    if not math.isfinite(threshold):
        raise ValueError(f"threshold must be a finite energy, got {threshold}")
    log_volume = beta * threshold + D / 2 * math.log(math.pi / beta)
    return math.exp(log_volume) if log_volume < math.log(sys.float_info.max) else math.inf


class FixedPrior(nn.Module):
    r"""A decoder whose latent variable follows a prior that learning leaves alone.

    .. math::

        F_\beta(y) = -\frac{1}{\beta} \log \sum_k p_k\,e^{-\beta \lVert y - \text{Dec}(z_k) \rVert^2}, \qquad
        S(y) \le S(z) + \frac D2 \log \frac{\pi e}{\beta}

    The model's distribution is a decoded value of z plus Gaussian noise of variance 1/2β. Its entropy is at most the
    prior's plus the noise's: the typical volume :math:`e^{S(y)}` is at most :math:`e^{S(z)}` balls of noise, however
    the decoder bends. A prior of lower entropy leaves less room.

    Args:
        D: dimensions of y.
        prior: the latent values and their masses, kept as buffers.
        beta: inverse temperature of the model, > 0 and finite, in units of 1/y².
        hidden: widths of the decoder's hidden layers; none makes it linear.
        decoder: any module (..., L) → (..., D) in place of the perceptron.
        activation: the perceptron's.
        generator: draws the weights (see :func:`ebm_lib.nn.init_`).

    Attributes:
        decoder: the module.
        prior: as given.
        beta: as given.

    Raises:
        ValueError: a prior that does not sum to one, is not (K, L) and (K,), a size below 1, beta out of range.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Architectural Methods"; Bishop,
    Svensén and Williams, GTM: the generative topographic mapping (Neural Computation 10, 1998).

    >>> model = FixedPrior(2, latent_prior("uniform", 1, 32), beta=50.0, hidden=(16,))
    >>> model(torch.zeros(5, 2)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        D: int,
        prior: Prior,
        *,
        beta: float,
        hidden: tuple[int, ...] = (32,),
        decoder: nn.Module | None = None,
        activation: str = "tanh",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.D, self.beta = require_count("D", D), require_positive("beta", beta)
        codes, log_mass = prior
        require_points("prior.codes", codes)
        if codes.ndim != 2 or log_mass.shape != codes.shape[:1]:
            raise ValueError(
                f"prior must hold codes (K, L) and log-masses (K,), got {tuple(codes.shape)}, {tuple(log_mass.shape)}"
            )
        require_nonempty("prior.codes", codes, 0)
        require_finite("-prior.log_mass", -log_mass, allow_posinf=True)
        total = torch.logsumexp(log_mass.double(), 0)
        if has_values(total) and abs(total.item()) > 1e-4:
            raise ValueError(f"prior must sum to one, and its masses sum to {total.exp().item():.6g}")
        self.register_buffer("codes", codes.detach().clone())
        self.register_buffer("log_mass", log_mass.detach().clone())
        self.decoder = decoder or MLP(
            (codes.shape[1], *hidden, D),
            activation=activation,
            generator=generator,
            device=codes.device,
            dtype=codes.dtype,
        )

    @property
    def prior(self) -> Prior:
        """The latent values and their masses."""
        return Prior(self.codes, self.log_mass)

    @property
    def entropy_bound(self) -> Tensor:
        """The most that the entropy of the model's distribution can be, in nats, a scalar."""
        return self.prior.entropy + self.D / 2 * math.log(math.pi * math.e / self.beta)

    def decode(self, z: Tensor) -> Tensor:
        """Return ȳ = Dec(z), (..., D), for z (..., L)."""
        return require_decoded(self.decoder(require_last("z", z, self.codes.shape[1])), self.D, z)

    def energy(self, y: Tensor, z: Tensor) -> Tensor:
        """Return E(y, z), the squared distance of y, (..., D), from what z, (..., L), decodes to."""
        return (require_last("y", y, self.D) - self.decode(z)).square().sum(-1)

    def energies(self, y: Tensor) -> Tensor:
        """Return E(y, z_k) at every latent value, (..., K), for y (..., D)."""
        return self.energy(y.unsqueeze(-2), self.codes)

    def infer(self, y: Tensor) -> Tensor:
        """Return ž, (..., L): of the latent values with any mass, the one that decodes closest to y, (..., D)."""
        with torch.no_grad():
            possible = torch.where(self.log_mass == -math.inf, math.inf, self.energies(y))
            return self.codes[possible.argmin(-1)]

    def posterior(self, y: Tensor, beta: float | None = None) -> Tensor:
        """Return P(z_k | y), (..., K), for y (..., D), at the model's β or another."""
        return posterior(self.energies(y), self.beta if beta is None else beta, log_volume=self.log_mass)

    def free_energy(self, y: Tensor, beta: float | None = None) -> Tensor:
        """Return F_β(y), (...), for y (..., D), at the model's β or another; ∞ takes the closest decoded value."""
        return over_discrete(self.energy, y, self.codes, self.beta if beta is None else beta, log_prior=self.log_mass)

    forward = free_energy

    def log_density(self, y: Tensor) -> Tensor:
        r"""Return log p(y), (...), for y (..., D): :math:`-\beta F_\beta(y) - \frac D2 \log \frac\pi\beta`."""
        return -self.beta * self.free_energy(y) - self.D / 2 * math.log(math.pi / self.beta)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n points, (n, D): latent values from the prior, decoded, plus noise of variance 1/2β."""
        require_count("n", n)
        kind = self.codes.dtype, self.codes.device
        edges = self.log_mass.double().exp().cumsum(0)
        # Rounding may leave the last edge short of 1; scaled by it, no draw falls beyond a value with mass.
        place = torch.searchsorted(edges / edges[-1], uniform((n,), generator, torch.float64, kind[1]), right=True)
        with torch.no_grad():
            return self.decode(self.codes[place]) + normal((n, self.D), generator, *kind) / math.sqrt(2 * self.beta)

    def learn(self, y: Tensor, *, steps: int = 500, progress: bool = False, **options: Any) -> train.History:
        """Lower the mean free energy of the data: since the model is normalised, that is maximum likelihood.

        Args:
            y: (N, D).
            steps: how many gradient steps.
            progress: show a bar.
            options: of :func:`ebm_lib.train.fit`, such as ``lr``, ``batch_size`` and ``generator``.

        Raises:
            ValueError: data of another shape or not finite; as :func:`ebm_lib.train.fit`.
        """
        require_data(y, self.D)
        return train.fit(self, lambda model, y: model(y).mean(), y, steps=steps, progress=progress, **options)
