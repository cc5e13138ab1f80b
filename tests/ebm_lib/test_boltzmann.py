"""Boltzmann machines against the enumeration of their states in plain Python, and the contract of all of them."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from ebm_lib.boltzmann import RBM, BoltzmannMachine, binary_states, log_odds, units

KIND = dict(dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def spread(module, scale=1.0, seed=1):
    """Weights and biases large enough to matter."""
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, **KIND))
    return module


def machine(visible=4, hidden=0, scale=1.0, seed=1):
    return spread(BoltzmannMachine(visible, hidden, **KIND), scale, seed)


def rbm(visible=4, hidden=3, scale=1.0, seed=1):
    return spread(RBM(visible, hidden, **KIND), scale, seed)


def vectors(n):
    return list(itertools.product([0, 1], repeat=n))


def machine_energy(m, s):
    """From the definition, with plain numbers."""
    n, pairs = len(s), iter(m.coupling.tolist())
    total = 0.0
    for i in range(n):
        for j in range(i + 1, n):
            total -= next(pairs) * s[i] * s[j]
    return total - sum(b * x for b, x in zip(m.bias.tolist(), s, strict=True))


def log_sum(values):
    top = max(values)
    return top + math.log(sum(math.exp(x - top) for x in values))


def as_tensor(s):
    return torch.tensor(s, **KIND)


# --- states --------------------------------------------------------------------------------------------------------
def test_binary_states_are_all_of_them_once_in_order():
    found = binary_states(5, **KIND)
    assert found.shape == (32, 5)
    assert (found @ 2.0 ** torch.arange(5, **KIND)).tolist() == list(range(32))
    assert binary_states(1).dtype == torch.get_default_dtype()
    assert binary_states(3, device="meta").device.type == "meta"


def test_log_odds_are_those_of_laplaces_rule():
    data = (torch.rand(37, 6, generator=seeded(), **KIND) < 0.3).double()
    on = data.sum(0)
    p = (on + 1) / (37 + 2)
    torch.testing.assert_close(log_odds(data), torch.log(p / (1 - p)))
    assert torch.isfinite(log_odds(torch.zeros(5, 2))).all()


def test_a_coin_of_zero_does_not_turn_on_what_is_impossible(monkeypatch):
    monkeypatch.setattr(units, "coins", lambda shape, generator, dtype, device: torch.zeros(shape, dtype=dtype))
    assert units.coins_of(torch.full((3,), -math.inf), None).tolist() == [0.0] * 3


# --- the general machine -------------------------------------------------------------------------------------------
def test_the_energy_is_its_definition_and_the_weights_are_symmetric_without_self_coupling():
    m = machine(5)
    for s in vectors(5):
        assert m(as_tensor(s)).item() == pytest.approx(machine_energy(m, s), abs=1e-10)
        by_matrix = -0.5 * as_tensor(s) @ m.weight @ as_tensor(s) - m.bias @ as_tensor(s)
        assert m.energy(as_tensor(s)).item() == pytest.approx(by_matrix.item(), abs=1e-10)
    assert torch.equal(m.weight, m.weight.T)
    assert (m.weight.diagonal() == 0).all()
    assert m.weight[0, 1] == m.coupling[0]
    assert m.weight[1, 4] == m.coupling[4 + 2]


@pytest.mark.parametrize("beta", [0.3, 1.0, 2.5])
def test_partition_function_free_energy_and_likelihood_are_sums_over_all_states(beta):
    m = machine(3, 2)
    log_z = log_sum([-beta * machine_energy(m, s) for s in vectors(5)])
    assert m.log_partition(beta).item() == pytest.approx(log_z, rel=1e-10)
    for v in vectors(3):
        joint = [-beta * machine_energy(m, v + h) for h in vectors(2)]
        assert m.free_energy(as_tensor(v), beta).item() == pytest.approx(-log_sum(joint) / beta, rel=1e-9)
        assert m.log_likelihood(as_tensor(v), beta).item() == pytest.approx(log_sum(joint) - log_z, rel=1e-9)
        lowest = min(vectors(2), key=lambda h: machine_energy(m, v + h))
        assert m.infer(as_tensor(v)).tolist() == list(lowest)
        assert m.free_energy(as_tensor(v), math.inf).item() == pytest.approx(machine_energy(m, v + lowest), abs=1e-9)
    likelihoods = m.log_likelihood(binary_states(3, **KIND), beta)
    assert likelihoods.exp().sum().item() == pytest.approx(1)
    plain = machine(4)
    assert torch.equal(plain.free_energy(binary_states(4, **KIND), 2.0), plain(binary_states(4, **KIND)))


def test_visible_and_hidden_units_broadcast_and_may_be_joined():
    m = machine(3, 2)
    v, h = binary_states(3, **KIND), binary_states(2, **KIND)
    both = m(v[:, None], h[None])
    assert both.shape == (8, 4)
    assert both[5, 2] == m(torch.cat([v[5], h[2]]))


@pytest.mark.parametrize("beta", [0.5, 1.5])
def test_a_machines_gibbs_sampling_reaches_the_enumerated_law(beta):
    m = machine(4)
    found = m.gibbs(torch.zeros(30_000, 4, **KIND), sweeps=40, beta=beta, generator=seeded(2))
    law = torch.softmax(-beta * m(binary_states(4, **KIND)), 0).detach()
    count = np.bincount((found @ 2.0 ** torch.arange(4, **KIND)).long().numpy(), minlength=16)
    assert stats.chisquare(count, 30_000 * law.numpy()).pvalue > 1e-3


def test_one_sweep_is_the_same_as_by_energy_differences():
    m = machine(6)
    start = (torch.rand(50, 6, generator=seeded(3), **KIND) < 0.5).double()
    probability = []
    state = start.clone()
    found = m.gibbs(start, sweeps=1, beta=0.7, generator=seeded(4))
    coins = torch.rand(6, 50, generator=seeded(4), **KIND)
    for i in range(6):
        up, down = state.clone(), state.clone()
        up[:, i], down[:, i] = 1, 0
        probability.append(torch.sigmoid(-0.7 * (m(up) - m(down))).detach())
        state[:, i] = (coins[i] < probability[i]).double()
    assert torch.equal(found, state)
    assert not torch.equal(found, start)


def test_a_sum_over_several_chunks_of_states():
    m = BoltzmannMachine(16, **KIND)
    assert 2**16 > units._CHUNK
    with torch.no_grad():
        m.coupling.zero_()
        m.bias.copy_(torch.randn(16, generator=seeded(), **KIND))
    torch.testing.assert_close(m.log_partition(0.7), torch.log1p(torch.exp(0.7 * m.bias)).sum())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("likely", [0.0, 1.0])
def test_rare_states_stay_rare_in_half_precision(dtype, likely):
    p, count = 1 / (1 + math.exp(8)), 1_000_000
    m = BoltzmannMachine(1, dtype=dtype)
    with torch.no_grad():
        m.bias.fill_(16 * likely - 8)
    found = m.gibbs(torch.zeros(count, 1, dtype=dtype), sweeps=1, generator=seeded())
    assert (found != likely).double().mean().item() == pytest.approx(p, abs=5 * math.sqrt(p / count))


def test_clamped_units_stay_and_the_others_follow_their_conditional():
    m = machine(2, 2)
    clamped = torch.tensor([True, True, False, False])
    start = torch.tensor([1.0, 0.0, 0.0, 0.0], **KIND).expand(20_000, 4)
    found = m.gibbs(start, sweeps=15, clamped=clamped, generator=seeded(5))
    assert (found[:, :2] == start[:, :2]).all()
    law = torch.softmax(-m(torch.tensor([1.0, 0.0], **KIND).expand(4, 2), binary_states(2, **KIND)), 0).detach()
    count = np.bincount((found[:, 2] + 2 * found[:, 3]).long().numpy(), minlength=4)
    assert stats.chisquare(count, 20_000 * law.numpy()).pvalue > 1e-3


def test_the_gradient_is_the_difference_of_correlations_and_that_of_the_likelihood():
    m = machine(4)
    data = binary_states(4, **KIND)[[1, 5, 7, 7, 15]]
    states = binary_states(4, **KIND)
    p = torch.softmax(-m(states), 0).detach()
    (m(data).mean() - (p * m(states)).sum()).backward()
    row, column = torch.triu_indices(4, 4, 1)
    in_data = (data.T @ data / 5)[row, column]
    in_model = (states.T @ (p[:, None] * states))[row, column]
    torch.testing.assert_close(m.coupling.grad, in_model - in_data)
    torch.testing.assert_close(m.bias.grad, p @ states - data.mean(0))
    by_difference = [m.coupling.grad.clone(), m.bias.grad.clone()]
    m.zero_grad()
    (-m.log_likelihood(data).mean()).backward()
    torch.testing.assert_close([m.coupling.grad, m.bias.grad], by_difference)


def test_a_machine_with_hidden_units_learns_what_one_without_cannot():
    parity = torch.tensor([s for s in vectors(3) if sum(s) % 2 == 0], **KIND)  # no pair correlation tells of it
    scores = []
    for hidden in (0, 2):
        m = machine(3, hidden, scale=0.5, seed=6)
        optimizer = torch.optim.LBFGS(m.parameters(), max_iter=100, line_search_fn="strong_wolfe")

        def closure(m=m, optimizer=optimizer):
            optimizer.zero_grad()
            loss = -m.log_likelihood(parity).mean() + 1e-5 * sum(p.square().sum() for p in m.parameters())
            loss.backward()
            return loss

        optimizer.step(closure)
        scores.append(m.log_likelihood(parity).mean().item())
    assert scores[0] == pytest.approx(-math.log(8), abs=0.01)
    assert scores[1] > -math.log(4) - 0.1


# --- contract ------------------------------------------------------------------------------------------------------
CALLS = {
    "machine": lambda m, v, h, g: (m["machine"](v, h), m["machine"](torch.cat([v, h], -1))),
    "machine.free_energy": lambda m, v, h, g: m["machine"].free_energy(v),
    "machine.infer": lambda m, v, h, g: m["machine"].infer(v),
    "machine.log_likelihood": lambda m, v, h, g: m["machine"].log_likelihood(v),
    "machine.gibbs": lambda m, v, h, g: m["machine"].gibbs(torch.cat([v, h], -1), sweeps=2, generator=g),
    "machine.weight": lambda m, v, h, g: m["machine"].weight,
    "rbm": lambda m, v, h, g: m["rbm"](v, h),
    "rbm.free_energy": lambda m, v, h, g: m["rbm"].free_energy(v),
    "rbm.infer": lambda m, v, h, g: m["rbm"].infer(v),
    "rbm.hidden_probability": lambda m, v, h, g: m["rbm"].hidden_probability(v),
    "rbm.visible_probability": lambda m, v, h, g: m["rbm"].visible_probability(h),
    "rbm.sample_hidden": lambda m, v, h, g: m["rbm"].sample_hidden(v, generator=g),
    "rbm.sample_visible": lambda m, v, h, g: m["rbm"].sample_visible(h, generator=g),
    "rbm.gibbs": lambda m, v, h, g: m["rbm"].gibbs(v, sweeps=2, generator=g),
    "rbm.contrastive_divergence": lambda m, v, h, g: m["rbm"].contrastive_divergence(v, 2, generator=g),
    "rbm.log_likelihood": lambda m, v, h, g: m["rbm"].log_likelihood(v),
    "rbm.estimate_log_partition": lambda m, v, h, g: m["rbm"].estimate_log_partition(
        v[0] * 2 - 1, chains=4, fractions=3, generator=g
    ),
    "log_odds": lambda m, v, h, g: log_odds(v),
}
MODULE_ONLY = {"machine.weight"}


def setting(dtype=torch.float64, device=None):
    modules = {
        "machine": BoltzmannMachine(4, 3, generator=seeded(20), dtype=dtype, device=device),
        "rbm": RBM(4, 3, generator=seeded(21), dtype=dtype, device=device),
    }
    v, h = ((torch.rand(6, n, generator=seeded(22), **KIND) < 0.5).to(dtype) for n in (4, 3))
    return (modules, v, h) if device is None else (modules, v.to(device), h.to(device))


def tensors(result):
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("name", CALLS)
def test_every_method_keeps_the_contract(name):
    call = CALLS[name]
    for dtype in (torch.float32, torch.float64):
        modules, v, h = setting(dtype)
        copies = v.clone(), h.clone()
        found = tensors(call(modules, v, h, seeded(23)))
        assert all(t.dtype == dtype for t in found)
        assert torch.equal(v, copies[0])
        assert torch.equal(h, copies[1])
        assert all(torch.equal(a, b) for a, b in zip(found, tensors(call(modules, v, h, seeded(23))), strict=True))
    shadow = tensors(call(*setting(device="meta"), seeded(23)))
    assert [t.shape for t in shadow] == [t.shape for t in found]
    assert all(t.device.type == "meta" for t in shadow)
    if name not in MODULE_ONLY:
        modules, v, h = setting()
        v[0, 1] = h[0, 1] = math.nan
        with pytest.raises(ValueError, match="must be finite"):
            call(modules, v, h, seeded(23))


def test_energies_work_under_vmap():
    modules, v, h = setting()
    for module in modules.values():
        torch.testing.assert_close(torch.func.vmap(module)(v, h), module(v, h))
        torch.testing.assert_close(torch.func.vmap(module.free_energy)(v), module.free_energy(v))


def test_weights_come_from_the_generator_small_and_around_zero():
    big = RBM(300, 200, generator=seeded(24))
    assert big.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert (big.visible_bias == 0).all()
    assert (big.hidden_bias == 0).all()
    assert torch.equal(big.weight, RBM(300, 200, generator=seeded(24)).weight)
    m = BoltzmannMachine(200, generator=seeded(25))
    assert m.coupling.std().item() == pytest.approx(0.01, rel=0.03)
    assert (m.bias == 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, r: binary_states(0), "units must be a whole number"),
        (lambda m, r: binary_states(21), "units must be at most 20 to be enumerated, got 21"),
        (lambda m, r: log_odds(torch.zeros(0, 3)), "at least one entry"),
        (lambda m, r: log_odds(torch.tensor([[2.0]])), "values from 0 to 1, got 2.0 to 2.0"),
        (lambda m, r: BoltzmannMachine(0), "visible must be"),
        (lambda m, r: BoltzmannMachine(2, -1), "hidden must be"),
        (lambda m, r: RBM(2, 0), "hidden must be"),
        (lambda m, r: m(torch.zeros(4)), r"s must have a last dimension of 5 units, got shape \(4,\)"),
        (lambda m, r: m(torch.zeros(2), torch.zeros(3)), "v must have a last dimension of 3 units"),
        (lambda m, r: m(torch.zeros(3), torch.zeros(2), torch.zeros(1)), "got 3 arguments"),
        (lambda m, r: m(torch.zeros(5, dtype=torch.int64)), "s must be floating point"),
        (lambda m, r: m(torch.full((5,), -0.1)), "s must hold values from 0 to 1"),
        (lambda m, r: machine(3).infer(torch.zeros(3, **KIND)), "no hidden units"),
        (lambda m, r: m.free_energy(torch.zeros(3, **KIND), 0.0), "beta must be"),
        (lambda m, r: m.gibbs(torch.zeros(5, **KIND), sweeps=0), "sweeps must be"),
        (lambda m, r: m.gibbs(torch.zeros(5, **KIND), sweeps=1, beta=-1.0), "beta must be"),
        (lambda m, r: m.gibbs(torch.zeros(5, **KIND), sweeps=1, clamped=torch.zeros(5)), "clamped must be boolean"),
        (lambda m, r: m.log_partition(math.inf), "beta must be a positive finite"),
        (lambda m, r: BoltzmannMachine(15, 6).log_partition(), "at most 20 to be enumerated, got 21"),
        (lambda m, r: BoltzmannMachine(1, 21).free_energy(torch.zeros(1)), "at most 20 to be enumerated"),
        (lambda m, r: r(torch.zeros(4, **KIND), torch.zeros(4, **KIND)), "h must have a last dimension of 3 units"),
        (lambda m, r: r.gibbs(torch.zeros(4, **KIND), sweeps=0), "sweeps must be"),
        (lambda m, r: r.gibbs(torch.zeros(4, **KIND), sweeps=1, beta=0.0), "beta must be"),
        (lambda m, r: r.contrastive_divergence(torch.zeros(4, **KIND), 0), "k must be"),
        (lambda m, r: r.free_energy(torch.zeros(4, **KIND), -1.0), "beta must be"),
        (lambda m, r: r.hidden_probability(torch.zeros(4, **KIND), math.inf), "beta must be a positive finite"),
        (lambda m, r: r.log_partition(0.0), "beta must be"),
        (lambda m, r: RBM(30, 21).log_partition(), "at most 20 to be enumerated, got 21"),
        (lambda m, r: r.estimate_log_partition(torch.zeros(3)), r"base must have shape \(4,\), got \(3,\)"),
        (lambda m, r: r.estimate_log_partition(torch.full((4,), math.nan)), "base must be finite"),
        (lambda m, r: r.estimate_log_partition(torch.zeros(4), chains=0), "chains must be"),
        (lambda m, r: r.estimate_log_partition(torch.zeros(4), samples=torch.zeros(2, 3)), "samples must have"),
        (lambda m, r: r.estimate_log_partition(torch.zeros(4), fractions=[0.0, 0.5]), "rise from 0 to 1"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(machine(3, 2), rbm(4, 3))
