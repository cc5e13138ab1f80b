"""The gated forward model against the formula written out, exact dynamics that it can represent, and its contract."""

import pytest
import torch
from torch.func import jacrev

from ebm_lib.world import GatedDynamics, cem, rollout, trajectory_energy


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model(**changes) -> GatedDynamics:
    sizes = dict(D=3, A=2, L=0, fixed=2, hidden=(16, 16), scale=0.5, generator=seeded())
    return GatedDynamics(**{**sizes, **changes}).double()


def blank(**changes) -> GatedDynamics:
    """A model whose perceptron answers its last bias alone, 0 as it is, and whose B is of ones."""
    made = model(**changes)
    with torch.no_grad():
        for parameter in made.mlp.parameters():
            parameter.zero_()
        made.free.weight.fill_(1.0)
    return made


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


# --- the formula -----------------------------------------------------------------------------------------------------


def test_is_the_formula():
    """Each part computed with plain matrix products from the weights."""
    made, s, a = model(), drawn(7, 5), drawn(7, 2, seed=2)
    h = torch.cat([s, a / 0.5], -1)
    first, second, last = made.mlp.linears
    h = torch.relu(h @ first.weight.T + first.bias)
    h = torch.relu(h @ second.weight.T + second.bias)
    out = h @ last.weight.T + last.bias
    gate, more = 1 / (1 + torch.exp(-out[:, :3] - 2)), out[:, 3:]
    expected = s.clone()
    expected[:, :3] += gate * (a / 0.5 @ made.free.weight.T + more)
    torch.testing.assert_close(made(s, a), expected)
    torch.testing.assert_close(made.gate(s, a), gate)


def test_a_latent_variable_is_read_by_gate_and_correction():
    made, s, a, z = model(L=4), drawn(7, 5), drawn(7, 2, seed=2), drawn(7, 4, seed=3)
    out = made.mlp(torch.cat([s, a / 0.5, z], -1))
    expected = s[:, :3] + torch.sigmoid(out[:, :3] + 2) * (made.free(a / 0.5) + out[:, 3:])
    torch.testing.assert_close(made(s, a, z)[:, :3], expected)
    torch.testing.assert_close(made.gate(s, a, z), torch.sigmoid(out[:, :3] + 2))
    assert not torch.allclose(made(s, a, z), made(s, a, 0 * z))


def test_begins_mostly_open_and_moves_by_the_action():
    """With a silent network: B a in units of the scale, times σ(2)."""
    made = blank()
    s, a = drawn(4, 5), torch.tensor([0.25, 0.0], dtype=torch.float64)
    step = made(s, a) - s
    torch.testing.assert_close(step[:, :3], torch.full((4, 3), 0.5 / (1 + torch.e**-2), dtype=torch.float64))


def test_a_shut_gate_stops_all_actions_alike_and_for_ever():
    made = blank()
    with torch.no_grad():
        made.mlp.linears[-1].bias[:3] = -40.0
        made.mlp.linears[-1].bias[3:] = 5.0
    s, actions = drawn(4, 5), drawn(4, 50, 2, seed=2)
    torch.testing.assert_close(rollout(made, s, actions), s[:, None].expand(-1, 51, -1))


def test_an_open_gate_adds_up_the_actions():
    made = blank(D=2, fixed=1, scale=2.0)
    with torch.no_grad():
        made.mlp.linears[-1].bias[:2] = 40.0
        made.free.weight.copy_(torch.eye(2))
    s, actions = drawn(4, 3), drawn(4, 6, 2, seed=2)
    end = rollout(made, s, actions)[:, -1]
    torch.testing.assert_close(end[:, :2], s[:, :2] + actions.sum(1) / 2)


def test_the_scale_is_a_change_of_units():
    inches, metres = model(scale=0.5), model(scale=5.0)
    s, a = drawn(7, 5), drawn(7, 2, seed=2)
    torch.testing.assert_close(inches(s, a), metres(s, 10 * a))


def test_what_is_fixed_passes_through_and_is_read():
    made, s, a = model(), drawn(7, 5), drawn(7, 2, seed=2)
    assert torch.equal(made(s, a)[:, 3:], s[:, 3:])
    other = s.clone()
    other[:, 4] += 1
    assert (made(other, a)[:, :3] != made(s, a)[:, :3]).any()
    jacobian = jacrev(lambda s: made(s, a[0]))(s[0])  # a planner's gradient passes too
    torch.testing.assert_close(jacobian[3:], torch.eye(5, dtype=torch.float64)[3:])


def test_learns_a_wall():
    """A dot on a line that stops at 0.5, from random pushes: it stays stopped, and free steps remain right."""
    g = seeded(3)
    made = GatedDynamics(1, 1, hidden=(32, 32), scale=0.1, generator=g)
    optimizer = torch.optim.Adam(made.parameters(), lr=5e-3)
    for _ in range(600):
        s = torch.rand(256, 1, generator=g).sub(0.5).clamp(max=0.5)
        s[:64] = 0.5
        a = 0.2 * torch.rand(256, 1, generator=g) - 0.1
        loss = (made(s, a) - (s + a).clamp(max=0.5)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pushed = rollout(made, torch.tensor([0.3]), torch.full((30, 1), 0.1))[-1]
    assert abs(pushed.item() - 0.5) < 0.03
    free = rollout(made, torch.tensor([-0.3]), torch.full((5, 1), 0.1))[-1]
    assert abs(free.item() - 0.2) < 0.03


def test_planners_take_it():
    """In free space the best plan is known: straight to the goal, at most one unit a step."""
    made = blank(D=2, fixed=0, scale=1.0)
    with torch.no_grad():
        made.mlp.linears[-1].bias[:2] = 40.0
        made.free.weight.copy_(torch.eye(2))
    goal = torch.tensor([2.0, -1.0], dtype=torch.float64)

    def miss(s):
        return (s - goal).square().sum(-1)

    energy = trajectory_energy(made, lambda s, a: 0 * s[..., 0], miss)(torch.zeros(2, dtype=torch.float64))
    start = torch.zeros(4, 2, dtype=torch.float64)
    plan = cem(energy, start, spread=1.0, samples=200, elites=20, iterations=20, bounds=(-1.0, 1.0), generator=seeded())
    assert plan.energy < 1e-2


# --- the contract ----------------------------------------------------------------------------------------------------


def test_broadcasts_leading_dimensions():
    made, s, a, z = model(L=1), drawn(6, 5), drawn(4, 1, 2, seed=2), drawn(3, 1, 1, 1, seed=3)
    together = made(s, a, z)
    assert together.shape == (3, 4, 6, 5)
    torch.testing.assert_close(together[2, 1, 5], made(s[5], a[1, 0], z[2, 0, 0]))
    assert made.gate(s, a, z).shape == (3, 4, 6, 3)


def test_does_not_write_into_the_state():
    made, s, a = model(), drawn(6, 5), drawn(6, 2, seed=2)
    before = s.clone()
    made(s, a)
    assert torch.equal(s, before)


def test_is_a_function_of_its_generator():
    state = torch.get_rng_state()
    weights = [torch.cat([p.flatten() for p in model(generator=seeded(k)).parameters()]) for k in (5, 5, 6)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), state), "the global generator was drawn from"


def test_dtype_and_meta():
    single = GatedDynamics(3, 2, fixed=2, generator=seeded())
    assert single(torch.zeros(4, 5), torch.zeros(4, 2)).dtype == torch.float32
    assert model()(drawn(4, 5), drawn(4, 2)).dtype == torch.float64
    ahead = single.to("meta")(torch.zeros(4, 5, device="meta"), torch.zeros(9, 1, 2, device="meta"))
    assert ahead.shape == (9, 4, 5)
    assert ahead.device.type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_as_on_the_processor():
    made, s, a = model(), drawn(7, 5), drawn(7, 2, seed=2)
    here = made(s, a)
    torch.testing.assert_close(made.cuda()(s.cuda(), a.cuda()).cpu(), here)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (dict(D=0), "D must"),
        (dict(A=0), "A must"),
        (dict(L=-1), "L must"),
        (dict(fixed=-1), "fixed must"),
        (dict(hidden=(8, 0)), r"hidden\[1\] must"),
        (dict(scale=0.0), "scale must"),
        (dict(activation="sine"), "activation must"),
    ],
)
def test_refuses_sizes(change, told):
    with pytest.raises(ValueError, match=told):
        model(**change)


@pytest.mark.parametrize(
    ("L", "shapes", "told"),
    [
        (0, [(4, 3), (4, 2)], r"s must be \(..., 5\)"),
        (0, [(4, 5), (4, 3)], r"a must be \(..., 2\)"),
        (0, [(4, 5), ()], r"a must be \(..., 2\)"),
        (0, [(4, 5), (3, 2)], "must broadcast"),
        (0, [(4, 5), (4, 2), (4, 1)], "has none"),
        (1, [(4, 5), (4, 2)], r"z must be \(..., 1\)"),
        (1, [(4, 5), (4, 2), (4, 2)], r"z must be \(..., 1\)"),
        (1, [(4, 5), (4, 2), (3, 1)], "must broadcast"),
    ],
)
def test_refuses_inputs(L, shapes, told):
    with pytest.raises(ValueError, match=told):
        model(L=L)(*(torch.zeros(shape, dtype=torch.float64) for shape in shapes))
