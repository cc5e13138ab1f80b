r"""Distillation criteria: predict one view's embedding from the other's, and let no gradient reach the target.

.. math:: F(x, y) = -\cos\big(\text{Pred}(z_x), \text{sg}(z_y)\big)

Nothing in these criteria forbids one point for all samples, where they are at their minimum: whether training goes
there is decided by predictor, stop-gradient, moving average and normalisation.
"""

from typing import NamedTuple

from torch import Tensor

from ebm_lib.joint._require import cosines, require_views


class Distilled(NamedTuple):
    """A distillation criterion and what it is the sum of.

    Attributes:
        loss: the sum.
        first: the term that predicts the second view's target from the first view.
        second: the other way round.
    """

    loss: Tensor
    first: Tensor
    second: Tensor


def negative_cosine(prediction: Tensor, target: Tensor, *, stop_gradient: bool = True) -> Tensor:
    r"""Minus the cosine between prediction and target, as the mean over the batch.

    .. math:: D(p, z) = -\frac1N \sum_i \frac{p_i}{\lVert p_i \rVert} \cdot \frac{z_i}{\lVert z_i \rVert}

    Convention: as in the paper and lightly's ``NegativeCosineSimilarity``; from −1 to 1.

    Args:
        prediction: p, (N, D).
        target: z, (N, D).
        stop_gradient: let no gradient reach the target. False is for watching what happens then.

    Returns:
        A scalar.

    Raises:
        ValueError: unequal shapes, values not finite, a zero vector.

    Source: Chen and He, Exploring Simple Siamese Representation Learning (CVPR 2021), eq. 1.

    >>> import torch
    >>> negative_cosine(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[5.0, 0.0], [1.0, 0.0]]))
    tensor(-0.5000)
    """
    require_views(prediction=prediction, target=target)
    return _negative_cosine("prediction", prediction, "target", target, stop_gradient)


def simsiam(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor, *, stop_gradient: bool = True) -> Distilled:
    r"""SimSiam: each view's prediction against the other view's embedding.

    .. math:: \mathcal L = \tfrac12 D(p_1, \text{sg}(z_2)) + \tfrac12 D(p_2, \text{sg}(z_1))

    with D as :func:`negative_cosine`. Convention: as in the paper and the authors' code, the mean of both directions,
    from −1 to 1; lightly's ``NegativeCosineSimilarity`` and solo-learn's ``simsiam_loss_func`` are one direction.

    Args:
        p1: predictor's output for the first view, (N, D).
        p2: that for the second.
        z1: embedding of the first view, (N, D).
        z2: that of the second.
        stop_gradient: as :func:`negative_cosine`.

    Returns:
        A Distilled.

    Raises:
        ValueError: as :func:`negative_cosine`.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Distillation Methods"; Chen and He,
    Exploring Simple Siamese Representation Learning (CVPR 2021), eq. 2.

    >>> import torch
    >>> z = torch.eye(2)
    >>> simsiam(z, z, z, z).loss
    tensor(-1.)
    """
    require_views(p1=p1, p2=p2, z1=z1, z2=z2)
    first = _negative_cosine("p1", p1, "z2", z2, stop_gradient) / 2
    second = _negative_cosine("p2", p2, "z1", z1, stop_gradient) / 2
    return Distilled(first + second, first, second)


def byol(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor, *, stop_gradient: bool = True) -> Distilled:
    r"""BYOL: each view's prediction against the moving-average network's embedding of the other view.

    .. math::

        \mathcal L = \frac1N \sum_i \lVert \bar p_{1,i} - \bar z'_{2,i} \rVert^2
        + \frac1N \sum_i \lVert \bar p_{2,i} - \bar z'_{1,i} \rVert^2, \qquad \bar v = v/\lVert v \rVert

    Convention: as in the paper and the authors' code, the sum of both directions, from 0 to 8, which is 4 + 4 times
    :func:`simsiam`; solo-learn's ``byol_loss_func`` is one direction, and lightly trains on :func:`negative_cosine`.

    Args:
        p1: online predictor's output for the first view, (N, D).
        p2: that for the second.
        z1: target network's embedding of the first view, (N, D).
        z2: that of the second.
        stop_gradient: as :func:`negative_cosine`.

    Returns:
        A Distilled.

    Raises:
        ValueError: as :func:`negative_cosine`.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Distillation Methods"; Grill et al.,
    Bootstrap Your Own Latent (NeurIPS 2020), eq. 2.

    >>> import torch
    >>> z = torch.eye(2)
    >>> byol(z, z, z, z).loss, byol(z, z, -z, -z).loss
    (tensor(0.), tensor(8.))
    """
    require_views(p1=p1, p2=p2, z1=z1, z2=z2)
    first = 2 + 2 * _negative_cosine("p1", p1, "z2", z2, stop_gradient)
    second = 2 + 2 * _negative_cosine("p2", p2, "z1", z1, stop_gradient)
    return Distilled(first + second, first, second)


def _negative_cosine(p_name: str, p: Tensor, z_name: str, z: Tensor, stop_gradient: bool) -> Tensor:
    return -cosines(p_name, p, z_name, z.detach() if stop_gradient else z).mean()
