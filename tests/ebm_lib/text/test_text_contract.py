"""What every public function promises: device and dtype, arguments untouched, one seed one result, vmap, capture."""

import inspect

import pytest
import torch

from ebm_lib import text

G = torch.Generator


def gen(seed=0):
    return G().manual_seed(seed)


def floats(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=gen(7), dtype=torch.float64).to(dtype)


Y = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])
X = Y.clone()
X[0, 2] = X[1, 3] = text.MASK
COUNTS = torch.tensor([3, 0, 1, 0, 0, 4, 8, 2, 5, 6])
PAIR = text.pack_pair(Y[:, :2], Y[:, 2:])


def masked(dtype, device):
    return text.MaskedLanguageModel(
        10, 4, 2, 1, 9, reach=1, next_sentence=True, generator=gen(), dtype=dtype, device=device
    )


def skip_gram(dtype, device):
    return text.SkipGram(10, 4, generator=gen(), dtype=dtype, device=device)


def ranks(dtype, device):
    return text.WindowEnergy(10, 4, 5, 6, generator=gen(), dtype=dtype, device=device)


def encoder(dtype, device):
    return text.Transformer(4, 2, 1, generator=gen(), dtype=dtype, device=device)


# name: (call of (tensors, dtype, device, generator), tensors, does the result follow dtype, can it run on meta)
CALLS = {
    "mask_tokens": (lambda t, d, v, g: text.mask_tokens(*t, 10, p=0.5, generator=g), [Y], False, True),
    "mask_apart": (lambda t, d, v, g: text.mask_apart(*t, 3, generator=g), [Y], False, True),
    "pack_pair": (lambda t, d, v, g: text.pack_pair(*t), [Y, X], False, True),
    "word_counts": (lambda t, d, v, g: text.word_counts(*t, 10), [Y], False, True),
    "windows": (lambda t, d, v, g: text.windows(t[0][0], 2), [Y], False, True),
    "hold_out": (lambda t, d, v, g: text.hold_out(list(t[0]), 0.5, generator=g), [Y], False, True),
    "noise_distribution": (lambda t, d, v, g: text.noise_distribution(*t, dtype=d), [COUNTS], True, False),
    "draw_words": (lambda t, d, v, g: text.draw_words(t[0], (4, 3), generator=g), [COUNTS.double()], False, False),
    "subsample": (lambda t, d, v, g: text.subsample(t[0][0], t[1], 0.1, generator=g), [Y, COUNTS], False, False),
    "skip_gram_pairs": (lambda t, d, v, g: text.skip_gram_pairs(t[0][0], 2, generator=g), [Y], False, False),
    "negative_sampling": (lambda t, d, v, g: text.negative_sampling(*t), [floats(3), floats(3, 4)], True, True),
    "nearest": (lambda t, d, v, g: text.nearest(*t, 2), [floats(10, 3), Y], True, True),
    "replace_middle": (lambda t, d, v, g: text.replace_middle(*t, 10, generator=g), [Y], False, True),
    "blank_energies": (
        lambda t, d, v, g: text.blank_energies(text.Bigram(list(t[0]), 10, dtype=d), t[0], t[1] == text.MASK),
        [Y, X],
        True,
        False,
    ),
    "Unigram": (lambda t, d, v, g: text.Unigram(t[0], 10, dtype=d).log_prob(*t), [Y, X], True, True),
    "Bigram": (lambda t, d, v, g: text.Bigram(t[0][0], 10, dtype=d).log_prob(*t), [Y, X], True, True),
    "Attention": (
        lambda t, d, v, g: encoder(d, v).blocks[0].attention(*t),
        [floats(2, 5, 4), floats(2, 3, 4), torch.zeros(2, 3, dtype=torch.bool)],
        True,
        True,
    ),
    "Transformer": (
        lambda t, d, v, g: encoder(d, v)(*t),
        [floats(2, 5, 4), torch.zeros(2, 5, dtype=torch.bool)],
        True,
        True,
    ),
    "MaskedLanguageModel": (lambda t, d, v, g: masked(d, v)(*t), [X], True, True),
    "MaskedLanguageModel.energy": (lambda t, d, v, g: masked(d, v).energy(*t), [X, Y], True, True),
    "MaskedLanguageModel.fill_in": (lambda t, d, v, g: masked(d, v).fill_in(*t), [X], True, False),
    "MaskedLanguageModel.next_sentence_energy": (
        lambda t, d, v, g: masked(d, v).next_sentence_energy(*t),
        [PAIR],
        True,
        True,
    ),
    "SkipGram": (lambda t, d, v, g: skip_gram(d, v)(*t), [Y[..., None], X[..., None]], True, True),
    "WindowEnergy": (lambda t, d, v, g: ranks(d, v)(*t), [Y], True, True),
    "WindowEnergy.middle_energies": (lambda t, d, v, g: ranks(d, v).middle_energies(*t), [Y], True, True),
}
NOT_OF_TENSORS = {"fill_in_words", "load_models", "save_models", "sentence_starts", "tokenize"}
NOT_CALLED = {"Block", "Corruption", "SkipGramPairs", "Stored", "Vocabulary"}  # Block is within Transformer
ALL = pytest.mark.parametrize(("call", "tensors", "floating", "meta"), CALLS.values(), ids=CALLS)


def parts(result):
    return list(result) if isinstance(result, tuple | list) else [result]


def flat(result):
    return [tensor for part in parts(result) for tensor in parts(part)]


def cast(tensors, dtype, device="cpu"):
    return [t.to(device, dtype) if t.is_floating_point() else t.to(device) for t in tensors]


def test_every_public_name_is_held_to_the_contract():
    public = {name for name in text.__all__ if callable(getattr(text, name))}
    assert {name.split(".")[0] for name in CALLS} | NOT_OF_TENSORS | NOT_CALLED == public
    assert {name for name in NOT_OF_TENSORS if not inspect.isfunction(getattr(text, name))} == set()


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_device_and_dtype_follow_the_arguments(call, tensors, floating, meta, dtype):
    real = flat(call(cast(tensors, dtype), dtype, "cpu", gen()))
    assert {t.dtype for t in real if t.is_floating_point()} == ({dtype} if floating else set())
    if meta:
        away = flat(call(cast(tensors, dtype, "meta"), dtype, "meta", gen()))
        assert [(t.device.type, t.dtype, t.shape) for t in away] == [("meta", t.dtype, t.shape) for t in real]


@ALL
def test_single_precision_agrees_with_double(call, tensors, floating, meta):
    for one, two in zip(
        flat(call(cast(tensors, torch.float32), torch.float32, "cpu", gen())),
        flat(call(tensors, torch.float64, "cpu", gen())),
        strict=True,
    ):
        torch.testing.assert_close(one.to(two.dtype), two, rtol=1e-4, atol=1e-5)


@ALL
def test_one_seed_one_result_and_arguments_stay_as_they_were(call, tensors, floating, meta):
    copies, state = [t.clone() for t in tensors], torch.get_rng_state()
    first, second = (flat(call(copies, torch.float64, "cpu", gen(3))) for _ in range(2))
    for one, two in zip(first, second, strict=True):
        assert torch.equal(one, two)
    assert all(torch.equal(a, b) and a._version == 0 for a, b in zip(copies, tensors, strict=True))
    assert torch.equal(torch.get_rng_state(), state)  # nothing was drawn from torch's global generator


@pytest.mark.parametrize(
    "name", ["mask_tokens", "mask_apart", "draw_words", "subsample", "skip_gram_pairs", "replace_middle", "hold_out"]
)
def test_another_seed_gives_something_else_and_the_global_generator_serves_too(name):
    call, tensors, _, _ = CALLS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        results = [flat(call(tensors, None, "cpu", gen(seed))) for seed in range(20)]
        results += [flat(call(tensors, None, "cpu", None)) for _ in range(20)]
    shown = {tuple(tuple(t.flatten().tolist()) for t in result) for result in results[:20]}
    assert len(shown) > 1
    assert len({tuple(tuple(t.flatten().tolist()) for t in result) for result in results[20:]}) > 1


VMAPPED = {
    "negative_sampling": (text.negative_sampling, [floats(3), floats(3, 4)]),
    "pack_pair": (text.pack_pair, [Y, X]),
    "Transformer": (encoder(torch.float64, "cpu"), [floats(2, 5, 4)]),
    "MaskedLanguageModel.energy": (masked(torch.float64, "cpu").energy, [X, Y]),
    "SkipGram": (skip_gram(torch.float64, "cpu"), [Y[..., None], X[..., None]]),
    "WindowEnergy": (ranks(torch.float64, "cpu"), [Y]),
}


@pytest.mark.parametrize(("function", "tensors"), VMAPPED.values(), ids=VMAPPED)
def test_vmap_over_the_batch_is_the_batch(function, tensors):
    torch.testing.assert_close(torch.func.vmap(function)(*tensors), function(*tensors))


@pytest.mark.parametrize("name", ["Transformer", "MaskedLanguageModel.energy", "SkipGram", "WindowEnergy"])
def test_an_energy_is_captured_in_one_graph(name):
    function, tensors = VMAPPED[name]
    captured = torch.compile(function, backend="eager", fullgraph=True)
    torch.testing.assert_close(captured(*tensors), function(*tensors))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_energies_and_vectors_that_are_not_finite_are_refused(bad):
    for place in (0, 1):
        spoilt = [floats(3), floats(3, 4)]
        spoilt[place][..., -1] = bad if bad != bad or place == 0 else -bad
        with pytest.raises(ValueError, match="must be finite"):
            text.negative_sampling(*spoilt)
    vectors = floats(10, 3)
    vectors[4, 1] = bad
    with pytest.raises(ValueError, match="vectors must be finite"):
        text.nearest(vectors, torch.tensor([5]), 2)
