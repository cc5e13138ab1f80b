"""An agent in two rooms, written into the page as JSON, for ``book/_static/rooms.js`` to plan with.

The script has the encoder's convolution and softmax, and the dynamics as a table over the plane of states: what the
perceptron of :class:`~ebm_lib.world.ContactDynamics` says there, read by linear interpolation. The search is
:func:`~ebm_lib.world.cem` with 64 samples, the energy :func:`~ebm_lib.world.goal_energy`, the world
:func:`~ebm_lib.world.move`. Each member has ``label, kernel, constant, mix, sharpness`` (encoder), ``planes, power,
box, table, low, high, values`` (dynamics; values as base64 of little-endian uint16), ``read`` (states to places).
"""

import base64
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ebm_lib.require import require_count
from ebm_lib.world.contacts import FAR, NEAREST, ContactDynamics
from ebm_lib.world.episodes import draw_places
from ebm_lib.world.perception import Keypoints
from ebm_lib.world.rooms import REACH, Layout, render


@dataclass(frozen=True)
class RoomsFigure:
    """An agent that plans in the browser.

    Attributes:
        name: unique on its page; the element's id is ``ebm-`` and this.
        spec: what the script reads.
    """

    name: str
    spec: dict[str, Any]

    def _repr_html_(self) -> str:
        text = json.dumps(self.spec, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
        return (
            f'<div class="ebm-rooms" id="ebm-{self.name}">\n<p><strong>{html.escape(self.spec["title"])}.</strong> '
            f"{html.escape(self.spec['alt'])} <em>(Live on the website.)</em></p>\n"
            f'<script type="application/json">{text}</script>\n</div>'
        )

    def __repr__(self) -> str:
        return f"RoomsFigure({self.name!r})"


@torch.no_grad()
def rooms_agent(
    models: Mapping[str, Any],
    layout: Layout,
    *,
    name: str,
    title: str,
    alt: str,
    start: tuple[float, float],
    goal: tuple[float, float],
    H: int = 24,
    budget: int = 100,
    top: float = 4.0,
    resolution: int = 41,
) -> RoomsFigure:
    """Make a figure in which readers move a dot and its goal, and a learned model plans.

    Args:
        models: by label, :class:`~ebm_lib.world.WorldModel` of :class:`~ebm_lib.world.Keypoints` with maps of 5 x 5 at
            stride 2 and :class:`~ebm_lib.world.ContactDynamics`, whose states have two numbers.
        layout: one, ().
        name: unique on its page.
        title: shown above.
        alt: what the figure shows, for who does not see it.
        start: where the dot is at first.
        goal: where it is to be at first.
        H: horizon.
        budget: steps before the agent gives up.
        top: right end of the axis of energies.
        resolution: points along a side of the tables.

    Returns:
        The figure, which a notebook shows.

    Raises:
        ValueError: a model of another kind.
    """
    require_count("resolution", resolution, minimum=3)
    places = draw_places(layout, samples=(2000,), generator=torch.Generator().manual_seed(0))
    pictures = render(places, layout)
    members = [{"label": label, **_member(model, pictures, places, resolution)} for label, model in models.items()]
    spec = {
        "v": 1, "title": title, "alt": alt, "reach": REACH, "H": H, "budget": budget, "top": top,
        "walls": [[round(v, 6) for v in wall] for wall in layout.walls.tolist()],
        "start": list(start), "goal": list(goal), "members": members,
    }  # fmt: skip
    return RoomsFigure(name, spec)


def _member(model: Any, pictures: Tensor, places: Tensor, n: int) -> dict[str, Any]:
    encoder, dynamics = getattr(model, "encoder", None), getattr(model, "dynamics", None)
    if not isinstance(encoder, Keypoints) or not isinstance(dynamics, ContactDynamics):
        raise ValueError(f"models must have Keypoints and ContactDynamics, got {type(model).__name__}")
    if encoder.features.weight.shape[-2:] != (5, 5) or encoder.features.stride != (2, 2) or encoder.channels != 2:
        raise ValueError("models must have Keypoints of 5 x 5 on two channels, at stride 2")
    if (dynamics.D, dynamics.fixed) != (2, 0):
        raise ValueError(f"models must have states of two numbers, got {dynamics.D + dynamics.fixed}")
    s = model.represent(pictures)
    low, high = s.amin(0), s.amax(0)
    low, high = low - 0.1 * (high - low), high + 0.1 * (high - low)
    axes = [torch.linspace(a, b, n) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    K, A = dynamics.planes, 2
    said = dynamics.mlp(torch.cartesian_prod(*axes))
    normals, distances, more = said.split([K * A, K, 2 * A], -1)
    table = torch.cat([normals, softplus(distances - FAR) + NEAREST, more + dynamics.free.weight.flatten()], -1)
    bottom, span = table.amin(0), (table.amax(0) - table.amin(0)).clamp(min=1e-12)
    codes = ((table - bottom) / span * 65535).round().to(torch.int32).numpy().astype("<u2")
    maps = len(encoder.features.weight) // encoder.channels  # those of the dot come first
    kernel, bias = encoder.features.weight[:maps, 0].flatten(1), encoder.features.bias  # a bias shifts all places alike
    assert bias is not None
    mix = encoder.mix.weight
    walls = encoder.keypoints(pictures[:1])[0, maps:].flatten()
    constant = encoder.mix.bias + 2 * mix[:, 2 * maps :] @ walls
    ones = torch.ones(len(s), 1)
    unit = s.std(0).clamp(min=1e-12)
    scaled = torch.linalg.lstsq(torch.cat([(s - s.mean(0)) / unit, ones], -1), places, driver="gelsd").solution
    read = torch.cat([scaled[:2] / unit[:, None], scaled[2:] - (s.mean(0) / unit @ scaled[:2])])

    def short(values: Tensor) -> list[Any]:
        return [short(v) if v.ndim else float(f"{v.item():.7g}") for v in values]

    return {
        "kernel": short(kernel), "constant": short(constant), "mix": short(mix[:, : 2 * maps]),
        "sharpness": encoder.sharpness, "planes": K, "power": dynamics.sharpness,
        "box": short(torch.stack([low, high], -1)), "table": [n, table.shape[-1]],
        "low": short(bottom), "high": short(bottom + span), "read": short(read),
        "values": base64.b64encode(codes.tobytes()).decode(),
    }  # fmt: skip
