r"""Factor graphs: an energy that is a sum of factors, each of which looks at a few discrete variables.

.. math:: E(y) = \sum_a E_a(y_{N(a)})

Exhaustive inference looks at every configuration of all variables; elimination minimises over one variable at a time
and looks only at the configurations of its neighbours. On a chain that is the dynamic programme of
:mod:`~ebm_lib.structured.chains`, on a tree min-sum message passing from the leaves; on a graph with loops it is exact
too, at the price of larger tables.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.require import has_values, require_count, require_finite
from ebm_lib.structured.semiring import Minimum, Sampled, Semiring, SoftMinimum, occupation

# A table of more entries than this is refused: 2^26 double-precision numbers take half a gigabyte.
LARGEST_TABLE = 2**26


class Factor(NamedTuple):
    """A term of the energy.

    Attributes:
        variables: the names of the variables it looks at, each once.
        energy: its value for each of their configurations, (..., n_1, n_2, …) in the order of the names; +inf forbids.
    """

    variables: tuple[str, ...]
    energy: Tensor


class FactorGraph:
    r"""Discrete variables and the factors between them.

    Args:
        sizes: the number of values of each variable, by its name.
        factors: the terms of the energy; leading dimensions of their tables broadcast and run over samples.

    Raises:
        ValueError: no variables, a size below 1, a factor with an unknown or repeated variable, a table whose shape is
            not that of its variables, an energy that is NaN or −inf, leading dimensions that do not broadcast.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Efficient Inference:
    Energy-Based Factor Graphs"; Kschischang, Frey and Loeliger, Factor Graphs and the Sum-Product Algorithm (2001).

    >>> agree = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> graph = FactorGraph({"a": 2, "b": 2}, [Factor(("a",), torch.tensor([0.0, 3.0])), Factor(("a", "b"), agree)])
    >>> graph.best()
    {'a': tensor(0), 'b': tensor(0)}
    >>> graph.configurations, graph.factor_values
    (4, 6)
    """

    def __init__(self, sizes: Mapping[str, int], factors: Sequence[Factor]) -> None:
        if not sizes:
            raise ValueError("sizes must name at least one variable, got none")
        self.sizes = {name: require_count(f"sizes[{name!r}]", size) for name, size in sizes.items()}
        self.factors = tuple(Factor(tuple(variables), energy) for variables, energy in factors)
        for place, (variables, energy) in enumerate(self.factors):
            unknown = [name for name in variables if name not in self.sizes]
            if unknown:
                raise ValueError(f"factor {place} looks at unknown variables {unknown}; known are {list(self.sizes)}")
            if len(set(variables)) < len(variables):
                raise ValueError(f"factor {place} names a variable twice: {variables}")
            shape = tuple(self.sizes[name] for name in variables)
            if tuple(energy.shape[energy.ndim - len(shape) :]) != shape or energy.ndim < len(shape):
                raise ValueError(f"factor {place} over {variables} must be (..., {shape}), got {tuple(energy.shape)}")
            require_finite(f"factor {place}", energy, allow_posinf=True)
        try:
            self.batch = torch.broadcast_shapes(*(f.energy.shape[: f.energy.ndim - len(f.variables)] for f in factors))
        except RuntimeError as error:
            raise ValueError(f"the factors' leading dimensions must broadcast: {error}") from error

    @property
    def configurations(self) -> int:
        """Number of configurations of all variables together, at each of which exhaustive inference evaluates E."""
        return math.prod(self.sizes.values())

    @property
    def factor_values(self) -> int:
        """Number of different values of all factors, from which the energy of every configuration is summed."""
        return sum(math.prod(self.sizes[name] for name in factor.variables) for factor in self.factors)

    def energy(self, configuration: Mapping[str, Tensor]) -> Tensor:
        """Energy of given configurations.

        Args:
            configuration: for each variable an integer tensor of values; their shapes broadcast with each other and
                with the factors' leading dimensions.

        Returns:
            E, of the shape they broadcast to.

        Raises:
            ValueError: a variable without a value, an unknown one, values that are not integers or out of range.

        >>> graph = FactorGraph({"a": 2}, [Factor(("a",), torch.tensor([5.0, 7.0]))])
        >>> graph.energy({"a": torch.tensor([0, 1])})
        tensor([5., 7.])
        """
        if set(configuration) != set(self.sizes):
            raise ValueError(f"configuration must give {list(self.sizes)}, got {list(configuration)}")
        for name, value in configuration.items():
            if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
                raise ValueError(f"configuration[{name!r}] must be integers, got {value.dtype}")
            if has_values(value) and ((value < 0) | (value >= self.sizes[name])).any():
                raise ValueError(f"configuration[{name!r}] must be from 0 to {self.sizes[name] - 1}, got {value}")
        shape = torch.broadcast_shapes(self.batch, *(value.shape for value in configuration.values()))
        total = self._zeros(shape)
        for variables, energy in self.factors:
            table = energy.expand(*shape, *(self.sizes[name] for name in variables))
            for name in reversed(variables):
                index = configuration[name].long().expand(shape)
                while index.ndim < table.ndim:
                    index = index.unsqueeze(-1)
                table = table.gather(-1, index.expand(*table.shape[:-1], 1)).squeeze(-1)
            total = total + table
        return total

    def exhaustive(self, semiring: Semiring | None = None) -> Tensor:
        r"""Free energy over all configurations, by looking at every one.

        Args:
            semiring: :class:`~ebm_lib.structured.Minimum`, the default, or ``SoftMinimum(beta)``.

        Returns:
            F, the factors' leading shape.

        Raises:
            ValueError: more than ``LARGEST_TABLE`` configurations.
        """
        names = tuple(self.sizes)
        table = self._sum(self.factors, names)
        return (semiring or Minimum())(table.flatten(table.ndim - len(names)), -1)

    def eliminate(self, semiring: Semiring | None = None, order: Sequence[str] | None = None) -> Tensor:
        r"""Free energy over all configurations, one variable at a time.

        .. math:: m(y_{N}) = \bigoplus_{v} \sum_{a \ni v} E_a(y_{N(a)})

        replaces the factors that look at v by one that does not, until no variable is left.

        Args:
            semiring: :class:`~ebm_lib.structured.Minimum`, the default, or ``SoftMinimum(beta)``.
            order: the variables in the order they are taken; if not given, always the one whose table is smallest,
                which on a chain or tree never builds a table larger than the factors'.

        Returns:
            F, the factors' leading shape: equal to :meth:`exhaustive` for any order.

        Raises:
            ValueError: an order that is not all the variables, each once; a table of more than ``LARGEST_TABLE``
                entries, with the variables it would be over.

        >>> flip = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> loop = FactorGraph(
        ...     {"a": 2, "b": 2, "c": 2}, [Factor(("a", "b"), flip), Factor(("b", "c"), flip), Factor(("c", "a"), flip)]
        ... )
        >>> loop.eliminate()
        tensor(1.)
        """
        if order is not None and sorted(order) != sorted(self.sizes):
            raise ValueError(f"order must hold each of {sorted(self.sizes)} once, got {list(order)}")
        semiring = semiring or Minimum()
        factors, left = list(self.factors), list(order or self.sizes)
        while left:
            name = left[0] if order is not None else min(left, key=lambda v: self._entries(factors, v))
            left.remove(name)
            near = [factor for factor in factors if name in factor.variables]
            others = self._around(factors, name)
            table = self._sum(near, (*others, name))
            factors = [factor for factor in factors if name not in factor.variables]
            factors.append(Factor(others, semiring(table, -1)))
        return self._sum(factors, ())

    def largest_table(self, order: Sequence[str] | None = None) -> int:
        """Entries of the largest table that :meth:`eliminate` builds in this order, or in its own."""
        factors, left, largest = list(self.factors), list(order or self.sizes), 1
        while left:
            name = left[0] if order is not None else min(left, key=lambda v: self._entries(factors, v))
            left.remove(name)
            largest = max(largest, self._entries(factors, name))
            rest = Factor(self._around(factors, name), torch.empty(0))
            factors = [*(factor for factor in factors if name not in factor.variables), rest]
        return largest

    def best(self) -> dict[str, Tensor]:
        """Configuration of least energy, for each sample: name to value, int64 of the factors' leading shape.

        Raises:
            ValueError: as :meth:`eliminate`; a sample none of whose configurations is possible.
        """
        return {name: used.argmax(-1) for name, used in self._used(Minimum()).items()}

    def marginals(self, beta: float = 1.0) -> dict[str, Tensor]:
        r"""Probability of each value of each variable under :math:`P(y) \propto e^{-\beta E(y)}`, (..., n).

        Raises:
            ValueError: as :meth:`best`; beta not positive and finite.
        """
        return self._used(SoftMinimum(beta))

    def sample(self, n: int, beta: float = 1.0, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        r"""Configurations drawn from :math:`P(y) \propto e^{-\beta E(y)}`, exactly: name to values, (n, ...).

        Raises:
            ValueError: as :meth:`marginals`; n below 1.
        """
        drawn = self._used(Sampled(beta, generator), (require_count("n", n),))
        return {name: used.argmax(-1) for name, used in drawn.items()}

    def _used(self, semiring: Semiring, copies: tuple[int, ...] = ()) -> dict[str, Tensor]:
        """Occupation of each variable's values, read off a factor of energy 0 added to each."""
        probes = [self._zeros((*copies, *self.batch, size)) for size in self.sizes.values()]

        def program(*probes: Tensor) -> Tensor:
            added = [Factor((name,), probe) for name, probe in zip(self.sizes, probes, strict=True)]
            fixed = [Factor(variables, energy.detach()) for variables, energy in self.factors]
            return FactorGraph(self.sizes, [*fixed, *added]).eliminate(semiring)

        return dict(zip(self.sizes, occupation(program, *probes), strict=True))

    def _zeros(self, shape: Sequence[int]) -> Tensor:
        """Zeros of the factors' dtype and device."""
        if not self.factors:
            return torch.zeros(tuple(shape))
        dtype = torch.float32
        for factor in self.factors:
            dtype = torch.promote_types(dtype, factor.energy.dtype)
        return torch.zeros(tuple(shape), dtype=dtype, device=self.factors[0].energy.device)

    def _around(self, factors: Sequence[Factor], name: str) -> tuple[str, ...]:
        """The other variables of the factors that look at ``name``, in the graph's order."""
        near = {other for factor in factors if name in factor.variables for other in factor.variables}
        return tuple(other for other in self.sizes if other in near and other != name)

    def _entries(self, factors: Sequence[Factor], name: str) -> int:
        """Size of the table that eliminating ``name`` takes."""
        return self.sizes[name] * math.prod(self.sizes[other] for other in self._around(factors, name))

    def _sum(self, factors: Sequence[Factor], names: tuple[str, ...]) -> Tensor:
        """Sum of factors as one table over ``names``, (..., n_1, n_2, …)."""
        shape = tuple(self.sizes[name] for name in names)
        if math.prod(shape) > LARGEST_TABLE:
            raise ValueError(f"a table over {names} would have {math.prod(shape)} entries, more than {LARGEST_TABLE}")
        total = self._zeros((*self.batch, *shape))
        for variables, energy in factors:
            lead = energy.ndim - len(variables)
            ordered = sorted(range(len(variables)), key=lambda i, v=variables: names.index(v[i]))
            table = energy.permute([*range(lead), *(lead + i for i in ordered)])
            sizes = [self.sizes[name] if name in variables else 1 for name in names]
            total = total + table.reshape([*energy.shape[:lead], *sizes])
        return total
