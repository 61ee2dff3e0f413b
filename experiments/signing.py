"""Text-to-sign on rendered PHOENIX14T, where the motion is procedural, and on spliced real signs: systems, their ceilings and floors.

Judges and systems are trained for a fixed number of steps. `regression` predicts latents, `codes_flow` samples them, at equal steps; rows
of `..._reference_length` have the real clips' lengths. `retrieval` stitches phrases of training clips, `ceiling_oracle` decodes the real
latents. Each system has the best of some learning rates by a reader of glosses on held-out training sentences; no table uses that reader.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments import corpora, spliced_signs, translation
from experiments.include import SIZES as INCLUDE_SIZES
from experiments.include import trained_on_the_mix
from experiments.intervals import t_interval
from experiments.pretraining import SMALL, TINY, names, pretrained
from experiments.readers import code_version, rate_that_is_best
from experiments.results import Result
from experiments.workplace import Workplace, words
from modeling_unigloR import SignMAEEncoderModel, SignToText, TextToSign
from train import train_judges, train_text_to_sign
from train.data.clips import Clips
from train.engine.loading import load_pipeline
from train.evaluation.tables import without_nan
from train.evaluation.text_to_sign import PHRASES, evaluate_text_to_sign, keypoints_of, load_readers, sign
from train.metrics.gloss_reader import GlossReader

DECODERS = ("regression", "codes_flow")
SYSTEM_ROWS = {  # name in a report of `evaluate_text_to_sign`: what follows the decoder's name in the result
    "system, length=predicted": "",
    "system, length=reference": "_reference_length",
}
ROWS = {  # name in the report: name in the result; they do not depend on the system
    PHRASES: "retrieval",
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
              "steps": 1500, "rates": [5e-4, 1e-3, 2e-3], "seeds": 3, "limit": {"train": 1600, "validation": 266, "test": 519}, "model": {},
              "judge_text_config": translation.READER["text_config"], "corpus": "small"},
    "tiny": {"sign_mae": TINY, "pretrain_steps": 20, "judges": 1, "judge_steps": 4, "steps": 4, "rates": [1e-3], "seeds": 1,
             "limit": {"train": 48, "validation": 8, "test": 8}, "model": {"hidden_size": 32, "intermediate_size": 64, "codebook_size": 32},
             "judge_text_config": translation.READER["text_config"] | {"d_model": 32}, "corpus": "tiny"},
}  # fmt: skip


def signing(place, sizes):
    """Runs on a corpus in which every token of a sign is signed alike."""
    return _rendered(place, sizes, 0.0)


def signing_varied(place, sizes):
    """Runs on a corpus in which signers and tokens vary, which makes it as hard as real signs."""
    return _rendered(place, sizes, 1.2)


def signing_spliced(place, sizes):
    """Runs on sentences of real signs, several takes of each: does a system choose one, or blur them? The SignMAE saw none of them."""
    fold = next(iter(spliced_signs.FOLDS))
    folder = spliced_signs.build(place.data("real", "include43"), place.output_dir, fold, sizes["corpus"])
    files = {split: next(folder.glob(f"{split}-*.parquet")) for split in ("train", "validation", "test")}
    _, _, [sign_mae] = trained_on_the_mix(place, INCLUDE_SIZES[sizes["corpus"]] | {"pretrain_seeds": 1})
    what = "text-to-sign on sentences spliced of real INCLUDE clips, tested on sentences of recording sessions that were never trained on"
    scored = "once in this run; the clips that its sentences are compared with are of other sessions than those that were learnt"
    return run(place, sizes, files, sign_mae, what, scored)


def _rendered(place, sizes, variation):
    files = corpora.rendered(place, variation, sizes["limit"])
    sign_mae = pretrained(place, [files["train"]], [files["validation"]], sizes["sign_mae"], sizes["pretrain_steps"])
    what = f"text-to-sign on rendered PHOENIX14T, variation {variation:g}; no PHOENIX14T result"
    return run(place, sizes, files, sign_mae, what, "once in this run; the official dev was scored by earlier versions of this table too")


def run(place, sizes, files, sign_mae, what, scored):
    """The `Result` of the systems on one corpus, of which `files` are the splits."""
    judges = judges_of(place, sizes, files["train"].parent, sign_mae)
    rows, reports, rates = {}, {}, {}
    for decoder in DECODERS:
        system = System(place, sizes, files, sign_mae, decoder)
        rates[decoder] = rate_that_is_best(sizes["rates"], system.score_of_rate)
        reports[decoder] = [system.report(judges, rates[decoder], seed) for seed in range(sizes["seeds"])]
        rows |= {f"{decoder}{suffix}": _row(reports[decoder], name) for name, suffix in SYSTEM_ROWS.items()}
    first = reports[DECODERS[0]][:1]
    rows |= {row: _row(first, name) for name, row in ROWS.items()}
    return Result(
        what=what,
        rows={name: row for name, row in rows.items() if row},
        contrasts={},
        unit=f"t interval over the seeds of the system, where there are several; the mean of {sizes['judges']} judges",
        scored=scored,
        config=sizes | {"judge": JUDGE, "chosen_rates": rates},
        predictions={"reports": reports},
        more={
            "sentences": first[0]["num_scored"],
            "reader": first[0].get("reader"),
            "lengths": {decoder: [report["lengths"] for report in reports[decoder]] for decoder in DECODERS},
        },
    )


def judges_of(place, sizes, data, sign_mae):
    """Folders of frame-level readers of real keypoints. They only score; none of them chooses a checkpoint."""
    facts = data.name, sizes["judges"], sizes["judge_steps"], sizes["judge_text_config"], JUDGE
    folder = place.path("judges", code_version(SignToText), *facts)
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


@dataclass
class System:
    """Models of one decoder of latents on one SignMAE, one for each learning rate and seed."""

    place: Workplace
    sizes: dict
    files: dict[str, Path]
    sign_mae: Path
    decoder: str

    def score_of_rate(self, rate: float) -> float:
        """LCS-F on the held-out training sentences, of the first seed, by a reader of every second training clip."""

        def make():
            pipe = self.trained(rate, 0)
            held_out, train = (translation.clips_of(self.files[part], pipe.feature_extractor) for part in ("validation", "train"))
            signed = sign(pipe.model, pipe.tokenizer, held_out.texts, **({"seed": 0} if pipe.model.samples else {}))
            return held_out_lcs(signed, held_out, train)

        return self.place.once(self.place.path("signing-rate", *self._facts(rate, 0)), make)

    def report(self, judges: list[Path], rate: float, seed: int) -> dict:
        """What `evaluate_text_to_sign` says on the test sentences."""

        def make():
            pipe = self.trained(rate, seed)
            encoder = SignMAEEncoderModel.from_pretrained(self.sign_mae)
            test, train = (translation.clips_of(self.files[part], pipe.feature_extractor) for part in ("test", "train"))
            readers = load_readers([str(path) for path in judges], "cpu")
            report, _ = evaluate_text_to_sign(pipe.model, pipe.tokenizer, pipe.feature_extractor, encoder, test, train, readers)
            shutil.rmtree(self._folder(rate, seed))
            return json.loads(json.dumps(without_nan(report), default=float))

        return self.place.once(self.place.path("signing", *self._facts(rate, seed), [path.parent.name for path in judges]), make)

    def trained(self, rate, seed):
        """The pipeline of a learning rate and a seed; a training that was killed goes on."""
        folder = self._folder(rate, seed)
        if not (folder / "report.json").exists():
            fields = self.sizes["model"] | {"latent_decoder": self.decoder, "max_steps": self.sizes["steps"], "learning_rate": rate}
            fields |= {"seed": seed, "output_dir": folder, "sign_mae": self.sign_mae, "datasets": self.files["train"]}
            fields |= {"eval_strategy": "no", "save_steps": min(250, self.sizes["steps"])}
            fields |= {"load_best_model_at_end": False, "resume_from_checkpoint": True}
            train_text_to_sign.main(["phoenix_rendered_text_to_sign.yaml", *words(fields), "--validation", "[]"])
        return load_pipeline("text-to-sign", str(folder), "cpu")

    def _folder(self, rate, seed):
        return self.place.path("text-to-sign", *self._facts(rate, seed))

    def _facts(self, rate, seed):
        sizes = self.sizes["steps"], self.sizes["model"]
        return code_version(TextToSign), names(self.files.values()), self.sign_mae.name, *sizes, self.decoder, rate, seed


def held_out_lcs(signed: list[np.ndarray], held_out: Clips, train: Clips) -> float:
    """LCS-F of what was signed for held-out training sentences, by a reader of every second training clip."""
    keypoints, _ = keypoints_of(train)
    reader = GlossReader(keypoints[::2], [line.split() for line in train.glosses[::2]])
    return reader.scores(signed, [line.split() for line in held_out.glosses])["lcs_f"]


def _row(reports, name):
    """Each metric's mean and interval over the reports of some seeds, of one of their rows."""
    made = [{**report["rows"].get(name, {}), **report.get("panel", {}).get(name, {})} for report in reports]
    values = {
        metric: [float(scores[metric]) for scores in made] for metric in METRICS if all(scores.get(metric) is not None for scores in made)
    }
    return {metric: {"mean": float(np.mean(each)), "interval": t_interval(each), "seeds": len(each)} for metric, each in values.items()}
