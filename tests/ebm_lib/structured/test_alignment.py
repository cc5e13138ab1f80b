"""Alignments against enumeration of every path, closed forms, symmetries and tslearn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_lib.structured.alignment import align, alignment_probability, dtw, squared_distances, warping_path
from ebm_lib.structured.semiring import Minimum, Sampled, SoftMinimum, occupation

DELANNOY = [1, 3, 13, 63, 321, 1683, 8989]
SEMIRINGS = [Minimum(), SoftMinimum(0.3), SoftMinimum(2.0)]


def paths(n, m):
    """Every alignment of n with m frames, as lists of cells."""
    if n < 1 or m < 1:
        return
    if (n, m) == (1, 1):
        yield [(0, 0)]
    for i, j in ((1, 1), (1, 0), (0, 1)):
        for path in paths(n - i, m - j):
            yield [*path, (n - 1, m - 1)]


def enumerate_energies(cost):
    return [(path, sum(cost[i][j] for i, j in path)) for path in paths(len(cost), len(cost[0]))]


def by_enumeration(cost, semiring):
    energies = torch.tensor([energy for _, energy in enumerate_energies(cost.tolist())], dtype=torch.float64)
    if isinstance(semiring, Minimum):
        return energies.min()
    return -torch.logsumexp(-semiring.beta * energies, 0) / semiring.beta


def probability_by_enumeration(cost, beta):
    listed = enumerate_energies(cost.tolist())
    weight = torch.softmax(-beta * torch.tensor([energy for _, energy in listed], dtype=torch.float64), 0)
    total = torch.zeros_like(cost)
    for (path, _), w in zip(listed, weight, strict=True):
        for cell in path:
            total[cell] += w
    return total


def random_cost(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def differentiated(cost):
    """The same cost, but asking for a gradient: the minimum then takes its other route."""
    return cost.clone().requires_grad_()


@st.composite
def costs(draw, most=4, forbid=True):
    n, m = draw(st.integers(1, most)), draw(st.integers(1, most))
    values = st.floats(-3, 3)
    if forbid:
        values = st.one_of(values, values, values, st.just(math.inf))
    cost = draw(st.lists(st.lists(values, min_size=m, max_size=m), min_size=n, max_size=n))
    return torch.tensor(cost, dtype=torch.float64)


@settings(deadline=None, max_examples=60)
@given(costs(), st.sampled_from(SEMIRINGS))
def test_it_is_the_semiring_over_all_enumerated_paths(cost, semiring):
    expected = by_enumeration(cost, semiring)
    torch.testing.assert_close(align(cost, semiring), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(align(differentiated(cost), semiring).detach(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", range(1, 6))
@pytest.mark.parametrize("m", range(1, 6))
def test_long_and_wide_tables_are_enumerated_too(n, m):
    cost = random_cost(n, m, seed=10 * n + m)
    for semiring in SEMIRINGS:
        torch.testing.assert_close(align(cost, semiring), by_enumeration(cost, semiring))
    torch.testing.assert_close(align(differentiated(cost)).detach(), align(cost))


@pytest.mark.parametrize("semiring", SEMIRINGS)
def test_a_batch_of_differing_lengths_equals_its_entries_one_by_one(semiring):
    n, m = 5, 4
    rows = torch.arange(1, n + 1)[:, None].expand(n, m)
    columns = torch.arange(1, m + 1)[None, :]
    cost = random_cost(n, m, n, m)
    for padding in (0.0, -100.0, math.nan):  # what stands beyond the lengths must not be looked at
        cut = cost.clone()
        for a in range(n):
            for b in range(m):
                cut[a, b, a + 1 :], cut[a, b, :, b + 1 :] = padding, padding
        free = align(cut, semiring, rows=rows, columns=columns)
        with_gradient = differentiated(cut)
        again = align(with_gradient, semiring, rows=rows, columns=columns)
        (gradient,) = torch.autograd.grad(again.sum(), with_gradient)
        assert free.shape == (n, m)
        for a in range(n):
            for b in range(m):
                alone = cost[a, b, : a + 1, : b + 1]
                expected = by_enumeration(alone, semiring)
                torch.testing.assert_close(free[a, b], expected)
                torch.testing.assert_close(again[a, b].detach(), expected)
                leaf = differentiated(alone)
                (one,) = torch.autograd.grad(align(leaf, semiring), leaf)
                torch.testing.assert_close(gradient[a, b, : a + 1, : b + 1], one)
                assert not gradient[a, b, a + 1 :].any()
                assert not gradient[a, b, :, b + 1 :].any()


@settings(deadline=None, max_examples=40)
@given(costs(), st.floats(0.05, 5))
def test_the_derivative_is_the_enumerated_probability_of_each_cell(cost, beta):
    if math.isinf(align(cost)):
        with pytest.raises(ValueError, match="possible"):
            alignment_probability(cost, beta)
        return
    found = alignment_probability(cost, beta)
    torch.testing.assert_close(found, probability_by_enumeration(cost, beta), rtol=1e-9, atol=1e-11)
    assert not found[torch.isinf(cost)].any()


@pytest.mark.parametrize("semiring", SEMIRINGS)
def test_gradcheck(semiring):
    cost = differentiated(random_cost(2, 4, 3))
    lengths = {"rows": torch.tensor([4, 2]), "columns": torch.tensor([2, 3])}
    assert torch.autograd.gradcheck(lambda c: align(c, semiring), cost)
    assert torch.autograd.gradcheck(lambda c: align(c, semiring, **lengths), cost)
    assert torch.autograd.gradcheck(lambda c: align(c, semiring, band=1), cost)
    x, y = differentiated(random_cost(3, 4, 2)), differentiated(random_cost(5, 2, seed=1))
    assert torch.autograd.gradcheck(lambda a, b: dtw(a, b, semiring), (x, y))


def test_gradgradcheck_of_the_soft_minimum():
    assert torch.autograd.gradgradcheck(lambda c: align(c, SoftMinimum(1.0)), differentiated(random_cost(3, 3)))


@settings(deadline=None, max_examples=40)
@given(costs(most=5, forbid=False))
def test_it_lies_below_the_minimum_and_tends_to_it_as_beta_grows(cost):
    n, m = cost.shape
    number = sum(1 for _ in paths(n, m))
    coldest = align(cost)
    for beta in (0.1, 1.0, 10.0, 1e3, 1e6):
        gap = (coldest - align(cost, SoftMinimum(beta))).item()
        assert -1e-9 <= gap <= math.log(number) / beta + 1e-9


@pytest.mark.parametrize("n", range(1, 8))
def test_at_zero_cost_it_counts_the_alignments(n):
    number = DELANNOY[n - 1]
    for beta in (0.5, 1.0, 3.0):
        free = align(torch.zeros(n, n, dtype=torch.float64), SoftMinimum(beta)).item()
        assert free == pytest.approx(-math.log(number) / beta, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(costs(most=6), st.sampled_from(SEMIRINGS), st.one_of(st.none(), st.integers(0, 3)))
def test_transposing_or_reversing_time_changes_nothing(cost, semiring, band):
    free = align(cost, semiring, band=band)
    torch.testing.assert_close(align(cost.T, semiring, band=band), free)
    if cost.shape[0] == cost.shape[1] or band is None:
        torch.testing.assert_close(align(cost.flip(0, 1), semiring, band=band), free)


@pytest.mark.parametrize("semiring", SEMIRINGS)
@pytest.mark.parametrize("band", range(5))
def test_a_band_forbids_the_cells_outside_it(semiring, band):
    for n, m in ((4, 4), (5, 3), (3, 5), (1, 4)):
        cost = random_cost(n, m, seed=n)
        energies = [e for path, e in enumerate_energies(cost.tolist()) if all(abs(i - j) <= band for i, j in path)]
        free = align(cost, semiring, band=band)
        if abs(n - m) > band:
            assert energies == []
            assert free == math.inf
            continue
        if isinstance(semiring, Minimum):
            expected = min(energies)
        else:
            expected = -torch.logsumexp(-semiring.beta * torch.tensor(energies), 0).item() / semiring.beta
        assert free.item() == pytest.approx(expected, abs=1e-6)


def test_no_possible_alignment_gives_infinity_without_nan():
    cost = torch.tensor([[0.0, math.inf], [math.inf, math.inf]])
    for semiring in SEMIRINGS:
        assert align(cost, semiring) == math.inf
        leaf = differentiated(torch.stack((cost, torch.zeros(2, 2))))
        free = align(leaf, semiring)
        assert free[0] == math.inf
        (gradient,) = torch.autograd.grad(free[1], leaf)
        assert not gradient[0].any()
        assert torch.isfinite(gradient).all()
    with pytest.raises(ValueError, match="1 of 1 have none"):
        warping_path(cost)


@settings(deadline=None, max_examples=60)
@given(costs(most=5))
def test_the_path_is_an_alignment_of_the_lowest_energy(cost):
    free = align(cost)
    if math.isinf(free):
        return
    path = warping_path(cost)
    cells = path.cells[: path.count].tolist()
    assert (path.cells[path.count :] == -1).all()
    assert [tuple(cell) for cell in cells] in list(paths(*cost.shape))
    assert sum(cost[i, j].item() for i, j in cells) == pytest.approx(free.item(), abs=1e-9)
    used = torch.zeros_like(cost)
    used[tuple(path.cells[: path.count].T)] = 1
    leaf = differentiated(cost)
    (gradient,) = torch.autograd.grad(align(leaf), leaf)
    torch.testing.assert_close(gradient, used)  # ties are broken alike


def test_ties_go_to_the_diagonal():
    path = warping_path(torch.zeros(3, 5))
    assert path.cells[: path.count].tolist() == [[0, 0], [0, 1], [0, 2], [1, 3], [2, 4]]
    assert alignment_probability(torch.zeros(3, 3), math.inf).equal(torch.eye(3))


def test_paths_of_a_batch_equal_those_of_its_entries():
    cost = random_cost(2, 3, 6, 5)
    rows, columns = torch.tensor([[6, 1, 4], [2, 6, 3]]), torch.tensor([[5, 4, 1], [5, 1, 3]])
    path = warping_path(cost, rows=rows, columns=columns, band=5)
    assert path.cells.shape == (2, 3, 10, 2)
    assert path.count.shape == (2, 3)
    for a in range(2):
        for b in range(3):
            alone = warping_path(cost[a, b, : rows[a, b], : columns[a, b]])
            assert alone.count == path.count[a, b]
            assert path.cells[a, b, : alone.count].equal(alone.cells[: alone.count])
            assert (path.cells[a, b, alone.count :] == -1).all()


def test_sampled_alignments_visit_cells_as_often_as_their_probability():
    cost = random_cost(3, 4)
    semiring = Sampled(1.0, torch.Generator().manual_seed(0))
    draws = 20_000
    (visited,) = occupation(lambda c: align(c, semiring), cost.expand(draws, 3, 4))
    assert ((visited == 0) | (visited == 1)).all()
    expected = probability_by_enumeration(cost, 1.0)
    assert ((visited.mean(0) - expected).abs() <= 5 * (expected * (1 - expected) / draws).sqrt() + 1e-12).all()


def test_squared_distances_are_the_definition_and_exactly_zero_for_equal_frames():
    x, y = random_cost(2, 1, 4, 3) * 1e4, random_cost(5, 6, 3, seed=1)
    expected = (x[..., :, None, :] - y[..., None, :, :]).square().sum(-1)
    assert squared_distances(x, y).shape == (2, 5, 4, 6)
    torch.testing.assert_close(squared_distances(x, y), expected)
    torch.testing.assert_close(squared_distances(differentiated(x), y).detach(), expected)
    assert not squared_distances(x, x).diagonal(dim1=-2, dim2=-1).any()
    assert (squared_distances(x, x + 1e-9) >= 0).all()


def test_squared_distances_in_blocks_equal_those_in_one_piece():
    x, y = random_cost(3, 700, 2), random_cost(3, 90, 2, seed=1)
    assert squared_distances(x, y).equal(squared_distances(differentiated(x), y).detach())


@pytest.mark.parametrize("semiring", SEMIRINGS)
def test_warping_in_time_costs_nothing(semiring):
    x = random_cost(6, 2)
    slow = x.repeat_interleave(torch.tensor([1, 3, 1, 2, 4, 1]), 0)
    assert dtw(x, slow) == 0
    assert dtw(x, slow, semiring) <= 0
    assert dtw(x, slow + 0.1) > 0


@pytest.mark.parametrize("semiring", SEMIRINGS)
def test_vmap_meta_and_dtype(semiring):
    cost = random_cost(3, 4, 5)
    torch.testing.assert_close(torch.vmap(lambda c: align(c, semiring))(cost), align(cost, semiring))
    per_sample = torch.vmap(torch.func.grad(lambda c: align(c, semiring)))(cost)
    torch.testing.assert_close(per_sample, occupation(lambda c: align(c, semiring), cost)[0])
    x, y = random_cost(3, 4, 2), random_cost(5, 2, seed=1)
    inner = torch.vmap(torch.func.grad(lambda a: dtw(a, y, semiring)))(x)
    torch.testing.assert_close(inner, occupation(lambda a: dtw(a, y, semiring), x)[0])
    torch.testing.assert_close(torch.func.grad(lambda a: dtw(a, y, semiring).sum())(x), inner)
    meta = torch.empty(2, 3, 4, 5, device="meta")
    assert align(meta, semiring, rows=torch.tensor(2), columns=torch.tensor([1, 2, 3]), band=2).shape == (2, 3)
    assert warping_path(meta).cells.shape == (2, 3, 8, 2)
    assert align(meta, semiring).shape == (2, 3)
    assert dtw(torch.empty(2, 4, 3, device="meta"), torch.empty(5, 3, device="meta"), semiring).shape == (2,)
    for kind in (torch.float32, torch.float64):
        assert align(cost.to(kind), semiring).dtype == kind


def test_shapes_without_a_batch_with_an_empty_one_and_with_one_frame():
    for semiring in SEMIRINGS:
        assert align(torch.zeros(0, 3, 4), semiring).shape == (0,)
        assert align(torch.tensor([[2.5]]), semiring) == 2.5
        assert align(torch.tensor([[1.0, 2.0, 4.0]]), semiring) == 7
    assert warping_path(torch.zeros(0, 3, 4)).cells.shape == (0, 6, 2)
    assert warping_path(torch.zeros(1, 1)).cells.tolist() == [[0, 0]]


def test_the_input_is_left_as_it_was():
    cost = random_cost(2, 4, 5)
    before = cost.clone()
    align(cost)
    align(cost.movedim(0, -1).contiguous().movedim(-1, 0), rows=torch.tensor(3))
    warping_path(cost)
    batch_innermost = cost.movedim(0, -1).contiguous()
    align(batch_innermost.movedim(-1, 0))
    assert cost.equal(before)
    assert batch_innermost.equal(before.movedim(0, -1))


@pytest.mark.parametrize("function", [align, warping_path, lambda c, **k: alignment_probability(c, 1.0, **k)])
def test_refusals(function):
    cost = torch.zeros(2, 3, 4)
    for shape in ((2, 0, 4), (2, 3, 0), (3,)):
        with pytest.raises(ValueError, match="at least one frame"):
            function(torch.zeros(shape))
    with pytest.raises(ValueError, match="floating point"):
        function(cost.long())
    for bad in (math.nan, -math.inf):
        wrong = cost.clone()
        wrong[1, 2, 3] = bad
        with pytest.raises(ValueError, match=r"finite or \+inf.*\(1, 2, 3\)"):
            function(wrong)
    for bad in (0, 4, -1):
        with pytest.raises(ValueError, match="rows must be from 1 to 3"):
            function(cost, rows=torch.tensor([1, bad]))
    with pytest.raises(ValueError, match="columns must be from 1 to 4"):
        function(cost, columns=torch.tensor(5))
    with pytest.raises(ValueError, match="broadcast"):
        function(cost, rows=torch.tensor([1, 2, 3]))
    with pytest.raises(ValueError, match="whole numbers"):
        function(cost, rows=torch.tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match="band"):
        function(cost, band=-1)
    with pytest.raises(TypeError, match="band"):
        function(cost, band=1.5)


def test_refusals_of_points():
    with pytest.raises(ValueError, match="equally many coordinates"):
        squared_distances(torch.zeros(3, 2), torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"frames, D"):
        squared_distances(torch.zeros(3), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="finite"):
        squared_distances(torch.zeros(3, 2), torch.full((3, 2), math.nan))
    with pytest.raises(ValueError, match="at least one frame"):
        dtw(torch.zeros(0, 2), torch.zeros(3, 2))


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 6), (7, 4), (20, 33), (30, 30)])
def test_it_equals_tslearn(n, m):
    metrics = pytest.importorskip("tslearn.metrics")
    x, y = random_cost(n, 3, seed=n), random_cost(m, 3, seed=m + 100)
    path, distance = metrics.dtw_path(x.numpy(), y.numpy())
    assert dtw(x, y).sqrt().item() == pytest.approx(distance, rel=1e-12)
    ours = warping_path(squared_distances(x, y))
    assert [tuple(cell) for cell in ours.cells[: ours.count].tolist()] == [tuple(map(int, cell)) for cell in path]
    for gamma in (0.1, 1.0, 10.0):
        soft = metrics.soft_dtw(x.numpy(), y.numpy(), gamma=gamma)
        assert dtw(x, y, SoftMinimum(1 / gamma)).item() == pytest.approx(soft, rel=1e-9)
        expected, _ = metrics.soft_dtw_alignment(x.numpy(), y.numpy(), gamma=gamma)
        found = alignment_probability(squared_distances(x, y), 1 / gamma)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    if n == m > 1:
        banded = metrics.dtw(x.numpy(), y.numpy(), global_constraint="sakoe_chiba", sakoe_chiba_radius=3)
        assert dtw(x, y, band=3).sqrt().item() == pytest.approx(banded, rel=1e-12)
