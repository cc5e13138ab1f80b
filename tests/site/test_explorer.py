"""The live explorer in a browser: its numbers against the library's, its controls by mouse, finger and keyboard."""

import functools
import itertools
import json
import math
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request

from ebm_lib import free_energy as fe
from ebm_lib.energy import blank, fill, grid, log_gibbs_density
from ebm_lib.inference import gradient_descent
from ebm_lib.nn import EnergyMLP
from ebm_lib.viz import explorer
from ebm_lib.viz.live import _as_table, _check_box

pytestmark = pytest.mark.browser

STATIC = Path(__file__).parents[2] / "book" / "_static"
D = torch.float64
BOX = ((-2.0, 2.0), (-2.0, 2.0))
STYLE = """
:root { color: #1f2328; background: #fff } html[data-theme=dark] { color: #ced6dd; background: #14181e }
body { font: 16px/1.5 sans-serif; max-width: 46rem; margin: 0 auto; padding: 0 1rem }
"""


# ---------------------------------------------------------------------------------------------------------- energies


def ellipse(y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    return (y[..., 0] - 1.6 * torch.sin(z[..., 0])) ** 2 + (y[..., 1] - 0.9 * torch.cos(z[..., 0])) ** 2


def valleys(y: torch.Tensor) -> torch.Tensor:
    return (y[..., 0] ** 2 - 1) ** 2 + y[..., 1] ** 2 + 0.3 * y[..., 0]


def waves(y: torch.Tensor) -> torch.Tensor:
    return torch.sin(2 * y[..., 0]) * torch.cos(y[..., 1]) + 0.2 * y.square().sum(-1)


def fork(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (y[..., 0] ** 2 - x[..., 0] - 0.4) ** 2 + 0.1 * y[..., 0]


def branches(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    return (y[..., 0] - z[..., 0] * torch.sin(x[..., 0])) ** 2 + 0.1 * z[..., 0] ** 2


def oriented(y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    along = (y * z).sum(-1)
    return 3 * (y - z).square().sum(-1) - 1.5 * (along - z.square().sum(-1)) ** 2 / z.square().sum(-1) + z[..., 0]


ANGLES = grid([0.0], [2 * math.pi], 180, dtype=D)
CODES = torch.tensor([[-1.2, -0.8], [0.9, -1.0], [0.2, 1.1], [1.4, 0.9]], dtype=D)
SIGNS = torch.tensor([[-1.0], [0.5], [1.0]], dtype=D)
LOG_PRIOR = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=D).log()


def network(dims: tuple[int, ...], activation: str) -> EnergyMLP:
    return EnergyMLP(dims, (24, 16), activation=activation, generator=torch.Generator().manual_seed(1), dtype=D)


# ------------------------------------------------------------------------------------------------------------- pages


@dataclass
class Site:
    """A page of explorers, and everything it must not do."""

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def call(self, name: str, script: str, *arguments: Any) -> Any:
        """Evaluate ``script`` with ``e`` the explorer's element and ``a`` the arguments."""
        body = f"([name, a]) => {{ const e = document.getElementById('ebm-' + name); {script} }}"
        return self.page.evaluate(body, [name, list(arguments)])

    def state(self, name: str) -> dict[str, Any]:
        return self.call(name, "return e.ebm.state()")

    def set(self, name: str, **changes: Any) -> None:
        text = json.dumps(changes).replace("Infinity", "1e999")
        self.call(name, f"e.ebm.set({text})")

    def pixels(self, name: str, canvas: str = "map") -> str:
        return self.call(name, f"return e.querySelector('.ebm-{canvas}').toDataURL()")

    def text(self, name: str) -> str:
        return self.page.inner_text(f"#ebm-{name} .ebm-readout")

    def settle(self) -> None:
        """Let the frame that a change asked for be drawn."""
        self.page.evaluate("() => new Promise(f => requestAnimationFrame(() => requestAnimationFrame(f)))")

    def at(self, name: str, point: list[float]) -> tuple[float, float]:
        """Where on the screen a point of the landscape is."""
        return tuple(
            self.call(
                name,
                "const r = e.querySelector('.ebm-map').getBoundingClientRect(), p = e.ebm.pixel(...a);"
                "return [r.left + p[0], r.top + p[1]]",
                *point,
            )
        )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("explorers")
    for name in ("explorer.js", "explorer.css"):
        shutil.copy(STATIC / name, folder)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def site(browser: Browser, served: tuple[Path, str]) -> Iterator[Callable[..., Site]]:
    """Open a page with the given figures; in the end no page may have logged an error or asked for anything else."""
    folder, address = served
    sites, contexts = [], []

    def make(*figures: Any, http: bool = False, theme: str = "light", around: str = "{}", **options: Any) -> Site:
        body = "\n".join(f if isinstance(f, str) else f._repr_html_() for f in figures)
        (folder / "page.html").write_text(
            f'<!doctype html><html lang="en" data-theme="{theme}"><head><meta charset="utf-8"><title>Explorers</title>'
            '<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">'
            '<link rel="stylesheet" href="explorer.css"><script src="explorer.js"></script>'
            f"<style>{STYLE}</style></head><body><main><h1>Explorers</h1>{around.format(body)}</main></body></html>",
            encoding="utf-8",
        )
        context = browser.new_context(**({"viewport": {"width": 900, "height": 900}} | options))
        contexts.append(context)
        new = Site(context.new_page())
        sites.append(new)
        new.page.on("console", lambda m: new.errors.append(m.text) if m.type == "error" else None)
        new.page.on("pageerror", lambda e: new.errors.append(str(e)))

        def note(request: Request) -> None:
            new.requests.append(request.url)

        new.page.on("request", note)
        new.page.goto(f"{address}/page.html" if http else (folder / "page.html").as_uri())
        if options.get("java_script_enabled") is False:
            return new
        new.page.wait_for_function(
            "() => [...document.querySelectorAll('.ebm-explorer')].every(e => /idle|error/.test(e.dataset.state)"
            " || !e.offsetParent)"
        )
        return new

    yield make
    for made in sites:
        assert made.errors == []
        files = {url.rsplit("/", 1)[1] for url in made.requests if not url.startswith("data:")}
        assert files <= {"page.html", "explorer.js", "explorer.css"}
        own = (folder.as_uri(), address, "data:")
        assert all(url.startswith(own) for url in made.requests)
    for context in contexts:
        context.close()


def scatter(count: int = 50, seed: int = 0, box: Any = BOX) -> torch.Tensor:
    low, high = torch.tensor(box, dtype=D).unbind(1)
    return low + torch.rand(count, 2, dtype=D, generator=torch.Generator().manual_seed(seed)) * (high - low)


def gradient(energy: Callable, y: torch.Tensor) -> torch.Tensor:
    leaf = y.detach().requires_grad_()
    return torch.autograd.grad(energy(leaf).sum(), leaf)[0]


def read(made: Site, name: str, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Take energies and gradients from the script."""
    got = made.call(name, "return a[0].map(p => [e.ebm.energy(...p), ...e.ebm.gradient(...p)])", y.tolist())
    values = torch.tensor(got, dtype=D)
    return values[:, 0], values[:, 1:]


# ----------------------------------------------------------------------------------------------------------- numbers


def test_the_script_is_small_and_asks_for_nothing() -> None:
    source = (STATIC / "explorer.js").read_text(encoding="utf-8")
    assert len(source.encode()) < 40_000
    assert not re.search(r"\b(fetch|XMLHttpRequest|import|eval|Function|WebSocket|localStorage)\b\s*\(", source)
    assert "http" not in source


@pytest.mark.parametrize("activation", ["softplus", "tanh", "relu", "silu"])
def test_a_network_has_torchs_values_and_gradients(site: Callable[..., Site], activation: str) -> None:
    plane, pair = network((2,), activation), network((1, 1), activation)
    made = site(
        explorer(plane, name="plane", alt="A network.", free=(True, True)),
        explorer(pair, name="pair", alt="A network.", dims=(1, 1), free=(True, True)),
    )
    y = scatter(box=((-4.0, 4.0), (-4.0, 4.0)))  # also outside the box
    for name, energy in (("plane", plane), ("pair", lambda y: pair(y[..., :1], y[..., 1:]))):
        value, slope = read(made, name, y)
        torch.testing.assert_close(value, energy(y), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(slope, gradient(energy, y), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "energy", [valleys, waves, lambda y: 3 * y[..., 0] ** 2 + y[..., 0] * y[..., 1] + y[..., 1] ** 2]
)
def test_a_closed_form_has_torchs_values_and_gradients(site: Callable[..., Site], energy: Callable) -> None:
    made = site(explorer(energy, name="form", alt="A closed form."))
    y = scatter()
    value, slope = read(made, "form", y)
    torch.testing.assert_close(value, energy(y), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(slope, gradient(energy, y), rtol=1e-4, atol=1e-4)


def test_a_table_comes_close_and_continues_along_its_tangent(site: Callable[..., Site]) -> None:
    figure = explorer(waves, name="table", alt="A table.")
    figure.spec["members"][0]["energy"] = _as_table(lambda p: waves(p)[:, None], _check_box(BOX), 65)
    made = site(figure, explorer(lambda y: y.abs().sum(-1), name="kink", alt="A kink."))
    y = scatter()
    value, slope = read(made, "table", y)
    torch.testing.assert_close(value, waves(y), rtol=0, atol=2e-4)
    torch.testing.assert_close(slope, gradient(waves, y), rtol=0, atol=1e-2)
    (inside, out), (_, steep) = read(made, "table", torch.tensor([[2.0, 0.5], [3.0, 0.5]], dtype=D))
    assert out - inside == pytest.approx(steep[0].item(), abs=1e-6)
    value, slope = read(made, "kink", y)
    clear = (y.abs() > 0.15).all(-1)  # a cubic rounds the kink within a cell or two of it
    torch.testing.assert_close(value[clear], y.abs().sum(-1)[clear], rtol=0, atol=1e-3)
    torch.testing.assert_close(slope[clear], y.sign()[clear], rtol=0, atol=2e-2)


def free_ellipse(y: torch.Tensor, beta: float, prior: bool) -> torch.Tensor:
    return fe.over_grid(ellipse, y, ANGLES, beta, log_prior=-math.log(2 * math.pi) if prior else 0.0)


def free_codes(y: torch.Tensor, beta: float, prior: bool) -> torch.Tensor:
    return fe.over_discrete(oriented, y, CODES, beta, log_prior=LOG_PRIOR if prior else 0.0)


def free_branches(y: torch.Tensor, beta: float, prior: bool) -> torch.Tensor:
    values = branches(y[..., None, :1], y[..., None, 1:], SIGNS)
    return fe.free_energy(values, beta, log_volume=-math.log(3) if prior else 0.0)


LATENT_CASES: dict[str, tuple[dict[str, Any], Callable]] = {
    "ellipse": ({"energy": ellipse, "latents": ANGLES}, free_ellipse),
    "codes": ({"energy": oriented, "latents": CODES, "log_prior": LOG_PRIOR}, free_codes),
    "branches": ({"energy": branches, "latents": SIGNS, "dims": (1, 1), "free": (True, True)}, free_branches),
}


@pytest.mark.parametrize("case", LATENT_CASES)
def test_the_free_energy_is_the_librarys(site: Callable[..., Site], case: str) -> None:
    options, reference = LATENT_CASES[case]
    made = site(explorer(**options, name="latent", alt="A latent.", prior="choose"))
    y = scatter(seed=3)
    for beta, prior in itertools.product([0.01, 0.5, 3.0, 50.0, 1000.0, math.inf], [True, False]):
        made.set("latent", beta=beta, prior="p" if prior else "v")
        value, slope = read(made, "latent", y)
        torch.testing.assert_close(value, reference(y, beta, prior), rtol=1e-4, atol=1e-4)
        expected = gradient(functools.partial(reference, beta=beta, prior=prior), y)
        if beta <= 3:
            torch.testing.assert_close(slope, expected, rtol=1e-4, atol=1e-4)
        # Colder, the slope turns sharply where two values of z tie: a few points lie too near such a ridge.
        near = (slope - expected).norm(dim=-1) < 1e-3 * (1 + expected.norm(dim=-1))
        assert near.double().mean() >= 0.9, (beta, prior)


def test_beta_leads_from_the_prior_mean_to_the_minimum(site: Callable[..., Site]) -> None:
    made = site(explorer(ellipse, latents=ANGLES, name="latent", alt="A latent.", prior="choose", betas=(1e-4, 1e4)))
    y, betas = scatter(20, seed=5), [1e-4, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e4, math.inf]
    values = []
    for beta in betas:
        made.set("latent", beta=beta)
        values.append(read(made, "latent", y)[0])
    every = ellipse(y[:, None], ANGLES.points)
    torch.testing.assert_close(values[0], every.mean(-1), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(values[-1], every.amin(-1), rtol=1e-6, atol=1e-6)
    assert all((a >= b - 1e-9).all() for a, b in itertools.pairwise(values))
    made.set("latent", beta=0.5, prior="v")  # without the prior, a term from the volume of z stays
    with_prior = fe.over_grid(ellipse, y, ANGLES, 0.5, log_prior=-math.log(2 * math.pi))
    torch.testing.assert_close(
        read(made, "latent", y)[0], with_prior - math.log(2 * math.pi) / 0.5, rtol=1e-5, atol=1e-5
    )


def test_the_density_is_gibbs(site: Callable[..., Site]) -> None:
    made = site(
        explorer(valleys, name="plane", alt="A density.", density=True, beta=1.5),
        explorer(fork, name="pair", alt="A density.", dims=(1, 1), density="shown", beta=1.5),
    )
    cells = grid([-2.0, -2.0], [2.0, 2.0], 400, dtype=D)
    nearest = torch.tensor([[0.3, -0.2], [-1.0, 0.1], [1.5, 1.0]], dtype=D)
    log_z = torch.logsumexp(-1.5 * valleys(cells.points), 0) + cells.log_cell
    got = made.call("plane", "return a[0].map(p => e.ebm.density(...p))", nearest.tolist())
    torch.testing.assert_close(torch.tensor(got, dtype=D), (-1.5 * valleys(nearest) - log_z).exp(), rtol=2e-3, atol=0)
    line = grid([-2.0], [2.0], 2001, dtype=D)
    for x in (-1.0, 0.37, 1.9):  # given x, the mass over y is one, whatever the energies of the other columns
        log_p = log_gibbs_density(fork(torch.tensor([x], dtype=D), line.points), 1.5, log_volume=line.log_cell)
        at = [0.4, -1.1, 1.3]
        cell = [int((y + 2) / 4 * 2001) for y in at]
        got = made.call("pair", "return a[1].map(y => e.ebm.density(a[0], y))", x, line.points[cell, 0].tolist())
        torch.testing.assert_close(torch.tensor(got, dtype=D), log_p[cell].exp(), rtol=2e-3, atol=1e-9)
    assert "P(y|x)" in made.text("pair")


def test_a_flat_energy_is_equally_probable_everywhere(site: Callable[..., Site]) -> None:
    made = site(
        explorer(lambda y: 0 * y.sum(-1), name="plane", alt="A flat energy.", density=True),
        explorer(lambda x, y: (0 * x + 0 * y).sum(-1), name="pair", alt="A flat energy.", dims=(1, 1), density=True),
    )
    assert made.call("plane", "return e.ebm.density(0.3, 0.1)") == pytest.approx(1 / 16)
    assert made.call("pair", "return e.ebm.density(0.3, 0.1)") == pytest.approx(1 / 4)


STARTS = [[-1.7, 1.3], [0.4, -1.1], [1.2, 1.6]]


@pytest.mark.parametrize(
    ("energy", "options"),
    [
        (valleys, {}),
        (network((2,), "softplus"), {}),
        (valleys, {"free": (False, True)}),
        (valleys, {"free": (True, False)}),
        (fork, {"dims": (1, 1)}),
        (ellipse, {"latents": ANGLES, "beta": 2.0}),
        (oriented, {"latents": CODES, "log_prior": LOG_PRIOR, "beta": 0.5}),
    ],
    ids=["valleys", "network", "hold y1", "hold y2", "conditional", "ellipse", "codes"],
)
def test_descent_is_the_librarys(site: Callable[..., Site], energy: Callable, options: dict[str, Any]) -> None:
    figure = explorer(energy, name="descent", alt="A descent.", starts=STARTS, lr=0.04, max_steps=150, **options)
    made = site(figure)
    made.set("descent", steps=150)
    state = made.state("descent")
    known = ~torch.tensor(figure.spec["free"]).bool()
    starts = torch.tensor(STARTS, dtype=D)
    beta = options.get("beta", math.inf)
    F = blank(lambda y: figure.members[""].free_energy(y, beta), starts, known)
    found = gradient_descent(F, starts[:, ~known], steps=150, lr=0.04)
    points = torch.tensor(state["points"], dtype=D)
    torch.testing.assert_close(points, fill(starts, known, found.argmin), rtol=0, atol=2e-3)
    torch.testing.assert_close(torch.tensor(state["energies"], dtype=D), found.energy, rtol=1e-4, atol=1e-4)
    assert set(state["ends"]) <= {"", "still"}
    assert (found.energy < F(starts[:, ~known]) - 1e-3).all()


def test_a_few_steps_are_exactly_gradient_descent(site: Callable[..., Site]) -> None:
    made = site(explorer(valleys, name="steps", alt="Steps.", starts=STARTS, lr=0.05, steps=7))
    expected = gradient_descent(valleys, torch.tensor(STARTS, dtype=D), steps=7, lr=0.05)
    state = made.state("steps")
    torch.testing.assert_close(torch.tensor(state["points"], dtype=D), expected.argmin, rtol=0, atol=1e-6)
    assert state["lengths"] == [7, 7, 7]


def test_too_long_a_step_diverges_and_says_so(site: Callable[..., Site]) -> None:
    made = site(explorer(valleys, name="wild", alt="A wild descent.", lr=1.0, starts=STARTS))
    made.set("wild", steps=200)
    assert "lost" in made.state("wild")["ends"]
    assert "diverged" in made.text("wild")


# ---------------------------------------------------------------------------------------------------------- controls


def test_buttons(site: Callable[..., Site]) -> None:
    made = site(explorer(valleys, name="play", alt="Buttons.", lr=0.05, max_steps=60, arrows=True))
    page, before = made.page, made.pixels("play")
    page.click("text=Step")
    made.settle()
    assert made.state("play")["lengths"] == [1]
    assert made.pixels("play") != before
    page.click("text=9 starts")
    made.settle()
    assert len(made.state("play")["starts"]) == 9
    page.click("text=Run")
    page.wait_for_function("() => document.getElementById('ebm-play').dataset.state === 'running'")
    page.click("text=Pause")
    made.settle()
    paused = made.state("play")
    assert not paused["running"]
    page.click("text=Run")
    page.wait_for_function("() => document.getElementById('ebm-play').ebm.state().steps === 60", timeout=20_000)
    made.settle()
    state = made.state("play")
    assert made.call("play", "return e.dataset.state") == "idle"
    assert max(state["energies"]) < 0.4
    assert re.search(r"6 at −0\.3\d, 3 at 0\.2\d|\d at −0\.3\d, \d at 0\.\d\d", made.text("play"))
    page.click("text=Rewind")
    page.click("text=1 start")
    made.settle()
    state = made.state("play")
    assert (state["steps"], len(state["starts"])) == (0, 1)
    made.set("play", lr=0.9)
    page.click("text=Reset")
    made.settle()
    assert made.state("play")["lr"] == 0.05
    assert made.pixels("play") == before


def test_keyboard(site: Callable[..., Site]) -> None:
    made = site(
        explorer(ellipse, latents=ANGLES, name="keys", alt="Keys.", starts=[[1.0, 0.5]], beta=1.0, panel="latent")
    )
    page = made.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "ebm-map"
    for key, x, y in (
        ("ArrowRight", 1.04, 0.5), ("ArrowUp", 1.04, 0.54), ("Shift+ArrowLeft", 0.64, 0.54), ("ArrowDown", 0.64, 0.5)
    ):  # fmt: skip
        shown, drawn, cut = made.text("keys"), made.pixels("keys"), made.pixels("keys", "cut")
        page.keyboard.press(key)
        made.settle()
        assert made.state("keys")["starts"][0] == pytest.approx([x, y])
        assert made.text("keys") != shown
        assert made.pixels("keys") != drawn
        assert made.pixels("keys", "cut") != cut
    lr = made.state("keys")["lr"]
    page.keyboard.press("+")
    assert made.state("keys")["lr"] > lr
    page.keyboard.press("-")
    page.keyboard.press("-")
    assert made.state("keys")["lr"] < lr
    shown = made.text("keys")
    page.keyboard.press("]")
    made.settle()
    assert made.state("keys")["beta"] > 1
    assert made.text("keys") != shown
    for _ in range(60):
        page.keyboard.press("]")
    assert made.call("keys", "return e.ebm.state().beta === Infinity")
    page.keyboard.press("[")
    assert made.state("keys")["beta"] == 1000
    page.keyboard.press("a")
    page.keyboard.press("a")
    state = made.state("keys")
    assert (len(state["starts"]), state["selected"]) == (3, 2)
    page.keyboard.press("n")
    assert made.state("keys")["selected"] == 0
    page.keyboard.press("p")
    assert made.state("keys")["selected"] == 2
    page.keyboard.press("Delete")
    assert len(made.state("keys")["starts"]) == 2
    page.keyboard.press("s")
    made.settle()
    assert made.state("keys")["steps"] == 1
    page.keyboard.press("r")
    page.keyboard.press("Space")
    page.wait_for_function("() => document.getElementById('ebm-keys').ebm.state().steps > 3")
    page.keyboard.press("Enter")
    made.settle()
    assert made.call("keys", "return e.dataset.state") == "idle"
    page.wait_for_function("() => document.querySelector('#ebm-keys [aria-live]').textContent.includes('energy')")
    page.evaluate("document.addEventListener('keydown', e => { window.seen = e.key })")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("window.seen") is None, "the theme would turn the page"
    page.keyboard.press("x")
    assert page.evaluate("window.seen") == "x"


def test_mouse(site: Callable[..., Site]) -> None:
    made = site(explorer(valleys, name="mouse", alt="A mouse.", starts=[[-1.0, 1.0]], lr=0.05, panel="slice"))
    page, mouse = made.page, made.page.mouse
    before, shown = made.pixels("mouse"), made.text("mouse")
    mouse.move(*made.at("mouse", [-1.0, 1.0]))
    mouse.down()
    mouse.move(*made.at("mouse", [0.5, -0.5]), steps=5)
    mouse.up()
    made.settle()
    state = made.state("mouse")
    assert len(state["starts"]) == 1
    assert state["starts"][0] == pytest.approx([0.5, -0.5], abs=0.02)
    assert made.pixels("mouse") != before
    assert made.text("mouse") != shown
    mouse.click(*made.at("mouse", [1.5, 1.5]))  # elsewhere: another start, which the same press can drag
    made.settle()
    state = made.state("mouse")
    assert len(state["starts"]) == 2
    assert state["starts"][1] == pytest.approx([1.5, 1.5], abs=0.02)
    mouse.move(*made.at("mouse", [-1.5, -1.5]))
    mouse.down()
    mouse.move(*made.at("mouse", [-1.0, -1.2]), steps=3)
    mouse.up()
    assert made.state("mouse")["starts"][2] == pytest.approx([-1.0, -1.2], abs=0.02)
    made.set("mouse", steps=100)
    end = made.state("mouse")["points"][0]
    mouse.move(*made.at("mouse", end))  # the ball itself is a handle, too
    mouse.down()
    mouse.move(*made.at("mouse", [-0.3, 0.9]), steps=3)
    mouse.up()
    made.settle()
    assert made.state("mouse")["starts"][0] == pytest.approx([-0.3, 0.9], abs=0.02)
    assert made.state("mouse")["lengths"][0] > 20, "the path follows the start"
    for i in range(12):
        mouse.click(*made.at("mouse", [-1.9 + 0.3 * i, 1.9]))
    assert len(made.state("mouse")["starts"]) == 12
    mouse.move(*made.at("mouse", [9.0, 9.0]))  # outside the frame nothing happens
    made.set("mouse", steps=0, selected=0)
    box = page.query_selector("#ebm-mouse .ebm-cut").bounding_box()
    mouse.click(box["x"] + box["width"] * 0.75, box["y"] + 60)
    made.settle()
    x, y = made.state("mouse")["starts"][0]
    assert (x, y > 0.6) == (pytest.approx(-0.3, abs=0.02), True)


def test_touch(site: Callable[..., Site]) -> None:
    made = site(
        explorer(valleys, name="touch", alt="A finger.", starts=[[-1.0, 1.0]]),
        "<p style='height:2000px'></p>",
        viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True, device_scale_factor=2,
    )  # fmt: skip
    page = made.page
    page.touchscreen.tap(*made.at("touch", [1.0, -1.0]))
    made.settle()
    state = made.state("touch")
    assert len(state["starts"]) == 2
    assert state["starts"][1] == pytest.approx([1.0, -1.0], abs=0.05)
    finger = page.context.new_cdp_session(page)

    def swipe(start: tuple[float, float], end: tuple[float, float]) -> None:
        steps = 8
        finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": start[0], "y": start[1]}]})
        for i in range(1, steps + 1):
            x, y = (a + (b - a) * i / steps for a, b in zip(start, end, strict=True))
            finger.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x, "y": y}]})
            page.wait_for_timeout(20)
        finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        page.wait_for_timeout(200)

    swipe(made.at("touch", [-1.0, 1.0]), made.at("touch", [0.0, -1.5]))  # from a point: it is dragged, the page stays
    assert made.state("touch")["starts"][0] == pytest.approx([0.0, -1.5], abs=0.06)
    assert page.evaluate("scrollY") == 0
    before = made.state("touch")["starts"]
    x, y = made.at("touch", [-1.5, -0.5])
    swipe((x, y), (x, y - 150))  # from elsewhere: the page scrolls, nothing moves and nothing is added
    assert page.evaluate("scrollY") > 60
    assert made.state("touch")["starts"] == before


def test_sliders_and_choices(site: Callable[..., Site]) -> None:
    made = site(
        explorer({0: valleys, 5: waves, 10: ellipse_at_infinity()}, name="epochs", alt="Epochs.", choice="Epoch"),
        explorer({"valleys": valleys, "waves": waves}, name="forms", alt="Forms.", free="choose", starts=STARTS),
        explorer(ellipse, latents=ANGLES, name="latent", alt="A latent.", prior="choose", beta=1.0, density=True),
    )
    page = made.page
    drawn = made.pixels("epochs")
    slider = page.get_by_role("slider", name="Epoch")
    slider.focus()
    page.keyboard.press("ArrowRight")
    made.settle()
    assert made.state("epochs")["member"] == 1
    assert slider.get_attribute("aria-valuetext") == "5"
    assert made.pixels("epochs") != drawn
    page.locator("#ebm-forms").get_by_label("Energy").select_option("waves")
    page.locator("#ebm-forms").get_by_label("Known").select_option("y₁")
    made.settle()
    assert made.state("forms")["member"] == 1
    made.set("forms", steps=40)
    state = made.state("forms")
    assert [p[0] for p in state["points"]] == [p[0] for p in STARTS]
    assert all(p[1] != start[1] for p, start in zip(state["points"], STARTS, strict=True))
    made.page.locator("#ebm-forms").get_by_label("Known").select_option("y₂")
    made.settle()
    assert [p[1] for p in made.state("forms")["points"]] == [p[1] for p in STARTS]
    beta = page.locator("#ebm-latent").get_by_role("slider", name="Inverse temperature β")
    drawn, shown = made.pixels("latent"), made.text("latent")
    beta.focus()
    page.keyboard.press("End")
    made.settle()
    assert made.call("latent", "return e.ebm.state().beta === Infinity")
    assert beta.get_attribute("aria-valuetext") == "∞ (min)"
    assert made.pixels("latent") != drawn
    assert made.text("latent") != shown
    page.keyboard.press("Home")
    assert made.state("latent")["beta"] == 0.01
    before = made.call("latent", "return e.ebm.energy(0.5, 0.5)")
    page.locator("#ebm-latent").get_by_role("combobox", name="Latent").select_option("without a prior")
    after = made.call("latent", "return e.ebm.energy(0.5, 0.5)")
    assert before - after == pytest.approx(math.log(2 * math.pi) / 0.01, rel=1e-6)
    drawn = made.pixels("latent")
    page.locator("#ebm-latent").get_by_label("Show probability").check()
    made.settle()
    assert made.pixels("latent") != drawn
    drawn = made.pixels("latent")
    page.locator("#ebm-latent").get_by_label("Show −∇F").check()
    made.settle()
    assert made.pixels("latent") != drawn


def ellipse_at_infinity() -> Callable:
    return lambda y: fe.over_grid(ellipse, y, ANGLES)


# -------------------------------------------------------------------------------------------------- looks and manners


def test_from_a_server_and_from_a_file_alike(site: Callable[..., Site]) -> None:
    figure = explorer(valleys, name="same", alt="The same.")
    assert site(figure, http=True).pixels("same") == site(figure).pixels("same")


def test_many_on_a_page_are_all_drawn(site: Callable[..., Site]) -> None:
    made = site(*(explorer(waves, name=f"number-{i}", alt="One of many.") for i in range(12)))
    blank_canvas = made.call("number-0", "return document.createElement('canvas').toDataURL()")
    assert all(made.pixels(f"number-{i}") != blank_canvas for i in range(12))
    assert len({made.pixels(f"number-{i}") for i in range(12)}) == 1


def test_drawn_when_its_tab_is_opened(site: Callable[..., Site]) -> None:
    made = site(explorer(valleys, name="tab", alt="In a tab."), around="<div id='tab' hidden>{}</div>")
    made.page.wait_for_function("() => document.getElementById('ebm-tab').ebm")
    assert made.call("tab", "return e.dataset.state") == "starting"
    made.page.evaluate("() => { document.getElementById('tab').hidden = false }")
    made.page.wait_for_function("() => document.getElementById('ebm-tab').dataset.state === 'idle'")
    assert made.page.inner_text("#ebm-tab .ebm-readout").startswith("Point")
    assert made.call("tab", "return e.querySelector('.ebm-map').width") > 200


def test_dark_mode_redraws(site: Callable[..., Site]) -> None:
    made = site(explorer(valleys, name="theme", alt="A theme.", panel="slice"))
    light, light_cut = made.pixels("theme"), made.pixels("theme", "cut")
    script = "const c = e.querySelector('.ebm-map'), r = c.width / c.clientWidth; return [...c.getContext('2d')"
    frame = script + ".getImageData(Math.round(50 * r), Math.round(100 * r), 1, 1).data]"
    ink = made.call("theme", frame)
    made.page.evaluate("document.documentElement.dataset.theme = 'dark'")
    made.settle()
    assert made.pixels("theme") != light
    assert made.pixels("theme", "cut") != light_cut
    assert sum(made.call("theme", frame)[:3]) > sum(ink[:3]) + 100, "the frame is light on dark"
    made.page.evaluate("document.documentElement.dataset.theme = 'light'")
    made.settle()
    assert made.pixels("theme") == light


def all_controls() -> list[Any]:
    data = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    return [
        explorer(
            {"valleys": valleys, "waves": waves}, name="one", title="Two landscapes", alt="Two landscapes.",
            panel="slice", free="choose", density=True, arrows=True, data=data, steps=20, curve=CODES,
        ),
        explorer(
            ellipse, latents=ANGLES, name="two", title="An ellipse & its latent", alt="An ellipse.", prior="choose",
            panel="latent", beta=2.0, latent_name="z (rad)",
        ),
        explorer(oriented, latents=CODES, name="three", alt="Four codes.", panel="latent"),
        explorer(lambda y: 0 * y.sum(-1), name="flat", alt="A flat energy.", panel="slice", density=True),
    ]  # fmt: skip


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_fits_and_is_accessible(site: Callable[..., Site], theme: str, width: int) -> None:
    made = site(*all_controls(), http=True, theme=theme, viewport={"width": width, "height": 900})
    page = made.page
    for name in ("one", "two", "three", "flat"):
        page.click(f"#ebm-{name} summary")
        made.call(name, "e.querySelectorAll('.ebm-buttons button')[3].click()")
    made.settle()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    small = page.evaluate(
        "() => [...document.querySelectorAll('.ebm-explorer :is(button, select, input, summary)')].map(n => n.type ==="
        " 'checkbox' ? n.parentNode : n).filter(n => { const r = n.getBoundingClientRect(); return r.height < 24 ||"
        " r.width < 24 || r.left < 0 || r.right > innerWidth }).map(n => n.outerHTML)"
    )
    assert small == []
    result = Axe().run(page)
    serious = [v for v in result.response["violations"] if v["impact"] in ("serious", "critical")]
    assert serious == [], json.dumps(serious, indent=1)[:3000]
    assert result.response["passes"], "axe looked at something"


def test_a_flat_energy_says_so(site: Callable[..., Site]) -> None:
    made = site(explorer(lambda y: 0 * y.sum(-1) + 2, name="flat", alt="A flat energy.", panel="slice"))
    assert made.page.inner_text("#ebm-flat .ebm-legend").startswith("flat: 2.00")
    made.page.click("text=Step")
    made.settle()
    assert made.state("flat")["ends"] == ["still"]


def test_without_motion_the_end_comes_at_once(site: Callable[..., Site]) -> None:
    made = site(explorer(valleys, name="calm", alt="Calm.", lr=0.05), reduced_motion="reduce")
    made.page.click("text=Run")
    made.settle()
    state = made.state("calm")
    assert not state["running"]
    assert state["energies"][0] < -0.3


def test_text_cannot_close_the_script(site: Callable[..., Site]) -> None:
    title = "a </script><b>b</b> <!-- & \u2028 ∂"
    made = site(explorer(valleys, name="text", title=title, alt='"quoted" <i>alt</i>'))
    assert made.call("text", "return e.querySelector('.ebm-title').textContent") == title
    assert made.call("text", "return e.querySelector('.ebm-map').getAttribute('aria-label')") == '"quoted" <i>alt</i>'


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.update(v=2), "version 1"),
        (lambda s: s.update(box=[[0, 1], [1, 1]]), "box"),
        (lambda s: s.update(members=[]), "no energy"),
        (lambda s: s.update(starts=[]), "starts"),
        (lambda s: s["members"][0]["energy"].update(kind="magic"), 'unknown kind of energy "magic"'),
        (
            lambda s: s["members"].__setitem__(0, {"energy": {"kind": "wells", "c": [[0]], "q": [1, 0, 1], "r": 0}}),
            "finite",
        ),
        (lambda s: s["members"].__setitem__(0, {"energy": {"kind": "mlp", "act": "sine", "layers": []}}), "activation"),
        (
            lambda s: s["members"].__setitem__(
                0, {"energy": {"kind": "mlp", "act": "relu", "layers": [{"w": [[1, 2, 3]], "b": [0]}]}}
            ),
            "layer 1 needs 1 rows of 2",
        ),
        (
            lambda s: s["members"].__setitem__(
                0, {"energy": {"kind": "grid", "n": [9, 9], "lo": 0, "hi": 1, "v": "AAAA"}}
            ),
            "9 x 9",
        ),
        (lambda s: s["members"][0]["energy"].update(n=[3, 3]), "3 x 3"),
        (
            lambda s: s["members"].__setitem__(
                0, {"energy": {"kind": "wells", "c": [[0, 0], [1, 1]], "q": [1, 0, 1], "r": 0}}
            ),
            "latent",
        ),
    ],
)
def test_a_bad_description_says_what_is_wrong(site: Callable[..., Site], spoil: Callable, message: str) -> None:
    bad, good = (explorer(valleys, name=name, alt="What it would show.") for name in ("bad", "good"))
    spoil(bad.spec)
    made = site(bad, good)
    assert message in made.page.inner_text("#ebm-bad [role=alert]")
    assert "What it would show." in made.page.inner_text("#ebm-bad")
    assert made.call("bad", "return e.dataset.state") == "error"
    assert made.call("good", "return e.dataset.state") == "idle"


def test_no_description_and_broken_json(site: Callable[..., Site]) -> None:
    made = site(
        '<div class="ebm-explorer" id="ebm-none"></div>'
        '<div class="ebm-explorer" id="ebm-broken"><script type="application/json">{"v": 1,</script></div>'
    )
    assert "missing" in made.page.inner_text("#ebm-none")
    assert "cannot be drawn" in made.page.inner_text("#ebm-broken")


def test_without_scripts_the_text_remains(site: Callable[..., Site]) -> None:
    made = site(
        explorer(valleys, name="plain", title="Two valleys", alt="Two valleys side by side."), java_script_enabled=False
    )
    assert "Two valleys side by side." in made.page.inner_text("#ebm-plain")
