"""Real sentences of the Public DGS Corpus: 32 learnt by heart, and which sentence of an unseen signer's belongs to which clip.

    python -m experiments.dgs_sentences --data_dir DIR --output_dir OUT --json experiments/results/dgs-sentences.json

DIR holds `sentences.csv` (id, document, german, fps) and `motion/<id>.npz` with `keypoints` (T, 134): BODY_25 and two hands,
relative to a 16:9 image. 242 sentences teach no one to translate; so the test asks less: of the test document's sentences, which does
the model find most probable for a clip? By log p(sentence | clip) minus its mean over the clips, which sentences that are
probable anyway would win without it. Recall@5 stands beside chance and the band in which chance lies 19 times of 20.
"""

import csv
import json
import time
from pathlib import Path

import datasets
import numpy as np
import torch
from scipy.stats import binom
from transformers import pipeline

from datasets_scripts.schema import features
from train import pretrain, train_sign_to_text
from train.data.clips import Clips, pad
from train.engine.commands import CommandParser
from train.evaluation.translation import translate
from train.metrics.text import text_scores

TEST_DOCUMENT = "1413683"
NUM_BY_HEART = 32
SMALL = {
    "hidden_size": 128, "num_hidden_layers": 1, "decoder_num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 256,
    "graph_channels": 8, "relation_channels": 4, "temporal_branch_channels": 2,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "segments_per_clip": 8, "per_device_train_batch_size": 64,
    "learning_rate": "2e-3", "lr_scheduler_kwargs": "{min_lr_rate: 0.02}", "eval_strategy": "no", "save_strategy": "no",
}  # fmt: skip
TEXT_MODEL = (
    "{d_model: 128, encoder_layers: 2, decoder_layers: 2, encoder_attention_heads: 4, decoder_attention_heads: 4, encoder_ffn_dim: 256, "
    "decoder_ffn_dim: 256, dropout: %s, attention_dropout: 0.0}"
)


def parse(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pretrain_steps", type=int, default=1000)
    parser.add_argument("--by_heart_steps", type=int, default=400)
    parser.add_argument("--ranking_steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv=None):
    arguments = parse(argv)
    data, sign_mae = arguments.output_dir / "data", arguments.output_dir / "sign-mae"
    if not data.exists():
        write_rows(arguments.data_dir, data)
    if not (sign_mae / "report.json").exists():
        fields = SMALL | {"max_steps": arguments.pretrain_steps, "output_dir": sign_mae, "overwrite_output_dir": True}
        fields["seed"] = arguments.seed
        pretrain.main(["demo.yaml", *words(fields), "--datasets", str(data / "train.parquet"), "--validation", str(data / "test.parquet")])
    by_heart = learn(arguments, "by-heart", data / "by_heart.parquet", sign_mae, arguments.by_heart_steps, dropout=0.0)
    clips = Clips([str(data / "by_heart.parquet")], "train", by_heart.feature_extractor)
    scores = text_scores(translate(by_heart.model, by_heart.tokenizer, clips), clips.texts, families=("slt", "error_rates"))
    ranking = learn(arguments, "ranking", data / "train.parquet", sign_mae, arguments.ranking_steps, dropout=0.3)
    test = Clips([str(data / "test.parquet")], "test", ranking.feature_extractor)
    result = {
        "what": "Public DGS Corpus: train documents 1413703 and 1413451-11105600-11163240, test document 1413683 (another signer)",
        "date": time.strftime("%Y-%m-%d"),
        "arguments": {name: str(value) for name, value in vars(arguments).items() if not name.endswith(("dir", "json"))},
        "by_heart": {
            "sentences": len(clips),
            "train_bleu4": scores["bleu4"],
            "train_wer": scores["wer"],
            "signature": scores["signatures"]["bleu4"],
        },
        "ranking": ranks(log_likelihoods(ranking.model, ranking.tokenizer, test)),
    }
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return result


def write_rows(data_dir, folder):
    """train.parquet, by_heart.parquet (the first sentences of train) and test.parquet, in the canonical schema."""
    splits = {"train": [], "test": []}
    with open(data_dir / "sentences.csv", encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            keypoints = np.load(data_dir / "motion" / f"{line['id']}.npz")["keypoints"].reshape(-1, 67, 2).astype(np.float32)
            seen = (keypoints != 0).any(-1).astype(np.float32)
            row = dict(
                id=line["id"], keypoints=keypoints, confidence=seen, layout="openpose67", fps=float(line["fps"]), width=16, height=9,
                text=line["german"], gloss=line["gloss"], label=None, signer=None, language="gsg",
            )  # fmt: skip
            splits["test" if line["document"] == TEST_DOCUMENT else "train"].append(row)
    splits["by_heart"] = splits["train"][:NUM_BY_HEART]
    folder.mkdir(parents=True)
    for name, rows in splits.items():
        datasets.Dataset.from_list(rows, features=features(67, 2)).to_parquet(folder / f"{name}.parquet")


def learn(arguments, name, path, sign_mae, steps, dropout):
    """A SignToText on the sentences of one file, as its pipeline."""
    folder = arguments.output_dir / name
    if not (folder / "report.json").exists():
        fields = {
            "sign_mae": sign_mae, "datasets": path, "output_dir": folder, "max_steps": steps, "text_config": TEXT_MODEL % dropout,
            "learning_rate": "1e-3", "lr_scheduler_kwargs": "{min_lr_rate: 0.02}", "per_device_train_batch_size": 16,
            "save_strategy": "no", "overwrite_output_dir": True, "seed": arguments.seed, "max_new_tokens": 60,
        }  # fmt: skip
        train_sign_to_text.main(["paper_sign_to_text.yaml", *words(fields), "--validation", "[]"])
    return pipeline("sign-to-text", model=str(folder), device="cpu")


def words(fields):
    return [word for name, value in fields.items() for word in (f"--{name}", str(value))]


def log_likelihoods(model, tokenizer, clips):
    """(clips, sentences): log p(sentence of clip j | clip i)."""
    labels, _ = pad([torch.tensor(ids) for ids in tokenizer(text_target=clips.texts).input_ids], value=-100)
    rows = []
    for index in range(len(clips)):
        latents, mask = model.encode_sequence(torch.from_numpy(clips.keypoints(index)[0])[None])
        same = {"latents": latents.expand(len(labels), -1, -1), "latent_mask": mask.expand(len(labels), -1)}
        rows.append(model.score(labels, **same)[0])
    return torch.stack(rows).numpy()


def ranks(log_likelihood, top=5):
    """Ranks, 1 the best, of the true sentence for each clip and of the true clip for each sentence, with chance beside them."""
    score = log_likelihood - log_likelihood.mean(0)  # what a sentence is worth anyway does not count
    size = len(score)
    true = np.diag(score)
    found = {"sentence_of_clip": 1 + (score > true[:, None]).sum(1), "clip_of_sentence": 1 + (score > true).sum(0)}
    chance = top / size
    return {
        **{
            name: {f"recall@{top}": float((rank <= top).mean()), "median_rank": float(np.median(rank)), "ranks": rank.tolist()}
            for name, rank in found.items()
        },
        "chance": {
            f"recall@{top}": chance,
            "band_95": (binom.ppf([0.025, 0.975], size, chance) / size).tolist(),
            "median_rank": (size + 1) / 2,
        },
        "num_clips": size,
    }


if __name__ == "__main__":
    main()
