"""Models in files: what is written comes back, and the stored ones have the figures that stand beside them."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ebm_lib import text

TRAINING = Path(__file__).parents[3] / "training"
MASKED, VECTORS = "masked_language_model", "word_vectors"


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def script(name):
    spec = importlib.util.spec_from_file_location(name, TRAINING / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def models():
    made = {
        "masked": (text.MaskedLanguageModel, {"size": 7, "dim": 4, "heads": 2, "layers": 1, "length": 6, "reach": 1}),
        "judge": (
            text.MaskedLanguageModel,
            {"size": 7, "dim": 4, "heads": 1, "layers": 2, "length": 6, "hidden": 3, "next_sentence": True},
        ),
        "pairs": (text.SkipGram, {"size": 7, "dim": 2}),
        "ranks": (text.WindowEnergy, {"size": 7, "dim": 2, "length": 3, "hidden": 5}),
    }
    return {name: (kind(**arguments, generator=gen()), arguments) for name, (kind, arguments) in made.items()}


def test_models_come_back_in_half_precision(models, tmp_path):
    vocabulary = text.Vocabulary(["naïve", "“"])
    text.save_models(tmp_path / "m.npz", vocabulary, models)
    stored = text.load_models(tmp_path / "m.npz")
    assert stored.vocabulary.words == vocabulary.words
    assert list(stored.models) == list(models)
    for name, (model, _) in models.items():
        loaded = stored.models[name]
        assert type(loaded) is type(model)
        assert not loaded.training
        assert loaded.state_dict().keys() == model.state_dict().keys()
        for key, value in model.state_dict().items():
            assert loaded.state_dict()[key].dtype == torch.float32
            assert torch.equal(loaded.state_dict()[key], value.half().float()), key
    x = torch.tensor([[5, 2, 6]])
    torch.testing.assert_close(stored.models["masked"](x), models["masked"][0](x), atol=2e-3, rtol=0)


def test_a_model_goes_where_it_is_asked_to(models, tmp_path):
    text.save_models(tmp_path / "m.npz", text.Vocabulary(["a", "b"]), models)
    for model in text.load_models(tmp_path / "m.npz", device="meta").models.values():
        assert {p.device.type for p in model.parameters()} == {"meta"}


def test_loading_models_leaves_the_global_generator_alone(models, tmp_path):
    text.save_models(tmp_path / "m.npz", text.Vocabulary(["a", "b"]), models)
    before = torch.get_rng_state()
    text.load_models(tmp_path / "m.npz")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_vocabulary_of_special_words_alone_comes_back(tmp_path):
    text.save_models(tmp_path / "m.npz", text.Vocabulary([]), {})
    assert text.load_models(tmp_path / "m.npz").vocabulary.words == text.Vocabulary([]).words


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_in_a_file_is_unpickled(tmp_path):
    np.savez(tmp_path / "m.npz", words=np.array([Trap(tmp_path / "sprung")], dtype=object))
    with pytest.raises(ValueError, match="does not hold stored text models"):
        text.load_models(tmp_path / "m.npz")
    assert not (tmp_path / "sprung").exists()


def test_what_cannot_be_stored_or_read_is_refused(models, tmp_path):
    vocabulary, path = text.Vocabulary(["a", "b"]), tmp_path / "m.npz"
    with pytest.raises(ValueError, match="models\\['x'\\] must be one of MaskedLanguageModel"):
        text.save_models(path, vocabulary, {"x": (torch.nn.Linear(1, 1), {})})
    with pytest.raises(ValueError, match="models must have names without a slash, got 'pairs/two'"):
        text.save_models(path, vocabulary, {"pairs/two": models["pairs"]})
    with pytest.raises(ValueError, match=r"words without a line break, got 'a\\nb'"):
        text.save_models(path, text.Vocabulary(["c", "a\nb"]), models)
    with torch.no_grad():
        models["pairs"][0].u[6, 1] = 7e4
    with pytest.raises(ValueError, match="within ±65504, and u has not"):
        text.save_models(path, vocabulary, models)
    with pytest.raises(FileNotFoundError):
        text.load_models(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"m\.npz does not hold stored text models"):
        text.load_models(path)
    np.savez(path, words=np.zeros(3, np.uint8))
    with pytest.raises(ValueError, match="does not hold stored text models"):
        text.load_models(path)
    text.save_models(path, vocabulary, {"pairs": (text.SkipGram(7, 2), {"size": 7, "dim": 3})})
    with pytest.raises(ValueError, match=r"(?s)does not hold stored text models.*size mismatch"):
        text.load_models(path)


@pytest.fixture(scope="module")
def masked():
    module = script(MASKED)
    report = json.loads((TRAINING / "results" / f"{MASKED}.json").read_text())
    stored = text.load_models(TRAINING / "results" / f"{MASKED}.npz")
    return module, report, stored, module.Corpus(report["seed"])


def test_the_stored_masked_model_has_its_stored_figures(masked):
    module, report, stored, corpus = masked
    model = stored.models[MASKED]
    assert stored.vocabulary.words == corpus.vocabulary.words
    assert sum(p.numel() for p in model.parameters()) == report["parameters"] < 2_000_000
    for name, value in module.evaluate(model, corpus, report["seed"], report["bigram_discount"]).items():
        # Accuracies are counts of signs: a few may turn where processors round differently.
        assert value == pytest.approx(report[name], abs=0.003 if "accuracy" in name else 2e-4), name


def test_the_masked_model_beats_counts_clearly(masked):
    _, report, _, _ = masked
    assert report["gain_over_bigram"] > 10 * report["gain_over_bigram_standard_error"]
    assert (
        report["cross_entropy_masked_language_model"] + 0.1
        < report["cross_entropy_bigram_two_sided"]
        < report["cross_entropy_unigram"] - 1
    )
    assert (TRAINING / "results" / f"{MASKED}.npz").stat().st_size < 3e6


def test_training_and_held_out_text_do_not_overlap(masked):
    _, report, _, corpus = masked
    assert sum(map(len, corpus.train)) == report["train_words"]
    assert sum(map(len, corpus.held_out)) == report["held_out_words"]
    # Twenty words in a row as one number, by a random linear code: equal numbers are equal words but by a miracle.
    code = torch.randint(-(2**62), 2**62, (20,), generator=gen())
    train, held_out = (
        (text.windows(blocks, 20, stride=1) * code).sum(-1) for blocks in (corpus.train, corpus.held_out)
    )
    assert torch.isin(held_out, train).double().mean() < 0.001


def test_a_short_run_of_the_script_learns(masked, monkeypatch, capsys):
    module, _, _, corpus = masked
    monkeypatch.setattr(module, "SHAPE", {**module.SHAPE, "dim": 16, "heads": 2, "layers": 1})
    made = [text.MaskedLanguageModel(**module.SHAPE, next_sentence=True, generator=gen()) for _ in range(2)]
    pairs = corpus.held_out_pairs[:64]
    places = text.mask_apart(pairs, 8, generator=gen()).places
    before = module.masked_energies(made[0], pairs, places).mean()
    for model in made:
        module.train(model, corpus, 30, 8, gen())
    assert module.masked_energies(made[0], pairs, places).mean() < before - 1
    for a, b in zip(made[0].parameters(), made[1].parameters(), strict=True):
        assert torch.equal(a, b)
    text_of_pairs, follows = module.shuffle_half(pairs, gen())
    kept = (text_of_pairs[:, 32:63] == pairs[:, module.BEFORE :]).all(-1)
    assert torch.equal(kept, follows)
    assert 16 < follows.sum() < 48


def test_the_stored_word_vectors_have_their_stored_figures():
    module = script(VECTORS)
    report = json.loads((TRAINING / "results" / f"{VECTORS}.json").read_text())
    stored = text.load_models(TRAINING / "results" / f"{VECTORS}.npz")
    corpus = module.Corpus(report["seed"])
    found = module.evaluate(stored.models["skip_gram"], stored.models["ranking"], corpus, report["seed"])
    for name in ("skip_gram_loss", "ranking_loss", "ranking_right"):
        assert found[name] == pytest.approx(report[name], abs=1e-3)
    assert report["skip_gram_loss"] < report["skip_gram_loss_flat"] - 1
    assert report["ranking_right"] > 0.9
    assert found["group_precision"] == report["group_precision"]
    by_neighbours, by_place = (report["group_precision"][name] for name in ("skip_gram", "ranking"))
    assert min(by_neighbours.values()) > 20 * 14 / module.SIZE  # chance is at most 14 words of all
    # Near words are of one subject, so names go by novel; words that fit one place are of one kind, whatever the novel.
    for novel in ("Pride and Prejudice", "Emma", "Mansfield Park"):
        assert by_neighbours[f"people of {novel}"] > 1.5 * by_place[f"people of {novel}"]
    for kind in ("family", "women"):
        assert by_place[kind] > 1.3 * by_neighbours[kind]
    assert (TRAINING / "results" / f"{VECTORS}.npz").stat().st_size < 1.5e6
