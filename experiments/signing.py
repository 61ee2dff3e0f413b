"""Text-to-sign on rendered PHOENIX14T: the system, its ceilings and floors. The motion is procedural; no PHOENIX14T result.

Judges and systems are trained for a fixed number of steps with nothing selected. `regression` predicts latents; `ceiling_oracle` decodes
the real ones.
"""

import json
import shutil

import numpy as np

from experiments import corpora, translation
from experiments.intervals import t_interval
from experiments.pretraining import SMALL, TINY, names, pretrained
from experiments.readers import code_version
from experiments.results import Result
from experiments.workplace import words
from modeling_unigloR import SignMAEEncoderModel
from train import train_judges, train_text_to_sign
from train.engine.loading import load_pipeline
from train.evaluation.tables import without_nan
from train.evaluation.text_to_sign import evaluate_text_to_sign, load_readers

ROWS = {  # name in a report of `evaluate_text_to_sign`: name in the result
    "system, length=predicted": "regression",
    "ceiling: real keypoints": "ceiling_real",
    "ceiling: oracle latents": "ceiling_oracle",
    "floor: the training clip of the nearest sentence": "floor_retrieval",
    "floor: real keypoints backwards": "floor_backwards",
    "floor: another sentence's keypoints": "floor_another_sentence",
    "floor: a random training clip": "floor_random_clip",
    "floor: mean pose": "floor_mean_pose",
}
METRICS = (
    "lcs_f", "gloss_wer", "gloss_f1", "order", "bleu4", "speed", "motion", "variance_hands", "frechet", "frechet_seams", "diversity",
    "border_jump",
)  # fmt: skip
JUDGE = {name: value for name, value in translation.READER.items() if name != "text_config"}
SIZES = {
    "small": {"sign_mae": SMALL | {"segments_per_clip": 2}, "pretrain_steps": 1500, "judges": 2, "judge_steps": 1250,
              "steps": 1500, "seeds": 3, "limit": {"train": 1600, "validation": 266, "test": 519}, "model": {},
              "judge_text_config": translation.READER["text_config"]},
    "tiny": {"sign_mae": TINY, "pretrain_steps": 20, "judges": 1, "judge_steps": 4, "steps": 4, "seeds": 1,
             "limit": {"train": 48, "validation": 8, "test": 8}, "model": {"hidden_size": 32, "intermediate_size": 64},
             "judge_text_config": translation.READER["text_config"] | {"d_model": 32}},
}  # fmt: skip


def signing(place, sizes):
    """Runs on a corpus in which every token of a sign is signed alike."""
    return run(place, sizes, 0.0)


def signing_varied(place, sizes):
    """Runs on a corpus in which signers and tokens vary, which makes it as hard as real signs."""
    return run(place, sizes, 1.2)


def run(place, sizes, variation):
    files = corpora.rendered(place, variation, sizes["limit"])
    sign_mae = pretrained(place, [files["train"]], [files["validation"]], sizes["sign_mae"], sizes["pretrain_steps"])
    data = files["train"].parent
    judges = judges_of(place, sizes, data, sign_mae)
    reports = [report_of(place, sizes, files, sign_mae, judges, seed) for seed in range(sizes["seeds"])]
    rows = {}
    for report_row, row in ROWS.items():
        made = [{**report["rows"].get(report_row, {}), **report.get("panel", {}).get(report_row, {})} for report in reports]
        if any(made):
            rows[row] = {metric: _over_seeds(made, metric, row) for metric in METRICS if made[0].get(metric) is not None}
    return Result(
        what=f"text-to-sign on rendered PHOENIX14T, variation {variation:g}; no PHOENIX14T result",
        rows=rows,
        contrasts={},
        unit=f"t interval over the seeds of the system, where there are several; the mean of {sizes['judges']} judges",
        scored="once in this run; the official dev was scored by earlier versions of this table too",
        config=sizes | {"judge": JUDGE},
        predictions={"reports": reports},
        more={"sentences": reports[0]["num_scored"], "reader": reports[0].get("reader")},
    )


def judges_of(place, sizes, data, sign_mae):
    """Folders of frame-level readers of real keypoints. They only score; none of them chooses a checkpoint."""
    folder = place.path("judges", code_version(), data.name, sizes["judges"], sizes["judge_steps"], sizes["judge_text_config"], JUDGE)
    if not (folder / "judges.json").exists():
        fields = JUDGE | {
            "text_config": sizes["judge_text_config"],
            "max_steps": sizes["judge_steps"],
            "learning_rate": 1e-3,
            "use_cpu": True,
        }
        fields |= {"save_strategy": "steps", "save_steps": min(250, sizes["judge_steps"]), "save_total_limit": 1}
        options = [
            "--datasets",
            str(data),
            "--output_dir",
            str(folder),
            "--sign_mae",
            str(sign_mae),
            "--seeds",
            *map(str, range(sizes["judges"])),
        ]
        train_judges.main([*options, *words(fields)])
    return [folder / str(seed) for seed in range(sizes["judges"])]


def report_of(place, sizes, files, sign_mae, judges, seed):
    """What `evaluate_text_to_sign` says of the system of a seed, on the test sentences."""
    facts = [
        code_version(),
        names(files.values()),
        sign_mae.name,
        [path.parent.name for path in judges],
        sizes["steps"],
        sizes["model"],
        seed,
    ]

    def make():
        folder = place.path("text-to-sign", *facts)
        fields = sizes["model"] | {
            "max_steps": sizes["steps"],
            "learning_rate": 1e-3,
            "seed": seed,
            "output_dir": folder,
            "eval_strategy": "no",
        }
        fields |= {"save_steps": min(250, sizes["steps"]), "sign_mae": sign_mae, "datasets": files["train"]}
        fields |= {"load_best_model_at_end": False, "resume_from_checkpoint": True}
        train_text_to_sign.main(["phoenix_rendered_text_to_sign.yaml", *words(fields), "--validation", "[]"])
        pipe = load_pipeline("text-to-sign", str(folder), "cpu")
        encoder = SignMAEEncoderModel.from_pretrained(sign_mae)
        processor = pipe.feature_extractor
        test, train = (translation.clips_of(files[part], processor) for part in ("test", "train"))
        readers = load_readers([str(path) for path in judges], "cpu")
        report, _ = evaluate_text_to_sign(pipe.model, pipe.tokenizer, processor, encoder, test, train, readers)
        shutil.rmtree(folder)
        return json.loads(json.dumps(without_nan(report), default=float))

    return place.once(place.path("signing", *facts), make)


def _over_seeds(made, metric, row):
    """A metric's mean and interval over seeds; ceilings and floors do not depend on the seed, so theirs are of one report."""
    values = [float(seed_scores[metric]) for seed_scores in made] if row == "regression" else [float(made[0][metric])]
    return {"mean": float(np.mean(values)), "interval": t_interval(values), "seeds": len(values)}
