"""The restricted Boltzmann machine against the enumeration of its states in plain Python, and scikit-learn's."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.neural_network import BernoulliRBM

from ebm_lib import sampling
from ebm_lib.boltzmann import RBM, binary_states, log_odds

KIND = dict(dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rbm(visible=4, hidden=3, scale=1.0, seed=1):
    """Weights and biases large enough to matter."""
    r, generator = RBM(visible, hidden, **KIND), seeded(seed)
    with torch.no_grad():
        for parameter in r.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, **KIND))
    return r


def vectors(n):
    return list(itertools.product([0, 1], repeat=n))


def rbm_energy(r, v, h):
    w, a, b = r.weight.tolist(), r.visible_bias.tolist(), r.hidden_bias.tolist()
    total = -sum(a[i] * v[i] for i in range(len(v))) - sum(b[j] * h[j] for j in range(len(h)))
    return total - sum(w[j][i] * h[j] * v[i] for j in range(len(h)) for i in range(len(v)))


def log_sum(values):
    top = max(values)
    return top + math.log(sum(math.exp(x - top) for x in values))


def as_tensor(s):
    return torch.tensor(s, **KIND)


@pytest.mark.parametrize("beta", [0.3, 1.0, 2.5])
@pytest.mark.parametrize(("visible", "hidden"), [(4, 3), (2, 5)])  # either side may be the smaller one
def test_an_rbms_sums_are_those_over_all_states(visible, hidden, beta):
    r = rbm(visible, hidden)
    joint = {(v, h): rbm_energy(r, v, h) for v in vectors(visible) for h in vectors(hidden)}
    log_z = log_sum([-beta * e for e in joint.values()])
    assert r.log_partition(beta).item() == pytest.approx(log_z, rel=1e-10)
    for v in vectors(visible):
        y = as_tensor(v)
        rows = {h: joint[v, h] for h in vectors(hidden)}
        free = -log_sum([-beta * e for e in rows.values()]) / beta
        assert r.free_energy(y, beta).item() == pytest.approx(free, rel=1e-9, abs=1e-12)
        assert r.log_likelihood(y, beta).item() == pytest.approx(-beta * free - log_z, rel=1e-9)
        lowest = min(rows, key=rows.get)
        assert r.infer(y).tolist() == list(lowest)
        assert r.free_energy(y, math.inf).item() == pytest.approx(rows[lowest], abs=1e-9)
        p = [sum(math.exp(-beta * (e - free)) for h, e in rows.items() if h[j]) for j in range(hidden)]
        np.testing.assert_allclose(r.hidden_probability(y, beta).tolist(), p, rtol=1e-9)
        for h in (vectors(hidden)[0], vectors(hidden)[-2]):
            assert r(y, as_tensor(h)).item() == pytest.approx(rows[h], abs=1e-10)
    h = vectors(hidden)[-2]
    column = {v: joint[v, h] for v in vectors(visible)}
    norm = log_sum([-beta * e for e in column.values()])
    p = [sum(math.exp(-beta * e - norm) for v, e in column.items() if v[i]) for i in range(visible)]
    np.testing.assert_allclose(r.visible_probability(as_tensor(h), beta).tolist(), p, rtol=1e-9)


def test_log_one_plus_exp_is_not_its_argument_where_float64_can_tell_them_apart():
    r = RBM(1, 2, **KIND)  # as many states of either layer are summed: by free energies, or by the other side
    other_side = RBM(2, 1, **KIND)
    with torch.no_grad():
        for module in (r, other_side):
            module.weight.zero_()
        r.hidden_bias.fill_(22.0)
        other_side.visible_bias.fill_(22.0)
    soft = math.log1p(math.exp(22))
    assert r.free_energy(torch.ones(1, **KIND)).item() == pytest.approx(-2 * soft, rel=1e-14)
    for module in (r, other_side):
        assert module.log_partition().item() == pytest.approx(2 * soft + math.log(2), rel=1e-14)
    base = other_side.visible_bias.detach()
    assert other_side.estimate_log_partition(base, fractions=1).log_partition.item() == pytest.approx(
        2 * soft + math.log(2), rel=1e-14
    )


def test_a_unit_that_changes_nothing_is_off():
    r = RBM(2, 3)
    with torch.no_grad():
        r.weight.zero_()
    assert r.infer(torch.ones(2)).tolist() == [0.0] * 3


def test_an_rbm_is_scikit_learns():
    theirs = BernoulliRBM(n_components=5, n_iter=3, learning_rate=0.3, random_state=0)
    data = (np.random.default_rng(0).random((80, 7)) < 0.4).astype(float)
    theirs.fit(data)
    ours = RBM(7, 5, **KIND)
    with torch.no_grad():
        ours.weight.copy_(torch.from_numpy(theirs.components_))
        ours.visible_bias.copy_(torch.from_numpy(theirs.intercept_visible_))
        ours.hidden_bias.copy_(torch.from_numpy(theirs.intercept_hidden_))
    v = torch.from_numpy(data)
    np.testing.assert_allclose(ours.free_energy(v).detach(), theirs._free_energy(data), rtol=1e-10)
    np.testing.assert_allclose(ours.hidden_probability(v).detach(), theirs.transform(data), rtol=1e-10)
    # Their score is a pseudo-likelihood: the free energies of a sample and of its copy with one unit turned over.
    turned = np.random.RandomState(1).randint(0, 7, 80)
    theirs.random_state = 1
    other = v.clone()
    other[np.arange(80), turned] = 1 - other[np.arange(80), turned]
    expected = 7 * torch.nn.functional.logsigmoid(ours.free_energy(other) - ours.free_energy(v))
    np.testing.assert_allclose(theirs.score_samples(data), expected.detach(), rtol=1e-8)
    # One of their Gibbs steps, whose coins we know, is one of our sweeps with the same coins.
    generator = np.random.RandomState(2)
    coins = [generator.uniform(size=(80, n)) for n in (5, 7)]
    theirs.random_state_ = np.random.RandomState(2)
    theirs.random_state = np.random.RandomState(2)
    h = torch.from_numpy(coins[0]) < ours.hidden_probability(v)
    visible = torch.from_numpy(coins[1]) < ours.visible_probability(h.double())
    assert (theirs.gibbs(data) == visible.numpy()).all()


def block_matrix(r, beta=1.0):
    """T[a, b]: the probability that one block Gibbs sweep leads from visible state a to b."""
    v, h = binary_states(r.visible, **KIND), binary_states(r.hidden, **KIND)
    energy = r(v[:, None], h[None]).detach()
    return torch.softmax(-beta * energy, 1) @ torch.softmax(-beta * energy, 0).T


@pytest.mark.parametrize("beta", [0.3, 3.0])
def test_one_layer_is_drawn_given_the_other_at_the_temperature_asked_for(beta):
    r, count = rbm(3, 4), 20_000
    v, h = as_tensor([1.0, 0.0, 1.0]), as_tensor([0.0, 1.0, 1.0, 0.0])
    for drawn, p in (
        (r.sample_hidden(v.expand(count, 3), beta, generator=seeded(2)), r.hidden_probability(v, beta)),
        (r.sample_visible(h.expand(count, 4), beta, generator=seeded(2)), r.visible_probability(h, beta)),
    ):
        p = p.detach()
        assert ((drawn.mean(0) - p).abs() < 5 * (p * (1 - p) / count).sqrt()).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("likely", [0.0, 1.0])
def test_rare_states_stay_rare_in_half_precision(dtype, likely):
    p, count = 1 / (1 + math.exp(8)), 1_000_000
    r = RBM(1000, 1000, dtype=dtype)
    with torch.no_grad():
        r.weight.zero_()
        for bias in (r.visible_bias, r.hidden_bias):
            bias.fill_(16 * likely - 8)
    start = torch.zeros(1000, 1000, dtype=dtype)
    for found in (
        r.gibbs(start, sweeps=1, generator=seeded()),
        r.sample_hidden(start, generator=seeded(1)),
        r.sample_visible(start, generator=seeded(2)),
    ):
        assert (found != likely).double().mean().item() == pytest.approx(p, abs=5 * math.sqrt(p / count))


@pytest.mark.parametrize(("sweeps", "beta"), [(1, 1.0), (3, 0.6), (2, 2.0)])
def test_block_gibbs_sampling_follows_its_transition_matrix(sweeps, beta):
    r = rbm(4, 3)
    start = binary_states(4, **KIND)[9]
    found = r.gibbs(start.expand(30_000, 4), sweeps=sweeps, beta=beta, generator=seeded(7))
    law = torch.linalg.matrix_power(block_matrix(r, beta), sweeps)[9]
    count = np.bincount((found @ 2.0 ** torch.arange(4, **KIND)).long().numpy(), minlength=16)
    assert stats.chisquare(count, 30_000 * law.numpy()).pvalue > 1e-3
    gibbs = torch.softmax(-beta * r.free_energy(binary_states(4, **KIND), beta), 0)
    torch.testing.assert_close(gibbs @ block_matrix(r, beta), gibbs)


def test_the_package_of_samplers_drives_it_to_the_same_states():
    r = rbm(4, 3)
    v = (torch.rand(50, 4, generator=seeded(8), **KIND) < 0.5).double()
    found = sampling.gibbs(
        (torch.zeros(50, 3, **KIND), v),
        (
            lambda h, v, g: r.sample_hidden(v, generator=g),
            lambda h, v, g: r.sample_visible(h, generator=g),
        ),
        sweeps=6,
        keep_every=1,
        generator=seeded(9),
    )
    assert torch.equal(found.blocks[1], r.gibbs(v, sweeps=6, generator=seeded(9)))
    assert torch.equal(found.paths[1][3], r.gibbs(v, sweeps=4, generator=seeded(9)))
    assert torch.equal(r.gibbs(v, sweeps=6, generator=seeded(9)), r.contrastive_divergence(v, 6, generator=seeded(9)))


def gradients(r, loss):
    r.zero_grad()
    loss.backward()
    return torch.cat([r.weight.grad.flatten(), r.visible_bias.grad, r.hidden_bias.grad])


def test_contrastive_divergence_has_its_exact_gradient_and_goes_to_the_likelihoods():
    r, states = rbm(4, 3, scale=0.8, seed=10), binary_states(4, **KIND)
    data = states[[1, 6, 7, 14]]
    likelihood = gradients(r, -r.log_likelihood(data).mean())
    errors = []
    for k in (1, 3, 10, 60):
        law = torch.linalg.matrix_power(block_matrix(r), k)[[1, 6, 7, 14]].mean(0)
        exact = gradients(r, r.free_energy(data).mean() - (law * r.free_energy(states)).sum())
        errors.append((exact - likelihood).norm().item())
        negatives = r.contrastive_divergence(data.repeat(5000, 1), k, generator=seeded(11))
        assert not negatives.requires_grad
        found = gradients(r, r.free_energy(data).mean() - r.free_energy(negatives).mean())
        torch.testing.assert_close(found, exact, rtol=0, atol=0.015)
    assert all(a > 2 * b for a, b in itertools.pairwise(errors))
    assert errors[-1] < 1e-5
    # The gradient of a weight by the textbook: <v h> of data minus <v h> of negatives, with h its expectation.
    found = gradients(r, r.free_energy(data).mean() - r.free_energy(negatives).mean())
    textbook = [r.hidden_probability(v).T @ v / len(v) for v in (negatives, data)]
    torch.testing.assert_close(found[:12].view(3, 4), (textbook[0] - textbook[1]).detach())


def test_the_temperature_reaches_contrastive_divergence():
    r, v = rbm(4, 3), torch.ones(50, 4, **KIND)
    found = r.contrastive_divergence(v, 3, beta=0.2, generator=seeded(2))
    assert torch.equal(found, r.gibbs(v, sweeps=3, beta=0.2, generator=seeded(2)))
    assert not torch.equal(found, r.gibbs(v, sweeps=3, generator=seeded(2)))


def test_persistent_chains_learn_a_law_that_enumeration_confirms():
    r = RBM(5, 4, generator=seeded(12), **KIND)
    data = binary_states(5, **KIND)[[0, 3, 12, 31]].repeat(25, 1)
    optimizer = torch.optim.SGD(r.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 400)
    negatives, generator = data.clone(), seeded(13)
    before = r.log_likelihood(data).mean().item()
    for _ in range(400):
        negatives = r.contrastive_divergence(negatives, 1, generator=generator)
        optimizer.zero_grad()
        (r.free_energy(data).mean() - r.free_energy(negatives).mean()).backward()
        optimizer.step()
        schedule.step()
    after = r.log_likelihood(data).mean().item()
    assert before == pytest.approx(-5 * math.log(2), abs=0.05)
    assert after > -math.log(4) - 0.4  # the best there is: four patterns, evenly


def test_annealed_importance_sampling_agrees_with_enumeration():
    r = rbm(10, 8, scale=0.7, seed=14)
    data = r.gibbs((torch.rand(500, 10, generator=seeded(15), **KIND) < 0.5).double(), sweeps=50, generator=seeded(16))
    found = r.estimate_log_partition(log_odds(data), chains=1000, fractions=100, generator=seeded(17))
    exact = r.log_partition().item()
    assert found.log_partition.item() == pytest.approx(exact, abs=4 * found.standard_error.item())
    assert found.standard_error < 0.03
    assert found.effective_samples > 500
    v = data[:20]
    torch.testing.assert_close(
        r.log_likelihood(v, log_partition=found.log_partition), -r.free_energy(v) - found.log_partition
    )
    worse = r.estimate_log_partition(log_odds(data), chains=1000, fractions=2, generator=seeded(18))
    assert worse.effective_samples < found.effective_samples


def test_the_annealed_weights_are_unbiased_after_a_few_steps_too():
    # True of transitions that leave each energy on the way invariant, and of no others.
    r = rbm(6, 5, scale=1.2, seed=14)
    found = r.estimate_log_partition(torch.zeros(6, **KIND), chains=50_000, fractions=4, generator=seeded(17))
    assert found.log_partition.item() == pytest.approx(r.log_partition().item(), abs=4 * found.standard_error.item())
    assert found.standard_error < 0.02
    law = torch.softmax(-r.free_energy(binary_states(6, **KIND)), 0).detach()
    exact = binary_states(6, **KIND)[torch.multinomial(law, 50_000, replacement=True, generator=seeded(18))]
    back = r.estimate_log_partition(
        torch.zeros(6, **KIND), samples=exact, fractions=[0.0, 0.2, 0.5, 1.0], generator=seeded(19)
    )
    assert back.log_partition.item() == pytest.approx(r.log_partition().item(), abs=4 * back.standard_error.item())
    assert back.standard_error < 0.02


def test_forwards_the_estimate_is_too_small_and_backwards_too_large():
    r = rbm(6, 5, scale=2.0, seed=14)
    law = torch.softmax(-r.free_energy(binary_states(6, **KIND)), 0).detach()
    signs = []
    for seed in range(30):
        sample = binary_states(6, **KIND)[torch.multinomial(law, 5, replacement=True, generator=seeded(seed))]
        one = r.estimate_log_partition(torch.zeros(6, **KIND), chains=5, fractions=5, generator=seeded(seed))
        two = r.estimate_log_partition(torch.zeros(6, **KIND), samples=sample, fractions=5, generator=seeded(seed))
        signs.append((one.log_partition.item(), two.log_partition.item()))
    forwards, backwards = np.mean(signs, 0) - r.log_partition().item()
    assert forwards < -0.05
    assert backwards > 0.05


def test_annealing_is_exact_when_there_is_nothing_to_anneal():
    independent = RBM(6, 3, **KIND)
    with torch.no_grad():
        independent.weight.zero_()
        independent.visible_bias.copy_(torch.randn(6, generator=seeded(19), **KIND))
    found = independent.estimate_log_partition(independent.visible_bias.detach(), chains=10, fractions=5)
    assert found.log_partition.item() == pytest.approx(independent.log_partition().item(), rel=1e-12)
    assert found.standard_error.item() == pytest.approx(0, abs=1e-10)
    assert found.effective_samples.item() == pytest.approx(10)


@pytest.mark.parametrize(("machine", "base"), [(torch.float32, torch.float64), (torch.float64, torch.float32)])
def test_the_base_of_the_annealing_may_be_of_another_dtype(machine, base):
    r, rates = rbm(4, 3).to(machine), torch.randn(4, generator=seeded(20)).to(base)
    one, other = (
        r.estimate_log_partition(rates.to(dtype), chains=5, fractions=3, generator=seeded(21))
        for dtype in (base, machine)
    )
    assert one.log_partition.dtype == machine
    torch.testing.assert_close(one.log_partition, other.log_partition)
