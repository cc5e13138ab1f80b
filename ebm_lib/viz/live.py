r"""The live explorer: an energy written into the page as JSON, for ``book/_static/explorer.js`` to draw and descend.

:func:`explorer` makes the figure, :func:`describe` the description of one energy. Every description is a family of
K sheets :math:`E_k(x, y)`, one for each value of a latent variable (K = 1 without latent), of one of these kinds,
the first that fits:

``mlp``
    ``act``, ``layers: [{w: [[...]], b: [...]}]``: an :class:`ebm_lib.nn.MLP` of the two coordinates.
``wells``
    ``c: [[x, y], ...]``, ``q: [a, h, b]`` (or one per sheet), ``r``: quadratics
    :math:`a\,dx^2 + 2h\,dx\,dy + b\,dy^2 + r` around centres, such as squared distances to decoded points.
``cheb``
    ``n: [nx, ny]``, ``c``: a Chebyshev series on the box, for smooth energies: polynomials exactly.
``grid``
    ``n``, ``lo``, ``hi``, ``v``: values with both ends of the box on the grid, as base64 of little-endian uint16 u,
    :math:`E = lo + (hi - lo)(u/65535)^2`; the reader interpolates by cubic convolution.

A member with a latent also has ``latent: {p, v, z, name}``: log prior masses, log volume of a value, values, name.
The whole (version ``v: 1``) adds what :func:`explorer` takes: ``title alt box args axes free chooseFree members
choice ordered starts steps max lr lrs beta betas prior choosePrior density arrows levels panel curves data``.

Numbers are rounded, so that the same energy gives the same text on every machine. That holds for a closed form in
float64 (its latent grid and constants included); float32 values and weights trained on the page differ between
processors in the digits written: load weights from a file, or let the cell's output go uncompared.
"""

import base64
import copy
import html
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ebm_lib import free_energy as fe
from ebm_lib.energy import Energy, Grid, LatentEnergy, evaluate
from ebm_lib.nn import MLP, EnergyMLP
from ebm_lib.require import require_choice, require_count, require_finite, require_positive

Box = Sequence[tuple[float, float]]

_ACTIVATIONS = ("softplus", "tanh", "relu", "silu")  # those that the script knows
_MOST_COEFFICIENTS = 6000
_MOST_VALUES = 20000
_MOST_POINTS = 300


@dataclass(frozen=True)
class Description:
    """One energy of two coordinates, as the page's JSON and as a function.

    Attributes:
        json: what the script reads.
        sheets: (N, 2) → (N, K), the energy for each value of the latent.
        log_mass: (K,), the normalised log prior over the latent's values; None without latent.
        log_volume: log volume that a value stands for where there is no prior.
        dtype: in which ``sheets`` computes.
    """

    json: dict[str, Any]
    sheets: Callable[[Tensor], Tensor]
    log_mass: Tensor | None
    log_volume: float
    dtype: torch.dtype

    def free_energy(self, y: Tensor, beta: float, *, prior: bool = True) -> Tensor:
        """Compute F_β at points (..., 2), with the normalised prior over the latent or without; (...)."""
        values = self.sheets(y.reshape(-1, 2)).reshape(*y.shape[:-1], -1)
        if self.log_mass is None:
            return values[..., 0]
        return fe.free_energy(values, beta, log_volume=self.log_mass if prior else self.log_volume)


def describe(
    energy: Energy | LatentEnergy,
    *,
    box: Box = ((-2.0, 2.0), (-2.0, 2.0)),
    dims: Sequence[int] = (2,),
    latents: Tensor | Grid | None = None,
    log_prior: Tensor | None = None,
    latent_name: str = "z",
    resolution: int = 65,
    dtype: torch.dtype = torch.float64,
) -> Description:
    r"""Describe an energy of two coordinates in JSON, by the smallest kind that holds it.

    Args:
        energy: F(y) with y in the plane, or F(x, y) with two scalars; with ``latents`` E(y, z) or E(x, y, z).
        box: ((left, right), (bottom, top)) where it is described.
        dims: ``(2,)`` for F(y), ``(1, 1)`` for F(x, y).
        latents: the values of z, (K, L), or a grid of them.
        log_prior: as :func:`ebm_lib.free_energy.over_discrete` (log masses) and
            :func:`ebm_lib.free_energy.over_grid` (log density at the grid's points); uniform if None.
        latent_name: what figures call the latent.
        resolution: points along a side, if it comes to a table of values.
        dtype: in which to call the energy; a module is converted, a closure over float32 weights needs float32.

    Returns:
        The description.

    Raises:
        ValueError: a box, shapes or a prior that do not fit, an energy that is not finite on the box.

    >>> describe(lambda y: y.square().sum(-1)).json
    {'kind': 'wells', 'c': [[0, 0]], 'q': [1, 0, 1], 'r': 0}
    """
    box = _check_box(box)
    require_count("resolution", resolution, minimum=5)
    if tuple(dims) not in ((2,), (1, 1)):
        raise ValueError(f"dims must be (2,) for F(y) or (1, 1) for F(x, y), got {tuple(dims)}")
    if latents is None and log_prior is not None:
        raise ValueError("log_prior needs latents")
    own = copy.deepcopy(energy).to(device="cpu", dtype=dtype) if isinstance(energy, nn.Module) else energy
    values = latents.points if isinstance(latents, Grid) else latents
    if values is not None and (values.ndim != 2 or not len(values)):
        raise ValueError(f"latents must be (K, L) with K of at least 1, got shape {tuple(values.shape)}")
    z = None if values is None else require_finite("latents", values).detach().cpu().to(dtype)

    def sheets(points: Tensor) -> Tensor:
        points = points.to(dtype).unsqueeze(-2)
        arguments = [points] if len(dims) == 1 else [points[..., :1], points[..., 1:]]
        try:
            return evaluate(own, *arguments, *([] if z is None else [z]))
        except RuntimeError as error:
            if "dtype" in str(error) or "same type" in str(error):
                raise ValueError(
                    f"energy cannot be called in {dtype}: pass dtype= to match its own; {error}"
                ) from error
            raise

    with torch.no_grad():
        data = _as_mlp(energy, dims) if z is None else None
        data = data or _as_wells(sheets, box, dtype) or _as_series(sheets, box, dtype)
        data = data or _as_table(sheets, box, resolution)
    log_mass, log_volume = None, 0.0
    if z is not None:
        log_mass, log_volume = _weights(latents, log_prior, dtype)
        uniform = bool((log_mass == log_mass[0]).all())
        data["latent"] = {
            "p": _number(log_mass[0], 12) if uniform else [_number(v, 9) for v in log_mass],
            "v": _number(log_volume, 12),
            **({"z": [_number(v, 6) for v in z[:, 0]]} if z.shape[1] == 1 else {}),
            "name": latent_name,
        }
    return Description(data, sheets, log_mass, log_volume, dtype)


@dataclass(frozen=True)
class Explorer:
    """A live explorer: shown on the website by the script, in JupyterLab by :meth:`widget`.

    Attributes:
        name: unique on its page; the element's id is ``ebm-`` and this.
        spec: what the script reads.
        members: the described energies, by label.
    """

    name: str
    spec: dict[str, Any]
    members: dict[str, Description] = field(repr=False)

    def _repr_html_(self) -> str:
        # In JSON, < occurs in strings only; escaped there, no text can close the script element.
        text = json.dumps(self.spec, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
        title = f"<strong>{html.escape(self.spec['title'])}.</strong> " if self.spec["title"] else ""
        return (
            f'<div class="ebm-explorer" id="ebm-{self.name}">\n'
            f"<p>{title}{html.escape(self.spec['alt'])} <em>(Live on the website; in JupyterLab, show this object's "
            "<code>.widget()</code>.)</em></p>\n"
            f'<script type="application/json">{text}</script>\n</div>'
        )

    def __repr__(self) -> str:
        return f"Explorer({self.name!r})"

    def widget(self) -> Any:
        """Make the same exploration as an ipywidget, for JupyterLab (needs ipywidgets)."""
        from ebm_lib.viz.widgets import from_explorer

        return from_explorer(self)


def explorer(
    energy: Energy | LatentEnergy | Description | Mapping[Any, Energy | LatentEnergy | Description],
    *,
    name: str,
    alt: str,
    title: str = "",
    box: Box = ((-2.0, 2.0), (-2.0, 2.0)),
    dims: Sequence[int] = (2,),
    latents: Tensor | Grid | None = None,
    log_prior: Tensor | None = None,
    latent_name: str = "z",
    axes: tuple[str, str] | None = None,
    free: tuple[bool, bool] | str | None = None,
    starts: Tensor | Sequence[Sequence[float]] | None = None,
    steps: int = 0,
    max_steps: int = 300,
    lr: float = 0.1,
    beta: float | None = None,
    betas: tuple[float, float] = (0.01, 1000.0),
    prior: str = "normalized",
    density: bool | str = False,
    panel: str | None = None,
    arrows: bool = False,
    levels: tuple[float, float] | None = None,
    data: Tensor | None = None,
    curve: Tensor | Sequence[Tensor] | None = None,
    choice: str = "Energy",
    resolution: int = 65,
    dtype: torch.dtype = torch.float64,
) -> Explorer:
    r"""Make a landscape that readers explore: drag starts, run gradient descent on y, move β.

    .. math:: y \leftarrow y - \eta \nabla F_\beta(y), \qquad
        F_\beta(y) = -\tfrac{1}{\beta} \log \sum_k p_k\, e^{-\beta E(y, z_k)}

    Args:
        energy: F(y), F(x, y), E(y, z) or E(x, y, z) as in :func:`describe`, or a description; or several by label,
            to choose from (labels that are numbers make a slider).
        name: unique on its page: small letters, digits and hyphens.
        alt: what the figure shows, for who does not see it.
        title: shown above it.
        box: ((left, right), (bottom, top)).
        dims: ``(2,)`` for an energy of y in the plane, ``(1, 1)`` for one of two scalars x and y.
        latents: values of z, (K, L), or a grid; the free energy is taken over them.
        log_prior: see :func:`describe`.
        latent_name: what figures call the latent.
        axes: names of the two coordinates.
        free: which coordinates the descent moves; ``"choose"`` leaves it to the reader. Both for F(y), y for F(x, y).
        starts: (S, 2), at most 12.
        steps: steps already made when the figure opens.
        max_steps: where a run ends.
        lr: the step size η, in units of y² / energy; the reader can change it by factors.
        beta: inverse temperature at first; ``inf`` with latents and 1 without, if None.
        betas: ends of the slider for β; with latents ∞ comes after them.
        prior: over the latent: ``"normalized"``, ``"none"`` (a plain sum or integral over z), or ``"choose"``.
        density: offer the view of P ∝ exp(−βF), for two scalars P(y|x); ``"shown"`` opens with it.
        panel: ``"slice"`` adds a cut of the energy through the ball, ``"latent"`` the energies of the values of z
            and their posterior.
        arrows: open with arrows along −∇F.
        levels: energies drawn darkest and brightest; fitted to the landscape if None.
        data: points to draw, (N, 2), the first 300.
        curve: lines to draw, (N, 2) or several.
        choice: what the labels of several energies are, such as "Epoch".
        resolution: see :func:`describe`.
        dtype: see :func:`describe`.

    Returns:
        The explorer, which a notebook shows.

    Raises:
        ValueError: an argument out of its range; as :func:`describe`.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Energy-Based Model: gradient-based
        inference"; LeCun, Energy-Based Models, part 1 (NYU Deep Learning, spring 2020), "Latent-Variable EBM:
        inference".

    >>> figure = explorer(lambda y: y.square().sum(-1), name="bowl", alt="A round bowl, lowest at the origin.")
    >>> figure._repr_html_()[:41]
    '<div class="ebm-explorer" id="ebm-bowl">\n'
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise ValueError(f"name must be small letters, digits and hyphens, beginning with a letter, got {name!r}")
    if not alt.strip():
        raise ValueError("alt must say what the figure shows, got nothing")
    box = _check_box(box)
    dims = tuple(dims)
    named = energy if isinstance(energy, Mapping) else {"": energy}
    if not named:
        raise ValueError("energy must hold at least one energy, got an empty mapping")
    settings = {
        "box": box, "dims": dims, "latents": latents, "log_prior": log_prior, "latent_name": latent_name,
        "resolution": resolution, "dtype": dtype,
    }  # fmt: skip
    members = {
        str(label): member if isinstance(member, Description) else describe(member, **settings)
        for label, member in named.items()
    }
    latent = any("latent" in member.json for member in members.values())
    (x0, x1), (y0, y1) = box
    given = [(x0 + 0.2 * (x1 - x0), y0 + 0.8 * (y1 - y0))] if starts is None else starts
    points = require_finite("starts", torch.as_tensor(given, dtype=torch.float64))
    if points.ndim != 2 or points.shape[1] != 2 or not 1 <= len(points) <= 12:
        raise ValueError(f"starts must be (S, 2) with S from 1 to 12, got shape {tuple(points.shape)}")
    if steps < 0 or steps > require_count("max_steps", max_steps):
        raise ValueError(f"steps must be from 0 to max_steps={max_steps}, got {steps}")
    require_positive("lr", lr)
    if not 0 < betas[0] < betas[1] < math.inf:
        raise ValueError(f"betas must be two finite positive numbers, the smaller first, got {betas}")
    beta = require_positive("beta", (math.inf if latent else 1.0) if beta is None else beta, allow_inf=latent)
    require_choice("prior", prior, ("normalized", "none", "choose"))
    if density not in (False, True, "shown"):
        raise ValueError(f"density must be False, True or 'shown', got {density!r}")
    if panel is not None:
        require_choice("panel", panel, ("slice", "latent"))
    if panel == "latent" and not latent:
        raise ValueError("panel='latent' needs latents")
    if levels is not None and not -math.inf < levels[0] < levels[1] < math.inf:
        raise ValueError(f"levels must be two finite energies, the lower first, got {levels}")
    choose_free = free == "choose"
    if choose_free or free is None:
        free = (len(dims) == 1, True)
    if isinstance(free, str) or len(free) != 2 or not any(free):
        raise ValueError(f"free must be 'choose' or two booleans, one of them true, got {free!r}")
    digits = 4 - math.floor(math.log10(min(x1 - x0, y1 - y0)))

    def rounded(argument: str, values: Tensor, digits: int = digits - 1) -> list[list[float]]:
        values = require_finite(argument, torch.as_tensor(values, dtype=torch.float64))
        if values.ndim != 2 or values.shape[1] != 2:
            raise ValueError(f"{argument} must be (N, 2), got shape {tuple(values.shape)}")
        return [[_fixed(v, digits) for v in row] for row in values.tolist()]

    curves = [] if curve is None else [curve] if isinstance(curve, Tensor) else list(curve)
    spec = {
        "v": 1, "title": title, "alt": alt, "box": [[_number(v, 9) for v in side] for side in box],
        "args": len(dims), "axes": list(axes or (("y₁", "y₂") if len(dims) == 1 else ("x", "y"))),
        "free": [int(f) for f in free], "chooseFree": int(choose_free),
        "members": [{"label": label, "energy": member.json} for label, member in members.items()],
        "choice": choice, "ordered": int(len(named) > 1 and all(isinstance(label, int | float) for label in named)),
        "starts": rounded("starts", points, digits), "steps": steps, "max": max_steps,
        "lr": lr, "lrs": [min(1e-3, lr / 10), max(1.0, lr * 10)],
        "beta": "inf" if math.isinf(beta) else beta, "betas": list(betas),
        "prior": "v" if prior == "none" else "p", "choosePrior": int(prior == "choose"),
        "density": 2 if density == "shown" else int(density), "arrows": int(arrows), "panel": panel,
        "levels": None if levels is None else [_number(v, 9) for v in levels],
        "curves": [rounded("curve", line) for line in curves],
        "data": [] if data is None else rounded("data", data[:_MOST_POINTS]),
    }  # fmt: skip
    return Explorer(name, spec, members)


def _check_box(box: Box) -> tuple[tuple[float, float], tuple[float, float]]:
    sides = tuple((float(low), float(high)) for low, high in box)
    if len(sides) != 2 or not all(-math.inf < low < high < math.inf for low, high in sides):
        raise ValueError(f"box must be ((left, right), (bottom, top)), finite, left < right, bottom < top, got {box}")
    return sides


def _number(value: float | Tensor, digits: int) -> float:
    """Round to significant digits; whole numbers become int, so that no ``.0`` and no ``-0`` is written."""
    short = float(f"{float(value):.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def _fixed(value: float, digits: int) -> float:
    return _number(round(value, digits), 15)


def _weights(latents: Tensor | Grid, log_prior: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, float]:
    """Log prior masses of the latent's values, and the log volume of one where there is no prior."""
    points, log_cell = (latents.points, latents.log_cell) if isinstance(latents, Grid) else (latents, 0.0)
    if log_prior is None:
        return torch.full((len(points),), -math.log(len(points)), dtype=dtype), log_cell
    masses = require_finite("log_prior", log_prior).detach().cpu().to(dtype) + log_cell
    if masses.shape != (len(points),):
        raise ValueError(f"log_prior must be ({len(points)},), one number per latent, got {tuple(log_prior.shape)}")
    total = masses.exp().sum().item()
    if abs(total - 1) > 0.01:
        raise ValueError(f"log_prior must be normalised over the latents, its masses sum to {total:.4g}")
    return masses, log_cell


def _as_mlp(energy: Energy, dims: Sequence[int]) -> dict[str, Any] | None:
    known = type(energy) is EnergyMLP or type(energy) is MLP  # a subclass may compute something else
    if not known or energy.activation not in _ACTIVATIONS:
        return None
    if energy.sizes[0] != 2 or energy.sizes[-1] != 1 or tuple(getattr(energy, "dims", (2,))) != tuple(dims):
        raise ValueError(f"energy must be a network of dims {tuple(dims)} with one output, got sizes {energy.sizes}")
    layers = [
        {"w": [[_number(v, 6) for v in row] for row in linear.weight.tolist()],
         "b": [_number(v, 6) for v in linear.bias.tolist()]}
        for linear in energy.linears
    ]  # fmt: skip
    for parameter in energy.parameters():
        require_finite("the network's weights", parameter)
    return {"kind": "mlp", "act": energy.activation, "layers": layers}


def _probe(sheets: Callable[[Tensor], Tensor], box: Box) -> tuple[Tensor, Tensor]:
    """Points scattered evenly over the box (the plastic number's sequence), and the energies there."""
    k = torch.arange(1, 201, dtype=torch.float64)
    unit = torch.stack([(0.5 + 0.7548776662 * k) % 1, (0.5 + 0.569840291 * k) % 1], dim=-1)
    low, high = torch.tensor(box, dtype=torch.float64).unbind(1)
    points = low + unit * (high - low)
    return points, require_finite("energy on the box", sheets(points)).to(torch.float64)


def _tolerance(values: Tensor, dtype: torch.dtype) -> float:
    """Error allowed: a millionth of the energies' range, or what float32's rounding leaves."""
    spread = (values.max() - values.min()).item()
    size = values.abs().max().item()
    return max(1e-6 * spread, 100 * torch.finfo(dtype).eps * size, 1e-300)


def _as_wells(sheets: Callable[[Tensor], Tensor], box: Box, dtype: torch.dtype) -> dict[str, Any] | None:
    (x0, x1), (y0, y1) = box
    middle = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2], dtype=torch.float64)
    half = torch.tensor([(x1 - x0) / 2, (y1 - y0) / 2], dtype=torch.float64)
    corners = torch.tensor([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [-1, -1]], dtype=torch.float64)
    e = require_finite("energy on the box", sheets(middle + half * corners)).to(torch.float64)
    slope = torch.stack([e[1] - e[2], e[3] - e[4]], dim=-1) / (2 * half)  # (K, 2)
    a, b = ((e[i] + e[i + 1] - 2 * e[0]) / (2 * half[i // 2] ** 2) for i in (1, 3))
    h = ((e[5] + e[6] - 2 * e[0]) / 2 - a * half[0] ** 2 - b * half[1] ** 2) / (2 * half[0] * half[1])
    points, values = _probe(sheets, box)
    tolerance = _tolerance(values, dtype)
    small = tolerance / half.min().item() ** 2
    form = torch.stack([a, h, h, b], dim=-1).reshape(-1, 2, 2)
    form = torch.where(form.abs() < small, 0.0, form)
    # The centre of least norm: a form that is flat along a direction leaves it open there.
    offset = -(torch.linalg.pinv(2 * form, rtol=1e-7) @ slope.unsqueeze(-1)).squeeze(-1)
    centre = middle + offset
    floor = e[0] - torch.einsum("ki,kij,kj->k", offset, form, offset)
    floor = torch.where(floor.abs() < tolerance, 0.0, floor)
    away = points[:, None] - centre
    fitted = torch.einsum("nki,kij,nkj->nk", away, form, away) + floor
    if (fitted - values).abs().max() > tolerance:
        return None
    places = 7 - math.floor(math.log10(half.min().item()))
    forms = [[_number(v, 7) for v in (q[0, 0], q[0, 1], q[1, 1])] for q in form]
    floors = [_number(v, 7) for v in floor]
    return {
        "kind": "wells",
        "c": [[_fixed(v, places) for v in row] for row in centre.tolist()],
        "q": forms[0] if all(q == forms[0] for q in forms) else forms,
        "r": floors[0] if all(r == floors[0] for r in floors) else floors,
    }


def _chebyshev(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes in (-1, 1), and the matrix from values there to coefficients."""
    angle = np.pi * (np.arange(n) + 0.5) / n
    matrix = 2 / n * np.cos(np.outer(np.arange(n), angle))
    matrix[0] /= 2
    return np.cos(angle), matrix


def _as_series(sheets: Callable[[Tensor], Tensor], box: Box, dtype: torch.dtype) -> dict[str, Any] | None:
    (x0, x1), (y0, y1) = box
    points, values = _probe(sheets, box)
    tolerance = _tolerance(values, dtype)
    unit = 2 * (points.numpy() - [x0, y0]) / [x1 - x0, y1 - y0] - 1
    for n in (5, 9, 17, 33, 49):
        nodes, matrix = _chebyshev(n)
        sides = [low + (high - low) * (nodes + 1) / 2 for low, high in box]
        mesh = np.stack(np.meshgrid(*sides, indexing="ij"), -1)
        e = require_finite("energy on the box", sheets(torch.from_numpy(mesh.reshape(-1, 2)))).to(torch.float64)
        c = np.einsum("ia,jb,abk->kij", matrix, matrix, e.numpy().reshape(n, n, -1), optimize=True)
        c[np.abs(c) < tolerance / 100] = 0
        nx, ny = (1 + int(np.max(np.nonzero(np.abs(c).max((0, axis)))[0], initial=0)) for axis in (2, 1))
        if len(c) * nx * ny > _MOST_COEFFICIENTS:
            return None
        fitted = np.stack([np.polynomial.chebyshev.chebval2d(unit[:, 0], unit[:, 1], sheet) for sheet in c], -1)
        if np.abs(fitted - values.numpy()).max() <= tolerance:
            places = 3 - math.floor(math.log10(tolerance))
            return {"kind": "cheb", "n": [nx, ny], "c": [[_fixed(v, places) for v in s[:nx, :ny].ravel()] for s in c]}
    return None


def _as_table(sheets: Callable[[Tensor], Tensor], box: Box, resolution: int) -> dict[str, Any]:
    count = _probe(sheets, box)[1].shape[1]
    n = resolution if count == 1 else max(17, min(resolution, math.isqrt(_MOST_VALUES // count)))
    if count * n * n > 10 * _MOST_VALUES:
        raise ValueError(f"latents must be fewer for an energy that has to be tabulated, got {count}")
    sides = [torch.linspace(low, high, n, dtype=torch.float64) for low, high in box]
    points = torch.stack(torch.meshgrid(*sides, indexing="ij"), dim=-1).reshape(-1, 2)
    e = require_finite("energy on the box", sheets(points)).to(torch.float64).T.numpy()
    low, high = float(e.min()), float(e.max())
    # Square roots before rounding: finer steps where the energy is low, which is where descents end.
    u = np.rint(65535 * np.sqrt((e - low) / ((high - low) or 1.0))).astype("<u2")
    packed = base64.b64encode(u.tobytes()).decode()
    return {"kind": "grid", "n": [n, n], "lo": _number(low, 9), "hi": _number(high, 9), "v": packed}
