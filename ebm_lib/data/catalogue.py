"""The two-dimensional sets by name."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ebm_lib.data.curves import ellipse, pinwheel, rings, spiral, swiss_roll, two_moons
from ebm_lib.data.densities import checkerboard, grid_of_gaussians, ring_of_gaussians
from ebm_lib.require import require_choice

_SETS: dict[str, Callable[..., Tensor]] = {
    f.__name__: f
    for f in (
        ellipse,
        two_moons,
        spiral,
        checkerboard,
        swiss_roll,
        ring_of_gaussians,
        grid_of_gaussians,
        rings,
        pinwheel,
    )
}
TOY_NAMES: tuple[str, ...] = tuple(_SETS)


def toy(name: str, n: int, **options: Any) -> Tensor:
    """One of the two-dimensional sets by its name, for figures and tests that go through them all.

    Args:
        name: one of ``TOY_NAMES``.
        n: number of points.
        options: keyword arguments of the function of that name, such as ``noise`` and ``generator``.

    Returns:
        (n, 2).

    Raises:
        ValueError: unknown name; the message lists the known ones.

    >>> toy("rings", 3, noise=0.0).shape
    torch.Size([3, 2])
    >>> toy("three_moons", 3)
    Traceback (most recent call last):
    ...
    ValueError: name must be one of checkerboard, ellipse, ...; got 'three_moons'
    """
    return _SETS[require_choice("name", name, TOY_NAMES)](n, **options)
