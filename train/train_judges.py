"""Trains the judges of generated signing: frame-level readers of real keypoints, one for each seed.

    python -m train.train_judges --datasets DIR --output_dir outputs/judges --seeds 0 1 2 3

Each is a SignToText with sign_encoder="frames" (Joint-SLT without glosses): it shares no SignMAE with the system that it judges.
`judges.json` says what each scores on real validation clips, which bounds what generated ones can score, and on training clips,
which shows what it has memorised. The first seed is for selection (`train_text_to_sign.py --judge DIR/0`), the others report.
Resumable: a judge that is done is not trained again.
"""

from pathlib import Path

from train.engine.commands import CommandParser


def parse(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument(
        "--datasets", nargs="+", required=True, help="folders or Hub ids of canonical rows, with splits train and validation"
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="a folder for each judge, and judges.json")
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0, 1, 2, 3], help="of the judges; the first one selects, the others report"
    )
    parser.add_argument("--config", default="paper_sign_to_text.yaml", help="of train/train_sign_to_text.py, whose fields may follow")
    parser.add_argument("--sign_mae", help="a SignMAE whose keypoint processor the judges use, so that both see the same keypoints")
    parser.add_argument("--final_dot", choices=["keep", "strip", "add"], default="keep", help="of a text's last dot, before scoring")
    return parser.parse_known_args(argv)


if __name__ == "__main__":
    parse()  # answers --help and mistakes before the imports that take seconds

import json
import sys

from train import train_sign_to_text
from train.data.clips import Clips
from train.data.segments import specs
from train.engine.loading import load_pipeline
from train.engine.runs import run_script
from train.evaluation.closing import config_for, text_floors, training_command
from train.evaluation.tables import format_table
from train.evaluation.translation import translate_inputs
from train.evaluation.verdicts import directions, headline, verdict_of_judge
from train.metrics.text import bootstrap_interval, text_scores

SCORED_TRAINING_CLIPS = 500
COLUMNS = ("bleu1", "bleu4", "chrf", "wer", "cer")


def main(argv=None):
    arguments, others = parse(sys.argv[1:] if argv is None else argv)
    shared = ["--sign_encoder", "frames", "--datasets", *arguments.datasets, "--validation", *arguments.datasets]
    shared += ["--sign_mae", arguments.sign_mae or "null", "--final_dot", arguments.final_dot, *others]
    judges = {}
    for seed in arguments.seeds:
        folder = arguments.output_dir / str(seed)
        if not (folder / "judge.json").exists():
            options = ["--output_dir", str(folder), "--seed", str(seed), "--resume_from_checkpoint", "true"]
            train_sign_to_text.main([arguments.config, *shared, *options])
            report = score(folder, arguments) | {"seed": seed, "role": "selection" if seed == arguments.seeds[0] else "report"}
            (folder / "judge.json").write_text(json.dumps(report, indent=2) + "\n")
        judges[seed] = json.loads((folder / "judge.json").read_text())
    result = {"seeds": arguments.seeds, "selection": arguments.seeds[0], "dataset": arguments.datasets, "judges": list(judges.values())}
    (arguments.output_dir / "judges.json").write_text(json.dumps(result, indent=2) + "\n")
    print(closing(result, arguments))
    return result


def closing(result: dict, arguments) -> str:
    """The text that the command ends with: the judges' scores and those of floors, whether each judge can read, and the next command."""
    rows, verdicts = {}, []
    for judge in result["judges"]:
        name = f"seed {judge['seed']} ({judge['role']})"
        rows |= {f"{name}, real validation clips": judge["ground_truth"], f"{name}, training clips": judge["training_clips"]}
        verdicts.append(f"  seed {judge['seed']}: {' '.join(judge.get('verdict', ['not compared with floors, by an older version.']))}")
    rows |= {f"floor: {name}": row for name, row in result["judges"][0].get("floors", {}).items()}
    lines = [f"\nThe judges are in {arguments.output_dir}\n", format_table(rows, COLUMNS), "", directions(COLUMNS), *verdicts]
    if arguments.sign_mae:
        config, folder = config_for("text_to_sign", [arguments.config]), arguments.output_dir.parent / "text-to-sign"
        options = {"sign_mae": arguments.sign_mae, "judge": arguments.output_dir / str(result["selection"])}
        lines.append(f"  next:   {training_command('train_text_to_sign.py', config, folder, specs(arguments.datasets), **options)}")
    return "\n".join(lines)


def score(folder, arguments):
    """Scores a judge on real clips, of validation and at most `SCORED_TRAINING_CLIPS` of training; with floors and a verdict."""
    pipe = load_pipeline("sign-to-text", folder)
    scores, read = {}, {}
    for name, split, most in (("ground_truth", "validation", None), ("training_clips", "train", SCORED_TRAINING_CLIPS)):
        clips = Clips(specs(arguments.datasets), split, pipe.feature_extractor)
        chosen = range(len(clips))[:most]
        texts = translate_inputs(pipe.model, pipe.tokenizer, [clips.keypoints(index)[0] for index in chosen])
        scores[name] = text_scores(texts, clips.texts[:most], arguments.final_dot, families=("slt", "rouge_l", "chrf", "error_rates"))
        read[name] = texts, clips.texts
    texts, references = read["ground_truth"]
    floors = text_floors(read["training_clips"][1], references, arguments.final_dot)
    metric = headline({"judge": scores["ground_truth"], **floors})
    interval = bootstrap_interval(texts, references, metric, final_dot=arguments.final_dot) | {"metric": metric}
    return scores | {"floors": floors, "interval": interval, "verdict": verdict_of_judge(scores["ground_truth"], floors, interval)}


if __name__ == "__main__":
    run_script(main)
