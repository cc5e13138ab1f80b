"""The store against its law, windows against slices, and learning against worlds that can be known exactly."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import nn

from ebm_lib.world import Replay, Windows, learn_dynamics

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(N=2, T=7, D=3, A=2):
    """Walks in which every number is another."""
    states = torch.arange(N * T * D, dtype=F64).view(N, T, D)
    return states, -torch.arange(1, N * (T - 1) * A + 1, dtype=F64).view(N, T - 1, A)


def store(window=3, **options):
    return Replay(*numbered(), window=window, **options)


def frequencies(replay, n=40000, seed=0):
    return np.bincount(replay.draw(n, seeded(seed)).index.numpy(), minlength=len(replay.errors))


def world(N=4, T=30, seed=0, D=2, A=2):
    """A linear world that does not blow up, and walks in it."""
    turn = torch.tensor([[math.cos(0.3), -math.sin(0.3)], [math.sin(0.3), math.cos(0.3)]], dtype=F64)
    push = torch.tensor([[0.5, 0.1], [-0.2, 0.3]], dtype=F64)
    actions = torch.randn(N, T - 1, A, generator=seeded(seed), dtype=F64)
    states = [torch.randn(N, D, generator=seeded(seed + 1), dtype=F64)]
    for a in actions.unbind(1):
        states.append(states[-1] @ turn.T + a @ push.T)
    return torch.stack(states, 1), actions, turn, push


class Linear(nn.Module):
    def __init__(self, D=2, A=2, seed=0):
        super().__init__()
        self.turn = nn.Parameter(torch.eye(D, dtype=F64) + 0.1 * torch.randn(D, D, generator=seeded(seed), dtype=F64))
        self.push = nn.Parameter(torch.zeros(D, A, dtype=F64))

    def forward(self, s, a):
        return s @ self.turn.T + a @ self.push.T


class Drift(nn.Module):
    """s + w a, from w = 0 on; keeps every w that it was called with."""

    def __init__(self, w=0.0):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=F64))
        self.seen = []

    def forward(self, s, a):
        self.seen.append(self.w.item())
        return s + self.w * a


class Spy(Replay):
    """Keeps what was drawn and what was told."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.drawn, self.told = [], []

    def draw(self, n, generator=None):
        self.drawn.append(super().draw(n, generator))
        return self.drawn[-1]

    def update(self, index, errors):
        self.told.append((index.clone(), errors.clone()))
        super().update(index, errors)


# --- windows ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("window", [1, 3, 6])
def test_windows_are_slices_of_walks_each_with_its_number(window):
    (states, actions), replay = numbered(), store(window)
    each = 7 - window
    assert replay.errors.shape == (2 * each,)
    drawn = replay.draw(200, seeded())
    assert isinstance(drawn, Windows)
    assert drawn.states.shape == (200, window + 1, 3)
    assert drawn.actions.shape == (200, window, 2)
    assert set(drawn.index.tolist()) == set(range(2 * each))  # both walks, first and last windows
    for index, s, a in zip(*drawn, strict=True):
        walk, t = divmod(int(index), each)
        assert torch.equal(s, states[walk, t : t + window + 1])
        assert torch.equal(a, actions[walk, t : t + window])


def test_defaults_are_eight_steps_and_a_half():
    replay = Replay(*numbered(T=12))
    assert (replay.window, replay.share, replay.power) == (8, 0.5, 0.5)
    assert replay.draw(3, seeded()).actions.shape == (3, 8, 2)


# --- the law ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_as_long_as_no_error_is_known_all_windows_are_alike(share):
    replay = store(share=share)
    assert (replay.errors == 0).all()
    assert chisquare(frequencies(replay)).pvalue > 1e-3
    replay.update(torch.arange(8), torch.zeros(8, dtype=F64))
    assert chisquare(frequencies(replay)).pvalue > 1e-3


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_frequencies_follow_the_law(share, power):
    replay = store(share=share, power=power)
    errors = torch.tensor([0.1, 0.0, 0.4, 0.2, 0.0, 1.0, 0.05, 0.6], dtype=F64)
    replay.update(torch.arange(8), errors)
    by_error = (errors**power / (errors**power).sum()).numpy()
    law, found = share * by_error + (1 - share) / 8, frequencies(replay)
    assert (found[law == 0] == 0).all()
    assert chisquare(found[law > 0], 40000 * law[law > 0]).pvalue > 1e-3
    if share in (0.3, 0.5):
        assert chisquare(found, np.full(8, 5000.0)).pvalue < 1e-6


def test_the_share_is_of_the_windows_of_a_draw():
    replay = Replay(torch.randn(1, 2001, 1, generator=seeded()), torch.zeros(1, 2000, 1), window=1, share=0.25)
    replay.update(torch.tensor([77]), torch.tensor([0.3]))
    for seed in range(5):
        assert 250 <= (replay.draw(1000, seeded(seed)).index == 77).sum() <= 254


def test_what_is_remembered_is_the_last_error_of_each():
    replay = store(share=1.0)
    replay.update(torch.tensor([1, 5]), torch.tensor([3.0, 4.0], dtype=F64))
    replay.update(torch.tensor([5, 2]), torch.tensor([0.0, 2.0], dtype=F64))
    torch.testing.assert_close(replay.errors, torch.tensor([0, 3.0, 2.0, 0, 0, 0, 0, 0], dtype=F64), check_dtype=False)
    assert set(replay.draw(300, seeded()).index.tolist()) == {1, 2}


def test_only_ratios_of_errors_matter():
    tiny, large = store(share=1.0), store(share=1.0)
    errors = torch.rand(8, generator=seeded(), dtype=F64)
    tiny.update(torch.arange(8), 1e-12 * errors)
    large.update(torch.arange(8), 1e12 * errors)
    assert torch.equal(tiny.draw(500, seeded()).index, large.draw(500, seeded()).index)


def test_errors_with_a_graph_are_remembered_without():
    replay, e = store(), torch.ones(2, dtype=F64, requires_grad=True)
    replay.update(torch.tensor([0, 1]), 2 * e)
    assert not replay.errors.requires_grad


# --- the store's contract --------------------------------------------------------------------------------------------
def test_draws_are_those_of_the_generator():
    state, replay = torch.get_rng_state(), store()
    replay.update(torch.arange(8), torch.rand(8, generator=seeded(), dtype=F64))
    first, again, other = (replay.draw(50, seeded(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.index, other.index)
    assert torch.equal(torch.get_rng_state(), state)


def test_dtypes_follow_and_walks_are_left_alone():
    states, actions = numbered()
    kept = states.clone(), actions.clone()
    drawn = Replay(states.float(), actions, window=2).draw(5, seeded())
    assert (drawn.index.dtype, drawn.states.dtype, drawn.actions.dtype) == (torch.int64, torch.float32, F64)
    replay = Replay(states, actions, window=2)
    replay.draw(5, seeded()).states.zero_()
    assert torch.equal(states, kept[0])
    assert torch.equal(actions, kept[1])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (dict(window=0), "window must"),
        (dict(window=7), "window must"),
        (dict(share=-0.1), "share must"),
        (dict(share=1.1), "share must"),
        (dict(share=math.nan), "share must"),
        (dict(power=0.0), "power must"),
        (dict(power=-1.0), "power must"),
        (dict(power=math.nan), "power must"),
        (dict(states=torch.zeros(7, 3)), "states"),
        (dict(states=torch.zeros(2, 8, 3)), "states|actions"),
        (dict(actions=torch.zeros(2, 7, 2)), "actions"),
        (dict(actions=torch.zeros(3, 6, 2)), "actions"),
        (dict(actions=torch.zeros(2, 6)), "actions"),
        (dict(states=torch.full((2, 7, 3), math.nan)), "states must be finite"),
        (dict(actions=torch.full((2, 6, 2), math.inf)), "actions must be finite"),
    ],
)
def test_the_store_refuses(options, told):
    states, actions = numbered()
    arguments = dict(states=states, actions=actions, window=3) | options
    with pytest.raises(ValueError, match=told):
        Replay(**arguments)


@pytest.mark.parametrize(
    ("index", "errors", "told"),
    [
        ([0, 1], [0.1, -0.1], "errors"),
        ([0, 1], [0.1, math.nan], "errors"),
        ([0, 1], [0.1, math.inf], "errors"),
        ([0, 1], [0.1], "errors"),
        ([0], [[0.1]], "errors"),
    ],
)
def test_the_store_refuses_errors(index, errors, told):
    with pytest.raises(ValueError, match=told):
        store().update(torch.tensor(index), torch.tensor(errors, dtype=F64))
    with pytest.raises((ValueError, IndexError)):
        store().update(torch.tensor([8]), torch.ones(1, dtype=F64))
    with pytest.raises(ValueError, match="n must"):
        store().draw(0)


# --- learning --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_linear_world_is_recovered(share):
    states, actions, turn, push = world()
    model = Linear()
    options = dict(steps=600, batch_size=64, lr=0.03, generator=seeded(), progress=False)
    history = learn_dynamics(model, Replay(states, actions, window=4, share=share), **options)
    torch.testing.assert_close(model.turn.detach(), turn, rtol=0, atol=1e-3)
    torch.testing.assert_close(model.push.detach(), push, rtol=0, atol=1e-3)
    assert history.shape == (600,)
    assert history[-1] < 1e-5 < history[0]
    assert not history.requires_grad


def test_the_error_is_the_formula():
    """Rolled out from the first state on its own predictions; what the store is told is what the batch had."""
    states, actions, _, _ = world(seed=5)
    replay, model = Spy(states, actions, window=3, share=0.0), Linear(seed=3)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    history = learn_dynamics(model, replay, steps=1, batch_size=16, lr=0.1, generator=seeded(), progress=False)
    (index, s, a), (told, errors) = replay.drawn[0], replay.told[0]
    unit, expected = float((states[:, 1:] - states[:, :-1]).square().mean()), []
    for n in range(16):
        ahead, total = s[n, 0], 0.0
        for k in range(3):
            ahead = before["turn"] @ ahead + before["push"] @ a[n, k]
            total += float((ahead - s[n, k + 1]).square().mean())
        expected.append(total / 3 / unit)
    assert torch.equal(told, index)
    torch.testing.assert_close(errors.double(), torch.tensor(expected, dtype=F64), rtol=1e-5, atol=0)
    assert history[0].item() == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_a_model_in_which_nothing_moves_has_1(scale):
    states, actions, _, _ = world()
    replay = Spy(scale * states, actions, window=1, share=0.0)
    still = Drift()
    learn_dynamics(still, replay, steps=1, batch_size=20000, lr=1e-12, generator=seeded(), progress=False)
    assert replay.told[0][1].mean().item() == pytest.approx(1, abs=0.03)


def test_history_is_of_the_windows_drawn_evenly():
    """One window of 1000 is wrong; it makes up half of each batch, but a thousandth of what is drawn evenly."""
    states, actions = torch.arange(1001, dtype=F64).view(1, -1, 1).clone(), torch.ones(1, 1000, 1, dtype=F64)
    states[0, 501:] += 30  # a jump in window 500
    unit = (999 + 31**2) / 1000
    for share, n in ((0.5, 200), (0.25, 400)):
        replay = Spy(states, actions, window=1, share=share)
        replay.update(torch.tensor([500]), torch.ones(1, dtype=F64))
        options = dict(steps=20, batch_size=n, lr=1e-9, generator=seeded(), progress=False)
        history = learn_dynamics(Drift(1.0), replay, **options)
        evenly = n - int(share * n)
        counts = torch.stack([(d.index == 500).sum() for d in replay.drawn]) - int(share * n)
        assert counts.sum() > 0
        torch.testing.assert_close(history.double(), counts.double() * 900 / unit / evenly, rtol=1e-5, atol=1e-9)
    replay = Spy(states, actions, window=1, share=1.0)
    replay.update(torch.tensor([500]), torch.ones(1, dtype=F64))
    history = learn_dynamics(Drift(1.0), replay, steps=3, lr=1e-9, generator=seeded(), progress=False)
    torch.testing.assert_close(history.double(), torch.full((3,), 900 / unit, dtype=F64), rtol=1e-5, atol=0)


def test_history_is_of_all_where_a_share_leaves_none_to_be_drawn_evenly():
    states, actions, _, _ = world()
    replay = Replay(states, actions, window=2, share=0.9)
    history = learn_dynamics(Linear(), replay, steps=3, batch_size=4, generator=seeded(), progress=False)
    assert history.isfinite().all()


def test_the_store_learns_what_is_hard():
    """The jump that no model can know is what is drawn in the end."""
    states, actions = torch.arange(201, dtype=F64).view(1, -1, 1).clone(), torch.ones(1, 200, 1, dtype=F64)
    states[0, 101:] += 3
    replay = Spy(states, actions, window=1, share=0.5)
    learn_dynamics(Drift(1.0), replay, steps=60, batch_size=64, lr=1e-9, generator=seeded(), progress=False)
    assert int(replay.errors.argmax()) == 100
    assert sum((d.index == 100).sum() for d in replay.drawn[-10:]) >= 320


def test_the_rate_rises_and_falls():
    """Where the gradient is always the same, each step of Adam is as long as the rate."""
    states = torch.arange(40, dtype=F64).view(1, -1, 1)
    model, rate = Drift(), 1e-6
    options = dict(steps=401, batch_size=2, lr=rate, generator=seeded(), progress=False)
    learn_dynamics(model, Replay(states, torch.ones(1, 39, 1, dtype=F64), window=1), **options)
    steps = np.diff(model.seen) / rate
    assert len(steps) == 400
    assert steps.max() == pytest.approx(1, abs=0.03)
    assert steps.argmax() <= 6
    assert steps[0] < 0.6
    assert (np.diff(steps[8:]) < 0).all()
    done = (np.arange(8, 400) - 3) / 397
    np.testing.assert_allclose(steps[8:], 0.5 * (1 + np.cos(math.pi * done)), atol=0.02)
    assert steps[-1] < 1e-3


def test_the_gradient_is_clipped():
    states, actions, _, _ = world()
    norms = []
    for clip in (1e-3, 1e6):
        model = Linear()
        options = dict(steps=1, lr=1e-9, clip=clip, generator=seeded(), progress=False)
        learn_dynamics(model, Replay(states, actions, window=4), **options)
        norms.append(math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters())))
    assert norms[0] == pytest.approx(1e-3, rel=1e-3)
    assert norms[1] > 0.01


def test_learning_is_a_function_of_the_generator():
    state, found = torch.get_rng_state(), []
    for seed in (1, 1, 2):
        states, actions, _, _ = world()
        model = Linear()
        options = dict(steps=20, batch_size=8, lr=0.01, generator=seeded(seed), progress=False)
        found.append((learn_dynamics(model, Replay(states, actions, window=2), **options), model.turn.detach()))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert not torch.equal(found[0][0], found[2][0])
    assert torch.equal(torch.get_rng_state(), state)


def test_progress_is_shown_or_not(capfd):
    for progress in (False, True):
        states, actions, _, _ = world()
        learn_dynamics(Linear(), Replay(states, actions, window=2), steps=2, generator=seeded(), progress=progress)
        assert bool(capfd.readouterr().err) is progress


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (dict(steps=0), "steps must"),
        (dict(batch_size=0), "batch_size must"),
        (dict(lr=0.0), "lr must"),
        (dict(lr=math.nan), "lr must"),
        (dict(clip=0.0), "clip must"),
        (dict(clip=-1.0), "clip must"),
    ],
)
def test_learning_refuses_numbers_out_of_range(options, told):
    states, actions, _, _ = world()
    with pytest.raises(ValueError, match=told):
        learn_dynamics(Linear(), Replay(states, actions, window=2), **(dict(steps=2, progress=False) | options))


def test_learning_refuses_a_world_that_stands_still():
    still = Replay(torch.ones(2, 9, 2, dtype=F64), torch.randn(2, 8, 2, dtype=F64, generator=seeded()))
    with pytest.raises(ValueError, match="states"):
        learn_dynamics(Linear(), still, steps=2, progress=False)


def test_an_error_that_is_no_number_is_told():
    states, actions, _, _ = world()
    with pytest.raises(FloatingPointError, match="step 0"):
        learn_dynamics(Drift(math.inf), Replay(states, actions, window=2), steps=2, progress=False)
