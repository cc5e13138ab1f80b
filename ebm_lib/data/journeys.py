"""Films of a handwritten digit on a journey: each step is a little random, where it leads to much less so."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ebm_lib.data.bundled import load_digits
from ebm_lib.data.draw import coins, kind_of, normal, pick_labels, uniform
from ebm_lib.require import has_values, require_count, require_finite

SHRINK = 4  # 28 pixels a side become 7
TRAINING = 8000  # the digits before this row; the others are held out
CORNERS = ((1, 1), (-1, 1), (-1, -1), (1, -1))  # clockwise, as x points right and y down
REACH = 0.8  # how far from the middle the goals are, as a share of how far the digit may go


class Journeys(NamedTuple):
    """Films and all that they were drawn from; a length of 1 is half the picture, x to the right and y downwards.

    Attributes:
        frames: (n, T, size, size), intensities from 0 to 1.
        place: the digit's centre of mass, (n, T, 2).
        goal: where it is heading for, (n, T, 2).
        stage: how many goals it has reached since the film began, (n, T) int64.
        labels: its class, (n,) int64.
        corner: which of the four goals it is heading for, (n, T) int64.
        following: which one it will head for when it has arrived there, (n, T) int64.
        jitter: what chance added to the step that led to this frame, (n, T, 2); 0 in the first.
        digits: the digit itself, (n, 7, 7).
    """

    frames: Tensor
    place: Tensor
    goal: Tensor
    stage: Tensor
    labels: Tensor
    corner: Tensor
    following: Tensor
    jitter: Tensor
    digits: Tensor


def digit_journeys(
    n: int,
    frames: int,
    *,
    size: int = 16,
    speed: float = 0.08,
    jitter: float = 0.03,
    faith: float = 0.9,
    labels: Tensor | None = None,
    held_out: bool = False,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Journeys:
    r"""Draw films of a digit that walks from corner to corner of a square, with jitter, and turns by a rule.

    .. math::

        p_{t+1} = p_t + \min(v, \lVert g_t - p_t \rVert)\, \frac{g_t - p_t}{\lVert g_t - p_t \rVert}
        + \sigma \varepsilon_t, \qquad
        g_{t+1} = \begin{cases} g_t & \lVert g_t - p_{t+1} \rVert > v \\ \text{the next corner} & \text{else}
        \end{cases}

    Even digits go round clockwise, odd ones anticlockwise. With the chance 1 − ``faith`` a digit goes elsewhere, to one
    of the two other corners. So the jitter cannot be predicted at all; where the digit will be, for some steps ahead;
    which corner it will head for, for longer, by those who can read the digit. The film begins on the way between two
    corners. Digits are reduced fourfold, to 7 × 7 pixels, and drawn between pixels by linear interpolation, which keeps
    their brightness and their centre of mass.

    Args:
        n: films.
        frames: T, of each.
        size: height and width of a frame in pixels, at least 12.
        speed: v in (0, 1), the length of a step; 1 is half the picture.
        jitter: σ ≥ 0, in each coordinate.
        faith: how probably a digit follows its rule at a corner, from 0 to 1.
        labels: (n,) the digits' classes; drawn with equal chances if None.
        held_out: draw digits that ``load_digits`` has in its last 2,000 rows instead of its first 8,000.
        generator: source of randomness.
        dtype: of the films; torch's default if None.
        device: of the result.

    Returns:
        The films, with every factor.

    Raises:
        ValueError: sizes out of range, ``speed``, ``jitter`` or ``faith`` out of range, labels unsound.

    Source: our test bed for LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022),
    "Hierarchical JEPA: Multi-level, multi-timescale Predictions".

    >>> films = digit_journeys(5, 12, generator=torch.Generator().manual_seed(0))
    >>> films.frames.shape, films.stage[0].tolist()
    (torch.Size([5, 12, 16, 16]), [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    """
    require_count("n", n)
    require_count("frames", frames)
    require_count("size", size, minimum=12)
    if not 0 < speed < 1:
        raise ValueError(f"speed must be in (0, 1), got {speed}")
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter must be in [0, 1), got {jitter}")
    if not 0 <= faith <= 1:
        raise ValueError(f"faith must be a probability, from 0 to 1, got {faith}")
    kind = dtype, device = kind_of(None, dtype, device)
    labels = pick_labels(n, 10, labels, generator, device)
    digits = _pick_digits(labels, held_out, generator, dtype)
    room = 1 - 8 / size  # in which the centre may be: half a pixel is left for digits that are not centred
    corners = REACH * room * torch.tensor(CORNERS, dtype=dtype, device=device)
    order = _corners_in_order(labels, frames + 2, faith, generator)
    chance = jitter * normal((n, frames - 1, 2), generator, dtype, device)
    first, second = corners[order[:, 0]], corners[order[:, 1]]
    place = first + uniform((n, 1), generator, *kind) * (second - first)
    stage = torch.zeros(n, dtype=torch.long, device=device)
    places, stages, jitters = [place], [stage], [torch.zeros_like(place)]
    for t in range(frames - 1):
        goal = corners[torch.gather(order, 1, stage[:, None] + 1).squeeze(1)]
        way = goal - place
        distance = torch.linalg.vector_norm(way, dim=-1, keepdim=True)
        meant = place + way * (speed / distance.clamp(min=speed))
        place = (meant + chance[:, t]).clamp(-room, room)
        left = torch.linalg.vector_norm(goal - place, dim=-1)
        stage = stage + (left <= speed)
        places.append(place)
        stages.append(stage)
        jitters.append(place - meant)
    place, stage, drift = (torch.stack(part, 1) for part in (places, stages, jitters))
    corner, following = (torch.gather(order, 1, stage + k) for k in (1, 2))
    pictures = draw_journeys(digits, place, size=size)
    return Journeys(pictures, place, corners[corner], stage, labels, corner, following, drift, digits)


def draw_journeys(digits: Tensor, place: Tensor, *, size: int = 16) -> Tensor:
    r"""Draw each digit with its centre of mass at each of its places; nothing here is random.

    Args:
        digits: (n, side, side), none of them empty.
        place: (n, T, 2), x and y; 1 is half the picture. What lies outside of it is cut off.
        size: height and width of a frame in pixels.

    Returns:
        (n, T, size, size), of the digits' dtype.

    Raises:
        ValueError: shapes that do not fit, values not finite, a digit without brightness.

    >>> films = digit_journeys(2, 3, generator=torch.Generator().manual_seed(0))
    >>> torch.equal(draw_journeys(films.digits, films.place), films.frames)
    True
    """
    if digits.ndim != 3 or digits.shape[1] != digits.shape[2]:
        raise ValueError(f"digits must be (n, side, side), got shape {tuple(digits.shape)}")
    if place.ndim != 3 or place.shape[::2] != (len(digits), 2):
        raise ValueError(f"place must be ({len(digits)}, T, 2), got shape {tuple(place.shape)}")
    for name, given in (("digits", digits), ("place", place)):
        require_finite(name, given)
    mass = digits.sum((1, 2), keepdim=True)
    if has_values(mass) and (mass <= 0).any():
        raise ValueError("digits must be bright somewhere, one is not")
    side = digits.shape[-1]
    pixels = torch.arange(require_count("size", size), dtype=digits.dtype, device=digits.device)
    own = torch.arange(side, dtype=digits.dtype, device=digits.device) - (side - 1) / 2
    weight = digits / mass
    middle = torch.stack([(weight.sum(1) * own).sum(-1), (weight.sum(2) * own).sum(-1)], -1)
    centre = (size * (place + 1) - 1) / 2 - middle[:, None]  # in pixels
    right, down = (
        (1 - (pixels[:, None] - centre[..., k, None, None] - own).abs()).clamp(min=0) for k in (0, 1)
    )  # (n, T, size, side): each column and row of the digit is shared by the two next to it
    return (down @ digits[:, None] @ right.mT).clamp(max=1)


def _pick_digits(labels: Tensor, held_out: bool, generator: torch.Generator | None, dtype: torch.dtype) -> Tensor:
    """Small digits of these classes, (n, 7, 7)."""
    images, classes, _ = load_digits(dtype=dtype)
    part = slice(TRAINING, None) if held_out else slice(TRAINING)
    small, classes = avg_pool2d(images[part, None], SHRINK)[:, 0], classes[part]
    count = torch.bincount(classes, minlength=10)
    begin, ordered = count.cumsum(0) - count, classes.argsort(stable=True)
    small, begin, count = (part.to(labels.device) for part in (small[ordered], begin, count))
    which = coins(labels.shape, generator, dtype, labels.device)
    return small[begin[labels] + (which * count[labels]).long()]


def _corners_in_order(labels: Tensor, stages: int, faith: float, generator: torch.Generator | None) -> Tensor:
    """The corners that each digit visits, (n, stages), each but the first by the rule from the one before."""
    n, device = len(labels), labels.device
    draws = coins((n, stages - 1), generator, torch.float64, device)
    rule = torch.where(labels % 2 == 0, 1, 3)[:, None]  # quarters of a round, clockwise
    other = torch.where(draws < (1 + faith) / 2, 2, 4 - rule)  # across, or the wrong way round
    turns = torch.where(draws < faith, rule, other)
    start = pick_labels(n, 4, None, generator, device)[:, None]
    return torch.cat([start, start + turns.cumsum(1)], 1) % 4
