"""How a driver keeps the distance to the car ahead: the intelligent driver model.

Lengths are in m, times in s.
"""

import math

import torch
from torch import Tensor

ACCELERATION, BRAKING, HEADWAY, STANDSTILL = 1.5, 2.0, 1.2, 2.0  # a and b in m/s², T in s, s₀ in m
HARDEST = 8.0  # no car brakes harder, in m/s²


def idm(speed: Tensor, gap: Tensor, closing: Tensor, desired: Tensor) -> Tensor:
    r"""Accelerate as the intelligent driver model does.

    .. math:: \dot v = a \Bigl[1 - \Bigl(\frac{v}{v_0}\Bigr)^4 - \Bigl(\frac{s^*}{s}\Bigr)^2\Bigr], \qquad
        s^* = s_0 + \max\Bigl(0, v T + \frac{v \, \Delta v}{2\sqrt{a b}}\Bigr)

    but never below −``HARDEST``, which is also the answer where the gap is not positive.

    Args:
        speed: v, (...).
        gap: s, from bumper to bumper, (...); may be infinite.
        closing: Δv, how much faster than the car ahead, (...).
        desired: v₀, (...), positive.

    Returns:
        Accelerations in m/s², of the broadcast shape.

    Source: Treiber, Hennecke and Helbing, Congested traffic states in empirical observations and microscopic
    simulations (Physical Review E 62, 2000).

    >>> idm(torch.tensor(0.0), torch.tensor([torch.inf, 2.0]), torch.tensor(0.0), torch.tensor(30.0))
    tensor([1.5000, 0.0000])
    """
    wish = STANDSTILL + (speed * HEADWAY + speed * closing / (2 * math.sqrt(ACCELERATION * BRAKING))).clamp(min=0)
    there = gap > 0
    want = ACCELERATION * (1 - (speed / desired) ** 4 - (wish / torch.where(there, gap, 1)) ** 2)
    return torch.where(there, want, -HARDEST).clamp(min=-HARDEST)


def equilibrium_gap(speed: Tensor, desired: Tensor) -> Tensor:
    r"""Gap at which cars that all drive at this speed keep it, :math:`(s_0 + v T) / \sqrt{1 - (v / v_0)^4}`, (...).

    Source: as :func:`idm`.

    >>> equilibrium_gap(torch.tensor(0.0), torch.tensor(30.0))
    tensor(2.)
    """
    return (STANDSTILL + speed * HEADWAY) / (1 - (speed / desired) ** 4).sqrt()
