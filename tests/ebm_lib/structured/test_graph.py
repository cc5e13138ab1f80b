"""Factor graphs against enumeration of all configurations."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ebm_lib.structured import Factor, FactorGraph, Minimum, SoftMinimum, chain

INF = math.inf


def lecture(generator=None):
    """The four factors of the lecture's example: three binary variables and a ternary one on a chain."""
    draw = lambda *shape: torch.randn(shape, dtype=torch.float64, generator=generator)
    return FactorGraph(
        {"z1": 2, "z2": 2, "y1": 2, "y2": 3},
        [
            Factor(("z1",), draw(2)),
            Factor(("z1", "z2"), draw(2, 2)),
            Factor(("z2", "y1"), draw(2, 2)),
            Factor(("y1", "y2"), draw(2, 3)),
        ],
    )


def all_configurations(graph):
    """Every configuration with its energy, (...), summed term by term."""
    for values in itertools.product(*(range(size) for size in graph.sizes.values())):
        y = dict(zip(graph.sizes, values, strict=True))
        yield y, sum(energy[(..., *(y[name] for name in names))] for names, energy in graph.factors)


@st.composite
def graphs(draw, forbidden=True):
    """Up to five variables of one to three values, up to five factors of up to three variables: loops and all."""
    names = [f"v{i}" for i in range(draw(st.integers(1, 5)))]
    sizes = {name: draw(st.integers(1, 3)) for name in names}
    numbers = st.floats(-5, 5, width=32)
    if forbidden:
        numbers = numbers | st.just(INF)
    batch = draw(st.sampled_from([(), (2,)]))
    factors = []
    for _ in range(draw(st.integers(1, 5))):
        order = draw(st.permutations(names))[: draw(st.integers(1, 3))]
        lead = draw(st.sampled_from([(), batch]))
        shape = (*lead, *(sizes[name] for name in order))
        factors.append(
            Factor(tuple(order), torch.from_numpy(draw(arrays(np.float64, shape, elements=numbers, fill=st.nothing()))))
        )
    return FactorGraph(sizes, factors)


@given(graphs(), st.sampled_from([0.3, 1.0, 5.0]), st.data())
def test_elimination_and_exhaustion_equal_enumeration(graph, beta, data):
    energies = torch.stack([torch.as_tensor(e).expand(graph.batch) for _, e in all_configurations(graph)], -1)
    order = data.draw(st.permutations(list(graph.sizes)))
    lowest = energies.amin(-1)
    soft = -torch.logsumexp(-beta * energies, -1) / beta
    for found in (graph.exhaustive(), graph.eliminate(), graph.eliminate(order=order)):
        torch.testing.assert_close(found, lowest)
    for found in (graph.exhaustive(SoftMinimum(beta)), graph.eliminate(SoftMinimum(beta), order)):
        torch.testing.assert_close(found, soft)
    assert energies.shape[-1] == graph.configurations


@given(graphs(forbidden=False), st.sampled_from([0.3, 1.0, 5.0]))
def test_best_and_marginals_equal_enumeration(graph, beta):
    listed = [(y, torch.as_tensor(e).expand(graph.batch)) for y, e in all_configurations(graph)]
    energies = torch.stack([e for _, e in listed], -1)
    torch.testing.assert_close(graph.energy(graph.best()), energies.amin(-1))
    weight = torch.softmax(-beta * energies, -1)
    for name, found in graph.marginals(beta).items():
        expected = torch.zeros(*graph.batch, graph.sizes[name], dtype=torch.float64)
        for i, (y, _) in enumerate(listed):
            expected[..., y[name]] += weight[..., i]
        torch.testing.assert_close(found, expected)


def test_the_lectures_example_has_24_configurations_and_16_factor_values():
    graph = lecture(torch.Generator().manual_seed(0))
    assert graph.configurations == 24
    assert graph.configurations * len(graph.factors) == 96
    assert graph.factor_values == 16
    assert graph.largest_table() == 6


def test_a_chain_as_a_graph_is_the_chain():
    generator = torch.Generator().manual_seed(0)
    unary = torch.randn(2, 6, 3, dtype=torch.float64, generator=generator)
    pairwise = torch.randn(3, 3, dtype=torch.float64, generator=generator)
    places = [Factor((f"y{t}",), unary[:, t]) for t in range(6)]
    links = [Factor((f"y{t}", f"y{t + 1}"), pairwise) for t in range(5)]
    graph = FactorGraph({f"y{t}": 3 for t in range(6)}, places + links)
    for semiring in (Minimum(), SoftMinimum(2.0)):
        torch.testing.assert_close(graph.eliminate(semiring), chain(unary, pairwise, semiring))


def test_a_long_tree_is_eliminated_with_tables_no_larger_than_its_factors():
    generator = torch.Generator().manual_seed(0)
    sizes = {f"v{i}": int(torch.randint(2, 6, (), generator=generator)) for i in range(60)}
    names = list(sizes)
    edges = [(names[int(torch.randint(i, (), generator=generator))], names[i]) for i in range(1, 60)]
    factors = [Factor(edge, torch.randn(sizes[edge[0]], sizes[edge[1]], generator=generator)) for edge in edges]
    graph = FactorGraph(sizes, factors)
    assert graph.largest_table() == max(factor.energy.numel() for factor in factors)
    best = graph.best()
    torch.testing.assert_close(graph.energy(best), graph.eliminate())
    with pytest.raises(ValueError, match="entries"):
        graph.exhaustive()
    for name in names[:10]:  # no other value of one variable is better
        for value in range(sizes[name]):
            assert graph.energy({**best, name: torch.tensor(value)}) >= graph.eliminate() - 1e-4


def test_samples_have_the_gibbs_frequencies():
    graph = lecture(torch.Generator().manual_seed(0))
    n, beta = 40_000, 1.0
    drawn = graph.sample(n, beta, generator=torch.Generator().manual_seed(1))
    free = graph.exhaustive(SoftMinimum(beta)).item()
    for y, energy in all_configurations(graph):
        share = math.exp(-beta * (energy.item() - free))
        found = torch.stack([drawn[name] == value for name, value in y.items()]).all(0).double().mean().item()
        assert abs(found - share) <= 4.5 * math.sqrt(share * (1 - share) / n)


def test_samples_of_a_batch():
    energy = torch.tensor([[0.0, INF], [INF, 0.0]])
    drawn = FactorGraph({"a": 2}, [Factor(("a",), energy)]).sample(3)
    assert drawn["a"].tolist() == [[0, 1]] * 3


def test_the_derivative_reaches_the_factors():
    table = torch.tensor([[0.0, 1.0], [2.0, 3.0]], requires_grad=True)
    graph = FactorGraph({"a": 2, "b": 2}, [Factor(("a", "b"), table)])
    (slope,) = torch.autograd.grad(graph.eliminate(SoftMinimum(1.0)), table)
    torch.testing.assert_close(slope, torch.softmax(-table.detach().flatten(), 0).view(2, 2))
    graph.marginals()
    assert table.grad is None


def test_a_variable_that_no_factor_looks_at_counts():
    graph = FactorGraph({"a": 2, "free": 4}, [Factor(("a",), torch.tensor([0.0, INF]))])
    assert graph.eliminate(SoftMinimum(1.0)).item() == pytest.approx(-math.log(4))
    assert graph.marginals()["free"].tolist() == [0.25] * 4
    assert FactorGraph({"a": 3}, []).eliminate(SoftMinimum(1.0)).item() == pytest.approx(-math.log(3))


def test_an_impossible_graph():
    graph = FactorGraph({"a": 2}, [Factor(("a",), torch.full((2,), INF))])
    assert graph.eliminate().item() == INF
    with pytest.raises(ValueError, match="possible"):
        graph.best()


A = torch.zeros(2)


@pytest.mark.parametrize(
    ("sizes", "factors", "message"),
    [
        ({}, [], "at least one variable"),
        ({"a": 0}, [], "sizes"),
        ({"a": 2}, [Factor(("b",), A)], "unknown variables"),
        ({"a": 2}, [Factor(("a", "a"), torch.zeros(2, 2))], "twice"),
        ({"a": 2, "b": 3}, [Factor(("a", "b"), torch.zeros(3, 2))], "factor 0 over"),
        ({"a": 2, "b": 2}, [Factor(("a", "b"), A)], "factor 0 over"),
        ({"a": 2}, [Factor(("a",), torch.tensor([math.nan, 0.0]))], "factor 0 must be finite"),
        ({"a": 2}, [Factor(("a",), torch.zeros(2, 2)), Factor(("a",), torch.zeros(3, 2))], "broadcast"),
    ],
)
def test_what_is_refused(sizes, factors, message):
    with pytest.raises(ValueError, match=message):
        FactorGraph(sizes, factors)


def test_configurations_and_orders_that_are_refused():
    graph = lecture()
    with pytest.raises(ValueError, match="order must hold"):
        graph.eliminate(order=["z1", "z2"])
    right = {name: torch.tensor(0) for name in graph.sizes}
    with pytest.raises(ValueError, match="configuration must give"):
        graph.energy({"z1": torch.tensor(0)})
    with pytest.raises(ValueError, match="must be from 0 to 1"):
        graph.energy({**right, "z1": torch.tensor(2)})
    with pytest.raises(ValueError, match="must be integers"):
        graph.energy({**right, "z1": torch.tensor(0.0)})


def test_device_follows_the_factors():
    meta = torch.empty(5, 2, 3, device="meta", dtype=torch.float64)
    graph = FactorGraph({"a": 2, "b": 3}, [Factor(("a", "b"), meta)])
    for found in (graph.eliminate(SoftMinimum(1.0)), graph.exhaustive()):
        assert found.shape == (5,)
        assert found.device.type == "meta"
        assert found.dtype == torch.float64
    assert graph.best()["b"].device.type == "meta"
    values = {
        "a": torch.empty(5, device="meta", dtype=torch.long),
        "b": torch.empty(5, device="meta", dtype=torch.long),
    }
    assert graph.energy(values).shape == (5,)
