"""The flat energy shown to be flat; the search for z against closed forms, SciPy and enumeration."""

import math

import pytest
import torch
from scipy.optimize import least_squares
from torch import nn

from ebm_lib.energy import evaluate, grid
from ebm_lib.free_energy import over_grid
from ebm_lib.latent import LatentModel, Unregularized, levenberg_marquardt, principal_subspace
from ebm_lib.nn import MLP

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gauss(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


class Circle(nn.Module):
    def forward(self, z):
        return torch.cat((2 * z.sin(), 2 * z.cos()), -1)


# ---- the disaster


@pytest.mark.parametrize("L", [2, 3, 7])
def test_energy_is_flat_once_z_has_the_dimensions_of_y(L):
    y = 100 * gauss(200, 2)
    assert Unregularized(2, L, generator=seeded(), dtype=F64)(y).max() < 1e-20


def test_energy_is_flat_with_a_deep_decoder_too():
    model = Unregularized(2, 6, (32,), generator=seeded(), dtype=F64)
    assert model(gauss(60, 2)).max() < 1e-10


def test_learning_a_flat_energy_changes_nothing_it_does():
    model, y = Unregularized(2, 2, generator=seeded(), dtype=F64), gauss(50, 2)
    history = model.learn(y, steps=5, lr=0.1)
    assert max(history.loss) < 1e-25


def test_fewer_dimensions_learn_the_principal_subspace():
    y = gauss(200, 3) @ torch.diag(torch.tensor([3.0, 1.5, 0.3], dtype=F64))
    model = Unregularized(3, 2, generator=seeded(), dtype=F64)
    model.learn(y, steps=400, lr=0.02)
    best = principal_subspace(y, 2).variance[2:].sum().item()
    assert model(y).mean().item() == pytest.approx(best, rel=1e-4)


def test_training_a_deep_decoder_lowers_the_energy_of_the_data():
    angle = torch.linspace(0.3, 5.0, 24, dtype=F64)[:, None]
    y = torch.cat((angle.sin(), angle.cos()), -1)
    model = Unregularized(2, 1, (16,), starts=16, generator=seeded(), dtype=F64)
    before = model(y).mean().item()
    history = model.learn(y, steps=25, lr=0.05)
    assert history.loss[0] == pytest.approx(before)
    assert model(y).mean().item() < 0.7 * before


# ---- inference


def test_linear_inference_is_least_squares_of_least_length():
    for L in (1, 2, 4):
        model, y = Unregularized(2, L, generator=seeded(), dtype=F64), gauss(5, 4, 2)
        z = model.infer(y)
        assert z.shape == (5, 4, L)
        layer = model.linear
        expected = torch.linalg.lstsq(layer.weight.expand(20, 2, L), (y - layer.bias).reshape(20, 2, 1), driver="gelsd")
        torch.testing.assert_close(z.reshape(20, L), expected.solution.squeeze(-1))
        assert not z.requires_grad


def test_search_on_a_circle_finds_the_closest_angle():
    model = Unregularized(2, 1, decoder=Circle(), generator=seeded(), dtype=F64)
    y = gauss(100, 2)
    y = y / y.norm(dim=-1, keepdim=True) * torch.linspace(1.2, 9, 100, dtype=F64)[:, None]
    distance = (y.norm(dim=-1) - 2).square()
    torch.testing.assert_close(evaluate(model, y), distance, rtol=1e-8, atol=1e-12)


def test_search_equals_scipys_from_the_same_start():
    decoder = MLP((2, 8, 4), activation="tanh", generator=seeded(), dtype=F64)
    y, start = gauss(6, 4), gauss(6, 2, seed=1)
    found = levenberg_marquardt(decoder, y, start, steps=200, tol=1e-9)
    for i in range(6):
        residual = lambda z, i=i: (decoder(torch.from_numpy(z)) - y[i]).detach().numpy()
        reference = least_squares(residual, start[i].numpy(), method="lm", xtol=1e-14, ftol=1e-14)
        assert found.energy[i].item() <= 2 * reference.cost + 1e-6
    assert found.grad_norm.max() < 1e-3
    torch.testing.assert_close(found.energy, (y - decoder(found.argmin)).square().sum(-1).detach())


def test_search_never_rises_and_stops_when_it_is_there():
    decoder = MLP((3, 16, 2), generator=seeded(), dtype=F64)
    y, z = gauss(20, 2), gauss(20, 3, seed=1)
    previous = (y - decoder(z)).square().sum(-1)
    for steps in range(1, 15):
        energy = levenberg_marquardt(decoder, y, z, steps=steps, tol=0.0).energy
        assert (energy <= previous).all()
        previous = energy
    linear = MLP((2, 3), generator=seeded(), dtype=F64)
    assert levenberg_marquardt(linear, gauss(5, 3), gauss(5, 2), tol=1e-6).steps <= 4
    assert levenberg_marquardt(linear, gauss(5, 3), gauss(5, 2), steps=3, tol=0.0).steps == 3


def test_search_works_in_single_precision_and_where_the_decoder_is_constant():
    decoder = MLP((2, 8, 2), generator=seeded())
    found = levenberg_marquardt(decoder, gauss(9, 2).float(), torch.zeros(9, 2), steps=200)
    assert found.energy.dtype == torch.float32
    long = levenberg_marquardt(decoder, gauss(9, 2).float(), torch.zeros(9, 2), steps=2000, tol=0.0)
    assert (long.energy <= found.energy).all()
    assert torch.isfinite(long.argmin).all()
    stuck = levenberg_marquardt(lambda z: 0 * z, gauss(3, 2), gauss(3, 2, seed=1))
    torch.testing.assert_close(stuck.argmin, gauss(3, 2, seed=1))
    assert torch.isfinite(stuck.energy).all()


def test_blocks_do_not_change_what_is_found():
    model, y = Unregularized(2, 3, (8,), generator=seeded(), dtype=F64), gauss(11, 2)
    torch.testing.assert_close(model.energy(y, model.infer(y, block_size=4)), model(y), atol=1e-9, rtol=0)
    assert model.infer(y[:0]).shape == (0, 3)


# ---- free energy


def test_gradient_of_the_minimum_is_the_gradient_at_the_minimum():
    model = Unregularized(2, 1, decoder=Circle(), generator=seeded(), dtype=F64)
    y = (3 * gauss(5, 2).sign() + gauss(5, 2, seed=1) / 2).requires_grad_()
    (slope,) = torch.autograd.grad(model(y).sum(), y)
    distance = y.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(slope, (2 * (distance - 2) * y / distance).detach(), rtol=1e-6, atol=1e-8)


def test_finite_beta_integrates_over_z_where_that_converges():
    model, y = Unregularized(2, 1, generator=seeded(1), dtype=F64), gauss(4, 2)
    wide = grid([-60.0], [60.0], 20_000, dtype=F64)
    expected = over_grid(model.energy, y, wide, 2.0)
    torch.testing.assert_close(model.free_energy(y, 2.0), expected, rtol=1e-8, atol=1e-8)
    with pytest.raises(ValueError, match="integral over them diverges, got 2.0 with 3 latent dimensions for 2"):
        Unregularized(2, 3, dtype=F64).free_energy(y, 2.0)
    dependent = Unregularized(3, 2, dtype=F64)  # up to rounding: 3 × 0.1 is not 0.3
    with torch.no_grad():
        dependent.linear.weight.copy_(torch.tensor([[0.1, 0.3], [0.2, 0.6], [0.7, 2.1]], dtype=F64))
    with pytest.raises(ValueError, match="integral over them diverges"):
        dependent.free_energy(gauss(4, 3), 2.0)
    with pytest.raises(ValueError, match="beta must be inf for a decoder with hidden layers"):
        Unregularized(2, 1, (8,), dtype=F64).free_energy(y, 2.0)


def test_the_model_answers_to_its_protocol_and_to_its_generator():
    make = lambda seed: Unregularized(2, 1, (8,), generator=seeded(seed), dtype=F64)
    assert isinstance(make(0), LatentModel)
    assert torch.equal(make(0).starts, make(0).starts)
    assert not torch.equal(make(0).starts, make(1).starts)
    assert (make(0).starts[0] == 0).all()
    assert make(0).energy(gauss(5, 1, 2), gauss(1, 7, 1)).shape == (5, 7)


def test_bad_input_is_named():
    model, y = Unregularized(2, 1, (8,), dtype=F64), gauss(4, 2)
    with pytest.raises(ValueError, match=r"y must be \(\.\.\., 2\)"):
        model(gauss(4, 3))
    with pytest.raises(ValueError, match="y must be finite"):
        model.infer(y * math.inf)
    with pytest.raises(ValueError, match=r"z must be \(\.\.\., 1\)"):
        model.decode(y)
    with pytest.raises(ValueError, match="decoder must return"):  # it would broadcast
        Unregularized(2, 1, decoder=nn.Sequential(nn.Linear(1, 1, dtype=F64)), dtype=F64)(y)
    with pytest.raises(ValueError, match=r"y must be \(N, 2\)"):
        model.learn(gauss(2, 2, 2))
    for size in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least 1, got 0"):
            Unregularized(*size)
    with pytest.raises(ValueError, match="starts must be"):
        Unregularized(2, 1, starts=0)
    with pytest.raises(ValueError, match="y and start must be"):
        levenberg_marquardt(torch.sin, y, gauss(3, 2))
    with pytest.raises(ValueError, match="damping must be a positive"):
        levenberg_marquardt(torch.sin, y, y, damping=0.0)
    with pytest.raises(ValueError, match="tol must be at least 0"):
        levenberg_marquardt(torch.sin, y, y, tol=-1.0)
    with pytest.raises(ValueError, match="energy must be finite"):
        levenberg_marquardt(torch.log, y, -torch.ones_like(y))
    with pytest.raises(ValueError, match="decoder must return"):
        levenberg_marquardt(lambda z: z.sum(-1, keepdim=True), y, y)
