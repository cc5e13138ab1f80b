"""One class, one energy, four terms: each against its formula, its gradient, and what theory says of collapse."""

import copy
import functools
import math

import pytest
import torch
from torch import nn

from ebm_lib import joint
from ebm_lib.jepa import JEPA, Inferred, Predictor, gaussianity, generative, variance_covariance
from ebm_lib.nn import ACTIVATIONS, MLP

F64 = torch.float64
FEW = functools.partial(gaussianity, slices=8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def linear(weight, bias=None):
    """A linear layer with the weights given, out of which everything can be computed by hand."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=F64)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer


def exactly(found, expected, tolerance=1e-12):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), rtol=tolerance, atol=tolerance)


class Finite(nn.Module):
    """A latent variable with a handful of values, each with its price: the best one is found by looking at all."""

    def __init__(self, values, costs):
        super().__init__()
        self.register_buffer("values", values)
        self.register_buffer("costs", costs)
        self.L = values.shape[1]
        self.calls = []

    def infer(self, energy, s_x, s_y, generator=None):
        lead = torch.broadcast_shapes(s_x.shape[:-1], s_y.shape[:-1])
        every = self.values.view(-1, *(1 for _ in lead), self.L).expand(-1, *lead, -1)
        total = energy(every) + self.costs.view(-1, *(1 for _ in lead))
        self.calls.append((total.detach(), s_x, s_y, generator))
        best = total.argmin(0)
        return Inferred(self.values[best], self.costs[best])

    def sample(self, s_x, n, generator=None):
        self.calls.append(generator)
        if s_x.device.type == "meta":
            return self.values[torch.zeros(*s_x.shape[:-1], n, dtype=torch.long, device="meta")]
        return self.values[torch.randint(len(self.values), (*s_x.shape[:-1], n), generator=generator)]


A, B = draw(3, 5, seed=1), draw(3, 4, seed=2)  # Enc_x: 5 to 3 dimensions; Enc_y: 4 to 3
P, C, SHIFT = draw(3, 3, seed=3), draw(3, 2, seed=4), draw(3, seed=5)  # Pred: s_x, z, and a constant
VALUES, COSTS = draw(6, 2, seed=6), torch.tensor([0.0, 0.2, 0.1, 0.5, 0.3, 0.05], dtype=F64)
X, Y = draw(8, 5, seed=7), draw(8, 4, seed=8)


class Affine(nn.Module):
    """P s_x + C z + b."""

    def __init__(self, L):
        super().__init__()
        self.by_s, self.by_z = linear(P, SHIFT), linear(C) if L else None

    def forward(self, s_x, *z):
        return self.by_s(s_x) + (self.by_z(*z) if self.by_z is not None else 0)


def model(L=0, **options):
    options = {"target": linear(B)} | options
    return JEPA(linear(A), Affine(L), latent=Finite(VALUES, COSTS) if L else None, **options)


def by_hand(x, y, z=None):
    predicted = x @ A.T @ P.T + SHIFT + (0 if z is None else z @ C.T)
    return ((predicted - y @ B.T) ** 2).sum(-1) / 3


def slopes(loss, module):
    """The gradient of each of a module's parameters; None where none arrives."""
    found = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True, retain_graph=True)
    return [None if slope is None or not slope.any() else slope for slope in found]


# ---- the energy


def test_the_energy_is_its_formula():
    exactly(model().energy(X, Y), by_hand(X, Y))
    exactly(model(2).energy(X, Y, VALUES[0]), by_hand(X, Y, VALUES[0]))


def test_its_three_parts_are_the_networks():
    jepa = model()
    exactly(jepa.represent(X), X @ A.T)
    exactly(jepa.represent_target(Y), Y @ B.T)
    exactly(jepa.compare(X @ A.T, Y @ B.T), by_hand(X, Y))
    exactly(model(2).compare(X @ A.T, Y @ B.T, VALUES[3]), by_hand(X, Y, VALUES[3]))


def test_without_a_target_network_both_sides_are_encoded_alike():
    for target in (None, "the same"):
        encoder = linear(A)
        jepa = JEPA(encoder, nn.Identity(), target=target and encoder)
        other = draw(8, 5, seed=9)
        exactly(jepa.represent_target(other), other @ A.T)
        exactly(jepa.energy(X, other), ((X - other) @ A.T).square().mean(-1))
        assert len(list(jepa.parameters())) == 1


@pytest.mark.parametrize(("lead_x", "lead_y", "lead_z"), [
    ((8,), (8,), (6, 1)), ((8,), (8,), (6, 8)), ((8,), (8,), ()), ((8, 1), (8, 1), (6,)), ((8, 1), (1, 8), (6, 1, 1)),
    ((), (), (6,)), ((2, 4), (2, 4), (6, 2, 4)), ((8, 1), (7,), ()),
])  # fmt: skip
def test_leading_dimensions_broadcast(lead_x, lead_y, lead_z):
    x, y, z = draw(*lead_x, 5, seed=1), draw(*lead_y, 4, seed=2), draw(*lead_z, 2, seed=3)
    found = model(2).energy(x, y, z)
    assert found.shape == torch.broadcast_shapes(lead_x, lead_y, lead_z)
    exactly(found, by_hand(x, y, z))


def test_a_perfect_prediction_has_energy_0_and_every_other_more():
    perfect = JEPA(nn.Identity(), linear(C.T), target=linear(torch.eye(2, dtype=F64)))
    x, y = draw(8, 3), draw(8, 3) @ C
    exactly(perfect.energy(x, y), torch.zeros(8))
    assert (perfect.energy(x, y + 0.1) > 0).all()
    assert (perfect.energy(x, y - 0.1) > 0).all()


@pytest.mark.parametrize("D", [1, 3, 10])
def test_predicting_the_mean_of_whitened_representations_scores_1(D):
    q = torch.linalg.qr(torch.cat([torch.ones(40, 1, dtype=F64), draw(40, D)], 1)).Q[:, 1:]
    y = q * 40**0.5 + 2.0  # mean 2, variance 1, uncorrelated
    mean = JEPA(nn.Identity(), linear(torch.zeros(D, D), 2 * torch.ones(D)), target=nn.Identity())
    exactly(mean.energy(draw(40, D, seed=1), y).mean(), 1.0)
    nothing = JEPA(nn.Identity(), linear(torch.zeros(D, D)), target=nn.Identity())
    exactly(nothing.energy(draw(40, D, seed=1), y - 2).mean(), 1.0)


def test_the_energy_by_finite_differences():
    networks = MLP((5, 4, 3), generator=seeded()), Predictor(3, 2, hidden=(4,), generator=seeded(1))
    jepa = JEPA(*networks, target=MLP((4, 4, 3), generator=seeded(2)), latent=Finite(VALUES, COSTS)).double()
    x, y, z = (v[:3].clone().requires_grad_() for v in (X, Y, VALUES))
    assert torch.autograd.gradcheck(jepa.energy, (x, y, z))
    names, weights = zip(*jepa.named_parameters(), strict=True)

    class Energy(nn.Module):
        def __init__(self):
            super().__init__()
            self.jepa = jepa

        def forward(self, *inputs):
            return jepa.energy(*inputs)

    def energy(*moved):
        given = {f"jepa.{name}": weight for name, weight in zip(names, moved, strict=True)}
        return torch.func.functional_call(Energy(), given, (X[:3], Y[:3], VALUES[:3]))

    assert torch.autograd.gradcheck(energy, weights)


def test_the_energy_can_be_followed_to_y_where_the_prediction_term_is_stopped():
    y = Y.clone().requires_grad_()
    slope = torch.autograd.grad(model(stop_gradient=True).energy(X, y).sum(), y)[0]
    exactly(slope, -2 / 3 * (X @ A.T @ P.T + SHIFT - Y @ B.T) @ B)


def test_many_energies_at_once_under_vmap():
    jepa = model(2)
    found = torch.func.vmap(lambda z: jepa.energy(X, Y, z))(VALUES)
    exactly(found, by_hand(X, Y, VALUES[:, None]))


# ---- the four terms

INFORMATION = {"information_x": functools.partial(variance_covariance, gamma=3.0),
               "information_y": functools.partial(variance_covariance, variance=4.0, covariance=0.3)}  # fmt: skip


@pytest.mark.parametrize("L", [0, 2])
@pytest.mark.parametrize("prediction", [1.0, 0.3, 0.0])
@pytest.mark.parametrize("stop_gradient", [False, True])
def test_each_term_is_its_formula_and_the_loss_their_sum(L, prediction, stop_gradient):
    terms = model(L, prediction=prediction, stop_gradient=stop_gradient, **INFORMATION).criterion(X, Y, seeded())
    if L:
        energies = by_hand(X, Y, VALUES[:, None])
        best = (energies + COSTS[:, None]).argmin(0)
        assert len(set(best.tolist())) > 2
        energy, cost = energies[best, torch.arange(8)].mean(), COSTS[best].mean()
    else:
        energy, cost = by_hand(X, Y).mean(), 0.0
    exactly(terms.prediction, prediction * energy)
    exactly(terms.information_x, variance_covariance(X @ A.T, gamma=3.0))
    exactly(terms.information_y, variance_covariance(Y @ B.T, variance=4.0, covariance=0.3))
    exactly(terms.latent, cost)
    exactly(terms.loss, sum(terms[1:]))
    assert {(term.shape, term.dtype) for term in terms} == {((), F64)}
    assert terms.information_x > 0.01
    assert terms.information_y > 0.01


def test_with_identity_predictor_and_both_information_terms_it_is_vicreg():
    encoder = MLP((5, 6, 4), generator=seeded(), dtype=F64)
    jepa = JEPA(encoder, nn.Identity(), information_x=variance_covariance, information_y=variance_covariance)
    first, second = X + 0.2 * draw(8, 5, seed=1), X + 0.2 * draw(8, 5, seed=2)
    mine = 25 * jepa.criterion(first, second).loss
    theirs = joint.vicreg(encoder(first), encoder(second)).loss
    exactly(mine, theirs, 1e-10)
    for a, b in zip(slopes(mine, encoder), slopes(theirs, encoder), strict=True):
        exactly(a, b, 1e-10)


@pytest.mark.parametrize("side", ["x", "y"])
def test_gaussianity_as_information_is_weighted_sigreg_of_that_side_alone(side):
    term = functools.partial(gaussianity, weight=0.3, slices=20)
    terms = model(**{f"information_{side}": term}).criterion(X, Y, seeded(4))
    s = X @ A.T if side == "x" else Y @ B.T
    exactly(getattr(terms, f"information_{side}"), 0.3 * joint.sigreg(s, slices=20, generator=seeded(4)))
    assert getattr(terms, "information_y" if side == "x" else "information_x") == 0


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_term_that_is_not_asked_for_is_exactly_0_and_pulls_at_nothing(dtype):
    jepa = model().to(dtype)
    terms = jepa.criterion(X.to(dtype), Y.to(dtype))
    for name in ("information_x", "information_y", "latent"):
        term = getattr(terms, name)
        assert torch.equal(term, torch.zeros((), dtype=dtype))
        assert not term.requires_grad
    assert terms.loss == terms.prediction


def test_the_four_terms_shape_what_they_are_for():
    jepa = model(2, **INFORMATION)
    terms = jepa.criterion(X, Y)
    reached = {
        name: {part for part in ("encoder", "predictor", "target")
               if term.requires_grad and any(g is not None for g in slopes(term, getattr(jepa, part)))}
        for name, term in terms._asdict().items()
    }  # fmt: skip
    assert reached == {
        "loss": {"encoder", "predictor", "target"},
        "prediction": {"encoder", "predictor", "target"},
        "information_x": {"encoder"},
        "information_y": {"target"},
        "latent": set(),  # these prices are constants
    }


def test_a_prediction_weight_of_0_leaves_the_predictor_untrained():
    jepa = model(prediction=0.0, **INFORMATION)
    terms = jepa.criterion(X, Y)
    assert terms.prediction == 0
    assert slopes(terms.loss, jepa.predictor) == [None, None]
    assert slopes(terms.loss, jepa.encoder)[0] is not None


def test_an_information_term_is_called_once_with_its_representations_and_the_generator():
    calls = []

    def recording(s, *, generator=None):
        calls.append((s.detach(), generator))
        return s.square().mean()

    g = seeded()
    terms = model(information_x=recording, information_y=recording).criterion(X, Y, g)
    assert [generator is g for _, generator in calls] == [True, True]
    exactly(calls[0][0], X @ A.T)
    exactly(calls[1][0], Y @ B.T)
    exactly(terms.information_y, (Y @ B.T).square().mean())


def test_all_chance_is_the_generators():
    jepa = model(2, information_x=FEW, information_y=FEW)
    before = torch.get_rng_state()
    first, second, other = (jepa.criterion(X, Y, seeded(s)) for s in (1, 1, 2))
    futures = [jepa.futures(X, 4, seeded(s)) for s in (1, 1, 2)]
    assert first == second
    assert first.information_x != other.information_x
    assert torch.equal(futures[0], futures[1])
    assert not torch.equal(futures[0], futures[2])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("L", [0, 2])
def test_the_order_of_pairs_does_not_matter_but_who_is_paired_does(L):
    jepa, order = model(L, **INFORMATION), torch.randperm(8, generator=seeded(1))
    for found, expected in zip(jepa.criterion(X[order], Y[order]), jepa.criterion(X, Y), strict=True):
        exactly(found, expected)
    z = VALUES[:1] if L else None
    exactly(jepa.energy(X[order], Y[order], z), jepa.energy(X, Y, z)[order])
    assert (jepa.criterion(X[order], Y).prediction - jepa.criterion(X, Y).prediction).abs() > 1e-3


def test_called_with_views_it_is_the_criterion():
    jepa = model(2, information_x=FEW, information_y=FEW)
    assert jepa([X, Y], torch.arange(8), seeded(3)) == jepa.criterion(X, Y, seeded(3))
    assert jepa((X, Y), torch.arange(8, 16), seeded(3)) == jepa.criterion(X, Y, seeded(3))


@pytest.mark.parametrize("L", [0, 2])
def test_sequences_of_pairs_have_the_terms_of_all_their_pairs(L):
    """The information is that of all representations together, wherever in a sequence they stand."""
    found = model(L, **INFORMATION).criterion(X.view(2, 4, 5), Y.view(2, 4, 4))
    for a, b in zip(found, model(L, **INFORMATION).criterion(X, Y), strict=True):
        exactly(a, b)


def test_the_terms_of_representations_and_of_latents_found_before():
    jepa = model(2, prediction=0.7, **INFORMATION)
    s_x, s_y = jepa.represent(X), jepa.represent_target(Y)
    for found, expected in zip(jepa.terms(s_x, s_y), jepa.criterion(X, Y), strict=True):
        exactly(found, expected)
    asked = len(jepa.latent.calls)
    z, cost = VALUES[torch.arange(8) % 6], draw(8, seed=3).square()
    terms = jepa.terms(s_x, s_y, found=Inferred(z, cost))
    assert len(jepa.latent.calls) == asked
    exactly(terms.prediction, 0.7 * by_hand(X, Y, z).mean())
    exactly(terms.latent, cost.mean())


# ---- the target


def test_a_second_network_is_trained_beside_the_first():
    jepa = model()
    terms = jepa.criterion(X, Y)
    error = X @ A.T @ P.T + SHIFT - Y @ B.T  # L = ⟨‖P A x + b − B y‖²⟩ / 3
    exactly(slopes(terms.loss, jepa.encoder)[0], 2 / 24 * P.T @ error.T @ X)
    exactly(slopes(terms.loss, jepa.target)[0], -2 / 24 * error.T @ Y)
    exactly(slopes(terms.loss, jepa.predictor)[0], 2 / 24 * error.T @ (X @ A.T))


def test_a_stopped_target_feels_its_information_term_only():
    jepa = model(stop_gradient=True, **INFORMATION)
    terms, free = jepa.criterion(X, Y), model(**INFORMATION).criterion(X, Y)
    for found, expected in zip(terms, free, strict=True):
        exactly(found, expected)
    assert slopes(terms.prediction, jepa.target) == [None]
    exactly(slopes(terms.loss, jepa.target)[0], slopes(terms.information_y, jepa.target)[0])
    error = X @ A.T @ P.T + SHIFT - Y @ B.T
    exactly(slopes(terms.prediction, jepa.encoder)[0], 2 / 24 * P.T @ error.T @ X)


def test_a_shared_encoder_that_is_stopped_is_moved_from_the_side_of_x_only():
    other = draw(8, 5, seed=9)
    for stop in (False, True):
        encoder = linear(A)
        jepa = JEPA(encoder, linear(P), stop_gradient=stop)
        error = X @ A.T @ P.T - other @ A.T
        expected = 2 / 24 * (P.T @ error.T @ X - (0 if stop else error.T @ other))
        exactly(slopes(jepa.criterion(X, other).loss, encoder)[0], expected)


def test_a_slow_target_gets_no_gradient_from_either_term():
    encoder = MLP((5, 6, 3), generator=seeded(), dtype=F64)
    jepa = JEPA(encoder, linear(P), target=joint.Momentum(encoder, momentum=0.9), **INFORMATION)
    terms = jepa.criterion(X, X + 0.1)
    terms.loss.backward()
    assert all(p.grad is None for p in jepa.target.parameters())
    assert all(p.grad is not None for p in encoder.parameters())
    assert not terms.information_y.requires_grad
    assert {id(p) for p in jepa.parameters() if p.requires_grad}.isdisjoint(map(id, jepa.target.parameters()))


@pytest.mark.parametrize("momentum", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_the_slow_target_follows_by_the_schedule(momentum, progress):
    encoder = linear(A, draw(3))
    jepa = JEPA(encoder, linear(P), target=joint.Momentum(encoder, momentum=momentum))
    old = [p.clone() for p in jepa.target.parameters()]
    with torch.no_grad():
        for p in encoder.parameters():
            p.add_(1.0)
    new = [p.clone() for p in encoder.parameters()]
    jepa.finish_step(progress)
    m = 1 - (1 - momentum) * (1 + math.cos(math.pi * progress)) / 2
    for slow, before, online, unmoved in zip(jepa.target.parameters(), old, encoder.parameters(), new, strict=True):
        exactly(slow, m * before + (1 - m) * online)
        assert torch.equal(online, unmoved)


def test_three_steps_of_training_move_the_slow_target_as_by_hand():
    encoder = linear(A, draw(3))
    jepa = JEPA(encoder, linear(P), target=joint.Momentum(encoder, momentum=0.5), information_x=variance_covariance)
    online, x = [], draw(12, 5, seed=1)
    start = encoder.weight.detach().clone()

    def views(batch, g):
        online.append(encoder.weight.detach().clone())  # as the step before has left it
        return batch, batch + 0.1 * torch.randn(batch.shape, generator=g, dtype=F64)

    joint.learn(jepa, x, views, epochs=1, batch_size=4, lr=0.05, generator=seeded(), progress=False)
    online = [*online[1:], encoder.weight.detach()]
    expected = start
    for step, theta in enumerate(online, start=1):
        m = joint.momentum_schedule(step / 3, 0.5)
        expected = m * expected + (1 - m) * theta
    assert len({w.sum().item() for w in online}) == 3
    exactly(jepa.target.copy.weight, expected)
    assert (expected - start).abs().max() > 1e-3


@pytest.mark.parametrize("target", [None, "second"])
def test_no_other_target_moves_after_a_step(target):
    jepa = JEPA(linear(A), linear(P), target=target and linear(draw(3, 5, seed=2)))
    before = copy.deepcopy(jepa.state_dict())
    jepa.finish_step(0.5)
    assert all(torch.equal(before[name], now) for name, now in jepa.state_dict().items())


# ---- collapse, by theory


def constant(D=3):
    """An encoder that tells its input nothing."""
    return linear(torch.zeros(D, 5), torch.ones(D))


def test_without_information_a_collapsed_encoder_is_perfect():
    jepa = JEPA(constant(), nn.Identity())
    terms = jepa.criterion(X, draw(8, 5, seed=9))
    assert terms.loss == 0
    assert all(slope is None for slope in slopes(terms.loss, jepa))  # and nothing ever pulls it out


def test_what_a_collapsed_encoder_pays_where_information_is_asked_for():
    """Each branch μ/2 (γ − √ε); by SIGReg λN ∫ (1 − e^{−t²/2})² e^{−t²/2}, less the direction's share of the mean."""
    v = functools.partial(variance_covariance, variance=2.0, gamma=1.5)
    other = draw(8, 5, seed=9)
    for sides in ({"information_x": v}, {"information_y": v}, {"information_x": v, "information_y": v}):
        exactly(JEPA(constant(), nn.Identity(), **sides).criterion(X, other).loss, len(sides) * (1.5 - 0.01), 1e-9)
    zero = linear(torch.zeros(3, 5))
    t = torch.linspace(0, 3, 17, dtype=F64)
    price = 8 * 2 * torch.trapezoid((1 - (-t * t / 2).exp()) ** 2 * (-t * t / 2).exp(), t)
    exactly(JEPA(zero, nn.Identity(), information_x=gaussianity).criterion(X, other).loss, 0.05 * price, 1e-9)


def test_information_of_one_side_only_lets_a_second_network_collapse():
    """I_x does not see s_y: with the target constant and the predictor ignoring s_x, the loss is I_x alone."""
    jepa = JEPA(linear(3 * A), linear(torch.zeros(3, 3), torch.ones(3)), target=constant(),
                information_x=functools.partial(variance_covariance, covariance=0.0))  # fmt: skip
    terms = jepa.criterion(X, draw(8, 5, seed=9))
    assert terms.prediction == 0
    assert terms.loss == terms.information_x


# ---- the generative counterpart


def test_the_generative_counterpart_predicts_the_pixels():
    encoder, decoder = linear(A), linear(draw(12, 3, seed=2), draw(12, seed=3))
    y = draw(8, 3, 2, 2, seed=4)
    jepa = generative(encoder, decoder)
    pictures = decoder(encoder(X)).view(8, 3, 2, 2)
    exactly(jepa.energy(X, y), (pictures - y).square().mean((1, 2, 3)))
    terms = jepa.criterion(X, y)
    exactly(terms.loss, (pictures - y).square().mean())
    assert terms.information_x == terms.information_y == terms.latent == 0
    exactly(jepa.represent_target(y), y.flatten(1))
    assert len(list(jepa.parameters())) == 3
    y.requires_grad_()
    exactly(torch.autograd.grad(jepa.criterion(X, y).loss, y)[0], 2 / 96 * (y - pictures))


def test_the_generative_counterpart_hands_z_to_its_decoder():
    decoder = Predictor(3, 2, out=12, hidden=(), generator=seeded()).double()
    jepa, y = generative(linear(A), decoder, latent=Finite(VALUES, COSTS)), draw(8, 12, seed=4)
    pictures = decoder(X @ A.T, VALUES[:, None])
    energies = (pictures - y).square().mean(-1)
    exactly(jepa.energy(X, y.view(8, 3, 2, 2), VALUES[:, None]), energies)
    exactly(jepa.free_energy(X, y), (energies + COSTS[:, None]).min(0).values)
    assert jepa.futures(X, 5, seeded()).shape == (8, 5, 12)


# ---- a latent variable


def test_inference_looks_at_these_pairs_own_energies():
    jepa = model(2)
    g, s_x, s_y = seeded(), X @ A.T, Y @ B.T
    found = jepa.infer(s_x, s_y, g)
    total, seen_x, seen_y, generator = jepa.latent.calls[-1]
    expected = by_hand(X, Y, VALUES[:, None]) + COSTS[:, None]
    exactly(total, expected)
    exactly(seen_x, s_x)
    exactly(seen_y, s_y)
    assert generator is g
    exactly(found.z, VALUES[expected.argmin(0)])
    exactly(found.cost, COSTS[expected.argmin(0)])


def test_the_free_energy_is_the_least_of_energy_and_price():
    jepa = model(2)
    every = torch.stack([by_hand(X, Y, value) + cost for value, cost in zip(VALUES, COSTS, strict=True)])
    exactly(jepa.free_energy(X, Y), every.min(0).values)
    for value, cost in zip(VALUES, COSTS, strict=True):
        assert (jepa.free_energy(X, Y) <= jepa.energy(X, Y, value) + cost + 1e-12).all()
    g = seeded()
    jepa.free_energy(X, Y, g)
    assert jepa.latent.calls[-1][-1] is g


def test_a_price_can_change_which_value_is_best():
    jepa, free = model(2), by_hand(X, Y, VALUES[:, None])
    assert not torch.equal(free.argmin(0), (free + COSTS[:, None]).argmin(0))
    jepa.latent.costs.zero_()
    exactly(jepa.free_energy(X, Y), free.min(0).values)


def test_the_free_energy_of_sequences_of_pairs():
    x, y = X.view(2, 4, 5), Y.view(2, 4, 4)
    exactly(model(2).free_energy(x, y), model(2).free_energy(X, Y).view(2, 4))


def test_the_criterion_has_the_gradient_of_the_free_energy():
    """The envelope theorem: at the minimum, z may be held fixed."""
    jepa, again = model(2), model(2)
    every = (again.compare(again.encoder(X), again.target(Y), VALUES[:, None]) + COSTS[:, None]).min(0).values.mean()
    loss = jepa.criterion(X, Y, seeded()).loss
    for part in ("encoder", "target", "predictor"):
        for a, b in zip(slopes(loss, getattr(jepa, part)), slopes(every, getattr(again, part)), strict=True):
            exactly(a, b)


def test_the_criterion_hands_its_generator_to_inference():
    jepa, g = model(2), seeded()
    jepa.criterion(X, Y, g)
    assert [call[-1] is g for call in jepa.latent.calls] == [True]


def test_futures_are_the_predictions_of_what_the_latent_draws():
    jepa = model(2)
    for x in (X, X[0], X.view(2, 4, 5)):
        found = jepa.futures(x, 4, seeded(3))
        index = torch.randint(6, (*x.shape[:-1], 4), generator=seeded(3))
        exactly(found, (x @ A.T @ P.T + SHIFT)[..., None, :] + VALUES[index] @ C.T)
    assert jepa.futures(X, 1).shape == (8, 1, 3)


def test_the_best_of_many_futures_is_a_possible_free_energy():
    """Among as many draws as it takes to see all values, the nearest to s_y has the least energy over z."""
    jepa = model(2)
    futures = jepa.futures(X, 200, seeded())
    nearest = (futures - (Y @ B.T)[:, None]).square().mean(-1).min(1).values
    exactly(nearest, by_hand(X, Y, VALUES[:, None]).min(0).values)


def test_without_a_latent_there_is_nothing_to_infer_or_to_draw():
    jepa = model()
    with pytest.raises(ValueError, match="latent"):
        jepa.infer(X @ A.T, Y @ B.T)
    with pytest.raises(ValueError, match="latent"):
        jepa.futures(X, 3)


def test_without_a_latent_the_free_energy_is_the_energy():
    exactly(model().free_energy(X, Y), by_hand(X, Y))


# ---- the predictor


def weights_of(predictor):
    return [p for p in predictor.parameters()]


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("L", [0, 2])
def test_without_hidden_layers_the_predictor_is_linear(L, residual):
    predictor = Predictor(3, L, hidden=(), residual=residual, generator=seeded()).double()
    W, b = weights_of(predictor)
    assert W.shape == (3, 3 + L)
    s, z = draw(7, 3, seed=1), draw(7, 2, seed=2)
    expected = s @ W[:, :3].T + b + (z @ W[:, 3:].T if L else 0) + (s if residual else 0)
    exactly(predictor(s, z if L else None), expected)


@pytest.mark.parametrize("activation", ["silu", "tanh", "relu"])
@pytest.mark.parametrize("residual", [False, True])
def test_with_hidden_layers_it_is_a_perceptron_of_both(activation, residual):
    predictor = Predictor(3, 2, hidden=(6, 5), activation=activation, residual=residual, generator=seeded()).double()
    W1, b1, W2, b2, W3, b3 = weights_of(predictor)
    s, z, act = draw(7, 3, seed=1), draw(7, 2, seed=2), ACTIVATIONS[activation]
    h = act(act(torch.cat([s, z], -1) @ W1.T + b1) @ W2.T + b2)
    exactly(predictor(s, z), h @ W3.T + b3 + (s if residual else 0))


def test_one_layer_of_128_silu_units_unless_told_otherwise():
    predictor = Predictor(3, generator=seeded())
    assert [tuple(p.shape) for p in weights_of(predictor)] == [(128, 3), (128,), (3, 128), (3,)]
    W1, b1, W2, b2 = weights_of(predictor.double())
    s = draw(7, 3)
    exactly(predictor(s), nn.functional.silu(s @ W1.T + b1) @ W2.T + b2)


def test_the_predictors_width_can_differ_from_its_inputs():
    assert Predictor(3, 2, out=7)(torch.zeros(4, 3), torch.zeros(4, 2)).shape == (4, 7)
    assert Predictor(3, out=3, residual=True)(torch.zeros(4, 3)).shape == (4, 3)


@pytest.mark.parametrize(
    ("lead_s", "lead_z"),
    [((5, 1), (4,)), ((5,), ()), ((), (4,)), ((5, 1), (1, 4)), ((2, 5), (2, 5)), ((5,), (4, 1))],
)
def test_the_predictors_leading_dimensions_broadcast(lead_s, lead_z):
    predictor = Predictor(3, 2, hidden=(6,), residual=True, generator=seeded()).double()
    s, z = draw(*lead_s, 3, seed=1), draw(*lead_z, 2, seed=2)
    lead = torch.broadcast_shapes(lead_s, lead_z)
    exactly(predictor(s, z), predictor(s.expand(*lead, 3).contiguous(), z.expand(*lead, 2).contiguous()))


def test_the_predictor_is_a_function_of_its_seed():
    before = torch.get_rng_state()
    first, second, other = (weights_of(Predictor(3, 2, generator=seeded(s))) for s in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("name", "arguments"), [
    ("D", {"D": 0}), ("L", {"D": 3, "L": -1}), ("out", {"D": 3, "out": 0}), ("hidden", {"D": 3, "hidden": (4, 0)}),
    ("residual", {"D": 3, "out": 4, "residual": True}), ("activation", {"D": 3, "activation": "softplus2"}),
    ("D", {"D": 2.5}), ("L", {"D": 3, "L": 1.5}),
])  # fmt: skip
def test_a_predictor_out_of_range_is_refused_by_name(name, arguments):
    with pytest.raises((ValueError, TypeError), match=rf"\b{name}\b"):
        Predictor(**arguments)


@pytest.mark.parametrize(("L", "s", "z", "named"), [
    (2, (5, 3), None, "z"), (0, (5, 3), (5, 2), "z"), (2, (5, 3), (5, 3), "z"), (2, (5, 4), (5, 2), "s_x"),
    (2, (5, 3), (4, 2), "z"), (0, (5, 2), None, "s_x"),
    (2, (5, 4), (5, 1), "s_x|z"),  # whose sum would fit
])  # fmt: skip
def test_what_a_predictor_cannot_take_is_refused_by_name(L, s, z, named):
    with pytest.raises(ValueError, match=rf"\b({named})\b"):
        Predictor(3, L)(torch.zeros(s), None if z is None else torch.zeros(z))


# ---- what the class keeps

KINDS = {
    "shared": lambda: JEPA(MLP((4, 6, 3), generator=seeded()), Predictor(3, generator=seeded(1)),
                           information_x=variance_covariance),
    "slow": lambda: JEPA(e := MLP((4, 6, 3), generator=seeded()), Predictor(3, generator=seeded(1)),
                         target=joint.Momentum(e, momentum=0.9), information_x=FEW),
    "two networks": lambda: JEPA(MLP((4, 6, 3), generator=seeded()), Predictor(3, generator=seeded(1)),
                                 target=MLP((4, 3), generator=seeded(2)), information_x=FEW, information_y=FEW),
    "latent": lambda: JEPA(MLP((4, 6, 3), generator=seeded()), Predictor(3, 2, generator=seeded(1)), stop_gradient=True,
                           latent=Finite(VALUES.float(), COSTS.float()), information_x=variance_covariance),
    "generative": lambda: generative(MLP((4, 6, 3), generator=seeded()), Predictor(3, out=4, generator=seeded(1))),
}  # fmt: skip
EVERY = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
U, V = draw(8, 4, seed=10), draw(8, 4, seed=11)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_the_dtype_is_the_inputs(make, dtype):
    jepa, x, y = make().to(dtype), U.to(dtype), V.to(dtype)
    values = [*jepa.criterion(x, y, seeded()), jepa.free_energy(x, y)]
    values += [jepa.futures(x, 3, seeded())] if jepa.latent else [jepa.energy(x, y)]
    assert {value.dtype for value in values} == {dtype}


@EVERY
def test_the_device_is_the_inputs(make):
    jepa, x, y = make().to("meta"), U.float().to("meta"), V.float().to("meta")
    terms = jepa.criterion(x, y, seeded())
    assert {(term.device.type, term.shape) for term in terms} == {("meta", ())}
    terms.loss.backward()
    assert next(jepa.encoder.parameters()).grad.device.type == "meta"
    assert jepa.free_energy(x, y).shape == (8,)
    if jepa.latent:
        assert jepa.futures(x, 3, seeded()).shape == (8, 3, 3)
    jepa.finish_step(0.5)
    assert {t.device.type for t in jepa.state_dict().values()} == {"meta"}


@EVERY
def test_arguments_are_left_as_they_were(make):
    jepa, x, y = make().double(), U.clone(), V.clone()
    jepa.criterion(x, y, seeded()).loss.backward()
    assert torch.equal(x, U)
    assert torch.equal(y, V)
    assert x.grad is None


@EVERY
def test_training_is_a_function_of_the_seed_and_resumes_where_it_was_cut(make, tmp_path):
    data = draw(24, 4, seed=3).float()

    def train(views=lambda x, g: (x, x + 0.1 * torch.randn(x.shape, generator=g)), **options):
        jepa, g = make(), seeded(1)
        options = {"epochs": 3, "batch_size": 8, "lr": 1e-2, "progress": False} | options
        return jepa, joint.learn(jepa, data, views, generator=g, **options)

    class Cut(Exception):
        pass

    calls = []

    def failing(x, g):
        calls.append(x)
        if len(calls) > 5:
            raise Cut
        return x, x + 0.1 * torch.randn(x.shape, generator=g)

    whole, history = train()
    assert whole.steps == history.steps == 9
    assert set(history.metrics) == {"prediction", "information_x", "information_y", "latent"}
    terms = torch.tensor(list(history.metrics.values()))
    torch.testing.assert_close(terms.sum(0), torch.tensor(history.loss), rtol=1e-4, atol=1e-5)
    options = {"checkpoint": tmp_path / "run.pt", "checkpoint_every": 1}
    with pytest.raises(Cut):
        train(failing, **options)
    for again, repeated in (train(), train(**options)):
        assert repeated.loss == history.loss
        for (name, a), b in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
            assert torch.equal(a, b), name
    start = make().state_dict()
    assert any(not torch.equal(a, start[name]) for name, a in whole.state_dict().items() if "encoder" in name)


def world(g, N=256):
    """Two numbers turn by a rotation between x and y; six others are noise, drawn anew for each."""
    angle = torch.tensor(0.7, dtype=F64)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).view(2, 2)
    fact = torch.randn(N, 2, generator=g, dtype=F64)
    return tuple(torch.cat([f, torch.randn(N, 6, generator=g, dtype=F64)], 1) for f in (fact, fact @ turn.T))


def read_out(s, fact):
    """Share of the facts' variance that a linear map of s accounts for."""
    s, fact = s - s.mean(0), fact - fact.mean(0)
    return 1 - (fact - s @ torch.linalg.lstsq(s, fact).solution).square().sum().item() / fact.square().sum().item()


def test_thirty_steps_find_what_can_be_predicted_and_without_information_collapse():
    found = {}
    for information in (variance_covariance, None):
        g = seeded(2)
        x, y = world(g)
        encoder = linear(0.3 * torch.randn(2, 8, generator=g, dtype=F64))
        predictor = Predictor(2, hidden=(), generator=g).double()
        jepa = JEPA(encoder, predictor, information_x=information, information_y=information)
        assert read_out(jepa.represent(x).detach(), x[:, :2]) < 0.5
        views = lambda both, g: (both[:, :8], both[:, 8:])
        history = joint.learn(jepa, torch.cat([x, y], 1), views, epochs=30, batch_size=256, lr=0.1, weight_decay=0.0,
                              generator=g, progress=False)  # fmt: skip
        assert history.steps == 30
        assert history.loss[-1] < 0.1 * history.loss[0]
        fresh, _ = world(g)
        s = jepa.represent(fresh).detach()
        found[information] = read_out(s, fresh[:, :2]), joint.spread(s).min()
    told, spread = found[variance_covariance]
    assert told > 0.95
    assert spread > 0.8
    told, spread = found[None]
    assert told < 0.9
    assert spread < 0.2


# ---- refused at the door


@pytest.mark.parametrize("side", ["s_x", "s_y"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_representations_that_are_not_finite_are_refused_by_name(side, bad):
    x, y = X.clone(), Y.clone()
    (x if side == "s_x" else y)[5, 1] = bad
    for jepa in (model(), model(2)):
        for method in (jepa.criterion, jepa.free_energy, lambda x, y, m=jepa: m([x, y], torch.arange(8))):
            with pytest.raises(ValueError, match=rf"{side} must be finite"):
                method(x, y)
    with pytest.raises(ValueError, match=rf"{side} must be finite"):
        model().energy(x, y)
    if side == "s_x":
        with pytest.raises(ValueError, match=rf"{side} must be finite"):
            model(2).futures(x, 2)


def test_a_latent_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="z must be finite"):
        model(2).energy(X, Y, VALUES[0] * math.nan)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_prediction_of_another_width_is_refused_and_not_broadcast(width):
    for jepa in (JEPA(linear(A), linear(P), target=linear(draw(width, 4))),
                 JEPA(linear(A), linear(draw(width, 3)), target=linear(B))):  # fmt: skip
        for method in (jepa.energy, jepa.criterion, jepa.free_energy):
            with pytest.raises(ValueError, match=r"s_y|predict"):
                method(X, Y)


@pytest.mark.parametrize("rows", [1, 5])
def test_pairs_must_be_as_many_on_both_sides(rows):
    for x, y in ((X, Y[:rows]), (X[:rows], Y)):
        with pytest.raises(ValueError, match=r"pairs must be as many"):
            model().criterion(x, y)
    if rows > 1:
        with pytest.raises(ValueError, match=r"s_y must .* broadcast"):
            model().energy(X, Y[:rows])


def test_one_pair_tells_nothing_of_information():
    with pytest.raises(ValueError, match="N ≥ 2"):
        model(**INFORMATION).criterion(X[:1], Y[:1])
    assert model().criterion(X[:1], Y[:1]).loss > 0


@pytest.mark.parametrize("n", [0, -1, 2.5])
def test_a_number_of_futures_that_is_none_is_refused(n):
    with pytest.raises((ValueError, TypeError), match=r"\bn\b"):
        model(2).futures(X, n)


class NoInfer:
    L = 2

    def sample(self, s_x, n, generator=None):
        return s_x


class NoSample:
    L = 2

    def infer(self, energy, s_x, s_y, generator=None):
        return s_x


@pytest.mark.parametrize("latent", [NoInfer(), NoSample(), 2, nn.Linear(2, 2)])
def test_a_latent_that_cannot_be_inferred_or_drawn_is_refused(latent):
    with pytest.raises(TypeError, match="latent"):
        JEPA(linear(A), Affine(2), latent=latent)
    with pytest.raises(TypeError, match="latent"):
        generative(linear(A), Affine(2), latent=latent)


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, "1", None, True])
def test_a_prediction_weight_out_of_range_is_refused_by_name(weight):
    with pytest.raises((ValueError, TypeError), match="prediction"):
        model(prediction=weight)


def test_the_energy_takes_a_z_where_the_predictor_does_and_nowhere_else():
    jepa = JEPA(linear(A), Predictor(3, 2).double(), target=linear(B), latent=Finite(VALUES, COSTS))
    with pytest.raises(ValueError, match=r"\bz\b"):
        jepa.energy(X, Y)
    plain = JEPA(linear(A), Predictor(3).double(), target=linear(B))
    with pytest.raises(ValueError, match=r"\bz\b"):
        plain.energy(X, Y, VALUES[0])
