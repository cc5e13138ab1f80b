"""What is refused, what passes, and when values are not looked at."""

import math

import pytest
import torch
from torch._subclasses import FakeTensorMode

from ebm_lib import require


def test_finite_tensors_pass_untouched_and_others_are_counted_and_located():
    good = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert require.require_finite("y", good) is good
    bad = good.clone()
    bad[1, 2], bad[2, 0] = math.nan, math.inf
    with pytest.raises(
        ValueError, match=r"y must be finite: 2 of 12 values are not, the first at index \(1, 2\) is nan"
    ):
        require.require_finite("y", bad)
    with pytest.raises(ValueError, match="1 of 12 values"):
        require.require_finite("y", bad, allow_posinf=True)
    assert require.require_finite("y", torch.tensor(math.inf), allow_posinf=True) == math.inf
    with pytest.raises(ValueError, match="finite or .inf: 1 of 1 values are not"):
        require.require_finite("y", torch.tensor(-math.inf), allow_posinf=True)


def test_values_are_not_looked_at_where_there_are_none():
    bad = torch.tensor([math.nan, 1.0])
    assert require.require_finite("y", torch.empty(2, device="meta")).shape == (2,)
    with FakeTensorMode():
        assert require.require_finite("y", torch.empty(2)).shape == (2,)
    out = torch.func.vmap(lambda y: require.require_finite("y", y))(bad)
    assert out.isnan().tolist() == [True, False]
    nested = torch.func.vmap(torch.func.grad(lambda y: require.require_finite("y", y).square()))(torch.ones(2))
    assert nested.tolist() == [2.0, 2.0]
    with pytest.raises(ValueError, match="must be finite"):  # grad alone does not hide values
        torch.func.grad(lambda y: require.require_finite("y", y).sum())(bad)
    compiled = torch.compile(lambda y: require.require_finite("y", y) * 2, backend="eager", fullgraph=True)
    assert compiled(torch.ones(2)).tolist() == [2.0, 2.0]


@pytest.mark.parametrize("number", [0, -1.0, math.nan, math.inf, -math.inf])
def test_positive_refuses(number):
    with pytest.raises(ValueError, match="beta must be a positive"):
        require.require_positive("beta", number)


def test_positive_accepts_infinity_only_if_allowed():
    assert require.require_positive("beta", math.inf, allow_inf=True) == math.inf
    with pytest.raises(ValueError, match="positive"):
        require.require_positive("beta", math.nan, allow_inf=True)
    with pytest.raises(TypeError, match="got bool"):
        require.require_positive("beta", True)


def test_count_nonempty_and_choice():
    assert require.require_count("n", 3) == 3
    assert require.require_count("n", 0, minimum=0) == 0
    with pytest.raises(TypeError, match="whole number, got float"):
        require.require_count("n", 3.0)
    with pytest.raises(ValueError, match="at least one entry"):
        require.require_nonempty("z", torch.ones(2, 0), 1)
    with pytest.raises(ValueError, match="must have a dimension 2"):
        require.require_nonempty("z", torch.ones(2, 1), 2)
    with pytest.raises(ValueError, match="one of a, b; got 'c'"):
        require.require_choice("kind", "c", ["b", "a"])


def test_points_have_coordinates_of_a_floating_dtype_and_are_finite():
    y = torch.zeros(3, 2)
    assert require.require_points("y", y) is y
    assert require.require_points("y", torch.zeros(2, dtype=torch.float64, device="meta")).shape == (2,)
    for bad, message in (
        (torch.tensor(1.0), r"y must be \(..., D\) with at least one coordinate, got shape \(\)"),
        (torch.zeros(3, 0), r"got shape \(3, 0\)"),
        (torch.zeros(3, 2, dtype=torch.int64), "y must be floating point, got torch.int64"),
        (torch.tensor([[0.0, math.inf]]), "y must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            require.require_points("y", bad)
