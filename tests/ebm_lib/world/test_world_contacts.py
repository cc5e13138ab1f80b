"""The model with contacts: the share of a step against planes put by hand, the formula written out, its contract."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import jacrev

from ebm_lib.world import ContactDynamics, cem, rollout, trajectory_energy

F64 = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def model(**changes) -> ContactDynamics:
    sizes = dict(D=3, A=2, fixed=2, planes=4, hidden=(16, 16), scale=0.5, generator=seeded())
    return ContactDynamics(**{**sizes, **changes}).double()


def walled(normals, distances, **changes) -> ContactDynamics:
    """A model that has these planes everywhere, M = 0 and the first rows of the identity for B; far planes fill up."""
    made = model(**{"D": 2, "fixed": 0, "planes": len(normals), "scale": 1.0, "sharpness": 200.0} | changes)
    logits = [math.log(math.expm1(c - 0.01)) + 1 for c in distances]  # c = softplus(logit − 1) + 1/100
    with torch.no_grad():
        for parameter in made.mlp.parameters():
            parameter.zero_()
        answer = torch.tensor([x for n in normals for x in n] + logits, dtype=F64)
        made.mlp.linears[-1].bias[: len(answer)] = answer
        made.free.weight.copy_(torch.eye(*made.free.weight.shape))
    return made


# --- the formula -----------------------------------------------------------------------------------------------------


def test_is_the_formula():
    """Each part computed with plain matrix products from the weights."""
    made, s, a = model(sharpness=3.0), drawn(7, 5), drawn(7, 2, seed=2)
    with torch.no_grad():
        made.mlp.linears[-1].weight.mul_(5)  # planes that are met
    first, second, last = made.mlp.linears
    h = torch.relu(s @ first.weight.T + first.bias)
    h = torch.relu(h @ second.weight.T + second.bias)
    out = h @ last.weight.T + last.bias
    normals, distances = out[:, :8].reshape(7, 4, 2), torch.log1p(torch.exp(out[:, 8:12] - 1)) + 0.01
    more, u = out[:, 12:].reshape(7, 3, 2), a / 0.5
    ratio = torch.einsum("nka,na->nk", normals, u) / distances
    share = (1 + torch.where(ratio > 0, ratio, 0.0 * ratio).pow(3).sum(-1)) ** (-1 / 3)
    assert share.min() < 0.5
    assert (ratio < 0).any()
    torch.testing.assert_close(made.share(s, a), share)
    step = share[:, None] * torch.einsum("nda,na->nd", made.free.weight + more, u)
    torch.testing.assert_close(made(s, a), s + torch.cat([step, torch.zeros(7, 2, dtype=F64)], -1))


@pytest.mark.parametrize("c", [0.05, 0.3, 1.0, 4.0])
@pytest.mark.parametrize("push", [0.02, 0.2, 0.9, 3.0, 50.0])
def test_one_plane_stops_a_straight_step_where_it_meets_it(c, push):
    made, normal = walled([(0.6, 0.8)], [c]), torch.tensor([0.6, 0.8], dtype=F64)
    for direction in (normal, torch.tensor([1.0, 0.0], dtype=F64), torch.tensor([0.0, 2.0], dtype=F64)):
        a = push * direction
        share = made.share(torch.zeros(2, dtype=F64), a)
        assert share.item() == pytest.approx(min(1, c / float(normal @ a)), rel=0.005)
        assert normal @ made(torch.zeros(2, dtype=F64), a) <= c + 1e-12  # never beyond it


def test_what_goes_along_a_plane_or_away_from_it_is_free():
    made, s = walled([(0.6, 0.8)], [0.05]), drawn(2)
    for a in ([-0.8, 0.6], [8.0, -6.0], [-1.0, -1.0], [-100.0, 0.0]):
        a = torch.tensor(a, dtype=F64)
        assert made.share(s, a).item() == pytest.approx(1, abs=1e-12)
        torch.testing.assert_close(made(s, a), s + a)


def test_the_nearest_of_several_planes_decides():
    """A corridor, and corners: min over planes of c / (n · a), to the sharpness."""
    normals, c = [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.6, 0.8)], [0.2, 0.1, 0.4, 0.3]
    made, a = walled(normals, c), drawn(500, 2, seed=3)
    against = (a @ torch.tensor(normals, dtype=F64).T) / torch.tensor(c, dtype=F64)
    exact = 1 / against.amax(-1).clamp(min=1)
    torch.testing.assert_close(made.share(torch.zeros(2, dtype=F64), a), exact, rtol=0.01, atol=0)


def test_a_step_on_the_plane_is_shortened_by_the_sharpness_alone():
    """n · a = c: t = 2^(−1/p); with K such planes (1 + K)^(−1/p)."""
    for p in (1.0, 2.0, 6.0, 30.0):
        for K in (1, 3):
            made = walled([(1.0, 0.0)] * K, [0.5] * K, sharpness=p)
            share = made.share(torch.zeros(2, dtype=F64), torch.tensor([0.5, 7.0], dtype=F64))
            assert share.item() == pytest.approx((1 + K) ** (-1 / p), rel=1e-9)


def test_planes_that_are_nearly_met_have_a_slope():
    made, a = walled([(1.0, 0.0)], [0.5], sharpness=6.0), torch.tensor([0.4, 0.0], dtype=F64)
    slope = jacrev(lambda a: made.share(torch.zeros(2, dtype=F64), a))(a)
    assert slope[0].item() == pytest.approx(-(0.8**5) / 0.5 * (1 + 0.8**6) ** (-7 / 6), rel=1e-9)
    assert slope[1] == 0


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.floats(1.0, 30.0), st.floats(0.01, 100.0))
def test_a_share_is_a_share_and_falls_with_the_length_of_the_step(seed, sharpness, factor):
    """0 < t ≤ 1; t(ra) ≥ t(a) / r for r ≥ 1: who pushes harder gets no less far, and no farther than free."""
    made, s, a = model(sharpness=sharpness), 3 * drawn(50, 5, seed=seed), 3 * drawn(50, 2, seed=seed + 1)
    short, long = (made.share(s, b) for b in (a, max(factor, 1 / factor) * a))
    r = max(factor, 1 / factor)
    assert (short > 0).all()
    assert (short <= 1).all()
    assert (long <= short + 1e-12).all()
    assert (r * long >= short - 1e-12).all()


def test_it_is_one_over_a_gauge():
    """(1/t)^p − 1 is homogeneous of degree p in the action, in the directions of a cone."""
    made, s, a = model(sharpness=4.0), drawn(50, 5), 5 * drawn(50, 2, seed=2)
    excess = made.share(s, a) ** -4 - 1
    torch.testing.assert_close(made.share(s, 3 * a) ** -4 - 1, 81 * excess, rtol=1e-6, atol=1e-8)


def test_very_long_steps_end_at_the_plane_in_single_precision():
    """Where (n · a / c)^p is beyond all numbers; values and slopes."""
    made = walled([(1.0, 0.0)], [0.02], sharpness=30.0).float()
    a = torch.tensor([[1.0, 0.0], [1e3, 0.0], [1e6, 0.0]], requires_grad=True)
    share = made.share(torch.zeros(2), a)
    torch.testing.assert_close(share, 0.02 / a[:, 0].detach(), rtol=1e-3, atol=0)
    (slope,) = torch.autograd.grad(share.sum(), a)
    torch.testing.assert_close(slope[:, 0], -0.02 / a[:, 0].detach() ** 2, rtol=1e-2, atol=0)


def test_nothing_moves_by_itself():
    made, s = model(), drawn(9, 5)
    assert torch.equal(made(s, torch.zeros(2, dtype=F64)), s)
    assert torch.equal(made.share(s, torch.zeros(2, dtype=F64)), torch.ones(9, dtype=F64))
    slopes = jacrev(lambda a: made(s[0], a))(torch.zeros(2, dtype=F64))
    assert slopes.isfinite().all()
    assert slopes[:3].abs().min() > 0


def test_m_is_read_row_by_row_and_added_to_b():
    made = walled([(0.0, 0.0)], [5.0], D=3)
    with torch.no_grad():
        made.free.weight.copy_(torch.arange(6.0).view(3, 2))
        made.mlp.linears[-1].bias[3:] = 10 * torch.arange(1.0, 7.0)
    expected = torch.tensor([[10.0, 21.0], [32.0, 43.0], [54.0, 65.0]], dtype=F64)
    torch.testing.assert_close(jacrev(lambda a: made(torch.zeros(3, dtype=F64), a))(drawn(2)), expected)


def test_the_scale_is_a_change_of_units():
    inches, metres = model(scale=0.5), model(scale=5.0)
    s, a = drawn(7, 5), drawn(7, 2, seed=2)
    torch.testing.assert_close(inches(s, a), metres(s, 10 * a))
    torch.testing.assert_close(inches.share(s, a), metres.share(s, 10 * a))


def test_what_is_fixed_passes_through_and_is_read():
    made, s, a = model(), drawn(7, 5), drawn(7, 2, seed=2)
    assert torch.equal(made(s, a)[:, 3:], s[:, 3:])
    other = s.clone()
    other[:, 4] += 1
    assert (made(other, a)[:, :3] != made(s, a)[:, :3]).any()
    jacobian = jacrev(lambda s: made(s, a[0]))(s[0])  # a planner's gradient passes too
    torch.testing.assert_close(jacobian[3:], torch.eye(5, dtype=F64)[3:])


def test_pushed_against_a_wall_for_ever_it_stays_there():
    """What is in the way is a function of the state alone; here it is everywhere, and each step is 0.1 of a wall."""
    made = walled([(1.0, 0.0)], [0.1])
    s = rollout(made, torch.zeros(2, dtype=F64), torch.tensor([[5.0, 1.0]], dtype=F64).expand(10, 2))
    torch.testing.assert_close(s[:, 0], 0.1 * torch.arange(11, dtype=F64), rtol=0.01, atol=0)


@pytest.mark.parametrize("seed", range(3))
def test_learns_a_wall(seed):
    """A dot on a line that stops at 2, from random pushes: it is held there, leaves it, and walks free."""
    g = seeded(seed)
    made = ContactDynamics(1, 1, planes=4, hidden=(64, 64), scale=0.4, generator=g)
    optimizer = torch.optim.Adam(made.parameters(), lr=5e-3)
    for _ in range(600):
        s = 4 * torch.rand(256, 1, generator=g) - 2
        s[:64] = 2.0
        a = 0.8 * torch.rand(256, 1, generator=g) - 0.4
        loss = (made(s, a) - (s + a).clamp(max=2.0)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    into, away, free = (
        made(torch.tensor([place]), torch.tensor([push])).item() - place
        for place, push in ((2.0, 0.4), (2.0, -0.4), (-1.0, 0.4))
    )
    assert 0 <= into < 0.1
    assert (away, free) == (pytest.approx(-0.4, abs=0.05), pytest.approx(0.4, abs=0.05))


def test_planners_take_it():
    """In free space the best plan is known: straight to the goal, at most one unit a step."""
    made, goal = walled([(0.0, 0.0)], [5.0]), torch.tensor([2.0, -1.0], dtype=F64)
    miss = lambda s: (s - goal).square().sum(-1)
    energy = trajectory_energy(made, lambda s, a: 0 * s[..., 0], miss)(torch.zeros(2, dtype=F64))
    start = torch.zeros(4, 2, dtype=F64)
    plan = cem(energy, start, spread=1.0, samples=200, elites=20, iterations=20, bounds=(-1.0, 1.0), generator=seeded())
    assert plan.energy < 1e-2


# --- the contract ----------------------------------------------------------------------------------------------------


def test_gradients_by_finite_differences():
    made = model(activation="tanh")
    s, a = drawn(3, 5).requires_grad_(), drawn(3, 2, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(made, (s, a))
    assert torch.autograd.gradcheck(made.share, (s, a))
    made(s, a).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())


def test_broadcasts_leading_dimensions():
    made, s, a = model(), drawn(6, 5), drawn(4, 1, 2, seed=2)
    together = made(s, a)
    assert together.shape == (4, 6, 5)
    torch.testing.assert_close(together[1, 5], made(s[5], a[1, 0]))
    share = made.share(s, a)
    assert share.shape == (4, 6)
    torch.testing.assert_close(share[1, 5], made.share(s[5], a[1, 0]))
    assert made(s[0], drawn(4, 3, 2)).shape == (4, 3, 5)
    assert made(s, drawn(2)).shape == (6, 5)
    assert made(s[:0], drawn(0, 2)).shape == (0, 5)


def test_does_not_write_into_the_state():
    made, s, a = model(), drawn(6, 5), drawn(6, 2, seed=2)
    before, acted = s.clone(), a.clone()
    made(s, a)
    made.share(s, a)
    assert torch.equal(s, before)
    assert torch.equal(a, acted)


def test_is_a_function_of_its_generator():
    state = torch.get_rng_state()
    weights = [torch.cat([p.flatten() for p in model(generator=seeded(k)).parameters()]) for k in (5, 5, 6)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), state), "the global generator was drawn from"


def test_dtype_and_meta():
    single = ContactDynamics(3, 2, fixed=2, generator=seeded())
    assert single(torch.zeros(4, 5), torch.zeros(4, 2)).dtype == torch.float32
    assert model()(drawn(4, 5), drawn(4, 2)).dtype == F64
    there = single.to("meta")
    for call, shape in ((there, (9, 4, 5)), (there.share, (9, 4))):
        ahead = call(torch.zeros(4, 5, device="meta"), torch.zeros(9, 1, 2, device="meta"))
        assert (ahead.shape, ahead.device.type) == (shape, "meta")


def test_sizes_are_shown():
    assert "planes=4" in repr(model())


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
        (dict(fixed=-1), "fixed must"),
        (dict(planes=0), "planes must"),
        (dict(sharpness=0.0), "sharpness must"),
        (dict(sharpness=math.nan), "sharpness must"),
        (dict(hidden=(8, 0)), r"hidden\[1\] must"),
        (dict(scale=0.0), "scale must"),
        (dict(activation="sine"), "activation must"),
    ],
)
def test_refuses_sizes(change, told):
    with pytest.raises(ValueError, match=told):
        model(**change)


@pytest.mark.parametrize("method", ["forward", "share"])
@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        ([(4, 3), (4, 2)], r"s must be \(..., 5\)"),
        ([(), (4, 2)], r"s must be \(..., 5\)"),
        ([(4, 5), (4, 3)], r"a must be \(..., 2\)"),
        ([(4, 5), ()], r"a must be \(..., 2\)"),
        ([(4, 5), (3, 2)], "broadcast"),
    ],
)
def test_refuses_inputs(method, shapes, told):
    with pytest.raises(ValueError, match=told):
        getattr(model(), method)(*(torch.zeros(shape, dtype=F64) for shape in shapes))
