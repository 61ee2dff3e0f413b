"""Scale `paper`: ours trained by train/configs/paper*.yaml as they stand, on a GPU where there is one; nothing of them is repeated here."""

import json
from pathlib import Path

from experiments.paper import decoding
from experiments.pretraining import names
from experiments.readers import code_version
from experiments.workplace import Workplace, words
from modeling_unigloR import SignMAEEncoderModel
from train import train_judges, train_sign_to_text, train_text_to_sign
from train.data.clips import Clips, LatentStore
from train.engine.arguments import read_fields
from train.engine.loading import load_pipeline
from train.evaluation.tables import without_nan
from train.evaluation.text_to_sign import evaluate_text_to_sign, load_readers

UNSELECTED = {"early_stopping_patience": None, "eval_strategy": "no", "load_best_model_at_end": False}  # of baselines
OF_A_SIGNER = (  # fields of text-to-sign that its baselines have too
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_dropout_prob", "per_device_train_batch_size",
    "lr_scheduler_kwargs", "warmup_steps", "max_warmup_steps", "adam_beta2", "weight_decay", "max_segments",
)  # fmt: skip
READING, SIGNING = "paper_sign_to_text.yaml", "paper_text_to_sign.yaml"


def values_in(config: str) -> dict:
    """The fields of a file in train/configs."""
    return dict(read_fields([config], config))


def translations(
    place: Workplace, files: dict[str, Path], sign_mae: Path, sizes: dict, stride: int, tuned: bool = False
) -> tuple[list[list[str]], float, dict]:
    """What `SignToText` on the latents of a SignMAE makes of the test sentences: texts of each seed, learning rate, facts.

    Args:
        tuned: whether beams and length penalty are chosen on the validation sentences, as the baselines'; else the config's beams.
    """
    settings = values_in(READING)
    texts_of_seeds, facts = [], {}
    for seed in range(sizes["seeds"]):

        def make(seed=seed):
            folder, report = reader(place, files, sign_mae, sizes, stride, seed)
            pipe = load_pipeline("sign-to-text", str(folder))
            held_out, test = (Clips([str(files[part])], part, pipe.feature_extractor) for part in ("validation", "test"))
            read, test_latents = (LatentStore.build(clips, pipe.model.sign_mae, pipe.model.config.stride) for clips in (held_out, test))
            chosen = {"num_beams": settings["generation_num_beams"]}
            if tuned:
                chosen = decoding.best_decoding(pipe.model, pipe.tokenizer, read, held_out.texts)
            texts = decoding.translate(pipe.model, pipe.tokenizer, test_latents, chosen)
            return [texts, decoding.facts_of(pipe.model, report) | chosen]

        texts, facts = place.once(place.path("paper-translations", *_facts(files, sign_mae, stride, seed), tuned), make)
        texts_of_seeds.append(texts)
    return texts_of_seeds, settings["learning_rate"], facts


def reader(place, files, sign_mae, sizes, stride, seed):
    """-> the folder of a trained SignToText, and its report."""
    folder = place.path("paper-sign-to-text", *_facts(files, sign_mae, stride, seed))
    if not (folder / "report.json").exists():
        options = {"sign_mae": sign_mae, "datasets": files["train"], "validation": files["validation"], "stride": stride, "seed": seed}
        options |= {"use_cpu": sizes["use_cpu"], "output_dir": folder, "resume_from_checkpoint": True}
        train_sign_to_text.main([READING, *words(options)])
    return folder, json.loads((folder / "report.json").read_text())


def judges_of(place: Workplace, sizes: dict, files: dict[str, Path], sign_mae: Path) -> list[Path]:
    """Folders of judges: the first one selects what `TextToSign` keeps, the others report."""
    folder = place.path("paper-judges", code_version(), names(files.values()), sizes["judges"])
    if not (folder / "judges.json").exists():
        options = ["--datasets", str(files["train"].parent), "--output_dir", str(folder), "--sign_mae", str(sign_mae), "--config", READING]
        options += ["--seeds", *map(str, range(sizes["judges"])), "--use_cpu", str(sizes["use_cpu"]).lower()]
        train_judges.main(options)
    return [folder / str(seed) for seed in range(sizes["judges"])]


def signing(place: Workplace, files: dict[str, Path], sign_mae: Path, sizes: dict, judges: list[Path], decoder: str) -> list[dict]:
    """Reports of `evaluate_text_to_sign` on the test sentences, one for each seed."""
    reports = []
    for seed in range(sizes["seeds"]):
        facts = [*_facts(files, sign_mae, 0, seed), decoder]

        def make(seed=seed):
            pipe = signer(place, files, sign_mae, sizes, judges, decoder, seed)
            test, train = (Clips([str(files[part])], part, pipe.feature_extractor) for part in ("test", "train"))
            encoder = SignMAEEncoderModel.from_pretrained(sign_mae)
            readers = load_readers([str(judge) for judge in judges[1:]], pipe.device)
            report, _ = evaluate_text_to_sign(pipe.model, pipe.tokenizer, pipe.feature_extractor, encoder, test, train, readers)
            return json.loads(json.dumps(without_nan(report), default=float))

        reports.append(place.once(place.path("paper-signing", *facts), make))
    return reports


def signer(place: Workplace, files: dict[str, Path], sign_mae: Path, sizes: dict, judges: list[Path], decoder: str, seed: int):
    """The pipeline of a trained TextToSign, whose steps the first judge chose among."""
    folder = place.path("paper-text-to-sign", *_facts(files, sign_mae, 0, seed), decoder)
    if not (folder / "report.json").exists():
        options = {"sign_mae": sign_mae, "datasets": files["train"], "validation": files["validation"], "judge": judges[0]}
        options |= {"latent_decoder": decoder, "seed": seed, "use_cpu": sizes["use_cpu"], "output_dir": folder}
        train_text_to_sign.main([SIGNING, *words(options | {"resume_from_checkpoint": True})])
    return load_pipeline("text-to-sign", str(folder))


def _facts(files, sign_mae, stride, seed):
    return code_version(), names(files.values()), sign_mae.name, stride, seed
