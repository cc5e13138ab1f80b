"""Scenes: a few shapes before a texture, with a label and a box for each: a set to be predicted from a picture."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ebm_lib.data.draw import blur, kind_of, normal, uniform
from ebm_lib.require import require_count

SCENE_SHAPES = ("disc", "square", "triangle", "cross")
HALF = (5 / 48, 10 / 48)  # half a shape's width and height, as a share of the picture
GROUND = (0.35, 0.65)  # the background's mean in each colour
FIGURE = 0.2  # a shape's colours are this close to 0 or to 1
COARSE = 6  # a side: the texture's grid
ROUNDS = 5000  # attempts to find places without strong overlap
BLOCK = 500  # scenes at a time: bounds the memory


class Scenes(NamedTuple):
    """Pictures and what is in them, padded to the largest number of objects.

    Attributes:
        images: (n, 3, size, size), intensities from 0 to 1.
        labels: which of ``SCENE_SHAPES``, (n, most) int64, −1 past the scene's objects. Later ones lie in front.
        boxes: (n, most, 4): centre to the right and downwards, width, height, as shares of the picture; 0 past the
            scene's objects. They hold all the shape's pixels, hidden ones too, and no row or column more.
        counts: objects in each scene, (n,) int64.
    """

    images: Tensor
    labels: Tensor
    boxes: Tensor
    counts: Tensor


def scenes(
    n: int,
    *,
    objects: tuple[int, int] = (1, 4),
    size: int = 48,
    overlap: float = 0.25,
    texture: float = 0.08,
    noise: float = 0.05,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Scenes:
    r"""Draw scenes of discs, squares, triangles and crosses with random place, width, height and colour.

    .. math:: I(p) = \mathrm{clamp}\big(c_{k(p)} + \sigma\, t(p) + \nu\, \xi(p)\big)

    with k(p) the foremost object at pixel p or the background, t a smooth random field of unit scale and ξ standard
    normal noise. Half the width and height are uniform in [5/48, 10/48) of the picture, the place wherever the box
    stays inside; scenes with a strong overlap are placed again, so crowded scenes have smaller objects.

    Args:
        n: scenes.
        objects: least and greatest number of objects; all numbers between have equal chances.
        size: height and width in pixels, at least 16.
        overlap: greatest share of the smaller of two boxes that the other may cover, from 0 to 1.
        texture: σ ≥ 0, of the background.
        noise: ν ≥ 0, on each pixel.
        generator: source of randomness; the scenes are drawn on its device.
        dtype: of pictures and boxes; torch's default if None.
        device: of the result; the generator's if None.

    Returns:
        The pictures, labels, boxes and counts.

    Raises:
        ValueError: sizes out of range, a range of objects that is none, no room for so many objects.

    Source: our test bed for LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022),
    "DETR"; the task is that of Carion et al., End-to-End Object Detection with Transformers (ECCV 2020).

    >>> drawn = scenes(3, generator=torch.Generator().manual_seed(0))
    >>> drawn.images.shape, drawn.labels.shape, drawn.boxes.shape
    (torch.Size([3, 3, 48, 48]), torch.Size([3, 4]), torch.Size([3, 4, 4]))
    """
    require_count("n", n)
    require_count("size", size, minimum=16)
    fewest, most = objects
    require_count("objects[0]", fewest, minimum=0)
    require_count("objects[1]", most, minimum=max(fewest, 1))
    if not 0 <= overlap <= 1:
        raise ValueError(f"overlap must be from 0 to 1, got {overlap}")
    if not 0 <= texture < math.inf:
        raise ValueError(f"texture must be finite and at least 0, got {texture}")
    dtype, device = kind_of(None, dtype, device)
    if device is None and generator is not None:
        device = generator.device
    where = device if generator is None else generator.device
    counts = torch.randint(fewest, most + 1, (n,), generator=generator, device=where).to(device)
    labels = torch.randint(len(SCENE_SHAPES), (n, most), generator=generator, device=where).to(device)
    real = torch.arange(most, device=device) < counts[:, None]
    centre, half = _places(counts, most, overlap, generator, dtype)
    ground = GROUND[0] + (GROUND[1] - GROUND[0]) * uniform((n, 3), generator, dtype, device)
    colour = FIGURE * uniform((n, most, 3), generator, dtype, device)
    colour = torch.where(uniform((n, most, 3), generator, dtype, device) < 0.5, colour, 1 - colour)
    field = texture * normal((n, 3, COARSE, COARSE), generator, dtype, device)
    images = torch.empty(n, 3, size, size, dtype=dtype, device=device)
    boxes = torch.zeros(n, most, 4, dtype=dtype, device=device)
    for start in range(0, n, BLOCK):
        rows = slice(start, start + BLOCK)
        masks = _masks(labels[rows], centre[rows], half[rows], size) & real[rows, :, None, None]
        boxes[rows] = _tight_boxes(masks, dtype)
        picture = ground[rows, :, None, None] + interpolate(
            field[rows], (size, size), mode="bilinear", align_corners=False
        )
        for k in range(most):
            picture = torch.where(masks[:, k, None], colour[rows, k, :, None, None], picture)
        images[rows] = picture
    images = blur(images, noise, generator).clamp_(0, 1)
    return Scenes(images, labels.masked_fill(~real, -1), boxes, counts)


def _places(
    counts: Tensor, most: int, overlap: float, generator: torch.Generator | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Centres and half-sizes, (n, most, 2), of boxes that overlap little; scenes that fail are drawn again."""
    n, device = len(counts), counts.device
    centre, half = torch.empty(2, n, most, 2, dtype=dtype, device=device)
    open_scenes = torch.arange(n, device=device)
    earlier = torch.ones(most, most, dtype=torch.bool, device=device).tril(-1)
    for _ in range(ROUNDS):
        draws = uniform((2, len(open_scenes), most, 2), generator, dtype, device)
        h = HALF[0] + (HALF[1] - HALF[0]) * draws[0]
        c = h + (1 - 2 * h) * draws[1]
        centre[open_scenes], half[open_scenes] = c, h
        reach = torch.minimum(c[:, :, None] + h[:, :, None], c[:, None] + h[:, None])
        common = (reach - torch.maximum(c[:, :, None] - h[:, :, None], c[:, None] - h[:, None])).clamp(min=0).prod(-1)
        area = (2 * h).prod(-1)
        strong = (common > overlap * torch.minimum(area[:, :, None], area[:, None])) & earlier
        # A pair counts if its later object is one of the scene's.
        strong &= (torch.arange(most, device=device) < counts[open_scenes, None])[:, :, None]
        open_scenes = open_scenes[strong.flatten(1).any(-1)]
        if not len(open_scenes):
            return centre, half
    raise ValueError(
        f"objects must leave room: {len(open_scenes)} of {n} scenes with up to {most} objects found no places with an "
        f"overlap of at most {overlap} in {ROUNDS} attempts"
    )


def _masks(labels: Tensor, centre: Tensor, half: Tensor, size: int) -> Tensor:
    """The pixels whose centre lies in each object, (n, most, size, size) bool."""
    axis = (torch.arange(size, dtype=centre.dtype, device=centre.device) + 0.5) / size
    x, y = ((axis - centre[..., None]) / half[..., None]).unbind(-2)  # 1 at the box's sides
    x, y = x[..., None, :], y[..., :, None]
    inside = torch.zeros(*labels.shape, size, size, dtype=torch.bool, device=labels.device)
    for k, contains in enumerate(_INSIDE):
        chosen = labels == k
        inside[chosen] = contains(x[chosen], y[chosen])
    return inside


def _tight_boxes(masks: Tensor, dtype: torch.dtype) -> Tensor:
    """Centre and size of the smallest box of whole pixels around each mask, as shares of the picture; 0 if empty."""
    size = masks.shape[-1]
    sides = []
    for across in (-2, -1):
        used = masks.any(across).to(torch.uint8)
        first, last = used.argmax(-1), size - used.flip(-1).argmax(-1)
        sides.append(((first + last).to(dtype) / (2 * size), (last - first).to(dtype) / size))
    (x, width), (y, height) = sides
    boxes = torch.stack([x, y, width, height], -1)
    return torch.where(masks.flatten(-2).any(-1, keepdim=True), boxes, 0.0)


_INSIDE = (
    lambda x, y: x.square() + y.square() <= 1,
    lambda x, y: (x.abs() <= 1) & (y.abs() <= 1),
    lambda x, y: (2 * x.abs() <= y + 1) & (y <= 1),  # the point on top
    lambda x, y: ((x.abs() <= 1) & (3 * y.abs() <= 1)) | ((3 * x.abs() <= 1) & (y.abs() <= 1)),
)
