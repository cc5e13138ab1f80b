"""The comparison that problem sets use: what it lets through and what it does not."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_lib.check import expect_below, expect_close, expect_raises, expect_shape

ref = torch.tensor([1.0, 2.0, 3.0])

FOOLED = {  # answers that allclose, a bare comparison or broadcasting would let through
    "nan": torch.tensor([1.0, math.nan, 3.0]),
    "all nan": torch.full((3,), math.nan),
    "empty": torch.empty(0),
    "broadcastable row": ref[None],
    "broadcastable scalar": torch.tensor(2.0),
    "float64 for float32": ref.double(),
    "integers": ref.long(),
    "list": [1.0, 2.0, 3.0],
    "numpy array": ref.numpy(),
    "None": None,
    "string": "123",
    "infinite": torch.tensor([1.0, math.inf, 3.0]),
    "off by a little": ref + torch.tensor([0.0, 0.0, 1e-2]),
    "negated": -ref,
}


@pytest.mark.parametrize("name", FOOLED)
def test_nothing_but_the_answer_passes(name):
    with pytest.raises(AssertionError, match=r"^F "):
        expect_close(FOOLED[name], ref, name="F")


def test_a_wrong_value_that_is_not_finite_is_called_so():
    for wrong in (math.nan, math.inf):
        with pytest.raises(AssertionError, match=r"must be finite: 1 of 3 values are not, the first at index \(1,\)"):
            expect_close(torch.tensor([1.0, wrong, 3.0]), ref)


def test_another_order_of_summation_passes():
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    expect_close(values.flip(0).sum(), values.sum())
    expect_close(values.double().sum().float(), values.sum())
    expect_close(ref.requires_grad_(), ref.detach())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6),
    st.integers(0, 5),
    st.floats(-1, 1).filter(lambda d: abs(d) > 1e-3),
    st.floats(0, 1e-2),
    st.floats(0, 1e-2),
)
def test_the_tolerance_is_atol_plus_rtol_times_expected(values, index, delta, rtol, atol):
    expected = torch.tensor(values, dtype=torch.float64)
    actual = expected.clone()
    actual[index % len(values)] += delta
    gap = abs(actual[index % len(values)].item() - values[index % len(values)])
    allowed = atol + rtol * abs(values[index % len(values)])
    if gap > allowed:
        with pytest.raises(AssertionError):
            expect_close(actual, expected, rtol=rtol, atol=atol)
    else:
        expect_close(actual, expected, rtol=rtol, atol=atol)


def test_infinities_must_match_in_place_and_sign():
    expected = torch.tensor([math.inf, 0.0, -math.inf])
    expect_close(expected.clone(), expected)
    for wrong in ([math.inf, 0, math.inf], [1e30, 0, -math.inf], [math.nan, 0, -math.inf]):
        with pytest.raises(AssertionError):
            expect_close(torch.tensor(wrong), expected)


def test_whole_numbers_and_booleans_are_compared_exactly():
    expect_close(torch.tensor([1, 2]), torch.tensor([1, 2]))
    with pytest.raises(AssertionError, match="wrong in 1 of 2 values"):
        expect_close(torch.tensor([1, 1_000_001]), torch.tensor([1, 1_000_000]))
    with pytest.raises(AssertionError):
        expect_close(torch.tensor([True]), torch.tensor([False]))
    expect_close(3, 3)
    for wrong in (4, 3.0, True, None, torch.tensor(3)):
        with pytest.raises(AssertionError):
            expect_close(wrong, 3)


def test_complex_values_and_numbers():
    z = torch.tensor([1 + 2j])
    expect_close(z.clone(), z)
    with pytest.raises(AssertionError):
        expect_close(z.conj().resolve_conj(), z)
    expect_close(0.1 + 0.2, 0.3)
    with pytest.raises(AssertionError, match="F must be finite"):
        expect_close(math.nan, 0.3, name="F")


def test_the_message_names_the_slip_that_was_made():
    slips = {"That is the minimum.": torch.tensor([1.0]), "That is the mean.": torch.tensor([2.0])}
    with pytest.raises(AssertionError, match="That is the mean"):
        expect_close(torch.tensor([2.0]), torch.tensor([1.5]), slips=slips, hint="Look again.")
    with pytest.raises(AssertionError, match=r"Look again\.$"):
        expect_close(torch.tensor([9.0]), torch.tensor([1.5]), slips=slips, hint="Look again.")


def test_a_check_that_would_test_nothing_is_the_authors_error():
    for expected in (torch.empty(0), torch.tensor([math.nan])):
        with pytest.raises(ValueError, match="expected must have values"):
            expect_close(expected.clone(), expected)


def test_shape_below_and_raises():
    expect_shape(torch.ones(2, 3), (2, 3), dtype=torch.float32)
    with pytest.raises(AssertionError, match="is a return missing"):
        expect_shape(None, (2,))
    expect_below(torch.tensor([0.5, 1.0]), 1.0)
    expect_below(3, 4.0)
    for bad in (torch.tensor([0.5, math.nan]), torch.empty(0), torch.tensor(1.1), math.inf, None):
        with pytest.raises(AssertionError):
            expect_below(bad, 1.0)
    expect_raises(float, "x")
    with pytest.raises(AssertionError, match="got TypeError"):
        expect_raises(float, None)

    def stub():
        raise NotImplementedError

    with pytest.raises(NotImplementedError):
        expect_raises(stub, error=Exception)
