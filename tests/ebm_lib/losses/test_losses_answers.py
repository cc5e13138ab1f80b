"""Losses over all answers against plain Python sums, torch's cross-entropy and its multi-class margin."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_lib import losses

F64 = torch.float64


def slopes(loss, energy):
    leaf = energy.detach().clone().requires_grad_()
    value = loss(leaf)
    return value.detach(), torch.autograd.grad(value.sum(), leaf)[0]


def agree(actual, expected, tol=1e-11):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=F64), rtol=tol, atol=tol)


def probabilities(f, beta):
    low = min(f)
    weights = [math.exp(-beta * (x - low)) for x in f]
    return [w / math.fsum(weights) for w in weights]


def perceptron_by_hand(f, t):
    low = min(f)
    if f[t] == low:
        return 0.0, [0.0] * len(f)
    ties = f.count(low)
    return f[t] - low, [(j == t) - (x == low) / ties for j, x in enumerate(f)]


def nll_by_hand(f, t, beta):
    low = min(f)
    value = f[t] - low + math.log(math.fsum(math.exp(-beta * (x - low)) for x in f)) / beta
    return value, [(j == t) - p for j, p in enumerate(probabilities(f, beta))]


def mee_by_hand(f, t, beta):
    p = probabilities(f, beta)
    return math.fsum(p[:t] + p[t + 1 :]), [beta * p[t] * ((j == t) - q) for j, q in enumerate(p)]


def hinges_by_hand(f, t, m):
    inside = [j != t and f[t] - x + m[j] > 0 for j, x in enumerate(f)]
    value = math.fsum(f[t] - x + m[j] for j, x in enumerate(f) if inside[j])
    return value, [sum(inside) if j == t else -1.0 * inside[j] for j in range(len(f))]


def draw(seed, rows=7, count=5, scale=3.0):
    g = torch.Generator().manual_seed(seed)
    energy = torch.randn(rows, count, generator=g, dtype=F64) * scale
    return energy, torch.randint(count, (rows,), generator=g)


def check_rows(loss, by_hand, energy, target, tol=1e-11):
    value, slope = slopes(lambda e: loss(e, target), energy)
    for row, (f, t) in enumerate(zip(energy.tolist(), target.tolist(), strict=True)):
        expected, expected_slope = by_hand(f, t)
        agree(value[row], expected, tol)
        agree(slope[row], expected_slope, tol)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("beta", [0.1, 1.0, 7.0])
def test_values_and_slopes_equal_a_hand_computation(seed, beta):
    energy, target = draw(seed)
    check_rows(losses.perceptron, perceptron_by_hand, energy, target)
    check_rows(lambda e, t: losses.nll(e, t, beta), lambda f, t: nll_by_hand(f, t, beta), energy, target)
    check_rows(lambda e, t: losses.mee(e, t, beta), lambda f, t: mee_by_hand(f, t, beta), energy, target)
    m = torch.rand(7, 5, generator=torch.Generator().manual_seed(seed), dtype=F64) * 4
    rows = iter(m.tolist())
    check_rows(
        lambda e, t: losses.all_outputs_hinge(e, t, m), lambda f, t: hinges_by_hand(f, t, next(rows)), energy, target
    )
    check_rows(
        lambda e, t: losses.all_outputs_hinge(e, t, 2.0), lambda f, t: hinges_by_hand(f, t, [2.0] * 5), energy, target
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=8), st.integers(0, 7), st.floats(0.01, 100), st.floats(-9, 9))
def test_identities_over_random_energies(f, t, beta, shift):
    t %= len(f)
    energy, target = torch.tensor([f], dtype=F64), torch.tensor([t])
    tol = 1e-12 * (1 + max(map(abs, f)) + abs(shift))
    perceptron, nll, mee = (
        losses.perceptron(energy, target),
        losses.nll(energy, target, beta),
        losses.mee(energy, target, beta),
    )
    for loss, value in ((losses.perceptron, perceptron), (lambda e, t: losses.nll(e, t, beta), nll)):
        assert abs(loss(energy + shift, target) - value) <= 4 * tol  # a constant in the energy changes nothing
    # NLL lies between the perceptron loss and that plus (log K)/beta; MEE is its probability form
    assert perceptron - tol <= nll <= perceptron + math.log(len(f)) / beta + tol
    assert abs(1 - math.exp(-beta * nll.item()) - mee.item()) <= 1e-9
    # both fall when the right answer's energy does
    lower = energy.clone()
    lower[0, t] -= 1.0
    assert losses.nll(lower, target, beta) <= nll + tol
    assert losses.mee(lower, target, beta) <= mee + 1e-12


def test_nll_tends_to_the_perceptron_loss_as_beta_grows():
    energy, target = draw(11)
    gap = [(losses.nll(energy, target, b) - losses.perceptron(energy, target)).max().item() for b in (1.0, 100.0, 1e4)]
    assert gap[0] > 0.1
    assert gap[1] < 1e-2
    assert gap[2] < 1e-4


@pytest.mark.parametrize("beta", [1e-4, 1.0, 1e4])
def test_extremes_of_energy_and_temperature(beta):
    energy = torch.tensor([[-1e6, 1e6, 0.0], [1e6, 1e6, -1e6], [0.0, 1e-9, 1e6], [1e6, 1e6, 1e6]], dtype=F64)
    for t in range(3):
        target = torch.full((4,), t)
        check_rows(lambda e, t: losses.nll(e, t, beta), lambda f, t: nll_by_hand(f, t, beta), energy, target, 1e-9)
        check_rows(lambda e, t: losses.mee(e, t, beta), lambda f, t: mee_by_hand(f, t, beta), energy, target, 1e-9)
        check_rows(losses.perceptron, perceptron_by_hand, energy, target)
        check_rows(losses.all_outputs_hinge, lambda f, t: hinges_by_hand(f, t, [1.0] * 3), energy, target)
    small = torch.tensor([[0.0, 40.0]], dtype=F64)
    # an error this small would be lost in 1 - P
    assert losses.mee(small, torch.tensor([0])).item() == pytest.approx(math.exp(-40), rel=1e-12, abs=0)


@pytest.mark.parametrize("loss", [losses.nll, losses.mee, losses.perceptron, losses.all_outputs_hinge])
def test_one_answer_alone_costs_nothing_and_impossible_ones_are_as_if_absent(loss):
    single = torch.tensor([[3.0]], dtype=F64)
    value, slope = slopes(lambda e: loss(e, torch.tensor([0])), single)
    assert (value.item(), slope.item()) == (0.0, 0.0)
    energy = torch.tensor([[1.0, math.inf, 0.5]], dtype=F64)
    value, slope = slopes(lambda e: loss(e, torch.tensor([0])), energy)
    without, slope_without = slopes(lambda e: loss(e, torch.tensor([0])), energy[:, [0, 2]])
    assert value.item() == without.item() > 0
    assert slope.tolist() == [[slope_without[0, 0].item(), 0.0, slope_without[0, 1].item()]]


def test_slopes_at_ties_and_at_the_margins_edge():
    flat = torch.zeros(1, 4, dtype=F64)
    assert slopes(lambda e: losses.perceptron(e, torch.tensor([1])), flat)[1].tolist() == [[0.0] * 4]
    tied = torch.tensor([[0.0, 2.0, 0.0, 1.0]], dtype=F64)
    assert slopes(lambda e: losses.perceptron(e, torch.tensor([1])), tied)[1].tolist() == [[-0.5, 1.0, -0.5, 0.0]]
    edge = torch.tensor([[0.0, 1.0, 0.5]], dtype=F64)
    assert slopes(lambda e: losses.all_outputs_hinge(e, torch.tensor([0]), 1.0), edge)[1].tolist() == [[1.0, 0.0, -1.0]]


def test_nll_is_torchs_cross_entropy_of_minus_beta_energy():
    energy, target = draw(21)
    for beta in (0.5, 3.0):
        ours = slopes(lambda e, b=beta: b * losses.nll(e, target, b), energy)
        theirs = slopes(lambda e, b=beta: torch.nn.functional.cross_entropy(-b * e, target, reduction="none"), energy)
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("margin", [0.5, 2.0])
def test_all_outputs_hinge_is_torchs_multi_margin_loss_times_the_number_of_answers(margin):
    energy, target = draw(22)
    theirs = torch.nn.MultiMarginLoss(margin=margin, reduction="none")
    ours = slopes(lambda e: losses.all_outputs_hinge(e, target, margin) / 5, energy)
    torch.testing.assert_close(ours, slopes(lambda e: theirs(-e, target), energy), rtol=1e-12, atol=1e-12)


def test_mee_of_two_answers_is_mce_of_beta_times_the_energies():
    energy, _ = draw(23, count=2)
    first = torch.zeros(7, dtype=torch.long)
    torch.testing.assert_close(losses.mee(energy, first, 2.0), losses.mce(2 * energy[:, 0], 2 * energy[:, 1]))


def test_a_matrix_of_label_distances_is_indexed_by_the_target():
    distances = torch.tensor([[0.0, 1.0, 4.0], [1.0, 0.0, 9.0], [4.0, 9.0, 0.0]], dtype=F64)
    energy, target = torch.zeros(3, 3, dtype=F64), torch.tensor([2, 0, 1])
    assert losses.all_outputs_hinge(energy, target, distances[target]).tolist() == [13.0, 5.0, 10.0]
    assert losses.all_outputs_hinge(energy, target, distances[0]).tolist() == [1.0, 5.0, 4.0]  # one row for all


@pytest.mark.parametrize("loss", [losses.nll, losses.mee])
def test_second_derivatives(loss):
    energy, target = draw(24, rows=3)
    energy.requires_grad_()
    assert torch.autograd.gradcheck(lambda e: loss(e, target, 1.3), energy)
    assert torch.autograd.gradgradcheck(lambda e: loss(e, target, 1.3), energy)


def test_join_makes_answers_of_a_group():
    p, n = torch.tensor([1.0, 2.0]), torch.tensor([[3.0, 4.0], [5.0, 6.0]])
    joined = losses.join(p, n)
    assert joined.energy.tolist() == [[1.0, 3.0, 4.0], [2.0, 5.0, 6.0]]
    assert joined.target.tolist() == [0, 0]
    torch.testing.assert_close(2 * losses.nll(*joined, beta=2.0), losses.info_nce(p, n, beta=2.0))
    assert losses.perceptron(*joined).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("seed", range(20))
def test_most_offending_answer_by_brute_force(seed):
    energy, target = draw(seed, rows=4, count=6)
    distance = torch.rand(4, 6, generator=torch.Generator().manual_seed(seed), dtype=F64)
    for given_target, given_distance, epsilon in ((target, None, 0.0), (None, distance, 0.4), (target, distance, 0.4)):
        found = losses.most_offending(energy, given_target, distance=given_distance, epsilon=epsilon)
        for row in range(4):
            wrong = [
                j
                for j in range(6)
                if (given_target is None or j != given_target[row])
                and (given_distance is None or given_distance[row, j] > epsilon)
            ]
            best = min(wrong, key=lambda j, row=row: energy[row, j].item())
            assert found.index[row].item() == best
            assert found.energy[row].item() == energy[row, best].item()


def test_most_offending_answers_edges_and_gradient():
    energy = torch.tensor([0.0, 1.0, 1.0, 2.0], dtype=F64)
    found = losses.most_offending(energy, torch.tensor(0))
    assert found.index.item() == 1  # the first of equals
    _, slope = slopes(lambda e: losses.most_offending(e, torch.tensor(0)).energy, energy)
    assert slope.tolist() == [0.0, 1.0, 0.0, 0.0]
    # at distance epsilon exactly an answer still counts as right
    at = torch.tensor([0.0, 0.5, 1.0, 1.5], dtype=F64)
    assert losses.most_offending(energy, distance=at, epsilon=0.5).index.item() == 2
    # the lowest answer is wrong here, and the right one's own energy plays no part
    assert losses.most_offending(energy, torch.tensor(3)).energy.item() == 0.0


def test_most_offending_answer_is_what_the_hinge_needs():
    energy, target = draw(30)
    right = energy.gather(-1, target[:, None])[:, 0]
    worst = losses.most_offending(energy, target).energy
    torch.testing.assert_close(losses.hinge(right, worst, 0.0), losses.perceptron(energy, target))
    single = losses.all_outputs_hinge(energy, target, 1.0)
    assert (losses.hinge(right, worst, 1.0) <= single).all()  # one term of the sum, the largest
    assert (losses.hinge(right, worst, 1.0) >= single / 4 - 1e-12).all()


@pytest.mark.parametrize(("dtype", "count"), [(torch.uint8, 256), (torch.int8, 128), (torch.int8, 200)])
def test_targets_of_eight_bits_index_as_many_answers_as_there_are(dtype, count):
    energy = torch.randn(3, count, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([0, 1, 127])
    for loss in (losses.perceptron, losses.nll, losses.mee):
        assert torch.equal(loss(energy, target.to(dtype)), loss(energy, target))


flat, first = torch.zeros(2, 3), torch.zeros(2, dtype=torch.long)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.nll(flat, torch.tensor([0, 3])), "target must index one of 3 answers, got values from 0 to 3"),
        (lambda: losses.perceptron(flat, torch.tensor([-1, 0])), "got values from -1 to 0"),
        (lambda: losses.nll(flat, torch.tensor([0])), r"one index per sample, shape \(2,\), got \(1,\)"),
        (lambda: losses.mee(flat, torch.zeros(2)), "whole numbers, the index of the right answer, got torch.float32"),
        (lambda: losses.mee(flat, torch.zeros(2, dtype=torch.bool)), "got torch.bool"),
        (lambda: losses.mee(flat[0], 0), "got int"),
        (lambda: losses.nll(flat[:, :0], first), "energy must have at least one entry along dimension -1"),
        (lambda: losses.nll(flat.long(), first), "energy must be floating point"),
        (lambda: losses.nll(flat + math.inf, first), "energy of the right answer must be finite"),
        (lambda: losses.nll(flat - math.inf, first), r"energy must be finite or \+inf"),
        (lambda: losses.nll(flat, first, 0.0), "beta must be a positive number, got 0"),
        (lambda: losses.mee(flat, first, math.inf), "beta must be a positive finite number"),
        (lambda: losses.all_outputs_hinge(flat, first, torch.ones(2, 2)), r"\(2, 3\), got \(2, 2\)"),
        (lambda: losses.all_outputs_hinge(flat, first, -1.0), "margin must be finite and at least 0"),
        (lambda: losses.most_offending(flat), "needs a target, or distances"),
        (lambda: losses.most_offending(flat, distance=torch.zeros(3)), r"shape \(2, 3\), got \(3,\)"),
        (lambda: losses.most_offending(flat, distance=flat, epsilon=-1.0), "epsilon must be at least 0, got -1"),
        (lambda: losses.most_offending(flat, distance=flat, epsilon=math.nan), "epsilon must be at least 0, got nan"),
        (lambda: losses.most_offending(flat, distance=flat + math.nan), "distance must be finite"),
        (lambda: losses.most_offending(flat, distance=flat), "no wrong answer left"),
        (lambda: losses.most_offending(flat, distance=torch.tensor([[1.0] * 3, [0.0] * 3])), "no wrong answer left"),
        (lambda: losses.most_offending(flat[:, :1], first), "no wrong answer left"),
        (lambda: losses.join(torch.zeros(2), torch.zeros(2, 0)), "negative must have at least one entry"),
        (lambda: losses.join(torch.zeros(2), torch.zeros(3, 1)), r"\(3, 1\) for \(2,\)"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call()
