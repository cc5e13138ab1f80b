"""Sprites: coloured shapes on photographic texture, drawn from known factors: the shape is the label.

Small pictures in which the pixels hardly give the label away to a linear classifier, so that what a representation adds
can be seen in minutes of training. Every factor is known, so what it keeps and what it drops can be measured too.
"""

import functools
import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ebm_lib.data.draw import kind_of, pick_labels, uniform
from ebm_lib.data.patches import cut_patches, load_photographs
from ebm_lib.require import has_values, require_choice, require_count, require_finite

SHAPES = ("triangle", "square", "pentagon", "hexagon", "ellipse", "star", "cross", "heart", "L", "C")
FACTORS = ("labels", "place", "radius", "angle", "ground", "figure", "bright", "ground_texture", "figure_texture")
RADIUS = (30 / 48, 46 / 48)  # of the shape's outermost point; 1 is half the picture
TINT, GROUND_TEXTURE, FIGURE_TEXTURE = 60 / 255, 0.35, 0.25
BRIGHTER = (100 / 255, 120 / 255)  # what is added to the ground, or else to the figure
SUBPIXELS = 3  # a side: edges are smooth
BLOCK = 1000  # pictures at a time: bounds the memory


class Sprites(NamedTuple):
    """Pictures and the factors they were drawn from; a length of 1 is half the picture, with y downwards.

    Attributes:
        images: (n, 3, size, size), intensities from 0 to 1.
        labels: which of ``SHAPES``, (n,) int64.
        place: the centre, (n, 2), 0 in the middle of the picture.
        radius: (n,).
        angle: of the rotation, in radians, (n,).
        ground: tint of the background, (n, 3).
        figure: tint of the shape, (n, 3).
        bright: whether the shape is the brighter one, (n,) bool.
        ground_texture: photographic texture of the background, (n, 3, size, size), from 0 to 1.
        figure_texture: that of the shape.
    """

    images: Tensor
    labels: Tensor
    place: Tensor
    radius: Tensor
    angle: Tensor
    ground: Tensor
    figure: Tensor
    bright: Tensor
    ground_texture: Tensor
    figure_texture: Tensor


def sprites(
    n: int,
    *,
    size: int = 32,
    labels: Tensor | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Sprites:
    r"""Draw pictures of ten shapes with random place, size, rotation, colours and textures.

    .. math::

        I(p) = m(p)\,\big(\tfrac14 t_f(p) + c_f + \tfrac{120}{255} b\big)
        + (1 - m(p))\,\big(0.35\,t_g(p) + c_g + \tfrac{100}{255} (1 - b)\big)

    with m the shape's coverage of the pixel, c uniform in [0, 60/255) for each colour, b a fair coin, and t pieces of
    photographs (see :func:`~ebm_lib.data.load_photographs` for their licences) reduced threefold. The radius is uniform
    in [30/48, 46/48) of half the picture, the centre wherever the circumscribed circle stays inside.

    Args:
        n: pictures.
        size: their height and width in pixels, from 8 to 96.
        labels: (n,) shapes, numbers of ``SHAPES``; drawn with equal chances if None.
        generator: source of randomness.
        dtype: of the pictures; torch's default if None.
        device: of the result.

    Returns:
        The pictures and all their factors.

    Raises:
        ImportError: scikit-image or scikit-learn is missing.
        ValueError: sizes out of range, labels unsound.

    Source: our test bed for LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Joint Embedding
    Architectures & Methods to prevent collapse.".

    >>> drawn = sprites(4, generator=torch.Generator().manual_seed(0))
    >>> drawn.images.shape, [SHAPES[k] for k in drawn.labels]
    (torch.Size([4, 3, 32, 32]), ['ellipse', 'C', 'hexagon', 'triangle'])
    """
    factors = random_factors(n, size, labels, generator, *kind_of(None, dtype, device))
    return Sprites(draw_sprites(*factors), *factors)


def sprite_pairs(
    n: int,
    *,
    shared: Iterable[str] = ("labels",),
    size: int = 32,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> tuple[Sprites, Sprites]:
    """Draw two views of each of n things: what is named in ``shared`` is common to both, the rest is drawn anew.

    Such views are what augmentations can only imitate: nothing but the shared factors can be told from one about the
    other. (A shared place without a shared radius may carry the larger shape over the picture's edge.)

    Args:
        n: pairs.
        shared: names out of ``FACTORS``.
        size: as :func:`sprites`.
        generator: source of randomness.
        dtype: of the pictures; torch's default if None.
        device: of the result.

    Returns:
        Two sets of sprites, row by row of the same thing.

    Raises:
        ImportError: scikit-image or scikit-learn is missing.
        ValueError: an unknown factor, sizes out of range.

    >>> one, other = sprite_pairs(5, shared=("labels", "angle"), generator=torch.Generator().manual_seed(0))
    >>> torch.equal(one.angle, other.angle), torch.equal(one.radius, other.radius)
    (True, False)
    """
    names = {require_choice("shared", name, FACTORS) for name in shared}
    kind = kind_of(None, dtype, device)
    first, second = (random_factors(n, size, None, generator, *kind) for _ in range(2))
    second = tuple(a if name in names else b for name, a, b in zip(FACTORS, first, second, strict=True))
    return tuple(Sprites(draw_sprites(*factors), *factors) for factors in (first, second))


def draw_sprites(
    labels: Tensor,
    place: Tensor,
    radius: Tensor,
    angle: Tensor,
    ground: Tensor,
    figure: Tensor,
    bright: Tensor,
    ground_texture: Tensor,
    figure_texture: Tensor,
) -> Tensor:
    """Draw the pictures that these factors stand for: nothing here is random. Arguments as in :class:`Sprites`.

    Returns:
        (n, 3, size, size), of the textures' dtype and size.

    Raises:
        ValueError: shapes or dtypes that do not go together, labels out of range, radii not positive, values not
            finite.

    >>> one = sprites(1, generator=torch.Generator().manual_seed(0))
    >>> torch.equal(draw_sprites(*one[1:]), one.images)
    True
    """
    n, size = len(labels), ground_texture.shape[-1]
    expected = [(n,), (n, 2), (n,), (n,), (n, 3), (n, 3), (n,), *[(n, 3, size, size)] * 2]
    given = (labels, place, radius, angle, ground, figure, bright, ground_texture, figure_texture)
    for name, factor, shape in zip(FACTORS, given, expected, strict=True):
        if factor.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(factor.shape)}")
        require_finite(name, factor)
    if has_values(labels) and n and (labels.min() < 0 or labels.max() >= len(SHAPES)):
        raise ValueError(f"labels must lie in 0..{len(SHAPES) - 1}, got {int(labels.min())}..{int(labels.max())}")
    if labels.is_floating_point() or bright.dtype != torch.bool:
        raise ValueError(f"labels must be whole numbers and bright bool, got {labels.dtype} and {bright.dtype}")
    if has_values(radius) and (radius <= 0).any():
        raise ValueError(f"radius must be positive, the smallest is {radius.min().item()}")
    cover = torch.cat(
        [
            _coverage(*part, size)
            for part in zip(*(factor.split(BLOCK) for factor in (labels, place, radius, angle)), strict=True)
        ]
    )[:, None]
    lit = bright[:, None, None, None].to(ground_texture.dtype)
    front = FIGURE_TEXTURE * figure_texture + figure[..., None, None] + BRIGHTER[1] * lit
    back = GROUND_TEXTURE * ground_texture + ground[..., None, None] + BRIGHTER[0] * (1 - lit)
    return cover * front + (1 - cover) * back


def random_factors(
    n: int,
    size: int,
    labels: Tensor | None,
    generator: torch.Generator | None,
    dtype: torch.dtype,
    device: torch.device | None,
) -> tuple[Tensor, ...]:
    """Draw all that :func:`draw_sprites` takes, in the order of ``FACTORS``, and no picture yet.

    Raises:
        ImportError: scikit-image or scikit-learn is missing.
        ValueError: as :func:`sprites`.

    >>> factors = random_factors(2, 16, None, torch.Generator().manual_seed(0), torch.float32, None)
    >>> [tuple(factor.shape) for factor in factors[:4]]
    [(2,), (2, 2), (2,), (2,)]
    """
    require_count("n", n)
    if not 8 <= require_count("size", size) <= 96:
        raise ValueError(f"size must be from 8 to 96 pixels, got {size}")
    labels = pick_labels(n, len(SHAPES), labels, generator, device)
    draws = uniform((n, 11), generator, dtype, device)
    radius = RADIUS[0] + (RADIUS[1] - RADIUS[0]) * draws[:, 0]
    angle = 2 * math.pi * draws[:, 1]
    place = (1 - radius)[:, None] * (2 * draws[:, 2:4] - 1)
    bright = draws[:, 10] < 0.5
    photographs = [picture.to(dtype) for picture in _photographs()]
    textures = (
        cut_patches(photographs, n, size, generator=generator).view(n, 3, size, size).to(draws.device) for _ in range(2)
    )
    return labels, place, radius, angle, TINT * draws[:, 4:7], TINT * draws[:, 7:10], bright, *textures


@functools.cache
def _photographs() -> tuple[Tensor, ...]:
    return tuple(avg_pool2d(picture, 3) for picture in load_photographs(colour=True).values())


def _coverage(labels: Tensor, place: Tensor, radius: Tensor, angle: Tensor, size: int) -> Tensor:
    """The share of each pixel that the shape covers, (n, size, size)."""
    fine = size * SUBPIXELS
    axis = (2 * torch.arange(fine, dtype=place.dtype, device=place.device) + 1) / fine - 1
    right = (axis - place[:, :1])[:, None, :] / radius[:, None, None]
    down = (axis - place[:, 1:])[:, :, None] / radius[:, None, None]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    x, y = cos * right + sin * down, cos * down - sin * right  # in the shape's own frame
    inside = torch.zeros_like(x)
    for k, contains in enumerate(_INSIDE):
        rows = (labels == k).nonzero().squeeze(-1)
        inside[rows] = contains(x[rows], y[rows]).to(x.dtype)
    return avg_pool2d(inside[:, None], SUBPIXELS).squeeze(1)


def _polygon(x: Tensor, y: Tensor, corners: int, waist: float | None = None) -> Tensor:
    """A regular polygon, or a star whose inner corners are at ``waist``: one side, seen in every sector alike."""
    half = math.pi / corners
    phi = torch.remainder(torch.atan2(y, x) + half, 2 * half) - half  # from the nearest outer corner
    along, across = torch.hypot(x, y) * phi.cos(), (torch.hypot(x, y) * phi.sin()).abs()
    inner = math.cos(half) if waist is None else waist  # the middle of a polygon's side is its inner corner
    a, b = inner * math.cos(half), inner * math.sin(half)
    return b * (along - 1) + (1 - a) * across <= 0


def _box(x: Tensor, y: Tensor, left: float, right: float, top: float, bottom: float) -> Tensor:
    return (x >= left) & (x <= right) & (y >= top) & (y <= bottom)


_INSIDE = (
    lambda x, y: _polygon(x, y, 3),
    lambda x, y: _polygon(x, y, 4),
    lambda x, y: _polygon(x, y, 5),
    lambda x, y: _polygon(x, y, 6),
    lambda x, y: x.square() + (y / 0.55).square() <= 1,
    lambda x, y: _polygon(x, y, 5, waist=0.42),
    lambda x, y: _box(x, y, -0.94, 0.94, -0.33, 0.33) | _box(x, y, -0.33, 0.33, -0.94, 0.94),
    lambda x, y: ((1.43 * x).square() + (1.43 * y).square() - 1) ** 3 + (1.43 * x).square() * (1.43 * y) ** 3 <= 0,
    lambda x, y: _box(x, y, -0.6, -0.1, -0.8, 0.8) | _box(x, y, -0.6, 0.6, 0.3, 0.8),
    lambda x, y: (torch.hypot(x, y) <= 1) & (torch.hypot(x, y) >= 0.55) & (torch.atan2(y, x).abs() >= 0.7),
)
