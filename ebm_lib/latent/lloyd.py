r"""Lloyd's algorithm: K-means by coordinate descent, in the codes and in the prototypes by turns.

.. math:: \min_{W, z} \sum_i \lVert y_i - W z_i \rVert^2, \qquad z_i \text{ one-hot}
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.latent.prototypes import Search, cached, centred, require_enough, require_prototypes

WATCH_ABOVE = 0.5  # bounds are kept once they would spare this share of the samples
GATHER_BELOW = 0.7  # the samples of a block to look at are copied out if they are fewer than this share of it


class Round(NamedTuple):
    """One round of Lloyd's algorithm.

    Attributes:
        W: prototypes after the update, (D, K).
        codes: the nearest of the prototypes before it, (N,), int64.
        loss: mean of ‖y − W_k‖² with these codes and the new prototypes, in squared units of y.
        changed: how many codes are not those of the round before; in the first round, all.
        spread: the data's mean variance per coordinate, in squared units of y.
    """

    W: Tensor
    codes: Tensor
    loss: float
    changed: int
    spread: float


@torch.no_grad()
def lloyd_step(y: Tensor, W: Tensor, *, block_size: int | None = None) -> Round:
    r"""Lower the energy over the codes with the prototypes held, then over the prototypes with the codes held.

    .. math::
        k_i \leftarrow \operatorname*{argmin}_k \lVert y_i - W_k \rVert^2, \qquad
        W_k \leftarrow \frac{1}{n_k} \sum_{i: k_i = k} y_i

    A prototype without samples takes the sample of highest energy for its own, which lowers the loss further; if no
    sample of positive energy can be spared, it stays where it is.

    Args:
        y: data, (N, D).
        W: prototypes as columns, (D, K).
        block_size: samples in a block; None takes what fits in cache.

    Returns:
        The new prototypes, the codes and the loss.

    Raises:
        ValueError: as :func:`nearest`; fewer samples than prototypes.

    Source: Lloyd, Least squares quantization in PCM (IEEE Transactions on Information Theory 28, 1982).

    >>> y = torch.tensor([[0.0], [2.0], [9.0]])
    >>> lloyd_step(y, torch.tensor([[0.0, 9.0]]))
    Round(W=tensor([[1., 9.]]), codes=tensor([0, 0, 1]), loss=0.666..., changed=3, spread=14.888...)
    """
    require_prototypes(W)
    return next(lloyd(y, W, block_size=block_size))


@torch.no_grad()
def lloyd(y: Tensor, W: Tensor, *, block_size: int | None = None) -> Iterator[Round]:
    r"""Run Lloyd's algorithm round by round, each skipping the samples whose code provably cannot change.

    A sample's distance to its prototype grows by at most that prototype's move δ, its distance to the second nearest
    shrinks by at most the largest move. It is looked at again only when these bounds cross:

    .. math:: u + \delta_{k} \ge \max\!\big(l - \max_{j \ne k} \delta_j,\; \tfrac12 \min_{j \ne k}
        \lVert W_j - W_k \rVert\big)

    The bounds allow for rounding, so the codes are those of :func:`lloyd_step`, up to ties within rounding.

    Args:
        y: data, (N, D).
        W: prototypes as columns, (D, K), where to start.
        block_size: samples in a block; None takes what fits in cache.

    Yields:
        Rounds, without end: stop when no code changed. The codes are one tensor, updated in place.

    Raises:
        ValueError: as :func:`lloyd_step`.
        FloatingPointError: a squared distance overflows the dtype of y.

    Source: Hamerly, Making k-means even faster (SDM 2010).

    >>> rounds = lloyd(torch.tensor([[0.0], [2.0], [9.0]]), torch.tensor([[2.0, 9.0]]))
    >>> [next(rounds).changed for _ in range(2)]
    [3, 0]
    """
    require_prototypes(W)
    require_enough(y, W.shape[1])
    if y.shape[1] != W.shape[0]:
        raise ValueError(f"y must be (N, {W.shape[0]}), got shape {tuple(y.shape)}")
    state = _State(y, W, block_size)
    spread = state.total.item() / y.numel()
    while True:
        changed = state.reassign()
        yield Round(state.update(), state.codes, state.loss, changed, spread)


class _State:
    """What Lloyd's rounds carry along: codes, bounds, and the sums of each prototype's samples in double precision."""

    def __init__(self, y: Tensor, W: Tensor, block_size: int | None) -> None:
        self.y = y
        self.work = torch.promote_types(y.dtype, torch.float32)
        self.rows = list(cached(y, max(W.shape), block_size))
        self.W = W.T.to(y.device, torch.float64)
        self.mean, norm = centred(y, self.rows)
        self.total = norm.sum()
        self.norm = norm.to(self.work)
        self.radius = self.norm.max().sqrt()
        if not self.radius.square() < torch.finfo(self.work).max / 64:
            raise FloatingPointError(f"squared distances of y overflow {self.work}: rescale y or pass it as float64")
        self.codes = torch.full((len(y),), -1, device=y.device)
        self.sums, self.counts = torch.zeros_like(self.W), self.W.new_zeros(len(self.W))
        self.loss = math.inf
        self.turn = 0
        # Bounds on the distance to the own prototype and to the next; None while they would spare too few samples. That
        # is measured on one block a round, by how far apart the two distances are there.
        self.apart: tuple[Tensor, Tensor] | None = None
        self.upper: Tensor | None = None
        self.lower: Tensor | None = None

    def reassign(self) -> int:
        """Give each sample the code of its nearest prototype; return how many codes changed."""
        search = Search(self.W, self.mean, self.work)
        active, codes = self._active(), self.codes.clone()
        watch = self.upper is not None
        lowest, second = (torch.zeros_like(self.norm) if watch else None for _ in range(2))
        for number, rows in enumerate(self.rows):
            block, place = self.y[rows], rows
            if active is not None:
                at = active[rows].nonzero().squeeze(-1)
                if len(at) == 0:
                    continue
                if len(at) < GATHER_BELOW * len(block):
                    block, place = block.index_select(0, at), at + rows.start
                else:
                    active[rows] = True
            found, low, value, marks = search(block)
            codes[place] = found
            if watch:
                lowest[place], second[place] = low, search.second(value, found, marks)
            elif number == self.turn % len(self.rows):
                near, next_near = (v + self.norm[place] for v in (low, search.second(value, found, marks)))
                self.apart = found, next_near.clamp_(min=0).sqrt_() - near.clamp_(min=0).sqrt_()
        if watch:
            error = 8 * torch.finfo(self.work).eps * (self.norm + search.reach.to(self.work))
            upper = (lowest + self.norm + error).clamp_(min=0).sqrt_()
            lower = (second + self.norm - error).clamp_(min=0).sqrt_()
            self.upper = upper if active is None else torch.where(active, upper, self.upper)
            self.lower = lower if active is None else torch.where(active, lower, self.lower)
        changed = self._carry(codes)
        if (self.counts == 0).any():
            changed += self._populate()
        self.turn += 1
        return changed

    def update(self) -> Tensor:
        """Put each prototype at the mean of its samples; return the prototypes as columns, in the dtype of y."""
        held = self.counts.clamp(min=1)[:, None]
        about = self.sums - self.counts[:, None] * self.mean
        self.loss = max(0.0, ((self.total - (about.square() / held).sum()) / len(self.y)).item())
        new = torch.where(self.counts[:, None] > 0, self.sums / held, self.W)
        # A little more than the moves, for the rounding of the bounds they are added to
        extra = 2 * torch.finfo(self.work).eps * (self.radius + (new - self.mean).norm(dim=-1).max())
        move = ((new - self.W).norm(dim=-1) + extra).to(self.work)
        others = move.max().expand(len(move)).clone()
        others[move.argmax()] = move.topk(min(2, len(move))).values[-1]
        if self.upper is not None:
            self.upper += move[self.codes]
            self.lower -= others[self.codes]
        else:
            found, apart = self.apart
            if (apart > (move + others)[found]).double().mean() > WATCH_ABOVE:
                self.upper, self.lower = torch.full_like(self.norm, math.inf), torch.zeros_like(self.norm)
        self.W = new
        return new.T.to(self.y.dtype).contiguous()

    def _active(self) -> Tensor | None:
        """Tell whose code may change, (N,), or None for all."""
        if self.upper is None:
            return None
        gap = torch.cdist(self.W, self.W, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(math.inf).amin(-1)
        return self.upper >= torch.maximum(self.lower, (gap / 2 * (1 - 1e-6)).to(self.work)[self.codes])

    def _carry(self, codes: Tensor) -> int:
        """Take over the new codes, and carry the samples that changed from sum to sum; return how many did."""
        moved = torch.sub(codes, self.codes).nonzero().squeeze(-1)  # finds them faster than a comparison would
        if 4 * len(moved) > len(codes):  # quicker to add all up again
            self.sums.zero_()
            for rows in self.rows:
                self.sums.index_add_(0, codes[rows], self.y[rows].double())
        else:
            for at in moved.split(4096):
                samples = self.y.index_select(0, at).double()
                self.sums.index_add_(0, codes[at], samples).index_add_(0, self.codes[at], samples, alpha=-1)
        self.counts = torch.bincount(codes, minlength=len(self.counts)).double()
        self.codes.copy_(codes)
        return len(moved)

    def _populate(self) -> int:
        """Give each prototype without samples the sample of highest energy; return how many got one."""
        energy = torch.empty_like(self.norm)
        for rows in self.rows:
            energy[rows] = (self.y[rows].double() - self.W[self.codes[rows]]).square().sum(-1).to(self.work)
        empty = (self.counts == 0).nonzero().squeeze(-1).tolist()
        # A prototype's only sample is passed over, and there are at most K such.
        worst = energy.topk(min(len(energy), len(empty) + len(self.counts)))
        given = 0
        for value, i in zip(worst.values.tolist(), worst.indices.tolist(), strict=True):
            if given == len(empty) or value == 0:
                break
            old, new = int(self.codes[i]), empty[given]
            if self.counts[old] < 2:
                continue
            sample = self.y[i].double()
            self.sums[old] -= sample
            self.sums[new] += sample
            self.counts[old] -= 1
            self.counts[new] += 1
            self.codes[i] = new
            if self.upper is not None:
                self.upper[i] = math.inf
            given += 1
        return given
