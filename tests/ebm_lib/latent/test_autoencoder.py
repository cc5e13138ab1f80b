"""Auto-encoders: PCA as the linear case, Jacobians and penalties against their formulas, and the ways to evade them."""

import math

import pytest
import torch
from torch import nn

from ebm_lib.energy import evaluate
from ebm_lib.latent import (
    AutoEncoder,
    ContractiveAutoEncoder,
    Model,
    SaturatingAutoEncoder,
    SparseAutoEncoder,
    effective_dimension,
    jacobian_norm,
    principal_subspace,
)
from ebm_lib.nn import MLP

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gauss(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


# ---- the auto-encoder


def test_energy_is_the_squared_distance_to_the_reconstruction():
    model, y = AutoEncoder(3, 2, (8,), extra_linear=2, generator=seeded(), dtype=F64), gauss(4, 5, 3)
    expected = (y - model.decode(model.encode(y))).pow(2).sum(-1)
    torch.testing.assert_close(evaluate(model, y), expected)
    assert torch.equal(model.free_energy(y, 3.0), model.energy(y))
    assert torch.equal(model.penalty(y), torch.zeros(4, 5, dtype=F64))
    assert isinstance(model, Model)


def test_a_linear_bottleneck_learns_what_pca_does():
    y = gauss(300, 4) @ torch.diag(torch.tensor([3.0, 2.0, 0.5, 0.2], dtype=F64)) + 1.0
    model = AutoEncoder(4, 2, (), generator=seeded(), dtype=F64)
    history = model.learn(y, steps=1200, lr=0.02)
    best = principal_subspace(y, 2).variance[2:].sum().item()
    assert history.loss[-1] == pytest.approx(best, rel=1e-3)
    assert best * (1 - 1e-9) <= model(y).mean().item()


def test_a_curved_bottleneck_beats_every_flat_one():
    angle = torch.linspace(-2, 2, 200, dtype=F64)[:, None]
    y = torch.cat((angle.sin(), angle.cos()), -1)
    model = AutoEncoder(2, 1, (16,), generator=seeded(), dtype=F64)
    model.learn(y, steps=400, lr=0.02)
    assert model(y).mean() < 0.1 * principal_subspace(y, 1).variance[1]


def test_extra_linear_layers_are_one_matrix():
    model, y = AutoEncoder(3, 4, (8,), extra_linear=3, generator=seeded(), dtype=F64), gauss(6, 3)
    torch.testing.assert_close(model.encode(y), model.activations(y) @ model.linear_map.T)
    assert torch.equal(AutoEncoder(3, 4, dtype=F64).linear_map, torch.eye(4, dtype=F64))


def test_extra_linear_layers_make_the_code_use_fewer_dimensions():
    angle = torch.linspace(-2, 2, 200, dtype=F64)[:, None]
    y = torch.cat((angle.sin(), angle.cos(), angle), -1) @ gauss(3, 8)
    used = []
    for n in (0, 4):
        model = AutoEncoder(8, 8, (32,), extra_linear=n, generator=seeded(), dtype=F64)
        history = model.learn(y, steps=600, lr=3e-3)
        assert history.loss[-1] < 0.1 * history.loss[0]
        used.append(effective_dimension(model.encode(y).detach()).entropy.item())
    assert used[1] < 0.8 * used[0]


def test_own_modules_can_take_the_perceptrons_place():
    encoder, decoder = MLP((2, 5, 3), dtype=F64), nn.Linear(3, 2, dtype=F64)
    model = AutoEncoder(2, 3, encoder=encoder, decoder=decoder)
    y = gauss(4, 2)
    torch.testing.assert_close(model.decode(model.encode(y)), decoder(encoder(y)))


@pytest.mark.parametrize("code", ["linear", "sigmoid", "tanh", "relu", "saturated", "shrink"])
def test_codes_are_the_named_curves(code):
    model, y = AutoEncoder(2, 6, (), code=code, generator=seeded(), dtype=F64), 3 * gauss(50, 2)
    a = model.activations(y)
    expected = {
        "linear": a,
        "sigmoid": 1 / (1 + (-a).exp()),
        "tanh": a.tanh(),
        "relu": a.clamp(min=0),
        "saturated": a.clamp(-1, 1),
        "shrink": a.sign() * (a.abs() - 1).clamp(min=0),
    }[code]
    torch.testing.assert_close(model.encode(y), expected)


def test_tied_weights_are_the_encoders_and_unit_weights_have_length_one():
    z = gauss(4, 6)
    tied = AutoEncoder(2, 6, (), weights="tied", generator=seeded(), dtype=F64)
    torch.testing.assert_close(tied.decode(z), z @ tied.encoder.linears[0].weight + tied.offset)
    unit = AutoEncoder(2, 6, (8,), weights="unit", generator=seeded(), dtype=F64)
    columns = unit.decode(torch.eye(6, dtype=F64)) - unit.decode(torch.zeros(6, dtype=F64))
    torch.testing.assert_close(columns.norm(dim=-1), torch.ones(6, dtype=F64))


def test_the_generator_alone_decides_the_start():
    weights = [AutoEncoder(2, 3, extra_linear=1, generator=seeded(s)).linears[0].weight for s in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_dtype_and_meta_device_follow():
    assert AutoEncoder(2, 3, dtype=F64)(gauss(4, 2)).dtype == F64
    model = ContractiveAutoEncoder(2, 3, lam=0.1, device="meta")
    assert model(torch.zeros(4, 2, device="meta")).shape == (4,)
    assert model.penalty(torch.zeros(4, 2, device="meta")).shape == (4,)


# ---- contractive


@pytest.mark.parametrize("K", [1, 5])
def test_jacobian_norm_equals_rifais_formula(K):
    layer, y = nn.Linear(3, K, dtype=F64), gauss(4, 2, 3)
    h = torch.sigmoid(layer(y))
    formula = ((h * (1 - h)).square() @ layer.weight.square().sum(-1)).detach()
    found = jacobian_norm(lambda y: torch.sigmoid(layer(y)), y)
    torch.testing.assert_close(found, formula)
    model = ContractiveAutoEncoder(3, K, lam=0.3, encoder=layer, weights="free", dtype=F64)
    torch.testing.assert_close(model.penalty(y), 0.3 * formula)


def test_jacobian_norm_has_the_slope_of_what_it_is():
    W = gauss(4, 3).requires_grad_()
    y = gauss(5, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda W, y: jacobian_norm(lambda y: (W @ y).tanh(), y), (W, y))


def test_the_reconstructions_jacobian_cannot_be_evaded_and_the_encoders_can():
    y = gauss(20, 2)
    penalties = {}
    for of in ("encoder", "reconstruction"):
        model = ContractiveAutoEncoder(
            2, 4, (8,), lam=1.0, of=of, code="linear", weights="free", generator=seeded(), dtype=F64
        )
        before, energy = model.penalty(y).mean().item(), model(y)
        with torch.no_grad():  # a code ten times smaller, and a decoder that makes up for it
            for parameter in model.encoder.linears[-1].parameters():
                parameter /= 10
            model.decoder.linears[0].weight *= 10
        torch.testing.assert_close(model(y), energy)
        penalties[of] = model.penalty(y).mean().item() / before
    assert penalties == {"encoder": pytest.approx(0.01), "reconstruction": pytest.approx(1.0)}


def test_contraction_stays_along_the_data_and_acts_across_them():
    t = torch.linspace(-2, 2, 100, dtype=F64)
    line = torch.stack((t, torch.zeros_like(t)), -1)
    model = ContractiveAutoEncoder(
        2, 8, (16,), lam=0.05, of="reconstruction", code="linear", weights="free", generator=seeded(), dtype=F64
    )
    history = model.learn(line, steps=500, lr=0.01)
    torch.testing.assert_close(
        torch.tensor(history.loss), torch.tensor(history.metrics["energy"]) + torch.tensor(history.metrics["penalty"])
    )
    off = line[30:70] + torch.tensor([0.0, 0.5], dtype=F64)
    assert model(line).mean() < 0.02
    assert model(off).mean().item() == pytest.approx(0.25, rel=0.2)  # what is off the line is not followed: 0.5²


# ---- saturating


@pytest.mark.parametrize("code", ["relu", "saturated", "shrink"])
def test_the_penalty_is_the_distance_to_where_the_curve_is_flat(code):
    model = SaturatingAutoEncoder(1, 1, lam=2.0, code=code, encoder=nn.Identity(), dtype=F64)
    a = torch.linspace(-3, 3, 121, dtype=F64)[:, None]
    places = torch.linspace(-6, 6, 4801, dtype=F64)[:, None].requires_grad_()
    (slope,) = torch.autograd.grad(model.encode(places).sum(), places)
    flat = places[slope == 0].detach()
    expected = (a - flat).abs().amin(-1)
    torch.testing.assert_close(model.penalty(a), 2 * expected, atol=6e-3, rtol=0)


def test_saturating_with_rectified_units_is_sparse():
    a, b = (
        kind(2, 5, lam=0.7, code="relu", generator=seeded(), dtype=F64)
        for kind in (SaturatingAutoEncoder, SparseAutoEncoder)
    )
    torch.testing.assert_close(a.penalty(gauss(9, 2)), b.penalty(gauss(9, 2)))


def test_where_every_unit_is_saturated_the_reconstruction_does_not_move():
    model = SaturatingAutoEncoder(2, 3, lam=1.0, generator=seeded(), dtype=F64)
    with torch.no_grad():
        model.encoder.linears[0].weight *= 100
    y = gauss(200, 2)
    still = model.penalty(y) == 0
    assert still.sum() > 50
    moved = jacobian_norm(lambda y: model.decode(model.encode(y)), y)
    assert (moved[still] == 0).all()
    assert (moved[~still] > 0).all()


# ---- sparse


def test_l1_is_evaded_without_decoder_normalisation_and_not_with_it():
    y = gauss(100, 4)
    codes = {}
    for weights in ("free", "unit"):
        model = SparseAutoEncoder(4, 8, lam=0.1, weights=weights, generator=seeded(), dtype=F64)
        energy = model(y)
        with torch.no_grad():
            for parameter in model.encoder.parameters():
                parameter /= 10
            model.decoder.linears[0].weight *= 10
        codes[weights] = (model(y) - energy).abs().max().item()
    assert codes["free"] < 1e-12  # the same energy at a tenth of the price
    assert codes["unit"] > 0.1


def test_a_higher_price_makes_a_sparser_code():
    y = gauss(200, 3)
    share = []
    for lam in (0.01, 0.5):
        model = SparseAutoEncoder(3, 10, lam=lam, generator=seeded(), dtype=F64)
        model.learn(y, steps=300, lr=0.02)
        share.append((model.encode(y) > 0).double().mean().item())
    assert share[1] < 0.75 * share[0]


# ---- bad input


def test_bad_input_is_named():
    y = gauss(4, 2)
    model = AutoEncoder(2, 1, dtype=F64)
    with pytest.raises(ValueError, match=r"y must be \(\.\.\., 2\)"):
        model(gauss(4, 3))
    with pytest.raises(ValueError, match=r"z must be \(\.\.\., 1\)"):
        model.decode(y)
    with pytest.raises(ValueError, match=r"decoder must return \(4, 2\), got \(4, 1\)"):  # it would broadcast
        AutoEncoder(2, 1, decoder=nn.Linear(1, 1, dtype=F64), dtype=F64)(y)
    with pytest.raises(ValueError, match="y must be finite"):
        model.learn(y * math.nan)
    with pytest.raises(ValueError, match=r"y must be \(N, 2\)"):
        model.learn(y[0])
    with pytest.raises(ValueError, match="beta must be a positive"):
        model.free_energy(y, -1.0)
    with pytest.raises(ValueError, match="K must be a whole number of at least 1"):
        AutoEncoder(2, 0)
    with pytest.raises(ValueError, match="extra_linear must be"):
        AutoEncoder(2, 1, extra_linear=-1)
    with pytest.raises(ValueError, match="code must be one of"):
        AutoEncoder(2, 1, code="cubic")
    with pytest.raises(ValueError, match="weights must be one of free, tied, unit"):
        AutoEncoder(2, 1, weights="equal")
    for options in ({"hidden": (4,)}, {"hidden": (), "extra_linear": 1}, {"hidden": (), "encoder": nn.Identity()}):
        with pytest.raises(ValueError, match="weights='tied' transposes a single layer"):
            AutoEncoder(2, 1, weights="tied", **options)
    with pytest.raises(ValueError, match="weights='unit' makes the decoder itself"):
        AutoEncoder(2, 1, weights="unit", decoder=nn.Identity())
    with pytest.raises(ValueError, match="code must be one of relu, saturated, shrink"):
        SaturatingAutoEncoder(2, 1, lam=0.1, code="sigmoid")
    with pytest.raises(ValueError, match="of must be one of"):
        ContractiveAutoEncoder(2, 1, lam=0.1, of="decoder")
    for kind in (ContractiveAutoEncoder, SaturatingAutoEncoder, SparseAutoEncoder):
        for lam in (0.0, -1.0, math.inf):
            with pytest.raises(ValueError, match="lam must be a positive"):
                kind(2, 1, lam=lam)
