"""The parts of training/build_data.py that need no network."""

import importlib.util
import struct
from pathlib import Path

import numpy as np
import pytest

from ebm_lib.data import store

SCRIPT = Path(__file__).parents[3] / "training" / "build_data.py"


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("build_data", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fake_builder(monkeypatch, build, name, content):
    monkeypatch.setitem(build.BUILDERS, name, lambda folder: content)


def test_there_is_a_builder_for_every_file(build):
    assert set(build.BUILDERS) == set(store.CONTENT)


def test_reads_r_objects(build):
    def text(s):
        return struct.pack(">ii", 0x0009, len(s.encode())) + s.encode()

    strings = struct.pack(">ii", 0x0010, 2) + text("a line") + text("é")
    names = struct.pack(">ii", 0x0402, 1) + text("names") + struct.pack(">ii", 0x10, 2) + text("lines") + text("size")
    size = struct.pack(">iii", 0x000D, 1, -7)
    named = struct.pack(">ii", 0x0213, 2) + strings + size + names + struct.pack(">i", 0xFE)
    head = b"X\n" + struct.pack(">iiii", 3, 0, 0, 5) + b"UTF-8"
    assert build._read_rds(head + named) == {"lines": ["a line", "é"], "size": [-7]}
    assert build._read_rds(b"X\n" + struct.pack(">iii", 2, 0, 0) + strings) == ["a line", "é"]


PAGE = """<html><head><title>Titre</title></head><body><h2>Un titre</h2><div class="para">
    Le <code class="command">noyau</code> est
    libre, voir <div class="url">→ <a href="u">http://le.la.les</a></div> ici&nbsp;: <pre class="screen">le code</pre>
    et la suite&#160;!</div><div class="para">The kernel is free.</div><p>hors du texte</p>
    <table><tr><td><div class="para">la case</div></td></tr></table>
    <ul><li class="listitem"><div class="para">un premier point<ul><li><div class="para">un point du point
    </div></li></ul></div></li></ul><div class="para">Debian 11</div></body></html>"""


def test_french_keeps_running_text_and_nothing_else(build, monkeypatch, tmp_path):
    source = tmp_path / "usr/share/doc/debian-handbook/html/fr-FR"
    source.mkdir(parents=True)
    links = '<a href="b.html">b</a> <a href="a.html#x">a</a> <a href="b.html">b</a> <a href="http://le.fr/c.html">c</a>'
    (source / "a.html").write_text('<body><div class="para">un autre</div></body>')
    (source / "b.html").write_text(PAGE)
    (source / "index.html").write_text(links + '<a href="a.html">a</a>')
    asked = []
    monkeypatch.setattr(build, "_debian", lambda packages, folder: asked.extend(packages))
    text = build.french(tmp_path)["text"].tobytes().decode()
    assert asked == ["debian-handbook"]
    assert text.split("\n") == [
        "Le noyau est libre, voir ici :",
        "et la suite !",
        "un premier point",
        "un point du point",
        "un autre",
        "",
    ]


def test_check_tells_same_from_different(build, monkeypatch, capsys):
    content = store.read(store.FILES / "digits.npz")
    fake_builder(monkeypatch, build, "digits", content)
    assert build.main(["--check", "digits"]) == 0
    assert "digits: same content" in capsys.readouterr().out
    changed = {**content, "labels": content["labels"].copy()}
    changed["labels"][:3] ^= 1
    fake_builder(monkeypatch, build, "digits", changed)
    assert build.main(["--check", "digits"]) == 1
    assert "3 of 10000 values of labels differ" in capsys.readouterr().out
    fake_builder(monkeypatch, build, "digits", {**content, "labels": content["labels"].astype(int)})
    assert build.main(["--check", "digits"]) == 1
    fake_builder(monkeypatch, build, "digits", {"images": content["images"]})
    assert build.main(["--check", "digits"]) == 1


def test_sound_may_differ_by_rounding_only(build, monkeypatch):
    content = store.read(store.FILES / "spoken_digits.npz")
    for step, count, verdict in ((1, 20, 0), (1, 1000, 1), (2, 1, 1)):
        audio = content["audio_mulaw"].copy()
        audio[np.flatnonzero(audio < 200)[:count]] += step
        fake_builder(monkeypatch, build, "spoken_digits", {**content, "audio_mulaw": audio})
        assert build.main(["--check", "spoken_digits"]) == verdict
    labels = content["labels"][::-1]
    fake_builder(monkeypatch, build, "spoken_digits", {**content, "labels": labels})
    assert build.main(["--check", "spoken_digits"]) == 1


def test_what_is_written_is_what_the_loader_wants(build, monkeypatch, tmp_path, capsys):
    content = store.read(store.FILES / "digits.npz")
    fake_builder(monkeypatch, build, "digits", content)
    monkeypatch.setattr(store, "FILES", tmp_path)
    assert build.main(["digits"]) == 0
    assert sorted(store.load("digits", tmp_path)) == sorted(content)
    # Other content is written too, so that it can be looked at, but not in silence.
    other = {"text": np.frombuffer("élan\n".encode(), np.uint8)}
    fake_builder(monkeypatch, build, "text", other)
    assert build.main(["text"]) == 1
    assert "NOT the expected one" in capsys.readouterr().out
    assert store.read(tmp_path / "austen.txt.xz")["text"].tobytes().decode() == "élan\n"


def test_unknown_name(build, capsys):
    with pytest.raises(SystemExit):
        build.main(["novels"])
    assert "known: digits, fashion, text, french, spoken_digits, prompts" in capsys.readouterr().err
