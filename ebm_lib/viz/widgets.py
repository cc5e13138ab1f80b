"""The live explorer for JupyterLab: ipywidgets drive the library itself, matplotlib draws what it finds."""

import html
import io
import math
from typing import Any

import ipywidgets
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ebm_lib import free_energy as fe
from ebm_lib.energy import Energy, Grid, LatentEnergy, blank, fill, grid, log_gibbs_density
from ebm_lib.inference import Descent, gradient_descent
from ebm_lib.viz import plots
from ebm_lib.viz.live import Description, Explorer, explorer

_STOPS = 30  # of the β slider
_SIDE = 64  # cells along each side of the landscape


def explore(
    energy: Energy | LatentEnergy | Description | dict[Any, Energy | LatentEnergy | Description], **options: Any
) -> "Exploration":
    """Explore an energy in JupyterLab: the same figure as :func:`ebm_lib.viz.explorer`, run by the library.

    Args:
        energy: as :func:`ebm_lib.viz.explorer`.
        options: as :func:`ebm_lib.viz.explorer`; ``name`` and ``alt`` may be left out.

    Returns:
        The widget.

    Raises:
        ValueError: as :func:`ebm_lib.viz.explorer`.

    >>> widget = explore(lambda y: y.square().sum(-1), starts=[[1.0, 0.0]])
    >>> widget.steps.value = 100
    >>> widget.descent.energy.round(decimals=3)
    tensor([0.], dtype=torch.float64)
    """
    return from_explorer(explorer(energy, **({"name": "widget", "alt": "An energy landscape."} | options)))


def from_explorer(figure: Explorer) -> "Exploration":
    """Make the widget of a website figure."""
    return Exploration(figure)


class Exploration(ipywidgets.VBox):
    """Controls, a picture and a read-out. Setting a control's ``value`` redraws, from code as by hand.

    Attributes:
        member: which energy, if there are several.
        start: sliders for the two coordinates of the start.
        several: whether to start from nine places at once.
        step_size: η.
        steps: how many steps to make; a play button runs through them.
        beta: inverse temperature, if there is a latent or a density.
        prior: over the latent, if it may be chosen.
        known: which coordinate is held, if it may be chosen.
        density: whether to draw P instead of F, if offered.
        arrows: whether to draw the negative gradient.
        picture: the PNG.
        readout: the numbers.
        descent: the last :class:`ebm_lib.inference.Descent`; None where it diverged.
    """

    def __init__(self, figure: Explorer) -> None:
        spec = figure.spec
        self.name, self.spec, self.energies = figure.name, spec, figure.members
        self.descent: Descent | None = None
        wide = {"style": {"description_width": "8.5em"}, "layout": {"width": "24em"}}
        slow = {"continuous_update": False} | wide
        latent = any(member.log_mass is not None for member in figure.members.values())
        first = spec["starts"][0]
        self.member = ipywidgets.Dropdown(options=list(figure.members), description=spec["choice"], **wide)
        self.start = tuple(
            ipywidgets.FloatSlider(
                value=value, min=low, max=high, step=(high - low) / 200, description=f"start {name}", **slow
            )
            for value, (low, high), name in zip(first, spec["box"], spec["axes"], strict=True)
        )
        self.several = ipywidgets.Checkbox(value=len(spec["starts"]) > 1, description="several starts", **wide)
        self.step_size = ipywidgets.FloatLogSlider(
            value=spec["lr"], min=math.log10(spec["lrs"][0]), max=math.log10(spec["lrs"][1]), step=0.02,
            description="step size η", readout_format=".2g", **slow,
        )  # fmt: skip
        self.steps = ipywidgets.IntSlider(value=spec["steps"], max=spec["max"], description="steps", **slow)
        self.play = ipywidgets.Play(value=spec["steps"], max=spec["max"], step=2, interval=400)
        low, high = spec["betas"]
        values = [float(f"{low * (high / low) ** (i / _STOPS):.3g}") for i in range(_STOPS + 1)]
        values += [math.inf] * latent
        initial = math.inf if spec["beta"] == "inf" else spec["beta"]
        self.beta = ipywidgets.SelectionSlider(
            options=[("∞" if math.isinf(v) else f"{v:g}", v) for v in sorted({*values, initial})], value=initial,
            description="β", **slow,
        )  # fmt: skip
        self.prior = ipywidgets.Dropdown(
            options=[("with a normalised prior", True), ("without a prior", False)], value=spec["prior"] == "p",
            description="latent", **wide,
        )  # fmt: skip
        self.known = ipywidgets.Dropdown(
            options=[("nothing", (True, True)), *zip(spec["axes"], ((False, True), (True, False)), strict=True)],
            value=tuple(bool(f) for f in spec["free"]), description="known", **wide,
        )  # fmt: skip
        self.density = ipywidgets.Checkbox(value=spec["density"] == 2, description="show probability", **wide)
        self.arrows = ipywidgets.Checkbox(value=bool(spec["arrows"]), description="show −∇F", **wide)
        self.picture = ipywidgets.Image(format="png")
        self.picture.layout.max_width = "100%"
        self.readout = ipywidgets.HTML()
        offered = {
            self.member: len(figure.members) > 1, self.start[0]: True, self.start[1]: True, self.several: True,
            self.step_size: True, self.steps: True, self.beta: latent or bool(spec["density"]),
            self.prior: bool(spec["choosePrior"]), self.known: bool(spec["chooseFree"]),
            self.density: bool(spec["density"]), self.arrows: True,
        }  # fmt: skip
        controls = [control for control, shown in offered.items() if shown]
        for control in controls:
            control.observe(self._changed, names="value")
        ipywidgets.jslink((self.play, "value"), (self.steps, "value"))
        panel = ipywidgets.VBox([*controls, self.play, self.readout])
        picture = ipywidgets.HBox([self.picture, panel], layout={"flex_flow": "row wrap"})
        title = [ipywidgets.Label(value=spec["title"], style={"font_weight": "bold"})] if spec["title"] else []
        super().__init__([*title, picture])
        self.update()

    def __repr__(self) -> str:  # ipywidgets' own would write out the picture
        return f"Exploration({self.name!r})"

    def _changed(self, _change: Any) -> None:
        self.update()

    def starts(self) -> Tensor:
        """List the starting points in use, (S, 2)."""
        own = torch.tensor([[slider.value for slider in self.start]], dtype=torch.float64)
        if not self.several.value:
            return own
        given = torch.tensor(self.spec["starts"], dtype=torch.float64)
        if len(given) > 1:
            return torch.cat([own, given[1:]])
        sides = [low + (high - low) * (torch.arange(3) + 0.5) / 3 for low, high in self.spec["box"]]
        free = torch.tensor(self.known.value)
        if free.all():
            return torch.cartesian_prod(*sides).to(torch.float64)
        low, high = self.spec["box"][1 if self.known.value[1] else 0]
        along = low + (high - low) * (torch.arange(9, dtype=torch.float64) + 0.5) / 9
        return torch.where(free, along[:, None], own)

    def free_energy(self, y: Tensor) -> Tensor:
        """Compute the energy drawn, at points (..., 2): F, or F_β at the chosen β."""
        return self.energies[self.member.value].free_energy(y, self.beta.value, prior=self.prior.value)

    def update(self) -> None:
        """Descend from the starts, draw, and write the read-out."""
        starts = self.starts()
        known = ~torch.tensor(self.known.value)
        energy = blank(self.free_energy, starts, known)
        try:
            self.descent = gradient_descent(
                energy, starts[:, ~known], steps=max(1, self.steps.value), lr=self.step_size.value, keep_path=True
            )
        except (FloatingPointError, ValueError) as error:  # too long a step, or a point without slope
            self.descent = None
            self.readout.value = f"<b>{html.escape(str(error))}</b>"
            path = starts[None]
        else:
            path = fill(starts, known, self.descent.path[: self.steps.value + 1])
            self._report(path[-1])
        self._draw(path)

    def _report(self, y: Tensor) -> None:
        with torch.no_grad():
            reached = self.free_energy(y)
        member = self.energies[self.member.value]
        lines = [f"({a:.2f}, {b:.2f}): energy {e:.3f}" for (a, b), e in zip(y.tolist(), reached.tolist(), strict=True)]
        if member.log_mass is not None:
            values = member.sheets(y[:1])[0]
            mean = f", mean {(member.log_mass.exp() * values).sum():.3f}" if self.prior.value else ""
            lines.append(f"of the first, over the latent: min {values.min():.3f}{mean}")
        self.readout.value = "<br>".join(lines)

    def _draw(self, path: Tensor) -> None:
        panel = self.spec["panel"]
        with rc_context(plots._STYLE):
            figure = Figure(figsize=(5.2, 6.4 if panel else 4.4))
            axes = figure.subplots(2 if panel else 1, 1, height_ratios=[2.2, 1] if panel else [1], squeeze=False)[:, 0]
            self._draw_map(axes[0], path)
            if panel == "latent" and self.energies[self.member.value].log_mass is not None:
                self._draw_latent(axes[1], path[-1, 0])
            elif panel:
                self._draw_slice(axes[1], path[-1])
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", metadata={"Software": None})
        self.picture.value = buffer.getvalue()

    def _draw_map(self, ax: Axes, path: Tensor) -> None:
        spec, box = self.spec, self.spec["box"]
        if self.density.value:
            self._draw_density(ax)
        else:
            with torch.no_grad():
                values = self.free_energy(self._cells(24).points)
            low, high = spec["levels"] or (values.min().item(), values.quantile(0.96).item())
            plots.landscape(ax, self.free_energy, box, steps=_SIDE, vmin=low, vmax=high if high > low else low + 1)
        if self.arrows.value:
            free = torch.tensor(self.known.value)  # the slope along what is held does not count
            plots.arrows(
                ax, lambda y: self.free_energy(torch.where(free, y, y.detach())), box, steps=13, normalize=False
            )
        for line in spec["curves"]:
            ax.plot(*torch.tensor(line).T, color="white", lw=1.5)
        if spec["data"]:
            plots.scatter(ax, torch.tensor(spec["data"]), color="white")
        plots.descent_path(ax, path)
        ax.set(xlim=box[0], ylim=box[1], xlabel=spec["axes"][0], ylabel=spec["axes"][1])
        if spec["args"] == 1:
            ax.set_aspect("equal")

    def _cells(self, steps: int) -> Grid:
        low, high = zip(*self.spec["box"], strict=True)
        return grid(low, high, steps, dtype=torch.float64)

    def _draw_density(self, ax: Axes) -> None:
        cells, beta, conditional = self._cells(_SIDE), min(self.beta.value, 1e6), self.spec["args"] == 2
        (low, high) = self.spec["box"][1]
        with torch.no_grad():
            values = self.free_energy(cells.points)
        if conditional:  # every column has mass one
            log_density = log_gibbs_density(
                values.reshape(cells.shape), beta, log_volume=math.log((high - low) / _SIDE), dim=1
            )
        else:
            log_density = log_gibbs_density(values, beta, log_volume=cells.log_cell).reshape(cells.shape)
        x, y = (cells.points.reshape(*cells.shape, 2)[..., i].T.numpy() for i in (0, 1))
        mesh = ax.pcolormesh(x, y, log_density.exp().T.numpy(), cmap="viridis_r", shading="nearest", rasterized=True)
        ax.figure.colorbar(mesh, ax=ax, label="P(y|x)" if conditional else "P(y)", shrink=0.85)

    def _draw_slice(self, ax: Axes, y: Tensor) -> None:
        axis = 1 if self.known.value[1] else 0
        line = torch.linspace(*self.spec["box"][axis], 181, dtype=torch.float64)
        points = y[0].repeat(len(line), 1)
        points[:, axis] = line
        with torch.no_grad():
            ax.plot(line, self.free_energy(points))
            ax.plot(y[0, axis], self.free_energy(y[0]), "o", ms=9, color=plots.PALETTE[1], mec="black")
        ax.set(xlabel=self.spec["axes"][axis], ylabel="energy F")

    def _draw_latent(self, ax: Axes, y: Tensor) -> None:
        member = self.energies[self.member.value]
        log_volume = member.log_mass if self.prior.value else member.log_volume
        with torch.no_grad():
            values = member.sheets(y[None])[0]
            probability = fe.posterior(values, self.beta.value, log_volume=log_volume)
            lines = {"F": self.free_energy(y), "min": values.min()}
        if self.prior.value:
            lines["mean"] = (member.log_mass.exp() * values).sum()
        z = torch.tensor(member.json["latent"].get("z") or range(1, len(values) + 1), dtype=torch.float64)
        few = len(z) <= 24
        ax.plot(z, values, "o" if few else "-")
        for name, value in lines.items():
            ax.axhline(value, color="black", ls="--", lw=0.8)
            ax.text(1.01, value, name, transform=ax.get_yaxis_transform(), va="center")
        twin = ax.twinx()
        if few:
            twin.bar(z, probability, width=0.4, alpha=0.4, color=plots.PALETTE[1])
        else:
            twin.fill_between(z, probability, alpha=0.4, color=plots.PALETTE[1])
        twin.set(yticks=[], ylim=(0, 2.2 * probability.max().item()))
        name = member.json["latent"]["name"]
        ax.set(xlabel=f"{name}; shaded: P({name.split(' ')[0]}|y)", ylabel="energy E")
