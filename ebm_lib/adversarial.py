r"""Adversarial learning: a critic, which is an energy, and a generator that learns where the critic must push up.

.. math:: F^+ = F_w(y), \qquad F^- = F_w(\hat y), \quad \hat y = G(z)

The critic is trained on F⁺ and F⁻ as by any contrastive loss. The generator is trained to lower F⁻, through the critic,
whose parameters it leaves alone: it is a sampler of contrastive points that learns.

=====================  ====================================  ===================================
kind                   the critic's loss                     the generator's loss
=====================  ====================================  ===================================
GAN                    :func:`gan_critic`                    :func:`gan_generator`
energy-based GAN       :func:`ebgan_critic`                  F⁻, that is ``losses.energy_loss``
Wasserstein GAN        :func:`wgan_critic`, with             F⁻
                       :func:`gradient_penalty`
=====================  ====================================  ===================================

F is the energy, low on data: the papers' logit and the papers' Wasserstein critic are −F. Losses take energies and
return one value per pair; take ``.mean()`` to train, and detach the generated points in the critic's turn.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib._scale import near_one
from ebm_lib.data.draw import uniform
from ebm_lib.energy import Energy
from ebm_lib.losses._require import require_energies, require_pair
from ebm_lib.losses.pair import simple, soft_positive_part
from ebm_lib.require import (
    has_values,
    require_count,
    require_finite,
    require_nonempty,
    require_points,
    require_positive,
)
from ebm_lib.score import score


def gan_critic(positive: Tensor, negative: Tensor) -> Tensor:
    r"""Loss of a GAN's discriminator σ(−F), the probability that a point is data: logistic regression on energies.

    .. math::

        & \mathcal L = -\log\sigma(-F^+) - \log\big(1 - \sigma(-F^-)\big) = \log(1 + e^{F^+}) + \log(1 + e^{-F^-}), \\
        & \partial\mathcal L/\partial F^+ = \sigma(F^+), \qquad \partial\mathcal L/\partial F^- = -\sigma(-F^-)

    Against a fixed generator of density q its mean is lowest at :math:`F = \log q - \log p`, the energy of the data
    relative to the generator, where it is :math:`\log 4 - 2\,\mathrm{JS}(p, q)`. At the equilibrium q = p the critic
    is flat at 0 and the mean is log 4: it forgets the data's energy as the generator learns it.

    Margin infinite, against the level 0. The cross-entropy of the two classes in equal shares is half of this.

    Args:
        positive: F⁺, energies of data points.
        negative: F⁻, energies of generated points, of the same number of dimensions.

    Returns:
        One value per pair, ≥ 0.

    Raises:
        ValueError: energies not finite (F⁻ may be +inf) or not paired.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "GANs are secretly a contrastive method
    for EBM"; Goodfellow et al., Generative Adversarial Nets (NIPS 2014), which maximises minus this.

    >>> gan_critic(torch.tensor([0.0, -9.0]), torch.tensor([0.0, 9.0]))
    tensor([1.3863e+00, 2.4680e-04])
    """
    require_pair(positive, negative)
    return soft_positive_part(positive) + soft_positive_part(-negative)


def gan_generator(negative: Tensor, *, saturating: bool = False) -> Tensor:
    r"""Loss of a GAN's generator: have its points taken for data.

    .. math::

        & \mathcal L = -\log\sigma(-F^-) = \log(1 + e^{F^-}), \qquad \partial\mathcal L/\partial F^- = \sigma(F^-), \\
        & \mathcal L_\text{saturating} = \log\big(1 - \sigma(-F^-)\big) = -\log(1 + e^{-F^-}), \qquad
        \partial\mathcal L_\text{saturating}/\partial F^- = \sigma(-F^-)

    Both fall with F⁻. The saturating one is minus the generator's part of :func:`gan_critic`, so that the two players
    play for one value; but its slope dies where F⁻ is high, when the critic sees through the generator and the
    generator has most to learn. The other one's slope is then 1.

    Args:
        negative: F⁻, energies of generated points, any shape.
        saturating: the minimax loss, in place of the one used in practice.

    Returns:
        One value per point: ≥ 0, or ≤ 0 if saturating.

    Raises:
        ValueError: an energy that is not finite, or not floating point.

    Source: Goodfellow et al., Generative Adversarial Nets (NIPS 2014), section 3.

    >>> gan_generator(torch.tensor([0.0, 9.0])), gan_generator(torch.tensor([0.0, 9.0]), saturating=True)
    (tensor([0.6931, 9.0001]), tensor([-6.9315e-01, -1.2340e-04]))
    """
    require_energies("negative", negative)
    return -soft_positive_part(-negative) if saturating else soft_positive_part(negative)


def ebgan_critic(positive: Tensor, negative: Tensor, margin: float | Tensor = 1.0) -> Tensor:
    r"""Loss of an energy-based GAN's critic: the data down to 0, the generated points up to the margin and no further.

    .. math::

        & \mathcal L = F^+ + [m - F^-]^+, \qquad F \ge 0, \\
        & \partial\mathcal L/\partial F^+ = 1, \qquad
        \partial\mathcal L/\partial F^- = -1 \text{ where } F^- < m, \text{ else } 0

    The energy is bounded below, most often the reconstruction error of an auto-encoder
    (:func:`ebm_lib.denoising.reconstruction_energy`). This is Bromley's simple loss, :func:`ebm_lib.losses.simple`, for
    energies that cannot be negative. At the equilibrium with a generator that lowers F⁻ the generator's density is
    that of the data, the energy is one constant on it, from 0 to m, and the mean loss is m.

    Args:
        positive: F⁺ ≥ 0.
        negative: F⁻ ≥ 0, of the same number of dimensions.
        margin: m ≥ 0, a number or a tensor that broadcasts to the pairs.

    Returns:
        One value per pair, ≥ 0.

    Raises:
        ValueError: a negative energy; otherwise as :func:`ebm_lib.losses.simple`.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "GANs are secretly a contrastive method
    for EBM"; Zhao, Mathieu and LeCun, Energy-Based Generative Adversarial Networks (ICLR 2017).

    >>> ebgan_critic(torch.tensor([0.5, 0.5]), torch.tensor([0.2, 7.0]), margin=1.0)
    tensor([1.3000, 0.5000])
    """
    for name, energy in (("positive", positive), ("negative", negative)):
        if isinstance(energy, Tensor) and has_values(energy) and (energy < 0).any():
            raise ValueError(f"{name} must be energies of at least 0, the lowest is {energy.min().item():.4g}")
    return simple(positive, negative, margin)


def pulling_away(codes: Tensor) -> Tensor:
    r"""Pulling-away term: mean squared cosine between the codes of a batch of generated points.

    .. math:: \mathcal L = \frac{1}{B(B-1)} \sum_i \sum_{j \ne i}
        \left(\frac{s_i^\top s_j}{\lVert s_i \rVert\,\lVert s_j \rVert}\right)^2

    Added to the generator's loss (with a weight of 0.1 in the paper) against collapse onto few points: it is 1 when all
    codes are parallel, 0 when they are orthogonal. It takes the critic's codes, not energies: no single energy tells
    one point twice from two points.

    Args:
        codes: s, (..., B, L), the encoder's output for B ≥ 2 points.

    Returns:
        One value per batch, (...), from 0 to 1.

    Raises:
        ValueError: fewer than two codes, a code of length 0, not finite or not floating point.

    Source: Zhao, Mathieu and LeCun, Energy-Based Generative Adversarial Networks (ICLR 2017), section 2.4.

    >>> pulling_away(torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]))
    tensor(0.3333)
    """
    require_points("codes", codes)
    count = codes.shape[-2] if codes.ndim > 1 else 1
    if count < 2:
        raise ValueError(f"codes must be (..., B, L) with B ≥ 2, got {tuple(codes.shape)}")
    codes = near_one(codes, -1)
    length = codes.norm(dim=-1, keepdim=True)
    if has_values(length) and (length == 0).any():
        raise ValueError("codes must not be zero vectors: they have no direction")
    unit = codes / length
    total = (unit @ unit.mT).square().sum((-2, -1))
    return (total - count) / (count * (count - 1))


def wgan_critic(positive: Tensor, negative: Tensor) -> Tensor:
    r"""Loss of a Wasserstein GAN's critic: the difference of the two energies, with no level and no margin.

    .. math:: \mathcal L = F^+ - F^-, \qquad \partial\mathcal L/\partial F^+ = -\partial\mathcal L/\partial F^- = 1

    Without a bound on the slope of F it has no minimum. Over all F of slope at most 1 its mean is lowest at minus the
    Wasserstein distance, :math:`-W_1(p, q)`; :func:`gradient_penalty` stands in for that bound. It is not ≥ 0, and
    not a generalised margin loss with a floor: only the bound keeps it from running away.

    Args:
        positive: F⁺.
        negative: F⁻, finite, of the same number of dimensions.

    Returns:
        One value per pair, of either sign.

    Raises:
        ValueError: energies not finite or not paired.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "GANs are secretly a contrastive method
    for EBM"; Arjovsky, Chintala and Bottou, Wasserstein Generative Adversarial Networks (ICML 2017), whose f is −F.

    >>> wgan_critic(torch.tensor([0.0]), torch.tensor([3.0]))
    tensor([-3.])
    """
    require_pair(positive, negative)
    return positive - require_energies("negative", negative)


def gradient_penalty(
    energy: Energy,
    y: Tensor,
    y_hat: Tensor,
    *,
    slope: float = 1.0,
    one_sided: bool = False,
    mix: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Gradient penalty: hold the energy's slope at a given value, on the way from a data point to a generated one.

    .. math:: \mathcal L = \big(\lVert \nabla F(y + \alpha\,(\hat y - y)) \rVert - s\big)^2, \qquad
        \alpha \sim U[0, 1)

    The weight is the caller's: 10 in the paper, for images. Slope 1 everywhere on the way is what the optimal
    Wasserstein critic has, when y and ŷ are drawn as a pair of the optimal plan; for independent pairs it is a
    stand-in. ``one_sided`` only asks for a slope of at most s. With ``slope=0`` and ``y_hat=y`` it is the squared slope
    at the data, the regulariser R₁ of Mescheder et al. (2018), which weights it by γ/2.

    Args:
        energy: the critic F(y), twice differentiable in y.
        y: data points, (..., D).
        y_hat: generated points, of the same shape. No gradient flows to either.
        slope: s ≥ 0, in units of energy per unit of y.
        one_sided: :math:`([\lVert \nabla F \rVert - s]^+)^2`.
        mix: α, (...), from 0 to 1; drawn if None.
        generator: where α comes from.

    Returns:
        One value per pair, (...), ≥ 0, differentiable in the parameters of the energy.

    Raises:
        ValueError: points of different shapes or not finite, s negative, α of another shape or outside [0, 1], an
            energy of the wrong shape, not finite or without gradient.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Problem with Max Likelihood /
    Probabilistic Methods" (smooth the energy as a Wasserstein GAN does); Gulrajani et al., Improved Training of
    Wasserstein GANs (NIPS 2017).

    >>> gradient_penalty(lambda y: 3 * y[..., 0], torch.zeros(1, 2), torch.ones(1, 2))
    tensor([4.])
    """
    if y.shape != y_hat.shape:
        raise ValueError(f"y and y_hat must have the same shape, got {tuple(y.shape)} and {tuple(y_hat.shape)}")
    require_points("y", y)
    require_points("y_hat", y_hat)
    if slope != 0:
        require_positive("slope", slope)
    if mix is None:
        mix = uniform(y.shape[:-1], generator, y.dtype, y.device)
    elif mix.shape != y.shape[:-1]:
        raise ValueError(f"mix must hold one number per pair, shape {tuple(y.shape[:-1])}, got {tuple(mix.shape)}")
    elif has_values(require_finite("mix", mix)) and ((mix < 0) | (mix > 1)).any():
        raise ValueError(f"mix must lie from 0 to 1, got {mix.min().item():.4g} to {mix.max().item():.4g}")
    between = torch.lerp(y.detach(), y_hat.detach(), mix.to(y.dtype).unsqueeze(-1))
    excess = score(energy, between).norm(dim=-1) - slope
    return (excess.clamp(min=0) if one_sided else excess).square()


class Coverage(NamedTuple):
    """How well samples cover the modes of a mixture of K parts of equal weight.

    Attributes:
        modes: (...), how many of the K modes are covered, whole numbers.
        good: (...), share of the samples within the radius of a mode.
        divergence: (...), KL of the shares of the modes from equal ones, in nats: 0 is even, log K is one mode alone.
    """

    modes: Tensor
    good: Tensor
    divergence: Tensor


def modes_covered(samples: Tensor, means: Tensor, radius: float, *, minimum: int = 1) -> Coverage:
    r"""Count the modes that samples cover, and say how good and how evenly spread the samples are.

    .. math:: \mathrm{KL} = \sum_k s_k \log(K s_k), \qquad s_k = \text{share of samples nearest to } \mu_k

    A sample is good if it lies within the radius of its nearest mode (three standard deviations is the usual choice: in
    two dimensions 98.9 % of true samples). A mode is covered if at least ``minimum`` good samples are nearest to it.
    The divergence counts all samples, good or not, so that it is defined for any. With N samples, perfect ones
    included, it is about (K − 1)/2N above 0.

    Args:
        samples: (..., N, D).
        means: μ, (K, D).
        radius: in units of y, > 0.
        minimum: good samples that a covered mode has.

    Returns:
        A Coverage.

    Raises:
        ValueError: shapes that do not fit, no samples, values not finite, radius or minimum not positive.

    Source: Srivastava et al., VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational Learning (NIPS 2017),
    section 5; Lin, Khetan, Fanti and Oh, PacGAN: The Power of Two Samples in Generative Adversarial Networks (NeurIPS
    2018).

    >>> modes_covered(torch.tensor([[0.1], [0.2], [5.0]]), torch.tensor([[0.0], [4.0]]), radius=0.5)
    Coverage(modes=tensor(1), good=tensor(0.6667), divergence=tensor(0.0566))
    """
    require_nonempty("samples", require_points("samples", samples), -2)
    require_nonempty("means", require_points("means", means), 0)
    if means.ndim != 2 or means.shape[-1] != samples.shape[-1]:
        raise ValueError(f"means must be (K, D) with D = {samples.shape[-1]}, got {tuple(means.shape)}")
    require_positive("radius", radius)
    require_count("minimum", minimum)
    distance, nearest = (samples.unsqueeze(-2) - means.to(samples)).norm(dim=-1).min(-1)
    is_good = distance <= radius
    belongs = nearest.unsqueeze(-1) == torch.arange(len(means), device=samples.device)
    good_in_mode = (belongs & is_good.unsqueeze(-1)).sum(-2)
    share = belongs.to(samples.dtype).mean(-2)
    return Coverage(
        (good_in_mode >= minimum).sum(-1),
        is_good.to(samples.dtype).mean(-1),
        torch.special.xlogy(share, share * len(means)).sum(-1),
    )
