r"""Losses over all answers: the energies of K answers, (..., K), and the index of the right one.

.. math:: F(x, y_1), \dots, F(x, y_K), \qquad y = y_t

Each returns one value per sample, (...); take ``.mean()`` to train. The right answer's energy is finite; another may
be +inf, an answer that is impossible. The lowest energy is subtracted before β multiplies and anything is
exponentiated, so that nothing overflows and no digits are lost. :func:`~ebm_lib.losses.join` makes this form of a
positive and its negatives.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import relu

from ebm_lib.losses._require import require_answers, require_energies, require_group, require_margin
from ebm_lib.require import has_values, require_finite, require_nonempty, require_positive


class Answers(NamedTuple):
    """Energies of several answers, and which of them is right.

    Attributes:
        energy: (..., K).
        target: index of the right answer, (...).
    """

    energy: Tensor
    target: Tensor


def join(positive: Tensor, negative: Tensor) -> Answers:
    r"""Put the right answer first and the others behind it: a group, in the form that these losses take.

    With a continuous y the others are the points of a grid, or samples: ``nll(*join(F(y), F(grid)))``.

    Args:
        positive: F⁺, (...).
        negative: the other answers, (..., N).

    Returns:
        The energies, (..., 1 + N), and a target of zeros.

    Raises:
        ValueError: energies not finite (a negative may be +inf), no negatives, leading shapes that differ.

    >>> join(torch.tensor([1.0]), torch.tensor([[2.0, 3.0]]))
    Answers(energy=tensor([[1., 2., 3.]]), target=tensor([0]))
    """
    require_group(positive, negative)
    energy = torch.cat([positive.unsqueeze(-1), negative], dim=-1)
    return Answers(energy, torch.zeros(positive.shape, dtype=torch.long, device=positive.device))


def perceptron(energy: Tensor, target: Tensor) -> Tensor:
    r"""Perceptron loss: the right answer against the one that the model would give.

    .. math::

        & \mathcal L = F(x, y) - \min_{\check y} F(x, \check y), \\
        & \frac{\partial\mathcal L}{\partial F(x, y)} = 1, \quad
        \frac{\partial\mathcal L}{\partial F(x, \check y)} = -1 \quad\text{where the model is wrong, else } 0

    Margin 0: the loss and its slopes are 0 as soon as y is among the lowest, which a flat energy satisfies, so it
    collapses where the architecture can be flat, and does not where the energy is low at one y only, as in regression.
    Several wrong answers that tie for the lowest share the push equally.

    Args:
        energy: of all answers, (..., K).
        target: index of the right one, (...).

    Returns:
        One value per sample, ≥ 0.

    Raises:
        ValueError: energies NaN, -inf, or +inf for the right answer; a target of another shape or out of range.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Plenty of Contrastive Loss Functions
    to Choose From"; LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to Document Recognition (1998);
    Collins, Discriminative Training Methods for Hidden Markov Models (EMNLP 2002).

    >>> perceptron(torch.tensor([[1.0, 3.0], [3.0, 1.0]]), torch.tensor([0, 0]))
    tensor([0., 2.])
    """
    right, _ = require_answers(energy, target)
    return relu(right - energy.amin(-1))


def all_outputs_hinge(energy: Tensor, target: Tensor, margin: float | Tensor = 1.0) -> Tensor:
    r"""Hinge summed over all wrong answers, each with a margin of its own.

    .. math:: \mathcal L = \sum_{\hat y \ne y} [F(x, y) - F(x, \hat y) + m(y, \hat y)]^+

    The slope on a wrong answer is −1 where it is within its margin, else 0 (0 at the edge too), and the slope on the
    right one is the number of those. A flat energy costs Σ m, so nothing collapses unless every margin is 0. The term
    ŷ = y, whose margin is 0, is left out. ``torch.nn.MultiMarginLoss`` is this divided by K.

    Args:
        energy: of all answers, (..., K).
        target: index of the right one, (...).
        margin: m ≥ 0, a number, or m(y, ŷ) for each answer ŷ, (..., K): with a matrix of distances between answers pass
            ``distances[target]``. Its entry for the right answer is not used.

    Returns:
        One value per sample, ≥ 0.

    Raises:
        ValueError: as :func:`perceptron`; a margin that is negative, not finite or of another shape.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "General margin loss"; Weston and
    Watkins, Support Vector Machines for Multi-Class Pattern Recognition (ESANN 1999).

    >>> all_outputs_hinge(torch.tensor([[0.0, 0.5, 3.0]]), torch.tensor([0]), margin=torch.tensor([0.0, 1.0, 4.0]))
    tensor([1.5000])
    """
    right, is_right = require_answers(energy, target)
    excess = relu(right.unsqueeze(-1) - energy + require_margin(margin, energy, energy.shape))
    return excess.masked_fill(is_right, 0.0).sum(-1)


def nll(energy: Tensor, target: Tensor, beta: float = 1.0) -> Tensor:
    r"""Negative log-likelihood over a finite set of answers (NLL, or MMI: maximum mutual information).

    .. math::

        & \mathcal L = F(x, y) + \frac1\beta \log\sum_{\hat y} e^{-\beta F(x, \hat y)} = -\frac1\beta \log P(y \mid x),
        \\ & \frac{\partial\mathcal L}{\partial F(x, y')} = [y' = y] - P(y' \mid x)

    In units of energy, as on the slide; β times it is in nats, and is :func:`~ebm_lib.losses.info_nce` and torch's
    cross-entropy of the logits −βF. As β → ∞ it tends to :func:`perceptron`. Margin infinite: every other answer is
    pushed up by its probability, for ever. A flat energy costs (log K)/β, so nothing collapses. Smooth everywhere; with
    a single answer it is 0.

    Args:
        energy: of all answers, (..., K).
        target: index of the right one, (...).
        beta: inverse temperature, > 0 and finite.

    Returns:
        One value per sample, ≥ 0.

    Raises:
        ValueError: as :func:`perceptron`; β not positive and finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Plenty of Contrastive Loss Functions
    to Choose From", which has E for F in the sum.

    >>> nll(torch.tensor([[0.0, 0.0]]), torch.tensor([0]), beta=2.0)
    tensor([0.3466])
    """
    require_positive("beta", beta)
    right, _ = require_answers(energy, target)
    lowest = energy.detach().amin(-1, keepdim=True)
    return (right - lowest.squeeze(-1)) + torch.logsumexp(-beta * (energy - lowest), -1) / beta


def mee(energy: Tensor, target: Tensor, beta: float = 1.0) -> Tensor:
    r"""Minimum empirical error: the probability of being wrong, if the answer were drawn from the Gibbs distribution.

    .. math::

        & \mathcal L = 1 - P(y \mid x) = 1 - \frac{e^{-\beta F(x, y)}}{\sum_{\hat y} e^{-\beta F(x, \hat y)}}, \\
        & \frac{\partial\mathcal L}{\partial F(x, y')} = \beta P(y \mid x)\,([y' = y] - P(y' \mid x))

    The slopes are those of :func:`nll` in nats times P(y | x): an example that is very wrong hardly teaches. Margin
    infinite. A flat energy costs 1 − 1/K, so nothing collapses. Smooth everywhere, not convex; with two answers it is
    :func:`~ebm_lib.losses.mce` of β times the energies.

    Args:
        energy: of all answers, (..., K).
        target: index of the right one, (...).
        beta: inverse temperature, > 0 and finite.

    Returns:
        One value per sample, from 0 to 1.

    Raises:
        ValueError: as :func:`nll`.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Plenty of Contrastive Loss Functions
    to Choose From"; Ljolje, Ephraim and Rabiner, Estimation of Hidden Markov Model Parameters by Minimizing Empirical
    Error Rate (ICASSP 1990).

    >>> mee(torch.zeros(1, 4), torch.tensor([2]))
    tensor([0.7500])
    """
    require_positive("beta", beta)
    _, is_right = require_answers(energy, target)
    probability = torch.softmax(-beta * (energy - energy.detach().amin(-1, keepdim=True)), -1)
    return probability.masked_fill(is_right, 0.0).sum(-1)  # 1 - P would lose all digits of a small error


class Offender(NamedTuple):
    """The most offending incorrect answer.

    Attributes:
        energy: its energy, (...); gradients reach that answer's energy only.
        index: its place among the answers, (...).
    """

    energy: Tensor
    index: Tensor


def most_offending(
    energy: Tensor, target: Tensor | None = None, *, distance: Tensor | None = None, epsilon: float = 0.0
) -> Offender:
    r"""Most offending incorrect answer: the lowest of all that are wrong. Its energy is the F⁻ of a pair loss.

    .. math::

        & \hat y = \operatorname{argmin}_{y' \ne y} F(x, y') \quad\text{(discrete)}, \\
        & \hat y = \operatorname{argmin}_{\lVert y' - y \rVert > \epsilon} F(x, y') \quad\text{(continuous)}

    A wrong answer is one other than ``target``, or one further than ``epsilon`` from the right one, or both where both
    are given. Among equals the first.

    Args:
        energy: of all answers, or of candidates such as a grid's points, (..., K).
        target: index of the right answer, (...).
        distance: from the right answer to each candidate, (..., K).
        epsilon: ≥ 0; candidates at this distance or closer count as right.

    Raises:
        ValueError: as :func:`perceptron`; neither ``target`` nor ``distance``; no wrong answer left (all excluded, or
            at +inf) for some sample.

    Source: LeCun, Chopra, Hadsell, Ranzato and Huang, A Tutorial on Energy-Based Learning (2006), definitions 1 and 2.

    >>> most_offending(torch.tensor([[0.0, 2.0, 1.0]]), torch.tensor([0]))
    Offender(energy=tensor([1.]), index=tensor([2]))
    >>> grid = torch.tensor([0.0, 0.1, 0.2, 0.3])
    >>> most_offending(grid, distance=grid, epsilon=0.15).index
    tensor(2)
    """
    if target is None:
        require_energies("energy", energy, allow_posinf=True)
        require_nonempty("energy", energy, -1)
        excluded = torch.zeros(energy.shape, dtype=torch.bool, device=energy.device)
    else:
        excluded = require_answers(energy, target)[1]
    if distance is None and target is None:
        raise ValueError("most_offending needs a target, or distances from the right answer, to tell what is wrong")
    if not epsilon >= 0:
        raise ValueError(f"epsilon must be at least 0, got {epsilon}")
    if distance is not None:
        require_finite("distance", distance, allow_posinf=True)
        if distance.shape != energy.shape:
            raise ValueError(
                f"distance must hold one number per candidate, shape {tuple(energy.shape)}, got {tuple(distance.shape)}"
            )
        excluded = excluded | (distance <= epsilon)
    lowest, index = energy.masked_fill(excluded, torch.inf).min(-1)
    if has_values(lowest) and torch.isposinf(lowest).any():
        raise ValueError("at least one sample has no wrong answer left: all are excluded or impossible")
    return Offender(lowest, index)
