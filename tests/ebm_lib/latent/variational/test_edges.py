"""Variational models at their edges: no samples, shapes that would broadcast, priors with an edge, resumed runs."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from ebm_lib.energy import grid
from ebm_lib.free_energy import over_grid
from ebm_lib.latent.variational import (
    GLO,
    VAE,
    CodePath,
    ConditionalVAE,
    LinearGaussian,
    best_gaussian,
    best_of,
    bound_on_grid,
    coverage,
    descend,
    gaussian_kl,
    importance_bound,
    log_normal_density,
    project_ball,
    quadratic_free_energy,
    reparameterize,
    sharpness,
    variational_free_energy,
)

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gauss(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def bowl(y, z):
    return (y - z).square().sum(-1)


def square(z):
    """The uniform density on [-1, 1]²."""
    return torch.where((z.abs() <= 1).all(-1), -math.log(4.0), -math.inf).to(z.dtype)


# ---- none, one and shared


def test_no_samples_give_no_numbers():
    none, q = gauss(0, 2), (gauss(0, 2), gauss(0, 2).exp())
    plane = grid([-5.0] * 2, [5.0] * 2, 20, dtype=F64)
    vae = VAE(2, 2, beta=1.0, hidden=(4,), dtype=F64)
    several = ConditionalVAE(2, 2, 2, beta=1.0, hidden=(4,), dtype=F64)
    glo = GLO(2, 2, hidden=(4,), dtype=F64)
    for found in (
        gaussian_kl(*q),
        variational_free_energy(bowl, none, *q, 1.0).free_energy,
        importance_bound(bowl, none, *q, 1.0, samples=3).free_energy,
        bound_on_grid(bowl, none, *q, 1.0, plane).gap,
        LinearGaussian(2, 1, dtype=F64)(none),
        vae(none),
        vae(none, math.inf),
        vae.bound(none).free_energy,
        vae.log_density(none, repeats=2).error,
        several(none, none),
        glo(none),
    ):
        assert found.shape == (0,)
    assert vae.importance(gauss(3, 0, 2), samples=2).effective_samples.shape == (3, 0)
    assert vae(gauss(2)).shape == ()


def test_one_q_for_all_samples_has_parts_of_their_shape():
    y, q = gauss(5, 2), (gauss(2), gauss(2, seed=1).exp())
    for parts in (variational_free_energy(bowl, y, *q, 2.0, samples=3), quadratic_free_energy(bowl, y, *q, 2.0)):
        assert {part.shape for part in parts} == {(5,)}
    whole = variational_free_energy(bowl, y, *(v.expand(5, 2) for v in q), 2.0, noise=gauss(1, 2))
    alone = variational_free_energy(bowl, y, *q, 2.0, noise=gauss(1, 2))
    for a, b in zip(whole, alone, strict=True):
        torch.testing.assert_close(a, b)


def test_half_precision_descends_and_draws_rare_ones():
    start = torch.full((3, 2), 4.0, dtype=torch.float16)
    assert descend(lambda z: (z - 1).square().sum(-1), start).sub(1).abs().max() < 0.01
    rare = VAE(1, 1, beta=1.0, cost="bernoulli", decoder=nn.Linear(1, 1), dtype=torch.bfloat16)
    rare.decoder.to(torch.bfloat16)
    with torch.no_grad():
        rare.decoder.weight.zero_()
        rare.decoder.bias.fill_(-9.0)  # one in 8000, far below bfloat16's step of 1/256
    assert rare.sample(20_000, generator=seeded()).float().mean() < 1e-3


def test_a_point_whose_square_overflows_is_projected_onto_the_sphere():
    far = torch.tensor([[3e30, -4e30], [0.3, 0.4], [0.0, 0.0]], requires_grad=True)
    held = project_ball(far, radius=2.0)
    torch.testing.assert_close(held.detach(), torch.tensor([[1.2, -1.6], [0.3, 0.4], [0.0, 0.0]]))
    (slope,) = torch.autograd.grad(held.sum(), far)
    torch.testing.assert_close(slope, torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]))
    # A constant slope never tells a curvature: the rate grows to its limit, and the minimum is on the ball's edge.
    edge = descend(lambda z: 1e3 * z[..., 0], torch.zeros(1, 2), steps=200, project=project_ball)
    torch.testing.assert_close(edge, torch.tensor([[-1.0, 0.0]]))


def test_a_step_is_taken_only_if_it_descends_enough():
    one = torch.ones(1, 1, dtype=F64)
    for steepness in (1.0, 400.0):  # the first step, of rate 1, lands as high as the start, or higher
        bowl = lambda z, k=steepness: k * z.square().sum(-1)
        assert torch.equal(descend(bowl, one, steps=1), one)
        heights = [bowl(descend(bowl, one, steps=steps)).item() for steps in range(1, 15)]
        assert all(after <= before for before, after in pairwise(heights))
        assert heights[-1] < 1e-6
    shallow = descend(lambda z: 1e-6 * (z - 1000).square().sum(-1), one)
    torch.testing.assert_close(shallow, 1000 * one)
    held = descend(lambda z: 0 * z.sum(-1), 5 * one, steps=1, project=lambda z: z.clamp(max=2))
    assert held.item() == 2  # also a start outside


# ---- priors with an edge


def test_a_prior_may_exclude_codes_from_an_importance_weighted_average():
    y, q = gauss(4, 2), (gauss(4, 2) / 3, torch.full((4, 2), 0.8, dtype=F64))
    box = grid([-1.0] * 2, [1.0] * 2, 100, dtype=F64)
    exact = over_grid(bowl, y, box, 2.0, log_prior=square(box.points))
    found = importance_bound(bowl, y, *q, 2.0, samples=4000, log_prior=square, generator=seeded())
    assert ((found.free_energy - exact).abs() < 5 * found.error).all()
    assert (found.error < 0.05).all()
    with pytest.raises(ValueError, match="at every draw of q that the prior allows"):
        importance_bound(bowl, y, q[0] + 99, q[1], 2.0, samples=5, log_prior=square)
    with pytest.raises(ValueError, match="log_prior must be finite"):  # the information of q would be infinite
        variational_free_energy(bowl, y, *q, 2.0, samples=50, log_prior=square, generator=seeded())
    with pytest.raises(ValueError, match="log_prior must be finite"):
        bound_on_grid(bowl, y, q[0], q[1], 2.0, grid([-6.0] * 2, [6.0] * 2, 100, dtype=F64), log_prior=square)


# ---- models


def test_interrupted_glo_goes_on_where_it_was_codes_included(tmp_path):
    y, options = gauss(40, 4), {"batch_size": 10, "code_lr": 0.05}

    def new():
        return GLO(4, 2, hidden=(8,), generator=seeded(1), dtype=F64)

    whole, half, resumed = new(), new(), new()
    record = whole.learn(y, steps=20, generator=seeded(2), **options)
    half.learn(y, steps=10, generator=seeded(2), checkpoint=tmp_path / "run.pt", **options)
    again = resumed.learn(y, steps=20, generator=seeded(2), checkpoint=tmp_path / "run.pt", **options)
    assert again.loss == record.loss
    assert torch.equal(resumed.codes, whole.codes)
    assert not torch.equal(resumed.codes, half.codes)


def test_loading_codes_keeps_the_parameter_an_optimizer_holds():
    model = GLO(4, 2, hidden=(8,), dtype=F64)
    model.learn(gauss(6, 4), steps=2, batch_size=2)
    held, state = model.codes, {name: 2 * w for name, w in model.state_dict().items()}
    model.load_state_dict(state)
    assert model.codes is held
    torch.testing.assert_close(held.detach(), state["codes"])


def test_a_decoder_without_layers_is_a_decoder():
    model = GLO(2, 2, decoder=nn.Sequential(), dtype=F64)
    z = gauss(5, 2)
    assert model.decode(z) is z
    several = GLO(2, 2, Dx=2, features=2, predictor=nn.Sequential(), decoder=nn.Linear(4, 2, dtype=F64), dtype=F64)
    assert several.predictor(z) is z


def test_inference_from_the_centre_leaves_the_global_generator_alone():
    model, before = GLO(2, 2, hidden=(4,), dtype=F64), torch.get_rng_state()
    model(gauss(3, 2))
    assert torch.equal(before, torch.get_rng_state())


def test_data_out_of_range_are_refused_before_anything_is_learned():
    y = torch.rand(64, 3, generator=seeded(), dtype=F64)
    y[-1] = 2  # not in the first batch
    model = VAE(3, 1, beta=1.0, hidden=(4,), cost="bernoulli", generator=seeded(), dtype=F64)
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(ValueError, match=r"y must lie in \[0, 1\]"):
        model.learn(y, steps=60, batch_size=2, generator=seeded())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_shapes_that_would_broadcast_to_something_else_are_refused():
    one, x, y, z = nn.Linear(7, 1, dtype=F64), gauss(6, 3), gauss(6, 4), gauss(6, 2)
    narrow = ConditionalVAE(3, 4, 2, beta=1.0, features=5, hidden=(4,), decoder=one, dtype=F64)
    several = ConditionalVAE(3, 4, 2, beta=1.0, features=5, hidden=(4,), dtype=F64)
    oracle, std = LinearGaussian(4, 2, dtype=F64), torch.ones(6, 2, dtype=F64)
    for call, message in (
        (
            lambda: gaussian_kl(z, std[:4]),
            r"mean and std must broadcast, got shapes \(6, 2\) and \(4, 2\)",
        ),
        (lambda: gaussian_kl(z[:, :1], std[:, :1], torch.zeros(3)), r"prior_mean must be \(..., 1\)"),
        (lambda: gaussian_kl(z, std, None, std[:, :1]), r"prior_std must be \(..., 2\)"),
        (lambda: gaussian_kl(z, std, z[:4]), "leading dimensions of mean and std and prior_mean"),
        (lambda: gaussian_kl(z, std, None, std[:4]), "leading dimensions of mean and std and prior_std"),
        (lambda: reparameterize(z, std, noise=z[:4]), "leading dimensions of noise and codes"),
        (lambda: log_normal_density(z[:4], z, std), "leading dimensions of z and mean and std"),
        (lambda: best_gaussian(bowl, z[:4], z, std, 1.0), "leading dimensions of mean and std and y"),
        (lambda: importance_bound(bowl, z, z, std, 1.0, samples=3, log_prior=lambda z: z), "log_prior must return one"),
        (lambda: descend(lambda z: z.sum(-1), z, project=lambda z: z[..., :1]), "project must return z's own shape"),
        (lambda: oracle.gap(y, z[:, :1], std[:, :1]), r"mean must be \(..., 2\)"),
        (lambda: narrow.energy(x, y, z), r"decoder must return \(6, 4\), got \(6, 1\)"),
        (lambda: GLO(4, 2, decoder=nn.Linear(2, 1, dtype=F64)).energy(y, z), r"decoder must return \(6, 4\)"),
        (lambda: several.energy(x[:5], y, z), "leading dimensions of x and z must broadcast"),
        (lambda: several.encode(x[:5], y), "leading dimensions of x and y must broadcast"),
        (lambda: several.futures(torch.ones(2, 3, dtype=torch.int64), 3), "x must be floating point"),
        (lambda: GLO(4, 2, Dx=3, hidden=(4,), dtype=F64).infer(x[:5], y), "leading dimensions of y and x"),
        (lambda: best_of(gauss(5, 3, 2), gauss(4, 2)), "leading dimensions of futures and truths"),
        (lambda: best_of(gauss(5, 3, 2), torch.tensor(1.0)), "y must be"),
        (lambda: coverage(gauss(5, 3, 2), gauss(5, 0, 2), 1.0), "futures must be"),
        (lambda: sharpness(gauss(5, 16), (-4, -4)), "shape must be"),
        (lambda: CodePath(VAE(4, 2, beta=1.0, dtype=F64), y[:0]), r"observed\[0\] must hold at least one"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
