r"""Self-supervised learning on text: vocabulary, transformer, masked language model, word vectors, ranking.

Words are numbers, and each model is an energy of them: F(x, y) of a text with blanks and its completion
(:class:`MaskedLanguageModel`), of a word and a neighbour (:class:`SkipGram`), F(s) of a window (:class:`WindowEnergy`).
As everywhere, the last dimension is the variable's own: a text is (..., T), a single word (..., 1).
"""

from ebm_lib.text.baselines import Bigram, Unigram, blank_energies
from ebm_lib.text.masked import (
    Corruption,
    MaskedLanguageModel,
    fill_in_words,
    mask_apart,
    mask_tokens,
    pack_pair,
)
from ebm_lib.text.ranking import WindowEnergy, replace_middle
from ebm_lib.text.stored import Stored, load_models, save_models
from ebm_lib.text.transformer import Attention, Block, Transformer
from ebm_lib.text.vocabulary import (
    CLS,
    MASK,
    PAD,
    SEP,
    SPECIAL,
    UNK,
    Vocabulary,
    hold_out,
    sentence_starts,
    tokenize,
    windows,
    word_counts,
)
from ebm_lib.text.word2vec import (
    SkipGram,
    SkipGramPairs,
    draw_words,
    nearest,
    negative_sampling,
    noise_distribution,
    skip_gram_pairs,
    subsample,
)

__all__ = [
    "CLS",
    "MASK",
    "PAD",
    "SEP",
    "SPECIAL",
    "UNK",
    "Attention",
    "Bigram",
    "Block",
    "Corruption",
    "MaskedLanguageModel",
    "SkipGram",
    "SkipGramPairs",
    "Stored",
    "Transformer",
    "Unigram",
    "Vocabulary",
    "WindowEnergy",
    "blank_energies",
    "draw_words",
    "fill_in_words",
    "hold_out",
    "load_models",
    "mask_apart",
    "mask_tokens",
    "nearest",
    "negative_sampling",
    "noise_distribution",
    "pack_pair",
    "replace_middle",
    "save_models",
    "sentence_starts",
    "skip_gram_pairs",
    "subsample",
    "tokenize",
    "windows",
    "word_counts",
]
