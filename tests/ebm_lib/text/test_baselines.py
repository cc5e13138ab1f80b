"""Counts of words and pairs: against enumeration in plain Python, and a chain whose truth is known."""

import itertools
import math
from collections import Counter
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_lib import text

D = torch.float64
PIECES = st.lists(st.lists(st.integers(0, 4), max_size=9), min_size=1, max_size=3).filter(
    lambda pieces: any(len(piece) > 1 for piece in pieces)
)


def tensors(pieces):
    return [torch.tensor(piece, dtype=torch.int64) for piece in pieces]


@given(st.lists(st.integers(0, 4), max_size=20), st.sampled_from([0.5, 1.0, 3.0]))
def test_unigram_is_counts_over_their_sum(numbers, alpha):
    model = text.Unigram(torch.tensor(numbers, dtype=torch.int64), 5, alpha=alpha, dtype=D)
    expected = [math.log((numbers.count(w) + alpha) / (len(numbers) + 5 * alpha)) for w in range(5)]
    assert model.log_p.tolist() == pytest.approx(expected, rel=1e-12)
    assert model.log_prob(torch.tensor([[0, 1]]), torch.tensor([[2, 2]])).tolist() == [[model.log_p.tolist()] * 2]


@settings(deadline=None, max_examples=25)
@given(PIECES, st.sampled_from([Fraction(1, 4), Fraction(3, 4)]))
def test_bigram_against_fractions(pieces, discount):
    pairs = Counter(pair for piece in pieces for pair in itertools.pairwise(piece))
    lead = [Fraction(len({a for a, b in pairs if b == w})) + Fraction(1, 2) for w in range(5)]
    p = [[Fraction(0)] * 5 for _ in range(5)]
    for left in range(5):
        total = sum(pairs[left, w] for w in range(5))
        kinds = sum(pairs[left, w] > 0 for w in range(5))
        for w in range(5):
            short = lead[w] / sum(lead)
            if total == 0:
                p[left][w] = short
            else:
                p[left][w] = max(pairs[left, w] - discount, 0) / Fraction(total) + discount * kinds / total * short
        assert sum(p[left]) == 1
    model = text.Bigram(tensors(pieces), 5, discount=float(discount), dtype=D)
    assert model.log_p.exp().flatten().tolist() == pytest.approx([float(q) for row in p for q in row], rel=1e-12)
    left, right = torch.cartesian_prod(torch.arange(5), torch.arange(5)).T
    between = model.log_prob(left, right).exp().tolist()
    for place, (before, after) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
        masses = [float(p[before][w] * p[w][after]) for w in range(5)]
        assert between[place] == pytest.approx([mass / sum(masses) for mass in masses], rel=1e-12)


def test_a_true_chain_is_found_from_both_sides():
    g = torch.Generator().manual_seed(0)
    p = torch.rand(6, 6, generator=g, dtype=D).pow(3)
    p = p / p.sum(-1, keepdim=True)
    chains = [torch.randint(6, (4000,), generator=g)]
    for _ in range(30):
        chains.append(torch.multinomial(p[chains[-1]], 1, generator=g).squeeze(-1))
    y = torch.stack(chains, -1)
    model = text.Bigram(list(y[:3500]), 6, discount=0.1, dtype=D)
    left, right = torch.cartesian_prod(torch.arange(6), torch.arange(6)).T
    joint = p[left] * p.T[right]
    torch.testing.assert_close(
        model.log_prob(left, right).exp(), joint / joint.sum(-1, keepdim=True), atol=0.03, rtol=0
    )
    places = text.mask_apart(y[3500:] + 5, 4, generator=g).places
    costs = {
        name: text.blank_energies(m, y[3500:], places).mean()
        for name, m in {"two": model, "one": text.Unigram(y[:3500], 6, dtype=D)}.items()
    }
    one_sided = -model.log_p[y[3500:][places.roll(-1, -1)], y[3500:][places]].mean()
    assert costs["two"] + 0.1 < one_sided < costs["one"] - 0.1


def test_energies_of_blanks_are_those_of_the_words_in_between_whatever_the_batch():
    y = torch.randint(0, 5, (6, 9), generator=torch.Generator().manual_seed(0))
    places = torch.zeros(6, 9, dtype=torch.bool)
    places[0, 3] = places[2, 1] = places[2, 7] = places[5, 4] = True
    model = text.Bigram(list(y), 5, dtype=D)
    expected = [-model.log_prob(y[i, t - 1], y[i, t + 1])[y[i, t]].item() for i, t in places.nonzero().tolist()]
    for batch in (1, 3, 4096):
        assert text.blank_energies(model, y, places, batch=batch).tolist() == pytest.approx(expected, rel=1e-12)


def test_texts_without_a_word_have_no_blanks():
    empty = torch.zeros(3, 0, dtype=torch.int64)
    assert text.blank_energies(text.Unigram(Y, 5), empty, empty.bool()).shape == (0,)


P = torch.tensor([False, True, False])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: text.Unigram(torch.tensor([5]), 5), "from 0 to 4"),
        (lambda: text.Unigram(torch.tensor([1]), 5, alpha=0.0), "alpha must be positive"),
        (lambda: text.Unigram(torch.tensor([1]), 5, alpha=math.nan), "alpha must be positive"),
        (lambda: text.Unigram(torch.tensor([1]), 5, alpha=math.inf), "alpha must be positive and finite, got inf"),
        (lambda: text.Bigram(torch.tensor([1, 5]), 5), "from 0 to 4"),
        (lambda: text.Bigram(torch.tensor([1]), 5), "at least one pair"),
        (lambda: text.Bigram([], 5), "at least one pair"),
        (lambda: text.Bigram(torch.tensor([[1, 2]]), 5), "must be a row"),
        (lambda: text.Bigram(torch.tensor([1, 2]), 5, discount=1.0), "discount must be"),
        (lambda: text.Bigram(torch.tensor([1, 2]), 5, discount=0.0), "discount must be"),
        (lambda: text.Bigram(torch.tensor([1, 2]), 5).log_prob(torch.tensor(5), torch.tensor(1)), "left must be"),
        (lambda: text.Bigram(torch.tensor([1, 2]), 5).log_prob(torch.tensor(1), torch.tensor(-1)), "right must be"),
        (lambda: text.Unigram(torch.tensor([1]), 5).log_prob(torch.tensor([1]), torch.tensor(1)), "one shape"),
        (lambda: text.blank_energies(text.Unigram(Y, 5), Y, P[:2]), "places must be bool"),
        (lambda: text.blank_energies(text.Unigram(Y, 5), Y, P.long()), "places must be bool"),
        (lambda: text.blank_energies(text.Unigram(Y, 5), Y, ~P), "first and the last"),
        (lambda: text.blank_energies(text.Unigram(Y, 5), Y, P.roll(1)), "first and the last"),
        (lambda: text.blank_energies(text.Unigram(Y, 5), Y, P, batch=0), "batch must be"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


Y = torch.tensor([1, 2, 3])
