"""What keeps representations informative: the price that a batch of them pays for carrying little information."""

from typing import Protocol

import torch
from torch import Tensor

from ebm_lib.joint import covariance_squares, sigreg, variance_hinge
from ebm_lib.joint._require import require_embeddings, require_weight


class Information(Protocol):
    """What a batch of representations pays for carrying little information, such as :func:`variance_covariance`."""

    def __call__(self, s: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return a scalar for representations s, (N, D)."""
        ...


def variance_covariance(
    s: Tensor,
    *,
    variance: float = 1.0,
    covariance: float = 0.04,
    gamma: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""VICReg's regulariser of one branch: every variable spread out, no two correlated.

    .. math:: I(S) = \frac{\mu}{2}\, v(S) + \nu\, c(S)

    with v as :func:`ebm_lib.joint.variance_hinge` and c as :func:`ebm_lib.joint.covariance_squares`. With both branches
    and a prediction term of weight 1 this is :func:`ebm_lib.joint.vicreg` at its published weights, divided by 25.

    Args:
        s: representations, (N, D), N ≥ 2.
        variance: μ ≥ 0.
        covariance: ν ≥ 0.
        gamma: standard deviation that is asked for.
        generator: not used: nothing is drawn.

    Returns:
        A scalar ≥ 0.

    Raises:
        ValueError: a batch of one, values not finite, γ not positive, a weight negative.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Training a JEPA (non
    contrastively)"; Bardes, Ponce and LeCun, VICReg (ICLR 2022).

    >>> variance_covariance(torch.tensor([[1.0, 2.0], [-1.0, -2.0]]), covariance=0.5)
    tensor(8.)
    """
    require_embeddings("s", s, minimum=2)
    require_weight("variance", variance)
    require_weight("covariance", covariance)
    return variance / 2 * variance_hinge(s, gamma=gamma) + covariance * covariance_squares(s)


def gaussianity(
    s: Tensor, *, weight: float = 0.05, slices: int = 256, generator: torch.Generator | None = None
) -> Tensor:
    r"""SIGReg as the regulariser of one branch: representations like draws from N(0, I).

    .. math:: I(S) = \lambda\, \text{SIGReg}(S)

    Args:
        s: representations, (N, D), N ≥ 2.
        weight: λ ≥ 0. SIGReg of a collapsed batch grows with N, see :func:`ebm_lib.joint.sigreg`; its pull, too.
        slices: how many directions are looked along.
        generator: where they come from.

    Returns:
        A scalar ≥ 0.

    Raises:
        ValueError: a batch of one, values not finite, λ negative, no slice.

    Source: Balestriero and LeCun, LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics
    (arXiv:2511.08544, 2025).

    >>> s = torch.randn(256, 2, generator=torch.Generator().manual_seed(0))
    >>> [bool(gaussianity(v, generator=torch.Generator().manual_seed(1)) > 0.5) for v in (s, 0 * s)]
    [False, True]
    """
    require_embeddings("s", s, minimum=2)
    return require_weight("weight", weight) * sigreg(s, slices=slices, generator=generator)
