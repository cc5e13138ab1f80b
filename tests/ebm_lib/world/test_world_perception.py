"""Keypoints: a convolution, a softmax and means written out by hand; pictures whose keypoints are known; contract."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_lib.world import Keypoints

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def encoder(channels=2, D=4, **options):
    return Keypoints(channels, D, **{"maps": 3, "generator": seeded()} | options).double()


def pictures(*shape, seed=1):
    return torch.rand(*shape, generator=seeded(seed), dtype=F64)


def centred(kernel=5, stride=1, **options):
    """One feature: the pixel in the window's middle."""
    made = encoder(1, 2, maps=1, kernel=kernel, stride=stride, **options)
    with torch.no_grad():
        made.features.weight.zero_()
        made.features.weight[0, 0, kernel // 2, kernel // 2] = 1
    return made


def bright(*pixels, size=(28, 28)):
    x = torch.zeros(1, *size, dtype=F64)
    for row, column in pixels:
        x[0, row, column] = 1
    return x


# --- the formula -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("size", "kernel", "stride"), [((7, 7), 3, 1), ((9, 6), 5, 2), ((8, 11), 1, 3), ((6, 6), 5, 1)]
)
def test_is_the_formula(size, kernel, stride):
    made, x = encoder(kernel=kernel, stride=stride, sharpness=3.0), pictures(2, *size)
    reach = kernel // 2
    padded = np.pad(x.numpy(), ((0, 0), (reach, reach), (reach, reach)))
    weight, bias = made.features.weight.detach().numpy(), made.features.bias.detach().numpy()
    rows, columns = range(0, size[0], stride), range(0, size[1], stride)
    expected = []
    for channel in range(2):
        for m in range(3 * channel, 3 * channel + 3):
            total, mean = 0.0, np.zeros(2)
            for i, row in enumerate(rows):
                for j, column in enumerate(columns):
                    window = padded[channel, row : row + kernel, column : column + kernel]
                    p = math.exp(3.0 * ((weight[m, 0] * window).sum() + bias[m]))
                    total += p
                    mean += p * np.array([2 * j / (len(columns) - 1) - 1, 2 * i / (len(rows) - 1) - 1])
            expected.append(mean / total)
    expected = torch.tensor(np.array(expected))
    torch.testing.assert_close(made.keypoints(x), expected)
    torch.testing.assert_close(made(x), 2 * made.mix.weight @ expected.flatten() + made.mix.bias)


def test_a_bright_pixel_is_where_it_is():
    made = centred(sharpness=100.0)
    for row, column in ((0, 0), (5, 20), (27, 3), (13, 14)):
        expected = torch.tensor([[2 * column / 27 - 1, 2 * row / 27 - 1]], dtype=F64)  # x, then y
        torch.testing.assert_close(made.keypoints(bright((row, column))), expected)


def test_a_softmax_by_hand():
    """One bright pixel among n − 1 dark ones, and two of them."""
    made, beta = centred(sharpness=2.0), 2.0
    size = (3, 5)
    one = math.exp(beta) / (math.exp(beta) + 14)
    share = one - (1 - one) / 14  # the rest is spread evenly, whose mean is what the bright place lacks
    torch.testing.assert_close(made.keypoints(bright((0, 4), size=size)), share * torch.tensor([[1.0, -1.0]]).double())
    opposite = made.keypoints(bright((0, 4), (2, 0), size=size))
    torch.testing.assert_close(opposite, torch.zeros(1, 2, dtype=F64))
    same_row = made.keypoints(bright((2, 1), (2, 2), size=size))
    e = math.exp(beta)
    torch.testing.assert_close(same_row[0], torch.tensor([-0.5 * (e - 1), 2 * (e - 1)]).double() / (2 * e + 13))


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_shifted_picture_has_shifted_keypoints(stride):
    """Away from the border, a shift by k strides is k steps on the grid of places; with any window."""
    made = encoder(1, 2, kernel=5, stride=stride, sharpness=3000.0)
    x = torch.zeros(1, 31, 31, dtype=F64)
    x[0, 12:18, 12:18] = 3 * pictures(6, 6)
    with torch.no_grad():
        made.features.weight.abs_()  # features that light up where something is
    n = len(range(0, 31, stride))
    base = made.keypoints(x)
    for down, right in ((0, 1), (1, 0), (2, -1), (-2, -2)):
        moved = made.keypoints(x.roll((down * stride, right * stride), (1, 2)))
        expected = torch.tensor([right, down], dtype=F64) * 2 / (n - 1)
        torch.testing.assert_close(moved - base, expected.expand_as(base), rtol=1e-6, atol=1e-6)


def test_a_constant_picture_has_its_keypoints_in_the_middle():
    for size in ((8, 8), (5, 9)):
        for value in (0.0, 1.0, -3.0):
            x = torch.full((2, *size), value, dtype=F64)
            torch.testing.assert_close(encoder(kernel=1).keypoints(x), torch.zeros(6, 2, dtype=F64))
    torch.testing.assert_close(encoder().keypoints(torch.zeros(2, 28, 28, dtype=F64)), torch.zeros(6, 2, dtype=F64))
    torch.testing.assert_close(encoder()(torch.zeros(2, 28, 28, dtype=F64)), encoder().mix.bias)


def test_turning_the_picture_over_exchanges_x_and_y():
    made, x = encoder(1, 2, stride=1), pictures(1, 9, 9)
    with torch.no_grad():
        made.features.weight.add_(made.features.weight.mT.clone())
    torch.testing.assert_close(made.keypoints(x.mT), made.keypoints(x).flip(-1))


def test_each_channel_is_looked_at_by_itself():
    made, x = encoder(), pictures(2, 12, 12)
    other = x.clone()
    other[1] = pictures(12, 12, seed=2)
    before, after = made.keypoints(x), made.keypoints(other)
    assert before.shape == (6, 2)
    assert torch.equal(before[:3], after[:3])
    assert (before[3:] != after[3:]).all()


def test_what_all_places_have_in_common_does_not_matter():
    made, x = encoder(), pictures(2, 12, 12)
    before = made.keypoints(x)
    with torch.no_grad():
        made.features.bias.add_(torch.linspace(-3, 3, 6))
    torch.testing.assert_close(made.keypoints(x), before)


def test_sharpness_is_a_factor_of_the_features():
    soft, sharp, x = encoder(sharpness=2.0), encoder(sharpness=6.0), pictures(2, 12, 12)
    assert not torch.allclose(soft.keypoints(x), sharp.keypoints(x))
    torch.testing.assert_close(soft.keypoints(3 * x), sharp.keypoints(x))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.floats(0.1, 1000.0), st.sampled_from([0.0, 1.0, 1e4]))
def test_keypoints_stay_in_the_picture(seed, sharpness, scale):
    u = encoder(sharpness=sharpness).keypoints(scale * (pictures(3, 2, 10, 14, seed=seed) - 0.5))
    assert u.isfinite().all()
    assert (u.abs() <= 1 + 1e-12).all()


def test_learns_where_a_spot_is():
    g = seeded(4)
    made = Keypoints(1, 2, generator=g)
    optimizer, grid = torch.optim.Adam(made.parameters(), lr=0.02), torch.arange(28.0)
    for _ in range(250):
        place = 4 + 20 * torch.rand(32, 2, generator=g)
        spot = [torch.exp(-((grid - p[:, None]) ** 2) / 4) for p in place.unbind(-1)]
        error = (made((spot[1][:, :, None] * spot[0][:, None])[:, None]) - (place - 14) / 10).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert error < 2e-3  # a tenth of it is 0.03 of a standard deviation


# --- the contract ----------------------------------------------------------------------------------------------------
def test_leading_dimensions_of_any_number():
    made, x = encoder(), pictures(3, 5, 2, 10, 12)
    assert made(x).shape == (3, 5, 4)
    assert made.keypoints(x).shape == (3, 5, 6, 2)
    torch.testing.assert_close(made(x)[2, 1], made(x[2, 1]))
    torch.testing.assert_close(made.keypoints(x)[2, 1], made.keypoints(x[2, 1]))
    assert made(x[:0]).shape == (0, 5, 4)


def test_gradients_by_finite_differences():
    made, x = encoder(), pictures(2, 2, 6, 6).requires_grad_()
    assert torch.autograd.gradcheck(made, (x,))
    made(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())


def test_is_a_function_of_its_generator():
    state = torch.get_rng_state()
    weights = [torch.cat([p.flatten() for p in encoder(generator=seeded(k)).parameters()]) for k in (5, 5, 6)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), state), "the global generator was drawn from"


def test_dtype_and_meta():
    single = Keypoints(2, 4, generator=seeded())
    assert single(torch.zeros(3, 2, 28, 28)).dtype == torch.float32
    assert encoder()(pictures(3, 2, 28, 28)).dtype == F64
    x = pictures(3, 2, 28, 28)
    torch.testing.assert_close(single(x.float()).double(), Keypoints(2, 4, generator=seeded()).double()(x), rtol=1e-4,
                               atol=1e-4)  # fmt: skip
    ahead = single.to("meta")(torch.zeros(3, 7, 2, 28, 28, device="meta"))
    assert (ahead.shape, ahead.device.type) == ((3, 7, 4), "meta")


def test_sharpness_is_shown_and_pictures_are_left_alone():
    made, x = encoder(sharpness=7.5), pictures(2, 10, 12)
    before = x.clone()
    made(x)
    assert torch.equal(x, before)
    assert "sharpness=7.5" in repr(made)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_as_on_the_processor():
    made, x = encoder(), pictures(3, 2, 28, 28)
    here = made(x)
    torch.testing.assert_close(made.cuda()(x.cuda()).cpu(), here)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (dict(channels=0), "channels must"),
        (dict(D=0), "D must"),
        (dict(maps=0), "maps must"),
        (dict(kernel=0), "kernel must"),
        (dict(kernel=4), "kernel must"),
        (dict(stride=0), "stride must"),
        (dict(sharpness=0.0), "sharpness must"),
        (dict(sharpness=math.nan), "sharpness must"),
    ],
)
def test_refuses_sizes(change, told):
    with pytest.raises(ValueError, match=told):
        encoder(**change)


@pytest.mark.parametrize("shape", [(3, 28, 28), (5, 1, 28, 28), (28, 28), (2,), ()])
def test_refuses_pictures_of_another_number_of_channels(shape):
    for call in (encoder(), encoder().keypoints):
        with pytest.raises(ValueError, match=r"x must be .*2"):
            call(torch.zeros(shape, dtype=F64))
