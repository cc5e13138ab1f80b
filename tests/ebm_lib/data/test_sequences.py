"""Films of sprites: what moves, moves steadily; what stays, stays; and the pictures are those of their factors."""

import pytest
import torch

from ebm_lib import data


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("flicker", [False, True])
def test_motion_is_linear_in_time_and_stays_inside(flicker):
    films = data.sprite_films(30, 5, flicker=flicker, generator=seeded(), dtype=torch.float64)
    for name in ("place", "angle", "radius"):
        path = getattr(films, name).unflatten(0, (30, 5))
        assert path.diff(n=2, dim=1).abs().max() < 1e-12, name
        assert path.diff(dim=1).abs().max() > 1e-3, name
    assert (films.place.abs().amax(-1) + films.radius).max() <= 1 + 1e-12
    assert torch.equal(films.images, data.draw_sprites(*films[1:]))


def test_motion_is_as_large_as_stated_and_the_seed_is_the_film():
    films, again, other = (data.sprite_films(400, 3, size=8, generator=seeded(s)) for s in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(films, again, strict=True))
    assert not torch.equal(films.angle, other.angle)
    radius, angle = films.radius.view(400, 3), films.angle.view(400, 3)
    middle, grown, turned = radius[:, 1], radius[:, 2] - radius[:, 0], angle[:, 2] - angle[:, 1]
    for part, low, high in ((middle, 38 / 48 - 0.05, 38 / 48 + 0.05), (grown, -0.1, 0.1), (turned, -1.5, 1.5)):
        slack = 0.02 * (high - low)
        assert low - 1e-5 < part.min() < low + slack
        assert high - slack < part.max() < high + 1e-5
    room = 1 - radius.amax(1)
    reach = films.place.view(400, 3, 2).abs().amax((1, 2)) / room
    assert 0.95 < reach.max() <= 1 + 1e-5


def test_light_stays_or_flickers():
    for flicker in (False, True):
        films = data.sprite_films(20, 4, flicker=flicker, generator=seeded())
        for name in ("ground", "figure", "ground_texture", "figure_texture"):
            look = getattr(films, name).unflatten(0, (20, 4))
            changes = look.diff(dim=1).abs().flatten(2).amax(-1)
            assert (changes > 0).all() if flicker else (changes == 0).all(), name
        labels = films.labels.view(20, 4)
        assert (labels == labels[:, :1]).all()
        assert len(labels[:, 0].unique()) > 1


@pytest.mark.parametrize("wrong", [{"n": 0}, {"frames": 2}, {"size": 4}])
def test_bad_input_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        data.sprite_films(**{"n": 2} | wrong)
