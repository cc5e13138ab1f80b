"""The codec and the channel between the kernels: what is sent arrives, and nothing else can."""

import contextlib
import copy
import json
import math
import pickle
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter, OrderedDict, defaultdict, namedtuple
from enum import IntEnum

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grading.kernels.wire import (
    Channel,
    Closed,
    EncodeError,
    Late,
    Limits,
    ProtocolError,
    Record,
    decode,
    encode,
    tensor_from_bytes,
    tensor_to_bytes,
)

DTYPES = [
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32, torch.uint64, torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.complex32, torch.complex64, torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2),
]
Point = namedtuple("Point", "count y")


def no_handle(what):
    raise AssertionError(f"{what!r} was taken for a handle")


def trip(value, **how):
    """A value's way from one kernel to the other."""
    tree, buffers = encode(value, opaque=no_handle)
    text = json.dumps(tree, ensure_ascii=False, allow_nan=False)
    return decode(json.loads(text), [bytes(b) for b in buffers], opaque=no_handle, **how)


def read(tree, *buffers, **how):
    how.setdefault("opaque", no_handle)
    return decode(tree, buffers, **how)


def bits(t):
    return t.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)


def same(a, b):
    """Whether two values have the same types and contents through and through, NaN being like NaN."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and torch.equal(bits(a), bits(b))
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if type(a) is float:
        return (a == b and math.copysign(1, a) == math.copysign(1, b)) or (a != a and b != b)
    if type(a) is complex:
        return same(a.real, b.real) and same(a.imag, b.imag)
    if type(a) in (list, tuple, Record):
        return len(a) == len(b) and all(map(same, a, b))
    if type(a) is dict:
        return same(list(a.items()), list(b.items()))
    if type(a) in (set, frozenset):
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    return a == b


# --- what is sent arrives ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, ..., "", 'é\0\n"\\ 😀', b"", b"\0\xff", 0, -1, 10**3000, -(2**63)),
        *(0.0, -0.0, 0.1, 5e-324, sys.float_info.max, math.inf, -math.inf, math.nan, complex(-0.0, math.nan)),
        *([], (), {}, set(), frozenset(), [[[]]], ((), [()]), {"a": {1: [2]}}, {1, "a", None, (1.5, "b")}),
        *({(1, None): 1, 2.5: 2, b"c": 3, 1j: 4, False: 5, frozenset({1}): 6}, [True, 1, 1.0]),
        *(range(3), range(5, -7, -3), slice(None), slice(1, None, -2), torch.Size([2, 0]), torch.Size([])),
        *(torch.float32, torch.bool, {torch.Size([1]): torch.int8}),
    ],
    ids=lambda v: type(v).__name__,
)
def test_a_plain_value_arrives_as_it_was(value):
    assert same(trip(value), value)


_key = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda k: st.tuples(k, k) | st.frozensets(k, max_size=3),
    max_leaves=4,
)
_value = st.recursive(
    _key | st.floats() | st.complex_numbers() | st.integers(-(10**400), 10**400),
    lambda v: (
        st.lists(v, max_size=4)
        | st.lists(v, max_size=4).map(tuple)
        | st.dictionaries(_key, v, max_size=4)
        | st.sets(_key, max_size=4)
    ),
    max_leaves=25,
)


@settings(max_examples=300, deadline=None)
@given(_value)
def test_every_nested_value_arrives_as_it_was(value):
    assert same(trip(value), value)


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_tensor_of_every_dtype_arrives_bit_by_bit(dtype):
    generator = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 256, (2, 3, 5, dtype.itemsize), generator=generator, dtype=torch.uint8)
    full = (raw % 2 if dtype is torch.bool else raw).view(dtype).squeeze(-1)  # NaNs and subnormals among them
    for t in (full, full[0, 0, 0], full[:0], full.transpose(0, 2), full[:, 1::2, ::2], full[:1].expand(4, 3, 5)):
        assert same(trip(t), t)
        assert same(tensor_from_bytes(str(dtype)[6:], t.shape, tensor_to_bytes(t)), t)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_lazy_conjugates_and_negatives_arrive_worked_out(dtype):
    z = torch.tensor([1 + 2j, 3 - 4j], dtype=dtype)
    assert z.conj().is_conj()
    assert z.conj().imag.is_neg()
    assert trip(z.conj()).tolist() == [1 - 2j, 3 + 4j]
    assert trip(z.conj().imag).tolist() == [-2.0, 4.0]
    assert trip(z.imag).tolist() == [2.0, -4.0]
    assert trip(torch._neg_view(torch.ones(2))).tolist() == [-1.0, -1.0]


ARRAYS = [
    np.array([True, False]),
    *(
        np.arange(6).astype(f"{order}{kind}").reshape(2, 3)
        for order in "<>"
        for kind in ("i2", "u8", "f2", "f8", "c16")
    ),
    np.array(["", "é😀", "ab"]),
    np.array([b"", b"ab\0c"]),
    np.array(["2020-02-29", "NaT"], "M8[D]"),
    np.array([1, 2], "m8[25us]"),
    np.array("NaT", "M8"),
    np.zeros((3, 0, 2)),
    np.array(3.5),
    np.array([], "U"),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype.str}{a.shape}")
def test_an_array_arrives_byte_by_byte(array):
    assert same(trip(array), array)
    assert same(
        trip(array.T[..., ::-1] if array.ndim else array),
        np.ascontiguousarray(array.T[..., ::-1]) if array.ndim else array,
    )
    assert trip(array).flags.writeable


@pytest.mark.parametrize(
    "scalar",
    [
        *(np.float64(0.1), np.float16(2), np.bool_(True), np.int64(-3), np.uint8(3), np.complex64(1j)),
        *(np.str_("é"), np.bytes_(b"a"), np.datetime64("2020-01-01"), np.timedelta64(3, "s"), np.float32("nan")),
    ],
    ids=repr,
)
def test_a_numpy_scalar_stays_one(scalar):
    assert same(trip(scalar), scalar)
    assert same(trip({scalar: 1} if scalar == scalar else scalar), {scalar: 1} if scalar == scalar else scalar)


def test_named_tuples_arrive_as_records():
    point = trip(Point([1.5], y=None))
    assert type(point) is Record
    assert (point.count, point.y, point._fields) == ([1.5], None, ("count", "y"))
    assert point == ([1.5], None)
    values, indices = trip(torch.max(torch.tensor([[1.0, 3.0], [5.0, 2.0]]), 1))
    assert (values.tolist(), indices.tolist()) == ([3, 5], [1, 0])
    assert trip(torch.linalg.qr(torch.eye(2))).R.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(AttributeError, match="does not change"):
        point.y = 3
    with pytest.raises(AttributeError, match="does not change"):
        del point.y
    with pytest.raises(AttributeError):
        _ = point.z
    assert repr(point) == "Record(count=[1.5], y=None)"
    for again in (copy.copy(point), copy.deepcopy(point), pickle.loads(pickle.dumps(point)), trip(point)):
        assert same(again, point)
        assert (again.count, again._fields) == ([1.5], ("count", "y"))


def test_subclasses_arrive_as_what_they_are_beneath():
    class Loud(list):
        def __iter__(self):
            raise RuntimeError("not by this way")

        def __len__(self):
            return 10**9

    class Text(str):
        def __str__(self):
            return "something else"

        def __len__(self):
            return 10**9

    class Real(float):
        def __float__(self):
            return 99.0

    class Whole(int):
        def __int__(self):
            return 99

        def __str__(self):
            return "99"

    class Map(dict):
        def items(self):
            return [("a", "lie")]

        __iter__ = __len__ = None

    class Bytes(bytes):
        def __getitem__(self, key):
            return b"lie"

    class Pair(tuple):
        _fields = ("a", "b", "c")  # one too many

        def __iter__(self):
            return iter("lie")

    colour = IntEnum("colour", {"RED": 3})
    cases = [
        (Loud([1, 2]), [1, 2]),
        (Text("ab"), "ab"),
        (Real(1.5), 1.5),
        (Whole(3), 3),
        (Map(a=1), {"a": 1}),
        (Bytes(b"ab"), b"ab"),
        (Pair((1, 2)), (1, 2)),
        (colour.RED, 3),
        (Counter("aab"), {"a": 2, "b": 1}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (torch.nn.Parameter(torch.ones(2)), torch.ones(2)),
        (np.matrix([[1.0]]), np.array([[1.0]])),
    ]
    for odd, plain in cases:
        assert same(trip(odd), plain), odd
    order = OrderedDict(a=1, b=2)
    order.move_to_end("a")
    assert list(trip(order)) == ["b", "a"]


def test_what_is_no_data_is_left_to_the_caller():
    class Liar:
        __class__ = list

    class Meta(type):
        __hash__ = __eq__ = None

        @property
        def __mro__(cls):
            raise RuntimeError

    class Odd(metaclass=Meta):
        pass

    things = [object(), len, int, torch.nn.Linear(1, 1), iter([]), Liar(), Odd(), np.dtype("f4"), bytearray(b"a")]
    seen = []
    tree, buffers = encode(things, opaque=lambda v: seen.append(v) or ["h", len(seen), {"kind": "x"}])
    assert all(map(lambda a, b: a is b, seen, things))
    assert len(seen) == len(things)
    asked = []
    assert decode(json.loads(json.dumps(tree)), buffers, opaque=lambda n: asked.append(n) or len(asked)) == [
        *range(1, 10)
    ]
    assert asked == [["h", i, {"kind": "x"}] for i in range(1, 10)]


def test_tensors_own_their_memory():
    data = bytearray(tensor_to_bytes(torch.arange(4.0)))
    t = read(["T", "float32", [4], 0, None], memoryview(data))
    a = read(["A", "<f4", [4], 0], memoryview(data))
    data[:] = b"\xff" * 16
    assert t.tolist() == a.tolist() == [0, 1, 2, 3]
    t.resize_(100).zero_()
    assert a.flags.owndata


def test_a_tensor_that_was_sent_is_as_it_was_and_lives_until_then():
    t = torch.arange(4.0)
    tree, buffers = encode([t, t * 2, t.view(2, 2).T], opaque=no_handle)
    torch.full((4,), 9.0)  # takes the memory of what was let go too early
    assert [v.tolist() for v in read(tree, *buffers)] == [[0, 1, 2, 3], [0, 2, 4, 6], [[0, 2], [1, 3]]]
    assert t.resize_(100).shape == (100,)


def test_every_byte_but_zero_is_true():
    raw = bytes([0, 1, 2, 255])
    for t in (read(["T", "bool", [4], 0, None], raw), read(["A", "|b1", [4], 0], raw)):
        assert t.tolist() == [False, True, True, True]
        assert int(t.sum()) == 3
        assert bytes(tensor_to_bytes(torch.as_tensor(t))) == bytes([0, 1, 1, 1])
    assert read(["np", "|b1", 0], b"\x02").tobytes() == b"\x01"


def test_tensors_with_gradients_are_numbered():
    x, w = torch.ones(2, requires_grad=True), torch.nn.Parameter(torch.ones(3))
    outputs = []
    tree, buffers = encode({"a": [x * 2, torch.zeros(1)], "w": w}, opaque=no_handle, outputs=outputs)
    assert [tuple(o.shape) for o in outputs] == [(2,), (3,)]
    assert outputs[0].grad_fn is not None
    assert outputs[1] is w
    marks = []
    value = read(tree, *buffers, gradient=lambda t, k: marks.append(k) or t.requires_grad_())
    assert marks == [0, 1]
    assert (value["a"][0].requires_grad, value["a"][1].requires_grad, value["w"].tolist()) == (True, False, [1, 1, 1])
    with pytest.raises(ProtocolError, match="carries a gradient"):
        read(tree, *buffers)
    assert not trip(w).requires_grad


# --- what cannot be sent -------------------------------------------------------------------------------------------


def _circle():
    value = []
    value.append([value, value])
    return value


def _freed():
    t = torch.ones(100)
    t.untyped_storage().resize_(0)
    return t


class _Dispatch(torch.Tensor):
    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError("student's code")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (_circle, "contain itself"),
        (lambda: "\ud800", "surrogate"),
        (lambda: 1 << 20_000, "An integer has 20001 bits"),
        (lambda: "a" * (1 << 20 | 1), "A string has 1048577 characters"),
        (lambda: [0] * 200_000, "more than 200000 parts"),
        (lambda: {i: None for i in range(20_001)}, "20001 entries"),
        (lambda: set(range(20_001)), "20001 entries"),
        (lambda: [b"a"] * 10_001, "more than 10000 tensors"),
        (lambda: torch.zeros(1).expand(1 << 40), "takes 4398046511104 bytes"),
        (lambda: [torch.zeros(1, dtype=torch.uint8).expand(150 << 20), b"a" * (150 << 20)], "bytes; at most"),
        (lambda: np.broadcast_to(np.float32(0), (1 << 40,)), "takes 4398046511104 bytes"),
        (lambda: torch.zeros([1] * 33), "33 dimensions"),
        (lambda: np.zeros([1] * 33), "33 dimensions"),
        (lambda: torch.eye(2).to_sparse(), "A sparse tensor"),
        (lambda: torch.eye(2).to_sparse_csr(), "A sparse tensor"),
        (lambda: torch.empty(2, device="meta"), "A meta tensor"),
        (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8), "A quantised tensor"),
        (lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]), "A nested tensor"),
        (lambda: torch.ones(2).as_subclass(_Dispatch), "A _Dispatch tensor"),
        (_freed, "memory was taken away"),
        (lambda: np.ma.array([1, 2], mask=[0, 1]), "masked array"),
        (lambda: np.array([object()]), "dtype object"),
        (lambda: np.zeros(2, "i4,f8"), "cannot be handed over"),
        (lambda: np.longdouble(1), "cannot be handed over"),
        (lambda: np.zeros(1, "V3")[0], "cannot be handed over"),
        (lambda: slice("a"), "A slice of something else"),
        (lambda: range(1 << 64), "64 bits"),
        (lambda: {Point(1, torch.ones(1)): 1}, "A Point is a key"),
    ],
)
def test_what_is_no_plain_data_is_refused_with_a_sentence(value, why):
    with pytest.raises(EncodeError, match=why) as caught:
        encode(value(), opaque=no_handle)
    assert str(caught.value).endswith(".")


def test_a_list_too_long_is_not_copied_first():
    value = {"a": [0] * 3_000_000, "b": (0,) * 3_000_000}
    tracemalloc.start()
    try:
        for part in (value, value["b"]):
            with pytest.raises(EncodeError, match="parts"):
                encode(part, opaque=no_handle)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_tensors_inside_torch_func_are_refused():
    def f(x):
        with pytest.raises(EncodeError, match=r"A torch\.func tensor"):
            encode(x, opaque=no_handle)
        return x

    torch.func.vmap(f)(torch.ones(2, 3))
    torch.func.grad(lambda x: f(x).sum())(torch.ones(2))


def test_a_tensor_that_hides_behind_its_class_is_read_as_it_is():
    class Sly(torch.Tensor):
        requires_grad = shape = dtype = property(lambda self: 1 / 0)

        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            raise RuntimeError("student's code")

    assert same(trip(torch.ones(2).as_subclass(Sly)), torch.ones(2))


def test_a_value_too_deep_is_refused_at_both_ends():
    deep = None
    for _ in range(64):
        deep = [deep]
    assert same(trip(deep), deep)
    with pytest.raises(EncodeError, match="nested more than 64 deep"):
        encode([deep], opaque=no_handle)
    tree, _ = encode(deep, opaque=no_handle)
    for _ in range(2):
        tree = ["l", [tree]]
    with pytest.raises(ProtocolError, match="nested more than 64 deep"):
        read(tree)


# --- what is not accepted ------------------------------------------------------------------------------------------


def T(dtype="float32", shape=(1,), buffer=0, mark=None):
    return ["T", dtype, list(shape), buffer, mark]


@pytest.mark.parametrize(
    ("tree", "why"),
    [
        (1, "expected a list"),
        (1.5, "expected a list"),
        ({"a": 1}, "expected a list"),
        ([], "expected a list"),
        ([["l", []]], "expected a list"),
        (["__import__", "os"], "unknown tag"),
        (["l"], "has 1 entries"),
        (["l", [], []], "has 3 entries"),
        (["l", "ab"], "expected a list"),
        (["l", {"a": 1}], "expected a list"),
        *(
            (["i", text], "not the text of an integer")
            for text in ("", "-", "1.0", "01", "-0", "+1", " 1", "1_0", "１", "0x1")
        ),
        (["i", 1], "not the text of an integer"),
        (["i", "1" * 4001], "not the text of an integer"),
        *(
            (["f", text], "floating-point")
            for text in ("", "1.5", "NaN", "infinity", "0x1p+1", "0x1.0p+1 ", "0X1.0p+1", 1.5)
        ),
        (["f", "0x1.0p+1025"], "too large"),
        (["c", "nan", None], "floating-point"),
        ("\ud800", "surrogate"),
        ("a" * (1 << 20 | 1), "1048577 characters"),
        (["d", [["a"]]], "expected a pair"),
        (["d", ["ab"]], "expected a pair"),
        (["d", {"a": 1}], "expected a list"),
        (["d", [[["l", []], "a"]]], "a list cannot be a key"),
        (["d", [[["t", [["d", []]]], "a"]]], "a dict cannot be a key"),
        (["d", [[["s", []], "a"]]], "a set cannot be a key"),
        (["d", [[T(), "a"]]], "a Tensor cannot be a key"),
        (["d", [[["A", "<f4", [1], 0], "a"]]], "a ndarray cannot be a key"),
        (["d", [[["slice", None, None, None], "a"]]], "a slice cannot be a key"),
        (["s", [["l", []]]], "a list cannot be a key"),
        (["fs", [["t", [["l", []]]]]], "a list cannot be a key"),
        (["s", [["i", str(i)] for i in range(20_001)]], "more than 20000 keys"),
        (["d", [[["i", str(i)], None] for i in range(20_001)]], "more than 20000 keys"),
        (["l", [["s", [["i", str(i)] for i in range(5_000)]]] * 5], "more than 20000 keys"),
        *(
            (["n", [name], [None]], "expected names")
            for name in ("_a", "__class__", "a b", "", "1", "a" * 101, 1, None)
        ),
        (["n", ["a", "a"], [None, None]], "field twice"),
        (["n", ["a"], []], "1 fields and 0 values"),
        (["n", "a", [None]], "expected names"),
        (["n", [], []], "expected names"),
        (T(dtype="float33"), "tensor dtype"),
        (T(dtype="Tensor"), "tensor dtype"),
        (T(dtype="qint8"), "tensor dtype"),
        (T(dtype=1), "tensor dtype"),
        (T(dtype=["float32"]), "tensor dtype"),
        (["dtype", "load"], "tensor dtype"),
        (T(buffer=2), "no buffer 2"),
        (T(buffer=-1), "no buffer -1"),
        (T(buffer=True), "no buffer True"),
        (T(buffer=0.0), "no buffer 0.0"),
        (T(buffer="0"), "no buffer '0'"),
        (T(shape=(2,)), "takes 8 bytes, its buffer has 4"),
        (T(shape=(0,)), "takes 0 bytes, its buffer has 4"),
        (T(shape=(-1,)), "a size that is none"),
        (T(shape=(-1, -1)), "a size that is none"),
        (T(shape=(True,)), "a size that is none"),
        (T(shape=(1.0,)), "a size that is none"),
        (T(shape=("1",)), "a size that is none"),
        (["T", "float32", "1", 0, None], "not a list"),
        (T(shape=(1 << 62, 1 << 62)), "takes more than"),
        (T(shape=(0, 1 << 62), buffer=1), "takes more than"),
        (T(shape=[1] * 33), "at most 32"),
        (T(mark=0), "carries a gradient"),
        (["l", [T(), T()]], "used twice"),
        (["l", [T(), ["b", 0]]], "used twice"),
        *(
            (["A", dtype, [1], 0], "array dtype")
            for dtype in (
                "|O",
                "O",
                "<f4,<f4",
                "object",
                "f4",
                "=f4",
                "<f16",
                "|V4",
                "(2,)<i2",
                "<i4[1]",
                "|S0",
                "<M8[x]",
            )
        ),
        (["A", "<M8[0s]", [1], 0], "array dtype"),
        (["A", {"names": []}, [1], 0], "array dtype"),
        (["A", "<f8", [1], 0], "takes 8 bytes"),
        (["A", "|S4000000000", [0], 1], "array dtype"),
        (["A", "|S900000000", [0], 1], "takes more than"),
        (["np", "<f8", 0], "takes 8 bytes"),
        (["np", "<f4", 1], "takes 4 bytes"),
        (["size", "1"], "expected a list"),
        (["size", [1.0]], "integers of 64 bits"),
        (["size", [1 << 63]], "integers of 64 bits"),
        (["range", "0", "1", "0"], "step 0"),
        (["range", "0", str(1 << 63), "1"], "64 bits"),
        (["range", 0, 1, 1], "not the text of an integer"),
        (["slice", None, "a", None], "something else than integers"),
        (["slice", None, True, None], "something else than integers"),
        (["ellipsis", 1], "has 2 entries"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_a_tree_that_encode_would_not_send_is_refused(tree, why):
    with pytest.raises(ProtocolError, match=why) as caught:
        read(tree, b"\0\0\0\0", b"")
    assert len(str(caught.value)) < 300
    assert str(caught.value).isascii()


@pytest.mark.parametrize("mark", [-1, True, "0", 1.0, 200_000, [0]])
def test_a_mark_is_the_number_of_an_output(mark):
    with pytest.raises(ProtocolError, match="mark"):
        read(T(mark=mark), bytes(4), gradient=lambda t, k: t)


def test_whole_numbers_carry_no_gradient():
    with pytest.raises(ProtocolError, match="carries a gradient"):
        read(T("int32", mark=0), bytes(4), gradient=lambda t, k: t)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("point", [0x110000, 0xFFFFFFFF, 0xD800])
def test_an_array_of_strings_holds_characters(order, point):
    raw = np.array([65, point], f"{order}u4").tobytes()
    with pytest.raises(ProtocolError, match="no character"):
        read(["A", f"{order}U2", [1], 0], raw)
    with pytest.raises(ProtocolError, match="no character"):
        read(["np", f"{order}U2", 0], raw)


def test_the_number_of_parts_is_limited_in_a_tree_without_end():
    tree = ["l", []]
    tree[1] += [tree] * 2
    with pytest.raises(ProtocolError, match="deep|parts"):
        read(tree)
    with pytest.raises(ProtocolError, match="more than 200000 parts"):
        read(["l", [None] * 200_000])


# --- the channel ---------------------------------------------------------------------------------------------------


@pytest.fixture
def pair():
    a, b = socket.socketpair()
    with a, b:
        yield a, b


def frame(header, *buffers, magic=b"EBM1", head=None, size=None):
    """A frame's bytes, by the description of the format."""
    raw = header if isinstance(header, bytes) else json.dumps({"buffers": [len(b) for b in buffers], **header}).encode()
    body = b"".join(buffers)
    head, size = len(raw) if head is None else head, len(body) if size is None else size
    return magic + head.to_bytes(4, "little") + size.to_bytes(8, "little") + raw + body


def soon(seconds=20):
    return time.monotonic() + seconds


def test_a_frame_is_what_its_description_says(pair):
    a, b = pair
    Channel(a).send({"op": "é", "n": [1, 2.5, None]}, [b"abc", b"", memoryview(b"d")])
    got = b.recv(1000)
    n = int.from_bytes(got[4:8], "little")
    assert (got[:4], int.from_bytes(got[8:16], "little"), got[16 + n :]) == (b"EBM1", 4, b"abcd")
    assert json.loads(got[16 : 16 + n]) == {"op": "é", "n": [1, 2.5, None], "buffers": [3, 0, 1]}


def test_a_frame_arrives_however_it_is_cut(pair):
    a, b = pair
    channel = Channel(b)
    data = frame({"op": "x"}, b"abc", b"", b"defg")
    for cut in range(1, len(data)):
        a.sendall(data[:cut])
        with pytest.raises(Late):
            channel.receive(time.monotonic())
        a.sendall(data[cut:])
        header, buffers = channel.receive(soon())
        assert header == {"op": "x"}
        assert [bytes(x) for x in buffers] == [b"abc", b"", b"defg"]
    assert channel.received == len(data) * (len(data) - 1)


def test_large_frames_with_many_buffers_arrive(pair):
    buffers = [bytes([i % 251]) * (i * 37 % 6000) for i in range(5000)]
    there = threading.Thread(target=Channel(pair[0]).send, args=({"k": 1}, buffers, soon()))
    there.start()
    _, got = Channel(pair[1]).receive(soon())
    there.join()
    assert [bytes(g) for g in got] == buffers


def test_frames_follow_one_another(pair):
    a, b = Channel(pair[0]), Channel(pair[1])
    for i in range(3):
        a.send({"i": i}, [bytes(i)])
    assert [b.receive(soon())[0]["i"] for i in range(3)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (frame({}, magic=b"EBM2"), "starts with"),
        (frame({}, head=(4 << 20) + 1), "announces"),
        (frame({}, size=(256 << 20) + 1), "announces"),
        (frame({}, head=2**32 - 1, size=2**64 - 1), "announces"),
        (frame(b""), "not JSON"),
        (frame(b"{"), "not JSON"),
        (frame(b"[]"), "expected an object"),
        (frame(b"null"), "expected an object"),
        (frame(b"{}"), "no list of its buffers"),
        (frame(b'{"buffers": [true]}', b"a"), "no list of its buffers"),
        (frame(b'{"buffers": [-1, 2]}', b"a"), "no list of its buffers"),
        (frame(b'{"buffers": [1.0]}', b"a"), "no list of its buffers"),
        (frame(b'{"buffers": {"0": 1}}', b"a"), "no list of its buffers"),
        (frame(b'{"buffers": [2]}', b"a"), "lists 1 buffers of 2 bytes in a frame of 1"),
        (frame(b'{"buffers": [1]}', b"ab"), "lists 1 buffers of 1 bytes in a frame of 2"),
        (frame(b'{"buffers": [%s]}' % b",".join([b"0"] * 10_001)), "lists 10001 buffers"),
        (frame(b'{"buffers": [], "buffers": []}'), "key twice"),
        (frame(b'{"buffers": [], "a": [{"b": 1, "b": 1}]}'), "key twice"),
        (frame(b'{"buffers": [], "a": NaN}'), "the number NaN"),
        (frame(b'{"buffers": [], "a": -Infinity}'), "the number -Infinity"),
        (frame(b'{"buffers": [], "a": 1e999}'), "the number 1e999"),
        (frame(b'{"buffers": [], "a": 0.%s}' % (b"1" * 100_000)), "the number 0.1"),
        (frame(b'{"buffers": [], "a": %s}' % (b"1" * 100_000)), "integer of 100000 digits"),
        (frame(b'{"buffers": [], "a": %s' % (b"[" * 100_000)), "nested too deep"),
        (frame(b'{"buffers": [], "a": %s' % (b'{"a":' * 100_000)), "nested too deep"),
        (frame(b'{"buffers": [], "a": "\\ud800"}'), "surrogate"),
        (frame(b'{"buffers": [], "\\udfff": 1}'), "surrogate"),
        (frame(b'{"buffers": [], "a": "\xff"}'), "UTF-8"),
        (frame(b'{"buffers": [], "a": "\xed\xa0\x80"}'), "UTF-8"),
        (frame(b'\xef\xbb\xbf{"buffers": []}'), "not JSON"),
        (frame(b'{"buffers": []} x'), "not JSON"),
        (frame(b"{'buffers': []}"), "not JSON"),
    ],
    ids=lambda v: v[16:46].decode("ascii", "backslashreplace") if isinstance(v, bytes) else v,
)
def test_what_is_no_frame_ends_the_channel(pair, data, why):
    a, b = pair
    writer = threading.Thread(target=a.sendall, args=(data + frame({}),))
    writer.start()
    channel = Channel(b)
    with pytest.raises(ProtocolError, match=why) as caught:
        channel.receive(soon())
    assert len(str(caught.value)) < 300
    with pytest.raises(ProtocolError, match=why):  # the next frame, good as it is, cannot be trusted to start there
        channel.receive(soon())
    b.recv(1 << 20)
    writer.join()


@pytest.mark.parametrize("cut", [0, 5, 16, 20, -1])
def test_the_end_of_the_file_is_told_apart(pair, cut):
    a, b = pair
    a.sendall(frame({}, b"abc")[:cut])
    a.close()
    with pytest.raises(Closed):
        Channel(b).receive(soon())
    with pytest.raises(Closed):
        Channel(b).send({}, [bytes(10**6)])


@pytest.mark.parametrize("head", [b"", frame({}, bytes(10**6))[:-1000]])
def test_a_peer_that_trickles_is_late(pair, head):
    a, b = pair
    stop = threading.Event()

    def trickle():
        a.sendall(head)
        for byte in frame({}, bytes(10**6)):
            if stop.wait(0.005):
                return
            a.sendall(bytes([byte]))

    thread = threading.Thread(target=trickle)
    thread.start()
    start = time.monotonic()
    with pytest.raises(Late):
        Channel(b).receive(start + 0.3)
    took = time.monotonic() - start
    stop.set()
    thread.join()
    assert 0.3 <= took < 5


def test_a_peer_whose_pieces_are_always_there_is_late_too(pair):
    class Crumbs:
        """A socket that gives a byte at a time, at once."""

        settimeout, fileno = pair[1].settimeout, pair[1].fileno

        def recv_into(self, view, size, flags):
            time.sleep(0.001)
            return pair[1].recv_into(view, 1, flags)

    pair[0].sendall(frame({}, bytes(10_000)))
    start = time.monotonic()
    with pytest.raises(Late):
        Channel(Crumbs()).receive(start + 0.1)
    assert time.monotonic() - start < 5


def test_a_peer_that_never_reads_is_late_and_ends_the_channel(pair):
    channel = Channel(pair[0])
    start = time.monotonic()
    with pytest.raises(Late):
        channel.send({}, [bytes(10**7)], start + 0.2)
    assert 0.2 <= time.monotonic() - start < 5
    with pytest.raises(Closed, match="cut off"):  # the other side would take it for the rest of the first frame
        channel.send({}, deadline=soon())


def test_a_peer_that_reads_byte_by_byte_is_late_too(pair):
    class Crumbs:
        """A socket that takes a byte at a time, at once."""

        settimeout, fileno = pair[0].settimeout, pair[0].fileno

        def sendmsg(self, parts, more, flags):
            time.sleep(0.001)
            return pair[0].sendmsg([parts[0][:1]], more, flags)

    start = time.monotonic()
    with pytest.raises(Late):
        Channel(Crumbs()).send({}, [bytes(10_000)], start + 0.1)
    assert time.monotonic() - start < 5


def test_a_frame_that_did_not_start_can_be_sent_later(pair):
    a, b = pair
    channel = Channel(a)
    a.setblocking(False)
    junk = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            junk += a.send(bytes(100))
    a.setblocking(True)
    with pytest.raises(Late):
        channel.send({"op": "x"}, deadline=time.monotonic() + 0.05)
    while junk:
        junk -= len(b.recv(min(junk, 1 << 16)))
    channel.send({"op": "x"}, deadline=soon())
    assert Channel(b).receive(soon())[0] == {"op": "x"}


def test_what_one_channel_may_receive_in_all_is_limited(pair):
    channel = Channel(pair[1], Limits(total=1000))
    for _ in range(3):
        pair[0].sendall(frame({}, bytes(400)))
    assert len(channel.receive(soon())[1][0]) == 400
    assert len(channel.receive(soon())[1][0]) == 400
    with pytest.raises(ProtocolError, match="more than 1000 bytes"):
        channel.receive(soon())
    assert channel.received <= 1000


def test_a_frame_too_large_is_not_sent_and_the_channel_goes_on(pair):
    channel = Channel(pair[0], Limits(header=100, frame=100, buffers=3))
    for header, buffers in (({"a": "a" * 100}, []), ({}, [bytes(101)]), ({}, [b""] * 4)):
        with pytest.raises(EncodeError, match=r"at most .* can be sent"):
            channel.send(header, buffers)
    for header in ({"buffers": []}, {"a": math.nan}, {"a": "\ud800"}):
        with pytest.raises(ValueError, match="buffers|float|surrogate"):
            channel.send(header)
    channel.send({"a": 1}, [bytes(100)])
    assert Channel(pair[1]).receive(soon())[0] == {"a": 1}


MEMORY = """
import resource, socket, sys, time, tracemalloc
from grading.kernels.wire import Channel, Late
a, b = socket.socketpair()
a.sendall(b"EBM1" + int(sys.argv[1]).to_bytes(4, "little") + int(sys.argv[2]).to_bytes(8, "little") + eval(sys.argv[3]))
channel = Channel(b)
tracemalloc.start()
for _ in range(3):
    try:
        channel.receive(time.monotonic() + 0.05)
    except Late:
        pass
    else:
        raise SystemExit("a frame out of nothing")
print(tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.parametrize(
    ("head", "size", "sent"),
    [(4 << 20, 0, "b''"), (25, 200 << 20, "b'{\"buffers\": [209715200]}  '"), (4 << 20, 200 << 20, "b'a' * 1000")],
)
def test_memory_is_not_taken_for_what_is_only_announced(head, size, sent):
    run = [sys.executable, "-c", MEMORY, str(head), str(size), sent]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
    assert not done.returncode, done.stderr
    assert int(done.stdout) < 5 << 20
