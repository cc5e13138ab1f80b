"""Gaussian mixtures against quadrature, torch's own distributions, scikit-learn from the same start, and K-means."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture as Peer
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from ebm_lib import free_energy as fe
from ebm_lib.energy import evaluate, grid, log_partition
from ebm_lib.latent import COVARIANCES, Components, GaussianMixture, KMeans, LatentModel, component_energies, em_step

F64 = torch.float64
PEERS = {"full": "full", "diagonal": "diag", "spherical": "spherical", "shared": "tied"}


def points(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def mixed(n=1500, d=3, k=4, seed=0):
    """Correlated clusters that overlap."""
    labels = torch.randint(k, (n,), generator=torch.Generator().manual_seed(seed))
    shape = points(k, d, d, seed=seed + 1)
    return 2.5 * points(k, d, seed=seed + 2)[labels] + (shape[labels] @ points(n, d, 1, seed=seed + 3)).squeeze(-1)


def some(k=3, d=2, seed=0):
    root = points(k, d, d, seed=seed)
    return Components(
        torch.log_softmax(points(k, seed=seed + 1), 0),
        2 * points(d, k, seed=seed + 2),
        root @ root.mT + 0.3 * torch.eye(d, dtype=F64),
    )


def model_at(components, covariance="full", **kw):
    model = GaussianMixture(*components.mean.shape, covariance=covariance, dtype=F64, **kw)
    model.assign(components)
    return model


def reference(c):
    return MixtureSameFamily(Categorical(logits=c.log_weight), MultivariateNormal(c.mean.T, c.covariance))


def peer_at(y, c, kind, rounds):
    precision = torch.linalg.inv(c.covariance)
    shaped = {
        "full": precision,
        "shared": precision[0],
        "diagonal": precision.diagonal(dim1=-2, dim2=-1),
        "spherical": precision[:, 0, 0],
    }[kind]
    return Peer(
        c.mean.shape[1], covariance_type=PEERS[kind], weights_init=c.log_weight.exp().numpy(), tol=0, max_iter=rounds,
        means_init=c.mean.T.numpy(), precisions_init=shaped.numpy(), init_params="random_from_data",
    )  # fmt: skip


# ---- the energy


def test_it_is_minus_the_log_density_and_integrates_to_one():
    c = some()
    model, y = model_at(c), points(20, 2, seed=9)
    assert isinstance(model, LatentModel)
    torch.testing.assert_close(model(y), -reference(c).log_prob(y))
    cells = grid([-25.0, -25.0], [25.0, 25.0], 500, dtype=F64)
    assert log_partition(model(cells.points).detach(), log_volume=cells.log_cell).item() == pytest.approx(0, abs=1e-9)
    far = 1e6  # no digits are lost away from the origin
    moved = c._replace(mean=c.mean + far)
    torch.testing.assert_close(component_energies(y + far, moved), component_energies(y, c), rtol=1e-7, atol=1e-7)


def test_parts_of_the_model_agree():
    c = some()
    model, y = model_at(c), points(7, 2, seed=9)
    codes = torch.eye(3, dtype=F64)
    table = evaluate(model.energy, y[:, None], codes[None])
    torch.testing.assert_close(table, model.energies(y))
    each = [-MultivariateNormal(c.mean[:, k], c.covariance[k]).log_prob(y) - c.log_weight[k] for k in range(3)]
    torch.testing.assert_close(table, torch.stack(each, -1))
    for beta in (0.3, 1.0, 5.0):
        torch.testing.assert_close(model(y, beta), fe.over_discrete(model.energy, y, codes, beta))
        torch.testing.assert_close(model.posterior(y, beta), torch.softmax(-beta * table, -1))
    torch.testing.assert_close(model(y, math.inf), table.amin(-1))
    torch.testing.assert_close(model.energy(y, model.infer(y)), table.amin(-1))
    assert torch.equal(model.decode(codes), c.mean.T)
    assert torch.isposinf(model.energy(y, torch.full((3,), 1 / 3, dtype=F64))).all()
    assert model(y[0]).shape == ()
    torch.testing.assert_close(component_energies(y, c, block_size=2), table)
    torch.autograd.gradcheck(lambda y: model(y, 0.7), y.requires_grad_())


def test_a_component_of_weight_zero_is_impossible_and_harmless():
    c = some()
    c = c._replace(log_weight=torch.tensor([0.0, -math.inf, -math.inf], dtype=F64))
    y = points(50, 2)
    assert torch.isposinf(component_energies(y, c)[:, 1:]).all()
    step = em_step(y, c)
    assert step.components.log_weight[0] == 0
    torch.testing.assert_close(step.components.mean[:, 0], y.mean(0))
    torch.testing.assert_close(step.components.mean[:, 1:], c.mean[:, 1:])
    assert math.isfinite(step.loss)
    assert step.bound <= step.loss


# ---- EM


def by_hand(y, c, beta):
    share = torch.softmax(-beta * component_energies(y, c), -1)
    mass = share.sum(0)
    mean = (share.T @ y) / mass[:, None]
    away = y[:, None] - mean
    return mass / len(y), mean.T, torch.einsum("nk,nki,nkj->kij", share, away, away) / mass[:, None, None], share


@pytest.mark.parametrize("beta", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_a_step_is_the_weighted_mean_and_covariance(beta, offset):
    y, c = mixed(200, 2) + offset, some()
    c = c._replace(mean=c.mean + offset)
    step = em_step(y, c, beta, reg_covar=0.0)
    weight, mean, covariance, share = by_hand(y, c, beta)
    torch.testing.assert_close(step.components.log_weight.exp(), weight)
    torch.testing.assert_close(step.components.mean, mean)
    torch.testing.assert_close(step.components.covariance, covariance, rtol=1e-6, atol=1e-8)
    assert step.loss == pytest.approx(fe.free_energy(component_energies(y, c), beta).mean().item(), rel=1e-9)
    mean_energy = (share * component_energies(y, step.components)).sum(-1).mean()
    entropy = torch.special.entr(share).sum(-1).mean()
    assert step.bound == pytest.approx((mean_energy - entropy / beta).item(), rel=1e-8)
    pieces = em_step(y, c, beta, reg_covar=0.0, block_size=7)
    torch.testing.assert_close(pieces.components.covariance, step.components.covariance, rtol=1e-8, atol=1e-9)
    assert pieces.bound == pytest.approx(step.bound, rel=1e-10)


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("beta", [0.7, 1.0, 3.0, math.inf])
def test_the_bound_lies_between_the_losses_so_the_loss_never_rises(covariance, beta):
    y, c = mixed(300), some(3, 3)
    loss = math.inf
    for _ in range(15):
        step = em_step(y, c, beta, covariance=covariance, reg_covar=0.0)
        assert step.loss <= loss + 1e-12
        if loss < math.inf:  # the parameters to start from are not of this kind
            assert step.bound <= step.loss + 1e-12
        loss, c = step.bound, step.components


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_no_parameters_near_those_of_a_step_have_lower_mean_energy(covariance):
    y, c = mixed(200), some(2, 3)
    share = torch.softmax(-component_energies(y, c), -1)
    model = model_at(em_step(y, c, covariance=covariance, reg_covar=0.0).components, covariance)
    slopes = torch.autograd.grad((share * model.energies(y)).sum(-1).mean(), list(model.parameters()))
    for slope in slopes:
        assert slope.abs().max() < 1e-8


@pytest.mark.filterwarnings("ignore:Best performing initialization did not converge")
@pytest.mark.parametrize("kind", PEERS)
@pytest.mark.parametrize("rounds", [1, 10, 60])
def test_the_same_likelihood_and_parameters_as_scikit_learn_from_the_same_start(kind, rounds):
    y = mixed()
    c = Components(
        torch.full((4,), -math.log(4), dtype=F64), y[:4].T.contiguous(), torch.eye(3, dtype=F64).repeat(4, 1, 1)
    )
    peer = peer_at(y, c, kind, rounds).fit(y.numpy())
    model = model_at(c, kind)
    record = model.learn(y, start="current", rounds=rounds, tol=0)
    assert record.loss[-1] == pytest.approx(-peer.score(y.numpy()), rel=1e-8)
    assert model(y).mean().item() == pytest.approx(-peer.score(y.numpy()), rel=1e-8)
    torch.testing.assert_close(model.mean.detach().T, torch.tensor(peer.means_), rtol=1e-6, atol=1e-6)
    found = np.array(peer.covariances_)
    ours = {
        "full": lambda s: s,
        "shared": lambda s: s[0],
        "diagonal": lambda s: s.diagonal(dim1=-2, dim2=-1),
        "spherical": lambda s: s[:, 0, 0],
    }[kind](model.components().covariance.detach())
    torch.testing.assert_close(ours, torch.tensor(found), rtol=1e-5, atol=1e-6)


def test_float32_data_reach_the_likelihood_of_float64():
    y = mixed()
    c = Components(torch.full((4,), -math.log(4)), y[:4].T.float(), torch.eye(3).repeat(4, 1, 1))
    single = GaussianMixture(3, 4)
    single.assign(c)
    loss = single.learn(y.float(), start="current", tol=0, rounds=40).loss[-1]
    double = model_at(Components(*(part.double() for part in c)))
    assert loss == pytest.approx(double.learn(y, start="current", tol=0, rounds=40).loss[-1], rel=1e-5)
    assert single.mean.dtype == torch.float32


def test_with_one_spherical_covariance_and_equal_weights_the_cold_limit_is_k_means():
    y = mixed(800, 2, 5)
    start = y[:5].T.contiguous()
    clusters = KMeans(2, 5, dtype=F64)
    with torch.no_grad():
        clusters.W.copy_(start)
    record = clusters.learn(y, start="current", tol=0)
    c = Components(torch.full((5,), -math.log(5), dtype=F64), start, torch.eye(2, dtype=F64).repeat(5, 1, 1))
    model = model_at(c, "shared spherical", equal_weights=True)
    model.learn(y, beta=math.inf, start="current", tol=0, rounds=len(record.loss), reg_covar=0.0)
    torch.testing.assert_close(model.mean.detach(), clusters.W.detach())
    variance = model.components().covariance[0, 0, 0].item()
    assert variance == pytest.approx(record.loss[-1] / 2)
    # the same fit, colder and colder: the energy tends to K-means' own, in units of 2σ²
    constant = math.log(5) + math.log(2 * math.pi * variance)
    limit = clusters(y).detach() / (2 * variance) + constant
    gaps = [(limit - model(y, beta)).abs().max().item() for beta in (1.0, 10.0, 100.0, 1e4)]
    assert all(b <= a / 5 for a, b in itertools.pairwise(gaps))
    assert gaps[-1] <= math.log(5) / 1e4
    # and a finite β of the prototypes is the mixture of variance 1 / 2β
    soft = model_at(c._replace(mean=clusters.W.detach(), covariance=c.covariance / 6), "shared spherical")
    scale = math.log(5) + math.log(math.pi / 3)
    torch.testing.assert_close(soft(y).detach(), 3 * clusters(y, 3.0).detach() + scale)


def test_the_gradient_of_the_loss_is_that_of_the_bound_and_descent_reaches_what_em_reaches():
    y = mixed(300, 2, 3)
    c = Components(
        torch.full((3,), -math.log(3), dtype=F64), y[:3].T.contiguous(), torch.eye(2, dtype=F64).repeat(3, 1, 1)
    )
    model = model_at(c)
    share = model.posterior(y).detach()
    params = list(model.parameters())
    direct = torch.autograd.grad(model(y).mean(), params)
    bound = torch.autograd.grad((share * model.energies(y)).sum(-1).mean(), params)
    for a, b in zip(direct, bound, strict=True):
        torch.testing.assert_close(a, b)
    em = model_at(c)
    em.learn(y, start="current", tol=0, rounds=500, reg_covar=0.0)
    history = model.descend(y, steps=1500, lr=0.02)
    assert model(y).mean().item() == pytest.approx(em(y).mean().item(), abs=1e-4)
    assert history.loss[-1] < history.loss[0]


@pytest.mark.parametrize("start", ["k-means", "k-means++", "samples"])
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_every_start_fits_every_kind(start, covariance):
    y = mixed(400, 2, 3)
    model = GaussianMixture(2, 3, covariance=covariance, dtype=F64)
    record = model.learn(y, start=start, restarts=3, generator=torch.Generator().manual_seed(0))
    one = GaussianMixture(2, 1, covariance=covariance, dtype=F64)
    alone = one.learn(y).loss[-1]
    assert record.converged
    assert record.loss[-1] < alone - 0.1
    assert record.loss[-1] == pytest.approx(model(y).mean().item(), rel=1e-9)


def test_samples_have_the_moments_of_the_mixture():
    model = model_at(some())
    y = model.sample(40_000, generator=torch.Generator().manual_seed(0))
    weight, mean, covariance = (part.detach() for part in model.components())
    expected = mean @ weight.exp()
    scatter = torch.einsum("k,kij->ij", weight.exp(), covariance + mean.T[:, :, None] * mean.T[:, None, :])
    torch.testing.assert_close(y.mean(0), expected, atol=0.05, rtol=0)
    torch.testing.assert_close(y.T @ y / len(y), scatter, atol=0.2, rtol=0.05)
    assert torch.equal(y, model.sample(40_000, generator=torch.Generator().manual_seed(0)))


# ---- bad input


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_assign_takes_what_the_kind_can_hold_and_refuses_the_rest(covariance):
    y = mixed(300)
    fitted = em_step(y, some(3, 3), covariance=covariance).components
    for ours, given in zip(model_at(fitted, covariance).components(), fitted, strict=True):
        torch.testing.assert_close(ours.detach(), given)
    if covariance != "full":
        model = GaussianMixture(3, 3, covariance=covariance, dtype=F64)
        before = [p.clone() for p in model.parameters()]
        with pytest.raises(ValueError, match="covariance cannot be held by a mixture of kind"):
            model.assign(some(3, 3))
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    with pytest.raises(ValueError, match="log_weight cannot be held"):
        GaussianMixture(3, 3, covariance=covariance, equal_weights=True, dtype=F64).assign(fitted)


def test_energies_keep_their_digits_far_from_the_origin():
    y = (points(30, 2) + 1e3).float()
    mean, covariance = (points(2, 3, seed=1) + 1e3).float(), 0.01 * torch.eye(2).expand(3, 2, 2)
    single = Components(torch.zeros(3), mean, covariance)
    exact = component_energies(y.double(), Components(*(part.double() for part in single)))
    torch.testing.assert_close(component_energies(y, single).double(), exact, rtol=1e-5, atol=1e-3)


def test_a_component_with_next_to_no_share_of_any_sample_stays():
    far = Components(points(2) * 0, torch.tensor([[0.0, 12.0]], dtype=F64), torch.ones(2, 1, 1, dtype=F64))
    step = em_step(points(50, 1), far)  # shares of e⁻⁴⁰ and less
    assert step.components.mean[0, 1].item() == 12
    assert step.components.log_weight[1] < -40


def test_of_several_starts_the_best_is_kept():
    y, seed = points(200, 2) + 4 * points(4, 2, seed=1).repeat(50, 1), lambda: torch.Generator().manual_seed(2)
    kind = {"covariance": "spherical", "dtype": F64}
    g, options = seed(), {"start": "samples", "rounds": 15, "tol": 0.0}
    alone = [GaussianMixture(2, 4, **kind).learn(y, generator=g, **options).loss for _ in range(6)]
    best = min(alone, key=lambda loss: loss[-1])
    assert all(best is not one for one in (alone[0], alone[-1]))
    model = GaussianMixture(2, 4, **kind)
    assert model.learn(y, generator=seed(), restarts=6, **options).loss == best
    assert model(y).mean().item() == pytest.approx(best[-1], rel=1e-9)


def test_equal_weights_stay_equal():
    y = mixed(300, 2, 3)
    model = GaussianMixture(2, 3, equal_weights=True, dtype=F64)
    model.learn(y, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.components().log_weight.exp(), torch.full((3,), 1 / 3, dtype=F64))
    assert not model.logit.requires_grad


def test_a_collapse_is_named_and_regularisation_prevents_it():
    y = torch.cat([points(50, 2), 100 + torch.zeros(1, 2, dtype=F64)])
    c = Components(
        torch.full((2,), -math.log(2), dtype=F64),
        torch.tensor([[0.0, 100.0], [0.0, 100.0]], dtype=F64),
        torch.eye(2, dtype=F64).repeat(2, 1, 1),
    )
    with pytest.raises(ValueError, match="component 1, of 1 samples, has collapsed.* reg_covar than 0"):
        em_step(y, c, reg_covar=0.0)
    step = em_step(y, c, reg_covar=1e-3)
    torch.testing.assert_close(step.components.covariance[1], 1e-3 * torch.eye(2, dtype=F64))
    flat = torch.cat([points(50, 1), torch.ones(50, 1, dtype=F64)], -1)  # a coordinate that never varies
    with pytest.raises(ValueError, match="collapsed"):
        GaussianMixture(2, 2, dtype=F64).learn(flat, reg_covar=0.0)
    assert GaussianMixture(2, 2, dtype=F64).learn(flat).loss[-1] < 0
    for seed in range(20):  # samples on a line, off the origin: what is left of the second variance is rounding
        line = points(1, 2, seed=seed) + points(50, 1, seed=seed) * points(1, 2, seed=seed + 1)
        with pytest.raises(ValueError, match="collapsed"):
            GaussianMixture(2, 1, dtype=F64).learn(line, reg_covar=0.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GaussianMixture(2, 5, dtype=F64).learn(points(4, 2)), "K must be at most the number of samples, 4"),
        (lambda: GaussianMixture(2, 1, dtype=F64).learn(points(1, 2)), "y must hold at least 2 samples, got 1"),
        (lambda: GaussianMixture(2, 1, dtype=F64).learn(points(4, 3)), r"y must be \(N, 2\)"),
        (lambda: GaussianMixture(2, 1, dtype=F64).learn(points(4, 2).fill_(math.inf)), "y must be finite"),
        (lambda: GaussianMixture(2, 1, covariance="round"), "covariance must be one of diagonal, full"),
        (lambda: GaussianMixture(2, 1, dtype=F64).learn(points(4, 2), start="best"), "start must be one of"),
        (lambda: GaussianMixture(2, 1, dtype=F64).learn(points(4, 2), tol=-1.0), "tol must be a positive"),
        (
            lambda: GaussianMixture(2, 1, dtype=F64).learn(points(4, 2), start="current", restarts=2),
            "restarts must be 1",
        ),
        (lambda: GaussianMixture(2, 1)(torch.zeros(3)), r"y must be \(..., 2\)"),
        (lambda: GaussianMixture(2, 1)(torch.zeros(2), -1.0), "beta must be a positive"),
        (lambda: em_step(points(9, 2), some(), reg_covar=-1.0), "reg_covar must be a positive"),
        (lambda: em_step(points(9, 2), some(), covariance="round"), "covariance must be one of"),
        (lambda: em_step(points(9, 2), some()._replace(mean=points(2, 4))), r"mean must be \(D, 3\)"),
        (lambda: em_step(points(9, 2), some()._replace(covariance=points(3, 2))), r"covariance must be \(K, D, D\)"),
        (lambda: em_step(points(9, 2), some()._replace(log_weight=points(1, 3))), r"log_weight must be \(K,\)"),
        (
            lambda: component_energies(points(9, 2), some()._replace(covariance=torch.ones(3, 2, 2, dtype=F64))),
            "covariance must be positive definite: that of component 0 is not",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
