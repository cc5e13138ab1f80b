"""The shared networks: torch's own initialisation is the oracle for draws, NumPy for the forward pass."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from ebm_lib.energy import evaluate
from ebm_lib.nn import ACTIVATIONS, MLP, ConvEnergy, EnergyMLP, init_, random_mask


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def layers(dtype):
    """One of every kind of layer, with sizes that no two roles share."""
    d = {"dtype": dtype}
    return {
        "linear": nn.Linear(5, 3, **d),
        "bilinear": nn.Bilinear(5, 4, 3, **d),
        "conv1d": nn.Conv1d(4, 6, 3, groups=2, **d),
        "conv2d": nn.Conv2d(2, 5, (3, 4), **d),
        "transposed": nn.ConvTranspose2d(3, 7, 4, **d),
        "embedding": nn.Embedding(11, 4, padding_idx=2, **d),
        "bag": nn.EmbeddingBag(11, 4, **d),
        "batchnorm": nn.BatchNorm1d(5, **d),
        "layernorm": nn.LayerNorm(5, **d),
        "prelu": nn.PReLU(**d),
        "gru": nn.GRU(3, 7, num_layers=2, bidirectional=True, **d),
        "cell": nn.LSTMCell(3, 7, **d),
        "attention": nn.MultiheadAttention(8, 2, add_bias_kv=True, **d),
        "attention of others": nn.MultiheadAttention(8, 2, kdim=3, vdim=5, **d),
        "transformer": nn.TransformerEncoderLayer(8, 2, 16, **d),
    }


def torch_reset(part):
    """What torch itself does to a part when it makes it, from its global generator."""
    reset = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
    if reset is not None:
        reset()


@pytest.mark.parametrize("kind", layers(torch.float64))
def test_draws_are_torchs_own_bit_for_bit(kind):
    module, reference = layers(torch.float64)[kind], layers(torch.float64)[kind]
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(77.0)
    init_(module, seeded(3))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        reference.apply(torch_reset)  # children first
    for (name, drawn), expected in zip(module.named_parameters(), reference.parameters(), strict=True):
        assert torch.equal(drawn, expected), name
        assert not (drawn == 77.0).any()


@pytest.mark.parametrize("kind", layers(torch.float32))
def test_weights_depend_on_the_seed_alone(kind):
    state = torch.get_rng_state()
    a, b, c = (init_(layers(torch.float32)[kind], seeded(s)).state_dict() for s in (0, 0, 1))
    in_double = init_(layers(torch.float64)[kind], seeded(0)).state_dict()
    for name in a:
        assert torch.equal(a[name], b[name])
        assert torch.equal(a[name], in_double[name].to(a[name].dtype))
    if kind not in ("batchnorm", "layernorm", "prelu"):
        assert any(not torch.equal(a[name], c[name]) for name in a)
    with torch.random.fork_rng():
        torch.set_rng_state(state)
        MLP((3, 4), generator=seeded())
        init_(nn.Flatten(), seeded())
        assert torch.equal(torch.get_rng_state(), state), "the global generator was used"


def test_linear_weights_are_uniform_within_the_bound():
    linear = init_(nn.Linear(16, 4000), seeded())
    for values in (linear.weight, linear.bias):
        assert values.abs().max() <= 0.25
        # the standard deviation of U(-1/4, 1/4) is 1 / (4 sqrt 3); 4,000 draws pin it to 3 %
        assert values.std().item() == pytest.approx(0.25 / 3**0.5, rel=0.03)
        assert abs(values.mean().item()) < 0.01


def test_without_generator_the_global_one_draws():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        a = init_(nn.Linear(3, 2)).weight.clone()
        b = init_(nn.Linear(3, 2)).weight.clone()
        torch.manual_seed(5)
        assert torch.equal(a, init_(nn.Linear(3, 2)).weight)
        assert not torch.equal(a, b)


def test_meta_parameters_advance_the_generator_as_real_ones_do():
    real, shadow = seeded(), seeded()
    MLP((3, 4, 1), generator=real)
    assert MLP((3, 4, 1), generator=shadow, device="meta").linears[0].weight.is_meta
    assert torch.equal(real.get_state(), shadow.get_state())


def test_a_module_of_ones_own_defines_reset_parameters():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.full((2,), 9.0))
            self.linear = nn.Linear(2, 2)

    with pytest.raises(ValueError, match=r"'inner' \(Scaled\) has parameters but no reset_parameters"):
        init_(nn.ModuleDict({"inner": Scaled()}), seeded())
    Scaled.reset_parameters = lambda self: nn.init.ones_(self.scale)
    assert init_(Scaled(), seeded()).scale.tolist() == [1.0, 1.0]


def test_parametrized_layers_and_foreign_draws_are_refused():
    with pytest.raises(ValueError, match="ParametrizationList"):
        init_(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), seeded())

    class Other(nn.Linear):
        def reset_parameters(self):
            self.weight.data.copy_(torch.rand_like(self.weight))

    with pytest.raises(ValueError, match="uniform_ and normal_ only"):
        init_(Other(2, 2), seeded())


NUMPY = {
    "softplus": lambda a: np.logaddexp(0, a),
    "tanh": np.tanh,
    "silu": lambda a: a / (1 + np.exp(-a)),
    "gelu": lambda a: a * 0.5 * (1 + np.vectorize(math.erf)(a / np.sqrt(2))),
    "elu": lambda a: np.where(a > 0, a, np.expm1(a)),
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "relu": lambda a: np.maximum(a, 0),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_forward_pass_against_numpy(activation):
    mlp = MLP((3, 5, 4, 2), activation=activation, generator=seeded(), dtype=torch.float64)
    assert mlp.activation == activation
    assert [tuple(linear.weight.shape) for linear in mlp.linears] == [(5, 3), (4, 5), (2, 4)]
    x = torch.randn(7, 3, generator=seeded(1), dtype=torch.float64)
    h = x.numpy()
    for k, linear in enumerate(mlp.linears):
        h = h @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
        h = NUMPY[activation](h) if k < 2 else h
    np.testing.assert_allclose(mlp(x).detach().numpy(), h, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dims", [(2,), (1, 1), (1, 2, 3)])
def test_energy_is_one_number_per_combination(dims):
    energy = EnergyMLP(dims, (8, 8), generator=seeded(), dtype=torch.float64)
    g = seeded(1)
    sizes = [2, 3, 4][: len(dims)]
    variables = [
        torch.randn(*(n if k == i else 1 for i in range(len(dims))), dim, generator=g, dtype=torch.float64)
        for k, (n, dim) in enumerate(zip(sizes, dims, strict=True))
    ]
    values = evaluate(energy, *variables)
    assert values.shape == tuple(sizes)
    for index in itertools.product(*map(range, sizes)):
        one = [v[tuple(0 if n == 1 else i for i, n in zip(index, v.shape[:-1], strict=True))] for v in variables]
        alone = MLP.forward(energy, torch.cat(one))
        assert alone.shape == (1,)
        assert values[index].item() == pytest.approx(alone.item(), rel=1e-12)
        assert energy(*one).shape == ()


def test_energy_is_smooth_in_its_arguments():
    energy = EnergyMLP((2,), (8, 8), generator=seeded(), dtype=torch.float64)
    y = torch.randn(3, 2, generator=seeded(1), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(energy, y)
    assert torch.autograd.gradgradcheck(energy, y)


def test_vmap_meta_dtype_and_compile():
    energy = EnergyMLP((1, 2), (8,), generator=seeded(), dtype=torch.float64)
    x, y = (torch.randn(6, d, generator=seeded(d), dtype=torch.float64) for d in (1, 2))
    values = energy(x, y)
    assert values.dtype == torch.float64
    torch.testing.assert_close(torch.func.vmap(energy)(x, y), values)
    torch.testing.assert_close(torch.compile(energy, backend="eager", fullgraph=True)(x, y), values)
    shadow = EnergyMLP((1, 2), (8,), device="meta")
    assert shadow(x.to("meta")[:, None].float(), y.to("meta")[None].float()).shape == (6, 6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLP((3,)), r"sizes must hold at least .* got \(3,\)"),
        (lambda: MLP((3, 0, 1)), r"sizes\[1\] must be a whole number of at least 1, got 0"),
        (lambda: MLP((3, 1), activation="sine"), "activation must be one of .*softplus.*; got 'sine'"),
        (lambda: EnergyMLP((), (8,)), r"dims must hold .* got \(\)"),
        (lambda: EnergyMLP((2, -1), (8,)), r"dims\[1\] must be a whole number of at least 1, got -1"),
        (
            lambda: EnergyMLP((1, 2), (8,))(torch.zeros(4, 1)),
            r"takes 2 arguments of last dimension \(1, 2\), got .*\(4, 1",
        ),
        (lambda: EnergyMLP((1, 2), (8,))(torch.zeros(4, 1), torch.zeros(4, 3)), r"last dimension \(1, 2\)"),
        (lambda: EnergyMLP((1,), (8,))(torch.zeros(())), r"last dimension \(1,\), got shapes \[\(\)\]"),
        (lambda: EnergyMLP((1, 1), (8,))(torch.zeros(4, 1), torch.zeros(3, 1)), "leading dimensions .* must broadcast"),
        (lambda: random_mask((2,), 1.5), "p must be a probability, from 0 to 1, got 1.5"),
        (lambda: random_mask((2,), float("nan")), "p must be a probability"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def conv_energy(shape=(2, 5, 7), channels=(3, 4), hidden=6, dtype=torch.float64, **options):
    return ConvEnergy(shape, channels, hidden, generator=seeded(), dtype=dtype, **options)


def convolve(pictures, weight, bias):
    """A convolution at every second row and column with a border of zeros, in plain loops. (N, C, H, W) in NumPy."""
    n, _, height, width = pictures.shape
    k = weight.shape[-1]
    padded = np.pad(pictures, ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    out = np.empty((n, len(weight), -(-height // 2), -(-width // 2)))
    for i, j in itertools.product(range(out.shape[2]), range(out.shape[3])):
        patch = padded[:, :, 2 * i : 2 * i + k, 2 * j : 2 * j + k]
        out[:, :, i, j] = np.einsum("nchw,ochw->no", patch, weight) + bias
    return out


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("activation", ["silu", "softplus"])
def test_conv_energy_against_numpy(kernel, activation):
    energy = conv_energy(kernel=kernel, activation=activation, bowl=0.7)
    assert [tuple(c.weight.shape) for c in energy.convolutions] == [(3, 2, kernel, kernel), (4, 3, kernel, kernel)]
    y = torch.randn(6, 70, generator=seeded(1), dtype=torch.float64)
    h = y.numpy().reshape(6, 2, 5, 7)
    for layer in energy.convolutions:
        h = NUMPY[activation](convolve(h, layer.weight.detach().numpy(), layer.bias.detach().numpy()))
    h = h.reshape(6, -1)
    first, last = ((layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in energy.head.linears)
    h = NUMPY[activation](h @ first[0].T + first[1]) @ last[0].T + last[1]
    expected = h[:, 0] + 0.35 * (y.numpy() ** 2).sum(-1)
    np.testing.assert_allclose(energy(y).detach().numpy(), expected, rtol=1e-12)


def test_conv_energy_is_one_number_per_picture_whatever_its_company():
    energy = conv_energy(bowl=2.0)
    y = torch.randn(3, 2, 70, generator=seeded(1), dtype=torch.float64)
    values = evaluate(energy, y)
    assert values.shape == (3, 2)
    for i, j in itertools.product(range(3), range(2)):
        assert energy(y[i, j]).shape == ()
        assert values[i, j].item() == pytest.approx(energy(y[i, j]).item(), rel=1e-12)
    assert energy(y[:0]).shape == (0, 2)
    torch.testing.assert_close(torch.func.vmap(torch.func.vmap(energy))(y), values)


def test_conv_energys_slope_against_differences_and_its_bowl():
    flat, bowl = conv_energy(), conv_energy(bowl=3.0)
    y = torch.randn(2, 70, generator=seeded(1), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(flat, y)
    assert torch.autograd.gradgradcheck(bowl, y[:1].detach().requires_grad_())
    slopes = [torch.autograd.grad(energy(y).sum(), y)[0] for energy in (flat, bowl)]
    torch.testing.assert_close(slopes[1] - slopes[0], 3 * y.detach())
    far = 1e6 * y.detach()
    assert (bowl(far) > bowl(far / 2)).all()


def test_conv_energys_weights_follow_the_generator_alone():
    state = torch.get_rng_state()
    first, second = conv_energy(), conv_energy()
    assert torch.equal(torch.get_rng_state(), state), "the global generator was used"
    other = ConvEnergy((2, 5, 7), (3, 4), 6, generator=seeded(1), dtype=torch.float64)
    for (name, a), b, c in zip(first.named_parameters(), second.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
        assert not torch.equal(a, c), name
        single = conv_energy(dtype=torch.float32).get_parameter(name)
        assert torch.equal(single, a.float())
    torchs = init_(nn.Conv2d(2, 3, 3, stride=2, padding=1, dtype=torch.float64), seeded(1))
    assert torch.equal(other.convolutions[0].weight, torchs.weight)
    assert torch.equal(other.convolutions[0].bias, torchs.bias)
    shadow = ConvEnergy((1, 28, 28), (4, 8), 16, device="meta")
    assert shadow(torch.zeros(3, 2, 784, device="meta")).shape == (3, 2)
    y = torch.randn(2, 70, dtype=torch.float64, generator=seeded(2))
    torch.testing.assert_close(torch.compile(first, backend="eager", fullgraph=True)(y), first(y))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvEnergy((28, 28), (4,), 8), r"shape must be \(colours, height, width\), got \(28, 28\)"),
        (lambda: ConvEnergy((1, 0, 28), (4,), 8), r"shape\[1\] must be a whole number of at least 1, got 0"),
        (lambda: ConvEnergy((1, 28, 28), (), 8), r"channels must hold .* got \(\)"),
        (lambda: ConvEnergy((1, 28, 28), (4, 0), 8), r"channels\[1\] must be a whole number of at least 1, got 0"),
        (lambda: ConvEnergy((1, 28, 28), (4,), 0), r"sizes\[1\] must be a whole number of at least 1, got 0"),
        (lambda: ConvEnergy((1, 28, 28), (4,), 8, kernel=4), "kernel must be odd.* got 4"),
        (lambda: ConvEnergy((1, 28, 28), (4,), 8, kernel=0), "kernel must be a whole number of at least 1, got 0"),
        (lambda: ConvEnergy((1, 28, 28), (4,), 8, bowl=-1.0), "bowl must be zero or a positive finite number, got -1"),
        (lambda: ConvEnergy((1, 28, 28), (4,), 8, bowl=math.inf), "bowl must be .* got inf"),
        (lambda: ConvEnergy((1, 28, 28), (4,), 8, bowl=math.nan), "bowl must be .* got nan"),
        (lambda: ConvEnergy((1, 28, 28), (4,), 8, activation="sine"), "activation must be one of .*; got 'sine'"),
        (lambda: conv_energy()(torch.zeros(4, 69)), r"y must be \(\.\.\., 70\), pictures \(2, 5, 7\), got \(4, 69\)"),
        (lambda: conv_energy()(torch.tensor(1.0)), r"y must be \(\.\.\., 70\).* got \(\)"),
    ],
)
def test_bad_pictures_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_mask_frequency_and_seed():
    mask = random_mask((100, 1000), 0.3, generator=seeded())
    assert mask.dtype == torch.bool
    assert mask.shape == (100, 1000)
    assert mask.float().mean().item() == pytest.approx(0.3, abs=0.006)  # four standard deviations
    assert torch.equal(mask, random_mask((100, 1000), 0.3, generator=seeded()))
    assert not torch.equal(mask, random_mask((100, 1000), 0.3, generator=seeded(1)))
    assert not random_mask((1000,), 0.0, generator=seeded()).any()
    assert random_mask((1000,), 1.0, generator=seeded()).all()
    assert random_mask((2,), generator=seeded(), device="meta").is_meta


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_seed_gives_the_same_network_and_mask_on_a_gpu():
    here, there = EnergyMLP((2,), (8,), generator=seeded()), EnergyMLP((2,), (8,), generator=seeded(), device="cuda")
    y = torch.randn(5, 2, generator=seeded(1))
    torch.testing.assert_close(there(y.cuda()).cpu(), here(y))
    assert all(torch.equal(a, b.cpu()) for a, b in zip(here.parameters(), there.parameters(), strict=True))
    assert torch.equal(
        random_mask((9,), generator=seeded()), random_mask((9,), generator=seeded(), device="cuda").cpu()
    )
    on_gpu = torch.Generator("cuda").manual_seed(0)
    assert MLP((2, 1), generator=on_gpu).linears[0].weight.device.type == "cpu"
