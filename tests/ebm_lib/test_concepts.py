"""The energy of concepts: against loops, against finite differences, and its loss against closed forms."""

import math

import pytest
import torch
from torch.nn.functional import silu

from ebm_lib.concepts import ConceptEnergy, denoising_loss

F64 = torch.float64
L = 4


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def network(seed=0, **options):
    return ConceptEnergy(**{"latent": L, "hidden": 8, "residuals": 3} | options, generator=seeded(seed), dtype=F64)


def pairs(y):
    return y.unflatten(-1, (-1, 2))


# ---- the energy


def test_energy_by_loops_over_points():
    energy, y, z = network(), pairs(numbers(10)), numbers(L, seed=1)
    a = torch.tensor([1.0, 0.3, 0.0, 2.0, 1.0], dtype=F64)
    total = 0.0
    for i in range(5):
        mean = torch.zeros(8, dtype=F64)
        for j in range(5):
            d = y[i] - y[j]
            mean = mean + a[j] / a.sum() * silu(energy.pair(torch.cat([d, (d @ d)[None], z])))
        total = total + 0.5 * a[i] * energy.event(torch.cat([mean, y[i], z])).square().sum()
    torch.testing.assert_close(energy(y.flatten(), z, a), total)


def test_the_order_of_points_does_not_matter():
    energy, y, z, a = network(), numbers(20, 14), numbers(20, L, seed=1), numbers(20, 7, seed=2).abs()
    order = torch.randperm(7, generator=seeded())
    shuffled = pairs(y)[:, order].flatten(-2)
    torch.testing.assert_close(energy(shuffled, z, a[:, order]), energy(y, z, a))
    assert not torch.allclose(energy(shuffled, z, a), energy(y, z, a))  # the weights go with their points


def test_a_point_without_attention_is_not_there():
    energy, z = network(), numbers(20, L, seed=1)
    y = numbers(20, 12).requires_grad_()
    a = torch.ones(6, dtype=F64).index_fill(0, torch.tensor([2]), 0.0)
    rest = pairs(y)[:, [0, 1, 3, 4, 5]].flatten(-2)
    torch.testing.assert_close(energy(y, z, a), energy(rest, z))
    (slope,) = torch.autograd.grad(energy(y, z, a).sum(), y)
    assert (pairs(slope)[:, 2] == 0).all()
    assert (pairs(slope)[:, [0, 1, 3, 4, 5]] != 0).all()


def test_attention_counts_in_shares_within_and_in_full_outside():
    energy, y, z, a = network(), numbers(9, 8), numbers(9, L, seed=1), numbers(9, 4, seed=2).abs()
    torch.testing.assert_close(energy(y, z, 3 * a), 3 * energy(y, z, a))
    torch.testing.assert_close(energy(y, z), energy(y, z, torch.ones(4, dtype=F64)))
    # a point twice is a point of weight two
    twice = torch.cat([y, y[:, :2]], -1)
    torch.testing.assert_close(energy(twice, z), energy(y, z, torch.tensor([2.0, 1, 1, 1], dtype=F64)))


def test_a_shift_is_seen_by_the_point_alone_and_not_by_the_pairs():
    energy, y, z = network(), numbers(9, 8), numbers(9, L, seed=1)
    moved = (pairs(y) + torch.tensor([2.0, -1.0], dtype=F64)).flatten(-2)
    assert ((energy(moved, z) - energy(y, z)).abs() > 1e-3).all()
    with torch.no_grad():
        energy.event[0].weight[:, 8:10] = 0.0  # the columns of y_i
    torch.testing.assert_close(energy(moved, z), energy(y, z))


def test_energy_is_never_negative_and_zero_only_without_residual():
    energy = network()
    assert (energy(5 * numbers(500, 8), 5 * numbers(500, L, seed=1)) > 0).all()
    torch.nn.init.zeros_(energy.event[4].weight)
    torch.nn.init.zeros_(energy.event[4].bias)
    assert (energy(numbers(5, 8), numbers(5, L)) == 0).all()


def test_leading_dimensions_broadcast_to_what_a_loop_gives():
    energy, y, z, a = network(), numbers(3, 1, 1, 6), numbers(4, 1, L, seed=1), numbers(5, 3, seed=2).abs()
    whole = energy(y, z, a)
    assert whole.shape == (3, 4, 5)
    for i, j, k in ((0, 0, 0), (2, 3, 4), (1, 2, 0)):
        torch.testing.assert_close(whole[i, j, k], energy(y[i, 0, 0], z[j, 0], a[k]))


def test_weights_come_from_the_generator_and_have_the_stated_sizes():
    state = torch.get_rng_state()
    first, again, other = (dict(ConceptEnergy(generator=seeded(s)).named_parameters()) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in first.items():
        assert torch.equal(value, again[name])
        assert name == "log_gain" or not torch.equal(value, other[name])
    assert sum(v.numel() for v in first.values()) == 64 * 12 + 64 * 75 + 64 * 65 + 4 * 65 + 8 + 1
    wide = ConceptEnergy(latent=200, hidden=300, generator=seeded())
    assert wide.event[2].weight.std().item() == pytest.approx(math.sqrt(2 / 300), rel=0.02)
    assert wide.pair.weight[:, :3].std().item() == pytest.approx(math.sqrt(2 / 3), rel=0.1)
    assert wide.pair.weight[:, 3:].std().item() == pytest.approx(math.sqrt(2 / 203), rel=0.02)


# ---- inference of the concept


def test_descent_is_the_loop_that_the_formula_says_with_slopes_from_differences():
    energy, y = network(steps=3), numbers(4, 10)
    a = (torch.arange(5) < torch.tensor([[3], [5], [4], [2]])).double()
    mean = lambda z: (energy(y, z, a) / a.sum(-1)).mean().item()
    z, h = energy.start.detach().clone(), 1e-6
    for _ in range(3):
        slope = torch.tensor([(mean(z + h * e) - mean(z - h * e)) / (2 * h) for e in torch.eye(L, dtype=F64)])
        d = math.exp(energy.log_gain.item()) * slope.to(F64)
        z = z - d / (1 + d.square().sum()).sqrt()
    torch.testing.assert_close(energy.infer(y, a), z, rtol=1e-5, atol=1e-5)


def test_attention_of_ones_and_steps_of_training_are_the_defaults():
    energy, y = network(steps=3), numbers(2, 4, 10)
    torch.testing.assert_close(energy.infer(y), energy.infer(y, torch.ones(2, 4, 5, dtype=F64), steps=3))
    assert not torch.allclose(energy.infer(y), energy.infer(y, steps=2))


def test_each_concept_is_inferred_apart_and_no_order_of_demonstrations_matters():
    energy, y = network(), numbers(6, 3, 8)
    z = energy.infer(y)
    assert z.shape == (6, L)
    torch.testing.assert_close(z[4], energy.infer(y[4]))
    torch.testing.assert_close(z, energy.infer(y[:, [2, 0, 1]]))
    torch.testing.assert_close(z, energy.infer(torch.cat([y, y], 1)))  # the mean, not the sum


def test_no_step_is_longer_than_one_and_small_steps_go_down():
    energy, y = network(), numbers(50, 3, 8)
    with torch.no_grad():
        energy.log_gain.fill_(20.0)
    assert (energy.infer(y, steps=1) - energy.start).norm(dim=-1).detach() == pytest.approx(torch.ones(50), abs=1e-6)
    with torch.no_grad():
        energy.log_gain.fill_(-3.0)
    mean = lambda z: energy(y, z[:, None]).mean(1)
    assert (mean(energy.infer(y, steps=1)) < mean(energy.start.expand(50, -1))).all()


def test_gradients_flow_through_the_descent_as_differences_say():
    energy, y = network(steps=3), numbers(2, 3, 8).requires_grad_()
    mark = numbers(2, L, seed=9)
    value = lambda: (energy.infer(y, create_graph=True) * mark).sum()
    named = {"y": y} | dict(energy.named_parameters())
    slopes = dict(zip(named, torch.autograd.grad(value(), list(named.values())), strict=True))
    h = 1e-6
    for name, parameter in named.items():
        way = torch.randn(parameter.shape, generator=seeded(3), dtype=F64)
        ends = []
        for sign in (1, -2):  # to +h, from there to -h
            with torch.no_grad():
                parameter += sign * h * way
            ends.append(value().item())
        with torch.no_grad():
            parameter += h * way
        expected = (ends[0] - ends[1]) / (2 * h)
        assert (slopes[name] * way).sum().item() == pytest.approx(expected, rel=1e-4, abs=1e-7), name


def test_without_graph_the_concept_is_cut_off_even_where_gradients_are_off():
    energy, y = network(), numbers(2, 3, 8)
    assert not energy.infer(y).requires_grad
    with torch.no_grad():
        torch.testing.assert_close(energy.infer(y), energy.infer(y, create_graph=True))
    assert all(p.grad is None for p in energy.parameters())


def test_a_frozen_network_still_passes_gradients_to_the_demonstrations():
    energy, y = network().requires_grad_(False), numbers(2, 3, 8).requires_grad_()
    (slope,) = torch.autograd.grad(energy.infer(y, create_graph=True).sum(), y)
    assert (slope != 0).all()


def test_a_descent_that_leaves_the_numbers_says_so():
    with pytest.raises(FloatingPointError, match="not finite after step 1"):
        network().infer(numbers(2, 8) * 1e300)


# ---- the loss


def bowl(centre, k=1.0):
    def energy(y, z, attention):
        return 0.5 * k * (attention * pairs(y - centre).square().sum(-1)).sum(-1)

    return energy


def test_a_flat_energy_costs_one():
    y, z = numbers(4000, 10), numbers(4000, L)
    a = (torch.arange(5) < 1 + torch.arange(4000)[:, None] % 5).double()
    for attention in (None, a):
        cost = denoising_loss(bowl(0.0, k=0.0), y, z, attention, generator=seeded())
        assert cost.shape == (4000,)
        error = cost.std().item() / math.sqrt(4000)
        assert cost.mean().item() == pytest.approx(1, abs=4 * error)


def test_the_energy_that_is_asked_for_costs_nothing():
    c = numbers(10)
    cost = denoising_loss(bowl(c), c.expand(50, -1), numbers(50, L), generator=seeded())
    assert cost.max().item() < 1e-20


@pytest.mark.parametrize("k", [0.3, 1.7])
def test_a_bowl_of_another_width_costs_the_square_of_what_it_lacks(k):
    c = numbers(10)
    cost = denoising_loss(bowl(c, k), c.expand(4000, -1), numbers(4000, L), generator=seeded())
    assert cost.mean().item() == pytest.approx((k - 1) ** 2, rel=0.1)


def test_a_bowl_in_the_wrong_place_costs_the_distance_over_the_noise():
    y, c, z = numbers(7, 6), numbers(7, 6, seed=1), numbers(7, L)
    a = torch.tensor([1.0, 0.0, 1.0], dtype=F64)
    cost = denoising_loss(bowl(c), y, z, a, low=0.3, high=0.3, generator=seeded())
    missed = pairs(y - c).square().sum(-1)[:, [0, 2]]
    torch.testing.assert_close(cost, missed.sum(-1) / (2 * 2 * 0.3**2))


def test_the_widths_of_noise_are_even_in_their_logarithm_and_one_for_each_event():
    # a bowl off by one unit costs 1 / (2 σ²): the cost tells the width
    y = torch.zeros(8000, 4, dtype=F64)
    c = torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=F64)
    cost = denoising_loss(bowl(c), y, numbers(8000, L), low=0.05, high=2.0, generator=seeded())
    sigma = (1 / (2 * cost)).sqrt()
    place = (sigma / 0.05).log() / math.log(40)
    assert (place > -1e-9).all()
    assert (place < 1 + 1e-9).all()
    seen = torch.histc(place, 16, 0, 1)
    assert ((seen - 500).abs() < 5 * math.sqrt(500)).all()


def test_a_spread_around_the_bowl_is_best_met_by_the_shrunken_slope():
    tau, sigma = 0.5, 0.3
    y = tau * numbers(20_000, 2)
    cost = lambda k: denoising_loss(bowl(0.0, k), y, y, low=sigma, high=sigma, generator=seeded(1)).mean().item()
    best = sigma**2 / (sigma**2 + tau**2)
    assert cost(best) < min(cost(best - 0.05), cost(best + 0.05))
    assert cost(best) == pytest.approx((best - 1) ** 2 + best**2 * tau**2 / sigma**2, rel=0.03)


def test_gradients_reach_weights_and_concept_and_the_generator_decides():
    energy, y, z = network(), numbers(5, 8), numbers(5, L, seed=1).requires_grad_()
    costs = [denoising_loss(energy, y, z, generator=seeded(s)) for s in (0, 0, 1)]
    assert torch.equal(costs[0], costs[1])
    assert not torch.allclose(costs[0], costs[2])
    costs[0].mean().backward()
    assert (z.grad != 0).all()
    assert all((p.grad != 0).any() for p in energy.pair.parameters())
    assert not y.requires_grad
    with torch.no_grad():  # a step of training may be judged under no_grad
        torch.testing.assert_close(denoising_loss(energy, y, z, generator=seeded()), costs[0])


# ---- contract


def test_meta_device_gives_shapes():
    energy = ConceptEnergy(latent=L, hidden=8, device="meta")
    y, a = torch.zeros(5, 3, 8, device="meta"), torch.ones(5, 3, 4, device="meta")
    z = energy.infer(y, a)
    assert (z.shape, z.device.type) == ((5, L), "meta")
    assert energy(y, z[:, None], a).shape == (5, 3)
    assert denoising_loss(energy, y, z[:, None], a).shape == (5, 3)


def test_dtype_follows():
    energy = ConceptEnergy(latent=L, hidden=8, dtype=F64)
    z = energy.infer(numbers(3, 8))
    assert z.dtype == energy(numbers(3, 8), z).dtype == denoising_loss(energy, numbers(3, 8), z).dtype == F64


def test_the_energy_maps_over_events_under_vmap():
    energy, y, z = network(), numbers(5, 8), numbers(5, L, seed=1)
    a = numbers(5, 4, seed=2).abs()
    torch.testing.assert_close(torch.vmap(energy)(y, z, a), energy(y, z, a))


Y, Z = torch.zeros(3, 8, dtype=F64), torch.zeros(L, dtype=F64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ConceptEnergy(latent=0), "latent must"),
        (lambda: ConceptEnergy(hidden=0), "hidden must"),
        (lambda: ConceptEnergy(residuals=0), "residuals must"),
        (lambda: ConceptEnergy(steps=0), "steps must"),
        (lambda: network()(torch.zeros(3, 7), Z), r"two coordinates for each point.*\(3, 7\)"),
        (lambda: network()(Y, torch.zeros(5)), r"z must have shape \(..., 4\), got \(5,\)"),
        (lambda: network()(Y, torch.tensor(1.0)), r"z must have shape \(..., 4\), got \(\)"),
        (lambda: network()(Y, Z, torch.ones(3)), r"attention must have one weight for each of 4 points, got \(3,\)"),
        (lambda: network()(Y, Z, torch.tensor(1.0)), "attention must have one weight"),
        (lambda: network()(Y, Z, torch.tensor([1.0, 1, 1, -1])), "attention must be zero or positive"),
        (lambda: network()(Y, Z, torch.zeros(4)), "attention must be zero or positive"),
        (lambda: network()(Y, Z, torch.tensor([1.0, 1, 1, math.nan])), "attention must be finite"),
        (lambda: network()(Y, torch.zeros(2, L)), r"must broadcast, got shapes \(3, 8\), \(2, 4\) and \(4,\)"),
        (lambda: network().infer(torch.zeros(8, dtype=F64)), r"at least one demonstration.*\(8,\)"),
        (lambda: network().infer(torch.zeros(2, 0, 8, dtype=F64)), r"at least one demonstration.*\(2, 0, 8\)"),
        (lambda: network().infer(Y, steps=0), "steps must"),
        (lambda: network().infer(torch.zeros(2, 7, dtype=F64)), "two coordinates"),
        (lambda: denoising_loss(network(), Y, Z, low=0.0), "low and high must.*got 0.0 and 1.0"),
        (lambda: denoising_loss(network(), Y, Z, low=0.5, high=0.1), "low and high must.*got 0.5 and 0.1"),
        (lambda: denoising_loss(network(), Y, Z, high=math.inf), "low and high must be finite"),
        (lambda: denoising_loss(network(), torch.zeros(3), Z), "two coordinates"),
    ],
)
def test_bad_input_is_refused_with_its_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
