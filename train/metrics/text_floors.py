"""Scores of sentences that were chosen without understanding the signs, and how much of a score comes from memorised sentences.

These rows stand in the same table as the system.

Shapes: M training clips, N scored clips, D latent size.
"""

from collections import Counter

import numpy as np

from train.metrics.text import BLEU, BLEU_VARIANTS, ORDERS, bleu_of_counts, clean, text_scores


def random_sentence_floor(train_texts, references, seeds=(0, 1, 2), **options):
    """The scores of one random training sentence for each clip.

    Args:
        train_texts: M strings, drawn as often as they stand there.
        references: N strings.
        seeds: one sentence is drawn for each clip and seed.
        options: go to `text_scores`.

    Returns:
        As `text_scores`, means over the seeds; and `std`, each score's standard deviation over the seeds (0 for one seed).
    """
    train_texts = _checked(train_texts)
    runs = []
    for seed in seeds:
        drawn = np.random.default_rng(seed).integers(len(train_texts), size=len(references))
        runs.append(text_scores([train_texts[index] for index in drawn], references, **options))
    first = runs[0]
    values = np.array([[run[name] for name in first["signatures"]] for run in runs])  # (seeds, scores)
    std = values.std(0, ddof=1) if len(runs) > 1 else np.zeros(values.shape[1])
    signatures = {name: f"{signature}|seeds:{','.join(map(str, seeds))}" for name, signature in first["signatures"].items()}
    means, std = (dict(zip(signatures, numbers.tolist())) for numbers in (values.mean(0), std))
    return {**first, **means, "std": std, "signatures": signatures}


def constant_sentence_floor(train_texts, references, final_dot="keep", **options):
    """The scores of one sentence for all clips: the training sentence that does best on the training set itself.

    Args:
        train_texts: M strings.
        references: N strings.
        final_dot: as for `text_scores`; holds while the sentence is chosen, too.
        options: go to `text_scores`.

    Returns:
        As `text_scores`; and `sentence`, the one chosen.
    """
    sentence = best_constant_sentence(train_texts, final_dot)
    return {**text_scores([sentence] * len(references), references, final_dot, **options), "sentence": sentence}


def best_constant_sentence(train_texts, final_dot="keep"):
    """The training sentence with the best `slt` BLEU-4 as the answer to every training sentence.

    BLEU-3, 2 and 1 decide between equals, then the first place.

    The search is exact, and linear in the number of n-grams of the training set: the matches of a constant hypothesis are the sum over
    references of min(its count of an n-gram, theirs). That is, for each of its n-grams and each k up to its count, the number of references
    that hold the n-gram at least k times: a table that one pass makes for all candidates.
    """
    train_texts = _checked(train_texts)
    tokens = [clean(text, final_dot).lower().split() for text in train_texts]
    ngrams = [Counter(tuple(words[i : i + n]) for n in ORDERS for i in range(len(words) - n + 1)) for words in tokens]
    num_holding = Counter((ngram, k) for counts in ngrams for ngram, count in counts.items() for k in range(1, count + 1))
    reference_length = sum(len(words) for words in tokens)
    metric = BLEU(**BLEU_VARIANTS["slt"])

    def corpus_scores(index):
        length, matches = len(tokens[index]), [0] * len(ORDERS)
        for ngram, count in ngrams[index].items():
            matches[len(ngram) - 1] += sum(num_holding[ngram, k] for k in range(1, count + 1))
        totals = [len(tokens) * max(length - order + 1, 0) for order in ORDERS]
        counts = [len(tokens) * length, reference_length, *matches, *totals]
        return [bleu_of_counts(counts, order, metric) for order in reversed(ORDERS)]

    first_places = {tuple(words): index for index, words in reversed(list(enumerate(tokens)))}
    return train_texts[max(sorted(first_places.values()), key=corpus_scores)]


def retrieval_floor(train_latents, train_texts, latents, references, **options):
    """The scores of the sentence of the nearest training clip.

    Args:
        train_latents: (M, D), each training clip's mean latent.
        train_texts: M strings.
        latents: (N, D), each scored clip's mean latent.
        references: N strings.
        options: go to `text_scores`.

    Returns:
        As `text_scores`.
    """
    nearest = nearest_clip(train_latents, latents)
    train_texts = _checked(train_texts)
    if len(train_texts) != len(train_latents):
        raise ValueError(f"{len(train_texts)} training texts for {len(train_latents)} training latents; give one latent for each text")
    return text_scores([train_texts[index] for index in nearest], references, **options)


def nearest_clip(train_latents, latents, batch_size=256):
    """The training clip whose mean latent is nearest: (M, D), (N, D) -> (N,) indices.

    The distance is Euclidean, after each dimension is standardised over the training clips' means. Latents are standardised over
    segments, which leaves their means over clips with unequal spreads: without this step the widest dimension would decide.
    """
    train_latents, latents = np.asarray(train_latents, dtype=np.float64), np.asarray(latents, dtype=np.float64)
    if train_latents.ndim != 2 or latents.ndim != 2 or train_latents.shape[1] != latents.shape[1]:
        raise ValueError(
            f"mean latents must be (M, D) and (N, D), not {train_latents.shape} and {latents.shape}; give one vector for each clip"
        )
    for name, values in (("train_latents", train_latents), ("latents", latents)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} of {int((~np.isfinite(values)).any(1).sum())} clips are not finite; average over real segments alone")
    mean, std = train_latents.mean(0), train_latents.std(0)
    std[std == 0] = 1
    train_latents, latents = (train_latents - mean) / std, (latents - mean) / std
    squared = np.square(train_latents).sum(1)  # (M,)
    starts = range(0, len(latents), batch_size)
    nearest = [(squared - 2 * latents[start : start + batch_size] @ train_latents.T).argmin(1) for start in starts]
    return np.concatenate(nearest) if nearest else np.zeros(0, dtype=int)


def share_verbatim(predictions, train_texts):
    """How many of the predictions, in per cent, are a training sentence word for word; empty ones are not."""
    seen = {_sentence_key(text) for text in _checked(train_texts)}
    if not len(predictions):
        raise ValueError("there are no predictions; give at least one")
    keys = [_sentence_key(prediction or "") for prediction in predictions]
    return 100 * sum(key != "" and key in seen for key in keys) / len(keys)


def scores_by_seen(predictions, references, train_texts, **options):
    """The scores over the references that are training sentences, and over the others.

    Returns:
        A dict with `seen` and `unseen`, each as `text_scores`, or only `num_scored` = 0 where no reference is of that kind.
    """
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references; give one prediction each")
    training_keys = {_sentence_key(text) for text in _checked(train_texts)}
    split = {"seen": [], "unseen": []}
    for pair in zip(predictions, references):
        split["seen" if _sentence_key(pair[1] or "") in training_keys else "unseen"].append(pair)
    return {name: text_scores(*zip(*pairs), **options) if pairs else {"num_scored": 0} for name, pairs in split.items()}


def _sentence_key(text):
    """A key that is the same for sentences which differ only in case, spaces or the final full stop."""
    return clean(text, "strip").lower()


def _checked(train_texts):
    train_texts = list(train_texts)
    if not train_texts:
        raise ValueError("there are no training texts; give at least one")
    for index, text in enumerate(train_texts):
        if not isinstance(text, str):
            raise ValueError(f"training text {index} is {type(text).__name__}, not a string; drop rows without a text")
    return train_texts
