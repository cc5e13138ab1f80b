r"""Losses of a group: data points against many contrastive points at once.

.. math:: \mathcal L = H\big(F^+_1, \dots, F^+_{p^+}, F^-_1, \dots, F^-_{p^-}, M\big)

Each returns one value per group; take ``.mean()`` to train. :func:`~ebm_lib.losses.general_margin` and
:func:`~ebm_lib.losses.group_margin` sum any pair loss H over the pairs of a group, each with its own margin. NCA and
InfoNCE instead let the whole group compete for one unit of probability: an implicit infinite margin, and a push on each
contrastive point by its share of it. The inverse temperature β is what other texts write 1/τ.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ebm_lib.losses._require import require_group, require_groups, require_margin
from ebm_lib.losses.answers import join, nll
from ebm_lib.losses.pair import soft_positive_part
from ebm_lib.require import has_values, require_finite, require_positive

PairLoss = Callable[[Tensor, Tensor, float | Tensor], Tensor]


def general_margin(loss: PairLoss, positive: Tensor, negative: Tensor, margin: float | Tensor = 1.0) -> Tensor:
    r"""General margin loss: any pair loss H, summed over all contrastive points of a data point.

    .. math:: \mathcal L = \sum_{\hat y} H\big(F(x, y), F(x, \hat y), m(y, \hat y)\big)

    With :func:`~ebm_lib.losses.hinge` and every wrong answer among the negatives this is
    :func:`~ebm_lib.losses.all_outputs_hinge`. Slopes, edges and collapse are those of H.

    Args:
        loss: H, a function of (F⁺, F⁻, m) that returns one value per pair, such as ``hinge`` or ``square_square``.
        positive: F⁺, (...).
        negative: F⁻ of N contrastive points, (..., N).
        margin: m ≥ 0, a number or m(y, ŷ), (..., N).

    Returns:
        One value per data point, (...).

    Raises:
        ValueError: energies not finite (a negative may be +inf), no negatives, leading shapes that differ, a margin
            that is negative or of another shape, a loss of another shape.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "General margin loss".

    >>> H = lambda positive, negative, margin: torch.relu(margin + positive - negative)
    >>> general_margin(H, torch.tensor([0.0]), torch.tensor([[0.5, 3.0]]), margin=torch.tensor([[1.0, 4.0]]))
    tensor([1.5000])
    """
    shape = require_group(positive, negative)
    values = loss(positive.unsqueeze(-1), negative, require_margin(margin, positive, shape))
    return _one_per_pair(values, shape).sum(-1)


def group_margin(loss: PairLoss, positive: Tensor, negative: Tensor, margin: float | Tensor = 1.0) -> Tensor:
    r"""Group loss with a margin matrix: any pair loss H, summed over all pairs of a group.

    .. math:: \mathcal L = \sum_{i=1}^{p^+} \sum_{j=1}^{p^-} H(F^+_i, F^-_j, M_{ij})

    The sum over pairs is the part of the slide's general group loss in which a margin matrix has a definite meaning.
    Slopes, edges and collapse are those of H.

    Args:
        loss: H, as for :func:`general_margin`.
        positive: F⁺ of the data points, (..., P).
        negative: F⁻ of the contrastive points, (..., N).
        margin: m ≥ 0, a number or the matrix M, (..., P, N).

    Returns:
        One value per group, (...).

    Raises:
        ValueError: as :func:`general_margin`; an empty group of positives.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods: group losses".

    >>> H = lambda positive, negative, margin: torch.relu(margin + positive - negative)
    >>> group_margin(H, torch.tensor([0.0, 1.0]), torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 1.0], [0.0, 5.0]]))
    tensor(4.)
    """
    shape = require_groups(positive, negative, negative_posinf=True)
    pairs = torch.Size((*shape, positive.shape[-1], negative.shape[-1]))
    values = loss(positive.unsqueeze(-1), negative.unsqueeze(-2), require_margin(margin, positive, pairs))
    return _one_per_pair(values, pairs).sum((-2, -1))


def nca(positive: Tensor, negative: Tensor, beta: float = 1.0) -> Tensor:
    r"""Neighbourhood component analysis: the probability that the point drawn from the group is a positive one.

    .. math::

        & \mathcal L = -\log p^+, \quad
        p^+ = \frac{\sum_i e^{-\beta F^+_i}}{\sum_i e^{-\beta F^+_i} + \sum_j e^{-\beta F^-_j}}, \\
        & \frac{\partial\mathcal L}{\partial F^+_i} = \beta q_i (1 - p^+), \quad
        \frac{\partial\mathcal L}{\partial F^-_j} = -\beta p_j

    with q the Gibbs distribution among the positives and p that of the whole group: the positives share one push, so
    it is enough that one of them is near. In nats. Margin infinite. A flat energy costs log((P + N)/P), so nothing
    collapses. Of the paper's two objectives this is the one with the logarithm, Σ log p⁺; its other is Σ p⁺.

    Args:
        positive: F⁺ of the P right points, (..., P); +inf leaves an entry out, at least one is finite.
        negative: F⁻ of the N wrong ones, (..., N); +inf leaves an entry out.
        beta: inverse temperature, > 0 and finite.

    Returns:
        One value per group, (...), ≥ 0.

    Raises:
        ValueError: energies NaN or -inf, an empty group, positives that are all left out, leading shapes that differ, β
            not positive and finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods: group losses";
    Goldberger, Roweis, Hinton and Salakhutdinov, Neighbourhood Components Analysis (NIPS 2004).

    >>> nca(torch.tensor([0.0, torch.inf]), torch.tensor([0.0, 0.0])).exp()
    tensor(3.)
    """
    require_positive("beta", beta)
    require_groups(positive, negative, positive_posinf=True, negative_posinf=True)
    group = torch.cat([positive, negative], -1)
    lowest, bottom = positive.detach().amin(-1, keepdim=True), group.detach().amin(-1, keepdim=True)
    if has_values(lowest) and torch.isposinf(lowest).any():
        raise ValueError("positive must have a finite energy in every group: at least one has only +inf")
    log_all = torch.logsumexp(-beta * (group - bottom), -1)
    log_right = torch.logsumexp(-beta * (positive - lowest), -1)
    loss = log_all - log_right + beta * (lowest - bottom).squeeze(-1)
    return loss - loss.detach().clamp(max=0)  # rounding may carry it below 0


def info_nce(positive: Tensor, negative: Tensor, beta: float = 1.0) -> Tensor:
    r"""InfoNCE: the data point must win among its contrastive points.

    .. math::

        \mathcal L = -\log \frac{e^{-\beta F^+}}{e^{-\beta F^+} + \sum_j e^{-\beta F^-_j}}, \qquad
        \frac{\partial\mathcal L}{\partial F^+} = \beta (1 - p^+), \quad
        \frac{\partial\mathcal L}{\partial F^-_j} = -\beta p_j

    with p the Gibbs distribution over the group. In nats: β times :func:`~ebm_lib.losses.nll` of the group. Margin
    infinite; each contrastive point is pushed by its share of the probability, so β decides how far the push is
    concentrated on the lowest ones. A flat energy costs log(1 + N), so nothing collapses. When the negatives are drawn
    from p(y), the optimum is :math:`e^{-\beta F(x, y)} = c(x)\,p(y \mid x)/p(y)` for any c.

    Args:
        positive: F⁺, (...).
        negative: F⁻ of N contrastive points, (..., N); +inf leaves an entry out.
        beta: inverse temperature, > 0 and finite; the temperature τ of other texts is 1/β.

    Returns:
        One value per data point, (...), ≥ 0.

    Raises:
        ValueError: energies not finite (a negative may be +inf), no negatives, leading shapes that differ, β not
            positive and finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods: group losses" and
    "Contrastive Joint Embedding"; van den Oord, Li and Vinyals, Representation Learning with Contrastive Predictive
    Coding (2018).

    >>> info_nce(torch.tensor([0.0]), torch.zeros(1, 3)).exp()
    tensor([4.])
    """
    return beta * nll(*join(positive, negative), beta)


def hard_negative_info_nce(
    positive: Tensor,
    negative: Tensor,
    beta: float = 1.0,
    *,
    hardness: float = 1.0,
    class_prior: float = 0.0,
    highest: float = math.inf,
) -> Tensor:
    r"""InfoNCE with the hard negatives weighted up, and the false ones among them estimated away.

    .. math::

        & \mathcal L = \log(1 + N g\,e^{\beta F^+}), \quad
        w_j = \frac{e^{-h \beta F^-_j}}{\sum_k e^{-h \beta F^-_k}}, \\
        & g = \max\Big(\frac{\sum_j w_j e^{-\beta F^-_j} - \rho\,e^{-\beta F^+}}{1 - \rho},\; e^{-\beta F_\max}\Big)

    The weights w imitate negatives drawn in proportion to :math:`e^{-h\beta F}`: with h = 0 and ρ = 0 this is
    :func:`info_nce`, with h = 0 the debiased loss of Chuang et al. ρ is the chance that a negative is of the same kind
    as the data point; what such false negatives would add is subtracted, and the estimate is held above the smallest
    value it can truly have. Where it is held there, the slope on the negatives is 0 (half of it at the very edge).
    The slopes go through the weights too, as in the authors' code, whose β is our h and whose floor is
    :math:`F_\max = 1` for F = −cosine: with ρ = 0 and q the Gibbs distribution of the negatives at (1 + h)β, that on
    F⁻ⱼ is :math:`-\beta (1 - e^{-\mathcal L}) [(1 + h) q_j - h w_j]`. Margin infinite without ρ. A flat energy costs
    log(1 + N) for every h and ρ, so nothing collapses.

    Args:
        positive: F⁺, (...).
        negative: F⁻ of N contrastive points, (..., N), finite.
        beta: inverse temperature, > 0 and finite; the temperature τ of other texts is 1/β.
        hardness: h ≥ 0 and finite.
        class_prior: ρ in [0, 1), τ⁺ in the papers.
        highest: F_max, an upper bound of the energy; inf holds the estimate above 0 only, where the loss is 0.

    Returns:
        One value per data point, (...), ≥ 0.

    Raises:
        ValueError: as :func:`info_nce`; a negative at +inf; h, ρ or F_max out of range.

    Source: Robinson, Chuang, Sra and Jegelka, Contrastive Learning with Hard Negative Samples (ICLR 2021); Chuang,
    Robinson, Lin, Torralba and Jegelka, Debiased Contrastive Learning (NeurIPS 2020).

    >>> F_data, F_wrong = torch.tensor([0.0]), torch.tensor([[0.0, 1.0]])
    >>> [round(hard_negative_info_nce(F_data, F_wrong, hardness=h).item(), 3) for h in (0.0, 1.0, 100.0)]
    [0.862, 0.978, 1.099]
    """
    require_positive("beta", beta)
    require_group(positive, negative)
    require_finite("negative", negative)
    if not (hardness >= 0 and math.isfinite(hardness)):
        raise ValueError(f"hardness must be finite and at least 0, got {hardness}")
    if not 0 <= class_prior < 1:
        raise ValueError(f"class_prior must be in [0, 1), got {class_prior}")
    if not highest > -math.inf:
        raise ValueError(f"highest must be an upper bound of the energy, got {highest}")
    # All relative to the data point, in logarithms: nothing overflows, and only differences of energies matter.
    lowest = negative.detach().amin(-1, keepdim=True)
    gap = -beta * (negative - lowest)
    log_g = torch.logsumexp((1 + hardness) * gap, -1) - torch.logsumexp(hardness * gap, -1)
    log_g = log_g - beta * (lowest.squeeze(-1) - positive)
    if class_prior > 0:
        share = math.log(class_prior) - log_g  # log of what the false negatives make of the estimate
        left = share < 0
        log_left = torch.log(-torch.expm1(torch.where(left, share, -1.0)))
        log_g = torch.where(left, log_g + log_left, -math.inf) - math.log1p(-class_prior)
    if highest < math.inf:
        log_g = torch.maximum(log_g, -beta * (highest - positive))
    return soft_positive_part(log_g + math.log(negative.shape[-1]))


def nce(
    positive: Tensor,
    negative: Tensor,
    log_partition: Tensor | float,
    *,
    log_noise_positive: Tensor,
    log_noise_negative: Tensor,
    beta: float = 1.0,
    ratio: float | None = None,
) -> Tensor:
    r"""Noise-contrastive estimation: learn the energy and its normaliser by telling data from noise of known density.

    .. math::

        & \mathcal L = -\log h(y) - \frac{\nu}{N} \sum_{j=1}^N \log\big(1 - h(\hat y_j)\big), \\
        & h(u) = \sigma\big(G(u) - \log \nu\big), \quad G(u) = -\beta F(u) - c - \log p_n(u)

    :math:`\partial\mathcal L/\partial F^+ = \beta (1 - h(y))` and :math:`\partial\mathcal L/\partial F^-_j = -\beta
    \tfrac{\nu}{N} h(\hat y_j)`; on c it is the sum of all these, divided by β. At the optimum h is the posterior
    probability of being data, so that :math:`e^{-\beta F - c}` is the density of the data, normalised: c is learned
    like any parameter and comes out as log Z. Margin infinite; a flat energy is the optimum for uniform data only, so
    it does not collapse. In nats per data point.

    Args:
        positive: F of the data, (...).
        negative: F of N noise points for each data point, (..., N): draw ν as many, and reshape.
        log_partition: c, the estimate of log Z: a parameter to be learned, a scalar or of a shape that broadcasts to
            ``positive`` (a conditional model has one for each x); a number where Z is known.
        log_noise_positive: log p_n at the data, (...), in nats.
        log_noise_negative: log p_n at the noise points, (..., N).
        beta: inverse temperature, > 0 and finite.
        ratio: ν, how many times more noise than data the classifier is told to expect; N if None.

    Returns:
        One value per data point, (...), ≥ 0.

    Raises:
        ValueError: energies or densities not finite, no noise, shapes that do not pair, β or ν not positive and finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods: group losses";
    Gutmann and Hyvärinen, Noise-Contrastive Estimation (AISTATS 2010, with ν = 1; JMLR 2012, with any ν).

    >>> zero = torch.zeros(1)
    >>> nce(zero, torch.zeros(1, 1), 0.0, log_noise_positive=zero, log_noise_negative=torch.zeros(1, 1)).exp()
    tensor([4.])
    """
    require_positive("beta", beta)
    require_group(positive, negative)
    require_finite("negative", negative)
    count = negative.shape[-1]
    ratio = float(count) if ratio is None else require_positive("ratio", ratio)
    for name, values, energy in (
        ("log_noise_positive", log_noise_positive, positive),
        ("log_noise_negative", log_noise_negative, negative),
    ):
        require_finite(name, values)
        if values.shape != energy.shape:
            expected = tuple(energy.shape)
            raise ValueError(f"{name} must hold one number per energy, {expected}, got {tuple(values.shape)}")
    c = torch.as_tensor(log_partition, dtype=positive.dtype, device=positive.device)
    require_finite("log_partition", c)
    try:
        c = c.expand(positive.shape)
    except RuntimeError:
        raise ValueError(
            f"log_partition must broadcast to the shape of positive, {tuple(positive.shape)}, got {tuple(c.shape)}"
        ) from None
    data = -beta * positive - c - log_noise_positive - math.log(ratio)
    noise = -beta * negative - c.unsqueeze(-1) - log_noise_negative - math.log(ratio)
    return soft_positive_part(-data) + ratio * soft_positive_part(noise).mean(-1)


def _one_per_pair(values: Tensor, shape: torch.Size) -> Tensor:
    if values.shape != shape:
        raise ValueError(f"loss must return one value per pair, shape {tuple(shape)}, got {tuple(values.shape)}")
    return values
