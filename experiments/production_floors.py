"""What the floors of generated signing score on a corpus, before there is any system: real clips, the mean pose, real clips backwards, ...

    python -m experiments.production_floors --datasets DIR --split "validation[:250]" --train_split "train[:2500]" [--json FILE]

DIR holds canonical rows with text; with glosses in all rows, a `GlossReader` of the training clips reads every row. docs/metrics.md
explains the columns.
"""

import json
from pathlib import Path

from modeling_unigloR import KeypointProcessor
from train.data.clips import Clips
from train.data.segments import specs
from train.engine.commands import CommandParser
from train.evaluation.tables import format_table, without_nan
from train.evaluation.text_to_sign import HALVES, PANEL_COLUMNS, REAL, floor_clips, gloss_reader, keypoints_of
from train.metrics.gloss_reader import shuffled_segments
from train.metrics.production import frechet_of_halves, production_panel
from train.metrics.windows import WindowFeatures


def parse(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument("--datasets", nargs="+", required=True, help="canonical rows: folders or Hub ids")
    parser.add_argument("--split", default="validation", help="a split, or a part of it as data sets slice it: validation[:250]")
    parser.add_argument("--train_split", default="train")
    parser.add_argument("--cache_dir")
    parser.add_argument("--json", type=Path)
    return parser.parse_args(argv)


def main(argv=None):
    arguments = parse(argv)
    clips, train = (
        Clips(specs(arguments.datasets), split, KeypointProcessor(), arguments.cache_dir)
        for split in (arguments.split, arguments.train_split)
    )
    real, masks = keypoints_of(clips)
    train_keypoints, train_masks = keypoints_of(train)
    features = WindowFeatures(train_keypoints)
    lines, reader = gloss_reader(clips, train, train_keypoints, features)
    systems = {REAL: [real], "floor: shuffled segments": [shuffled_segments(real)]}
    systems |= floor_clips(real, clips.texts, train_keypoints, train_masks, train.texts)
    rows = {
        name: production_panel(system[0], real, masks, features, lines, reader, *system[1:]) | {"num_scored": len(clips)}
        for name, system in systems.items()
    }
    rows[HALVES] = frechet_of_halves(real, features) | {"num_scored": len(clips)}
    columns = [name for name in PANEL_COLUMNS if any(name in row for row in rows.values())]
    print(format_table(rows, columns, decimals=3))
    if arguments.json:
        arguments.json.write_text(json.dumps(without_nan(rows), indent=2) + "\n")
    return rows


if __name__ == "__main__":
    main()
