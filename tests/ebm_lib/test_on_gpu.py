"""On a GPU as on the CPU: every documented example, every contract's calls, every method's training.

An example is run with its calls of torch's constructors, of the library's constructors and of its ``device`` options
moved to the GPU, and nothing else: what it computes must stay there, and be what it is on the CPU.
"""

import ast
import copy
import dataclasses
import doctest
import importlib
import importlib.util
import inspect
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ebm_lib
from ebm_lib import check, joint, latent
from ebm_lib.joint import Augmentation, Kornia, SmallEncoder, Views, jigsaw, learn
from ebm_lib.latent import sparse, variational
from ebm_lib.nn import MLP
from ebm_lib.train import fit

DEVICE = "cuda"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
HERE, F64 = Path(__file__).parent, torch.float64
CLOSE = {F64: (1e-7, 1e-9), torch.float32: (1e-3, 1e-4), torch.float16: (1e-2,) * 2, torch.bfloat16: (5e-2,) * 2}


@pytest.fixture(autouse=True)
def settings(monkeypatch):
    """Convolutions in full precision, and torch's defaults put back."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    with torch.random.fork_rng():
        yield
    torch.set_default_dtype(torch.float32)


def seeded(seed=0, device="cpu"):
    return torch.Generator(device).manual_seed(seed)


# --- values and where they are --------------------------------------------------------------------------------------
def moved(value, device):
    """The same with all tensors and modules on the device."""
    if isinstance(value, Tensor | nn.Module):
        return (value if isinstance(value, Tensor) else copy.deepcopy(value)).to(device)
    if isinstance(value, dict):
        return {key: moved(part, device) for key, part in value.items()}
    if isinstance(value, tuple | list):
        parts = [moved(part, device) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def leaves(value):
    """Tensors and numbers within a result, in a fixed order; of anything else its type."""
    if isinstance(value, nn.Module):
        value = list(value.state_dict().values())
    elif isinstance(value, dict):
        value = list(value.values())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, field.name) for field in dataclasses.fields(value) if field.name != "seconds"]
    if isinstance(value, tuple | list):
        return [leaf for part in value for leaf in leaves(part)]
    if isinstance(value, np.ndarray) and value.dtype != object:
        return [torch.from_numpy(value.copy()).to(DEVICE)]
    return [value if isinstance(value, Tensor | int | float | str | None) else type(value).__name__]


def differences(found, expected, free=(), close=CLOSE):
    """What differs: values (but not at the places that are ``free``), dtypes, shapes, devices other than DEVICE."""
    if len(found) != len(expected):
        return [f"{len(found)} results, not {len(expected)}"]
    wrong = []
    for place, (one, other) in enumerate(zip(found, expected, strict=True)):
        if isinstance(other, Tensor):
            if not isinstance(one, Tensor) or one.shape != other.shape or one.dtype != other.dtype:
                wrong.append(f"{place}: {getattr(one, 'shape', one)}, not {other.shape}")
                continue
            if one.device.type not in (DEVICE, "meta"):
                wrong.append(f"{place}: a tensor of shape {tuple(one.shape)} is on the {one.device}")
            rtol, atol = close.get(other.dtype, (0, 0))
            if place not in free and other.device.type != "meta":
                here, there = one.detach().cpu(), other.detach().cpu()
                if not torch.allclose(here, there, rtol, atol, equal_nan=True):
                    wrong.append(f"{place}: {here.flatten()[:4].tolist()}, not {there.flatten()[:4].tolist()}")
        elif isinstance(other, float):
            if place not in free and one != pytest.approx(other, 1e-4, 1e-6, nan_ok=True):
                wrong.append(f"{place}: {one}, not {other}")
        elif place not in free and one != other and not isinstance(other, str):
            wrong.append(f"{place}: {one}, not {other}")
    return wrong


def unequal(one, other):
    """Places at which two results on one device differ: those that torch's global generator decides."""
    pairs = enumerate(zip(one, other, strict=True))
    same = lambda a, b: torch.equal(a, b) if isinstance(a, Tensor) and a.device.type != "meta" else a is b or a == b
    return {k for k, (a, b) in pairs if type(a) is not type(b) or getattr(a, "shape", 0) != getattr(b, "shape", 0)
            or ((not isinstance(a, Tensor) or a.device.type != "meta") and not same(a, b))}  # fmt: skip


def assert_same(call, there=True, close=CLOSE):
    """Hold ``call(device, generator)`` on the GPU to itself on the CPU, with the draws of the same CPU generator.

    With a generator ``there``, on the GPU: two equal runs, on the GPU. Its draws are others than the CPU's, and so may
    be the length of a history that ends early: of the CPU's results, only the tensors' dtypes are asked for.
    """
    expected = leaves(call("cpu", seeded()))
    assert not differences(leaves(call(DEVICE, seeded())), expected, close=close)
    if there:
        first, second = (leaves(call(DEVICE, seeded(device=DEVICE))) for _ in range(2))
        assert not differences(first, second, close=close)
        assert [x.dtype for x in first if isinstance(x, Tensor)] == [x.dtype for x in expected if isinstance(x, Tensor)]


# --- the documented examples ----------------------------------------------------------------------------------------
FIXED = [torch.tensor, torch.as_tensor, torch.zeros, torch.ones, torch.full, torch.empty, torch.eye, torch.arange,
         torch.linspace]  # fmt: skip
DRAWN = [torch.rand, torch.randn, torch.randint, torch.randperm]
MODULES = sorted(
    ".".join(path.relative_to(Path(ebm_lib.__file__).parents[1]).with_suffix("").parts).removesuffix(".__init__")
    for path in Path(ebm_lib.__file__).parent.rglob("*.py")
    if "viz" not in path.parts
)


class Calls(ast.NodeTransformer):
    """Hands every call in a source, ``f(x)``, to ``_call(f, x)``."""

    def visit_Call(self, node):
        self.generic_visit(node)
        return ast.copy_location(ast.Call(ast.Name("_call", ast.Load()), [node.func, *node.args], node.keywords), node)


def holds_tensors(value):
    value = list(value.values()) if isinstance(value, dict) else value
    if isinstance(value, tuple | list):
        return any(map(holds_tensors, value))
    return isinstance(value, Tensor | nn.Module | types.FunctionType)


def lacks_device(f, args, kw):
    """Whether a call of a function of the library leaves its device open, but not the generator, if it takes one."""
    try:
        if not f.__module__.startswith("ebm_lib") or f.__name__ == "kind_of":
            return False
        takes, bound = inspect.signature(f).parameters, inspect.signature(f).bind_partial(*args, **kw).arguments
    except (ValueError, TypeError, AttributeError):  # nothing to inspect, or the call will raise
        return False
    drawn_by_one = "generator" not in takes or bound.get("generator") is not None
    return "device" in takes and "device" not in bound and drawn_by_one


def caller(device, origin):
    """How an example's calls are done: constructors give what is on ``device``, generators are on ``origin``."""

    def call(f, *args, **kw):
        if f is torch.Generator:
            return torch.Generator(origin)
        if any(f is g for g in FIXED):
            return f(*args, **({"device": device} | kw))
        if any(f is g for g in DRAWN):
            place = getattr(kw.get("generator"), "device", "cpu")
            return f(*args, **({"device": place} | kw)).to(kw.get("device", device))
        owner = getattr(f, "__self__", None)
        if isinstance(owner, Tensor) and f.__name__ == "numpy":
            return owner.detach().cpu().numpy()
        result = f(*args, **({"device": device} if lacks_device(f, args, kw) else {}), **kw)
        if isinstance(result, nn.Module):
            built_there = all(p.device.type == torch.device(device).type for p in result.parameters())
            return result.to(device) if inspect.isclass(f) or built_there else result  # buffers follow
        own = not getattr(f, "__code__", call.__code__).co_filename.endswith(".py")  # defined by the example
        of_tensors = own or isinstance(f, nn.Module) or holds_tensors((owner, args, kw))
        movable = isinstance(result, Tensor | tuple | list) and not of_tensors  # by the reader; CPU draws, for one
        return moved(result, device) if movable else result

    return call


def run_example(test, device, origin="cpu", seed=0):
    """All values of an example's expressions, then of its variables; and which lines raised what."""
    scope = dict(test.globs) | {"_call": caller(device, origin)}
    before, values, raised = set(scope), [], []
    torch.manual_seed(seed)
    for example in test.examples:
        tree = ast.fix_missing_locations(Calls().visit(ast.parse(example.source)))
        try:
            if len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr):
                values += leaves(eval(compile(ast.Expression(tree.body[0].value), test.name, "eval"), scope))
            else:
                exec(compile(tree, test.name, "exec"), scope)
            raised.append("")
        except Exception as error:
            raised.append(f"{type(error).__name__}: {error}")
    names = sorted(n for n in set(scope) - before if n != "__builtins__" and not isinstance(scope[n], torch.Generator))
    return values + leaves([scope[name] for name in names]), raised


def kinds(raised):
    return [error.split(":")[0] for error in raised]


def judge(test):
    """What is wrong with an example on the GPU, as lines of text."""
    documented = [bool(example.exc_msg) for example in test.examples]
    for dtype in (F64, torch.float32):  # in double precision where the example leaves the choice
        torch.set_default_dtype(dtype)
        expected, raised = run_example(test, "cpu")
        if [bool(error) for error in raised] == documented:
            break
    else:
        return [f"fails on the CPU: {raised}"]
    free = unequal(expected, run_example(test, "cpu", seed=1)[0])
    found, raised_there = run_example(test, DEVICE)
    if kinds(raised_there) != kinds(raised):
        return [f"raised {[error for error in raised_there if error]}, not {[error for error in raised if error]}"]
    wrong = differences(found, expected, free)
    if "Generator" in test.docstring:
        (first, raised_there), (second, _) = (run_example(test, DEVICE, DEVICE) for _ in range(2))
        if kinds(raised_there) != kinds(raised):
            return [*wrong, f"with a generator on the GPU raised {[error for error in raised_there if error]}"]
        wrong += [f"with a generator on the GPU, {line}" for line in differences(first, second, free)]
    return wrong


@pytest.mark.parametrize("name", MODULES)
def test_documented_examples(name):
    module = importlib.import_module(name)
    tests = [test for test in doctest.DocTestFinder().find(module, name) if test.examples]
    wrong = [f"{test.name}: {line}" for test in tests for line in judge(test)]
    assert not wrong, "\n".join(wrong)


# --- the calls of the other files' contracts ------------------------------------------------------------------------
def load(path):
    """Another file of tests, as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem + "_for_gpu", HERE / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LOSSES, JOINT = load("losses/test_losses_contract.py"), load("joint/test_joint_contract.py")
SAMPLING, TEXT = load("sampling/test_contract.py"), load("text/test_text_contract.py")
ADVERSARIAL, BOLTZMANN = load("test_adversarial.py"), load("test_boltzmann.py")
SCORE, DENOISING = load("test_score.py"), load("test_denoising.py")
METHODS, WORLD = load("joint/test_joint_methods.py"), load("world/test_world_contract.py")
PURE = {
    **{f"losses.{name}": case for name, case in LOSSES.CALLS.items()},
    **{f"joint.{name}": case[:2] for name, case in (JOINT.CRITERIA | JOINT.MEASURES).items()},
    **{f"adversarial.{name}": case for name, case in ADVERSARIAL.CALLS.items()},
    **{f"score.{name}": (call, [y]) for name, (call, y) in SCORE.CALLS.items()},
    **{f"world.{name}": case for name, case in WORLD.PURE.items()},
}
DRAWING = {
    **{f"denoising.{n}": lambda d, g, c=c: c(DENOISING.Y.to(d), g) for n, c in DENOISING.CALLS.items()},
    **{f"boltzmann.{n}": lambda d, g, c=c: c(*BOLTZMANN.setting(device=d), g) for n, c in BOLTZMANN.CALLS.items()},
    **{f"sampling.{n}": lambda d, g, c=c: c(SAMPLING.sample().to(d), g) for n, (c, _) in SAMPLING.CALLS.items()},
    **{f"text.{n}": lambda d, g, c=c: c[0](TEXT.cast(c[1], F64, d), F64, d, g) for n, c in TEXT.CALLS.items()},
    **{f"world.{n}": call for n, call in WORLD.DRAWING.items()},
}
ON_CPU = "gibbs langevin_step mala_step hmc_step leapfrog annealed_importance".split()  # whose noise those tests draw


@pytest.mark.parametrize("name", PURE)
def test_a_contracts_call_and_its_gradient(name):
    call, tensors = PURE[name]

    def run(device, generator):
        here = [t.detach().to(device).requires_grad_(t.is_floating_point()) for t in tensors]
        result = call(*here)
        slopes = [part for part in leaves(result) if isinstance(part, Tensor) and part.requires_grad]
        inputs = [t for t in here if t.requires_grad]
        gradient = torch.autograd.grad(sum(p.sum() for p in slopes), inputs, allow_unused=True) if slopes else ()
        return result, [g for g in gradient if g is not None]

    assert_same(run, there=False)


@pytest.mark.parametrize("name", DRAWING)
def test_a_contracts_call_with_a_generator(name):
    assert_same(DRAWING[name], name.removeprefix("sampling.") not in ON_CPU)


# --- joint embedding, trained ---------------------------------------------------------------------------------------
def noisy(x, g):
    return x + 0.1 * torch.randn(x.shape, generator=g, device=g.device, dtype=x.dtype).to(x.device)


def views_of(name):
    """The views that a method of the other file is trained with, drawn by any generator for pictures anywhere."""
    if name == "pirl":
        return Views(noisy, lambda x, g: jigsaw(noisy(x, g), grid=2, generator=g))
    return Views(*[noisy] * (4 if name in ("swav", "sigreg") else 2))


def train(name, device, g, views=None, dtype=F64, **options):
    method = METHODS.METHODS[name][0](seeded(1)).to(device, dtype)
    images = METHODS.images().to(device, dtype)
    options = {"batch_size": 32, "progress": False, "generator": g} | options
    history = learn(method, images, views or views_of(name), epochs=1, **options)
    return history.loss, history.metrics, method


@pytest.mark.parametrize("name", METHODS.METHODS)
def test_a_method_trains_as_on_the_cpu(name):
    assert_same(lambda device, g: train(name, device, g))


@pytest.mark.parametrize("name", ["moco", "pirl", "byol", "deepcluster", "swav"])
@pytest.mark.parametrize("origin", ["cpu", DEVICE])
def test_a_run_cut_and_resumed_on_the_gpu_is_the_uncut_run(name, origin, tmp_path):
    options = {"checkpoint": tmp_path / "run.pt", "checkpoint_every": 1, "batch_size": 24}
    count = 0

    def failing(x, g):
        nonlocal count
        count += 1
        if count == 3:
            raise InterruptedError
        return views_of(name)(x, g)

    whole = leaves(train(name, DEVICE, seeded(2, origin), batch_size=24))
    with pytest.raises(InterruptedError):
        train(name, DEVICE, seeded(2, origin), failing, **options)
    resumed = leaves(train(name, DEVICE, seeded(2, origin), **options))
    assert not differences(resumed, whole)


def test_augmentations():
    from kornia.augmentation import RandomGaussianBlur

    x = torch.rand(6, 3, 16, 16, generator=seeded(3))
    for augment in (Augmentation(16), Augmentation(8, crop=(0.2, 0.5)), Kornia(RandomGaussianBlur((3, 3), (0.1, 2.0)))):
        before = torch.cuda.get_rng_state() if DEVICE == "cuda" else None
        for origin in ("cpu", DEVICE):
            first, second = (augment(x.to(DEVICE), seeded(4, origin)) for _ in range(2))
            assert first.device.type == DEVICE
            assert torch.equal(first, second)
        assert before is None or torch.equal(torch.cuda.get_rng_state(), before)
    views = Views(Augmentation(16))(x.to(DEVICE), seeded(4))
    torch.testing.assert_close(views[0].cpu(), Augmentation(16)(x, seeded(4)), rtol=1e-4, atol=1e-5)


def test_a_stored_encoder_is_evaluated_there():
    method = joint.SimCLR(SmallEncoder((8, 8), generator=seeded()), D=8, hidden=16, generator=seeded()).double()

    def evaluate(device, g):
        encoder, images = moved(method.encoder, device), METHODS.images().double().to(device)
        h, labels = joint.represent(encoder, images, batch_size=40), METHODS.LABELS.to(device)
        probe = joint.linear_probe(h[:64], labels[:64], h[64:], labels[64:])
        return h, tuple(probe), joint.knn(h[:64], labels[:64], h[64:], labels[64:], k=5), joint.collapse(h)

    assert_same(evaluate, there=False)


# --- modules under fit ----------------------------------------------------------------------------------------------
def test_fit_moves_batches_validates_and_ends_with_the_best_weights():
    x = torch.randn(64, 3, generator=seeded(5), dtype=F64)

    def run(device, g):
        net = MLP((3, 8, 1), generator=seeded(6), dtype=F64, device=device)
        loss = lambda net, x: (net(x)[:, 0] - x.prod(1)).square().mean()
        validate = lambda net: loss(net, x.to(device)).item()
        kw = {"clip": 1.0, "validate": validate, "validate_every": 3, "patience": 2, "progress": False}
        return fit(net, loss, x, steps=30, batch_size=16, lr=0.1, generator=g, **kw), net

    assert_same(run)


FEW, ROUNDS, FITTED = {"steps": 4, "progress": False}, {"rounds": 4, "progress": False}, {"steps": 4, "batch_size": 20}
OBSERVED = torch.randn(40, 6, generator=seeded(7), dtype=F64)  # all models below have six dimensions


def conv(g, shape=(1, 2, 3), kernel=2):
    return sparse.ConvSparseCoding(shape, 4, kernel, lam=0.1, generator=g, dtype=F64)


def stack(g):
    return sparse.ConvSparseStack([conv(g), conv(g, (4, 3, 4), 1)])


def quantizer(g):
    encoder, decoder = MLP((6, 8, 4), generator=g, dtype=F64), MLP((4, 8, 6), generator=g, dtype=F64)
    return latent.VQAutoEncoder(encoder, decoder, 4, 5, generator=g)


PRIOR, POOLS = latent.latent_prior("uniform", 1, 32), sparse.torus_pools(3, 3, 2, dtype=F64)
RIVALS = sparse.competition(8, 4, 10.0, dtype=F64)
SINGLE = ["SparseCoding"]  # codes of float64 points are found in float32, to its tolerance: its rounding enters W
# name: (a model, made on the CPU of a generator and options; how it learns; whether it is given a generator)
LEARNERS = {
    "ICA": (lambda **k: latent.ICA(6, **k), {"rounds": 20}, False),
    "PCA": (lambda **k: latent.PCA(6, 2, **k), {}, False),
    "LinearGaussian": (lambda **k: variational.LinearGaussian(6, 2, **k), {}, False),
    "KMeans": (lambda **k: latent.KMeans(6, 3, **k), {"restarts": 2}, True),
    "GaussianMixture": (lambda **k: latent.GaussianMixture(6, 3, **k), {}, True),
    "AutoEncoder": (lambda **k: latent.AutoEncoder(6, 2, **k), FITTED, True),
    "ContractiveAutoEncoder": (lambda **k: latent.ContractiveAutoEncoder(6, 8, lam=0.1, **k), FITTED, True),
    "SaturatingAutoEncoder": (lambda **k: latent.SaturatingAutoEncoder(6, 8, lam=0.1, **k), FITTED, True),
    "SparseAutoEncoder": (lambda **k: latent.SparseAutoEncoder(6, 8, lam=0.1, **k), FITTED, True),
    "LinearAutoEncoder": (lambda **k: latent.LinearAutoEncoder(6, 2, **k), {}, False),
    "LinearAutoEncoder, fitted": (lambda **k: latent.LinearAutoEncoder(6, 2, **k), FITTED, True),
    "FixedPrior": (lambda generator, dtype: latent.FixedPrior(6, PRIOR, beta=5.0, generator=generator), FITTED, True),
    "Unregularized": (lambda **k: latent.Unregularized(6, 2, **k), FITTED, True),
    "Flow": (lambda **k: latent.Flow(6, 2, (8,), **k), FEW | FITTED, True),
    "VQAutoEncoder": (lambda generator, dtype: quantizer(generator), FEW, True),
    "LISTA": (lambda **k: sparse.LISTA(torch.eye(6, dtype=F64), 0.3), FEW | FITTED, True),
    "PSD": (lambda **k: sparse.PSD(6, 8, lam=0.1, **k), FEW | FITTED, True),
    "ConvSparseCoding": (lambda generator, dtype: conv(generator), FEW, True),
    "ConvLISTA": (lambda generator, dtype: sparse.ConvLISTA(conv(generator)), FEW | {"dictionary": True}, True),
    "ConvSparseStack": (lambda generator, dtype: stack(generator), FEW, True),
    "SparseCoding": (lambda **k: sparse.SparseCoding(6, 8, lam=0.1, **k), ROUNDS, True),
    "GroupSparseCoding": (lambda **k: sparse.GroupSparseCoding(6, POOLS, lam=0.1, **k), ROUNDS, True),
    "InhibitedSparseCoding": (lambda **k: sparse.InhibitedSparseCoding(6, RIVALS, lam=0.1, **k), ROUNDS, True),
    "VarianceSparseCoding": (lambda **k: sparse.VarianceSparseCoding((8, 6), lam=0.1, **k), FEW | FITTED, True),
    "GLO": (lambda **k: variational.GLO(6, 2, **k), FITTED, True),
    "VAE": (lambda **k: variational.VAE(6, 2, beta=5.0, hidden=(8,), **k), FITTED, True),
    "ConditionalVAE": (lambda **k: variational.ConditionalVAE(3, 3, 2, beta=5.0, **k), FITTED, True),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_a_latent_variable_model_learns_as_on_the_cpu(name):
    make, options, draws = LEARNERS[name]
    close = CLOSE | {F64: CLOSE[torch.float32]} if name in SINGLE else CLOSE

    def run(device, g):
        model = make(generator=seeded(1), dtype=F64).to(device, F64)
        y = OBSERVED.to(device)
        data = y.split(3, -1) if name == "ConditionalVAE" else (y,)
        learned = model.learn(*data, **options, **({"generator": g} if draws else {}))
        drawn = {"generator": g} if name in ("VAE", "ConditionalVAE") else {}
        return learned, model, (model.free_energy if drawn else model)(*data, **drawn)

    assert_same(run, close=close)


# --- checks ---------------------------------------------------------------------------------------------------------
def test_checks_compare_what_is_on_one_device():
    here, there = torch.arange(3.0), torch.arange(3.0, device=DEVICE)
    for actual, expected in ((here, there), (there, here)):
        with pytest.raises(AssertionError, match=rf"your answer must be on device {expected.device}, got"):
            check.expect_close(actual, expected)
    check.expect_close(there, there.clone())
    check.expect_close(there[1], torch.tensor(1.0, device=DEVICE))
    for slip in (there + 1, here + 1):
        with pytest.raises(AssertionError, match=r"your answer is wrong in 3 of 3 values.* one too much"):
            check.expect_close(there + 1, there, slips={"one too much": slip})
    check.expect_shape(there, (3,))
    check.expect_below(there[0].item(), 0.5)
    check.expect_unchanged(torch.relu, there)
    with pytest.raises(AssertionError, match="1st argument"):
        check.expect_unchanged(torch.relu_, -there)
