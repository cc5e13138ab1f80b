r"""Alignment of two sequences: dynamic time warping, and its soft minimum.

An alignment is a path of cells (i, j) that starts at (0, 0), ends at (N − 1, M − 1) and moves by (1, 1), (1, 0) or
(0, 1); it is the latent variable that says which frame of one sequence answers which frame of the other. Its energy
is the sum of the local costs of its cells, and the free energy follows the recursion

.. math:: D_{ij} = C_{ij} + \min\nolimits_\beta (D_{i-1,j-1},\, D_{i-1,j},\, D_{i,j-1}), \qquad F = D_{N-1,M-1}

in which :math:`\min_\beta` is any semiring of :mod:`ebm_lib.structured.semiring`. The cells of an anti-diagonal
i + j = d depend on the two before it only, so a Python loop takes N + M − 1 steps for a whole batch.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn.functional import pad

from ebm_lib.require import has_values, require_count, require_finite, require_points
from ebm_lib.structured.semiring import Minimum, Semiring, occupation, of_temperature

CACHED = 2**16  # elements
MOVES = ((1, 1), (1, 0), (0, 1))  # among equals the first wins: ties go to the diagonal


def align(
    cost: Tensor,
    semiring: Semiring | None = None,
    *,
    rows: Tensor | None = None,
    columns: Tensor | None = None,
    band: int | None = None,
) -> Tensor:
    r"""Free energy of the alignments of two sequences, given the cost of each pair of frames.

    .. math::

        F_\infty = \min_{\pi} \sum_{(i, j) \in \pi} C_{ij}, \qquad
        F_\beta = -\frac{1}{\beta} \log \sum_\pi \exp\Bigl(-\beta \sum_{(i, j) \in \pi} C_{ij}\Bigr)

    With :class:`~ebm_lib.structured.Minimum` this is dynamic time warping (no root is taken), with
    :class:`~ebm_lib.structured.SoftMinimum` it is soft-DTW of smoothing γ = 1/β. With N = M and all costs 0,
    F_β is minus the log of the number of alignments (1, 3, 13, 63, … for N = 1, 2, 3, 4) over β.

    Args:
        cost: C, (..., N, M), N and M at least 1; +inf forbids a pair.
        semiring: reduces alternatives; the minimum if not given.
        rows: numbers of frames of the first sequences, integers from 1 to N that broadcast to (...); the cost beyond
            them is not looked at. All N if not given.
        columns: the same for the second sequences, from 1 to M.
        band: allow only i and j that differ by at most ``band`` (Sakoe and Chiba); two sequences whose lengths differ
            by more cannot be aligned.

    Returns:
        F, (...), same dtype and device as ``cost``; +inf where no alignment is possible.

    Raises:
        ValueError: an empty sequence, a length out of range or of the wrong shape, a cost that is NaN or -inf or not
            floating point, lengths that are not whole numbers, a negative band.
        TypeError: a band that is not a whole number.

    Source: Sakoe and Chiba, "Dynamic programming algorithm optimization for spoken word recognition", 1978; Cuturi and
    Blondel, "Soft-DTW: a differentiable loss function for time-series", 2017.

    >>> align(torch.tensor([[0.0, 4.0], [1.0, 0.0], [1.0, 2.0]]))
    tensor(2.)
    """
    semiring = Minimum() if semiring is None else semiring
    allowed, rows, columns = _prepare(cost, rows, columns, band)
    if type(semiring) is Minimum and _only_values(cost):
        free = _end(_table(allowed), rows, columns)
    else:
        free = _sweep(allowed, semiring, rows, columns)
    return free.reshape(cost.shape[:-2])


def dtw(
    x: Tensor,
    y: Tensor,
    semiring: Semiring | None = None,
    *,
    rows: Tensor | None = None,
    columns: Tensor | None = None,
    band: int | None = None,
) -> Tensor:
    r"""Dynamic time warping of two sequences of points: their squared distances, aligned.

    The sum of squared distances along the best path. Some libraries return its square root (``tslearn.metrics.dtw``);
    with ``SoftMinimum(beta)`` it is ``tslearn.metrics.soft_dtw`` at ``gamma = 1 / beta``.

    Args:
        x: (..., N, D).
        y: (..., M, D); batch dimensions broadcast against those of ``x``.
        semiring: as :func:`~ebm_lib.structured.align`.
        rows: lengths of ``x``, as :func:`~ebm_lib.structured.align`.
        columns: lengths of ``y``, as :func:`~ebm_lib.structured.align`.
        band: as :func:`~ebm_lib.structured.align`.

    Returns:
        F, (...).

    Raises:
        ValueError: as :func:`~ebm_lib.structured.align` and :func:`~ebm_lib.structured.squared_distances`.

    >>> dtw(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.0], [0.0], [1.0], [1.0], [2.0]]))
    tensor(1.)
    """
    return align(squared_distances(x, y), semiring, rows=rows, columns=columns, band=band)


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    r"""Squared Euclidean distance of each frame of one sequence to each of another.

    .. math:: C_{ij} = \sum_k (x_{ik} - y_{jk})^2

    Summed from the differences, not from :math:`|x|^2 + |y|^2 - 2 x \cdot y`: never negative, and 0 for equal frames.

    Args:
        x: (..., N, D).
        y: (..., M, D); batch dimensions broadcast against those of ``x``.

    Returns:
        C, (..., N, M). The batch is innermost in memory, as :func:`~ebm_lib.structured.align` walks it.

    Raises:
        ValueError: not (..., frames, D) with the same D ≥ 1; not floating point; values that are not finite.

    >>> squared_distances(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [3.0]]))
    tensor([[1., 9.],
            [0., 4.]])
    """
    for name, points in (("x", x), ("y", y)):
        require_points(name, points)
        if points.ndim < 2:
            raise ValueError(f"{name} must be (..., frames, D), got shape {tuple(points.shape)}")
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"x and y must have equally many coordinates, got shapes {tuple(x.shape)} and {tuple(y.shape)}"
        )
    batch = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    # (N, 1, ...) and (1, M, ...) for each coordinate: the batch stays innermost.
    first = x.expand(*batch, *x.shape[-2:]).movedim((-1, -2), (0, 1)).contiguous().unsqueeze(2)
    second = y.expand(*batch, *y.shape[-2:]).movedim((-1, -2), (0, 1)).contiguous().unsqueeze(1)
    if _only_values(first) and _only_values(second):
        # A block of rows at a time, so that the differences stay in cache.
        total = (first[0, :1] - second[0, :1]).new_empty(first.shape[1], second.shape[2], *batch)
        block = max(1, CACHED // max(1, total[:1].numel()))
        for k in range(0, total.shape[0], block):
            total[k : k + block] = _sum_of_squares(first[:, k : k + block], second)
    else:
        total = _sum_of_squares(first, second)
    return total.movedim((0, 1), (-2, -1))


def _sum_of_squares(first: Tensor, second: Tensor) -> Tensor:
    """Sum over coordinates, the first dimension, of the squared differences."""
    total = None
    for a, b in zip(first.unbind(), second.unbind(), strict=True):
        gap = a - b
        total = gap.square() if total is None else torch.addcmul(total, gap, gap)
    return total


class WarpingPath(NamedTuple):
    """The cells of an alignment in order.

    Attributes:
        cells: (..., N + M − 1, 2), pairs (i, j) from (0, 0) on; −1 after the last.
        count: how many cells there are, (...).
    """

    cells: Tensor
    count: Tensor


def warping_path(
    cost: Tensor, *, rows: Tensor | None = None, columns: Tensor | None = None, band: int | None = None
) -> WarpingPath:
    r"""The alignment of lowest energy.

    .. math:: \check\pi = \arg\min_\pi \sum_{(i, j) \in \pi} C_{ij}

    Followed backwards from the last cell; where predecessors tie, it takes (1, 1) before (1, 0) before (0, 1).

    Args:
        cost: (..., N, M), as :func:`~ebm_lib.structured.align`.
        rows: as :func:`~ebm_lib.structured.align`.
        columns: as :func:`~ebm_lib.structured.align`.
        band: as :func:`~ebm_lib.structured.align`.

    Returns:
        The cells of the path and their number.

    Raises:
        ValueError: as :func:`~ebm_lib.structured.align`; also if no alignment is possible.

    >>> warping_path(torch.tensor([[0.0, 4.0], [1.0, 0.0], [1.0, 2.0]]))
    WarpingPath(cells=tensor([[ 0,  0],
            [ 1,  1],
            [ 2,  1],
            [-1, -1]]), count=tensor(3))
    """
    allowed, rows, columns = _prepare(cost.detach(), rows, columns, band)
    table = _table(allowed)
    free = _end(table, rows, columns)
    if has_values(free) and torch.isposinf(free).any():
        raise ValueError(
            f"every pair must have a possible alignment: {int(torch.isposinf(free).sum())} of {free.numel()} have none"
        )
    _, width, samples = table.shape
    steps = table.shape[0] + width - 3
    flat = table.reshape(-1)
    # A position is an index into the flat table; the corner (0, 0) of the border comes before the first cell.
    here = (rows * width + columns) * samples + torch.arange(samples, device=cost.device)
    back = torch.tensor([(i * width + j) * samples for i, j in MOVES], device=cost.device).unsqueeze(-1)
    visited = []
    for _ in range(steps):
        visited.append(here)
        before = (here - back).clamp(min=0)
        best = flat[before].argmin(0, keepdim=True)
        here = torch.where(here < samples, here, before.gather(0, best).squeeze(0))
    visited = torch.stack(visited, -1)
    count = (visited >= samples).sum(-1)
    order = count.unsqueeze(-1) - 1 - torch.arange(steps, device=cost.device)
    cell = visited.gather(-1, order.clamp(min=0)) // samples
    cells = torch.stack((cell // width - 1, cell % width - 1), -1)
    cells = torch.where((order < 0).unsqueeze(-1), -1, cells)
    return WarpingPath(cells.reshape(*cost.shape[:-2], steps, 2), count.reshape(cost.shape[:-2]))


def alignment_probability(
    cost: Tensor,
    beta: float,
    *,
    rows: Tensor | None = None,
    columns: Tensor | None = None,
    band: int | None = None,
) -> Tensor:
    r"""Probability that the alignment uses each cell, under the Gibbs distribution over alignments.

    .. math:: P_{ij} = \sum_{\pi \ni (i, j)} P(\pi) = \frac{\partial F_\beta}{\partial C_{ij}}

    Args:
        cost: (..., N, M), as :func:`~ebm_lib.structured.align`.
        beta: inverse temperature, > 0; ``inf`` gives the indicator of one best path.
        rows: as :func:`~ebm_lib.structured.align`.
        columns: as :func:`~ebm_lib.structured.align`.
        band: as :func:`~ebm_lib.structured.align`.

    Returns:
        Probabilities, (..., N, M), 0 beyond the lengths.

    Raises:
        ValueError: as :func:`~ebm_lib.structured.align`; also beta not positive, or no alignment is possible.

    Source: Cuturi and Blondel, 2017, algorithm 2 (the matrix E).

    >>> alignment_probability(torch.zeros(2, 2), 1.0)
    tensor([[1.0000, 0.3333],
            [0.3333, 1.0000]])
    """
    semiring = of_temperature(beta)
    return occupation(lambda c: align(c, semiring, rows=rows, columns=columns, band=band), cost)[0]


def _only_values(tensor: Tensor) -> bool:
    """Tell whether nobody will ask how a result came about, so that it may be computed in place."""
    asked = torch.is_grad_enabled() and tensor.requires_grad
    return has_values(tensor) and not is_functorch_wrapped_tensor(tensor) and not asked


def _lengths(name: str, lengths: Tensor | None, most: int, cost: Tensor) -> Tensor:
    """Lengths as (B,) on the device of the cost."""
    batch = cost.shape[:-2]
    if lengths is None:
        return torch.full((batch.numel(),), most, device=cost.device)
    lengths = torch.as_tensor(lengths, device=cost.device)
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise ValueError(f"{name} must be whole numbers, got {lengths.dtype}")
    if has_values(lengths) and ((lengths < 1) | (lengths > most)).any():
        raise ValueError(f"{name} must be from 1 to {most}, got {int(lengths.min())} to {int(lengths.max())}")
    try:
        return lengths.long().expand(batch).reshape(-1)
    except RuntimeError:
        raise ValueError(
            f"{name} must broadcast to the batch {tuple(batch)} of cost, got shape {tuple(lengths.shape)}"
        ) from None


def _prepare(
    cost: Tensor, rows: Tensor | None, columns: Tensor | None, band: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Check, and return the cost as (N, M, B) with what is out of bounds at +inf, and the lengths as (B,)."""
    if cost.ndim < 2 or 0 in cost.shape[-2:]:
        raise ValueError(
            f"cost must be (..., N, M) with at least one frame in each sequence, got shape {tuple(cost.shape)}"
        )
    if not cost.is_floating_point():
        raise ValueError(f"cost must be floating point, got {cost.dtype}")
    n, m = cost.shape[-2:]
    cut = rows is not None or columns is not None
    rows, columns = _lengths("rows", rows, n, cost), _lengths("columns", columns, m, cost)
    energy = cost.movedim((-2, -1), (0, 1)).reshape(n, m, -1 if cost.numel() else 0)
    i = torch.arange(n, device=cost.device)[:, None, None]
    j = torch.arange(m, device=cost.device)[None, :, None]
    if cut:
        energy = torch.where((i < rows) & (j < columns), energy, math.inf)
    # One pass that allocates nothing; the search for the culprit follows only if there is one.
    if has_values(energy) and energy.numel() and not energy.detach().amin() > -math.inf:
        require_finite("cost", energy.movedim(-1, 0).reshape(cost.shape), allow_posinf=True)
    if band is not None:
        require_count("band", band, minimum=0)
        energy = torch.where((i - j).abs() <= band, energy, math.inf)
    return energy, rows, columns


def _table(energy: Tensor) -> Tensor:
    """D in min-sum, (N + 1, M + 1, B), with a border of +inf and a 0 in its corner; filled in place."""
    n, m, samples = energy.shape
    table = energy.new_empty(n + 1, m + 1, samples)
    table[0], table[:, 0] = math.inf, math.inf
    table[0, 0] = 0
    table[1:, 1:] = energy
    row, column = (m + 1) * samples, samples  # strides; a step along an anti-diagonal is row − column
    for d in range(n + m - 1):
        low, high = max(0, d - m + 1), min(n - 1, d)

        def cells(i: int, j: int, size: int = high - low + 1) -> Tensor:
            return table.as_strided((size, samples), (row - column, 1), i * row + j * column)

        i, j = low + 1, d - low + 1
        best = torch.minimum(cells(i - 1, j), cells(i, j - 1))
        cells(i, j).add_(torch.minimum(best, cells(i - 1, j - 1), out=best))
    return table


def _end(table: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return table[rows, columns, torch.arange(table.shape[-1], device=table.device)]


def _sweep(energy: Tensor, semiring: Semiring, rows: Tensor, columns: Tensor) -> Tensor:
    """F by any semiring, (B,), out of place: differentiable, and runs under ``vmap`` and on ``meta``."""
    n, m, samples = energy.shape
    # Padding a row by N and cutting the flat result into rows that are one shorter shifts row i by i.
    skew = pad(energy, (0, 0, 0, n), value=math.inf).reshape(n * (m + n), samples)[: n * (m + n - 1)]
    diagonals = skew.reshape(n, n + m - 1, samples).unbind(1)
    last = diagonals[0]
    sums = [last]
    shifted = torch.full_like(last, math.inf)
    for diagonal in diagonals[1:]:
        before, shifted = shifted, pad(last[:-1], (0, 0, 1, 0), value=math.inf)
        last = diagonal + semiring(torch.stack((before, shifted, last)), 0)  # in the order of MOVES
        sums.append(last)
    return torch.stack(sums)[rows + columns - 2, rows - 1, torch.arange(samples, device=energy.device)]
