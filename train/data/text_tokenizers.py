"""Tokenizers made from a training set's text, saved with the model as `AutoTokenizer` reads them."""

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ["<pad>", "<s>", "</s>", "<unk>"]  # ids 0 to 3, as in configuration_uniglor.TEXT_DEFAULTS
KINDS = ("words", "subwords", "characters")


def train_tokenizer(texts, kind="words", vocab_size=8000, lowercase=True):
    """Learns a vocabulary from training texts.

    Args:
        texts: the training sentences.
        kind: "words" between spaces, each of them a token (PHOENIX14T, whose text is tokenised); "subwords" (How2Sign), a
            Unigram model; or "characters" (fingerspelling).
        vocab_size: at most so many tokens, of "subwords".
        lowercase: whether texts are lower-cased; the tokenizer then does it at every use.

    Returns:
        `PreTrainedTokenizerFast` that ends every text with `</s>`.
    """
    if kind not in KINDS:
        raise ValueError(f"Unknown tokenizer {kind!r}. Expected one of {', '.join(KINDS)}, or a folder with a tokenizer.")
    texts = [text for text in texts if text and text.strip()]
    if not texts:
        raise ValueError("Found no text to make a tokenizer from: the column 'text' is empty in every training row.")
    steps = [normalizers.NFC(), normalizers.Strip(), *([normalizers.Lowercase()] if lowercase else [])]
    if kind == "subwords":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=vocab_size, special_tokens=SPECIAL_TOKENS, unk_token="<unk>", show_progress=False, initial_alphabet=[]
        )
    else:
        tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
        if kind == "words":
            tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        else:
            tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Split(Regex("."), "isolated"), decoders.Fuse()
        trainer = trainers.WordLevelTrainer(vocab_size=10**9, special_tokens=SPECIAL_TOKENS, show_progress=False)
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,  # "morgen ." stays as the corpus writes it
    )


def share_unknown(tokenizer, texts):
    """Share of tokens in `texts` that the vocabulary does not hold; 0 where the tokenizer has no unknown token."""
    ids = [token for text in texts for token in tokenizer(text, add_special_tokens=False).input_ids]
    return sum(token == tokenizer.unk_token_id for token in ids) / max(len(ids), 1)
