"""Each criterion against its paper's formula in plain loops, and against what its optimum and its gradient must be."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ebm_lib import joint, losses
from ebm_lib.joint import contrastive

F64 = torch.float64


def draw(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def agree(actual, expected, tol=1e-10):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=F64), rtol=tol, atol=tol)


def adds_up(criterion):
    agree(criterion.loss, sum(criterion[1:]))
    return criterion


def length(v):
    return math.sqrt(sum(x * x for x in v))


def dot(u, v):
    return sum(x * y for x, y in zip(u, v, strict=True))


def cosine(u, v):
    return dot(u, v) / (length(u) * length(v))


def mean(values):
    values = list(values)
    return sum(values) / len(values)


# ---- Siamese


def test_square_square_is_hadsells_loss():
    x, y = draw(9, 3), draw(9, 3, seed=1)
    same = torch.arange(9) % 3 == 0
    found = adds_up(joint.siamese_square_square(x, y, same, margin=2.5))
    pull = push = 0.0
    for a, b, s in zip(x.tolist(), y.tolist(), same.tolist(), strict=True):
        d = length([p - q for p, q in zip(a, b, strict=True)])
        pull += d * d / 2 if s else 0.0
        push += 0.0 if s else max(0.0, 2.5 - d) ** 2 / 2
    assert push > 0
    agree(found.positive, pull / 9)
    agree(found.negative, push / 9)


def test_square_exp_and_its_relation_to_chopras():
    x, y = draw(8, 3), draw(8, 3, seed=1)
    same = torch.arange(8) < 3
    found = adds_up(joint.siamese_square_exp(x, y, same, gamma=0.7))
    d = [length((a - b).tolist()) for a, b in zip(x, y, strict=True)]
    agree(found.positive, sum(v * v for v in d[:3]) / 8)
    agree(found.negative, sum(0.7 * math.exp(-v) for v in d[3:]) / 8)


def test_equal_points_have_a_finite_slope():
    z = draw(4, 3).requires_grad_()
    for same in (True, False):
        for f in (joint.siamese_square_square, joint.siamese_square_exp):
            (slope,) = torch.autograd.grad(f(z, z.detach(), torch.full((4,), same)).loss, z)
            assert torch.equal(slope, torch.zeros_like(slope))


def test_triplet_by_hand_and_by_torch():
    a, p, n = draw(6, 4), draw(6, 4, seed=1), draw(6, 4, seed=2)
    expected = mean(
        max(0.0, 0.3 + length((u - v).tolist()) ** 2 - length((u - w).tolist()) ** 2)
        for u, v, w in zip(a, p, n, strict=True)
    )
    agree(joint.triplet(a, p, n, margin=0.3), expected)
    reference = nn.TripletMarginWithDistanceLoss(distance_function=lambda u, v: (u - v).square().sum(-1), margin=0.3)
    agree(joint.triplet(a, p, n, margin=0.3), reference(a, p, n))


@pytest.mark.parametrize("seed", range(5))
def test_mining_is_an_exhaustive_search(seed):
    a, p, c = draw(7, 2, seed=seed), draw(7, 2, seed=seed + 50), draw(10, 2, seed=seed + 90)
    allowed = torch.rand(7, 10, generator=torch.Generator().manual_seed(seed)) < 0.6
    allowed[:, 0] = True
    c[0] = 100.0  # one that is always farther
    hard, semi = (joint.mine(a, p, c, allowed, how) for how in ("hard", "semi-hard"))
    chance = joint.mine(a, p, c, allowed, "random", generator=torch.Generator().manual_seed(seed))
    for i in range(7):
        d = {j: length((a[i] - c[j]).tolist()) for j in range(10) if allowed[i, j]}
        beyond = {j: v for j, v in d.items() if v > length((a[i] - p[i]).tolist())}
        assert hard[i] == min(d, key=d.get)
        assert semi[i] == min(beyond, key=beyond.get)
        assert chance[i].item() in d


def test_without_a_semi_hard_one_the_farthest_is_taken():
    a, p, c = torch.zeros(1, 1), torch.full((1, 1), 9.0), torch.tensor([[1.0], [3.0], [2.0]])
    assert joint.mine(a, p, c, torch.tensor([[True, True, True]])).item() == 1
    assert joint.mine(a, p, c, torch.tensor([[True, False, True]])).item() == 2


# ---- InfoNCE and its kin


@pytest.mark.parametrize("tau", [0.07, 0.5, 2.0])
def test_nt_xent_is_simclrs_equation(tau):
    z1, z2 = draw(5, 4), draw(5, 4, seed=1, scale=3.0)
    found = adds_up(joint.nt_xent(z1, z2, temperature=tau))
    z = z1.tolist() + z2.tolist()
    total = 0.0
    for i in range(10):
        partner = (i + 5) % 10
        everything = sum(math.exp(cosine(z[i], z[k]) / tau) for k in range(10) if k != i)
        total -= math.log(math.exp(cosine(z[i], z[partner]) / tau) / everything)
    agree(found.loss, total / 10)
    agree(found.positive, -mean(cosine(a, b) for a, b in zip(z[:5], z[5:], strict=True)) / tau)


def test_nt_xent_in_lightlys_words():
    z1, z2 = draw(5, 4), draw(5, 4, seed=1)
    a, b = (nn.functional.normalize(z, dim=1) for z in (z1, z2))
    others = ~torch.eye(5, dtype=torch.bool)
    (aa, bb), (ab, ba) = ((v @ v.T / 0.3)[others].view(5, 4) for v in (a, b)), (a @ b.T / 0.3, b @ a.T / 0.3)
    logits = torch.cat([torch.cat([ab, aa], 1), torch.cat([ba, bb], 1)])
    labels = torch.arange(5).repeat(2)
    agree(joint.nt_xent(z1, z2, temperature=0.3).loss, nn.functional.cross_entropy(logits, labels))


def test_moco_is_its_equation_and_gives_keys_no_gradient():
    q, k, queue = draw(4, 3).requires_grad_(), draw(4, 3, seed=1).requires_grad_(), draw(6, 3, seed=2).requires_grad_()
    found = adds_up(joint.moco(q, k, queue, temperature=0.2))
    total = 0.0
    for a, b in zip(q.tolist(), k.tolist(), strict=True):
        right = math.exp(cosine(a, b) / 0.2)
        total -= math.log(right / (right + sum(math.exp(cosine(a, n) / 0.2) for n in queue.tolist())))
    agree(found.loss.detach(), total / 4)
    agree(found.positive.detach(), -mean(cosine(a, b) for a, b in zip(q.tolist(), k.tolist(), strict=True)) / 0.2)
    slopes = torch.autograd.grad(found.loss, (q, k, queue), allow_unused=True)
    assert slopes[0].abs().max() > 0
    assert slopes[1] is None
    assert slopes[2] is None


def test_a_key_that_is_already_in_the_queue_counts_against_its_own_query():
    """The trap: pushing before the loss. A perfect query then cannot do better than log 2."""
    q = torch.eye(3, dtype=F64)
    other = torch.full((1, 3), -1.0, dtype=F64)
    before = joint.moco(q, q, other, temperature=0.05).loss
    after = joint.moco(q, q, torch.cat([other, q]), temperature=0.05).loss
    assert before < 1e-8
    assert after > math.log(2) - 1e-9


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_pirl_is_its_equations_4_to_6(weight):
    m, f, g, bank = (draw(3, 4, seed=s) for s in range(4))
    bank = torch.cat([bank, draw(4, 4, seed=9)])
    tau = 0.3

    def h(u, v, transformed):
        s = math.exp(cosine(u, v) / tau)
        return s / (s + sum(math.exp(cosine(transformed, other) / tau) for other in bank.tolist()))

    def nce(memory, v):
        return -math.log(h(memory, v, v)) - sum(math.log(1 - h(v, n, v)) for n in bank.tolist())

    found = adds_up(joint.pirl(m, f, g, bank, temperature=tau, weight=weight))
    rows = list(zip(m.tolist(), f.tolist(), g.tolist(), strict=True))
    agree(found.transformed, weight * mean(nce(a, c) for a, _, c in rows))
    agree(found.image, (1 - weight) * mean(nce(a, b) for a, b, _ in rows))


def test_pirls_memory_gets_no_gradient():
    m, f, g, bank = (draw(3, 4, seed=s).requires_grad_() for s in range(4))
    slopes = torch.autograd.grad(joint.pirl(m, f, g, bank).loss, (m, f, g, bank), allow_unused=True)
    assert [s is None for s in slopes] == [True, False, False, True]


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(1, 5), st.floats(0.05, 5), st.integers(0, 1000))
def test_bounds_and_identities_of_info_nce(n, d, tau, seed):
    z1, z2 = draw(n, d, seed=seed), draw(n, d, seed=seed + 1)
    loss = joint.nt_xent(z1, z2, temperature=tau).loss
    assert loss > 0
    assert loss <= math.log(2 * n - 1) + 2 / tau + 1e-9
    torch.testing.assert_close(joint.nt_xent(z2, z1, temperature=tau).loss, loss)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(joint.nt_xent(z1[order], z2[order], temperature=tau).loss, loss)
    torch.testing.assert_close(joint.nt_xent(3 * z1, 0.1 * z2, temperature=tau).loss, loss)
    point = torch.ones(n, d, dtype=F64)
    agree(joint.nt_xent(point, point, temperature=tau).loss, math.log(2 * n - 1))


def test_a_small_temperature_neither_overflows_nor_loses_the_loss():
    z1, z2 = draw(6, 4).float(), draw(6, 4, seed=1).float()
    exact = joint.nt_xent(z1.double(), z2.double(), temperature=1e-3).loss
    assert joint.nt_xent(z1, z2, temperature=1e-3).loss.item() == pytest.approx(exact.item(), rel=1e-3)


# ---- distillation


def test_simsiam_and_byol_are_their_equations():
    p1, p2, z1, z2 = (draw(5, 3, seed=s) for s in range(4))

    def D(p, z):
        return -mean(cosine(a, b) for a, b in zip(p.tolist(), z.tolist(), strict=True))

    def squares(p, z):
        rows = zip(p.tolist(), z.tolist(), strict=True)
        return mean(sum((x / length(a) - y / length(b)) ** 2 for x, y in zip(a, b, strict=True)) for a, b in rows)

    agree(joint.negative_cosine(p1, z2), D(p1, z2))
    found = adds_up(joint.simsiam(p1, p2, z1, z2))
    agree(found.first, D(p1, z2) / 2)
    agree(found.second, D(p2, z1) / 2)
    found = adds_up(joint.byol(p1, p2, z1, z2))
    agree(found.first, squares(p1, z2))
    agree(found.second, squares(p2, z1))
    agree(found.loss, 4 + 4 * joint.simsiam(p1, p2, z1, z2).loss)


@pytest.mark.parametrize("criterion", [joint.simsiam, joint.byol])
def test_the_stop_gradient_stops_the_gradient_and_can_be_removed(criterion):
    p1, p2, z1, z2 = (draw(5, 3, seed=s).requires_grad_() for s in range(4))
    slopes = torch.autograd.grad(criterion(p1, p2, z1, z2).loss, (p1, p2, z1, z2), allow_unused=True)
    assert [s is None for s in slopes] == [False, False, True, True]
    slopes = torch.autograd.grad(criterion(p1, p2, z1, z2, stop_gradient=False).loss, (p1, p2, z1, z2))
    assert all(s.abs().max() > 0 for s in slopes)


# ---- information


def correlation_by_hand(z1, z2, eps=0.0):
    n, d = z1.shape
    columns = [[z[:, j].tolist() for j in range(d)] for z in (z1, z2)]
    centred = [[[x - mean(c) for x in c] for c in view] for view in columns]
    norm = [[math.sqrt(dot(c, c) / n + eps) for c in view] for view in centred]
    return [[dot(centred[0][i], centred[1][j]) / n / (norm[0][i] * norm[1][j]) for j in range(d)] for i in range(d)]


@pytest.mark.parametrize(("n", "d"), [(7, 4), (4, 7), (5, 5), (2, 3)])
@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.1])
def test_barlow_twins_is_its_equation(n, d, eps):
    z1, z2 = draw(n, d, scale=2.0) + 3, draw(n, d, seed=1, scale=0.5)
    c = correlation_by_hand(z1, z2, eps)
    found = adds_up(joint.barlow_twins(z1, z2, redundancy=0.01, eps=eps))
    agree(found.invariance, sum((1 - c[i][i]) ** 2 for i in range(d)))
    agree(found.redundancy, 0.01 * sum(c[i][j] ** 2 for i in range(d) for j in range(d) if i != j))


def test_barlow_twins_normalises_each_view_by_its_own_statistics():
    """The trap: one view's mean and deviation used for both. Scale and offset of either view must not matter."""
    z1, z2 = draw(20, 4), draw(20, 4, seed=1)
    plain = joint.barlow_twins(z1, z2, eps=0.0).loss
    agree(joint.barlow_twins(5 * z1 - 2, 0.1 * z2 + 7, eps=0.0).loss, plain)
    agree(joint.barlow_twins(z1, 3 * z1 + 1, eps=0.0).invariance, 0.0)


def test_barlow_twins_is_the_authors_code_and_solo_learn_is_a_fortieth_of_it():
    z1, z2 = draw(12, 5), draw(12, 5, seed=1)
    bn = nn.BatchNorm1d(5, affine=False, dtype=F64)
    c = bn(z1).T @ bn(z2) / 12
    off = c.square().sum() - c.diagonal().square().sum()
    expected = (c.diagonal() - 1).square().sum() + 0.0051 * off
    agree(joint.barlow_twins(z1, z2, redundancy=0.0051).loss, expected)
    eye = torch.eye(5, dtype=F64)  # solo-learn's words
    gaps = (c - eye).square() * torch.where(eye.bool(), 1.0, 0.005)
    agree(0.025 * joint.barlow_twins(z1, z2).loss, 0.025 * gaps.sum())


def vicreg_by_hand(z1, z2, gamma=1.0, eps=1e-4):
    """The paper's s, v(Z) + v(Z'), c(Z) + c(Z'): equations 1 to 5, before any library's scaling."""
    n, d = z1.shape
    s = mean(
        sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) for a, b in zip(z1.tolist(), z2.tolist(), strict=True)
    )
    v = c = 0.0
    for z in (z1, z2):
        columns = [z[:, j].tolist() for j in range(d)]
        centred = [[x - mean(col) for x in col] for col in columns]
        cov = [[dot(a, b) / (n - 1) for b in centred] for a in centred]
        v += mean(max(0.0, gamma - math.sqrt(cov[j][j] + eps)) for j in range(d))
        c += sum(cov[i][j] ** 2 for i in range(d) for j in range(d) if i != j) / d
    return s, v, c


@pytest.mark.parametrize(("n", "d"), [(8, 4), (4, 8), (2, 3), (5, 5)])
def test_vicreg_is_its_equations_in_the_convention_stated(n, d):
    z1, z2 = draw(n, d, scale=0.7), draw(n, d, seed=1, scale=1.3) + 5
    s, v, c = vicreg_by_hand(z1, z2)
    found = adds_up(joint.vicreg(z1, z2))
    agree(found.invariance, 25 * s / d)
    agree(found.variance, 25 * v / 2)
    agree(found.covariance, 1 * c)
    # the conversions that the docstring promises
    agree(joint.vicreg(z1, z2, invariance=25 * d, variance=50.0).loss, 25 * s + 25 * v + c)  # the paper's
    agree(joint.vicreg(z1, z2, variance=50.0).loss, 25 * s / d + 25 * v + c)  # solo-learn's


@pytest.mark.parametrize(("gamma", "eps"), [(0.4, 1e-4), (2.5, 0.3)])
def test_target_and_floor_of_the_deviations(gamma, eps):
    z1, z2 = draw(8, 4, scale=0.7), draw(8, 4, seed=1, scale=1.3) + 5
    _, v, _ = vicreg_by_hand(z1, z2, gamma, eps)
    agree(joint.variance_hinge(z1, gamma=gamma, eps=eps) + joint.variance_hinge(z2, gamma=gamma, eps=eps), v)
    agree(joint.vicreg(z1, z2, variance=3.0, gamma=gamma, eps=eps).variance, 3 * v / 2)


def test_vicreg_in_lightlys_words():
    z1, z2 = draw(16, 6), draw(16, 6, seed=1)
    off = ~torch.eye(6, dtype=torch.bool)
    means = sum(torch.cov(z.T)[off].square().mean() for z in (z1, z2))
    hinges = sum(torch.relu(1 - (z.var(0) + 1e-4).sqrt()).mean() for z in (z1, z2))
    expected = 25 * (z1 - z2).square().mean() + 12.5 * hinges + (6 - 1) * means
    agree(joint.vicreg(z1, z2).loss, expected)


def test_regularised_distillation_is_vicregs_terms_at_length_root_d():
    z1, z2, own = draw(8, 5) + 1, draw(8, 5, seed=1, scale=3.0), torch.tensor(0.7, dtype=F64)
    _, v, c = vicreg_by_hand(*(5**0.5 * z / z.norm(dim=1, keepdim=True) for z in (z1, z2)))
    found = adds_up(joint.regularized(own, (z1, z2), 2.0, 0.3))
    agree(found.distillation, 0.7)
    agree(found.variance, v)  # half of the weight on each view
    agree(found.covariance, 0.3 * c)
    assert joint.regularized(own, (z1, z2), 0.0, 0.0) == (0.7, 0.7, 0, 0)


def test_the_slope_of_a_collapsed_variable_is_finite_and_pushes_it_apart():
    z = (1 + 1e-6 * draw(10, 3)).requires_grad_()
    (slope,) = torch.autograd.grad(joint.variance_hinge(z), z)
    assert slope.isfinite().all()
    assert joint.variance_hinge((z - 1e4 * slope).detach()) < joint.variance_hinge(z)


def test_at_the_very_point_of_collapse_the_slope_is_zero_not_nan():
    z = torch.ones(10, 3, requires_grad=True)
    for value in (joint.vicreg(z, z.detach()).loss, joint.barlow_twins(z, z.detach()).loss):
        (slope,) = torch.autograd.grad(value, z)
        assert torch.equal(slope, torch.zeros_like(slope))


@pytest.mark.parametrize(("n", "d"), [(64, 8), (8, 64)])
def test_both_ways_to_sum_the_squares_agree_in_single_precision(n, d):
    z1, z2 = draw(n, d).float(), draw(n, d, seed=1).float()
    off = ~torch.eye(d, dtype=torch.bool)
    expected = torch.cov(z1.double().T)[off].square().sum() / d
    assert joint.covariance_squares(z1).item() == pytest.approx(expected.item(), rel=1e-5)
    c = torch.corrcoef(torch.cat([z1, z2], 1).double().T)[:d, d:]
    found = joint.barlow_twins(z1, z2, redundancy=1.0, eps=0.0)
    assert found.redundancy.item() == pytest.approx(c[off].square().sum().item(), rel=1e-4)


def test_squares_are_never_negative_when_only_one_variable_varies():
    z = torch.zeros(8, 64)
    z[:, 3] = draw(8).float()
    assert 0 <= joint.covariance_squares(z) < 1e-6
    assert (joint.barlow_twins(z, z).redundancy >= 0).all()


# ---- SIGReg


def epps_pulley_closed(x):
    n = len(x)
    pairs = sum(math.exp(-((a - b) ** 2) / 2) for a in x for b in x) / n
    return math.sqrt(2 * math.pi) * (pairs - math.sqrt(2) * sum(math.exp(-a * a / 4) for a in x) + n / math.sqrt(3))


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (0.3, 0.0), (2.0, 1.0)])
def test_epps_pulley_has_its_closed_form_on_the_whole_line(scale, offset):
    x = draw(30, scale=scale) + offset
    agree(joint.epps_pulley(x, knots=400, t_max=12.0), epps_pulley_closed(x.tolist()), 1e-9)


def test_epps_pulley_is_the_authors_rule_and_the_papers():
    x = draw(25, scale=0.6)

    def statistic(t):
        phi = math.exp(-t * t / 2)
        return 25 * ((mean(math.cos(t * v) for v in x.tolist()) - phi) ** 2
                     + mean(math.sin(t * v) for v in x.tolist()) ** 2) * phi  # fmt: skip

    def trapezoid(low, high, knots):
        ts = [low + (high - low) * k / (knots - 1) for k in range(knots)]
        return sum((b - a) * (statistic(a) + statistic(b)) / 2 for a, b in itertools.pairwise(ts))

    agree(joint.epps_pulley(x), 2 * trapezoid(0.0, 3.0, 17))  # the code's
    agree(joint.epps_pulley(x, knots=9, t_max=5.0), trapezoid(-5.0, 5.0, 17))  # the paper's algorithm


def test_epps_pulley_of_gaussian_samples_has_the_mean_it_must_have():
    """E T = ∫ (1 − φ²) w dt, whatever N: the empirical characteristic function has variance (1 − |φ|²)/N."""
    x = draw(4000, 20)
    t = torch.linspace(-3, 3, 4001, dtype=F64)
    expected = torch.trapezoid((1 - torch.exp(-t.square())) * torch.exp(-t.square() / 2), t)
    found = joint.epps_pulley(x)
    assert found.mean().item() == pytest.approx(expected.item(), abs=4 * found.std().item() / 4000**0.5)


def test_sigreg_is_the_mean_over_directions_and_keeps_the_factor_n():
    z = draw(12, 3, scale=0.5)
    a = joint.random_directions(3, 6, generator=torch.Generator().manual_seed(2), dtype=F64)
    agree(a.square().sum(0), torch.ones(6))
    expected = mean(joint.epps_pulley(z @ a[:, k]).item() for k in range(6))
    agree(joint.sigreg(z, directions=a), expected)
    agree(joint.sigreg(z, slices=6, generator=torch.Generator().manual_seed(2)), expected)
    agree(joint.sigreg(z.repeat(4, 1), directions=a), 4 * expected)  # same distribution, four times the samples
    rule = {"knots": 9, "t_max": 5.0}  # the paper's
    expected = mean(joint.epps_pulley(z @ a[:, k], **rule).item() for k in range(6))
    agree(joint.sigreg(z, directions=a, **rule), expected)
    agree(joint.lejepa([z, z], weight=1.0, directions=a, **rule).loss, expected)


def test_sigreg_sees_what_moments_miss_and_does_not_see_a_rotation():
    g = torch.Generator().manual_seed(0)
    gauss = draw(2000, 2)
    signs = torch.where(torch.rand(2000, 2, generator=g) < 0.5, -1.0, 1.0).to(F64)  # zero mean, unit covariance
    assert joint.sigreg(signs, generator=g) > 20 * joint.sigreg(gauss, generator=g)
    turn, _ = torch.linalg.qr(draw(2, 2, seed=5))
    a = joint.random_directions(2, 50, generator=g, dtype=F64)
    agree(joint.sigreg(gauss @ turn, directions=a), joint.sigreg(gauss, directions=turn @ a))


def test_lejepa_is_the_authors_minimal_code():
    views = [draw(10, 4, seed=s) for s in range(3)]
    a = joint.random_directions(4, 7, generator=torch.Generator().manual_seed(0), dtype=F64)
    proj = torch.stack(views)
    prediction = (proj.mean(0) - proj).square().mean()
    found = adds_up(joint.lejepa(views, weight=0.02, directions=a))
    agree(found.prediction, 0.98 * prediction)
    agree(found.gaussianity, 0.02 * mean(joint.sigreg(v, directions=a).item() for v in views))
    two = joint.lejepa(views, weight=0.0, targets=2, directions=a)
    agree(two.loss, (proj - (views[0] + views[1]) / 2).square().mean())
    leaves = [v.clone().requires_grad_() for v in views]  # the mean of the large views is no constant
    slope = torch.autograd.grad(joint.lejepa(leaves, weight=0.0, targets=1, directions=a).loss, leaves[0])[0]
    agree(slope, 2 * (2 * views[0] - views[1] - views[2]) / proj.numel())


# ---- time


def test_temporal_terms_by_hand():
    z = draw(2, 6, 3)
    found = adds_up(joint.temporal(z, slowness=0.5, linearity=2.0, curvature=3.0))
    steps = [[[b - a for a, b in zip(s[t], s[t + 1], strict=True)] for t in range(5)] for s in z.tolist()]
    agree(found.slowness, 0.5 * mean(dot(v, v) for s in steps for v in s))
    bends = [(s[t], s[t + 1]) for s in steps for t in range(4)]
    agree(found.linearity, 2 * mean(length([y - x for x, y in zip(a, b, strict=True)]) ** 2 for a, b in bends))
    agree(found.curvature, 3 * mean(1 - cosine(a, b) for a, b in bends))
    agree(joint.bend(z).mean(), mean(math.degrees(math.acos(cosine(a, b))) for a, b in bends))


def test_straight_lines_circles_and_walks():
    t = torch.arange(40, dtype=F64)[:, None]
    line = t * draw(1, 5) + draw(1, 5, seed=1)
    agree(joint.bend(line), 0.0, 1e-5)
    agree(joint.temporal(line, slowness=0.0, linearity=1.0, curvature=1.0).loss, 0.0)
    circle = torch.cat([(0.3 * t).cos(), (0.3 * t).sin()], -1)
    agree(joint.bend(circle), math.degrees(0.3), 1e-6)
    agree(joint.linear_predictability(circle), 1.0)  # z' = 2 cos(0.3) z − z''
    assert joint.bend(draw(20, 60, 200)).mean().item() == pytest.approx(120, abs=1)
    assert joint.bend(draw(20, 60, 200).cumsum(1)).mean().item() == pytest.approx(90, abs=1)
    assert joint.linear_predictability(draw(20, 60, 3)) < 0.02


def test_steps_of_length_0_have_no_slope_and_straight_lines_a_finite_one():
    z = draw(6, 3)
    z[3] = z[2]
    z.requires_grad_()
    found = joint.temporal(z, slowness=0.0, curvature=1.0)
    steps = [(b - a).tolist() for a, b in itertools.pairwise(z.detach())]
    expected = [1 - cosine(a, b) if any(a) and any(b) else 1.0 for a, b in itertools.pairwise(steps)]
    agree(found.loss.detach(), mean(expected))
    (slope,) = torch.autograd.grad(found.loss, z)
    assert slope.abs().max() < 10
    line = (torch.arange(5.0)[:, None] * torch.tensor([1.0, 2.0]) / 7).requires_grad_()
    (slope,) = torch.autograd.grad(joint.bend(line).sum(), line)
    assert slope.isfinite().all()
    assert joint.bend(line) < 1e-4  # in single precision, of which an arccos would keep half the digits
    there_and_back = torch.tensor([[0.0, 0.0], [1.0, 0.5], [0.0, 0.0]])
    agree(joint.bend(there_and_back).double(), 180.0, 1e-4)


def test_linear_predictability_is_ordinary_least_squares():
    from sklearn.linear_model import LinearRegression

    z = draw(3, 30, 2).cumsum(1)
    past = torch.cat([z[:, 1:-1], z[:, :-2]], -1).reshape(-1, 4).numpy()
    future = z[:, 2:].reshape(-1, 2).numpy()
    fitted = LinearRegression().fit(past, future).predict(past)
    expected = 1 - ((future - fitted) ** 2).sum() / ((future - future.mean(0)) ** 2).sum()
    agree(joint.linear_predictability(z), expected)


def test_a_frozen_film_is_refused_where_a_direction_is_needed():
    still = torch.ones(5, 2)
    assert joint.temporal(still, slowness=1.0, linearity=1.0).loss == 0
    with pytest.raises(ValueError, match="length 0"):
        joint.bend(still)
    with pytest.raises(ValueError, match="vary"):
        joint.linear_predictability(torch.ones(9, 2))


# ---- reuse


def test_the_losses_are_those_of_the_losses_package():
    x, y, same = draw(5, 2), draw(5, 2, seed=1), torch.tensor([True, False, True, False, True])
    energy = (x - y).norm(dim=-1)
    both = losses.square_square(torch.where(same, energy, 0), torch.where(same, math.inf, energy), 1.0)
    agree(joint.siamese_square_square(x, y, same).loss, both.mean() / 2)
    assert contrastive.losses is losses
