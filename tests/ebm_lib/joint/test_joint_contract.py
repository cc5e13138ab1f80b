"""What every criterion and measure keeps: devices, dtypes, bad input, gradients, order of samples."""

import inspect
import math

import pytest
import torch

from ebm_lib import joint

F64 = torch.float64


def z(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


A, B, C, D = (z(6, 4, seed=s) for s in range(4))
S, T = (z(6, 5, seed=s).clamp(-1, 1) for s in (7, 8))
SAME = torch.tensor([True, False, True, True, False, False])
AXES = joint.random_directions(4, 9, generator=torch.Generator().manual_seed(3), dtype=F64)
CODES = torch.tensor([0, 1, 2, 3, 4, 0])
NEGATIVES = z(11, 4, seed=9)
# name: (the call, its batches, whether it is a mean over samples, each on its own)
CRITERIA = {
    "siamese_square_square": (
        lambda a, b: joint.siamese_square_square(a, b, SAME.to(a.device), margin=3.0),
        [A, B],
        False,
    ),
    "siamese_square_exp": (lambda a, b: joint.siamese_square_exp(a, b, SAME.to(a.device)), [A, B], False),
    "triplet": (lambda a, b, c: joint.triplet(a, b, c, margin=1.0), [A, B, C], True),
    "nt_xent": (lambda a, b: joint.nt_xent(a, b, temperature=0.3), [A, B], False),
    "moco": (lambda a, b: joint.moco(a, b, NEGATIVES.to(a), temperature=0.3), [A, B], True),
    "pirl": (lambda a, b, c: joint.pirl(c, a, b, NEGATIVES.to(a), temperature=0.3), [A, B, C], True),
    "negative_cosine": (joint.negative_cosine, [A, B], True),
    "simsiam": (joint.simsiam, [A, B, C, D], True),
    "byol": (joint.byol, [A, B, C, D], True),
    "swav": (lambda s, t: joint.swav([s, t]), [S, T], False),
    "deepcluster": (lambda s: joint.deepcluster(s, CODES.to(s.device)), [S], False),
    "barlow_twins": (joint.barlow_twins, [A, B], False),
    "variance_hinge": (joint.variance_hinge, [0.5 * A], False),
    "covariance_squares": (joint.covariance_squares, [A], False),
    "vicreg": (joint.vicreg, [0.5 * A, 0.5 * B], False),
    "epps_pulley": (lambda a: joint.epps_pulley(a.T).mean(), [A], False),
    "sigreg": (lambda a: joint.sigreg(a, directions=AXES.to(a)), [A], False),
    "lejepa": (lambda a, b: joint.lejepa([a, b], directions=AXES.to(a)), [A, B], False),
    "temporal": (lambda a: joint.temporal(a, linearity=1.0, curvature=1.0), [A], False),
    "regularized": (lambda a, b: joint.regularized(a.new_zeros(()), (a, b), 1.0, 1.0), [0.5 * A, 0.5 * B], False),
}
MEASURES = {
    "spread": (joint.spread, [A]),
    "relative_spread": (joint.relative_spread, [A]),
    "effective_rank": (joint.effective_rank, [A]),
    "alignment": (joint.alignment, [A, B]),
    "uniformity": (joint.uniformity, [A]),
    "bend": (joint.bend, [A]),
    "linear_predictability": (joint.linear_predictability, [z(20, 2)]),
    "sinkhorn": (joint.sinkhorn, [S]),
    "mine": (lambda a, b, c: joint.mine(a, b, c, torch.ones(6, 6, dtype=torch.bool, device=a.device)), [A, B, C]),
}
# functions that take no batch of embeddings, or that other files test wholly
ELSEWHERE = set(
    "assign collapse head jigsaw knn label_subset learn linear_probe momentum_schedule random_directions".split()
)
ELSEWHERE |= {"represent"}
ALL = pytest.mark.parametrize(
    ("call", "batches"), [v[:2] for v in (CRITERIA | MEASURES).values()], ids=CRITERIA | MEASURES
)
LOSSES = pytest.mark.parametrize(("call", "batches"), [v[:2] for v in CRITERIA.values()], ids=CRITERIA)
# what gets a gradient beside the first batch, where not all do
STOPPED = {"moco": [], "pirl": [1], "negative_cosine": [], "simsiam": [1], "byol": [1]}
ORDERED = {"siamese_square_square", "siamese_square_exp", "deepcluster", "temporal"}


def loss_of(value):
    return value.loss if isinstance(value, tuple) else value


def test_every_public_function_is_held_to_the_contract():
    public = {name for name in joint.__all__ if inspect.isfunction(getattr(joint, name))}
    assert set(CRITERIA) | set(MEASURES) | ELSEWHERE == public


@ALL
def test_device_and_dtype_follow_the_embeddings(call, batches):
    for dtype in (torch.float32, F64):
        cast = [b.to(dtype) for b in batches]
        real = loss_of(call(*cast))
        assert real.dtype in (dtype, torch.int64)
        if real.dtype == dtype and dtype == torch.float32:
            torch.testing.assert_close(real.double(), loss_of(call(*batches)), rtol=1e-4, atol=1e-4)
        meta = loss_of(call(*(b.to("meta") for b in cast)))
        assert (meta.device.type, meta.dtype, meta.shape) == ("meta", real.dtype, real.shape)


@pytest.mark.parametrize("name", sorted(set(CRITERIA) - {"swav"}))  # whose targets move with its scores, unfollowed
def test_gradients_by_finite_differences(name):
    call, batches, _ = CRITERIA[name]
    leaves = [b.clone().requires_grad_() for b in batches]
    slopes = torch.autograd.grad(loss_of(call(*leaves)), leaves, allow_unused=True)
    followed = [k for k, slope in enumerate(slopes) if slope is not None]
    assert followed == [0, *([] if name in STOPPED else range(1, len(batches))), *STOPPED.get(name, [])]

    def loss(*moved):
        return loss_of(call(*(moved[followed.index(k)] if k in followed else b for k, b in enumerate(batches))))

    assert torch.autograd.gradcheck(loss, [leaves[k] for k in followed])


@ALL
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_no_numbers_are_refused_wherever_they_stand(call, batches, bad):
    for place in range(len(batches)):
        spoilt = [b.clone() for b in batches]
        spoilt[place].view(-1)[-1] = bad
        with pytest.raises(ValueError, match="must be finite"):
            call(*spoilt)


@ALL
def test_integers_and_lists_are_refused(call, batches):
    with pytest.raises((ValueError, TypeError, RuntimeError)):
        call(*(b.long() for b in batches))


@ALL
def test_arguments_are_left_as_they_were_and_two_calls_agree(call, batches):
    copies = [b.clone() for b in batches]
    first, second = loss_of(call(*copies)), loss_of(call(*copies))
    assert torch.equal(first, second)
    for copy, batch in zip(copies, batches, strict=True):
        assert torch.equal(copy, batch)
        assert copy._version == 0


@pytest.mark.parametrize("name", sorted(set(CRITERIA) - ORDERED))
def test_the_order_of_samples_does_not_matter(name):
    call, batches, _ = CRITERIA[name]
    order = torch.tensor([3, 5, 0, 2, 1, 4])
    torch.testing.assert_close(loss_of(call(*(b[order] for b in batches))), loss_of(call(*batches)))


@pytest.mark.parametrize("name", [name for name, (*_, splits) in CRITERIA.items() if splits])
def test_a_mean_over_samples_is_the_mean_over_the_batches_halves(name):
    call, batches, _ = CRITERIA[name]
    halves = [loss_of(call(*(b[part] for b in batches))) for part in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(sum(halves) / 2, loss_of(call(*batches)))


def test_of_the_others_most_depend_on_the_whole_batch():
    for name in ("nt_xent", "barlow_twins", "vicreg", "lejepa", "swav"):
        call, batches, _ = CRITERIA[name]
        halves = [loss_of(call(*(b[part] for b in batches))) for part in (slice(0, 3), slice(3, 6))]
        assert abs(sum(halves) / 2 - loss_of(call(*batches))) > 1e-3, name


@pytest.mark.parametrize("name", ["nt_xent", "swav", "barlow_twins", "vicreg", "sigreg", "lejepa", "variance_hinge",
                                  "covariance_squares"])  # fmt: skip
def test_a_batch_of_one_is_refused(name):
    call, batches, _ = CRITERIA[name]
    with pytest.raises(ValueError, match="N ≥ 2"):
        call(*(b[:1] for b in batches))


@pytest.mark.parametrize("name", ["nt_xent", "moco", "pirl", "negative_cosine", "simsiam", "byol"])
def test_a_vector_without_direction_is_refused_not_replaced(name):
    call, batches, _ = CRITERIA[name]
    for place in range(len(batches)):
        spoilt = [b.clone() for b in batches]
        spoilt[place][2] = 0
        with pytest.raises(ValueError, match="length 0"):
            call(*spoilt)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_negatives_can_be_mined_in_half_precision(dtype):
    batches = [b.to(dtype) for b in (A, B, C)]
    allowed = torch.ones(6, 6, dtype=torch.bool)
    for strategy in ("hard", "semi-hard"):
        found = joint.mine(*batches, allowed, strategy)
        assert torch.equal(found, joint.mine(*(b.double() for b in batches), allowed, strategy))


def test_a_vector_beyond_the_range_of_its_dtype_is_refused():
    huge = torch.full((4, 3), 1e30)
    with pytest.raises(ValueError, match="range"):
        joint.nt_xent(huge, huge)


@pytest.mark.parametrize(
    "name", [n for n, (_, batches, _) in CRITERIA.items() if len(batches) > 1 and n not in ("swav", "regularized")]
)
def test_unequal_shapes_are_refused(name):
    call, batches, _ = CRITERIA[name]
    for shorter in (lambda b: b[:-1], lambda b: b[:, :-1], lambda b: b[0], lambda b: b[None]):
        with pytest.raises(ValueError, match=r"shape|\(N, D\)"):
            call(batches[0], shorter(batches[1]), *batches[2:])


@pytest.mark.parametrize(
    "call",
    [
        lambda v: joint.nt_xent(A, B, temperature=v),
        lambda v: joint.moco(A, B, NEGATIVES, temperature=v),
        lambda v: joint.pirl(A, B, C, NEGATIVES, temperature=v),
        lambda v: joint.swav([S, T], temperature=v),
        lambda v: joint.siamese_square_square(A, B, SAME, margin=v),
        lambda v: joint.triplet(A, B, C, margin=v),
        lambda v: joint.siamese_square_exp(A, B, SAME, gamma=v),
        lambda v: joint.variance_hinge(A, eps=v),
        lambda v: joint.variance_hinge(A, gamma=v),
        lambda v: joint.epps_pulley(A, t_max=v),
        lambda v: joint.alignment(A, B, power=v),
        lambda v: joint.uniformity(A, t=v),
    ],
)
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_temperatures_margins_and_the_like_must_be_positive(call, value):
    with pytest.raises(ValueError, match="positive"):
        call(value)


@pytest.mark.parametrize(
    "call",
    [
        lambda v: joint.vicreg(A, B, invariance=v),
        lambda v: joint.vicreg(A, B, variance=v),
        lambda v: joint.vicreg(A, B, covariance=v),
        lambda v: joint.barlow_twins(A, B, redundancy=v),
        lambda v: joint.barlow_twins(A, B, eps=v),
        lambda v: joint.lejepa([A, B], weight=v),
        lambda v: joint.pirl(A, B, C, NEGATIVES, weight=v),
        lambda v: joint.temporal(A, slowness=v),
    ],
)
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_weights_must_not_be_negative(call, value):
    with pytest.raises(ValueError, match="at least 0"):
        call(value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: joint.siamese_square_square(A, B, SAME.long()), "bool"),
        (lambda: joint.siamese_square_square(A, B, SAME[:3]), "bool"),
        (lambda: joint.moco(A, B, NEGATIVES[:, :3]), "4 dimensions"),
        (lambda: joint.moco(A, B, NEGATIVES[:0]), "queue"),
        (lambda: joint.pirl(A, B, C, NEGATIVES[:0]), "negatives"),
        (lambda: joint.pirl(A, B, C, NEGATIVES, weight=1.5), "at most 1"),
        (lambda: joint.mine(A, B, C, torch.zeros(6, 6, dtype=torch.bool)), "at least one candidate"),
        (lambda: joint.mine(A, B, C, torch.ones(6, 5, dtype=torch.bool)), "allowed"),
        (lambda: joint.mine(A, B, C, torch.ones(6, 6, dtype=torch.bool), "hardest"), "strategy"),
        (lambda: joint.barlow_twins(torch.ones(4, 2), B[:4, :2].float(), eps=0.0), "vary"),
        (lambda: joint.sigreg(A, directions=AXES[:3]), "directions"),
        (lambda: joint.lejepa([A]), "at least two"),
        (lambda: joint.lejepa([A, B], targets=3), "targets"),
        (lambda: joint.lejepa([A, B], weight=1.5), "at most 1"),
        (lambda: joint.lejepa([A, B[:3]]), "shape"),
        (lambda: joint.lejepa([A, B], targets=0), "targets"),
        (lambda: joint.sigreg(A, directions=AXES[:, :0]), "directions"),
        (lambda: joint.sigreg(A, directions=1.01 * AXES), "length 1"),
        (lambda: joint.sigreg(A, directions=AXES * math.nan), "length 1"),
        (lambda: joint.sigreg(A, directions=AXES.float()), "float64"),
        (lambda: joint.lejepa([A, B], directions=2 * AXES), "length 1"),
        (lambda: joint.sigreg(A, slices=0), "slices"),
        (lambda: joint.lejepa([A, B], slices=0), "slices"),
        (lambda: joint.random_directions(3, 3, dtype=torch.int64), "dtype"),
        (lambda: joint.epps_pulley(A, knots=1), "knots"),
        (lambda: joint.random_directions(0, 3), "D"),
        (lambda: joint.temporal(A[:2]), "three frames"),
        (lambda: joint.temporal(torch.zeros(0, 6, 4)), "three frames"),
        (lambda: joint.nt_xent(A.float(), B.float(), temperature=1e-45), "float32"),
        (lambda: joint.moco(A.float(), B.float(), NEGATIVES.float(), temperature=1e-45), "float32"),
        (lambda: joint.pirl(A.float(), B.float(), C.float(), NEGATIVES.float(), temperature=1e-45), "float32"),
        (lambda: joint.vicreg(A, B.to("meta")), "one device"),
        (lambda: joint.linear_predictability(A), "2D \\+ 1"),
    ],
)
def test_other_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", ["nt_xent", "vicreg", "barlow_twins", "byol", "moco"])
def test_the_whole_of_a_criterion_is_captured_in_one_graph(name):
    call, batches, _ = CRITERIA[name]
    captured = torch.compile(lambda *b: loss_of(call(*b)), backend="eager", fullgraph=True)
    torch.testing.assert_close(captured(*batches), loss_of(call(*batches)))
