"""Lines of handwritten digits that touch and overlap: strings to be read without knowing where one digit ends."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from ebm_lib.data.bundled import load_digits
from ebm_lib.data.draw import coins, kind_of
from ebm_lib.require import require_count

SIDE = 28  # of a bundled digit, and the height of a line
LONGEST = 6  # digits of a line
TRAINING = 8000  # the digits before this row; the others are held out
MARGIN = 2  # blank columns before the first digit and after the last
SMALLEST = 0.8  # a digit's height and width, as a share of the original's
SHIFT = 2  # rows, up or down
FAINT = 0.1  # what is darker than this becomes blank, so that ink is what is above 0


class DigitStrings(NamedTuple):
    """Lines of digits and what they say.

    Attributes:
        images: (n, 28, W), intensities from 0 to 1, ink bright on dark; W is the widest line's, others end in zeros.
        widths: (n,) int64, columns of each line.
        labels: (n, 6) int64, its digits from left to right, then −1.
        lengths: (n,) int64, how many digits it has.
        cuts: (n, 6, 2) int64, the first and the last column with ink of each digit, both inclusive, then −1. They are
            the truth for measuring; who reads a line is not told them.
    """

    images: Tensor
    widths: Tensor
    labels: Tensor
    lengths: Tensor
    cuts: Tensor


def digit_strings(
    n: int,
    *,
    digits: tuple[int, int] = (2, 6),
    overlap: tuple[int, int] = (-4, 5),
    held_out: bool = False,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> DigitStrings:
    r"""Draw lines of handwritten digits whose neighbours stand apart, touch or overlap.

    How many digits a line has, and how many columns each pair of neighbours shares, are drawn with equal chances from
    the ranges given. A digit is drawn from all of them with equal chances, made up to a fifth smaller, moved up to two
    rows up or down, and cut to its columns with ink. Where two overlap, a pixel is as bright as the brighter of the
    two. Neighbours share half the columns of the narrower one at most: digit k + 1 begins and ends to the right of
    where digit k does, and no column belongs to three.

    Args:
        n: lines.
        digits: the fewest and the most digits of a line, from 1 to 6.
        overlap: the fewest and the most columns that neighbours share. A negative number is that many blank columns
            between them; 0 puts them next to each other.
        held_out: draw digits that ``load_digits`` has in its last 2,000 rows instead of its first 8,000.
        generator: source of randomness.
        dtype: of the images; torch's default if None.
        device: of the result.

    Returns:
        The lines, with the truth.

    Raises:
        ValueError: no line asked for, ``digits`` not two rising numbers from 1 to 6, ``overlap`` not two rising numbers
            from −28 to 28.

    Source: our test bed for Bottou, LeCun, Bengio, "Global training of document processing systems using graph
    transformer networks" (CVPR 1997), where a line of digits is cut and read at once.

    >>> lines = digit_strings(3, generator=torch.Generator().manual_seed(0))
    >>> lines.images.shape[:2], lines.labels[0].tolist()
    (torch.Size([3, 28]), [6, 2, 2, 1, 2, 8])
    """
    require_count("n", n)
    fewest, most = _range("digits", digits, 1, LONGEST)
    least, largest = _range("overlap", overlap, -SIDE, SIDE)
    dtype, device = kind_of(None, dtype, device)
    images, classes, _ = load_digits()
    part = slice(TRAINING, None) if held_out else slice(TRAINING)

    def whole(shape: tuple[int, ...], low: int | Tensor, high: int | Tensor) -> Tensor:
        chance = coins(shape, generator, torch.float64, None).cpu()  # on the CPU, so that a seed means one picture
        return low + (chance * (high - low + 1)).long()

    lengths = whole((n,), fewest, most)
    there = torch.arange(LONGEST) < lengths[:, None]
    rows = whole((n, LONGEST), 0, len(classes[part]) - 1)
    size = SMALLEST + (1 - SMALLEST) * coins((n, LONGEST, 2), generator, torch.float32, None).cpu()
    ink = _scaled(images[part][rows.flatten()], size.flatten(0, 1)).unflatten(0, (n, LONGEST))
    top, bottom = _extent(ink.amax(-1) > 0)
    shift = whole((n, LONGEST), -top.clamp(max=SHIFT), (SIDE - 1 - bottom).clamp(max=SHIFT))
    first, last = _extent(ink.amax(-2) > 0)
    wide = last - first + 1
    shared = whole((n, LONGEST - 1), least, largest)
    shared = torch.minimum(shared, torch.minimum(wide[:, :-1], wide[:, 1:]) // 2)
    advance = torch.cat([torch.full((n, 1), MARGIN), wide[:, :-1] - shared], 1)
    left = advance.cumsum(1)
    right = left + wide - 1
    widths = right.gather(1, lengths[:, None] - 1).squeeze(1) + 1 + MARGIN
    page = torch.zeros(n, SIDE, int(widths.max()))
    for k in range(most):
        page = torch.maximum(
            page, _placed(ink[:, k], first[:, k], left[:, k], wide[:, k] * there[:, k], shift[:, k], page)
        )
    labels = classes[part][rows].masked_fill(~there, -1)
    cuts = torch.stack([left, right], -1).masked_fill(~there[..., None], -1)
    return DigitStrings(page.to(device, dtype), *(t.to(device) for t in (widths, labels, lengths, cuts)))


def _range(name: str, given: tuple[int, int], low: int, high: int) -> tuple[int, int]:
    whole = [isinstance(number, int) and not isinstance(number, bool) for number in given]
    if len(given) != 2 or not all(whole) or not low <= given[0] <= given[1] <= high:
        raise ValueError(f"{name} must be two whole numbers from {low} to {high}, not falling, got {given}")
    return given[0], given[1]


def _scaled(images: Tensor, size: Tensor) -> Tensor:
    """Pictures (m, 28, 28) with height and width times ``size`` (m, 2), about their middle; without faint pixels."""
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = 1 / size[:, 1], 1 / size[:, 0]
    grid = affine_grid(theta, [len(images), 1, SIDE, SIDE], align_corners=False)
    scaled = grid_sample(images[:, None], grid, align_corners=False)[:, 0].clamp(0, 1)
    return scaled.masked_fill(scaled < FAINT, 0)


def _extent(inked: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last true place along the last dimension."""
    inked = inked.to(torch.uint8)
    return inked.argmax(-1), inked.shape[-1] - 1 - inked.flip(-1).argmax(-1)


def _placed(ink: Tensor, first: Tensor, left: Tensor, wide: Tensor, shift: Tensor, page: Tensor) -> Tensor:
    """One digit of each line on a blank page: ``wide`` columns from column ``first`` on come to column ``left``."""
    n, height, width = page.shape
    column = torch.arange(width) - left[:, None]  # within the digit
    row = torch.arange(height) - shift[:, None]
    inside = ((column >= 0) & (column < wide[:, None]))[:, None] & ((row >= 0) & (row < height))[:, :, None]
    line = torch.arange(n)[:, None, None]
    source = ink[line, row.clamp(0, height - 1)[:, :, None], (column + first[:, None]).clamp(0, SIDE - 1)[:, None]]
    return source * inside
