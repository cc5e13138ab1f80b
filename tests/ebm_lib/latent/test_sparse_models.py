"""Dictionaries, pools, maps, inhibition and variance: planted codes, identities, brute force and another solver."""

import itertools
import math

import pytest
import torch
from scipy.optimize import minimize

from ebm_lib.energy import evaluate
from ebm_lib.latent import fit_gabor, sparse
from ebm_lib.latent.model import LatentModel
from ebm_lib.latent.sparse.inhibition import require_inhibition

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def numbers(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def close(actual, expected, *, rtol=0.0, atol=0.0):
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)


def atoms(D, K, seed=1, dtype=F64):
    return sparse.normalize_columns(numbers(D, K, seed=seed, dtype=dtype))


def planted(N, D, K, active, noise=0.0, seed=3):
    """Points made of a few atoms each."""
    W, z = atoms(D, K, seed), torch.zeros(N, K, dtype=F64)
    z.scatter_(1, numbers(N, K, seed=seed + 1).argsort(1)[:, :active], 1.0)
    z = z * (1 + numbers(N, K, seed=seed + 2).abs()) * numbers(N, K, seed=seed + 3).sign()
    return z @ W.T + noise * numbers(N, D, seed=seed + 4), W


def recovered(W, truth):
    return (W.T @ truth).abs().amax(0)


# ---- dictionaries


def test_dictionary_step_leaves_its_arguments_alone():
    atoms, A, B = numbers(5, 3), torch.eye(5, dtype=F64), numbers(3, 5)
    given = [atoms.clone(), A.clone(), B.clone()]
    sparse.dictionary_step(atoms.T, A, B)  # a view whose transpose is contiguous
    assert all(torch.equal(now, before) for now, before in zip((atoms, A, B), given, strict=True))


def test_dictionary_step_is_the_best_move_of_each_atom_in_turn():
    y, z, W = numbers(40, 5), numbers(40, 7, seed=1), atoms(5, 7)
    A, B = z.T @ z / 40, y.T @ z / 40
    for normalize in (True, False):
        new = sparse.dictionary_step(W, A, B, normalize=normalize)
        now = W.clone()
        for k in range(7):
            rest = y - z @ now.T + torch.outer(z[:, k], now[:, k])
            best = rest.T @ z[:, k] / z[:, k].square().sum()
            now[:, k] = best / best.norm() if normalize else best
        close(new, now, atol=1e-12)
        assert (y - z @ new.T).square().mean() < (y - z @ W.T).square().mean()
    again = W
    for _ in range(3000):
        again = sparse.dictionary_step(again, A, B, normalize=False)
    close(again, torch.linalg.lstsq(z, y).solution.T, atol=1e-8)


def test_an_unused_atom_stays_and_columns_are_normalised():
    W, A, B = atoms(4, 3), torch.eye(3, dtype=F64), numbers(4, 3)
    A[1, 1] = 0
    new = sparse.dictionary_step(W, A, B)
    assert torch.equal(new[:, 1], W[:, 1])
    close(new.norm(dim=0), torch.ones(3, dtype=F64), atol=1e-12)
    close(sparse.normalize_columns(3 * W), W, atol=1e-14)


@pytest.mark.parametrize("batch_size", [None, 500])
def test_learning_recovers_a_planted_dictionary(batch_size):
    y, truth = planted(1500, 10, 14, 2, noise=0.01)
    model = sparse.SparseCoding(10, 14, lam=0.3, generator=seeded(5), dtype=F64)
    assert recovered(model.W.detach(), truth).min() < 0.9
    history = model.learn(y, rounds=60, batch_size=batch_size, min_gain=1e-6, generator=seeded(1), progress=False)
    assert recovered(model.W.detach(), truth).min() > 0.99
    assert history.loss[-1] < history.loss[0]
    close(model.W.detach().norm(dim=0), torch.ones(14, dtype=F64), atol=1e-12)
    if batch_size is None:
        assert max(b - a for a, b in itertools.pairwise(history.loss)) < 1e-4 * history.loss[0]


def test_without_normalisation_the_price_fades_and_the_energy_goes_flat():
    y, _ = planted(400, 6, 10, 2)
    far = 3 * numbers(400, 6, seed=8)
    flat, lowest, length = {}, {}, {}
    for normalize in (True, False):
        model = sparse.SparseCoding(6, 10, lam=1.0, normalize=normalize, generator=seeded(), dtype=F64)
        history = model.learn(y, rounds=40, min_gain=0.0, generator=seeded(), progress=False)
        with torch.no_grad():
            flat[normalize] = (model(far).mean() / far.square().sum(-1).mean()).item()
        lowest[normalize], length[normalize] = history.loss[-1], model.W.detach().norm(dim=0)
    assert length[False].min() > 2
    assert lowest[False] < 0.5 * lowest[True]
    assert flat[False] < 0.5 * flat[True]
    # the identity behind it
    W, z = atoms(6, 10), numbers(5, 10)
    for c in (2.0, 100.0):
        free = sparse.sparse_energy(y[:5], z, W, 1.0) - z.abs().sum(-1)
        close(sparse.sparse_energy(y[:5], z / c, c * W, 1.0), free + z.abs().sum(-1) / c, rtol=1e-12)


def test_learning_is_a_function_of_its_generator_and_atoms_without_use_are_replaced():
    y, _ = planted(200, 6, 8, 2)
    runs = []
    for _ in range(2):
        model = sparse.SparseCoding(6, 8, lam=0.3, generator=seeded(), dtype=F64)
        model.learn(y, rounds=3, batch_size=50, generator=seeded(1), progress=False)
        runs.append(model.W.detach().clone())
    assert torch.equal(*runs)
    line = torch.zeros(50, 3, dtype=F64)
    line[:, 0] = 1 + numbers(50).abs()
    model = sparse.SparseCoding(3, 4, lam=0.1, generator=seeded(), dtype=F64)
    with torch.no_grad():
        across = torch.tensor([[0, 0, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1]])  # to the line: of no use to any point
        model.W.copy_(across)
    assert (model.infer(line) == 0).all()
    model.learn(line, rounds=4, generator=seeded(1), progress=False)
    assert model.free_energy(line).mean() < 0.2 * line.norm(dim=-1).mean()


def test_when_learning_stops_does_not_depend_on_the_units():
    y, _ = planted(300, 6, 8, 2, noise=0.1)
    records = []
    for c in (1e-3, 1.0, 1e3):
        model = sparse.SparseCoding(6, 8, lam=0.5 * c, generator=seeded(), dtype=F64)
        records.append(model.learn(c * y, min_gain=0.02, generator=seeded(1), progress=False))
    assert [(r.rounds, r.converged) for r in records] == [(records[1].rounds, True)] * 3
    assert 1 < records[1].rounds < 30


def test_gradients_of_the_free_energy_are_those_at_the_best_code():
    model = sparse.SparseCoding(4, 6, lam=0.4, generator=seeded(), dtype=F64)
    y = (2 * numbers(3, 4)).requires_grad_()
    model(y).sum().backward()
    step = 1e-6
    for i in range(4):
        move = step * torch.eye(4, dtype=F64)[i]
        with torch.no_grad():
            up = sparse.fista(y + move, model.W, 0.4, steps=5000, restart=True, tol=1e-14).energies[-1]
            down = sparse.fista(y - move, model.W, 0.4, steps=5000, restart=True, tol=1e-14).energies[-1]
        close(y.grad[:, i], (up - down) / (2 * step), atol=0.02)
    assert model.W.grad.abs().sum() > 0


def all_models(dtype=F64):
    return [
        sparse.SparseCoding(5, 8, lam=0.3, generator=seeded(), dtype=dtype),
        sparse.SparseCoding(5, 8, lam=0.3, nonnegative=True, generator=seeded(), dtype=dtype),
        sparse.GroupSparseCoding(5, sparse.torus_pools(2, 4, 2, dtype=dtype), lam=0.3, generator=seeded()),
        sparse.InhibitedSparseCoding(5, sparse.competition(8, 4, 0.5, dtype=dtype), lam=0.3, generator=seeded()),
        sparse.VarianceSparseCoding((8, 12, 5), lam=0.1, generator=seeded(), dtype=dtype),
    ]


@pytest.mark.parametrize("number", range(5))
def test_every_model_answers_the_same_calls(number):
    model = all_models()[number]
    assert isinstance(model, LatentModel)
    y = numbers(3, 2, 5)
    z = model.infer(y)
    assert z.shape == (3, 2, 8)
    assert not z.requires_grad
    with torch.no_grad():
        value = evaluate(model, y)
        close(value, evaluate(model.energy, y, z), atol=1e-10)
        assert evaluate(model.energy, y[:, :, None], z[0]).shape == (3, 2, 2)
        assert model.decode(z).shape == y.shape
        # no code nearby or elsewhere is lower
        sizes = (1e-3, 0.1, 1.0) if number < 3 else (1e-3,)  # the last two are not convex
        tried = [z + size * numbers(*z.shape, seed=s) for size in sizes for s in range(20)]
        if number in (1, 4):
            tried = [t.clamp_min(0) for t in tried]
        tried.append(torch.zeros_like(z))
        slack = (1e-3 if number == 4 else 1e-4) * y.square().sum(-1)
        for other in tried:
            assert (value <= model.energy(y, other) + slack).all()
    assert all_models(torch.float32)[number](y.float()).dtype == torch.float32
    with pytest.raises(ValueError, match="beta must be inf"):
        model.free_energy(y, beta=1.0)
    with pytest.raises(ValueError, match="y must"):
        model.free_energy(y[..., :4])
    with pytest.raises(ValueError, match="y must be finite"):
        model(y * math.nan)
    with pytest.raises(ValueError, match="z must"):
        model.energy(y, z[..., :3])
    with pytest.raises(ValueError, match="at least"):
        model.learn(y.reshape(-1, 5)[:2], progress=False)
    with pytest.raises(ValueError, match="one sample a row"):
        model.learn(y, progress=False)


# ---- groups


def test_torus_pools_hold_their_neighbours_around_the_edge():
    pools = sparse.torus_pools(6, 8, 3)
    assert pools.shape == (48, 48)
    close(pools.sum(1), torch.ones(48), atol=1e-6)
    close(pools.sum(0), torch.ones(48), atol=1e-6)
    for p in (0, 13, 47):
        held = {(k // 8, k % 8) for k in pools[p].nonzero()[:, 0].tolist()}
        row, column = p // 8, p % 8
        assert held == {((row + i) % 6, (column + j) % 8) for i in range(3) for j in range(3)}
    strided = sparse.torus_pools(6, 8, 3, stride=2)
    assert torch.equal(strided, pools.reshape(6, 8, 48)[::2, ::2].reshape(12, 48))
    round_pools = sparse.torus_pools(20, 20, 6, gaussian=True, dtype=F64)
    at = round_pools[0].reshape(20, 20)
    close(at, at.T, atol=1e-14)
    close(at[1], at[-1], atol=1e-14)
    distance = torch.minimum(torch.arange(20), 20 - torch.arange(20)).to(F64)
    assert (at.sum(1) * distance**2).sum().item() == pytest.approx(36 / 12, rel=1e-3)  # the spread of a block of 6


def test_group_codes_of_orthonormal_atoms_are_the_group_threshold():
    y, W = 2 * numbers(30, 8), torch.linalg.qr(numbers(8, 8, seed=4))[0]
    exact = sparse.group_soft_threshold((y @ W).reshape(30, 4, 2), 0.9 / 2).reshape(30, 8)
    z = sparse.group_codes(y, W, 0.9, sparse.disjoint_pools(8, 2, dtype=F64), smooth=1e-5, steps=2000)
    close(z, exact, atol=1e-3)


@pytest.mark.parametrize("smooth", [0.3, 0.01])
def test_group_codes_reach_the_minimum_that_another_solver_finds(smooth):
    y, W = numbers(4, 5), atoms(5, 12)
    pools = sparse.torus_pools(3, 4, 2, dtype=F64)

    def energy(y, z):
        return (y - z @ W.T).square().sum(-1) + 0.4 * sparse.pool_activity(z, pools, smooth=smooth).sum(-1)

    def value_and_slope(z, point):
        at = torch.tensor(z, requires_grad=True)
        value = energy(point, at)
        return value.item(), torch.autograd.grad(value, at)[0].numpy()

    mine = energy(y, sparse.group_codes(y, W, 0.4, pools, smooth=smooth, steps=3000))
    for point, found in zip(y, mine, strict=True):
        options = {"maxiter": 20_000, "gtol": 1e-9}
        best = minimize(value_and_slope, 0.1 * numbers(12).numpy(), args=(point,), jac=True, options=options)
        assert found.item() == pytest.approx(best.fun, rel=1e-5)


def test_a_step_of_group_codes_without_momentum_never_raises_the_energy():
    y, W, pools = 3 * numbers(20, 6), atoms(6, 16), sparse.torus_pools(4, 4, 2, dtype=F64)
    model = sparse.GroupSparseCoding(6, pools, lam=1.0, smooth=0.01, generator=seeded())
    with torch.no_grad():
        model.W.copy_(W)
        z, before = numbers(20, 16, seed=2), None
        for _ in range(200):
            z = sparse.group_codes(y, W, 1.0, pools, smooth=0.01, steps=1, start=z)
            after = model.energy(y, z)
            assert before is None or (after <= before + 1e-12).all()
            before = after


def test_group_learning_puts_units_that_go_together_into_one_pool():
    # each point lies in one of four planes; the plane's two atoms should share a pool
    planes = torch.linalg.qr(numbers(8, 8))[0].T.reshape(4, 2, 8)
    which = torch.randint(4, (2000,), generator=seeded(1))
    y = torch.einsum("nj,njd->nd", 2 * numbers(2000, 2, seed=2), planes[which])
    pools = sparse.disjoint_pools(8, 2, dtype=F64)
    runs = []
    for seed in range(4):
        model = sparse.GroupSparseCoding(8, pools, lam=1.0, smooth=0.02, generator=seeded(seed))
        history = model.learn(y, rounds=8, batch_size=200, steps=40, generator=seeded(4), progress=False)
        W = model.W.detach().T.reshape(4, 2, 8)
        inside = torch.einsum("gid,pjd->gpij", W, planes).square().sum((2, 3)).amax(1)  # 2 where a pool is in a plane
        runs.append((history.loss[-1], inside))
    # Some starts end with two pools that share two planes; that costs energy.
    runs.sort(key=lambda run: run[0])
    assert (runs[0][1] > 1.99).all()
    assert runs[-1][0] == runs[0][0] or (runs[-1][1] < 1.5).any()


def test_pools_that_are_none_are_refused():
    y, W = numbers(3, 4), atoms(4, 6)
    for pools, message in (
        (torch.ones(2, 5, dtype=F64), r"\(P, K\)"),
        (-torch.ones(2, 6, dtype=F64), "at least 0"),
        (torch.eye(6, dtype=F64)[:4], "hold every unit: 2 of 6"),
        (torch.full((1, 6), math.nan, dtype=F64), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            sparse.group_codes(y, W, 0.1, pools)
    good = torch.eye(6, dtype=F64)
    for options in ({"smooth": 0.0}, {"steps": 0}):
        with pytest.raises(ValueError, match="must be"):
            sparse.group_codes(y, W, 0.1, good, **options)
    with pytest.raises(ValueError, match="lam must"):
        sparse.group_codes(y, W, 0.0, good)
    for arguments, message in (
        ((3, 4, 4, 1), "size must be at most"),
        ((4, 4, 0, 1), "size"),
        ((4, 4, 2, 3), "stride"),
    ):
        with pytest.raises(ValueError, match=message):
            sparse.torus_pools(*arguments[:3], stride=arguments[3])
    with pytest.raises(ValueError, match="divide K"):
        sparse.disjoint_pools(7, 2)
    with pytest.raises(ValueError, match="smooth"):
        sparse.pool_activity(y, torch.eye(4, dtype=F64), smooth=-1.0)


# ---- maps


@pytest.mark.parametrize("degrees", [0, 20, 45, 90, 110, 135, 170])
def test_orientation_is_that_of_the_wave_and_of_the_gabor_fit(degrees):
    theta = math.radians(degrees)
    row, column = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    across = math.cos(theta) * (column - 5.5) + math.sin(theta) * (row - 5.5)
    envelope = (-((row - 5.5) ** 2 + (column - 5.5) ** 2) / 18).exp()
    for phase in (0.0, 1.0, 2.0):
        picture = envelope * (1.4 * across + phase).cos()
        found = sparse.orientation_map((picture + 3).reshape(144), (12, 12))
        for other in (theta, fit_gabor(picture[None]).orientation.item()):
            off = (found.angle.item() - other + math.pi / 2) % math.pi - math.pi / 2
            assert abs(off) < math.radians(3)
        assert found.selectivity > 0.7
        assert 0 <= found.angle < math.pi


def test_a_round_spot_and_noise_have_little_orientation():
    row, column = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    spot = (-((row - 5.5) ** 2 + (column - 5.5) ** 2) / 4).exp().reshape(144)
    assert sparse.orientation_map(spot, (12, 12)).selectivity < 1e-5
    assert sparse.orientation_map(torch.zeros(144), (12, 12)).selectivity == 0
    noise = sparse.orientation_map(numbers(3000, 144), (12, 12))
    assert noise.selectivity.mean() < 0.2
    turned = torch.polar(torch.ones(3000, dtype=F64), 2 * noise.angle).mean().abs()
    assert turned < 4 / math.sqrt(3000)  # no orientation is favoured


def test_planted_pinwheels_are_found_where_they_are_with_their_sign():
    row, column = torch.meshgrid(torch.arange(12, dtype=F64), torch.arange(12, dtype=F64), indexing="ij")
    plus, minus = (3.5, 2.5), (8.5, 7.5)
    field = sum(
        sign * torch.atan2(torch.sin((row - r) * math.pi / 12), torch.sin((column - c) * math.pi / 12)) / 2
        for sign, (r, c) in ((1, plus), (-1, minus))
    )
    charge = sparse.pinwheel_centers(field % math.pi)
    inside = charge[:11, :11]  # the field is made of pieces that do not close across the edge
    assert {tuple(p) for p in (inside != 0).nonzero().tolist()} == {(3, 2), (8, 7)}
    assert charge[3, 2] == 0.5
    assert charge[8, 7] == -0.5
    assert torch.equal(sparse.pinwheel_centers(-field % math.pi), -charge)


def test_windings_add_up_to_nothing_and_random_maps_have_one_in_three():
    angle = math.pi * torch.rand(50, 16, 16, generator=seeded(), dtype=F64)
    charge = sparse.pinwheel_centers(angle)
    close(charge.sum((1, 2)), torch.zeros(50, dtype=F64), atol=1e-12)
    assert (charge != 0).double().mean().item() == pytest.approx(1 / 3, abs=0.02)
    assert set(charge.unique().tolist()) <= {-1.0, -0.5, 0.0, 0.5, 1.0}
    close(sparse.pinwheel_centers(angle + 0.3), charge)
    smooth = torch.arange(16, dtype=F64).expand(16, 16) * math.pi / 16  # stripes of orientation: no centre
    assert (sparse.pinwheel_centers(smooth) == 0).all()
    assert sparse.map_smoothness(smooth).item() == pytest.approx((1 + math.cos(math.pi / 8)) / 2)
    assert abs(sparse.map_smoothness(angle).mean()) < 0.03


@pytest.mark.parametrize("call", [sparse.pinwheel_centers, sparse.map_smoothness])
def test_maps_refuse_what_is_no_map(call):
    with pytest.raises(ValueError, match="angle must"):
        call(torch.zeros(4))
    with pytest.raises(ValueError, match="finite"):
        call(torch.full((4, 4), math.nan))
    with pytest.raises(ValueError, match="sides of at least 2"):
        sparse.pinwheel_centers(torch.zeros(4, 1))
    with pytest.raises(ValueError, match="filters must"):
        sparse.orientation_map(torch.zeros(5, 10), (3, 4))


# ---- inhibition


def test_inhibition_price_is_its_double_sum():
    S = numbers(5, 5).abs()
    S = (S + S.T) * (1 - torch.eye(5, dtype=F64))
    z = numbers(7, 5, seed=2)
    slow = sum(z[:, i].abs() * S[i, j] * z[:, j].abs() for i in range(5) for j in range(5))
    close(sparse.inhibition_price(z, S), slow, rtol=1e-12)


def test_inhibited_codes_never_rise_and_are_plain_ones_without_inhibition():
    y, W, lam = 3 * numbers(20, 6), atoms(6, 12), 0.3
    for S in (sparse.competition(12, 4, 2.0, dtype=F64), sparse.competition(12, 12, 50.0, dtype=F64)):
        z, before = numbers(20, 12, seed=3), None
        for _ in range(150):
            z = sparse.inhibited_codes(y, W, lam, S, steps=1, start=z)
            after = sparse.sparse_energy(y, z, W, lam) + sparse.inhibition_price(z, S)
            assert before is None or (after <= before + 1e-12 * before.abs()).all()
            before = after
    none = sparse.inhibited_codes(y, W, lam, torch.zeros(12, 12, dtype=F64), steps=30)
    close(none, sparse.ista(y, W, lam, steps=30).z, atol=1e-12)


def test_strong_inhibition_leaves_one_winner_in_each_group():
    y, W = 3 * numbers(100, 6), atoms(6, 12)
    z = sparse.inhibited_codes(y, W, 0.1, sparse.competition(12, 4, 5.0, dtype=F64), steps=2000)
    winners = (z.reshape(100, 3, 4) != 0).sum(-1)
    assert winners.max() == 1
    plain = sparse.sparse_codes(y, W, 0.1)
    assert (plain.reshape(100, 3, 4) != 0).sum(-1).double().mean() > 1.2
    alone = sparse.inhibited_codes(y, W, 0.1, sparse.competition(12, 12, 20.0, dtype=F64), steps=5000)
    best = (y @ W).abs().argmax(-1)
    found = alone.abs().argmax(-1)
    assert ((alone != 0).sum(-1) == 1).all()
    assert (best == found).double().mean() > 0.8  # not convex: most, not all
    fit = sparse.soft_threshold((y @ W).gather(1, found[:, None]), 0.05)
    close(alone.gather(1, found[:, None]), fit, atol=1e-6)


def test_matrices_that_are_no_inhibition_are_refused():
    for S, message in (
        (torch.zeros(2, 3), "square"),
        (torch.tensor([[0.0, 1.0], [0.5, 0.0]]), "symmetric"),
        (torch.tensor([[0.0, -1.0], [-1.0, 0.0]]), "at least 0"),
        (torch.eye(2), "diagonal"),
        (torch.full((2, 2), math.inf), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            require_inhibition(S)
        with pytest.raises(ValueError, match=message):
            sparse.InhibitedSparseCoding(3, S, lam=0.1)
    with pytest.raises(ValueError, match="divide K"):
        sparse.competition(6, 4, 1.0)
    with pytest.raises(ValueError, match="strength"):
        sparse.competition(6, 3, 0.0)


# ---- variance


def test_variance_hinge_is_its_formula_with_its_gradient():
    z = (torch.tensor([0.2, 0.6, 1.5, 3.0], dtype=F64) * numbers(9, 4)).requires_grad_()  # two below, two above
    by_hand = sum(max(0.0, 0.8 - z[:, k].std().item()) ** 2 for k in range(4))
    assert sparse.variance_hinge(z, target=0.8).item() == pytest.approx(by_hand, rel=1e-12)
    assert torch.autograd.gradcheck(lambda z: sparse.variance_hinge(z, target=0.8), z)
    flat = torch.ones(3, 2, requires_grad=True)
    sparse.variance_hinge(flat).backward()
    assert torch.equal(flat.grad, torch.zeros(3, 2))
    for bad in (torch.zeros(1, 3), torch.zeros(3)):
        with pytest.raises(ValueError, match="B of at least 2"):
            sparse.variance_hinge(bad)
    with pytest.raises(ValueError, match="target"):
        sparse.variance_hinge(torch.zeros(2, 2), target=0.0)


def test_codes_of_a_linear_decoder_are_the_nonnegative_lasso():
    model = sparse.VarianceSparseCoding((9, 5), lam=0.2, generator=seeded(), dtype=F64)
    with torch.no_grad():
        model.decoder.linears[0].bias.zero_()
        W = model.decoder.linears[0].weight
        y = numbers(20, 5)
        exact = sparse.sparse_codes(y, W.detach(), 0.2, nonnegative=True, tol=1e-10)
        close(model.free_energy(y), model.energy(y, exact), rtol=1e-4)
        found = model.energy(y, model.infer(y, steps=2000))
        close(found, model.energy(y, exact), rtol=1e-6)


def test_codes_of_a_batch_go_down_together_and_vary_as_asked():
    y = numbers(40, 6)
    for gamma in (0.0, 5.0):
        model = sparse.VarianceSparseCoding((8, 16, 6), lam=0.5, gamma=gamma, generator=seeded(), dtype=F64)
        with torch.no_grad():

            def objective(z, model=model, gamma=gamma):
                return (model.energy(y, z).sum() + gamma * 40 * sparse.variance_hinge(z)).item()

            trail = [objective(model.infer_batch(y, steps=n)) for n in (*range(1, 31), 50, 200)]
        assert all(b <= a + 1e-9 * abs(a) for a, b in itertools.pairwise(trail))
        z = model.infer_batch(y, steps=200)
        assert (z >= 0).all()
        assert (z.std(0).mean() > 0.8) == (gamma > 0)


def test_without_variance_the_codes_shrink_as_the_decoder_grows():
    y, _ = planted(600, 6, 8, 2)
    size = {}
    for gamma in (0.0, 5.0):
        model = sparse.VarianceSparseCoding((8, 24, 6), lam=0.5, gamma=gamma, generator=seeded(), dtype=F64)
        model.learn(y, steps=80, batch_size=64, lr=1e-2, code_steps=30, generator=seeded(1), progress=False)
        size[gamma] = model.infer_batch(y[:200], steps=100).std(0)
    assert size[5.0].min() > 0.7
    assert size[0.0].mean() < 0.5 * size[5.0].mean()


def test_a_batch_of_one_and_other_bad_arguments_are_refused():
    model = sparse.VarianceSparseCoding((4, 3), lam=0.1, generator=seeded())
    with pytest.raises(ValueError, match="at least 2"):
        model.infer_batch(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="batch_size must be"):
        model.learn(torch.zeros(9, 3), batch_size=1, progress=False)
    for options in ({"lam": 0.0}, {"lam": 0.1, "gamma": -1.0}, {"lam": 0.1, "target": 0.0}):
        with pytest.raises(ValueError, match="must be"):
            sparse.VarianceSparseCoding((4, 3), **options)
    for arguments in ((0, 3), (3, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            sparse.SparseCoding(*arguments, lam=0.1)
    with pytest.raises(ValueError, match="lam must"):
        sparse.SparseCoding(3, 4, lam=0.0)
    model = sparse.SparseCoding(3, 4, lam=0.1)
    with pytest.raises(ValueError, match="all 0"):
        model.learn(torch.zeros(9, 3), progress=False)
    for options in ({"rounds": 0}, {"min_gain": -1.0}, {"batch_size": 0}, {"memory": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            model.learn(torch.ones(9, 3), progress=False, **options)
    with pytest.raises(ValueError, match="no zero column"):
        sparse.normalize_columns(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="code_moment"):
        sparse.dictionary_step(torch.ones(3, 2), torch.ones(3, 3), torch.ones(3, 2))
    with pytest.raises(ValueError, match="W must be finite"):
        sparse.dictionary_step(torch.full((3, 2), math.nan), torch.ones(2, 2), torch.ones(3, 2))
    with pytest.raises(ValueError, match="z must be finite"):
        sparse.variance_hinge(torch.full((3, 2), math.nan))
    with pytest.raises(ValueError, match=r"decoder must return \(9, 3\), got \(9, 1\)"):  # it would broadcast
        sparse.VarianceSparseCoding((4, 3), lam=0.1, decoder=torch.nn.Linear(4, 1)).energy(
            torch.zeros(9, 3), torch.zeros(9, 4)
        )
