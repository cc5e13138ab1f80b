"""Signatures: pen strokes of imaginary writers, each of whom never signs twice in the same way."""

import math

import torch
from torch import Tensor

from ebm_lib.data.draw import kind_of, normal
from ebm_lib.require import require_count, require_finite

WAVES = 6
TURN, LEAN, SIZE, SHIFT = 0.25, 0.3, 0.2, 1.0  # standard deviations: radians, shear, logarithm of the scale, place
ADVANCE = 4.0  # how far the pen moves to the right


def signatures(
    writers: int,
    each: int,
    *,
    points: int = 40,
    wobble: float = 0.15,
    hurry: float = 0.05,
    tremor: float = 0.02,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Sign with the hands of several writers: where the pen is, at equal steps of time.

    .. math::

        p(t) = A \Big( 4\tau\, e_1 + \sum_{k=1}^{6} \frac{1}{\sqrt k}
        \big( a_k \cos \pi k \tau + b_k \sin \pi k \tau \big) \Big) + s + \text{tremor}, \qquad
        \tau = t + h_1 \sin \pi t + h_2 \sin 2 \pi t

    A writer is the standard normal coefficients :math:`a_k, b_k`, two numbers each. At each signing they wobble, the
    pen hurries here and lingers there (h), and turn, lean and size (A) and place (s) are new: the first say who wrote,
    the rest does not.

    Args:
        writers: how many hands.
        each: signatures of each.
        points: of the pen, t from 0 to 1.
        wobble: standard deviation of the coefficients' changes.
        hurry: that of :math:`h_1, h_2`.
        tremor: that of noise on each point.
        generator: source of randomness.
        dtype: of the result; torch's default if None.
        device: of the result.

    Returns:
        (writers, each, 2, points), x and y of the pen.

    Raises:
        ValueError: a count below 1, fewer than two points, a deviation that is negative or not finite.

    Source: our stand-in for the pen-tablet signatures of Bromley et al., Signature Verification using a "Siamese" Time
    Delay Neural Network (NIPS 1993).

    >>> signatures(3, 2, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([3, 2, 2, 40])
    """
    for name, count in (("writers", writers), ("each", each)):
        require_count(name, count)
    if require_count("points", points) < 2:
        raise ValueError(f"points must be at least 2, got {points}")
    for name, deviation in (("wobble", wobble), ("hurry", hurry), ("tremor", tremor)):
        require_finite(name, torch.tensor(float(deviation)))
        if deviation < 0:
            raise ValueError(f"{name} must not be negative, got {deviation}")
    kind = kind_of(None, dtype, device)

    def draw(*shape: int) -> Tensor:
        return normal((writers, each, *shape), generator, *kind)

    k = torch.arange(1, WAVES + 1, dtype=kind[0], device=kind[1])
    hand = normal((writers, 1, 2, 2, WAVES), generator, *kind)  # cosines and sines, of x and y
    hand = (hand + wobble * draw(2, 2, WAVES)) / k.sqrt()
    t = torch.linspace(0, 1, points, dtype=kind[0], device=kind[1])
    tau = t + hurry * (draw(2)[..., None] * torch.sin(math.pi * k[:2, None] * t)).sum(-2)
    angle = math.pi * k[:, None] * tau[..., None, :]
    x, y = (hand[..., 0, :] @ angle.cos() + hand[..., 1, :] @ angle.sin()).unbind(-2)
    turn, lean, size = TURN * draw(1), LEAN * draw(1), (SIZE * draw(1)).exp()
    x = x + ADVANCE * tau + lean * y
    pen = torch.stack([turn.cos() * x - turn.sin() * y, turn.sin() * x + turn.cos() * y], -2)
    return pen * size[..., None] + SHIFT * draw(2, 1) + tremor * draw(2, points)
