"""Chains against enumeration of all labellings, and against hmmlearn."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ebm_lib.structured import Minimum, SoftMinimum, chain, chain_energy, label_marginals, sample_labels, viterbi

INF = math.inf


def all_labellings(unary, pairwise, length):
    """Every labelling of one sequence with its energy, summed term by term in Python."""
    labels = unary.shape[-1]
    for y in itertools.product(range(labels), repeat=length):
        energy = sum(unary[t, y[t]].item() for t in range(length))
        for t in range(length - 1):
            energy += (pairwise if pairwise.ndim == 2 else pairwise[t])[y[t], y[t + 1]].item()
        yield y, energy


def brute(unary, pairwise, length, beta):
    """F of one sequence by enumeration."""
    energies = np.array([energy for _, energy in all_labellings(unary, pairwise, length)])
    if beta == INF or np.isinf(energies).all():
        return energies.min()
    return energies.min() - np.log(np.exp(-beta * (energies - energies.min())).sum()) / beta


@st.composite
def batches(draw, forbidden=True):
    """Unary and pairwise energies of up to 3 sequences of up to 4 places and 3 labels, and their lengths."""
    batch, places, labels = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    numbers = st.floats(-5, 5, width=32)
    if forbidden:
        numbers = numbers | st.just(INF)
    unary = draw(arrays(np.float64, (batch, places, labels), elements=numbers, fill=st.nothing()))
    shape = draw(st.sampled_from([(labels, labels), (batch, places - 1, labels, labels)]))
    pairwise = draw(arrays(np.float64, shape, elements=numbers, fill=st.nothing()))
    lengths = draw(arrays(np.int64, (batch,), elements=st.integers(0, places), fill=st.nothing()))
    return torch.from_numpy(unary), torch.from_numpy(pairwise), torch.from_numpy(lengths)


def one(pairwise, b):
    """The pairwise energies of sequence b."""
    return pairwise if pairwise.ndim == 2 else pairwise[b]


@given(batches(), st.sampled_from([0.3, 1.0, 5.0]))
def test_the_recursion_equals_enumeration_in_both_semirings(problem, beta):
    unary, pairwise, lengths = problem
    lowest = chain(unary, pairwise, Minimum(), lengths=lengths)
    soft = chain(unary, pairwise, SoftMinimum(beta), lengths=lengths)
    for b, length in enumerate(lengths.tolist()):
        assert lowest[b].item() == pytest.approx(brute(unary[b], one(pairwise, b), length, INF))
        assert soft[b].item() == pytest.approx(brute(unary[b], one(pairwise, b), length, beta), abs=1e-9)


@given(batches())
def test_the_best_labelling_has_the_least_energy_of_all(problem):
    unary, pairwise, lengths = problem
    labels, energy = viterbi(unary, pairwise, lengths=lengths)
    for b, length in enumerate(lengths.tolist()):
        least = brute(unary[b], one(pairwise, b), length, INF)
        assert energy[b].item() == pytest.approx(least)
        assert (labels[b, length:] == -1).all()
        if math.isinf(least):
            assert (labels[b] == -1).all()
        else:
            own = dict(all_labellings(unary[b], one(pairwise, b), length))[tuple(labels[b, :length].tolist())]
            assert own == pytest.approx(least)


@given(batches(forbidden=False), st.sampled_from([0.3, 1.0, 5.0]))
def test_marginals_are_the_shares_of_labellings(problem, beta):
    unary, pairwise, lengths = problem
    single, pair = label_marginals(unary, pairwise, beta, lengths=lengths)
    for b, length in enumerate(lengths.tolist()):
        expected, expected_pair = np.zeros(single.shape[1:]), np.zeros(pair.shape[1:])
        free = brute(unary[b], one(pairwise, b), length, beta)
        for y, energy in all_labellings(unary[b], one(pairwise, b), length):
            share = math.exp(-beta * (energy - free))
            for t in range(length):
                expected[t, y[t]] += share
            for t in range(length - 1):
                expected_pair[t, y[t], y[t + 1]] += share
        np.testing.assert_allclose(single[b], expected, atol=1e-9)
        np.testing.assert_allclose(pair[b], expected_pair, atol=1e-9)


@given(batches(), st.data())
def test_the_energy_of_a_labelling_is_the_sum_of_its_terms(problem, data):
    unary, pairwise, lengths = problem
    batch, places, labels = unary.shape
    y = torch.from_numpy(
        data.draw(arrays(np.int64, (batch, places), elements=st.integers(0, labels - 1), fill=st.nothing()))
    )
    energy = chain_energy(unary, pairwise, y, lengths=lengths)
    for b, length in enumerate(lengths.tolist()):
        own = dict(all_labellings(unary[b], one(pairwise, b), length))[tuple(y[b, :length].tolist())]
        assert energy[b].item() == pytest.approx(own)


@given(batches(forbidden=False))
def test_what_lies_behind_the_end_does_not_matter(problem):
    unary, pairwise, lengths = problem
    rubbish = unary.clone()
    for b, length in enumerate(lengths.tolist()):
        rubbish[b, length:] = math.nan
    torch.testing.assert_close(
        chain(unary, pairwise, SoftMinimum(1.0), lengths=lengths),
        chain(rubbish, pairwise, SoftMinimum(1.0), lengths=lengths),
    )
    assert viterbi(unary, pairwise, lengths=lengths).labels.equal(viterbi(rubbish, pairwise, lengths=lengths).labels)


def test_samples_have_the_gibbs_frequencies_of_whole_labellings():
    generator = torch.Generator().manual_seed(0)
    unary = torch.randn(3, 2, dtype=torch.float64, generator=generator)
    pairwise = torch.randn(2, 2, dtype=torch.float64, generator=generator)
    pairwise[1, 0] = INF
    n, beta = 40_000, 1.5
    drawn = sample_labels(unary, pairwise, n, beta, generator=generator)
    assert drawn.shape == (n, 3)
    free = brute(unary, pairwise, 3, beta)
    for y, energy in all_labellings(unary, pairwise, 3):
        share = math.exp(-beta * (energy - free))
        found = (drawn == torch.tensor(y)).all(-1).double().mean().item()
        assert abs(found - share) <= 4 * math.sqrt(share * (1 - share) / n)


def test_samples_of_sequences_of_several_lengths():
    generator = torch.Generator().manual_seed(0)
    unary = torch.tensor([[[0.0, INF], [INF, 0.0]]]).expand(3, 2, 2)
    drawn = sample_labels(unary, torch.zeros(2, 2), 2, lengths=torch.tensor([0, 1, 2]), generator=generator)
    assert drawn.tolist() == [[[-1, -1], [0, -1], [0, 1]]] * 2


def test_the_derivative_agrees_with_differences():
    generator = torch.Generator().manual_seed(0)
    unary = torch.randn(2, 4, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    pairwise = torch.randn(3, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    lengths = torch.tensor([4, 2])
    assert torch.autograd.gradcheck(lambda u, v: chain(u, v, SoftMinimum(2.0), lengths=lengths), (unary, pairwise))


def test_hmmlearn_finds_the_same_path_likelihood_and_posterior():
    hmm = pytest.importorskip("hmmlearn.hmm")
    rng = np.random.default_rng(0)
    states, symbols, places = 5, 7, 30
    model = hmm.CategoricalHMM(n_components=states)
    model.startprob_ = rng.dirichlet(np.ones(states))
    model.transmat_ = rng.dirichlet(np.ones(states), size=states)
    model.emissionprob_ = rng.dirichlet(np.ones(symbols), size=states)
    seen = rng.integers(symbols, size=(4, places))
    unary = -torch.from_numpy(np.log(model.emissionprob_[:, seen].transpose(1, 2, 0).copy()))
    unary[:, 0] -= torch.from_numpy(np.log(model.startprob_))
    pairwise = -torch.from_numpy(np.log(model.transmat_))
    path = viterbi(unary, pairwise)
    likelihood = -chain(unary, pairwise, SoftMinimum(1.0))
    posterior = label_marginals(unary, pairwise).single
    for b in range(4):
        log_probability, states_found = model.decode(seen[b][:, None])
        assert path.labels[b].tolist() == states_found.tolist()
        assert path.energy[b].item() == pytest.approx(-log_probability)
        assert likelihood[b].item() == pytest.approx(model.score(seen[b][:, None]))
        np.testing.assert_allclose(posterior[b], model.predict_proba(seen[b][:, None]), atol=1e-9)


def test_special_cases():
    assert chain(torch.zeros(2, 0, 3), torch.zeros(3, 3)).tolist() == [0.0, 0.0]
    assert viterbi(torch.zeros(2, 0, 3), torch.zeros(3, 3)).labels.shape == (2, 0)
    assert chain(torch.tensor([[2.0], [3.0]]), torch.tensor([[0.5]])).item() == 5.5
    assert chain(torch.zeros(0, 4, 3), torch.zeros(3, 3)).shape == (0,)
    never = torch.full((3, 3), INF)
    assert chain(torch.zeros(2, 3), never).item() == INF
    assert chain(torch.zeros(2, 3), never, SoftMinimum(1.0)).item() == INF
    with pytest.raises(ValueError, match="possible"):
        label_marginals(torch.zeros(2, 3), never)


def test_among_equals_the_lowest_label_is_taken():
    assert viterbi(torch.zeros(4, 3), torch.zeros(3, 3)).labels.tolist() == [0, 0, 0, 0]


U, V = torch.zeros(2, 4, 3), torch.zeros(3, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((U[0, 0], V, None), "unary must be"),
        ((U[..., :0], V[:0, :0], None), "unary"),
        ((U, V[:2], None), "pairwise must be"),
        ((U, torch.zeros(2, 4, 3, 3), None), "pairwise must be"),
        ((U, torch.zeros(5, 3, 3, 3), None), "broadcast"),
        ((torch.full((2, 4, 3), math.nan), V, None), "unary must be finite or"),
        ((U, torch.full((3, 3), -INF), None), "pairwise must be finite or"),
        ((U, V, torch.tensor([1.0, 2.0])), "lengths must be integers"),
        ((U, V, torch.tensor([1, 2, 3])), "lengths must hold"),
        ((U, V, torch.tensor([1, 5])), "lengths must be from 0 to 4"),
        ((U, V, torch.tensor([-1, 4])), "lengths must be from 0 to 4"),
    ],
)
def test_what_is_refused(arguments, message):
    unary, pairwise, lengths = arguments
    for function in (chain, viterbi, label_marginals):
        with pytest.raises(ValueError, match=message):
            function(unary, pairwise, lengths=lengths)


@pytest.mark.parametrize("labels", [torch.zeros(2, 4), torch.zeros(2, 3).long(), torch.full((2, 4), 3)])
def test_labels_that_are_refused(labels):
    with pytest.raises(ValueError, match="labels must be"):
        chain_energy(U, V, labels)


def test_device_and_dtype_follow_the_inputs():
    unary, pairwise = torch.empty(2, 5, 3, device="meta"), torch.empty(3, 3, device="meta")
    lengths = torch.empty(2, device="meta", dtype=torch.long)
    for semiring in (Minimum(), SoftMinimum(1.0)):
        assert chain(unary, pairwise, semiring, lengths=lengths).device.type == "meta"
    assert viterbi(unary, pairwise, lengths=lengths).labels.device.type == "meta"
    assert chain(U.double(), V.double()).dtype == torch.float64


def test_vmap_is_a_batch():
    unary = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
    for semiring in (Minimum(), SoftMinimum(1.0)):
        mapped = torch.func.vmap(lambda u, s=semiring: chain(u, V, s))(unary)
        torch.testing.assert_close(mapped, chain(unary, V, semiring))
