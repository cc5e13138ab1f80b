"""Losses of chains against all labellings, listed, and against the losses over listed answers."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from ebm_lib import losses
from ebm_lib.structured import (
    Minimum,
    SoftMinimum,
    chain,
    occupation,
    sequence_hinge,
    sequence_nll,
    sequence_perceptron,
)


def draw(seed, *shape):
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def answers(unary, pairwise, labels):
    """Energies of all labellings of one sequence, which is right, and how many labels each has wrong."""
    listed = list(itertools.product(range(unary.shape[1]), repeat=unary.shape[0]))
    energy = torch.stack(
        [
            sum((unary[t, k] for t, k in enumerate(y)), unary.new_zeros(()))
            + sum((pairwise[i, j] for i, j in itertools.pairwise(y)), unary.new_zeros(()))
            for y in listed
        ]
    )
    wrong = torch.tensor([float(sum(a != b for a, b in zip(y, labels, strict=True))) for y in listed])
    return energy, torch.tensor(listed.index(tuple(labels))), wrong.to(unary)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    places=st.integers(1, 4),
    size=st.integers(1, 3),
    margin=st.sampled_from([0.0, 0.5, 3.0]),
    beta=st.sampled_from([0.3, 1.0, 6.0]),
)
def test_losses_are_those_over_listed_answers(seed, places, size, margin, beta):
    """Of three sequences, the last is a place shorter and padded with rubbish."""
    unary, pairwise = draw(seed, 3, places, size), draw(seed + 1, size, size)
    labels = torch.randint(size, (3, places), generator=torch.Generator().manual_seed(seed))
    lengths = torch.tensor([places, places, places - 1])
    truth = {"perceptron": [], "hinge": [], "nll": []}
    for i, n in enumerate(lengths.tolist()):
        energy, target, wrong = answers(unary[i, :n], pairwise, labels[i, :n].tolist())
        truth["perceptron"].append(losses.perceptron(energy, target))
        truth["hinge"].append((energy[target] - energy + margin * wrong).max())
        truth["nll"].append(losses.nll(energy, target, beta))
    unary[2, -1], labels[2, -1] = math.nan, 99
    assert_close(sequence_perceptron(unary, pairwise, labels, lengths=lengths), torch.stack(truth["perceptron"]))
    assert_close(sequence_hinge(unary, pairwise, labels, margin, lengths=lengths), torch.stack(truth["hinge"]))
    assert_close(sequence_nll(unary, pairwise, labels, beta, lengths=lengths), torch.stack(truth["nll"]))


def test_slopes_are_one_occupation_less_another():
    unary, pairwise, labels = draw(0, 5, 3), draw(1, 3, 3), torch.tensor([0, 2, 1, 1, 0])
    right = torch.nn.functional.one_hot(labels, 3).double()
    for loss, semiring in ((sequence_perceptron, Minimum()), (sequence_nll, SoftMinimum(1.0))):
        leaf = unary.clone().requires_grad_()
        loss(leaf, pairwise, labels).backward()
        (model,) = occupation(lambda u: chain(u, pairwise, semiring), unary)  # noqa: B023
        assert_close(leaf.grad, right - model)


def test_slopes_by_finite_differences():
    unary, pairwise = draw(2, 2, 4, 3).requires_grad_(), draw(3, 3, 3).requires_grad_()
    labels = torch.tensor([[0, 1, 2, 0], [1, 1, 0, 2]])
    for loss in (sequence_perceptron, sequence_hinge, sequence_nll):
        assert torch.autograd.gradcheck(lambda u, v: loss(u, v, labels), (unary, pairwise))  # noqa: B023


def test_margin_of_each_loss():
    """The right labelling 2 below all others: the perceptron is content, the hinge wants m for each wrong label."""
    unary = torch.tensor([[0.0, 2.0], [0.0, 2.0]])
    labels, none = torch.tensor([0, 0]), torch.zeros(2, 2)
    assert float(sequence_perceptron(unary, none, labels)) == 0
    assert float(sequence_hinge(unary, none, labels, 2.0)) == 0
    assert float(sequence_hinge(unary, none, labels, 3.0)) == 2  # 1 too little for each of the two
    assert float(sequence_hinge(unary, none, labels, 0.0)) == 0
    assert float(sequence_nll(unary, none, labels)) == pytest.approx(2 * math.log(1 + math.exp(-2)))


def test_nll_tends_to_the_perceptron():
    unary, pairwise, labels = draw(4, 3, 6, 4), draw(5, 4, 4), torch.zeros(3, 6, dtype=torch.long)
    limit = sequence_perceptron(unary, pairwise, labels)
    assert_close(sequence_nll(unary, pairwise, labels, 1e5), limit, atol=1e-3, rtol=0)


def test_forbidden_labels_and_empty_sequences():
    unary, pairwise = torch.tensor([[0.0, torch.inf], [1.0, 0.0]]), torch.zeros(2, 2)
    assert float(sequence_nll(unary, pairwise, torch.tensor([0, 1]))) == pytest.approx(math.log(1 + math.exp(-1)))
    for loss in (sequence_perceptron, sequence_hinge, sequence_nll):
        with pytest.raises(ValueError, match="right labelling must be possible: 1 of 1"):
            loss(unary, pairwise, torch.tensor([1, 1]))
        assert float(loss(torch.zeros(0, 2), pairwise, torch.zeros(0, dtype=torch.long))) == 0


def test_bad_input_is_refused():
    unary, pairwise, labels = torch.zeros(3, 2), torch.zeros(2, 2), torch.zeros(3, dtype=torch.long)
    for margin in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="margin must be at least 0 and finite"):
            sequence_hinge(unary, pairwise, labels, margin)
    with pytest.raises(ValueError, match="beta"):
        sequence_nll(unary, pairwise, labels, math.inf)
    with pytest.raises(ValueError, match="labels must be from 0 to 1"):
        sequence_hinge(unary, pairwise, labels + 2)


def test_device_follows_inputs():
    unary, pairwise = torch.empty(2, 3, 4, device="meta"), torch.empty(4, 4, device="meta")
    labels = torch.zeros(2, 3, dtype=torch.long, device="meta")
    for loss in (sequence_perceptron, sequence_hinge, sequence_nll):
        assert loss(unary, pairwise, labels).device.type == "meta"
