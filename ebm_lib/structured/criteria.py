r"""Losses of a chain: the energy of the right labelling against that of all others.

The answers are K^T sequences, too many to list as :mod:`ebm_lib.losses` has them, so a recursion reduces over them:

.. math:: \mathcal L = E(y) - \bigoplus_{\hat y} E'(\hat y)

with E′ = E and the minimum (perceptron), E′ = E less a margin and the minimum (hinge), or E′ = E and the soft minimum
(negative log-likelihood: a conditional random field). Each pushes down what the right labelling uses and pulls up what
the model's uses: the slopes are the difference of two :func:`~ebm_lib.structured.occupation`.

Arguments are those of :func:`~ebm_lib.structured.chain` and :func:`~ebm_lib.structured.chain_energy`. One value per
sequence is returned; take ``.mean()`` to train.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ebm_lib.require import has_values, require_finite
from ebm_lib.structured.chains import chain, chain_energy
from ebm_lib.structured.semiring import Minimum, SoftMinimum


def sequence_perceptron(unary: Tensor, pairwise: Tensor, labels: Tensor, *, lengths: Tensor | None = None) -> Tensor:
    r"""Perceptron loss of a chain.

    .. math:: \mathcal L = E(y) - \min_{\hat y} E(\hat y)

    Margin 0: it and its slopes vanish as soon as y is among the best, which a flat energy satisfies.

    Args:
        unary: (..., T, K).
        pairwise: (K, K), or (..., T−1, K, K).
        labels: the right labelling, (..., T).
        lengths: (...) of integers, 0 to T.

    Returns:
        One value per sequence, (...), ≥ 0 up to rounding.

    Raises:
        ValueError: as :func:`~ebm_lib.structured.chain_energy`; a right labelling of energy +inf.

    Source: Collins, Discriminative Training Methods for Hidden Markov Models (EMNLP 2002); LeCun, Bottou, Bengio and
    Haffner, Gradient-Based Learning Applied to Document Recognition (1998).

    >>> sequence_perceptron(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.zeros(2, 2), torch.tensor([0, 0]))
    tensor(1.)
    """
    right = _right(unary, pairwise, labels, lengths)
    return right - chain(unary, pairwise, Minimum(), lengths=lengths)


def sequence_hinge(
    unary: Tensor,
    pairwise: Tensor,
    labels: Tensor,
    margin: float = 1.0,
    *,
    lengths: Tensor | None = None,
) -> Tensor:
    r"""Hinge loss of a chain whose margin grows with the number of wrong labels.

    .. math:: \mathcal L = E(y) - \min_{\hat y} [E(\hat y) - m\, H(y, \hat y)], \qquad
        H(y, \hat y) = \sum_t [\hat y_t \ne y_t]

    The Hamming distance H is a sum over places, so the minimum, loss-augmented inference, is Viterbi's with m taken off
    each wrong label. The loss is at least m times the number of wrong labels of the best labelling, and 0 if each other
    labelling is above y by m times its number of wrong labels. With m = 0 it is
    :func:`~ebm_lib.structured.sequence_perceptron`.

    Args:
        unary: (..., T, K).
        pairwise: (K, K), or (..., T−1, K, K).
        labels: the right labelling, (..., T).
        margin: m ≥ 0 and finite, in units of energy for each wrong label.
        lengths: (...) of integers, 0 to T.

    Returns:
        One value per sequence, (...), ≥ 0 up to rounding.

    Raises:
        ValueError: as :func:`~ebm_lib.structured.sequence_perceptron`; a margin that is negative or not finite.

    Source: Taskar, Guestrin and Koller, Max-Margin Markov Networks (NIPS 2003); Tsochantaridis, Joachims, Hofmann and
    Altun, Large Margin Methods for Structured and Interdependent Output Variables (2005), margin rescaling.

    >>> sequence_hinge(torch.tensor([[0.0, 1.5], [0.5, 0.0]]), torch.zeros(2, 2), torch.tensor([0, 1]))
    tensor(0.5000)
    """
    if not 0 <= margin < float("inf"):
        raise ValueError(f"margin must be at least 0 and finite, got {margin}")
    right = _right(unary, pairwise, labels, lengths)
    inside = labels if lengths is None else _blank(labels, lengths)
    is_right = one_hot(inside.long().expand(unary.shape[:-1]), unary.shape[-1]).bool()
    augmented = torch.where(is_right, unary, unary - margin)
    return right - chain(augmented, pairwise, Minimum(), lengths=lengths)


def sequence_nll(
    unary: Tensor, pairwise: Tensor, labels: Tensor, beta: float = 1.0, *, lengths: Tensor | None = None
) -> Tensor:
    r"""Negative log-likelihood of a chain: a conditional random field.

    .. math:: \mathcal L = E(y) - F_\beta = E(y) + \frac{1}{\beta} \log \sum_{\hat y} e^{-\beta E(\hat y)}
        = -\frac{1}{\beta} \log P(y)

    In units of energy; β times it is in nats. As β → ∞ it tends to :func:`~ebm_lib.structured.sequence_perceptron`.

    Args:
        unary: (..., T, K).
        pairwise: (K, K), or (..., T−1, K, K).
        labels: the right labelling, (..., T).
        beta: inverse temperature, > 0 and finite.
        lengths: (...) of integers, 0 to T.

    Returns:
        One value per sequence, (...), ≥ 0 up to rounding.

    Raises:
        ValueError: as :func:`~ebm_lib.structured.sequence_perceptron`; β not positive and finite.

    Source: Lafferty, McCallum and Pereira, Conditional Random Fields (ICML 2001).

    >>> sequence_nll(torch.zeros(3, 2), torch.zeros(2, 2), torch.tensor([0, 1, 0]))  # 3 log 2
    tensor(2.0794)
    """
    semiring = SoftMinimum(beta)
    right = _right(unary, pairwise, labels, lengths)
    return right - chain(unary, pairwise, semiring, lengths=lengths)


def _right(unary: Tensor, pairwise: Tensor, labels: Tensor, lengths: Tensor | None) -> Tensor:
    """Energy of the right labelling, which must be possible."""
    energy = chain_energy(unary, pairwise, labels, lengths=lengths)
    if has_values(energy) and torch.isposinf(energy).any():
        raise ValueError(
            f"every right labelling must be possible: {int(torch.isposinf(energy).sum())} of {energy.numel()} have "
            "energy +inf"
        )
    return require_finite("the energy of the right labelling", energy)


def _blank(labels: Tensor, lengths: Tensor) -> Tensor:
    """Labels with 0 behind the ends."""
    return torch.where(torch.arange(labels.shape[-1], device=labels.device) < lengths.unsqueeze(-1), labels, 0)
