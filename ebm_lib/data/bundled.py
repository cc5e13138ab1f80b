"""Real data that comes with the library: read from its files, checked, never downloaded.

Licences and credits of every file are in ``files/LICENSES.md``; ``training/build_data.py`` rebuilds each from the
package it came from. Each call returns tensors of its own, so changing them changes nothing for the next caller;
the files are read, and their content checked, once per process.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ebm_lib.data import store
from ebm_lib.data.mulaw import mulaw_decode

_FASHION_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# The novels follow each other in this order, each under its own heading.
_NOVELS = {
    "Emma": "EMMA",
    "Mansfield Park": "MANSFIELD PARK",
    "Northanger Abbey": "NORTHANGER ABBEY",
    "Persuasion": "Persuasion",
    "Pride and Prejudice": "PRIDE AND PREJUDICE",
    "Sense and Sensibility": "SENSE AND SENSIBILITY",
}


class Images(NamedTuple):
    """Pictures and what they show.

    Attributes:
        images: (N, 28, 28).
        labels: (N,) int64, the class of each.
        names: the name of each class, by its number.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]


class Text(NamedTuple):
    """Plain text in several parts.

    Attributes:
        text: all of it.
        titles: the title of each part.
        novels: the parts; joined, they are ``text``.
    """

    text: str
    titles: tuple[str, ...]
    novels: tuple[str, ...]


class SpokenDigits(NamedTuple):
    """Spoken digits, kept as µ-law codes and decoded one at a time.

    Attributes:
        mulaw: (T,) uint8, all utterances one after the other.
        starts: (N + 1,) int64, where each begins, and the end of the last.
        labels: (N,) int64, the digit said.
        voices: (N,) int64, the voice that says it.
        voice_names: the name of each voice, by its number: ``accent+variant``.
        rate: samples per second.
    """

    mulaw: Tensor
    starts: Tensor
    labels: Tensor
    voices: Tensor
    voice_names: tuple[str, ...]
    rate: int = 8000

    def wave(self, i: int) -> Tensor:
        """Utterance ``i`` as a waveform, (T_i,) float32 in [-1, 1].

        >>> spoken = load_spoken_digits()
        >>> len(spoken.wave(0)) == spoken.starts[1] - spoken.starts[0]
        tensor(True)
        """
        return _wave(self.mulaw, self.starts, i)


class Prompts(NamedTuple):
    """Recorded telephone prompts, kept as µ-law codes and decoded one at a time.

    Attributes:
        mulaw: (T,) uint8, all prompts one after the other.
        starts: (N + 1,) int64, where each begins, and the end of the last.
        names: what each says, such as ``digits/7`` or ``letters/b``.
        rate: samples per second.
    """

    mulaw: Tensor
    starts: Tensor
    names: tuple[str, ...]
    rate: int = 8000

    def wave(self, i: int) -> Tensor:
        """Prompt ``i`` as a waveform, (T_i,) float32 in [-1, 1].

        >>> prompts = load_prompts()
        >>> bool(prompts.wave(prompts.names.index("digits/7")).abs().max() > 0.1)
        True
        """
        return _wave(self.mulaw, self.starts, i)


def _wave(mulaw: Tensor, starts: Tensor, i: int) -> Tensor:
    count = len(starts) - 1
    if not -count <= i < count:
        raise IndexError(f"i must lie in 0..{count - 1}, got {i}")
    i %= count
    return mulaw_decode(mulaw[starts[i] : starts[i + 1]])


def _images(name: str, names: tuple[str, ...], dtype: torch.dtype, device: torch.device | str | None) -> Images:
    if not (dtype.is_floating_point or dtype == torch.uint8):
        raise ValueError(f"dtype must be a floating-point dtype or uint8, got {dtype}")
    content = store.load(name, store.FILES)
    images = torch.tensor(content["images"], device=device)
    if dtype != torch.uint8:
        images = images.to(dtype) / 255
    return Images(images, torch.tensor(content["labels"], dtype=torch.int64, device=device), names)


def load_digits(*, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None) -> Images:
    """Ten thousand real handwritten digits: a subset of MNIST, in random order.

    They are the first 10,000 training images. Pages hold out the last 2,000: ``[:8000]`` and ``[8000:]``.

    Licence: CC BY-SA 3.0, Yann LeCun and Corinna Cortes; subset, re-encoded (see ``files/LICENSES.md``).

    Args:
        dtype: floating point for intensities in [0, 1] (multiples of 1/255), uint8 for the bytes from 0 to 255.
        device: of the tensors.

    Returns:
        :class:`Images`: images (10000, 28, 28), ink bright on dark; labels (10000,); names ``"0"`` to ``"9"``.

    Raises:
        FileNotFoundError: the data file is missing.
        ValueError: the data file is altered, or ``dtype`` is neither floating point nor uint8.

    Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition" (1998).

    >>> images, labels, names = load_digits()
    >>> images.shape, names[labels[0]]
    (torch.Size([10000, 28, 28]), '3')
    """
    return _images("digits", tuple("0123456789"), dtype, device)


def load_fashion(*, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None) -> Images:
    """Ten thousand real photographs of clothes, in the size and form of the digits: Fashion-MNIST's test images.

    Pages hold out the last 2,000: ``[:8000]`` and ``[8000:]``.

    Licence: MIT, Zalando SE (see ``files/LICENSES.md``).

    Args:
        dtype: floating point for intensities in [0, 1] (multiples of 1/255), uint8 for the bytes from 0 to 255.
        device: of the tensors.

    Returns:
        :class:`Images`: images (10000, 28, 28), cloth bright on dark; labels (10000,), 1,000 of each class;
        names ``"T-shirt/top"``, ``"Trouser"``, ...

    Raises:
        FileNotFoundError: the data file is missing.
        ValueError: the data file is altered, or ``dtype`` is neither floating point nor uint8.

    Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
    algorithms" (2017).

    >>> images, labels, names = load_fashion(dtype=torch.uint8)
    >>> images.dtype, names[labels[0]]
    (torch.uint8, 'Ankle boot')
    """
    return _images("fashion", _FASHION_NAMES, dtype, device)


@functools.cache
def _novels(folder: Path) -> Text:
    text = store.load("text", folder)["text"].tobytes().decode()
    starts = []
    for heading in _NOVELS.values():
        starts.append(0 if not starts else text.index(f"\n{heading}\n\n", starts[-1]) + 1)
    ends = [*starts[1:], len(text)]
    return Text(text, tuple(_NOVELS), tuple(text[a:b] for a, b in zip(starts, ends, strict=True)))


def load_text() -> Text:
    r"""Jane Austen's six novels as plain text, 717,537 words.

    Licence: the novels are in the public domain; their packaging is MIT, Julia Silge (see ``files/LICENSES.md``).

    Returns:
        :class:`Text`: the whole text, with lines ending in ``\n``; the titles; the novels one by one.

    Raises:
        FileNotFoundError: the data file is missing.
        ValueError: the data file is altered.

    Source: Project Gutenberg's texts, by way of the R package janeaustenr.

    >>> text, titles, novels = load_text()
    >>> len(text.split()), titles[0], novels[0][:4]
    (717537, 'Emma', 'EMMA')
    """
    return _novels(store.FILES)


def load_french() -> Text:
    r"""French prose: the Debian Administrator's Handbook, *Le cahier de l'administrateur Debian*, 93,213 words.

    It tells how to look after computers, so words of that trade are common in it and those of home life rare. Each line
    is a paragraph of running text, in the order of the book; headings, listings and tables are left out, and so are
    paragraphs that the edition has in English only.

    Licence: CC BY-SA 3.0, Raphaël Hertzog, Roland Mas and Freexian SARL; excerpt, re-encoded (see
    ``files/LICENSES.md``).

    Returns:
        :class:`Text`: the whole text, with lines ending in ``\n``, as its one part.

    Raises:
        FileNotFoundError: the data file is missing.
        ValueError: the data file is altered.

    Source: Hertzog and Mas, Le cahier de l'administrateur Debian (edition for Debian 11, 2022),
    https://debian-handbook.info.

    >>> text, titles, _ = load_french()
    >>> len(text.split()), titles[0], text[:12]
    (93213, "Le cahier de l'administrateur Debian", 'Ce livre est')
    """
    text = store.load("french", store.FILES)["text"].tobytes().decode()
    return Text(text, ("Le cahier de l'administrateur Debian",), (text,))


def _starts(lengths: np.ndarray, device: torch.device | str | None) -> Tensor:
    return torch.tensor(np.concatenate(([0], lengths.cumsum(dtype=np.int64))), device=device)


def load_spoken_digits(*, device: torch.device | str | None = None) -> SpokenDigits:
    """The ten digits said by 91 voices each: 910 synthetic utterances, seven minutes.

    Nobody recorded these: eSpeak NG 1.51 said them in 7 English accents × 13 voice variants, with random speed and
    pitch. They are easier than people, who differ in more ways.

    Licence: none needed for a synthesiser's output; credit to eSpeak NG (see ``files/LICENSES.md``).

    Args:
        device: of the tensors.

    Returns:
        :class:`SpokenDigits`: ``wave(i)`` is utterance i; labels and voices (910,); 8,000 samples a second.

    Raises:
        FileNotFoundError: the data file is missing.
        ValueError: the data file is altered.

    >>> spoken = load_spoken_digits()
    >>> len(spoken.labels), len(spoken.voice_names), spoken.voice_names[0]
    (910, 91, 'en-us+m1')
    """
    content = store.load("spoken_digits", store.FILES)
    return SpokenDigits(
        mulaw=torch.tensor(content["audio_mulaw"], device=device),
        starts=_starts(content["lengths"], device),
        labels=torch.tensor(content["labels"], dtype=torch.int64, device=device),
        voices=torch.tensor(content["voices"], dtype=torch.int64, device=device),
        voice_names=tuple(content["voice_names"].tolist()),
    )


def load_prompts(*, device: torch.device | str | None = None) -> Prompts:
    """Real speech of one speaker: 492 telephone prompts of up to four seconds, 12.8 minutes in all.

    Numbers, letters, the phonetic alphabet and short sentences; four are silences, some are tones.

    Licence: CC BY-SA 3.0, recorded by Allison Smith for Digium; subset, re-encoded (see ``files/LICENSES.md``).

    Args:
        device: of the tensors.

    Returns:
        :class:`Prompts`: ``wave(i)`` is prompt i, ``names[i]`` what it says; 8,000 samples a second.

    Raises:
        FileNotFoundError: the data file is missing.
        ValueError: the data file is altered.

    >>> prompts = load_prompts()
    >>> len(prompts.names), round(len(prompts.mulaw) / prompts.rate / 60, 1)
    (492, 12.8)
    """
    content = store.load("prompts", store.FILES)
    return Prompts(
        mulaw=torch.tensor(content["audio_mulaw"], device=device),
        starts=_starts(content["lengths"], device),
        names=tuple(content["names"].tolist()),
    )
