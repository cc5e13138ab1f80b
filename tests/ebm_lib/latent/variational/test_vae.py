"""The variational auto-encoder: its bound against exact answers, its likelihood, learning and its cures, records."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from ebm_lib.energy import evaluate, grid, log_partition
from ebm_lib.free_energy import over_grid
from ebm_lib.latent import LatentModel
from ebm_lib.latent.variational import (
    VAE,
    CodePath,
    LinearGaussian,
    importance_bound,
    information_history,
    log_normal_density,
    variational_free_energy,
)
from ebm_lib.latent.variational.learning import bound_objective

F64 = torch.float64
PLANE = grid([-7.0, -7.0], [7.0, 7.0], 140, dtype=F64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gauss(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def small(D=4, L=2, beta=2.0, seed=0, **options):
    return VAE(D, L, beta=beta, hidden=(12,), generator=seeded(seed), dtype=F64, **options)


def linear_vae(oracle):
    """A VAE that is the linear-Gaussian model, encoder included: m linear in y, s constant, at its best."""
    D, L = oracle.W.shape
    encoder, decoder = nn.Linear(D, 2 * L, dtype=F64), nn.Linear(L, D, dtype=F64)
    with torch.no_grad():
        base, eye = oracle.encode(torch.zeros(1, D, dtype=F64)), torch.eye(D, dtype=F64)
        slopes = oracle.encode(eye).mean - base.mean
        encoder.weight.copy_(torch.cat([slopes.T, torch.zeros(L, D, dtype=F64)]))
        encoder.bias.copy_(torch.cat([base.mean[0], 2 * base.std[0].log()]))
        decoder.weight.copy_(oracle.W)
        decoder.bias.copy_(oracle.mean)
    return VAE(D, L, beta=oracle.beta, encoder=encoder, decoder=decoder)


def oracle(D=4, L=2, beta=1.5):
    model = LinearGaussian(D, L, beta=beta, generator=seeded(), dtype=F64)
    with torch.no_grad():
        model.W[:, 1] += 0.8 * model.W[:, 0]  # dimensions of z that depend on each other, given y
    return model


# ---- the energy and the bound


def test_energy_is_minus_the_log_likelihood_over_beta_up_to_its_constant():
    model, y, z = small(), gauss(6, 4), gauss(6, 2, seed=1)
    out = model.decode(z)
    normal = Normal(out, math.sqrt(1 / (2 * model.beta))).log_prob(y).sum(-1)
    torch.testing.assert_close(-model.beta * model.energy(y, z) - 2 * math.log(math.pi / 2), normal)
    crossed = small(cost="bernoulli", beta=1.0)
    bits = (y > 0).double()
    expected = Bernoulli(logits=crossed.decoder(z)).log_prob(bits).sum(-1)
    torch.testing.assert_close(-crossed.energy(bits, z), expected)
    torch.testing.assert_close(crossed.decode(z), crossed.decoder(z).sigmoid())
    soft = torch.rand(6, 4, generator=seeded(), dtype=F64)
    probability = crossed.decode(z)
    entropy = -(soft * probability.log() + (1 - soft) * (1 - probability).log()).sum(-1)
    torch.testing.assert_close(crossed.energy(soft, z), entropy)
    assert model.energy(y[:, None], z).shape == (6, 6)
    assert isinstance(model, LatentModel)


def test_a_linear_vae_has_the_oracles_bound_likelihood_and_free_energy():
    exact, y = oracle(), gauss(5, 4)
    model = linear_vae(exact)
    drawn = model.bound(y, samples=5000, generator=seeded())
    truth = exact.bound(y, *exact.encode(y))
    assert ((drawn.free_energy - truth.free_energy).abs() < 4.5 * drawn.error).all()
    torch.testing.assert_close(drawn.information.sum(-1), truth.information)
    found = model.log_density(y, samples=4000, widen=1.5, generator=seeded())
    assert ((found.value - exact.log_density(y)).abs() < 6 * found.error + 1e-3).all()
    torch.testing.assert_close(model(y, samples=4000, generator=seeded()), exact(y), rtol=0.03, atol=0.1)
    torch.testing.assert_close(model.infer(y, steps=400), exact.infer(y), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.free_energy(y, math.inf), exact.free_energy(y, math.inf), rtol=1e-6, atol=1e-6)


def test_bound_is_above_the_exact_free_energy_of_a_two_dimensional_latent():
    model, y = small(seed=4), gauss(30, 4)
    with torch.no_grad():
        model.decoder.linears[-1].weight *= 4
    exact = over_grid(model.energy, y, PLANE, model.beta, log_prior=log_normal_density(PLANE.points))
    drawn = model.bound(y, samples=2000, generator=seeded())
    assert (drawn.free_energy > exact - 4.5 * drawn.error).all()
    closer = model.importance(y, samples=20, repeats=200, generator=seeded())
    assert (closer.free_energy > exact - 4.5 * closer.error).all()
    assert (closer.free_energy < drawn.free_energy).all()
    assert (closer.free_energy - exact).mean() < 0.5 * (drawn.free_energy - exact).mean()
    other = model.importance(y, 0.7, samples=3000, generator=seeded())
    at = over_grid(model.energy, y, PLANE, 0.7, log_prior=log_normal_density(PLANE.points))
    assert ((other.free_energy - at).abs() < 6 * other.error + 1e-3).all()


def test_bound_is_the_function_of_energies_with_the_encoders_gaussian():
    model, y, noise = small(), gauss(6, 4), gauss(6, 9, 2, seed=2)
    found = model.bound(y, samples=9, noise=noise)
    expected = variational_free_energy(model.energy, y, *model.encode(y), model.beta, samples=9, noise=noise)
    torch.testing.assert_close(found.free_energy, expected.free_energy)
    torch.testing.assert_close(found.information.sum(-1), expected.information)
    torch.testing.assert_close(found.error, expected.error)
    each = kl_divergence(Normal(*model.encode(y)), Normal(torch.zeros(2, dtype=F64), torch.ones(2, dtype=F64)))
    torch.testing.assert_close(found.information, each)


def test_error_bars_and_the_wider_proposal_are_those_of_the_functions_of_energies():
    model, y, noise = small(), gauss(6, 4), gauss(6, 9, 2, seed=2)
    mean, std = model.encode(y)
    drawn = model.bound(y, samples=9, noise=noise, analytic=False)
    z = mean[:, None] + std[:, None] * noise
    ratio = log_normal_density(z, mean[:, None], std[:, None]) - log_normal_density(z)
    terms = (model.energy(y[:, None], z) + ratio / 2).detach()
    torch.testing.assert_close(drawn.free_energy.detach(), terms.mean(-1))
    torch.testing.assert_close(drawn.error, terms.std(-1) / 3)
    found = model.importance(y, samples=9, widen=1.5, repeats=2, generator=seeded())
    expected = importance_bound(model.energy, y, mean, 1.5 * std, 2.0, samples=9, repeats=2, generator=seeded())
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    density = model.log_density(y, samples=9, widen=1.5, repeats=2, generator=seeded())
    torch.testing.assert_close(density.value, -2 * found.free_energy - 2 * math.log(math.pi / 2))
    torch.testing.assert_close(density.error, 2 * found.error)


def test_sampled_information_agrees_with_the_closed_form_in_value_and_gradient():
    model, y = small(), gauss(3, 4)
    with torch.no_grad():
        model.encoder.linears[-1].bias += torch.tensor([1.0, -0.5, 0.8, -1.5], dtype=F64)
    drawn = model.bound(y, samples=20_000, generator=seeded(), analytic=False)
    exact = model.bound(y, samples=20_000, generator=seeded())
    assert ((drawn.free_energy - exact.free_energy).abs() < 4.5 * (drawn.error + exact.error)).all()
    weights = list(model.encoder.parameters())
    for a, b in zip(
        torch.autograd.grad(drawn.information.sum(), weights),
        torch.autograd.grad(exact.information.sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.05)


def test_gradient_of_the_bound_by_finite_differences():
    model, y, noise = small(), gauss(2, 4), gauss(2, 3, 2, seed=2)
    for weight in (model.encoder.linears[0].weight, model.decoder.linears[0].weight):
        value = model.bound(y, samples=3, noise=noise).free_energy.sum()
        (slope,) = torch.autograd.grad(value, weight)
        step = 1e-5
        with torch.no_grad():
            ends = []
            for sign in (1, -1):
                weight[0, 0] += sign * step
                ends.append(model.bound(y, samples=3, noise=noise).free_energy.sum().item())
                weight[0, 0] -= sign * step
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope[0, 0].item(), rel=1e-5)


def test_the_model_integrates_to_one():
    model = VAE(2, 1, beta=3.0, hidden=(8,), generator=seeded(), dtype=F64)
    box = grid([-5.0, -5.0], [5.0, 5.0], 60, dtype=F64)
    line = grid([-8.0], [8.0], 200, dtype=F64)
    values = over_grid(model.energy, box.points, line, 3.0, log_prior=log_normal_density(line.points))
    total = log_partition(values, 3.0, log_volume=box.log_cell)
    assert total.item() == pytest.approx(math.log(math.pi / 3), abs=1e-6)
    estimates = model.log_density(box.points, samples=300, generator=seeded()).value
    assert estimates.exp().sum().item() * math.exp(box.log_cell) == pytest.approx(1, abs=0.02)
    crossed = VAE(3, 1, beta=1.0, hidden=(8,), cost="bernoulli", generator=seeded(), dtype=F64)
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=F64)] * 3)
    masses = crossed.log_density(corners, samples=4000, generator=seeded()).value.exp()
    assert masses.sum().item() == pytest.approx(1, abs=0.02)


def test_blocks_change_nothing():
    model, y = small(), gauss(7, 3, 4)
    with pytest.raises(ValueError, match="widen must be"):
        model.importance(y, widen=0.0)
    whole = model.importance(y, samples=11, generator=seeded(), block_size=21)
    assert whole.free_energy.shape == (7, 3)
    parts = model.importance(y, samples=4000, generator=seeded(), block_size=5)
    big = model.importance(y, samples=4000, generator=seeded(1))
    assert ((parts.free_energy - big.free_energy).abs() < 5 * (parts.error + big.error)).all()


# ---- learning


def blobs(n=256, seed=0):
    centre = torch.randint(0, 4, (n,), generator=seeded(seed))
    places = torch.tensor([[2.0, 2, 0, 0], [-2, 2, 0, 0], [0, 0, 2, -2], [0, 0, -2, -2]], dtype=F64)
    return places[centre] + 0.1 * gauss(n, 4, seed=seed)


def test_learning_a_linear_vae_reaches_the_exact_maximum_likelihood():
    y = oracle().sample(600, generator=seeded(2))
    best = LinearGaussian(4, 2, dtype=F64)
    best.learn(y)
    model = VAE(
        4,
        2,
        beta=best.beta,
        encoder=nn.Linear(4, 4, dtype=F64),
        decoder=nn.Linear(2, 4, dtype=F64),
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=seeded(7), dtype=F64))
    model.learn(y, steps=250, batch_size=None, lr=0.03, samples=4, generator=seeded())
    model.learn(y, steps=100, batch_size=None, lr=0.003, samples=8, generator=seeded())
    bound = model.bound(y, samples=400, generator=seeded()).free_energy.mean().item()
    exact = best(y).mean().item()
    # Dai and Wipf: at its best the bound of a linear VAE is tight.
    assert exact - 0.01 < bound < exact + 0.05


def test_history_records_true_information_of_each_dimension_and_the_loss_is_the_bound():
    model, y = small(), blobs()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, 30)
    options = {"optimizer": optimizer, "scheduler": schedule, "generator": seeded()}
    history = model.learn(y, steps=30, batch_size=64, **options)
    assert schedule.get_last_lr()[0] < 1e-4
    terms = information_history(history)
    assert terms.shape == (30, 2)
    torch.testing.assert_close(terms.sum(-1), torch.tensor(history.metrics["information"]))
    loss = torch.tensor(history.metrics["energy"]) + torch.tensor(history.metrics["information"]) / model.beta
    torch.testing.assert_close(loss, torch.tensor(history.loss))
    assert history.loss[-1] < history.loss[0]


def test_without_the_spring_the_balls_fly_apart_and_with_it_they_do_not():
    y, ends = blobs(), {}
    for spring in (0.0, 1.0):
        model = small(beta=5.0)
        model.learn(y, steps=400, lr=0.01, spring=spring, generator=seeded())
        mean, std = model.encode(y)
        ends[spring] = mean.square().sum(-1).mean().item(), std.mean().item()
    assert ends[0.0][0] > 3 * ends[1.0][0]
    assert ends[1.0][0] < 2 * 2  # at most a bit above the prior's mean square, 1 per dimension
    assert ends[0.0][1] > ends[1.0][1]  # far apart, they can afford the size they like best


def test_neither_spring_nor_size_is_an_auto_encoder_whose_balls_shrink_to_points():
    y = blobs()
    model, other = small(beta=5.0), small(beta=5.0)
    model.learn(y, steps=300, lr=0.01, spring=0.0, size=0.0, generator=seeded())
    other.learn(y, steps=300, lr=0.01, generator=seeded())
    assert model.encode(y).std.mean() < 0.5 * other.encode(y).std.mean()
    assert model.bound(y, generator=seeded()).mean_energy.mean() < other.bound(y, generator=seeded()).mean_energy.mean()


def test_low_beta_collapses_free_bits_and_warm_up_cure():
    y = blobs()
    collapsed = small(L=3, beta=0.05)
    collapsed.learn(y, steps=400, lr=0.01, generator=seeded())
    assert not collapsed.active_units(y).active.any()
    assert collapsed.bound(y, generator=seeded()).information.sum(-1).mean() < 0.05
    freed = small(L=3, beta=0.05)
    freed.learn(y, steps=400, lr=0.01, free_bits=0.5, generator=seeded())
    information = freed.bound(y, generator=seeded()).information.mean(0)
    assert (information > 0.3).all()
    assert freed.active_units(y).active.all()
    warm = small(L=3, beta=0.05)
    history = warm.learn(y, steps=100, lr=0.01, warmup=1000, generator=seeded())
    assert information_history(history)[-1].sum() > 1  # the price has hardly begun to rise


def test_the_objective_is_what_its_docstring_says():
    mean, std = gauss(5, 2), gauss(5, 2, seed=1).exp()
    energy = lambda z: z.square().sum(-1)

    def loss_of(**options):
        return bound_objective(2.0, samples=6, generator=seeded(), **options)[0](energy, mean, std)["loss"]

    z = mean[:, None] + std[:, None] * gauss(5, 6, 2)
    E = energy(z)
    spring, size = mean.square() / 2, (std.square() - 1) / 2 - std.log()
    torch.testing.assert_close(loss_of(), E.mean() + (spring + size).mean(0).sum() / 2)
    torch.testing.assert_close(loss_of(spring=0.3, size=0.7), E.mean() + (0.3 * spring + 0.7 * size).mean(0).sum() / 2)
    parts = bound_objective(2.0, samples=6, spring=0.3, size=0.7, generator=seeded())[0](energy, mean, std)
    torch.testing.assert_close(parts["information"], (spring + size).mean(0).sum())  # the true one, whatever the price
    torch.testing.assert_close(parts["information_1"], (spring + size)[:, 1].mean())
    torch.testing.assert_close(parts["energy"], E.mean())
    torch.testing.assert_close(loss_of(free_bits=9.0), E.mean() + 2 * 9.0 / 2)
    each = (spring + size).mean(0)
    free = each.mean().item()  # between the two dimensions' own: one is raised to it, the other is not
    raised = (free + each.max()) / 2
    torch.testing.assert_close(loss_of(free_bits=free), E.mean() + raised)
    objective, clock = bound_objective(2.0, samples=6, generator=seeded(), warmup=4)
    for step in range(6):
        objective_z = objective(lambda z: 0 * z.sum(-1), mean, std)["loss"]
        torch.testing.assert_close(objective_z, min(1.0, step / 4) * (spring + size).mean(0).sum() / 2)
    assert clock.step == 6
    log_q = log_normal_density(z, mean[:, None], std[:, None])
    weights = (log_normal_density(z) - log_q - 2 * E).exp()
    torch.testing.assert_close(loss_of(importance=True), -(weights.mean(-1).log() / 2).mean())


def test_importance_weighted_learning_gains_likelihood():
    y = blobs(400)
    values = {}
    for importance in (False, True):
        model = small(beta=3.0, seed=2)
        options = {"steps": 250, "lr": 0.02, "batch_size": 100, "generator": seeded(3)}
        model.learn(y, samples=8, importance=importance, **options)
        values[importance] = model.log_density(y, samples=500, generator=seeded()).value.mean().item()
    assert values[True] > values[False]


def test_an_interrupted_warm_up_goes_on_where_it_was(tmp_path):
    y, options = blobs(), {"lr": 0.01, "batch_size": 64, "warmup": 40}
    whole = small()
    record = whole.learn(y, steps=30, generator=seeded(), **options)
    parts = small()
    place = tmp_path / "run.pt"
    parts.learn(y, steps=15, generator=seeded(), checkpoint=place, **options)
    resumed = small()
    again = resumed.learn(y, steps=30, generator=seeded(), checkpoint=place, **options)
    assert again.loss == record.loss
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_path_of_the_codes_follows_learning():
    model, y = small(), blobs(12)
    path = CodePath(model, y, every=10, generator=seeded())
    first, noise = model.encode(y), gauss(12, 2)
    start = model.energy(y, first.mean + first.std * noise).detach()
    model.learn(blobs(), steps=25, generator=seeded(), callback=path)
    assert path.steps == [0, 10, 20]
    torch.testing.assert_close(path.energy[0], start)
    model.learn(blobs(), steps=30, generator=seeded(1), callback=path)
    assert path.steps == [0, 10, 20, 10, 20, 30]
    torch.testing.assert_close(path.energy[-1], model.energy(y, path.mean[-1] + path.std[-1] * noise).detach())
    torch.testing.assert_close(path.mean[0], first.mean.detach())
    torch.testing.assert_close(path.std[0], first.std.detach())
    assert path.energy.shape == (6, 12)
    assert not torch.equal(path.mean[1], path.mean[2])
    expected = kl_divergence(
        Normal(path.mean, path.std), Normal(torch.zeros(2, dtype=F64), torch.ones(2, dtype=F64))
    ).mean(1)
    torch.testing.assert_close(path.information, expected)


# ---- samples and units


def test_samples_have_the_models_moments():
    exact = oracle()
    model = linear_vae(exact)
    y = model.sample(60_000, generator=seeded())
    expected = exact.W.detach() @ exact.W.detach().T + torch.eye(4, dtype=F64) / 3
    torch.testing.assert_close(torch.cov(y.T), expected, rtol=0.05, atol=0.05)
    clean = model.sample(60_000, noise=False, generator=seeded())
    torch.testing.assert_close(torch.cov(clean.T), expected - torch.eye(4, dtype=F64) / 3, rtol=0.05, atol=0.05)
    crossed = small(cost="bernoulli", beta=1.0)
    bits = crossed.sample(4000, generator=seeded())
    assert set(bits.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(
        bits.mean(0), crossed.sample(4000, noise=False, generator=seeded(1)).mean(0), rtol=0, atol=0.05
    )


def test_bits_are_drawn_each_on_its_own_given_the_code():
    model = small(cost="bernoulli", beta=1.0)
    with torch.no_grad():
        model.decoder.linears[-1].weight *= 6  # so that they do depend on each other through the code
    bits, clean = (model.sample(40_000, noise=noise, generator=seeded(int(noise))) for noise in (True, False))
    together, expected = (v.T @ v / len(v) for v in (bits, clean))
    off = ~torch.eye(4, dtype=torch.bool)
    torch.testing.assert_close(together[off], expected[off], rtol=0, atol=0.015)


def test_active_units_are_those_whose_mean_varies():
    model, y = small(L=3), blobs()
    with torch.no_grad():
        model.encoder.linears[-1].weight *= 5
        model.encoder.linears[-1].weight[1] = 0
    found = model.active_units(y)
    assert found.active.tolist() == [True, False, True]
    torch.testing.assert_close(found.variance, model.encode(y).mean.detach().var(0))
    assert model.active_units(y, threshold=1e9).active.sum() == 0


# ---- devices and bad input


def test_meta_device_dtype_and_energy_contract():
    ghost = VAE(4, 2, beta=1.0, device="meta")
    assert ghost.bound(torch.zeros(3, 4, device="meta")).free_energy.shape == (3,)
    assert ghost.importance(torch.zeros(3, 4, device="meta"), samples=5).free_energy.shape == (3,)
    single = VAE(4, 2, beta=1.0, hidden=(8,))
    assert single.bound(torch.zeros(3, 4)).free_energy.dtype == torch.float32
    assert evaluate(small(), gauss(5, 4)).shape == (5,)


def test_bad_input_is_named():
    model, y = small(), gauss(6, 4)
    for call, message in (
        (lambda: VAE(4, 2, beta=0.0), "beta must be a positive"),
        (lambda: VAE(4, 0, beta=1.0), "L must be"),
        (lambda: VAE(4, 2, beta=1.0, cost="absolute"), "cost must be one of bernoulli, squared"),
        (lambda: model.bound(y, samples=0), "samples must be"),
        (lambda: model.importance(y, samples=0), "samples must be"),
        (lambda: model.bound(y * math.nan), "y must be finite"),
        (lambda: model.bound(y[:, :3]), r"y must be \(..., 4\)"),
        (lambda: model.decode(y), r"z must be \(..., 2\)"),
        (lambda: model.learn(y[:1], steps=2), "y must hold at least 2 samples"),
        (lambda: model.learn(y, steps=2, batch_size=1), "batch_size must be a whole number of at least 2"),
        (lambda: model.learn(y, steps=2, batch_size=4, samples=0), "samples must be"),
        (lambda: model.learn(y, steps=2, free_bits=-1.0), "free_bits must be"),
        (lambda: model.learn(y, steps=2, importance=True, warmup=3), "importance weighs energy and information"),
        (lambda: model.learn(y * math.inf, steps=2), "y must be finite"),
        (lambda: model.active_units(y[:1]), "y must hold at least 2 samples"),
        (lambda: model.sample(0), "n must be"),
        (lambda: small(cost="bernoulli").energy(2 * y, y[:, :2]), r"y must lie in \[0, 1\]"),
        (lambda: small(cost="bernoulli").log_density(y.sigmoid()), "beta must be 1"),
        (lambda: small(cost="bernoulli", beta=1.0).log_density(y.sigmoid()), "zeros and ones only"),
        (lambda: VAE(4, 2, beta=1.0, encoder=nn.Linear(4, 3)).encode(torch.zeros(1, 4)), "encoder must return"),
        (lambda: VAE(4, 2, beta=1.0, decoder=nn.Linear(2, 3)).decode(torch.zeros(1, 2)), "decoder must return"),
        (lambda: CodePath(model), "observed must hold"),
        (lambda: information_history(type("H", (), {"metrics": {}})()), "history must record"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
