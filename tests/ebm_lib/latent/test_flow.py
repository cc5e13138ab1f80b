"""Flows: invertible to rounding, determinants by autograd, mass one on a grid, and a fit near the data's entropy."""

import math

import pytest
import torch
from torch.autograd.functional import jacobian

from ebm_lib import data
from ebm_lib.energy import evaluate, grid, log_partition
from ebm_lib.latent import Model
from ebm_lib.latent.flow import AffineCoupling, Flow

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def bent(D=2, *, layers=4, seed=0, dtype=F64):
    """A flow far from the identity: every weight drawn, and a standardisation."""
    flow = Flow(D, layers, (16,), generator=seeded(seed), dtype=dtype)
    g = seeded(seed + 1)
    with torch.no_grad():
        for coupling in flow.couplings:
            last = coupling.network.linears[-1]
            last.weight.copy_(torch.randn(last.weight.shape, generator=g, dtype=dtype))
            last.bias.copy_(torch.randn(last.bias.shape, generator=g, dtype=dtype))
        flow.mean.copy_(torch.randn(D, generator=g, dtype=dtype))
        flow.std.copy_(torch.rand(D, generator=g, dtype=dtype) + 0.5)
    return flow


@pytest.mark.parametrize("D", [2, 3, 7])
def test_the_inverse_undoes_the_map_and_the_determinants_cancel(D):
    flow = bent(D)
    y = torch.randn(50, D, generator=seeded(5), dtype=F64)
    forth = flow.transform(y)
    back = flow.inverse(forth.points)
    assert (forth.points - y).abs().max() > 1
    torch.testing.assert_close(back.points, y, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(back.log_det, -forth.log_det, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(flow.decode(flow.encode(y)), y, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("D", [2, 3, 5])
def test_the_log_determinant_is_autograds(D):
    flow = bent(D)
    y = torch.randn(6, D, generator=seeded(5), dtype=F64)
    by_hand = torch.stack([torch.linalg.slogdet(jacobian(flow.encode, point)).logabsdet for point in y])
    torch.testing.assert_close(flow.transform(y).log_det.detach(), by_hand)
    back = torch.stack([torch.linalg.slogdet(jacobian(flow.decode, point)).logabsdet for point in y])
    torch.testing.assert_close(flow.inverse(y).log_det.detach(), back)


def test_every_coordinate_moves_and_a_coupling_keeps_what_it_keeps():
    flow = bent(5, layers=2)
    y = torch.randn(4, 5, generator=seeded(1), dtype=F64)
    assert ((flow.encode(y) - (y - flow.mean) / flow.std).abs() > 1e-6).all()
    coupling = flow.couplings[0]
    z = coupling(y).points
    assert torch.equal(z[:, coupling.kept], y[:, coupling.kept])
    assert (z[:, ~coupling.kept] != y[:, ~coupling.kept]).all()


@torch.no_grad()
def test_it_is_normalised_whatever_its_weights():
    for seed in range(3):
        flow = bent(2, layers=2, seed=seed)
        for coupling in flow.couplings:  # gentler, so that a grid resolves it
            coupling.network.linears[-1].weight.mul_(0.15)
            coupling.network.linears[-1].bias.mul_(0.15)
        cells = grid([-15, -15], [15, 15], 600, dtype=F64)
        energies = evaluate(flow, cells.points)
        assert log_partition(energies, log_volume=cells.log_cell).item() == pytest.approx(0, abs=2e-5)


@torch.no_grad()
def test_samples_have_the_moments_of_the_density():
    flow = bent(2, layers=2)
    for coupling in flow.couplings:
        coupling.network.linears[-1].weight.mul_(0.15)
        coupling.network.linears[-1].bias.mul_(0.15)
    cells = grid([-15, -15], [15, 15], 400, dtype=F64)
    mass = torch.exp(-flow(cells.points) + cells.log_cell)[:, None]
    mean = (mass * cells.points).sum(0)
    second = (mass * (cells.points - mean).square()).sum(0)
    draws = flow.sample(40000, generator=seeded(3))
    error = (second / len(draws)).sqrt()
    assert ((draws.mean(0) - mean).abs() < 5 * error).all()
    torch.testing.assert_close(draws.var(0), second, rtol=0.05, atol=0)
    assert torch.equal(draws, flow.sample(40000, generator=seeded(3)))


def test_before_learning_it_is_the_standard_normal():
    flow = Flow(3, generator=seeded(), dtype=F64)
    y = torch.randn(5, 2, 3, generator=seeded(), dtype=F64)
    normal = torch.distributions.Normal(torch.zeros(3, dtype=F64), 1.0)
    torch.testing.assert_close(flow(y).detach(), -normal.log_prob(y).sum(-1))
    assert isinstance(flow, Model)
    assert torch.equal(flow.free_energy(y), flow.energy(y))
    assert torch.equal(flow.free_energy(y, beta=2.0), flow(y))


def test_it_learns_a_density_that_is_not_gaussian():
    draw = lambda seed: data.ring_of_gaussians(4000, components=4, noise=0.4, radius=2.0, generator=seeded(seed))
    y, held_out = draw(0), draw(1)
    truth = -data.mixture_log_density(held_out, data.ring_means(4, 2.0), 0.4).mean().item()
    gaussian = 0.5 * torch.logdet(2 * math.pi * math.e * torch.cov(y.T)).item()
    flow = Flow(2, 6, (32, 32), generator=seeded())
    history = flow.learn(y, steps=500, lr=5e-3, generator=seeded(), progress=False)
    reached = flow(held_out).mean().item()
    assert truth < reached < truth + 0.35 * (gaussian - truth)
    assert len(history.loss) == 500


def test_a_gaussian_of_any_place_and_scale_is_learned_at_once():
    y = torch.randn(2000, 2, generator=seeded()) * torch.tensor([100.0, 0.01]) + torch.tensor([1e3, -5.0])
    flow = Flow(2, 2, (8,), generator=seeded())
    history = flow.learn(y, steps=1, batch_size=None, generator=seeded(), progress=False)
    entropy = 0.5 * torch.logdet(2 * math.pi * math.e * torch.diag(y.var(0))).item()
    assert history.loss[0] == pytest.approx(entropy, abs=2e-3)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="D must be a whole number of at least 2"):
        Flow(1)
    with pytest.raises(ValueError, match="layers must be"):
        Flow(2, 1)
    for kept in (torch.tensor([True, True]), torch.tensor([False, False]), torch.tensor([1, 0])):
        with pytest.raises(ValueError, match="kept must be a boolean"):
            AffineCoupling(kept)
    with pytest.raises(ValueError, match="bound must be"):
        Flow(2, bound=0.0)
    layer = AffineCoupling(torch.tensor([True, False]), (4,))
    for direction in (layer, layer.inverse):  # of three coordinates it would return two
        with pytest.raises(ValueError, match=r"must be \(..., 2\), got shape \(5, 3\)"):
            direction(torch.zeros(5, 3))
    flow = Flow(2, 2, (4,))
    with pytest.raises(ValueError, match=r"y must be \(..., 2\)"):
        flow(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="y must be finite"):
        flow(torch.tensor([0.0, torch.nan]))
    with pytest.raises(ValueError, match="z must be"):
        flow.decode(torch.zeros(3))
    with pytest.raises(ValueError, match="beta must be"):
        flow.free_energy(torch.zeros(2), beta=0.0)
    with pytest.raises(ValueError, match="at least 2 samples"):
        flow.learn(torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"\[1\] do not"):
        flow.learn(torch.tensor([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]))


def test_device_dtype_vmap_and_seed():
    shadow = Flow(3, 2, (4,), device="meta")
    y = torch.zeros(5, 3, device="meta")
    assert shadow(y).is_meta
    assert shadow.sample(4).is_meta
    assert shadow.decode(y).shape == (5, 3)
    flow = bent(3)
    assert flow.float()(torch.zeros(2, 3)).dtype == torch.float32
    flow = bent(3)
    y = torch.randn(5, 3, generator=seeded(), dtype=F64)
    torch.testing.assert_close(torch.func.vmap(flow)(y), flow(y))
    again = bent(3)
    assert torch.equal(flow(y), again(y))
    assert flow(y[:, None]).shape == (5, 1)
    gradient = torch.autograd.grad(flow(y.requires_grad_()).sum(), y)[0]
    step = torch.zeros(3, dtype=F64)
    step[1] = 1e-6
    torch.testing.assert_close(gradient[:, 1], (flow(y + step) - flow(y - step)) / 2e-6, rtol=1e-5, atol=1e-6)
