"""Natural image patches, cut from the photographs that come inside scikit-image and scikit-learn, and whitened.

Nothing is downloaded: only pictures inside the two packages are read. The packages are needed by this module alone.
"""

import functools
import importlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ebm_lib.data.draw import kind_of
from ebm_lib.require import has_values, require_choice, require_count, require_points, require_positive

# name: (package, whether it has colours). All are photographs; licences in `load_photographs`.
_SOURCES = {
    "astronaut": ("skimage", True),
    "brick": ("skimage", False),
    "camera": ("skimage", False),
    "chelsea": ("skimage", True),
    "china": ("sklearn", True),
    "coffee": ("skimage", True),
    "flower": ("sklearn", True),
    "grass": ("skimage", False),
    "gravel": ("skimage", False),
    "rocket": ("skimage", True),
}
PHOTOGRAPHS = tuple(_SOURCES)
COLOUR_PHOTOGRAPHS = tuple(name for name, (_, colour) in _SOURCES.items() if colour)

_LUMINANCE = (0.2125, 0.7154, 0.0721)  # of linear red, green and blue, as in skimage.color.rgb2gray (ITU-R BT.709)


class Whitening(NamedTuple):
    """A linear map to coordinates that are uncorrelated and of variance one, and the way back.

    Attributes:
        mean: (D,), what is subtracted first.
        forward: (D, D), symmetric: ``(y - mean) @ forward`` is white.
        backward: (D, D), symmetric: the pseudo-inverse of ``forward``.
    """

    mean: Tensor
    forward: Tensor
    backward: Tensor

    def whiten(self, y: Tensor) -> Tensor:
        """Map (..., D) to white coordinates, (..., D)."""
        return (y - self.mean) @ self.forward

    def restore(self, y: Tensor) -> Tensor:
        """Map white coordinates back, (..., D), up to the directions that :func:`whitening` removed."""
        return y @ self.backward + self.mean


class Patches(NamedTuple):
    """Square pieces of photographs, each a row.

    Attributes:
        points: (N, C · size · size), colour by colour, each in rows: ``points.view(N, C, size, size)`` are pictures.
        shape: (C, size, size).
        whitening: the map that was applied, or None.
    """

    points: Tensor
    shape: tuple[int, int, int]
    whitening: Whitening | None


def _package(name: str) -> object:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"the photographs come with packages that are not all installed ({error}): "
            "pip install scikit-image scikit-learn"
        ) from error


@functools.cache
def _photograph(name: str) -> np.ndarray:
    # Read from the package's own folder: its loader functions may go to the network when a file is missing.
    package, _ = _SOURCES[name]
    if package == "sklearn":
        path = Path(_package("sklearn.datasets").__file__).parent / "images" / f"{name}.jpg"
    else:
        folder = Path(_package("skimage").__file__).parent / "data"
        path = folder / f"{name}{'.jpg' if name == 'rocket' else '.png'}"
    if not path.is_file():
        raise FileNotFoundError(f"photograph {name!r} is not in this release of its package: {path} does not exist")
    return np.asarray(_package("skimage.io").imread(path))


def load_photographs(
    names: Sequence[str] | None = None,
    *,
    colour: bool = False,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> dict[str, Tensor]:
    r"""Photographs, in grey or in colour, with intensities from 0 to 1.

    .. math:: \text{grey} = 0.2125\,\text{red} + 0.7154\,\text{green} + 0.0721\,\text{blue}

    Licences: ``china`` (Daniel Büchele) and ``flower`` (vultilion) are CC BY 2.0 and come with scikit-learn;
    ``astronaut`` (NASA), ``brick``, ``camera``, ``chelsea``, ``coffee``, ``grass``, ``gravel`` and ``rocket`` (SpaceX)
    are CC0 or in the public domain and come with scikit-image.

    Args:
        names: which ones; None for all of ``PHOTOGRAPHS``, or of ``COLOUR_PHOTOGRAPHS`` with ``colour``.
        colour: keep red, green and blue apart.
        dtype: floating point.
        device: of the tensors.

    Returns:
        Name to picture, (C, height, width) with C = 3 with ``colour``, else 1.

    Raises:
        ImportError: scikit-image or scikit-learn is missing; the message says how to install it.
        ValueError: an unknown name, or a grey photograph asked for in colour.
        FileNotFoundError: the installed package lacks the file.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Convolutional Sparse Auto-Encoder on
    Natural Images", shows what natural pictures teach a sparse model.

    >>> load_photographs(["camera"])["camera"].shape
    torch.Size([1, 512, 512])
    """
    known = COLOUR_PHOTOGRAPHS if colour else PHOTOGRAPHS
    dtype, device = kind_of(None, dtype, device)
    photographs = {}
    for name in known if names is None else names:
        pixels = torch.tensor(_photograph(require_choice("names", name, known)), dtype=dtype, device=device) / 255
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        elif not colour:
            pixels = (pixels @ pixels.new_tensor(_LUMINANCE))[:, :, None]
        photographs[name] = pixels.permute(2, 0, 1).contiguous()
    return photographs


def whiten_picture(picture: Tensor, *, cutoff: float = 0.4) -> Tensor:
    r"""Flatten the spectrum of a whole picture, and cut what is above a frequency.

    .. math:: \hat y(f) \leftarrow |f|\, e^{-(|f|/f_0)^4}\, \hat y(f)

    Natural pictures have an amplitude spectrum near :math:`1/|f|`, so the factor :math:`|f|` makes it flat; the cut
    removes the corners of the square of frequencies, where sampling and compression leave mostly noise. The result has
    mean zero and is scaled to variance one, all colours together. Edges of the picture are mirrored first: no seam
    where it wraps.

    Args:
        picture: (..., height, width).
        cutoff: :math:`f_0` in cycles per pixel, at most 0.5 makes sense. The paper's 200 cycles per 512-pixel picture
            is 0.39.

    Returns:
        The picture, of the same shape.

    Raises:
        ValueError: fewer than two dimensions, not finite, a cutoff that is not positive, a picture without contrast.

    Source: Olshausen and Field, Emergence of simple-cell receptive field properties by learning a sparse code for
    natural images (Nature 381, 1996); Sparse coding with an overcomplete basis set (Vision Research 37, 1997).

    >>> flat = whiten_picture(load_photographs(["camera"])["camera"])
    >>> flat.shape, bool(flat.mean().abs() < 1e-5), round(flat.var(correction=0).item(), 4)
    (torch.Size([1, 512, 512]), True, 1.0)
    """
    if picture.ndim < 2 or min(picture.shape[-2:]) < 2:
        raise ValueError(f"picture must be (..., height, width) with at least 2 × 2 pixels, got {tuple(picture.shape)}")
    require_points("picture", picture)
    require_positive("cutoff", cutoff)
    mirrored = torch.cat([picture, picture.flip(-1)], -1)
    mirrored = torch.cat([mirrored, mirrored.flip(-2)], -2)
    height, width = mirrored.shape[-2:]
    rows = torch.fft.fftfreq(height, dtype=picture.dtype, device=picture.device)[:, None]
    columns = torch.fft.rfftfreq(width, dtype=picture.dtype, device=picture.device)
    frequency = (rows.square() + columns.square()).sqrt()
    gain = frequency * torch.exp(-((frequency / cutoff) ** 4))
    flat = torch.fft.irfft2(torch.fft.rfft2(mirrored) * gain, s=(height, width))
    flat = flat[..., : picture.shape[-2], : picture.shape[-1]]
    flat = flat - flat.mean()
    deviation = flat.square().mean().sqrt()
    if has_values(picture) and deviation <= 64 * torch.finfo(picture.dtype).eps * picture.abs().amax():
        raise ValueError("picture must have contrast: all its pixels are equal")
    return flat / deviation


def cut_patches(pictures: Sequence[Tensor], n: int, size: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Cut square patches at random places, every place in every picture being equally likely.

    Args:
        pictures: each (C, height, width), of any height and width.
        n: how many patches.
        size: their height and width in pixels.
        generator: draws the places.

    Returns:
        (n, C · size · size), of the pictures' dtype and device.

    Raises:
        ValueError: no picture, pictures of unequal colours, or one smaller than a patch.

    >>> ramp = torch.arange(12.0).reshape(1, 3, 4)
    >>> cut_patches([ramp], 1, 3, generator=torch.Generator().manual_seed(0))
    tensor([[ 0.,  1.,  2.,  4.,  5.,  6.,  8.,  9., 10.]])
    """
    require_count("n", n)
    require_count("size", size)
    pictures = list(pictures)
    if not pictures:
        raise ValueError("pictures must hold at least one, got none")
    for position, picture in enumerate(pictures):
        if picture.ndim != 3 or picture.shape[0] != pictures[0].shape[0] or min(picture.shape[1:]) < size:
            raise ValueError(
                f"pictures[{position}] must be ({pictures[0].shape[0]}, height, width) of at least {size} pixels a "
                f"side, got {tuple(picture.shape)}"
            )
    places = [(p.shape[1] - size + 1) * (p.shape[2] - size + 1) for p in pictures]
    ends = torch.tensor(places).cumsum(0)
    origin = "cpu" if generator is None else generator.device
    draw = torch.randint(int(ends[-1]), (n,), generator=generator, device=origin).cpu()
    which = torch.searchsorted(ends, draw, right=True)
    patches = pictures[0].new_empty(n, pictures[0].shape[0], size, size)
    for position, picture in enumerate(pictures):
        rows = (which == position).nonzero().squeeze(-1)
        here = draw[rows] - (ends[position] - places[position])
        across = picture.shape[2] - size + 1
        windows = picture.unfold(1, size, 1).unfold(2, size, 1)  # a view: (C, down, across, size, size)
        down, right = (here // across).to(picture.device), (here % across).to(picture.device)
        patches[rows.to(picture.device)] = windows[:, down, right].movedim(1, 0)
    return patches.flatten(1)


def whitening(points: Tensor, *, noise: float = 0.0, keep: float = 1.0) -> Whitening:
    r"""The symmetric whitening of data, which changes them as little as a whitening can.

    .. math:: P = U (\Lambda + \epsilon I)^{-1/2} U^\top, \qquad \operatorname{Cov} = U \Lambda U^\top

    Directions in which the data do not vary at all, such as the brightness of patches whose mean was removed, are
    removed, not divided by zero.

    Args:
        points: (N, D), N ≥ 2.
        noise: ε as a fraction of the mean variance. Directions of smaller variance than it stay small, so that the
            noise of the camera is not blown up; the result is then only nearly white.
        keep: share of the variance to keep: the smallest directions beyond it are removed.

    Returns:
        The map, of the points' dtype and device.

    Raises:
        ValueError: not (N, D) with N ≥ 2, no variance, ``noise`` negative or not finite, ``keep`` not in (0, 1].

    Source: Bell and Sejnowski, The "independent components" of natural scenes are edge filters (Vision Research 37,
    1997), "zero-phase" whitening.

    >>> y = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)) @ torch.tensor([[2.0, 1.0], [0.0, 0.5]])
    >>> torch.cov(whitening(y).whiten(y).T).round(decimals=3).abs()
    tensor([[1., 0.],
            [0., 1.]])
    """
    require_points("points", points)
    if points.ndim != 2 or len(points) < 2:
        raise ValueError(f"points must be (N, D) with at least two points, got shape {tuple(points.shape)}")
    if isinstance(noise, bool) or not 0 <= noise < math.inf:
        raise ValueError(f"noise must be a finite number of at least 0, got {noise}")
    if isinstance(keep, bool) or not 0 < keep <= 1:
        raise ValueError(f"keep must be a share of the variance in (0, 1], got {keep}")
    mean = points.mean(0)
    covariance = (points - mean).T @ (points - mean) / (len(points) - 1)
    # float64: the smallest variances of natural patches are 1e5 times smaller than the largest.
    variance, axes = torch.linalg.eigh(covariance.double())
    total = variance.sum()
    largest = variance[-1]
    if has_values(points) and not largest > 0:
        raise ValueError("points must vary: all of them are equal")
    rounding = len(variance) * torch.finfo(points.dtype).eps
    left_out = variance.clamp_min(0).cumsum(0) / total  # share of the variance in this direction and all smaller ones
    used = (variance > rounding * largest) & (left_out > 1 - keep)
    raised = variance + noise * total / len(variance)
    root = torch.where(used, raised, 1.0).sqrt()
    scale = torch.where(used, 1 / root, 0.0)
    back = torch.where(used, root, 0.0)
    forward, backward = ((axes * s) @ axes.T for s in (scale, back))
    return Whitening(mean, forward.to(points.dtype), backward.to(points.dtype))


def natural_patches(
    n: int,
    size: int = 12,
    *,
    names: Sequence[str] | None = None,
    colour: bool = False,
    whiten: bool = True,
    noise: float = 0.01,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Patches:
    r"""Patches of natural photographs, at random places, white and of variance one.

    Each patch loses its own mean brightness (of each colour); then all are whitened with one symmetric map,
    :func:`whitening`, fitted to them, and scaled so that a coordinate has variance one on average. To treat new patches
    alike, remove their means and call ``result.whitening.whiten``.

    Args:
        n: how many, at least two.
        size: height and width in pixels.
        names: from which photographs (see :func:`load_photographs`); all if None.
        colour: three colours; from the photographs that have them.
        whiten: if False, patches keep their spectrum and scale, and only lose their means.
        noise: see :func:`whitening`.
        generator: draws the places.
        dtype: floating point; torch's default if None.
        device: of the result.

    Returns:
        :class:`Patches`.

    Raises:
        ImportError: scikit-image or scikit-learn is missing.
        ValueError: as :func:`load_photographs`, :func:`cut_patches`, :func:`whitening`.

    Source: LeCun, Energy-Based Models, part 1 (NYU Deep Learning, spring 2020), "Predictive Sparse Decomposition
    (PSD): Training", which uses patches of 12 × 12 pixels.

    >>> patches = natural_patches(500, generator=torch.Generator().manual_seed(0))
    >>> patches.points.shape, round(patches.points.var().item(), 3)
    (torch.Size([500, 144]), 1.0)
    """
    require_count("n", n, minimum=2)
    dtype, device = kind_of(None, dtype, device)
    photographs = load_photographs(names, colour=colour, dtype=dtype, device=device)
    points = cut_patches(list(photographs.values()), n, size, generator=generator)
    shape = (3 if colour else 1, size, size)
    pixels = points.view(n, shape[0], size * size)
    points = (pixels - pixels.mean(-1, keepdim=True)).flatten(1)
    if not whiten:
        return Patches(points, shape, None)
    white = whitening(points, noise=noise)
    scale = white.whiten(points).std()
    white = Whitening(white.mean, white.forward / scale, white.backward * scale)
    return Patches(white.whiten(points), shape, white)
