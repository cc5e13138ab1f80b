"""Sinkhorn–Knopp against optimal transport by another library, SwAV and DeepCluster against their formulas."""

import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.decomposition import PCA

from ebm_lib import joint

F64 = torch.float64


def draw(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def mean(values):
    values = list(values)
    return sum(values) / len(values)


@pytest.mark.parametrize(("B", "K"), [(6, 4), (4, 6), (5, 1), (1, 3)])
@pytest.mark.parametrize("epsilon", [0.1, 0.5])
def test_sinkhorn_is_pots_plan(B, K, epsilon):
    scores = draw(B, K).clamp(-1, 1)
    plan = ot.sinkhorn(
        np.full(B, 1 / B), np.full(K, 1 / K), -scores.numpy(), epsilon, method="sinkhorn_log",
        numItermax=100_000, stopThr=1e-13,
    )  # fmt: skip
    found = joint.sinkhorn(scores, epsilon=epsilon, iterations=3000)
    torch.testing.assert_close(found / B, torch.from_numpy(plan), rtol=1e-6, atol=1e-6)


def test_three_iterations_are_the_authors_three():
    scores = draw(8, 5).clamp(-1, 1)
    q = torch.exp(scores / 0.05).T
    q /= q.sum()
    for _ in range(3):
        q /= q.sum(1, keepdim=True) * 5
        q /= q.sum(0, keepdim=True) * 8
    torch.testing.assert_close(joint.sinkhorn(scores), (q * 8).T)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.floats(0.02, 3), st.integers(0, 1000))
def test_sinkhorns_marginals_and_symmetries(B, K, epsilon, seed):
    scores = draw(B, K, seed=seed).clamp(-1, 1)
    q = joint.sinkhorn(scores, epsilon=epsilon, iterations=2)
    assert (q >= 0).all()
    torch.testing.assert_close(q.sum(1), torch.ones(B, dtype=F64))  # exact after each iteration
    rows, columns = torch.randperm(B), torch.randperm(K)
    torch.testing.assert_close(
        joint.sinkhorn(scores[rows][:, columns], epsilon=epsilon, iterations=2), q[rows][:, columns]
    )
    # a price on a prototype changes nothing, and one on a sample neither once the iteration has converged
    priced = scores + draw(1, K, seed=seed + 2)
    torch.testing.assert_close(joint.sinkhorn(priced, epsilon=epsilon, iterations=2), q, rtol=1e-6, atol=1e-9)
    both = [joint.sinkhorn(s, epsilon=1.0, iterations=200) for s in (scores, priced + draw(B, 1, seed=seed + 1))]
    torch.testing.assert_close(*both, rtol=1e-6, atol=1e-9)


def test_a_tiny_epsilon_gives_the_best_matching_in_single_precision():
    from scipy.optimize import linear_sum_assignment

    scores = draw(6, 6).clamp(-1, 1)
    q = joint.sinkhorn(scores.float(), epsilon=2e-4, iterations=4000)  # exp(1/ε) would be infinite
    _, columns = linear_sum_assignment(scores.numpy(), maximize=True)
    assert q.argmax(1).tolist() == columns.tolist()
    assert q.max(1).values.min() > 0.95


@pytest.mark.parametrize("spread", [30.0, 80.0, 300.0])  # in units of ε: e⁻³⁰ is harmless, e⁻⁸⁰ to single precision not
def test_sums_and_sums_in_logarithms_are_the_same_iteration(spread):
    scores = torch.cat([draw(7, 5).clamp(-1, 1), torch.tensor([[1.0, 0, 0, 0, -1.0]], dtype=F64)])
    q = joint.sinkhorn(scores, epsilon=2 / spread)
    log_q = spread / 2 * scores
    for _ in range(3):
        log_q = log_q - log_q.logsumexp(0, keepdim=True) - math.log(5)
        log_q = log_q - log_q.logsumexp(1, keepdim=True) - math.log(8)
    torch.testing.assert_close(q, 8 * log_q.exp(), rtol=1e-9, atol=0)
    torch.testing.assert_close(joint.sinkhorn(scores.float(), epsilon=2 / spread).double(), q, rtol=1e-3, atol=1e-6)


def test_prototypes_share_the_batch_even_if_one_is_everybodys_favourite():
    scores = 0.1 * draw(40, 4) + torch.tensor([1.0, 0, 0, 0], dtype=F64)
    q = joint.sinkhorn(scores, iterations=300)
    torch.testing.assert_close(q.sum(0), torch.full((4,), 10.0, dtype=F64), rtol=1e-4, atol=1e-4)


def test_swav_is_its_equations_with_multi_crop():
    scores = [draw(6, 4, seed=s).clamp(-1, 1) for s in range(4)]
    tau, total, entropy = 0.2, 0.0, 0.0
    for a in range(2):
        q = joint.sinkhorn(scores[a], epsilon=0.1, iterations=1).tolist()
        entropy -= mean(sum(p * math.log(p) for p in row) for row in q) / 2
        for v in range(4):
            if v == a:
                continue
            for i in range(6):
                s = [x / tau for x in scores[v][i].tolist()]
                log_z = math.log(sum(math.exp(x) for x in s))
                total -= sum(q[i][k] * (s[k] - log_z) for k in range(4)) / 6 / (2 * 3)
    found = joint.swav(scores, assigned=2, temperature=tau, epsilon=0.1, iterations=1)
    assert found.loss.item() == pytest.approx(total, rel=1e-10)
    assert found.entropy.item() == pytest.approx(entropy, rel=1e-10)
    torch.testing.assert_close(found.entropy + found.divergence, found.loss)
    assert found.divergence > 0


def test_swavs_slope_is_predictions_minus_assignments():
    scores = [draw(6, 4, seed=s).clamp(-1, 1).requires_grad_() for s in range(3)]
    q = [joint.sinkhorn(s.detach()) for s in scores]
    slopes = torch.autograd.grad(joint.swav(scores, assigned=2, temperature=0.2).loss, scores)
    for v, slope in enumerate(slopes):
        p = (scores[v].detach() / 0.2).softmax(1)
        torch.testing.assert_close(slope, sum(p - q[a] for a in range(2) if a != v) / 0.2 / (2 * 2 * 6))


def test_targets_have_no_gradient():
    scores = draw(5, 3).requires_grad_()
    assert not joint.sinkhorn(scores).requires_grad
    old = [draw(4, 3, seed=k).requires_grad_() for k in range(2)]
    found = joint.swav([scores, scores.detach()], queue=old)
    assert not found.entropy.requires_grad
    assert torch.autograd.grad(found.loss, old, allow_unused=True) == (None, None)


def test_swav_in_lightlys_words():
    scores = [draw(6, 4, seed=s).clamp(-1, 1) for s in range(5)]

    def assigned(s):
        q = torch.exp(s / 0.05).T
        q /= q.sum()
        for _ in range(3):
            q /= 4 * q.sum(1, keepdim=True)
            q /= 6 * q.sum(0, keepdim=True)
        return 6 * q.T

    loss = 0.0
    for a in range(2):
        q = assigned(scores[a])
        others = [s for v, s in enumerate(scores) if v != a]
        loss -= sum((q * (s / 0.1).log_softmax(1)).sum(1).mean() for s in others) / len(others)
    torch.testing.assert_close(joint.swav(scores).loss, loss / 2)


def test_with_two_views_swav_is_the_papers_sum_halved():
    s, t = draw(5, 3).clamp(-1, 1), draw(5, 3, seed=1).clamp(-1, 1)
    ell = lambda q, s: -(joint.sinkhorn(q) * torch.log_softmax(s / 0.1, 1)).sum(1).mean()
    torch.testing.assert_close(joint.swav([s, t]).loss, (ell(s, t) + ell(t, s)) / 2)


def test_assignments_get_no_gradient_and_predictions_do():
    s, t = (draw(5, 3, seed=k).requires_grad_() for k in range(2))
    slope_s, slope_t = torch.autograd.grad(joint.swav([s, t], assigned=1).loss, (s, t))
    assert slope_s.abs().max() == 0  # the only assigned view predicts nothing
    assert slope_t.abs().max() > 0


def test_a_queue_takes_part_in_the_assignment_and_in_nothing_else():
    s, t, old = (
        draw(3, 5).clamp(-1, 1),
        draw(3, 5, seed=1).clamp(-1, 1),
        [draw(20, 5, seed=k).clamp(-1, 1) for k in (2, 3)],
    )
    found = joint.swav([s, t], queue=old)
    q = [joint.sinkhorn(torch.cat([v, m]))[:3] for v, m in zip((s, t), old, strict=True)]
    expected = -((q[0] * (t / 0.1).log_softmax(1)).sum() + (q[1] * (s / 0.1).log_softmax(1)).sum()) / 6
    torch.testing.assert_close(found.loss, expected)
    assert found.loss != joint.swav([s, t]).loss
    torch.testing.assert_close(found.entropy, torch.special.entr(torch.cat(q)).sum() / 6)


@pytest.mark.parametrize("epsilon", [0.05, 2e-4])  # sums, and sums in logarithms
def test_swavs_entropy_is_that_of_the_assignments(epsilon):
    scores = [draw(6, 4, seed=k).clamp(-1, 1).float() for k in range(2)]
    q = torch.cat([joint.sinkhorn(s, epsilon=epsilon) for s in scores])
    found = joint.swav(scores, epsilon=epsilon).entropy
    torch.testing.assert_close(found, torch.special.entr(q).sum() / 12, rtol=1e-5, atol=1e-6)


def test_scaling_vectors_stay_in_range_just_before_logarithms_take_over():
    for seed in range(20):
        scores = draw(9, 6, seed=seed).abs().pow(8)
        scores = (scores / scores.max()).float()  # spread over e⁻⁴³ to 1, in units of ε
        log_q = 43 * scores.double()
        for _ in range(50):
            log_q = log_q.log_softmax(0).log_softmax(1)
        q = joint.sinkhorn(scores, epsilon=1 / 43, iterations=50)
        torch.testing.assert_close(q.double(), log_q.exp(), rtol=0, atol=1e-5)


def test_prototypes_and_embeddings_are_normalised_at_each_call():
    """The trap: prototypes of free length, with which SwAV stays at ln K."""
    layer = joint.Prototypes(3, 4, generator=torch.Generator().manual_seed(0), dtype=F64)
    z = draw(6, 3)
    before = layer(z)
    expected = torch.cosine_similarity(z[:, None], layer.W.detach()[None], dim=-1)
    torch.testing.assert_close(before, expected)
    with torch.no_grad():
        layer.W.mul_(torch.tensor([1e-3, 1.0, 10.0, 1e3], dtype=F64)[:, None])
    torch.testing.assert_close(layer(7 * z), before)


def test_training_with_swav_leaves_ln_k_behind():
    g = torch.Generator().manual_seed(0)
    x = torch.nn.functional.normalize(torch.randn(60, 5, generator=g, dtype=F64), dim=-1)
    layer = joint.Prototypes(5, 12, generator=g, dtype=F64)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    losses = []
    for _ in range(60):
        noisy = [layer(x + 0.05 * torch.randn(60, 5, generator=g, dtype=F64)) for _ in range(2)]
        loss = joint.swav(noisy).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * math.log(12)
    # all prototypes equal: the loss cannot be other than ln K
    assert joint.swav([torch.zeros(6, 12), torch.zeros(6, 12)]).loss.item() == pytest.approx(math.log(12), rel=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_deepcluster_is_a_weighted_cross_entropy(weighted):
    logits, codes = draw(7, 3), torch.tensor([0, 2, 2, 2, 1, 2, 2])
    counts = torch.tensor([10, 5, 85]) if weighted else None
    found = joint.deepcluster(logits, codes, counts)
    total = weight = pull = 0.0
    for s, k in zip(logits.tolist(), codes.tolist(), strict=True):
        w = 1 / counts[k].item() if weighted else 1.0
        total += w * (math.log(sum(math.exp(v) for v in s)) - s[k])
        pull -= w * s[k]
        weight += w
    assert found.loss.item() == pytest.approx(total / weight, rel=1e-10)
    assert found.positive.item() == pytest.approx(pull / weight, rel=1e-10)
    torch.testing.assert_close(found.loss, found.positive + found.negative)


def test_codes_may_be_any_whole_numbers():
    logits, codes, counts = draw(4, 3), torch.tensor([0, 2, 2, 1]), torch.tensor([4, 5, 6])
    assert joint.deepcluster(logits, codes.to(torch.uint8), counts) == joint.deepcluster(logits, codes, counts)


def test_assign_keeps_the_leading_directions():
    g = torch.Generator().manual_seed(0)
    truth = torch.arange(300) % 4
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=F64)
    turn, _ = torch.linalg.qr(draw(5, 5, seed=3))
    leading = 20 * corners[truth] * torch.tensor([1.0, 3.0]) + draw(300, 2, seed=5) * torch.tensor([5.0, 2.0])
    y = torch.cat([leading, draw(300, 3, seed=4)], 1) @ turn
    found = joint.assign(y, 4, dimensions=2, generator=g)
    white = PCA(2, whiten=True).fit_transform(y.numpy())
    white /= np.linalg.norm(white, axis=1, keepdims=True)
    reference = SklearnKMeans(4, n_init=20, random_state=0).fit(white)
    assert found.energy == pytest.approx(reference.inertia_ / 300, rel=1e-9)
    assert all(len(found.codes[truth == k].unique()) == 1 for k in range(4))
    assert joint.assign(y, 4, generator=torch.Generator().manual_seed(0)).energy > 0.1  # the noise counts as much there


def test_assigning_is_a_function_of_the_seed_and_follows_the_dtype():
    y = draw(60, 3)
    one, same, other = (joint.assign(y, 6, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(one.codes, same.codes)
    assert not torch.equal(one.codes, other.codes)
    few = joint.assign(y, 6, rounds=1, generator=torch.Generator().manual_seed(0))
    assert few.energy > one.energy
    single = joint.assign(y.float(), 6, generator=torch.Generator().manual_seed(0))
    assert single.energy == pytest.approx(one.energy, rel=1e-3)


def test_assign_clusters_like_scikit_learn_in_the_whitened_space():
    g = torch.Generator().manual_seed(0)
    centres = 6 * torch.randn(5, 4, generator=g, dtype=F64)
    truth = torch.arange(200) % 5
    y = centres[truth] * torch.tensor([1.0, 10.0, 0.1, 1.0], dtype=F64) + 0.05 * torch.randn(
        200, 4, generator=g, dtype=F64
    )
    found = joint.assign(y, 5, generator=g)
    white = PCA(whiten=True).fit_transform(y.numpy())
    white /= np.linalg.norm(white, axis=1, keepdims=True)
    reference = SklearnKMeans(5, n_init=20, random_state=0).fit(white)
    assert found.energy == pytest.approx(reference.inertia_ / 200, rel=1e-3)
    assert found.counts.tolist() == torch.bincount(found.codes, minlength=5).tolist()


def test_assign_leaves_no_cluster_empty():
    y = torch.cat([torch.zeros(50, 2), torch.ones(50, 2)]) + 1e-3 * draw(100, 2).float()
    assert joint.assign(y, 10, generator=torch.Generator().manual_seed(0)).counts.min() > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: joint.swav([torch.zeros(3, 2)]), "at least two views"),
        (lambda: joint.swav([torch.zeros(3, 2)] * 2, assigned=3), "assigned"),
        (lambda: joint.swav([torch.zeros(3, 2), torch.zeros(3, 4)]), "shape"),
        (lambda: joint.swav([torch.zeros(3, 2)] * 2, queue=[torch.zeros(3, 2)]), "queue"),
        (lambda: joint.swav([torch.zeros(3, 2)] * 2, assigned=0), "assigned"),
        (lambda: joint.swav([torch.zeros(3, 2)] * 2, queue=[torch.zeros(3, 2), torch.zeros(4, 2)]), "queue"),
        (lambda: joint.swav([torch.zeros(3, 2)] * 2, queue=[torch.zeros(3, 2), torch.zeros(3, 2) / 0]), "queue"),
        (lambda: joint.swav([torch.zeros(3, 2)] * 2, queue=[torch.zeros(3, 2).long()] * 2), "queue"),
        (lambda: joint.swav([torch.zeros(3, 2)] * 2, queue=[torch.zeros(0, 2)] * 2), "queue"),
        (lambda: joint.swav([torch.zeros(3, 2)] * 2, temperature=0.0), "temperature"),
        (lambda: joint.swav([torch.zeros(3, 2)] * 2, temperature=1e-45), "temperature"),
        (lambda: joint.sinkhorn(torch.zeros(3, 2), epsilon=1e-45), "epsilon"),
        (lambda: joint.sinkhorn(torch.zeros(3, 2), epsilon=0.0), "epsilon"),
        (lambda: joint.sinkhorn(torch.full((3, 2), math.nan)), "finite"),
        (lambda: joint.sinkhorn(torch.zeros(3, 2), iterations=0), "iterations"),
        (lambda: joint.deepcluster(torch.zeros(2, 3), torch.tensor([0, 3])), "codes"),
        (lambda: joint.deepcluster(torch.zeros(2, 3), torch.tensor([-1, 0])), "codes"),
        (
            lambda: joint.deepcluster(torch.zeros(2, 3), torch.tensor([0, 1]), torch.tensor([1.0, 1.0, math.nan])),
            "finite",
        ),
        (lambda: joint.deepcluster(torch.zeros(2, 3), torch.tensor([0.0, 1.0])), "codes"),
        (lambda: joint.deepcluster(torch.zeros(2, 3), torch.tensor([0, 1]), torch.tensor([0, 1, 1])), "counts"),
        (lambda: joint.Prototypes(2, 3)(torch.zeros(2, 2)), "length 0"),
        (lambda: joint.Prototypes(2, 3)(torch.zeros(2, 5)), "2 dimensions"),
        (lambda: joint.assign(torch.zeros(3, 2), 4), "vary"),
        (lambda: joint.assign(torch.eye(3), 2, dimensions=4), "dimensions"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
