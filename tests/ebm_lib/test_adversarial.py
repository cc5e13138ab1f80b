"""Adversarial losses against their equilibria on small tables, linear programs, loops in plain Python and torch."""

import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linprog
from scipy.stats import wasserstein_distance

from ebm_lib import adversarial as adv
from ebm_lib import data
from ebm_lib.losses import energy_loss
from ebm_lib.nn import EnergyMLP

F64 = torch.float64


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def table(size, seed):
    return torch.softmax(numbers(size, seed=seed), 0)


def slopes(loss, *energies):
    leaves = [e.clone().requires_grad_() for e in energies]
    return torch.autograd.grad(loss(*leaves).sum(), leaves)


# ---- GAN


def test_gan_losses_are_logistic_regression_on_minus_the_energy():
    positive, negative = 3 * numbers(50), 3 * numbers(50, seed=1)
    logistic = F.binary_cross_entropy_with_logits
    data_term = logistic(-positive, torch.ones_like(positive), reduction="none")
    fake_term = logistic(-negative, torch.zeros_like(negative), reduction="none")
    torch.testing.assert_close(adv.gan_critic(positive, negative), data_term + fake_term)
    taken_for_data = logistic(-negative, torch.ones_like(negative), reduction="none")
    torch.testing.assert_close(adv.gan_generator(negative), taken_for_data)
    torch.testing.assert_close(adv.gan_generator(negative, saturating=True), -fake_term)
    # the minimax game: what the generator gains with the saturating loss the critic loses
    total = adv.gan_critic(positive, negative) + adv.gan_generator(negative, saturating=True)
    torch.testing.assert_close(total, data_term)


def test_gan_slopes_and_where_the_generators_die():
    positive, negative = numbers(9), numbers(9, seed=1)
    down, up = slopes(adv.gan_critic, positive, negative)
    torch.testing.assert_close(down, torch.sigmoid(positive))
    torch.testing.assert_close(up, -torch.sigmoid(-negative))
    seen_through = torch.tensor([20.0], dtype=F64)
    (steep,) = slopes(adv.gan_generator, seen_through)
    (dead,) = slopes(lambda e: adv.gan_generator(e, saturating=True), seen_through)
    assert steep.item() == pytest.approx(1 / (1 + math.exp(-20)), rel=1e-12)
    assert dead.item() == pytest.approx(1 / (1 + math.exp(20)), rel=1e-12)
    huge = torch.tensor([1e4, -1e4], dtype=F64)
    assert adv.gan_critic(huge, huge.flip(0)).tolist() == [2e4, 0.0]
    assert adv.gan_generator(huge).tolist() == [1e4, 0.0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_best_gan_critic_is_the_log_ratio_and_its_value_the_jensen_shannon_divergence(seed):
    p, q = table(7, seed), table(7, seed + 10)
    zero = torch.zeros(7, dtype=F64)
    expected = lambda energy: p @ adv.gan_critic(energy, zero) + q @ adv.gan_critic(zero, energy) - math.log(4)
    best = q.log() - p.log()
    (slope,) = slopes(expected, best)
    assert slope.abs().max() < 1e-12
    mid = (p + q) / 2
    js = (p @ (p / mid).log() + q @ (q / mid).log()) / 2
    assert expected(best).item() == pytest.approx(math.log(4) - 2 * js.item(), rel=1e-12)
    for other in (numbers(7, seed=seed + 20), -best, best + 0.1):
        assert expected(other) > expected(best)


def test_at_the_gan_equilibrium_the_critic_is_flat_and_the_value_log_four():
    flat = torch.zeros(5, dtype=F64)
    assert adv.gan_critic(flat, flat).tolist() == pytest.approx([math.log(4)] * 5, rel=1e-12)
    (push,) = slopes(adv.gan_generator, flat)
    assert push.tolist() == [0.5] * 5  # the generator is pushed alike everywhere: no point is better than another


# ---- energy-based GAN


def test_ebgan_critic_by_hand_and_its_slopes():
    positive = torch.tensor([0.0, 0.5, 2.0, 1.0], dtype=F64)
    negative = torch.tensor([0.2, 1.5, 0.0, 2.0], dtype=F64)
    assert adv.ebgan_critic(positive, negative, 1.5).tolist() == pytest.approx([1.3, 0.5, 3.5, 1.0])
    down, up = slopes(lambda p, n: adv.ebgan_critic(p, n, 1.5), positive[1:], negative[1:])
    assert (down.tolist(), up.tolist()) == ([1.0, 1.0, 1.0], [0.0, -1.0, 0.0])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ebgan_best_response_and_equilibrium_on_a_table(seed):
    m, p, q = 1.7, table(6, seed), table(6, seed + 10)

    def value(energy, q):
        pairs = adv.ebgan_critic(energy[:, None], energy[None], m)  # every data point against every generated one
        return (p[:, None] * q[None] * pairs).sum().item()

    best = m * (p < q).to(F64)  # up to the margin where the generator is too dense, down elsewhere
    assert value(best, q) == pytest.approx(m * torch.minimum(p, q).sum().item(), rel=1e-12)
    for s in range(20):
        assert value(2 * numbers(6, seed=s).abs(), q) > value(best, q)
    for constant in (0.0, 0.4, m):  # q = p: any constant up to m, value m; the generator cannot lower a constant
        assert value(torch.full((6,), constant, dtype=F64), p) == pytest.approx(m, rel=1e-12)
    assert value(torch.full((6,), m + 0.3, dtype=F64), p) == pytest.approx(m + 0.3)
    against_flat = slopes(lambda e: q @ energy_loss(e), torch.full((6,), 0.4, dtype=F64))[0]
    torch.testing.assert_close(against_flat, q)


def test_pulling_away_by_a_loop_and_at_its_extremes():
    codes = numbers(2, 5, 3)
    for batch, value in zip(codes, adv.pulling_away(codes), strict=True):
        cosines = [
            (batch[i] @ batch[j] / batch[i].norm() / batch[j].norm()).item() ** 2
            for i in range(5)
            for j in range(5)
            if i != j
        ]
        assert value.item() == pytest.approx(sum(cosines) / 20, rel=1e-12)
    assert adv.pulling_away(torch.eye(4, dtype=F64) * 7).item() == pytest.approx(0, abs=1e-15)
    parallel = torch.tensor([[1.0, 2.0], [-2.0, -4.0], [0.5, 1.0]], dtype=F64)
    assert adv.pulling_away(parallel).item() == pytest.approx(1)
    close = torch.tensor([[1.0, 0.0], [1.0, 0.1]], dtype=F64)
    (slope,) = slopes(adv.pulling_away, close)
    assert adv.pulling_away(close - 0.1 * slope) < adv.pulling_away(close)


def test_pulling_aways_slopes_are_those_of_differences():
    assert torch.autograd.gradcheck(adv.pulling_away, numbers(2, 4, 3).requires_grad_())


@pytest.mark.parametrize("scale", [1e-30, 1e-25, 1e25])
def test_pulling_away_does_not_depend_on_lengths(scale):
    codes = numbers(2, 4, 3).float()
    torch.testing.assert_close(adv.pulling_away(scale * codes), adv.pulling_away(codes))
    mixed = codes * torch.tensor([scale, 1.0, 1 / scale, 2.0])[:, None]  # each code has its own
    torch.testing.assert_close(adv.pulling_away(mixed), adv.pulling_away(codes))


# ---- Wasserstein GAN


def test_the_best_wasserstein_critic_of_slope_one_has_minus_the_distance():
    places = torch.tensor([0.0, 0.3, 1.1, 2.0, 2.4, 4.0], dtype=F64)
    p, q = table(6, 3), table(6, 4)
    # minimise the mean loss, linear in the energies, over all energies of slope at most 1 between neighbours
    cost = torch.stack([(p * row - q * row).sum() for row in torch.eye(6, dtype=F64)])
    step = torch.diff(torch.eye(6, dtype=F64), dim=0)
    gap = torch.diff(places)
    above, below = torch.cat([step, -step]).numpy(), torch.cat([gap, gap]).numpy()
    limits = linprog(cost.numpy(), above, below, bounds=[(0, 0)] + [(None, None)] * 5)
    best = torch.as_tensor(limits.x)
    mean = lambda energy: (p[:, None] * q[None] * adv.wgan_critic(energy[:, None], energy[None])).sum().item()
    assert mean(best) == pytest.approx(-wasserstein_distance(places, places, p, q), abs=1e-9)
    assert mean(2 * best) == pytest.approx(2 * mean(best))  # without the bound there is no end to it
    assert [s.tolist() for s in slopes(adv.wgan_critic, p, q)] == [[1.0] * 6, [-1.0] * 6]


def test_two_gaussians_of_one_shape_are_as_far_apart_as_their_means():
    shift = torch.tensor([3.0, 4.0], dtype=F64)
    y = numbers(200, 2)
    y_hat = y[torch.randperm(200, generator=torch.Generator().manual_seed(0))] + shift
    along = lambda y: y @ shift / 5
    assert adv.wgan_critic(along(y), along(y_hat)).mean().item() == pytest.approx(-5, rel=1e-12)
    assert adv.gradient_penalty(along, y, y_hat).abs().max() < 1e-28
    for direction in (torch.tensor([1.0, 0.0], dtype=F64), torch.tensor([-0.6, 0.8], dtype=F64)):
        other = lambda y, u=direction: y @ u
        assert adv.wgan_critic(other(y), other(y_hat)).mean() > -5


def test_gradient_penalty_by_hand():
    y, y_hat, u = numbers(6, 3), numbers(6, 3, seed=1), torch.linspace(0, 1, 6, dtype=F64)
    bowl = lambda y: 1.3 * y.square().sum(-1) / 2
    between = (1 - u[:, None]) * y + u[:, None] * y_hat
    steep = 1.3 * between.norm(dim=-1)
    assert (steep < 1.5).any()
    assert (steep > 1.5).any()
    for slope in (0.0, 1.0, 1.5):
        ours = adv.gradient_penalty(bowl, y, y_hat, slope=slope, mix=u)
        torch.testing.assert_close(ours, (steep - slope).square())
        ours = adv.gradient_penalty(bowl, y, y_hat, slope=slope, mix=u, one_sided=True)
        torch.testing.assert_close(ours, torch.where(steep > slope, (steep - slope).square(), 0.0))
    r1 = adv.gradient_penalty(bowl, y, y, slope=0)
    torch.testing.assert_close(r1, 1.69 * y.square().sum(-1))


def test_the_mixes_are_uniform_between_the_pair_and_repeatable():
    y, y_hat = torch.zeros(40_000, 1, dtype=F64), torch.ones(40_000, 1, dtype=F64)
    where = lambda y: y.square().sum(-1) / 2  # its slope at the mix is the mix
    seeded = lambda: adv.gradient_penalty(where, y, y_hat, slope=0, generator=torch.Generator().manual_seed(0))
    u = seeded().sqrt()
    assert u.mean().item() == pytest.approx(1 / 2, abs=4 / math.sqrt(12 * 40_000))
    assert u.square().mean().item() == pytest.approx(1 / 3, abs=4 * math.sqrt(4 / 45 / 40_000))
    assert (u.min() < 0.001, u.max() > 0.999) == (True, True)
    assert torch.equal(seeded(), seeded())


def test_each_pair_has_a_mix_of_its_own_whatever_the_leading_dimensions():
    y = torch.zeros(3, 3, 1, dtype=F64)
    u = adv.gradient_penalty(half_square, y, y + 1, slope=0, generator=torch.Generator().manual_seed(0)).sqrt()
    assert u.shape == (3, 3)
    assert len(u.unique()) == 9


def test_the_penalty_teaches_the_critic_and_not_the_generator():
    critic = EnergyMLP((2,), (8,), generator=torch.Generator().manual_seed(0), dtype=F64)
    y, y_hat = (numbers(5, 2, seed=s).requires_grad_() for s in (0, 1))
    u = torch.full((5,), 0.25, dtype=F64)
    names, values = zip(*critic.named_parameters(), strict=True)

    def of_parameters(*values):
        at = lambda y: torch.func.functional_call(critic, dict(zip(names, values, strict=True)), (y,))
        return adv.gradient_penalty(at, y, y_hat, mix=u)

    leaves = [v.detach().clone().requires_grad_() for v in values]
    assert torch.autograd.gradcheck(of_parameters, leaves, fast_mode=True)
    loss = adv.gradient_penalty(critic, y, y_hat, mix=u).sum()
    to_weights, *to_points = torch.autograd.grad(loss, [critic.linears[0].weight, y, y_hat], allow_unused=True)
    assert to_weights.abs().max() > 1e-3
    assert to_points == [None, None]


# ---- mode coverage


def test_modes_covered_by_hand():
    means = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [50.0, 50.0]], dtype=F64)
    samples = torch.tensor([[0.5, 0.0], [0.0, 1.0], [10.0, 0.9], [12.0, 0.0], [0.0, 8.0]], dtype=F64)
    seen = adv.modes_covered(samples, means, radius=1.0)
    assert (seen.modes.item(), seen.good.item()) == (2, 0.6)
    shares = [2 / 5, 2 / 5, 1 / 5]
    assert seen.divergence.item() == pytest.approx(sum(s * math.log(4 * s) for s in shares), rel=1e-12)
    assert adv.modes_covered(samples, means, 1.0, minimum=2).modes.item() == 1
    assert adv.modes_covered(samples, means, 2.0).modes.item() == 3
    assert adv.modes_covered(samples, means, 0.1).modes.item() == 0
    assert adv.modes_covered(means, means, 0.1) == (4, 1.0, 0.0)
    one_mode = adv.modes_covered(samples[:2].repeat(5, 1), means, 3.0)
    assert (one_mode.modes.item(), one_mode.divergence.item()) == (1, pytest.approx(math.log(4)))


def test_true_samples_of_the_grid_cover_it():
    g = torch.Generator().manual_seed(0)
    means = data.grid_means(dtype=F64)
    runs = torch.stack([data.grid_of_gaussians(2000, noise=0.05, generator=g, dtype=F64) for _ in range(20)])
    seen = adv.modes_covered(runs, means, radius=0.15, minimum=20)
    assert seen.modes.tolist() == [25] * 20
    # within three deviations in the plane: 1 − exp(−9/2)
    assert seen.good.mean().item() == pytest.approx(1 - math.exp(-4.5), abs=4 * math.sqrt(0.0109 / 40_000))
    assert seen.divergence.mean().item() == pytest.approx(24 / 4000, rel=0.3)
    alone = adv.modes_covered(runs[3], means, radius=0.15, minimum=20)
    assert [a[3].item() for a in seen] == [a.item() for a in alone]


# ---- the contract

P, N, Y, Z = numbers(4), numbers(4, seed=1), numbers(4, 3, seed=2), numbers(4, 3, seed=3)
half_square = lambda y: y.square().sum(-1) / 2
CALLS = {
    "gan_critic": (adv.gan_critic, [P, N]),
    "gan_generator": (adv.gan_generator, [N]),
    "ebgan_critic": (adv.ebgan_critic, [P.abs(), N.abs()]),
    "wgan_critic": (adv.wgan_critic, [P, N]),
    "gradient_penalty": (lambda y, z: adv.gradient_penalty(half_square, y, z, mix=y[..., 0] * 0 + 0.5), [Y, Z]),
    "pulling_away": (adv.pulling_away, [Y[:, None] + Z]),
    "modes_covered": (lambda y: adv.modes_covered(y, Z.to(y.device), 1.0).divergence, [Y[:, None] + Z]),
}
ALL = pytest.mark.parametrize(("call", "tensors"), CALLS.values(), ids=CALLS)


def test_every_public_function_is_held_to_the_contract():
    public = {n for n, f in inspect.getmembers(adv, inspect.isfunction) if f.__module__ == adv.__name__ and n[0] != "_"}
    assert set(CALLS) == public


@ALL
def test_device_and_dtype_follow_the_inputs_which_stay_as_they_were(call, tensors):
    for dtype in (torch.float32, F64):
        cast = [t.to(dtype) for t in tensors]
        copies = [t.clone() for t in cast]
        meta = call(*(t.to("meta") for t in cast))
        real = call(*copies)
        assert (meta.device.type, meta.dtype, real.dtype, real.shape) == ("meta", dtype, dtype, meta.shape)
        assert len(real) == 4
        torch.testing.assert_close(real.double(), call(*tensors), rtol=1e-4, atol=1e-5)
        for copy, t in zip(copies, cast, strict=True):
            assert torch.equal(copy, t)
            assert copy._version == 0


def test_drawn_mixes_stay_on_the_points_device_whatever_the_generators():
    y = torch.empty(4, 2, device="meta")
    for generator in (None, torch.Generator()):
        assert adv.gradient_penalty(half_square, y, y, generator=generator).device.type == "meta"


def test_a_mix_of_another_dtype_does_not_change_that_of_the_points():
    y = Y.float()
    assert adv.gradient_penalty(half_square, y, y + 1, mix=torch.full((4,), 0.5, dtype=F64)).dtype == torch.float32


@ALL
def test_a_batch_is_vmap_of_its_members(call, tensors):
    torch.testing.assert_close(torch.func.vmap(call)(*tensors), call(*tensors))


@ALL
@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_what_is_not_finite_is_refused_in_every_argument(call, tensors, bad):
    for i in range(len(tensors)):
        spoilt = [t.clone() for t in tensors]
        spoilt[i].view(-1)[2] = bad
        with pytest.raises(ValueError, match=r"must be finite|at least 0"):
            call(*spoilt)


def test_an_impossible_contrastive_point_needs_no_push():
    zero, impossible = torch.zeros(1), torch.tensor([math.inf])
    assert adv.ebgan_critic(zero, impossible).item() == 0
    assert adv.gan_critic(zero, impossible).item() == pytest.approx(math.log(2))
    with pytest.raises(ValueError, match="negative must be finite"):
        adv.wgan_critic(zero, impossible)
    with pytest.raises(ValueError, match="negative must be finite"):
        adv.gan_generator(impossible)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adv.gan_critic(P, N[:, None]), "same number of dimensions"),
        (lambda: adv.gan_critic(P.long(), N), "positive must be floating point"),
        (lambda: adv.ebgan_critic(-P.abs(), N.abs()), "positive must be energies of at least 0, the lowest is -"),
        (lambda: adv.ebgan_critic(torch.tensor([1.0, -1.0]), N.abs()[:2]), "positive must be energies of at least 0"),
        (lambda: adv.ebgan_critic(P.abs(), -N.abs()), "negative must be energies of at least 0, the lowest is -"),
        (lambda: adv.ebgan_critic(P.abs(), N.abs(), -1.0), "margin must be finite and at least 0"),
        (lambda: adv.pulling_away(Y[:1]), r"codes must be \(..., B, L\) with B ≥ 2, got \(1, 3\)"),
        (lambda: adv.pulling_away(Y[0]), r"B ≥ 2, got \(3,\)"),
        (lambda: adv.pulling_away(Y * 0), "no direction"),
        (lambda: adv.pulling_away(torch.tensor([[1.0, 0.0], [0.0, 0.0]])), "no direction"),
        (lambda: adv.gradient_penalty(half_square, Y, Z[:2]), r"same shape, got \(4, 3\) and \(2, 3\)"),
        (lambda: adv.gradient_penalty(half_square, Y, Z, slope=-1.0), "slope must be a positive number"),
        (lambda: adv.gradient_penalty(half_square, Y, Z, mix=Y), r"one number per pair, shape \(4,\), got \(4, 3\)"),
        (lambda: adv.gradient_penalty(half_square, Y, Z, mix=P.abs() + 1), "mix must lie from 0 to 1, got 1"),
        (lambda: adv.gradient_penalty(half_square, Y, Z, mix=-P.abs()), "mix must lie from 0 to 1, got -"),
        (
            lambda: adv.gradient_penalty(half_square, Y[:2], Z[:2], mix=torch.tensor([0.5, 1.5])),
            "mix must lie from 0 to 1",
        ),
        (lambda: adv.gradient_penalty(half_square, Y, Z, mix=P * math.nan), "mix must be finite"),
        (lambda: adv.gradient_penalty(lambda y: y, Y, Z), "one number per sample"),
        (lambda: adv.gradient_penalty(half_square, Y.long(), Z.long()), "y must be floating point"),
        (lambda: adv.modes_covered(Y, Z[:, :2], 1.0), r"means must be \(K, D\) with D = 3, got \(4, 2\)"),
        (lambda: adv.modes_covered(Y, Z[None], 1.0), r"got \(1, 4, 3\)"),
        (lambda: adv.modes_covered(Y, Z * math.nan, 1.0), "means must be finite"),
        (lambda: adv.modes_covered(Y[:0], Z, 1.0), "samples must have at least one entry"),
        (lambda: adv.modes_covered(Y, Z[:0], 1.0), "means must have at least one entry"),
        (lambda: adv.modes_covered(Y, Z, 0.0), "radius must be a positive number"),
        (lambda: adv.modes_covered(Y, Z, 1.0, minimum=0), "minimum must be a whole number of at least 1"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call()
