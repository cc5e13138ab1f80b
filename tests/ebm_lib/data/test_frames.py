"""Films of a fork in the road: what is random in them, what is not, and where the dot goes."""

import pytest
import torch

from ebm_lib import data

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_films_are_deterministic_given_the_turn_and_differ_by_it():
    films = data.fork_films(200, generator=seeded(), dtype=F64)
    assert torch.equal(films.y, films.futures[torch.arange(200), films.turn])
    assert torch.equal(films.x, data.fork_films(200, generator=seeded(), dtype=F64).x)
    assert 70 < films.turn.sum() < 130
    # The same past with the other turn: what is to come cannot be read off it.
    other = data.fork_films(200, turn=1 - films.turn, generator=seeded(), dtype=F64)
    again = data.fork_films(200, turn=films.turn, generator=seeded(), dtype=F64)
    assert torch.equal(other.x, again.x)
    apart = (films.futures[:, 0] - films.futures[:, 1]).square().sum(-1)
    assert (apart > 1).all()
    noisy = data.fork_films(200, generator=seeded(), dtype=F64, noise=0.1)
    torch.testing.assert_close((noisy.x - films.x).std(), torch.tensor(0.1, dtype=F64), rtol=0.03, atol=0)
    assert torch.equal(noisy.futures, films.futures)


def test_the_dot_drives_up_and_turns_left_or_right():
    films = data.fork_films(50, generator=seeded(), dtype=F64, turn=torch.arange(50) % 2)
    pixels = torch.arange(16, dtype=F64)

    def centres(film, shape):
        frames = film.unflatten(-1, shape)
        mass = frames.sum((-1, -2))
        return (
            (frames.sum(-2) * pixels).sum(-1) / mass,
            (frames.sum(-1) * pixels).sum(-1) / mass,
        )

    x_before, y_before = centres(films.x, films.past_shape)
    x_after, y_after = centres(films.y, films.future_shape)
    assert (torch.cat([y_before, y_after], -1).diff(dim=-1) < -0.5).all()  # up, in rows counted downwards
    assert (x_before.diff(dim=-1).abs() < 0.1).all()
    turned = x_after[:, -1] - x_before[:, -1]
    assert (turned[films.turn == 0] < -1).all()
    assert (turned[films.turn == 1] > 1).all()
    assert films.x.min() >= 0
    assert films.x.max() <= 1
    three = data.fork_films(30, branches=3, future=2, size=12, generator=seeded())
    assert three.futures.shape == (30, 3, 2 * 144)


def places(frames, size):
    """Centre of the dot in each frame, (..., across), (..., down), and its mass."""
    frames, pixels = frames.unflatten(-1, (-1, size, size)), torch.arange(size, dtype=F64)
    mass = frames.sum((-1, -2))
    return (frames.sum(-2) * pixels).sum(-1) / mass, (frames.sum(-1) * pixels).sum(-1) / mass, mass


@pytest.mark.parametrize(("past", "future", "size"), [(3, 3, 16), (2, 5, 24), (6, 2, 20)])
def test_the_dot_keeps_its_shape_its_speed_and_its_place_in_the_picture(past, future, size):
    films = data.fork_films(300, past=past, future=future, size=size, generator=seeded(), dtype=F64)
    across, down, mass = places(torch.cat([films.x, films.y], -1), size)
    torch.testing.assert_close(mass, torch.full_like(mass, 2 * torch.pi), rtol=0.06, atol=0)  # a Gaussian's, of width 1
    assert across.min() > 1.8  # two pixels from the edges, but for what the edge cuts off
    assert across.max() < size - 2.8
    assert down.min() > 1.8
    assert down.max() < size - 2.8
    steps = -down.diff(dim=-1)
    assert ((steps - steps.mean(-1, keepdim=True)).abs() < 0.2).all()  # straight on, at a speed of its own
    fastest = (size - 5) * min(0.5 / past, 0.5 / future)
    speed = steps.mean(-1) / fastest
    assert 0.75 < speed.min() < 0.83 < 0.97 < speed.max() < 1.05
    middle = (size - 1) / 2
    assert (down[:, past - 1] > middle - 0.1).all()  # the past ends before the fork, the future begins after it
    assert (down[:, past] < middle + 0.1).all()
    phase = (middle - down[:, past]) / steps.mean(-1)  # of a step, from the fork to the first frame after it
    assert 0.45 < phase.min() < 0.55 < 0.95 < phase.max() < 1.05
    shift = (across[:, 0] - middle) / (middle - 2)
    assert -0.26 < shift.min() < -0.23 < 0.23 < shift.max() < 0.26


def test_frames_of_a_future_follow_each_other_on_one_road_and_roads_are_taken_as_often_as_asked():
    films = data.fork_films(2000, branches=3, weights=[1, 0, 3], generator=seeded(), dtype=F64)
    counts = torch.bincount(films.turn, minlength=3) / 2000
    torch.testing.assert_close(counts, torch.tensor([0.25, 0.0, 0.75]), rtol=0, atol=0.04)
    across = places(films.futures, 16)[0]  # (n, branches, future)
    away = across - places(films.x, 16)[0][:, None, -1:]
    assert (away[:, 0].diff(dim=-1) < -0.3).all()
    assert (away[:, 1].abs() < 0.1).all()
    assert (away[:, 2].diff(dim=-1) > 0.3).all()
    noisy = data.fork_films(300, noise=0.1, generator=seeded(), dtype=F64)
    clean = data.fork_films(300, generator=seeded(), dtype=F64)
    torch.testing.assert_close((noisy.y - clean.y).std(), torch.tensor(0.1, dtype=F64), rtol=0.03, atol=0)


def test_bad_input_is_named():
    for call, message in (
        (lambda: data.fork_films(0), "n must be"),
        (lambda: data.fork_films(3, size=4), "size must be"),
        (lambda: data.fork_films(3, branches=1), "branches must be"),
        (lambda: data.fork_films(3, noise=-1.0), "noise must be"),
        (lambda: data.fork_films(3, turn=torch.tensor([0, 1, 2])), r"labels must lie in 0..1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
