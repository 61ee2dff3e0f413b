"""Publishes a checkpoint on the Hub: weights, what stands before and after them, the code, the scores and a model card, in one commit.

    python -m train.publish --checkpoint outputs/sign-to-text --repo_id me/name --card card.yaml --dry_run --output_dir OUT    # look first
    python -m train.publish --checkpoint outputs/sign-to-text --repo_id me/name --card card.yaml --private

What is published can be loaded by `pipeline(task, model="me/name", trust_remote_code=True)` where nothing of this package is installed.
It holds no pickle, no training state, no sentence of a corpus, and no path of this machine. docs/publishing.md leads through it.
"""

from pathlib import Path

from train.engine.commands import CommandParser


def parse_options(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument("--checkpoint", required=True, type=Path, help="a folder that a training script wrote")
    parser.add_argument("--repo_id", required=True, metavar="OWNER/NAME", help="of the model on the Hub; made where it is not there")
    parser.add_argument("--private", action="store_true", help="a new repository is seen by its owner only")
    parser.add_argument("--dry_run", action="store_true", help="write what would be uploaded to --output_dir, and upload nothing")
    parser.add_argument("--output_dir", type=Path, help="of a dry run; must be empty")
    parser.add_argument("--scores", type=Path, help="by default CHECKPOINT/evaluation-test/scores.json, where it is there")
    parser.add_argument("--card", type=Path, metavar="FILE", help="a YAML file of the fields below")
    group = parser.add_argument_group("the model card; flags go before the file")
    group.add_argument("--license", metavar="ID", help="of the weights: an identifier of the Hub, or other")
    group.add_argument("--license_name", help="of license other")
    group.add_argument("--license_link", metavar="URL", help="of license other")
    group.add_argument(
        "--training_data", nargs="+", metavar="NAME:LICENSE:ANSWER", help="each data set, SignMAE's too, and whether its terms allow "
        "publishing weights that were trained on it: yes, no or unknown",
    )  # fmt: skip
    group.add_argument("--permission", metavar="TEXT", help="who allowed publishing where an answer is not yes; the card prints it")
    group.add_argument("--sign_language", nargs="+", metavar="CODE", help="ISO 639-3: gsg, ase, ...")
    group.add_argument("--text_language", nargs="+", metavar="CODE", help="ISO 639: de, en, ...")
    group.add_argument("--extractor", metavar="TEXT", help="which program, with its version, estimated the keypoints")
    group.add_argument("--compute", metavar="TEXT", help="by default what report.json says")
    group.add_argument("--base_model", nargs="+", metavar="ID", help="on the Hub, that it was made from")
    group.add_argument("--datasets", nargs="+", metavar="ID", help="on the Hub, of the training data")
    group.add_argument("--limitations", metavar="TEXT", help="what you know of this model")
    arguments = parser.parse_args(argv)
    if arguments.dry_run != (arguments.output_dir is not None):
        parser.error("--dry_run and --output_dir go together")
    return arguments


if __name__ == "__main__":
    parse_options()  # answers --help and mistakes before the imports that take seconds

import difflib
from dataclasses import fields as fields_of

import yaml

from train.engine.runs import run_script
from train.publishing.model_cards import CardFields
from train.publishing.upload import assemble, check_repo_id, find_scores, first_line, publish


def parse(argv=None):
    """-> arguments, and the `CardFields` of the card's file with the flags over them."""
    arguments = parse_options(argv)
    names = [field.name for field in fields_of(CardFields)]
    flags = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    return arguments, CardFields(**(read_card(arguments.card, names) if arguments.card else {}) | flags)


def read_card(path, names):
    """The fields of a card's YAML file; a field that no card has is refused."""
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read: expected a YAML file of {', '.join(names)} ({first_line(error)}).") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path} holds a {type(fields).__name__}, expected fields: {', '.join(names)}.")
    for name in fields:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1)
            raise ValueError(f"{path} has the field {name!r}, expected {', '.join(near or names)}.")
    return fields


def main(argv=None):
    try:
        arguments, card = parse(argv)
        scores = arguments.scores or find_scores(arguments.checkpoint)
        if arguments.dry_run:
            check_repo_id(arguments.repo_id)
            assemble(arguments.checkpoint, arguments.output_dir, arguments.repo_id, card, scores)
        else:
            done = publish(arguments.checkpoint, arguments.repo_id, card, scores, arguments.private)
    except (ValueError, OSError) as error:
        raise ValueError(first_line(error)) from error
    print(f"Scores: {scores or 'none'}")
    if arguments.dry_run:
        print(f"Written, and not uploaded: {', '.join(sorted(path.name for path in arguments.output_dir.iterdir()))}")
    else:
        print(f"{arguments.repo_id}: {done.commit_url}")


if __name__ == "__main__":
    run_script(main)
