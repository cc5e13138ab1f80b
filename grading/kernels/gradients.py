"""The part of an autograd graph that lies in the student kernel."""

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .remote import Link


class Graph:
    """The part of an autograd graph that lies in the student kernel: from the leaves of a call to its outputs."""

    def __init__(self, link: "Link", number: int, values: list[Tensor], leaves: int) -> None:
        self.remote, self.number, self.values, self.leaves = link, number, values, leaves
        weakref.finalize(self, link.release_graph, number)

    def link(self, leaves: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the outputs as functions of the leaves."""
        # A student's tensor may need gradients where no argument does; the first leaf makes the result need them too.
        return _Linked.apply(self, torch.zeros((), requires_grad=True), *leaves)

    def pull(self, gradients: Sequence[Tensor | None], leaves: Sequence[Tensor]) -> list[Tensor | None]:
        """Return the gradient by each leaf, differentiable itself where autograd asks for that."""
        given = {k: g for k, g in enumerate(gradients) if g is not None}
        found = self.remote.pull(self.number, given, leaves)
        if type(found) is not list or len(found) != len(leaves):
            raise self.remote.lost("the student's kernel gave gradients of another number")
        for g, leaf in zip(found, leaves, strict=True):
            if g is not None and not (isinstance(g, Tensor) and (g.shape, g.dtype) == (leaf.shape, leaf.dtype)):
                raise self.remote.lost("the student's kernel gave a gradient of another shape")
        return found


class _Linked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: Graph, anchor: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
        ctx.graph = graph
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*leaves)
        return tuple(graph.values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.graph.pull(gradients, ctx.saved_tensors)
