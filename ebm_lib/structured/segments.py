r"""Segmentations: a sequence cut into labelled pieces, neither the cuts nor the labels known.

.. math:: E(z, y) = \sum_{s=1}^{S} e(b_s, b_{s+1}, y_s) + \sum_{s=1}^{S-1} V(y_s, y_{s+1}), \qquad
    0 = b_1 < b_2 < \dots < b_{S+1} = T

The T places are words' letters or an image's columns, the cuts b are the latent variable z, and y is the string of
labels, whose length S is free. A lattice of T + 1 nodes holds all segmentations as paths, an arc for each segment; a
recursion over its nodes minimises, or soft-minimises, over them in any :mod:`~ebm_lib.structured.semiring`.

In all functions here ``energy`` is (..., T, W, K): the entry (t, w, k) is the energy of a segment of label k that ends
with place t and is w + 1 places wide, so it covers the places t − w to t. What begins before place 0 is not looked at;
+inf forbids a segment. ``pairwise`` is (K, K), from a label to the one that follows, or None; ``lengths``, (...), says
how many places of each sample count. No places have one segmentation, without segments, of energy 0.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from ebm_lib.require import has_values, require_count, require_finite, require_nonempty
from ebm_lib.structured._require import require_labels, require_lengths
from ebm_lib.structured.semiring import Minimum, Semiring, of_temperature


class Segmentations(NamedTuple):
    """The best segmentations of each sample, the lowest first.

    Attributes:
        labels: (..., n, T) int64, one for each segment; −1 behind the last.
        widths: (..., n, T) int64, the segments' numbers of places; 0 behind the last.
        count: (..., n), how many segments there are.
        energy: (..., n); +inf where there are fewer than n segmentations, and then nothing stands in the others.
    """

    labels: Tensor
    widths: Tensor
    count: Tensor
    energy: Tensor


def segmentation(
    energy: Tensor,
    semiring: Semiring | None = None,
    *,
    pairwise: Tensor | None = None,
    lengths: Tensor | None = None,
) -> Tensor:
    r"""Free energy over all segmentations and all labels.

    .. math:: A_0 = 0, \qquad A_t(k) = \bigoplus_{w=1}^{W} \bigl[ e(t - w, t, k) + A_{t-w} \to k \bigr], \qquad
        F = \bigoplus_k A_T(k)

    in which :math:`A_t \to k` is :math:`\bigoplus_j [A_t(j) + V(j, k)]`, and V = 0 if there is no ``pairwise``.

    Args:
        energy: (..., T, W, K).
        semiring: :class:`~ebm_lib.structured.Minimum`, the default, gives F∞; ``SoftMinimum(beta)`` gives F_β.
        pairwise: (K, K), or None.
        lengths: (...) of integers, 0 to T; all T if not given.

    Returns:
        F, (...); +inf if there is no possible segmentation.

    Raises:
        ValueError: energies not (..., T, W, K) with W ≥ 1 and K ≥ 1, or NaN or −inf; a ``pairwise`` of another shape;
            lengths that are not integers from 0 to T.

    Source: Bottou, LeCun and Bengio, Global Training of Document Processing Systems Using Graph Transformer Networks
    (CVPR 1997); Sarawagi and Cohen, Semi-Markov Conditional Random Fields for Information Extraction (NIPS 2004).

    >>> energy = torch.tensor([[[1.0], [9.0]], [[1.0], [1.5]]])  # two places: apart 1 + 1, together 1.5
    >>> segmentation(energy)
    tensor(1.5000)
    """
    semiring = semiring or Minimum()
    batch = energy.shape[:-3]
    energy, pairwise, lengths = _prepare(energy, pairwise, lengths)
    nodes = torch.stack(list(_nodes(energy, pairwise, semiring)))
    free = nodes[-1] if lengths is None else nodes.gather(0, lengths.unsqueeze(0)).squeeze(0)
    return free.reshape(batch)


def best_segmentations(
    energy: Tensor, n: int = 1, *, pairwise: Tensor | None = None, lengths: Tensor | None = None
) -> Segmentations:
    r"""The n segmentations of lowest energy, each with its labels.

    Every node of the lattice keeps the n lowest ways to reach it, for each label if there is a ``pairwise``; the best
    n of a whole are made of such ways. Segmentations that differ in a cut but read the same count as two.

    Args:
        energy: (..., T, W, K).
        n: how many, ≥ 1.
        pairwise: (K, K), or None.
        lengths: (...) of integers, 0 to T.

    Returns:
        Labels, widths and energies, without derivative.

    Raises:
        ValueError: as :func:`~ebm_lib.structured.segmentation`; n below 1.

    >>> energy = torch.tensor([[[1.0], [9.0]], [[1.0], [1.5]]])
    >>> best_segmentations(energy, 2).widths
    tensor([[2, 0],
            [1, 1]])
    """
    require_count("n", n)
    batch = energy.shape[:-3]
    energy, pairwise, lengths = _prepare(energy.detach(), pairwise, lengths)
    places, width, samples, labels = energy.shape
    states = 1 if pairwise is None else labels
    across = energy.new_zeros(1, labels) if pairwise is None else pairwise.detach()
    sample = torch.arange(samples, device=energy.device)
    # ways[t]: (samples, states, n), the lowest energies up to node t; the state is the last label, if it matters.
    start = energy.new_full((samples, states, n), math.inf)
    start[:, 0, 0] = 0
    ways, origins = [start], []
    for t in range(places):
        reach = min(width, t + 1)
        before = torch.stack(ways[t + 1 - reach :][::-1], 1)  # the nearest node first, as energy has it
        move = across.expand(reach, states, labels)
        if reach == t + 1:  # the first segment follows no label
            move = torch.cat((move[:-1], torch.zeros_like(move[-1:])))
        added = energy[t, :reach].movedim(1, 0)[:, :, None, None]
        total = before.unsqueeze(-1) + move[:, :, None] + added  # (samples, w, states, n, labels)
        choices = total.flatten(1).unsqueeze(1) if states == 1 else total.flatten(1, 3).mT
        kept = min(n, choices.shape[-1])
        lowest, origin = torch.topk(choices, kept, -1, largest=False)
        ways.append(pad(lowest, (0, n - kept), value=math.inf))
        origins.append(pad(origin, (0, n - kept)))
    nodes = torch.stack(ways, 1)  # (samples, T + 1, states, n)
    node = torch.full_like(sample, places) if lengths is None else lengths
    lowest, slot = torch.topk(nodes[sample, node].flatten(1), n, -1, largest=False)
    node = torch.where(torch.isposinf(lowest), 0, node.unsqueeze(-1))
    found = []
    for _ in range(places):  # back along the arcs; at node 0 a way stands still
        moving = node > 0
        origin = torch.stack(origins, 1)[sample[:, None], (node - 1).clamp(min=0)].flatten(2)
        origin = origin.gather(-1, slot.unsqueeze(-1)).squeeze(-1)
        if states == 1:
            label, origin = origin % labels, origin // labels
        else:
            label = slot // n
        step = origin // (states * n) + 1
        found.append((torch.where(moving, label, -1), torch.where(moving, step, 0)))
        slot, node = origin % (states * n), torch.where(moving, node - step, 0)
    return _in_order(found, lowest, batch)


def spelling(
    energy: Tensor,
    labels: Tensor,
    semiring: Semiring | None = None,
    *,
    pairwise: Tensor | None = None,
    lengths: Tensor | None = None,
    label_lengths: Tensor | None = None,
) -> Tensor:
    r"""Free energy of a string of labels, over the segmentations that spell it.

    .. math:: A_0^0 = 0, \qquad A_t^s = \bigoplus_{w=1}^{W} \bigl[ e(t - w, t, y_s) + A_{t-w}^{s-1} \bigr], \qquad
        F(y) = A_T^S + \sum_{s=1}^{S-1} V(y_s, y_{s+1})

    Every segmentation spells one string, so reducing F(y) over all strings gives
    :func:`~ebm_lib.structured.segmentation`.

    Args:
        energy: (..., T, W, K).
        labels: the strings, (..., S) of integers, 0 to K−1; behind the end anything.
        semiring: as :func:`~ebm_lib.structured.segmentation`.
        pairwise: (K, K), or None.
        lengths: (...) of integers, 0 to T.
        label_lengths: (...) of integers, 0 to S; all S if not given.

    Returns:
        F(y), (...); +inf for a string that cannot be spelt: too long, too short, or forbidden.

    Raises:
        ValueError: as :func:`~ebm_lib.structured.segmentation`; labels of another shape, not integers or out of range.

    >>> energy = torch.tensor([[[1.0], [9.0]], [[1.0], [1.5]]])
    >>> spelling(energy, torch.tensor([0, 0]))
    tensor(2.)
    """
    semiring = semiring or Minimum()
    batch = energy.shape[:-3]
    energy, pairwise, lengths = _prepare(energy, pairwise, lengths)
    places, width, samples, _ = energy.shape
    if labels.shape[:-1] != batch or labels.ndim != len(batch) + 1:
        raise ValueError(f"labels must be {(*batch, 'S')}, got shape {tuple(labels.shape)}")
    if label_lengths is not None:
        require_lengths("label_lengths", label_lengths, batch, labels.shape[-1])
    labels = require_labels(labels, energy.shape[-1], label_lengths).reshape(samples, labels.shape[-1])
    size = labels.shape[-1]
    # Of each arc only the energy for the s-th label of the string is wanted: (T, W, samples, S).
    wanted = energy.gather(-1, labels.expand(places, width, -1, -1)) if size else energy[..., :0]
    node = torch.cat((energy.new_zeros(samples, 1), energy.new_full((samples, size), math.inf)), -1)
    nodes = [node]
    for t in range(places):
        reach = min(width, t + 1)
        before = torch.stack(nodes[t + 1 - reach :][::-1])[..., :-1]
        nodes.append(pad(semiring(before + wanted[t, :reach], 0), (1, 0), value=math.inf))
    stacked = torch.stack(nodes)  # (T + 1, samples, S + 1)
    sample = torch.arange(samples, device=energy.device)
    end = torch.full_like(sample, places) if lengths is None else lengths
    last = torch.full_like(sample, size) if label_lengths is None else label_lengths.reshape(-1)
    free = stacked[end, sample, last]
    if pairwise is not None and size > 1:
        between = pairwise[labels[:, :-1], labels[:, 1:]]
        inside = torch.arange(1, size, device=energy.device) < last.unsqueeze(-1)
        free = free + torch.where(inside, between, 0.0).sum(-1)
    return free.reshape(batch)


def spelling_loss(
    energy: Tensor,
    labels: Tensor,
    beta: float = 1.0,
    *,
    pairwise: Tensor | None = None,
    lengths: Tensor | None = None,
    label_lengths: Tensor | None = None,
) -> Tensor:
    r"""Loss of a lattice that is told the string and not the cuts: its energy, against that of all strings.

    .. math:: \mathcal L = F_\beta(y) - F_\beta = -\frac{1}{\beta} \log P_\beta(y), \qquad
        \frac{\partial \mathcal L}{\partial e} = P(\text{segment} \mid y) - P(\text{segment})

    The negative log-likelihood of a graph transformer, in units of energy; with β = ∞ the perceptron loss
    F∞(y) − F∞, whose slopes are the best path that spells y less the best path of all.

    Args:
        energy: (..., T, W, K).
        labels: the right strings, (..., S).
        beta: inverse temperature, > 0; ``inf`` gives the perceptron loss.
        pairwise: (K, K), or None.
        lengths: (...) of integers, 0 to T.
        label_lengths: (...) of integers, 0 to S.

    Returns:
        One value per sample, (...), ≥ 0 up to rounding.

    Raises:
        ValueError: as :func:`~ebm_lib.structured.spelling`; β not positive; a string that cannot be spelt.

    Source: Bottou, LeCun and Bengio (CVPR 1997); LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to
    Document Recognition (1998), section VI, discriminative forward training.

    >>> energy = torch.zeros(1, 1, 2)  # one place, two labels
    >>> spelling_loss(energy, torch.tensor([0]))
    tensor(0.6931)
    """
    semiring = of_temperature(beta)
    right = spelling(energy, labels, semiring, pairwise=pairwise, lengths=lengths, label_lengths=label_lengths)
    if has_values(right) and torch.isposinf(right).any():
        raise ValueError(
            f"every string must have a possible segmentation: {int(torch.isposinf(right).sum())} of {right.numel()} "
            "have none"
        )
    return right - segmentation(energy, semiring, pairwise=pairwise, lengths=lengths)


def _nodes(energy: Tensor, pairwise: Tensor | None, semiring: Semiring) -> Iterator[Tensor]:
    """A_0 to A_T, each (samples,); energy is (T, W, samples, K)."""
    _, width, samples, labels = energy.shape
    start = energy.new_zeros(samples)
    yield start
    if pairwise is None:
        nodes, arcs = [start], [semiring(at, -1) for at in energy.unbind(0)]
        for t, arc in enumerate(arcs):
            reach = min(width, t + 1)
            nodes.append(semiring(torch.stack(nodes[t + 1 - reach :][::-1]) + arc[:reach], 0))
            yield nodes[-1]
        return
    moves = [start.unsqueeze(-1).expand(-1, labels)]  # what comes before a segment of each label
    for t, at in enumerate(energy.unbind(0)):
        reach = min(width, t + 1)
        node = semiring(torch.stack(moves[t + 1 - reach :][::-1]) + at[:reach], 0)
        moves.append(semiring(node.unsqueeze(-1) + pairwise, 1))
        yield semiring(node, -1)


def _in_order(found: list[tuple[Tensor, Tensor]], energy: Tensor, batch: torch.Size) -> Segmentations:
    """Turn segments that were found from the last to the first around, the first in front."""
    n = energy.shape[-1]
    if not found:
        nothing = torch.empty((*batch, n, 0), dtype=torch.long, device=energy.device)
        count = torch.zeros((*batch, n), dtype=torch.long, device=energy.device)
        return Segmentations(nothing, nothing, count, energy.reshape(*batch, n))
    labels, widths = (torch.stack(part, -1) for part in zip(*found, strict=True))
    count = (widths > 0).sum(-1)
    order = count.unsqueeze(-1) - 1 - torch.arange(len(found), device=energy.device)
    labels = torch.where(order < 0, -1, labels.gather(-1, order.clamp(min=0)))
    widths = torch.where(order < 0, 0, widths.gather(-1, order.clamp(min=0)))
    shape, whole = (*batch, n), (*batch, n, len(found))
    return Segmentations(labels.reshape(whole), widths.reshape(whole), count.reshape(shape), energy.reshape(shape))


def _prepare(
    energy: Tensor, pairwise: Tensor | None, lengths: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Check; return the energy as (T, W, samples, K), blank where it does not count, and the lengths as (samples,)."""
    if energy.ndim < 3:
        raise ValueError(f"energy must be (..., T, W, K), got shape {tuple(energy.shape)}")
    if not energy.is_floating_point():
        raise ValueError(f"energy must be floating point, got {energy.dtype}")
    require_nonempty("energy", energy, -1)
    require_nonempty("energy", energy, -2)
    *batch, places, width, labels = energy.shape
    place = torch.arange(places, device=energy.device)
    counts = (torch.arange(width, device=energy.device) <= place[:, None]).expand(*batch, -1, -1)
    if lengths is not None:
        lengths = require_lengths("lengths", lengths, energy.shape[:-3], places)
        counts = counts & (place < lengths.unsqueeze(-1)).unsqueeze(-1)
    energy = torch.where(counts.unsqueeze(-1), energy, 0.0)
    require_finite("energy", energy, allow_posinf=True)
    if pairwise is not None:
        if pairwise.shape != (labels, labels):
            raise ValueError(f"pairwise must be (K, K) with K = {labels}, got shape {tuple(pairwise.shape)}")
        require_finite("pairwise", pairwise, allow_posinf=True)
    energy = energy.reshape(math.prod(batch), places, width, labels).movedim(0, 2)
    return energy, pairwise, None if lengths is None else lengths.reshape(-1)
