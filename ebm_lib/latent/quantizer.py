r"""A codebook: vectors replaced by the nearest of K entries, which follow the vectors.

.. math:: q(h) = W_{\check k}, \qquad \check k = \operatorname*{argmin}_k \lVert h - W_k \rVert^2
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ebm_lib.data.draw import uniform
from ebm_lib.latent.model import require_last
from ebm_lib.latent.prototypes import nearest
from ebm_lib.nn import init_
from ebm_lib.require import require_count, require_points


class Usage(NamedTuple):
    """How a codebook is used.

    Attributes:
        share: of each code, (K,), summing to one.
        rate: entropy of the shares, in bits a code: what an ideal coder that knows them needs.
        perplexity: 2^rate, from 1 to K: as many codes used evenly have the same rate.
        dead: number of codes that are never used.
    """

    share: Tensor
    rate: float
    perplexity: float
    dead: int


class Quantized(NamedTuple):
    """Vectors and the codebook entries nearest to them.

    Attributes:
        value: the entries, (..., L); their gradient goes to the vectors as if nothing had happened to them.
        codes: their numbers, (...), int64.
        commitment: ‖h − sg(W_k)‖², (...): its gradient moves the vectors towards the entries.
        codebook: ‖sg(h) − W_k‖², (...): its gradient moves the entries towards the vectors.
    """

    value: Tensor
    codes: Tensor
    commitment: Tensor
    codebook: Tensor


def usage(codes: Tensor, K: int) -> Usage:
    r"""Measure how evenly K codes are used.

    .. math:: \text{rate} = -\sum_k p_k \log_2 p_k \;\le\; \log_2 K

    Args:
        codes: numbers from 0 to K − 1, any shape.
        K: size of the codebook.

    Returns:
        Shares, rate, perplexity, dead codes.

    Raises:
        ValueError: no codes, not whole numbers, or out of range.

    >>> usage(torch.tensor([0, 0, 1, 1]), 4)
    Usage(share=tensor([0.5000, 0.5000, 0.0000, 0.0000]), rate=1.0, perplexity=2.0, dead=2)
    """
    require_count("K", K)
    if codes.numel() == 0 or codes.is_floating_point() or codes.dtype == torch.bool:
        raise ValueError(f"codes must be whole numbers, at least one, got {codes.dtype} of {tuple(codes.shape)}")
    if codes.min() < 0 or codes.max() >= K:
        raise ValueError(f"codes must lie in 0..{K - 1}, got {int(codes.min())}..{int(codes.max())}")
    share = torch.bincount(codes.flatten(), minlength=K).double() / codes.numel()
    rate = torch.special.entr(share).sum().item() / math.log(2)
    return Usage(share.to(torch.get_default_dtype()), rate, 2**rate, int((share == 0).sum()))


def straight_through(vector: Tensor, value: Tensor) -> Tensor:
    r"""Return ``value``, with the gradient of ``vector``: a step of a staircase treated as a ramp.

    .. math:: h + \text{sg}(q - h)

    Args:
        vector: h, what gets the gradient, (...).
        value: q, what is returned, (...).

    Raises:
        ValueError: shapes that differ.

    Source: Bengio, Léonard and Courville, Estimating or Propagating Gradients Through Stochastic Neurons for
        Conditional Computation (2013).

    >>> h = torch.tensor([0.4], requires_grad=True)
    >>> q = straight_through(h, h.round())
    >>> q.item(), torch.autograd.grad(3 * q, h)
    (0.0, (tensor([3.]),))
    """
    if vector.shape != value.shape:
        raise ValueError(f"value must have the shape of vector, {tuple(vector.shape)}, got {tuple(value.shape)}")
    return _StraightThrough.apply(vector, value)


class _StraightThrough(torch.autograd.Function):
    """Not written as a sum, which would return the value with rounding errors of the vector's size."""

    generate_vmap_rule = True

    @staticmethod
    def forward(vector: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: object, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class VectorQuantizer(nn.Module):
    r"""A codebook of K vectors, learned by gradient or by a moving average of what falls to each.

    .. math::

        n_k \leftarrow \gamma n_k + (1 - \gamma) \sum_i [k_i = k], \qquad
        s_k \leftarrow \gamma s_k + (1 - \gamma) \sum_{i: k_i = k} h_i, \qquad W_k = \frac{s_k}{n_k}

    With γ = 0 and all the data in a batch, that is a round of K-means. A code whose average use falls below
    ``revive_below`` of an even share is dead: it is set onto a random vector of the batch, with an even share.

    Args:
        L: dimensions of a vector.
        K: size of the codebook.
        decay: γ in [0, 1); None learns the codebook by the gradient of :class:`Quantized`'s ``codebook``.
        revive_below: share of even use below which a code is revived, in [0, 1); 0 revives none.
        generator: where the codebook comes from at first, N(0, 1).
        dtype: its dtype.
        device: where it lives.

    Attributes:
        W: the codebook, entries as columns, (L, K).
        count: average use n_k, (K,), in vectors a batch.

    Raises:
        ValueError: sizes or options out of range; in every method, vectors of another dimension or not finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods vs
        Regularized/Architectural Methods" (A2); van den Oord, Vinyals and Kavukcuoglu, Neural Discrete Representation
        Learning (NeurIPS 2017), with the moving average of its appendix.

    >>> book = VectorQuantizer(1, 2)
    >>> book.set_codebook(torch.tensor([[0.0, 1.0]]))
    >>> book(torch.tensor([[0.9]])).codes
    tensor([1])
    """

    def __init__(
        self,
        L: int,
        K: int,
        *,
        decay: float | None = 0.99,
        revive_below: float = 0.01,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.L, self.K = require_count("L", L), require_count("K", K)
        for name, number in (("decay", decay), ("revive_below", revive_below)):
            if number is not None and not 0 <= number < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {number}")
        self.decay, self.revive_below = decay, revive_below
        self.W = nn.Parameter(torch.empty(L, K, dtype=dtype, device=device), requires_grad=decay is None)
        self.register_buffer("count", torch.ones(K, dtype=dtype, device=device))
        init_(self, generator)

    def reset_parameters(self) -> None:
        """Draw the codebook anew, from N(0, 1)."""
        self.W.normal_(0.0, 1.0)

    @torch.no_grad()
    def set_codebook(self, W: Tensor) -> None:
        """Replace the codebook by ``W``, (L, K), and forget how it was used."""
        if W.shape != self.W.shape:
            raise ValueError(f"W must be {tuple(self.W.shape)}, got {tuple(W.shape)}")
        self.W.copy_(require_points("W", W))
        self.count.fill_(1.0)

    def forward(self, h: Tensor) -> Quantized:
        """Find the nearest entry for vectors h, (..., L)."""
        codes = nearest(require_last("h", h, self.L).detach(), self.W.detach()).codes
        entry = self.W.T[codes]
        commitment = (h - entry.detach()).square().sum(-1)
        codebook = (h.detach() - entry).square().sum(-1)
        return Quantized(straight_through(h, entry.detach()), codes, commitment, codebook)

    @torch.no_grad()
    def observe(self, h: Tensor, codes: Tensor, *, generator: torch.Generator | None = None) -> int:
        """Let the codebook follow a batch, and revive its dead codes.

        Args:
            h: vectors, (..., L).
            codes: the numbers of the entries nearest to them, (...).
            generator: where the draws for revivals come from.

        Returns:
            How many codes were revived.

        Raises:
            ValueError: ``codes`` of another leading shape than h.
        """
        require_last("h", h, self.L)
        if codes.shape != h.shape[:-1]:
            raise ValueError(f"codes must be {tuple(h.shape[:-1])}, one for each vector, got {tuple(codes.shape)}")
        h, codes = h.reshape(-1, self.L), codes.flatten()
        decay = 0.99 if self.decay is None else self.decay
        used = torch.bincount(codes, minlength=self.K).to(self.W)
        count = decay * self.count + (1 - decay) * used
        if self.decay is not None:
            sums = torch.zeros_like(self.W.T).index_add_(0, codes, h)
            moved = decay * self.W.T * self.count[:, None] + (1 - decay) * sums
            # An entry nothing fell to stays: its sum and count shrink alike, until the count is 0.
            self.W.copy_(torch.where(used[:, None] > 0, moved / count.clamp(min=1e-30)[:, None], self.W.T).T)
        self.count.copy_(count)
        even = len(h) / self.K
        dead = (self.count < self.revive_below * even).nonzero().squeeze(-1)
        if len(dead):
            at = (len(h) * uniform((len(dead), 1), generator, torch.float64, h.device)).long().squeeze(-1)
            self.W[:, dead] = h[at].T
            self.count[dead] = even
        return len(dead)
