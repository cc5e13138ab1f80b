"""The agent in the browser: its arithmetic against the library's, its plans, its controls by mouse and keyboard."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page

from ebm_lib import world as w
from ebm_lib.viz.rooms import RoomsFigure, rooms_agent
from ebm_lib.world.rooms import REACH

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "book" / "_static" / "rooms.js"
ROOM = w.two_rooms(torch.tensor(0.5), torch.tensor(0.5))
H = 24


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def untrained(seed: int = 0, **sizes: Any) -> w.WorldModel:
    g = seeded(seed)
    dynamics = w.ContactDynamics(2, 2, scale=REACH, generator=g, **sizes)
    return w.WorldModel(w.Keypoints(2, 2, generator=g), dynamics, 2, 2, scale=REACH, generator=g).requires_grad_(False)


def trained() -> w.WorldModel:
    """Return the model that the course's page plans with."""
    with np.load(ROOT / "training" / "results" / "two_rooms.npz") as file:
        weights = {k[4:]: torch.from_numpy(file[k]).float() for k in file.files if k.startswith("a 0/")}
    model = untrained()
    model.load_state_dict(weights)
    return model


def figure(*models: w.WorldModel, **changes: Any) -> RoomsFigure:
    given = {"name": "agent", "start": (0.3, 0.15), "goal": (0.7, 0.15)} | changes
    named = {f"model {k}": model for k, model in enumerate(models)}
    return rooms_agent(named, ROOM, title="An agent <1>", alt="Two rooms & a dot.", **given)


@pytest.fixture
def shown(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Open a page with figures, from a file; in the end nothing may have gone wrong or been fetched."""
    contexts, wrong = [], []

    def show(*figures: Any, theme: str = "light", width: int = 900) -> Page:
        body = "\n".join(f if isinstance(f, str) else f._repr_html_() for f in figures)
        (tmp_path / "rooms.js").write_text(SCRIPT.read_text(encoding="utf-8"), encoding="utf-8")
        (tmp_path / "page.html").write_text(
            f'<!doctype html><html lang="en" data-theme="{theme}"><meta charset="utf-8"><title>Rooms</title>'
            f'<link rel="icon" href="data:,"><script src="rooms.js"></script><main>{body}</main></html>',
            encoding="utf-8",
        )
        context = browser.new_context(viewport={"width": width, "height": 800})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: wrong.append(str(e)))
        page.on("request", lambda r: None if r.url.startswith((tmp_path.as_uri(), "data:")) else wrong.append(r.url))
        page.goto((tmp_path / "page.html").as_uri())
        page.wait_for_function("() => [...document.querySelectorAll('.ebm-rooms')].every(e => e.dataset.state)")
        return page

    yield show
    for context in contexts:
        context.close()
    assert wrong == []


def ask(page: Page, script: str, *arguments: Any) -> Any:
    """Evaluate ``script`` with ``e`` the figure's handle and ``a`` the arguments."""
    return page.evaluate(f"a => {{ const e = document.querySelector('.ebm-rooms').ebm; {script} }}", list(arguments))


def test_the_script_is_small_and_asks_for_nothing() -> None:
    source = SCRIPT.read_text(encoding="utf-8")
    assert len(source.encode()) < 20_000
    assert not re.search(r"\b(fetch|XMLHttpRequest|import|eval|Function|WebSocket|localStorage)\b\s*\(", source)
    assert "http" not in source


# ---- arithmetic


@pytest.mark.parametrize("model", [untrained(3, hidden=(16,)), untrained(4, planes=3, sharpness=4.0)])
def test_pictures_are_encoded_as_by_the_library(shown: Callable[..., Page], model: w.WorldModel) -> None:
    places = w.draw_places(ROOM, samples=(60,), generator=seeded(1))
    said = ask(shown(figure(model)), "return a[0].map(p => e.models[0].encode(p))", places.tolist())
    truth = model.represent(w.render(places, ROOM))
    torch.testing.assert_close(torch.tensor(said), truth, atol=2e-5 * float(truth.abs().max()), rtol=0)


def test_the_dot_moves_as_in_the_library(shown: Callable[..., Page]) -> None:
    g = seeded(2)
    places = w.draw_places(ROOM, samples=(500,), generator=g)
    actions = 0.08 * torch.randn(500, 2, generator=g)
    actions[:50, 0], actions[50:100, 1] = 0.0, 0.0
    said = ask(
        shown(figure(untrained())), "return a[0].map((p, i) => e.move(p, a[1][i]))", places.tolist(), actions.tolist()
    )
    truth = w.move(places.double(), actions.double(), w.two_rooms(*torch.full((2,), 0.5, dtype=torch.float64)))
    torch.testing.assert_close(torch.tensor(said, dtype=torch.float64), truth, atol=2e-6, rtol=0)


def test_steps_in_the_plane_of_states_are_those_of_the_network_between_the_tables_points(
    shown: Callable[..., Page],
) -> None:
    model, g = trained(), seeded(3)
    states = model.represent(w.render(w.draw_places(ROOM, samples=(300,), generator=g), ROOM))
    actions = (0.06 * torch.randn(300, 2, generator=g)).clamp(-REACH, REACH)
    script = "return a[0].map((s, i) => { const out = [0, 0]; e.models[0].step(s, ...a[1][i], out); return out; })"
    said = torch.tensor(ask(shown(figure(model)), script, states.tolist(), actions.tolist()))
    moved = model(states, actions) - states
    error = (said - states - moved).norm(dim=-1)
    assert error.median() < 0.02 * moved.norm(dim=-1).mean()
    assert (error > 0.5 * moved.norm(dim=-1).mean()).float().mean() < 0.02  # at edges, which a table blurs


def test_the_energy_shown_is_the_librarys(shown: Callable[..., Page]) -> None:
    model = trained()
    script = """const model = e.models[0], {plan, state} = e.state(), goal = model.encode(e.state().goal);
    const roll = plan => { const s = state.slice(), path = [];
        for (let t = 0; t < 24; t++) { model.step(s, plan[2 * t], plan[2 * t + 1], s); path.push(s.slice()); }
        return path; };
    return [state, goal, plan.tried.map(t => [...t.plan]), plan.tried.map(t => t.energy),
        plan.tried.map(t => roll(t.plan))]"""
    state, goal, plans, energies, paths = map(torch.tensor, ask(shown(figure(model)), script))
    by_path = w.goal_energy(lambda s, a: s + a, goal, H)(state)  # "actions" that lead through the same states
    torch.testing.assert_close(by_path(paths.diff(dim=1, prepend=state.expand(64, 1, 2))), energies, atol=1e-5, rtol=0)
    error = (w.goal_energy(model, goal, H)(state)(plans.view(-1, H, 2)) - energies).abs()
    assert float(error.median()) < 0.02
    assert (error < 0.1).float().mean() > 0.9  # a table blurs edges
    assert plans.abs().max() <= REACH + 1e-6  # bounds are kept


# ---- what the agent does


def test_a_trained_model_leads_through_the_door_and_a_collapsed_one_nowhere(shown: Callable[..., Page]) -> None:
    flat = untrained()
    for layer in (flat.encoder.mix, flat.dynamics.free, flat.dynamics.mlp.linears[-1]):
        layer.weight.mul_(1e-3)  # every picture is nearly the same state, and every step next to none
    flat.dynamics.mlp.linears[-1].bias.zero_()
    page = shown(figure(trained(), flat))
    go = """
    const far = s => Math.hypot(s.at[0] - s.goal[0], s.at[1] - s.goal[1]);
    for (let n = 0; n < 60 && far(e.state()) > .06; n++) e.act();
    return [e.state().at, e.state().trail]"""
    at, trail = ask(page, go)
    assert abs(at[0] - 0.7) < 0.06
    assert abs(at[1] - 0.15) < 0.06
    assert bool(w.is_free(torch.tensor(trail), ROOM).all())
    assert max(p[1] for p in trail) > 0.4  # by the door
    page.select_option("select", "1")
    at, _ = ask(page, go)
    assert at[0] < 0.52
    low, high = map(float, page.locator("dd").nth(1).inner_text().split(" to "))
    assert high - low < 0.05  # a flat energy


def test_the_same_seed_draws_the_same_plans(shown: Callable[..., Page]) -> None:
    first, again = (ask(shown(figure(trained())), "e.act(); e.act(); return e.state().trail") for _ in range(2))
    assert first == again


# ---- controls


def test_mouse_keyboard_and_buttons(shown: Callable[..., Page]) -> None:
    page = shown(figure(trained()))
    canvas = page.locator(".left canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None

    def screen(x: float, y: float) -> tuple[float, float]:
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    page.mouse.move(*screen(0.7, 0.15))
    page.mouse.down()
    page.mouse.move(*screen(0.8, 0.4), steps=3)
    page.mouse.up()
    assert ask(page, "return e.state().goal") == pytest.approx([0.8, 0.4], abs=0.01)
    page.mouse.move(*screen(0.3, 0.15))  # the dot itself
    page.mouse.down()
    page.mouse.move(*screen(0.2, 0.7), steps=3)
    page.mouse.up()
    assert ask(page, "return e.state().at") == pytest.approx([0.2, 0.7], abs=0.01)
    page.mouse.click(*screen(0.5, 0.1))  # a wall: nothing moves there
    assert ask(page, "return e.state().goal") == pytest.approx([0.8, 0.4], abs=0.01)
    canvas.focus()
    page.keyboard.press("ArrowDown")
    assert ask(page, "return e.state().goal")[1] == pytest.approx(0.43, abs=0.01)
    page.keyboard.press("Shift+ArrowRight")
    assert ask(page, "return e.state().at")[0] == pytest.approx(0.23, abs=0.01)
    page.get_by_role("button", name="One step").click()
    assert len(ask(page, "return e.state().trail")) == 2
    page.get_by_role("button", name="Run").click()
    page.wait_for_function("() => document.querySelector('.ebm-rooms').ebm.state().trail.length > 4")
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Back to start").click()
    assert len(ask(page, "return e.state().trail")) == 1


def test_it_stops_when_it_is_there_or_has_used_its_steps(shown: Callable[..., Page]) -> None:
    page = shown(figure(trained(), start=(0.65, 0.15)))
    page.get_by_role("button", name="Run").click()
    page.wait_for_function("() => /there/.test(document.querySelector('.ebm-rooms').innerText)")
    assert "There after" in page.locator("[aria-live]").inner_text()
    page = shown(figure(trained(), budget=2))
    page.get_by_role("button", name="Run").click()
    page.wait_for_function("() => /given up/.test(document.querySelector('.ebm-rooms').innerText)")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_phone_and_says_what_it_shows(shown: Callable[..., Page], theme: str) -> None:
    page = shown(figure(trained()), theme=theme, width=360)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    label = page.locator(".left canvas").get_attribute("aria-label")
    assert label is not None
    assert label.startswith("Two rooms & a dot. The dot is at 0.30,0.15")
    assert page.locator(".ebm-rooms p").first.inner_text() == "An agent <1>"


def test_a_figure_that_cannot_be_read_says_so_and_leaves_the_others_alone(shown: Callable[..., Page]) -> None:
    broken = '<div class="ebm-rooms"><script type="application/json">{"members": []</script></div>'
    page = shown(broken, figure(untrained(), name="whole"))
    assert "cannot be drawn" in page.locator("[role=alert]").inner_text()
    assert page.locator("#ebm-whole").get_attribute("data-state") == "idle"


# ---- what is written into the page


def test_the_spec_is_json_that_cannot_end_its_script_element() -> None:
    made = figure(untrained())
    html = made._repr_html_()
    assert "An agent &lt;1&gt;" in html
    inside = html.split('<script type="application/json">')[1].split("</script>")[0]
    assert "<" not in inside
    assert json.loads(inside) == made.spec
    assert len(html) < 110_000


@pytest.mark.parametrize(
    "model",
    [
        w.WorldModel(w.Keypoints(2, 3), w.ContactDynamics(3, 2), 3, 2),
        w.WorldModel(w.Keypoints(2, 2), w.GatedDynamics(2, 2), 2, 2),
        w.WorldModel(w.Keypoints(2, 2, kernel=3), w.ContactDynamics(2, 2), 2, 2),
        w.WorldModel(w.Keypoints(2, 2, stride=1), w.ContactDynamics(2, 2), 2, 2),
        w.ContactDynamics(2, 2),
    ],
)
def test_models_of_another_kind_are_refused(model: Any) -> None:
    with pytest.raises(ValueError, match="models must have"):
        figure(model)
