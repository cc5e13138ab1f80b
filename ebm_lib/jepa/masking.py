"""Pictures as grids of patches, and masks that say which patches are seen and which are to be predicted.

Patches are numbered row by row. All masks are bool, so that overlapping targets and contexts of unequal size need no
special care.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.data.draw import uniform
from ebm_lib.require import has_values, require_count

TRIES = 100  # of drawing masks anew that leave too little to see


class Masks(NamedTuple):
    """For each picture: what is seen, and what is asked for.

    Attributes:
        context: patches that the encoder sees, (n, grid²) bool.
        targets: patches to predict, block by block, (n, M, grid²) bool; blocks may overlap each other.
    """

    context: Tensor
    targets: Tensor


def to_patches(images: Tensor, size: int) -> Tensor:
    """Cut pictures into square patches, row by row, the values of each side by side.

    Args:
        images: (..., C, height, width).
        size: of a patch, in pixels; divides height and width.

    Returns:
        (..., T, C · size²).

    Raises:
        ValueError: no pictures, or patches that do not tile them.

    >>> to_patches(torch.arange(16.0).view(1, 4, 4), 2)[1]
    tensor([2., 3., 6., 7.])
    """
    require_count("size", size)
    if images.ndim < 3 or 0 in images.shape[-3:]:
        raise ValueError(f"images must be (..., C, height, width), got shape {tuple(images.shape)}")
    height, width = images.shape[-2:]
    if height % size or width % size:
        raise ValueError(f"size must divide height and width, {height} and {width}, got {size}")
    cut = images.unflatten(-2, (-1, size)).unflatten(-1, (-1, size))  # (..., C, rows, size, columns, size)
    return cut.movedim((-4, -2, -5, -3), (-5, -4, -3, -2)).flatten(-5, -4).flatten(-3)


def from_patches(patches: Tensor, size: int, *, width: int | None = None) -> Tensor:
    """Put patches together again: the inverse of :func:`to_patches`.

    Args:
        patches: (..., T, C · size²).
        size: of a patch, in pixels.
        width: of the picture, in pixels; if None the picture is square.

    Returns:
        (..., C, height, width).

    Raises:
        ValueError: patches of another size, or that fill no such picture.

    >>> images = torch.rand(2, 3, 8, 12)
    >>> bool(torch.equal(from_patches(to_patches(images, 4), 4, width=12), images))
    True
    """
    require_count("size", size)
    if patches.ndim < 2 or 0 in patches.shape[-2:] or patches.shape[-1] % size**2:
        raise ValueError(f"patches must be (..., T, C · {size}²), got shape {tuple(patches.shape)}")
    count = patches.shape[-2]
    columns = math.isqrt(count) if width is None else require_count("width", width) // size
    if columns == 0 or count % columns or (width is None and columns**2 != count) or (width or 0) % size:
        expected = "a square number" if width is None else f"whole rows of width {width}"
        raise ValueError(f"patches must be {expected}, got {count} of size {size}")
    cut = patches.unflatten(-1, (-1, size, size)).unflatten(-4, (-1, columns))  # (..., rows, columns, C, size, size)
    return cut.movedim((-3, -5, -2, -4), (-5, -4, -3, -2)).flatten(-4, -3).flatten(-2)


def block_masks(
    n: int,
    grid: int,
    *,
    blocks: int = 4,
    scale: tuple[float, float] = (0.15, 0.2),
    aspect: tuple[float, float] = (0.75, 1.5),
    context: tuple[float, float] = (0.85, 1.0),
    least: int = 4,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Masks:
    r"""Draw I-JEPA's masks: several target blocks, and one large context block less the targets.

    .. math::

        a \sim U(\text{scale})\, T, \quad r \sim U(\text{aspect}), \quad
        h = [\sqrt{a r}], \quad w = [a / h], \qquad
        \text{context} = B \setminus \textstyle\bigcup_m \text{target}_m

    with [·] rounding to whole patches, at least 1 and at most the grid, and each place in the grid equally likely. The
    context block B is square. Every block of every picture has a size and place of its own; the authors' code draws one
    size for a batch, scale and aspect by one number, and never places a block at the last row or column. A picture
    whose targets leave too little of the context is drawn anew.

    Args:
        n: pictures.
        grid: patches along a side; T = grid².
        blocks: M, targets a picture.
        scale: share of the picture that a target covers.
        aspect: its height over its width.
        context: share that the context block covers before the targets are taken out.
        least: patches that must be left to see, ≥ 1.
        generator: source of randomness.
        device: of the result.

    Returns:
        :class:`Masks`.

    Raises:
        ValueError: sizes out of range, or masks that leave fewer than ``least`` patches to see again and again.

    Source: Assran and others, Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture
        (CVPR 2023), section 3 and appendix A; their code, src/masks/multiblock.py.

    >>> masks = block_masks(2, 8, generator=torch.Generator().manual_seed(0))
    >>> masks.context.shape, masks.targets.shape, bool((masks.targets & masks.context[:, None]).any())
    (torch.Size([2, 64]), torch.Size([2, 4, 64]), False)
    """
    require_count("n", n)
    require_count("grid", grid)
    require_count("blocks", blocks)
    require_count("least", least)
    for name, (low, high), most in (("scale", scale, 1), ("context", context, 1), ("aspect", aspect, math.inf)):
        if not 0 < low <= high <= most or math.isinf(high):
            expected = "shares in (0, 1]" if most == 1 else "positive numbers"
            raise ValueError(f"{name} must be a range of {expected}, got ({low}, {high})")
    draws = {"generator": generator, "device": device}
    targets = _blocks((n, blocks), grid, scale, aspect, **draws)
    seen = _blocks((n,), grid, context, (1.0, 1.0), **draws) & ~targets.any(1)
    for _ in range(TRIES):
        poor = (seen.sum(-1) < least).nonzero().squeeze(-1) if has_values(seen) else ()
        if len(poor) == 0:
            return Masks(seen, targets)
        targets[poor] = _blocks((len(poor), blocks), grid, scale, aspect, **draws)
        seen[poor] = _blocks((len(poor),), grid, context, (1.0, 1.0), **draws) & ~targets[poor].any(1)
    raise ValueError(
        f"blocks must leave at least {least} of {grid**2} patches to see: {blocks} of scale {scale} "
        f"on a context of {context} did not, {TRIES} times"
    )


def scattered_masks(
    n: int,
    grid: int,
    *,
    hidden: float = 0.75,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Masks:
    r"""Hide patches at random, as masked auto-encoders do: all that is hidden is one target, the rest the context.

    .. math:: \lvert\text{target}\rvert = [p\,T]

    Args:
        n: pictures.
        grid: patches along a side; T = grid².
        hidden: p, the share to hide; at least one patch is hidden and one seen.
        generator: source of randomness.
        device: of the result.

    Returns:
        :class:`Masks` with one target each.

    Raises:
        ValueError: sizes out of range.

    Source: He, Chen, Xie, Li, Dollár and Girshick, Masked Autoencoders Are Scalable Vision Learners (CVPR 2022),
        section 3, with their share of 75 %.

    >>> scattered_masks(3, 4, generator=torch.Generator().manual_seed(0)).context.sum(-1)
    tensor([4, 4, 4])
    """
    require_count("n", n)
    require_count("grid", grid, minimum=2)
    if not 0 < hidden < 1:
        raise ValueError(f"hidden must be a share in (0, 1), got {hidden}")
    count = min(max(1, round(hidden * grid**2)), grid**2 - 1)
    rank = uniform((n, grid**2), generator, torch.float64, torch.device(device or "cpu")).argsort(-1).argsort(-1)
    target = rank < count
    return Masks(~target, target.unsqueeze(1))


def masked_views(draw: Callable[..., Masks]) -> Callable[..., tuple[Tensor, Tensor, Masks]]:
    """Make views for :func:`ebm_lib.joint.learn`: the picture twice, and masks that are drawn anew at each step.

    Args:
        draw: masks for n pictures, such as ``functools.partial(block_masks, grid=8)``.

    Returns:
        A function of (images, generator) that returns (x, y, z).

    >>> import functools
    >>> views = masked_views(functools.partial(block_masks, grid=4))
    >>> [len(v) for v in views(torch.rand(5, 1, 8, 8), torch.Generator().manual_seed(0))]
    [5, 5, 2]
    """
    return lambda images, generator: (images, images, draw(len(images), generator=generator, device=images.device))


def _blocks(
    shape: tuple[int, ...],
    grid: int,
    scale: tuple[float, float],
    aspect: tuple[float, float],
    *,
    generator: torch.Generator | None,
    device: torch.device | str | None,
) -> Tensor:
    """Draw rectangles of patches, (*shape, grid²) bool."""
    draws = uniform((*shape, 4), generator, torch.float64, torch.device(device or "cpu"))
    area, ratio, down, across = draws.unbind(-1)
    area = grid**2 * (scale[0] + (scale[1] - scale[0]) * area)
    ratio = aspect[0] + (aspect[1] - aspect[0]) * ratio
    height = (area * ratio).sqrt().round().clamp(1, grid)
    width = (area / height).round().clamp(1, grid)
    places = torch.arange(grid, device=draws.device)
    sides = []
    for start, length in ((down, height), (across, width)):
        first = (start * (grid - length + 1)).floor().unsqueeze(-1)
        sides.append((places >= first) & (places < first + length.unsqueeze(-1)))
    return (sides[0].unsqueeze(-1) & sides[1].unsqueeze(-2)).flatten(-2)
