r"""Matching: the energy of a set is that of the best way to hand its members out to slots.

.. math:: F_\infty = \min_\sigma \sum_o E_{\sigma(o)\,o}, \qquad F_\beta = -\frac{1}{\beta} \log \sum_\sigma
    e^{-\beta \sum_o E_{\sigma(o)\,o}}

over all σ that give each object o a slot of its own. The minimum takes cubic time, :func:`~ebm_lib.structured.match`;
the sum over all matchings, a permanent, takes exponential time, :func:`~ebm_lib.structured.matching_program`. With the
minimum a network may list what it sees in any order, :func:`~ebm_lib.structured.set_loss`.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.require import has_values, require_finite, require_points
from ebm_lib.structured.boxes import generalized_iou
from ebm_lib.structured.semiring import Semiring, of_temperature

MOST_SLOTS = 12  # of the exact sum: its states are sets of slots


class Matching(NamedTuple):
    """The best matching of objects and slots.

    Attributes:
        slot: which slot each object gets, (..., O) int64; −1 past the sample's objects.
        energy: the matched pairs' sum, (...), differentiable in the costs.
    """

    slot: Tensor
    energy: Tensor


def match(cost: Tensor, objects: Tensor | None = None) -> Matching:
    r"""Give each object a slot of its own so that the sum of the pairs' energies is least.

    .. math:: F_\infty = \min_\sigma \sum_o E_{\sigma(o)\,o}

    The gradient of the energy is 1 at the matched pairs and 0 elsewhere. The assignment is found on the CPU.

    Args:
        cost: energies E, (..., S slots, O objects); +inf forbids a pair.
        objects: (...) int, how many of the O columns are real in each sample, the first ones; all if None.

    Returns:
        Slots and energy; slots without an object are left over.

    Raises:
        ImportError: SciPy is missing.
        ValueError: NaN or −inf among the real columns, more objects than slots, a sample with no possible matching.

    Source: Kuhn, The Hungarian method for the assignment problem (1955); the minimum over permutations is that of
    Carion et al., End-to-End Object Detection with Transformers (ECCV 2020), equation 1.

    >>> match(torch.tensor([[1.0, 0.0], [5.0, 3.0], [3.0, 9.0]]))
    Matching(slot=tensor([2, 0]), energy=tensor(3.))
    """
    cost, real, objects = _padded(cost, objects)
    solve = _solver()
    slots, columns = cost.shape[-2:]
    table = cost.detach().reshape(objects.numel(), slots, columns).to("cpu", torch.float64).numpy()
    slot = torch.full((len(table), columns), -1)
    for sample, (energies, count) in enumerate(zip(table, objects.flatten().tolist(), strict=True)):
        try:
            rows, taken = solve(energies[:, :count])
        except ValueError:
            index = tuple(int(i) for i in torch.unravel_index(torch.tensor(sample), objects.shape))
            raise ValueError(
                f"cost must leave a possible matching: sample {index} has none, +inf forbids too many pairs"
            ) from None
        slot[sample, torch.from_numpy(taken)] = torch.from_numpy(rows)
    slot = slot.reshape(real.shape).to(cost.device)
    return Matching(slot, _matched(cost, slot, real).sum(-1))


def matching_program(cost: Tensor, semiring: Semiring, objects: Tensor | None = None) -> Tensor:
    r"""Free energy of all matchings, by dynamic programming over the sets of slots in use.

    .. math:: f_o(A) = \bigoplus_{s \in A} \big( f_{o-1}(A \setminus s) + E_{so} \big), \qquad
        F = \bigoplus_{|A| = O} f_O(A)

    with ⊕ the semiring's reduction: for few slots, 2^S of them. With a soft minimum, F is −1/β times the log of the
    permanent of :math:`e^{-\beta E}`; :func:`~ebm_lib.structured.occupation` gives each pair's probability.

    Args:
        cost: energies, (..., S, O) with S ≤ 12; +inf forbids a pair.
        semiring: reduces alternatives.
        objects: as :func:`~ebm_lib.structured.match`.

    Returns:
        F, (...); 0 without objects, +inf if no matching is possible.

    Raises:
        ValueError: NaN or −inf, more objects than slots, too many slots.

    >>> from ebm_lib.structured.semiring import Minimum
    >>> matching_program(torch.tensor([[1.0, 0.0], [5.0, 3.0], [3.0, 9.0]]), Minimum())
    tensor(3.)
    """
    cost, _, objects = _padded(cost, objects)
    slots, columns = cost.shape[-2:]
    if slots > MOST_SLOTS:
        raise ValueError(f"cost must have at most {MOST_SLOTS} slots for the sum over matchings, got {slots}")
    state = cost.new_zeros(*cost.shape[:-2], 1)
    totals = [state.squeeze(-1)]
    rank = {(): 0}
    for column in range(min(slots, columns)):
        used = list(itertools.combinations(range(slots), column + 1))
        before = torch.tensor([[rank[a[:i] + a[i + 1 :]] for i in range(column + 1)] for a in used], device=cost.device)
        members = torch.tensor(used, device=cost.device)
        state = semiring(state[..., before] + cost[..., column][..., members], -1)
        totals.append(semiring(state, -1))
        rank = {a: k for k, a in enumerate(used)}
    return torch.stack(totals, -1).gather(-1, objects.unsqueeze(-1)).squeeze(-1)


def matching_free_energy(cost: Tensor, beta: float = math.inf, objects: Tensor | None = None) -> Tensor:
    r"""Free energy of all matchings at an inverse temperature: exact, for at most 12 slots.

    .. math:: F_\beta = -\frac{1}{\beta} \log \sum_\sigma e^{-\beta \sum_o E_{\sigma(o)\,o}}

    Args:
        cost: energies, (..., S, O).
        beta: inverse temperature, > 0; ``inf`` takes the best matching, as :func:`~ebm_lib.structured.match`.
        objects: as :func:`~ebm_lib.structured.match`.

    Returns:
        F, (...).

    Raises:
        ValueError: beta not positive; as :func:`~ebm_lib.structured.matching_program`.

    >>> matching_free_energy(torch.zeros(3, 2), beta=1.0).exp()  # one of six matchings
    tensor(0.1667)
    """
    return matching_program(cost, of_temperature(beta), objects)


class SetLoss(NamedTuple):
    """The loss of a predicted set and its parts, each a sum over the scene: (...).

    Attributes:
        total: classes + 5 l1 + 2 giou with the default weights.
        classes: negative log-likelihood over all slots, that of "no object" weighted.
        l1: distance of matched boxes, summed over the four numbers.
        giou: 1 − GIoU of matched boxes.
        slot: which slot each object got, (..., O).
    """

    total: Tensor
    classes: Tensor
    l1: Tensor
    giou: Tensor
    slot: Tensor


def set_loss(
    class_energy: Tensor,
    boxes: Tensor,
    labels: Tensor,
    target_boxes: Tensor,
    objects: Tensor | None = None,
    *,
    slot: Tensor | None = None,
    l1: float = 5.0,
    giou: float = 2.0,
    no_object: float = 0.1,
) -> SetLoss:
    r"""DETR's loss: match slots and objects first, then train each slot towards what it was given.

    .. math::

        \hat\sigma = \arg\min_\sigma \sum_o \big[ -p_{\sigma(o)}(c_o) + B(b_o, \hat b_{\sigma(o)}) \big], \qquad
        L = \sum_o \big[ -\log p_{\hat\sigma(o)}(c_o) + B(b_o, \hat b_{\hat\sigma(o)}) \big]
        - \tfrac{1}{10} \sum_{s \text{ left over}} \log p_s(\varnothing)

    with :math:`p_s = \mathrm{softmax}(-E_s)` and :math:`B = 5 \lVert b - \hat b \rVert_1 + 2 (1 - \mathrm{GIoU})`.
    As in the paper the matching uses the probability and the loss its logarithm; the matching is held fixed under the
    derivative. The paper divides by the batch's number of objects: ``loss.total.sum() / objects.sum()``.

    Args:
        class_energy: (..., S, C + 1); the last class is "no object".
        boxes: predicted, (..., S, 4), centre and size.
        labels: (..., O) int; past the objects, anything.
        target_boxes: (..., O, 4).
        objects: (...) int, how many of the O are real; by the labels that are not negative if None.
        slot: (..., O) int, a fixed order to use in place of the matching.
        l1: weight of the L1 distance, also in the matching.
        giou: weight of 1 − GIoU, also in the matching.
        no_object: weight of the slots without an object.

    Returns:
        The loss, its parts and the matching, for each scene.

    Raises:
        ImportError: SciPy is missing, and no ``slot`` is given.
        ValueError: shapes that do not go together, values not finite, labels out of range, more objects than slots.

    Source: Carion et al., End-to-End Object Detection with Transformers (ECCV 2020), equations 1 and 2, appendix A.2.

    >>> box = torch.tensor([[0.5, 0.5, 0.2, 0.2]])
    >>> loss = set_loss(torch.tensor([[-30.0, 0.0], [0.0, -30.0]]), box.expand(2, 4), torch.tensor([0]), box)
    >>> loss.slot, round(loss.total.item(), 4)
    (tensor([0]), 0.0)
    """
    require_points("class_energy", class_energy)
    *batch, slots, kinds = class_energy.shape
    columns = labels.shape[-1] if labels.ndim else 0
    expected = {"boxes": (boxes, (*batch, slots, 4)), "labels": (labels, (*batch, columns))}
    expected["target_boxes"] = (target_boxes, (*batch, columns, 4))
    if slot is not None:
        expected["slot"] = (slot, (*batch, columns))
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
    if objects is None:
        objects = (labels >= 0).sum(-1)
    real = torch.arange(columns, device=labels.device) < objects.unsqueeze(-1)
    known = labels.long().masked_fill(~real, 0)
    if has_values(known) and ((known < 0) | (known >= kinds - 1)).any():
        raise ValueError(f"labels must lie in 0..{kinds - 2}, got {int(known.min())}..{int(known.max())}")
    target_boxes = torch.where(real.unsqueeze(-1), target_boxes, 0.0)
    log_p = torch.log_softmax(-class_energy, -1)
    nll = -log_p.gather(-1, known.unsqueeze(-2).expand(*batch, slots, columns))
    distance = (boxes.unsqueeze(-2) - target_boxes.unsqueeze(-3)).abs().sum(-1)
    apart = 1 - generalized_iou(boxes.unsqueeze(-2), target_boxes.unsqueeze(-3))
    if slot is None:
        slot = match((-(-nll).exp() + l1 * distance + giou * apart).detach(), objects).slot
    found, far, gap = (_matched(part, slot, real).sum(-1) for part in (nll, distance, apart))
    # An extra slot collects the padding and is cut off again.
    taken = torch.zeros(*batch, slots + 1, dtype=torch.bool, device=labels.device)
    taken = taken.scatter(-1, torch.where(real, slot, slots), True)[..., :slots]
    left_over = torch.where(taken, 0.0, -log_p[..., -1]).sum(-1)
    classes = found + no_object * left_over
    return SetLoss(classes + l1 * far + giou * gap, classes, far, gap, slot)


def _padded(cost: Tensor, objects: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Costs with 0 past the real columns, where those are, and their number, all checked."""
    if cost.ndim < 2 or not cost.is_floating_point():
        raise ValueError(f"cost must be floating point (..., S, O), got {cost.dtype} {tuple(cost.shape)}")
    *batch, slots, columns = cost.shape
    if objects is None:
        objects = torch.full(batch, columns, device=cost.device)
    if tuple(objects.shape) != tuple(batch) or objects.is_floating_point() or objects.dtype == torch.bool:
        raise ValueError(
            f"objects must be whole numbers of shape {tuple(batch)}, got {objects.dtype} {tuple(objects.shape)}"
        )
    objects = objects.long()
    if has_values(objects) and objects.numel():
        if objects.min() < 0 or objects.max() > columns:
            raise ValueError(f"objects must lie in 0..{columns}, got {int(objects.min())}..{int(objects.max())}")
        if objects.max() > slots:
            where = tuple((objects > slots).nonzero()[0].tolist())
            raise ValueError(f"objects must have a slot each: sample {where} has {objects[where]} for {slots} slots")
    real = torch.arange(columns, device=cost.device) < objects.unsqueeze(-1)
    cost = torch.where(real.unsqueeze(-2), cost, 0.0)
    require_finite("cost", cost, allow_posinf=True)
    return cost, real, objects


def _matched(energy: Tensor, slot: Tensor, real: Tensor) -> Tensor:
    """The energies (..., S, O) at the matched pairs, (..., O), 0 for padding."""
    if not energy.shape[-2]:  # no slot, hence no object
        return energy.new_zeros(real.shape)
    chosen = energy.gather(-2, torch.where(real, slot, 0).unsqueeze(-2)).squeeze(-2)
    return torch.where(real, chosen, 0.0)


def _solver() -> Callable:
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError(
            f"matching comes with a package that is not installed ({error}): pip install ebm-lib[matching]"
        ) from None
    return linear_sum_assignment
