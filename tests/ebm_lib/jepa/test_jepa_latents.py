"""Latent variables of a predictor: against enumeration, closed forms and the optimality conditions of each search."""

import copy
import functools
import math

import pytest
import torch
from torch import nn

from ebm_lib import free_energy as fe
from ebm_lib.jepa import JEPA, Bounded, Dictionary, Discrete, Latent, Noisy, Predictor, Sparse
from ebm_lib.joint import learn
from ebm_lib.latent.sparse import ista, sparse_codes, sparse_energy
from ebm_lib.nn import MLP

F64 = torch.float64
D, L, N = 5, 3, 7


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


S_X, S_Y = normal(N, D, seed=1), normal(N, D, seed=2)
MAKE = {
    "discrete": lambda: Discrete(L),
    "soft": lambda: Discrete(L, beta=2.0),
    "sparse": lambda: Sparse(L, 0.1),
    "noisy": lambda: Noisy(D, L, beta=3.0, generator=seeded(3)),
    "bounded": lambda: Bounded(D, L, noise=0.5, generator=seeded(3)),
}


def model(latent, *, predictor=None):
    predictor = Predictor(D, latent.L, hidden=(6,), generator=seeded(4)) if predictor is None else predictor
    return JEPA(nn.Identity(), predictor, latent=latent).to(F64)


def gradients(jepa, value):
    return torch.autograd.grad(value, list(jepa.predictor.parameters()))


# --- what all of them keep -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("lead", [(), (N,), (2, N)])
def test_shapes(name, lead):
    """Any leading dimensions; s_x and s_y that broadcast; a price of at least 0, in the energies' shape."""
    jepa = model(MAKE[name]()).eval()
    assert isinstance(jepa.latent, Latent)
    s_x, s_y = normal(*lead, D), normal(*lead, D, seed=5)
    found = jepa.infer(s_x, s_y, seeded())
    assert found.z.shape == (*lead, L)
    assert found.cost.shape == lead
    assert (found.cost >= 0).all()
    assert found.z.dtype == found.cost.dtype == F64
    assert jepa.compare(s_x, s_y, found.z).shape == lead
    assert jepa.train().infer(s_x, s_y, seeded()).z.shape == (*lead, L)  # what is observed takes any shape, too
    drawn = jepa.latent.sample(s_x, 4, seeded())
    assert drawn.shape == (*lead, 4, L)
    assert drawn.dtype == F64
    many = normal(*lead, 6, D, seed=6)
    assert jepa.infer(s_x.unsqueeze(-2), many, seeded()).z.shape == (*lead, 6, L)


@pytest.mark.parametrize("name", MAKE)
def test_generator_decides(name):
    """The same generator, the same draws; another one, others, where there is something to draw."""
    jepa = model(MAKE[name]()).eval()
    one, same, other = (jepa.infer(S_X, S_Y, seeded(s)).z for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert torch.equal(one, other) == (name in ("discrete", "sparse"))
    one, same, other = (jepa.latent.sample(S_X, 9, seeded(s)) for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert torch.equal(one, other) == (name == "sparse")  # nothing seen yet: zeros


@pytest.mark.parametrize("name", MAKE)
def test_trains(name):
    """In a JEPA, by the course's loop; the free energy falls."""
    g = seeded()
    encoder, predictor = MLP((6, 8, D), generator=g), Predictor(D, L, hidden=(16,), generator=g)
    jepa = JEPA(encoder, predictor, target=copy.deepcopy(encoder).requires_grad_(False), latent=MAKE[name]())
    pairs = torch.rand(64, 2, 6, generator=g)
    before = jepa.free_energy(*pairs.unbind(1), seeded()).mean()
    options = {"batch_size": 16, "lr": 1e-2, "generator": g, "progress": False}
    learn(jepa, pairs, lambda batch, g: batch.unbind(1), epochs=30, **options)
    assert jepa.free_energy(*pairs.unbind(1), seeded()).mean() < 0.5 * before


@pytest.mark.parametrize("name", MAKE)
def test_meta(name):
    """Shapes can be worked out without values."""
    jepa = model(MAKE[name]()).to("meta").eval()
    s_x, s_y = S_X.to("meta"), S_Y.to("meta")
    assert jepa.infer(s_x, s_y).z.shape == (N, L)
    assert jepa.latent.sample(s_x, 4).shape == (N, 4, L)


@pytest.mark.parametrize("name", ["discrete", "soft", "sparse"])
def test_energy_must_be_finite(name):
    """Nothing is chosen among values that are no numbers."""
    with pytest.raises(ValueError, match="energy"):
        MAKE[name]().infer(lambda z: z.sum(-1) * math.nan, S_X, S_Y)


@pytest.mark.parametrize("name", ["noisy", "bounded"])
def test_widths_are_checked(name):
    with pytest.raises(ValueError, match="10 dimensions together"):
        MAKE[name]().infer(lambda z: z.sum(-1), S_X.float(), S_Y[:, :-1].float())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Discrete(0), "K"),
        (lambda: Discrete(2, beta=0), "beta"),
        (lambda: Discrete(2, momentum=0), "momentum"),
        (lambda: Discrete(2, momentum=True), "momentum"),
        (lambda: Sparse(0, 1.0), "L"),
        (lambda: Sparse(2, -1.0), "weight"),
        (lambda: Sparse(2, 1.0, steps=0), "steps"),
        (lambda: Sparse(2, 1.0, memory=0), "memory"),
        (lambda: Noisy(3, 0, beta=1.0), "L"),
        (lambda: Noisy(3, 2, beta=-1.0), "beta"),
        (lambda: Bounded(3, 2, noise=0.0), "noise"),
        (lambda: Dictionary(3, 0), "L"),
        (lambda: Dictionary(3, 2)(torch.zeros(4), torch.zeros(2)), "s_x"),
        (lambda: Dictionary(3, 2)(torch.zeros(3), torch.zeros(3)), "z"),
        (lambda: Discrete(2).sample(S_X, 0), "n"),
    ],
)
def test_bad_options(make, said):
    with pytest.raises(ValueError, match=rf"^{said} must"):
        make()


# --- discrete --------------------------------------------------------------------------------------------------------


def test_discrete_is_brute_force():
    """One value after the other, by hand."""
    jepa = model(Discrete(L)).eval()
    found = jepa.infer(S_X, S_Y)
    for x, y, z in zip(S_X, S_Y, found.z, strict=True):
        by_hand = [jepa.compare(x, y, torch.eye(L, dtype=F64)[k]).item() for k in range(L)]
        assert z.tolist() == [float(k == by_hand.index(min(by_hand))) for k in range(L)]
    assert (found.cost == 0).all()
    values = jepa.latent.energies(lambda z: jepa.compare(S_X, S_Y, z), S_X)
    assert torch.equal(jepa.free_energy(S_X, S_Y), fe.free_energy(values))


def test_discrete_envelope():
    """The gradient of the minimum is that of the energy at ž: against differences of the free energy itself."""
    jepa = model(Discrete(L)).eval()
    weight = next(jepa.predictor.parameters())
    slope = gradients(jepa, jepa.free_energy(S_X, S_Y).sum())[0]
    step = 1e-6
    for i, j in ((0, 0), (2, 1), (5, D), (1, D + 2)):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[i, j] += sign * step
                ends.append(jepa.free_energy(S_X, S_Y).sum())
                weight[i, j] -= sign * step
        assert ((ends[0] - ends[1]) / (2 * step)).item() == pytest.approx(slope[i, j].item(), abs=1e-7)


@pytest.mark.parametrize("beta", [0.3, 2.0, 1e4])
def test_soft_discrete_is_the_free_energy(beta):
    """⟨E⟩ + R over the posterior is F_β of the library, and so is the gradient on average over z."""
    jepa = model(Discrete(L, beta=beta)).eval()
    jepa.latent.frequencies.copy_(torch.tensor([0.5, 0.2, 0.3], dtype=F64))
    log_p = jepa.latent.frequencies.log()

    def F():
        values = jepa.latent.energies(lambda z: jepa.compare(S_X, S_Y, z), S_X)
        return values, fe.free_energy(values, beta, log_volume=log_p)

    values, free = F()
    cost = jepa.infer(S_X, S_Y, seeded()).cost
    posterior = fe.posterior(values.detach(), beta, log_volume=log_p)
    torch.testing.assert_close((posterior * values).sum(-1) + cost, free, rtol=1e-9, atol=1e-12)
    ours = gradients(jepa, (posterior * values).sum())
    for a, b in zip(ours, gradients(jepa, F()[1].sum()), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-12)


def test_soft_discrete_draws_from_the_posterior():
    jepa = model(Discrete(L, beta=20.0)).eval()
    x, y = S_X[:1].expand(20_000, -1), S_Y[:1].expand(20_000, -1)
    values = jepa.latent.energies(lambda z: jepa.compare(S_X[:1], S_Y[:1], z), S_X[:1])
    wanted = fe.posterior(values, 20.0)[0]
    drawn = jepa.infer(x, y, seeded()).z.mean(0)
    assert 0.05 < wanted.max() < 0.95  # a test of something
    torch.testing.assert_close(drawn, wanted.detach(), rtol=0, atol=4 * 0.5 / math.sqrt(20_000))


def test_discrete_frequencies():
    """Observed while training and only then; what is sampled has them."""
    latent = Discrete(3, momentum=0.5)
    never = torch.tensor([0.0, 1.0, 2.0], dtype=F64)
    for _ in range(40):
        latent.infer(lambda z: (z @ never - torch.tensor([2.0, 2.0, 0.0, 2.0])).square(), S_X[:4], S_Y[:4])
    torch.testing.assert_close(latent.frequencies, torch.tensor([0.25, 0.0, 0.75]), atol=1e-6, rtol=0)
    kept = latent.frequencies.clone()
    latent.eval().infer(lambda z: z @ never, S_X, S_Y)
    assert torch.equal(latent.frequencies, kept)
    drawn = latent.sample(S_X[:1], 10_000, seeded())
    torch.testing.assert_close(drawn.mean((0, 1)).float(), kept, atol=0.02, rtol=0)
    assert torch.equal(drawn.sum(-1), torch.ones(1, 10_000, dtype=F64))


def test_one_value_says_nothing():
    """K = 1 is a JEPA without latent variable."""
    jepa = model(Discrete(1)).eval()
    one = torch.ones(1, dtype=F64)
    torch.testing.assert_close(jepa.free_energy(S_X, S_Y), jepa.compare(S_X, S_Y, one))
    assert torch.equal(jepa.futures(S_X, 5), jepa.predictor(S_X, one)[:, None].expand(-1, 5, -1))


# --- sparse ----------------------------------------------------------------------------------------------------------


def linear(W):
    """E(z) = ‖y - W z‖² / D, as a JEPA with a linear predictor has it."""
    return lambda z: (z @ W.T - S_Y).square().mean(-1)


@pytest.mark.parametrize("weight", [0.02, 0.1, 0.5])
def test_sparse_is_sparse_coding(weight):
    """With a linear predictor: the codes of ebm_lib.latent.sparse, whose energy is D times ours."""
    W = normal(D, 4, seed=6)
    found = Sparse(4, weight, steps=600).infer(linear(W), S_X, S_Y)
    exact = sparse_codes(S_Y, W, weight * D, tol=1e-12)
    torch.testing.assert_close(found.z, exact, atol=1e-5, rtol=0)
    ours = linear(W)(found.z) + found.cost
    torch.testing.assert_close(ours, sparse_energy(S_Y, exact, W, weight * D) / D, atol=1e-9, rtol=0)
    torch.testing.assert_close(found.z, ista(S_Y, W, weight * D, steps=3000).z, atol=1e-4, rtol=0)


def test_sparse_optimality_beyond_linear():
    """With a perceptron: the slope is -λ sign(z) where z is not 0, and within ±λ where it is."""
    jepa, weight = model(Sparse(L, 0.05, steps=500)).eval(), 0.05
    found = jepa.infer(S_X, S_Y)
    z = found.z.clone().requires_grad_()
    (slope,) = torch.autograd.grad(jepa.compare(S_X, S_Y, z).sum(), z)
    on = found.z != 0
    assert 0.1 < on.double().mean() < 0.9
    torch.testing.assert_close(slope[on], -weight * found.z[on].sign(), atol=1e-5, rtol=0)
    assert (slope[~on].abs() <= weight + 1e-6).all()
    torch.testing.assert_close(found.cost, weight * found.z.abs().sum(-1))


def test_sparse_envelope():
    """The free energy's gradient with respect to the weights, ž searched anew each time."""
    jepa = model(Sparse(L, 0.05, steps=500)).eval()
    weight = next(jepa.predictor.parameters())
    slope = gradients(jepa, jepa.free_energy(S_X, S_Y).sum())[0]
    step = 1e-5
    for i, j in ((2, 1), (1, D + 2)):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[i, j] += sign * step
                ends.append(jepa.free_energy(S_X, S_Y).sum())
                weight[i, j] -= sign * step
        assert ((ends[0] - ends[1]) / (2 * step)).item() == pytest.approx(slope[i, j].item(), abs=1e-5)


@pytest.mark.parametrize("gain", [1e-3, 1.0, 1e3])
def test_sparse_never_rises(gain):
    """Whatever the predictor's scale, step by step, and for each pair by itself."""
    jepa = model(Sparse(L, 0.01)).eval()

    def energy(z):
        return jepa.compare(S_X, S_Y, gain * z)

    before = energy(torch.zeros(N, L, dtype=F64))
    for steps in (1, 2, 5, 20, 60):
        found = Sparse(L, 0.01, steps=steps).infer(energy, S_X, S_Y)
        now = energy(found.z) + found.cost
        assert (now <= before + 1e-12).all()
        before = now
    alone = Sparse(L, 0.01, steps=60).infer(lambda z: jepa.compare(S_X[:1], S_Y[:1], gain * z), S_X[:1], S_Y[:1])
    torch.testing.assert_close(alone.z, found.z[:1])


def test_price_too_high():
    """Above the steepest slope at z = 0 the code is 0, and the JEPA one without latent variable."""
    jepa = model(Sparse(L, 100.0)).eval()
    found = jepa.infer(S_X, S_Y)
    assert (found.z == 0).all()
    assert (found.cost == 0).all()
    torch.testing.assert_close(jepa.free_energy(S_X, S_Y), jepa.compare(S_X, S_Y, torch.zeros(L, dtype=F64)))


def test_a_predictor_can_cheat_a_price():
    """A gain on z divides the price by it; a Dictionary has no gain to turn up."""
    W = normal(D, 4, seed=6)
    dear, cheap = (Sparse(4, 0.2, steps=600).infer(linear(g * W), S_X, S_Y) for g in (1.0, 1e3))
    assert cheap.cost.mean() < 0.01 * dear.cost.mean()
    predictor = Dictionary(D, L, generator=seeded()).to(F64)
    before = predictor.columns(S_X)
    assert torch.allclose(before.square().mean(-2), torch.ones(N, L, dtype=F64))
    with torch.no_grad():
        for p in predictor.directions.linears[-1].parameters():
            p.mul_(1e3)
    torch.testing.assert_close(predictor.columns(S_X), before)


def test_dictionary_is_linear_in_z():
    predictor, z = Dictionary(D, L, out=4, generator=seeded()).to(F64), normal(N, L)
    by_hand = predictor.guess(S_X) + torch.einsum("nol,nl->no", predictor.columns(S_X), z)
    torch.testing.assert_close(predictor(S_X, z), by_hand)
    assert predictor(S_X[:, None], z[:3]).shape == (N, 3, 4)


def test_sparse_remembers():
    """Codes seen in training are drawn, the latest ones, and no others."""
    latent = Sparse(1, 0.0, memory=4)
    for value in range(1, 7):
        latent.infer(lambda z, value=value: (z[..., 0] - value).square(), S_X[:1], S_Y[:1])
    drawn = latent.eval().sample(S_X, 200, seeded())
    assert sorted({round(v, 3) for v in drawn.flatten().tolist()}) == [3.0, 4.0, 5.0, 6.0]
    latent.infer(lambda z: (z[..., 0] - 9).square(), S_X[:1], S_Y[:1])
    assert latent.codes.max() < 7
    few = Sparse(1, 0.0, memory=4)
    few.infer(lambda z: (z[..., 0] - 2).square(), S_X[:1], S_Y[:1])
    torch.testing.assert_close(few.sample(S_X, 50, seeded()), torch.full((N, 50, 1), 2.0, dtype=F64))
    many = Sparse(1, 0.0, memory=4)
    aims = torch.arange(6.0, dtype=F64)
    many.infer(lambda z: (z[..., 0] - aims).square(), S_X[:6], S_Y[:6])
    assert sorted(round(v) for v in many.codes.flatten().tolist()) == [2, 3, 4, 5]


# --- noisy, bounded --------------------------------------------------------------------------------------------------


def test_noisy_price():
    """KL/β in closed form, written out here; 0 where q is the prior."""
    jepa = model(Noisy(D, L, beta=3.0, generator=seeded(3)))
    m, log_var = jepa.latent.encoder(torch.cat([S_X, S_Y], -1)).chunk(2, -1)
    by_hand = 0.5 * (m.square() + log_var.exp() - log_var - 1).sum(-1) / 3.0
    torch.testing.assert_close(jepa.infer(S_X, S_Y, seeded()).cost, by_hand)
    with torch.no_grad():
        for p in jepa.latent.encoder.parameters():
            p.zero_()
    assert (jepa.infer(S_X, S_Y, seeded()).cost == 0).all()


def test_noisy_gradient():
    """Of ⟨E⟩ + R for an energy quadratic in z, whose mean is known: reparameterised draws have it."""
    latent = Noisy(D, L, beta=2.0, generator=seeded(3)).to(F64)
    a = normal(L, seed=8)
    parameters = list(latent.parameters())
    many = 40_000
    x, y = S_X[:1].expand(many, -1), S_Y[:1].expand(many, -1)
    found = latent.infer(lambda z: z.sum(-1), x, y, seeded())
    drawn = torch.autograd.grad(((found.z - a).square().sum(-1) + found.cost).mean(), parameters)
    q = latent.encode(S_X[:1], S_Y[:1])
    mean = ((q.mean - a).square() + q.std.square()).sum()
    price = 0.5 * (q.mean.square() + q.std.square() - 2 * q.std.log() - 1).sum() / 2.0
    exact = torch.autograd.grad(mean + price, parameters)
    for one, other in zip(drawn, exact, strict=True):
        torch.testing.assert_close(one, other, atol=0.03, rtol=0.03)


def test_noisy_at_a_high_price_says_nothing():
    """Trained where a nat costs far more than it earns, q is the prior."""
    g = seeded()
    latent = Noisy(D, L, beta=1e-3, generator=g)
    jepa = JEPA(nn.Identity(), Predictor(D, L, hidden=(8,), generator=g), latent=latent)
    pairs = torch.stack([S_X, S_Y], 1).float()
    options = {"batch_size": N, "lr": 2e-2, "generator": g, "progress": False}
    learn(jepa, pairs, lambda batch, g: batch.unbind(1), epochs=300, **options)
    q = latent.encode(*pairs.unbind(1))
    assert latent.infer(lambda z: z.sum(-1), *pairs.unbind(1), seeded()).cost.mean() * latent.beta < 0.01
    torch.testing.assert_close(q.mean, torch.zeros(N, L), atol=0.1, rtol=0)
    torch.testing.assert_close(q.std, torch.ones(N, L), atol=0.1, rtol=0)


def test_noisy_samples_the_prior():
    drawn = MAKE["noisy"]().sample(S_X[:1], 40_000, seeded())[0]
    torch.testing.assert_close(drawn.mean(0), torch.zeros(L, dtype=F64), atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), torch.eye(L, dtype=F64), atol=0.03, rtol=0)


def test_bounded():
    """Codes in the ball of radius √L, noise of the stated size, a price of 0, the channel's bound."""
    latent = MAKE["bounded"]().to(F64)
    with torch.no_grad():
        latent.encoder.linears[-1].weight.mul_(100)
    q = latent.encode(S_X, S_Y)
    torch.testing.assert_close(q.mean.norm(dim=-1), torch.full((N,), math.sqrt(L), dtype=F64))
    many = latent.infer(lambda z: z.sum(-1), S_X[:1].expand(40_000, -1), S_Y[:1].expand(40_000, -1), seeded())
    assert (many.cost == 0).all()
    torch.testing.assert_close(many.z.mean(0), q.mean[0], atol=0.02, rtol=0)
    torch.testing.assert_close(many.z.std(0), torch.full((L,), 0.5, dtype=F64), atol=0.02, rtol=0)
    assert latent.capacity == pytest.approx(1.5 * math.log(5))
    (slope,) = torch.autograd.grad(latent.infer(None, S_X, S_Y, seeded()).z.sum(), latent.encoder.linears[0].weight)
    assert slope.abs().max() > 0


def test_bounded_samples_the_ball():
    """Evenly: the share within a radius r of the ball's is its r to the power L."""
    latent = Bounded(D, L, noise=1e-9)
    r = latent.sample(S_X[:1], 40_000, seeded())[0].norm(dim=-1) / math.sqrt(L)
    assert r.max() <= 1 + 1e-6
    for inner in (0.3, 0.6, 0.9):
        assert (r < inner).double().mean().item() == pytest.approx(inner**L, abs=0.01)


# --- what they are for -----------------------------------------------------------------------------------------------


@functools.cache
def forked():
    """Pairs whose y is x plus one of two steps, at random."""
    g = seeded(9)
    x, way = torch.randn(256, 2, generator=g), torch.randint(2, (256, 1), generator=g)
    step = torch.tensor([1.0, -1.0])
    return torch.stack([x, x + (2.0 * way - 1) * step], 1), torch.stack([x - step, x + step], 1)


@pytest.mark.parametrize("K", [1, 2])
def test_two_futures_need_two_values(K):
    """K = 1 predicts the mean, at the exact floor of 1; K = 2 both."""
    pairs, futures = forked()
    g = seeded(K)
    jepa = JEPA(nn.Identity(), Predictor(2, K, hidden=(16,), generator=g), latent=Discrete(K))
    options = {"batch_size": 64, "lr": 1e-2, "generator": g, "progress": False}
    learn(jepa, pairs, lambda batch, g: batch.unbind(1), epochs=60, **options)
    jepa.eval()
    drawn = jepa.futures(pairs[:, 0], 12, seeded())
    best = (drawn[:, :, None] - futures[:, None]).square().mean(-1).amin(1).mean().item()
    assert best == pytest.approx({1: 1.0, 2: 0.0}[K], abs=0.05)
