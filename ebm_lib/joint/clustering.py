r"""Clustering criteria: predict from one view the prototype that another view, or an earlier round, was assigned to.

.. math:: F(x, k) = -\cos(z_x, W_k)

The targets cannot all fall on one prototype if the clusters are kept populated: by K-means, which moves empty ones,
or by Sinkhorn–Knopp, which shares the batch equally among them.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, one_hot

from ebm_lib.data.patches import whitening
from ebm_lib.joint._require import require_divisor, require_embeddings, unit
from ebm_lib.latent import KMeans
from ebm_lib.nn import init_
from ebm_lib.require import has_values, require_count, require_finite


class Swapped(NamedTuple):
    """SwAV's criterion and what it is the sum of, in nats.

    Attributes:
        loss: cross-entropy of predicted against assigned prototypes, the sum of the other two.
        entropy: of the assignments, which no prediction can do without.
        divergence: KL from the assignments to the predictions.
    """

    loss: Tensor
    entropy: Tensor
    divergence: Tensor


class Classified(NamedTuple):
    """A classification criterion and what it is the sum of, in nats.

    Attributes:
        loss: cross-entropy of the class scores.
        positive: minus the score of the assigned class.
        negative: the log-partition of all scores.
    """

    loss: Tensor
    positive: Tensor
    negative: Tensor


class Assignment(NamedTuple):
    """Pseudo-labels of a whole data set.

    Attributes:
        codes: (N,) int64.
        counts: samples of each cluster, (K,) int64.
        energy: mean squared distance to the nearest centre, in the reduced space.
    """

    codes: Tensor
    counts: Tensor
    energy: float


class Prototypes(nn.Module):
    r"""K prototypes on the unit sphere; scores are cosines.

    .. math:: s_k(z) = \frac{z}{\lVert z \rVert} \cdot \frac{W_k}{\lVert W_k \rVert}

    Both are normalised here, at each call, rather than by the caller before each step: with prototypes of free length
    the assignment at temperature ε degenerates, and training stays at log K.

    Args:
        D: dimensions of the embedding.
        K: prototypes.
        generator: where they come from at first, N(0, 1).
        dtype: of the prototypes.
        device: where they live.

    Raises:
        ValueError: sizes below 1; when called, embeddings of another width, not finite, or zero.

    Source: Caron et al., Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (NeurIPS 2020),
    section 3.1.

    >>> layer = Prototypes(8, 3, generator=torch.Generator().manual_seed(0))
    >>> layer(torch.ones(5, 8)).shape, bool(layer(torch.ones(5, 8)).abs().max() <= 1)
    (torch.Size([5, 3]), True)
    """

    def __init__(
        self,
        D: int,
        K: int,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.D, self.K = require_count("D", D), require_count("K", K)
        self.W = nn.Parameter(torch.empty(K, D, dtype=dtype, device=device))
        init_(self, generator)

    def reset_parameters(self) -> None:
        """Draw the prototypes anew, from N(0, 1)."""
        self.W.normal_(0.0, 1.0)

    def forward(self, z: Tensor) -> Tensor:
        """Scores (N, K) of embeddings (N, D)."""
        require_embeddings("z", z)
        if z.shape[1] != self.D:
            raise ValueError(f"z must hold vectors of {self.D} dimensions, got {z.shape[1]}")
        return unit("z", z) @ unit("prototypes", self.W).T


@torch.no_grad()
def sinkhorn(scores: Tensor, *, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    r"""Share samples among prototypes: each sample whole, each prototype with an equal part of the batch.

    .. math::

        Q = \operatorname*{argmax}_{Q \ge 0} \sum_{ik} Q_{ik} s_{ik} + \varepsilon H(Q)
        \quad\text{with } \sum_k Q_{ik} = 1, \; \sum_i Q_{ik} = B/K

    Entropic optimal transport by Sinkhorn–Knopp; where an exponential of s/ε would come near underflow, in logarithms,
    so that any ε works in single precision. Each iteration first gives the prototypes their share, then the samples
    theirs; stopped early, the samples' sums are exact and the prototypes' only near. Convention: rows sum to 1, which
    is B times the transport plan; as the authors' code and lightly return it.

    Args:
        scores: s, (B, K).
        epsilon: ε > 0, in units of the scores.
        iterations: at least 1; the paper's 3.

    Returns:
        Q, (B, K), without gradient.

    Raises:
        ValueError: scores that are no finite (B, K), ε not positive, fewer than 1 iteration.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Quantization Methods"; Cuturi,
    Sinkhorn Distances (NIPS 2013); Caron et al., Unsupervised Learning of Visual Features by Contrasting Cluster
    Assignments (NeurIPS 2020), eqs. 3 to 5.

    >>> sinkhorn(torch.tensor([[1.0, 0.9], [1.0, 0.1]]), epsilon=0.5, iterations=50).round(decimals=2)
    tensor([[0.3100, 0.6900],
            [0.6900, 0.3100]])
    """
    require_embeddings("scores", scores)
    return _shares(scores, epsilon, iterations)[0]


def swav(
    scores: Sequence[Tensor],
    *,
    assigned: int = 2,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 3,
    queue: Sequence[Tensor] | None = None,
) -> Swapped:
    r"""SwAV's swapped prediction: each view predicts the prototypes that another view was assigned to.

    .. math::

        \mathcal L = \frac{1}{A (V - 1)} \sum_{a=1}^{A} \sum_{v \ne a} \frac1B \sum_i
        \Big( -\sum_k q^{(a)}_{ik} \log p^{(v)}_{ik} \Big), \qquad
        p^{(v)} = \operatorname{softmax}(s^{(v)}/\tau), \quad q^{(a)} = \text{sinkhorn}(s^{(a)})

    Multi-crop: only the first A views, the large ones, are assigned; all V predict. Convention: the mean over pairs
    of views, as in the authors' code, lightly's ``SwaVLoss`` and solo-learn (which knows A = V only); the paper's
    equation 1 is the sum over the two pairs, twice this.

    Args:
        scores: of each view, (B, K), cosines from :class:`Prototypes`; at least two views.
        assigned: A, how many of them are assigned.
        temperature: τ > 0 of the predictions.
        epsilon: as :func:`sinkhorn`.
        iterations: as :func:`sinkhorn`.
        queue: for each assigned view scores of earlier samples, (M, K), that take part in its assignment: for batches
            smaller than K.

    Returns:
        A Swapped.

    Raises:
        ValueError: fewer than two views, unequal shapes, values not finite, A out of range, τ or ε not positive, a
            queue that does not fit.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Quantization Methods"; Caron et al.,
    Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (NeurIPS 2020), eqs. 1 to 6.

    >>> s = torch.eye(4)
    >>> loss, entropy, divergence = swav([s, s])
    >>> round(loss.item(), 4), bool(abs(loss - entropy - divergence) < 1e-6)
    (0.0001, True)
    """
    if len(scores) < 2 or require_count("assigned", assigned) > len(scores):
        raise ValueError(
            f"scores must hold at least two views, 1 to all of them assigned, got {len(scores)}, {assigned}"
        )
    for v, s in enumerate(scores):
        require_embeddings(f"scores[{v}]", s, minimum=2)
        if s.shape != scores[0].shape:
            raise ValueError(f"scores[{v}] must have shape {tuple(scores[0].shape)}, got {tuple(s.shape)}")
    require_divisor("temperature", temperature, scores[0])
    pools, (B, K) = [s.detach() for s in scores[:assigned]], scores[0].shape
    if queue is not None:
        for a, q in enumerate(queue):
            require_embeddings(f"queue[{a}]", q)
        if len(queue) != assigned or any(q.shape != (len(queue[0]), K) for q in queue):
            raise ValueError(f"queue must hold (M, {K}) scores for each of the {assigned} assigned views")
        pools = [torch.cat([pool, earlier.detach()]) for pool, earlier in zip(pools, queue, strict=True)]
    q, entropies = zip(*(_shares(pool, epsilon, iterations) for pool in pools), strict=True)
    agreement = 0.0
    for v, s in enumerate(scores):
        others = [shares[:B] for a, shares in enumerate(q) if a != v]
        targets = sum(others[1:], others[0]) if others else torch.zeros_like(s)
        agreement += torch.vdot(targets.flatten(), log_softmax(s / temperature, 1).flatten()) / B
    loss = -agreement / (assigned * (len(scores) - 1))
    entropy = sum(rows[:B].mean() for rows in entropies) / assigned
    return Swapped(loss, entropy, loss - entropy)


def deepcluster(logits: Tensor, codes: Tensor, counts: Tensor | None = None) -> Classified:
    r"""DeepCluster's loss: classify each sample into its cluster, as if that were its label.

    .. math::

        \mathcal L = \frac{\sum_i w_i \big( -s_{i,k_i} + \log \sum_k e^{s_{ik}} \big)}{\sum_i w_i},
        \qquad w_i = 1/n_{k_i}

    The weights, if ``counts`` is given, stand for the paper's sampling of images uniformly over clusters, without
    which one large cluster is an easy way out.

    Args:
        logits: s, class scores, (N, K).
        codes: the samples' clusters, (N,) whole numbers.
        counts: n, samples of each cluster in the whole data set, (K,); None weighs all alike.

    Returns:
        A Classified.

    Raises:
        ValueError: shapes that do not go together, codes out of range, values not finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Quantization Methods"; Caron,
    Bojanowski, Joulin and Douze, Deep Clustering for Unsupervised Learning of Visual Features (ECCV 2018), eq. 1 and
    section 3.3.

    >>> deepcluster(torch.zeros(2, 4), torch.tensor([0, 3])).loss.exp()
    tensor(4.)
    """
    require_embeddings("logits", logits)
    if codes.shape != logits.shape[:1] or codes.is_floating_point() or codes.dtype == torch.bool:
        raise ValueError(
            f"codes must be whole numbers of shape ({len(logits)},), got {codes.dtype} {tuple(codes.shape)}"
        )
    codes = codes.long()  # as indices, eight unsigned bits would be a mask
    if has_values(codes) and (codes.min() < 0 or codes.max() >= logits.shape[1]):
        raise ValueError(f"codes must lie in 0..{logits.shape[1] - 1}, got {int(codes.min())}..{int(codes.max())}")
    weight = torch.ones_like(logits[0])
    if counts is not None:
        if counts.shape != weight.shape or (has_values(counts) and (counts[codes] < 1).any()):
            raise ValueError(f"counts must hold ({logits.shape[1]},) cluster sizes, at least 1 where a code occurs")
        weight = 1 / require_finite("counts", counts.to(logits.dtype).clamp(min=1))
    loss = cross_entropy(logits, codes, weight=weight)
    w = weight[codes]
    positive = -(w * logits.gather(1, codes[:, None]).squeeze(1)).sum() / w.sum()
    return Classified(loss, positive, loss - positive)


@torch.no_grad()
def assign(
    features: Tensor,
    K: int,
    *,
    dimensions: int | None = None,
    rounds: int = 20,
    generator: torch.Generator | None = None,
) -> Assignment:
    """Cluster a data set's features by K-means, after whitening and normalising them, as DeepCluster does.

    Directions without variance are dropped; a cluster that falls empty takes the sample of highest energy, so all K
    stay populated (see :func:`ebm_lib.latent.lloyd_step`).

    Args:
        features: of the whole data set, (N, D), N ≥ K.
        K: clusters.
        dimensions: how many leading principal directions to keep; None keeps all. The paper keeps 256.
        rounds: of Lloyd's algorithm, at most.
        generator: where the first centres come from.

    Returns:
        An Assignment.

    Raises:
        ValueError: features that are no finite (N, D), too few for K, or all equal; more dimensions than there are.

    Source: Caron, Bojanowski, Joulin and Douze, Deep Clustering for Unsupervised Learning of Visual Features (ECCV
    2018), section 3.3.

    >>> two = torch.tensor([[0.0, 1.0], [0.1, 1.0], [5.0, 0.0], [5.1, 0.1]])
    >>> found = assign(two, 2, dimensions=1, generator=torch.Generator().manual_seed(0))
    >>> bool(found.codes[0] == found.codes[1] != found.codes[2] == found.codes[3]), found.counts.tolist()
    (True, [2, 2])
    """
    require_embeddings("features", features, minimum=2)
    kept = features.shape[1] if dimensions is None else require_count("dimensions", dimensions)
    if kept > features.shape[1]:
        raise ValueError(f"dimensions must be at most {features.shape[1]}, got {kept}")
    white = whitening(features).whiten(features)
    if kept < features.shape[1]:
        centred = features - features.mean(0)
        axes = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -kept:]
        white = white @ axes
    points = white / torch.linalg.vector_norm(white, dim=-1, keepdim=True).clamp(min=torch.finfo(white.dtype).tiny)
    model = KMeans(points.shape[1], K, generator=generator, dtype=points.dtype, device=points.device)
    model.learn(points, rounds=rounds, generator=generator)
    codes, energy = model.nearest(points)
    return Assignment(codes, one_hot(codes, K).sum(0), energy.mean().item())


def _shares(scores: Tensor, epsilon: float, iterations: int) -> tuple[Tensor, Tensor]:
    """Return Q of :func:`sinkhorn`, and the entropy of its rows, (B,)."""
    require_count("iterations", iterations)
    log_q = scores / require_divisor("epsilon", epsilon, scores)
    log_q -= log_q.max()
    # Each pass gives prototypes equal shares, of a size that samples then decide. Where all exponentials are far from
    # underflow, products with scaling vectors do that in a fraction of the time that sums in logarithms take
    if has_values(log_q) and log_q.min() > math.log(torch.finfo(log_q.dtype).tiny) / 2:
        q = log_q.exp()
        sample, share = torch.ones_like(log_q[:, 0]), log_q.shape[0] / log_q.shape[1]
        for _ in range(iterations):
            prototype = share / (sample @ q)
            sample = 1 / (q @ prototype)
        q *= sample[:, None]
        q *= prototype
        return q, -((q * log_q).sum(1) + sample.log() + q @ prototype.log())
    for _ in range(iterations):
        log_q = log_softmax(log_softmax(log_q, 0), 1)
    q = log_q.exp()
    return q, -(q * log_q).sum(1)
