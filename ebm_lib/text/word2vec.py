r"""Word vectors by skip-gram with negative sampling: low energy with neighbours, high with other words.

.. math:: F(x, y) = -u_x \cdot v_y

A word here is a variable of one coordinate, its number: x and y are (..., 1), and the energy is (...).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ebm_lib._scale import near_one
from ebm_lib.nn import init_
from ebm_lib.require import require_count, require_finite, require_nonempty, require_positive
from ebm_lib.text.vocabulary import SPECIAL, require_words


def noise_distribution(counts: Tensor, power: float = 0.75, *, dtype: torch.dtype | None = None) -> Tensor:
    r"""Distribution of the negative words: their frequencies, flattened; special words are never drawn.

    .. math:: q(w) = \frac{c(w)^{3/4}}{\sum_v c(v)^{3/4}}

    Args:
        counts: (V,), how often each word occurs, as :func:`ebm_lib.text.word_counts` gives them.
        power: 1 is the unigram distribution, 0 is uniform over the words that occur.
        dtype: of the result; torch's default if None.

    Returns:
        (V,), summing to one.

    Raises:
        ValueError: counts of another shape, negative ones, none of a word that is not special; power negative.

    Source: Mikolov, Sutskever, Chen, Corrado and Dean, Distributed Representations of Words and Phrases and their
        Compositionality (2013), section 2.2.

    >>> noise_distribution(torch.tensor([9, 9, 9, 9, 9, 1, 16]))
    tensor([0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.1111, 0.8889])
    """
    if not 0 <= power < float("inf"):
        raise ValueError(f"power must be a number of at least 0, got {power}")
    dtype = dtype or torch.get_default_dtype()
    # Half precision cannot hold the counts of a long text.
    values = _require_counts(counts).to(dtype if torch.finfo(dtype).bits >= 32 else torch.float32)
    if power > 1:  # lest the powers overflow
        values = values / values[len(SPECIAL) :].max()
    weights = torch.where(values > 0, values**power, 0.0)
    weights[: len(SPECIAL)] = 0
    return (weights / weights.sum()).to(dtype)


def draw_words(noise: Tensor, shape: tuple[int, ...], *, generator: torch.Generator | None = None) -> Tensor:
    """Draw words from a distribution.

    Args:
        noise: (V,), as :func:`noise_distribution` gives it; need not sum to one.
        shape: of the result.
        generator: of the draws, on its own device.

    Returns:
        Numbers of words, int64, on the device of ``noise``.

    Raises:
        ValueError: noise of another shape, negative, not finite, or all zero.

    >>> draw_words(torch.tensor([0.0, 0.0, 1.0]), (2, 3))
    tensor([[2, 2, 2],
            [2, 2, 2]])
    """
    cumulative = _require_counts(noise, "noise", skip=0).to(torch.float64).cumsum(0)
    origin = "cpu" if generator is None else generator.device
    uniform = torch.rand(shape, generator=generator, device=origin, dtype=torch.float64).to(noise.device)
    # right=True skips the first words if they are of probability zero. A product that rounds up to the whole would
    # reach past the last word that can be drawn, whose number is how many sums are below the whole.
    last = (cumulative < cumulative[-1]).sum()
    return torch.searchsorted(cumulative, uniform * cumulative[-1], right=True).clamp(max=last)


def subsample(
    numbers: Tensor, counts: Tensor, threshold: float = 1e-4, *, generator: torch.Generator | None = None
) -> Tensor:
    r"""Leave out many of the frequent words, which say little about their neighbours, and the special ones.

    .. math:: P(\text{keep } w) = \min\!\left(1, \sqrt{t / f(w)}\right)

    with f(w) the word's share of the text. This is the paper's formula, with its t near 1e-5 for a text of a billion
    words; the authors' program keeps :math:`(\sqrt{f/t} + 1)\, t/f` instead, a little more.

    Args:
        numbers: (N,), a text.
        counts: (V,), of each word; f is its share of their sum.
        threshold: t; words rarer than that are all kept.
        generator: of the draws, on its own device.

    Returns:
        (M,), the words that are kept, in order.

    Raises:
        ValueError: numbers that are not of words, or not a row; counts of another shape; threshold not positive.

    Source: Mikolov, Sutskever, Chen, Corrado and Dean (2013), section 2.3, equation 5.

    >>> subsample(torch.tensor([5, 6, 5]), torch.tensor([0, 0, 0, 0, 0, 2, 1]), threshold=1.0)
    tensor([5, 6, 5])
    """
    require_positive("threshold", threshold)
    require_words("numbers", numbers, len(_require_counts(counts)))
    if numbers.ndim != 1:
        raise ValueError(f"numbers must be a row of words, got shape {tuple(numbers.shape)}")
    frequency = counts.to(torch.float64) / counts.sum()
    keep = (threshold / frequency).sqrt().clamp(max=1.0)
    keep[: len(SPECIAL)] = 0
    origin = "cpu" if generator is None else generator.device
    chance = torch.rand(numbers.shape, generator=generator, device=origin, dtype=torch.float64).to(numbers.device)
    return numbers[chance < keep[numbers]]


class SkipGramPairs(NamedTuple):
    """Words with words that stand near them.

    Attributes:
        x: (P, 1), the words.
        y: (P, 1), a neighbour of each.
    """

    x: Tensor
    y: Tensor


def skip_gram_pairs(numbers: Tensor, window: int = 5, *, generator: torch.Generator | None = None) -> SkipGramPairs:
    """Pair each word with its neighbours on both sides.

    Each word's reach is drawn from 1 to ``window``, so that a neighbour at distance d is taken with probability
    1 − (d − 1)/window.

    Args:
        numbers: (N,), a text.
        window: the longest reach.
        generator: of the reaches, on its own device.

    Returns:
        :class:`SkipGramPairs`, by distance, the left neighbours before the right ones.

    Raises:
        ValueError: numbers that are not a row of integers.

    Source: Mikolov, Chen, Corrado and Dean, Efficient Estimation of Word Representations in Vector Space (2013),
        section 3.2.

    >>> x, y = skip_gram_pairs(torch.tensor([7, 8, 9]), 1)
    >>> x.squeeze(-1), y.squeeze(-1)
    (tensor([8, 9, 7, 8]), tensor([7, 8, 8, 9]))
    """
    require_count("window", window)
    if numbers.ndim != 1 or numbers.is_floating_point():
        raise ValueError(f"numbers must be a row of words, got {numbers.dtype} of shape {tuple(numbers.shape)}")
    origin = "cpu" if generator is None else generator.device
    reach = torch.randint(1, window + 1, numbers.shape, generator=generator, device=origin).to(numbers.device)
    x, y = [numbers[:0]], [numbers[:0]]
    for distance in range(1, min(window, len(numbers) - 1) + 1):
        far = reach >= distance
        left, right = far[distance:], far[:-distance]
        x += [numbers[distance:][left], numbers[:-distance][right]]
        y += [numbers[:-distance][left], numbers[distance:][right]]
    return SkipGramPairs(torch.cat(x)[:, None], torch.cat(y)[:, None])


def negative_sampling(positive: Tensor, negative: Tensor) -> Tensor:
    r"""Loss of a pair against negative words: one logistic loss for the pair, one for each negative.

    .. math:: \mathcal L = -\log \sigma(-F^+) - \sum_{k=1}^{K} \log \sigma(F^-_k)

    With slopes :math:`\sigma(F^+)` and :math:`-\sigma(-F^-_k)`. Noise-contrastive estimation with the noise's density
    left out: at the optimum over free energies :math:`-F(x, y) = \log \frac{P(y \mid x)}{K q(y)}`, a shifted pointwise
    mutual information, and not a log-probability.

    Args:
        positive: F⁺, (...).
        negative: F⁻, (..., K); K ≥ 1.

    Returns:
        One value per pair, (...); take the mean to train.

    Raises:
        ValueError: shapes that do not fit, no negatives, or an energy that is not finite (F⁻ may be +inf).

    Source: Mikolov, Sutskever, Chen, Corrado and Dean (2013), section 2.2, equation 4; Levy and Goldberg, Neural Word
        Embedding as Implicit Matrix Factorization (2014), for the optimum.

    >>> negative_sampling(torch.tensor([0.0]), torch.tensor([[0.0, 0.0]])) / torch.tensor(2.0).log()
    tensor([3.])
    """
    require_nonempty("negative", negative, -1)
    if negative.shape[:-1] != positive.shape:
        raise ValueError(
            f"negative must be {(*positive.shape, 'K')}, for each of positive, got shape {tuple(negative.shape)}"
        )
    require_finite("positive", positive)
    require_finite("negative", negative, allow_posinf=True)
    return F.softplus(positive, threshold=50.0) + F.softplus(-negative, threshold=50.0).sum(-1)


class SkipGram(nn.Module):
    r"""Two vectors for each word, one as itself and one as a neighbour; their product is minus the energy.

    .. math:: F(x, y) = -u_x \cdot v_y

    Args:
        size: V, of the vocabulary.
        dim: D, of the vectors.
        generator: where the vectors come from: u from U(−1/(2D), 1/(2D)); v starts at zero, so all energies do.
        device: of the vectors.
        dtype: of the vectors.

    Attributes:
        u: (V, D), the words' vectors.
        v: (V, D), their vectors as neighbours.

    Raises:
        ValueError: sizes below 1.

    Source: Mikolov, Sutskever, Chen, Corrado and Dean (2013); LeCun, Energy-Based Models, part 1 (NYU Deep Learning,
        spring 2020), "Self-Supervised Learning works very well for text".

    >>> model = SkipGram(10, 4, generator=torch.Generator().manual_seed(0))
    >>> x, y = torch.tensor([[5], [6]]), torch.tensor([[7], [8], [9]])
    >>> model(x[:, None], y[None]).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        size: int,
        dim: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        shape = (require_count("size", size), require_count("dim", dim))
        device = device or torch.get_default_device()
        self.u = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.v = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        init_(self, generator)

    def reset_parameters(self) -> None:
        """Draw u small and set v to zero."""
        bound = 0.5 / self.u.shape[1]
        nn.init.uniform_(self.u, -bound, bound)
        nn.init.zeros_(self.v)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Energy of each word x with each neighbour y.

        Args:
            x: (..., 1), numbers of words.
            y: (..., 1), numbers of words; the leading dimensions broadcast.

        Returns:
            F, of the broadcast leading shape.

        Raises:
            ValueError: numbers that are not of words, or another last dimension.
        """
        for name, words in (("x", x), ("y", y)):
            require_words(name, words, len(self.u))
            if words.ndim == 0 or words.shape[-1] != 1:
                raise ValueError(f"{name} must be words of one coordinate each, (..., 1), got {tuple(words.shape)}")
        u, v = F.embedding(x.squeeze(-1), self.u), F.embedding(y.squeeze(-1), self.v)
        return -(u * v).sum(-1)


def nearest(vectors: Tensor, words: Tensor, k: int = 8) -> tuple[Tensor, Tensor]:
    r"""Find the words whose vectors point the most in the same direction.

    .. math:: \cos(a, b) = \frac{u_a \cdot u_b}{\lVert u_a \rVert \lVert u_b \rVert}

    Args:
        vectors: (V, D). Rows of zeros are at cosine 0 from all.
        words: (...), numbers of words.
        k: how many; neither the word itself nor a special word is among them.

    Returns:
        The cosines and the numbers of the words, (..., k) each, the nearest first.

    Raises:
        ValueError: vectors not finite or not a table, numbers that are not of words, or fewer than k other words.

    >>> directions = torch.tensor([[0.0, 0.0]] * 5 + [[1.0, 0.0], [2.0, 0.1], [0.0, 1.0]])
    >>> nearest(directions, torch.tensor(5), k=1)[1]
    tensor([6])
    """
    if vectors.ndim != 2:
        raise ValueError(f"vectors must be a table (V, D), got shape {tuple(vectors.shape)}")
    require_finite("vectors", vectors)
    require_words("words", words, len(vectors))
    require_count("k", k)
    if k > (most := len(vectors) - len(SPECIAL) - 1):
        raise ValueError(f"k must be at most {most}, the words that are not special and not the word itself, got {k}")
    directions = F.normalize(near_one(vectors, -1), dim=-1)
    cosines = directions[words] @ directions.T
    cosines[..., : len(SPECIAL)] = -torch.inf
    cosines = cosines.scatter(-1, words[..., None].long(), -torch.inf)
    best = cosines.topk(k, dim=-1)
    return best.values, best.indices


def _require_counts(counts: Tensor, name: str = "counts", skip: int = len(SPECIAL)) -> Tensor:
    if counts.ndim != 1:
        raise ValueError(f"{name} must hold one number a word, (V,), got shape {tuple(counts.shape)}")
    if counts.is_floating_point():
        require_finite(name, counts)
    if (counts < 0).any() or not (counts[skip:] > 0).any():
        raise ValueError(f"{name} must not be negative, and positive for at least one word that is not special")
    return counts
