"""Semirings: their laws, their derivatives, and what the derivative of a whole programme means."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ebm_lib import free_energy as fe
from ebm_lib.structured import Minimum, Sampled, SoftMinimum, occupation, of_temperature

ENERGIES = st.lists(st.floats(-20, 20) | st.just(math.inf), min_size=1, max_size=6)
BETAS = st.sampled_from([0.1, 1.0, 7.0])


@given(ENERGIES, BETAS)
def test_each_reduction_is_the_free_energy_of_its_temperature(energies, beta):
    energy = torch.tensor(energies, dtype=torch.float64)
    torch.testing.assert_close(SoftMinimum(beta)(energy, 0), fe.free_energy(energy, beta))
    assert Minimum()(energy, 0) == fe.free_energy(energy)
    torch.testing.assert_close(Sampled(beta)(energy, 0), fe.free_energy(energy, beta))


@given(ENERGIES, st.floats(-5, 5), BETAS)
def test_addition_distributes_over_each_reduction(energies, added, beta):
    energy = torch.tensor(energies, dtype=torch.float64)
    for semiring in (Minimum(), SoftMinimum(beta)):
        torch.testing.assert_close(semiring(energy + added, 0), semiring(energy, 0) + added)


@given(st.lists(ENERGIES.filter(lambda e: len(e) >= 2).map(lambda e: e[:2]), min_size=2, max_size=4), BETAS)
def test_reducing_two_dimensions_in_either_order_is_the_same(rows, beta):
    energy = torch.tensor(rows, dtype=torch.float64)
    for semiring in (Minimum(), SoftMinimum(beta)):
        torch.testing.assert_close(semiring(semiring(energy, 0), 0), semiring(semiring(energy, 1), 0))


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=6), BETAS)
def test_the_soft_minimums_derivative_is_the_gibbs_distribution(energies, beta):
    energy = torch.tensor(energies, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(SoftMinimum(beta)(energy, 0), energy)
    torch.testing.assert_close(slope, torch.softmax(-beta * energy.detach(), 0))


def test_second_derivatives_agree_with_differences():
    energy = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda e: SoftMinimum(2.0)(e, -1), energy)
    assert torch.autograd.gradgradcheck(lambda e: SoftMinimum(2.0)(e, -1), energy)


def test_the_minimums_derivative_names_one_of_several_equals():
    energy = torch.tensor([2.0, 1.0, 1.0], requires_grad=True)
    (slope,) = torch.autograd.grad(Minimum()(energy, 0), energy)
    assert slope.tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("semiring", [Minimum(), SoftMinimum(3.0), Sampled(3.0)])
def test_where_nothing_is_possible_the_result_is_infinite_and_nothing_is_nan(semiring):
    energy = torch.tensor([[torch.inf, torch.inf], [torch.inf, 1.0]], requires_grad=True)
    value = semiring(energy, -1)
    assert value.tolist() == [math.inf, 1.0]
    (slope,) = torch.autograd.grad(value[1], energy)
    assert slope.tolist() == [[0.0, 0.0], [0.0, 1.0]]
    (slope,) = torch.autograd.grad(semiring(energy, -1).sum(), energy)
    assert not slope.isnan().any()
    assert slope[1].tolist() == [0.0, 1.0]


def test_a_large_beta_neither_overflows_nor_underflows():
    energy = torch.tensor([1e4, 1e4 + 1.0, -1e4], dtype=torch.float64, requires_grad=True)
    assert SoftMinimum(1e4)(energy, 0) == -1e4
    (slope,) = torch.autograd.grad(SoftMinimum(1e4)(energy, 0), energy)
    assert slope.tolist() == [0.0, 0.0, 1.0]


def test_draws_have_the_gibbs_frequencies():
    generator = torch.Generator().manual_seed(0)
    energy = torch.tensor([0.0, 0.5, 2.0, torch.inf], dtype=torch.float64)
    many = energy.expand(40_000, 4).clone().requires_grad_()
    (drawn,) = torch.autograd.grad(Sampled(2.0, generator)(many, -1).sum(), many)
    assert (drawn.sum(-1) == 1).all()
    expected = torch.softmax(-2.0 * energy, 0)
    spread = (expected * (1 - expected) / 40_000).sqrt()
    assert ((drawn.mean(0) - expected).abs() <= 4 * spread).all()


def test_a_generator_fixes_the_draws():
    energy = torch.zeros(50, 3, requires_grad=True)

    def drawn(seed):
        value = Sampled(1.0, torch.Generator().manual_seed(seed))(energy, -1).sum()
        return torch.autograd.grad(value, energy)[0]

    assert drawn(1).equal(drawn(1))
    assert not drawn(1).equal(drawn(2))


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan])
def test_a_beta_that_is_not_positive_is_refused(beta):
    for make in (SoftMinimum, Sampled, of_temperature):
        with pytest.raises(ValueError, match="beta"):
            make(beta)


def test_the_semiring_of_a_temperature():
    assert isinstance(of_temperature(math.inf), Minimum)
    assert of_temperature(3.0).beta == 3.0


def test_occupation_leaves_the_callers_tensors_alone():
    energy = torch.tensor([1.0, 2.0], requires_grad=True)
    with torch.no_grad():
        (used,) = occupation(lambda e: SoftMinimum(1.0)(e, 0), energy)
    torch.testing.assert_close(used, torch.softmax(-energy.detach(), 0))
    assert energy.grad is None
    assert not used.requires_grad


def test_occupation_counts_a_factor_that_serves_twice_twice():
    (used,) = occupation(lambda e: Minimum()(e, 0) + Minimum()(e, 0), torch.tensor([1.0, 2.0]))
    assert used.tolist() == [2.0, 0.0]


def test_occupation_of_a_factor_that_is_not_looked_at_is_zero():
    used = occupation(lambda a, b: Minimum()(a, 0), torch.ones(2), torch.ones(3))
    assert used[1].tolist() == [0.0, 0.0, 0.0]
    assert occupation(lambda a: torch.zeros(()), torch.ones(2))[0].tolist() == [0.0, 0.0]


def test_occupation_refuses_integers_and_the_impossible():
    with pytest.raises(ValueError, match="factor 1 is torch.int64"):
        occupation(lambda a, b: Minimum()(a, 0), torch.ones(2), torch.ones(2, dtype=torch.long))
    with pytest.raises(ValueError, match="1 of 2"):
        occupation(lambda a: SoftMinimum(1.0)(a, -1), torch.tensor([[0.0, 1.0], [torch.inf, torch.inf]]))


@pytest.mark.parametrize("semiring", [Minimum(), SoftMinimum(1.0), Sampled(1.0)])
def test_only_shapes_are_needed(semiring):
    energy = torch.empty(5, 3, device="meta", dtype=torch.float64)
    value = semiring(energy, -1)
    assert value.shape == (5,)
    assert value.dtype == torch.float64
    assert value.device.type == "meta"


def test_vmap_is_a_loop():
    energy = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    for semiring in (Minimum(), SoftMinimum(2.0)):
        torch.testing.assert_close(torch.func.vmap(lambda e, s=semiring: s(e, 0))(energy), semiring(energy, 1))
