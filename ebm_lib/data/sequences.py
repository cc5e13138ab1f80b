"""Films of sprites: one shape that moves, turns and grows steadily, in light that stays or that flickers."""

import math

import torch

from ebm_lib.data.draw import kind_of, uniform
from ebm_lib.data.sprites import FACTORS, RADIUS, Sprites, draw_sprites, random_factors
from ebm_lib.require import require_count

TURN = 1.5  # radians, at most, from the middle of a film to its end
GROWTH = 0.1  # of the radius, at most, from a film's beginning to its end; 1 is half the picture
LOOK = ("ground", "figure", "bright", "ground_texture", "figure_texture")


def sprite_films(
    n: int,
    frames: int = 8,
    *,
    flicker: bool = False,
    size: int = 16,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Sprites:
    r"""Draw films in which a shape moves on a straight line, turns and grows, each at a constant rate.

    .. math:: f_t = f_0 + \dot f\,\tau_t, \qquad \tau_t = -1 \dots 1, \qquad f \in \{\text{place, angle, radius}\}

    so all that moves is a linear function of time, and the pictures are not. The shape stays inside the picture.

    Args:
        n: films.
        frames: of each, at least 3.
        flicker: whether colours and textures are drawn anew for each frame; else they stay, and so does the background.
        size: height and width in pixels.
        generator: source of randomness.
        dtype: of the pictures; torch's default if None.
        device: of the result.

    Returns:
        n · frames sprites with their factors, film after film: ``images.unflatten(0, (n, frames))``.

    Raises:
        ImportError: scikit-image or scikit-learn is missing.
        ValueError: as :func:`sprites`; fewer than three frames.

    Source: our test bed for LeCun, Energy-Based Models, part 1 (NYU Deep Learning, spring 2020), "Contrastive
    Embedding" ("temporal proximity").

    >>> film = sprite_films(1, 3, generator=torch.Generator().manual_seed(0))
    >>> film.images.shape, film.place.diff(n=2, dim=0).abs().amax().item() < 1e-6
    (torch.Size([3, 3, 16, 16]), True)
    """
    if require_count("frames", frames) < 3:
        raise ValueError(f"frames must be at least 3, got {frames}")
    kind = kind_of(None, dtype, device)

    def draw(count: int) -> dict[str, torch.Tensor]:
        return dict(zip(FACTORS, random_factors(count, size, None, generator, *kind), strict=True))

    first = draw(require_count("n", n))

    def rate(*shape: int) -> torch.Tensor:
        return 2 * uniform((n, 1, *shape), generator, *kind) - 1

    tau = torch.linspace(-1, 1, frames, dtype=kind[0], device=kind[1])
    radius = sum(RADIUS) / 2 + GROWTH * (rate() + rate() * tau) / 2
    angle = torch.remainder(first["angle"], 2 * math.pi)[:, None] + TURN * rate() * tau
    room = (1 - radius.amax(1, keepdim=True))[..., None]
    place = room * (rate(2) + rate(2) * tau[:, None]) / 2
    look = draw(n * frames) if flicker else {k: first[k].repeat_interleave(frames, 0) for k in LOOK}
    labels = first["labels"].repeat_interleave(frames)
    factors = (labels, place.flatten(0, 1), radius.flatten(), angle.flatten(), *(look[k] for k in LOOK))
    return Sprites(draw_sprites(*factors), *factors)
