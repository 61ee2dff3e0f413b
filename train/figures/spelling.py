"""Draws a word spelled: recorded letters beside what a TextToSign makes of the text, hands large. The README's picture.

    python -m train.figures.spelling --checkpoint outputs/demo/text-to-sign --output docs/demo.svg

Needs the letter clips: pip install spoken-to-signed pose-format. Left are keypoints of recorded letters, joined to the word (see
`datasets_scripts/fingerspelling.py`); right is what the checkpoint makes of the text alone. The picture moves without a script, also in
an <img>; beside it stands one that does not move, for readers who ask for less motion.
"""

from pathlib import Path

from train.engine.commands import CommandParser


def parse(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument("--checkpoint", default="outputs/demo/text-to-sign", help="of a TextToSign that spells")
    parser.add_argument("--word", default="smile", help="one that training left out: see fingerspelling.split_of_word")
    parser.add_argument("--language", default="ase", help="whose letters")
    parser.add_argument("--seam_frames", type=int, default=3, help="see TextToSign.generate")
    parser.add_argument("--size", type=int, default=196, help="pixels of a panel's side")
    parser.add_argument("--output", type=Path, default=Path("docs/demo.svg"), help="beside it comes NAME-still.svg")
    arguments = parser.parse_args(argv)
    if arguments.output.suffix.lower() != ".svg":
        parser.error(f"--output {arguments.output}: expected a name that ends in .svg")
    return arguments


if __name__ == "__main__":
    parse()  # answers --help and mistakes before the imports that take seconds

from datasets_scripts.fingerspelling import rows
from modeling_unigloR.rendering_uniglor import to_animated_svg, to_svg
from train.engine.loading import load_pipeline
from train.engine.runs import run_script

STILL_FRAMES, STILL_SIZE = 6, 136  # of the picture that does not move


def main(argv=None):
    arguments = parse(argv)
    pipe = load_pipeline("text-to-sign", arguments.checkpoint, "cpu")
    (row,) = rows(arguments.language, words=[arguments.word])
    clips = [pipe.feature_extractor.process_row(row), pipe(arguments.word, seam_frames=arguments.seam_frames)]
    titles = [f"{arguments.word}: recorded letters, joined", "generated from the text"]
    hands = ("right_hand", "left_hand")
    pictures = {
        arguments.output: to_animated_svg(clips, size=arguments.size, titles=titles, close_ups=hands, columns=2),
        arguments.output.with_stem(f"{arguments.output.stem}-still"): to_svg(clips, None, STILL_FRAMES, STILL_SIZE, titles),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    for path, picture in pictures.items():
        path.write_text(picture, encoding="utf-8")
    print("\n".join(f"Wrote {path}, {path.stat().st_size / 1024:.0f} KiB" for path in pictures))
    return pictures


if __name__ == "__main__":
    run_script(main)
