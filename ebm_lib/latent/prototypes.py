r"""Prototypes: the nearest one to each sample, and samples to start with that lie far from each other.

.. math:: \check k = \operatorname*{argmin}_k \lVert y - W_k \rVert^2

Everything streams over the samples in blocks that stay in cache, so memory does not grow with the number of samples
times the number of prototypes.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.data.draw import uniform
from ebm_lib.latent.model import blocks, require_last
from ebm_lib.require import require_count, require_finite, require_points

CACHE_BYTES = 2**20  # what a block's energies may take, to stay in the second-level cache between the passes over them


class Nearest(NamedTuple):
    """The prototype nearest to each sample.

    Attributes:
        codes: its number k, (...), int64; the lowest of equals.
        energy: the squared distance to it, (...).
    """

    codes: Tensor
    energy: Tensor


def nearest(y: Tensor, W: Tensor, *, block_size: int | None = None) -> Nearest:
    r"""Find the prototype nearest to each sample, by exhaustive search.

    .. math:: \check k = \operatorname*{argmin}_k \lVert y - W_k \rVert^2

    The search is by :math:`\lVert W_k \rVert^2 - 2 y^\top W_k`, one matrix product a block, in coordinates centred on
    the prototypes; the energy of the one found is then computed from the difference, and is differentiable. Distances
    whose squares differ by less than rounding of those from the centre, 1e-7 of them in float32, count as equal.

    Args:
        y: (..., D).
        W: prototypes as columns, (D, K).
        block_size: samples in a block; None takes what fits in cache.

    Returns:
        The number of the nearest prototype and the squared distance to it, each (...).

    Raises:
        ValueError: W not a finite (D, K), y not finite or of another last dimension.

    Source: LeCun, Energy-Based Models, part 1 (NYU Deep Learning, spring 2020), "Latent-Variable EBM example: K-means".

    >>> W = torch.tensor([[0.0, 10.0]])
    >>> nearest(torch.tensor([[1.0], [7.0]]), W)
    Nearest(codes=tensor([0, 1]), energy=tensor([1., 9.]))
    """
    require_prototypes(W)
    require_last("y", y, W.shape[0])
    flat, rows_of_w = y.reshape(-1, y.shape[-1]), W.T.to(y.dtype)
    parts, codes, energies = list(cached(flat, max(W.shape), block_size)), [], []
    with torch.no_grad():
        prototypes = W.T.double()
        search = Search(prototypes, prototypes.mean(0), flat.dtype)
        for rows in parts:
            codes.append(search(flat[rows])[0])
    for rows, found in zip(parts, codes, strict=True):
        energies.append((flat[rows] - rows_of_w.index_select(0, found)).square().sum(-1))
    if not parts:
        return Nearest(torch.empty(y.shape[:-1], dtype=torch.long, device=y.device), y.new_empty(y.shape[:-1]))
    return Nearest(torch.cat(codes).reshape(y.shape[:-1]), torch.cat(energies).reshape(y.shape[:-1]))


@torch.no_grad()
def kmeans_plus_plus(
    y: Tensor,
    K: int,
    *,
    trials: int | None = None,
    generator: torch.Generator | None = None,
    block_size: int | None = None,
) -> Tensor:
    r"""Choose K of the samples as first prototypes, spread out: each is drawn in proportion to its energy so far.

    .. math:: P(i) = \frac{F(y_i)}{\sum_j F(y_j)}, \qquad F(y) = \min_{k \text{ chosen}} \lVert y - W_k \rVert^2

    The expected loss is within :math:`8(\ln K + 2)` of the best possible for one draw a step. Here several candidates
    are drawn at each step, and the one kept lowers the loss most.

    Args:
        y: data, (N, D).
        K: number of prototypes, at most N.
        trials: candidates a step; None takes 2 + ⌊ln K⌋.
        generator: where the draws come from.
        block_size: samples in a block; None takes what fits in cache.

    Returns:
        Prototypes as columns, (D, K); when fewer samples than K differ, some are repeated.

    Raises:
        ValueError: fewer samples than K, y not a finite (N, D).

    Source: Arthur and Vassilvitskii, k-means++: The Advantages of Careful Seeding (SODA 2007).

    >>> y = torch.tensor([[0.0], [0.1], [9.0], [9.1]])
    >>> W = kmeans_plus_plus(y, 2, generator=torch.Generator().manual_seed(0))
    >>> (W > 5).sum().item()
    1
    """
    require_enough(y, K)
    trials = 2 + int(math.log(K)) if trials is None else require_count("trials", trials)
    work = torch.promote_types(y.dtype, torch.float32)
    parts = list(cached(y, y.shape[1], block_size))
    mean, norm = centred(y, parts)
    norm = norm.to(work)
    lowest, trial = torch.full_like(norm, math.inf), norm.new_empty(len(y), trials)
    chosen: list[int] = []
    for step in range(K):
        if step == 0:
            at = (len(y) * uniform((1, 1), generator, torch.float64, y.device)).long().squeeze(-1)
        else:
            cumulative = lowest.cumsum(0, dtype=torch.float64)
            mark = uniform((trials, 1), generator, torch.float64, y.device).squeeze(-1) * cumulative[-1]
            # Where every sample is covered the total is 0, and any will do.
            at = torch.searchsorted(cumulative, mark, right=True).clamp_(max=len(y) - 1)
        search = Search(y[at].double(), mean, y.dtype)
        after = trial[:, : len(at)]
        for rows in parts:
            distance = search.values(y[rows])
            torch.minimum(distance.add_(norm[rows, None]).clamp_(min=0), lowest[rows, None], out=after[rows])
        best = int(after.sum(0, dtype=torch.float64).argmin())
        lowest = after[:, best].clone()
        chosen.append(int(at[best]))
        lowest[chosen[-1]] = 0  # up to rounding it is
    return y[chosen].T.contiguous()


class Search:
    """Squared distances less what does not depend on the prototype, and their minimum, for one block at a time."""

    def __init__(self, prototypes: Tensor, centre: Tensor, dtype: torch.dtype) -> None:
        self.work = torch.promote_types(dtype, torch.float32)
        ahead = prototypes - centre  # in double precision, both
        norm = ahead.square().sum(-1)
        # ‖(y − m) − c‖² = ‖y − m‖² + ‖c‖² + 2 m·c − 2 y·c: with m in the constant, the samples need no centred copy.
        self.constant = (norm + 2 * ahead @ centre).to(self.work)
        self.slope = (-2 * ahead).to(self.work).T.contiguous()
        self.reach = norm.max()
        self.reader = torch.arange(len(ahead), 2 * len(ahead), device=ahead.device).to(self.work)
        self.space: Tensor | None = None  # kept from block to block, so that it stays in cache

    def values(self, y: Tensor) -> Tensor:
        """Return ‖y − W_k‖² − ‖y − m‖² of a block, (B, K), until the next call."""
        if self.space is None or self.space.shape[1] < len(y):
            self.space = y.new_empty(2, len(y), len(self.constant), dtype=self.work)
        return torch.addmm(self.constant, y.to(self.work), self.slope, out=self.space[0, : len(y)])

    def __call__(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return codes and lowest values, (B,); what :meth:`second` needs: all values, and marks of the lowest."""
        value = self.values(y)
        if value.device.type == "cpu":
            # torch finds a minimum much faster than its place. The place is read off the marks by a matrix product:
            # it gives K + k where one place is marked, 2K or more where several tie.
            low = value.amin(-1, keepdim=True)
            marks = torch.eq(value, low, out=self.space[1, : len(y)])
            place = torch.mv(marks, self.reader)
            if place.max() < 2 * len(self.reader):
                return place.long().sub_(len(self.reader)), low.squeeze(-1), value, marks
        low, codes = value.min(-1)
        return codes, low, value, None

    @staticmethod
    def second(value: Tensor, codes: Tensor, marks: Tensor | None) -> Tensor:
        """Return the lowest value but one, (B,); overwrites ``value``."""
        if marks is None:
            value.scatter_(1, codes[:, None], torch.finfo(value.dtype).max / 4)
        else:
            value.add_(marks, alpha=torch.finfo(value.dtype).max / 4)
        return value.amin(-1)


def centred(y: Tensor, parts: list[slice]) -> tuple[Tensor, Tensor]:
    """Return a point near the mean of the samples, (D,), and their squared distances to it, (N,), in float64."""
    centre = sum(y[rows].sum(0).double() for rows in parts) / len(y)
    norm = torch.cat([(y[rows].double() - centre).square().sum(-1) for rows in parts])
    if not torch.isfinite(norm.sum()):  # a look at every value of y, only to say where it is
        require_finite("y", y)
        raise FloatingPointError(f"the sums of y overflow {y.dtype}: rescale y or pass it as float64")
    return centre, norm


def cached(y: Tensor, width: int, block_size: int | None) -> Iterator[slice]:
    """Cut the samples into blocks for which ``width`` numbers each fit in cache, or on a GPU in 32 MiB."""
    if block_size is None and y.device.type == "cpu":
        block_size = max(256, CACHE_BYTES // (width * y.element_size()))
    return blocks(len(y), width * y.element_size(), block_size)


def require_prototypes(W: Tensor) -> None:
    """Refuse prototypes that are not a finite (D, K)."""
    if W.ndim != 2 or W.shape[1] == 0:
        raise ValueError(f"W must be (D, K), prototypes as columns, got shape {tuple(W.shape)}")
    require_points("W", W)


def require_enough(y: Tensor, K: int) -> None:
    """Refuse data that are not a floating-point (N, D) with N ≥ K; :func:`centred` will find out if all are finite."""
    require_count("K", K)
    if y.ndim != 2 or y.shape[1] == 0:
        raise ValueError(f"y must be (N, D), one sample a row, got shape {tuple(y.shape)}")
    if not y.is_floating_point():
        raise ValueError(f"y must be floating point, got {y.dtype}")
    if K > len(y):
        raise ValueError(f"K must be at most the number of samples, {len(y)}, got {K}")
