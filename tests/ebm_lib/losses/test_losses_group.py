"""Group losses against many-digit arithmetic, released formulas, metric-learning, and what their optimum must be."""

import itertools
import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import distances, reducers
from pytorch_metric_learning import losses as pml

from ebm_lib import losses

F64 = torch.float64
mpmath.mp.dps = 60  # enough digits for exp(-1e10) beside 1


def slopes(loss, *energies):
    leaves = [e.detach().clone().requires_grad_() for e in energies]
    value = loss(*leaves)
    return value.detach(), torch.autograd.grad(value.sum(), leaves)


def agree(actual, expected, tol=1e-10):
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=F64), rtol=tol, atol=tol)


def weights(values, beta):
    return [mpmath.exp(-mpmath.mpf(beta) * mpmath.mpf(v)) for v in values if v != math.inf]


def nca_by_hand(p, n, beta):
    total = mpmath.fsum(weights(p + n, beta))
    right = mpmath.fsum(weights(p, beta))
    share = 1 - right / total
    up = [0.0 if v == math.inf else float(beta * weights([v], beta)[0] / right * share) for v in p]
    down = [0.0 if v == math.inf else float(-beta * weights([v], beta)[0] / total) for v in n]
    return float(-mpmath.log(right / total)), up, down


def hard_by_hand(p, n, beta, h, rho, highest):
    """The paper's equation in plain numbers, with N times the estimate in place of the sum over negatives."""
    here, terms = weights([p], beta)[0], weights(n, beta)
    w = [t**h for t in terms]
    g = (mpmath.fsum(a * t for a, t in zip(w, terms, strict=True)) / mpmath.fsum(w) - rho * here) / (1 - rho)
    floor = weights([highest], beta)[0] if highest != math.inf else mpmath.mpf(0)
    return -mpmath.log(here / (here + len(n) * max(g, floor)))


def draw(seed, p=3, n=5, scale=2.0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(4, p, generator=g, dtype=F64) * scale, torch.randn(4, n, generator=g, dtype=F64) * scale


@pytest.mark.parametrize("beta", [0.2, 1.0, 6.0])
@pytest.mark.parametrize("seed", range(4))
def test_nca_and_info_nce_equal_a_hand_computation(seed, beta):
    p, n = draw(seed)
    value, (up, down) = slopes(lambda p, n: losses.nca(p, n, beta), p, n)
    single, (up1, down1) = slopes(lambda p, n: losses.info_nce(p, n, beta), p[:, 0], n)
    for row in range(4):
        expected, on_positive, on_negative = nca_by_hand(p[row].tolist(), n[row].tolist(), beta)
        agree(value[row], expected)
        agree(up[row], on_positive)
        agree(down[row], on_negative)
        expected, on_positive, on_negative = nca_by_hand(p[row, :1].tolist(), n[row].tolist(), beta)
        agree(single[row], expected)
        agree(up1[row], on_positive[0])
        agree(down1[row], on_negative)


@pytest.mark.parametrize("beta", [1e-4, 1.0, 1e4])
def test_extremes_of_energy_and_temperature(beta):
    levels = [-1e6, 0.0, 1e-6, 1e6]
    for p, n in itertools.product(levels, itertools.combinations_with_replacement(levels, 2)):
        positive, negative = torch.tensor([p], dtype=F64), torch.tensor([n], dtype=F64)
        expected, on_positive, on_negative = nca_by_hand([p], list(n), beta)
        for loss, first in ((losses.info_nce, positive), (losses.nca, positive[:, None])):
            value, (up, down) = slopes(lambda p, n, loss=loss: loss(p, n, beta), first, negative)
            agree(value[0], expected, 1e-9)
            agree(up.flatten(), on_positive, 1e-9)
            agree(down[0], on_negative, 1e-9)
        for h, rho in ((0.0, 0.0), (2.0, 0.0), (1.0, 0.1)):
            loss = lambda p, n, h=h, rho=rho: losses.hard_negative_info_nce(p, n, beta, hardness=h, class_prior=rho)
            value, (up, down) = slopes(loss, positive, negative)
            agree(value[0], float(hard_by_hand(p, n, beta, h, rho, math.inf)), 1e-9)
            assert torch.isfinite(up).all()
            assert torch.isfinite(down).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-20, 20), min_size=1, max_size=4),
    st.lists(st.floats(-20, 20), min_size=1, max_size=6),
    st.floats(0.05, 20),
    st.floats(-50, 50),
)
def test_identities_over_random_groups(p, n, beta, shift):
    positive, negative = torch.tensor(p, dtype=F64), torch.tensor(n, dtype=F64)
    loss, (up, down) = slopes(lambda p, n: losses.nca(p, n, beta), positive, negative)
    tol = 1e-11 * (1 + beta * 100)
    assert loss >= 0
    assert (up >= 0).all()
    assert (down <= 0).all()
    assert abs(up.sum() + down.sum()) <= tol  # a constant in the energy changes nothing
    torch.testing.assert_close(losses.nca(positive + shift, negative + shift, beta), loss, rtol=tol, atol=tol)
    torch.testing.assert_close(losses.nca(beta * positive, beta * negative), loss, rtol=tol, atol=tol)
    # the positives and the negatives share one unit of probability
    swapped = losses.nca(negative, positive, beta)
    assert abs(math.exp(-loss) + math.exp(-swapped) - 1) <= 1e-9
    # leaving an entry out with +inf is leaving it out
    padded = losses.nca(
        torch.cat([positive, torch.tensor([math.inf])]), torch.cat([torch.tensor([math.inf]), negative]), beta
    )
    assert padded.item() == pytest.approx(loss.item(), rel=1e-12, abs=1e-12)


def test_entries_left_out_are_not_pushed():
    p, n = torch.tensor([[0.0, math.inf]], dtype=F64), torch.tensor([[math.inf, 1.0]], dtype=F64)
    value, (up, down) = slopes(losses.nca, p, n)
    expected, on_positive, on_negative = nca_by_hand([0.0], [1.0], 1.0)
    agree(value[0], expected)
    agree(up[0], [*on_positive, 0.0])
    agree(down[0], [0.0, *on_negative])
    _, (_, all_out) = slopes(losses.info_nce, p[:, 0], torch.full((1, 2), math.inf, dtype=F64))
    assert all_out.tolist() == [[0.0, 0.0]]


def test_special_cases_of_one_another():
    p, n = draw(9)
    one = p[:, 0]
    torch.testing.assert_close(losses.nca(p[:, :1], n, 2.0), losses.info_nce(one, n, 2.0))
    torch.testing.assert_close(losses.info_nce(one, n[:, :1]), losses.log_loss(one, n[:, 0]))
    torch.testing.assert_close(losses.hard_negative_info_nce(one, n, 2.0, hardness=0.0), losses.info_nce(one, n, 2.0))
    hardest = losses.info_nce(one, n.amin(-1, keepdim=True).expand(-1, 5), 2.0)
    torch.testing.assert_close(losses.hard_negative_info_nce(one, n, 2.0, hardness=1e4), hardest, rtol=1e-6, atol=1e-6)
    joined = losses.join(one, n)
    torch.testing.assert_close(
        losses.general_margin(losses.hinge, one, n, 1.5), losses.all_outputs_hinge(*joined, margin=1.5)
    )
    torch.testing.assert_close(
        losses.group_margin(losses.simple, p[:, :1], n), losses.general_margin(losses.simple, one, n)
    )


@pytest.mark.parametrize("loss", [losses.hinge, losses.simple, losses.square_square])
def test_general_and_group_margin_losses_are_sums_over_pairs_with_their_margins(loss):
    p, n = draw(10)
    g = torch.Generator().manual_seed(10)
    margins = torch.rand(4, 3, 5, generator=g, dtype=F64) * 4
    for row in range(4):
        total = 0.0
        for i in range(3):
            part = sum(loss(p[row, i], n[row, j], margins[row, i, j].item()).item() for j in range(5))
            total += part
            ours = losses.general_margin(loss, p[row, i], n[row], margins[row, i])
            assert ours.item() == pytest.approx(part, rel=1e-12)
        assert losses.group_margin(loss, p, n, margins)[row].item() == pytest.approx(total, rel=1e-12)
        shared = losses.group_margin(loss, p, n, margins[0])[row].item()
        assert shared == pytest.approx(losses.group_margin(loss, p[row], n[row], margins[0]).item(), rel=1e-12)


@pytest.mark.parametrize(
    ("h", "rho", "highest"), list(itertools.product([0.0, 0.5, 3.0], [0.0, 0.1, 0.6], [1.0, math.inf]))
)
def test_hard_negatives_by_hand_with_slopes_by_finite_differences(h, rho, highest):
    g = torch.Generator().manual_seed(11)
    p, n = torch.rand(3, generator=g, dtype=F64) * 2 - 1, torch.rand(3, 4, generator=g, dtype=F64) * 2 - 1
    loss = lambda p, n: losses.hard_negative_info_nce(p, n, 2.0, hardness=h, class_prior=rho, highest=highest)
    value, (up, down) = slopes(loss, p, n)
    at = lambda a, b: hard_by_hand(a, b, 2.0, h, rho, highest)
    step = mpmath.mpf("1e-20")
    for row, (a, b) in enumerate(zip(p.tolist(), n.tolist(), strict=True)):
        agree(value[row], float(at(a, b)))
        agree(up[row], float((at(mpmath.mpf(a) + step, b) - at(mpmath.mpf(a) - step, b)) / (2 * step)))
        for j in range(4):
            above, below = ([mpmath.mpf(x) + (k == j) * d for k, x in enumerate(b)] for d in (step, -step))
            agree(down[row, j], float((at(a, above) - at(a, below)) / (2 * step)))
    if rho == 0:  # the closed form of the docstring
        q, w = torch.softmax(-2 * (1 + h) * n, -1), torch.softmax(-2 * h * n, -1)
        torch.testing.assert_close(down, -2 * (1 - torch.exp(-value))[:, None] * ((1 + h) * q - h * w))


@pytest.mark.parametrize(("h", "rho"), [(1.0, 0.1), (0.5, 0.0), (0.0, 0.3)])
def test_hard_negatives_equal_the_authors_formula_on_embeddings(h, rho):
    # Robinson et al.'s released criterion: temperature t, similarities of unit vectors, both views are anchors.
    g = torch.Generator().manual_seed(12)
    out = torch.nn.functional.normalize(torch.randn(12, 4, generator=g, dtype=F64), dim=-1)
    t, batch = 0.5, 6
    mask = (torch.arange(12)[:, None] - torch.arange(12)) % batch != 0
    partner = torch.arange(12).roll(batch)

    def theirs(out):
        neg = torch.exp(out @ out.T / t).masked_select(mask).view(12, -1)
        pos = torch.exp((out * out[partner]).sum(-1) / t)
        count = 2 * batch - 2
        importance = (h * neg.log()).exp()
        reweighted = (importance * neg).sum(-1) / importance.mean(-1)
        estimate = (-rho * count * pos + reweighted) / (1 - rho)
        return -torch.log(pos / (pos + torch.clamp(estimate, min=count * math.e ** (-1 / t))))

    def ours(out):
        energy = -(out @ out.T)
        positive, negative = -(out * out[partner]).sum(-1), energy.masked_select(mask).view(12, -1)
        return losses.hard_negative_info_nce(positive, negative, 1 / t, hardness=h, class_prior=rho, highest=1.0)

    torch.testing.assert_close(slopes(ours, out), slopes(theirs, out), rtol=1e-10, atol=1e-10)


def test_a_debiased_estimate_below_its_floor_is_held_there():
    p, n = torch.tensor([-1.0], dtype=F64), torch.tensor([[0.9, 0.8]], dtype=F64)  # mostly false negatives, it seems
    held = lambda p, n: losses.hard_negative_info_nce(p, n, 3.0, hardness=0.0, class_prior=0.5, highest=1.0)
    value, (up, down) = slopes(held, p, n)
    agree(value[0], math.log1p(2 * math.exp(-3.0) / math.exp(3.0)))
    assert down.tolist() == [[0.0, 0.0]]
    assert up.item() == pytest.approx(3 * (1 - math.exp(-value.item())))
    value, (up, down) = slopes(
        lambda p, n: losses.hard_negative_info_nce(p, n, 3.0, hardness=0.0, class_prior=0.5), p, n
    )
    assert (value.item(), up.item(), down.tolist()) == (0.0, 0.0, [[0.0, 0.0]])


def test_flat_energies_cost_what_the_docstrings_say():
    p, n = torch.full((1, 2), 0.7, dtype=F64), torch.full((1, 6), 0.7, dtype=F64)
    assert losses.info_nce(p[:, 0], n, 3.0).item() == pytest.approx(math.log(7))
    assert losses.nca(p, n, 3.0).item() == pytest.approx(math.log(4))
    for h, rho in itertools.product((0.0, 2.0), (0.0, 0.4)):
        cost = losses.hard_negative_info_nce(p[:, 0], n, 3.0, hardness=h, class_prior=rho, highest=1.0).item()
        assert cost == pytest.approx(math.log(7))


@pytest.mark.parametrize("beta", [0.3, 1.0, 2.0])
def test_info_nce_and_nca_equal_pytorch_metric_learning_on_squared_distances(beta):
    g = torch.Generator().manual_seed(13)
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    embeddings = torch.randn(7, 3, generator=g, dtype=F64)
    squared = distances.LpDistance(normalize_embeddings=False, p=2, power=2)
    same = (labels[:, None] == labels) & ~torch.eye(7, dtype=torch.bool)
    other = labels[:, None] != labels

    def energies(x):
        return (x[:, None] - x[None]).square().sum(-1)

    def ours_info_nce(x):
        a, p = torch.where(same)
        negatives = energies(x)[a].masked_fill(~other[a], math.inf)
        return losses.info_nce(energies(x)[a, p], negatives, beta).sum()

    def ours_nca(x):
        d = energies(x)
        return losses.nca(d.masked_fill(~same, math.inf), d.masked_fill(~other, math.inf), beta).sum()

    def total(loss, x):
        leaf = x.clone().requires_grad_()
        value = loss(leaf)
        return value.detach(), torch.autograd.grad(value, leaf)[0]

    ntxent = pml.NTXentLoss(temperature=1 / beta, distance=squared, reducer=reducers.SumReducer())
    nca = pml.NCALoss(softmax_scale=beta, distance=squared, reducer=reducers.SumReducer())
    for ours, theirs in ((ours_info_nce, ntxent), (ours_nca, nca)):
        expected = total(lambda x, theirs=theirs: theirs(x, labels), embeddings)
        torch.testing.assert_close(total(ours, embeddings), expected, rtol=1e-6, atol=1e-6)
        assert expected[0] > 1


def nce_by_hand(p, n, c, log_p, log_n, beta, ratio):
    def log_h(f, log_noise, sign):
        g = -beta * f - c - log_noise - math.log(ratio)
        return -math.log1p(math.exp(-sign * g))

    return -log_h(p, log_p, 1) - ratio / len(n) * sum(log_h(f, q, -1) for f, q in zip(n, log_n, strict=True))


@pytest.mark.parametrize("ratio", [None, 1.0, 0.3, 7.0])
def test_nce_equals_a_hand_computation(ratio):
    g = torch.Generator().manual_seed(14)
    p, log_p = torch.randn(2, 4, generator=g, dtype=F64)
    n, log_n = torch.randn(2, 4, 3, generator=g, dtype=F64)
    c = torch.tensor(0.4, dtype=F64)

    def loss(p, n, c):
        return losses.nce(p, n, c, log_noise_positive=log_p, log_noise_negative=log_n, beta=1.5, ratio=ratio)

    value, (up, down, on_c) = slopes(loss, p, n, c)
    nu = 3.0 if ratio is None else ratio
    for row in range(4):
        args = (n[row].tolist(), 0.4, log_p[row].item(), log_n[row].tolist(), 1.5, nu)
        agree(value[row], nce_by_hand(p[row].item(), *args))
    h_data = torch.sigmoid(-1.5 * p - c - log_p - math.log(nu))
    h_noise = torch.sigmoid(-1.5 * n - c - log_n - math.log(nu))
    torch.testing.assert_close(up, 1.5 * (1 - h_data))
    torch.testing.assert_close(down, -1.5 * nu / 3 * h_noise)
    torch.testing.assert_close(on_c, (up.sum() + down.sum()) / 1.5)
    per_x = losses.nce(
        p, n, c.expand(4) + 0.0, log_noise_positive=log_p, log_noise_negative=log_n, beta=1.5, ratio=ratio
    )
    torch.testing.assert_close(per_x, value)
    as_number = losses.nce(p, n, 0.4, log_noise_positive=log_p, log_noise_negative=log_n, beta=1.5, ratio=ratio)
    torch.testing.assert_close(as_number, value)


@pytest.mark.parametrize("ratio", [1.0, 4.0])
def test_nce_learns_the_energy_and_its_normaliser(ratio):
    # Exact expectations over eight states: the optimum is F = -log p - c with c = log Z, whatever the noise.
    g = torch.Generator().manual_seed(15)
    p, q = torch.softmax(torch.randn(2, 8, generator=g, dtype=F64), -1)
    offsets = torch.zeros(8, dtype=F64, requires_grad=True)
    c = torch.zeros((), dtype=F64, requires_grad=True)
    pinned = lambda: torch.cat([offsets[:1] * 0 + 0.5, offsets[1:]])  # F at state 0 is fixed, so that Z is determined

    def expected_loss():
        f = pinned()
        values = losses.nce(
            f[:, None].expand(8, 8),
            f.expand(8, 8).unsqueeze(-1),
            c,
            log_noise_positive=q.log()[:, None].expand(8, 8),
            log_noise_negative=q.log().expand(8, 8).unsqueeze(-1),
            ratio=ratio,
        )
        return (p[:, None] * q * values).sum()

    optimizer = torch.optim.LBFGS(
        [offsets, c], max_iter=300, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = expected_loss()
        loss.backward()
        return loss

    optimizer.step(closure)
    energy = pinned().detach()
    torch.testing.assert_close(energy, -p.log() + p[0].log() + 0.5, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(c.detach(), torch.logsumexp(-energy, 0), rtol=1e-5, atol=1e-5)
    # at the optimum the loss is that of the best classifier, by hand
    best = -(p * (p / (p + ratio * q)).log()).sum() - ratio * (q * (ratio * q / (p + ratio * q)).log()).sum()
    torch.testing.assert_close(expected_loss().detach(), best, rtol=1e-9, atol=1e-9)


def test_the_optimum_of_info_nce_is_the_density_ratio_up_to_a_factor_of_x():
    g = torch.Generator().manual_seed(16)
    joint = torch.softmax(torch.randn(12, generator=g, dtype=F64), -1).reshape(3, 4)
    marginal = joint.sum(0)
    ratio = joint / joint.sum(1, keepdim=True) / marginal
    factor = torch.tensor([0.2, 1.0, 7.0], dtype=F64)  # c(x), any

    def gradient(energy):
        energy = energy.detach().requires_grad_()
        y, first, second = torch.meshgrid(*[torch.arange(4)] * 3, indexing="ij")
        values = losses.info_nce(energy[:, y], torch.stack([energy[:, first], energy[:, second]], -1))
        total = (joint[:, y] * marginal[first] * marginal[second] * values).sum()
        return torch.autograd.grad(total, energy)[0]

    assert gradient(-(factor[:, None] * ratio).log()).abs().max() < 1e-15
    assert gradient(-(joint / joint.sum(1, keepdim=True)).log()).abs().max() > 1e-3  # p(y|x) itself is not


def test_second_derivatives():
    p, n = draw(17)
    p, n = p[:2, :2].clone().requires_grad_(), n[:2, :3].clone().requires_grad_()
    hard = lambda p, n: losses.hard_negative_info_nce(p[:, 0], n, 0.7, hardness=0.5, class_prior=0.05, highest=9.0)
    log = torch.zeros(2, dtype=F64)
    nce = lambda p, n: losses.nce(p[:, 0], n, 0.1, log_noise_positive=log, log_noise_negative=log[:, None].expand(2, 3))
    for loss in (losses.nca, lambda p, n: losses.info_nce(p[:, 0], n), hard, nce):
        assert torch.autograd.gradcheck(loss, (p, n))
        assert torch.autograd.gradgradcheck(loss, (p, n))


def test_rounding_does_not_carry_nca_below_zero():
    g = torch.Generator().manual_seed(0)
    positive, negative = torch.randn(20_000, 5, generator=g), 15 + torch.randn(20_000, 5, generator=g)
    value, slope = slopes(losses.nca, positive, negative)
    assert value.min() == 0
    assert value.max() > 0
    assert (slope[1] < 0).all()


p2, n23 = torch.zeros(2), torch.zeros(2, 3)


def noise(p=p2, n=n23, c=0.0, log_p=p2, log_n=n23, **kwargs):
    return losses.nce(p, n, c, log_noise_positive=log_p, log_noise_negative=log_n, **kwargs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.info_nce(p2, torch.zeros(2, 0)), "negative must have at least one entry along dimension -1"),
        (
            lambda: losses.info_nce(p2, torch.zeros(3)),
            r"\(..., N\) for a positive of shape \(...\), got \(3,\) for \(2,\)",
        ),
        (lambda: losses.info_nce(p2, torch.zeros(3, 2)), r"got \(3, 2\) for \(2,\)"),
        (lambda: losses.info_nce(p2, n23, 0.0), "beta must be a positive number, got 0"),
        (lambda: losses.info_nce(p2 + math.inf, n23), "positive must be finite"),
        (lambda: losses.info_nce(p2, n23 - math.inf), r"negative must be finite or \+inf"),
        (lambda: losses.nca(n23, n23, math.inf), "beta must be a positive finite number"),
        (lambda: losses.nca(n23 + math.inf, n23), "positive must have a finite energy in every group"),
        (
            lambda: losses.nca(torch.tensor([[0.0], [math.inf]]), n23),
            "positive must have a finite energy in every group",
        ),
        (lambda: losses.nca(torch.zeros(2, 0), n23), "positive must have at least one entry"),
        (lambda: losses.nca(torch.zeros(3, 1), n23), r"same leading shape.*got \(3, 1\) and \(2, 3\)"),
        (lambda: losses.general_margin(losses.hinge, p2, torch.zeros(3, 3)), "a group for each positive"),
        (lambda: losses.general_margin(losses.hinge, p2, n23, torch.ones(2, 2)), r"\(2, 3\), got \(2, 2\)"),
        (lambda: losses.general_margin(lambda p, n, m: p.sum(), p2, n23), r"per pair, shape \(2, 3\), got \(\)"),
        (lambda: losses.group_margin(losses.hinge, n23, n23, torch.ones(3)[None, None, None]), r"\(2, 3, 3\), got"),
        (lambda: losses.group_margin(losses.hinge, n23, n23, -1.0), "margin must be finite and at least 0"),
        (lambda: losses.group_margin(lambda p, n, m: p, n23, n23), r"shape \(2, 3, 3\), got \(2, 3, 1\)"),
        (lambda: losses.group_margin(losses.hinge, torch.zeros(2, 0), n23), "positive must have at least one entry"),
        (lambda: losses.hard_negative_info_nce(p2, n23 + math.inf), "negative must be finite: 6 of 6"),
        (lambda: losses.hard_negative_info_nce(p2, n23, hardness=-0.1), "hardness must be finite and at least 0"),
        (lambda: losses.hard_negative_info_nce(p2, n23, hardness=math.inf), "hardness must be finite and at least 0"),
        (lambda: losses.hard_negative_info_nce(p2, n23, class_prior=1.0), r"class_prior must be in \[0, 1\), got 1"),
        (lambda: losses.hard_negative_info_nce(p2, n23, class_prior=-0.1), r"class_prior must be in \[0, 1\)"),
        (lambda: losses.hard_negative_info_nce(p2, n23, highest=math.nan), "highest must be an upper bound"),
        (lambda: noise(n=torch.zeros(2, 0)), "negative must have at least one entry"),
        (lambda: noise(n=n23 + math.inf), "negative must be finite: 6 of 6"),
        (
            lambda: noise(log_p=torch.zeros(3)),
            r"log_noise_positive must hold one number per energy, \(2,\), got \(3,\)",
        ),
        (lambda: noise(log_n=torch.zeros(2, 1)), r"log_noise_negative must hold one number per energy, \(2, 3\)"),
        (lambda: noise(log_p=p2 - math.inf), "log_noise_positive must be finite"),
        (lambda: noise(c=torch.zeros(3)), r"log_partition must broadcast to the shape of positive, \(2,\), got \(3,\)"),
        (lambda: noise(c=torch.zeros(1, 2)), r"\(2,\), got \(1, 2\)"),
        (lambda: noise(c=torch.zeros(1, 1)), r"\(2,\), got \(1, 1\)"),
        (lambda: noise(c=math.nan), "log_partition must be finite"),
        (lambda: noise(ratio=0.0), "ratio must be a positive number, got 0"),
        (lambda: noise(beta=-1.0), "beta must be a positive number, got -1"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call()
