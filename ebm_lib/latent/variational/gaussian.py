r"""Fuzzy codes: diagonal Gaussians over a latent variable, their draws, and the information they carry.

.. math::

    q(z) = \mathcal N(m, \operatorname{diag} s^2), \qquad z = m + s \odot \xi, \quad \xi \sim \mathcal N(0, I)

Everything here is written in the mean m and the standard deviation s (``std``), both (..., L), and refuses an s that is
not positive. A network gives log s², any real number, and ``(log_var / 2).exp()`` is its s. Information is in nats;
:func:`ebm_lib.latent.variational.in_bits` converts.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.data.draw import normal
from ebm_lib.latent.variational.shapes import leading
from ebm_lib.require import has_values, require_count, require_finite, require_points


class DiagonalGaussian(NamedTuple):
    """A Gaussian with independent dimensions: a ball, or an ellipsoid along the axes, with a soft edge.

    Attributes:
        mean: m, (..., L).
        std: s, (..., L), positive.
    """

    mean: Tensor
    std: Tensor


class Estimate(NamedTuple):
    """A number found by drawing.

    Attributes:
        value: the estimate, (...).
        error: its standard error, (...); +inf where one draw alone leaves it unknown.
    """

    value: Tensor
    error: Tensor


def require_std(name: str, std: Tensor) -> Tensor:
    """Return ``std`` if all its entries are positive and finite.

    Raises:
        ValueError: an entry that is zero, negative, NaN or infinite.

    >>> require_std("std", torch.tensor([1.0, 0.0]))
    Traceback (most recent call last):
    ...
    ValueError: std must be positive: 1 of 2 values are not, the first at index (1,) is 0.0
    """
    require_points(name, std)
    if has_values(std) and (wrong := std.detach() <= 0).any():
        where = tuple(wrong.nonzero()[0].tolist())
        raise ValueError(
            f"{name} must be positive: {int(wrong.sum())} of {std.numel()} values are not, "
            f"the first at index {where} is {std[where].item()}"
        )
    return std


def require_gaussian(mean: Tensor, std: Tensor) -> None:
    """Refuse a mean and a standard deviation that make no Gaussian.

    Raises:
        ValueError: last dimensions that differ, leading ones that do not broadcast, values not finite, standard
            deviations not positive.

    >>> require_gaussian(torch.zeros(5, 2), torch.ones(3))
    Traceback (most recent call last):
    ...
    ValueError: mean and std must have one size in their last dimension, got shapes (5, 2) and (3,)
    """
    require_points("mean", mean)
    require_std("std", std)
    if mean.shape[-1] != std.shape[-1]:
        raise ValueError(
            "mean and std must have one size in their last dimension, "
            f"got shapes {tuple(mean.shape)} and {tuple(std.shape)}"
        )
    leading(mean=mean, std=std)


def reparameterize(
    mean: Tensor,
    std: Tensor,
    *,
    samples: int | None = None,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Draw codes so that gradients reach the mean and the standard deviation.

    .. math:: z = m + s \odot \xi, \qquad \xi \sim \mathcal N(0, I)

    Args:
        mean: m, (..., L).
        std: s, (..., L), positive.
        samples: K draws for each Gaussian, (..., K, L); one, (..., L), if None.
        noise: ξ, of a shape that broadcasts with the result's; drawn if None.
        generator: draws ξ.

    Returns:
        z, (..., L) or (..., K, L).

    Raises:
        ValueError: s not positive, shapes that do not fit, K below 1, noise that is not finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Variational Auto-Encoder"; Kingma and
    Welling, Auto-Encoding Variational Bayes (ICLR 2014), section 2.4.

    >>> reparameterize(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 1.0]), noise=torch.tensor([2.0, -1.0]))
    tensor([2., 1.])
    """
    require_gaussian(mean, std)
    if samples is not None:
        require_count("samples", samples)
        mean, std = mean.unsqueeze(-2), std.unsqueeze(-2)
    shape = torch.broadcast_shapes(mean.shape, std.shape)
    if samples is not None:
        shape = (*shape[:-2], samples, shape[-1])
    if noise is None:
        noise = normal(shape, generator, mean.dtype, mean.device)
    else:
        require_finite("noise", noise)
        if noise.shape[-1:] != shape[-1:] or (samples is not None and noise.shape[-2:-1] != (samples,)):
            wanted = f"(..., {shape[-1]})" if samples is None else f"(..., {samples}, {shape[-1]})"
            raise ValueError(f"noise must be {wanted}, got shape {tuple(noise.shape)}")
        leading(noise=noise, codes=mean.expand(shape))
    return mean + std * noise


def log_normal_density(z: Tensor, mean: Tensor | None = None, std: Tensor | None = None) -> Tensor:
    r"""Log density of a diagonal Gaussian.

    .. math:: \log q(z) = -\sum_i \left[\frac{(z_i - m_i)^2}{2 s_i^2} + \log s_i + \tfrac12 \log 2\pi\right]

    Args:
        z: (..., L).
        mean: m, (..., L); 0 if None.
        std: s, (..., L), positive; 1 if None.

    Returns:
        (...), in nats.

    Raises:
        ValueError: s not positive, values not finite.

    >>> log_normal_density(torch.zeros(2))
    tensor(-1.8379)
    """
    require_points("z", z)
    mean = z.new_zeros(z.shape[-1]) if mean is None else mean
    std = z.new_ones(z.shape[-1]) if std is None else std
    require_gaussian(mean, std)
    if mean.shape[-1] != z.shape[-1]:
        raise ValueError(f"z must be (..., {mean.shape[-1]}) like the mean, got shape {tuple(z.shape)}")
    leading(z=z, mean=mean, std=std)
    return -(((z - mean) / std).square() / 2 + std.log() + math.log(2 * math.pi) / 2).sum(-1)


def gaussian_kl(
    mean: Tensor,
    std: Tensor,
    prior_mean: Tensor | None = None,
    prior_std: Tensor | None = None,
    *,
    per_dimension: bool = False,
) -> Tensor:
    r"""Information that a fuzzy code gives, in nats: its divergence from the prior.

    .. math::

        \mathrm{KL}(q \,\Vert\, p) = \sum_i \left[\log \frac{r_i}{s_i}
            + \frac{s_i^2 + (m_i - \mu_i)^2}{2 r_i^2} - \frac12\right]

    With the standard prior it is :math:`\frac12(m^2 + s^2 - \log s^2 - 1)` in each dimension: 0 at m = 0, s = 1 and
    nowhere else. The logarithm is natural, also where a slide writes :math:`\log_2` in this form.

    Args:
        mean: m, (..., L).
        std: s, (..., L), positive.
        prior_mean: μ, (..., L); 0 if None.
        prior_std: r, (..., L), positive; 1 if None.
        per_dimension: return each dimension's term, not their sum.

    Returns:
        (...), or (..., L) per dimension, in nats, at least 0 up to rounding.

    Raises:
        ValueError: s or r not positive, values not finite, shapes that do not fit.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Gaussian case".

    >>> gaussian_kl(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0]))
    tensor(0.5000)
    """
    require_gaussian(mean, std)
    for name, given in (("prior_mean", prior_mean), ("prior_std", prior_std)):
        if given is not None and require_points(name, given).shape[-1] != mean.shape[-1]:
            raise ValueError(f"{name} must be (..., {mean.shape[-1]}) like the mean, got shape {tuple(given.shape)}")
    if prior_mean is not None:
        leading(mean=mean, std=std, prior_mean=prior_mean)
        mean = mean - prior_mean
    if prior_std is not None:
        require_std("prior_std", prior_std)
        leading(mean=mean, std=std, prior_std=prior_std)
        mean, std = mean / prior_std, std / prior_std
    # (s - 1)(s + 1), not s² - 1: near its minimum the sum keeps its digits.
    terms = (mean.square() + (std - 1) * (std + 1)) / 2 - std.log()
    return terms if per_dimension else terms.sum(-1)


class InformationParts(NamedTuple):
    """What holds a fuzzy ball: KL from the standard Gaussian is the sum of both, per dimension.

    Attributes:
        spring: m²/2, the pull to the origin, (..., L), in nats.
        size: (s² - 1)/2 - log s, the price of a size other than 1, (..., L), in nats.
    """

    spring: Tensor
    size: Tensor


def information_parts(mean: Tensor, std: Tensor) -> InformationParts:
    r"""Split the information of a code into the spring that pulls it to the origin and the price of its size.

    .. math:: \mathrm{KL} = \underbrace{\tfrac12 m^2}_\text{spring}
        + \underbrace{\tfrac12 (s^2 - 1) - \log s}_\text{size}

    Args:
        mean: m, (..., L).
        std: s, (..., L), positive.

    Raises:
        ValueError: as :func:`gaussian_kl`.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Variational Auto-Encoder" (balls
    attached to the centre with a spring, sizes close to 1).

    >>> information_parts(torch.tensor([2.0]), torch.tensor([1.0]))
    InformationParts(spring=tensor([2.]), size=tensor([0.]))
    """
    require_gaussian(mean, std)
    mean, std = torch.broadcast_tensors(mean, std)
    return InformationParts(mean.square() / 2, gaussian_kl(torch.zeros_like(mean), std, per_dimension=True))


def sampled_kl(
    mean: Tensor,
    std: Tensor,
    samples: int,
    *,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Information of a code from draws: what is left to do where the prior or q has no closed form.

    .. math:: \widehat{\mathrm{KL}} = \frac1K \sum_k \log \frac{q(z_k)}{p(z_k)}, \qquad z_k = m + s \odot \xi_k

    Unbiased, for the standard Gaussian prior; so is its gradient, as z carries it to m and s. One estimate can be
    negative, which :func:`gaussian_kl` never is.

    Args:
        mean: m, (..., L).
        std: s, (..., L), positive.
        samples: K, at least 1.
        noise: ξ, (..., K, L); drawn if None.
        generator: draws ξ.

    Returns:
        The estimate, (...), in nats, with its standard error.

    Raises:
        ValueError: as :func:`reparameterize`.

    Source: Kingma and Welling, Auto-Encoding Variational Bayes (ICLR 2014), equation 6.

    >>> sampled_kl(torch.zeros(2), torch.ones(2), 10).value
    tensor(0.)
    """
    require_count("samples", samples)
    z = reparameterize(mean, std, samples=samples, noise=noise, generator=generator)
    return mean_estimate(log_normal_density(z, mean.unsqueeze(-2), std.unsqueeze(-2)) - log_normal_density(z), -1)


def mean_estimate(values: Tensor, dim: int) -> Estimate:
    """Mean of independent draws along a dimension, with its standard error.

    >>> mean_estimate(torch.tensor([1.0, 3.0]), 0)
    Estimate(value=tensor(2.), error=tensor(1.))
    """
    mean, count = values.mean(dim), values.shape[dim]
    if count == 1 or not mean.numel():
        return Estimate(mean, torch.full_like(mean, math.inf))
    return Estimate(mean, values.detach().std(dim) / math.sqrt(count))


def gaussian_entropy(std: Tensor, *, per_dimension: bool = False) -> Tensor:
    r"""Entropy of a diagonal Gaussian.

    .. math:: S = \sum_i \left[\log s_i + \tfrac12 \log 2\pi e\right]

    Args:
        std: s, (..., L), positive.
        per_dimension: return each dimension's term.

    Returns:
        (...), or (..., L) per dimension, in nats; negative for narrow ones, as a density's entropy can be.

    Raises:
        ValueError: s not positive.

    >>> gaussian_entropy(torch.ones(1))
    tensor(1.4189)
    """
    terms = require_std("std", std).log() + math.log(2 * math.pi * math.e) / 2
    return terms if per_dimension else terms.sum(-1)
