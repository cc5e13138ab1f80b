"""Photographs, patches and whitening: against the packages' own loaders, by position, and by covariance."""

import itertools
import math
import sys

import pytest
import torch

from ebm_lib import data
from ebm_lib.data import patches as module

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# ---- photographs


@pytest.mark.parametrize("name", data.PHOTOGRAPHS)
def test_a_photograph_is_that_of_its_package(name):
    package, colour = module._SOURCES[name]
    if package == "skimage":
        pixels = getattr(pytest.importorskip("skimage.data"), name)()
    else:
        pixels = pytest.importorskip("sklearn.datasets").load_sample_image(f"{name}.jpg")
    pixels = torch.tensor(pixels, dtype=F64) / 255
    if colour:
        ours = data.load_photographs([name], colour=True, dtype=F64)[name]
        # two decoders of the same JPEG may differ by a level or so
        assert ours.shape == (3, *pixels.shape[:2])
        assert (ours.movedim(0, -1) - pixels).abs().max() <= 4 / 255
    else:
        ours = data.load_photographs([name], dtype=F64)[name]
        assert torch.equal(ours[0], pixels)


def test_grey_is_scikit_images_luminance():
    gray = pytest.importorskip("skimage.color").rgb2gray
    colour = data.load_photographs(["coffee"], colour=True, dtype=F64)["coffee"]
    ours = data.load_photographs(["coffee"], dtype=F64)["coffee"]
    torch.testing.assert_close(ours[0], torch.tensor(gray(colour.movedim(0, -1).numpy())), rtol=0, atol=1e-12)


def test_all_of_them_unless_told():
    assert tuple(data.load_photographs()) == data.PHOTOGRAPHS
    assert tuple(data.load_photographs(colour=True)) == data.COLOUR_PHOTOGRAPHS
    assert {len(picture) for picture in data.load_photographs(colour=True).values()} == {3}


def test_a_result_is_a_copy_and_follows_dtype_and_device():
    first = data.load_photographs(["camera"])["camera"]
    first.zero_()
    again = data.load_photographs(["camera"], dtype=F64)["camera"]
    assert again.dtype == F64
    assert again.max() == 1
    assert data.load_photographs(["camera"], device="meta")["camera"].is_meta


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    module._photograph.cache_clear()
    for loaded in [name for name in sys.modules if name.split(".")[0] == "skimage"]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match="pip install scikit-image scikit-learn"):
        module.natural_patches(10)


def test_a_photograph_that_is_gone_is_named_and_not_fetched(monkeypatch):
    module._photograph.cache_clear()
    monkeypatch.setitem(module._SOURCES, "cell_that_is_not_there", ("skimage", False))
    with pytest.raises(FileNotFoundError, match="cell_that_is_not_there"):
        module._photograph("cell_that_is_not_there")


def test_unknown_names_and_grey_photographs_in_colour_are_refused():
    with pytest.raises(ValueError, match="names must be one of astronaut.*'lena'"):
        data.load_photographs(["lena"])
    with pytest.raises(ValueError, match="names must be one of.*'camera'"):
        data.load_photographs(["camera"], colour=True)


# ---- whitening a whole picture


def test_the_spectrum_is_multiplied_by_the_filter():
    # a cosine over the mirrored picture is an eigenvector of any filter: the mirrored grid's own frequencies
    height, width, cutoff = 24, 40, 0.3
    down, across = torch.arange(height, dtype=F64), torch.arange(width, dtype=F64)
    waves = [(2, 6), (9, 0), (0, 15)]
    gains, parts = [], []
    for k, m in waves:
        f = ((k / (2 * height)) ** 2 + (m / (2 * width)) ** 2) ** 0.5
        gains.append(f * math.exp(-((f / cutoff) ** 4)))
        parts.append(
            torch.cos(torch.pi * k * (down + 0.5) / height)[:, None] * torch.cos(torch.pi * m * (across + 0.5) / width)
        )
    expected = sum(gain * part for gain, part in zip(gains, parts, strict=True))
    expected = expected / expected.square().mean().sqrt()
    torch.testing.assert_close(data.whiten_picture(3 + 7 * sum(parts), cutoff=cutoff), expected, rtol=0, atol=1e-12)


def test_a_natural_spectrum_becomes_flat():
    picture = data.load_photographs(["coffee"], dtype=F64)["coffee"][0]
    flat = data.whiten_picture(picture)

    def slope(image):  # of log amplitude against log frequency, from 0.02 to 0.2 cycles per pixel
        power = torch.fft.rfft2(image - image.mean()).abs().square()
        f = (torch.fft.fftfreq(image.shape[0])[:, None] ** 2 + torch.fft.rfftfreq(image.shape[1]) ** 2).sqrt()
        edges = torch.logspace(-1.7, -0.7, 11)
        rings = [power[(f >= a) & (f < b)].mean() for a, b in itertools.pairwise(edges)]
        x, y = edges.log()[:-1].double(), torch.stack(rings).log() / 2
        return (((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()).item()

    assert slope(picture) < -0.9
    assert slope(flat) - slope(picture) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("level", [0.0, 1.0, 1e6])
def test_a_picture_without_contrast_is_refused(level):
    with pytest.raises(ValueError, match="picture must have contrast"):
        data.whiten_picture(torch.full((8, 9), level))


def test_bad_pictures_are_refused():
    with pytest.raises(ValueError, match="picture must be"):
        data.whiten_picture(torch.zeros(5))
    with pytest.raises(ValueError, match="picture must be finite"):
        data.whiten_picture(torch.full((4, 4), torch.nan))
    with pytest.raises(ValueError, match="cutoff must be a positive"):
        data.whiten_picture(torch.eye(4), cutoff=0)
    assert data.whiten_picture(torch.zeros(3, 8, 8, device="meta")).is_meta


# ---- cutting


def test_patches_are_windows_of_the_pictures_and_all_places_are_equally_likely():
    pictures = [torch.arange(30.0).reshape(1, 5, 6), 100 + torch.arange(16.0).reshape(1, 4, 4)]
    size = 3
    windows = torch.cat([p.unfold(1, size, 1).unfold(2, size, 1).reshape(-1, size * size) for p in pictures])
    cut = data.cut_patches(pictures, 16000, size, generator=seeded(1))
    match = (cut[:, None] == windows).all(-1)
    assert (match.sum(-1) == 1).all()
    counts = match.sum(0)
    assert len(counts) == 12 + 4
    chi_square = ((counts - 1000.0) ** 2 / 1000).sum()
    assert chi_square < 37.7  # 0.999 quantile at 15 degrees of freedom


def test_colours_stay_apart():
    red, green, blue = torch.full((1, 6, 6), 1.0), torch.full((1, 6, 6), 2.0), torch.full((1, 6, 6), 3.0)
    cut = data.cut_patches([torch.cat([red, green, blue])], 4, 2, generator=seeded())
    assert torch.equal(cut, torch.tensor([1.0, 2, 3]).repeat_interleave(4).expand(4, 12))


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(ValueError, match="pictures must hold at least one"):
        data.cut_patches([], 1, 3)
    with pytest.raises(ValueError, match=r"pictures\[1\] must be \(1, height, width\) of at least 3"):
        data.cut_patches([torch.zeros(1, 5, 5), torch.zeros(1, 5, 2)], 1, 3)
    with pytest.raises(ValueError, match=r"pictures\[1\]"):
        data.cut_patches([torch.zeros(1, 5, 5), torch.zeros(3, 5, 5)], 1, 3)
    with pytest.raises(ValueError, match="n must be"):
        data.cut_patches([torch.zeros(1, 5, 5)], 0, 3)


# ---- whitening


def test_white_data_have_covariance_one_and_the_map_is_the_one_nearest_to_no_change():
    mix = torch.randn(5, 5, generator=seeded(1), dtype=F64)
    y = torch.randn(400, 5, generator=seeded(2), dtype=F64) @ mix + 3
    white = data.whitening(y)
    z = white.whiten(y)
    torch.testing.assert_close(torch.cov(z.T), torch.eye(5, dtype=F64))
    torch.testing.assert_close(white.restore(z), y)
    assert torch.equal(white.forward, white.forward.T) or torch.allclose(white.forward, white.forward.T, atol=1e-12)
    moved = (z - (y - y.mean(0))).square().sum()
    for seed in range(5):  # any other whitening is a rotation of this one, and farther from the data
        turn = torch.linalg.qr(torch.randn(5, 5, generator=seeded(seed), dtype=F64)).Q
        assert (z @ turn - (y - y.mean(0))).square().sum() > moved


def test_directions_without_variance_are_removed():
    y = torch.randn(100, 3, generator=seeded(), dtype=F64)
    y[:, 2] = y[:, 0] + y[:, 1]
    white = data.whitening(y)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(white.whiten(y).T))
    torch.testing.assert_close(eigenvalues, torch.tensor([0.0, 1, 1], dtype=F64))
    torch.testing.assert_close(white.restore(white.whiten(y)), y)


def test_noise_and_keep_do_what_they_say():
    y = torch.randn(4000, 3, generator=seeded(), dtype=F64)
    y = data.whitening(y).whiten(y) * torch.tensor([3.0, 1.0, 0.1], dtype=F64)  # variances 9, 1, 0.01 exactly
    white = data.whitening(y, noise=0.3)
    floor = 0.3 * 10.01 / 3
    expected = torch.tensor([9.0, 1.0, 0.01], dtype=F64)
    torch.testing.assert_close(torch.cov(white.whiten(y).T), torch.diag(expected / (expected + floor)))
    kept = data.whitening(y, keep=0.99)  # 9 and 1 hold 99.9 %, 9 alone 89.9 %
    torch.testing.assert_close(torch.cov(kept.whiten(y).T), torch.diag(torch.tensor([1.0, 1, 0], dtype=F64)))
    torch.testing.assert_close(data.whitening(y, keep=1.0).forward, data.whitening(y).forward)


def test_what_cannot_be_whitened_is_refused():
    with pytest.raises(ValueError, match="at least two points"):
        data.whitening(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="points must vary"):
        data.whitening(torch.ones(5, 3))
    with pytest.raises(ValueError, match="noise must be"):
        data.whitening(torch.eye(3), noise=-1.0)
    with pytest.raises(ValueError, match="keep must be"):
        data.whitening(torch.eye(3), keep=0.0)
    with pytest.raises(ValueError, match="points must be finite"):
        data.whitening(torch.full((4, 2), torch.inf))
    assert data.whitening(torch.zeros(4, 3, device="meta")).forward.is_meta


# ---- both


def test_natural_patches_are_seeded_and_white_and_have_no_mean():
    one, again = (data.natural_patches(3000, 8, generator=seeded(3), dtype=F64) for _ in range(2))
    assert torch.equal(one.points, again.points)
    assert one.shape == (1, 8, 8)
    assert not torch.equal(one.points, data.natural_patches(3000, 8, generator=seeded(4), dtype=F64).points)
    assert one.points.sum(-1).abs().max() < 1e-6
    assert one.points.var(0).mean().item() == pytest.approx(1, abs=1e-3)
    raw = data.natural_patches(3000, 8, generator=seeded(3), dtype=F64, whiten=False)
    assert raw.whitening is None
    torch.testing.assert_close(one.whitening.whiten(raw.points), one.points)
    torch.testing.assert_close(one.whitening.restore(one.points), raw.points)

    def spread(points):  # of the largest half of the variances: wide in nature, narrow when white
        variance = torch.linalg.eigvalsh(torch.cov(points.T))
        return (variance[-1] / variance[-32]).item()

    assert spread(raw.points) > 50
    assert spread(one.points) < 2.5


def test_colour_patches():
    colour = data.natural_patches(2000, 6, colour=True, generator=seeded())
    assert (colour.points.shape, colour.shape) == ((2000, 108), (3, 6, 6))
    assert colour.points.view(2000, 3, 36).mean(-1).abs().max() < 1e-3
    assert data.natural_patches(50, 6, names=["china", "flower"], generator=seeded()).points.dtype == torch.float32
