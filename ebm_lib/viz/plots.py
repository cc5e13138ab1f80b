"""Static figures in one style: dark is low energy, as in the lectures."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.quiver import Quiver
from torch import Tensor

from ebm_lib.energy import Energy, evaluate, grid
from ebm_lib.require import require_count, require_finite

#: Okabe and Ito's colours, which readers with any kind of colour vision can tell apart.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")

_STYLE = {
    "figure.figsize": (6.4, 4.0),
    "figure.dpi": 110,
    "savefig.dpi": 110,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "axes.prop_cycle": plt.cycler(color=PALETTE),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.labelsize": 10.5,
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "image.cmap": "viridis",
    "svg.hashsalt": "ebm",
}

Box = Sequence[tuple[float, float]]


def use_style() -> None:
    """Use the course's figure style from here on: Okabe–Ito colours, light card, readable at phone width."""
    plt.rcParams.update(_STYLE)


def landscape(
    ax: Axes,
    energy: Energy,
    box: Box = ((-2.0, 2.0), (-2.0, 2.0)),
    *,
    steps: int = 120,
    levels: int | Sequence[float] = 10,
    vmin: float | None = None,
    vmax: float | None = None,
    colorbar: bool = True,
    label: str = "energy",
) -> QuadMesh:
    """Draw an energy of two coordinates as an image with contours: dark is low.

    Args:
        ax: where to draw.
        energy: F(y), y of shape (N, 2).
        box: ((left, right), (bottom, top)).
        steps: cells along each side.
        levels: contour lines, how many or which; 0 for none.
        vmin: energy drawn darkest.
        vmax: energy drawn brightest; higher ones look the same.
        colorbar: add one.
        label: the colour bar's label, with units if there are any.

    Returns:
        The mesh, for a colour bar shared by several axes.

    Raises:
        ValueError: energy of the wrong shape or not finite.
    """
    require_count("steps", steps)
    cells = grid([low for low, _ in box], [high for _, high in box], steps)
    with torch.no_grad():
        values = require_finite("energy", evaluate(energy, cells.points)).reshape(cells.shape).T.numpy()
    first, second = (cells.points.reshape(*cells.shape, 2)[..., i].T.numpy() for i in (0, 1))
    mesh = ax.pcolormesh(first, second, values, vmin=vmin, vmax=vmax, shading="nearest", rasterized=True)
    count = levels if isinstance(levels, int) else len(levels)
    if count and values.min() < values.max():
        ax.contour(first, second, values.clip(vmin, vmax), levels=levels, colors="white", linewidths=0.6, alpha=0.55)
    if colorbar:
        ax.figure.colorbar(mesh, ax=ax, label=label, shrink=0.85)
    ax.set(xlim=box[0], ylim=box[1])
    return mesh


def arrows(
    ax: Axes,
    energy: Energy,
    box: Box = ((-2.0, 2.0), (-2.0, 2.0)),
    *,
    steps: int = 15,
    color: str = "white",
    normalize: bool = True,
) -> Quiver:
    """Draw the negative gradient of an energy of two coordinates: the way down.

    Args:
        ax: where to draw.
        energy: F(y), y of shape (N, 2), differentiable.
        box: ((left, right), (bottom, top)).
        steps: arrows along each side.
        color: of the arrows.
        normalize: give all arrows one length, so that only the direction shows.

    Returns:
        The arrows.
    """
    points = grid([low for low, _ in box], [high for _, high in box], steps).points.requires_grad_()
    (gradient,) = torch.autograd.grad(evaluate(energy, points).sum(), points)
    down = -gradient
    if normalize:
        down = torch.nn.functional.normalize(down, dim=-1)
    y, d = points.detach().numpy(), down.numpy()
    return ax.quiver(y[:, 0], y[:, 1], d[:, 0], d[:, 1], color=color, alpha=0.85, width=0.004, pivot="mid")


def scatter(
    ax: Axes, points: Tensor, *, color: str = PALETTE[1], size: float = 8.0, label: str | None = None
) -> PathCollection:
    """Draw points of the plane, outlined so that they stand out on any landscape.

    Args:
        ax: where to draw.
        points: (N, 2).
        color: their colour.
        size: their area, in points squared.
        label: for the legend.

    Returns:
        The points.
    """
    p = points.detach().cpu().numpy()
    return ax.scatter(p[:, 0], p[:, 1], s=size, color=color, edgecolors="white", linewidths=0.3, label=label, zorder=3)


def descent_path(ax: Axes, path: Tensor, *, color: str = PALETTE[1], label: str | None = None) -> None:
    """Draw the way a descent took: a circle at each start, a line, a filled dot at each end.

    Args:
        ax: where to draw.
        path: (steps + 1, 2), or (steps + 1, S, 2) for S starts.
        color: of the lines.
        label: for the legend.

    Raises:
        ValueError: another shape.
    """
    if path.ndim not in (2, 3) or path.shape[-1] != 2:
        raise ValueError(f"path must be (steps + 1, 2) or (steps + 1, S, 2), got {tuple(path.shape)}")
    p = path.detach().cpu().reshape(len(path), -1, 2).numpy()
    for i in range(p.shape[1]):
        ax.plot(p[:, i, 0], p[:, i, 1], color=color, lw=1.6, label=label if i == 0 else None, zorder=4)
    ax.scatter(p[0, :, 0], p[0, :, 1], s=28, facecolors="none", edgecolors=color, linewidths=1.4, zorder=5)
    ax.scatter(p[-1, :, 0], p[-1, :, 1], s=28, color=color, edgecolors="white", linewidths=0.5, zorder=5)
