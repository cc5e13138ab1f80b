"""The descent by which small networks of an agent are fitted: to plans, through a model, to what came of states."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ebm_lib.require import require_count, require_finite, require_positive


def descend(name: str, module: nn.Module, objective: Callable[[], Tensor], steps: int, lr: float) -> Tensor:
    """Lower an objective by AdamW, its rate falling to 0 along a cosine; return its values, (steps,).

    Only the module's own parameters move or receive gradients: a model that the objective runs through stays as it is.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(f"{name} must have parameters to train")
    optimizer = torch.optim.AdamW(parameters, lr=require_positive("lr", lr), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, require_count("steps", steps))
    path = []
    for k in range(steps):
        with torch.enable_grad():
            value = objective()
            if not value.requires_grad:
                raise ValueError(f"what is minimised must have a slope in the {name}'s parameters")
            gradients = torch.autograd.grad(value, parameters)
        require_finite(f"what is minimised, at step {k},", value.detach())
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        path.append(value.detach())
    optimizer.zero_grad()
    return torch.stack(path)
