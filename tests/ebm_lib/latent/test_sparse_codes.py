"""Shrinkage, ISTA, FISTA, pursuits and batched codes against closed forms, enumeration and scikit-learn."""

import functools
import itertools
import math
import warnings

import pytest
import torch
from sklearn.decomposition import sparse_encode
from sklearn.linear_model import Lasso, orthogonal_mp

from ebm_lib.latent import sparse
from ebm_lib.latent.sparse.lasso import _Problem

F64 = torch.float64


def numbers(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def close(actual, expected, *, rtol=0.0, atol=0.0):
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)


def atoms(D, K, seed=1, dtype=F64):
    W = numbers(D, K, seed=seed, dtype=dtype)
    return W / W.norm(dim=0)


@functools.cache
def hard(nonnegative=False):
    """A problem whose atoms nearly depend on each other, with its codes of lowest energy and that energy."""
    y, W, lam = 3 * numbers(20, 12), atoms(12, 30), 0.5
    best = sparse.fista(y, W, lam, steps=20_000, restart=True, tol=1e-15, nonnegative=nonnegative).z
    return y, W, lam, best, sparse.sparse_energy(y, best, W, lam)


# ---- shrinkage


@pytest.mark.parametrize(
    ("shrink", "price", "options"),
    [
        (sparse.soft_threshold, lambda v, t: t * v.abs(), {}),
        (sparse.soft_threshold, lambda v, t: torch.where(v < 0, math.inf, t * v), {"nonnegative": True}),
        (sparse.hard_threshold, lambda v, t: t**2 / 2 * (v != 0), {}),
    ],
)
def test_shrinkage_minimises_distance_and_price(shrink, price, options):
    u, grid = 3 * numbers(200), torch.linspace(-9, 9, 18_001, dtype=F64)
    for threshold in (0.0, 0.4, 2.0):
        v = shrink(u, threshold, **options)
        found = (v - u) ** 2 / 2 + price(v, threshold)
        tried = ((grid - u[:, None]) ** 2 / 2 + price(grid, threshold)).amin(1)
        assert (found <= tried + 1e-12).all()


def test_group_shrinkage_minimises_distance_and_norm_and_is_soft_for_groups_of_one():
    u = numbers(50, 7, 3)
    for threshold in (0.0, 1.0, 5.0):
        v = sparse.group_soft_threshold(u, threshold)
        found = ((v - u) ** 2).sum(-1) / 2 + threshold * v.norm(dim=-1)
        for size in (1e-3, 0.1, 1.0):
            near = v + size * numbers(*u.shape, seed=5)
            assert (found <= ((near - u) ** 2).sum(-1) / 2 + threshold * near.norm(dim=-1) + 1e-12).all()
        one = sparse.group_soft_threshold(u[..., :1], threshold)
        assert torch.equal(one.sign(), sparse.soft_threshold(u[..., :1], threshold).sign())
        close(one, sparse.soft_threshold(u[..., :1], threshold), atol=1e-14)
    each = torch.linspace(0, 3, 7, dtype=F64)
    rows = torch.stack([sparse.group_soft_threshold(u[:, i], each[i].item()) for i in range(7)], 1)
    close(sparse.group_soft_threshold(u, each), rows, atol=1e-14)
    close(sparse.group_soft_threshold(u.mT, each, dim=-2), rows.mT, atol=1e-14)


def test_shrinkage_has_gradients_in_both_arguments():
    u, t = numbers(6, 4).requires_grad_(), (numbers(4, seed=2).abs() + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(sparse.soft_threshold, (u, t))
    assert torch.autograd.gradcheck(lambda u, t: sparse.soft_threshold(u, t, nonnegative=True), (u, t))
    assert torch.autograd.gradcheck(lambda u, t: sparse.group_soft_threshold(u, t, dim=0), (u, t))
    zero = torch.zeros(2, 3, requires_grad=True)
    sparse.group_soft_threshold(zero, 1.0).sum().backward()
    assert torch.equal(zero.grad, torch.zeros(2, 3))


@pytest.mark.parametrize("shrink", [sparse.soft_threshold, sparse.hard_threshold, sparse.group_soft_threshold])
@pytest.mark.parametrize("threshold", [-1.0, math.nan, math.inf, torch.tensor([0.1, -0.2]), torch.tensor(math.nan)])
def test_shrinkage_refuses_a_threshold_that_is_none(shrink, threshold):
    with pytest.raises(ValueError, match="threshold must be"):
        shrink(torch.zeros(3, 2), threshold)


def test_no_shrinkage_makes_a_number_of_what_is_none():
    bad = torch.tensor([math.nan, 3.0])
    for shrink in (sparse.soft_threshold, sparse.hard_threshold, sparse.group_soft_threshold):
        assert shrink(bad, 1.0).isnan().tolist()[0]
    assert sparse.soft_threshold(bad, 1.0, nonnegative=True).isnan().tolist() == [True, False]


# ---- ISTA and FISTA


def test_ista_is_the_formula_and_the_lectures_form_of_it():
    y, W, z = numbers(5, 6), atoms(6, 9), numbers(5, 9, seed=3)
    lam, eta = 0.7, 0.05
    u = torch.stack([z[b] - eta * 2 * W.T @ (W @ z[b] - y[b]) for b in range(5)])
    by_hand = u.sign() * (u.abs() - lam * eta).clamp_min(0)
    close(sparse.ista_step(z, y, W, lam, eta), by_hand, atol=1e-13)
    close(sparse.ista(y, W, lam, steps=1, start=z, step_size=eta).z, by_hand, atol=1e-13)
    # Shrink_{αη}[sz + uy] with u = η wᵀ, s = I − η wᵀw, where the lectures' η is 2η and their α is λ/2
    s, we = torch.eye(9, dtype=F64) - 2 * eta * W.T @ W, 2 * eta * W.T
    close(sparse.soft_threshold(z @ s.T + y @ we.T, (lam / 2) * (2 * eta)), by_hand, atol=1e-13)


def test_step_size_is_one_over_the_largest_curvature_of_the_error():
    for D, K in ((4, 9), (9, 4)):
        W, y = numbers(D, K), numbers(D, seed=1)
        curvature = torch.func.hessian(lambda z: (y - W @ z).square().sum())(numbers(K, seed=2))  # noqa: B023
        assert 1 / sparse.max_step_size(W) == pytest.approx(torch.linalg.eigvalsh(curvature)[-1].item(), rel=1e-12)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_ista_never_rises_and_both_stay_below_their_bounds(nonnegative):
    y, W, lam, best, lowest = hard(nonnegative)
    eta, k = sparse.max_step_size(W), torch.arange(1, 201, dtype=F64)[:, None]
    slow = sparse.ista(y, W, lam, steps=200, nonnegative=nonnegative, keep_path=True)
    fast = sparse.fista(y, W, lam, steps=200, nonnegative=nonnegative, keep_path=True)
    distance = best.square().sum(-1)
    assert (slow.energies.diff(dim=0) <= 1e-12).all()
    assert (slow.energies[1:] - lowest <= distance / (2 * eta * k)).all()
    assert (fast.energies[1:] - lowest <= 2 * distance / (eta * (k + 1) ** 2)).all()
    assert (fast.energies[-1] - lowest).mean() < (slow.energies[-1] - lowest).mean() / 10
    for run in (slow, fast):
        close(sparse.sparse_energy(y, run.path, W, lam), run.energies, atol=1e-10)
        assert torch.equal(run.path[-1], run.z)
        assert (run.z >= 0).all() or not nonnegative


def test_fista_is_its_formula():
    y, W, lam = numbers(3, 5), atoms(5, 8), 0.3
    eta = sparse.max_step_size(W)
    run = sparse.fista(y, W, lam, steps=6, keep_path=True)
    z_old = z = torch.zeros(3, 8, dtype=F64)
    t = 1.0
    v = z
    for k in range(6):
        z_old, z = z, sparse.ista_step(v, y, W, lam, eta)
        t_new = (1 + math.sqrt(1 + 4 * t * t)) / 2
        v = z + (t - 1) / t_new * (z - z_old)
        t = t_new
        close(run.path[k + 1], z, atol=1e-12)


def test_restart_reaches_the_optimum_sooner():
    y, W, lam, _, lowest = hard()
    plain, restarted = (sparse.fista(y, W, lam, steps=300, restart=r).energies[-1] - lowest for r in (False, True))
    assert restarted.median() < plain.median() / 1000


def test_tolerance_stops_at_a_proved_distance_and_start_is_used():
    y, W, lam, _, lowest = hard()
    run = sparse.fista(y, W, lam, steps=5000, tol=1e-6)
    assert run.steps < 5000
    assert (run.energies[-1] - lowest <= 1e-6 * y.square().sum(-1)).all()
    again = sparse.ista(y, W, lam, steps=3, start=run.z)
    assert (again.energies[0] == run.energies[-1]).all()
    close(sparse.ista(y, W, lam, steps=0).energies[0], y.square().sum(-1), rtol=1e-6)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_duality_gap_bounds_the_distance_from_the_optimum_and_closes_there(nonnegative):
    y, W, lam, best, lowest = hard(nonnegative)
    for size in (0.0, 0.01, 1.0):
        z = best + size * numbers(*best.shape, seed=4)
        z = z.clamp_min(0) if nonnegative else z
        gap = sparse.duality_gap(y, z, W, lam, nonnegative=nonnegative)
        above = sparse.sparse_energy(y, z, W, lam) - lowest
        assert (gap >= above - 1e-9).all()
    closed = sparse.duality_gap(y, best, W, lam, nonnegative=nonnegative)
    close(closed, torch.zeros(20, dtype=F64), atol=1e-8)


# ---- batched codes


@pytest.mark.parametrize("lam", [0.05, 0.5, 3.0])
def test_batched_codes_have_the_objective_of_scikit_learn(lam):
    y, W = 3 * numbers(60, 12), atoms(12, 40)
    W = W * torch.linspace(0.5, 2, 40, dtype=F64)  # norms other than 1
    mine = sparse.sparse_energy(y, sparse.sparse_codes(y, W, lam), W, lam)
    theirs = []
    for point in y.numpy():
        lasso = Lasso(alpha=lam / (2 * 12), fit_intercept=False, tol=1e-12, max_iter=200_000).fit(W.numpy(), point)
        theirs.append(torch.from_numpy(lasso.coef_))
    z = torch.stack(theirs)
    close(mine, sparse.sparse_energy(y, z, W, lam), rtol=1e-5)
    exact = sparse.sparse_codes(y, W, lam, tol=1e-13)
    assert (sparse.duality_gap(y, exact, W, lam) <= 1.1e-13 * y.square().sum(-1)).all()
    if lam >= 0.5:  # below, scikit-learn's own codes are not exact enough
        close(exact, z, atol=1e-5)
        assert ((exact != 0) == (z.abs() > 1e-9)).all()
    # twice the Lasso's objective times D
    scaled = ((y - z @ W.T) ** 2).sum(-1) / (2 * 12) + lam / (2 * 12) * z.abs().sum(-1)
    close(sparse.sparse_energy(y, z, W, lam), 2 * 12 * scaled, rtol=1e-6)


def test_batched_codes_have_the_objective_of_sparse_encode():
    y, W, lam = 3 * numbers(200, 16), atoms(16, 64), 0.8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        z = sparse_encode(y.numpy(), W.T.numpy().copy(), algorithm="lasso_cd", alpha=lam / 2)
    mine = sparse.sparse_energy(y, sparse.sparse_codes(y, W, lam), W, lam).mean()
    assert mine.item() == pytest.approx(sparse.sparse_energy(y, torch.from_numpy(z), W, lam).mean().item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_every_batched_code_is_certified_whatever_the_blocks_and_the_start(dtype, nonnegative):
    y, W, lam = 3 * numbers(3, 50, 12, dtype=dtype), atoms(12, 40, dtype=dtype), 0.5
    y[0, 7] = 0
    limit = 1e-5 * y.square().sum(-1) * (1.2 if dtype == torch.float32 else 1 + 1e-9)
    start = numbers(3, 50, 40, seed=9, dtype=dtype)
    for options in (
        {},
        {"block_size": 60},
        {"start": start},
        {"start": start[0, 0]},
        {"block_size": 64, "start": start},
    ):
        z = sparse.sparse_codes(y, W, lam, nonnegative=nonnegative, **options)
        assert z.dtype == dtype
        assert z.shape == (3, 50, 40)
        gap = sparse.duality_gap(y.double(), z.double(), W.double(), lam, nonnegative=nonnegative)
        assert (gap <= limit).all()
    assert torch.equal(z[0, 7], torch.zeros(40, dtype=dtype))


def test_a_good_start_is_left_as_it_is_and_sweeps_are_limited():
    y, W, lam = 3 * numbers(20, 12), atoms(12, 30), 0.5
    z = sparse.sparse_codes(y, W, lam, tol=1e-9)
    close(sparse.sparse_codes(y, W, lam, tol=1e-5, start=z), z, atol=1e-6)
    first = sparse.sparse_codes(y.float(), W.float(), lam, tol=1e-9, sweeps=1)
    by_hand = torch.zeros(20, 30, dtype=F64)
    for k in range(30):
        pull = (y - by_hand @ W.T + by_hand[:, k : k + 1] * W[:, k]) @ W[:, k]
        by_hand[:, k] = sparse.soft_threshold(pull, lam / 2)
    close(first.double(), by_hand, atol=1e-4)


def test_a_step_for_given_signs_goes_to_the_best_place_where_one_turns():
    y, W, lam = 3 * numbers(40, 30), atoms(30, 36), 6.0
    problem = _Problem(y, W, lam, nonnegative=False)
    before = sparse.ista(y, W, lam, steps=4).z
    after = problem._solve_signs(before.T.contiguous()).T
    turned = 0
    for b in range(40):
        S = before[b].nonzero()[:, 0]
        gram = W[:, S].T @ W[:, S]
        gram += 16 * int((before != 0).sum(1).max()) * torch.finfo(F64).eps * torch.eye(len(S), dtype=F64)
        goal = torch.linalg.solve(gram, W[:, S].T @ y[b] - lam / 2 * before[b, S].sign())
        crossing = before[b, S] * goal < 0
        if len(S) > 24:  # nearly dependent: the ridge decides
            continue
        turned += bool(crossing.any())
        stops = [1.0, *(before[b, S] / (before[b, S] - goal))[crossing].tolist()]
        tried = torch.zeros(len(stops), 36, dtype=F64)
        for i, stop in enumerate(stops):
            tried[i, S] = before[b, S] + stop * (goal - before[b, S])
        lowest = sparse.sparse_energy(y[b], tried, W, lam).min()
        close(sparse.sparse_energy(y[b], after[b], W, lam), lowest, rtol=1e-6)
    assert turned > 5
    assert (sparse.sparse_energy(y, after, W, lam) <= sparse.sparse_energy(y, before, W, lam) + 1e-12).all()


# ---- pursuits


def test_matching_pursuit_is_the_greedy_loop():
    y, W = numbers(8, 6), numbers(6, 11, seed=1)
    z = torch.zeros(8, 11, dtype=F64)
    for b in range(8):
        for _ in range(7):
            fit = W.T @ (y[b] - W @ z[b]) / W.norm(dim=0)
            k = fit.abs().argmax()
            z[b, k] += fit[k] / W[:, k].norm()
    close(sparse.matching_pursuit(y, W, 7), z, atol=1e-12)
    few = sparse.matching_pursuit(y, W, 50, tol=0.2)
    left = (y - few @ W.T).square().sum(-1) / y.square().sum(-1)
    assert (left <= 0.2).all()
    assert ((few != 0).sum(-1) <= (sparse.matching_pursuit(y, W, 50) != 0).sum(-1)).all()


@pytest.mark.parametrize("count", [1, 3, 8])
def test_omp_is_scikit_learns(count):
    y, W = numbers(40, 10), atoms(10, 25)
    theirs = torch.from_numpy(orthogonal_mp(W.numpy(), y.T.numpy(), n_nonzero_coefs=count)).T
    close(sparse.orthogonal_matching_pursuit(y, W, count, block_size=17), theirs, atol=1e-10)
    stretch = torch.linspace(0.1, 5, 25, dtype=F64)
    stretched = sparse.orthogonal_matching_pursuit(y, W * stretch, count) * stretch
    close(stretched, theirs, atol=1e-10)


def test_omp_stops_at_the_error_asked_for_and_leaves_nothing_with_all_atoms():
    y, W = numbers(40, 10), atoms(10, 25)
    z = sparse.orthogonal_matching_pursuit(y, W, 10)
    assert (y - z @ W.T).abs().max() < 1e-9
    assert ((z != 0).sum(-1) == 10).all()
    z = sparse.orthogonal_matching_pursuit(y, W, 10, tol=0.1)
    left = (y - z @ W.T).square().sum(-1) / y.square().sum(-1)
    assert (left <= 0.1).all()
    fewer = torch.stack([sparse.orthogonal_matching_pursuit(y, W, n) for n in range(1, 11)])
    count = (z != 0).sum(-1)
    for b in range(40):
        before = fewer[count[b] - 2, b] if count[b] > 1 else torch.zeros(25, dtype=F64)
        assert (y[b] - W @ before).square().sum() > 0.1 * y[b].square().sum()


def test_omp_does_not_choose_twins_and_zero_needs_no_atom():
    W = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]], dtype=F64)
    y = torch.tensor([[2.0, 1.0, 5.0], [0.0, 0.0, 0.0]], dtype=F64)
    z = sparse.orthogonal_matching_pursuit(y, W, 3)
    assert torch.isfinite(z).all()
    assert (z @ W.T)[0].tolist() == pytest.approx([2.0, 1.0, 0.0])
    assert torch.equal(z[1], torch.zeros(3, dtype=F64))
    W = torch.linalg.qr(numbers(9, 9))[0]  # where two atoms explain all, rounding is not explained by a third
    z = sparse.orthogonal_matching_pursuit(numbers(200, 2) @ W[:, [2, 7]].T, W, 6)
    assert (z != 0).any(0).nonzero().flatten().tolist() == [2, 7]


def test_pursuits_find_the_best_choice_of_orthonormal_atoms_and_of_planted_codes():
    W = torch.linalg.qr(numbers(6, 6))[0]
    y = numbers(10, 6, seed=2)
    for n in (1, 2, 4):
        best = torch.full((10,), math.inf, dtype=F64)
        for chosen in itertools.combinations(range(6), n):
            fit = y @ W[:, chosen] @ W[:, chosen].T
            best = torch.minimum(best, (y - fit).square().sum(-1))
        for z in (sparse.matching_pursuit(y, W, n), sparse.orthogonal_matching_pursuit(y, W, n)):
            close((y - z @ W.T).square().sum(-1), best, atol=1e-12)
            assert ((z != 0).sum(-1) <= n).all()
    wide = atoms(60, 100)
    planted = torch.zeros(30, 100, dtype=F64)
    planted.scatter_(1, numbers(30, 100, seed=6).argsort(1)[:, :4], 1 + numbers(30, 4, seed=7).abs())
    close(sparse.orthogonal_matching_pursuit(planted @ wide.T, wide, 4), planted, atol=1e-9)


# ---- all of them


SOLVERS = [
    lambda y, W: sparse.ista(y, W, 0.3, steps=5).z,
    lambda y, W: sparse.fista(y, W, 0.3, steps=5, restart=True).z,
    lambda y, W: sparse.sparse_codes(y, W, 0.3),
    lambda y, W: sparse.matching_pursuit(y, W, 3),
    lambda y, W: sparse.orthogonal_matching_pursuit(y, W, 3),
]


@pytest.mark.parametrize("solve", SOLVERS)
def test_solvers_take_any_leading_shape_keep_dtype_and_carry_no_gradient(solve):
    y, W = numbers(2, 3, 6), atoms(6, 9)
    z = solve(y, W.clone().requires_grad_())
    assert z.shape == (2, 3, 9)
    assert not z.requires_grad
    close(solve(y[1, 2], W), z[1, 2], atol=2e-3)
    assert solve(y.float(), W.float()).dtype == torch.float32
    assert solve(y[:0], W).shape == (0, 3, 9)


@pytest.mark.parametrize("solve", SOLVERS[:4])
def test_solvers_run_on_tensors_without_values(solve):
    assert solve(torch.zeros(4, 6, device="meta"), torch.ones(6, 9, device="meta")).shape == (4, 9)


@pytest.mark.parametrize("solve", SOLVERS)
def test_solvers_refuse_bad_input(solve):
    y, W = numbers(4, 6), atoms(6, 9)
    zero = W.clone()
    zero[:, 4] = 0
    for bad_y, bad_W, message in (
        (y, zero, "no zero column: 1 of 9 are, the first is number 4"),
        (y[:, :5], W, "D = 5 of y"),
        (y, W[0], "W must be a matrix"),
        (y.float(), W, "dtype of y"),
        (y * math.nan, W, "y must be finite"),
        (y, W * math.inf, "W must be finite"),
        (y.long(), W, "floating point"),
    ):
        with pytest.raises(ValueError, match=message):
            solve(bad_y, bad_W)


def test_other_bad_arguments_are_refused():
    y, W, z = numbers(4, 6), atoms(6, 9), numbers(4, 9)
    for lam in (0.0, -1.0, math.nan, math.inf):
        for call in (
            lambda lam: sparse.ista(y, W, lam),
            lambda lam: sparse.fista(y, W, lam),
            lambda lam: sparse.sparse_codes(y, W, lam),
            lambda lam: sparse.sparse_energy(y, z, W, lam),
            lambda lam: sparse.duality_gap(y, z, W, lam),
        ):
            with pytest.raises(ValueError, match="lam must be a positive"):
                call(lam)
    with pytest.raises(ValueError, match="at most min"):
        sparse.orthogonal_matching_pursuit(y, W, 7)
    with pytest.raises(ValueError, match="steps must be"):
        sparse.matching_pursuit(y, W, 0)
    with pytest.raises(ValueError, match="tol must be"):
        sparse.matching_pursuit(y, W, 2, tol=1.0)
    with pytest.raises(ValueError, match="tol must be"):
        sparse.ista(y, W, 0.1, tol=-1.0)
    with pytest.raises(ValueError, match="tol must be"):
        sparse.sparse_codes(y, W, 0.1, tol=0.0)
    with pytest.raises(ValueError, match="step_size must be"):
        sparse.ista(y, W, 0.1, step_size=-0.1)
    with pytest.raises(ValueError, match="start must be"):
        sparse.sparse_codes(y, W, 0.1, start=z[:, :3])
    with pytest.raises(ValueError, match="start must have the dtype"):
        sparse.fista(y, W, 0.1, start=z.float())
    with pytest.raises(ValueError, match="at least 0 everywhere"):
        sparse.duality_gap(y, z, W, 0.1, nonnegative=True)
    with pytest.raises(ValueError, match="all 0"):
        sparse.max_step_size(torch.zeros(3, 3))
