"""Matchings against all permutations, boxes against closed forms and a grid of pixels, precision of hand-made cases."""

import itertools
import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_lib.structured.boxes import average_precision, box_iou, generalized_iou
from ebm_lib.structured.matching import match, matching_free_energy, matching_program, set_loss
from ebm_lib.structured.semiring import Minimum, Sampled, SoftMinimum, occupation

INF = math.inf


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_boxes(*shape, seed=0):
    u = torch.rand(*shape, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([u[..., :2], 0.05 + 0.4 * u[..., 2:]], -1)


def matchings(cost):
    """Every way to give the objects slots, with its energy."""
    slots, objects = cost.shape
    for sigma in itertools.permutations(range(slots), objects):
        yield sigma, sum(cost[s, o].item() for o, s in enumerate(sigma))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(0, 5), st.integers(0, 99), st.booleans())
def test_match_is_the_minimum_over_all_matchings(slots, objects, seed, forbid):
    objects = min(slots, objects)
    cost = random(slots, objects, seed=seed)
    if forbid:
        cost = cost.masked_fill(random(slots, objects, seed=seed + 100) > 0.6, INF)
    best, sigma = min((energy, sigma) for sigma, energy in matchings(cost))
    assert matching_free_energy(cost).item() == pytest.approx(best)
    if math.isinf(best):
        with pytest.raises(ValueError, match=r"sample \(\) has none"):
            match(cost)
    else:
        found = match(cost)
        assert found.energy.item() == pytest.approx(best)
        assert tuple(found.slot.tolist()) == sigma


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(0, 5), st.integers(0, 99), st.sampled_from([0.2, 1.0, 7.0]))
def test_free_energy_is_the_log_of_the_sum_over_all_matchings(slots, objects, seed, beta):
    objects = min(slots, objects)
    cost = random(slots, objects, seed=seed)
    listed = list(matchings(cost))
    energies = torch.tensor([energy for _, energy in listed], dtype=torch.float64)
    truth = -torch.logsumexp(-beta * energies, 0) / beta
    torch.testing.assert_close(matching_free_energy(cost, beta), truth)
    marginal = torch.zeros_like(cost)
    for (sigma, _), weight in zip(listed, torch.softmax(-beta * energies, 0), strict=True):
        for o, s in enumerate(sigma):
            marginal[s, o] += weight
    torch.testing.assert_close(occupation(lambda c: matching_free_energy(c, beta), cost)[0], marginal)


def test_free_energy_counts_matchings_and_respects_impossible_ones():
    assert matching_free_energy(torch.zeros(12, 3, dtype=torch.float64), 1.0).item() == pytest.approx(
        -math.log(12 * 11 * 10)
    )
    cost = torch.tensor([[0.0, INF], [INF, INF]], requires_grad=True)
    free = matching_free_energy(cost, 1.0)
    assert free == INF
    (slope,) = torch.autograd.grad(free, cost)
    assert not slope.isnan().any()


def test_a_sampled_matching_is_a_matching_and_as_frequent_as_it_should():
    cost = random(3, 2).expand(4000, 3, 2)
    semiring = Sampled(1.0, torch.Generator().manual_seed(0))
    (drawn,) = occupation(lambda c: matching_program(c, semiring), cost)
    assert (drawn.sum(-2) == 1).all()
    assert (drawn.sum(-1) <= 1).all()
    (marginal,) = occupation(lambda c: matching_program(c, SoftMinimum(1.0)), cost[0])
    torch.testing.assert_close(drawn.mean(0), marginal, atol=0.03, rtol=0)


def test_the_derivative_of_the_energy_is_the_matching():
    cost = random(2, 3, 6, 4).requires_grad_()
    found = match(cost)
    (slope,) = torch.autograd.grad(found.energy.sum(), cost)
    assert torch.equal(slope, torch.zeros_like(slope).scatter(-2, found.slot.unsqueeze(-2), 1.0))
    (other,) = occupation(lambda c: matching_program(c, Minimum()), cost)
    assert torch.equal(slope, other)


def test_padded_samples_equal_one_by_one():
    cost = random(2, 3, 5, 4)
    counts = torch.tensor([[0, 1, 2], [3, 4, 2]])
    cost = cost.masked_fill(torch.arange(4) >= counts[..., None, None], math.nan).requires_grad_()
    found, free = match(cost, counts), matching_free_energy(cost, 2.0, counts)
    for i, j in itertools.product(range(2), range(3)):
        k = int(counts[i, j])
        alone = match(cost[i, j, :, :k])
        assert found.slot[i, j].tolist() == alone.slot.tolist() + [-1] * (4 - k)
        torch.testing.assert_close(found.energy[i, j], alone.energy)
        torch.testing.assert_close(free[i, j], matching_free_energy(cost[i, j, :, :k], 2.0))
    (slope,) = torch.autograd.grad((found.energy + free).sum(), cost)
    assert slope.isfinite().all()
    assert found.energy[0, 0] == 0


@pytest.mark.parametrize("shape", [(3, 4, 0), (0, 4, 2), (3, 0, 0)])
def test_nothing_to_match(shape):
    found = match(torch.zeros(shape))
    assert found.slot.shape == (shape[0], shape[2])
    assert torch.equal(found.energy, torch.zeros(shape[0]))
    assert torch.equal(matching_free_energy(torch.zeros(shape)), torch.zeros(shape[0]))


def test_match_refuses():
    with pytest.raises(ValueError, match="NaN|nan"):
        match(torch.tensor([[math.nan]]))
    with pytest.raises(ValueError, match="-inf"):
        match(torch.tensor([[-INF]]))
    with pytest.raises(ValueError, match=r"sample \(1,\) has 3 for 2 slots"):
        match(torch.zeros(2, 2, 3), torch.tensor([2, 3]))
    with pytest.raises(ValueError, match=r"sample \(1,\) has none"):
        match(torch.tensor([[[0.0]], [[INF]]]))
    with pytest.raises(ValueError, match="must lie in"):
        match(torch.zeros(2, 2, 2), torch.tensor([-1, 1]))
    with pytest.raises(ValueError, match="whole numbers"):
        match(torch.zeros(2, 2, 2), torch.tensor(1))
    with pytest.raises(ValueError, match="at most 12"):
        matching_free_energy(torch.zeros(13, 1))


def test_without_scipy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r"pip install ebm-lib\[matching\]"):
        match(torch.zeros(1, 1))


@pytest.mark.parametrize(
    ("a", "b", "iou", "giou"),
    [
        ((0.5, 0.5, 0.4, 0.2), (0.5, 0.5, 0.4, 0.2), 1.0, 1.0),
        ((0.5, 0.5, 1.0, 1.0), (0.4, 0.6, 0.5, 0.5), 0.25, 0.25),  # nested
        ((0.25, 0.5, 0.5, 1.0), (0.75, 0.5, 0.5, 1.0), 0.0, 0.0),  # side by side: their hull is their union
        ((0.5, 0.5, 1.0, 1.0), (2.5, 0.5, 1.0, 1.0), 0.0, -1 / 3),  # a gap of one
        ((0.0, 0.0, 2.0, 2.0), (1.0, 1.0, 2.0, 2.0), 1 / 7, 1 / 7 - 2 / 9),
        ((0.5, 0.5, 0.0, 0.0), (0.5, 0.5, 0.0, 0.0), 0.0, 0.0),
    ],
)
def test_overlap_in_closed_form(a, b, iou, giou):
    a, b = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    for one, other in ((a, b), (b, a)):
        assert box_iou(one, other).item() == pytest.approx(iou)
        assert generalized_iou(one, other).item() == pytest.approx(giou)


def test_generalized_iou_tends_to_minus_one_and_has_a_slope_apart():
    near, far = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([1e4, 1e4, 1.0, 1.0], requires_grad=True)
    assert -1 <= generalized_iou(near, far).item() < -0.999
    apart = torch.tensor([3.0, 0.0, 1.0, 1.0], requires_grad=True)
    assert torch.autograd.grad(generalized_iou(near, apart), apart)[0][0] < 0
    equal = torch.zeros(4, requires_grad=True)
    assert torch.autograd.grad(generalized_iou(equal, torch.zeros(4)), equal)[0].isfinite().all()


def test_overlap_counts_pixels():
    a, b = torch.tensor([6.0, 5.0, 8.0, 6.0]), torch.tensor([8.0, 7.0, 6.0, 4.0])
    centre = torch.arange(20) + 0.5

    def inside(box):
        x, y, w, h = box
        return ((centre - x).abs() < w / 2) & ((centre[:, None] - y).abs() < h / 2)

    common, union = (inside(a) & inside(b)).sum(), (inside(a) | inside(b)).sum()
    assert box_iou(a, b).item() == pytest.approx((common / union).item())


def test_boxes_are_checked():
    with pytest.raises(ValueError, match="must be"):
        box_iou(torch.zeros(3), torch.zeros(4))
    with pytest.raises(ValueError, match="at least 0"):
        generalized_iou(torch.zeros(4), torch.tensor([0.0, 0.0, -1.0, 1.0]))
    with pytest.raises(ValueError, match="finite"):
        box_iou(torch.full((4,), math.nan), torch.zeros(4))


A, B, NOWHERE = [0.2, 0.2, 0.2, 0.2], [0.7, 0.7, 0.2, 0.2], [0.2, 0.8, 0.1, 0.1]


def precision(detections, confidence, targets=(A, B), kinds=None, labels=None, classes=1, **rest):
    """Average precision of one scene's list."""
    kinds = [0] * len(detections) if kinds is None else kinds
    labels = [0] * len(targets) if labels is None else labels
    result = average_precision(
        torch.tensor([confidence]),
        torch.tensor([kinds]),
        torch.tensor([detections]),
        torch.tensor([labels]),
        torch.tensor([targets]),
        classes=classes,
        **rest,
    )
    return result.tolist()


def test_precision_of_hand_made_lists():
    assert precision([A, B], [0.9, 0.8]) == [1.0]
    assert precision([A, B, NOWHERE], [0.9, 0.8, 0.1]) == [1.0]  # a wrong one after the last right one
    assert precision([NOWHERE, A, B], [0.9, 0.8, 0.7]) == pytest.approx([2 / 3])  # precision 0, 1/2, 2/3: 2/3 ahead
    assert precision([A, NOWHERE, B], [0.9, 0.8, 0.7]) == pytest.approx([0.5 + 0.5 * 2 / 3])
    assert precision([A, A, B], [0.9, 0.8, 0.7]) == pytest.approx([0.5 + 0.5 * 2 / 3])  # the duplicate is wrong
    assert precision([A], [0.9]) == [0.5]
    assert precision([NOWHERE], [0.9]) == [0.0]
    assert precision([A, B], [0.9, -INF]) == [0.5]


def test_precision_keeps_classes_and_scenes_apart():
    result = precision([A, B], [0.9, 0.8], kinds=[0, 1], labels=[0, 0], classes=3)
    assert result[0] == 0.5
    assert all(math.isnan(x) for x in result[1:])  # nothing of these classes was there
    # The detection of scene 0 lies on the object of scene 1.
    boxes, targets = torch.tensor([[B], [A]]), torch.tensor([[A], [B]])
    zeros = torch.zeros(2, 1, dtype=torch.long)
    assert average_precision(torch.ones(2, 1), zeros, boxes, zeros, targets, classes=1) == 0
    assert average_precision(torch.ones(2, 1), zeros, targets, zeros, targets, classes=1) == 1
    padded = torch.tensor([[0], [-1]])
    assert average_precision(torch.tensor([[0.5], [0.9]]), zeros, targets, padded, targets, classes=1) == 0.5


def test_precision_at_the_threshold():
    half = [[0.2, 0.15, 0.2, 0.1]]  # the upper half of A
    assert precision(half, [1.0], targets=[A], threshold=0.49) == [1.0]
    assert precision(half, [1.0], targets=[A], threshold=0.51) == [0.0]
    with pytest.raises(ValueError, match="threshold"):
        precision(half, [1.0], targets=[A], threshold=0.0)
    with pytest.raises(ValueError, match="boxes must have shape"):
        precision([A[:3]], [1.0])


def hungarian_loss(energy, boxes, labels, targets):
    """One scene as in the paper, over all permutations of the slots."""
    log_p = torch.log_softmax(-energy, -1)

    def box_loss(s, o):
        return 5 * (boxes[s] - targets[o]).abs().sum() + 2 * (1 - generalized_iou(boxes[s], targets[o]))

    def pair(s, o):
        return -log_p[s, labels[o]].exp() + box_loss(s, o)

    n = len(labels)
    sigma = min(itertools.permutations(range(len(boxes)), n), key=lambda p: sum(pair(s, o) for o, s in enumerate(p)))
    loss = sum((-log_p[s, labels[o]] + box_loss(s, o) for o, s in enumerate(sigma)), torch.tensor(0.0))
    return sigma, loss - 0.1 * sum(log_p[s, -1] for s in range(len(boxes)) if s not in sigma)


def test_set_loss_is_the_papers():
    energy, boxes, targets = random(5, 4, 4), random_boxes(5, 4), random_boxes(5, 3, seed=1)
    labels = torch.tensor([[0, 1, 2], [2, 2, -1], [1, -1, -1], [-1, -1, -1], [0, 0, 0]])
    counts = (labels >= 0).sum(-1)
    energy.requires_grad_()
    boxes.requires_grad_()
    loss = set_loss(energy, boxes, labels, targets, counts)
    total = torch.tensor(0.0, dtype=torch.float64)
    for k, count in enumerate(counts.tolist()):
        sigma, truth = hungarian_loss(energy[k], boxes[k], labels[k, :count].tolist(), targets[k, :count])
        assert tuple(loss.slot[k, :count].tolist()) == sigma
        torch.testing.assert_close(loss.total[k], truth.double())
        total = total + truth
    slopes = torch.autograd.grad(loss.total.sum(), (energy, boxes))
    torch.testing.assert_close(slopes, torch.autograd.grad(total, (energy, boxes)))
    assert torch.equal(set_loss(energy, boxes, labels, targets).total, loss.total)


def test_set_loss_does_not_care_in_which_order_the_objects_come():
    energy, boxes, targets, labels = random(6, 5), random_boxes(6), random_boxes(4, seed=3), torch.tensor([0, 1, 2, 3])
    order = torch.tensor([2, 0, 3, 1])
    one, other = (set_loss(energy, boxes, labels[k], targets[k]) for k in (torch.arange(4), order))
    torch.testing.assert_close(one.total, other.total)
    assert torch.equal(one.slot[order], other.slot)
    fixed = set_loss(energy, boxes, labels, targets, slot=torch.arange(4))
    assert fixed.total >= 0
    assert torch.equal(fixed.slot, torch.arange(4))


def test_set_loss_refuses():
    energy, boxes, target = torch.zeros(2, 3), torch.full((2, 4), 0.5), torch.full((1, 4), 0.5)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1"):
        set_loss(energy, boxes, torch.tensor([2]), target)  # "no object" is no object's label
    with pytest.raises(ValueError, match="boxes must have shape"):
        set_loss(energy, boxes[:1], torch.tensor([0]), target)
    with pytest.raises(ValueError, match="finite"):
        set_loss(energy / 0, boxes, torch.tensor([0]), target)
    with pytest.raises(ValueError, match="slot each"):
        set_loss(energy, boxes, torch.tensor([0, 1, 0]), target.expand(3, 4))
