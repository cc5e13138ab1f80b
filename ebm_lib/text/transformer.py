r"""A transformer encoder in one page: attention, a perceptron, and a sum around each of them.

It maps tokens to as many tokens, (..., T, D) to (..., T, D), and treats them as a set: permuting the tokens permutes
the result. Order, where it matters, is added outside, as position vectors.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ebm_lib.nn import init_
from ebm_lib.require import has_values, require_count, require_nonempty


class Attention(nn.Module):
    r"""Multi-head attention: each token asks, every token offers a key and a value, softmax weighs the values.

    .. math::

        A_h = \operatorname{softmax}\!\left(Q_h K_h^\top / \sqrt{D/H}\right), \qquad
        \text{result} = [A_1 V_1, \dots, A_H V_H]\, W

    The weights are a Gibbs distribution over tokens, with energy :math:`-q \cdot k` and :math:`\beta = \sqrt{H/D}`.

    Args:
        dim: D, of the tokens.
        heads: H, which divides D; each head has its own queries, keys and values of dimension D/H.
        device: of the weights.
        dtype: of the weights.

    Raises:
        ValueError: sizes below 1, or heads that do not divide ``dim``; when called, see :meth:`weights`.

    Source: Vaswani and others, Attention Is All You Need (2017), section 3.2.

    >>> attention = init_(Attention(4, 2), torch.Generator().manual_seed(0))
    >>> x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    >>> attention(x).shape, attention.weights(x).sum(-1).round(decimals=4)
    (torch.Size([3, 4]), tensor([[1., 1., 1.],
            [1., 1., 1.]], grad_fn=<RoundBackward1>))
    """

    def __init__(
        self, dim: int, heads: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.dim, self.heads = require_count("dim", dim), require_count("heads", heads)
        if dim % heads:
            raise ValueError(f"heads must divide dim={dim}, got {heads}")
        device = device or torch.get_default_device()
        self.query, self.key, self.value, self.out = (
            nn.utils.skip_init(nn.Linear, dim, dim, device=device, dtype=dtype) for _ in range(4)
        )

    def forward(self, x: Tensor, memory: Tensor | None = None, padding: Tensor | None = None) -> Tensor:
        """Attend from ``x`` to ``memory``.

        Args:
            x: (..., T, D), the tokens that ask.
            memory: (..., S, D), the tokens that offer; ``x`` itself if None.
            padding: (..., S) bool, True where ``memory`` holds no token.

        Returns:
            (..., T, D).
        """
        memory, seen = self._check(x, memory, padding)
        q, k, v = self._split(self.query(x)), self._split(self.key(memory)), self._split(self.value(memory))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return self.out(mixed.transpose(-3, -2).flatten(-2))

    def weights(self, x: Tensor, memory: Tensor | None = None, padding: Tensor | None = None) -> Tensor:
        """How much each token of ``x`` looks at each token of ``memory``, to be drawn.

        Args:
            x: (..., T, D).
            memory: (..., S, D); ``x`` itself if None.
            padding: (..., S) bool, True where ``memory`` holds no token.

        Returns:
            (..., H, T, S); each row sums to one.

        Raises:
            ValueError: tokens of another dimension, or padding of another shape, or that leaves no token.
        """
        memory, seen = self._check(x, memory, padding)
        logits = self._split(self.query(x)) @ self._split(self.key(memory)).transpose(-1, -2)
        logits = logits / math.sqrt(self.dim // self.heads)
        return (logits if seen is None else logits.masked_fill(~seen, -math.inf)).softmax(-1)

    def _split(self, x: Tensor) -> Tensor:
        """(..., T, D) to (..., H, T, D/H)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)

    def _check(self, x: Tensor, memory: Tensor | None, padding: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The memory, and which of its tokens are seen, (..., 1, 1, S)."""
        memory = x if memory is None else memory
        _require_tokens("x", x, self.dim)
        require_nonempty("memory", _require_tokens("memory", memory, self.dim), -2)
        if padding is None:
            return memory, None
        if padding.dtype != torch.bool or padding.shape != memory.shape[:-1]:
            expected = tuple(memory.shape[:-1])
            raise ValueError(f"padding must be bool of shape {expected}, got {padding.dtype} {tuple(padding.shape)}")
        if has_values(padding) and padding.all(-1).any():
            raise ValueError("padding must leave at least one token in each sample")
        return memory, ~padding[..., None, None, :]


class Block(nn.Module):
    r"""One layer: the tokens talk to each other, then each thinks for itself.

    .. math::

        x \leftarrow x + \mathrm{Attention}(\mathrm{norm}(x)), \qquad x \leftarrow x + \mathrm{MLP}(\mathrm{norm}(x))

    Args:
        dim: D, of the tokens.
        heads: of the attention.
        hidden: width of the perceptron, 4 D if None; its activation is GELU.
        device: of the weights.
        dtype: of the weights.

    Source: Xiong and others, On Layer Normalization in the Transformer Architecture (2020): the norm before each part.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        device = device or torch.get_default_device()
        hidden = 4 * dim if hidden is None else require_count("hidden", hidden)
        self.attention = Attention(dim, heads, device=device, dtype=dtype)
        self.before_attention = nn.LayerNorm(dim, device=device, dtype=dtype)
        self.before_mlp = nn.LayerNorm(dim, device=device, dtype=dtype)
        self.up = nn.utils.skip_init(nn.Linear, dim, hidden, device=device, dtype=dtype)
        self.down = nn.utils.skip_init(nn.Linear, hidden, dim, device=device, dtype=dtype)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Map tokens (..., T, D) to tokens of the same shape."""
        x = x + self.attention(self.before_attention(x), padding=padding)
        return x + self.down(F.gelu(self.up(self.before_mlp(x))))


class Transformer(nn.Module):
    r"""A stack of blocks and a last norm: tokens in, as many tokens out.

    Without positions it is equivariant to permutations, :math:`f(Px) = P f(x)`, not invariant to them.

    Args:
        dim: D, of the tokens.
        heads: of each block's attention; divides ``dim``.
        layers: how many blocks.
        hidden: width of each block's perceptron, 4 D if None.
        generator: where the weights come from (see :func:`ebm_lib.nn.init_`).
        device: of the weights.
        dtype: of the weights.

    Raises:
        ValueError: sizes below 1, or heads that do not divide ``dim``; when called, tokens of another dimension, or
            padding of another shape, or that leaves no token.

    Source: Vaswani and others, Attention Is All You Need (2017); LeCun, Energy-Based Models, part 1 (NYU Deep
        Learning, spring 2020), "Self-Supervised Learning works very well for text".

    >>> encoder = Transformer(8, 2, 1, generator=torch.Generator().manual_seed(0))
    >>> x = torch.randn(5, 3, 8, generator=torch.Generator().manual_seed(1))
    >>> torch.allclose(encoder(x.flip(1)), encoder(x).flip(1), atol=1e-5)
    True
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        layers: int,
        *,
        hidden: int | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        count = require_count("layers", layers)
        self.blocks = nn.ModuleList(Block(dim, heads, hidden, device=device, dtype=dtype) for _ in range(count))
        self.last_norm = nn.LayerNorm(dim, device=device or torch.get_default_device(), dtype=dtype)
        init_(self, generator)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Map tokens to tokens.

        Args:
            x: (..., T, D).
            padding: (..., T) bool, True where there is no token; what stands there changes no other token's result.

        Returns:
            (..., T, D).
        """
        _require_tokens("x", x, self.last_norm.normalized_shape[0])
        for block in self.blocks:
            x = block(x, padding)
        return self.last_norm(x)


def _require_tokens(name: str, tokens: Tensor, dim: int) -> Tensor:
    if tokens.ndim < 2 or tokens.shape[-1] != dim:
        raise ValueError(f"{name} must hold tokens (..., T, {dim}), got shape {tuple(tokens.shape)}")
    return tokens
