"""Pair losses against plain Python numbers, at their corners and extremes, and against torch and metric-learning."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import distances, reducers
from pytorch_metric_learning import losses as pml

from ebm_lib import losses

F64 = torch.float64


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def log1pexp(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


# name: (loss, value, slope on F+, slope on F-), each by hand from the slide, as functions of plain numbers
BY_HAND = {
    "hinge": (
        lambda p, n: losses.hinge(p, n, margin=0.75),
        lambda p, n: max(0.0, 0.75 + p - n),
        lambda p, n: 1.0 if n - p < 0.75 else 0.0,
        lambda p, n: -1.0 if n - p < 0.75 else 0.0,
    ),
    "ranking": (
        lambda p, n: losses.ranking(p, n, torch.tensor(2.5, dtype=F64)),
        lambda p, n: max(0.0, 2.5 + p - n),
        lambda p, n: 1.0 if n - p < 2.5 else 0.0,
        lambda p, n: -1.0 if n - p < 2.5 else 0.0,
    ),
    "log": (
        losses.log_loss,
        lambda p, n: log1pexp(p - n),
        lambda p, n: sigmoid(p - n),
        lambda p, n: -sigmoid(p - n),
    ),
    "lvq2": (
        lambda p, n: losses.lvq2(p, n, saturation=2.0),
        lambda p, n: min(2.0, max(0.0, p - n)),
        lambda p, n: 1.0 if 0 < p - n <= 2.0 else 0.0,
        lambda p, n: -1.0 if 0 < p - n <= 2.0 else 0.0,
    ),
    "mce": (
        losses.mce,
        lambda p, n: sigmoid(p - n),
        lambda p, n: sigmoid(p - n) * sigmoid(n - p),
        lambda p, n: -sigmoid(p - n) * sigmoid(n - p),
    ),
    "simple": (
        lambda p, n: losses.simple(p, n, margin=1.5),
        lambda p, n: max(0.0, p) + max(0.0, 1.5 - n),
        lambda p, n: 1.0 if p > 0 else 0.0,
        lambda p, n: -1.0 if n < 1.5 else 0.0,
    ),
    "square_square": (
        lambda p, n: losses.square_square(p, n, margin=1.5),
        lambda p, n: p**2 + max(0.0, 1.5 - n) ** 2,
        lambda p, n: 2 * p,
        lambda p, n: -2 * max(0.0, 1.5 - n),
    ),
    "square_square, positive part": (
        lambda p, n: losses.square_square(p, n, margin=1.5, positive_part=True),
        lambda p, n: max(0.0, p) ** 2 + max(0.0, 1.5 - n) ** 2,
        lambda p, n: 2 * max(0.0, p),
        lambda p, n: -2 * max(0.0, 1.5 - n),
    ),
    "square_exp": (
        lambda p, n: losses.square_exp(p, n, gamma=0.3),
        lambda p, n: p**2 + 0.3 * math.exp(-n),
        lambda p, n: 2 * p,
        lambda p, n: -0.3 * math.exp(-n),
    ),
}


def slopes(loss, *energies):
    leaves = [e.detach().clone().requires_grad_() for e in energies]
    value = loss(*leaves)
    return value.detach(), torch.autograd.grad(value.sum(), leaves)


def agree(actual, expected):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=F64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", BY_HAND)
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-20, 20), st.floats(-20, 20)), min_size=1, max_size=6))
def test_value_and_both_slopes_equal_a_hand_computation(name, pairs):
    loss, value, up, down = BY_HAND[name]
    p, n = torch.tensor(pairs, dtype=F64).unbind(-1)
    ours, (on_positive, on_negative) = slopes(loss, p, n)
    agree(ours, [value(*pair) for pair in pairs])
    agree(on_positive, [up(*pair) for pair in pairs])
    agree(on_negative, [down(*pair) for pair in pairs])


@pytest.mark.parametrize("name", BY_HAND)
def test_extreme_energies_do_not_overflow(name):
    loss, value, up, down = BY_HAND[name]
    levels = [-1e6, -1.0, 0.0, 1e6]
    pairs = [(p, n) for p in levels for n in levels if not (name == "square_exp" and n < -100)]
    p, n = torch.tensor(pairs, dtype=F64).unbind(-1)
    ours, (on_positive, on_negative) = slopes(loss, p, n)
    agree(ours, [value(*pair) for pair in pairs])
    agree(on_positive, [up(*pair) for pair in pairs])
    agree(on_negative, [down(*pair) for pair in pairs])
    # an answer that is impossible already costs what the positive alone costs, and is not pushed
    ours, (on_positive, on_negative) = slopes(loss, torch.ones(1, dtype=F64), torch.full((1,), math.inf, dtype=F64))
    agree(ours, [value(1.0, 1e300)])
    agree(on_positive, [up(1.0, 1e300)])
    assert on_negative.tolist() == [0.0]


def test_square_exp_says_when_it_overflows():
    with pytest.raises(FloatingPointError, match=r"-1e\+06 \(negative, the lowest\); the energy must be bounded below"):
        losses.square_exp(torch.zeros(2), torch.tensor([0.0, -1e6]))


# the slopes at the corners, as the docstrings state them: (F+, F-, slope on F+, slope on F-)
CORNERS = [
    (lambda p, n: losses.hinge(p, n, 1.0), 0.5, 1.5, 0.0, 0.0),
    (lambda p, n: losses.ranking(p, n, torch.tensor(1.0)), 0.5, 1.5, 0.0, 0.0),
    (lambda p, n: losses.hinge(p, n, 0.0), 0.5, 0.5, 0.0, 0.0),
    (lambda p, n: losses.lvq2(p, n, 1.0), 0.5, 0.5, 0.0, 0.0),
    (lambda p, n: losses.lvq2(p, n, 1.0), 1.5, 0.5, 1.0, -1.0),
    (lambda p, n: losses.simple(p, n, 1.0), 0.0, 0.5, 0.0, -1.0),
    (lambda p, n: losses.simple(p, n, 1.0), 0.5, 1.0, 1.0, 0.0),
    (lambda p, n: losses.square_square(p, n, 1.0), 0.0, 1.0, 0.0, 0.0),
    (lambda p, n: losses.square_square(p, n, 1.0, positive_part=True), 0.0, 1.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("loss", "p", "n", "up", "down"), CORNERS)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_slopes_at_the_corners(loss, p, n, up, down, dtype):
    _, (on_positive, on_negative) = slopes(loss, torch.tensor([p], dtype=dtype), torch.tensor([n], dtype=dtype))
    assert (on_positive.item(), on_negative.item()) == (up, down)


@pytest.mark.parametrize(("loss", "p", "n"), [corner[:3] for corner in CORNERS])
def test_the_losses_are_continuous_at_their_corners(loss, p, n):
    p, n = torch.tensor([p], dtype=F64), torch.tensor([n], dtype=F64)
    for dp, dn in ((1e-9, 0), (-1e-9, 0), (0, 1e-9), (0, -1e-9)):
        torch.testing.assert_close(loss(p + dp, n + dn), loss(p, n), rtol=0, atol=1e-8)


@pytest.mark.parametrize("loss", [losses.log_loss, losses.mce, losses.square_square, losses.square_exp])
def test_smooth_losses_have_right_second_derivatives(loss):
    g = torch.Generator().manual_seed(0)
    p, n = (torch.randn(4, 3, generator=g, dtype=F64).mul(2).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(loss, (p, n))
    assert torch.autograd.gradgradcheck(loss, (p, n))


def test_the_energy_loss_is_the_energy():
    p = torch.tensor([0.5, -3.0, 1e6], dtype=F64)
    ours, (slope,) = slopes(losses.energy_loss, p)
    assert ours.tolist() == p.tolist()
    assert slope.tolist() == [1.0, 1.0, 1.0]


def test_one_positive_meets_several_negatives_each_with_its_margin():
    p = torch.tensor([[0.0], [1.0]], dtype=F64)
    n = torch.tensor([[0.0, 1.0, 5.0], [0.0, 1.0, 5.0]], dtype=F64)
    margin = torch.tensor([0.0, 2.0, 9.0])  # float32: the result keeps the energies' type
    expected = torch.tensor([[0.0, 1.0, 4.0], [1.0, 2.0, 5.0]], dtype=F64)
    assert torch.equal(losses.hinge(p, n, margin), expected)
    assert torch.equal(losses.ranking(p, n, margin), expected)
    narrow = losses.hinge(p.float(), n.float(), margin.double())
    assert narrow.dtype == torch.float32
    assert losses.simple(p, n, margin)[1].tolist() == [1.0, 2.0, 5.0]
    assert losses.square_square(p, n, margin)[1].tolist() == [1.0, 2.0, 17.0]


@pytest.mark.parametrize("margin", [0.0, 0.7, 2.0])
def test_hinge_equals_torchs_margin_ranking_loss(margin):
    g = torch.Generator().manual_seed(1)
    p, n = torch.randn(2, 50, generator=g, dtype=F64)
    theirs = torch.nn.MarginRankingLoss(margin=margin, reduction="none")
    target = torch.full((50,), -1.0, dtype=F64)
    assert_same(lambda p, n: losses.hinge(p, n, margin), lambda p, n: theirs(p, n, target), p, n)


@pytest.mark.parametrize("margin", [0.5, 2.0])
def test_hinge_of_distances_equals_torchs_triplet_margin_loss(margin):
    g = torch.Generator().manual_seed(2)
    anchor, same, other = torch.randn(3, 40, 5, generator=g, dtype=F64)
    theirs = torch.nn.TripletMarginLoss(margin=margin, eps=0.0, reduction="none")
    ours = lambda a, s, o: losses.hinge((a - s).norm(dim=-1), (a - o).norm(dim=-1), margin)
    assert_same(ours, theirs, anchor, same, other)


@pytest.mark.parametrize("margin", [0.5, 2.0])
def test_simple_equals_torchs_hinge_embedding_loss_on_its_two_kinds_of_pair(margin):
    g = torch.Generator().manual_seed(3)
    p, n = torch.rand(2, 50, generator=g, dtype=F64) * 3
    theirs = torch.nn.HingeEmbeddingLoss(margin=margin, reduction="none")
    one = torch.ones(50, dtype=F64)
    assert_same(lambda p, n: losses.simple(p, n, margin), lambda p, n: theirs(p, one) + theirs(n, -one), p, n)


def test_log_loss_is_torchs_binary_cross_entropy_and_soft_margin_loss():
    g = torch.Generator().manual_seed(4)
    p, n = torch.randn(2, 50, generator=g, dtype=F64) * 5
    bce = torch.nn.BCEWithLogitsLoss(reduction="none")
    assert_same(losses.log_loss, lambda p, n: bce(n - p, torch.ones_like(p)), p, n)
    # torch names its classes +1 and -1: the argument is what should be positive
    soft = torch.nn.SoftMarginLoss(reduction="none")
    assert_same(losses.log_loss, lambda p, n: soft(n - p, torch.ones_like(p)), p, n)


def metric_learning_pairs(loss, embeddings, labels):
    """The library's per-pair losses and their sum's gradient on the embeddings."""
    leaf = embeddings.detach().clone().requires_grad_()
    total = loss(leaf, labels)
    return total.detach(), torch.autograd.grad(total, leaf)[0]


@pytest.mark.parametrize("margin", [0.8, 2.5])
def test_simple_and_hinge_equal_pytorch_metric_learning_on_distances(margin):
    g = torch.Generator().manual_seed(5)
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    embeddings = torch.randn(6, 3, generator=g, dtype=F64)
    distance = distances.LpDistance(normalize_embeddings=False, p=2, power=1)
    same = (labels[:, None] == labels) & ~torch.eye(6, dtype=torch.bool)
    other = labels[:, None] != labels

    def pairs(x):
        return (x[:, None] - x[None]).square().sum(-1).add(torch.eye(6, dtype=F64)).sqrt()

    def ours_simple(x):
        d = pairs(x)
        zero = torch.zeros(1, dtype=F64)
        down = losses.simple(d[same], zero.expand(int(same.sum())) + margin, margin)
        up = losses.simple(zero.expand(int(other.sum())), d[other], margin)
        return down.sum() + up.sum()

    theirs = pml.ContrastiveLoss(pos_margin=0, neg_margin=margin, distance=distance, reducer=reducers.SumReducer())
    compare_total(ours_simple, theirs, embeddings, labels)

    def ours_triplet(x):
        d = pairs(x)
        a, p, n = torch.where(same[:, :, None] & other[:, None, :])
        return losses.hinge(d[a, p], d[a, n], margin).sum()

    theirs = pml.TripletMarginLoss(margin=margin, distance=distance, reducer=reducers.SumReducer())
    compare_total(ours_triplet, theirs, embeddings, labels)


def compare_total(ours, theirs, embeddings, labels):
    value, (slope,) = slopes(lambda x: ours(x).reshape(1), embeddings)
    their_value, their_slope = metric_learning_pairs(theirs, embeddings, labels)
    assert value.item() > 0
    torch.testing.assert_close(value[0], their_value, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(slope, their_slope, rtol=1e-6, atol=1e-6)


def assert_same(ours, theirs, *energies):
    value, gradients = slopes(ours, *energies)
    their_value, their_gradients = slopes(theirs, *energies)
    torch.testing.assert_close(value, their_value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients, their_gradients, rtol=1e-12, atol=1e-12)
    assert value.abs().sum() > 0


def test_the_slides_condition_leaves_its_own_examples_out():
    # F+ = 2m and F- = 1.5 m: the gap is negative, far below m, and yet square-square and simple do not push F- up.
    m = 1.0
    p, n = torch.tensor([2 * m], dtype=F64), torch.tensor([1.5 * m], dtype=F64)
    for loss in (losses.square_square, losses.simple):
        _, (on_positive, on_negative) = slopes(lambda p, n, loss=loss: loss(p, n, m), p, n)
        assert on_positive.item() > 0
        assert on_negative.item() == 0
    _, (_, on_negative) = slopes(lambda p, n: losses.hinge(p, n, m), p, n)
    assert on_negative.item() == -1


one, two = torch.ones(1), torch.ones(2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: losses.hinge(two, torch.ones(2, 1)),
            ValueError,
            r"dimensions.*got shapes \(2,\) and \(2, 1\)",
        ),
        (lambda: losses.mce(two, torch.ones(3)), ValueError, r"of equal sizes or 1, got shapes \(2,\) and \(3,\)"),
        (lambda: losses.log_loss(two, torch.tensor(1.0)), ValueError, "same number of dimensions"),
        (lambda: losses.hinge(two, torch.tensor([1, 2])), ValueError, "negative must be floating point"),
        (lambda: losses.energy_loss(torch.tensor([1])), ValueError, "positive must be floating point"),
        (lambda: losses.energy_loss(1.0), TypeError, "positive must be a tensor of energies, got float"),
        (lambda: losses.hinge(torch.tensor([math.inf]), one), ValueError, "positive must be finite"),
        (lambda: losses.hinge(one, torch.tensor([-math.inf])), ValueError, r"negative must be finite or \+inf"),
        (lambda: losses.hinge(one, one, -1.0), ValueError, "margin must be finite and at least 0, got -1"),
        (lambda: losses.simple(one, one, math.inf), ValueError, "margin must be finite and at least 0, got inf"),
        (lambda: losses.square_square(one, one, math.nan), ValueError, "margin must be finite and at least 0, got nan"),
        (lambda: losses.hinge(one, one, "wide"), TypeError, "margin must be a number or a tensor, got str"),
        (lambda: losses.hinge(one, one, True), TypeError, "margin must be a number or a tensor, got bool"),
        (lambda: losses.hinge(two, two, torch.tensor([1.0, -2.0])), ValueError, "the lowest is -2"),
        (lambda: losses.hinge(two, two, torch.tensor([1.0, math.nan])), ValueError, "margin must be finite"),
        (lambda: losses.hinge(two, two, torch.ones(3)), ValueError, r"broadcast to the shape of the pairs, \(2,\)"),
        (lambda: losses.hinge(two, two, torch.ones(3, 2)), ValueError, r"\(2,\), got \(3, 2\)"),
        (lambda: losses.ranking(one, one, 1.0), TypeError, "margin must be a tensor, one distance per pair, got float"),
        (lambda: losses.lvq2(one, one, 0.0), ValueError, "saturation must be a positive number, got 0"),
        (lambda: losses.square_exp(one, one, -1.0), ValueError, "gamma must be a positive number, got -1"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, error, message):
    with pytest.raises(error, match=message):
        call()
