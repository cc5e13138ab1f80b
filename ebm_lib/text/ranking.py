r"""Word vectors by ranking: a window of text gets a lower energy than the same window with another word in its middle.

.. math:: \mathcal L = \left[1 + F(s) - F(s^w)\right]^+

The loss is :func:`ebm_lib.losses.hinge`; here are the energy and its contrastive points.
"""

import torch
from torch import Tensor, nn

from ebm_lib.nn import MLP, init_
from ebm_lib.require import require_count
from ebm_lib.text.vocabulary import SPECIAL, require_words


def replace_middle(windows: Tensor, size: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Replace the middle word of each window by another one, any that is not special, all equally likely.

    Args:
        windows: s, (..., T), numbers of words; T odd.
        size: of the vocabulary, with at least two words that are not special.
        generator: of the draws, on its own device.

    Returns:
        The contrastive windows, (..., T); the new word always differs from the old one.

    Raises:
        ValueError: numbers that are not of words, an even length, or a vocabulary without two words.

    Source: Collobert and Weston, A Unified Architecture for Natural Language Processing (2008), section 5; there the
        new word may happen to be the old one.

    >>> replace_middle(torch.tensor([5, 6, 5]), 7)
    tensor([5, 5, 5])
    """
    require_words("windows", windows, require_count("size", size, minimum=len(SPECIAL) + 2))
    if windows.ndim == 0 or windows.shape[-1] % 2 == 0:
        raise ValueError(f"windows must have an odd number of words, got shape {tuple(windows.shape)}")
    middle = windows.shape[-1] // 2
    old = windows[..., middle]
    origin = "cpu" if generator is None else generator.device
    # A number below the old one stays, others move up by one: uniform over all but the old. A special word has no
    # number of its own to be left out.
    known = old >= len(SPECIAL)
    draw = torch.rand(old.shape, generator=generator, device=origin, dtype=torch.float64).to(windows.device)
    new = len(SPECIAL) + (draw * (size - len(SPECIAL) - known.to(torch.int64))).to(old.dtype)
    new = new + (known & (new >= old)).to(old.dtype)
    return torch.cat([windows[..., :middle], new[..., None], windows[..., middle + 1 :]], dim=-1)


class WindowEnergy(nn.Module):
    r"""Energy of a window of words: a perceptron on their vectors, side by side.

    .. math:: F(s) = \mathrm{MLP}([e_{s_1}, \dots, e_{s_T}])

    Args:
        size: V, of the vocabulary.
        dim: D, of the vectors.
        length: T, words in a window, odd.
        hidden: width of the hidden layer.
        generator: where vectors and weights come from; vectors are standard normal.
        device: of the weights.
        dtype: of the weights.

    Attributes:
        words: the vectors, an ``nn.Embedding``.
        mlp: the perceptron, of one hidden layer with tanh.

    Raises:
        ValueError: sizes below 1, or an even length.

    Source: Collobert and Weston (2008), where the layer is a hard tanh and the output a score, minus the energy;
        LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods in NLP / Denoising AE
        / Masked AE".

    >>> energy = WindowEnergy(10, 4, 3, 8, generator=torch.Generator().manual_seed(0))
    >>> energy(torch.tensor([[5, 6, 7], [5, 9, 7]])).shape
    torch.Size([2])
    """

    def __init__(
        self,
        size: int,
        dim: int,
        length: int,
        hidden: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.size, self.length = require_count("size", size), require_count("length", length)
        if length % 2 == 0:
            raise ValueError(f"length must be odd, so that there is a middle, got {length}")
        made = {"device": device or torch.get_default_device(), "dtype": dtype}
        self.words = nn.utils.skip_init(nn.Embedding, size, require_count("dim", dim), **made)
        self.mlp = MLP((length * dim, hidden, 1), activation="tanh", generator=generator, **made)
        init_(self, generator)

    def forward(self, windows: Tensor) -> Tensor:
        """Compute the energies of windows.

        Args:
            windows: s, (..., T), numbers of words.

        Returns:
            F, (...).

        Raises:
            ValueError: numbers that are not of words, or another length.
        """
        self._check(windows)
        return self.mlp(self.words(windows).flatten(-2)).squeeze(-1)

    def middle_energies(self, windows: Tensor) -> Tensor:
        """Compute the energy of every word of the vocabulary in the middle of given windows, to rank them.

        Args:
            windows: (..., T); their own middle word is ignored.

        Returns:
            (..., V).

        Raises:
            ValueError: as :meth:`forward`.
        """
        self._check(windows)
        middle = self.length // 2
        every = windows[..., None, :].expand(*windows.shape[:-1], self.size, -1).clone()
        every[..., middle] = torch.arange(self.size, dtype=windows.dtype, device=windows.device)
        return self(every)

    def _check(self, windows: Tensor) -> None:
        require_words("windows", windows, self.size)
        if windows.shape[-1:] != (self.length,):
            raise ValueError(f"windows must hold {self.length} words, got shape {tuple(windows.shape)}")
