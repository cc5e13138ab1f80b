"""Short films of an object that comes to a fork in the road: one past, several futures, all of them known."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.data.conditional import fork_roads
from ebm_lib.data.draw import blur, kind_of, pick_labels, uniform
from ebm_lib.require import require_count

SPLIT = 0.5  # of the way up, where the road forks
MARGIN = 2.0  # pixels between a road's end and the picture's edge
DOT = 1.0  # standard deviation of the object's brightness, in pixels


class Films(NamedTuple):
    """Pasts and futures as vectors: frame after frame, each row by row; ``.unflatten(-1, shape)`` makes pictures.

    Attributes:
        x: the frames before the fork, (n, past · size²).
        y: those after it, (n, future · size²).
        turn: which road was taken, (n,), counted from the left: known to whoever judges, not to the model.
        futures: y of each road, without noise, (n, branches, future · size²).
        past_shape: (past, size, size).
        future_shape: (future, size, size).
    """

    x: Tensor
    y: Tensor
    turn: Tensor
    futures: Tensor
    past_shape: tuple[int, int, int]
    future_shape: tuple[int, int, int]


def fork_films(
    n: int,
    *,
    size: int = 16,
    past: int = 3,
    future: int = 3,
    branches: int = 2,
    noise: float = 0.0,
    weights: Sequence[float] | Tensor | None = None,
    turn: Tensor | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Films:
    r"""Draw films of a bright dot that drives up a road and, past the middle of the picture, turns at random.

    .. math::

        I_t(p) = \exp\left(-\frac{\lVert p - c(s_t) \rVert^2}{2}\right), \qquad
        s_t = \tfrac12 + v\,(t - T + \varphi), \quad t = 0, \dots, T + T' - 1

    in pixels. The dot's place c(s) follows :func:`fork_roads`, shifted sideways by a random amount. Speed v, phase φ
    and shift vary from film to film and can be read off the past; the turn cannot. Nothing is random after it, so with
    ``noise=0`` the future is one of ``branches`` known films, and the mean of these, which a regression answers, is
    none of them.

    Args:
        n: films.
        size: height and width of a frame, in pixels, at least 8.
        past: T, frames before the fork.
        future: T', frames after it.
        branches: roads to choose from, at least 2.
        noise: standard deviation of a Gaussian noise on each pixel of x and y.
        weights: (branches,) how often each road is taken; equal if None.
        turn: (n,) the roads taken; drawn by ``weights`` if None.
        generator: source of randomness.
        dtype: of the films; torch's default if None.
        device: of the films.

    Returns:
        The films, intensities from 0 to 1 where there is no noise.

    Raises:
        ValueError: sizes out of range, noise negative, ``turn`` or ``weights`` unsound.

    Source: our example for LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Self-Supervised
    Learning for Video Prediction", where the average of several futures is blurred.

    >>> films = fork_films(5, generator=torch.Generator().manual_seed(0))
    >>> films.x.shape, films.y.shape, films.futures.shape
    (torch.Size([5, 768]), torch.Size([5, 768]), torch.Size([5, 2, 768]))
    >>> bool(torch.equal(films.y, films.futures[torch.arange(5), films.turn]))
    True
    """
    require_count("n", n)
    require_count("size", size, minimum=8)
    require_count("past", past)
    require_count("future", future)
    dtype, device = kind_of(None, dtype, device)
    speed, phase, shift = uniform((n, 3), generator, dtype, device).unbind(-1)
    turn = pick_labels(n, branches, turn, generator, device, weights=weights)
    # The first frame lies on the road's beginning at the earliest, the last one on its end at the latest.
    fastest = min(SPLIT / past, (1 - SPLIT) / future)
    step = fastest * (0.8 + 0.2 * speed)[:, None]
    time = torch.arange(past + future, dtype=dtype, device=device) - past
    way = SPLIT + step * (time + 0.5 + 0.5 * phase[:, None])  # s, (n, T + T')
    reach = (size - 1) / 2 - MARGIN
    side = fork_roads(way.unsqueeze(-1), branches=branches, split=SPLIT, spread=0.75)
    across = (size - 1) / 2 + reach * (side + 0.5 * (shift - 0.5)[:, None, None])  # (n, T + T', branches)
    down = size - 1 - MARGIN - 2 * reach * way
    pixels = torch.arange(size, dtype=dtype, device=device)
    rows = torch.exp(-((pixels - down.unsqueeze(-1)) / DOT).square() / 2)
    columns = torch.exp(-((pixels - across.unsqueeze(-1)) / DOT).square() / 2)
    before = (rows[:, :past, :, None] * columns[:, :past, 0, None, :]).flatten(1)
    after = (rows[:, past:, None, :, None] * columns[:, past:, :, None, :]).transpose(1, 2).flatten(2)
    y = torch.take_along_dim(after, turn[:, None, None], 1).squeeze(1)
    noisy = blur(torch.cat([before, y], -1), noise, generator)
    x, y = noisy.split([before.shape[1], y.shape[1]], -1)
    return Films(x.contiguous(), y.contiguous(), turn, after, (past, size, size), (future, size, size))
