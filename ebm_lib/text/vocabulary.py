"""Words and numbers: tokens of plain English text, a vocabulary of the most frequent, windows, a held-out share."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ebm_lib.require import has_values, require_count

PAD, UNK, MASK, CLS, SEP = range(5)
SPECIAL = ("<pad>", "<unk>", "<mask>", "<cls>", "<sep>")

# In this order: a special word; 's, which stands on its own; letters with apostrophes inside; digits; a dash; a mark.
_TOKEN = re.compile(r"<(?:pad|unk|mask|cls|sep)>|'s\b|[^\W\d_]+(?:'(?!s\b)[^\W\d_]+)*|\d+|--+|[^\w\s]")
_OPENING = re.compile(r'(?<![^\s(\[_-])"(?=\S)')
_ENDS, _CLOSING = frozenset(".!?"), frozenset("”)]")
_ABBREVIATIONS = frozenset(("mr", "mrs", "ms", "dr", "messrs", "st", "rev", "esq", "etc", "hon", "no"))


def tokenize(text: str) -> list[str]:
    r"""Cut plain English text into lower-case words and punctuation marks.

    A possessive or contracted ``'s`` is a token, other contractions stay whole. Straight double quotes become opening
    and closing ones, by what stands before them; a run of hyphens is one ``--``; underscores (italics) vanish. The
    special words of ``SPECIAL`` are recognised, so that a text may have blanks. Cutting is idempotent: tokens
    joined by blanks give the same tokens.

    Args:
        text: any string.

    Returns:
        The tokens.

    >>> tokenize('"Mr. Darcy\'s a _very_ tall man," said she -- don\'t you <mask>?')
    ['“', 'mr', '.', 'darcy', "'s", 'a', 'very', 'tall', 'man', ',', '”', 'said', 'she', '--', "don't", 'you',
     '<mask>', '?']
    """
    plain = _OPENING.sub("“", text.lower().replace("’", "'")).replace('"', "”")
    return ["--" if token.startswith("--") else token for token in _TOKEN.findall(plain.replace("_", " "))]


def sentence_starts(tokens: Sequence[str]) -> list[int]:
    """Find where sentences start: at the first token, and after a full stop, question or exclamation mark.

    A closing quote or bracket belongs to the sentence before it; a stop after an abbreviation such as ``mr`` ends none.

    Args:
        tokens: as :func:`tokenize` gives them.

    Returns:
        Increasing positions, each that of a token.

    >>> sentence_starts(tokenize('"He came?" Mr. Hill smiled. She did not.'))
    [0, 5, 10]
    """
    starts = [0] if tokens else []
    for place in range(1, len(tokens)):
        end = place - 1
        while end > 0 and tokens[end] in _CLOSING:
            end -= 1
        stop = tokens[end] in _ENDS and not (tokens[end] == "." and end > 0 and tokens[end - 1] in _ABBREVIATIONS)
        if stop and tokens[place] not in _CLOSING and tokens[place] not in _ENDS:
            starts.append(place)
    return starts


class Vocabulary:
    """The words a model knows, numbered: the five of ``SPECIAL`` first, then others in a fixed order.

    Args:
        words: the others, all different; 5 is the first one's number.

    Attributes:
        words: all words, a tuple; ``words[i]`` has number i.
        index: the number of each word, a dict.

    Raises:
        ValueError: a word that stands twice, is empty, or is a special one.

    >>> vocabulary = Vocabulary.fit(tokenize("the cat and the dog and the bird"), 7)
    >>> vocabulary.words[5:], vocabulary.encode("the dog and")
    (('the', 'and'), tensor([5, 1, 6]))
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = (*SPECIAL, *words)
        self.index = {word: number for number, word in enumerate(self.words)}
        if len(self.index) < len(self.words) or "" in self.index:
            twice = sorted(word for word, count in Counter(self.words).items() if count > 1 or not word)
            raise ValueError(f"words must be different from each other and from {SPECIAL}, and not empty, got {twice}")

    @classmethod
    def fit(cls, tokens: Iterable[str], size: int) -> "Vocabulary":
        """Take the most frequent tokens, the most frequent first, equally frequent ones in alphabetical order.

        Args:
            tokens: a text.
            size: words in all, the five special ones included, > 5; fewer where the text has fewer.

        Returns:
            The vocabulary.

        Raises:
            ValueError: ``size`` of 5 or less, or a text without a word.
        """
        require_count("size", size, minimum=len(SPECIAL) + 1)
        counts = Counter(tokens)
        for word in SPECIAL:
            counts.pop(word, None)
        if not counts:
            raise ValueError("tokens must hold at least one word that is not a special one")
        frequent = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(frequent[: size - len(SPECIAL)])

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, text: str | Iterable[str], *, device: torch.device | str | None = None) -> Tensor:
        """Number the words of a text; those it does not know are ``<unk>``.

        Args:
            text: a string, which is tokenized, or tokens.
            device: of the result.

        Returns:
            (T,), int64.
        """
        tokens = tokenize(text) if isinstance(text, str) else text
        return torch.tensor([self.index.get(token, UNK) for token in tokens], dtype=torch.int64, device=device)

    def decode(self, numbers: Tensor) -> list[str]:
        """Give the words of numbers.

        Args:
            numbers: (T,), integers.

        Returns:
            T words.

        Raises:
            ValueError: another shape, not integers, or a number of no word.
        """
        require_words("numbers", numbers, len(self))
        if numbers.ndim != 1:
            raise ValueError(f"numbers must be a row of them, got shape {tuple(numbers.shape)}")
        return [self.words[number] for number in numbers.tolist()]

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} words)"


def require_words(name: str, numbers: Tensor, size: int) -> Tensor:
    """Return ``numbers`` if they are int64 or int32, each from 0 to ``size`` − 1.

    Raises:
        ValueError: another dtype, or a number out of range.

    >>> require_words("tokens", torch.tensor([3, 7]), 5)
    Traceback (most recent call last):
    ...
    ValueError: tokens must be numbers of words, from 0 to 4, got 3 to 7
    """
    if numbers.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"{name} must be numbers of words, int64 or int32, got {numbers.dtype}")
    if has_values(numbers) and numbers.numel():
        low, high = (bound.item() for bound in torch.aminmax(numbers))
        if low < 0 or high >= size:
            raise ValueError(f"{name} must be numbers of words, from 0 to {size - 1}, got {low} to {high}")
    return numbers


def word_counts(numbers: Tensor, size: int) -> Tensor:
    """Count how often each word occurs.

    Args:
        numbers: of words, any shape.
        size: of the vocabulary.

    Returns:
        (size,), int64.

    Raises:
        ValueError: numbers that are not of words.

    >>> word_counts(torch.tensor([[2, 0], [2, 1]]), 4)
    tensor([1, 1, 2, 0])
    """
    require_words("numbers", numbers, require_count("size", size))
    flat = numbers.reshape(-1).to(torch.int64)
    return torch.zeros(size, dtype=torch.int64, device=flat.device).scatter_add_(0, flat, torch.ones_like(flat))


def windows(pieces: Tensor | Sequence[Tensor], length: int, *, stride: int | None = None) -> Tensor:
    """Cut pieces of text into windows of equal length, none across the border of two pieces.

    Args:
        pieces: one text (N,) or several.
        length: of a window, in words.
        stride: from one window's start to the next; ``length`` if None, so that they do not overlap.

    Returns:
        (W, length); what is left at the end of a piece is dropped.

    Raises:
        ValueError: a piece that is not a row, or no piece as long as a window.

    >>> windows([torch.arange(5), torch.arange(10, 13)], 2)
    tensor([[ 0,  1],
            [ 2,  3],
            [10, 11]])
    """
    require_count("length", length)
    stride = length if stride is None else require_count("stride", stride)
    pieces = [pieces] if isinstance(pieces, Tensor) else list(pieces)
    for place, piece in enumerate(pieces):
        if piece.ndim != 1:
            raise ValueError(f"pieces[{place}] must be a row of words, got shape {tuple(piece.shape)}")
    cut = [piece.unfold(0, length, stride) for piece in pieces if len(piece) >= length]
    if not cut:
        raise ValueError(f"pieces must hold one of at least length={length} words, got {[len(p) for p in pieces]}")
    return torch.cat(cut)


def hold_out(
    pieces: Sequence[Any], share: float = 0.1, *, generator: torch.Generator | None = None
) -> tuple[list[Any], list[Any]]:
    """Set some pieces of text aside: whole novels, or blocks of one.

    Neighbouring windows share names and topics, so held-out windows drawn one by one are easier than new text. Hold
    out long blocks, or a novel, whose names then are unknown words.

    Args:
        pieces: novels, blocks (as rows of :func:`windows`), anything.
        share: of the pieces to hold out, > 0 and < 1; at least one, and at least one is left.
        generator: which ones.

    Returns:
        The others and the held-out ones, each in their old order.

    Raises:
        ValueError: fewer than two pieces, or a share out of range.

    >>> kept, held_out = hold_out(range(10), 0.2, generator=torch.Generator().manual_seed(0))
    >>> len(kept), sorted(kept + held_out) == list(range(10))
    (8, True)
    """
    if len(pieces) < 2:
        raise ValueError(f"pieces must be at least two, got {len(pieces)}")
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, got {share}")
    count = min(max(round(share * len(pieces)), 1), len(pieces) - 1)
    device = "cpu" if generator is None else generator.device
    chosen = set(torch.randperm(len(pieces), generator=generator, device=device)[:count].tolist())
    return (
        [piece for place, piece in enumerate(pieces) if place not in chosen],
        [piece for place, piece in enumerate(pieces) if place in chosen],
    )
