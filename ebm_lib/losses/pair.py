r"""Losses of a pair: the energy F⁺ of a data point and the energy F⁻ of one contrastive point.

.. math:: \mathcal L = H(F^+, F^-, m), \qquad F^+ = F_w(x, y), \quad F^- = F_w(x, \hat y)

Each returns one value per pair; take ``.mean()`` to train. Both energies have the same number of dimensions, with
sizes that are equal or 1, so that one data point can meet several contrastive points: (B, 1) against (B, N).
F⁺ is finite; F⁻ may be +inf, an answer that is impossible already and needs no push.

Where a loss has a corner, the slope used is the one of its flat side: at the margin's edge there is no more push.
"""

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from ebm_lib.losses._require import require_energies, require_margin, require_pair
from ebm_lib.require import has_values, require_positive


def soft_positive_part(x: Tensor) -> Tensor:
    """Return log(1 + exp x). Torch's softplus is x from 20 on by default, where float64 can tell them apart."""
    return softplus(x, threshold=50.0)


def energy_loss(positive: Tensor) -> Tensor:
    r"""Energy loss: push down on the data and on nothing else.

    .. math:: \mathcal L = F^+, \qquad \partial\mathcal L/\partial F^+ = 1, \quad \partial\mathcal L/\partial F^- = 0

    Margin 0. It collapses wherever the architecture lets the energy be low everywhere (a joint embedding, a free
    network), and needs an energy that is bounded below. It is enough where the volume of low energy is limited by
    construction: :math:`\lVert y - G(x) \rVert^2` is low at one y only, and this loss is then plain regression.

    Args:
        positive: F⁺, any shape.

    Returns:
        F⁺ itself.

    Raises:
        ValueError: an energy that is not finite, or not floating point.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Plenty of Contrastive Loss Functions
    to Choose From"; LeCun, Chopra, Hadsell, Ranzato and Huang, A Tutorial on Energy-Based Learning (2006).

    >>> energy_loss(torch.tensor([0.5, 2.0]))
    tensor([0.5000, 2.0000])
    """
    return require_energies("positive", positive)


def hinge(positive: Tensor, negative: Tensor, margin: float | Tensor = 1.0) -> Tensor:
    r"""Hinge loss: the contrastive point must be higher than the data point by the margin; how high both are is free.

    .. math::

        & \mathcal L = [m + F^+ - F^-]^+, \\
        & \partial\mathcal L/\partial F^+ = -\partial\mathcal L/\partial F^- = 1
        \quad\text{where } F^- - F^+ < m, \text{ else } 0

    Margin m; at its edge, F⁻ − F⁺ = m, the slope is 0. A flat energy costs m, so no architecture collapses under it.

    Args:
        positive: F⁺.
        negative: F⁻, of the same number of dimensions.
        margin: m ≥ 0, a number or a tensor that broadcasts to the pairs: m(y, ŷ).

    Returns:
        One value per pair, ≥ 0.

    Raises:
        ValueError: energies not finite (F⁻ may be +inf) or not paired, a margin that is negative or of another shape.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods: other losses";
    Altun, Johnson and Hofmann, Investigating Loss Functions and Optimization Methods for Discriminative Learning of
    Label Sequences (EMNLP 2003). Same as ``torch.nn.MarginRankingLoss`` with target −1.

    >>> hinge(torch.tensor([0.0, 0.0]), torch.tensor([0.25, 3.0]), margin=1.0)
    tensor([0.7500, 0.0000])
    """
    shape = require_pair(positive, negative)
    return relu(positive - negative + require_margin(margin, positive, shape))


def ranking(positive: Tensor, negative: Tensor, margin: Tensor) -> Tensor:
    r"""Ranking loss: the hinge with a margin that depends on how different the wrong answer is.

    .. math:: \mathcal L = [F^+ - F^- + m(y, \hat y)]^+

    Slopes, edge and collapse as :func:`hinge`, of which it is a case: the slide gives both one formula. A wrong answer
    that is nearly right (m small) need only be a little higher; at m = 0 it may be equal.

    Args:
        positive: F⁺.
        negative: F⁻, of the same number of dimensions.
        margin: m(y, ŷ) ≥ 0, a tensor that broadcasts to the pairs.

    Returns:
        One value per pair, ≥ 0.

    Raises:
        ValueError: as :func:`hinge`.
        TypeError: ``margin`` is not a tensor.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods: other losses";
    Weston, Bengio and Usunier, Large Scale Image Annotation: Learning to Rank with Joint Word-Image Embeddings (2010),
    which also weights each pair by the rank of the right answer.

    >>> ranking(torch.zeros(1, 1), torch.zeros(1, 3), margin=torch.tensor([0.0, 1.0, 2.0]))
    tensor([[0., 1., 2.]])
    """
    if not isinstance(margin, Tensor):
        raise TypeError(f"margin must be a tensor, one distance per pair, got {type(margin).__name__}; see hinge")
    return hinge(positive, negative, margin)


def log_loss(positive: Tensor, negative: Tensor) -> Tensor:
    r"""Log loss: a hinge with a soft corner, which never stops pushing.

    .. math::

        \mathcal L = \log(1 + e^{F^+ - F^-}), \qquad \frac{\partial\mathcal L}{\partial F^+} =
        -\frac{\partial\mathcal L}{\partial F^-} = \frac{1}{1 + e^{F^- - F^+}}

    Margin infinite: the slope fades as the gap grows and is never 0. A flat energy costs log 2, so nothing collapses.
    Smooth everywhere, without overflow at any gap.

    Args:
        positive: F⁺.
        negative: F⁻, of the same number of dimensions.

    Returns:
        One value per pair, ≥ 0.

    Raises:
        ValueError: energies not finite (F⁻ may be +inf) or not paired.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Plenty of Contrastive Loss Functions
    to Choose From"; LeCun, Chopra, Hadsell, Ranzato and Huang, A Tutorial on Energy-Based Learning (2006).

    >>> log_loss(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1e6]))
    tensor([0.6931, 0.0000])
    """
    require_pair(positive, negative)
    return soft_positive_part(positive - negative)


def lvq2(positive: Tensor, negative: Tensor, saturation: float = 1.0) -> Tensor:
    r"""LVQ2 loss: count how wrong an answer is, but no more than M.

    .. math::

        & \mathcal L = \min(M, [F^+ - F^-]^+), \\
        & \partial\mathcal L/\partial F^+ = -\partial\mathcal L/\partial F^- = 1
        \quad\text{where } 0 < F^+ - F^- \le M, \text{ else } 0

    Margin 0: a flat energy costs nothing, so it collapses wherever the architecture can be flat. An example that is
    wrong by more than M no longer teaches (an outlier does no harm, and a bad start no good). Slope at the edges: 0 at
    F⁺ = F⁻, 1 at F⁺ − F⁻ = M. Not convex.

    Args:
        positive: F⁺.
        negative: F⁻, of the same number of dimensions.
        saturation: M > 0, in units of energy.

    Returns:
        One value per pair, from 0 to M.

    Raises:
        ValueError: energies not finite (F⁻ may be +inf) or not paired, M not positive.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Plenty of Contrastive Loss Functions
    to Choose From"; Driancourt, Bottou and Gallinari, Learning Vector Quantization, Multi-Layer Perceptron and Dynamic
    Programming (IJCNN 1991). The form of the 2006 tutorial's text measures the excess relative to an energy instead.

    >>> lvq2(torch.tensor([0.0, 1.5, 9.0]), torch.tensor([1.0, 1.0, 1.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    require_pair(positive, negative)
    return relu(positive - negative).clamp(max=require_positive("saturation", saturation))


def mce(positive: Tensor, negative: Tensor) -> Tensor:
    r"""Minimum classification error: a smooth count of the pairs in the wrong order.

    .. math::

        \mathcal L = \sigma(F^+ - F^-) = \frac{1}{1 + e^{F^- - F^+}}, \qquad
        \frac{\partial\mathcal L}{\partial F^+} = -\frac{\partial\mathcal L}{\partial F^-} = \mathcal L (1 - \mathcal L)

    Margin infinite. A flat energy costs ½, so nothing collapses; but the slope fades on both sides, and an example
    that is very wrong teaches as little as one that is very right. Not convex.

    Args:
        positive: F⁺.
        negative: F⁻, of the same number of dimensions.

    Returns:
        One value per pair, from 0 to 1.

    Raises:
        ValueError: energies not finite (F⁻ may be +inf) or not paired.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Plenty of Contrastive Loss Functions
    to Choose From"; Juang and Katagiri, Discriminative Learning for Minimum Error Classification (1992).

    >>> mce(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1e6]))
    tensor([0.5000, 0.0000])
    """
    require_pair(positive, negative)
    return torch.sigmoid(positive - negative)


def simple(positive: Tensor, negative: Tensor, margin: float | Tensor = 1.0) -> Tensor:
    r"""Bromley's simple loss: the data down to 0, the contrastive point up to the margin, each on its own.

    .. math::

        & \mathcal L = [F^+]^+ + [m - F^-]^+, \\
        & \partial\mathcal L/\partial F^+ = 1 \text{ where } F^+ > 0, \quad
        \partial\mathcal L/\partial F^- = -1 \text{ where } F^- < m, \text{ else } 0

    Margin m, against the level 0 and not against F⁺; at F⁺ = 0 and at F⁻ = m the slope is 0. A flat energy costs
    at least m, so nothing collapses.

    Args:
        positive: F⁺, for an energy whose floor is 0.
        negative: F⁻, of the same number of dimensions.
        margin: m ≥ 0, a number or a tensor that broadcasts to the pairs.

    Returns:
        One value per pair, ≥ 0.

    Raises:
        ValueError: as :func:`hinge`.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods: other losses";
    Bromley, Guyon, LeCun, Säckinger and Shah, Signature Verification using a "Siamese" Time Delay Neural Network (NIPS
    1993).

    >>> simple(torch.tensor([0.5, 0.0]), torch.tensor([0.5, 2.0]), margin=1.0)
    tensor([1., 0.])
    """
    shape = require_pair(positive, negative)
    return relu(positive) + relu(require_margin(margin, positive, shape) - negative)


def square_square(
    positive: Tensor, negative: Tensor, margin: float | Tensor = 1.0, *, positive_part: bool = False
) -> Tensor:
    r"""Square-square loss: the simple loss with each term squared, so that the push fades towards its goal.

    .. math::

        \mathcal L = (F^+)^2 + \big([m - F^-]^+\big)^2, \qquad
        \frac{\partial\mathcal L}{\partial F^+} = 2F^+, \quad \frac{\partial\mathcal L}{\partial F^-} = -2\,[m - F^-]^+

    Margin m, against the level 0; smooth at its edge, where the slope is 0 from both sides. A flat energy costs at
    least m²/2, so nothing collapses. Once F⁻ ≥ m it is no longer pushed, whatever the gap: the slide's condition, a
    push whenever F⁻ − F⁺ < m, does not hold for this example of its own.

    The slides print two variants of the first term, equal where F ≥ 0: :math:`(F^+)^2` in the table, and
    :math:`([F^+]^+)^2` among the other losses, chosen by ``positive_part``. For a negative F⁺ the first pulls up to 0,
    against the rule that a loss must rise with F⁺; the second lets it be. The table also prints a minus before the
    second term, which would reward a low F⁻: a slip, the papers have a plus.

    Args:
        positive: F⁺, for an energy whose floor is 0.
        negative: F⁻, of the same number of dimensions.
        margin: m ≥ 0, a number or a tensor that broadcasts to the pairs.
        positive_part: square the positive part of F⁺ only.

    Returns:
        One value per pair, ≥ 0.

    Raises:
        ValueError: as :func:`hinge`.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Plenty of Contrastive Loss Functions
    to Choose From" and "Contrastive Methods: other losses"; Chopra, Hadsell and LeCun, Learning a Similarity Metric
    Discriminatively (CVPR 2005); Hadsell, Chopra and LeCun, Dimensionality Reduction by Learning an Invariant Mapping
    (CVPR 2006), whose loss is half of this one on distances.

    >>> square_square(torch.tensor([0.5, -1.0]), torch.tensor([0.5, 2.0]))
    tensor([0.5000, 1.0000])
    >>> square_square(torch.tensor([0.5, -1.0]), torch.tensor([0.5, 2.0]), positive_part=True)
    tensor([0.5000, 0.0000])
    """
    shape = require_pair(positive, negative)
    down = relu(positive) if positive_part else positive
    return down.square() + relu(require_margin(margin, positive, shape) - negative).square()


def square_exp(positive: Tensor, negative: Tensor, gamma: float = 1.0) -> Tensor:
    r"""Square-exponential loss: the data down to 0, the contrastive point up for ever, more and more gently.

    .. math::

        \mathcal L = (F^+)^2 + \gamma e^{-F^-}, \qquad
        \frac{\partial\mathcal L}{\partial F^+} = 2F^+, \quad \frac{\partial\mathcal L}{\partial F^-} = -\gamma e^{-F^-}

    Margin infinite. A flat energy c costs c² + γe⁻ᶜ > 0, which a gap undercuts, so nothing collapses. For a negative
    F⁺ the first term pulls up, as in :func:`square_square`. Smooth everywhere.

    Args:
        positive: F⁺, for an energy whose floor is 0.
        negative: F⁻, of the same number of dimensions.
        gamma: weight γ > 0 of the second term (β on the slide; it is no inverse temperature).

    Returns:
        One value per pair, ≥ 0.

    Raises:
        ValueError: energies not finite (F⁻ may be +inf) or not paired, γ not positive.
        FloatingPointError: F⁻ so far below 0 that the exponential overflows.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Plenty of Contrastive Loss Functions
    to Choose From"; Osadchy, LeCun and Miller, Synergistic Face Detection and Pose Estimation with Energy-Based Models
    (2007).

    >>> square_exp(torch.tensor([1.0]), torch.tensor([0.0]), gamma=0.5)
    tensor([1.5000])
    """
    require_pair(positive, negative)
    loss = positive.square() + require_positive("gamma", gamma) * torch.exp(-negative)
    if has_values(loss) and torch.isinf(loss).any():
        raise FloatingPointError(
            f"square_exp overflowed: the energies reach {positive.abs().max().item():.4g} (positive, in size) and "
            f"{negative.min().item():.4g} (negative, the lowest); the energy must be bounded below"
        )
    return loss
