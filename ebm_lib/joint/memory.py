r"""Memories of earlier embeddings, where negatives come from: a queue of the last, a bank with one for each sample.

.. math:: \text{queue: } n_{t-M}, \dots, n_{t-1}, \qquad \text{bank: } m_1, \dots, m_N
"""

import torch
from torch import Tensor, nn

from ebm_lib.data.draw import normal
from ebm_lib.joint._require import require_embeddings, unit
from ebm_lib.require import has_values, require_count


class Queue(nn.Module):
    r"""The last M embeddings, in a ring: the oldest are overwritten first.

    It starts with random directions, which are negatives like any other. A batch need not divide M: it wraps around.

    Args:
        size: M.
        D: dimensions.
        generator: where the first entries come from.
        dtype: of the entries; torch's default if None.
        device: where they live.

    Attributes:
        values: (M, D), of length 1.
        place: where the next one goes, a scalar int64.

    Raises:
        ValueError: sizes below 1; in :meth:`push`, embeddings of another width, not finite, or zero.

    Source: LeCun, Energy-Based Models, part 1 (NYU Deep Learning, spring 2020), "MoCo on ImageNet"; He, Fan, Wu, Xie
        and Girshick, Momentum Contrast for Unsupervised Visual Representation Learning (CVPR 2020), section 3.2.

    >>> queue = Queue(3, 1, generator=torch.Generator().manual_seed(0))
    >>> queue.push(torch.tensor([[1.0], [1.0]]))
    >>> queue.push(torch.tensor([[-2.0], [-2.0]]))
    >>> queue.values.tolist(), queue.place.item()
    ([[-1.0], [1.0], [-1.0]], 1)
    """

    def __init__(
        self,
        size: int,
        D: int,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        shape = (require_count("size", size), require_count("D", D))
        device = None if device is None else torch.device(device)
        self.register_buffer(
            "values", unit("queue", normal(shape, generator, dtype or torch.get_default_dtype(), device))
        )
        self.register_buffer("place", torch.zeros((), dtype=torch.long, device=device))

    @torch.no_grad()
    def push(self, z: Tensor) -> None:
        """Put in embeddings (N, D), normalised; of more than M, the last M stay. Call it after the loss."""
        require_embeddings("z", z)
        size = len(self.values)
        if z.shape[1] != self.values.shape[1]:
            raise ValueError(f"z must hold vectors of {self.values.shape[1]} dimensions, got {z.shape[1]}")
        skipped = max(0, len(z) - size)  # no row is written twice: which write wins depends on the device
        rows = (self.place + skipped + torch.arange(len(z) - skipped, device=self.values.device)) % size
        # A new tensor, not the old one changed: a loss that still holds the old one can be differentiated
        self.values = self.values.index_copy(0, rows, unit("z", z[skipped:]).to(self.values))
        self.place = (self.place + len(z)) % size


class MemoryBank(nn.Module):
    r"""One embedding for each sample of a data set, followed as a moving average and kept at length 1.

    .. math:: m_i \leftarrow \frac{m\, m_i + (1 - m)\, z_i}{\lVert m\, m_i + (1 - m)\, z_i \rVert}

    Args:
        N: samples of the data set.
        D: dimensions.
        momentum: m in [0, 1).
        generator: where the first entries come from.
        dtype: of the entries; torch's default if None.
        device: where they live.

    Attributes:
        values: (N, D), of length 1.

    Raises:
        ValueError: sizes below 1, m outside [0, 1); in the methods, rows out of range, rows told twice, embeddings that
            do not fit.

    Source: Wu, Xiong, Yu and Lin, Unsupervised Feature Learning via Non-Parametric Instance Discrimination (CVPR 2018);
        Misra and van der Maaten, Self-Supervised Learning of Pretext-Invariant Representations (CVPR 2020), 2.2.

    >>> bank = MemoryBank(4, 2, generator=torch.Generator().manual_seed(0))
    >>> bank.negatives(torch.tensor([0, 2]), 2).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        N: int,
        D: int,
        *,
        momentum: float = 0.5,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        self.momentum = momentum
        shape = (require_count("N", N), require_count("D", D))
        device = None if device is None else torch.device(device)
        self.register_buffer(
            "values", unit("bank", normal(shape, generator, dtype or torch.get_default_dtype(), device))
        )

    def negatives(self, rows: Tensor, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Entries of ``count`` different samples, none of them among ``rows``, (count, D)."""
        rows = self._require_rows(rows)
        origin = "cpu" if generator is None else generator.device
        order = torch.randperm(len(self.values), generator=generator, device=origin).to(rows.device)
        others = order[~torch.isin(order, rows)][: require_count("count", count)]
        if len(others) < count:
            raise ValueError(f"count must be at most the {len(others)} samples that are not in rows, got {count}")
        return self.values[others]

    @torch.no_grad()
    def update(self, rows: Tensor, z: Tensor) -> None:
        """Move the entries of samples ``rows``, (N,), each there once, towards their embeddings (N, D)."""
        rows = self._require_rows(rows)
        if has_values(rows) and len(rows.unique()) < len(rows):
            raise ValueError("rows must name each sample once")
        require_embeddings("z", z)
        if z.shape != (len(rows), self.values.shape[1]):
            raise ValueError(f"z must be ({len(rows)}, {self.values.shape[1]}), got {tuple(z.shape)}")
        mixed = torch.lerp(unit("z", z).to(self.values), self.values[rows], self.momentum)
        self.values = self.values.index_copy(0, rows, unit("memory", mixed))

    def _require_rows(self, rows: Tensor) -> Tensor:
        if rows.ndim != 1 or rows.is_floating_point() or rows.dtype == torch.bool:
            raise ValueError(f"rows must be a vector of whole numbers, got {rows.dtype} of shape {tuple(rows.shape)}")
        if has_values(rows) and len(rows) and (rows.min() < 0 or rows.max() >= len(self.values)):
            raise ValueError(f"rows must lie in 0..{len(self.values) - 1}, got {int(rows.min())}..{int(rows.max())}")
        return rows.long()
