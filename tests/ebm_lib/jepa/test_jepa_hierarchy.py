"""Two levels: the whole is the sum of its parts, windows are where they should be, latents arrive, gradients stop."""

import pytest
import torch
from torch import nn

from ebm_lib.jepa import HJEPA, JEPA, Discrete, Inferred, Levels, Predictor, variance_covariance
from ebm_lib.joint import Momentum, learn
from ebm_lib.nn import MLP

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Count(nn.Module):
    """Reads a frame's number and its square off the picture: a representation that is known."""

    def forward(self, frames):
        number = frames.flatten(1).mean(1, keepdim=True)
        return torch.cat([number, number.square()], 1)


class Echo(nn.Module):
    """s² is what is read."""

    def forward(self, windows):
        return windows


class Ahead(nn.Module):
    """Predicts n and n² of the frame ``by`` later, plus z."""

    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, s, z=None):
        n = s[..., :1] + self.by
        moved = torch.cat([n, n.square()], -1)
        return moved if z is None else moved + z


class Difference:
    """A latent that is what the prediction lacks, at the price of its square."""

    L = 2

    def infer(self, energy, s_x, s_y, generator=None):
        z = s_y - Ahead(1)(s_x)
        return Inferred(z, z.square().sum(-1))

    def sample(self, s_x, n, generator=None):
        return torch.zeros(*s_x.shape[:-1], n, 2, dtype=s_x.dtype, device=s_x.device)


def counter(films, T, start=0):
    """Films whose frame t shows the number ``start`` + 100 · film + t everywhere."""
    numbers = start + 100 * torch.arange(films, dtype=F64)[:, None] + torch.arange(T, dtype=F64)
    return numbers[..., None, None].expand(films, T, 3, 3)


def counting(latent=None, *, ahead=1, **options):
    return HJEPA(JEPA(Count(), Ahead(ahead), latent=latent), JEPA(Echo(), Echo()), ahead=ahead, **options)


def real(*, dtype=F64, K=4, L=3, hand_over=True, states=None, **options):
    g = seeded()
    low = JEPA(nn.Sequential(nn.Flatten(), MLP((9, 5), generator=g)), Predictor(5, L, generator=g),
               latent=Discrete(L) if L else None, information_x=variance_covariance)  # fmt: skip
    width = 4 * (5 if states is None else 0) + 5 * (states or 0) + (4 * L if hand_over else 0)
    high = JEPA(MLP((width, 6), generator=g), Predictor(6, K, generator=g), latent=Discrete(K) if K else None,
                information_x=variance_covariance, information_y=variance_covariance)  # fmt: skip
    model = HJEPA(low, high, window=4, states=states, hand_over=hand_over, **options)
    return model.to(dtype)


def films(n=6, T=17, dtype=F64):
    return torch.rand(n, T, 3, 3, generator=seeded(1), dtype=F64).to(dtype)


# ---- time


@pytest.mark.parametrize(
    ("ahead", "window", "step", "stride", "states"),
    [(1, 4, 4, 4, 4), (1, 4, 4, 2, 1), (3, 5, 6, 3, 2), (2, 1, 1, 1, 1), (1, 8, 2, 1, 3)],
)
def test_windows_are_where_they_are_said_to_be(ahead, window, step, stride, states):
    T = 25
    model = counting(ahead=ahead, window=window, step=step, stride=stride, states=states)
    path = model.ascend(counter(3, T))
    ends = list(range(ahead + window - 1, T, stride))
    assert path.ends.tolist() == model.ends(T).tolist() == ends
    assert path.found is None
    for k, end in enumerate(ends):
        for film in range(3):
            numbers = [100.0 * film + t for t in range(end - states + 1, end + 1)]
            assert path.high[film, k].tolist() == [v for n in numbers for v in (n, n * n)]
    # identity as predictor: the energy of a pair is the distance between what the two windows show
    energies = model.energies(counter(3, T))
    later = step // stride
    assert energies.low.abs().max() == 0  # the next number is known
    assert energies.high.shape == (3, len(ends) - later)
    expected = (path.high[:, later:] - path.high[:, :-later]).square().mean(-1)
    torch.testing.assert_close(energies.high, expected)
    assert (path.high[:, later:, -2] - path.high[:, :-later, -2] == step).all()


@pytest.mark.parametrize("states", [0, 1, 4])
def test_the_latents_of_a_windows_steps_are_handed_on(states):
    torch.manual_seed(0)
    x = counter(2, 14)
    jumps = torch.randn(2, 14, generator=seeded(), dtype=F64).cumsum(1)
    x = x + jumps[..., None, None]  # each step is one, and something else: z
    model = counting(Difference(), window=4, states=states)
    path = model.ascend(x)
    numbers = x[:, :, 0, 0]
    surprise = numbers.diff(dim=1) - 1  # of the step to frame t + 1
    torch.testing.assert_close(path.found.z[..., 0], surprise)
    for k, end in enumerate(path.ends.tolist()):
        read = path.high[:, k]
        assert read.shape[1] == 2 * states + 2 * 4
        torch.testing.assert_close(read[:, 2 * states :: 2], surprise[:, end - 4 : end])
        torch.testing.assert_close(read[:, : 2 * states : 2], numbers[:, end - states + 1 : end + 1])
    alone = counting(Difference(), window=4, hand_over=False)
    assert torch.equal(alone.ascend(x).high, counting(window=4).ascend(x).high)
    assert torch.equal(alone.ends(14), model.ends(14))  # windows are the same with and without
    # F is what is left, 0, and the price of the latents
    torch.testing.assert_close(model.energies(x).low, path.found.cost)


def test_rollouts_go_on_from_their_own_predictions():
    model = counting(window=4)
    s = torch.tensor([[3.0, 9.0]], dtype=F64)
    assert model.predict(1, s, 3)[0, :, 0].tolist() == [4.0, 5.0, 6.0]
    assert model.predict(2, s, 2).tolist() == [[[3.0, 9.0], [3.0, 9.0]]]
    sampled = counting(Difference(), window=4).predict(1, s, 3, n=5)
    assert sampled.shape == (1, 5, 3, 2)
    assert (sampled[0, :, :, 0] == torch.tensor([4.0, 5.0, 6.0], dtype=F64)).all()
    model = real().eval()
    s = torch.rand(2, 3, 6, generator=seeded(), dtype=F64)
    many = model.predict(2, s, 2, n=400, generator=seeded())
    codes = model.high.predictor(s.unsqueeze(-2), torch.eye(4, dtype=F64))  # (2, 3, 4, 6)
    first = (many[..., 0, :].unsqueeze(-2) - codes.unsqueeze(2)).norm(dim=-1)
    assert first.amin(-1).max() < 1e-12
    assert (first.argmin(-1).flatten(0, 1).sort(-1).values.diff(dim=-1).sum(-1) == 3).all()  # all four came up
    again = model.high.predictor(many[..., 0, :].unsqueeze(-2), torch.eye(4, dtype=F64))
    second = (many[..., 1, :].unsqueeze(-2) - again).norm(dim=-1)
    assert second.amin(-1).max() < 1e-12


# ---- the sum of its parts


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"hand_over": False}, {"states": 1}, {"K": 0}, {"L": 0}])
def test_the_criterion_is_the_sum_of_two_jepas_criteria(options):
    options = {"hand_over": False} | options if options.get("L") == 0 else options
    model, x = real(**options).eval(), films()
    found = model.criterion(x)
    low = model.low.criterion(x[:, :-1].flatten(0, 1), x[:, 1:].flatten(0, 1))
    # level 2 by hand, on windows cut out here
    path = model.ascend(x)
    assert torch.equal(path.low.flatten(0, 1), model.low.represent(x.flatten(0, 1)))
    states, later = options.get("states", 4), model.step // model.stride
    read = [torch.cat([path.low[:, t - states + 1 : t + 1].flatten(1)]
                      + ([path.found.z[:, t - 4 : t].flatten(1)] if model.hand_over else []), 1)
            for t in path.ends.tolist()]  # fmt: skip
    read = torch.stack(read, 1)
    high = model.high.criterion(read[:, :-later], read[:, later:])
    torch.testing.assert_close(found.low, low.loss)
    torch.testing.assert_close(found.high, high.loss)
    torch.testing.assert_close(found.loss, low.loss + high.loss)
    torch.testing.assert_close(found.prediction_low, low.prediction)
    torch.testing.assert_close(found.prediction_high, high.prediction)
    torch.testing.assert_close(found.information_high, high.information_x + high.information_y)
    torch.testing.assert_close(found.low, found.prediction_low + found.information_low + found.latent_low)
    torch.testing.assert_close(found.high, found.prediction_high + found.information_high + found.latent_high)
    # and the energy is one function: the sum of both levels' means, here without a price on z
    energies = model.energies(x)
    torch.testing.assert_close(energies.low.mean(), found.prediction_low)
    torch.testing.assert_close(energies.high.mean(), found.prediction_high)
    torch.testing.assert_close(model.energy(x), energies.low.mean(1) + energies.high.mean(1))


def test_the_energy_at_given_latents_is_not_below_the_free_energy():
    model, x = real().eval(), films()
    best = model.energies(x)
    path = model.ascend(x)
    at_best = model.energies(x, Levels(path.found.z, model.high.infer(path.high[:, :-1], path.high[:, 1:]).z))
    torch.testing.assert_close(at_best, best)
    codes = torch.eye(3, dtype=F64)[torch.randint(3, (6, 16), generator=seeded())]
    other = model.energies(x, Levels(codes, at_best.high.new_zeros(6, path.high.shape[1] - 1, 4)))
    assert (other.low >= best.low - 1e-12).all()
    assert (other.low > best.low + 1e-9).any()
    assert not torch.allclose(other.high, best.high)  # level 2 reads other latents


def test_energies_have_the_gradient_of_their_finite_differences():
    model = real().eval()
    x = films(2, 9).requires_grad_()
    (slope,) = torch.autograd.grad(model.energy(x).sum(), x)
    assert slope.isfinite().all()
    way = torch.randn(x.shape, generator=seeded(3), dtype=F64)
    e = 1e-6
    with torch.no_grad():
        difference = (model.energy(x + e * way) - model.energy(x - e * way)).sum() / (2 * e)
    torch.testing.assert_close((slope * way).sum(), difference, rtol=1e-5, atol=1e-8)


# ---- where gradients go


def slopes(model, x):
    model.zero_grad()
    model.criterion(x).loss.backward()
    return [any(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters())
            for part in (model.low.encoder, model.low.predictor, model.high)]  # fmt: skip


def test_gradients_reach_what_is_learned():
    x = films()
    assert slopes(real(), x) == [True, True, True]
    assert slopes(real(learned="low"), x) == [True, True, False]
    assert slopes(real(learned="high"), x) == [False, False, True]
    model = real(learned="low")
    assert model.criterion(x).high == 0
    assert model.criterion(x).loss == model.criterion(x).low
    model.learned = "high"
    assert slopes(model, x) == [False, False, True]
    assert model.criterion(x).low == 0


def test_a_stopped_gradient_leaves_level_1_what_it_would_learn_alone():
    x = films()
    grads = {}
    for name, options in {"stopped": {"stop_gradient": True}, "alone": {"learned": "low"}, "free": {}}.items():
        model = real(**options)
        model.criterion(x).loss.backward()
        grads[name] = [p.grad for p in model.low.parameters()]
    for stopped, alone in zip(grads["stopped"], grads["alone"], strict=True):
        torch.testing.assert_close(stopped, alone)
    assert not torch.allclose(grads["free"][0], grads["alone"][0])


def test_a_level_without_a_criterion_is_taught_by_the_other():
    """Level 1 with λ = 0 is only a layer of level 2."""
    model = real(L=0, hand_over=False)
    model.low.prediction, model.low.information_x = 0.0, None
    x = films()
    assert model.criterion(x).low == 0
    assert slopes(model, x) == [True, False, True]


# ---- training and contract


def test_learns_by_the_courses_loop_and_target_networks_follow():
    model = real(dtype=torch.float32)
    model.low.target = Momentum(model.low.encoder, momentum=0.5)
    before = [p.clone() for p in model.low.target.parameters()]
    x = films(64, dtype=torch.float32)
    history = learn(
        model, x, lambda batch, g: [batch], epochs=4, batch_size=16, lr=1e-2, generator=seeded(), progress=False
    )
    assert history.loss[-1] < history.loss[0]
    assert set(history.metrics) >= {"low", "high", "prediction_high"}
    assert any(not torch.equal(a, b) for a, b in zip(before, model.low.target.parameters(), strict=True))
    assert model.energy(x).isfinite().all()
    assert model.encoder is model.low.encoder


def test_follows_dtype_and_device():
    for dtype in (torch.float32, F64):
        model = real(dtype=dtype)
        assert model.energy(films(dtype=dtype)).dtype == dtype
        assert model.ascend(films(dtype=dtype)).high.dtype == dtype
    meta = real().to("meta")
    found = meta.energies(films().to("meta"))
    assert [part.device.type for part in found] == ["meta", "meta"]
    assert meta.predict(1, torch.empty(2, 5, device="meta", dtype=F64), 3, n=2).shape == (2, 2, 3, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: real(step=3, stride=2), "stride"),
        (lambda: real(states=5), "states"),
        (lambda: counting(window=4, states=0), "states"),
        (lambda: real(learned="all"), "learned"),
        (lambda: counting(window=0), "window"),
        (lambda: counting(window=2, ahead=0), "ahead"),
        (lambda: real().criterion(films(T=4)), "T ≥ 5"),
        (lambda: real().criterion(films(T=8)), "at least 9"),
        (lambda: real().ascend(films(T=1)), "films"),
        (lambda: real().read(torch.zeros(2, 9, 5)), "z must"),
        (lambda: real().read(torch.zeros(2, 9, 5), torch.zeros(2, 9, 3)), "z must"),
        (lambda: real().predict(3, torch.zeros(2, 6), 1), "level"),
        (lambda: real(K=0).predict(2, torch.zeros(2, 6), 1, n=4), "no latent"),
        (lambda: real().predict(2, torch.zeros(2, 6, dtype=F64), 0), "steps"),
        (lambda: real().energy(films() * torch.nan), "finite"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
