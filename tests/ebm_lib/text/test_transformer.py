"""The encoder: attention against loops in plain Python and torch's own module, equivariance, padding, finite slopes."""

import math

import pytest
import torch
from torch import nn

from ebm_lib.nn import init_
from ebm_lib.text import Attention, Block, Transformer


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def attention(dim=6, heads=3, seed=1):
    return init_(Attention(dim, heads, dtype=torch.float64), torch.Generator().manual_seed(seed))


def encoder(dim=8, heads=2, layers=2, seed=3, **options):
    return Transformer(
        dim, heads, layers, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, **options
    )


def by_hand(layer, x, memory, seen):
    """One text, one token and one head at a time, in Python numbers; weights[head][token] and the result."""
    q, k, v = layer.query(x).tolist(), layer.key(memory).tolist(), layer.value(memory).tolist()
    size = layer.dim // layer.heads
    weights, mixed = [], [[] for _ in q]
    for head in range(layer.heads):
        own = slice(head * size, (head + 1) * size)
        rows = []
        for token, query in enumerate(q):
            logits = [sum(a * b for a, b in zip(query[own], key[own], strict=True)) / math.sqrt(size) for key in k]
            masses = [math.exp(logit) if see else 0.0 for logit, see in zip(logits, seen, strict=True)]
            row = [mass / sum(masses) for mass in masses]
            rows.append(row)
            mixed[token] += [sum(w * value[own][d] for w, value in zip(row, v, strict=True)) for d in range(size)]
        weights.append(rows)
    return torch.tensor(weights, dtype=torch.float64), layer.out(torch.tensor(mixed, dtype=torch.float64))


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("heads", [1, 2, 3, 6])
def test_attention_is_what_a_loop_gives(heads, cross):
    layer, x = attention(heads=heads), rand(2, 4, 6)
    memory = rand(2, 5, 6, seed=2) if cross else x
    padding = torch.zeros(memory.shape[:2], dtype=torch.bool)
    padding[0, 1] = padding[1, -1] = True
    given = memory if cross else None
    result, weights = layer(x, given, padding), layer.weights(x, given, padding)
    for text in range(2):
        expected_weights, expected = by_hand(layer, x[text], memory[text], (~padding[text]).tolist())
        torch.testing.assert_close(weights[text], expected_weights)
        torch.testing.assert_close(result[text], expected)


def test_attention_is_torchs():
    layer, x = attention(8, 2), rand(3, 5, 8)
    theirs = nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([layer.query.weight, layer.key.weight, layer.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([layer.query.bias, layer.key.bias, layer.value.bias]))
        theirs.out_proj.weight.copy_(layer.out.weight)
        theirs.out_proj.bias.copy_(layer.out.bias)
    padding = torch.tensor([[False] * 5, [False] * 4 + [True], [True] + [False] * 4])
    expected, weights = theirs(x, x, x, key_padding_mask=padding, average_attn_weights=False)
    torch.testing.assert_close(layer(x, padding=padding), expected)
    torch.testing.assert_close(layer.weights(x, padding=padding), weights)


def test_a_block_is_torchs_layer_with_the_norm_first():
    block = init_(Block(8, 2, 12, dtype=torch.float64), torch.Generator().manual_seed(0))
    theirs = nn.TransformerEncoderLayer(
        8, 2, 12, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    own = block.attention
    with torch.no_grad():
        block.before_attention.weight.copy_(rand(8, seed=5))
        block.before_mlp.bias.copy_(rand(8, seed=6))
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": torch.cat([own.query.weight, own.key.weight, own.value.weight]),
            "self_attn.in_proj_bias": torch.cat([own.query.bias, own.key.bias, own.value.bias]),
            "self_attn.out_proj.weight": own.out.weight,
            "self_attn.out_proj.bias": own.out.bias,
            "linear1.weight": block.up.weight,
            "linear1.bias": block.up.bias,
            "linear2.weight": block.down.weight,
            "linear2.bias": block.down.bias,
            "norm1.weight": block.before_attention.weight,
            "norm1.bias": block.before_attention.bias,
            "norm2.weight": block.before_mlp.weight,
            "norm2.bias": block.before_mlp.bias,
        }
    )
    x, padding = rand(2, 4, 8), torch.tensor([[False] * 4, [False, True, False, False]])
    torch.testing.assert_close(block(x, padding), theirs(x, src_key_padding_mask=padding))


@pytest.mark.parametrize("seed", range(5))
def test_permuting_the_tokens_permutes_the_result_and_changes_it(seed):
    model, x = encoder(), rand(3, 6, 8, seed=seed)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed + 1))
    padding = torch.zeros(3, 6, dtype=torch.bool)
    padding[:, 2] = True
    torch.testing.assert_close(model(x[:, order]), model(x)[:, order])
    torch.testing.assert_close(model(x[:, order], padding[:, order]), model(x, padding)[:, order])
    assert (model(x[:, order]) - model(x)).abs().max() > 0.1  # equivariant, not invariant


def test_what_stands_in_the_padding_is_not_seen():
    model, x = encoder(), rand(2, 6, 8)
    padding = torch.zeros(2, 6, dtype=torch.bool)
    padding[0, 4:] = padding[1, 0] = True
    other = torch.where(padding[..., None], rand(2, 6, 8, seed=9) * 100, x)
    result = model(x, padding)
    torch.testing.assert_close(result[~padding], model(other, padding)[~padding])
    torch.testing.assert_close(result[0, :4], model(x[0, :4]))
    assert (model(x)[0, :4] - result[0, :4]).abs().max() > 1e-3


def test_tokens_talk_within_their_text_only():
    model, x = encoder(), rand(4, 5, 8)
    for text in range(4):
        torch.testing.assert_close(model(x)[text], model(x[text]))
    torch.testing.assert_close(model(x.view(2, 2, 5, 8)), model(x).view(2, 2, 5, 8))
    torch.testing.assert_close(torch.func.vmap(model)(x), model(x))


def test_each_layer_counts_and_the_last_norm_is_last():
    two, x = encoder(layers=2), rand(5, 8)
    by_blocks = two.last_norm(two.blocks[1](two.blocks[0](x)))
    torch.testing.assert_close(two(x), by_blocks)
    torch.testing.assert_close(two(x).mean(-1), torch.zeros(5, dtype=torch.float64), atol=1e-12, rtol=0)


def test_slopes_are_those_of_differences():
    model, x = encoder(4, 2, 1), rand(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(model, (x,))


def test_hidden_width_is_four_times_the_tokens_by_default():
    assert encoder().blocks[0].up.out_features == 32
    assert encoder(hidden=5).blocks[1].down.in_features == 5


def test_the_seed_is_the_model():
    one, same, other = encoder(seed=1), encoder(seed=1), encoder(seed=2)
    for (name, a), b, c in zip(one.named_parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert "norm" in name or "before" in name or not torch.equal(a, c)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Attention(6, 4), "heads must divide dim=6, got 4"),
        (lambda: Attention(0, 1), "dim must be"),
        (lambda: Attention(4, 0), "heads must be"),
        (lambda: Block(4, 2, 0), "hidden must be"),
        (lambda: Transformer(4, 2, 0), "layers must be"),
        (lambda: encoder()(rand(3, 7)), r"x must hold tokens \(..., T, 8\)"),
        (lambda: encoder()(rand(8)), "x must hold tokens"),
        (lambda: attention()(rand(3, 6), rand(3, 5)), "memory must hold tokens"),
        (lambda: encoder()(rand(3, 8), torch.zeros(2, dtype=torch.bool)), r"padding must be bool of shape \(3,\)"),
        (lambda: encoder()(rand(3, 8), torch.zeros(3)), "padding must be bool"),
        (lambda: encoder()(rand(3, 8), torch.ones(3, dtype=torch.bool)), "at least one token"),
        (lambda: encoder()(rand(2, 3, 8), torch.tensor([[False] * 3, [True] * 3])), "at least one token"),
        (lambda: attention()(rand(3, 6), rand(0, 6)), r"memory must have at least one entry .*, got shape \(0, 6\)"),
        (lambda: attention().weights(rand(3, 6), rand(0, 6)), "memory must have at least one entry"),
        (lambda: attention().weights(rand(3, 6), padding=torch.ones(3, dtype=torch.bool)), "at least one token"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
