"""Words and numbers: cutting text, counting, windows, held-out shares, against hand-made texts and plain Python."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_lib import data, text
from ebm_lib.text.vocabulary import require_words

SOME = ["the", "cat", "'s", "don't", "--", ",", "“", "”", "1813", "é"]


@pytest.mark.parametrize(
    ("raw", "tokens"),
    [
        ("", []),
        ("Mr. Knightley", ["mr", ".", "knightley"]),
        ("Emma's aunt's", ["emma", "'s", "aunt", "'s"]),
        ("I don't, o'clock; 'tis", ["i", "don't", ",", "o'clock", ";", "'", "tis"]),
        ("it’s Éclat", ["it", "'s", "éclat"]),
        ("_very_ odd_ly", ["very", "odd", "ly"]),
        ("no--never---well-bred", ["no", "--", "never", "--", "well", "-", "bred"]),
        ('He said, "No!"--"Yes?" ("why")', "he said , “ no ! ” -- “ yes ? ” ( “ why ” )".split()),
        ('"Oh!" she cried.\n\n"Go"', "“ oh ! ” she cried . “ go ”".split()),
        ('"_Her_ aunt"', "“ her aunt ”".split()),
        ("in 1813, 5s", ["in", "1813", ",", "5", "s"]),
        ("a <MASK> b <unk>", ["a", "<mask>", "b", "<unk>"]),
        ("<masks>", ["<", "masks", ">"]),
    ],
)
def test_text_is_cut_as_said(raw, tokens):
    assert text.tokenize(raw) == tokens


@given(st.text(max_size=60))
def test_cutting_what_was_cut_changes_nothing_and_loses_no_letter(raw):
    tokens = text.tokenize(raw)
    assert text.tokenize(" ".join(tokens)) == tokens
    assert all(token == token.lower() and not any(c.isspace() for c in token) for token in tokens)
    letters = Counter(c for c in raw.lower() if c.isalnum())
    assert Counter(c for token in tokens for c in token if c.isalnum()) == letters


def test_the_novels_are_cut_into_words_and_marks():
    tokens = text.tokenize(data.load_text().novels[4])
    at = tokens.index("truth")
    assert " ".join(tokens[at - 3 : at + 7]) == "it is a truth universally acknowledged , that a single"
    quotes = Counter(token for token in tokens if token in "“”")
    assert abs(quotes["“"] - quotes["”"]) < 0.05 * quotes["“"]  # paragraphs of long speeches open again


@pytest.mark.parametrize(
    ("raw", "starts"),
    [
        ("", []),
        ("One", [0]),
        ("He came. She went! Why? They", [0, 3, 6, 8]),
        ("Mr. Hill and Mrs. Hill came. Dr. No sat.", [0, 9]),
        ('"He came." She went.', [0, 5]),
        ('(He came.) "No!" Yes', [0, 5, 9]),
        ("What?! No... Yes", [0, 3, 7]),
        (". . a", [0, 2]),
        ("No. Yes.", [0]),
    ],
)
def test_sentences_start_after_stops_that_end_one(raw, starts):
    assert text.sentence_starts(text.tokenize(raw)) == starts


def test_the_most_frequent_words_are_kept_ties_in_alphabetical_order():
    vocabulary = text.Vocabulary.fit("b a c c d b <mask> <mask> <mask>".split(), 8)
    assert vocabulary.words == (*text.SPECIAL, "b", "c", "a")
    assert vocabulary.encode("c d <mask> <pad> <unk> <cls> <sep>").tolist() == [6, 1, 2, 0, 1, 3, 4]
    assert vocabulary.decode(torch.tensor([6, 1, 2])) == ["c", "<unk>", "<mask>"]
    assert text.Vocabulary.fit("ba ab c ca".split(), 9).words[5:] == ("ab", "ba", "c", "ca")
    assert len(text.Vocabulary.fit(["x"], 100)) == len(vocabulary) - 2 == 6
    assert repr(vocabulary) == "Vocabulary(8 words)"


@given(st.lists(st.sampled_from([*SOME, "<mask>"]), max_size=30))
def test_known_words_come_back(tokens):
    vocabulary = text.Vocabulary(SOME)
    assert vocabulary.decode(vocabulary.encode(tokens)) == tokens
    assert torch.equal(vocabulary.encode(" ".join(tokens)), vocabulary.encode(tokens))


@given(st.lists(st.integers(0, 6), max_size=40))
def test_words_are_counted(numbers):
    for dtype in (torch.int64, torch.int32):
        counted = text.word_counts(torch.tensor(numbers, dtype=dtype), 7)
        assert counted.tolist() == [numbers.count(word) for word in range(7)]


@settings(deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=4), st.integers(1, 5), st.none() | st.integers(1, 4))
def test_windows_against_slices(sizes, length, stride):
    pieces, first = [], 0
    for size in sizes:
        pieces.append(torch.arange(first, first + size))
        first += 100
    step = length if stride is None else stride
    expected = [p[i : i + length].tolist() for p in pieces for i in range(0, len(p) - length + 1, step)]
    if not expected:
        with pytest.raises(ValueError, match="at least length"):
            text.windows(pieces, length, stride=stride)
    else:
        assert text.windows(pieces, length, stride=stride).tolist() == expected


def test_one_piece_need_not_be_in_a_list():
    assert torch.equal(text.windows(torch.arange(6), 3), torch.arange(6).view(2, 3))


@given(st.integers(2, 40), st.floats(0.01, 0.99), st.integers(0, 2**31))
def test_a_share_is_held_out_and_the_rest_kept_in_order(count, share, seed):
    kept, held_out = text.hold_out(range(count), share, generator=torch.Generator().manual_seed(seed))
    assert sorted(kept + held_out) == list(range(count))
    assert kept == sorted(kept)
    assert held_out == sorted(held_out)
    assert len(held_out) == min(max(round(share * count), 1), count - 1)


def test_every_piece_can_be_held_out():
    g = torch.Generator().manual_seed(0)
    assert {text.hold_out("abcdef", 0.1, generator=g)[1][0] for _ in range(200)} == set("abcdef")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: text.Vocabulary(["a", "a"]), "different from each other"),
        (lambda: text.Vocabulary(["<mask>"]), "different from each other"),
        (lambda: text.Vocabulary(["a", ""]), "not empty"),
        (lambda: text.Vocabulary.fit(["a"], 5), "size must be a whole number of at least 6"),
        (lambda: text.Vocabulary.fit(["<unk>"], 9), "at least one word"),
        (lambda: text.Vocabulary(["a"]).decode(torch.tensor([6])), "from 0 to 5, got 6 to 6"),
        (lambda: text.Vocabulary(["a"]).decode(torch.tensor([-1])), "from 0 to 5"),
        (lambda: text.Vocabulary(["a"]).decode(torch.tensor([[5]])), "must be a row"),
        (lambda: text.Vocabulary(["a"]).decode(torch.tensor([5.0])), "int64 or int32"),
        (lambda: text.word_counts(torch.tensor([3]), 3), "from 0 to 2"),
        (lambda: text.word_counts(torch.tensor([True]), 3), "int64 or int32"),
        (lambda: text.windows(torch.zeros(2, 2), 1), "pieces\\[0\\] must be a row"),
        (lambda: text.windows([], 1), "pieces must hold one"),
        (lambda: text.windows(torch.arange(3), 0), "length must be"),
        (lambda: text.windows(torch.arange(3), 1, stride=0), "stride must be"),
        (lambda: text.hold_out([1], 0.5), "at least two"),
        (lambda: text.hold_out([1, 2], 0.0), "share must be between"),
        (lambda: text.hold_out([1, 2], 1.0), "share must be between"),
        (lambda: text.hold_out([1, 2], float("nan")), "share must be between"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_numbers_without_values_pass():
    assert require_words("x", torch.zeros(3, dtype=torch.int64, device="meta"), 2).shape == (3,)
    assert require_words("x", torch.zeros(0, dtype=torch.int32), 2).shape == (0,)
