r"""Siamese criteria: equal pairs near, different pairs apart by a margin; and which different ones to look at.

.. math:: F(x, y) = \lVert z_x - z_y \rVert, \qquad z = \text{head}(\text{Enc}(\cdot))

The losses themselves are those of :mod:`ebm_lib.losses`; here the energies are made from embeddings.
"""

import math

import torch
from torch import Tensor

from ebm_lib import losses
from ebm_lib.joint._require import require_embeddings, require_views
from ebm_lib.joint.contrastive import Contrast
from ebm_lib.require import has_values, require_choice, require_positive

MINING = ("hard", "semi-hard", "random")


def siamese_square_square(x: Tensor, y: Tensor, same: Tensor, *, margin: float = 1.0) -> Contrast:
    r"""Square-square loss of pairs: equal ones together, different ones at least a margin apart.

    .. math::

        \mathcal L = \frac{1}{2N} \Big( \sum_{\text{same}} F^2 + \sum_{\text{different}} \big([m - F]^+\big)^2 \Big),
        \qquad F = \lVert x - y \rVert

    Convention: the ½ of Hadsell et al., and the mean over pairs where the paper sums; so half of
    :func:`ebm_lib.losses.square_square`, and half of pytorch-metric-learning's ``ContrastiveLoss`` on squared terms. At
    F = 0 the push has no direction, and the slope used is 0.

    Args:
        x: embeddings, (N, D).
        y: those of the other branch, (N, D).
        same: (N,) bool, whether a pair belongs together.
        margin: m > 0, in units of the embedding.

    Returns:
        A Contrast; a kind of pair that is missing adds 0.

    Raises:
        ValueError: unequal shapes, values not finite, labels that are no (N,) bool, a margin that is not positive.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Contrastive Joint
    Embedding"; Hadsell, Chopra and LeCun, Dimensionality Reduction by Learning an Invariant Mapping (CVPR 2006), eq. 4.

    >>> z, same = torch.tensor([[0.0], [3.0]]), torch.tensor([True, False])
    >>> siamese_square_square(z, torch.tensor([[2.0], [3.5]]), same, margin=1.5)
    Contrast(loss=tensor(1.2500), positive=tensor(1.), negative=tensor(0.2500))
    """
    energy = _distances(x, y, same)
    require_positive("margin", margin)
    far, near = torch.full_like(energy, math.inf), torch.zeros_like(energy)
    pull, push = losses.square_square(energy, far, margin), losses.square_square(near, energy, margin)
    return _pairs(pull / 2, push / 2, same)


def siamese_square_exp(x: Tensor, y: Tensor, same: Tensor, *, gamma: float = 1.0) -> Contrast:
    r"""Square-exponential loss of pairs: different ones are pushed for ever, more and more gently.

    .. math::

        \mathcal L = \frac{1}{N} \Big( \sum_{\text{same}} F^2 + \gamma \sum_{\text{different}} e^{-F} \Big),
        \qquad F = \lVert x - y \rVert

    Convention: :func:`ebm_lib.losses.square_exp`, without a ½; mean over pairs. Chopra, Hadsell and LeCun (CVPR 2005)
    weigh and scale it by the largest energy Q: (2/Q) F² and 2Q exp(−2.77 F/Q), with the 1-norm for F.

    Args:
        x: embeddings, (N, D).
        y: those of the other branch, (N, D).
        same: (N,) bool, whether a pair belongs together.
        gamma: weight γ > 0 of the second term.

    Returns:
        A Contrast; a kind of pair that is missing adds 0.

    Raises:
        ValueError: as :func:`siamese_square_square`; γ not positive.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Contrastive Joint
    Embedding"; Osadchy, LeCun and Miller, Synergistic Face Detection and Pose Estimation with Energy-Based Models
    (2007).

    >>> z, same = torch.tensor([[0.0], [3.0]]), torch.tensor([True, False])
    >>> siamese_square_exp(z, torch.tensor([[2.0], [3.0]]), same)
    Contrast(loss=tensor(2.5000), positive=tensor(2.), negative=tensor(0.5000))
    """
    energy = _distances(x, y, same)
    far, near = torch.full_like(energy, math.inf), torch.zeros_like(energy)
    return _pairs(losses.square_exp(energy, far, gamma), losses.square_exp(near, energy, gamma), same)


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor, *, margin: float = 0.2) -> Tensor:
    r"""Triplet loss: a sample of the same kind must be nearer than one of another kind, by a margin.

    .. math:: \mathcal L = \frac1N \sum_i \big[ m + \lVert a_i - p_i \rVert^2 - \lVert a_i - n_i \rVert^2 \big]^+

    Convention: squared distances, and the mean over all triplets, as in FaceNet up to its sum; ``torch.nn``'s
    TripletMarginLoss takes distances. A single point for all costs m: no collapse, unless the negatives are so hard
    that the positives are pushed through them (see :func:`mine`).

    Args:
        anchor: (N, D).
        positive: of the same kind, (N, D).
        negative: of another kind, (N, D): choose them with :func:`mine`.
        margin: m > 0, in squared units of the embedding. FaceNet's 0.2 is for vectors of length 1.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: unequal shapes, values not finite, a margin that is not positive.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Contrastive Joint
    Embedding (Issues)"; Schroff, Kalenichenko and Philbin, FaceNet (CVPR 2015), eq. 2.

    >>> a, p, n = torch.zeros(2, 1), torch.tensor([[1.0], [1.0]]), torch.tensor([[1.0], [3.0]])
    >>> triplet(a, p, n)
    tensor(0.1000)
    """
    require_views(anchor=anchor, positive=positive, negative=negative)
    require_positive("margin", margin)
    return losses.hinge(
        (anchor - positive).square().sum(-1), (anchor - negative).square().sum(-1), margin=margin
    ).mean()


@torch.no_grad()
def mine(
    anchor: Tensor,
    positive: Tensor,
    candidates: Tensor,
    allowed: Tensor,
    strategy: str = "semi-hard",
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Choose a negative for each anchor.

    .. math::

        \text{hard: } \operatorname*{argmin}_{j} \lVert a - c_j \rVert, \qquad
        \text{semi-hard: } \operatorname*{argmin}_{j:\; \lVert a - c_j \rVert > \lVert a - p \rVert}
        \lVert a - c_j \rVert

    The hardest negatives are often mislabelled or hopeless, and early in training they drive the embedding to a point;
    the semi-hard ones are the nearest that are farther than the positive. Where there is none, the farthest candidate
    is taken.

    Args:
        anchor: (N, D).
        positive: (N, D).
        candidates: (M, D).
        allowed: (N, M) bool, which candidates are of another kind than the anchor; at least one for each.
        strategy: ``"hard"``, ``"semi-hard"`` or ``"random"``.
        generator: for ``"random"``.

    Returns:
        Rows of ``candidates``, (N,) int64.

    Raises:
        ValueError: shapes that do not go together, an anchor without candidates, an unknown strategy.

    Source: LeCun, Energy-Based Models, part 1 (NYU Deep Learning, spring 2020), "Contrastive Embedding" ("hard negative
    mining"); Schroff, Kalenichenko and Philbin, FaceNet (CVPR 2015), section 3.2.

    >>> a, p, c = torch.zeros(1, 1), torch.ones(1, 1), torch.tensor([[0.5], [1.5], [4.0]])
    >>> [mine(a, p, c, torch.ones(1, 3, dtype=torch.bool), how).item() for how in ("hard", "semi-hard")]
    [0, 1]
    """
    require_views(anchor=anchor, positive=positive)
    require_embeddings("candidates", candidates)
    require_choice("strategy", strategy, MINING)
    if candidates.shape[1] != anchor.shape[1] or allowed.shape != (len(anchor), len(candidates)):
        raise ValueError(
            f"candidates must be (M, {anchor.shape[1]}) and allowed (N, M) = ({len(anchor)}, {len(candidates)}), got "
            f"{tuple(candidates.shape)} and {tuple(allowed.shape)}"
        )
    if allowed.dtype != torch.bool or (has_values(allowed) and not allowed.any(-1).all()):
        raise ValueError("allowed must be bool, with at least one candidate for each anchor")
    if strategy == "random":
        origin = candidates.device if generator is None else generator.device
        draw = torch.rand(allowed.shape, generator=generator, device=origin).to(candidates.device)
        return draw.masked_fill(~allowed, -1.0).argmax(-1)
    kind = torch.promote_types(anchor.dtype, torch.float32)  # half precision has no cdist on a CPU
    anchor, positive, candidates = (z.to(kind) for z in (anchor, positive, candidates))
    distance = torch.cdist(anchor, candidates, compute_mode="donot_use_mm_for_euclid_dist")
    if strategy == "hard":
        return distance.masked_fill(~allowed, math.inf).argmin(-1)
    beyond = allowed & (distance > torch.linalg.vector_norm(anchor - positive, dim=-1, keepdim=True))
    nearest = distance.masked_fill(~beyond, math.inf).argmin(-1)
    farthest = distance.masked_fill(~allowed, -math.inf).argmax(-1)
    return torch.where(beyond.any(-1), nearest, farthest)


def _distances(x: Tensor, y: Tensor, same: Tensor) -> Tensor:
    require_views(x=x, y=y)
    if same.shape != (len(x),) or same.dtype != torch.bool:
        raise ValueError(f"same must be bool of shape ({len(x)},), got {same.dtype} of shape {tuple(same.shape)}")
    return torch.linalg.vector_norm(x - y, dim=-1)  # whose slope at 0 is 0


def _pairs(pull: Tensor, push: Tensor, same: Tensor) -> Contrast:
    positive, negative = torch.where(same, pull, 0).mean(), torch.where(same, 0, push).mean()
    return Contrast(positive + negative, positive, negative)
