"""Lines of digits: each cut is where a bundled digit's ink begins and ends, and neighbours share what they should."""

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_lib import data
from ebm_lib.data import strings
from ebm_lib.data.strings import digit_strings


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def lines():
    return digit_strings(1500, generator=seeded())


def shared_columns(lines):
    """How many columns each pair of neighbours shares; negative: how many are blank between them."""
    pairs = lines.labels[:, 1:] >= 0
    return (lines.cuts[:, :-1, 1] - lines.cuts[:, 1:, 0] + 1)[pairs]


def test_shapes_and_types(lines):
    n, height, width = lines.images.shape
    assert (n, height, width) == (1500, 28, lines.widths.max())
    assert lines.images.dtype == torch.float32
    for part, shape in ((lines.widths, (n,)), (lines.labels, (n, 6)), (lines.lengths, (n,)), (lines.cuts, (n, 6, 2))):
        assert part.shape == shape
        assert part.dtype == torch.int64
    assert lines.images.min() == 0
    assert 0.95 < lines.images.max() <= 1


def test_absent_digits_are_minus_one_and_the_rest_is_padding(lines):
    there = torch.arange(6) < lines.lengths[:, None]
    assert torch.equal(lines.labels >= 0, there)
    assert lines.labels.max() == 9
    assert torch.equal((lines.cuts >= 0).all(-1), there)
    assert (lines.cuts[~there] == -1).all()
    beyond = torch.arange(lines.images.shape[-1]) >= lines.widths[:, None]
    assert not lines.images.amax(1)[beyond].any()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    fewest=st.integers(1, 6),
    more=st.integers(0, 5),
    least=st.integers(-12, 12),
    wider=st.integers(0, 12),
    held_out=st.booleans(),
)
def test_cuts_hold_all_the_ink_and_begin_and_end_with_it(seed, fewest, more, least, wider, held_out):
    most = min(6, fewest + more)
    lines = digit_strings(
        6, digits=(fewest, most), overlap=(least, least + wider), held_out=held_out, generator=seeded(seed)
    )
    assert ((lines.lengths >= fewest) & (lines.lengths <= most)).all()
    assert (shared_columns(lines) <= least + wider).all()
    for image, width, length, cuts in zip(lines.images, lines.widths, lines.lengths, lines.cuts, strict=True):
        ink = image.amax(0) > 0
        inside = torch.zeros_like(ink)
        begun = ended = -1
        for first, last in cuts[:length].tolist():
            assert ink[first]
            assert ink[last]
            assert first > begun
            assert last > ended
            assert last - first < 28
            begun, ended = first, last
            inside[first : last + 1] = True
        assert not ink[~inside].any()
        assert cuts[0, 0] == width - 1 - cuts[length - 1, 1] == 2


def test_each_digit_is_a_bundled_one_of_its_class_drawn_from_its_own_part(monkeypatch):
    monkeypatch.setattr(strings, "SMALLEST", 1.0)  # with its size kept, a digit's columns are the original's
    images, classes, _ = data.load_digits()
    images = images.masked_fill(images < 0.1, 0)
    profile = images.amax(1)  # of each column; rows may have moved
    first = (profile > 0).int().argmax(-1)
    rolled = torch.stack([row.roll(-int(f)) for row, f in zip(profile, first, strict=True)])
    for held_out in (False, True):
        lines = digit_strings(60, overlap=(-3, 0), held_out=held_out, generator=seeded(), dtype=torch.float64)
        for image, labels, cuts in zip(lines.images.float(), lines.labels, lines.cuts, strict=True):
            for label, (a, b) in zip(labels[labels >= 0], cuts[labels >= 0].tolist(), strict=True):
                columns = torch.zeros(28)
                columns[: b - a + 1] = image[:, a : b + 1].amax(0)
                found = ((rolled - columns).abs().amax(-1) < 1e-4).nonzero().squeeze(1)
                assert len(found) > 0
                assert (classes[found] == label).any()
                assert ((found >= 8000) == held_out).any()
                assert len(found) > 1 or (found >= 8000).item() == held_out


def test_where_digits_overlap_the_brighter_pixel_wins(monkeypatch):
    square = torch.zeros(10_000, 28, 28)
    square[:, 4:20, 8:18] = torch.linspace(0.2, 0.9, 10_000)[:, None, None]
    monkeypatch.setattr(strings, "load_digits", lambda: data.Images(square, torch.arange(10_000) % 10, ()))
    monkeypatch.setattr(strings, "SMALLEST", 1.0)
    lines = digit_strings(200, digits=(2, 2), overlap=(3, 3), generator=seeded())
    assert (lines.cuts == torch.tensor([[2, 11], [9, 18], *[[-1, -1]] * 4])).all()
    left, both, right = (lines.images[:, :, part].amax(1) for part in (slice(2, 9), slice(9, 12), slice(12, 19)))
    assert (left.amax(-1) != right.amax(-1)).all()
    torch.testing.assert_close(both, torch.maximum(left[:, :1], right[:, :1]).expand(-1, 3))
    # Rows: the square's sixteen, moved by up to two, each of the five ways.
    tops = (lines.images[:, :, 2] > 0).int().argmax(-1)
    assert tops.unique().tolist() == [2, 3, 4, 5, 6]
    assert (lines.images[:, :, 2] > 0).sum(-1).eq(16).all()


def test_nothing_is_cut_off_above_or_below(monkeypatch):
    monkeypatch.setattr(strings, "SMALLEST", 1.0)
    near = digit_strings(400, digits=(1, 1), generator=seeded())
    monkeypatch.setattr(strings, "SHIFT", 0)
    still = digit_strings(400, digits=(1, 1), generator=seeded())
    assert torch.equal(near.labels, still.labels)
    assert not torch.equal(near.images, still.images)
    torch.testing.assert_close(near.images.sum((1, 2)), still.images.sum((1, 2)))


def test_sizes_shrink_by_up_to_a_fifth(lines, monkeypatch):
    monkeypatch.setattr(strings, "SMALLEST", 1.0)
    whole = digit_strings(1500, generator=seeded())
    there = lines.labels >= 0
    assert torch.equal(lines.labels, whole.labels)
    width = [(each.cuts[there][:, 1] - each.cuts[there][:, 0] + 1).double() for each in (lines, whole)]
    wide = width[1] >= 10
    ratio = (width[0] / width[1])[wide]
    low, high = ratio.quantile(torch.tensor([0.02, 0.98], dtype=torch.float64))
    assert 0.7 < low  # a column or two of faint ink come and go
    assert high <= 1.1
    assert 0.89 < ratio.mean() < 0.95  # 0.9 and less than half a column, by interpolation


def test_neighbours_touch_often_and_stand_apart_often(lines):
    shared = shared_columns(lines)
    assert (shared >= 0).double().mean() > 0.4  # no blank column between
    assert (shared > 0).double().mean() > 0.35
    assert (shared < 0).double().mean() > 0.3
    assert (shared.min(), shared.max()) == (-4, 5)
    for columns in range(-4, 0):  # a tenth each: narrow digits never stand in the way of a gap
        assert abs((shared == columns).double().mean() - 0.1) < 0.02


def test_lengths_and_digits_come_up_equally_often(lines):
    counts = torch.bincount(lines.lengths, minlength=7)
    assert counts[:2].sum() == 0
    assert (counts[2:] / 1500 - 0.2).abs().max() < 0.05
    _, classes, _ = data.load_digits()
    there = lines.labels[lines.labels >= 0]
    share = torch.bincount(there, minlength=10) / len(there)
    assert (share - torch.bincount(classes[:8000]) / 8000).abs().max() < 0.02


def test_seeds(lines):
    again = digit_strings(1500, generator=seeded())
    assert all(torch.equal(a, b) for a, b in zip(lines, again, strict=True))
    other = digit_strings(1500, generator=seeded(1))
    assert not torch.equal(lines.labels, other.labels)
    torch.manual_seed(7)
    first = digit_strings(5)
    torch.manual_seed(7)
    assert torch.equal(first.images, digit_strings(5).images)
    double = digit_strings(1500, generator=seeded(), dtype=torch.float64)
    assert torch.equal(double.images, lines.images.double())


def test_five_thousand_lines_take_seconds():
    began = time.process_time()
    digit_strings(5000, generator=seeded())
    assert time.process_time() - began < 30


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": 0}, "n must be"),
        ({"n": 2, "digits": (0, 3)}, "digits must be two whole numbers from 1 to 6"),
        ({"n": 2, "digits": (3, 7)}, "digits must be"),
        ({"n": 2, "digits": (4, 3)}, "not falling"),
        ({"n": 2, "digits": (2, 3, 4)}, "digits must be two"),
        ({"n": 2, "digits": (2.0, 3.0)}, "digits must be two whole"),
        ({"n": 2, "overlap": (3, -3)}, "overlap must be two whole numbers from -28 to 28"),
        ({"n": 2, "overlap": (-29, 0)}, "overlap must be"),
        ({"n": 2, "dtype": torch.int64}, "dtype must be"),
    ],
)
def test_refuses(given, message):
    with pytest.raises(ValueError, match=message):
        digit_strings(**given)
