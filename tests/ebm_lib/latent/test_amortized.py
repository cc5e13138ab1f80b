"""Amortised inference: LISTA is ISTA before it learns and beats it after; PSD's codes are optimal by its conditions."""

import math

import pytest
import torch
from torch import nn

from ebm_lib.latent import LatentModel, Model
from ebm_lib.latent.sparse import fista, ista
from ebm_lib.latent.sparse.amortized import LISTA
from ebm_lib.latent.sparse.predictive import PSD, ScaledTanh

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def dictionary(D=8, K=16, seed=0):
    W = torch.randn(D, K, generator=seeded(seed), dtype=F64)
    return W / W.norm(dim=0)


def signals(W, n=400, seed=1, active=0.15):
    """Sums of few atoms, with a little noise."""
    g = seeded(seed)
    z = torch.randn(n, W.shape[1], generator=g, dtype=F64) * (
        torch.rand(n, W.shape[1], generator=g, dtype=F64) < active
    )
    return z @ W.T + 0.02 * torch.randn(n, len(W), generator=g, dtype=F64)


# ---- LISTA


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("layers", [1, 2, 7])
def test_before_learning_it_is_ista_step_for_step(layers, tied):
    W = 3 * dictionary()
    y = signals(W, 20)
    lista = LISTA(W, 0.3, layers, tied=tied)
    reference = ista(y, W, 0.3, steps=layers, keep_path=True)
    torch.testing.assert_close(lista.path(y).detach(), reference.path, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(lista.encode(y).detach(), reference.z, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(lista(y).detach(), reference.energies[-1])


@pytest.mark.parametrize("tied", [True, False])
def test_each_layer_uses_its_own_matrices(tied):
    lista, y = LISTA(dictionary(), 0.3, 3, tied=tied), signals(dictionary(), 20)
    with torch.no_grad():
        for seed, parameter in enumerate(lista.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=seeded(seed), dtype=F64))
        z = torch.zeros(20, 16, dtype=F64)
        for t in range(3):
            own, passed = (0, 0) if tied else (t, t - 1)
            drive = y @ lista.encoder[own] + (z @ lista.lateral[passed] if t else 0)
            z = drive.sign() * (drive.abs() - lista.log_threshold[own].exp()).clamp_min(0)
    torch.testing.assert_close(lista.encode(y).detach(), z)


def test_how_many_parameters_are_shared():
    W = dictionary(8, 16)
    count = lambda **kw: sum(p.numel() for p in LISTA(W, 0.3, **kw).parameters())
    assert count(layers=5) == 8 * 16 + 16 * 16 + 16
    assert count(layers=5, tied=False) == 5 * 8 * 16 + 4 * 16 * 16 + 5 * 16
    assert count(layers=1) == 8 * 16 + 16


@pytest.mark.parametrize("target", ["codes", "energy"])
def test_it_learns_to_be_worth_many_iterations_on_points_held_out(target):
    # one atom is half of another: the spectrum is wide, and FISTA needs many steps
    W = dictionary(12, 18)
    W = W + 0.7 * W.mean(1, keepdim=True) / W.mean(1).norm()
    W = W / W.norm(dim=0)
    y, held_out = signals(W, 3000), signals(W, 500, seed=2)
    lam, layers = 0.1, 2
    best = fista(held_out, W, lam, steps=3000, restart=True)
    lista = LISTA(W, lam, layers, tied=False)
    history = lista.learn(y, target=target, steps=800, lr=5e-3, batch_size=256, generator=seeded(), progress=False)
    assert math.fsum(history.loss[-50:]) < math.fsum(history.loss[:50])
    run = fista(held_out, W, lam, steps=60, keep_path=True)
    if target == "codes":
        error = lambda z: (z - best.z).square().sum(-1).mean(-1)
        worth = int((error(run.path) > error(lista.encode(held_out))).sum())
    else:
        worth = int((run.energies.mean(-1) > lista(held_out).mean()).sum())
        assert (lista(held_out) >= best.energies[-1] - 1e-9).all()  # F is the minimum: no encoder is below it
    assert worth >= 3 * layers
    assert torch.equal(lista.W, W)
    assert (lista.log_threshold != LISTA(W, lam, layers, tied=False).log_threshold).any()


def test_codes_that_are_given_are_the_ones_it_learns():
    W = dictionary(4, 6)
    y = signals(W, 50)
    target = torch.randn(50, 6, generator=seeded(), dtype=F64)
    lista = LISTA(W, 0.2, 1)
    before = (lista.encode(y) - target).square().sum(-1).mean().item()
    history = lista.learn(y, codes=target, steps=1, batch_size=None, progress=False)
    assert history.loss == [pytest.approx(before)]
    found = LISTA(W, 0.2, 2).learn(y, steps=1, batch_size=None, progress=False).loss[0]
    best = fista(y, W, 0.2, steps=3000, restart=True).z
    expected = (ista(y, W, 0.2, steps=2).z - best).square().sum(-1).mean().item()
    assert found == pytest.approx(expected, rel=1e-2)


def test_lista_refuses_bad_input():
    W = dictionary(4, 6)
    with pytest.raises(ValueError, match="lam must be"):
        LISTA(W, 0.0)
    with pytest.raises(ValueError, match="layers must be"):
        LISTA(W, 0.1, 0)
    with pytest.raises(ValueError, match="zero column"):
        LISTA(torch.cat([W, torch.zeros(4, 1, dtype=F64)], 1), 0.1)
    lista = LISTA(W, 0.1)
    for call in (lista, lista.encode, lista.path, lista.learn):
        with pytest.raises(ValueError, match="y must"):
            call(torch.zeros(3, 5, dtype=F64))
    with pytest.raises(ValueError, match="y must be finite"):
        lista(torch.full((4,), torch.nan, dtype=F64))
    y = signals(W, 10)
    with pytest.raises(ValueError, match="target must be one of"):
        lista.learn(y, target="z")
    with pytest.raises(ValueError, match="codes have no use"):
        lista.learn(y, target="energy", codes=torch.zeros(10, 6, dtype=F64))
    with pytest.raises(ValueError, match="codes must be one row per sample"):
        lista.learn(y, codes=torch.zeros(9, 6, dtype=F64))
    with pytest.raises(ValueError, match="beta must be"):
        lista.free_energy(y, beta=0.0)


# ---- PSD


def model(D=6, K=9, **options):
    settings = {"lam": 0.3, "prediction": 0.7, "generator": seeded(), "dtype": F64} | options
    return PSD(D, K, **settings)


def test_the_energy_by_hand_and_broadcasting():
    psd = model(2, 2)
    with torch.no_grad():
        psd.W.copy_(torch.eye(2, dtype=F64))
        psd.encoder.linear.weight.zero_()
        psd.encoder.linear.bias.fill_(0.5)
    y, z = torch.tensor([1.0, 2.0], dtype=F64), torch.tensor([0.5, -1.0], dtype=F64)
    guess = math.tanh(0.5)
    by_hand = 0.25 + 9 + 0.3 * 1.5 + 0.7 * ((0.5 - guess) ** 2 + (1 + guess) ** 2)
    assert psd.energy(y, z).item() == pytest.approx(by_hand)
    ys, zs = torch.randn(4, 2, generator=seeded(), dtype=F64), torch.randn(3, 2, generator=seeded(), dtype=F64)
    table = psd.energy(ys[:, None], zs[None])
    assert table.shape == (4, 3)
    assert table[2, 1].item() == pytest.approx(psd.energy(ys[2], zs[1]).item())


def test_the_code_satisfies_the_conditions_of_a_minimum():
    psd = model()
    y = torch.randn(30, 6, generator=seeded(3), dtype=F64)
    z = psd.infer(y, steps=3000, tol=1e-13).requires_grad_()
    smooth = (y - z @ psd.W.T).square().sum() + psd.prediction * (z - psd.encode(y)).square().sum()
    slope = torch.autograd.grad(smooth, z)[0]
    active = z != 0
    assert 0.1 < active.double().mean() < 0.95
    torch.testing.assert_close(slope[active], -psd.lam * z[active].sign().detach(), rtol=0, atol=1e-5)
    assert (slope[~active].abs() <= psd.lam + 1e-5).all()
    other = z.detach() + 0.1 * torch.randn(z.shape, generator=seeded(4), dtype=F64)
    assert (psd.energy(y, other) > psd(y)).all()


def test_without_a_dictionary_in_the_way_it_is_a_weighted_mean():
    # W = I: each code is the soft threshold of (y + κ z̄) / (1 + κ) at λ / (2 (1 + κ))
    psd = model(3, 3)
    with torch.no_grad():
        psd.W.copy_(torch.eye(3, dtype=F64))
    y = torch.randn(20, 3, generator=seeded(), dtype=F64)
    mean = (y + 0.7 * psd.encode(y)) / 1.7
    expected = mean.sign() * (mean.abs() - 0.3 / 3.4).clamp_min(0)
    torch.testing.assert_close(psd.infer(y, steps=500, tol=1e-14), expected.detach(), rtol=0, atol=1e-7)


def test_the_gradient_of_the_free_energy_is_that_of_its_envelope():
    psd = model()
    y = torch.randn(1, 6, generator=seeded(), dtype=F64)
    free = lambda y: psd.energy(y, psd.infer(y, steps=5000, tol=1e-14))
    gradient = torch.autograd.grad(free(y.requires_grad_()), y)[0]
    for i in range(6):
        step = torch.zeros(6, dtype=F64)
        step[i] = 1e-5
        slope = (free(y + step) - free(y - step)).item() / 2e-5
        assert gradient[0, i].item() == pytest.approx(slope, abs=1e-4)


def test_it_learns_codes_that_its_encoder_predicts_and_atoms_that_stay_normal():
    W = dictionary(6, 9)
    y = signals(W, 1500)
    psd = model(lam=0.1, prediction=0.3)
    before = psd(y).mean().item()
    history = psd.learn(y, steps=300, lr=1e-2, generator=seeded(), progress=False)
    assert psd(y).mean().item() < 0.7 * before
    assert math.fsum(history.metrics["prediction"][-20:]) < 0.8 * math.fsum(history.metrics["prediction"][:20])
    torch.testing.assert_close(psd.W.norm(dim=0).detach(), torch.ones(9, dtype=F64))
    # five iterations from the guess get nearer than five from zero
    held_out = signals(W, 300, seed=5)
    best = psd(held_out)
    energy = lambda start: psd.energy(held_out, psd.infer(held_out, steps=3, tol=0.0, start=start)).mean()
    from_guess, from_zero = energy(None), energy(torch.zeros(300, 9, dtype=F64))
    assert from_guess - best.mean() < 0.5 * (from_zero - best.mean())


def test_any_encoder_will_do_and_a_wrong_one_is_refused():
    psd = model(encoder=nn.Sequential(nn.Linear(6, 9, dtype=F64), nn.Softplus()))
    y = torch.randn(4, 6, generator=seeded(), dtype=F64)
    assert psd.encode(y).min() > 0
    assert psd(y).shape == (4,)
    with pytest.raises(ValueError, match="the encoder's code must be"):
        model(encoder=nn.Linear(6, 8, dtype=F64))(y)


def test_psd_refuses_bad_input():
    for name in ("lam", "prediction"):
        with pytest.raises(ValueError, match=f"{name} must be"):
            model(**{name: 0.0})
    with pytest.raises(ValueError, match="K must be"):
        PSD(3, 0, lam=0.1)
    psd = model()
    y = torch.zeros(4, 6, dtype=F64)
    with pytest.raises(ValueError, match="beta must be inf"):
        psd.free_energy(y, beta=1.0)
    with pytest.raises(ValueError, match="y must be"):
        psd(torch.zeros(4, 5, dtype=F64))
    with pytest.raises(ValueError, match="z must be"):
        psd.decode(torch.zeros(4, 8, dtype=F64))
    with pytest.raises(ValueError, match="one sample a row"):
        psd.learn(torch.zeros(6, dtype=F64))
    assert psd(y[0]).item() == pytest.approx(psd(y)[0].item())  # a batch of one is one


# ---- the contract


def test_protocols_device_dtype_and_seed():
    W = dictionary(6, 9)
    assert isinstance(LISTA(W, 0.1), Model)
    assert isinstance(model(), LatentModel)
    y = torch.randn(5, 6, generator=seeded(), dtype=F64)
    assert torch.equal(model()(y), model()(y))
    assert not torch.equal(model()(y), model(generator=seeded(1))(y))
    assert not model().infer(y).requires_grad
    assert model().float()(y.float()).dtype == torch.float32
    assert LISTA(W.float(), 0.1)(y.float()).dtype == torch.float32
    shadow = y.to("meta")
    assert LISTA(W.to("meta"), 0.1)(shadow).is_meta
    assert model(device="meta", generator=None)(shadow).is_meta
    assert LISTA(W, 0.1).encode(y.view(5, 1, 6)).shape == (5, 1, 9)
    lista = LISTA(W, 0.1, 3)
    torch.testing.assert_close(torch.func.vmap(lista.encode)(y), lista.encode(y))
    assert "gain" in dict(ScaledTanh(2, 3).named_parameters())
