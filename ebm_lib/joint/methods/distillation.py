"""Methods without negatives in which one branch predicts the other: BYOL and SimSiam."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ebm_lib.joint._require import require_embeddings, require_weight, unit
from ebm_lib.joint.architecture import Momentum, SmallEncoder, head, momentum_schedule
from ebm_lib.joint.distillation import byol, simsiam
from ebm_lib.joint.information import covariance_squares, variance_hinge
from ebm_lib.joint.methods.base import Method


class Regularized(NamedTuple):
    """A distillation criterion with VICReg's regularisers beside it, each with its weight.

    Attributes:
        loss: the sum.
        distillation: SimSiam's or BYOL's criterion.
        variance: hinge on the standard deviations of both views' embeddings.
        covariance: squared covariances of both.
    """

    loss: Tensor
    distillation: Tensor
    variance: Tensor
    covariance: Tensor


class SimSiam(Method):
    """Each view predicts the other's embedding, which gets no gradient.

    The switches are for taking the method apart: predictor, stop-gradient, batch normalisation in the head; and for
    adding VICReg's terms to it.

    Args:
        encoder: with an attribute ``width``.
        D: dimensions of the embedding.
        bottleneck: width of the predictor's hidden layer.
        predictor: False predicts by the identity.
        stop_gradient: False lets the gradient through to the target.
        batch_norm: normalise in the head, output included, and in the predictor.
        variance: weight of the variance term.
        covariance: weight of the covariance term.
        generator: where the weights come from.

    Raises:
        ValueError: sizes out of range; when called, as the criterion.

    Source: Chen and He, Exploring Simple Siamese Representation Learning (CVPR 2021); the regularisers: Bardes, Ponce
        and LeCun, VICReg (ICLR 2022), table 3.

    >>> g = torch.Generator().manual_seed(0)
    >>> method = SimSiam(SmallEncoder((8, 8), generator=g), generator=g)
    >>> views = [torch.rand(8, 3, 16, 16, generator=g), torch.rand(8, 3, 16, 16, generator=g)]
    >>> method(views, torch.arange(8), g)._fields
    ('loss', 'distillation', 'variance', 'covariance')
    """

    def __init__(
        self,
        encoder: SmallEncoder,
        *,
        D: int = 256,
        bottleneck: int = 64,
        predictor: bool = True,
        stop_gradient: bool = True,
        batch_norm: bool = True,
        variance: float = 0.0,
        covariance: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        bn = {"batch_norm": batch_norm, "generator": generator}
        self.encoder, self.head = encoder, head((encoder.width, D, D), norm_output=batch_norm, **bn)
        self.predictor = head((D, bottleneck, D), **bn) if predictor else nn.Identity()
        self.stop_gradient, self.variance, self.covariance = stop_gradient, variance, covariance

    def forward(self, views: Sequence[Tensor], rows: Tensor, generator: torch.Generator | None = None) -> Regularized:
        """SimSiam's criterion, with the regularisers if they have a weight."""
        z1, z2 = (self.head(self.encoder(view)) for view in views)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        loss = simsiam(p1, p2, z1, z2, stop_gradient=self.stop_gradient).loss
        return regularized(loss, (z1, z2), self.variance, self.covariance)


class BYOL(Method):
    """Each view predicts the embedding that a moving average of the network has of the other view.

    Args:
        encoder: with an attribute ``width``.
        D: dimensions of the embedding.
        hidden: width of the head's and the predictor's hidden layers.
        momentum: m at the beginning; it rises to 1 by :func:`ebm_lib.joint.momentum_schedule`. None does without the
            moving average: the target is the network itself.
        predictor: False predicts by the identity.
        stop_gradient: False lets the gradient through to the target, where there is one: with ``momentum=None``.
        batch_norm: normalise in the head and in the predictor.
        variance: weight of the variance term.
        covariance: weight of the covariance term.
        generator: where the weights come from.

    Raises:
        ValueError: sizes out of range; when called, as the criterion.

    Source: Grill et al., Bootstrap Your Own Latent (NeurIPS 2020); the regularisers: Bardes, Ponce and LeCun, VICReg
        (ICLR 2022), table 3.

    >>> g = torch.Generator().manual_seed(0)
    >>> method = BYOL(SmallEncoder((8, 8), generator=g), generator=g)
    >>> views = [torch.rand(8, 3, 16, 16, generator=g), torch.rand(8, 3, 16, 16, generator=g)]
    >>> method(views, torch.arange(8), g)._fields
    ('loss', 'distillation', 'variance', 'covariance')
    """

    def __init__(
        self,
        encoder: SmallEncoder,
        *,
        D: int = 64,
        hidden: int = 256,
        momentum: float | None = 0.97,
        predictor: bool = True,
        stop_gradient: bool = True,
        batch_norm: bool = True,
        variance: float = 0.0,
        covariance: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        bn = {"batch_norm": batch_norm, "generator": generator}
        self.encoder, self.head = encoder, head((encoder.width, hidden, D), **bn)
        self.predictor = head((D, hidden, D), **bn) if predictor else nn.Identity()
        self.slow = None if momentum is None else Momentum(nn.Sequential(encoder, self.head), momentum=momentum)
        self.stop_gradient, self.variance, self.covariance = stop_gradient, variance, covariance

    def forward(self, views: Sequence[Tensor], rows: Tensor, generator: torch.Generator | None = None) -> Regularized:
        """BYOL's criterion, with the regularisers if they have a weight."""
        z1, z2 = (self.head(self.encoder(view)) for view in views)
        t1, t2 = (z1, z2) if self.slow is None else (self.slow(view) for view in views)
        loss = byol(self.predictor(z1), self.predictor(z2), t1, t2, stop_gradient=self.stop_gradient).loss
        return regularized(loss, (z1, z2), self.variance, self.covariance)

    def finish_step(self, progress: float) -> None:
        """Move the target network."""
        if self.slow is not None:
            online = nn.Sequential(self.encoder, self.head)
            self.slow.update(online, momentum_schedule(progress, self.slow.momentum))


def regularized(loss: Tensor, embeddings: Sequence[Tensor], variance: float, covariance: float) -> Regularized:
    r"""Add VICReg's terms to a criterion that looks at directions only.

    .. math::

        \mathcal L + \frac{\mu}{2} \sum_v v(\bar Z_v) + \nu \sum_v c(\bar Z_v), \qquad
        \bar z = \sqrt D\, z/\lVert z \rVert

    A cosine does not see lengths, so the terms must not either: on z itself, embeddings of one direction and different
    lengths would satisfy the variance term. At length √D the target γ = 1 is that of points spread over the sphere. A
    weight of 0 leaves a term out of the computation too.

    Args:
        loss: the criterion, a scalar.
        embeddings: of each view, (N, D).
        variance: μ ≥ 0.
        covariance: ν ≥ 0.

    Returns:
        A Regularized.

    Raises:
        ValueError: a weight negative; where one is not 0, embeddings not finite or zero, a batch of one.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), table 3 of the
        VICReg paper; Bardes, Ponce and LeCun, VICReg (ICLR 2022), section 5.

    >>> z = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
    >>> round(regularized(torch.tensor(1.0), (z, 9 * z), 0.0, 0.5).loss.item(), 4)
    3.56
    """
    require_weight("variance", variance)
    require_weight("covariance", covariance)
    zero = loss.new_zeros(())
    if variance or covariance:
        for v, z in enumerate(embeddings):
            require_embeddings(f"embeddings[{v}]", z, minimum=2)
        embeddings = [z.shape[1] ** 0.5 * unit("embeddings", z) for z in embeddings]
    mu = variance / 2 * sum(variance_hinge(z) for z in embeddings) if variance else zero
    nu = covariance * sum(covariance_squares(z) for z in embeddings) if covariance else zero
    return Regularized(loss + mu + nu, loss, mu, nu)
