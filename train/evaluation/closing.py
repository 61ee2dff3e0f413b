"""What a training says at its end: where the model is, what was kept and why, scores beside floors with a verdict, and what comes next.

The floors here are those that need no model. `train.evaluate_checkpoint` scores more of them, on a test split.
"""

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from train.data.segments import describe
from train.engine.trainers import SELECTING
from train.evaluation.recognition import most_frequent_floor
from train.evaluation.tables import compute_in_words, format_table
from train.evaluation.verdicts import BLIND_JUDGE, directions, headline, is_number, verdict, verdict_of_rows
from train.metrics.recognition import top1_interval
from train.metrics.text import bootstrap_interval, text_scores
from train.metrics.text_floors import constant_sentence_floor, random_sentence_floor

ROOT = Path(__file__).parents[2]
NOT_SCORED = "Nothing was scored, so what it is worth is open."
COLUMNS = ("bleu1", "bleu4", "chrf", "wer", "cer", "top1", "top5", "mpjpe", "mpjpe_hands", "motion_ratio", "latent_frechet", "length_error")


# --- Scores beside floors ---------------------------------------------------------------------------------------------------------


def text_floors(train_texts: list[str], references: list[str], final_dot: str = "keep") -> dict[str, dict]:
    """{name: scores} of sentences that were made without looking at the clip."""
    options = {"final_dot": final_dot, "families": SELECTING}
    return {
        "one constant sentence": constant_sentence_floor(train_texts, references, **options),
        "random training sentence": random_sentence_floor(train_texts, references, **options),
    }


def assess_texts(trainer, clips) -> dict:
    """`floors`, `interval` and `verdict` of the texts that an evaluation read, for report.json.

    Args:
        trainer: a `TranslationTrainer` after `evaluate`.
        clips: `Clips` of training.
    """
    if trainer.scored is None:
        return {"verdict": [NOT_SCORED]}
    predictions, references = trainer.scored
    floors = text_floors(clips.texts, references, trainer.final_dot)
    rows = {"system": text_scores(predictions, references, trainer.final_dot, families=SELECTING)}
    rows |= {f"floor: {name}": row for name, row in floors.items()}
    selecting = trainer.args.metric_for_best_model
    metric = headline(rows, selecting if selecting in rows["system"] else "bleu4")
    interval = bootstrap_interval(predictions, references, metric, final_dot=trainer.final_dot) | {"metric": metric}
    floor_scores = {name: {key: value for key, value in row.items() if key != "signatures"} for name, row in floors.items()}
    return {"floors": floor_scores, "interval": interval, "verdict": verdict_of_rows(rows, interval, metric)}


def assess_signing(trainer, clips, judge: str | None = None) -> dict:
    """As `assess_texts`, for what a judge read of generated signing; where the judge cannot read real signing, the verdict says so.

    Args:
        judge: its folder, in which `train.train_judges` leaves judge.json; None without a judge.
    """
    if judge is None:
        return {"verdict": ["Nobody has read what it signs yet, so what it is worth is open."]}
    path = Path(judge, "judge.json")
    sentences = json.loads(path.read_text(encoding="utf-8")).get("verdict", []) if path.is_file() else []
    blind = [f"On real signing: {sentence}" for sentence in sentences if BLIND_JUDGE in sentence]
    return assess_texts(trainer, clips) | ({"verdict": blind} if blind else {})


def assess_recognition(trainer, clips) -> dict:
    """As `assess_texts`, for recognised labels."""
    if trainer.scored is None:
        return {"verdict": [NOT_SCORED]}
    logits, labels = trainer.scored
    floor = most_frequent_floor(clips.labels, labels, logits.shape[1])
    interval = top1_interval(logits, labels) | {"metric": "top1"}
    sentences = verdict("top1", interval["score"], {"most frequent labels": (floor["top1"], 0.0)}, (interval["low"], interval["high"]))
    floor = {name: value for name, value in floor.items() if name != "signatures"}
    return {"floors": {"most frequent labels": floor}, "interval": interval, "verdict": sentences}


# --- The words --------------------------------------------------------------------------------------------------------------------


def closing(report: dict, output_dir: str | Path, next_command: str | None = None) -> str:
    """The text that a training prints at its end.

    Args:
        report: what stands in its report.json.
        output_dir: where the model is.
        next_command: the command to run next, as `evaluation_command` makes it; None leaves it out.
    """
    lines = ["", f"The model is in {output_dir}"]
    lines += [f"  kept:    {report['selection']['why']}"] if "selection" in report else []  # which older reports do not have
    if "compute" in report:
        resumed = f", resumed from step {report['resumed_from']}" if "resumed_from" in report else ""
        lines.append(f"  took:    {compute_in_words(report['compute'])}{resumed}")
    if latents := report.get("latents"):
        rank, size, dead = latents["effective_rank"], latents["hidden_size"], latents["dead_dimensions"]
        lines.append(f"  latents: effective rank {rank:.3g} of {size}, {dead} dead")
    rows, columns, decimals = validation_rows(report)
    if columns:
        lines += ["", format_table(rows, columns, decimals), "", f"  On validation clips. {directions(columns)}"]
    lines += ["  verdict: " + "\n           ".join(report["verdict"])] if report.get("verdict") else []
    lines += [f"  next:    {next_command}"] if next_command else []
    return "\n".join(lines)


def validation_rows(report: dict) -> tuple[dict[str, dict], list[str], int]:
    """Rows, columns and decimals of a report's validation scores and floors, for `format_table`; no columns without scores."""
    scores = {name.removeprefix("eval_"): value for name, value in (report.get("validation") or {}).items()}
    columns = [name for name in COLUMNS if is_number(scores.get(name))]
    rows = {"this model": scores | ({"num_scored": report["num_validation_clips"]} if "num_validation_clips" in report else {})}
    for name, row in (report.get("floors") or {}).items():
        if name != "bank_segments":
            rows[f"floor: {name.replace('_', ' ')}"] = row if isinstance(row, dict) else {"mpjpe": row}
    return rows, columns, 4 if "mpjpe" in columns else 2


# --- What comes next --------------------------------------------------------------------------------------------------------------


def training_command(script: str, config: str, output_dir: str | Path, specs: Sequence = (), **options) -> str:
    """The command of a training, ready to be copied.

    Args:
        script: name of a file in train/.
        config: name of its YAML file, see `config_for`.
        output_dir: where it is to write.
        specs: entries of `segments.load_rows`; none takes those of the YAML file.
    """
    path = ROOT / "train" / script
    path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    words = ["accelerate", "launch", str(path), config, *_options(options)]
    return shlex.join([*words, *_data("--datasets", specs), "--output_dir", str(output_dir)])


def judges_command(config: str, output_dir: str | Path, specs: Sequence, sign_mae: str | Path) -> str:
    """The command of `train.train_judges`."""
    words = ["python", "-m", "train.train_judges", "--config", config, *_data("--datasets", specs), "--sign_mae", str(sign_mae)]
    return shlex.join([*words, "--output_dir", str(output_dir)])


def evaluation_command(task: str, output_dir: str | Path, specs: Sequence, validation: Sequence = (), **options) -> str:
    """The command that scores a checkpoint on the test split of its data or, without one, on its validation clips.

    Args:
        task: as `train.evaluate_checkpoint` takes it.
        output_dir: the checkpoint.
        specs, validation: entries of `segments.load_rows`.
    """
    has_test = all(_has_test(spec) for spec in specs)
    if not has_test and not validation:
        return "Nothing is held out to score it on. Build the data set anew with splits validation and test."
    words = ["python", "-m", "train.evaluate_checkpoint", "--task", task, "--checkpoint", str(output_dir)]
    words += _data("--datasets", specs if has_test else validation) + ([] if has_test else ["--split", "validation"])
    return shlex.join([*words, *_data("--train_datasets", specs), *_options(options)])


def config_for(task: str, argv: list[str], default_config: str = "paper.yaml") -> str:
    """The YAML file of another task that goes with the one that a training was given: demo.yaml -> demo_sign_to_text.yaml.

    Args:
        task: "sign_to_text" or "text_to_sign".
        argv: words of the training's command line.
        default_config: what it takes where they name none.
    """
    words = Path(argv[0] if argv and argv[0].endswith((".yaml", ".yml")) else default_config).stem.split("_")
    names = ["_".join([*words[:count], task]) + ".yaml" for count in range(len(words), 0, -1)]
    return next((name for name in names if (ROOT / "train" / "configs" / name).is_file()), f"paper_{task}.yaml")


def _has_test(spec):
    path = Path(describe(spec))
    return str(path) == "fingerspelling" or (path.is_dir() and any(path.rglob("test*.parquet")))


def _data(option, specs):
    return [option, *(spec if isinstance(spec, str) else json.dumps(spec, ensure_ascii=False) for spec in specs)] if specs else []


def _options(options):
    return [word for name, value in options.items() if value is not None for word in (f"--{name}", os.fspath(value))]
