"""Blanks and the masked language model: rates, what is hidden, energies against probabilities, slopes."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_lib import text
from ebm_lib.energy import evaluate
from ebm_lib.inference import exhaustive
from ebm_lib.text import CLS, MASK, PAD, SEP, UNK, MaskedLanguageModel


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def model(size=11, dim=8, heads=2, layers=2, length=9, seed=0, **options):
    return MaskedLanguageModel(size, dim, heads, layers, length, generator=gen(seed), dtype=torch.float64, **options)


def loud(seed=0, **options):
    """A model whose parameters are all large and different, so that each of them is heard."""
    made, g = model(seed=seed, **options), gen(seed + 100)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=g, dtype=torch.float64) * 0.7)
    return made


MANY = torch.randint(5, 1005, (400, 500), generator=gen(5))


def share(hits, trials, p):
    """The observed share is within five standard errors of p."""
    return abs(hits / trials - p) < 5 * math.sqrt(p * (1 - p) / trials)


def test_fifteen_percent_are_chosen_and_hidden_eighty_ten_ten():
    x, places = text.mask_tokens(MANY, 1005, generator=gen())
    chosen = int(places.sum())
    assert share(chosen, MANY.numel(), 0.15)
    assert share(int((x[places] == MASK).sum()), chosen, 0.8)
    same = int((x[places] == MANY[places]).sum())
    assert share(same, chosen, 0.1 + 0.1 / 1000)  # a random word may be the old one
    changed = x[places & (x != MASK) & (x != MANY)]
    assert share(len(changed), chosen, 0.1 * 999 / 1000)
    assert torch.equal(x[~places], MANY[~places])
    assert changed.min() >= 5
    assert changed.max() == 1004
    # Uniform over the words: a chi-square of 999 degrees of freedom.
    counts = torch.bincount(changed - 5, minlength=1000).double()
    chi = ((counts - counts.mean()).square() / counts.mean()).sum().item()
    assert abs(chi - 999) < 5 * math.sqrt(2 * 999)


@pytest.mark.parametrize(("p", "shown"), [(0.4, (0.5, 0.25)), (1.0, (0.0, 1.0)), (0.3, (0.0, 0.0)), (0.0, (1.0, 0.0))])
def test_other_rates(p, shown):
    x, places = text.mask_tokens(MANY, 1005, p=p, shown=shown, generator=gen(1))
    chosen = int(places.sum())
    assert chosen == p * MANY.numel() if p in (0, 1) else share(chosen, MANY.numel(), p)
    if p == 0:
        return
    for part, hits in ((shown[0], x == MASK), (shown[1] * 999 / 1000, (x != MASK) & (x != MANY))):
        count = int(hits[places].sum())
        assert count == 0 if part == 0 else share(count, chosen, part)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(0, 1000))
def test_special_words_are_never_chosen_nor_put_in(tokens, seed):
    y = torch.tensor(tokens)
    x, places = text.mask_tokens(y, 10, p=0.9, generator=gen(seed))
    assert not places[y < 5].any()
    assert torch.equal(x[~places], y[~places])
    assert ((x[places] >= 5) | (x[places] == MASK)).all()
    apart, where = text.mask_apart(y, 3, generator=gen(seed))
    assert not where[y < 5].any()
    assert torch.equal(apart, y.masked_fill(where, MASK))


@settings(deadline=None)
@given(st.integers(2, 9), st.integers(1, 40), st.integers(0, 100))
def test_blanks_apart_have_two_neighbours_and_fill_each_row(every, length, seed):
    y = torch.arange(5, 5 + length).expand(7, -1)
    places = text.mask_apart(y, every, generator=gen(seed)).places
    for row in places:
        at = row.nonzero().squeeze(-1).tolist()
        assert all(b - a == every for a, b in itertools.pairwise(at))
        assert not at or (at[0] > 0 and at[-1] < length - 1)
        assert length < every + 2 or (at and at[0] <= every and at[-1] >= length - 1 - every)


def test_blanks_apart_start_anywhere():
    first = text.mask_apart(MANY, 8, generator=gen()).places[:, 1:9].double().argmax(-1)
    counts = torch.bincount(first, minlength=8)
    assert counts.min() > 20
    assert share(int(counts[0]), 400, 1 / 8)


def test_pairs_are_packed_and_told_apart():
    packed = text.pack_pair(torch.tensor([[5, 6], [7, 8]]), torch.tensor([[9], [10]]))
    assert packed.tolist() == [[CLS, 5, 6, SEP, 9, SEP], [CLS, 7, 8, SEP, 10, SEP]]
    segments = text.masked._segments(packed)
    assert segments.tolist() == [[0, 0, 0, 0, 1, 1]] * 2
    assert text.masked._segments(torch.tensor([5, 6])).tolist() == [0, 0]


def test_features_are_word_neighbours_place_and_segment_through_the_encoder():
    made, tokens = loud(reach=1), torch.tensor([CLS, 6, 7, SEP, 8, SEP, PAD])
    word, c = made.words.weight, made.neighbours.weight
    x = []
    for t, token in enumerate(tokens.tolist()):
        here = word[token] + made.positions.weight[t] + made.segments.weight[0 if t <= 3 else 1]
        for k in (-1, 0, 1):
            if 0 <= t + k < len(tokens) and tokens[t + k] != PAD:
                here = here + c[:, :, k + 1] @ word[tokens[t + k]]
        x.append(here)
    expected = made.encoder(torch.stack(x), tokens == PAD)
    torch.testing.assert_close(made.features(tokens), expected)
    logits = expected @ word.T + made.bias
    torch.testing.assert_close(made(tokens), logits)
    places = torch.tensor([False, True, False, False, True, False, False])
    torch.testing.assert_close(made(tokens, places), logits[[1, 4]])


def test_padding_does_not_change_the_rest():
    for reach in (0, 2):
        made, tokens = loud(reach=reach), torch.tensor([6, 7, 8])
        padded = torch.tensor([6, 7, 8, PAD, PAD])
        torch.testing.assert_close(made.features(padded)[:3], made.features(tokens))


def test_texts_do_not_see_each_other_and_any_leading_dimensions_do():
    made, tokens = loud(reach=2), torch.randint(5, 11, (2, 3, 9), generator=gen())
    each = torch.stack([made.features(row) for row in tokens.flatten(0, 1)]).view(2, 3, 9, 8)
    torch.testing.assert_close(made.features(tokens), each)


def test_energies_of_all_fillings_are_a_distribution():
    made, x = loud(reach=1), torch.tensor([6, MASK, 8, MASK])
    every = torch.cartesian_prod(torch.tensor([6]), torch.arange(11), torch.tensor([8]), torch.arange(11))
    energies = evaluate(made.energy, x, every)
    assert energies.shape == (121,)
    torch.testing.assert_close(torch.exp(-energies).sum(), torch.tensor(1.0, dtype=torch.float64))
    p = made.fill_in(x)
    torch.testing.assert_close(energies.view(11, 11), -(p[0].log()[:, None] + p[1].log()[None]))
    best = exhaustive(lambda y: made.energy(x, y), every)
    assert best.argmin[[1, 3]].tolist() == p.argmax(-1).tolist()


def test_energy_counts_the_given_places():
    made = loud()
    x, y = torch.tensor([[6, 7, MASK], [8, 9, 10]]), torch.tensor([[6, 8, 9], [8, 9, 10]])
    places = torch.tensor([[False, True, True], [False, False, False]])
    log_p = made(x).log_softmax(-1)
    expected = torch.stack([-log_p[0, 1, 8] - log_p[0, 2, 9], torch.tensor(0.0, dtype=torch.float64)])
    torch.testing.assert_close(made.energy(x, y, places), expected)
    torch.testing.assert_close(made.energy(x, y), torch.stack([-log_p[0, 2, 9], expected[1]]))
    assert made.energy(x[:, None], y[None]).shape == (2, 2)


def test_the_mean_energy_of_a_word_is_the_cross_entropy_and_trains():
    made = model(next_sentence=True, reach=1)
    y = torch.tensor([[5, 6, 7, 8, 9, 10]] * 8)
    x, places = text.mask_tokens(y, 11, p=0.5, generator=gen())
    entropy = torch.nn.functional.cross_entropy(made(x, places), y[places])
    mean = made.energy(x, y, places).sum() / places.sum()
    torch.testing.assert_close(mean, entropy)
    assert abs(entropy.item() - math.log(11)) < 0.2  # all words start about equally likely
    optimizer = torch.optim.Adam(made.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        (made.energy(x, y, places).sum() / places.sum()).backward()
        optimizer.step()
    assert made.energy(x, y, places).sum() / places.sum() < 0.4
    assert made.follows.weight.grad is None


def test_next_sentence_energy_is_read_off_the_first_token():
    made = loud(next_sentence=True)
    packed = text.pack_pair(torch.tensor([[5, 6]]), torch.tensor([[7, 8]]))
    first = made.features(packed)[0, 0]
    expected = -(first @ made.follows.weight[0] + made.follows.bias[0])
    torch.testing.assert_close(made.next_sentence_energy(packed), expected[None])


def test_words_are_named_and_sorted_with_the_text_between_cls_and_sep():
    vocabulary = text.Vocabulary("she was happy . very sad".split())
    made = loud()
    found = text.fill_in_words(made, vocabulary, "She <mask> <mask> .", k=3)
    p = made.fill_in(torch.tensor([CLS, 5, MASK, MASK, 8, SEP]))
    assert len(found) == 2
    for row, best in zip(p, found, strict=True):
        expected = sorted(zip(vocabulary.words, row.tolist(), strict=True), key=lambda pair: -pair[1])[:3]
        assert [word for word, _ in best] == [word for word, _ in expected]
        assert [q for _, q in best] == pytest.approx([q for _, q in expected])


def test_slopes_are_those_of_differences():
    made, x, y = loud(dim=4, layers=1), torch.tensor([6, MASK, 8]), torch.tensor([6, 7, 8])

    def energy(words, positions):
        swapped = {"words.weight": words, "positions.weight": positions}
        return torch.func.functional_call(_Energy(made), {f"model.{k}": v for k, v in swapped.items()}, (x, y))

    leaves = tuple(t.detach().clone().requires_grad_() for t in (made.words.weight, made.positions.weight))
    assert torch.autograd.gradcheck(energy, leaves)


class _Energy(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, y):
        return self.model.energy(x, y)


Y, M = torch.tensor([5, 6, 7]), torch.tensor([5, MASK, 7])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: text.mask_tokens(Y, 7), "from 0 to 6, got 5 to 7"),
        (lambda: text.mask_tokens(Y, 5), "size must be"),
        (lambda: text.mask_tokens(Y.double(), 9), "int64 or int32"),
        (lambda: text.mask_tokens(Y, 9, p=1.1), "p must be a probability"),
        (lambda: text.mask_tokens(Y, 9, p=math.nan), "p must be a probability"),
        (lambda: text.mask_tokens(Y, 9, shown=(0.8, 0.3)), "sum to at most 1"),
        (lambda: text.mask_tokens(Y, 9, shown=(-0.1, 0.3)), "sum to at most 1"),
        (lambda: text.mask_apart(Y, 1), "every must be"),
        (lambda: text.mask_apart(Y.double(), 2), "int64 or int32"),
        (lambda: text.mask_apart(Y > 5, 2), "int64 or int32, got torch.bool"),
        (lambda: text.mask_apart(Y[0], 2), "tokens must hold texts"),
        (lambda: text.pack_pair(Y[None], Y), "as many texts"),
        (lambda: text.pack_pair(Y.double(), Y), "first must be numbers of words, int64 or int32, got torch.float64"),
        (lambda: text.pack_pair(Y, Y.bool()), "second must be numbers of words"),
        (lambda: text.pack_pair(Y, Y[0]), "second must hold texts"),
        (lambda: model(size=5), "size must be"),
        (lambda: model(length=0), "length must be"),
        (lambda: model(reach=-1), "reach must be"),
        (lambda: model(heads=3), "heads must divide"),
        (lambda: model()(torch.tensor([11])), "from 0 to 10"),
        (lambda: model()(torch.tensor(5)), "texts of 1 to 9 tokens"),
        (lambda: model()(torch.full((10,), 5)), "texts of 1 to 9 tokens"),
        (lambda: model()(torch.zeros(0, dtype=torch.int64)), "texts of 1 to 9 tokens"),
        (lambda: model()(torch.tensor([PAD, PAD])), "at least one token"),
        (lambda: model()(Y, torch.tensor([True])), "places must be bool"),
        (lambda: model()(Y, torch.ones(3)), "places must be bool"),
        (lambda: model().energy(M, Y[:2]), "equally long"),
        (lambda: model().energy(M, Y + 5), "y must be numbers of words"),
        (lambda: model().energy(M, Y, torch.tensor([True])), "places must be bool"),
        (lambda: model().fill_in(Y), "at least one <mask>"),
        (lambda: model().next_sentence_energy(Y), "next_sentence=True"),
        (lambda: text.fill_in_words(model(), text.Vocabulary(["a"]), "<mask>"), "11 words"),
        (lambda: text.fill_in_words(model(size=6), text.Vocabulary(["a"]), "<mask>", k=7), "k be among"),
        (lambda: text.fill_in_words(model(size=6), text.Vocabulary(["a"]), "<mask>", k=0), "k be among"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_unknown_words_are_not_asked_for():
    y = torch.full((50,), UNK)
    assert not text.mask_tokens(y, 9, p=1.0).places.any()
