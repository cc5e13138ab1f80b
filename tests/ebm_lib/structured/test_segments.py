"""Segmentations against all of them, listed."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from ebm_lib.structured import (
    Minimum,
    Sampled,
    SoftMinimum,
    best_segmentations,
    chain,
    occupation,
    segmentation,
    spelling,
    spelling_loss,
)

SEMIRINGS = [Minimum(), SoftMinimum(0.7), SoftMinimum(5.0)]


def cuts(places: int, most: int):
    """All ways to write the number of places as a sum of widths."""
    if places == 0:
        yield ()
    for width in range(1, min(places, most) + 1):
        for rest in cuts(places - width, most):
            yield (width, *rest)


def readings(energy, pairwise=None):
    """All segmentations of one sample, (T, W, K): energy, labels, widths."""
    places, most, size = energy.shape
    for widths in cuts(places, most):
        for labels in itertools.product(range(size), repeat=len(widths)):
            total, end = 0.0, 0
            for width, label in zip(widths, labels, strict=True):
                end += width
                total += float(energy[end - 1, width - 1, label])
            if pairwise is not None:
                total += sum(float(pairwise[i, j]) for i, j in itertools.pairwise(labels))
            yield total, labels, widths


def reduce(semiring, energies):
    """What a semiring makes of listed energies."""
    if not energies:
        return math.inf
    return float(semiring(torch.tensor(energies, dtype=torch.float64), 0))


def draw(seed, *shape, forbidden=0.0):
    generator = torch.Generator().manual_seed(seed)
    energy = 2 * torch.randn(*shape, generator=generator, dtype=torch.float64)
    return energy.masked_fill(torch.rand(*shape, generator=generator) < forbidden, math.inf)


cases = given(
    seed=st.integers(0, 10**6),
    places=st.integers(0, 5),
    most=st.integers(1, 4),
    size=st.integers(1, 3),
    moves=st.booleans(),
    forbidden=st.sampled_from([0.0, 0.3]),
)


def problem(seed, places, most, size, moves, forbidden):
    """Three samples of different lengths, one of them empty, with rubbish behind the ends."""
    energy = draw(seed, 3, places, most, size, forbidden=forbidden)
    pairwise = draw(seed + 1, size, size, forbidden=forbidden) if moves else None
    lengths = torch.tensor([places, max(places - 1, 0), 0])
    single = [energy[i, : int(n)].clone() for i, n in enumerate(lengths)]
    for i, n in enumerate(lengths):
        energy[i, int(n) :] = math.nan
    for t in range(min(places, most - 1)):
        energy[:, t, t + 1 :] = -math.inf  # would begin before the first place
    return energy, pairwise, lengths, single


@settings(max_examples=60, deadline=None)
@cases
def test_free_energy_is_that_of_all_segmentations(seed, places, most, size, moves, forbidden):
    energy, pairwise, lengths, single = problem(seed, places, most, size, moves, forbidden)
    for semiring in SEMIRINGS:
        found = segmentation(energy, semiring, pairwise=pairwise, lengths=lengths)
        truth = [reduce(semiring, [e for e, *_ in readings(one, pairwise)]) for one in single]
        assert_close(found, torch.tensor(truth, dtype=torch.float64))


@settings(max_examples=60, deadline=None)
@cases
def test_spelling_is_over_the_segmentations_that_read_the_string(seed, places, most, size, moves, forbidden):
    energy, pairwise, lengths, single = problem(seed, places, most, size, moves, forbidden)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(size, (3, 3), generator=generator)
    counts = torch.tensor([3, 1, 0])
    labels[1, 1:] = -7  # behind the end anything
    for semiring in SEMIRINGS:
        found = spelling(energy, labels, semiring, pairwise=pairwise, lengths=lengths, label_lengths=counts)
        for i, one in enumerate(single):
            string = tuple(labels[i, : int(counts[i])].tolist())
            truth = reduce(semiring, [e for e, read, _ in readings(one, pairwise) if read == string])
            assert_close(float(found[i]), truth)


@settings(max_examples=60, deadline=None)
@cases
def test_best_segmentations_are_the_first_of_all_in_order(seed, places, most, size, moves, forbidden):
    energy, pairwise, lengths, single = problem(seed, places, most, size, moves, forbidden)
    n = 4
    found = best_segmentations(energy, n, pairwise=pairwise, lengths=lengths)
    for i, one in enumerate(single):
        listed = sorted(x for x in readings(one, pairwise) if math.isfinite(x[0]))
        for k in range(n):
            count = int(found.count[i, k])
            if k >= len(listed):
                assert found.energy[i, k] == math.inf
                assert count == 0
            else:
                truth, labels, widths = listed[k]
                assert_close(float(found.energy[i, k]), truth)
                assert tuple(found.labels[i, k, :count].tolist()) == labels
                assert tuple(found.widths[i, k, :count].tolist()) == widths
            assert (found.labels[i, k, count:] == -1).all()
            assert (found.widths[i, k, count:] == 0).all()


def test_segments_of_one_place_are_a_chain():
    """With W = 1 nothing is latent: the recursion is the chain's."""
    energy, pairwise = draw(0, 2, 6, 1, 4), draw(1, 4, 4)
    for semiring in SEMIRINGS:
        assert_close(segmentation(energy, semiring, pairwise=pairwise), chain(energy[:, :, 0], pairwise, semiring))


def test_equal_energies_count_segmentations():
    """T places have 2^(T−1) segmentations, and K labels for each segment K(1 + K)^(T−1) readings."""
    for places, size in ((1, 1), (4, 1), (5, 3)):
        free = segmentation(torch.zeros(places, places, size, dtype=torch.float64), SoftMinimum())
        assert_close(math.exp(-float(free)), float(size * (1 + size) ** (places - 1)))


def test_strings_share_out_the_partition_sum():
    energy, pairwise = draw(3, 4, 3, 2), draw(4, 2, 2)
    strings = [torch.tensor(y) for s in range(1, 5) for y in itertools.product(range(2), repeat=s)]
    nll = torch.stack(
        [
            spelling(energy, y, SoftMinimum(2.0), pairwise=pairwise)
            - segmentation(energy, SoftMinimum(2.0), pairwise=pairwise)
            for y in strings
        ]
    )
    assert_close(torch.exp(-2 * nll).sum(), torch.tensor(1.0, dtype=torch.float64))


@pytest.mark.parametrize("moves", [False, True])
def test_occupation_is_the_probability_of_a_segment(moves):
    energy, pairwise, beta = draw(5, 4, 3, 2), draw(6, 2, 2) if moves else None, 0.8
    (found,) = occupation(lambda e: segmentation(e, SoftMinimum(beta), pairwise=pairwise), energy)
    truth, total = torch.zeros_like(energy), 0.0
    for e, labels, widths in readings(energy, pairwise):
        weight, end = math.exp(-beta * e), 0
        total += weight
        for label, width in zip(labels, widths, strict=True):
            end += width
            truth[end - 1, width - 1, label] += weight
    assert_close(found, truth / total)


def test_samples_follow_the_probabilities():
    energy = draw(7, 3, 2, 2)
    (expected,) = occupation(lambda e: segmentation(e, SoftMinimum()), energy)
    semiring = Sampled(1.0, torch.Generator().manual_seed(0))
    (drawn,) = occupation(lambda e: segmentation(e, semiring), energy.expand(4000, -1, -1, -1))
    width = torch.arange(1, 3).unsqueeze(-1)
    assert ((drawn * width).sum((1, 2, 3)) == 3).all()  # each draw covers all places
    assert_close(drawn.mean(0), expected, atol=0.035, rtol=0)  # 4 standard errors of a share are at most 0.032


def test_loss_and_its_slopes():
    """Slopes are one occupation less another; β = ∞ is the perceptron's limit."""
    energy, labels = draw(8, 5, 3, 2), torch.tensor([0, 1, 0])
    for beta in (1.0, math.inf):
        leaf = energy.clone().requires_grad_()
        spelling_loss(leaf, labels, beta).backward()
        semiring = Minimum() if math.isinf(beta) else SoftMinimum(beta)
        (right,) = occupation(lambda e: spelling(e, labels, semiring), energy)  # noqa: B023
        (model,) = occupation(lambda e: segmentation(e, semiring), energy)  # noqa: B023
        assert_close(leaf.grad, right - model)
    assert_close(spelling_loss(energy, labels, 1e4), spelling_loss(energy, labels, math.inf), atol=1e-3, rtol=0)
    assert float(spelling_loss(energy, labels, math.inf)) >= 0


@pytest.mark.parametrize("beta", [0.7, 1.0, 3.0, math.inf])
@pytest.mark.parametrize("moves", [False, True])
def test_loss_is_the_string_against_all_strings(beta, moves):
    energy, pairwise = draw(5, 2, 4, 3, 2), draw(6, 2, 2) if moves else None
    labels, lengths, counts = torch.tensor([[0, 1, 1], [1, 0, 7]]), torch.tensor([4, 3]), torch.tensor([3, 2])
    found = spelling_loss(energy, labels, beta, pairwise=pairwise, lengths=lengths, label_lengths=counts)
    semiring = Minimum() if math.isinf(beta) else SoftMinimum(beta)
    for sample, string, length, count, loss in zip(energy, labels, lengths, counts, found, strict=True):
        listed = list(readings(sample[:length], pairwise))
        string = tuple(string[:count].tolist())
        right = reduce(semiring, [e for e, read, _ in listed if read == string])
        every = reduce(semiring, [e for e, _, _ in listed])
        assert float(loss) == pytest.approx(right - every, abs=1e-12)


def test_double_slopes_of_the_soft_minimum():
    energy = draw(9, 3, 2, 2).requires_grad_()
    pairwise = draw(10, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda e, v: segmentation(e, SoftMinimum(), pairwise=v), (energy, pairwise))
    string = torch.tensor([0, 1])
    assert torch.autograd.gradcheck(lambda e, v: spelling(e, string, SoftMinimum(), pairwise=v), (energy, pairwise))


def test_shape_dtype_device():
    energy = torch.empty(2, 3, 6, 4, 5, device="meta")
    assert segmentation(energy).shape == (2, 3)
    assert segmentation(energy, SoftMinimum()).device.type == "meta"
    assert segmentation(draw(0, 6, 4, 5)).dtype == torch.float64
    labels = torch.zeros(2, 3, 2, dtype=torch.long, device="meta")
    assert spelling(energy, labels).shape == (2, 3)
    found = best_segmentations(draw(0, 2, 3, 6, 4, 5), 7)
    assert found.labels.shape == found.widths.shape == (2, 3, 7, 6)
    assert found.count.shape == found.energy.shape == (2, 3, 7)
    assert best_segmentations(draw(0, 0, 6, 4, 5), 2).labels.shape == (0, 2, 6)
    assert segmentation(draw(0, 0, 6, 4, 5)).shape == (0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"energy": torch.zeros(3, 2)}, r"energy must be \(\.\.\., T, W, K\), got shape \(3, 2\)"),
        ({"energy": torch.zeros(2, 3, 0, 2)}, "energy"),
        ({"energy": torch.zeros(2, 3, 2, 0)}, "energy"),
        ({"energy": torch.zeros(2, 3, 2, 2, dtype=torch.long)}, "floating point"),
        ({"energy": torch.full((2, 3, 2, 2), math.nan)}, "energy"),
        ({"pairwise": torch.zeros(3, 3)}, r"pairwise must be \(K, K\) with K = 2"),
        ({"pairwise": torch.full((2, 2), -math.inf)}, "pairwise"),
        ({"lengths": torch.tensor([1, 4])}, "lengths must be from 0 to 3, got 1 to 4"),
        ({"lengths": torch.tensor([1])}, "lengths must hold one number per sequence"),
        ({"lengths": torch.tensor([1.0, 2.0])}, "lengths must be integers"),
    ],
)
def test_bad_input_is_refused(change, message):
    given_ = {"energy": torch.zeros(2, 3, 2, 2)} | change
    energy = given_.pop("energy")
    for call in (segmentation, best_segmentations):
        with pytest.raises(ValueError, match=message):
            call(energy, **given_)


def test_bad_strings_are_refused():
    energy = torch.zeros(2, 3, 2, 2)
    with pytest.raises(ValueError, match="labels must be from 0 to 1, got 0 to 2"):
        spelling(energy, torch.tensor([[0, 2], [0, 1]]))
    with pytest.raises(ValueError, match="labels must be"):
        spelling(energy, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="label_lengths must be from 0 to 2"):
        spelling(energy, torch.zeros(2, 2, dtype=torch.long), label_lengths=torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="1 of 2 have none"):
        spelling_loss(energy, torch.zeros(2, 2, dtype=torch.long), lengths=torch.tensor([3, 1]))
    with pytest.raises(ValueError, match="n must be"):
        best_segmentations(energy, 0)
