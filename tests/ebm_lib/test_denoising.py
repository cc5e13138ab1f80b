"""Corruptions against their laws, denoisers against quadrature, and Tweedie's formula in both directions."""

import inspect
import math

import pytest
import torch

from ebm_lib import data
from ebm_lib import denoising as dn
from ebm_lib.energy import grid
from ebm_lib.nn import MLP, EnergyMLP
from ebm_lib.score import denoising_score_matching, score

F64 = torch.float64


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


MEANS = torch.tensor([[2.0, 0.0], [-1.0, 1.5], [0.0, -2.0]], dtype=F64)
WEIGHTS = [0.2, 0.5, 0.3]


def mixture_energy(deviation, weights=WEIGHTS):
    return lambda y: -data.mixture_log_density(y, MEANS, deviation, weights=weights)


# ---- corruptions


def test_noise_is_gaussian_with_one_sigma_or_one_for_each_point():
    y = numbers(3, 4)[:, None].expand(3, 5000, 4)
    for sigma in (0.7, torch.full((3, 5000), 0.7)):
        z = (dn.add_noise(y, sigma, generator=seeded()).y_hat - y) / 0.7
        assert z.dtype == F64
        assert z.mean().item() == pytest.approx(0, abs=4 / math.sqrt(60_000))
        assert z.square().mean().item() == pytest.approx(1, abs=4 * math.sqrt(2 / 60_000))
        assert z.pow(4).mean().item() == pytest.approx(3, abs=4 * math.sqrt(96 / 60_000))
    each = dn.add_noise(torch.zeros(2, 9000), torch.tensor([0.1, 5.0]), generator=seeded()).y_hat
    assert each.std(-1).tolist() == pytest.approx([0.1, 5.0], rel=0.03)


@pytest.mark.parametrize("p", [0.0, 0.25, 1.0])
def test_hidden_coordinates_are_as_many_as_asked_and_no_other_is_touched(p):
    y = numbers(200, 100)
    y_hat, mask = dn.hide(y, p, value=7.5, generator=seeded())
    assert (y_hat[mask] == 7.5).all()
    assert torch.equal(y_hat[~mask], y[~mask])
    assert mask.double().mean().item() == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 20_000))


@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
def test_salt_and_pepper_fall_alike_and_no_other_coordinate_is_touched(p):
    y = numbers(200, 100)
    y_hat, mask = dn.salt_and_pepper(y, p, low=-9.0, high=8.0, generator=seeded())
    assert torch.equal(y_hat[~mask], y[~mask])
    salt, pepper = (y_hat == 8).double().mean().item(), (y_hat == -9).double().mean().item()
    error = 4 * math.sqrt(p / 2 * (1 - p / 2) / 20_000)
    assert (salt, pepper) == (pytest.approx(p / 2, abs=error), pytest.approx(p / 2, abs=error))
    assert salt + pepper == mask.double().mean().item()


def test_a_hidden_block_is_a_rectangle_anywhere_with_equal_chance():
    y = numbers(6000, 20) + 100
    y_hat, mask = dn.hide_blocks(y, (4, 5), (2, 3), value=-1.0, generator=seeded())
    assert torch.equal(y_hat, torch.where(mask, torch.tensor(-1.0, dtype=F64), y))
    image = mask.reshape(-1, 4, 5)
    rows, columns = image.any(-1), image.any(-2)
    assert torch.equal(image, rows[:, :, None] & columns[:, None, :])
    for line, part in ((rows, 2), (columns, 3)):
        first = line.double().argmax(-1)
        place = torch.arange(line.shape[-1])
        assert torch.equal(line, (place >= first[:, None]) & (place < first[:, None] + part))
    seen = torch.bincount(rows.double().argmax(-1) * 3 + columns.double().argmax(-1), minlength=9)
    assert len(seen) == 9  # three places down times three across
    assert ((seen - 6000 / 9).abs() < 4.5 * math.sqrt(6000 / 9)).all()


def test_several_blocks_are_their_union_and_a_whole_image_can_go():
    y = torch.ones(500, 8, 64)
    mask = dn.hide_blocks(y, (8, 8), (2, 2), count=2, generator=seeded()).mask.sum(-1)
    assert mask.shape == (500, 8)
    assert (int(mask.min()), int(mask.max())) == (4, 8)
    # two blocks of two rows at seven places each overlap in so many rows on average; the same for columns
    line = sum(max(0, 2 - abs(a - b)) for a in range(7) for b in range(7)) / 49
    assert mask.double().mean().item() == pytest.approx(8 - line**2, abs=0.05)
    assert dn.hide_blocks(y, (8, 8), (8, 8), generator=seeded()).mask.all()
    assert dn.hide_blocks(y[0, 0], (4, 16), (1, 16), generator=seeded()).mask.sum() == 16


# ---- the loss and the energy


def test_denoising_loss_by_hand():
    y, y_hat = numbers(5, 3), numbers(5, 3, seed=1)
    mask = numbers(5, 3, seed=2) > 0
    twice = lambda y: 2 * y
    error = (2 * y_hat - y).square()
    torch.testing.assert_close(dn.denoising_loss(twice, y, y_hat), error.sum(-1))
    by_hand = torch.stack([e[m].sum() for e, m in zip(error, mask, strict=True)])
    torch.testing.assert_close(dn.denoising_loss(twice, y, y_hat, mask=mask), by_hand)
    assert dn.denoising_loss(lambda _: y, y, y_hat).tolist() == [0.0] * 5


def test_on_a_gaussian_the_best_linear_denoiser_shrinks_by_signal_over_signal_and_noise():
    nodes, width = grid([-8.0, -8.0], [8.0, 8.0], 160, dtype=F64).points, 0.01
    weight = torch.exp(-nodes.square().sum(-1) / 2) / (2 * math.pi) * width
    tau, sigma = 1.4, 0.6
    y = tau * nodes[:, :1]
    y_hat = y + sigma * nodes[:, 1:]
    shrink = torch.tensor(0.5, dtype=F64, requires_grad=True)
    loss = lambda a: (weight * dn.denoising_loss(lambda y: a * y, y, y_hat)).sum()
    (slope,) = torch.autograd.grad(loss(shrink), shrink)
    best = 0.5 - slope.item() / (2 * (tau**2 + sigma**2))  # a parabola in the factor: one Newton step
    assert best == pytest.approx(tau**2 / (tau**2 + sigma**2), rel=1e-9)
    ours = dn.optimal_denoiser(y_hat[:5], torch.zeros(1, 1, dtype=F64), sigma, noise=tau)
    torch.testing.assert_close(ours, best * y_hat[:5])


def test_the_auto_encoders_energy_is_its_squared_residual():
    y = numbers(4, 3)
    network = MLP((3, 5, 3), generator=seeded(), dtype=F64)
    energy = dn.reconstruction_energy(network)
    torch.testing.assert_close(energy(y), (y - network(y)).square().sum(-1))
    assert energy(y[:, None]).shape == (4, 1)
    energy(y).sum().backward()
    assert network.linears[0].weight.grad.abs().max() > 0


# ---- the optimal denoiser


@pytest.mark.parametrize(("sigma", "tau"), [(0.5, 0.3), (1.5, 0.3), (0.4, 0.0)])
def test_the_optimal_denoiser_is_the_mean_of_what_the_point_was(sigma, tau):
    y_hat = numbers(6, 2)
    if tau == 0:  # the data are the three points: Bayes' rule over three answers
        prior = torch.tensor(WEIGHTS, dtype=F64)
        candidates = MEANS
    else:  # the posterior on a fine grid, from prior times likelihood
        candidates = grid([-6.0, -6.0], [6.0, 6.0], 300, dtype=F64).points
        prior = torch.exp(data.mixture_log_density(candidates, MEANS, tau, weights=WEIGHTS))
    likelihood = torch.exp(-(y_hat[:, None] - candidates).square().sum(-1) / (2 * sigma**2))
    joint = prior * likelihood
    by_bayes = (joint @ candidates) / joint.sum(-1, keepdim=True)
    ours = dn.optimal_denoiser(y_hat, MEANS, sigma, noise=tau, weights=WEIGHTS)
    torch.testing.assert_close(ours, by_bayes, rtol=1e-7, atol=1e-8)
    each = dn.optimal_denoiser(y_hat, MEANS, torch.full((6,), sigma, dtype=F64), noise=tau, weights=WEIGHTS)
    torch.testing.assert_close(each, ours)


@pytest.mark.parametrize("sigma", [0.2, 1.0])
@pytest.mark.parametrize("tau", [0.0, 0.5])
def test_its_residual_is_sigma_squared_times_the_score_of_the_smoothed_density(sigma, tau):
    y = 2 * numbers(30, 2, seed=5)
    smoothed = mixture_energy(math.sqrt(tau**2 + sigma**2))
    residual = dn.optimal_denoiser(y, MEANS, sigma, noise=tau, weights=WEIGHTS) - y
    torch.testing.assert_close(residual, sigma**2 * score(smoothed, y))


def test_far_and_near_limits():
    y_hat = numbers(10, 2)
    nearest = MEANS[torch.cdist(y_hat, MEANS).argmin(-1)]
    torch.testing.assert_close(dn.optimal_denoiser(y_hat, MEANS, 1e-2), nearest)
    everything = dn.optimal_denoiser(y_hat, MEANS, 1e4)
    torch.testing.assert_close(everything, MEANS.mean(0).expand(10, 2), rtol=0, atol=1e-6)
    by_weight = dn.optimal_denoiser(y_hat, MEANS, 1e4, weights=[1, 0, 3])
    torch.testing.assert_close(by_weight, ((MEANS[0] + 3 * MEANS[2]) / 4).expand(10, 2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_however_small_sigma_the_nearest_point_of_any_weight_is_the_answer(dtype):
    two, y_hat = torch.tensor([[-1.0], [1.0]], dtype=dtype), torch.tensor([[0.3], [-9.0], [1.0], [0.0]], dtype=dtype)
    nearest = torch.tensor([[1.0], [-1.0], [1.0], [0.0]], dtype=dtype)  # both, where they are equally near
    for sigma in (1e-15, 1e-20, 1e-200, torch.full((4,), 1e-18), torch.full((4,), 1e-30)):
        assert torch.equal(dn.optimal_denoiser(y_hat, two, sigma), nearest)
        for weights in ([1.0, 0.0], [0.0, 1.0]):
            alone = two[weights.index(1.0)].expand(4, 1)
            assert torch.equal(dn.optimal_denoiser(y_hat, two, sigma, weights=weights), alone)


@pytest.mark.parametrize("sigma", [0.3, 1.2])
def test_energy_denoiser_and_score_lead_to_each_other(sigma):
    y = numbers(8, 2, seed=2)
    smoothed = mixture_energy(sigma)
    optimal = lambda y_hat: dn.optimal_denoiser(y_hat, MEANS, sigma, weights=WEIGHTS)
    torch.testing.assert_close(dn.denoiser_of(smoothed, sigma)(y), optimal(y))
    torch.testing.assert_close(dn.score_of(optimal, sigma)(y), score(smoothed, y))
    each = torch.linspace(0.2, 2.0, 8, dtype=F64)
    network = MLP((2, 6, 2), generator=seeded(), dtype=F64)
    torch.testing.assert_close(dn.score_of(network, each)(y), (network(y) - y) / each[:, None] ** 2)
    energy = EnergyMLP((2,), (6,), generator=seeded(), dtype=F64)
    torch.testing.assert_close(dn.score_of(dn.denoiser_of(energy, each), each)(y), score(energy, y))
    assert torch.autograd.grad(dn.denoiser_of(energy, sigma)(y).sum(), energy.linears[0].weight)[0].abs().max() > 0


def test_the_denoising_loss_is_denoising_score_matching_times_two_sigma_to_the_fourth():
    y, noise, sigma = numbers(7, 2), numbers(7, 2, seed=1), 0.8
    energy = EnergyMLP((2,), (6,), generator=seeded(), dtype=F64)
    loss = dn.denoising_loss(dn.denoiser_of(energy, sigma), y, y + sigma * noise)
    torch.testing.assert_close(loss, 2 * sigma**4 * denoising_score_matching(energy, y, sigma, noise))


def test_the_optimal_auto_encoders_energy_is_a_squared_slope_and_vanishes_on_the_ridge_too():
    sigma = 0.5
    two = torch.tensor([[-1.0], [1.0]], dtype=F64)
    smoothed = lambda y: -data.mixture_log_density(y, two, sigma)
    energy = dn.reconstruction_energy(lambda y: dn.optimal_denoiser(y, two, sigma))
    y = torch.linspace(-2, 2, 41, dtype=F64)[:, None]
    torch.testing.assert_close(energy(y), sigma**4 * score(smoothed, y).square().sum(-1))
    ridge, beside, valley = torch.tensor([[0.0], [0.5], [0.999]], dtype=F64)
    assert smoothed(ridge) > smoothed(beside) > smoothed(valley)
    assert energy(ridge) < 1e-20  # as low as on the data, half way between them
    assert energy(beside) > 0.1


NETWORK = MLP((2, 5, 2), generator=seeded(), dtype=F64)
OTHER = numbers(3, 2, seed=3)


@pytest.mark.parametrize(
    "call",
    [
        dn.reconstruction_energy(NETWORK),
        dn.score_of(NETWORK, 0.5),
        dn.denoiser_of(lambda y: y.pow(4).sum(-1), 0.5),
        lambda y: dn.denoising_loss(NETWORK, OTHER, y),
        lambda y: dn.denoising_loss(NETWORK, y, OTHER),
        lambda y: dn.optimal_denoiser(y, MEANS, 0.5),
        lambda y: dn.optimal_denoiser(y, MEANS, 0.5, noise=0.7, weights=WEIGHTS),
    ],
    ids=["energy", "score", "denoiser", "loss, y_hat", "loss, y", "optimal, points", "optimal, mixture"],
)
def test_slopes_and_curvatures_in_the_points_are_those_of_differences(call):
    y = numbers(3, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(call, y)
    assert torch.autograd.gradgradcheck(call, y)


# ---- the contract

Y = numbers(4, 6)
CALLS = {
    "add_noise": lambda y, g: dn.add_noise(y, 0.5, generator=g).y_hat,
    "hide": lambda y, g: dn.hide(y, 0.5, generator=g).y_hat,
    "salt_and_pepper": lambda y, g: dn.salt_and_pepper(y, 0.5, generator=g).y_hat,
    "hide_blocks": lambda y, g: dn.hide_blocks(y, (2, 3), (1, 2), generator=g).y_hat,
    "denoising_loss": lambda y, g: dn.denoising_loss(lambda y: y / 2, y, y + 1),
    "reconstruction_energy": lambda y, g: dn.reconstruction_energy(lambda y: y / 2)(y),
    "optimal_denoiser": lambda y, g: dn.optimal_denoiser(y, y.reshape(-1, 6) / 2, 0.5, noise=0.1),
    "denoiser_of": lambda y, g: dn.denoiser_of(lambda y: y.square().sum(-1), 0.5)(y),
    "score_of": lambda y, g: dn.score_of(lambda y: y / 2, 0.5)(y),
}
ALL = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def test_every_public_function_is_held_to_the_contract():
    public = {n for n, f in inspect.getmembers(dn, inspect.isfunction) if f.__module__ == dn.__name__ and n[0] != "_"}
    assert set(CALLS) == public


@ALL
def test_device_and_dtype_follow_the_points_which_stay_as_they_were(call):
    for dtype in (torch.float32, F64):
        copy = Y.to(dtype, copy=True)
        meta, real = call(copy.to("meta"), seeded()), call(copy, seeded())
        assert (meta.device.type, meta.dtype, real.dtype, real.shape) == ("meta", dtype, dtype, meta.shape)
        assert real.shape[0] == 4
        assert torch.equal(copy, Y.to(dtype))
        assert copy._version == 0


def test_the_data_go_to_where_the_points_are():
    restored = dn.optimal_denoiser(torch.empty(4, 6, device="meta", dtype=torch.float32), Y, 0.5, weights=[1] * 4)
    assert (restored.device.type, restored.dtype) == ("meta", torch.float32)


def test_a_sigma_of_another_dtype_does_not_change_that_of_the_points():
    wide = torch.full((4,), 0.5, dtype=F64)
    assert dn.add_noise(Y.float(), wide).y_hat.dtype == torch.float32
    assert dn.optimal_denoiser(Y.float(), Y, wide).dtype == torch.float32


@ALL
def test_the_same_generator_state_gives_the_same_and_global_state_is_left_alone(call):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again = call(Y, seeded(3)), call(Y, seeded(3))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", [n for n in CALLS if not n.startswith(("add", "hide", "salt", "optimal"))])
def test_a_batch_is_vmap_of_its_members(name):
    torch.testing.assert_close(torch.func.vmap(lambda y: CALLS[name](y, None))(Y), CALLS[name](Y, None))


@ALL
def test_points_that_are_not_finite_are_refused(call):
    for bad in (math.nan, math.inf):
        spoilt = Y.clone()
        spoilt[1, 2] = bad
        with pytest.raises(ValueError, match="must be finite"):
            call(spoilt, None)


sharp = lambda y: y[..., :2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dn.add_noise(Y.long(), 1.0), "y must be floating point, got torch.int64"),
        (lambda: dn.add_noise(Y[:, :0], 1.0), "y must be .* at least one coordinate"),
        (lambda: dn.add_noise(Y, 0.0), "sigma must be a positive number, got 0"),
        (lambda: dn.add_noise(Y, torch.ones(3)), r"sigma must be a number or one per point, \(4,\), got \(3,\)"),
        (lambda: dn.add_noise(Y, torch.zeros(4)), "sigma must be positive, the lowest is 0"),
        (lambda: dn.add_noise(Y, torch.tensor([0.5, 0.5, 0.0, 0.5])), "sigma must be positive, the lowest is 0"),
        (lambda: dn.add_noise(Y, torch.full((4,), math.nan)), "sigma must be finite"),
        (lambda: dn.hide(Y, 1.5), "p must be a probability"),
        (lambda: dn.salt_and_pepper(Y, -0.1), "p must be a probability"),
        (lambda: dn.salt_and_pepper(Y, 0.1, low=1.0, high=0.0), "high must be at least low, got low 1.0 and high 0.0"),
        (lambda: dn.hide_blocks(Y, (2, 2), (1, 1)), r"shape must be that of the images, H·W = 6, got \(2, 2\)"),
        (lambda: dn.hide_blocks(Y, (2, 3), (3, 1)), r"size must lie from 1 to the image's \(2, 3\), got \(3, 1\)"),
        (lambda: dn.hide_blocks(Y, (2, 3), (1, 0)), r"got \(1, 0\)"),
        (lambda: dn.hide_blocks(Y, (1, 2, 3), (1, 1)), r"shape must be two numbers, .*got \(1, 2, 3\)"),
        (lambda: dn.hide_blocks(Y, (2, 3), (1,)), r"size must be two numbers, .*got \(1,\)"),
        (lambda: dn.hide_blocks(Y, (-2, -3), (1, 1)), "shape must be a whole number of at least 0, got -2"),
        (lambda: dn.hide_blocks(Y, (2, 3), (1, 1), count=0), "count must be a whole number of at least 1"),
        (lambda: dn.denoising_loss(sharp, Y, Y), r"denoiser must return a point per point, \(4, 6\), got \(4, 2\)"),
        (lambda: dn.denoising_loss(sharp, Y, Y[:1]), r"y_hat must have the shape of y, \(4, 6\), got \(1, 6\)"),
        (lambda: dn.denoising_loss(lambda y: y, Y, Y, mask=Y), "mask must be bool of shape"),
        (lambda: dn.denoising_loss(lambda y: y, Y, Y, mask=Y[0] > 0), r"mask must be bool of shape \(4, 6\)"),
        (lambda: dn.denoising_loss(lambda y: y / 0, Y, Y), "denoised points must be finite"),
        (lambda: dn.reconstruction_energy(sharp)(Y), "denoiser must return a point per point"),
        (lambda: dn.optimal_denoiser(Y, Y[:, :2], 1.0), r"data must be \(N, D\) with N ≥ 1 and D = 6, got \(4, 2\)"),
        (lambda: dn.optimal_denoiser(1e30 * Y.float(), Y, 1.0), "squared distances of y_hat from data must be finite"),
        (lambda: dn.optimal_denoiser(Y, Y[:0], 1.0), r"got \(0, 6\)"),
        (lambda: dn.optimal_denoiser(Y, Y, 1.0, noise=-1.0), "noise must be a positive number"),
        (lambda: dn.optimal_denoiser(Y, Y, 1.0, weights=[1, 2]), "weights must have shape"),
        (lambda: dn.optimal_denoiser(Y, Y, -1.0), "sigma must be a positive number"),
        (lambda: dn.denoiser_of(lambda y: y, 1.0)(Y), "one number per sample"),
        (lambda: dn.score_of(sharp, 1.0)(Y), "denoiser must return a point per point"),
        (lambda: dn.score_of(lambda y: y, 0.0)(Y), "sigma must be a positive number"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_sizes_of_blocks_are_whole_numbers():
    with pytest.raises(TypeError, match="size must be a whole number, got float"):
        dn.hide_blocks(Y, (2, 3), (1.5, 2))
