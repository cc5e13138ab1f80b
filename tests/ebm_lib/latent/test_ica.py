"""Square ICA: the normaliser on a grid, gradients by autograd, sources found again, and scikit-learn's FastICA."""

import itertools
import math

import pytest
import torch

from ebm_lib.energy import evaluate, grid, log_partition
from ebm_lib.latent import Model
from ebm_lib.latent.ica import ICA, amari_distance, log_cosh

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def laplace(n, D, seed=0):
    u = torch.rand(n, D, generator=seeded(seed), dtype=F64) - 0.5
    return -u.sign() * torch.log1p(-2 * u.abs())


def mixed(n=4000, D=5, seed=0):
    A = torch.randn(D, D, generator=seeded(seed + 100), dtype=F64)
    return laplace(n, D, seed) @ A.T + torch.arange(D), A


# ---- the pieces


def test_log_cosh_is_the_logarithm_of_cosh_and_never_overflows():
    s = torch.linspace(-12, 12, 97, dtype=F64)
    torch.testing.assert_close(log_cosh(s), torch.cosh(s).log(), rtol=1e-13, atol=1e-15)
    assert log_cosh(torch.tensor(-1e30)).item() == pytest.approx(1e30)
    s.requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(log_cosh(s).sum(), s)[0], torch.tanh(s).detach())


def test_the_amari_distance_ignores_order_and_scale_and_nothing_else():
    A = torch.randn(4, 4, generator=seeded(), dtype=F64)
    W = torch.linalg.inv(A)
    scale = torch.tensor([3.0, -0.1, 20.0, 1.0], dtype=F64)
    assert amari_distance((W * scale[:, None])[[2, 0, 3, 1]], A).item() == pytest.approx(0, abs=1e-12)
    assert amari_distance(torch.ones(3, 4, 4), torch.eye(4)).tolist() == [1, 1, 1]
    # by hand: P = [[1, ½], [0, 1]]: one row and one column with an excess of ½, over 2·2·1
    P = torch.tensor([[1.0, 0.5], [0.0, 1.0]])
    assert amari_distance(P, torch.eye(2)).item() == pytest.approx((0.5 + 0.5) / 4)
    for bad in (torch.eye(1), torch.eye(3)[:2]):
        with pytest.raises(ValueError, match="W and A must be"):
            amari_distance(bad, bad)
    with pytest.raises(ValueError, match="a source is lost"):
        amari_distance(torch.zeros(2, 2), torch.eye(2))


@torch.no_grad()
def test_the_volume_is_pi_to_the_d_whatever_the_filters():
    cells = grid([-40, -40], [40, 40], 800, dtype=F64)
    for W in ([[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.5], [-1.0, 0.7]], [[0.8, -0.6], [0.6, 1.0]]):
        ica = ICA(2, dtype=F64)
        ica.weight.copy_(torch.tensor(W, dtype=F64))
        ica.mean.copy_(torch.tensor([1.0, -2.0], dtype=F64))
        log_z = log_partition(evaluate(ica, cells.points), log_volume=cells.log_cell).item()
        assert log_z == pytest.approx(2 * math.log(math.pi), abs=1e-6)
        assert ica.log_partition == pytest.approx(log_z, abs=1e-6)


def test_the_energy_by_hand():
    ica = ICA(2, dtype=F64)
    with torch.no_grad():
        ica.weight.copy_(torch.tensor([[2.0, 0.0], [1.0, 3.0]], dtype=F64))
        ica.mean.copy_(torch.tensor([1.0, 0.0], dtype=F64))
    value = ica(torch.tensor([2.0, -1.0], dtype=F64)).item()
    assert value == pytest.approx(math.log(math.cosh(2)) + math.log(math.cosh(-2)) - math.log(6))
    y = torch.randn(4, 3, 2, generator=seeded(), dtype=F64)
    torch.testing.assert_close(ica.decode(ica.encode(y)), y)
    assert isinstance(ica, Model)
    assert torch.equal(ica.free_energy(y, beta=3.0), ica.energy(y))


# ---- learning


def test_it_finds_the_sources():
    y, A = mixed()
    ica = ICA(5, dtype=F64, generator=seeded())
    before = amari_distance(ica.weight, A)
    learned = ica.learn(y)
    assert learned.converged
    assert all(b <= a + 1e-13 for a, b in itertools.pairwise(learned.loss))
    assert learned.rounds < 25  # Newton's, not gradient descent's
    assert amari_distance(ica.weight, A).item() < 0.02 < before.item()
    assert learned.loss[-1] == pytest.approx(ica(y).mean().item(), abs=1e-10)
    torch.testing.assert_close(ica.mean, y.mean(0))


def test_the_newton_step_solves_each_block():
    s = laplace(500, 3) * torch.tensor([0.7, 1.5, 3.0], dtype=F64)
    G = torch.tanh(s).T @ s / len(s) - torch.eye(3, dtype=F64)
    step = ICA(3, dtype=F64)._newton(s, G)
    h = lambda i, j: ((1 - torch.tanh(s[:, i]) ** 2).mean() * (s[:, j] ** 2).mean()).item()
    block = torch.tensor([[h(0, 2), 1.0], [1.0, h(2, 0)]], dtype=F64)
    lift = max(0.0, 0.01 - torch.linalg.eigvalsh(block)[0].item())
    solved = torch.linalg.solve(block + lift * torch.eye(2, dtype=F64), torch.stack([G[0, 2], G[2, 0]]))
    torch.testing.assert_close(torch.stack([step[0, 2], step[2, 0]]), solved)


def test_where_it_stops_the_gradient_is_zero():
    y, _ = mixed(1000, 4)
    ica = ICA(4, dtype=F64, generator=seeded())
    ica.learn(y, tol=1e-10)
    gradient = torch.autograd.grad(ica(y).mean(), ica.weight)[0]
    torch.testing.assert_close(gradient @ ica.weight.T, torch.zeros(4, 4, dtype=F64), rtol=0, atol=1e-9)
    s = ica.encode(y)
    torch.testing.assert_close(torch.tanh(s).T @ s / len(s), torch.eye(4, dtype=F64), rtol=0, atol=1e-9)


def test_no_worse_than_fast_ica_on_data_of_its_own():
    sklearn = pytest.importorskip("sklearn.decomposition")
    ours, theirs, likelihoods = [], [], []
    for seed in range(4):
        y, A = mixed(3000, 6, seed)
        ica = ICA(6, dtype=F64, generator=seeded(seed))
        ica.learn(y)
        fast = sklearn.FastICA(fun="logcosh", whiten="unit-variance", tol=1e-6, max_iter=1000, random_state=seed)
        fast.fit(y.numpy())
        W = torch.tensor(fast.components_)
        ours.append(amari_distance(ica.weight, A).item())
        theirs.append(amari_distance(W, A).item())
        # FastICA's filters with the best scales, in our energy
        s = (y - y.mean(0)) @ W.T
        rival = ICA(6, dtype=F64)
        with torch.no_grad():
            scale = torch.ones(6, dtype=F64)
            for _ in range(100):  # fixed point of <tanh(a s) a s> = 1
                scale = scale / (torch.tanh(scale * s) * scale * s).mean(0)
            rival.weight.copy_(W * scale[:, None])
            rival.mean.copy_(y.mean(0))
        likelihoods.append((rival(y).mean() - ica(y).mean()).item())
    assert max(ours) < 0.03
    assert sum(ours) < sum(theirs) * 1.05
    assert min(likelihoods) > 0


def test_the_result_does_not_depend_on_the_units_of_the_data_or_the_start():
    y, A = mixed(2000, 4)
    B = torch.diag(torch.tensor([1e3, 1.0, 1e-3, 10.0], dtype=F64)) @ torch.randn(4, 4, generator=seeded(9), dtype=F64)
    one, other = ICA(4, dtype=F64, generator=seeded(1)), ICA(4, dtype=F64, generator=seeded(2))
    one.learn(y, tol=1e-9)
    other.learn(y @ B.T, tol=1e-9)
    assert amari_distance(one.weight, A).item() == pytest.approx(amari_distance(other.weight, B @ A).item(), rel=1e-5)
    volume = torch.linalg.slogdet(B).logabsdet.item()
    assert other(y @ B.T).mean().item() == pytest.approx(one(y).mean().item() + volume, abs=1e-9)
    fresh = ICA(4, dtype=F64, generator=seeded())  # its filters are a thousand times too long: the search starts nearer
    far = fresh(1e3 * y).mean().item()
    start = fresh.learn(1e3 * y, rounds=1).loss[0]
    assert start < far / 50
    assert start < one(y).mean().item() + 4 * math.log(1e3) + 1


def test_learning_goes_on_from_where_it_stands():
    y, _ = mixed(1000, 4)
    ica = ICA(4, dtype=F64, generator=seeded())
    ica.learn(y)
    before = ica.weight.detach().clone()
    again = ica.learn(y)
    assert again.rounds == 1
    torch.testing.assert_close(ica.weight.detach(), before)


def test_light_tails_are_not_found_as_documented():
    A = torch.tensor([[1.0, 0.6], [0.2, 1.0]], dtype=F64)
    y = (torch.rand(20000, 2, generator=seeded(), dtype=F64) - 0.5) @ A.T
    ica = ICA(2, dtype=F64, generator=seeded())
    ica.learn(y)
    assert amari_distance(ica.weight, A).item() > 0.3


@torch.no_grad()
def test_samples_are_from_the_model():
    ica = ICA(2, dtype=F64)
    ica.weight.copy_(torch.tensor([[2.0, 0.5], [-1.0, 0.7]], dtype=F64))
    ica.mean.copy_(torch.tensor([3.0, -1.0], dtype=F64))
    y = ica.sample(100_000, generator=seeded())
    s = ica.encode(y)
    assert s.mean(0).abs().max() < 5 * math.pi / 2 / math.sqrt(1e5)
    torch.testing.assert_close(s.var(0), torch.full((2,), math.pi**2 / 4, dtype=F64), rtol=0.03, atol=0)
    torch.testing.assert_close(s.abs().lt(1).double().mean(0), torch.full((2,), 0.5511, dtype=F64), rtol=0, atol=0.006)
    assert torch.equal(ica.sample(5, generator=seeded(1)), ica.sample(5, generator=seeded(1)))


# ---- the contract


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="D must be"):
        ICA(0)
    ica = ICA(3, dtype=F64)
    with pytest.raises(ValueError, match=r"y must be \(..., 3\)"):
        ica(torch.zeros(2, dtype=F64))
    with pytest.raises(ValueError, match="s must be"):
        ica.decode(torch.zeros(2, dtype=F64))
    with pytest.raises(ValueError, match="y must be finite"):
        ica(torch.full((3,), torch.inf, dtype=F64))
    with pytest.raises(ValueError, match="at least 4 samples"):
        ica.learn(torch.zeros(3, 3, dtype=F64))
    flat = torch.randn(50, 3, generator=seeded(), dtype=F64)
    flat[:, 2] = flat[:, 0]
    with pytest.raises(ValueError, match="rank 2: project first"):
        ica.learn(flat)
    with pytest.raises(ValueError, match="points must vary"):
        ica.learn(torch.ones(9, 3, dtype=F64))
    with pytest.raises(ValueError, match="beta must be"):
        ica.free_energy(flat, beta=-1.0)


def test_device_dtype_and_seed():
    assert ICA(3, device="meta")(torch.zeros(4, 3, device="meta")).is_meta
    y, A = mixed(2000, 3)
    ica = ICA(3, generator=seeded())
    ica.learn(y.float())
    assert ica.weight.dtype == torch.float32
    assert amari_distance(ica.weight.double(), A).item() < 0.05
    assert torch.equal(ICA(3, generator=seeded(4)).weight, ICA(3, generator=seeded(4)).weight)
    torch.testing.assert_close(ICA(3, generator=seeded()).weight @ ICA(3, generator=seeded()).weight.T, torch.eye(3))
    z = torch.func.vmap(ica)(y.float())
    torch.testing.assert_close(z, ica(y.float()))
    assert torch.autograd.grad(ica(y.float()).sum(), ica.weight)[0].abs().sum() > 0
