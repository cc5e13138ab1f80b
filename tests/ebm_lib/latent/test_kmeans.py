"""K-means against enumeration, scikit-learn from the same start, and Lloyd's algorithm without short cuts."""

import itertools
import math
import subprocess
import sys
import textwrap

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans as Peer

from ebm_lib import free_energy as fe
from ebm_lib.energy import evaluate
from ebm_lib.latent import KMeans, LatentModel, kmeans_plus_plus, lloyd_step, nearest
from ebm_lib.latent import lloyd as lloyd_module
from ebm_lib.latent.lloyd import lloyd

F64 = torch.float64


def points(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


def clusters(n, d, k, *, spread=0.3, seed=0, dtype=F64):
    means = 3 * points(k, d, seed=seed)
    labels = torch.randint(k, (n,), generator=torch.Generator().manual_seed(seed))
    return (means[labels] + spread * points(n, d, seed=seed + 1)).to(dtype)


def model_at(W):
    model = KMeans(*W.shape, dtype=W.dtype)
    with torch.no_grad():
        model.W.copy_(W)
    return model


def naive(y, W, rounds):
    """Lloyd's algorithm as it is written down: every distance, every round."""
    for _ in range(rounds):
        codes = torch.cdist(y, W.T, compute_mode="donot_use_mm_for_euclid_dist").argmin(-1)
        W = torch.stack([y[codes == k].mean(0) for k in range(W.shape[1])], -1)
    return W, codes, (y - W.T[codes]).square().sum(-1).mean().item()


# ---- the energy


def test_it_is_a_latent_model_whose_parts_agree():
    model, y = model_at(points(3, 5, seed=1)), points(7, 3)
    assert isinstance(model, LatentModel)
    codes = torch.eye(5, dtype=F64)
    table = evaluate(model.energy, y[:, None], codes[None])
    direct = (y[:, None] - model.W.T).square().sum(-1)
    torch.testing.assert_close(table, direct)
    torch.testing.assert_close(model.energies(y), direct)
    torch.testing.assert_close(model(y), direct.amin(-1))
    torch.testing.assert_close(model.energy(y, model.infer(y)), direct.amin(-1))
    torch.testing.assert_close(model.free_energy(y, 2.0), fe.over_discrete(model.energy, y, codes, 2.0))
    torch.testing.assert_close(model.posterior(y, 2.0), torch.softmax(-2 * direct, -1))
    torch.testing.assert_close(model.posterior(y, 1e6), model.infer(y))
    assert torch.equal(model.decode(codes), model.W.T)
    assert model.infer(y).shape == (7, 5)
    assert model.infer(y[0]).shape == (5,)
    assert model(points(2, 4, 3)).shape == (2, 4)


def test_energy_is_zero_at_the_prototypes_only_and_infinite_where_z_is_not_one_hot():
    model = model_at(points(2, 4))
    assert torch.equal(model(model.W.T.detach()), torch.zeros(4, dtype=F64))
    assert (model(points(50, 2, seed=3)) > 0).all()
    bad = torch.tensor([[0.5, 0.5, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [2, -1, 0, 0]], dtype=F64)
    assert torch.isposinf(model.energy(points(2), bad)).all()


@pytest.mark.parametrize("beta", [0.7, math.inf])
def test_gradients_of_the_free_energy(beta):
    model, y = model_at(points(2, 3)), points(6, 2, seed=5).requires_grad_()
    torch.autograd.gradcheck(lambda y: model(y, beta), y)
    (slope,) = torch.autograd.grad(model(y, beta).sum(), model.W)
    share = model.posterior(y, beta).detach()
    expected = 2 * (model.W * share.sum(0) - y.T @ share)
    torch.testing.assert_close(slope, expected.detach())


def test_the_nearest_is_found_far_from_the_origin_with_ties_and_in_any_block_size():
    W, y = points(4, 9, seed=2, dtype=torch.float32), points(300, 4, seed=3, dtype=torch.float32)
    expected = torch.cdist(y.double(), W.T.double()).min(-1)
    for shift in (0.0, 100.0):
        found = nearest(y + shift, W + shift)
        assert (found.codes == expected.indices).float().mean() > 0.99  # the shift itself rounds
        torch.testing.assert_close(
            found.energy.double(), expected.values.square(), rtol=1e-2 if shift else 1e-5, atol=1e-5
        )
    for size in (1, 7, 300):
        assert torch.equal(nearest(y, W, block_size=size).codes, nearest(y, W).codes)
    tied = nearest(torch.zeros(2, 1), torch.tensor([[1.0, -1.0, 1.0]]))
    assert tied.codes.tolist() == [0, 0]
    assert nearest(torch.zeros(0, 4), W).codes.shape == (0,)
    assert nearest(torch.zeros(5, 4, device="meta"), W.to("meta")).energy.shape == (5,)


def test_energies_keep_their_digits_far_from_the_origin():
    y, W = (points(20, 3) + 1e3).float(), (points(3, 4, seed=1) + 1e3).float()
    exact = (y.double()[:, None] - W.double().T).square().sum(-1)
    torch.testing.assert_close(model_at(W).energies(y).double(), exact, rtol=0, atol=1e-4)
    torch.testing.assert_close(model_at(W)(y).double(), exact.amin(-1), rtol=1e-5, atol=1e-7)


# ---- learning


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("kind", ["clusters", "cloud", "far cloud"])
def test_the_short_cuts_change_nothing(dtype, kind, monkeypatch):
    spared = []
    bounded = lloyd_module._State._active
    monkeypatch.setattr(lloyd_module._State, "_active", lambda self: spared.append(bounded(self)) or spared[-1])
    y = clusters(3000, 6, 12, spread=1.0) if kind == "clusters" else points(3000, 6)
    y = (y + 50 * (kind == "far cloud")).to(dtype)
    W = y[:12].T
    before = W
    for r, step in enumerate(lloyd(y, W), start=1):
        if dtype == F64:
            expected = naive(y, W, r)
            assert torch.equal(step.codes, expected[1])
            torch.testing.assert_close(step.W, expected[0])
            assert step.loss == pytest.approx(expected[2], rel=1e-9)
        else:  # a tie that rounding decides sends the two ways apart: so each round by itself
            energies = torch.cdist(y.double(), before.T.double()).square()
            chosen = energies.gather(1, step.codes[:, None]).squeeze(1)
            assert (chosen - energies.amin(1)).max() < (2e-3 if kind == "far cloud" else 2e-5)
            before = step.W
        if r == 40 or step.changed == 0:
            break
    assert any(active is not None and not active.all() for active in spared), "the bounds were never in use"


@pytest.mark.parametrize("case", ["offset", "far apart"])
def test_in_single_precision_prototypes_and_loss_are_exact_far_from_the_origin(case):
    if case == "offset":
        y = (points(4000, 3) + 1e5).float()
    else:  # the loss is a small rest of a large variance
        y = clusters(4000, 3, 4, spread=0.1) * 10
        y = y.float()
    W = kmeans_plus_plus(y, 4, generator=torch.Generator().manual_seed(0))
    for step in itertools.islice(lloyd(y, W), 4):
        means = torch.stack([y[step.codes == k].double().mean(0) for k in range(4)], -1)
        torch.testing.assert_close(step.W, means.float(), rtol=1e-7, atol=1e-7)
        held = (y.double() - means.T[step.codes]).square().sum(-1).mean().item()
        assert step.loss == pytest.approx(held, rel=1e-6)


def test_rounds_do_not_depend_on_the_units_of_the_data():
    y = clusters(2000, 3, 5, spread=2.0)
    rounds = {len(model_at(c * y[:5].T).learn(c * y, start="current", tol=1e-3).loss) for c in (1e-4, 1.0, 1e4)}
    assert len(rounds) == 1
    assert rounds.pop() < len(model_at(y[:5].T).learn(y, start="current", tol=1e-5).loss)


def test_the_bounds_do_save_work(monkeypatch):
    y = clusters(4000, 4, 8, spread=1.0)
    looked_at = []
    search = lloyd_module.Search.__call__
    monkeypatch.setattr(lloyd_module.Search, "__call__", lambda self, y: looked_at.append(len(y)) or search(self, y))
    rounds = len(model_at(y[:8].T).learn(y, start="current", tol=0).loss)
    assert rounds > 10
    assert sum(looked_at) < 0.6 * rounds * len(y)


@pytest.mark.parametrize("seed", range(3))
def test_the_same_optimum_as_scikit_learn_from_the_same_start(seed):
    y = clusters(2000, 5, 8, spread=2.0, seed=seed)
    W = kmeans_plus_plus(y, 8, generator=torch.Generator().manual_seed(seed))
    model = model_at(W)
    record = model.learn(y, start="current", tol=0)
    peer = Peer(8, init=W.T.numpy(), n_init=1, tol=0, algorithm="lloyd").fit(y.numpy())
    assert record.converged
    assert len(y) * record.loss[-1] == pytest.approx(peer.inertia_, rel=1e-9)
    torch.testing.assert_close(model.W.detach().T, torch.tensor(peer.cluster_centers_))
    assert torch.equal(model.nearest(y).codes, torch.tensor(peer.labels_).long())


def test_the_global_optimum_of_a_small_problem_by_enumeration():
    y = points(8, 2)
    best = math.inf
    for labels in itertools.product(range(2), repeat=8):
        codes = torch.tensor(labels)
        if 0 < codes.sum() < 8:
            parts = [y[codes == k] for k in (0, 1)]
            best = min(best, sum((p - p.mean(0)).square().sum().item() for p in parts) / 8)
    model = KMeans(2, 2, dtype=F64)
    record = model.learn(y, restarts=20, tol=0, generator=torch.Generator().manual_seed(0))
    assert record.loss[-1] == pytest.approx(best, rel=1e-12)
    assert model(y).mean().item() == pytest.approx(best, rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 9), st.integers(0, 10**6), st.booleans())
@example(9, 3, 5, 524289, True)  # a sample as far from two prototypes
def test_the_loss_never_rises_and_is_the_mean_energy(n, d, k, seed, coarse):
    y = points(n, d, seed=seed)
    y = y.round() if coarse else y  # many samples alike: ties, and prototypes that nothing falls to
    if k > n:
        with pytest.raises(ValueError, match=f"K must be at most the number of samples, {n}, got {k}"):
            KMeans(d, k, dtype=F64).learn(y)
        return
    model = KMeans(d, k, dtype=F64)
    record = model.learn(y, start="samples", tol=0, generator=torch.Generator().manual_seed(seed))
    assert record.converged
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(record.loss))
    assert record.loss[-1] == pytest.approx(model(y).mean().item(), rel=1e-9, abs=1e-12)
    distance = (y[:, None] - model.W.detach().T).square().sum(-1)
    near = distance < distance.amin(-1, keepdim=True) + 1e-9
    for k in range(model.W.shape[1]):  # a sample as near to two of them may be counted with either
        if near[:, k].any() and (near[near[:, k]].sum(-1) == 1).all():
            torch.testing.assert_close(model.W[:, k].detach(), y[near[:, k]].mean(0))


def test_a_prototype_without_samples_takes_the_worst_one():
    y = torch.tensor([[0.0], [1.0], [2.0], [30.0]], dtype=F64)
    start = torch.tensor([[1.0, 500.0, 900.0]], dtype=F64)
    step = lloyd_step(y, start)
    assert step.codes.tolist() == [0, 0, 0, 1] or step.codes.bincount(minlength=3).min() > 0
    assert step.W[0, 1].item() == 30
    assert step.loss < lloyd_step(y, torch.tensor([[1.0, 30.0]], dtype=F64)).loss  # 3 prototypes beat 2
    # The worst sample may be all that another prototype has: then it stays there
    step = lloyd_step(torch.tensor([[0.0], [0.1], [0.2], [100.0]], dtype=F64), start.new_tensor([[0.1, 60.0, 500.0]]))
    assert step.codes.bincount(minlength=3).tolist() == [2, 1, 1]
    alike = torch.ones(5, 2, dtype=F64)
    record = model_at(points(2, 3)).learn(alike, start="current")
    assert record.loss[-1] == 0
    assert KMeans(2, 3, dtype=F64).learn(alike).loss[-1] == 0


def test_one_prototype_is_the_mean_and_n_prototypes_are_the_samples():
    y = points(6, 3)
    one = KMeans(3, 1, dtype=F64)
    one.learn(y)
    torch.testing.assert_close(one.W.detach().squeeze(-1), y.mean(0))
    assert one(y).mean().item() == pytest.approx(y.var(0, correction=0).sum().item())
    every = KMeans(3, 6, dtype=F64)
    assert every.learn(y).loss[-1] == pytest.approx(0, abs=1e-14)
    single = KMeans(3, 1, dtype=F64)  # a batch of one
    assert set(single.learn(y[:1]).loss) == {0.0}


def test_soft_codes_become_hard_and_gradient_descent_finds_the_same_prototypes():
    y = clusters(400, 2, 3)
    model = KMeans(2, 3, dtype=F64)
    model.learn(y, tol=0, generator=torch.Generator().manual_seed(0))
    low = model(y).detach()
    for beta in (1.0, 10.0, 1e4):
        gap = low - model.free_energy(y, beta).detach()
        assert (gap >= -1e-12).all()
        assert (gap <= math.log(3) / beta + 1e-12).all()
    found = model.W.detach().clone()
    with torch.no_grad():
        model.W.add_(0.2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        model(y).mean().backward()
        optimizer.step()
    torch.testing.assert_close(model.W.detach(), found)


# ---- starts


def test_kmeans_plus_plus_takes_samples_and_draws_them_in_proportion_to_their_energy():
    y = torch.tensor([[0.0], [1.0], [3.0]], dtype=F64)
    generator = torch.Generator().manual_seed(0)
    pairs = torch.zeros(3, 3)
    for _ in range(4000):
        first, second = kmeans_plus_plus(y, 2, trials=1, generator=generator)[0].tolist()
        pairs[[0.0, 1.0, 3.0].index(first), [0.0, 1.0, 3.0].index(second)] += 1
    energy = (y - y.T).square()
    expected = energy / energy.sum(1, keepdim=True) / 3
    torch.testing.assert_close(pairs.double() / 4000, expected, atol=0.025, rtol=0)


def test_kmeans_plus_plus_finds_separate_clusters_and_trials_help():
    y = clusters(600, 3, 10, spread=0.01, seed=4)
    W = kmeans_plus_plus(y, 10, generator=torch.Generator().manual_seed(0))
    assert nearest(y, W).energy.max() < 0.1  # one in each
    assert (torch.cdist(W.T, y).amin(-1) == 0).all()
    cloud = points(500, 2)

    def mean_loss(trials):
        seeds = [torch.Generator().manual_seed(s) for s in range(20)]
        return sum(nearest(cloud, kmeans_plus_plus(cloud, 10, trials=trials, generator=g)).energy.mean() for g in seeds)

    assert mean_loss(None) < 0.95 * mean_loss(1)


def test_a_run_is_a_function_of_its_generator():
    y = clusters(300, 3, 6, spread=1.0)
    first, again, other = (KMeans(3, 6, dtype=F64) for _ in range(3))
    for model, seed in ((first, 1), (again, 1), (other, 2)):
        model.learn(y, rounds=1, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(first.W, again.W)
    assert not torch.equal(first.W, other.W)
    drawn = [KMeans(2, 3, generator=torch.Generator().manual_seed(s)).W for s in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_half_precision_data_are_clustered_in_single():
    y = clusters(300, 2, 3, dtype=torch.float32)
    W = y[:3].T
    low = lloyd_step(y.half(), W.half())
    assert low.W.dtype == torch.float16
    torch.testing.assert_close(low.W.float(), lloyd_step(y, W).W, rtol=1e-2, atol=1e-2)


# ---- bad input, memory


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: KMeans(2, 5, dtype=F64).learn(points(4, 2)), "K must be at most the number of samples, 4, got 5"),
        (
            lambda: KMeans(2, 2, dtype=F64).learn(points(4, 3)),
            r"y must be \(N, 2\), one sample a row, got shape \(4, 3\)",
        ),
        (lambda: KMeans(2, 2, dtype=F64).learn(points(4, 2), start="best"), "start must be one of current, k-means"),
        (lambda: KMeans(2, 2, dtype=F64).learn(points(4, 2), tol=-1.0), "tol must be a positive"),
        (lambda: KMeans(2, 2).learn(points(4, 2), start="current", restarts=2), "restarts must be 1"),
        (lambda: KMeans(2, 2).learn(points(4, 2).fill_(math.nan)), "y must be finite"),
        (lambda: KMeans(2, 2).learn(torch.zeros(4, 2, dtype=torch.long)), "y must be floating point"),
        (lambda: KMeans(2, 0), "K must be a whole number of at least 1"),
        (lambda: KMeans(2, 2)(torch.zeros(3)), r"y must be \(..., 2\)"),
        (lambda: KMeans(2, 2)(torch.zeros(2), 0.0), "beta must be a positive"),
        (lambda: KMeans(2, 2).decode(torch.zeros(3)), r"z must be \(..., 2\)"),
        (lambda: lloyd_step(points(4, 2), points(3, 2)), r"y must be \(N, 3\)"),
        (lambda: lloyd_step(points(4, 2), points(2)), r"W must be \(D, K\)"),
        (lambda: nearest(points(4, 2), points(2, 2).fill_(math.inf)), "W must be finite"),
        (lambda: kmeans_plus_plus(points(4, 2), 0), "K must be a whole number"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_distances_that_overflow_are_an_error_not_a_wrong_cluster():
    with pytest.raises(FloatingPointError, match="rescale y"):
        KMeans(2, 2).learn(1e19 * points(10, 2, dtype=torch.float32))


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss")
def test_a_million_points_of_64_dimensions_stay_under_a_gigabyte_and_a_half():
    code = """
        import resource, torch
        torch.set_num_threads(1)
        from ebm_lib.latent import KMeans
        g = torch.Generator().manual_seed(0)
        y = torch.randn(1_000_000, 64, generator=g)
        model = KMeans(64, 64)
        model.learn(y, rounds=2, start="samples", generator=g)
        with torch.no_grad():
            assert model(y).shape == (1_000_000,)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert 0.25 < float(done.stdout) < 1.5 * 1e9 / 2**30
