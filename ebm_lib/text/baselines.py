r"""What a masked language model must beat: counts of words, and of pairs of neighbouring words.

.. math:: P(w \mid \text{left}, \text{right}) \propto P(w \mid \text{left}) \, P(\text{right} \mid w)

Both are explicit energies too, :math:`F(w) = -\log P(w \mid \cdot)`, with the whole vocabulary normalised.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ebm_lib.require import require_count
from ebm_lib.text.vocabulary import require_words, word_counts


class Unigram:
    r"""How frequent each word is, whatever stands beside it.

    .. math:: P(w) = \frac{c(w) + \alpha}{\sum_v (c(v) + \alpha)}

    Args:
        numbers: the training text, any shape.
        size: V, of the vocabulary.
        alpha: added to each count, > 0 and finite, so that no word is impossible.
        dtype: of the probabilities.

    Attributes:
        log_p: (V,), log P(w).

    Raises:
        ValueError: numbers that are not of words, or alpha not positive and finite.

    >>> Unigram(torch.tensor([0, 1, 1]), 3, alpha=1.0).log_p.exp()
    tensor([0.3333, 0.5000, 0.1667])
    """

    def __init__(self, numbers: Tensor, size: int, *, alpha: float = 0.5, dtype: torch.dtype | None = None) -> None:
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha must be positive and finite, got {alpha}")
        counts = word_counts(numbers, size).to(dtype or torch.get_default_dtype()) + alpha
        self.log_p = (counts / counts.sum()).log()

    def log_prob(self, left: Tensor, right: Tensor) -> Tensor:
        """Log-probability of every word between two words, which it ignores.

        Args:
            left: (...), numbers of words.
            right: (...).

        Returns:
            (..., V).

        Raises:
            ValueError: numbers that are not of words, or shapes that differ.
        """
        _require_sides(left, right, len(self.log_p))
        return self.log_p.expand(*left.shape, -1)


class Bigram:
    r"""A chain of words seen from both sides, interpolated with shorter context (Kneser and Ney's smoothing).

    .. math::

        P(w \mid \ell) = \frac{[c(\ell, w) - d]^+}{c(\ell)} + \frac{d\, n(\ell)}{c(\ell)} P_0(w), \qquad
        P(w \mid \ell, r) = \frac{P(w \mid \ell)\, P(r \mid w)}{\sum_v P(v \mid \ell)\, P(r \mid v)}

    with c(ℓ, w) the count of a pair, c(ℓ) its sum over w, and n(ℓ) how many words follow ℓ. :math:`P_0(w)` is
    proportional to how many words w follows (plus ½). The second formula is exact for a chain in which a word depends
    on the one before it.

    Args:
        pieces: the training text, one row of words or several; no pair reaches across a border.
        size: V, of the vocabulary; V² numbers are kept.
        discount: d, > 0 and < 1, taken from each count to be given to words not seen there.
        dtype: of the probabilities.

    Attributes:
        log_p: (V, V), ``log_p[left, w]`` = log P(w | left).

    Raises:
        ValueError: numbers that are not of words, pieces without a pair, or a discount out of range.

    Source: Ney, Essen and Kneser, On structuring probabilistic dependences in stochastic language modelling (1994);
        Kneser and Ney, Improved backing-off for m-gram language modeling (1995).

    >>> model = Bigram(torch.tensor([0, 1, 2, 0, 1]), 3, discount=0.5)
    >>> model.log_prob(torch.tensor(0), torch.tensor(2)).exp().argmax()
    tensor(1)
    """

    def __init__(
        self,
        pieces: Tensor | Sequence[Tensor],
        size: int,
        *,
        discount: float = 0.75,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not 0 < discount < 1:
            raise ValueError(f"discount must be between 0 and 1, got {discount}")
        require_count("size", size)
        pieces = [pieces] if isinstance(pieces, Tensor) else list(pieces)
        for place, piece in enumerate(pieces):
            require_words(f"pieces[{place}]", piece, size)
            if piece.ndim != 1:
                raise ValueError(f"pieces[{place}] must be a row of words, got shape {tuple(piece.shape)}")
        rows = [piece.to(torch.int64) for piece in pieces]
        flat = torch.cat([row[:-1] * size + row[1:] for row in rows]) if rows else torch.empty(0)
        if flat.numel() == 0:
            raise ValueError("pieces must hold at least one pair of neighbours")
        counts = torch.zeros(size * size, dtype=dtype or torch.get_default_dtype(), device=flat.device)
        counts = counts.scatter_add_(0, flat, torch.ones_like(flat, dtype=counts.dtype)).view(size, size)
        seen = (counts > 0).to(counts.dtype)
        before = seen.sum(0) + 0.5
        total, kinds = counts.sum(1, keepdim=True), seen.sum(1, keepdim=True)
        back = torch.where(total > 0, discount * kinds / total.clamp(min=1), 1.0)
        p = (counts - discount).relu() / total.clamp(min=1) + back * (before / before.sum())
        self.log_p = p.log()

    def log_prob(self, left: Tensor, right: Tensor) -> Tensor:
        """Log-probability of every word between two words.

        Args:
            left: (...), numbers of the words before the blank.
            right: (...), of the words after it.

        Returns:
            (..., V), normalised over the vocabulary.

        Raises:
            ValueError: numbers that are not of words, or shapes that differ.
        """
        _require_sides(left, right, len(self.log_p))
        return (self.log_p[left] + self.log_p.T[right]).log_softmax(-1)


def blank_energies(model: Unigram | Bigram, tokens: Tensor, places: Tensor, *, batch: int = 4096) -> Tensor:
    r"""Energies of the words that stand in given places, from their neighbours: :math:`-\log P(y_t \mid y_{t \pm 1})`.

    Args:
        model: a :class:`Unigram` or :class:`Bigram`.
        tokens: y, (..., T): the text itself, without blanks.
        places: (..., T) bool, none of them at an end.
        batch: how many places are computed at once, each taking V numbers.

    Returns:
        (M,), for the M places row by row; the mean is the cross-entropy in nats.

    Raises:
        ValueError: places of another shape, or with one at an end of the text.

    >>> y = torch.tensor([0, 1, 2, 0, 1])
    >>> blank_energies(Unigram(y, 3, alpha=1.0), y, torch.tensor([False, False, True, False, False])).exp()
    tensor([4.])
    """
    if places.dtype != torch.bool or places.shape != tokens.shape or tokens.ndim == 0:
        raise ValueError(
            f"places must be bool of shape {tuple(tokens.shape)}, got {places.dtype} {tuple(places.shape)}"
        )
    require_count("batch", batch)
    if places.shape[-1] and (places[..., 0].any() or places[..., -1].any()):
        raise ValueError("places must leave out the first and the last word, which have one neighbour only")
    left, right = tokens[places.roll(-1, -1)], tokens[places.roll(1, -1)]
    parts = zip(left.split(batch), right.split(batch), tokens[places].split(batch), strict=True)
    return torch.cat([-model.log_prob(a, b).gather(-1, y[:, None].long()).squeeze(-1) for a, b, y in parts])


def _require_sides(left: Tensor, right: Tensor, size: int) -> None:
    require_words("left", left, size)
    require_words("right", right, size)
    if left.shape != right.shape:
        raise ValueError(f"left and right must have one shape, got {tuple(left.shape)} and {tuple(right.shape)}")
