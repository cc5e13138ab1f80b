"""Measures and probes against closed forms, loops and scikit-learn."""

import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ebm_lib import joint

F64 = torch.float64


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def blobs(n=300, D=5, classes=3, seed=0, apart=1.0):
    labels = torch.arange(n) % classes
    centres = apart * draw(classes, D, seed=99)
    return centres[labels] + draw(n, D, seed=seed), labels


# ---- measures


def test_effective_rank_of_known_spectra():
    u, _ = torch.linalg.qr(draw(12, 6))
    v, _ = torch.linalg.qr(draw(6, 6, seed=1))
    for sigma in ([1.0] * 6, [1.0, 1.0, 0, 0, 0, 0], [8.0, 4.0, 2.0, 1.0, 0.5, 0.1]):
        s = torch.tensor(sigma, dtype=F64)
        p = [x / sum(sigma) for x in sigma if x > 0]
        expected = math.exp(-sum(q * math.log(q) for q in p))
        torch.testing.assert_close(joint.effective_rank(u * s @ v), torch.tensor(expected, dtype=F64))
    assert joint.effective_rank(torch.zeros(5, 3)) == 0


def test_effective_rank_agrees_with_rankme_and_centring_removes_the_mean():
    z = draw(200, 8)
    p = torch.linalg.svdvals(z)
    p = p / p.sum() + 1e-7
    assert joint.effective_rank(z).item() == pytest.approx((-(p * p.log()).sum()).exp().item(), rel=1e-5)
    torch.testing.assert_close(joint.effective_rank(z + 1e3, center=True), joint.effective_rank(z - z.mean(0)))
    assert joint.effective_rank(z + 1e3) < 1.2
    for n in range(2, 40):  # for some of which the mean is off in its last digit
        assert joint.effective_rank(torch.full((n, 4), 0.1, dtype=F64), center=True) == 0


def test_effective_rank_of_single_precision_is_reckoned_in_double():
    z = (draw(300, 6) + 1e5).float()
    assert joint.effective_rank(z, center=True).item() == pytest.approx(5.98, abs=0.02)


def test_spread_is_the_sample_standard_deviation_and_relative_spread_has_no_scale():
    z = draw(40, 3) * torch.tensor([1.0, 5.0, 0.0], dtype=F64) + 2
    torch.testing.assert_close(joint.spread(z), z.std(0, correction=1))
    expected = math.sqrt((z - z.mean(0)).square().sum() / z.square().sum())
    for scale in (1e-200, 1.0, 1e200):
        assert joint.relative_spread(scale * z).item() == pytest.approx(expected, rel=1e-12)
    assert joint.relative_spread(torch.zeros(3, 2)) == 0
    assert joint.relative_spread(torch.ones(3, 2)) == 0


def test_alignment_and_uniformity_in_loops():
    x, y = draw(7, 3), draw(7, 3, seed=1)
    unit = lambda v: [a / math.sqrt(sum(b * b for b in v)) for a in v]
    xs, ys = [unit(v) for v in x.tolist()], [unit(v) for v in y.tolist()]
    gap = lambda u, v: sum((a - b) ** 2 for a, b in zip(u, v, strict=True))
    expected = sum(gap(u, v) ** 1.5 for u, v in zip(xs, ys, strict=True)) / 7
    assert joint.alignment(x, y, power=3.0).item() == pytest.approx(expected, rel=1e-12)
    pairs = [math.exp(-3 * gap(xs[i], xs[j])) for i in range(7) for j in range(i)]
    assert joint.uniformity(x, t=3.0).item() == pytest.approx(math.log(sum(pairs) / len(pairs)), rel=1e-12)
    assert joint.uniformity(torch.ones(5, 3)).item() == pytest.approx(0, abs=1e-6)


def test_uniformity_is_the_integral_over_the_circle():
    """On the circle E exp(−t‖u − v‖²) = exp(−2t) I₀(2t)."""
    angle = 2 * math.pi * torch.rand(3000, generator=torch.Generator().manual_seed(0), dtype=F64)
    found = joint.uniformity(torch.stack([angle.cos(), angle.sin()], -1), t=2.0)
    expected = -4 + math.log(torch.special.i0(torch.tensor(4.0, dtype=F64)))
    assert found.item() == pytest.approx(expected, abs=0.01)


def test_the_verdict_follows_the_stated_thresholds():
    noise = draw(400, 12)
    assert joint.collapse(noise).verdict == "none"
    offset = torch.full((12,), 1.0, dtype=F64)
    for scale, verdict in ((0.09, "complete"), (0.12, "none")):
        found = joint.collapse(offset + scale * noise / noise.std())
        assert found.verdict == verdict
        assert (found.spread < 0.1) == (verdict == "complete")
    line = noise[:, :1] * draw(1, 12, seed=3)
    assert joint.collapse(line).verdict == "dimensional"
    assert joint.collapse(line).rank == pytest.approx(1, abs=1e-6)
    assert joint.collapse(line, rank_below=0.5).verdict == "none"
    assert joint.collapse(line + offset).rank == pytest.approx(1, abs=1e-6)  # an offset is no direction
    assert joint.collapse(offset + 0.12 * noise / noise.std(), spread_below=0.5).verdict == "complete"
    assert joint.collapse(torch.zeros(5, 3)) == ("complete", 0.0, 0.0)


# ---- probes


@pytest.mark.parametrize("penalty", [1e-3, 1e-1])
def test_the_linear_probe_is_scikit_learns_optimum(penalty):
    (x, c), (y, d) = blobs(), blobs(seed=1)
    x, y = (h * torch.tensor([1.0, 100.0, 1e-3, 1.0, 5.0], dtype=F64) + 7 for h in (x, y))
    found = joint.linear_probe(x, c, y, d, penalty=penalty)
    scaler = StandardScaler().fit(x.numpy())
    model = LogisticRegression(C=1 / (penalty * len(x)), tol=1e-10, max_iter=10_000)
    model.fit(scaler.transform(x.numpy()), c.numpy())
    assert found.predicted.tolist() == model.predict(scaler.transform(y.numpy())).tolist()
    assert found.accuracy == model.score(scaler.transform(y.numpy()), d.numpy())
    assert found.train_accuracy == model.score(scaler.transform(x.numpy()), c.numpy())
    assert found.gradient < 1e-5


def test_the_probe_learns_nothing_from_the_test_set():
    (x, c), (y, d) = blobs(), blobs(seed=1)
    together = joint.linear_probe(x, c, y, d).predicted
    shifted = torch.cat([y, 1e4 * draw(200, 5, seed=7)])  # would move any statistic that took them in
    alone = joint.linear_probe(x, c, shifted, torch.cat([d, torch.zeros(200, dtype=torch.long)])).predicted
    assert torch.equal(together, alone[:300])
    one_by_one = [joint.linear_probe(x, c, y[i : i + 1], d[i : i + 1]).predicted.item() for i in range(5)]
    assert one_by_one == together[:5].tolist()


def test_the_probe_does_not_care_for_scale_offset_idle_dimensions_or_the_order_of_samples():
    (x, c), (y, d) = blobs(), blobs(seed=1)
    plain = joint.linear_probe(x, c, y, d)
    stretch = torch.tensor([1e-6, 1e3, 1.0, 50.0, 1.0], dtype=F64)
    idle = torch.full((300, 1), 0.1, dtype=F64)
    moved = joint.linear_probe(torch.cat([x * stretch + 9, idle], 1), c, torch.cat([y * stretch + 9, idle], 1), d)
    assert torch.equal(moved.predicted, plain.predicted)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    assert torch.equal(joint.linear_probe(x[order], c[order], y, d).predicted, plain.predicted)


def test_the_probe_keeps_gradients_off_and_chance_at_chance():
    x, c = draw(400, 3).requires_grad_(), torch.arange(400) % 10
    found = joint.linear_probe(x, c, x, c)
    assert x.grad is None
    with torch.no_grad():
        assert joint.linear_probe(x, c, x, c).accuracy == found.accuracy
    (x, c), (y, d) = blobs(2000, apart=0.0), blobs(2000, apart=0.0, seed=1)
    assert joint.linear_probe(x, c, y, d).accuracy == pytest.approx(1 / 3, abs=0.05)


def test_knn_is_wus_weighted_vote():
    (x, c), (y, d) = blobs(60), blobs(40, seed=1)
    cosine = lambda u, v: (u @ v / (u.norm() * v.norm())).item()
    right = 0
    for query, truth in zip(y, d.tolist(), strict=True):
        near = sorted(((cosine(query, h), k) for h, k in zip(x, c.tolist(), strict=True)), reverse=True)[:9]
        votes = [sum(math.exp(s / 0.2) for s, k in near if k == label) for label in range(3)]
        right += votes.index(max(votes)) == truth
    assert joint.knn(x, c, y, d, k=9, temperature=0.2) == right / 40


def test_knn_takes_any_number_of_queries():
    (x, c), (y, d) = blobs(60), blobs(2500, seed=1)
    parts = [joint.knn(x, c, y[k : k + 500], d[k : k + 500], k=9) for k in range(0, 2500, 500)]
    assert joint.knn(x, c, y, d, k=9) == pytest.approx(sum(parts) / 5, abs=1e-12)


def test_knns_weights_decide_where_a_majority_would_not():
    x, c = torch.tensor([[1.0, 0.01], [0.2, 1.0], [0.2, 1.1]]), torch.tensor([0, 1, 1])
    query, truth = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    assert joint.knn(x, c, query, truth, k=3, temperature=0.07) == 1.0
    assert joint.knn(x, c, query, truth, k=3, temperature=1e3) == 0.0
    assert joint.knn(x, c, query, truth, k=3, temperature=1e-4) == 1.0  # nothing overflows
    assert joint.knn(x, 1 - c, query, 1 - truth, k=3, temperature=1e-4) == 1.0


def test_a_label_subset_has_the_share_of_each_class():
    labels = torch.cat([torch.full((n,), k) for k, n in enumerate((1000, 300, 20, 3))])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    rows = joint.label_subset(labels, 0.01, generator=torch.Generator().manual_seed(1))
    assert torch.bincount(labels[rows]).tolist() == [10, 3, 1, 1]
    assert len(rows.unique()) == len(rows)
    again = joint.label_subset(labels, 0.01, generator=torch.Generator().manual_seed(1))
    other = joint.label_subset(labels, 0.01, generator=torch.Generator().manual_seed(2))
    assert torch.equal(rows, again)
    assert not torch.equal(rows, other)
    assert torch.equal(joint.label_subset(labels, 1.0), torch.arange(len(labels)))


def test_represent_is_the_encoder_in_evaluation_mode_and_puts_its_mode_back():
    encoder = joint.SmallEncoder((4, 4), generator=torch.Generator().manual_seed(0))
    x = torch.rand(7, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    encoder.train()
    encoder.layers[1].eval()
    h = joint.represent(encoder, x, batch_size=3)
    assert (encoder.training, encoder.layers[1].training, encoder.layers[4].training) == (True, False, True)
    assert not h.requires_grad
    torch.testing.assert_close(h, encoder.eval()(x).detach())


@pytest.mark.parametrize("probe", [joint.linear_probe, joint.knn])
def test_bad_labels_and_shapes_are_refused(probe):
    x, c = draw(6, 2), torch.tensor([0, 1, 0, 1, 0, 1])
    for arguments, message in (
        ((x, c[:5], x, c), "train_labels"),
        ((x, c, x, c[:5]), "test_labels"),
        ((x, c.float(), x, c), "whole numbers"),
        ((x, c - 1, x, c), "count from 0"),
        ((x, c, x[:, :1], c), "same dimensions"),
        ((x * math.nan, c, x, c), "finite"),
        ((x, c, x * math.inf, c), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            probe(*arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, c: joint.knn(x, c, x, c, k=7), "k must"),
        (lambda x, c: joint.knn(x, c, x, c, k=3, temperature=0.0), "temperature"),
        (lambda x, c: joint.knn(0 * x, c, x, c, k=3), "length 0"),
        (lambda x, c: joint.linear_probe(x, c, x, c, penalty=-1.0), "penalty"),
        (lambda x, c: joint.label_subset(c, 0.0), "share"),
        (lambda x, c: joint.label_subset(c.float(), 0.5), "whole numbers"),
        (lambda x, c: joint.collapse(x, spread_below=0.0), "spread_below"),
        (lambda x, c: joint.collapse(x[:1]), "N ≥ 2"),
        (lambda x, c: joint.uniformity(x[:1]), "N ≥ 2"),
        (lambda x, c: joint.effective_rank(x[:1]), "N ≥ 2"),
    ],
)
def test_other_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(draw(6, 2), torch.tensor([0, 1, 0, 1, 0, 1]))
