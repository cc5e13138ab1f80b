"""Whatever bytes a student kernel sends, they end in plain data, a protocol error or the end of the file.

``FUZZ_FRAMES=1000000 python -m pytest -n 0 -s tests/grading/test_wire_fuzz.py`` tries more of them.
"""

import gc
import json
import os
import random
import socket
import sys
import time
from collections import Counter, namedtuple

import numpy as np
import torch

from grading.kernels.wire import Channel, Closed, Late, ProtocolError, Record, decode, encode

FRAMES = int(os.environ.get("FUZZ_FRAMES", 20_000))
SEED = int(os.environ.get("FUZZ_SEED", 0))

Point = namedtuple("Point", "count y")
VALUES = [
    [None, True, 1, -(2**70), 0.5, float("nan"), 1j, "é", b"abc", ...],
    {"a": [1, (2, {3})], (1, None): frozenset([1.5]), 2: {}},
    [range(3), slice(1, None), torch.Size([2, 3]), torch.float32],
    [Point(1, "b"), torch.max(torch.eye(3), 0)],
    [torch.arange(6.0).reshape(2, 3), torch.tensor([True]), torch.zeros(0, 3), torch.ones(2, dtype=torch.bfloat16)],
    torch.ones(2, requires_grad=True),
    [np.arange(6).reshape(3, 2), np.array(["a", "éb"]), np.array(["2020"], "M8[D]"), np.float64(1), np.array([b"a"])],
    {"loss": 0.25, "grad": torch.randn(3), "history": [{"step": i, "loss": 1 / (i + 1)} for i in range(5)]},
    [object(), [object()]],
]
TAGS = "i f c b l t d s fs n T A np size dtype range slice ellipsis h os.system".split()
WORDS = [
    *("", "a", "1", "-1", "nan", "-inf", "0x1.8p+1", "float32", "bool", "float8_e5m2", "quint8", "<f8", "|b1", "<U2"),
    *("|S3", "<M8[ns]", "|O", "_a", "__class__", "count", "\ud800", "é", "9" * 50, "__import__('os').system('true')"),
]


def _frames():
    """Good frames: header and body."""
    for value in VALUES:
        outputs = []
        tree, buffers = encode(value, opaque=lambda v: ["h", 7], outputs=outputs)
        yield {"op": "result", "value": tree}, [bytes(b) for b in buffers]


GOOD = list(_frames())


def _packed(raw, body):
    return b"EBM1" + len(raw).to_bytes(4, "little") + len(body).to_bytes(8, "little") + raw + body


def _text(header, buffers):
    return json.dumps({**header, "buffers": [len(b) for b in buffers]}).encode()


def _flip(r, data):
    """Change some bytes."""
    data = bytearray(data)
    for _ in range(r.choice([1, 1, 1, 2, 8])):
        data[r.randrange(len(data))] = r.choice([r.randrange(256), data[r.randrange(len(data))]])
    return bytes(data)


def _cut(r, data):
    """End early, lose a piece in the middle, or say a piece twice."""
    i, j = sorted((r.randrange(len(data) + 1), r.randrange(len(data) + 1)))
    return r.choice([data[:i], data[:i] + data[j:], data[:j] + data[i:]])


def _junk(r, depth=0):
    """Any JSON, mostly in the shape of a node."""
    kind = r.randrange(12 if depth < 5 else 6)
    if kind < 2:
        return r.choice([None, True, False, 0, 1, 2, 3, -1, 2**31, 2**62, -(2**63), 2**64, 10**30, 0.0, 1.5, 1e300])
    if kind < 5:
        return r.choice(WORDS)
    if kind == 5:
        return r.choice([[], {}, [0], [2, 3], [0, 2**40], [1] * 40])
    if kind == 6:
        return {r.choice(WORDS): _junk(r, depth + 1) for _ in range(r.randrange(3))}
    if kind == 7:
        return [_junk(r, depth + 1) for _ in range(r.randrange(4))]
    return [r.choice(TAGS), *(_junk(r, depth + 1) for _ in range(r.choice([0, 1, 1, 1, 2, 3, 4])))]


def _places(tree, found):
    """Every list and place in it."""
    stack = [tree]
    while stack:
        node = stack.pop()
        inner = node.items() if type(node) is dict else enumerate(node)
        for key, value in inner:
            found.append((node, key))
            if type(value) in (list, dict):
                stack.append(value)


def _edit(r, header):
    """Change some places of a header's tree."""
    header = json.loads(json.dumps(header))
    for _ in range(r.choice([1, 1, 2, 4])):
        found = []
        _places(header, found)
        node, key = r.choice(found)
        what = r.randrange(6)
        if what == 0 and type(node) is list:
            del node[key]
        elif what == 1 and type(node) is list:
            node.insert(key, json.loads(json.dumps(node[key])))
        elif what == 2:
            other, place = r.choice(found)
            node[key] = json.loads(json.dumps(other[place]))
        elif what == 3 and type(node[key]) is int:
            node[key] += r.choice([-1, 1, 2**32, -(2**63)])
        elif what == 4 and type(node[key]) is str:
            node[key] = r.choice(TAGS + WORDS)
        else:
            node[key] = _junk(r)
    return header


def mutant(r):
    """The bytes of a frame that is wrong in some way; now and then of a right one."""
    header, buffers = r.choice(GOOD)
    body = b"".join(buffers)
    good = _packed(_text(header, buffers), body)
    way = r.randrange(8)
    if way == 0:
        return _flip(r, good)
    if way == 1:
        return _cut(r, good)
    if way == 2:  # two frames spliced
        other = _packed(_text(*r.choice(GOOD)), b"")
        return good[: r.randrange(len(good))] + other[r.randrange(len(other)) :]
    if way == 3:  # the header's text, with a right length
        return _packed(r.choice([_flip, _cut])(r, _text(header, buffers)), body)
    if way == 4:  # other buffers than the tree expects
        others = [x for _, b in r.sample(GOOD, 2) for x in b] + [r.randbytes(r.randrange(40))]
        r.shuffle(others)
        return _packed(_text(header, others), b"".join(others))
    if way == 5:
        others = [r.randbytes(r.choice([1, 4, 8, 24])) for _ in range(4)]
        return _packed(_text({"op": "result", "value": _junk(r)}, others), b"".join(others))
    return _packed(_text(_edit(r, header), buffers), body)


class Handle:
    """What stands for a handle here."""


def plain(value):
    """Whether a value is made of nothing but what may arrive."""
    stack = [value]
    while stack:
        v = stack.pop()
        kind = type(v)
        if kind in (list, tuple, set, frozenset, Record):
            stack += v
            if kind is Record and (set(vars(v)) != {"_fields", *v._fields} or any(f[0] == "_" for f in v._fields)):
                return False
        elif kind is dict:
            stack += [*v.keys(), *v.values()]
        elif kind is torch.Tensor:
            if v.layout is not torch.strided or v.device.type != "cpu" or not v.is_contiguous() or v.grad_fn:
                return False
            if v.dtype is torch.bool and not set(v.view(torch.uint8).reshape(-1).tolist()) <= {0, 1}:
                return False
        elif kind is np.ndarray or issubclass(kind, np.generic):
            if v.dtype.kind not in "biufcSUMm" or v.dtype.hasobject or v.dtype.fields or kind.__module__ != "numpy":
                return False
            v.tolist()  # strings of impossible characters cannot be read
        elif kind is str:
            v.encode()
        elif kind not in (
            int,
            float,
            complex,
            bool,
            bytes,
            type(None),
            type(...),
            range,
            slice,
            torch.Size,
            torch.dtype,
        ):
            if kind is not Handle:
                return False
    return True


WATCHED = (
    "exec",
    "compile",
    "import",
    "open",
    "os.",
    "subprocess.",
    "socket.connect",
    "pickle.",
    "marshal.",
    "ctypes.",
)
seen: list[str] = []
watching = False


def _audit(event, args):
    if watching and event.startswith(WATCHED):
        seen.append(f"{event} {args}"[:200])


def deliver(data):
    """What becomes of a frame's bytes: the name of an error, or ``value``."""
    a, b = socket.socketpair()
    with b:
        a.sendall(data)  # small enough for the socket's memory
        a.close()
        try:
            header, buffers = Channel(b).receive(time.monotonic() + 60)
            value = decode(
                header.get("value"), buffers, opaque=lambda node: Handle(), gradient=lambda t, k: t.requires_grad_()
            )
        except (ProtocolError, Closed, Late) as error:
            return type(error).__name__, str(error)
    return "value", value


def text(value):
    """A value in words, the same for the same value."""
    kind = type(value).__name__
    if isinstance(value, list | tuple):
        return f"{kind}[{', '.join(map(text, value))}]"
    if isinstance(value, set | frozenset):
        return f"{kind}[{', '.join(sorted(map(text, value)))}]"
    if isinstance(value, dict):
        return f"{kind}[{', '.join(f'{text(k)}: {text(v)}' for k, v in value.items())}]"
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {list(value.shape)} {value.detach().view(-1).view(torch.uint8).tolist()}"
    if isinstance(value, np.ndarray | np.generic):
        return f"{kind} {value.dtype.str} {value.shape} {value.tobytes()}"
    return kind if kind == "Handle" else repr(value)


def again(value):
    """Whether a value that arrived can be sent on, and arrives as it is."""
    tree, buffers = encode(value, opaque=lambda v: ["h"])
    return text(decode(tree, buffers, opaque=lambda n: Handle())) == text(value)


def test_good_frames_arrive():
    for header, buffers in GOOD:
        kind, value = deliver(_packed(_text(header, buffers), b"".join(buffers)))
        assert kind == "value"
        assert plain(value)


def test_no_frame_does_harm(capsys):
    global watching
    sys.addaudithook(_audit)
    ends, slowest, start = Counter(), 0.0, time.monotonic()
    gc.collect()
    for i in range(FRAMES):
        r = random.Random(f"{SEED} {i}")
        data = mutant(r)
        before = time.monotonic()
        watching = True
        try:
            kind, value = deliver(data)
        except Exception as error:
            raise AssertionError(f"frame {i} of seed {SEED}: {data[:2000]!r}") from error
        finally:
            watching = False
        slowest = max(slowest, time.monotonic() - before)
        assert not seen, (i, seen, data)
        ends[kind] += 1
        if kind == "value":
            assert plain(value), (i, data)
            if i % 4 == 0:
                assert again(value), (i, data)
        else:
            assert value.isascii(), (i, value)
            assert len(value) < 300, (i, value)
    rate = FRAMES / (time.monotonic() - start)
    with capsys.disabled():
        print(f"\n{FRAMES} frames, {rate:.0f} a second, slowest {slowest:.3f} s: {dict(ends)}")
    assert slowest < 10
    # Each end is reached often enough: the mutations are neither all nonsense nor all harmless.
    assert min(ends[k] for k in ("value", "ProtocolError", "Closed")) > FRAMES / 50
    assert not ends["Late"]
