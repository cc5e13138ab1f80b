"""PCA and linear auto-encoders against scikit-learn, the eigenvalues left out, quadrature and Baldi and Hornik."""

import math

import pytest
import torch
from sklearn.decomposition import PCA as ReferencePCA

from ebm_lib.energy import evaluate, grid
from ebm_lib.free_energy import over_gaussian, over_grid
from ebm_lib.latent import (
    PCA,
    LatentModel,
    LinearAutoEncoder,
    Model,
    moments,
    principal_subspace,
    reconstruction_loss,
    subspace_angles,
)

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def correlated(n=300, d=5, seed=0, mean=0.0):
    draw = torch.randn(n, d, generator=seeded(seed), dtype=F64)
    mix = torch.randn(d, d, generator=seeded(seed + 1), dtype=F64) * torch.linspace(2, 0.2, d, dtype=F64)
    return draw @ mix.T + mean


def random_basis(d, k, seed=0):
    return torch.linalg.qr(torch.randn(d, k, generator=seeded(seed), dtype=F64))[0]


# ---- moments


@pytest.mark.parametrize("block_size", [1, 7, 300, None])
def test_moments_do_not_depend_on_the_blocks(block_size):
    y = correlated(mean=3.0)
    found = moments(y, block_size=block_size)
    torch.testing.assert_close(found.mean, y.mean(0))
    torch.testing.assert_close(found.covariance, torch.cov(y.T, correction=0))
    assert found.count == 300


def test_moments_of_an_iterable_equal_those_of_the_whole():
    y = correlated(mean=-2.0)
    streamed = moments(part for part in y.split([1, 99, 200]))
    torch.testing.assert_close(streamed.covariance, moments(y).covariance)
    assert streamed.count == 300


def test_a_mean_far_away_costs_no_digits():
    y = correlated(2000).float()
    far = (y.double() + 2.0**20).float()  # spacing 1/8: the shifted points are other points, and known exactly
    expected = torch.cov(far.double().T, correction=0)
    for block_size in (50, None):
        found = moments(far, block_size=block_size).covariance.double()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_moments_are_differentiable():
    y = correlated(6, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: moments(y, block_size=2).covariance, (y,))


# ---- the principal subspace


@pytest.mark.parametrize("K", [1, 3, 5])
def test_subspace_equals_scikit_learns(K):
    y = correlated(mean=1.0)
    found, reference = principal_subspace(y, K), ReferencePCA(K, svd_solver="full").fit(y.numpy())
    expected = torch.from_numpy(reference.components_).T
    assert subspace_angles(found.W, expected).max() < 1e-10
    torch.testing.assert_close(found.variance[:K] * 300 / 299, torch.from_numpy(reference.explained_variance_))
    torch.testing.assert_close(found.W.T @ found.W, torch.eye(K, dtype=F64))
    assert (found.W.gather(0, found.W.abs().argmax(0, keepdim=True)) > 0).all()


def test_mean_energy_is_the_variance_left_out_and_no_other_flat_has_less():
    y = correlated()
    model = PCA(5, 2, dtype=F64)
    record = model.learn(y, block_size=64)
    left_out = torch.linalg.eigvalsh(torch.cov(y.T, correction=0))[:3].sum().item()
    assert model(y).mean().item() == pytest.approx(left_out, rel=1e-12)
    assert record.loss == [pytest.approx(left_out, rel=1e-12)]
    assert record.converged
    assert record.rounds == 1
    rival = PCA(5, 2, dtype=F64)
    for seed in range(20):
        with torch.no_grad():
            rival.W.copy_(random_basis(5, 2, seed))
            rival.mean.copy_(y.mean(0))
        assert rival(y).mean() > model(y).mean()


def test_angles_between_subspaces_are_the_ones_made():
    basis = random_basis(6, 6)
    for angle in (1e-9, 1e-3, 0.7, math.pi / 2 - 1e-9):
        turned = basis[:, :2].clone()
        turned[:, 1] = math.cos(angle) * basis[:, 1] + math.sin(angle) * basis[:, 2]
        mixed = turned @ torch.tensor([[2.0, 1.0], [0.5, -3.0]], dtype=F64)
        found = subspace_angles(basis[:, :2], mixed)
        assert found.tolist() == pytest.approx([angle, 0], rel=1e-6, abs=1e-14)
        assert subspace_angles(mixed, basis[:, :2]).tolist() == pytest.approx(found.tolist(), abs=1e-12)
    assert subspace_angles(basis[:, :4], basis[:, 1:3] @ torch.ones(2, 1, dtype=F64)).item() < 1e-12


# ---- PCA as an energy


def oblique(D=3, K=2):
    """A model whose columns are neither orthogonal nor of length one."""
    model = PCA(D, K, generator=seeded(), dtype=F64)
    with torch.no_grad():
        model.W.copy_(torch.randn(D, K, generator=seeded(5), dtype=F64))
        model.mean.copy_(torch.randn(D, generator=seeded(6), dtype=F64))
    return model


def test_inference_finds_the_minimum_over_z():
    model, y = oblique(), correlated(4, 3)
    z = model.infer(y)
    assert not z.requires_grad
    torch.testing.assert_close(evaluate(model, y), model.energy(y, z))
    other = z[:, None] + torch.randn(4, 50, 2, generator=seeded(), dtype=F64)
    assert (model.energy(y[:, None], other) > model(y)[:, None]).all()
    z = z.detach().requires_grad_()
    (slope,) = torch.autograd.grad(model.energy(y, z).sum(), z)
    assert slope.abs().max() < 1e-12


@pytest.mark.parametrize("beta", [0.7, 5.0])
def test_free_energy_at_finite_beta_is_the_integral_over_z(beta):
    model, y = oblique(3, 1), correlated(4, 3)
    assert model.W.norm() > 0.5
    wide = grid([-40.0], [40.0], 8000, dtype=F64)
    torch.testing.assert_close(model.free_energy(y, beta), over_grid(model.energy, y, wide, beta), rtol=1e-9, atol=1e-9)
    plane = oblique(3, 2)
    torch.testing.assert_close(plane.free_energy(y, beta), over_gaussian(plane.energy, y, plane.infer(y), beta))


def test_free_energy_has_the_slope_and_curvature_of_a_squared_distance():
    model = oblique()
    y = correlated(3, 3).requires_grad_()
    assert torch.autograd.gradcheck(model, (y,))
    hessian = torch.func.hessian(model)(y[0].detach())
    away = torch.eye(3, dtype=F64) - model.W @ torch.linalg.pinv(model.W)
    torch.testing.assert_close(hessian, (2 * away).detach())


def test_models_answer_to_their_protocols():
    assert isinstance(PCA(3, 1), LatentModel)
    assert isinstance(LinearAutoEncoder(3, 1), Model)
    assert not isinstance(LinearAutoEncoder(3, 1), LatentModel)


def test_the_generator_alone_decides_the_start():
    assert torch.equal(PCA(4, 2, generator=seeded()).W, PCA(4, 2, generator=seeded()).W)
    assert not torch.equal(PCA(4, 2, generator=seeded()).W, PCA(4, 2, generator=seeded(1)).W)


def test_dtype_and_meta_device_follow():
    assert PCA(3, 1, dtype=F64)(correlated(2, 3)).dtype == F64
    assert PCA(3, 1)(correlated(2, 3).float()).dtype == torch.float32
    assert LinearAutoEncoder(3, 1, device="meta")(torch.zeros(2, 3, device="meta")).shape == (2,)
    assert moments(torch.zeros(9, 3, device="meta")).covariance.shape == (3, 3)


# ---- linear auto-encoders


@pytest.mark.parametrize("tied", [True, False])
def test_closed_form_equals_pca(tied):
    y = correlated()
    pca, model = PCA(5, 2, dtype=F64), LinearAutoEncoder(5, 2, tied=tied, dtype=F64)
    pca.learn(y)
    model.learn(y)
    torch.testing.assert_close(model(y), pca(y))
    torch.testing.assert_close(model.encode(y), pca.infer(y))
    assert model.free_energy(y, 2.0).equal(model(y))


def test_gradient_descent_ends_in_the_same_subspace_tied_up_to_rotation_untied_up_to_any_map():
    y = correlated(400, 4)
    y = y - y.mean(0)
    best = principal_subspace(y, 2)
    for tied in (True, False):
        model = LinearAutoEncoder(4, 2, tied=tied, generator=seeded(3), dtype=F64)
        history = model.learn(y, steps=1500, lr=0.02)
        assert history.loss[-1] == pytest.approx(best.variance[2:].sum().item(), rel=1e-6)
        W, V = model.W.detach(), model.V.detach()
        assert subspace_angles(W, best.W).max() < 1e-3
        torch.testing.assert_close(W @ V, best.W @ best.W.T, atol=1e-2, rtol=0)
        gram = W.T @ W
        identity = torch.eye(2, dtype=F64)
        torch.testing.assert_close(V @ W, identity, atol=1e-2, rtol=0)
        if tied:
            torch.testing.assert_close(gram, identity, atol=2e-3, rtol=0)
        else:
            assert (gram - identity).abs().max() > 0.05


def test_loss_from_moments_equals_the_mean_energy():
    y = correlated()
    y = y - y.mean(0)
    model = LinearAutoEncoder(5, 2, generator=seeded(), dtype=F64)
    torch.testing.assert_close(reconstruction_loss(moments(y), model.W, model.V), model(y).mean())


def test_other_eigenvectors_are_saddle_points():
    found = moments(correlated())
    variance, directions = torch.linalg.eigh(found.covariance)
    for chosen in ([4, 3], [4, 2], [0, 3], [1, 0]):
        W = directions[:, chosen].clone().requires_grad_()
        V = directions[:, chosen].T.clone().requires_grad_()
        loss = reconstruction_loss(found, W, V)
        assert loss.item() == pytest.approx((variance.sum() - variance[chosen].sum()).item(), rel=1e-12)
        slopes = torch.autograd.grad(loss, (W, V))
        assert max(slope.abs().max().item() for slope in slopes) < 1e-12
        if chosen != [4, 3]:  # turning a direction towards a stronger one left out goes down
            better = max(i for i in range(5) if i not in chosen)
            turned = directions[:, chosen].clone()
            weakest = min(range(2), key=chosen.__getitem__)
            turned[:, weakest] = 0.99 * turned[:, weakest] + math.sqrt(1 - 0.99**2) * directions[:, better]
            assert reconstruction_loss(found, turned, turned.T) < loss


# ---- bad input


def test_bad_input_is_named():
    y = correlated(4, 3)
    with pytest.raises(ValueError, match="K must be at most the 3 dimensions of y, got 4"):
        principal_subspace(correlated(9, 3), 4)
    with pytest.raises(ValueError, match="K must be at most 1, as 2 points span no more"):
        principal_subspace(y[:2], 2)
    with pytest.raises(ValueError, match="K must be at most 0, as 1 points"):
        PCA(3, 1, dtype=F64).learn(y[:1])
    with pytest.raises(ValueError, match="K must be at most the 2 dimensions"):
        PCA(2, 3)
    with pytest.raises(ValueError, match=r"y must be \(N, 3\)"):
        PCA(3, 1, dtype=F64).learn(y[:, :2])
    with pytest.raises(ValueError, match="3 dimensions, got 2"):
        PCA(3, 1, dtype=F64).learn(iter([y[:, :2]]))
    with pytest.raises(ValueError, match="at least one block"):
        moments(iter([]))
    with pytest.raises(ValueError, match="must have 3 columns like the first, got 2"):
        moments(iter([y, y[:, :2]]))
    with pytest.raises(ValueError, match="y must be finite"):
        moments(torch.full((2, 2), math.nan))
    with pytest.raises(ValueError, match=r"y must be \(\.\.\., 3\), got shape \(4, 2\)"):
        PCA(3, 1, dtype=F64)(y[:, :2])
    with pytest.raises(ValueError, match=r"z must be \(\.\.\., 1\)"):
        PCA(3, 1, dtype=F64).decode(y)
    with pytest.raises(ValueError, match="beta must be a positive"):
        PCA(3, 1, dtype=F64).free_energy(y, 0.0)
    with pytest.raises(ValueError, match="U must have linearly independent columns|W must have"):
        subspace_angles(torch.ones(3, 2), torch.eye(3)[:, :2])
    with pytest.raises(ValueError, match=r"must be \(D, K\) and \(D, L\)"):
        subspace_angles(torch.eye(3), torch.eye(2))
    with pytest.raises(ValueError, match="options need steps"):
        LinearAutoEncoder(3, 1, dtype=F64).learn(y, lr=0.1)
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        LinearAutoEncoder(3, 1, dtype=F64).learn(y[:1], steps=1)
    with pytest.raises(ValueError, match=r"W and V must be \(3, K\) and \(K, 3\)"):
        reconstruction_loss(moments(y), torch.eye(3)[:, :2], torch.eye(3)[:, :2])
    dependent = PCA(3, 2, dtype=F64)
    with torch.no_grad():
        dependent.W[:, 1] = 2 * dependent.W[:, 0]
    with pytest.raises(ValueError, match="W must have linearly independent columns"):
        dependent(y)
