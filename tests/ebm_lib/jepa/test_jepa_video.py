"""JEPA of films: the energy frame by frame, and time's terms as the library's criterion has them."""

import pytest
import torch
from torch import nn

from ebm_lib import joint
from ebm_lib.jepa import JEPA, FramePredictor, VideoJEPA, split_film, variance_covariance
from ebm_lib.nn import MLP

N, PAST, FUTURE, D = 6, 3, 2, 4


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def parts(dtype=torch.float64):
    encoder = nn.Sequential(nn.Flatten(), MLP((9, D), generator=seeded())).to(dtype)
    return encoder, FramePredictor(PAST, FUTURE, D, generator=seeded(1)).to(dtype)


def film(dtype=torch.float64):
    return torch.rand(N, PAST + FUTURE, 3, 3, generator=seeded(2), dtype=dtype)


def test_its_energy_is_the_formula_frame_by_frame():
    encoder, predictor = parts()
    x, y = split_film(PAST)(film())
    found = VideoJEPA(encoder, predictor).energy(x, y)
    assert found.shape == (N, FUTURE)
    for i in range(N):
        known = torch.cat([encoder(frame[None])[0] for frame in x[i]])
        predicted = predictor.net(known).view(FUTURE, D)
        for k in range(FUTURE):
            error = (predicted[k] - encoder(y[i, k][None])[0]).square().mean()
            assert torch.allclose(found[i, k], error)


def test_terms_sum_and_are_the_libraries():
    encoder, predictor = parts()
    weights = {"slowness": 0.7, "linearity": 0.2, "curvature": 0.3}
    model = VideoJEPA(
        encoder, predictor, information_x=variance_covariance, information_y=variance_covariance, **weights
    )
    x, y = split_film(PAST)(film())
    terms = model.criterion(x, y)
    assert torch.allclose(terms.loss, sum(terms[1:]))
    s = torch.stack([encoder(frames) for frames in film().unbind(1)], 1)
    paths = joint.temporal(s, **weights)
    assert torch.allclose(terms.slowness, paths.slowness / D)
    assert torch.allclose(terms.linearity, paths.linearity / D)
    assert torch.allclose(terms.curvature, paths.curvature)
    assert torch.allclose(terms.information_y, variance_covariance(s[:, PAST:].reshape(-1, D)))
    plain = JEPA(encoder, predictor).compare(s[:, :PAST], s[:, PAST:]).mean()
    assert torch.allclose(terms.prediction, plain)


def test_without_weights_time_costs_nothing():
    terms = VideoJEPA(*parts()).criterion(*split_film(PAST)(film()))
    assert torch.equal(terms.loss, terms.prediction)


def test_it_learns():
    encoder, predictor = parts(torch.float32)
    model = VideoJEPA(encoder, predictor, information_y=variance_covariance, slowness=0.1)
    history = joint.learn(
        model, film(torch.float32), split_film(PAST), epochs=30, batch_size=N, generator=seeded(), progress=False
    )
    assert history.loss[-1] < history.loss[0]


def test_a_frozen_path_costs_nothing_in_time():
    encoder, predictor = parts()
    still = film()[:, :1].expand(-1, PAST + FUTURE, -1, -1)
    terms = VideoJEPA(encoder, predictor, slowness=1.0, linearity=1.0).criterion(*split_film(PAST)(still))
    assert torch.allclose(terms.slowness + terms.linearity, torch.zeros((), dtype=torch.float64))


def test_bad_input_is_refused():
    encoder, predictor = parts()
    with pytest.raises(ValueError, match="slowness"):
        VideoJEPA(encoder, predictor, slowness=-1.0)
    with pytest.raises(ValueError, match="frames"):
        VideoJEPA(encoder, predictor).represent(torch.zeros(3, 9, dtype=torch.float64))
    with pytest.raises(ValueError, match="s_x"):
        predictor(torch.zeros(2, PAST + 1, D, dtype=torch.float64))
    with pytest.raises(ValueError, match="films"):
        split_film(5)(film())
