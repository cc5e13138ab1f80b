"""Checks for problem sets: one comparison that cannot be fooled, with messages that teach.

``torch.allclose`` passes an empty tensor and broadcasts shapes; a bare ``<`` or ``not (x > tol).any()`` passes NaN.
:func:`expect_close` compares shape, dtype, finiteness and then values, in this order, and says which one is wrong.
:func:`expect_unchanged` finds what a call changed in place. All of these raise ``AssertionError``, which nbgrader
scores. What plain calls cannot ask of a notebook is in :mod:`ebm_lib.check.student`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from . import student

# Room for a different order of summation, not for a different formula.
_RTOL = {torch.float64: 1e-7, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}


def expect_close(
    actual: Any,
    expected: Any,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    name: str = "your answer",
    hint: str | None = None,
    slips: Mapping[str, Any] | None = None,
) -> None:
    r"""Assert that a tensor or number equals the expected one.

    .. math:: |a_i - e_i| \le \text{atol} + \text{rtol} \cdot |e_i| \quad \text{for every } i

    Args:
        actual: a tensor, or a Python number where a number is expected.
        expected: a tensor or number. Infinite values must be matched exactly; NaN is never expected.
        rtol: relative tolerance; by default 1e-7 in float64, 1e-4 in float32, 0 for whole numbers and booleans.
        atol: absolute tolerance; by default ``rtol``.
        name: what is compared, for the message.
        hint: a sentence added to the message when values differ: the likely misconception.
        slips: what known mistakes give here, as {sentence: wrong value}. When the answer is one of these values,
            its sentence takes the place of ``hint``.

    Raises:
        AssertionError: another kind, shape or dtype, a NaN or unexpected infinity, a value out of tolerance.
        ValueError: ``expected`` holds NaN or is empty: such a check would test nothing.

    >>> expect_close(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5]), name="F", hint="Did you halve it?")
    Traceback (most recent call last):
    ...
    AssertionError: F is wrong in 1 of 2 values. The largest difference is 0.5, at index (1,): got 2, expected 2.5.
    Did you halve it?
    >>> expect_close(3.0, 1.0, name="F", slips={"That is the maximum.": 3.0, "That is the mean.": 2.0})
    Traceback (most recent call last):
    ...
    AssertionError: F is wrong: got 3, expected 1. That is the maximum.
    """
    if not isinstance(expected, Tensor):
        expected = _as_number("expected", expected, ValueError)
        actual = _as_number(name, actual, AssertionError)
    expect_shape(actual, tuple(expected.shape), dtype=expected.dtype, name=name)
    if expected.numel() == 0 or expected.isnan().any():
        raise ValueError("expected must have values and no NaN among them")
    if actual.device != expected.device:
        raise AssertionError(f"{name} must be on device {expected.device}, got {actual.device}.")
    a, e = (t.detach().to(torch.complex128 if t.is_complex() else torch.float64) for t in (actual, expected))
    hint = _known_slip(a, slips) or hint
    exact = not (expected.is_floating_point() or expected.is_complex())
    rtol = (0.0 if exact else _RTOL.get(expected.dtype, 1e-4)) if rtol is None else rtol
    atol = rtol if atol is None else atol
    finite = torch.isfinite(e)
    odd = ~torch.isfinite(a) & finite
    if odd.any():
        where = tuple(odd.nonzero()[0].tolist())
        raise AssertionError(
            _sentence(
                f"{name} must be finite: {int(odd.sum())} of {a.numel()} values are not, "
                f"the first{_at(where)} is {a[where].item()}",
                hint,
            )
        )
    gap = torch.where(finite, (a - e).abs(), torch.where(a == e, 0.0, math.inf))
    wrong = ~(gap <= atol + rtol * torch.where(finite, e.abs(), 0.0))
    if wrong.any():
        where = _place(int(gap.argmax()), gap.shape)
        values = f"got {_show(actual[where])}, expected {_show(expected[where])}"
        if gap.ndim:
            text = (
                f"{name} is wrong in {int(wrong.sum())} of {a.numel()} values. The largest difference is "
                f"{gap[where].item():.4g}{_at(where, comma=True)}: {values}"
            )
        else:
            text = f"{name} is wrong: {values}"
        raise AssertionError(_sentence(text, hint))


def expect_shape(
    actual: Any, shape: tuple[int, ...], *, dtype: torch.dtype | None = None, name: str = "your answer"
) -> None:
    """Assert that something is a tensor of this shape (and dtype).

    Args:
        actual: anything.
        shape: the expected shape.
        dtype: the expected dtype; any if not given.
        name: what is checked, for the message.

    Raises:
        AssertionError: not a tensor, another shape or dtype.

    >>> expect_shape(torch.zeros(3, 1), (3,))
    Traceback (most recent call last):
    ...
    AssertionError: your answer must have shape (3,), got (3, 1).
    """
    if not isinstance(actual, Tensor):
        got = "nothing (None): is a return missing?" if actual is None else f"a {type(actual).__name__}."
        raise AssertionError(f"{name} must be a torch tensor, got {got}")
    if tuple(actual.shape) != tuple(shape):
        raise AssertionError(f"{name} must have shape {tuple(shape)}, got {tuple(actual.shape)}.")
    if dtype is not None and actual.dtype != dtype:
        raise AssertionError(f"{name} must be {dtype}, got {actual.dtype}: let it follow the input's dtype.")


def expect_below(actual: Any, bound: float, *, name: str = "your answer", hint: str | None = None) -> None:
    """Assert that a number, or every value of a tensor that is not empty, is at most ``bound``; NaN is not.

    Args:
        actual: a number or a tensor.
        bound: the largest value allowed.
        name: what is checked, for the message.
        hint: a sentence added to the message.

    Raises:
        AssertionError: not a number, empty, NaN, or above the bound.

    >>> expect_below(float("nan"), 1.0, name="the loss")
    Traceback (most recent call last):
    ...
    AssertionError: the loss must be at most 1, got nan.
    """
    values = actual if isinstance(actual, Tensor) else _as_number(name, actual, AssertionError)
    if values.numel() == 0:
        raise AssertionError(f"{name} must have at least one value, got shape {tuple(values.shape)}.")
    values = values.detach().to(torch.float64)
    wrong = ~(values <= bound)
    if wrong.any():
        worst = values[values.isnan()][0] if values.isnan().any() else values.max()
        raise AssertionError(_sentence(f"{name} must be at most {bound:.6g}, got {_show(worst)}", hint))


def expect_raises(
    function: Callable[..., Any], *args: Any, error: type[Exception] = ValueError, name: str = "your function"
) -> None:
    """Assert that ``function(*args)`` refuses its input with this kind of error.

    Args:
        function: what to call.
        args: its arguments.
        error: the expected exception; a stub's ``NotImplementedError`` never counts.
        name: what is checked, for the message.

    Raises:
        AssertionError: no error, or one of another kind.

    >>> expect_raises(int, "three")
    >>> expect_raises(int, "3")
    Traceback (most recent call last):
    ...
    AssertionError: your function must raise ValueError here, but it returned 3.
    """
    try:
        result = function(*args)
    except NotImplementedError:
        raise  # an unanswered stub: its own message is the right one
    except error:
        return
    except Exception as other:
        raise AssertionError(f"{name} must raise {error.__name__} here, got {type(other).__name__}: {other}") from other
    raise AssertionError(f"{name} must raise {error.__name__} here, but it returned {result!r:.60}.")


def expect_unchanged(
    function: Callable[..., Any], *args: Any, name: str = "your function", hint: str | None = None, **kwargs: Any
) -> None:
    """Assert that a call changes none of its arguments in place.

    Args:
        function: what to call, on copies of the arguments; what it returns does not matter.
        args: its arguments: tensors, arrays, modules, random generators, containers of these.
        name: what is checked, for the message.
        hint: a sentence added to the message.
        kwargs: its keyword arguments.

    Raises:
        AssertionError: an argument is not what it was; see :func:`ebm_lib.check.student.mutated`.

    >>> expect_unchanged(torch.relu, torch.tensor([-1.0]), name="`relu`")
    >>> expect_unchanged(torch.relu_, torch.tensor([-1.0]), name="`relu_`", hint="Work on a copy.")
    Traceback (most recent call last):
    ...
    AssertionError: `relu_` changed its 1st argument, which belongs to the caller. Work on a copy.
    """
    changed = student.mutated(function, *args, **kwargs)
    if changed:
        which = " and ".join(f"its {_ordinal(p)} argument" if isinstance(p, int) else f"`{p}`" for p in changed)
        raise AssertionError(_sentence(f"{name} changed {which}, which belongs to the caller", hint))


def _ordinal(place: int) -> str:
    return {0: "1st", 1: "2nd", 2: "3rd"}.get(place, f"{place + 1}th")


def _place(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return an index from its number in row-major order; torch's own function imports sympy first, for a second."""
    index: tuple[int, ...] = ()
    for size in reversed(shape):
        flat, i = divmod(flat, size)
        index = (i, *index)
    return index


def _as_number(name: str, value: Any, error: type[Exception]) -> Tensor:
    if isinstance(value, bool):
        return torch.tensor(value)
    if isinstance(value, int):
        return torch.tensor(value, dtype=torch.int64)
    if isinstance(value, float):
        return torch.tensor(value, dtype=torch.float64)
    got = "nothing (None): is a return missing?" if value is None else f"a {type(value).__name__}."
    raise error(f"{name} must be a Python number, got {got}")


def _known_slip(actual: Tensor, slips: Mapping[str, Any] | None) -> str | None:
    for sentence, value in (slips or {}).items():
        wrong = torch.as_tensor(value, device=actual.device).detach().to(actual.dtype)
        if wrong.shape == actual.shape and torch.allclose(actual, wrong, rtol=1e-3, atol=1e-6, equal_nan=True):
            return sentence
    return None


def _sentence(text: str, hint: str | None) -> str:
    return f"{text}. {hint}" if hint else f"{text}."


def _at(where: tuple[int, ...], comma: bool = False) -> str:
    if not where:
        return ""
    return f"{',' if comma else ''} at index {where}"


def _show(value: Tensor) -> str:
    number = value.detach().item()
    return f"{number:.6g}" if isinstance(number, float) else str(number)
