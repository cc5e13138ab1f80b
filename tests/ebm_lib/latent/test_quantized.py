"""Quantised auto-encoders against brute force, gradients written down by hand, and K-means."""

import math

import pytest
import torch
from torch import nn

from ebm_lib.latent import (
    KMeans,
    Model,
    VectorQuantizer,
    VQAutoEncoder,
    kmeans_plus_plus,
    lloyd_step,
    nearest,
    straight_through,
    usage,
)
from ebm_lib.nn import MLP

F64 = torch.float64


def points(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def networks(D=2, code=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return MLP((D, 16, code), generator=g, dtype=F64), MLP((code, 16, D), generator=g, dtype=F64)


def autoencoder(D=2, L=3, K=5, groups=1, seed=0, **kw):
    return VQAutoEncoder(*networks(D, L * groups, seed), L, K, groups=groups,
                         generator=torch.Generator().manual_seed(seed), **kw)  # fmt: skip


def ring(n=400, seed=0):
    angle = 2 * math.pi * torch.rand(n, 1, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return torch.cat([angle.cos(), angle.sin()], -1)


# ---- the codebook


def test_codes_are_the_nearest_entries_by_brute_force():
    book, h = VectorQuantizer(3, 6, dtype=F64), points(4, 5, 3)
    found = book(h)
    distance = (h[..., None, :] - book.W.T).square().sum(-1)
    assert torch.equal(found.codes, distance.argmin(-1))
    torch.testing.assert_close(found.commitment, distance.amin(-1))
    torch.testing.assert_close(found.codebook, distance.amin(-1))
    assert torch.equal(found.value, book.W.T[found.codes])  # exactly, not up to the rounding of h + (q − h)


def test_the_gradient_passes_straight_through_and_each_loss_moves_one_side():
    book, h = VectorQuantizer(3, 6, decay=None, dtype=F64), points(5, 3).requires_grad_()
    found, weight = book(h), points(5, 3, seed=4)
    assert torch.equal(torch.autograd.grad((weight * found.value).sum(), h, retain_graph=True)[0], weight)
    assert torch.autograd.grad((weight * found.value).sum(), book.W, retain_graph=True, allow_unused=True)[0] is None
    entry = book.W.T[found.codes].detach()
    (pull,) = torch.autograd.grad(found.commitment.sum(), h, retain_graph=True)
    torch.testing.assert_close(pull, 2 * (h - entry).detach())
    slope_h, slope_w = torch.autograd.grad(found.codebook.sum(), (h, book.W), allow_unused=True)
    assert slope_h is None
    expected = torch.zeros(6, 3, dtype=F64).index_add_(0, found.codes, 2 * (entry - h.detach()))
    torch.testing.assert_close(slope_w.T, expected)


def test_straight_through_is_exact_at_any_scale_and_works_under_vmap():
    h, q = torch.tensor([1e9, 1e-9]).requires_grad_(), torch.tensor([0.1, 0.3])
    assert torch.equal(straight_through(h, q), q)
    grads = torch.func.vmap(torch.func.grad(lambda h, q: (h.detach() * 0 + straight_through(h, q)).sum()))(
        torch.ones(4, 2), torch.zeros(4, 2)
    )
    assert torch.equal(grads, torch.ones(4, 2))


def test_without_memory_the_moving_average_is_a_round_of_k_means():
    y = points(300, 2)
    W = kmeans_plus_plus(y, 7, generator=torch.Generator().manual_seed(0))
    book = VectorQuantizer(2, 7, decay=0.0, revive_below=0.0, dtype=F64)
    book.set_codebook(W)
    for _ in range(30):
        book.observe(y, book(y).codes)
        W = lloyd_step(y, W).W
        torch.testing.assert_close(book.W.detach(), W)


def test_the_moving_average_is_the_recursion_and_settles_on_the_means():
    book = VectorQuantizer(1, 2, decay=0.9, revive_below=0.0, dtype=F64)
    book.set_codebook(torch.tensor([[-1.0, 1.0]], dtype=F64))
    count, total = torch.ones(2, dtype=F64), torch.tensor([-1.0, 1.0], dtype=F64)
    for step in range(20):
        h = points(8, 1, seed=step)
        codes = book(h).codes
        for k in range(2):
            count[k] = 0.9 * count[k] + 0.1 * (codes == k).sum()
            total[k] = 0.9 * total[k] + 0.1 * h[codes == k].sum()
        assert book.observe(h, codes) == 0
        torch.testing.assert_close(book.W[0].detach(), total / count)
        torch.testing.assert_close(book.count, count)


def test_dead_codes_are_revived_onto_vectors_of_the_batch():
    h = points(64, 2)
    book = VectorQuantizer(2, 4, decay=0.5, revive_below=0.1, dtype=F64)
    book.set_codebook(torch.tensor([[0.0, 100.0, 200.0, 300.0], [0.0, 100.0, 200.0, 300.0]], dtype=F64))
    assert usage(book(h).codes, 4).dead == 3
    book.count.fill_(16.0)
    revived = 0
    for step in range(8):
        assert (revived == 0) == (step < 4)  # 16, 8, 4, 2 are above a tenth of an even share of 16, 1 is not
        revived += book.observe(h, book(h).codes, generator=torch.Generator().manual_seed(step))
    assert revived == 3
    assert usage(book(h).codes, 4).dead == 0
    never = VectorQuantizer(2, 4, decay=0.5, revive_below=0.0, dtype=F64)
    never.set_codebook(100 * torch.arange(4, dtype=F64).expand(2, 4))
    assert sum(never.observe(h, never(h).codes) for _ in range(200)) == 0
    assert usage(never(h).codes, 4).dead == 3
    assert torch.isfinite(never.W).all()


def test_usage_of_known_shares():
    codes = torch.tensor([[0, 0], [0, 0], [1, 1], [2, 3]])
    found = usage(codes, 6)
    assert found.rate == pytest.approx(0.5 * 1 + 0.25 * 2 + 2 * 0.125 * 3)
    assert found.perplexity == pytest.approx(2**found.rate)
    assert found.dead == 2
    assert found.share.tolist() == [0.5, 0.25, 0.125, 0.125, 0, 0]
    assert usage(torch.arange(8), 8).rate == pytest.approx(3)


# ---- the auto-encoder


@pytest.mark.parametrize("groups", [1, 2])
def test_the_energy_is_the_distance_to_what_the_codes_say(groups):
    model, y = autoencoder(groups=groups), points(9, 2)
    assert isinstance(model, Model)
    codes = model.codes(y)
    assert codes.shape == (9, groups)
    distance = torch.cdist(model.encoder(y).unflatten(-1, (groups, 3)).flatten(0, 1), model.quantizer.W.T)
    assert torch.equal(codes.flatten(), distance.argmin(-1))
    torch.testing.assert_close(model(y), (y - model.decode_codes(codes)).square().sum(-1))
    assert torch.equal(model.encode(y), model.quantizer.W.T[codes].flatten(-2))
    assert torch.equal(model.free_energy(y, 3.0), model.energy(y))
    assert model.capacity == pytest.approx(groups * math.log2(5))
    every = torch.cartesian_prod(*[torch.arange(5)] * groups).reshape(-1, groups)
    lowest = (y[:, None] - model.decode_codes(every)).square().sum(-1).amin(-1)
    assert (model(y) >= lowest - 1e-12).all()
    assert model.losses(y)[0]["energy"].item() == pytest.approx(model(y).mean().item())


@pytest.mark.parametrize("decay", [0.9, None])
def test_the_loss_is_the_sum_of_its_parts_over_all_groups(decay):
    model, y = autoencoder(groups=2, commitment=0.7, decay=decay), points(9, 2)
    h = model.encoder(y).detach().unflatten(-1, (2, 3))
    apart = (h[..., None] - model.quantizer.W.detach()).square().sum(-2).amin(-1).sum(-1).mean().item()
    parts, *_ = model.losses(y)
    assert parts["commitment"].item() == pytest.approx(0.7 * apart)
    assert ("codebook" in parts) == (decay is None)
    pulls = 0.7 + (decay is None)
    assert parts["loss"].item() == pytest.approx(model(y).mean().item() + pulls * apart)


def test_only_so_many_points_have_zero_energy():
    model = autoencoder(K=4, groups=2)
    decoded = model(points(5000, 2)), model.decode(model.encode(3 * points(5000, 2))).unique(dim=0)
    assert len(decoded[1]) <= 16
    assert (decoded[0] > 0).all()


@pytest.mark.parametrize("decay", [0.9, None])
def test_learning_lowers_the_distortion_and_more_codes_lower_it_further(decay):
    y = ring()
    for K in (2, 16):
        model = autoencoder(L=2, K=K, decay=decay)
        history = model.learn(y, steps=300, lr=5e-3, batch_size=100, generator=torch.Generator().manual_seed(0))
        # arcs of a circle, each at its mean: the best that K points can do, up to what 400 samples leave open
        best = 1 - (math.sin(math.pi / K) / (math.pi / K)) ** 2
        assert 0.9 * best < model(y).mean().item() < 1.1 * best + 0.05
        assert {"energy", "commitment", "revived"} <= set(history.metrics)
        assert ("codebook" in history.metrics) == (decay is None)
        found = usage(model.codes(y), K)
        assert 0 < found.rate <= model.capacity + 1e-12


def test_revival_uses_codes_that_would_stay_dead():
    y, dead = ring(), {}
    for share in (0.0, 0.1):
        model = autoencoder(L=2, K=32, revive_below=share, decay=0.8)
        with torch.no_grad():
            model.quantizer.W.add_(20.0)  # far from all vectors: one entry gets everything
        model.learn(y, steps=150, lr=5e-3, seed_codebook=False, generator=torch.Generator().manual_seed(0))
        dead[share] = usage(model.codes(y), 32).dead
    assert dead[0.0] >= 25
    assert dead[0.1] <= 8


def test_with_no_networks_it_is_k_means():
    y = points(200, 2)
    model = VQAutoEncoder(nn.Identity(), nn.Identity(), 2, 6)
    model.double()
    clusters = KMeans(2, 6, dtype=F64)
    with torch.no_grad():
        clusters.W.copy_(model.quantizer.W)
    torch.testing.assert_close(model(y), clusters(y))
    assert torch.equal(model.codes(y).squeeze(-1), nearest(y, clusters.W).codes)


def test_a_run_is_a_function_of_its_generator():
    y = ring(100)
    runs = []
    for seed in (0, 0, 1):
        model = autoencoder(L=2, K=8)
        g = torch.Generator().manual_seed(seed)
        runs.append(model.learn(y, steps=20, batch_size=50, generator=g).loss)
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: VectorQuantizer(2, 0), "K must be a whole number of at least 1"),
        (lambda: VectorQuantizer(2, 2, decay=1.0), "decay must be at least 0 and below 1, got 1"),
        (lambda: VectorQuantizer(2, 2, revive_below=-0.1), "revive_below must be at least 0"),
        (lambda: VectorQuantizer(2, 2)(torch.zeros(3)), r"h must be \(..., 2\)"),
        (lambda: VectorQuantizer(2, 2)(torch.full((2,), math.nan)), "h must be finite"),
        (lambda: VectorQuantizer(2, 2).set_codebook(torch.zeros(2, 3)), r"W must be \(2, 2\)"),
        (lambda: VectorQuantizer(2, 2).observe(torch.zeros(4, 2), torch.zeros(3, dtype=torch.long)), "one for each"),
        (lambda: straight_through(torch.zeros(2), torch.zeros(3)), "value must have the shape of vector"),
        (lambda: usage(torch.tensor([3]), 2), r"codes must lie in 0..1, got 3..3"),
        (lambda: usage(torch.zeros(0, dtype=torch.long), 2), "codes must be whole numbers, at least one"),
        (lambda: usage(torch.zeros(3), 2), "codes must be whole numbers"),
        (lambda: autoencoder(commitment=-1.0), "commitment must be a positive"),
        (lambda: VQAutoEncoder(*networks(2, 4), 3, 5)(points(4, 2)), r"encoder must return \(4, 3\)"),
        (lambda: VQAutoEncoder(networks()[0], nn.Identity(), 3, 5)(points(4, 2)), "decoder must return"),
        (lambda: autoencoder().decode(points(4)), r"z must be \(..., 3\)"),
        (lambda: autoencoder().decode_codes(torch.zeros(4, dtype=torch.long)), r"codes must be \(..., 1\)"),
        (lambda: autoencoder().free_energy(points(4, 2), 0), "beta"),
        (lambda: autoencoder().learn(points(1, 2)), "y must hold at least 2 samples, got 1"),
        (lambda: autoencoder(K=9).learn(points(4, 2)), "K must be at most the number of code vectors, 4, got 9"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
