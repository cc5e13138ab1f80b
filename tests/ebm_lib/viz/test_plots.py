"""Figures hold the numbers they claim to show."""

import subprocess
import sys

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from ebm_lib import viz


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def tilted(y):
    return (y[..., 0] - 1).square() + 3 * (y[..., 1] + 0.5).square()


def test_a_landscape_is_darkest_at_the_minimum_and_its_axes_are_not_swapped(ax):
    mesh = viz.landscape(ax, tilted, ((-2, 2), (-1, 1)), steps=80)
    values = np.asarray(mesh.get_array()).reshape(80, 80)
    row, column = np.unravel_index(values.argmin(), values.shape)
    corners = mesh.get_coordinates()
    x, y = corners[row : row + 2, column : column + 2].mean((0, 1))
    assert abs(x - 1) < 0.05
    assert abs(y + 0.5) < 0.03
    luminance = mesh.to_rgba(np.array([values.min(), values.max()]))[:, :3] @ [0.299, 0.587, 0.114]
    assert luminance[0] < 0.2 < 0.7 < luminance[1]


def test_arrows_point_down_the_energy(ax):
    quiver = viz.arrows(ax, tilted, steps=9)
    start = torch.from_numpy(np.asarray(quiver.get_offsets()))
    step = torch.stack([torch.from_numpy(np.asarray(quiver.U)), torch.from_numpy(np.asarray(quiver.V))], -1)
    assert (tilted(start + 1e-3 * step) < tilted(start)).all()
    torch.testing.assert_close(step.norm(dim=-1), torch.ones(81, dtype=step.dtype))


def test_a_path_is_drawn_from_start_to_end(ax):
    path = torch.tensor([[[0.0, 0.0], [1.0, 1.0]], [[0.5, 0.0], [1.0, 2.0]]])
    viz.descent_path(ax, path)
    assert [line.get_xydata().tolist() for line in ax.lines] == path.transpose(0, 1).tolist()
    with pytest.raises(ValueError, match="path must be"):
        viz.descent_path(ax, torch.zeros(3))


def test_scatter_and_bad_energies(ax):
    assert viz.scatter(ax, torch.ones(5, 2)).get_offsets().shape == (5, 2)
    with pytest.raises(ValueError, match="one number per sample"):
        viz.landscape(ax, lambda y: y)
    with pytest.raises(ValueError, match="energy must be finite"):
        viz.landscape(ax, lambda y: y.sum(-1) / 0)


def test_drawing_is_loaded_only_when_used():
    code = (
        "import sys, ebm_lib.viz as viz; assert 'matplotlib' not in sys.modules; "
        "viz.PALETTE; assert 'matplotlib' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        viz.nothing  # noqa: B018
