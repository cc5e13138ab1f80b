"""The table says what a numerical search over energies finds: margins, collapse, and the slide's order."""

import itertools

import pytest
import torch

from ebm_lib import losses

F64 = torch.float64
M = 1.0


def values(row, positive, others):
    """The loss of F+ (B,) against wrong answers (B, N): a pair loss meets the first of them only."""
    margin = torch.tensor(M, dtype=F64)
    if row.takes == "positive":
        return row.function(positive)
    if row.takes == "answers":
        return row.function(*losses.join(positive, others))
    extra = (margin,) if row.function is losses.ranking else ()
    return row.function(positive, others[:, 0], *extra)


def slope_on_the_wrong_answer(row, gap):
    positive = torch.zeros(1, dtype=F64)
    wrong = torch.tensor([[float(gap)]], dtype=F64, requires_grad=True)
    loss = values(row, positive.requires_grad_(), wrong).sum()
    (slope,) = torch.autograd.grad(loss, wrong, allow_unused=True)
    return 0.0 if slope is None else slope.item()


def test_the_first_ten_rows_are_the_slides_in_its_order():
    names = [row.name for row in losses.TABLE]
    assert names[:10] == [
        "energy",
        "perceptron",
        "hinge",
        "log",
        "LVQ2",
        "MCE",
        "square-square",
        "square-exp",
        "NLL/MMI",
        "MEE",
    ]
    assert [row.margin for row in losses.TABLE[:10]] == ["0", "0", "m", "∞", "0", "∞", "m", "∞", "∞", "∞"]
    assert names[10:] == ["simple", "ranking", "all-outputs hinge"]
    assert all(row.function is getattr(losses, row.function.__name__) for row in losses.TABLE)
    assert all(row.formula.count("{") == row.formula.count("}") for row in losses.TABLE)


@pytest.mark.parametrize("row", losses.TABLE, ids=lambda row: row.name)
def test_the_margin_is_where_the_push_on_the_wrong_answer_ends(row):
    gaps = [0.0, 0.25, 0.9, 1.1, 3.0, 10.0]
    pushed = [slope_on_the_wrong_answer(row, gap) < 0 for gap in gaps]
    assert all(slope_on_the_wrong_answer(row, gap) <= 0 for gap in gaps)  # never pulled down
    expected = {"0": [False] * 6, "m": [g < M for g in gaps], "m(y, ŷ)": [g < M for g in gaps], "∞": [True] * 6}
    assert pushed == expected[row.margin]


@pytest.mark.parametrize("row", losses.TABLE, ids=lambda row: row.name)
def test_it_collapses_exactly_if_a_flat_energy_reaches_the_lowest_loss(row):
    levels = torch.linspace(0, 6, 61, dtype=F64)
    flat = values(row, levels, levels[:, None].expand(-1, 2)).min()
    p, a, b = (t.flatten() for t in torch.meshgrid(levels, levels, levels, indexing="ij"))
    lowest = min(
        values(row, p, torch.stack([a, b], -1)).min(),
        values(row, torch.zeros(1, dtype=F64), torch.full((1, 2), 60.0, dtype=F64)).item(),
    )
    assert bool(flat <= lowest + 1e-12) == row.collapses
    if not row.collapses:
        assert flat > lowest + 0.2


@pytest.mark.parametrize("row", losses.TABLE, ids=lambda row: row.name)
def test_every_loss_of_the_table_rises_with_the_data_energy_and_falls_with_the_others(row):
    levels = torch.linspace(0, 4, 33, dtype=F64)
    for low, high in itertools.pairwise(levels):
        at = values(row, low.expand(33), levels[:, None].expand(-1, 2))
        assert (values(row, high.expand(33), levels[:, None].expand(-1, 2)) >= at - 1e-12).all()
        at = values(row, levels, low.expand(33, 2))
        assert (values(row, levels, high.expand(33, 2)) <= at + 1e-12).all()


def test_what_the_slide_prints_for_square_square_would_reward_a_low_wrong_answer():
    # F(x,y)² − ([m − F(x,ŷ)]⁺)², as printed, falls as the wrong answer's energy falls.
    printed = lambda p, n: p**2 - max(0.0, M - n) ** 2
    assert printed(0.0, 0.0) < printed(0.0, 0.9)
    ours = [losses.square_square(torch.zeros(1), torch.tensor([n]), M).item() for n in (0.0, 0.9)]
    assert ours[0] > ours[1]


def gap_after_training(row, architecture):
    """Train two parameters by gradient descent, from a start where the wrong answer is the lower one."""
    w = torch.tensor([0.5, -0.5], dtype=F64, requires_grad=True)
    for _ in range(1600):
        right, wrong = architecture(w)
        (slope,) = torch.autograd.grad(values(row, right[None], wrong[None, None]).sum(), w)
        w = (w - slope / 4).detach().requires_grad_()
    right, wrong = architecture(w)
    return (wrong - right).item()


def free(w):
    """Energies between 0 and 1, each with a parameter of its own: they can both be low, and equal."""
    return torch.sigmoid(w).unbind()


def limited(w):
    """Energies between 0 and 1 with one sum: the one cannot be low without the other being high."""
    right = torch.sigmoid(w[0] - w[1])
    return right, 1 - right


@pytest.mark.parametrize("row", losses.TABLE, ids=lambda row: row.name)
def test_what_training_comes_to_in_an_architecture_that_can_collapse(row):
    gap = gap_after_training(row, free)
    if row.name == "energy":
        assert gap == pytest.approx(torch.sigmoid(torch.tensor(-0.5)).item(), abs=0.01)  # F⁻ is where it began
    elif row.collapses:
        assert 0 <= gap < 0.1  # content as soon as the order is right
    else:
        assert gap > 0.75


def test_the_energy_loss_is_enough_where_the_volume_of_low_energy_is_limited():
    assert gap_after_training(losses.TABLE[0], limited) > 0.95
