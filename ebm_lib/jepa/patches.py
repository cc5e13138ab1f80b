"""Networks of patches: an encoder of those that are seen, a predictor of the others, and targets to predict."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from ebm_lib.jepa.masking import to_patches
from ebm_lib.nn import init_
from ebm_lib.require import has_values, require_count, require_points
from ebm_lib.text import Transformer


class PatchEncoder(nn.Module):
    r"""A small vision transformer whose attention runs over the patches that are seen, and no others.

    .. math:: s = \text{Transformer}\big( W \cdot \text{patch}_k + p_k \big)_{k \in \text{context}}

    with fixed positions p of sines and cosines. Hidden patches are left out, not blanked: no computation is spent on
    them, and none of their pixels enters.

    Args:
        grid: patches along a side of the picture.
        patch: size of a patch, in pixels.
        dim: D, of a representation; a multiple of 4.
        heads: of the attention.
        layers: of the transformer.
        hidden: width of its perceptrons, 4 D if None.
        inputs: colours of the pictures.
        generator: where the weights come from.
        device: of the weights.
        dtype: of the weights.

    Attributes:
        width: D.

    Raises:
        ValueError: sizes out of range; when called, pictures of another size, values not finite, masks of another
            shape, or that leave a picture without any patch.

    Source: Dosovitskiy and others, An Image is Worth 16x16 Words (ICLR 2021); He and others, Masked Autoencoders Are
        Scalable Vision Learners (CVPR 2022), for the encoder of seen patches.

    >>> encoder = PatchEncoder(4, 2, 8, 2, 1, inputs=1, generator=torch.Generator().manual_seed(0))
    >>> encoder(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 16, 8])
    """

    def __init__(
        self,
        grid: int,
        patch: int,
        dim: int = 64,
        heads: int = 4,
        layers: int = 2,
        *,
        hidden: int | None = None,
        inputs: int = 3,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.grid, self.patch, self.inputs = grid, require_count("patch", patch), require_count("inputs", inputs)
        kind = {"device": device or torch.get_default_device(), "dtype": dtype}
        self.width = dim
        self.register_buffer("places", positions(grid, dim, **kind), persistent=False)
        self.embed = nn.utils.skip_init(nn.Linear, inputs * patch**2, dim, **kind)
        self.transformer = Transformer(dim, heads, layers, hidden=hidden, generator=generator, **kind)
        init_(self, generator)

    def forward(self, images: Tensor, context: Tensor | None = None) -> Tensor:
        """Represent patches.

        Args:
            images: (N, C, height, width).
            context: (N, T) bool, which patches are seen; all if None.

        Returns:
            (N, T, D), with zeros where nothing was seen.
        """
        side = self.grid * self.patch
        if images.ndim != 4 or images.shape[1:] != (self.inputs, side, side):
            raise ValueError(f"images must be (N, {self.inputs}, {side}, {side}), got shape {tuple(images.shape)}")
        tokens = self.embed(to_patches(require_points("images", images), self.patch)) + self.places
        if context is None:
            return self.transformer(tokens)
        _require_seen(context, tokens.shape[:2])
        # Seen patches to the front, and cut after the longest row: the rest costs nothing
        order = context.long().argsort(dim=-1, descending=True, stable=True)
        order = order[:, : int(context.sum(-1).max())] if has_values(context) else order
        seen, index = context.gather(1, order), order.unsqueeze(-1).expand(-1, -1, self.width)
        known = self.transformer(tokens.gather(1, index), ~seen) * seen.unsqueeze(-1)
        return torch.zeros_like(tokens).scatter(1, index, known)


class PatchPredictor(nn.Module):
    r"""From the representations of seen patches to those of all others: mask tokens ask at their places.

    .. math:: \text{Pred}(s_x)_k = W_\text{out}\, \text{Transformer}\big( t_j + p_j \big)_k, \qquad
        t_j = W_\text{in} s_{x,j} \text{ where seen}, \quad m \text{ elsewhere}

    with one learned vector m, the mask token. All tokens attend to each other, as in a masked auto-encoder's decoder.

    Args:
        grid: patches along a side.
        dim: of s_x.
        out: of what is predicted; ``dim`` if None.
        width: of the tokens in here, a multiple of 4: narrower than the encoder.
        heads: of the attention.
        layers: of the transformer.
        generator: where the weights come from.
        device: of the weights.
        dtype: of the weights.

    Raises:
        ValueError: sizes out of range; when called, representations or masks of another shape.

    Source: Assran and others, Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture
        (CVPR 2023), section 3, whose predictor handles one target block at a time; He and others, Masked Autoencoders
        Are Scalable Vision Learners (CVPR 2022), whose decoder handles all, as here.

    >>> predictor = PatchPredictor(4, 8, width=8, heads=2, generator=torch.Generator().manual_seed(0))
    >>> predictor(torch.zeros(5, 16, 8), torch.ones(5, 16, dtype=torch.bool)).shape
    torch.Size([5, 16, 8])
    """

    def __init__(
        self,
        grid: int,
        dim: int = 64,
        *,
        out: int | None = None,
        width: int = 32,
        heads: int = 4,
        layers: int = 1,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.dim, out = require_count("dim", dim), dim if out is None else require_count("out", out)
        kind = {"device": device or torch.get_default_device(), "dtype": dtype}
        self.register_buffer("places", positions(grid, width, **kind), persistent=False)
        self.enter = nn.utils.skip_init(nn.Linear, dim, width, **kind)
        self.mask = nn.Parameter(torch.empty(width, **kind))
        self.transformer = Transformer(width, heads, layers, generator=generator, **kind)
        self.leave = nn.utils.skip_init(nn.Linear, width, out, **kind)
        init_(self, generator)

    def reset_parameters(self) -> None:
        """Draw the mask token small."""
        nn.init.normal_(self.mask, std=0.02)

    def forward(self, s_x: Tensor, context: Tensor) -> Tensor:
        """Predict at all places, (N, T, out), from (N, T, D) and which of them are seen, (N, T) bool."""
        if s_x.ndim != 3 or s_x.shape[1:] != (len(self.places), self.dim):
            raise ValueError(f"s_x must be (N, {len(self.places)}, {self.dim}), got shape {tuple(s_x.shape)}")
        _require_seen(context, s_x.shape[:2])
        tokens = torch.where(context.unsqueeze(-1), self.enter(s_x), self.mask)
        return self.leave(self.transformer(tokens + self.places))


class Pixels(nn.Module):
    """The target of a masked auto-encoder: patches as they are, (N, T, C · size²).

    Args:
        size: of a patch, in pixels.
        normalise: give each patch mean 0 and variance 1, so that contrasts count and brightness does not.

    Source: He and others, Masked Autoencoders Are Scalable Vision Learners (CVPR 2022), section 4.1, "Reconstruction
        target".
    """

    def __init__(self, size: int, *, normalise: bool = False) -> None:
        super().__init__()
        self.size, self.normalise = require_count("size", size), normalise

    def forward(self, images: Tensor) -> Tensor:
        """Patches of pictures (N, C, height, width)."""
        patches = to_patches(images, self.size)
        return layer_norm(patches, patches.shape[-1:], eps=1e-6) if self.normalise else patches


class Pooled(nn.Module):
    """One vector for a picture, (N, D): the mean over its patches' representations, all of them seen.

    Args:
        encoder: such as a :class:`PatchEncoder`.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.width = encoder, encoder.width

    def forward(self, images: Tensor) -> Tensor:
        """The mean of (N, T, D) over T."""
        return self.encoder(images).mean(1)


def positions(
    grid: int, dim: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    r"""Vectors for the places of a grid, fixed: sines and cosines of row and of column at several wavelengths.

    .. math:: p = \big(\sin \omega_j r, \cos \omega_j r, \sin \omega_j c, \cos \omega_j c\big)_j, \qquad
        \omega_j = 10000^{-4j/D}

    Args:
        grid: places along a side.
        dim: D, a multiple of 4.
        device: of the result.
        dtype: of the result.

    Returns:
        (grid², D), row by row.

    Raises:
        ValueError: sizes out of range, D no multiple of 4.

    Source: Vaswani and others, Attention Is All You Need (2017), section 3.5, in two dimensions as in He and others,
        Masked Autoencoders Are Scalable Vision Learners (CVPR 2022), appendix A.1.

    >>> positions(2, 4)[1].round(decimals=2)
    tensor([0.0000, 1.0000, 0.8400, 0.5400])
    """
    require_count("grid", grid)
    if require_count("dim", dim) % 4:
        raise ValueError(f"dim must be a multiple of 4, got {dim}")
    kind = {"device": device, "dtype": dtype}
    omega = 10000 ** (-torch.arange(dim // 4, **kind) * 4 / dim)
    angle = torch.arange(grid, **kind).unsqueeze(-1) * omega
    side = torch.stack([angle.sin(), angle.cos()], -1)  # (grid, D/4, 2)
    rows, columns = side[:, None].expand(-1, grid, -1, -1), side.expand(grid, -1, -1, -1)
    return torch.cat([rows, columns], -1).flatten(2).flatten(0, 1)


def _require_seen(context: Tensor, shape: Sequence[int]) -> None:
    if context.dtype != torch.bool or context.shape != shape:
        raise ValueError(f"context must be bool {tuple(shape)}, got {context.dtype} {tuple(context.shape)}")
    if has_values(context) and not context.any(-1).all():
        raise ValueError("context must show at least one patch of each picture")
