r"""Convolutional sparse coding: every atom may stand at every place of a picture.

.. math:: E(y, z) = \Big\lVert y - \sum_{k=1}^K W_k * z_k \Big\rVert^2 + \lambda \sum_k \lVert z_k \rVert_1

A code is a map per filter, larger than the picture by a kernel less a pixel on every side, so that pixels near the
border are explained by as many atoms as the others. It is sparse coding with a dictionary of all shifted filters, which
is never written out: :func:`conv_decode` multiplies by it and :func:`conv_correlate` by its transpose.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ebm_lib.data.draw import kind_of, normal
from ebm_lib.latent.model import require_data, require_last
from ebm_lib.latent.sparse.proximal import proximal_gradient
from ebm_lib.require import has_values, require_count, require_finite, require_positive
from ebm_lib.train import History, fit


def conv_code_size(side: int, kernel: int, stride: int = 1) -> int:
    """Height or width of a code map: as many places as the kernel can stand at and touch the picture.

    >>> conv_code_size(10, 3), conv_code_size(10, 4, stride=2)
    (12, 7)
    """
    if not 1 <= stride <= kernel:
        raise ValueError(f"stride must be from 1 to the kernel's {kernel} pixels, or some are never reached: {stride}")
    return (side + kernel - 2) // stride + 1


def conv_decode(z: Tensor, W: Tensor, size: tuple[int, int], stride: int = 1) -> Tensor:
    r"""Build pictures from code maps.

    .. math:: \bar y[c, i] = \sum_k \sum_j W_k\big[c,\, i - (r j - s + 1)\big]\; z_k[j]

    for filters of s × s pixels that stand at every r-th place, the first with one pixel in the picture's corner.

    Args:
        z: (..., K, h, w) with h and w of :func:`conv_code_size`.
        W: filters, (K, C, s, s).
        size: height and width of the pictures.
        stride: r.

    Returns:
        (..., C, height, width).

    Raises:
        ValueError: shapes that do not fit.

    >>> conv_decode(torch.eye(3)[None], torch.ones(1, 1, 2, 2), (2, 2))
    tensor([[[2., 1.],
             [1., 2.]]])
    """
    kernel = _require_filters(W)
    expected = (len(W), *(conv_code_size(side, kernel, stride) for side in size))
    if z.shape[-3:] != expected:
        raise ValueError(f"z must be (..., K, h, w) = (..., {expected}), got shape {tuple(z.shape)}")
    full = F.conv_transpose2d(z.reshape(-1, *expected), W, stride=stride)
    y = full[..., kernel - 1 : kernel - 1 + size[0], kernel - 1 : kernel - 1 + size[1]]
    return y.reshape(*z.shape[:-3], *y.shape[1:])


def conv_correlate(y: Tensor, W: Tensor, stride: int = 1) -> Tensor:
    r"""Compare pictures with the filters at every place: the transpose of :func:`conv_decode`.

    .. math:: \langle \text{decode}(z), y \rangle = \langle z, \text{correlate}(y) \rangle

    Args:
        y: (..., C, height, width).
        W: filters, (K, C, s, s).
        stride: as there.

    Returns:
        (..., K, h, w).

    Raises:
        ValueError: shapes that do not fit.

    >>> conv_correlate(torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]), torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
    tensor([[[4., 3., 0.],
             [2., 1., 0.],
             [0., 0., 0.]]])
    """
    kernel = _require_filters(W)
    if y.ndim < 3 or y.shape[-3] != W.shape[1]:
        raise ValueError(f"y must be (..., {W.shape[1]}, height, width), got shape {tuple(y.shape)}")
    height, width = y.shape[-2:]
    places = [conv_code_size(side, kernel, stride) for side in (height, width)]
    # what the last place covers beyond the picture
    below, right = ((n - 1) * stride + 1 - side for n, side in zip(places, (height, width), strict=True))
    padded = F.pad(y.reshape(-1, *y.shape[-3:]), (kernel - 1, right, kernel - 1, below))
    z = F.conv2d(padded, W, stride=stride)
    return z.reshape(*y.shape[:-3], *z.shape[1:])


@torch.no_grad()
def conv_norm(W: Tensor, size: tuple[int, int]) -> float:
    r"""A bound on the spectral norm of the dictionary of all shifted filters.

    .. math:: \lVert W \rVert_2 \le \max_f \big\lVert \hat W(f) \big\rVert_2

    with the filters' Fourier transform at frequency f, a C × K matrix, on a torus large enough that nothing wraps. On
    the torus it is exact; a picture is a part of it. One over twice its square is a safe step for ISTA.

    Args:
        W: filters, (K, C, s, s).
        size: height and width of the pictures.

    Returns:
        The bound.

    Raises:
        ValueError: W not (K, C, s, s), not finite, or all 0.

    >>> conv_norm(torch.full((1, 1, 2, 2), 0.5), (8, 8))
    2.0
    """
    kernel = _require_filters(W)
    torus = tuple(side + 2 * kernel - 2 for side in size)
    spectrum = torch.fft.rfft2(W.double(), s=torus).flatten(2).permute(2, 1, 0)  # (frequencies, C, K)
    gram = spectrum @ spectrum.mH if W.shape[1] <= W.shape[0] else spectrum.mH @ spectrum
    largest = torch.linalg.eigvalsh(gram)[:, -1].max()
    if not has_values(largest):
        return 1.0  # nothing to read: any number serves on a meta tensor
    if largest <= 0:
        raise ValueError("W must not be all 0")
    return math.sqrt(largest.item())


class ConvSparseCoding(nn.Module):
    r"""Sparse coding of whole pictures with filters that are the same at every place.

    .. math:: E(y, z) = \lVert y - \text{Dec}(z) \rVert^2 + \lambda \lVert z \rVert_1, \qquad
        \text{Dec}(z) = \sum_k W_k * z_k, \qquad \lVert W_k \rVert = 1

    Pictures and codes are rows of numbers, as everywhere in this library: ``y.view(-1, *model.shape)`` and
    ``z.view(-1, *model.code_shape)`` are pictures and maps.

    Args:
        shape: colours, height and width of a picture.
        filters: K.
        kernel: height and width s of a filter.
        lam: λ > 0.
        stride: distance of the places where a filter may stand, at most s.
        generator: draws the filters.
        device: where they live.
        dtype: their dtype.

    Attributes:
        W: the filters, (K, C, s, s), each of length one.
        shape: as given, a tuple.
        code_shape: (K, h, w).

    Raises:
        ValueError: sizes below 1, a stride above the kernel, λ not positive. In every method, another last dimension or
            values that are not finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Convolutional Sparse Auto-Encoder on
    Natural Images"; Kavukcuoglu, Sermanet, Boureau, Gregor, Mathieu and LeCun, Learning Convolutional Feature
    Hierarchies for Visual Recognition (NIPS 2010); Zeiler, Krishnan, Taylor and Fergus, Deconvolutional Networks (CVPR
    2010).

    >>> model = ConvSparseCoding((1, 10, 10), 4, 3, lam=0.1, generator=torch.Generator().manual_seed(0))
    >>> model.code_shape, model.infer(torch.ones(2, 100)).shape
    ((4, 12, 12), torch.Size([2, 576]))
    """

    def __init__(
        self,
        shape: Sequence[int],
        filters: int,
        kernel: int,
        *,
        lam: float,
        stride: int = 1,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        if len(self.shape) != 3:
            raise ValueError(f"shape must be (colours, height, width), got {self.shape}")
        for position, side in enumerate(self.shape):
            require_count(f"shape[{position}]", side)
        require_count("filters", filters)
        require_count("kernel", kernel)
        self.lam, self.stride = require_positive("lam", lam), require_count("stride", stride)
        self.code_shape = (filters, *(conv_code_size(side, kernel, stride) for side in self.shape[1:]))
        dtype, device = kind_of(None, dtype, device)
        self.W = nn.Parameter(normal((filters, self.shape[0], kernel, kernel), generator, dtype, device))
        self.normalize_()

    @torch.no_grad()
    def normalize_(self) -> None:
        """Scale every filter to length one."""
        self.W.div_(self.W.flatten(1).norm(dim=1)[:, None, None, None])

    def _pictures(self, y: Tensor) -> Tensor:
        return require_last("y", y, math.prod(self.shape)).unflatten(-1, self.shape)

    def decode(self, z: Tensor) -> Tensor:
        """ȳ = Dec(z), (..., C · H · W), for codes (..., K · h · w)."""
        maps = require_last("z", z, math.prod(self.code_shape)).unflatten(-1, self.code_shape)
        return conv_decode(maps, self.W, self.shape[1:], self.stride).flatten(-3)

    def correlate(self, y: Tensor) -> Tensor:
        """The transpose of :meth:`decode`: pictures (..., C · H · W) against all shifted filters, (..., K · h · w)."""
        return conv_correlate(self._pictures(y), self.W, self.stride).flatten(-3)

    def energy(self, y: Tensor, z: Tensor) -> Tensor:
        """E(y, z), (...); leading dimensions broadcast."""
        require_last("y", y, math.prod(self.shape))
        return (y - self.decode(z)).square().sum(-1) + self.lam * z.abs().sum(-1)

    def max_step_size(self) -> float:
        """Longest step that :func:`conv_norm` proves safe, η = 1 / (2 ‖W‖²)."""
        return 1 / (2 * conv_norm(self.W, self.shape[1:]) ** 2)

    @torch.no_grad()
    def infer(
        self,
        y: Tensor,
        *,
        steps: int = 100,
        tol: float = 1e-4,
        start: Tensor | None = None,
        accelerated: bool = True,
    ) -> Tensor:
        """The code of lowest energy, (..., K · h · w), by :func:`proximal_gradient`: see there.

        Args:
            y: pictures, (..., C · H · W).
            steps: iterations at most.
            tol: as there.
            start: (..., K · h · w); 0 if None.
            accelerated: FISTA, else ISTA.
        """
        eta = self.max_step_size()
        require_last("y", y, math.prod(self.shape))
        if start is None:
            start = y.new_zeros(*y.shape[:-1], math.prod(self.code_shape))
        return proximal_gradient(
            lambda z: 2 * self.correlate(self.decode(z) - y),
            start,
            step_size=eta,
            threshold=self.lam * eta,
            steps=steps,
            tol=tol,
            accelerated=accelerated,
        )

    def free_energy(self, y: Tensor, beta: float = math.inf) -> Tensor:
        """F(y) = min_z E(y, z), (...). Only β = ∞ has a closed form."""
        if beta != math.inf:
            raise ValueError(f"beta must be inf: the integral over z has no closed form, got {beta}")
        return self.energy(y, self.infer(y))

    def forward(self, y: Tensor) -> Tensor:
        """The free energy at β = ∞, (...)."""
        return self.free_energy(y)

    def learn(
        self,
        y: Tensor,
        *,
        steps: int = 300,
        batch_size: int | None = 16,
        lr: float = 1e-2,
        inference_steps: int = 30,
        generator: torch.Generator | None = None,
        progress: bool = True,
    ) -> History:
        """Alternate: codes of a batch, then one step of the filters, which are scaled to length one again.

        Args:
            y: pictures, (N, C · H · W).
            steps: updates.
            batch_size: pictures per update, at most N; None takes all.
            lr: Adam's learning rate at the start; it falls to 0.
            inference_steps: iterations for the codes of each batch.
            generator: draws the batches.
            progress: show a bar.

        Returns:
            The history; ``loss`` is the mean E(y, ž) of each batch.

        Raises:
            ValueError: data of another shape or not finite.
        """
        require_data(y, math.prod(self.shape))
        optimizer = torch.optim.Adam(self.parameters(), lr=require_positive("lr", lr))
        return fit(
            self,
            lambda model, y: model.energy(y, model.infer(y, steps=inference_steps, tol=0.0)).mean(),
            y,
            steps=steps,
            batch_size=batch_size,
            optimizer=optimizer,
            scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, require_count("steps", steps)),
            callback=lambda _: self.normalize_(),
            generator=generator,
            progress=progress,
        )

    def extra_repr(self) -> str:
        """Show what the parameters do not."""
        return f"shape={self.shape}, filters={len(self.W)}, kernel={self.W.shape[-1]}, lam={self.lam}"


def _require_filters(W: Tensor) -> int:
    if W.ndim != 4 or W.shape[2] != W.shape[3] or 0 in W.shape:
        raise ValueError(f"W must be filters (K, C, s, s), got shape {tuple(W.shape)}")
    require_finite("W", W)
    return W.shape[-1]
