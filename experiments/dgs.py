"""Real sentences of the Public DGS Corpus: which of a document's sentences belongs to which of its clips.

242 sentences are too few to learn translation, so the test asks for less. Every document is left out in turn: a SignMAE and a translator
learn from the others, and the translator ranks the left-out document's sentences for each of its clips, by log p(sentence | clip) minus
the sentence's mean over the clips. Without this mean, sentences that are probable for any clip would win. Long clips go with long
sentences. Therefore a floor that knows lengths alone is scored too, candidates are also matched in length, and permutations show what
chance reaches.

Metrics, in per cent: `recall5`, whether the true sentence is among a clip's first five of the whole document; `recall5_matched`, of
the twenty sentences that are nearest in length to the true one. Means over the documents; each document is in `documents`. There are too
few of them for an interval.
"""

import shutil

import datasets
import numpy as np
import torch
from transformers import AutoFeatureExtractor, pipeline

from datasets_scripts.schema import features
from experiments import corpora, translation
from experiments.include import representations
from experiments.intervals import pairs, permutation_p
from experiments.pretraining import SMALL, TINY, names, pretrained, untrained
from experiments.readers import code_version, rate_that_is_best
from experiments.results import Result
from experiments.workplace import Workplace
from modeling_unigloR import SignToText
from train.data.clips import pad

TOP, NUM_MATCHED = 5, 20
READER = translation.READER | {
    "text_config": translation.READER["text_config"] | {"encoder_ffn_dim": 256, "decoder_ffn_dim": 256, "dropout": 0.3},
    "per_device_train_batch_size": 16,
}
NARROW = SMALL | {"hidden_size": 128, "num_hidden_layers": 1, "decoder_num_hidden_layers": 1, "num_attention_heads": 4,
                  "intermediate_size": 256, "graph_channels": 8, "temporal_branch_channels": 2, "learning_rate": 2e-3}  # fmt: skip
SIZES = {
    "small": {"sign_mae": NARROW, "pretrain_steps": 800, "rates": [5e-4, 1e-3, 2e-3], "seeds": 3, "steps": 400, "limit": None},
    "tiny": {"sign_mae": TINY, "pretrain_steps": 10, "rates": [1e-3], "seeds": 1, "steps": 6, "limit": 24},
}


def run(place: Workplace, sizes: dict) -> Result:
    """Tests on every document in turn and averages the scores."""
    documents, rates, predictions = {}, {}, {}
    for name, files in document_files(place, sizes["limit"]).items():
        documents[name], rates[name], predictions[name] = of_document(place, sizes, name, files)
    rows = {}
    for row in next(iter(documents.values())):
        seeds = max(documents[name][row]["seeds"] for name in documents)
        rows[row] = {
            metric: {"mean": float(np.mean([documents[name][row][metric] for name in documents])), "interval": None, "seeds": seeds}
            for metric in ("recall5", "recall5_matched")
        }
    contrasts = {
        f"{one} - {other}": {
            metric: {"mean": rows[one][metric]["mean"] - rows[other][metric]["mean"], "interval": None} for metric in rows[one]
        }
        for one, other in pairs(rows)
    }
    return Result(
        what="Public DGS Corpus: which sentence of a left-out document a clip shows, in per cent",
        rows=rows,
        contrasts=contrasts,
        unit=f"none: {len(documents)} documents are too few, see `documents`",
        scored="once in this run; the learning rate was chosen by the loss of held-out sentences of the training documents",
        config=sizes | {"reader": READER, "top": TOP, "matched": NUM_MATCHED, "learning_rates_chosen": rates},
        predictions=predictions,
        more={"documents": documents, "tolerance": {"recall5": 10.0, "recall5_matched": 10.0}},
    )


def of_document(place, sizes, name, files):
    """-> {row: recalls, chance and permutation tests}, the learning rates, and the ranks."""
    trained = pretrained(place, [files["train"], files["held"]], [], sizes["sign_mae"], sizes["pretrain_steps"])
    never_trained = untrained(place, [files["train"], files["held"]], sizes["sign_mae"])
    processor = AutoFeatureExtractor.from_pretrained(trained)
    learnt_from = [files["train"], files["held"]]
    systems, _ = representations([trained], [never_trained], learnt_from, sizes["sign_mae"]["hidden_size"])
    systems["ceiling_true_glosses"] = [("glosses", translation.true_glosses(sizes["sign_mae"]["hidden_size"]))]
    train, test = (translation.clips_of(files[part], processor) for part in ("all_others", "test"))
    scores, chosen, ranks = {}, {}, {}
    for row, [(facts, encode)] in systems.items():
        matrices, chosen[row] = log_likelihoods(place, files, [row, facts], encode, sizes, processor)
        scores[row], ranks[row] = _scores([np.array(matrix) for matrix in matrices], test.texts)
    floor = length_floor(train.num_frames, train.texts, test.num_frames, test.texts)
    scores["floor_length"], ranks["floor_length"] = _scores([floor], test.texts)
    return scores, chosen, ranks


def log_likelihoods(place, files, row, encode, sizes, processor):
    """[(clips, sentences): log p(sentence of clip j | clip i)] of each seed, and the learning rate that was chosen."""

    def made(part, tested, rate, seed, steps):
        facts = [code_version(SignToText), names([files[part], files[tested]]), row, rate, seed, steps, READER]

        def make():
            training_files = {"train": files[part]}
            folder, reading = translation.train(place, training_files, row, encode, rate, seed, steps, processor, fields=READER)
            pipe = pipeline("sign-to-text", model=str(folder), device="cpu")
            clips = translation.clips_of(files[tested], processor)
            likelihoods = score_all(pipe.model, pipe.tokenizer, reading.build(clips), clips.texts)
            shutil.rmtree(folder)
            return likelihoods.tolist()

        return place.once(place.path("likelihoods", facts), make)

    def score(rate):
        return float(np.diag(made("train", "held", rate, 0, max(1, sizes["steps"] // 4))).mean())

    rate = rate_that_is_best(sizes["rates"], score)
    return [made("all_others", "test", rate, seed, sizes["steps"]) for seed in range(sizes["seeds"])], rate


@torch.no_grad()
def score_all(model, tokenizer, vectors, texts):
    """(clips, sentences): log p(sentence j | clip i)."""
    labels, _ = pad([torch.tensor(ids) for ids in tokenizer(text_target=list(texts)).input_ids], value=-100)
    rows = []
    for index in range(len(vectors)):
        latents = torch.from_numpy(vectors[index])[None].expand(len(labels), -1, -1)
        rows.append(model.score(labels, latents=latents, latent_mask=torch.ones(latents.shape[:2], dtype=torch.long))[0])
    return torch.stack(rows).numpy()


def length_floor(train_frames: np.ndarray, train_texts: list[str], frames: np.ndarray, texts: list[str]) -> np.ndarray:
    """(clips, sentences): minus how far a sentence's log length is from the one that a line predicts from the clip's log length."""
    slope, start = np.polyfit(np.log(train_frames), np.log(words_in(train_texts)), 1)
    return -np.abs(np.log(words_in(texts))[None] - (start + slope * np.log(frames))[:, None])


def words_in(texts: list[str]) -> np.ndarray:
    return np.array([max(1, len(text.split())) for text in texts])


def _scores(matrices, texts):
    """Scores the seeds' log-likelihoods -> recalls in per cent, chance, and permutation tests of the first seed; and the ranks."""
    lengths = words_in(texts)
    candidates = matched(lengths)
    relative = [matrix - matrix.mean(0) for matrix in matrices]  # no advantage for sentences that are probable for any clip
    ranks = [ranks_among(matrix, np.arange(len(matrix)), None).tolist() for matrix in relative]
    ranks_matched = [ranks_among(matrix, np.arange(len(matrix)), candidates).tolist() for matrix in relative]
    blocks = np.argsort(np.argsort(lengths, kind="stable")) // 10  # sentences of like length
    return {
        "recall5": _recall(ranks),
        "recall5_matched": _recall(ranks_matched),
        "chance": 100 * min(1.0, TOP / len(texts)),
        "chance_matched": 100 * min(1.0, TOP / candidates.shape[1]),
        "p": permutation_p(lambda order: _recall([ranks_among(relative[0], order, None)]), len(texts), 500),
        "p_within_length": permutation_p(lambda order: _recall([ranks_among(relative[0], within(order, blocks), None)]), len(texts), 500),
        "seeds": len(matrices),
    }, {"recall5": ranks, "recall5_matched": ranks_matched}


def ranks_among(scores: np.ndarray, true: np.ndarray, candidates: np.ndarray | None) -> np.ndarray:
    """Rank, 1 the best, of sentence true[i] for each clip i, among all sentences or (clips, M) candidates of each."""
    rows = np.arange(len(scores))
    reached = scores[rows, true][:, None]
    others = scores if candidates is None else scores[rows[:, None], candidates]
    return 1 + (others > reached).sum(1)


def matched(lengths: np.ndarray) -> np.ndarray:
    """(clips, M): the sentences that are nearest in length to each clip's own, which is the first of them."""
    order = np.argsort(np.abs(lengths[:, None] - lengths[None]) - np.eye(len(lengths)), axis=1, kind="stable")
    return order[:, : min(NUM_MATCHED, len(lengths))]


def within(order: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """A permutation that leaves every item in its block: the items of a block come in the order that they have in `order`."""
    within_blocks = np.arange(len(order))
    for block in np.unique(blocks):
        here = np.flatnonzero(blocks == block)
        within_blocks[here] = order[np.isin(order, here)]
    return within_blocks


def _recall(ranks):
    return float(100 * (np.array(ranks) <= TOP).mean())


def document_files(place, limit=None):
    """{document: {"train", "held", "all_others", "test": Parquet files}}: `held` is every sixth sentence of the other documents."""
    source = place.data("real", "dgs_sentences")
    lines = corpora.read_csv(source / "sentences.csv")
    files = {}
    for document in sorted({line["document"] for line in lines}):

        def write(folder, document=document):
            others = [line for line in lines if line["document"] != document][:limit]
            parts = {
                "train": [line for number, line in enumerate(others) if number % 6],
                "held": others[::6],
                "all_others": others,
                "test": [line for line in lines if line["document"] == document][:limit],
            }
            for part, part_lines in parts.items():
                rows = [_row(source, line) for line in part_lines]
                datasets.Dataset.from_list(rows, features=features(67, 2)).to_parquet(folder / f"{part}.parquet")

        folder = place.folder_once(place.path("dgs", document, limit), write)
        files[document] = {path.stem: path for path in folder.glob("*.parquet")}
    return files


def _row(source, line):
    keypoints = np.load(source / "motion" / f"{line['id']}.npz")["keypoints"].reshape(-1, 67, 2).astype(np.float32)
    seen = (keypoints != 0).any(-1).astype(np.float32)
    return dict(
        id=line["id"], keypoints=keypoints, confidence=seen, layout="openpose67", fps=float(line["fps"]), width=16, height=9,
        text=line["german"], gloss=line["gloss"], label=None, signer=None, language="gsg",
    )  # fmt: skip
