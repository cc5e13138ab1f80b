"""Many futures: the conditional VAE, latent drop-out, GLO, and the judges of futures."""

import math

import pytest
import torch
from torch import nn

from ebm_lib import data
from ebm_lib.latent.variational import (
    GLO,
    CodePath,
    ConditionalVAE,
    best_of,
    coverage,
    gaussian_kl,
    importance_bound,
    project_ball,
    sharpness,
)

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gauss(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def small(Dx=3, Dy=2, L=2, beta=2.0, seed=0, **options):
    return ConditionalVAE(Dx, Dy, L, beta=beta, hidden=(12,), features=5, generator=seeded(seed), dtype=F64, **options)


def forked(n=400, seed=0):
    """X says how far to go, a coin says to which side: y = ±(1 + x)."""
    x = torch.rand(n, 1, generator=seeded(seed), dtype=F64)
    side = torch.where(torch.rand(n, 1, generator=seeded(seed + 1), dtype=F64) < 0.5, -1.0, 1.0).double()
    return x, side * (1 + x), side


# ---- the conditional VAE


def test_energy_bound_and_prediction_are_made_of_the_three_networks():
    model, x, y, z = small(), gauss(6, 3), gauss(6, 2, seed=1), gauss(6, 2, seed=2)
    out = model.decoder(torch.cat([model.predictor(x), z], -1))
    torch.testing.assert_close(model.energy(x, y, z), (y - out).square().sum(-1))
    torch.testing.assert_close(model.predict(x), model.decoder(torch.cat([model.predictor(x), 0 * z], -1)))
    mean, log_var = model.encoder(torch.cat([x, y], -1)).chunk(2, -1)
    noise = gauss(6, 4, 2, seed=3)
    found = model.bound(x, y, samples=4, noise=noise)
    drawn = model.energy(x[:, None], y[:, None], mean[:, None] + (log_var[:, None] / 2).exp() * noise).mean(-1)
    information = gaussian_kl(mean, (log_var / 2).exp())
    torch.testing.assert_close(found.mean_energy, drawn)
    torch.testing.assert_close(found.free_energy, drawn + information / 2.0)
    assert model.energy(x[:, None], y[:, None], z).shape == (6, 6)
    assert model.futures(x, 7, generator=seeded()).shape == (6, 7, 2)


def test_free_energy_is_the_weighted_draws_of_the_energy_of_y_and_z():
    model, x, y = small(), gauss(4, 3), gauss(4, 2, seed=1)
    found = model.importance(x, y, samples=30, generator=seeded())
    for i in range(4):
        one = importance_bound(
            lambda y, z, i=i: model.energy(x[i], y, z), y[i], *(v[i] for v in model.encode(x, y)), 2.0,
            samples=4000, generator=seeded(),
        )  # fmt: skip
        assert abs((one.free_energy - found.free_energy[i]).item()) < 5 * (one.error + found.error[i]).item()
    ends = model.free_energy(x, y, math.inf)
    start = model.energy(x, y, model.encode(x, y).mean)
    assert (ends < start - 1e-3).all()


def test_a_regression_answers_the_mean_and_the_latent_variable_the_side():
    x, y, side = forked()
    plain = ConditionalVAE(1, 1, 1, beta=20.0, dropout=1.0, hidden=(16,), generator=seeded(), dtype=F64)
    before = [p.clone() for p in plain.encoder.parameters()]
    plain.learn(x, y, steps=150, lr=0.01, generator=seeded())
    assert plain.predict(x).abs().mean() < 0.25  # between the sides, where no future is
    assert all(torch.equal(a, b) for a, b in zip(before, plain.encoder.parameters(), strict=True))
    torch.testing.assert_close(plain.futures(x, 3), plain.predict(x)[:, None].expand(-1, 3, -1))
    model = ConditionalVAE(1, 1, 1, beta=20.0, dropout=0.5, hidden=(16,), generator=seeded(), dtype=F64)
    history = model.learn(x, y, steps=400, lr=0.02, generator=seeded())
    assert model.predict(x).abs().mean() < 0.3  # z = 0 is the regression
    mean = model.encode(x, y).mean
    assert abs(torch.corrcoef(torch.cat([mean, side], -1).T)[0, 1].item()) > 0.95  # z means the side
    futures = model.futures(x, 20, generator=seeded())
    truths = torch.stack([-(1 + x), 1 + x], -2)
    assert coverage(futures, truths, 0.2).mean() > 0.85
    assert coverage(plain.futures(x, 20), truths, 0.2).mean() == 0
    assert best_of(futures, y).mean() < 0.1 * best_of(plain.futures(x, 20), y).mean()
    assert history.metrics["alone"][-1] > 5 * history.metrics["energy"][-1]


def test_drop_out_weighs_kept_and_dropped_samples_by_their_share():
    x, y, _ = forked(64)
    for dropout in (0.0, 1.0):
        model = small(1, 1, 1, dropout=dropout)
        history = model.learn(x, y, steps=1, batch_size=None, generator=seeded())
        alone = history.metrics["alone"][0]
        bound = history.metrics["energy"][0] + history.metrics["information"][0] / 2.0
        assert history.loss[0] == pytest.approx(alone if dropout else bound)
        assert (bound if dropout else alone) == 0
    model = small(1, 1, 1, dropout=0.25)
    expected = model.energy(x, y, torch.zeros(1, dtype=F64)).mean().item()
    history = model.learn(x, y, steps=150, lr=1e-12, batch_size=None, generator=seeded())
    metrics = history.metrics
    shares = [
        (loss - e - i / 2.0) / (a - e - i / 2.0)
        for loss, e, i, a in zip(history.loss, metrics["energy"], metrics["information"], metrics["alone"], strict=True)
    ]
    assert sum(shares) / 150 == pytest.approx(0.25, abs=0.02)
    assert sum(metrics["alone"]) / 150 == pytest.approx(expected, rel=0.02)


def test_options_of_learning_reach_the_objective():
    x, y, _ = forked(64)
    frozen = {"lr": 1e-12, "generator": seeded()}
    # The warm-up counts steps, also those in which no sample was kept.
    model = small(1, 1, 1, dropout=0.7)
    history = model.learn(x, y, steps=40, batch_size=2, warmup=50, **frozen)
    m = history.metrics
    steps = zip(history.loss, m["energy"], m["information"], m["alone"], strict=True)
    for t, (loss, energy, nats, alone) in enumerate(steps):
        share = (0.5 if alone else 0.0) if nats else 1.0
        assert loss == pytest.approx((1 - share) * (energy + t / 50 * nats / 2) + share * alone, rel=1e-9)
    assert m["information"].count(0.0) > 5
    history = small(1, 1, 3, dropout=0.0).learn(x, y, steps=2, batch_size=None, free_bits=7.0, **frozen)
    assert history.loss[0] - history.metrics["energy"][0] == pytest.approx(3 * 7.0 / 2)
    scatter = []
    for samples in (1, 64):
        energies = small(1, 1, 1, dropout=0.0).learn(x, y, steps=60, batch_size=None, samples=samples, **frozen).metrics
        scatter.append(torch.tensor(energies["energy"]).std().item())
    assert scatter[0] / scatter[1] == pytest.approx(8, rel=0.5)


def test_an_interrupted_warm_up_goes_on_where_it_was(tmp_path):
    (x, y, _), options = forked(64), {"lr": 0.01, "batch_size": 16, "warmup": 40}
    whole = small(1, 1, 1).learn(x, y, steps=20, generator=seeded(), **options)
    small(1, 1, 1).learn(x, y, steps=10, generator=seeded(), checkpoint=tmp_path / "run.pt", **options)
    again = small(1, 1, 1).learn(x, y, steps=20, generator=seeded(), checkpoint=tmp_path / "run.pt", **options)
    assert again.loss == whole.loss


def test_each_sample_is_dropped_on_its_own():
    x, y, _ = forked(64)
    history = small(1, 1, 1, dropout=0.5).learn(x, y, steps=20, batch_size=None, lr=1e-12, generator=seeded())
    alone = torch.tensor(history.metrics["alone"])
    assert alone.std() > 0.01 * alone.mean()  # it is of other samples each time
    assert alone.min() > 0  # never none of the batch, ...
    assert min(history.metrics["information"]) > 0  # ... never all


def test_importance_takes_another_inverse_temperature_and_repeats():
    model, x, y = small(), gauss(4, 3), gauss(4, 2, seed=1)
    how = {"samples": 9, "repeats": 2}
    found = model.importance(x, y, 0.7, generator=seeded(), **how)
    energy = lambda y, z: model.energy(x[:, None], y, z)
    expected = importance_bound(energy, y, *model.encode(x, y), 0.7, generator=seeded(), **how)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_path_of_codes_takes_pairs():
    model, (x, y, _) = small(1, 1, 2), forked(9)
    path = CodePath(model, x, y, every=1)
    model.learn(x, y, steps=3, batch_size=4, generator=seeded(), callback=path)
    assert path.mean.shape == (4, 9, 2)


# ---- GLO


def test_projection_onto_the_ball_is_the_nearest_point():
    z = 3 * gauss(200, 3)
    held = project_ball(z, radius=1.5)
    assert (held.norm(dim=-1) <= 1.5 + 1e-12).all()
    inside = z.norm(dim=-1) <= 1.5
    assert 0 < inside.sum() < 200
    assert torch.equal(held[inside], z[inside])
    others = project_ball(3 * gauss(200, 3, seed=1), radius=1.5)
    assert ((z - held).norm(dim=-1) <= (z - others).norm(dim=-1) + 1e-12).all()


def test_codes_learn_with_the_decoder_and_stay_in_the_ball():
    angle = 2 * math.pi * torch.rand(150, 1, generator=seeded(), dtype=F64)
    y = torch.cat([angle.cos(), angle.sin(), (2 * angle).cos()], -1)
    model = GLO(3, 2, hidden=(32,), generator=seeded(), dtype=F64)
    history = model.learn(y, steps=500, lr=0.01, code_lr=0.02, batch_size=50, generator=seeded())
    assert model.codes.shape == (150, 2)
    assert model.codes.norm(dim=-1).max() <= 1 + 1e-12
    assert sum(history.loss[-10:]) < 0.05 * sum(history.loss[:10])
    new = torch.cat([angle.cos(), angle.sin(), (2 * angle).cos()], -1)[::10]
    z = model.infer(new, starts=6, generator=seeded())
    assert z.norm(dim=-1).max() <= 1 + 1e-12
    assert model.energy(new, z).mean() < 0.05
    torch.testing.assert_close(model.free_energy(new), model.energy(new, model.infer(new, starts=1)))
    drawn = model.draw_codes((4000,), generator=seeded())
    torch.testing.assert_close(drawn.mean(0), model.codes.detach().mean(0), rtol=0, atol=0.1)
    spread = drawn.std(0) / model.codes.detach().std(0)
    assert (spread < 1.02).all()  # the ball cuts off the Gaussian's corners
    assert (spread > 0.6).all()
    assert model.sample(5).shape == (5, 3)
    copy = GLO(3, 2, hidden=(32,), dtype=F64)
    copy.load_state_dict(model.state_dict())
    torch.testing.assert_close(copy(new), model(new))


def test_codes_start_in_the_ball_at_their_own_rate_and_carry_the_gradient():
    y, codes = gauss(20, 3), 5 * gauss(20, 2, seed=4)
    model = GLO(3, 2, radius=0.5, hidden=(8,), generator=seeded(), dtype=F64)
    first = model.energy(y, project_ball(codes, radius=0.5)).mean().item()
    weights = [p.clone() for p in model.decoder.parameters()]
    history = model.learn(y, steps=3, batch_size=None, codes=codes, code_lr=1e-12)
    assert history.loss[0] == pytest.approx(first, rel=1e-12)
    torch.testing.assert_close(model.codes.detach(), project_ball(codes, radius=0.5))  # as good as standing still, ...
    assert not any(torch.equal(a, b) for a, b in zip(weights, model.decoder.parameters(), strict=True))  # ... alone
    before = project_ball(codes, radius=0.4)
    model.learn(y, steps=1, batch_size=None, codes=before, lr=1e-12, code_lr=0.01)
    descended = model.energy(y, model.codes) - model.energy(y, before)
    assert (descended < 0).all()
    moved = (model.codes - before).detach().abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.01), rtol=0, atol=1e-6)  # Adam's first step


def test_inference_takes_the_best_start_and_stays_in_the_ball():
    model = GLO(3, 2, radius=2.0, hidden=(12,), generator=seeded(3), dtype=F64)
    with torch.no_grad():
        model.decoder.linears[0].weight *= 4
        model.decoder.linears[1].weight *= 4
    y = gauss(40, 3)
    one, many = (model.energy(y, model.infer(y, starts=starts, generator=seeded())) for starts in (1, 8))
    assert (many <= one + 1e-9).all()
    assert (many < one - 0.01).any()
    far = model.infer(50 * y, generator=seeded()).norm(dim=-1)
    assert far.max() <= 2 + 1e-12
    assert (far > 2 - 1e-6).float().mean() > 0.5
    fresh = model.draw_codes((20_000,), generator=seeded())
    outside = math.exp(-(2.0**2) / (2 * 2.0**2 / 2))  # of a Gaussian of variance r²/2 in each of two dimensions
    assert (fresh.norm(dim=-1) > 2 - 1e-9).double().mean().item() == pytest.approx(outside, abs=0.015)


def test_drawn_codes_have_the_covariance_of_the_learned_ones():
    model = GLO(3, 3, radius=10.0, hidden=(4,), dtype=F64)
    mixed = torch.tensor([[0.5, 0.4, -0.3], [0.0, 0.2, 0.6], [0.0, 0.0, 0.1]], dtype=F64)
    codes = gauss(500, 3) @ mixed + torch.tensor([1.0, -2.0, 0.0], dtype=F64)
    model.learn(gauss(500, 3), steps=1, batch_size=2, codes=codes, code_lr=1e-12)
    drawn = model.draw_codes((40_000,), generator=seeded())
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), rtol=0, atol=0.02)
    torch.testing.assert_close(torch.cov(drawn.T), torch.cov(codes.T), rtol=0.05, atol=0.005)


def test_learning_anew_starts_from_new_codes():
    model, y = GLO(3, 2, hidden=(4,), dtype=F64), gauss(400, 3)
    for codes, spread in ((0.01 * gauss(400, 2), 1e-4), (None, 0.5 * (1 - math.exp(-1)))):  # E min(|z|², 1) / 2
        model.learn(y, steps=1, batch_size=2, codes=codes, code_lr=1e-12, generator=seeded())
        assert model.codes.square().mean().item() == pytest.approx(spread, rel=0.15)


def test_codes_outside_the_batch_do_not_move():
    y = gauss(20, 3)
    model = GLO(3, 2, hidden=(8,), generator=seeded(), dtype=F64)
    start = project_ball(gauss(20, 2, seed=4))
    moved = []
    before = start.clone()

    def look(_):
        moved.append((model.codes != before).any(-1).sum().item())
        before.copy_(model.codes.detach())

    model.learn(y, steps=12, batch_size=4, codes=start, generator=seeded(), callback=look)
    assert moved == [4] * 12


def test_glo_with_an_x_separates_the_futures():
    x, y, side = forked(200)
    model = GLO(1, 1, Dx=1, hidden=(16,), features=8, generator=seeded(), dtype=F64)
    model.learn(x, y, steps=400, lr=0.02, code_lr=0.02, batch_size=50, generator=seeded())
    assert model.energy(x, y, model.codes).mean() < 0.05
    assert abs(torch.corrcoef(torch.cat([model.codes.detach(), side], -1).T)[0, 1].item()) > 0.8
    futures = model.futures(x, 30, generator=seeded())
    assert futures.shape == (200, 30, 1)
    assert best_of(futures, y).mean() < 0.1
    assert model(x, y).shape == (200,)


# ---- judges


def test_best_of_and_coverage_against_loops():
    futures, truths, y = gauss(5, 7, 3), gauss(5, 4, 3, seed=1), gauss(5, 3, seed=2)
    for b in range(5):
        errors = [(futures[b, k] - y[b]).square().sum().item() for k in range(7)]
        assert best_of(futures, y)[b].item() == pytest.approx(min(errors))
        hits = [min((futures[b, k] - truths[b, j]).square().sum().item() for k in range(7)) <= 2.0 for j in range(4)]
        assert coverage(futures, truths, 2.0)[b].item() == pytest.approx(sum(hits) / 4)


def test_sharpness_falls_with_blur_and_counts_both_directions():
    picture = torch.zeros(2, 5, 5, dtype=F64)
    picture[:, 2, 2] = 1
    assert sharpness(picture.flatten(), (2, 5, 5)).item() == 8
    films = data.fork_films(20, generator=seeded(), dtype=F64)
    mean = films.futures.mean(1)
    assert (sharpness(mean, films.future_shape) < 0.8 * sharpness(films.y, films.future_shape)).all()


# ---- bad input


def test_bad_input_is_named():
    model, glo = small(), GLO(2, 2, hidden=(4,), dtype=F64)
    x, y = gauss(6, 3), gauss(6, 2)
    for call, message in (
        (lambda: small(dropout=1.5), "dropout must be a share"),
        (lambda: small(beta=-1.0), "beta must be a positive"),
        (lambda: model.learn(x, y * math.nan, steps=1), "y must be finite"),
        (lambda: model.learn(x[:1], y[:1], steps=1), "x must hold at least 2 samples"),
        (lambda: model.learn(x, y, steps=1, batch_size=1), "batch_size must be a whole number of at least 2"),
        (lambda: model.learn(x, y[:4], steps=1, batch_size=2), "equally many"),
        (lambda: model.bound(x, y, samples=0), "samples must be"),
        (lambda: model.importance(x, y, samples=0), "samples must be"),
        (lambda: model.futures(x, 0), "n must be"),
        (lambda: model.encode(y, y), r"x must be \(..., 3\)"),
        (lambda: model.energy(x, x, y), r"y must be \(..., 2\)"),
        (lambda: glo.learn(y[:1], steps=1), "y must hold at least 2 samples"),
        (lambda: glo.learn(y, steps=1, batch_size=1), "batch_size must be a whole number of at least 2"),
        (lambda: glo.learn(y, steps=1, codes=gauss(5, 2)), r"codes must be \(6, 2\)"),
        (lambda: glo.learn(y * math.inf, steps=1), "y must be finite"),
        (lambda: glo.energy(x, y, y), "a model with no x takes 2 arguments"),
        (lambda: GLO(2, 2, Dx=3, hidden=(4,)).infer(y), "a model with an x first takes 2 arguments"),
        (lambda: glo.free_energy(y, beta=1.0), "beta must be inf"),
        (lambda: GLO(2, 2, predictor=nn.Linear(1, 1)), "predictor needs an x"),
        (lambda: GLO(2, 2, radius=0.0), "radius must be"),
        (lambda: best_of(gauss(0, 2), gauss(2)), "futures must be"),
        (lambda: coverage(gauss(3, 2), gauss(3, 4), 1.0), "futures must be"),
        (lambda: coverage(gauss(3, 2), gauss(3, 2), 0.0), "tolerance must be"),
        (lambda: sharpness(gauss(3, 16), (5, 3)), "shape must be"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_meta_device_and_dtype():
    ghost = ConditionalVAE(3, 2, 1, beta=1.0, device="meta")
    assert ghost.bound(*(torch.zeros(5, n, device="meta") for n in (3, 2))).free_energy.shape == (5,)
    glo = GLO(3, 2, device="meta")
    assert glo.energy(torch.zeros(5, 3, device="meta"), torch.zeros(5, 2, device="meta")).shape == (5,)
    assert GLO(3, 2).sample(4).dtype == torch.float32
