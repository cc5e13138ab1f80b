"""Collobert-Weston ranking: which word comes into the middle, the energy and its slopes by hand."""

import math

import pytest
import torch

from ebm_lib import losses, text
from ebm_lib.energy import evaluate

D = torch.float64


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def model(size=9, dim=3, length=3, hidden=4):
    return text.WindowEnergy(size, dim, length, hidden, generator=gen(), dtype=D)


@pytest.mark.parametrize("old", [5, 7, 9, 1])
def test_the_middle_becomes_any_other_word_equally_often(old):
    s = torch.tensor([6, 7, old, 8, 5]).expand(40_000, -1)
    wrong = text.replace_middle(s, 10, generator=gen())
    assert torch.equal(wrong[:, [0, 1, 3, 4]], s[:, [0, 1, 3, 4]])
    counts = torch.bincount(wrong[:, 2], minlength=10)
    others = [w for w in range(5, 10) if w != old]
    assert counts[others].sum() == 40_000
    p = 1 / len(others)
    assert ((counts[others] / 40_000 - p).abs() < 5 * math.sqrt(p * (1 - p) / 40_000)).all()


def test_the_energy_is_a_perceptron_on_the_words_in_order():
    made, s = model(), torch.tensor([[5, 8, 6], [6, 8, 5]])
    first, last = made.mlp.linears
    for row, energy in zip(s.tolist(), evaluate(made, s), strict=True):
        joined = torch.cat([made.words.weight[word] for word in row])
        expected = last.weight[0] @ torch.tanh(first.weight @ joined + first.bias) + last.bias[0]
        torch.testing.assert_close(energy, expected)
    assert made(s)[0] != made(s)[1]


def test_every_word_in_the_middle():
    made, s = model(), torch.tensor([[5, 8, 6], [7, 7, 7]])
    energies = made.middle_energies(s)
    assert energies.shape == (2, 9)
    for i in range(2):
        for word in range(9):
            torch.testing.assert_close(energies[i, word], made(torch.tensor([s[i, 0], word, s[i, 2]])))
    assert s.tolist() == [[5, 8, 6], [7, 7, 7]]


def test_the_slopes_of_the_ranking_loss_push_the_true_window_down():
    made, s = model(), torch.tensor([[5, 8, 6]])
    wrong = torch.tensor([[5, 7, 6]])
    f, g = made(s), made(wrong)
    loss = losses.hinge(f, g, margin=1.0)
    assert loss.item() == pytest.approx(1 + f.item() - g.item())
    (slope,) = torch.autograd.grad(loss, made.words.weight)
    by_parts = [
        torch.autograd.grad(energy, made.words.weight, retain_graph=True)[0] for energy in (made(s), made(wrong))
    ]
    torch.testing.assert_close(slope, by_parts[0] - by_parts[1])
    assert slope[8].abs().sum() > 0
    assert slope[7].abs().sum() > 0


def test_training_ranks_the_word_that_fits_first():
    """After 5 comes 10, after 6 comes 11: the only thing to learn."""
    made = text.WindowEnergy(12, 4, 3, 16, generator=gen())
    optimizer = torch.optim.Adam(made.parameters(), lr=0.02)
    s = torch.tensor([[5, 10, 7], [6, 11, 7]]).repeat(64, 1)
    g = gen(1)
    for _ in range(120):
        loss = losses.hinge(made(s), made(text.replace_middle(s, 12, generator=g)), margin=1.0).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    assert made.middle_energies(s[:2])[:, 5:].argmin(-1).tolist() == [5, 6]


S = torch.tensor([5, 6, 7])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: text.replace_middle(S, 6), "size must be"),
        (lambda: text.replace_middle(S, 7), "from 0 to 6"),
        (lambda: text.replace_middle(S[:2], 9), "odd number"),
        (lambda: text.replace_middle(torch.tensor(5), 9), "odd number"),
        (lambda: model(length=2), "length must be odd"),
        (lambda: model(length=0), "length must be"),
        (lambda: model(size=0), "size must be"),
        (lambda: model(dim=0), "dim must be"),
        (lambda: model(hidden=0), "must be a whole number"),
        (lambda: model()(S + 2), "windows must be numbers of words"),
        (lambda: model()(torch.tensor([5, 6])), "must hold 3 words"),
        (lambda: model().middle_energies(torch.tensor([5, 6, 9])), "from 0 to 8"),
        (lambda: model().middle_energies(torch.tensor([5])), "must hold 3 words"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
