"""The world model's criterion against the formula written out, what each term pulls at, and the contract."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from ebm_lib.world import ContactDynamics, Keypoints, WorldModel, WorldTerms

F64 = torch.float64
WEIGHTS = dict(prediction=1.0, variance=16.0, covariance=25.0, similarity=2.0, inverse=20.0)
TERMS = list(WEIGHTS)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


class Plain(nn.Module):
    """An encoder of pictures of six numbers: a matrix."""

    def __init__(self, D=3):
        super().__init__()
        self.weight = nn.Parameter(0.3 * draw(D, 6, seed=7))

    def forward(self, x):
        return x.flatten(-3) @ self.weight.T


class Pushed(nn.Module):
    """Dynamics that are not linear."""

    def __init__(self, D=3, A=2):
        super().__init__()
        self.push = nn.Parameter(draw(D, A, seed=8))

    def forward(self, s, a):
        return torch.sin(s + a @ self.push.T)


def model(scale=0.5, D=3, A=2, **options):
    return WorldModel(Plain(D), Pushed(D, A), D, A, scale=scale, **{"generator": seeded()} | options).double()


def films(N=6, T=5):
    return draw(N, T, 1, 2, 3, seed=2), 0.5 * draw(N, T - 1, 2, seed=3)


def only(term, weight=1.0):
    return {name: weight if name == term else 0.0 for name in TERMS}


# --- the formula -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("weights", [{}, dict(prediction=3.0, variance=0.5, covariance=7.0, similarity=1.5, inverse=2)])
@pytest.mark.parametrize(("N", "T"), [(6, 5), (2, 2), (3, 9)])
def test_is_the_formula(weights, N, T):
    made, (x, a) = model(), films(N, T)
    with torch.no_grad():
        made.encoder.weight.mul_(0.7)  # some deviations are below 1
    s = np.einsum("dk,ntk->ntd", made.encoder.weight.detach().numpy(), x.flatten(-3).numpy())
    push, acts = made.dynamics.push.detach().numpy(), a.numpy()
    ahead, miss = s[:, 0], []
    for t in range(T - 1):
        ahead = np.sin(ahead + acts[:, t] @ push.T)
        miss.append(np.mean((ahead - s[:, t + 1]) ** 2))
    every = s.reshape(-1, 3)
    spread = np.sqrt(every.var(0, ddof=1) + 1e-4)
    together = np.cov(every.T)
    read = torch.from_numpy(np.concatenate([s[:, :-1], s[:, 1:]], -1))
    first, second = made.inverse.linears
    told = torch.relu(read @ first.weight.T + first.bias) @ second.weight.T + second.bias
    bare = {
        "prediction": np.mean(miss),
        "variance": np.mean(np.maximum(0, 1 - spread)),
        "covariance": (np.sum(together**2) - np.sum(np.diag(together) ** 2)) / 3,
        "similarity": np.mean((s[:, 1:] - s[:, :-1]) ** 2),
        "inverse": float((told.detach() - a / 0.5).square().mean()),
    }
    found = made.criterion(x, a, **weights)
    assert isinstance(found, WorldTerms)
    expected = {name: (WEIGHTS | weights)[name] * value for name, value in bare.items()}
    for name, value in expected.items():
        assert getattr(found, name).item() == pytest.approx(value, rel=1e-9, abs=1e-12), name
        assert getattr(found, name).shape == ()
    assert found.loss.item() == pytest.approx(sum(expected.values()), rel=1e-9)


@pytest.mark.parametrize("term", TERMS)
def test_a_weight_of_0_switches_its_term_off_and_nothing_else(term):
    made, (x, a) = model(), films()
    with torch.no_grad():
        made.encoder.weight.mul_(0.5)
    full, without, twice = (made.criterion(x, a, **{term: w}) for w in (WEIGHTS[term], 0.0, 2 * WEIGHTS[term]))
    assert getattr(without, term) == 0
    assert getattr(full, term) > 0
    torch.testing.assert_close(getattr(twice, term), 2 * getattr(full, term))
    torch.testing.assert_close(without.loss, full.loss - getattr(full, term))
    for other in set(TERMS) - {term}:
        assert torch.equal(getattr(without, other), getattr(full, other))


# --- what the terms pull at ------------------------------------------------------------------------------------------
def slopes(term, made=None):
    made, (x, a) = made or model(), films()
    with torch.no_grad():
        made.encoder.weight.mul_(0.5)
    made.criterion(x, a, **only(term)).loss.backward()
    return {name: p.grad is not None and bool(p.grad.abs().max() > 0) for name, p in made.named_parameters()}


def test_who_gets_a_gradient():
    for term in TERMS:
        pulled = slopes(term)
        assert pulled["encoder.weight"], term
        assert pulled["dynamics.push"] == (term == "prediction"), term
        assert all(on == (term == "inverse") for name, on in pulled.items() if name.startswith("inverse")), term


def test_predicted_and_encoded_states_both_receive_the_gradient():
    """Only the first picture leads to the predictions; the others are what is predicted."""
    made, (x, a) = model(), films()
    x.requires_grad_()
    (slope,) = torch.autograd.grad(made.criterion(x, a, **only("prediction")).loss, x)
    assert (slope.flatten(2).abs().amax((0, 2)) > 0).all()  # at every time
    with torch.no_grad():
        states = made.represent(x)
        ahead, miss = states[:, 0], []
        for t in range(4):
            ahead = made(ahead, a[:, t])
            miss.append(states[:, t + 1] - ahead)
    expected = 2 * torch.stack(miss, 1) / (6 * 4 * 3) @ made.encoder.weight
    torch.testing.assert_close(slope[:, 1:].flatten(2), expected.detach())


def test_gradients_by_finite_differences():
    made, (x, a) = model(), films(3, 3)
    made.inverse = nn.Sequential(nn.Linear(6, 2, dtype=F64), nn.Tanh())
    x.requires_grad_(), a.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, a: made.criterion(x, a).loss, (x, a))


def test_collapsed_states_are_what_the_variance_is_for():
    made, (x, a) = model(), films()
    with torch.no_grad():
        made.encoder.weight.zero_()
        made.dynamics.push.zero_()
    found = made.criterion(x, a)
    assert [found.prediction.item(), found.covariance.item(), found.similarity.item()] == [0, 0, 0]
    assert found.variance.item() == pytest.approx(16 * 0.99)  # the root of ε is a hundredth


def test_a_dot_that_is_encoded_as_it_is_costs_almost_nothing():
    """Wide, uncorrelated states, true dynamics: prediction, variance and covariance vanish."""
    a = draw(4000, 1, 2)
    s = 2 * draw(4000, 2, seed=4)
    x = torch.stack([s, s + a[:, 0]], 1).view(4000, 2, 1, 1, 2)

    class Sum(nn.Module):
        def forward(self, s, a):
            return s + a

    found = WorldModel(nn.Flatten(-3), Sum(), 2, 2).double().criterion(x, a)
    assert found.prediction < 1e-20
    assert found.variance == 0
    assert found.covariance < 25 * 0.05
    assert found.similarity.item() == pytest.approx(2, rel=0.05)


def test_learns_a_world_from_pictures():
    """A few steps lower the criterion, and what was done can be read off the states."""
    g = seeded(5)
    grid = torch.arange(16.0)
    place = 4 + 8 * torch.rand(128, 1, 2, generator=g)
    a = 2 * torch.rand(128, 2, 2, generator=g) - 1
    place = torch.cat([place, place + a.cumsum(1)], 1)
    across, down = (torch.exp(-((grid - p[..., None]) ** 2) / 4) for p in place.unbind(-1))
    x = (down[..., :, None] * across[..., None, :])[:, :, None]
    made = WorldModel(Keypoints(1, 2, generator=g), ContactDynamics(2, 2, hidden=(32,), generator=g), 2, 2, generator=g)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.01)
    history = []
    for _ in range(60):
        found = made.criterion(x, a)
        history.append([term.item() for term in found])
        optimizer.zero_grad()
        found.loss.backward()
        optimizer.step()
    assert history[-1][0] < 0.4 * history[0][0]
    assert history[-1][5] < 0.5 * history[0][5]


# --- the contract ----------------------------------------------------------------------------------------------------
def test_it_is_its_parts():
    made, x = model(), draw(5, 4, 1, 2, 3)
    s = made.represent(x)
    assert torch.equal(s, made.encoder(x))
    assert s.shape == (5, 4, 3)
    a = draw(7, 1, 1, 2)
    assert torch.equal(made(s, a), made.dynamics(s, a))
    assert made(s, a).shape == (7, 5, 4, 3)
    assert made.represent(x[0, 0]).shape == (3,)
    assert {name.split(".")[0] for name in made.state_dict()} == {"encoder", "dynamics", "inverse"}


def test_the_inverse_model_is_of_its_generator_and_the_parts_are_as_given():
    state, encoder, dynamics = torch.get_rng_state(), Plain(), Pushed()
    made = [WorldModel(encoder, dynamics, 3, 2, generator=seeded(k)) for k in (5, 5, 6)]
    weights = [torch.cat([p.flatten() for p in m.inverse.parameters()]) for m in made]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), state)
    assert made[0].encoder is encoder
    assert made[0].dynamics is dynamics


def test_the_scale_is_the_actions_unit():
    x, a = films()
    centimetres, metres = (model(scale=scale).criterion(x, a, **only("inverse")) for scale in (0.5, 50.0))
    again = model(scale=50.0).criterion(x, 100 * a, **only("inverse"))
    torch.testing.assert_close(again.inverse, centimetres.inverse)
    assert not torch.allclose(metres.inverse, centimetres.inverse)


def test_dtype_and_meta():
    g = seeded()
    made = WorldModel(Keypoints(2, 4, generator=g), ContactDynamics(4, 2, generator=g), 4, 2, generator=g)
    x, a = torch.rand(3, 4, 2, 12, 12, generator=g), torch.rand(3, 3, 2, generator=g)
    single = made.criterion(x, a)
    assert all(term.dtype == torch.float32 for term in single)
    there = made.to("meta").criterion(x.to("meta"), a.to("meta"))
    assert all((term.device.type, term.shape) == ("meta", ()) for term in there)
    assert all(term.dtype == F64 for term in model().criterion(*films()))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_as_on_the_processor():
    made, (x, a) = model(), films()
    here = made.criterion(x, a)
    for one, other in zip(made.cuda().criterion(x.cuda(), a.cuda()), here, strict=True):
        torch.testing.assert_close(one.cpu(), other)


@pytest.mark.parametrize(("change", "told"), [(dict(D=0), "D must"), (dict(A=0), "A must"), (dict(scale=0.0), "scale")])
def test_refuses_sizes(change, told):
    arguments = dict(D=3, A=2, scale=1.0) | change
    with pytest.raises(ValueError, match=told):
        WorldModel(Plain(), Pushed(), arguments["D"], arguments["A"], scale=arguments["scale"])


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_refuses_weights(term, bad):
    with pytest.raises(ValueError, match=term):
        model().criterion(*films(), **{term: bad})


@pytest.mark.parametrize(
    ("x", "a", "told"),
    [
        (draw(1, 5, 1, 2, 3), draw(1, 4, 2), "films must"),
        (draw(6, 1, 1, 2, 3), draw(6, 0, 2), "films must"),
        (draw(5, 1, 2, 3), draw(4, 2), "films must"),
        (draw(6, 5, 1, 2, 3), draw(6, 5, 2), "actions must"),
        (draw(6, 5, 1, 2, 3), draw(6, 4, 3), "actions must"),
        (draw(6, 5, 1, 2, 3), draw(5, 4, 2), "actions must"),
        (draw(6, 5, 1, 2, 3), draw(4, 2), "actions must"),
        (draw(6, 5, 1, 2, 3) * math.inf, draw(6, 4, 2), "must be finite"),
        (draw(6, 5, 1, 2, 3), draw(6, 4, 2) * math.nan, "actions must be finite"),
    ],
)
def test_refuses_films_and_actions(x, a, told):
    with pytest.raises(ValueError, match=told):
        model().criterion(x, a)


def test_refuses_states_of_another_width():
    narrow = WorldModel(Plain(4), Pushed(), 3, 2).double()
    with pytest.raises(ValueError, match=r"\(\.\.\., 3\)"):
        narrow.represent(films()[0])
    met = WorldModel(Plain(), ContactDynamics(3, 2, generator=seeded()), 3, 2).double()
    for s, a, told in ((draw(5, 4), draw(5, 2), "s must"), (draw(5, 3), draw(5, 3), "a must")):
        with pytest.raises(ValueError, match=told):
            met(s, a)
