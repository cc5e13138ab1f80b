"""What a driver's state costs."""

from typing import NamedTuple

from torch import Tensor

from ebm_lib.world.driving.traffic import LANES, LONG, WIDE, WIDTH, lane_of, middle_of

TARGET = 20.0  # m/s; no other speed costs less


class Costs(NamedTuple):
    """The parts of what a state costs, each (...), without units.

    Attributes:
        proximity: how near other cars are.
        lane: how far from a lane's middle.
        offroad: how far over the outermost lanes' middles.
        pace: how far from ``TARGET``.
    """

    proximity: Tensor
    lane: Tensor
    offroad: Tensor
    pace: Tensor

    @property
    def total(self) -> Tensor:
        """C = proximity + 0.2 lane + offroad + 0.2 pace."""
        return self.proximity + 0.2 * self.lane + self.offroad + 0.2 * self.pace


def costs(own: Tensor, cars: Tensor) -> Costs:
    r"""Tell what a state costs.

    .. math::

        C_\text{proximity} = \sum_i p_i
            \Bigl[1 - \tfrac{(|\Delta x_i| - \ell)_+}{1\,\text{m} + 1.5\,\text{s} \cdot v}\Bigr]_+
            \Bigl[1 - \tfrac{(|\Delta y_i| - w)_+}{W - w}\Bigr]_+, \quad
        C_\text{lane} = \Bigl(\frac{o}{W / 2}\Bigr)^2, \quad
        C_\text{offroad} = \Bigl(\frac{(|y| - y_1)_+}{1\,\text{m}}\Bigr)^2, \quad
        C_\text{pace} = \Bigl(\frac{v - v^*}{10\,\text{m/s}}\Bigr)^2

    for a car of length ℓ and width w, lanes of width W, the outermost of which has its middle at ±y₁, and the distance
    o from the nearest lane's middle. The proximity of a car is 1 where it touches us, 0 in the next lane's middle, and
    0 at a second and a half's drive and a metre ahead.

    Args:
        own: our distance from the road's middle (m), speed (m/s) and heading, (..., 3).
        cars: the others, (..., K, 5), as :func:`~ebm_lib.world.driving.neighbourhood` returns them.

    Raises:
        ValueError: other shapes.

    Source: Henaff, Canziani and LeCun, Model-predictive policy learning with uncertainty regularization for driving in
    dense traffic (ICLR 2019), "Dataset and Planning Environment", with C = proximity + 0.2 lane. Their masks are of
    pixels; the sum over cars, the road's edge and the pace are ours, the distances of 1.5 s and 1 m their code's.

    >>> import torch
    >>> own = torch.tensor([0.0, 25.0, 0.0])
    >>> costs(own, torch.tensor([[5.0, 0.0, 0.0, 0.0, 1.0], [5.0, 4.0, 0.0, 0.0, 1.0]])).proximity
    tensor(1.)
    """
    require_state(own, cars)
    y, v = own[..., 0], own[..., 1]
    reach = (1 + 1.5 * v.clamp(min=0))[..., None]
    along = (1 - (cars[..., 0].abs() - LONG).clamp(min=0) / reach).clamp(min=0)
    across = (1 - (cars[..., 1].abs() - WIDE).clamp(min=0) / (WIDTH - WIDE)).clamp(min=0)
    aside = y - middle_of(lane_of(y.detach()), y.dtype)
    over = (y.abs() - (LANES - 1) / 2 * WIDTH).clamp(min=0)
    return Costs(
        proximity=(cars[..., 4] * along * across).sum(-1),
        lane=(aside / (WIDTH / 2)).square(),
        offroad=over.square(),
        pace=((v - TARGET) / 10).square(),
    )


def require_state(own: Tensor, cars: Tensor) -> None:
    """Refuse what is not a neighbourhood.

    Raises:
        ValueError: ``own`` is not (..., 3), or ``cars`` not (..., K, 5).
    """
    if own.shape[-1:] != (3,) or cars.ndim < 2 or cars.shape[-1] != 5:
        got = f"{tuple(own.shape)} and {tuple(cars.shape)}"
        raise ValueError(f"own must be (..., 3) and cars (..., K, 5), got shapes {got}")
