"""Each method as a whole: it trains, it resumes, and its pieces do what they are for."""

import pytest
import torch
from torch import nn

from ebm_lib import joint
from ebm_lib.joint import SmallEncoder, Views, jigsaw, learn

N = 96


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images():
    """Four textures, which noise and brightness do not hide."""
    g = seeded(5)
    kinds = torch.rand(4, 3, 8, 8, generator=g)
    return kinds[torch.arange(N) % 4] + 0.1 * torch.rand(N, 3, 8, 8, generator=g)


LABELS = torch.arange(N) % 4


def noisy(x, g):
    return x + 0.1 * torch.randn(x.shape, generator=g)


def shuffled(x, g):
    return jigsaw(noisy(x, g), grid=2, generator=g)


TWO, PATCHES, FOUR = Views(noisy, noisy), Views(noisy, shuffled), Views(noisy, noisy, noisy, noisy)


def encoder(seed=0):
    return SmallEncoder((8, 8), generator=seeded(seed))


SMALL = {"D": 8, "hidden": 16, "generator": seeded()}
METHODS = {
    "siamese": (lambda g: joint.Siamese(encoder(), D=8, hidden=16, mining="semi-hard", generator=g), TWO),
    "simclr": (lambda g: joint.SimCLR(encoder(), D=8, hidden=16, generator=g), TWO),
    "moco": (lambda g: joint.MoCo(encoder(), D=8, hidden=16, size=50, momentum=0.9, generator=g), TWO),
    "pirl": (lambda g: joint.PIRL(encoder(), N, D=8, patches=4, negatives=40, generator=g), PATCHES),
    "byol": (lambda g: joint.BYOL(encoder(), D=8, hidden=16, momentum=0.9, generator=g), TWO),
    "simsiam": (lambda g: joint.SimSiam(encoder(), D=8, bottleneck=4, generator=g), TWO),
    "deepcluster": (lambda g: joint.DeepCluster(encoder(), N, K=6, hidden=16, generator=g), TWO),
    "swav": (lambda g: joint.SwAV(encoder(), D=8, K=6, hidden=16, generator=g), FOUR),
    "barlow": (lambda g: joint.BarlowTwins(encoder(), D=8, hidden=16, generator=g), TWO),
    "vicreg": (lambda g: joint.VICReg(encoder(), D=8, hidden=16, generator=g), TWO),
    "sigreg": (lambda g: joint.SIGReg(encoder(), D=8, hidden=16, slices=20, generator=g), FOUR),
    "supervised": (lambda g: joint.Supervised(encoder(), LABELS, generator=g), TWO),
}
EACH = pytest.mark.parametrize(("make", "views"), METHODS.values(), ids=METHODS)


def train(make, views, epochs=4, **options):
    g = seeded(1)
    method = make(g)
    options = {"batch_size": 32, "lr": 1e-2, "progress": False} | options
    return method, learn(method, images(), views, epochs=epochs, generator=g, **options)


@EACH
def test_every_method_is_driven_by_the_one_loop(make, views):
    before = encoder().layers[0].weight
    method, history = train(make, views)
    assert history.steps == 12
    assert method.steps == 12
    assert not torch.equal(method.encoder.layers[0].weight, before)
    terms = torch.tensor(list(history.metrics.values()))
    torch.testing.assert_close(terms.sum(0), torch.tensor(history.loss), rtol=1e-4, atol=1e-4)
    again, repeated = train(make, views)
    assert repeated.loss == history.loss
    assert all(
        torch.equal(a, b) for a, b in zip(method.state_dict().values(), again.state_dict().values(), strict=True)
    )


@EACH
def test_a_run_that_is_cut_and_resumed_is_the_uncut_run(make, views, tmp_path):
    whole, history = train(make, views)

    class Cut(Exception):
        pass

    g, path = seeded(1), tmp_path / "run.pt"
    method = make(g)
    count = 0

    def failing(x, g):
        nonlocal count
        count += 1
        if count > 5:
            raise Cut
        return views(x, g)

    options = {"epochs": 4, "batch_size": 32, "lr": 1e-2, "progress": False, "checkpoint": path, "checkpoint_every": 1}
    with pytest.raises(Cut):
        learn(method, images(), failing, generator=g, **options)
    g = seeded(1)
    fresh = make(g)
    resumed = learn(fresh, images(), views, generator=g, **options)
    assert resumed.loss == history.loss
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), fresh.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", ["simclr", "moco", "swav", "barlow", "vicreg", "sigreg", "supervised", "siamese"])
def test_training_lowers_the_loss_and_the_kinds_can_be_told_apart(name):
    make, views = METHODS[name]
    method, history = train(make, views, epochs=12)
    first, last = (sum(part) / 6 for part in (history.loss[:6], history.loss[-6:]))
    assert last < first
    h = joint.represent(method.encoder, images())
    assert joint.linear_probe(h[:48], LABELS[:48], h[48:], LABELS[48:]).accuracy > 0.9


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"pirl"}))  # which counts the bank's free entries
def test_a_methods_device_is_its_modules(name):
    make, views = METHODS[name]
    method = make(seeded()).to("meta")
    seen = [view.to("meta") for view in views(images()[:32], seeded())]
    found = method(seen, torch.arange(32, device="meta"), seeded())
    assert {term.device.type for term in found} == {"meta"}
    found.loss.backward()
    assert method.encoder.layers[0].weight.grad.device.type == "meta"
    method.finish_step(0.5)
    assert {t.device.type for t in method.state_dict().values()} == {"meta"}


# ---- what each method's pieces do


def batch():
    x, g = images()[:32], seeded(3)
    return TWO(x, g), torch.arange(32), g


def test_moco_computes_the_loss_before_the_keys_enter_the_queue():
    views, rows, g = batch()
    method = joint.MoCo(encoder(), D=8, hidden=16, size=50, generator=seeded())
    key, before = method.slow(views[1]), method.queue.values.clone()
    query = method.head(method.encoder(views[0]))
    found = method(views, rows, g)
    torch.testing.assert_close(found.loss, joint.moco(query, key, before, temperature=0.2).loss, rtol=1e-4, atol=1e-4)
    unit = key / key.norm(dim=1, keepdim=True)
    torch.testing.assert_close(method.queue.values[:32], unit, rtol=1e-4, atol=1e-4)
    assert torch.equal(method.queue.values[32:], before[32:])


@pytest.mark.parametrize("name", ["moco", "byol"])
def test_the_slow_network_moves_after_the_step_and_gets_no_gradient(name):
    method, _ = train(*METHODS[name], epochs=1)
    slow, online = method.slow.copy[0].layers[0].weight, method.encoder.layers[0].weight
    assert slow.grad is None
    assert 0 < (slow - online).abs().max() < (encoder().layers[0].weight - online).abs().max()


@pytest.mark.parametrize("kind", [joint.BYOL, joint.SimSiam])
def test_normalisation_can_be_left_out_of_the_heads(kind):
    for batch_norm in (True, False):
        method = kind(encoder(), D=8, batch_norm=batch_norm, generator=seeded())
        for part in (method.head, method.predictor):
            assert any(isinstance(layer, torch.nn.BatchNorm1d) for layer in part) == batch_norm


def test_byol_without_the_moving_average_is_simsiam():
    """The same gradients, up to BYOL's factor 4: nothing else is different."""
    views, rows, g = batch()
    byol = joint.BYOL(encoder(), D=8, hidden=16, momentum=None, generator=seeded(2))
    loss = byol(views, rows, g).loss
    found = torch.autograd.grad(loss, byol.encoder.layers[0].weight)[0]
    z1, z2 = (byol.head(byol.encoder(view)) for view in views)
    twin = joint.simsiam(byol.predictor(z1), byol.predictor(z2), z1, z2).loss
    torch.testing.assert_close(loss, 4 + 4 * twin, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        found, 4 * torch.autograd.grad(twin, byol.encoder.layers[0].weight)[0], rtol=1e-3, atol=1e-4
    )


def test_simsiam_without_predictor_and_stop_gradient_collapses_and_the_variance_term_prevents_it():
    strong = Views(*[lambda x, g: x + 0.7 * torch.randn(x.shape, generator=g)] * 2)
    naked = {"predictor": False, "stop_gradient": False, "batch_norm": False}
    verdicts = {}
    for variance in (0.0, 1.0):
        make = lambda g, variance=variance: joint.SimSiam(encoder(), D=8, variance=variance, generator=g, **naked)
        method, _ = train(make, strong, epochs=15)
        z = method.head(joint.represent(method.encoder, images())).detach()
        verdicts[variance] = joint.collapse(z / z.norm(dim=1, keepdim=True))
    assert verdicts[0.0].verdict == "complete"
    assert verdicts[1.0].verdict != "complete"
    assert verdicts[1.0].spread > 0.5


def test_a_variance_term_on_a_cosine_must_not_be_met_by_lengths():
    direction = torch.ones(1, 6)
    lengths = torch.linspace(1, 9, 20)[:, None] * direction  # one direction only: collapsed for a cosine
    assert joint.variance_hinge(lengths) == 0
    assert joint.regularized(torch.tensor(0.0), (lengths,), 2.0, 0.0).variance.item() == pytest.approx(0.99, abs=1e-3)


def test_vicreg_without_its_variance_term_collapses():
    make = lambda g: joint.VICReg(encoder(), D=8, hidden=16, variance=0.0, batch_norm=False, generator=g)
    method, history = train(make, TWO, epochs=25)
    with_it, _ = train(METHODS["vicreg"][0], TWO, epochs=25)
    spreads = []
    for trained in (method, with_it):
        trained.train()  # the statistics of the batch, as the loss saw them
        spreads.append(joint.spread(trained.head(trained.encoder(images()))).mean().item())
    assert spreads[0] < 0.05
    assert spreads[1] > 0.5
    assert history.loss[-1] < 1e-2


def test_vicregs_branches_may_share_everything_or_nothing():
    other = SmallEncoder((4, 6), inputs=1, generator=seeded(9))
    two_kinds = joint.VICReg(encoder(), D=8, hidden=16, other=other, share_head=False, generator=seeded())
    assert other is two_kinds.other
    mono = lambda x, g: noisy(x, g).mean(1, keepdim=True)
    learn(two_kinds, images(), Views(noisy, mono), epochs=1, batch_size=32, generator=seeded(), progress=False)
    shared = joint.VICReg(encoder(), D=8, hidden=16, generator=seeded())
    assert shared.other is shared.encoder
    assert shared.other_head is shared.head
    assert sum(p.numel() for p in two_kinds.parameters()) > sum(p.numel() for p in shared.parameters())


def test_deepcluster_clusters_anew_each_epoch_with_all_clusters_populated():
    method, _ = train(*METHODS["deepcluster"], epochs=1)
    assert torch.equal(torch.bincount(method.codes, minlength=6), method.counts)
    assert method.counts.min() > 0
    codes, classifier = method.codes.clone(), method.head[-1].weight.detach().clone()
    method.begin_epoch(images(), seeded(8))
    assert not torch.equal(method.head[-1].weight, classifier)
    assert not torch.equal(method.codes, codes)


def test_pirls_bank_follows_after_the_loss_and_only_where_the_batch_is():
    method = METHODS["pirl"][0](seeded())
    x, rows = images(), torch.arange(10, 42)
    views, before = PATCHES(x[rows], seeded(3)), method.bank.values.clone()
    f = method.head(method.encoder(views[0]))
    method(views, rows, seeded(4))
    mixed = 0.5 * before[rows] + 0.5 * f / f.norm(dim=1, keepdim=True)
    expected = mixed / mixed.norm(dim=1, keepdim=True)
    torch.testing.assert_close(method.bank.values[rows], expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(method.bank.values[42:], before[42:])


def test_a_siamese_networks_negative_is_never_the_sample_itself():
    views, rows, g = batch()
    method = joint.Siamese(encoder(), D=8, hidden=16, margin=100.0, mining="hard", generator=seeded())
    identical = [views[0], views[0]]
    found = method(identical, rows, g)
    assert found.positive < 1e-6
    assert found.negative < 0.5 * 100**2 / 2  # a sample held against itself would be pushed by the whole margin


def test_the_rate_rises_then_falls_and_decay_spares_biases():
    seen = []

    class Spy(joint.SimCLR):
        def finish_step(self, progress):
            seen.append(progress)

    method = Spy(encoder(), D=8, hidden=16, generator=seeded())
    learn(method, images(), TWO, epochs=4, batch_size=32, generator=seeded(), progress=False)
    assert seen == pytest.approx([(k + 1) / 12 for k in range(12)])


def test_a_method_is_asked_for_its_forward():
    with pytest.raises(NotImplementedError):
        joint.Method()([], torch.arange(1))
    assert isinstance(joint.Method(), nn.Module)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 97}, "batch_size"),
        ({"lr": 0.0}, "lr"),
        ({"warmup": 1.0}, "warmup"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"epochs": 0}, "epochs"),
    ],
)
def test_bad_options_are_refused(options, message):
    method = METHODS["simclr"][0](seeded())
    with pytest.raises(ValueError, match=message):
        learn(method, images(), TWO, **({"epochs": 1, "batch_size": 32, "progress": False} | options))
