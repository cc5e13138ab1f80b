"""What the live explorer writes into a page, read back and evaluated here by other means than its script."""

import base64
import html.parser
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.interpolate import RectBivariateSpline

from ebm_lib import free_energy as fe
from ebm_lib import viz
from ebm_lib.energy import grid
from ebm_lib.nn import EnergyMLP
from ebm_lib.viz import live

D = torch.float64
BOX = ((-2.0, 1.0), (-1.0, 3.0))
ALT = "A landscape."


def scatter(count: int = 60, seed: int = 0) -> torch.Tensor:
    low, high = torch.tensor(BOX, dtype=D).unbind(1)
    return low + torch.rand(count, 2, dtype=D, generator=torch.Generator().manual_seed(seed)) * (high - low)


def read(data: dict[str, Any], y: torch.Tensor) -> np.ndarray:
    """Evaluate a description at (N, 2), from its documentation: (N, K)."""
    x, t = y.numpy().T
    if data["kind"] == "wells":
        c = np.array(data["c"], dtype=float)
        q = np.broadcast_to(np.array(data["q"], dtype=float), (len(c), 3))
        dx, dy = x[:, None] - c[:, 0], t[:, None] - c[:, 1]
        return q[:, 0] * dx**2 + 2 * q[:, 1] * dx * dy + q[:, 2] * dy**2 + np.array(data["r"])
    if data["kind"] == "cheb":
        unit = 2 * (y.numpy() - np.array(BOX)[:, 0]) / np.diff(np.array(BOX), axis=1)[:, 0] - 1
        sheets = [np.array(c, dtype=float).reshape(data["n"]) for c in data["c"]]
        return np.stack([np.polynomial.chebyshev.chebval2d(*unit.T, c) for c in sheets], -1)
    if data["kind"] == "grid":
        u = np.frombuffer(base64.b64decode(data["v"]), "<u2").reshape(-1, *data["n"]) / 65535
        values = data["lo"] + (data["hi"] - data["lo"]) * u**2
        sides = [np.linspace(*side, n) for side, n in zip(BOX, data["n"], strict=True)]
        return np.stack([RectBivariateSpline(*sides, sheet).ev(x, t) for sheet in values], -1)
    assert data["kind"] == "mlp"
    h = y.numpy()
    activation = {"tanh": np.tanh, "softplus": lambda v: np.logaddexp(v, 0), "relu": lambda v: np.maximum(v, 0)}
    for i, layer in enumerate(data["layers"]):
        h = (activation[data["act"]](h) if i else h) @ np.array(layer["w"]).T + layer["b"]
    return h


def ring(y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    return (y[..., 0] - torch.sin(z[..., 0])) ** 2 + (y[..., 1] - 1 - torch.cos(z[..., 0])) ** 2


def tilted(y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    return (
        3 * (y[..., 0] - z[..., 0]) ** 2
        + z[..., 1] * (y[..., 0] - z[..., 0]) * y[..., 1]
        + 2 * y[..., 1] ** 2
        + z[..., 0]
    )


ANGLES = grid([0.0], [2 * math.pi], 40, dtype=D)
CODES = torch.tensor([[0.5, 1.0], [-1.0, -2.0], [0.0, 0.3]], dtype=D)


@pytest.mark.parametrize(
    ("energy", "latents", "kind"),
    [
        (lambda y: y.square().sum(-1), None, "wells"),
        (lambda y: (y[..., 0] - 2 * y[..., 1] + 1) ** 2, None, "wells"),  # flat along a line
        (lambda y: 0 * y.sum(-1) - 4, None, "wells"),
        (ring, ANGLES, "wells"),
        (tilted, CODES, "wells"),
        (lambda y: y[..., 0] - y[..., 1], None, "cheb"),  # linear: no centre
        (lambda y: (1 - y[..., 0]) ** 2 + 100 * (y[..., 1] - y[..., 0] ** 2) ** 2, None, "cheb"),
        (lambda y: -torch.exp(-2 * y.square().sum(-1)), None, "cheb"),
        (lambda y, z: torch.sin(y[..., 0] * z[..., 0]) + y[..., 1] ** 2 * z[..., 1], CODES, "cheb"),
        (lambda y: y[..., 0].abs() + y[..., 1].abs(), None, "grid"),
        (lambda y: fe.over_grid(ring, y, ANGLES), None, "grid"),
    ],
)
def test_the_smallest_kind_that_holds_it(energy: Callable, latents: Any, kind: str) -> None:
    made = live.describe(energy, box=BOX, latents=latents)
    assert made.json["kind"] == kind
    y = scatter()
    z = latents.points if isinstance(latents, tuple) else latents
    truth = (energy(y)[:, None] if z is None else energy(y[:, None], z)).numpy()
    spread = np.ptp(truth) or 1.0
    error = np.abs(read(made.json, y) - truth)
    if kind == "grid":  # kinks are rounded
        assert np.quantile(error, 0.7) < 2e-3 * spread
        assert error.max() < 3e-2 * spread
    else:
        assert error.max() < 2e-6 * spread


@pytest.mark.parametrize("activation", ["softplus", "tanh", "relu"])
@pytest.mark.parametrize("dims", [(2,), (1, 1)])
def test_a_network_is_written_as_one(activation: str, dims: tuple[int, ...]) -> None:
    net = EnergyMLP(dims, (8, 5), activation=activation, generator=torch.Generator().manual_seed(0), dtype=D)
    made = live.describe(net, box=BOX, dims=dims)
    y = scatter()
    truth = net(*(y.split(1, -1) if len(dims) == 2 else [y])).detach().numpy()
    assert made.json["kind"] == "mlp"
    np.testing.assert_allclose(read(made.json, y)[:, 0], truth, atol=1e-5)


def test_what_the_script_cannot_compute_is_fitted() -> None:
    class Squared(EnergyMLP):
        def forward(self, *variables: torch.Tensor) -> torch.Tensor:
            return super().forward(*variables).square()

    for net in (
        Squared((2,), (4,), activation="tanh", generator=torch.Generator().manual_seed(0)),
        EnergyMLP((2,), (4,), activation="gelu", generator=torch.Generator().manual_seed(0)),
    ):
        made = live.describe(net, box=BOX)
        assert made.json["kind"] == "cheb"
        y = scatter()
        np.testing.assert_allclose(read(made.json, y)[:, 0], net.double()(y).detach(), atol=1e-5)


def test_descriptions_free_energy_is_the_librarys() -> None:
    y = scatter()
    log_prior = torch.log_softmax(torch.linspace(0, 3, 40, dtype=D), 0) - ANGLES.log_cell
    made = live.describe(ring, box=BOX, latents=ANGLES, log_prior=log_prior)
    codes = live.describe(tilted, box=BOX, latents=CODES)
    for beta in (0.1, 2.0, math.inf):
        torch.testing.assert_close(made.free_energy(y, beta), fe.over_grid(ring, y, ANGLES, beta, log_prior=log_prior))
        torch.testing.assert_close(made.free_energy(y, beta, prior=False), fe.over_grid(ring, y, ANGLES, beta))
        uniform = torch.full((3,), -math.log(3), dtype=D)
        torch.testing.assert_close(
            codes.free_energy(y, beta), fe.over_discrete(tilted, y, CODES, beta, log_prior=uniform)
        )
        torch.testing.assert_close(codes.free_energy(y, beta, prior=False), fe.over_discrete(tilted, y, CODES, beta))
    written = made.json["latent"]
    assert np.exp(written["p"]).sum() == pytest.approx(1, abs=1e-6)
    assert written["v"] == pytest.approx(math.log(2 * math.pi / 40))
    np.testing.assert_allclose(written["z"], ANGLES.points[:, 0], atol=1e-5)
    assert "z" not in codes.json["latent"], "two-dimensional latents have no axis to be drawn on"


class Parts(html.parser.HTMLParser):
    """The element, its visible text and its script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.text, self.script = "", ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.ids += [value for key, value in attrs if key == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.script += data
        else:
            self.text += data


def test_the_html_holds_the_description_and_a_text() -> None:
    title = 'β < 1 & "quotes" </script><script>'
    figure = viz.explorer(ring, name="a-1", alt="An <ellipse>.", title=title, latents=ANGLES, box=BOX)
    parts = Parts(figure._repr_html_())
    assert parts.open == []
    assert parts.ids == ["ebm-a-1"]
    assert json.loads(parts.script) == figure.spec
    assert figure.spec["title"] == title
    assert "An <ellipse>." in parts.text
    assert title in parts.text


def test_the_same_energy_gives_the_same_text() -> None:
    def make() -> str:
        return viz.explorer(
            {"ring": live.describe(ring, latents=ANGLES), "wave": waves}, name="same", alt=ALT
        )._repr_html_()

    def waves(y: torch.Tensor) -> torch.Tensor:
        return torch.sin(y[..., 0]) * y[..., 1].exp()

    def wobbly(y: torch.Tensor) -> torch.Tensor:  # as another processor rounds
        return waves(y) * (1 + 3e-16) + 1e-16

    first = make()
    assert first == make()
    plain, rounded = live.describe(waves).json, live.describe(wobbly).json
    assert plain == rounded
    assert "0x" not in first
    assert "-0," not in first
    assert "-0]" not in first
    assert len(first) < 12_000


def test_the_specification_follows_the_arguments() -> None:
    figure = viz.explorer(
        lambda x, y, z: (y[..., 0] - z[..., 0] * x[..., 0]) ** 2,
        name="all", alt=ALT, dims=(1, 1), latents=CODES[:, :1], beta=3.0, prior="choose", density="shown",
        panel="latent", starts=[[0.12345678, 1]], steps=5, max_steps=50, lr=20.0, levels=(0, 2),
        data=torch.ones(400, 2), curve=[torch.zeros(2, 2), torch.ones(3, 2)], arrows=True, latent_name="branch",
    )  # fmt: skip
    spec = figure.spec
    assert (spec["args"], spec["free"], spec["axes"]) == (2, [0, 1], ["x", "y"])
    assert (spec["beta"], spec["prior"], spec["choosePrior"], spec["density"]) == (3.0, "p", 1, 2)
    assert spec["starts"] == [[0.1235, 1]]
    assert spec["lrs"] == [1e-3, 200.0]
    assert (len(spec["data"]), [len(c) for c in spec["curves"]]) == (300, [2, 3])
    assert spec["members"][0]["energy"]["latent"]["name"] == "branch"
    several = viz.explorer({0: ring_at, 10: ring_at}, name="epochs", alt=ALT, choice="Epoch")
    assert (several.spec["ordered"], [m["label"] for m in several.spec["members"]]) == (1, ["0", "10"])
    assert viz.explorer({"a": ring_at, "b": ring_at}, name="named", alt=ALT).spec["ordered"] == 0
    assert viz.explorer(ring_at, name="beta", alt=ALT).spec["beta"] == 1.0
    assert viz.explorer(ring, latents=ANGLES, name="beta", alt=ALT).spec["beta"] == "inf"


def ring_at(y: torch.Tensor) -> torch.Tensor:
    return fe.over_grid(ring, y, ANGLES, 2.0)


BOWL = {"energy": lambda y: y.square().sum(-1), "name": "bowl", "alt": ALT}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Has Space"}, "name"),
        ({"alt": "  "}, "alt"),
        ({"box": ((1, 1), (0, 1))}, "box"),
        ({"box": ((-math.inf, 1), (0, 1))}, "box"),
        ({"energy": {}}, "empty mapping"),
        ({"dims": (3,)}, "dims"),
        ({"starts": [[0.0, 0.0, 0.0]]}, "starts"),
        ({"starts": [[0.0, 0.0]] * 13}, "starts"),
        ({"starts": [[0.0, math.nan]]}, "starts"),
        ({"steps": 301}, "steps"),
        ({"lr": 0.0}, "lr"),
        ({"beta": math.inf}, "beta"),
        ({"beta": -1.0}, "beta"),
        ({"betas": (1.0, 1.0)}, "betas"),
        ({"prior": "flat"}, "prior"),
        ({"density": "on"}, "density"),
        ({"panel": "cut"}, "panel"),
        ({"panel": "latent"}, "latents"),
        ({"levels": (1.0, 0.0)}, "levels"),
        ({"free": (False, False)}, "free"),
        ({"free": "both"}, "free"),
        ({"data": torch.zeros(3)}, "data"),
        ({"curve": torch.full((3, 2), math.inf)}, "curve"),
        ({"log_prior": torch.zeros(2)}, "log_prior needs latents"),
        ({"latents": torch.zeros(0, 1), "energy": ring}, "latents"),
        ({"latents": torch.zeros(4), "energy": ring}, "latents"),
        ({"latents": CODES, "energy": tilted, "log_prior": torch.zeros(3, dtype=D)}, "normalised"),
        ({"latents": CODES, "energy": tilted, "log_prior": torch.zeros(2, dtype=D)}, "one number per latent"),
        ({"energy": lambda y: y}, "one number per sample"),
        ({"energy": lambda y: 1 / (y[..., 0] - y[..., 0])}, "finite"),
        ({"energy": lambda y: y[..., 0].log()}, "finite"),
        ({"energy": EnergyMLP((1, 1), (4,))}, "dims"),
        ({"energy": lambda y: (y @ torch.ones(2, 1))[..., 0]}, "dtype="),
    ],
)
def test_bad_input_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        viz.explorer(**(BOWL | changes))


def test_float32_weights_in_a_closure() -> None:
    weights = torch.tensor([[1.0], [2.0]])
    made = live.describe(lambda y: (y @ weights)[..., 0].square(), dtype=torch.float32, box=BOX)
    y = scatter()
    np.testing.assert_allclose(read(made.json, y)[:, 0], (y @ weights.double())[:, 0].square(), atol=1e-3)


def test_importing_the_library_draws_in_neither_matplotlib_nor_ipywidgets() -> None:
    code = (
        "import sys, ebm_lib, ebm_lib.viz; from ebm_lib.viz import explorer;"
        "print([m for m in ('matplotlib', 'ipywidgets', 'IPython') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ----------------------------------------------------------------------------------------------------------- widgets


def test_the_widget_descends_by_the_library() -> None:
    widget = viz.explore(BOWL["energy"], starts=[[1.0, -2.0]], lr=0.1)
    before = widget.picture.value
    assert repr(widget) == "Exploration('widget')"
    assert bytes(before).startswith(b"\x89PNG")
    widget.steps.value = 5
    torch.testing.assert_close(widget.descent.argmin, torch.tensor([[1.0, -2.0]], dtype=D) * 0.8**5)
    assert widget.picture.value != before
    assert "(0.33, -0.66): energy 0.537" in widget.readout.value
    widget.start[0].value = 0.0
    torch.testing.assert_close(widget.descent.argmin, torch.tensor([[0.0, -2.0]], dtype=D) * 0.8**5)
    widget.step_size.value = 0.25
    torch.testing.assert_close(widget.descent.argmin, torch.tensor([[0.0, -2.0]], dtype=D) * 0.5**5)
    widget.several.value = True
    assert widget.descent.argmin.shape == (9, 2)
    before = widget.picture.value
    widget.arrows.value = True
    assert widget.picture.value != before


def test_the_widgets_temperature_prior_and_density() -> None:
    figure = viz.explorer(
        ring, latents=ANGLES, name="ring", alt=ALT, prior="choose", panel="latent", density=True, beta=1.0, steps=3
    )
    widget = figure.widget()
    y = scatter()
    for label, beta in widget.beta.options[:: len(widget.beta.options) // 4] + widget.beta.options[-1:]:
        widget.beta.value = beta
        expected = fe.over_grid(ring, y, ANGLES, beta, log_prior=-math.log(2 * math.pi))
        torch.testing.assert_close(widget.free_energy(y), expected)
        assert label == ("∞" if math.isinf(beta) else f"{beta:g}")
    before = widget.picture.value
    widget.beta.value = 1.0
    widget.prior.value = False
    torch.testing.assert_close(widget.free_energy(y), fe.over_grid(ring, y, ANGLES, 1.0))
    assert widget.picture.value != before
    before = widget.picture.value
    widget.density.value = True
    assert widget.picture.value != before


def test_the_widget_holds_what_is_known() -> None:
    widget = viz.explore(
        {"a": ring_at, "b": BOWL["energy"]}, free="choose", starts=[[1.0, -1.5]], steps=20, panel="slice"
    )
    widget.member.value = "b"
    for known, moves in (((False, True), 1), ((True, False), 0)):
        widget.known.value = known
        assert widget.descent.argmin.shape == (1, 1)
        assert abs(widget.descent.argmin.item()) < abs([1.0, -1.5][moves]) * 0.02
    widget.several.value = True
    assert widget.descent.argmin.shape == (9, 1)


def test_the_widget_says_when_it_diverges() -> None:
    widget = viz.explore(lambda y: y.pow(4).sum(-1), lr=0.9, starts=[[2.0, 2.0]], steps=50)
    assert widget.descent is None
    assert "diverged" in widget.readout.value
    widget.step_size.value = 0.01
    assert widget.descent is not None


def test_the_widget_for_two_scalars() -> None:
    def energy(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (y[..., 0] - x[..., 0]).square()

    widget = viz.explore(
        energy, dims=(1, 1), starts=[[0.7, -1.0]], steps=60, density="shown", panel="slice", curve=CODES
    )
    assert widget.descent.argmin.item() == pytest.approx(0.7, abs=1e-4)
    drawn = [widget.picture.value]
    for control, value in ((widget.density, False), (widget.arrows, True), (widget.beta, widget.beta.options[3][1])):
        control.value = value
        drawn.append(widget.picture.value)
    assert all(a != b for a, b in itertools.pairwise(drawn[:3]))


def test_the_widget_leaves_no_figure_open() -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    viz.explore(BOWL["energy"]).steps.value = 3
    assert plt.get_fignums() == before
