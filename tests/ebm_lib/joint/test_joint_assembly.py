"""How a method is put together: its criterion, on its own networks, with its own options, trained as stated."""

import math

import pytest
import torch

from ebm_lib import joint
from ebm_lib.joint import SmallEncoder, Views, jigsaw, learn
from ebm_lib.joint.methods import base

N = 24


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


IMAGES = torch.rand(N, 3, 8, 8, generator=seeded(5))
ROWS = torch.randperm(N, generator=seeded(6))[:12]  # neither the first ones nor in order
FIRST, SECOND = (IMAGES[ROWS] + 0.2 * torch.randn(12, 3, 8, 8, generator=seeded(s)) for s in (7, 8))
LABELS = torch.arange(N) // 3 % 4


def encoder(channels=(8, 8)):
    return SmallEncoder(channels, generator=seeded())


def heads(method, views):
    return [method.head(method.encoder(view)) for view in views]


def equal(found, expected):
    assert found._fields == expected._fields
    for name, a, b in zip(found._fields, found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


# ---- the criterion


def test_siamese():
    method = joint.Siamese(encoder(), D=8, hidden=16, margin=1.7, mining="random", generator=seeded())
    z1, z2 = (z / 8**0.5 for z in heads(method, (FIRST, SECOND)))
    other = joint.mine(z1, z2, z2, ~torch.eye(12, dtype=torch.bool), "random", generator=seeded(4))
    same = torch.arange(24) < 12
    expected = joint.siamese_square_square(torch.cat([z1, z1]), torch.cat([z2, z2[other]]), same, margin=1.7)
    equal(method((FIRST, SECOND), ROWS, seeded(4)), expected)
    torch.testing.assert_close(z1.square().sum(1).mean(), torch.tensor(1.0), rtol=0.01, atol=0)  # the output is normed


def test_simclr():
    method = joint.SimCLR(encoder(), D=8, hidden=16, temperature=0.7, generator=seeded())
    equal(method((FIRST, SECOND), ROWS), joint.nt_xent(*heads(method, (FIRST, SECOND)), temperature=0.7))


def test_moco():
    method = joint.MoCo(encoder(), D=8, hidden=16, size=20, temperature=0.7, momentum=0.6, generator=seeded())
    with torch.no_grad():
        for p in method.slow.copy.parameters():
            p.mul_(1.5).add_(0.1)  # a network of its own by now
    query, key, queue = method.head(method.encoder(FIRST)), method.slow(SECOND), method.queue.values
    equal(method((FIRST, SECOND), ROWS), joint.moco(query, key, queue, temperature=0.7))
    slow, fast = method.slow.copy[1][0].weight.clone(), method.head[0].weight
    method.finish_step(0.5)
    torch.testing.assert_close(method.slow.copy[1][0].weight, 0.6 * slow + 0.4 * fast)


def test_pirl():
    method = joint.PIRL(encoder(), N, D=8, patches=4, negatives=5, temperature=0.7, weight=0.3, momentum=0.25,
                        generator=seeded())  # fmt: skip
    patches = jigsaw(SECOND, grid=2, generator=seeded(9))
    f = method.head(method.encoder(FIRST))
    own = [method.patch_head(method.encoder(patches[:, k])) for k in range(4)]
    g = torch.stack([method.join_head(torch.cat([p[i] for p in own])) for i in range(12)])
    bank = method.bank.values
    negatives = method.bank.negatives(ROWS, 5, generator=seeded(4))
    found = method((FIRST, patches), ROWS, seeded(4))
    # The patches' batch normalisation saw all of them at once there, and one place of the grid at a time here
    together = method.patch_head(method.encoder(patches.flatten(0, 1))).unflatten(0, (12, 4)).flatten(1)
    assert (torch.corrcoef(torch.stack([method.join_head(together).flatten(), g.flatten()]))[0, 1]) > 0.9
    equal(found, joint.pirl(bank[ROWS], f, method.join_head(together), negatives, temperature=0.7, weight=0.3))
    assert method.bank.momentum == 0.25
    mixed = 0.25 * bank[ROWS] + 0.75 * f / f.norm(dim=1, keepdim=True)
    torch.testing.assert_close(method.bank.values[ROWS], mixed / mixed.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("predictor", [True, False])
def test_simsiam(stop, predictor):
    method = joint.SimSiam(encoder(), D=8, bottleneck=4, predictor=predictor, stop_gradient=stop, variance=2.0,
                           covariance=3.0, generator=seeded())  # fmt: skip
    z = heads(method, (FIRST, SECOND))
    assert isinstance(method.predictor, torch.nn.Identity) != predictor
    p = [method.predictor(v) for v in z]
    expected = joint.regularized(joint.simsiam(*p, *z, stop_gradient=stop).loss, z, 2.0, 3.0)
    found = method((FIRST, SECOND), ROWS)
    equal(found, expected)
    weight = method.encoder.layers[0].weight
    slopes = [torch.autograd.grad(value.distillation, weight)[0] for value in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-6)
    last = method.head[-1]
    assert (last.weight, last.bias) == (None, None)  # normalised without a learned scale


@pytest.mark.parametrize("momentum", [0.8, None])
@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("predictor", [True, False])
def test_byol(momentum, stop, predictor):
    method = joint.BYOL(encoder(), D=8, hidden=16, momentum=momentum, predictor=predictor, stop_gradient=stop,
                        variance=2.0, covariance=3.0, generator=seeded())  # fmt: skip
    if momentum is not None:
        with torch.no_grad():
            for p in method.slow.copy.parameters():
                p.mul_(1.5).add_(0.1)
    z = heads(method, (FIRST, SECOND))
    target = z if momentum is None else [method.slow(view) for view in (FIRST, SECOND)]
    assert isinstance(method.predictor, torch.nn.Identity) != predictor
    p = [method.predictor(v) for v in z]
    expected = joint.regularized(joint.byol(*p, *target, stop_gradient=stop).loss, z, 2.0, 3.0)
    found = method((FIRST, SECOND), ROWS)
    equal(found, expected)
    weight = method.encoder.layers[0].weight
    slopes = [torch.autograd.grad(value.distillation, weight)[0] for value in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-6)
    if momentum is not None:
        slow, fast = method.slow.copy[1][0].weight.clone(), method.head[0].weight
        method.finish_step(0.5)  # half the way from 0.8 to 1
        torch.testing.assert_close(method.slow.copy[1][0].weight, 0.9 * slow + 0.1 * fast)


@pytest.mark.parametrize("balanced", [True, False])
def test_deepcluster(balanced):
    method = joint.DeepCluster(encoder(), N, K=4, hidden=16, balanced=balanced, generator=seeded())
    method.train()
    classifier = method.head[-1].weight.detach().clone()
    method.begin_epoch(IMAGES, seeded(4))
    g = seeded(4)
    clusters = joint.assign(joint.represent(method.encoder, IMAGES), 4, generator=g)
    assert torch.equal(method.codes, clusters.codes)
    assert torch.equal(method.counts, clusters.counts)
    assert not torch.equal(method.head[-1].weight, classifier)
    anew = torch.nn.Linear(16, 4)
    torch.testing.assert_close(method.head[-1].weight, joint.methods.clustering.init_(anew, g).weight)
    logits = torch.cat(heads(method, (FIRST, SECOND)))
    counts = clusters.counts if balanced else None
    expected = joint.deepcluster(logits, torch.cat([clusters.codes[ROWS]] * 2), counts)
    equal(method((FIRST, SECOND), ROWS), expected)
    with pytest.raises(ValueError, match="data set's 24"):
        method.begin_epoch(IMAGES[:10], g)


def test_swav():
    method = joint.SwAV(encoder(), D=8, K=5, hidden=16, assigned=1, temperature=0.3, epsilon=0.2, iterations=2,
                        generator=seeded())  # fmt: skip
    scores = [method.prototypes(z) for z in heads(method, (FIRST, SECOND, FIRST.flip(-1)))]
    expected = joint.swav(scores, assigned=1, temperature=0.3, epsilon=0.2, iterations=2)
    equal(method((FIRST, SECOND, FIRST.flip(-1)), ROWS), expected)


def test_supervised():
    method = joint.Supervised(encoder(), LABELS, generator=seeded())
    logits = torch.cat([method.classifier(method.encoder(view)) for view in (FIRST, SECOND)])
    equal(method((FIRST, SECOND), ROWS), joint.deepcluster(logits, torch.cat([LABELS[ROWS]] * 2)))


def test_barlow_twins():
    method = joint.BarlowTwins(encoder(), D=8, hidden=16, redundancy=0.3, generator=seeded())
    equal(method((FIRST, SECOND), ROWS), joint.barlow_twins(*heads(method, (FIRST, SECOND)), redundancy=0.3))


@pytest.mark.parametrize("share_head", [True, False])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_vicreg(share_head, batch_norm):
    weights = {"invariance": 3.0, "variance": 5.0, "covariance": 7.0}
    method = joint.VICReg(encoder(), D=8, hidden=16, other=encoder((4, 8)), share_head=share_head,
                          batch_norm=batch_norm, generator=seeded(), **weights)  # fmt: skip
    assert (method.other_head is method.head) == share_head
    assert any(isinstance(layer, torch.nn.BatchNorm1d) for layer in method.other_head) == batch_norm
    z = method.head(method.encoder(FIRST)), method.other_head(method.other(SECOND))
    equal(method((FIRST, SECOND), ROWS), joint.vicreg(*z, **weights))


def test_sigreg():
    method = joint.SIGReg(encoder(), D=8, hidden=16, weight=0.3, slices=5, targets=1, generator=seeded())
    views = FIRST, SECOND, FIRST.flip(-1)
    expected = joint.lejepa(heads(method, views), weight=0.3, slices=5, targets=1, generator=seeded(4))
    equal(method(views, ROWS, seeded(4)), expected)


# ---- the training


class Spy(joint.SimCLR):
    def __init__(self):
        super().__init__(encoder(), D=8, hidden=16, generator=seeded())
        self.epochs, self.progress, self.rows = [], [], []

    def begin_epoch(self, images, generator=None):
        self.epochs.append((int(self.steps), len(images), generator))

    def forward(self, views, rows, generator=None):
        self.rows.append((rows, views[0], generator))
        return super().forward(views, rows, generator)

    def finish_step(self, progress):
        self.progress.append(progress)


def test_each_epoch_begins_once_and_a_second_training_begins_anew():
    method, g = Spy(), seeded(1)
    drawn = []

    def views(x, generator):
        drawn.append(generator)
        return x, x

    learn(method, IMAGES, views, epochs=2, batch_size=8, generator=g, progress=False)
    assert method.epochs == [(0, N, g), (3, N, g)]
    assert drawn == [g] * 6
    for rows, batch, generator in method.rows:
        assert torch.equal(batch, IMAGES[rows])
        assert generator is g
    learn(method, IMAGES, views, epochs=1, batch_size=6, generator=g, progress=False)
    assert method.epochs[2:] == [(0, N, g)]
    assert method.progress == pytest.approx([k / 6 for k in range(1, 7)] + [k / 4 for k in range(1, 5)])


def test_the_rate_and_what_decays(monkeypatch):
    seen = {}
    monkeypatch.setattr(base, "fit", lambda *arguments, **options: seen.update(options))
    method = joint.BYOL(encoder(), D=8, hidden=16, generator=seeded())
    learn(method, IMAGES, Views(lambda x, g: x), epochs=20, batch_size=12, lr=0.3, weight_decay=0.07, warmup=0.25)
    assert isinstance(seen["optimizer"], torch.optim.AdamW)
    decayed, spared = seen["optimizer"].param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.07, 0.0)
    assert decayed["initial_lr"] == spared["initial_lr"] == 0.3
    assert {p.ndim for p in spared["params"]} == {1}
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    trained = {id(p) for group in (decayed, spared) for p in group["params"]}
    assert trained == {id(p) for part in (method.encoder, method.head, method.predictor) for p in part.parameters()}
    assert seen["scheduler"].optimizer is seen["optimizer"]
    (factor,) = set(seen["scheduler"].lr_lambdas)
    for step in range(40):
        expected = (step + 1) / 10 if step < 10 else (1 + math.cos(math.pi * (step - 10) / 30)) / 2
        assert factor(step) == pytest.approx(expected, abs=1e-12)
    assert (seen["steps"], seen["batch_size"]) == (40, 12)


# ---- bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: joint.DeepCluster(encoder(), 0), "N must"),
        (lambda: joint.VICReg(encoder(), other=encoder((4, 6))), "share the head"),
        (lambda: joint.MoCo(encoder())([FIRST] * 3, ROWS), "unpack"),
        (lambda: joint.PIRL(encoder(), N)([FIRST, SECOND], ROWS), "patches"),
        (lambda: joint.PIRL(encoder(), N)([FIRST, jigsaw(SECOND, grid=3, patch=2)], ROWS), "patches"),
        (lambda: joint.PIRL(encoder(), N)([FIRST, jigsaw(SECOND[:5], grid=2)], ROWS), "patches"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
