"""Films of a disc that moves as it must over a texture that does as it likes: what can be foreseen, and what cannot."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.data.draw import blur, kind_of, normal, uniform
from ebm_lib.require import require_count, require_finite

MARGIN = 2.0  # pixels between the disc's centre and the picture's edge, at least
RADIUS, EDGE = 3.0, 0.4  # of the disc, and over what distance its edge fades, in pixels


class TexturedFilms(NamedTuple):
    """Films and the factors they were drawn from.

    Attributes:
        frames: (n, T, size, size), 1 on the disc.
        place: the disc's centre in each frame, (n, T, 2): pixels to the right and downwards from the first pixel.
        velocity: (n, 2), in pixels a frame.
        texture: coefficients of the patterns in each frame, (n, T, K).
    """

    frames: Tensor
    place: Tensor
    velocity: Tensor
    texture: Tensor


def textured_films(
    n: int,
    *,
    frames: int = 4,
    size: int = 16,
    speed: float = 1.5,
    patterns: int = 16,
    strength: float = 0.5,
    persistence: float = 0.0,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> TexturedFilms:
    r"""Draw films of a disc at constant velocity before a texture of known coefficients.

    .. math::

        I_t(p) = m_t(p) + (1 - m_t(p))\, \sigma \sum_k a_{tk}\, \phi_k(p), \qquad
        a_{t+1} = \rho\, a_t + \sqrt{1 - \rho^2}\, \xi_t

    with m the disc's coverage, ξ standard normal, and φ smooth patterns (see :func:`texture_patterns`). Each
    coefficient has variance 1 in each frame: ρ = 0 draws the texture anew in each frame, at ρ = 1 it stands still.
    Whatever ρ, where the disc will be follows from two frames, and says nothing about the texture.

    Args:
        n: films.
        frames: T.
        size: height and width of a frame, in pixels.
        speed: most that the disc moves to a side in one frame, in pixels. Velocity is uniform up to it, and the place
            in the middle of the film is uniform where the disc stays in the picture at any velocity.
        patterns: K.
        strength: σ ≥ 0, root mean square of the texture (the disc is 1).
        persistence: ρ, from 0 to 1.
        noise: standard deviation of a Gaussian noise on each pixel, the finest texture: it has no coefficients.
        generator: source of randomness. The same seed gives the same motion whatever the texture.
        dtype: of the films; torch's default if None.
        device: of the films.

    Returns:
        The films and all their factors.

    Raises:
        ValueError: sizes out of range, a speed that leaves no room, a negative strength or noise, ρ outside [0, 1].

    Source: our test bed for LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022),
    "Joint Embedding Predictive Architecture (JEPA)" (irrelevant details of y).

    >>> films = textured_films(5, generator=torch.Generator().manual_seed(0))
    >>> films.frames.shape, films.place.shape, films.texture.shape
    (torch.Size([5, 4, 16, 16]), torch.Size([5, 4, 2]), torch.Size([5, 4, 16]))
    >>> torch.equal(films.frames, draw_textured(films.place, films.texture))
    True
    """
    require_count("n", n)
    require_count("frames", frames)
    require_count("size", size, minimum=6)
    require_count("patterns", patterns, minimum=0)
    if not 0 <= persistence <= 1:
        raise ValueError(f"persistence must be from 0 to 1, got {persistence}")
    room = size - 1 - 2 * MARGIN - speed * (frames - 1)
    if not 0 <= speed < math.inf or room < 0:
        raise ValueError(f"speed must be at least 0 and leave room for {frames} frames in {size} pixels, got {speed}")
    dtype, device = kind_of(None, dtype, device)
    middle, way = uniform((n, 2, 2), generator, dtype, device).unbind(1)
    velocity = speed * (2 * way - 1)
    time = torch.arange(frames, dtype=dtype, device=device) - (frames - 1) / 2
    place = ((size - 1) / 2 + room * (middle - 0.5)).unsqueeze(1) + time[:, None] * velocity.unsqueeze(1)
    drawn = normal((n, frames, patterns), generator, dtype, device).unbind(1)
    steps = [drawn[0]]
    for fresh in drawn[1:]:
        steps.append(persistence * steps[-1] + math.sqrt(1 - persistence**2) * fresh)
    texture = torch.stack(steps, 1)
    pictures = blur(draw_textured(place, texture, size=size, strength=strength), noise, generator)
    return TexturedFilms(pictures, place, velocity, texture)


def draw_textured(place: Tensor, texture: Tensor, *, size: int = 16, strength: float = 0.5) -> Tensor:
    """Draw a disc before a texture: nothing here is random, and the picture is smooth in all arguments.

    Args:
        place: the disc's centre, (..., 2), pixels to the right and downwards from the first pixel.
        texture: coefficients a of the patterns, (..., K); leading dimensions broadcast.
        size: height and width, in pixels.
        strength: σ ≥ 0, see :func:`textured_films`.

    Returns:
        Pictures, (..., size, size).

    Raises:
        ValueError: shapes that do not go together, values not finite, a negative strength.

    >>> picture = draw_textured(torch.tensor([4.0, 9.0]), torch.zeros(16))
    >>> bool(picture[9, 4] > 0.99), picture.shape
    (True, torch.Size([16, 16]))
    """
    if place.shape[-1:] != (2,):
        raise ValueError(f"place must be (..., 2), got shape {tuple(place.shape)}")
    if not texture.ndim or texture.dtype != place.dtype:
        raise ValueError(f"texture must be (..., K) of dtype {place.dtype}, got {texture.dtype} {tuple(texture.shape)}")
    if not 0 <= strength < math.inf:
        raise ValueError(f"strength must be finite and at least 0, got {strength}")
    require_finite("place", place)
    phi = texture_patterns(require_finite("texture", texture).shape[-1], size, dtype=place.dtype, device=place.device)
    pixels = torch.arange(size, dtype=place.dtype, device=place.device)
    right, down = (pixels - place.unsqueeze(-1)).unbind(-2)
    # The tiny number gives the distance a slope at the disc's very centre
    far = (right.square().unsqueeze(-2) + down.square().unsqueeze(-1) + 1e-6).sqrt()
    disc = torch.sigmoid((RADIUS - far) / EDGE)
    ground = strength * torch.einsum("...k,khw->...hw", texture, phi)
    return disc + (1 - disc) * ground


def texture_patterns(
    count: int, size: int = 16, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Tensor:
    r"""Smooth patterns: waves of the cosine transform, the longest first, without the constant.

    .. math::

        \phi_{ij}(p) \propto \cos\frac{\pi i (p_1 + \frac12)}{S} \cos\frac{\pi j (p_2 + \frac12)}{S}, \qquad
        \sum_p \phi_k(p)\, \phi_l(p) = \frac{S^2}{K}\, \delta_{kl}

    so that K coefficients of variance 1 make a texture of mean square 1.

    Args:
        count: K, less than size².
        size: S, height and width, in pixels.
        dtype: torch's default if None.
        device: where they go.

    Returns:
        (K, size, size).

    Raises:
        ValueError: sizes out of range.

    >>> texture_patterns(3, 8).square().mean((1, 2))
    tensor([0.3333, 0.3333, 0.3333])
    """
    if require_count("count", count, minimum=0) >= require_count("size", size) ** 2:
        raise ValueError(f"count must be less than the {size**2} pixels, got {count}")
    dtype, device = kind_of(None, dtype, device)
    orders = sorted((i * i + j * j, i, j) for i in range(size) for j in range(size))[1 : count + 1]
    pixels = (torch.arange(size, dtype=dtype, device=device) + 0.5) * (math.pi / size)
    frequency = torch.arange(size, dtype=dtype, device=device)
    waves = (frequency[:, None] * pixels).cos()
    waves = waves / waves.square().mean(-1, keepdim=True).sqrt()  # each of mean square 1
    down, across = (torch.tensor([order[axis] for order in orders], dtype=torch.long) for axis in (1, 2))
    return waves[down, :, None] * waves[across, None, :] / math.sqrt(max(count, 1))
