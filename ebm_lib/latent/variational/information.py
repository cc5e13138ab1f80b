"""Units of information, and the plainest fuzzy code: a small cube somewhere in a big one."""

import math

from torch import Tensor

from ebm_lib.require import require_choice, require_count, require_positive


def in_bits(nats: Tensor | float) -> Tensor | float:
    """Information in bits, from nats: divided by log 2.

    >>> round(in_bits(math.log(8)), 6)
    3.0
    """
    return nats / math.log(2)


def cube_information(d: int, r: float, s: float, *, unit: str = "bits") -> float:
    r"""Information given by a small cube that lies in a big one.

    .. math:: \log_2 \left(\frac rs\right)^d = d \log_2 \frac rs \text{ bits}

    If z is uniform in a cube of side r, and is then known to be uniform in a cube of side s within it, one of
    :math:`(r/s)^d` equal cells has been picked. This too is KL(q‖p). Enlarge the small cube, or shrink the big one,
    and z says less.

    Args:
        d: dimensions.
        r: side of the big cube, > 0.
        s: side of the small cube, 0 < s ≤ r.
        unit: ``"bits"`` or ``"nats"``.

    Raises:
        ValueError: d below 1, sides not positive, the small cube larger than the big one, an unknown unit.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "What information
    does q(z|y) give us about y?".

    >>> cube_information(3, 8.0, 1.0), round(cube_information(1, math.e, 1.0, unit="nats"), 6)
    (9.0, 1.0)
    """
    require_count("d", d)
    require_positive("r", r)
    require_positive("s", s)
    require_choice("unit", unit, ("bits", "nats"))
    if s > r:
        raise ValueError(f"s must be at most r, the side of the cube around it, {r}, got {s}")
    return d * (math.log2(r / s) if unit == "bits" else math.log(r / s))
