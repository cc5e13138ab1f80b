r"""Contrastive criteria: pull two views of one sample together, and push different samples apart.

.. math:: F(x, y) = \lVert z_x - z_y \rVert \;\text{ or }\; -\cos(z_x, z_y), \qquad z = \text{head}(\text{Enc}(\cdot))

The losses themselves are those of :mod:`ebm_lib.losses`; here the energies are made from embeddings. Nothing collapses
while there are negatives: one point for all samples costs as much as the margin, or log N.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib import losses
from ebm_lib.joint._require import require_divisor, require_embeddings, require_views, require_weight, unit


class Contrast(NamedTuple):
    """A contrastive criterion and what it is the sum of.

    Attributes:
        loss: the sum.
        positive: the part that pulls positives together.
        negative: the part that pushes negatives apart.
    """

    loss: Tensor
    positive: Tensor
    negative: Tensor


def nt_xent(z1: Tensor, z2: Tensor, *, temperature: float = 0.5) -> Contrast:
    r"""SimCLR's normalised, temperature-scaled cross-entropy: InfoNCE among all other views of the batch.

    .. math::

        \mathcal L = \frac{1}{2N} \sum_{i=1}^{2N} \Big( -\frac{s_{i,p(i)}}{\tau} + \log \sum_{k \ne i} e^{s_{ik}/\tau}
        \Big), \qquad s = \cos(z_i, z_k)

    The first term is ``positive``, the second ``negative``. Convention: as in the paper, in the authors' code and
    in lightly's ``NTXentLoss``: mean over the 2N views, no factor τ; all equal. At a collapsed batch it is log(2N − 1).

    Args:
        z1: embeddings of one view, (N, D), N ≥ 2; any length but 0.
        z2: those of the other view, (N, D).
        temperature: τ > 0.

    Returns:
        A Contrast.

    Raises:
        ValueError: unequal shapes, a batch of one, values not finite, a zero vector, τ not positive.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Contrastive Joint
    Embedding (Issues)"; Chen, Kornblith, Norouzi and Hinton, A Simple Framework for Contrastive Learning of Visual
    Representations (ICML 2020), eq. 1.

    >>> z = torch.eye(2)
    >>> nt_xent(z, z, temperature=1.0).loss, round(nt_xent(torch.ones(2, 2), torch.ones(2, 2)).loss.exp().item(), 4)
    (tensor(0.5514), 3.0)
    """
    require_views(minimum=2, z1=z1, z2=z2)
    require_divisor("temperature", temperature, z1)
    z = torch.cat([unit("z1", z1), unit("z2", z2)])
    count = len(z1)
    energy = (-(z @ z.T)).fill_diagonal_(math.inf)
    partner = torch.arange(2 * count, device=z.device).roll(count)
    pull = torch.cat([energy.diagonal(count), energy.diagonal(-count)]).mean() / temperature
    loss = losses.nll(energy, partner, 1 / temperature).mean() / temperature
    return Contrast(loss, pull, loss - pull)


def moco(query: Tensor, key: Tensor, queue: Tensor, *, temperature: float = 0.07) -> Contrast:
    r"""MoCo's InfoNCE: each query must find its key among the keys of earlier batches.

    .. math::

        \mathcal L = \frac1N \sum_i \Big( -\frac{q_i \cdot k_i}{\tau} + \log \Big( e^{q_i \cdot k_i/\tau}
        + \sum_j e^{q_i \cdot n_j/\tau} \Big) \Big)

    on vectors of length 1. No gradient goes to the keys or the queue. Push the keys into the queue *after* the loss: a
    key that is already there is a negative of its own query. Convention: as in the paper, the authors' code and
    lightly's ``NTXentLoss`` with a memory bank; some later versions multiply by 2τ (MoCo v3).

    Args:
        query: embeddings from the encoder, (N, D).
        key: those from the momentum encoder, (N, D).
        queue: earlier keys, (M, D), M ≥ 1.
        temperature: τ > 0.

    Returns:
        A Contrast.

    Raises:
        ValueError: unequal shapes, an empty queue, values not finite, a zero vector, τ not positive.

    Source: LeCun, Energy-Based Models, part 1 (NYU Deep Learning, spring 2020), "MoCo on ImageNet"; He, Fan, Wu, Xie
    and Girshick, Momentum Contrast for Unsupervised Visual Representation Learning (CVPR 2020), eq. 1.

    >>> q = torch.tensor([[1.0, 0.0]])
    >>> moco(q, q, torch.tensor([[0.0, 1.0], [0.0, -1.0]]), temperature=1.0).loss
    tensor(0.5514)
    """
    require_views(query=query, key=key)
    require_embeddings("queue", queue)
    require_divisor("temperature", temperature, query)
    _same_width("queue", queue, query)
    query, key, queue = unit("query", query), unit("key", key.detach()), unit("queue", queue.detach())
    positive = -(query * key).sum(-1)
    pull = positive.mean() / temperature
    loss = losses.info_nce(positive, -query @ queue.T, 1 / temperature).mean()
    return Contrast(loss, pull, loss - pull)


class PIRLTerms(NamedTuple):
    """PIRL's criterion and what it is the sum of.

    Attributes:
        loss: the sum.
        transformed: λ times the NCE of memory and transformed view.
        image: (1 − λ) times the NCE of memory and untransformed image.
    """

    loss: Tensor
    transformed: Tensor
    image: Tensor


def pirl(
    memory: Tensor,
    image: Tensor,
    transformed: Tensor,
    negatives: Tensor,
    *,
    temperature: float = 0.07,
    weight: float = 0.5,
) -> PIRLTerms:
    r"""PIRL: an image and its jigsaw must both agree with the image's memory, and with no other memory.

    .. math::

        & \mathcal L = \lambda L(m, g(v_{I^t})) + (1 - \lambda) L(m, f(v_I)), \\
        & L(m, v) = -\log h(m, v) - \sum_{j \in D_N} \log\big(1 - h(v, m_j)\big), \quad
        h(u, v) = \frac{e^{s(u, v)/\tau}}{e^{s(u, v)/\tau} + \sum_{j \in D_N} e^{s(v, m_j)/\tau}}

    with s the cosine. The sum over D_N in h is that of the same v in both terms of L, so that with
    :math:`S = \sum_j e^{s_j/\tau}` the second term is :math:`\sum_j \log(1 + e^{s_j/\tau}/S)`. Convention: the paper's
    equations 5 and 6, mean over the batch. As printed, the second term lies between log 2 and 1, and teaches nothing
    once there are many negatives. The authors' release (VISSL) holds the sum over D_N at a constant estimated on the
    first batch, as noise-contrastive estimation does; there the second term is the push.

    Args:
        memory: the images' own entries in the memory bank, (N, D); no gradient goes there.
        image: f of the untransformed images, (N, D).
        transformed: g of the transformed ones, (N, D).
        negatives: entries of other images, (M, D), M ≥ 1; no gradient goes there.
        temperature: τ > 0.
        weight: λ from 0 to 1.

    Returns:
        A PIRLTerms.

    Raises:
        ValueError: unequal shapes, no negatives, values not finite, a zero vector, τ not positive, λ out of range.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Contrastive Joint
    Embedding (Issues)"; Misra and van der Maaten, Self-Supervised Learning of Pretext-Invariant Representations (CVPR
    2020), eqs. 4 to 6.

    >>> m = torch.tensor([[1.0, 0.0]])
    >>> pirl(m, m, m, torch.tensor([[-1.0, 0.0]]), temperature=1.0).loss  # log(1 + e⁻²) + log 2
    tensor(0.8201)
    """
    require_views(memory=memory, image=image, transformed=transformed)
    require_embeddings("negatives", negatives)
    require_divisor("temperature", temperature, image)
    if require_weight("weight", weight) > 1:
        raise ValueError(f"weight must be at most 1, got {weight}")
    _same_width("negatives", negatives, image)
    memory, negatives = unit("memory", memory.detach()), unit("negatives", negatives.detach())

    def nce(v: Tensor) -> Tensor:
        energy = -v @ negatives.T
        others = -energy / temperature
        total = others.logsumexp(-1, keepdim=True)
        own = losses.info_nce(-(memory * v).sum(-1), energy, 1 / temperature)
        return (own + torch.nn.functional.softplus(others - total).sum(-1)).mean()

    parts = weight * nce(unit("transformed", transformed)), (1 - weight) * nce(unit("image", image))
    return PIRLTerms(sum(parts), *parts)


def _same_width(name: str, z: Tensor, like: Tensor) -> None:
    if z.shape[1] != like.shape[1]:
        raise ValueError(f"{name} must hold vectors of {like.shape[1]} dimensions, got {z.shape[1]}")
