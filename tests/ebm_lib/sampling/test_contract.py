"""What every public function of the package promises: device and dtype, no NaN, no changed argument, repeatable."""

import math

import pytest
import torch

from ebm_lib import sampling
from ebm_lib.boltzmann import BoltzmannMachine
from ebm_lib.nn import EnergyMLP

WEIGHT = torch.nn.Parameter(torch.tensor(1.5))


def energy(y):
    return (0.25 * y.square().square() + 0.3 * y).sum(-1)


def half(y, generator):
    draw = torch.randn(y.shape, generator=generator, dtype=y.dtype)
    return y / 2 + draw.to(y.device)


def state_of(y):
    return sampling.State(y, energy(y), y**3 + 0.3)


def coin(y):
    return torch.full_like(y[..., 0], 0.5)


def buffer_round(y, generator):
    buffer = sampling.ReplayBuffer(8, lambda n, g: torch.zeros_like(y[0]).expand(n, -1), generator=generator)
    buffer.put(y)
    return buffer.take(5), buffer.samples


PATH = sampling.geometric_path(lambda y: y.square().sum(-1), energy)
# name → (call of (y, generator) with y of shape (6, 3), whether it looks at values)
CALLS = {
    "start_state": (lambda y, g: sampling.start_state(energy, y), True),
    "reflect": (lambda y, g: sampling.reflect(y, -0.5, 0.5), False),
    "langevin": (
        lambda y, g: sampling.langevin(energy, y, steps=5, step_size=0.1, keep_every=2, burn_in=2, generator=g),
        True,
    ),
    "langevin, walls": (
        lambda y, g: sampling.langevin(energy, y, steps=5, step_size=0.1, bounds=(-9.0, y[0] * 0 + 9), generator=g),
        True,
    ),
    "mala": (lambda y, g: sampling.mala(energy, y, steps=5, step_size=0.1, keep_every=1, generator=g), True),
    "hmc": (
        lambda y, g: sampling.hmc(
            energy, y, steps=3, step_size=0.1, mass=y[0] * 0 + 2, jitter=0.5, keep_every=1, generator=g
        ),
        True,
    ),
    "gibbs": (
        lambda y, g: sampling.gibbs(
            (y, y[:, :1]), (lambda a, b, g: half(a, g), lambda a, b, g: half(b, g)), sweeps=2, generator=g
        ),
        True,
    ),
    "gibbs_binary": (
        lambda y, g: sampling.gibbs_binary(energy, (y > 0).to(y.dtype) + 0 * y, sweeps=2, keep_every=1, generator=g),
        True,
    ),
    "langevin_step": (lambda y, g: sampling.langevin_step(energy, state_of(y), half(y, g), step_size=0.1), False),
    "mala_step": (lambda y, g: sampling.mala_step(energy, state_of(y), half(y, g), coin(y), step_size=0.1), False),
    "hmc_step": (
        lambda y, g: sampling.hmc_step(energy, state_of(y), half(y, g), coin(y), step_size=0.1, leapfrog_steps=2),
        False,
    ),
    "leapfrog": (lambda y, g: sampling.leapfrog(energy, state_of(y), half(y, g), step_size=0.1, steps=2), False),
    "annealed_importance": (
        lambda y, g: sampling.annealed_importance(PATH, y, lambda t, y, g: half(y, g), fractions=3, generator=g),
        True,
    ),
    "geometric_path": (lambda y, g: PATH(0.5)(y), False),
    "ReplayBuffer": (buffer_round, True),
    "autocorrelation": (lambda y, g: sampling.autocorrelation(y), True),
    "effective_sample_size": (lambda y, g: sampling.effective_sample_size(y.T.repeat(4, 1)[..., None]), True),
    "effective_sample_size, ranked": (
        lambda y, g: sampling.effective_sample_size(y.T.repeat(4, 1)[..., None], ranked=True),
        True,
    ),
    "split_rhat": (lambda y, g: sampling.split_rhat(y[..., None]), True),
    "split_rhat, ranked": (lambda y, g: sampling.split_rhat(y[..., None], ranked=True), True),
    "acceptance": (lambda y, g: sampling.acceptance(y), True),
}
EVERY = pytest.mark.parametrize("name", CALLS)


def tensors(result):
    if isinstance(result, torch.Tensor):
        return [result]
    return [t for part in result for t in tensors(part)] if isinstance(result, tuple) else []


def sample(dtype=torch.float64):
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=dtype)


def test_every_public_function_is_here():
    types = {"Annealed", "Chains", "Info", "State", "Sweeps"}
    assert {name.split(",")[0] for name in CALLS} == set(sampling.__all__) - types


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_have_the_dtype_of_the_input(name, dtype):
    found = tensors(CALLS[name][0](sample(dtype), torch.Generator().manual_seed(0)))
    assert found
    assert all(t.dtype == dtype for t in found if t.is_floating_point())
    assert any(t.is_floating_point() for t in found)


@EVERY
@pytest.mark.parametrize("seeded", [True, False])
def test_results_are_on_the_device_of_the_input(name, seeded):
    generator = torch.Generator().manual_seed(0) if seeded else None
    real = tensors(CALLS[name][0](sample(), torch.Generator().manual_seed(0)))
    if name == "ReplayBuffer" and not seeded:
        generator = torch.Generator()  # its contract draws a choice on the CPU either way
    found = tensors(CALLS[name][0](sample().to("meta"), generator))
    assert all(t.device.type == "meta" for t in found)
    assert [t.shape for t in found] == [t.shape for t in real]


@EVERY
def test_no_argument_is_changed_and_no_graph_is_left(name):
    y = sample()
    CALLS[name][0](y, torch.Generator().manual_seed(0))
    assert torch.equal(y, sample())
    if name not in ("reflect", "geometric_path", "autocorrelation", "effective_sample_size", "split_rhat"):
        found = tensors(CALLS[name][0](y.detach(), torch.Generator().manual_seed(0)))
        assert not any(t.requires_grad for t in found)


def test_a_state_is_a_copy_of_the_start():
    y = sample()
    state = sampling.start_state(energy, y)
    y += 1
    assert torch.equal(state.position, sample())
    torch.testing.assert_close(state.energy, energy(sample()))
    torch.testing.assert_close(state.gradient, sample() ** 3 + 0.3)


@EVERY
def test_the_same_generator_state_gives_the_same_result(name):
    one, other = (tensors(CALLS[name][0](sample(), torch.Generator().manual_seed(3))) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", [name for name, (_, looks) in CALLS.items() if looks])
def test_nan_is_refused(name):
    y = sample()
    y[1, 2] = math.nan
    with pytest.raises(ValueError, match="finite|zeros and ones"):
        CALLS[name][0](y, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["langevin", "mala", "hmc", "gibbs", "gibbs_binary"])
def test_the_noise_comes_from_the_generator_alone(name):
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        states.append(tensors(CALLS[name][0](sample(), torch.Generator().manual_seed(0)))[0])
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*states)
    other = tensors(CALLS[name][0](sample(), torch.Generator().manual_seed(1)))[0]
    assert not torch.equal(states[0], other)


@pytest.mark.parametrize("sampler", ["langevin", "mala", "hmc"])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 4, 3), (2, 0, 3)])
def test_any_number_of_leading_dimensions_counts_chains(sampler, shape):
    start = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    kw = dict(steps=4, step_size=0.1, keep_every=2, generator=torch.Generator().manual_seed(0))
    found = getattr(sampling, sampler)(energy, start, **kw)
    assert found.position.shape == shape
    assert found.path.shape == (2, *shape)
    for values in (found.energy, found.acceptance, found.divergences):
        assert values.shape == shape[:-1]
    assert found.path_energy.shape == (2, *shape[:-1])


@pytest.mark.parametrize("sampler", ["langevin", "mala", "hmc"])
def test_parameters_of_the_energy_get_no_gradient_even_where_gradients_are_off(sampler):
    weight = torch.nn.Parameter(torch.tensor(1.5))
    with torch.no_grad():
        found = getattr(sampling, sampler)(
            lambda y: weight * y.square().sum(-1), torch.ones(2, 1, requires_grad=True), steps=3, step_size=0.1
        )
    assert weight.grad is None
    assert not found.position.requires_grad


def weighed(y):
    return WEIGHT * y.square().sum(-1)


@pytest.mark.parametrize(
    "call",
    [
        lambda y: sampling.gibbs_binary(weighed, (y > 0).to(y.dtype), sweeps=2, keep_every=1),
        lambda y: sampling.gibbs((y,), (lambda x, g: WEIGHT * x,), sweeps=2, keep_every=1),
        lambda y: sampling.annealed_importance(
            sampling.geometric_path(energy, weighed), y, lambda t, y, g: y, fractions=2
        ),
        lambda y: sampling.annealed_importance(
            sampling.geometric_path(weighed, weighed), y, lambda t, y, g: WEIGHT * y, fractions=2
        ),
        lambda y: sampling.ReplayBuffer(4, lambda n, g: WEIGHT * torch.ones(n, 2)).take(2),
        lambda y: sampling.langevin(
            energy, y, steps=2, step_size=0.1, bounds=(-9.0, 6 * WEIGHT.expand(3)), keep_every=1
        ),
        lambda y: sampling.hmc(energy, y, steps=2, step_size=0.1, mass=WEIGHT.expand(3), keep_every=1),
    ],
    ids=[
        "gibbs_binary",
        "gibbs",
        "annealed, energy",
        "annealed, move",
        "replay, fresh",
        "langevin, walls",
        "hmc, mass",
    ],
)
def test_no_graph_of_a_parameter_is_left_in_a_result(call):
    found = tensors(call(sample()))
    assert found
    assert not any(t.requires_grad for t in found)


def test_walls_and_masses_of_another_dtype_take_that_of_the_start():
    network, start = EnergyMLP((3,), (4,), generator=torch.Generator().manual_seed(0)), sample(torch.float32)
    wide = torch.full((3,), 9.0, dtype=torch.float64)
    for found in (
        sampling.langevin(network, start, steps=3, step_size=9.0, bounds=(-wide, wide)),
        sampling.hmc(network, start, steps=3, step_size=0.1, mass=wide),
    ):
        assert (found.position.dtype, found.energy.dtype) == (torch.float32, torch.float32)


@pytest.mark.parametrize("sampler", ["langevin", "mala", "hmc", "gibbs_binary", "machine"])
def test_no_two_chains_share_their_noise(sampler):
    start, g = torch.zeros(5, 4, 30, dtype=torch.float64), torch.Generator().manual_seed(0)
    if sampler == "machine":
        found = BoltzmannMachine(30, dtype=torch.float64, generator=g).gibbs(start, sweeps=1, generator=g)
    elif sampler == "gibbs_binary":
        found = sampling.gibbs_binary(energy, start, sweeps=1, generator=g).position
    else:
        found = getattr(sampling, sampler)(energy, start, steps=1, step_size=0.1, generator=g).position
    assert len(found.reshape(20, 30).unique(dim=0)) == 20


@pytest.mark.parametrize(
    ("sampler", "kw"), [("mala", dict(step_size=2.5)), ("hmc", dict(step_size=1.9, leapfrog_steps=2))]
)
def test_no_two_chains_share_their_coin(sampler, kw):
    start, g = torch.full((40, 50, 1), 0.1), torch.Generator().manual_seed(0)
    found = getattr(sampling, sampler)(lambda y: y.square().sum(-1) / 2, start, steps=1, generator=g, **kw)
    moved = (found.position != start)[..., 0].double()
    assert 0.1 < moved.mean() < 0.9
    for dim in (0, 1):
        assert 0 < moved.mean(dim).var() < 0.1


@pytest.mark.parametrize("sampler", ["langevin", "mala", "hmc"])
def test_inference_mode_is_named_as_what_forbids_gradients(sampler):
    with torch.inference_mode(), pytest.raises(ValueError, match="inference_mode rules out"):
        getattr(sampling, sampler)(energy, sample(), steps=1, step_size=0.1)


@pytest.mark.parametrize("sampler", ["langevin", "mala", "hmc"])
@pytest.mark.parametrize(
    ("kw", "message"),
    [
        (dict(steps=0), "steps must be a whole number of at least 1"),
        (dict(step_size=0.0), "step_size must be a positive"),
        (dict(step_size=math.inf), "step_size must be a positive finite"),
        (dict(beta=0.0), "beta must be a positive"),
        (dict(beta=math.nan), "beta must be a positive"),
        (dict(keep_every=-1), "keep_every must be a whole number of at least 0"),
        (dict(keep_every=9), r"keep_every must be at most steps \(5\)"),
        (dict(burn_in=-1), "burn_in must be a whole number of at least 0"),
        (dict(start=torch.tensor([math.inf])), "start must be finite"),
        (dict(start=torch.tensor([1, 2])), "start must be floating point"),
        (dict(start=torch.tensor(1.0)), "last dimension of its own"),
        (dict(energy=lambda y: y), "one number per sample"),
        (dict(energy=lambda y: y.sum(-1) * math.nan), "energy must be finite or"),
        (
            dict(energy=lambda y: y.sum(-1) + math.inf),
            r"start must be possible: the energy of chain \(0,\) there is inf",
        ),
        (dict(energy=lambda y: torch.zeros(y.shape[:-1])), "depend on its argument"),
        (dict(energy=lambda y: WEIGHT * torch.ones(y.shape[:-1])), "depend on its argument.* no gradient"),
        (dict(energy=lambda y: y.sqrt().sum(-1), start=torch.zeros(1, 2)), "gradient at the start must be finite"),
    ],
)
def test_bad_input_is_refused_with_a_reason(sampler, kw, message):
    args = dict(energy=energy, start=torch.ones(2, 3), steps=5, step_size=0.1) | kw
    with pytest.raises(ValueError, match=message):
        getattr(sampling, sampler)(args.pop("energy"), args.pop("start"), **args)
