"""The contract that every loss keeps, one call of each: devices, dtypes, NaN, arguments untouched, vmap, capture."""

import inspect
import math

import pytest
import torch

from ebm_lib import losses
from ebm_lib.losses import answers, group, likelihood, pair


def energies(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


P, N, A = energies(4), energies(4, 3, seed=1), energies(4, 5, seed=2)
T = torch.tensor([0, 4, 2, 2])
# name: (the call, its tensors); the first dimension is the batch, and each result keeps it
CALLS = {
    "energy_loss": (losses.energy_loss, [P]),
    "hinge": (losses.hinge, [P, N[:, 0], N[:, 1].abs()]),
    "ranking": (losses.ranking, [P, N[:, 0], N[:, 1].abs()]),
    "log_loss": (losses.log_loss, [P, N[:, 0]]),
    "lvq2": (lambda p, n: losses.lvq2(p, n, 0.7), [P, N[:, 0]]),
    "mce": (losses.mce, [P, N[:, 0]]),
    "simple": (losses.simple, [P, N[:, 0], N[:, 1].abs()]),
    "square_square": (losses.square_square, [P, N[:, 0], N[:, 1].abs()]),
    "square_exp": (lambda p, n: losses.square_exp(p, n, 0.5), [P, N[:, 0]]),
    "join": (lambda p, n: losses.join(p, n).energy, [P, N]),
    "perceptron": (losses.perceptron, [A, T]),
    "all_outputs_hinge": (losses.all_outputs_hinge, [A, T, A.abs()]),
    "nll": (lambda e, t: losses.nll(e, t, 2.0), [A, T]),
    "mee": (lambda e, t: losses.mee(e, t, 2.0), [A, T]),
    "most_offending": (lambda e, t, d: losses.most_offending(e, t, distance=d, epsilon=0.1).energy, [A, T, A.abs()]),
    "general_margin": (lambda p, n, m: losses.general_margin(losses.simple, p, n, m), [P, N, N.abs()]),
    "group_margin": (
        lambda p, n, m: losses.group_margin(losses.hinge, p, n, m),
        [N, A, energies(4, 3, 5, seed=3).abs()],
    ),
    "nca": (lambda p, n: losses.nca(p, n, 2.0), [N, A]),
    "info_nce": (lambda p, n: losses.info_nce(p, n, 2.0), [P, N]),
    "hard_negative_info_nce": (
        lambda p, n: losses.hard_negative_info_nce(p, n, 2.0, class_prior=0.1, highest=5.0),
        [P, N],
    ),
    "nce": (
        lambda p, n, c, a, b: losses.nce(p, n, c, log_noise_positive=a, log_noise_negative=b),
        [P, N, P + 1, P - 1, N - 1],
    ),
    "negative_log_likelihood": (lambda p, e: losses.negative_log_likelihood(p, e, 2.0, log_volume=-1.0), [P, A]),
    "contrastive_divergence": (losses.contrastive_divergence, [N, A]),
}
ALL = pytest.mark.parametrize(("call", "tensors"), CALLS.values(), ids=CALLS)


def test_every_public_function_is_held_to_the_contract():
    public = {name for name in losses.__all__ if inspect.isfunction(getattr(losses, name))}
    assert set(CALLS) == public
    for module in (pair, answers, group, likelihood):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and not name.startswith(("_", "soft_")):
                assert name in public


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_device_and_dtype_follow_the_energies(call, tensors, dtype):
    cast = [t if t is T else t.to(dtype) for t in tensors]
    result = call(*(t.to("meta") for t in cast))
    assert (result.device.type, result.dtype) == ("meta", dtype)
    real = call(*cast)
    assert (real.shape, real.dtype) == (result.shape, dtype)
    assert real.shape[0] == 4
    if dtype == torch.float32:
        torch.testing.assert_close(real.double(), call(*tensors), rtol=1e-4, atol=1e-5)


@ALL
@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_a_value_that_is_no_energy_is_refused_wherever_it_stands(call, tensors, bad):
    for place, tensor in enumerate(tensors):
        if tensor is T:
            continue
        spoilt = [t.clone() for t in tensors]
        spoilt[place].view(-1)[-1] = bad
        with pytest.raises(ValueError, match="must be finite"):
            call(*spoilt)


@ALL
def test_arguments_are_left_as_they_were_and_two_calls_agree(call, tensors):
    copies = [t.clone() for t in tensors]
    assert torch.equal(call(*copies), call(*copies))
    for copy, tensor in zip(copies, tensors, strict=True):
        assert torch.equal(copy, tensor)
        assert copy._version == 0


@ALL
def test_vmap_over_the_batch_is_the_batch(call, tensors):
    torch.testing.assert_close(torch.func.vmap(call)(*tensors), call(*tensors))


@ALL
def test_per_sample_gradients_by_vmap_are_rows_of_the_batch_gradient(call, tensors):
    leaf = tensors[0].clone().requires_grad_()
    (whole,) = torch.autograd.grad(call(leaf, *tensors[1:]).sum(), leaf)
    each = torch.func.vmap(torch.func.grad(lambda *row: call(*row).sum()))(*tensors)
    torch.testing.assert_close(each, whole)


@ALL
def test_an_empty_batch_is_an_empty_result(call, tensors):
    assert call(*(t[:0] for t in tensors)).shape[0] == 0


@pytest.mark.parametrize("name", ["hinge", "square_exp", "perceptron", "nll", "nca", "hard_negative_info_nce", "nce"])
def test_the_whole_of_a_loss_is_captured_in_one_graph(name):
    call, tensors = CALLS[name]
    captured = torch.compile(call, backend="eager", fullgraph=True)
    torch.testing.assert_close(captured(*tensors), call(*tensors))
