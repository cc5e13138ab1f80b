"""What forward models of an agent's step have in common: B, the step as in free space, and one perceptron."""

from collections.abc import Sequence

import torch
from torch import nn

from ebm_lib.nn import MLP, init_
from ebm_lib.require import require_count, require_positive


class FreeStep(nn.Module):
    """Sizes, the perceptron, and the linear map B from actions to steps in free space, (D, A).

    ``fixed`` coordinates of a state lie behind the D that move; ``more`` and ``outputs`` are the perceptron's inputs
    besides the state and its outputs; actions are divided by ``scale``.
    """

    def __init__(
        self,
        D: int,
        A: int,
        *,
        fixed: int,
        more: int,
        outputs: int,
        hidden: Sequence[int],
        scale: float,
        activation: str,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.D, self.A = require_count("D", D), require_count("A", A)
        self.fixed, self.scale = require_count("fixed", fixed, minimum=0), require_positive("scale", scale)
        for k, width in enumerate(hidden):
            require_count(f"hidden[{k}]", width)
        self.mlp = MLP((D + fixed + more, *hidden, outputs), activation=activation, generator=generator)
        self.free = init_(nn.utils.skip_init(nn.Linear, A, D, bias=False), generator)  # B
