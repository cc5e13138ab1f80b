"""Bundled files: that they hold what is said, that labels match what is seen or heard, that damage is found."""

import collections
import math
import re
import shutil

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ebm_lib import data
from ebm_lib.data import store

LOADERS = {
    "digits": data.load_digits,
    "fashion": data.load_fashion,
    "text": data.load_text,
    "french": data.load_french,
    "spoken_digits": data.load_spoken_digits,
    "prompts": data.load_prompts,
}


def raw(name):
    return store.read(store.FILES / store.CONTENT[name][0])


# Content.


@pytest.mark.parametrize("name", LOADERS)
def test_checksums(name):
    assert store.checksum(raw(name)) == store.CONTENT[name][1]


def test_checksum_sees_names_types_shapes_and_values():
    base = {"a": np.arange(6, dtype=np.int16), "b": np.zeros(2)}
    others = [
        {"c": base["a"], "b": base["b"]},
        {"a": base["a"].astype(np.uint16), "b": base["b"]},
        {"a": base["a"].reshape(2, 3), "b": base["b"]},
        {"a": base["a"][::-1], "b": base["b"]},
        {"a": base["a"]},
    ]
    sums = {store.checksum(content) for content in [base, *others]}
    assert len(sums) == 1 + len(others)
    assert store.checksum(dict(reversed(base.items()))) == store.checksum(base)


# How often each digit occurs among the first 10,000 training images of MNIST.
MNIST_COUNTS = [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]


def test_digits_are_mnists_first_ten_thousand():
    images, labels, names = data.load_digits()
    assert (images.shape, images.dtype) == ((10_000, 28, 28), torch.float32)
    assert torch.bincount(labels).tolist() == MNIST_COUNTS
    assert names == tuple("0123456789")
    assert len(torch.unique(images.flatten(1), dim=0)) == 10_000
    assert abs(images.mean().item() - 0.1307) < 0.001  # MNIST's well-known mean pixel
    assert abs(images.std().item() - 0.3081) < 0.002  # and standard deviation
    # Every digit was centred by its centre of mass: so were these, within half a pixel and rounding.
    rows = torch.arange(28.0)
    mass = images.sum((1, 2))
    for line in (images.sum(2) @ rows, images.sum(1) @ rows):
        assert (line / mass - 13.5).abs().max() < 1.01


def test_fashion_is_the_balanced_test_split():
    images, labels, names = data.load_fashion()
    assert (images.shape, images.dtype) == ((10_000, 28, 28), torch.float32)
    assert torch.bincount(labels).tolist() == [1000] * 10
    assert len(names) == 10
    assert abs(images.mean().item() - 0.2868) < 0.001  # the published mean pixel


@pytest.mark.parametrize(("load", "least"), [(data.load_digits, 0.85), (data.load_fashion, 0.75)])
def test_labels_match_the_images(load, least):
    images, labels, _ = load()
    x = images.flatten(1).numpy()
    model = LogisticRegression(max_iter=30, tol=1e-2).fit(x[:3000], labels[:3000])
    held_out = model.score(x[8000:], labels[8000:])
    assert held_out > least
    shuffled = labels[8000:].roll(1)
    assert model.score(x[8000:], shuffled) < 0.2


def test_fashion_names_are_in_order():
    images, labels, names = data.load_fashion()
    mean = {name: images[labels == i].mean(0) for i, name in enumerate(names)}
    # Trousers have a gap between the legs; shoes leave the upper half empty; a sandal shows less cloth than a boot.
    hem = mean["Trouser"][22:26].mean(0)
    assert hem[12:17].min() < 0.5 * min(hem[:13].max(), hem[16:].max())
    for shoe in ("Sandal", "Sneaker"):
        assert mean[shoe][:7].mean() < 0.05
    assert mean["Ankle boot"][:10].mean() > 2 * mean["Sneaker"][:10].mean()
    assert mean["Sandal"].sum() < 0.6 * mean["Ankle boot"].sum()
    # Sleeves: a dress and a T-shirt have little at the lower sides, pullover and coat have long sleeves there.
    sides = {name: torch.cat((m[18:25, 2:7], m[18:25, 21:26])).mean() for name, m in mean.items()}
    assert max(sides["Dress"], sides["T-shirt/top"]) < 0.6 * min(sides["Pullover"], sides["Coat"])


def test_image_dtypes():
    bytes_ = data.load_digits(dtype=torch.uint8).images
    exact = data.load_digits(dtype=torch.float64).images
    assert bytes_.max() == 255
    assert torch.equal((exact * 255).round().to(torch.uint8), bytes_)
    assert (exact.min(), exact.max()) == (0.0, 1.0)
    with pytest.raises(ValueError, match="dtype must be"):
        data.load_digits(dtype=torch.int64)
    assert data.load_fashion(device="meta").images.device.type == "meta"


def test_changing_what_was_loaded_changes_nothing_for_the_next():
    for load in (data.load_digits, data.load_spoken_digits, data.load_prompts):
        first = load(dtype=torch.uint8) if load is data.load_digits else load()
        first[0].zero_()
        again = load(dtype=torch.uint8) if load is data.load_digits else load()
        assert again[0].any()


def test_text_is_six_novels():
    text, titles, novels = data.load_text()
    assert len(text.split()) == 717_537
    assert "".join(novels) == text
    assert titles[0] == "Emma"
    assert len(titles) == len(novels) == 6
    openings = {
        "Emma": "Emma Woodhouse, handsome, clever, and rich",
        "Mansfield Park": "About thirty years ago",
        "Northanger Abbey": "No one who had ever seen Catherine Morland in her infancy",
        "Persuasion": "Sir Walter Elliot, of Kellynch Hall",
        "Pride and Prejudice": "It is a truth universally acknowledged",
        "Sense and Sensibility": "The family of Dashwood had long been settled in Sussex",
    }
    heroes = ("Woodhouse", "Crawford", "Tilney", "Wentworth", "Darcy", "Willoughby")
    for title, novel, hero in zip(titles, novels, heroes, strict=True):
        assert openings[title] in " ".join(novel[:3000].split())
        assert text.count(hero) - novel.count(hero) <= 1  # each keeps to one novel
        assert novel.count(hero) > 50
    assert "\r" not in text


def test_french_is_running_prose():
    text, titles, parts = data.load_french()
    assert len(text.split()) == 93_213
    assert parts == (text,)
    assert len(titles) == 1
    assert text.endswith(".\n")
    lines = text.split("\n")[:-1]
    assert (len(lines), len(set(lines))) == (1885, 1884)
    assert all(line == " ".join(line.split()) != "" for line in lines)
    words = collections.Counter(re.findall(r"[^\W\d_]+", text.lower()))
    assert len(words) > 8000
    for word in "vous ne pouvez pas lire ceci si parler français".split():
        assert words[word] > 5
    # Letters come up about as often as in French at large (of the letters, in per cent; accents count as their letter).
    plain = text.lower().translate(str.maketrans("éèêëàâîïôûùç", "eeeeaaiiouuc"))
    letters = collections.Counter(c for c in plain if c in "abcdefghijklmnopqrstuvwxyz")
    for letter, per_cent in {"e": 17.3, "a": 8.4, "i": 7.5, "s": 8.1, "u": 6.1, "q": 1.0, "w": 0.2, "k": 0.1}.items():
        assert abs(100 * letters[letter] / letters.total() - per_cent) < 2


def test_french_holds_no_english_no_listing_and_no_markup():
    text = data.load_french().text
    words = collections.Counter(re.findall(r"[^\W\d_]+", text.lower()))
    assert words["de"] > 3000
    for english in ("the", "of", "and", "is", "with"):
        assert words[english] < 10  # in names and quotations
    for mark in ("<", "&lt;", "&amp;", "# apt", "$ ", "→", "\t", "\xa0", "\r"):
        assert text.count(mark) <= 3


# Sound.


def test_spoken_digits_structure():
    spoken = data.load_spoken_digits()
    assert len(spoken.voice_names) == len(set(spoken.voice_names)) == 91
    pairs = torch.stack((spoken.voices, spoken.labels), -1)
    assert len(torch.unique(pairs, dim=0)) == 910  # each voice says each digit once
    assert len({name.split("+")[0] for name in spoken.voice_names}) == 7
    assert len({name.split("+")[1] for name in spoken.voice_names}) == 13


@pytest.mark.parametrize(("name", "count"), [("spoken_digits", 910), ("prompts", 492)])
def test_lengths_add_up_and_waves_are_the_pieces(name, count):
    sound = LOADERS[name]()
    content = raw(name)
    assert content["lengths"].sum() == len(content["audio_mulaw"]) == len(sound.mulaw) == sound.starts[-1]
    waves = [sound.wave(i) for i in range(count)]
    assert [len(w) for w in waves] == content["lengths"].tolist()
    m = (content["audio_mulaw"].astype(float) - 128) / 127
    expected = np.sign(m) * (256 ** np.abs(m) - 1) / 255
    np.testing.assert_allclose(torch.cat(waves).numpy(), expected, atol=1e-6)
    assert torch.equal(sound.wave(-1), waves[-1])
    for i in (count, -count - 1):
        with pytest.raises(IndexError, match=rf"0..{count - 1}"):
            sound.wave(i)


def test_prompts_are_short_named_and_mostly_speech():
    prompts = data.load_prompts()
    assert len(set(prompts.names)) == 492
    assert round(len(prompts.mulaw) / prompts.rate / 60, 1) == 12.8
    assert prompts.starts.diff().max() <= 4 * prompts.rate
    for name in [f"digits/{d}" for d in range(10)] + [f"letters/{c}" for c in "abcxyz"]:
        assert prompts.wave(prompts.names.index(name)).abs().max() > 0.1
    for seconds in (1, 2, 3, 4):
        silence = prompts.wave(prompts.names.index(f"silence/{seconds}"))
        assert len(silence) == seconds * prompts.rate
        assert silence.abs().max() < 0.01


def spectra(sound, indices, frames=8):
    """Log band energies in a few stretches of each sound: enough to tell words apart."""
    rows = []
    for i in indices:
        pieces = sound.wave(i).tensor_split(frames)
        bands = [torch.fft.rfft(p, n=256).abs().square()[1:].reshape(16, 8).sum(-1) for p in pieces]
        rows.append(torch.stack(bands).add(1e-4).log().flatten())
    return torch.stack(rows).numpy()


def test_spoken_labels_match_the_sound():
    spoken = data.load_spoken_digits()
    x = spectra(spoken, range(910))
    train = (spoken.voices % 3 != 0).numpy()  # held-out voices say the same words
    model = LogisticRegression(max_iter=50, tol=1e-2).fit(x[train], spoken.labels[train])
    assert model.score(x[~train], spoken.labels[~train]) > 0.75


# µ-law.


def test_mulaw_at_known_points():
    codes = torch.tensor([1, 127, 128, 129, 255], dtype=torch.uint8)
    first = (256 ** (1 / 127) - 1) / 255
    expected = torch.tensor([-1.0, -first, 0.0, first, 1.0])
    torch.testing.assert_close(data.mulaw_decode(codes), expected)
    # Half of full scale: log(1 + 127.5) / log 256 * 127 = 111.2, a code of 239.
    assert data.mulaw_encode(torch.tensor([0.5, -0.5])).tolist() == [239, 17]


def test_mulaw_round_trips():
    codes = torch.arange(1, 256, dtype=torch.uint8)
    assert torch.equal(data.mulaw_encode(data.mulaw_decode(codes)), codes)
    x = torch.linspace(-1, 1, 100_001, dtype=torch.float64)
    error = (data.mulaw_decode(data.mulaw_encode(x)).double() - x).abs()
    bound = (256 ** (1 / 254) - 1) * (x.abs() + 1 / 255)
    assert (error <= bound + 1e-6).all()
    assert (error / bound).max() > 0.95  # and the bound is reached: steps are as large as stated


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.mulaw_decode(torch.tensor([3])), "codes must be uint8"),
        (lambda: data.mulaw_decode(torch.tensor([0], dtype=torch.uint8)), "codes must lie in 1..255"),
        (lambda: data.mulaw_encode(torch.tensor([1])), "x must be floating point"),
        (lambda: data.mulaw_encode(torch.tensor([1.5])), r"x must lie in \[-1, 1\], got magnitude 1.5"),
        (lambda: data.mulaw_encode(torch.tensor([math.nan])), "x must be finite"),
    ],
)
def test_mulaw_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_mulaw_on_meta():
    assert data.mulaw_encode(torch.zeros(3, device="meta")).dtype == torch.uint8
    assert data.mulaw_decode(torch.zeros(3, dtype=torch.uint8, device="meta")).dtype == torch.float32


# Damage.


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the data folder that the loaders read instead of the real one."""
    for file, _ in store.CONTENT.values():
        shutil.copy(store.FILES / file, tmp_path)
    monkeypatch.setattr(store, "FILES", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", LOADERS)
def test_missing_file(folder, name):
    file = store.CONTENT[name][0]
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        LOADERS[name]()
    message = str(caught.value)
    assert f"ebm_lib/data/files/{file} is missing" in message
    assert f"python training/build_data.py {name}" in message
    assert str(folder) not in message


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def text_instead(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\n")


@pytest.mark.parametrize("damage", [cut, flip, empty, text_instead])
@pytest.mark.parametrize("name", LOADERS)
def test_damaged_file(folder, name, damage):
    file, expected = store.CONTENT[name]
    damage(folder / file)
    with pytest.raises(ValueError, match=rf"ebm_lib/data/files/{file} is altered") as caught:
        LOADERS[name]()
    message = str(caught.value)
    assert expected in message
    assert f"python training/build_data.py {name}" in message
    assert str(folder) not in message


def test_one_changed_label_is_found_and_both_checksums_are_named(folder):
    content = raw("digits")
    content["labels"] = content["labels"].copy()
    content["labels"][17] += 1
    np.savez_compressed(folder / "digits.npz", **content)
    with pytest.raises(ValueError, match="is altered") as caught:
        data.load_digits()
    assert store.CONTENT["digits"][1] in str(caught.value)
    assert store.checksum(content) in str(caught.value)


def test_another_compression_of_the_same_content_is_accepted(folder):
    content = raw("digits")
    np.savez(folder / "digits.npz", **content)
    assert torch.bincount(data.load_digits().labels).tolist() == MNIST_COUNTS


def test_pickles_are_refused(folder):
    np.savez(folder / "digits.npz", images=np.array([{"any": "object"}], dtype=object), labels=np.zeros(1))
    with pytest.raises(ValueError, match="is altered"):
        data.load_digits()


def test_licences_are_bundled_and_cover_every_file():
    text = (store.FILES / "LICENSES.md").read_text()
    for file, _ in store.CONTENT.values():
        assert f"## {file}" in text
    assert {path.name for path in store.FILES.iterdir()} == {f for f, _ in store.CONTENT.values()} | {"LICENSES.md"}
    for notice in (
        "by-sa/3.0",
        "Yann LeCun and Corinna Cortes",
        "Allison Smith",
        "Zalando SE",
        "Raphaël Hertzog",
        "subset, re-encoded",
    ):
        assert notice in text
