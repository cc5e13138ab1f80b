"""Convolutional sparse coding against the dictionary written out as a matrix, SciPy's convolutions, and ISTA itself."""

import math

import pytest
import torch

from ebm_lib.latent import LatentModel, Model
from ebm_lib.latent.sparse import fista, ista, sparse_energy
from ebm_lib.latent.sparse.convolutional import (
    ConvSparseCoding,
    conv_code_size,
    conv_correlate,
    conv_decode,
    conv_norm,
)
from ebm_lib.latent.sparse.convolutional_encoder import ConvLISTA
from ebm_lib.latent.sparse.multilayer import ConvSparseStack

F64 = torch.float64
SHAPES = [((1, 6, 7), 3, 3, 1), ((3, 5, 5), 4, 2, 1), ((2, 7, 6), 3, 4, 2), ((1, 8, 5), 2, 3, 3)]
EACH = pytest.mark.parametrize(("shape", "filters", "kernel", "stride"), SHAPES)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def coder(shape=(1, 6, 7), filters=3, kernel=3, stride=1, *, lam=0.4, seed=0):
    return ConvSparseCoding(shape, filters, kernel, lam=lam, stride=stride, generator=seeded(seed), dtype=F64)


def matrix(model):
    """The dictionary of all shifted filters, (C · H · W, K · h · w): one code unit at a time."""
    return model.decode(torch.eye(math.prod(model.code_shape), dtype=F64)).detach().T.contiguous()


def true_bars():
    """A level bar and an upright one."""
    W = torch.zeros(2, 1, 3, 3, dtype=F64)
    W[0, 0, 1] = W[1, 0, :, 1] = 1 / math.sqrt(3)
    return W


def bars(n, size):
    """Pictures with a few bars each, of strength near 2."""
    codes = torch.rand(n, 2, *(conv_code_size(side, 3) for side in size), generator=seeded(1), dtype=F64)
    return conv_decode(torch.where(codes > 0.98, 1 + codes, 0.0), true_bars(), size).flatten(1)


# ---- the linear map


@EACH
def test_decode_places_each_filter_where_the_formula_says(shape, filters, kernel, stride):
    model = coder(shape, filters, kernel, stride)
    W, (colours, height, width) = model.W.detach(), shape
    maps = draw(*model.code_shape)
    by_hand = torch.zeros(shape, dtype=F64)
    for k in range(filters):
        for a in range(maps.shape[1]):
            for b in range(maps.shape[2]):
                for i in range(kernel):
                    for j in range(kernel):
                        row, column = stride * a - kernel + 1 + i, stride * b - kernel + 1 + j
                        if 0 <= row < height and 0 <= column < width:
                            by_hand[:, row, column] += W[k, :, i, j] * maps[k, a, b]
    torch.testing.assert_close(conv_decode(maps, W, (height, width), stride), by_hand)
    torch.testing.assert_close(model.decode(maps.flatten()).detach(), by_hand.flatten())
    assert by_hand.shape[0] == colours


def test_decode_is_scipys_valid_convolution():
    signal = pytest.importorskip("scipy.signal")
    model = coder((1, 6, 7), 2, 3)
    maps = draw(*model.code_shape)
    expected = sum(
        signal.convolve2d(m.numpy(), w[0].numpy(), mode="valid") for m, w in zip(maps, model.W.detach(), strict=True)
    )
    torch.testing.assert_close(model.decode(maps.flatten()).view(6, 7).detach(), torch.tensor(expected))
    y = draw(1, 6, 7, seed=1)
    full = signal.correlate2d(y[0].numpy(), model.W[0, 0].detach().numpy(), mode="full")
    torch.testing.assert_close(conv_correlate(y, model.W.detach())[0], torch.tensor(full))


@EACH
def test_correlate_is_the_transpose_of_decode(shape, filters, kernel, stride):
    model = coder(shape, filters, kernel, stride)
    z, y = draw(5, math.prod(model.code_shape)), draw(5, math.prod(shape), seed=1)
    left, right = (model.decode(z) * y).sum(-1), (z * model.correlate(y)).sum(-1)
    torch.testing.assert_close(left, right)
    A = matrix(model)
    torch.testing.assert_close(model.correlate(y).detach(), y @ A)
    assert (A != 0).any(0).all()  # every code unit touches the picture


@EACH
def test_the_norm_is_a_bound_and_a_tight_one(shape, filters, kernel, stride):
    model = coder(shape, filters, kernel, stride)
    exact = torch.linalg.matrix_norm(matrix(model), 2).item()
    bound = conv_norm(model.W, shape[1:])
    assert exact <= bound * (1 + 1e-12)
    if stride == 1:
        assert bound < 1.25 * exact
    large = conv_norm(model.W, (40, 40))
    assert large == pytest.approx(bound, rel=0.05)


# ---- the model


@EACH
def test_energy_and_code_are_those_of_sparse_coding_with_the_matrix(shape, filters, kernel, stride):
    model = coder(shape, filters, kernel, stride)
    A, y = matrix(model), draw(4, math.prod(shape), seed=2)
    z = draw(4, A.shape[1], seed=3)
    torch.testing.assert_close(model.energy(y, z).detach(), sparse_energy(y, z, A, model.lam))
    eta = model.max_step_size()
    ours = model.infer(y, steps=7, tol=0.0, accelerated=False)
    torch.testing.assert_close(ours, ista(y, A, model.lam, steps=7, step_size=eta).z)
    ours = model.infer(y, steps=7, tol=0.0)
    torch.testing.assert_close(ours, fista(y, A, model.lam, steps=7, step_size=eta, restart=True).z)
    best = fista(y, A, model.lam, steps=1000, restart=True).energies[-1]
    torch.testing.assert_close(model.energy(y, model.infer(y, steps=1000, tol=0.0)).detach(), best)
    reached = model(y).detach()  # with the steps and tolerance a caller gets
    assert ((reached >= best - 1e-9) & (reached < 1.01 * best)).all()


def test_the_tolerance_is_relative_to_the_codes():
    model, y = coder(), draw(2, 42)
    small = coder(lam=1e-5 * model.lam)
    found = small.infer(1e-5 * y, tol=1e-3)
    torch.testing.assert_close(1e5 * found, model.infer(y, tol=1e-3), rtol=1e-9, atol=1e-12)


def test_the_code_moves_with_the_picture():
    model = coder((1, 12, 12), 3, 3, lam=0.3)
    small = torch.zeros(12, 12, dtype=F64)
    small[3:7, 4:8] = draw(4, 4)
    moved = small.roll((2, 1), (0, 1))
    one, other = (model.infer(y.flatten(), steps=1000, tol=0.0).view(model.code_shape) for y in (small, moved))
    assert one.abs().max() > 0.1
    torch.testing.assert_close(other, one.roll((2, 1), (1, 2)), rtol=0, atol=1e-6)


def test_learning_finds_the_filters_that_made_the_pictures():
    truth, y = true_bars(), bars(60, (12, 12))
    ideal = coder((1, 12, 12), 2, 3, lam=0.5)
    with torch.no_grad():
        ideal.W.copy_(truth)
    model = coder((1, 12, 12), 3, 3, lam=0.5, seed=2)  # one to spare
    before = model(y).mean().item()
    history = model.learn(y, steps=100, lr=0.1, batch_size=20, generator=seeded(), progress=False)
    assert model(y).mean().item() < 1.03 * ideal(y).mean().item() < 0.6 * before
    assert history.steps == 100
    torch.testing.assert_close(model.W.flatten(1).norm(dim=1).detach(), torch.ones(3, dtype=F64))
    # each true filter is one of ours, up to sign and a shift by a pixel
    found = torch.nn.functional.pad(model.W.detach(), (2, 2, 2, 2))
    match = torch.nn.functional.conv2d(found, truth).abs().amax((2, 3))
    assert (match.amax(0) > 0.95).all()


def test_bad_input_is_refused():
    for shape in ((1, 5), (0, 5, 5)):
        with pytest.raises(ValueError, match="shape"):
            coder(shape)
    with pytest.raises(ValueError, match="lam must be"):
        coder(lam=0.0)
    with pytest.raises(ValueError, match="stride must be from 1 to the kernel's 3"):
        coder(stride=4)
    with pytest.raises(ValueError, match="stride must be"):
        conv_code_size(5, 3, 0)
    model = coder()
    for call in (model, model.infer, model.correlate, model.learn):
        with pytest.raises(ValueError, match="y must be"):
            call(torch.zeros(2, 41, dtype=F64))
    with pytest.raises(ValueError, match="z must be"):
        model.decode(torch.zeros(2, 42, dtype=F64))
    with pytest.raises(ValueError, match="beta must be inf"):
        model.free_energy(torch.zeros(2, 42, dtype=F64), beta=2.0)
    with pytest.raises(ValueError, match="y must be finite"):
        model(torch.full((42,), torch.nan, dtype=F64))
    W = model.W.detach()
    with pytest.raises(ValueError, match=r"z must be \(\.\.\., K, h, w\)"):
        conv_decode(torch.zeros(3, 6, 7, dtype=F64), W, (6, 7))
    with pytest.raises(ValueError, match=r"y must be \(\.\.\., 1, height, width\)"):
        conv_correlate(torch.zeros(2, 6, 7, dtype=F64), W)
    with pytest.raises(ValueError, match="W must be filters"):
        conv_norm(W[0], (6, 7))
    with pytest.raises(ValueError, match="W must not be all 0"):
        conv_norm(0 * W, (6, 7))


# ---- the encoder


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("layers", [1, 2, 5])
def test_the_encoder_begins_as_ista(layers, tied):
    model = coder((2, 7, 6), 3, 4, 2)
    y = draw(4, 84, seed=2)
    encoder = ConvLISTA(model, layers, tied=tied)
    reference = model.infer(y, steps=layers, tol=0.0, accelerated=False)
    torch.testing.assert_close(encoder.encode(y).detach(), reference, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(encoder(y), model.energy(y, encoder.encode(y)))
    assert len(encoder.encoder) == (1 if tied else layers)


def test_the_encoder_learns_either_target_and_leaves_the_filters():
    model = coder((1, 10, 10), 4, 3, lam=0.3)
    y, held_out = draw(40, 100, seed=2), draw(40, 100, seed=3)
    W = model.W.detach().clone()
    best = model.infer(y, steps=1000, tol=0.0)
    for options in ({"target": "energy"}, {"target": "codes", "codes": best}):
        encoder = ConvLISTA(model, 2, tied=False)
        before = encoder(held_out).mean().item()
        encoder.learn(y, steps=60, batch_size=None, lr=1e-2, progress=False, **options)
        assert encoder(held_out).mean().item() < before
        assert torch.equal(model.W, W)
        assert model.W.requires_grad
        assert model.W.grad is None
        assert (encoder(held_out) >= model.energy(held_out, model.infer(held_out, steps=2000, tol=0.0)) - 1e-9).all()


def test_a_rate_that_suits_the_filters_does_not_throw_the_encoder_about():
    # many filters: 2η is small, and so is V = 2ηW; at one rate for all, the first steps are as large as V itself
    model = coder((1, 14, 14), 16, 6, lam=0.3)
    assert 2 * model.max_step_size() < 0.05
    y, held_out = draw(40, 196, seed=2), draw(20, 196, seed=3)
    encoder = ConvLISTA(model, 3)
    before = encoder(held_out).mean().item()
    encoder.learn(y, steps=30, batch_size=8, lr=3e-2, generator=seeded(), progress=False)
    assert encoder(held_out).mean().item() < 0.99 * before


def test_encoder_and_decoder_learn_together():
    model = coder((1, 10, 10), 4, 3, lam=0.3)
    y = draw(40, 100, seed=2)
    W = model.W.detach().clone()
    fixed = ConvLISTA(coder((1, 10, 10), 4, 3, lam=0.3), 2)
    fixed.learn(y, steps=60, batch_size=None, lr=1e-2, progress=False)
    both = ConvLISTA(model, 2)
    both.learn(y, dictionary=True, steps=60, batch_size=None, lr=1e-2, progress=False)
    assert not torch.allclose(model.W, W, atol=1e-2)
    torch.testing.assert_close(model.W.flatten(1).norm(dim=1).detach(), torch.ones(4, dtype=F64))
    assert both(y).mean() < fixed(y).mean()


def test_the_encoder_refuses_bad_input():
    model = coder()
    with pytest.raises(ValueError, match="layers must be"):
        ConvLISTA(model, 0)
    encoder, y = ConvLISTA(model), draw(3, 42)
    codes = model.infer(y)
    with pytest.raises(ValueError, match="codes must be given"):
        encoder.learn(y, target="codes")
    with pytest.raises(ValueError, match="codes must be given"):
        encoder.learn(y, codes=codes)
    with pytest.raises(ValueError, match="dictionary=True needs"):
        encoder.learn(y, target="codes", codes=codes, dictionary=True)
    with pytest.raises(ValueError, match="codes must be"):
        encoder.learn(y, target="codes", codes=codes[:, 1:])
    with pytest.raises(ValueError, match="y must be"):
        encoder.encode(y[:, 1:])
    with pytest.raises(ValueError, match="beta must be"):
        encoder.free_energy(y, beta=-1.0)


# ---- layers


def stacked(weights=(1.0, 0.7, 1.3)):
    one = coder((1, 6, 6), 3, 3, lam=0.2, seed=1)
    two = coder(one.code_shape, 4, 3, 2, lam=0.3, seed=2)
    three = coder(two.code_shape, 2, 2, lam=0.1, seed=3)
    return ConvSparseStack([one, two, three], weights)


def test_the_energy_of_a_stack_is_the_sum_of_its_layers():
    stack, y = stacked(), draw(5, 36)
    z = draw(5, sum(stack.code_sizes), seed=1)
    one, two, three = stack.split(z)
    a, b, c = stack.layers
    by_hand = a.energy(y, one) + 0.7 * b.energy(one, two) + 1.3 * c.energy(two, three)
    torch.testing.assert_close(stack.energy(y, z), by_hand)
    assert stack.energy(y[:, None], z[None]).shape == (5, 5)


def test_the_code_of_a_stack_is_the_minimum_over_all_layers_at_once():
    stack, y = stacked(), draw(3, 36)
    z = stack.infer(y, steps=2500, tol=0.0).requires_grad_()
    price = torch.cat(
        [
            torch.full((n,), w * layer.lam, dtype=F64)
            for n, w, layer in zip(stack.code_sizes, stack.weights, stack.layers, strict=True)
        ]
    )
    smooth = stack.energy(y, z) - (price * z.abs()).sum(-1)
    slope = torch.autograd.grad(smooth.sum(), z)[0]
    torch.testing.assert_close(stack._gradient(y, z.detach()).detach(), slope)
    active = z != 0
    assert all(0 < part.double().mean() < 1 for part in stack.split(active.to(F64)))
    torch.testing.assert_close(slope[active], (-price * z.sign())[active].detach(), rtol=0, atol=1e-6)
    assert (slope.abs() <= price + 1e-6).all()
    # a layer's code by itself, with what is below given, does no better
    greedy, below = [], y
    for layer in stack.layers:
        below = layer.infer(below, steps=1000, tol=0.0)
        greedy.append(below)
    assert (stack.energy(y, torch.cat(greedy, -1)) > stack.energy(y, z)).all()


def test_the_step_of_a_stack_is_safe_and_not_timid():
    stack = stacked()
    size = sum(stack.code_sizes)
    y = torch.zeros(36, dtype=F64)
    columns = torch.eye(size, dtype=F64)
    hessian = stack._gradient(y.expand(size, 36), columns)  # of a quadratic without linear part
    largest = torch.linalg.eigvalsh(hessian.detach())[-1].item()
    assert 0.5 < stack.max_step_size() * largest <= 1 + 1e-12


def test_reconstructions_go_down_through_all_layers():
    stack = stacked()
    z = draw(3, sum(stack.code_sizes))
    one, two, three = stack.split(z)
    a, b, c = stack.layers
    first, second, third = stack.reconstruct(z)
    torch.testing.assert_close(first, a.decode(one))
    torch.testing.assert_close(second, a.decode(b.decode(two)))
    torch.testing.assert_close(third, a.decode(b.decode(c.decode(three))))
    assert torch.equal(stack.decode(z), first)


def test_a_stack_learns_layer_by_layer_and_then_together():
    y = bars(16, (6, 6))
    one = coder((1, 6, 6), 3, 3, lam=0.2, seed=1)
    stack = ConvSparseStack([one, coder(one.code_shape, 3, 3, 2, lam=0.3, seed=2)], (1.0, 0.5))
    before = stack(y).mean().item()
    histories = stack.learn_greedily(y, steps=30, batch_size=8, lr=3e-2, generator=seeded(), progress=False)
    between = stack(y).mean().item()
    history = stack.learn(y, steps=20, batch_size=None, progress=False)
    assert stack(y).mean().item() < between - 1e-3 < before
    assert [len(h.loss) for h in (*histories, history)] == [30, 30, 20]
    for layer in stack.layers:
        torch.testing.assert_close(layer.W.flatten(1).norm(dim=1).detach(), torch.ones(3, dtype=F64))


def test_a_stack_refuses_layers_that_do_not_fit():
    one = coder((1, 6, 6), 3, 3)
    with pytest.raises(ValueError, match=r"layers\[1\] must explain the codes below, of shape \(3, 8, 8\)"):
        ConvSparseStack([one, coder((3, 6, 6), 2, 3)])
    with pytest.raises(ValueError, match="layers must hold"):
        ConvSparseStack([])
    with pytest.raises(ValueError, match="weights must be one per layer"):
        ConvSparseStack([one], (1.0, 2.0))
    with pytest.raises(ValueError, match=r"weights\[0\] must be"):
        ConvSparseStack([one], (0.0,))
    with pytest.raises(ValueError, match="beta must be inf"):
        ConvSparseStack([one]).free_energy(draw(2, 36), beta=1.0)


# ---- the contract


def test_protocols_device_dtype_and_seed():
    model, y = coder(), draw(2, 42)
    assert isinstance(model, LatentModel)
    assert model(y[:0]).shape == (0,)
    assert isinstance(ConvLISTA(model), Model)
    assert isinstance(stacked(), LatentModel)
    assert torch.equal(coder()(y), model(y))
    assert model.infer(y[None, :]).shape == (1, 2, 3 * 8 * 9)
    assert not model.infer(y).requires_grad
    assert model(y[0]).item() == pytest.approx(model.energy(y[0], model.infer(y[0])).item())
    shadow = ConvSparseCoding((1, 6, 7), 3, 3, lam=0.1, device="meta")
    away = torch.zeros(2, 42, device="meta")
    assert shadow(away).is_meta
    assert ConvLISTA(shadow, 2)(away).is_meta
    assert ConvSparseStack([shadow])(away).is_meta
    assert coder().float()(y.float()).dtype == torch.float32
