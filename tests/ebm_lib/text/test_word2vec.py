"""Skip-gram: noise, thinning and pairs against their formulas, the loss and its slopes by hand, the optimum."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ebm_lib import text
from ebm_lib.energy import evaluate

D = torch.float64


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@example([0, 0, 0, 0, 0, 0, 3], 0)
@given(
    st.lists(st.integers(0, 1000), min_size=6, max_size=12).filter(lambda c: any(c[5:])), st.sampled_from([0, 0.75, 1])
)
def test_noise_is_the_flattened_frequency(counts, power):
    masses = [0.0 if i < 5 or c == 0 else c**power for i, c in enumerate(counts)]
    q = text.noise_distribution(torch.tensor(counts), power, dtype=D)
    assert q.tolist() == pytest.approx([mass / sum(masses) for mass in masses], rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_noise_from_long_texts_in_any_precision_and_at_any_power(dtype):
    counts = torch.tensor([10**9, 0, 0, 0, 0, 8 * 10**7, 10**7, 0])
    for power in (0.75, 1.0, 200.0):
        masses = [0.0] * 5 + [8**power, 1.0, 0.0]
        q = text.noise_distribution(counts, power, dtype=dtype)
        assert q.dtype == dtype
        assert q.tolist() == pytest.approx([m / sum(masses) for m in masses], rel=2 * torch.finfo(dtype).eps)


def test_words_are_drawn_as_the_noise_says():
    noise = torch.tensor([0.0, 0.0, 0.2, 0.0, 0.5, 0.3, 0.0], dtype=D)
    drawn = text.draw_words(noise * 3, (300, 1000), generator=gen())
    share = torch.bincount(drawn.flatten(), minlength=7).double() / drawn.numel()
    assert ((share - noise).abs() <= 5 * (noise * (1 - noise) / drawn.numel()).sqrt()).all()


@pytest.mark.parametrize(("extreme", "word"), [(0.0, 2), (1.0, 5)])
def test_no_draw_is_a_word_of_probability_zero(monkeypatch, extreme, word):
    """Zero can be drawn, and a draw just below one may round to the whole."""
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, extreme, dtype=D))
    assert text.draw_words(torch.tensor([0.0, 0.0, 0.3, 0.0, 0.1, 0.6, 0.0]), (3,)).tolist() == [word] * 3


def test_frequent_words_are_thinned_by_the_papers_formula():
    counts = torch.tensor([0, 900, 0, 0, 0, 100_000, 9_000, 90, 10])
    numbers = torch.arange(9).repeat_interleave(torch.tensor([50] * 5 + [40_000] * 4))
    kept = text.subsample(numbers, counts, 1e-2, generator=gen())
    assert torch.equal(kept, kept.sort().values)
    share = torch.bincount(kept, minlength=9).double() / torch.tensor([50.0] * 5 + [40_000.0] * 4)
    total = counts.sum().item()
    for word in range(5, 9):
        p = min(1.0, math.sqrt(1e-2 * total / counts[word].item()))
        assert abs(share[word].item() - p) <= 5 * math.sqrt(p * (1 - p) / 40_000)
    assert share[5] < 0.2
    assert share[7] == 1
    assert (share[:5] == 0).all()


def test_special_words_count_in_the_shares_of_the_text():
    counts = torch.tensor([0, 9000, 0, 0, 0, 1000])
    kept = text.subsample(torch.full((40_000,), 5), counts, 0.05, generator=gen())
    p = math.sqrt(0.05 / 0.1)
    assert abs(len(kept) / 40_000 - p) < 5 * math.sqrt(p * (1 - p) / 40_000)


@settings(deadline=None)
@given(st.integers(0, 9), st.integers(1, 12))
def test_pairs_within_the_longest_reach(length, window):
    """With each reach drawn, a pair at distance d is taken only if the reach of its first word is at least d."""
    numbers = torch.arange(10, 10 + length)
    x, y = text.skip_gram_pairs(numbers, window, generator=gen(length))
    assert x.shape == y.shape == (x.numel(), 1)
    reach = torch.randint(1, window + 1, (length,), generator=gen(length)).tolist()
    expected = {(10 + i, 10 + j) for i in range(length) for j in range(length) if i != j and abs(i - j) <= reach[i]}
    assert sorted(zip(x.flatten().tolist(), y.flatten().tolist(), strict=True)) == sorted(expected)


def test_nearer_neighbours_are_taken_more_often():
    x, y = text.skip_gram_pairs(torch.arange(60_000), 4, generator=gen())
    for distance in range(1, 6):
        for sign in (-1, 1):
            p = max(0.0, 1 - (distance - 1) / 4)
            share = ((y - x) == sign * distance).sum().item() / 60_000
            assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / 60_000) + 1e-4


ENERGIES = st.floats(-30, 30)


@given(ENERGIES, st.lists(ENERGIES, min_size=1, max_size=5))
def test_the_loss_and_its_slopes_by_hand(positive, negative):
    f = torch.tensor(positive, dtype=D, requires_grad=True)
    g = torch.tensor(negative, dtype=D, requires_grad=True)
    loss = text.negative_sampling(f, g)
    expected = math.log1p(math.exp(positive)) + sum(math.log1p(math.exp(-n)) for n in negative)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    loss.backward()
    assert f.grad.item() == pytest.approx(1 / (1 + math.exp(-positive)), rel=1e-9)
    assert g.grad.tolist() == pytest.approx([-1 / (1 + math.exp(n)) for n in negative], rel=1e-9)


def test_the_loss_at_extremes():
    f = torch.tensor([1e6, -1e6, 0.0], dtype=D)
    g = torch.tensor([[1e6, math.inf], [-1e6, 1e6], [math.inf, math.inf]], dtype=D)
    assert text.negative_sampling(f, g).tolist() == pytest.approx([1e6, 1e6, math.log(2)])


def test_skip_grams_slopes_by_hand():
    model = text.SkipGram(9, 4, generator=gen(), dtype=D)
    with torch.no_grad():
        model.v.copy_(torch.randn(9, 4, generator=gen(1), dtype=D))
    x, y, negatives = torch.tensor([6]), torch.tensor([7]), torch.tensor([[8], [5], [8]])
    text.negative_sampling(model(x, y), model(x[None], negatives)).backward()
    u, v = model.u.detach(), model.v.detach()
    sigma = lambda t: 1 / (1 + math.exp(-t))
    du, dv = torch.zeros(9, 4, dtype=D), torch.zeros(9, 4, dtype=D)
    wrong = sigma(-(u[6] @ v[7]).item())  # how far the pair is from being believed
    du[6] -= wrong * v[7]
    dv[7] -= wrong * u[6]
    for n in (8, 5, 8):
        believed = sigma((u[6] @ v[n]).item())
        du[6] += believed * v[n]
        dv[n] += believed * u[6]
    torch.testing.assert_close(model.u.grad, du)
    torch.testing.assert_close(model.v.grad, dv)


def test_energies_are_minus_the_product_and_broadcast():
    model = text.SkipGram(9, 4, generator=gen(), dtype=D)
    assert (model(torch.tensor([[5]]), torch.arange(9)[:, None]) == 0).all()  # v starts at zero
    assert model.u.abs().max() <= 1 / 8
    assert model.u.std() > 0.05
    with torch.no_grad():
        model.v.normal_(generator=gen())
    x, y = torch.arange(5, 8)[:, None, None], torch.arange(9)[None, :, None]
    torch.testing.assert_close(evaluate(model, x, y), -(model.u[5:8] @ model.v.T))


def test_free_energies_learn_shifted_pointwise_mutual_information():
    """At the optimum over a table of energies, -F = log(P(y|x) / (K q(y))) (Levy and Goldberg)."""
    p = torch.rand(4, 5, generator=gen(), dtype=D) + 0.1
    p = p / p.sum()
    q, k = p.sum(0), 3
    target = (p / p.sum(1, keepdim=True) / (k * q)).log()
    f = (-target).clone().requires_grad_()
    # The expected loss: pairs from p, each with k negatives from q.
    pairs = text.negative_sampling(f[..., None], torch.full((4, 5, 1, 1), math.inf, dtype=D)).squeeze(-1)
    cold = text.negative_sampling(torch.full((4, 5), -1e9, dtype=D), f[..., None])
    expected = (p * pairs).sum() + k * (p.sum(1, keepdim=True) * q * cold).sum()
    (slope,) = torch.autograd.grad(expected, f)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-12, rtol=0)


def test_words_that_share_neighbours_become_neighbours():
    """Two kinds of word, each in a context of its own: 5 to 9 near 15, 10 to 14 near 16."""
    g = gen()
    kinds = torch.randint(0, 2, (6000,), generator=g)
    words = 5 + 5 * kinds + torch.randint(0, 5, (6000,), generator=g)
    model = text.SkipGram(17, 6, generator=g)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    noise = text.noise_distribution(text.word_counts(torch.cat([words, 15 + kinds]), 17))
    for _ in range(150):
        at = torch.randint(0, 6000, (256,), generator=g)
        x, y = words[at, None], 15 + kinds[at, None]
        loss = text.negative_sampling(model(x, y), model(x[:, None], text.draw_words(noise, (256, 5, 1), generator=g)))
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    cosines, found = text.nearest(model.u.detach(), torch.arange(5, 15), k=4)
    assert torch.equal(found.sort(-1).values[0], torch.tensor([6, 7, 8, 9]))
    assert ((found >= 10) == (torch.arange(5, 15) >= 10)[:, None]).all()
    assert (cosines > 0.5).all()


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_nearest_against_sorting(seed, k):
    vectors = torch.randn(10, 3, generator=gen(seed), dtype=D)
    cosines, found = text.nearest(vectors, torch.tensor([[7], [5]]), k)
    assert cosines.shape == found.shape == (2, 1, k)
    for row, word in ((0, 7), (1, 5)):
        others = {
            w: torch.nn.functional.cosine_similarity(vectors[word], vectors[w], dim=0).item()
            for w in range(5, 10)
            if w != word
        }
        expected = sorted(others, key=lambda w: -others[w])[:k]
        assert found[row, 0].tolist() == expected
        assert cosines[row, 0].tolist() == pytest.approx([others[w] for w in expected])


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e25])
def test_nearest_does_not_depend_on_lengths(scale):
    vectors = torch.randn(9, 3, generator=gen())
    expected, found = text.nearest(vectors, ONE, 3), text.nearest(scale * vectors, ONE, 3)
    assert torch.equal(found[1], expected[1])
    torch.testing.assert_close(found[0], expected[0])
    vectors[7] = 0
    assert text.nearest(vectors, torch.tensor([7]), 3)[0].tolist() == [[0.0] * 3]


C = torch.tensor([0, 0, 0, 0, 0, 1, 1])
ONE = torch.tensor([5])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: text.noise_distribution(C[:5]), "positive for at least one word"),
        (lambda: text.noise_distribution(C - 1), "must not be negative"),
        (lambda: text.noise_distribution(C[None]), "one number a word"),
        (lambda: text.noise_distribution(C, -1), "power must be"),
        (lambda: text.noise_distribution(C, math.inf), "power must be"),
        (lambda: text.noise_distribution(C, math.nan), "power must be"),
        (lambda: text.draw_words(torch.zeros(3), (1,)), "noise must not be negative, and positive"),
        (lambda: text.draw_words(torch.tensor([1.0, math.nan]), (1,)), "must be finite"),
        (lambda: text.draw_words(torch.tensor([1.0, -1.0]), (1,)), "must not be negative"),
        (lambda: text.subsample(ONE, C, 0.0), "threshold must be"),
        (lambda: text.subsample(ONE + 2, C), "from 0 to 6"),
        (lambda: text.subsample(ONE[None], C), "must be a row"),
        (lambda: text.skip_gram_pairs(ONE[None]), "must be a row"),
        (lambda: text.skip_gram_pairs(ONE.double()), "must be a row"),
        (lambda: text.skip_gram_pairs(ONE, 0), "window must be"),
        (lambda: text.negative_sampling(torch.zeros(2), torch.zeros(2, 0)), "at least one entry"),
        (lambda: text.negative_sampling(torch.zeros(2), torch.zeros(3, 1)), "negative must be"),
        (lambda: text.negative_sampling(torch.tensor([math.inf]), torch.zeros(1, 1)), "positive must be finite"),
        (lambda: text.negative_sampling(torch.zeros(1), torch.tensor([[-math.inf]])), "negative must be finite"),
        (lambda: text.SkipGram(0, 2), "size must be"),
        (lambda: text.SkipGram(2, 0), "dim must be"),
        (lambda: text.SkipGram(6, 2)(torch.tensor([6]), ONE), "x must be numbers of words"),
        (lambda: text.SkipGram(6, 2)(ONE, torch.tensor([5, 5])), "y must be words of one coordinate"),
        (lambda: text.SkipGram(6, 2)(torch.tensor(5), ONE), "x must be words of one coordinate"),
        (lambda: text.nearest(torch.zeros(8), ONE), "must be a table"),
        (lambda: text.nearest(torch.full((8, 2), math.nan), ONE), "vectors must be finite"),
        (lambda: text.nearest(torch.zeros(8, 2), torch.tensor([8]), 1), "from 0 to 7"),
        (lambda: text.nearest(torch.zeros(8, 2), ONE, 3), "k must be at most 2"),
        (lambda: text.nearest(torch.zeros(8, 2), ONE, 0), "k must be"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
