r"""Masked language models: blank out words, and learn an energy that is low for the words that were there.

.. math:: F(x, y) = -\sum_{t \in \text{blanks}} \log P(y_t \mid x)

The corrupted text x is known, the text y is what is asked for; since the words are finitely many, the energies of all
answers are computed at once and normalised, which is what continuous signals do not allow.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ebm_lib.nn import init_
from ebm_lib.require import has_values, require_count
from ebm_lib.text.transformer import Transformer
from ebm_lib.text.vocabulary import CLS, MASK, PAD, SEP, SPECIAL, Vocabulary, require_words


class Corruption(NamedTuple):
    """A text with blanks.

    Attributes:
        tokens: x, (..., T): the corrupted text.
        places: (..., T) bool: where the words are asked for, whether or not they look changed.
    """

    tokens: Tensor
    places: Tensor


def mask_tokens(
    tokens: Tensor,
    size: int,
    *,
    p: float = 0.15,
    shown: tuple[float, float] = (0.8, 0.1),
    generator: torch.Generator | None = None,
) -> Corruption:
    r"""Choose words to be predicted, and hide most of them.

    Each word is chosen with probability p; of the chosen, 80 % become ``<mask>``, 10 % a random word (any but the
    special ones), 10 % stay as they are, so that no word that the model sees is above suspicion.

    Args:
        tokens: y, (..., T), numbers of words. Special words, ``<unk>`` among them, are never chosen.
        size: of the vocabulary.
        p: share of the words to choose.
        shown: shares of the chosen that become ``<mask>`` and a random word; the rest stays.
        generator: of the draws, on its own device.

    Returns:
        :class:`Corruption`.

    Raises:
        ValueError: tokens that are not of words, shares that are not probabilities, a vocabulary of special words.

    Source: Devlin, Chang, Lee and Toutanova, BERT (2019), section 3.1 and appendix A.1; LeCun, The Energy-Based View of
        Self-Supervised Learning (GTC 2021), "Contrastive Methods in NLP / Denoising AE / Masked AE".

    >>> mask_tokens(torch.arange(5, 9), 9, p=1.0, shown=(1.0, 0.0))
    Corruption(tokens=tensor([2, 2, 2, 2]), places=tensor([True, True, True, True]))
    """
    require_count("size", size, minimum=len(SPECIAL) + 1)
    require_words("tokens", tokens, size)
    if not 0 <= p <= 1:
        raise ValueError(f"p must be a probability, from 0 to 1, got {p}")
    masked, replaced = shown
    if not (0 <= masked and 0 <= replaced and masked + replaced <= 1):
        raise ValueError(f"shown must hold two shares that sum to at most 1, got {shown}")
    origin = "cpu" if generator is None else generator.device
    chance, fate = torch.rand((2, *tokens.shape), generator=generator, device=origin).to(tokens.device)
    other = torch.randint(len(SPECIAL), size, tokens.shape, generator=generator, device=origin).to(tokens)
    places = (chance < p) & (tokens >= len(SPECIAL))
    corrupted = tokens.masked_fill(places & (fate < masked), MASK)
    return Corruption(torch.where(places & (fate >= masked) & (fate < masked + replaced), other, corrupted), places)


def mask_apart(tokens: Tensor, every: int = 8, *, generator: torch.Generator | None = None) -> Corruption:
    """Blank out every so many words, from a random start in each text: both neighbours of a blank are seen.

    This is how models are compared: a bigram model needs to see both neighbours.

    Args:
        tokens: y, (..., T), numbers of words. A blank that would fall on a special word, or on the first or last
            token, is left out.
        every: distance of the blanks, ≥ 2.
        generator: of the starts, on its own device.

    Returns:
        :class:`Corruption`, with ``<mask>`` in all its places.

    Raises:
        ValueError: ``every`` below 2, tokens that are not int64 or int32, or not a row.

    >>> mask_apart(torch.arange(5, 15), 3, generator=torch.Generator().manual_seed(0)).tokens
    tensor([ 5,  6,  2,  8,  9,  2, 11, 12,  2, 14])
    """
    require_count("every", every, minimum=2)
    _require_row("tokens", tokens)
    length = tokens.shape[-1]
    origin = "cpu" if generator is None else generator.device
    start = torch.randint(every, (*tokens.shape[:-1], 1), generator=generator, device=origin).to(tokens.device)
    place = torch.arange(length, device=tokens.device)
    places = ((place - start) % every == 0) & (place > 0) & (place < length - 1) & (tokens >= len(SPECIAL))
    return Corruption(tokens.masked_fill(places, MASK), places)


def pack_pair(first: Tensor, second: Tensor) -> Tensor:
    """Join two texts for next-sentence prediction: ``<cls>`` first ``<sep>`` second ``<sep>``.

    Args:
        first: (..., S), numbers of words.
        second: (..., T).

    Returns:
        (..., S + T + 3).

    Raises:
        ValueError: texts that are not of words, or leading shapes that differ.

    >>> pack_pair(torch.tensor([7, 8]), torch.tensor([9]))
    tensor([3, 7, 8, 4, 9, 4])
    """
    _require_row("first", first)
    _require_row("second", second)
    if first.shape[:-1] != second.shape[:-1]:
        raise ValueError(
            f"first and second must be as many texts, got shapes {tuple(first.shape)}, {tuple(second.shape)}"
        )
    cls, sep = first.new_full((*first.shape[:-1], 1), CLS), first.new_full((*first.shape[:-1], 1), SEP)
    return torch.cat([cls, first, sep, second, sep], dim=-1)


class MaskedLanguageModel(nn.Module):
    r"""A transformer that gives, for each place of a text, an energy to each word of the vocabulary.

    .. math::

        F(x, y) = -\sum_{t \in \text{blanks}} \log P(y_t \mid x), \qquad
        P(w \mid x, t) = \operatorname{softmax}_w(u_w \cdot h_t(x) + b_w)

    The words' vectors :math:`u_w` are those that enter (tied). What enters the transformer at place t is
    :math:`u_{x_t} + \sum_{|k| \le r} C_k u_{x_{t+k}} + p_t + s_t`: the word, its neighbours through a convolution (so
    that attention need not learn first who stands beside whom), the place, and whether the first ``<sep>`` has passed.

    Args:
        size: V, of the vocabulary.
        dim: D, of the tokens.
        heads: of the attention.
        layers: of the transformer.
        length: the longest text, in tokens.
        reach: r, of the convolution; 0 leaves it out.
        hidden: width of the perceptrons, 4 D if None.
        next_sentence: whether there is a head for next-sentence prediction.
        generator: where the weights come from.
        device: of the weights.
        dtype: of the weights.

    Attributes:
        encoder: the :class:`~ebm_lib.text.Transformer`.

    Raises:
        ValueError: sizes below 1 (``size``: below 6), or heads that do not divide ``dim``.

    Source: Devlin, Chang, Lee and Toutanova, BERT (2019); Press and Wolf, Using the Output Embedding to Improve
        Language Models (2017), for the tied vectors; Mohamed, Okhonko and Zettlemoyer, Transformers with Convolutional
        Context for ASR (2019), for the convolution; LeCun, Energy-Based Models, part 1 (NYU Deep Learning, spring
        2020), "Self-Supervised Learning works very well for text".

    >>> model = MaskedLanguageModel(10, 8, 2, 1, 6, generator=torch.Generator().manual_seed(0))
    >>> x, y = torch.tensor([[5, 2, 7]]), torch.tensor([[5, 6, 7]])
    >>> torch.allclose(model.energy(x, y), -model.fill_in(x)[0, 6].log())
    True
    """

    def __init__(
        self,
        size: int,
        dim: int,
        heads: int,
        layers: int,
        length: int,
        *,
        reach: int = 0,
        hidden: int | None = None,
        next_sentence: bool = False,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.size = require_count("size", size, minimum=len(SPECIAL) + 1)
        self.length = require_count("length", length)
        made = {"device": device or torch.get_default_device(), "dtype": dtype}
        self.encoder = Transformer(dim, heads, layers, hidden=hidden, generator=generator, **made)
        self.words = nn.utils.skip_init(nn.Embedding, size, dim, **made)
        self.positions = nn.utils.skip_init(nn.Embedding, length, dim, **made)
        self.segments = nn.utils.skip_init(nn.Embedding, 2, dim, **made)
        width = 2 * require_count("reach", reach, minimum=0) + 1
        self.neighbours = (
            nn.utils.skip_init(nn.Conv1d, dim, dim, width, padding=reach, bias=False, **made) if reach else None
        )
        self.bias = nn.Parameter(torch.empty(size, **made))
        self.follows = nn.utils.skip_init(nn.Linear, dim, 1, **made) if next_sentence else None
        init_(self, generator)

    def reset_parameters(self) -> None:
        """Draw the vectors of words and positions small: with unit variance, tied vectors would start out certain."""
        for table in (self.words, self.positions, self.segments):
            nn.init.normal_(table.weight, std=0.02)
        nn.init.zeros_(self.bias)

    def features(self, tokens: Tensor) -> Tensor:
        """Represent each token in its context.

        Args:
            tokens: (..., T), numbers of words; ``<pad>`` is seen by no token.

        Returns:
            (..., T, D).

        Raises:
            ValueError: not numbers of words, no token, or more than ``length``.
        """
        require_words("tokens", tokens, self.size)
        if tokens.ndim == 0 or not 1 <= tokens.shape[-1] <= self.length:
            raise ValueError(f"tokens must be texts of 1 to {self.length} tokens, got shape {tuple(tokens.shape)}")
        place = torch.arange(tokens.shape[-1], device=tokens.device)
        padding = tokens == PAD
        words = self.words(tokens)
        x = words + self.positions(place) + self.segments(_segments(tokens))
        if self.neighbours is not None:
            seen = words.masked_fill(padding[..., None], 0.0).transpose(-1, -2)
            x = x + self.neighbours(seen.reshape(-1, *seen.shape[-2:])).transpose(-1, -2).reshape(x.shape)
        return self.encoder(x, padding if not has_values(padding) or padding.any() else None)

    def forward(self, tokens: Tensor, places: Tensor | None = None) -> Tensor:
        """Compute the negative energies of all words, up to a constant.

        Args:
            tokens: x, (..., T), numbers of words.
            places: (..., T) bool; all places if None.

        Returns:
            Logits: (M, V) at the M places, row by row; (..., T, V) if ``places`` is None.

        Raises:
            ValueError: as :meth:`features`; places of another shape.
        """
        hidden = self.features(tokens)
        if places is not None:
            hidden = hidden[_require_places(places, tokens)]
        return nn.functional.linear(hidden, self.words.weight, self.bias)

    def energy(self, x: Tensor, y: Tensor, places: Tensor | None = None) -> Tensor:
        r"""Energy of a text given its corruption: :math:`-\sum_t \log P(y_t \mid x)` over the places.

        Given x the blanks are independent of each other; one energy for each pair, and to train, its mean over words.

        Args:
            x: corrupted, (..., T).
            y: text, (..., T); leading dimensions broadcast, and x is encoded once: ``energy(x[None], y)``.
            places: (..., T) bool, of x's shape; where x is ``<mask>`` if None.

        Returns:
            F, of the broadcast leading shape; 0 where x has no such place.

        Raises:
            ValueError: as :meth:`forward`, y that is no such text.
        """
        places = x == MASK if places is None else _require_places(places, x)
        require_words("y", y, self.size)
        if y.shape[-1:] != x.shape[-1:]:
            raise ValueError(f"x and y must be equally long, got shapes {tuple(x.shape)} and {tuple(y.shape)}")
        log_p = self(x).log_softmax(-1)
        shape = torch.broadcast_shapes(x.shape, y.shape)
        chosen = log_p.expand(*shape, -1).gather(-1, y.expand(shape)[..., None].long()).squeeze(-1)
        return -chosen.masked_fill(~places, 0.0).sum(-1)

    def fill_in(self, tokens: Tensor) -> Tensor:
        """Give the distribution over words at each ``<mask>``.

        Args:
            tokens: x, (..., T).

        Returns:
            (M, V), for the M blanks row by row, each summing to one.

        Raises:
            ValueError: as :meth:`features`, or a text without a blank.
        """
        places = tokens == MASK
        if has_values(places) and not places.any():
            raise ValueError("tokens must hold at least one <mask>")
        return self(tokens, places).softmax(-1)

    def next_sentence_energy(self, tokens: Tensor) -> Tensor:
        r"""Energy of two texts as neighbours: :math:`P(\text{second follows first}) = \sigma(-F)`.

        Args:
            tokens: (..., T), as :func:`pack_pair` makes them: the first token's representation is looked at.

        Returns:
            F, (...).

        Raises:
            ValueError: as :meth:`features`, or a model without that head.
        """
        if self.follows is None:
            raise ValueError("the model must be made with next_sentence=True to judge pairs")
        return -self.follows(self.features(tokens)[..., 0, :]).squeeze(-1)


def fill_in_words(
    model: MaskedLanguageModel, vocabulary: Vocabulary, text: str, k: int = 5
) -> list[list[tuple[str, float]]]:
    """Fill the blanks of a text, and tell how sure the model is.

    Args:
        model: a masked language model.
        vocabulary: its words.
        text: with one or more ``<mask>``. It stands between ``<cls>`` and ``<sep>``, as in training.
        k: how many words for each blank.

    Returns:
        For each blank, the k most probable words with their probabilities, the most probable first.

    Raises:
        ValueError: no blank, a text too long, a vocabulary of another size, or k out of range.
    """
    if len(vocabulary) != model.size or not 1 <= k <= model.size:
        raise ValueError(f"vocabulary must have {model.size} words and k be among 1 to that, got {vocabulary}, {k}")
    tokens = vocabulary.encode(["<cls>"], device=model.bias.device)
    tokens = torch.cat([tokens, vocabulary.encode(text, device=tokens.device), tokens.new_tensor([SEP])])
    with torch.no_grad():
        best = model.fill_in(tokens).topk(k)
    return [
        list(zip(vocabulary.decode(words), probabilities.tolist(), strict=True))
        for probabilities, words in zip(best.values, best.indices, strict=True)
    ]


def _require_row(name: str, tokens: Tensor) -> None:
    """Texts of a vocabulary of unknown size."""
    require_words(name, tokens, 2**31)
    if tokens.ndim == 0:
        raise ValueError(f"{name} must hold texts (..., T), got a single number")


def _segments(tokens: Tensor) -> Tensor:
    """0 up to the first ``<sep>``, 1 after it."""
    after = tokens == SEP
    return (after.cumsum(-1) - after.to(torch.int64)).clamp(max=1)


def _require_places(places: Tensor, tokens: Tensor) -> Tensor:
    if places.dtype != torch.bool or places.shape != tokens.shape:
        raise ValueError(
            f"places must be bool of the text's shape {tuple(tokens.shape)}, got {places.dtype} {tuple(places.shape)}"
        )
    return places
