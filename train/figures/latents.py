"""Draws a SignMAE's latents of isolated signs on a plane, a colour for each gloss (Fig 5).

    pip install 'scikit-learn>=1.5' 'matplotlib>=3.9'
    python -m train.figures.latents --checkpoint outputs/sign-mae --datasets D [--split test] [--num_glosses 10] --output latents.svg

Every segment of a clip carries the clip's gloss, those too in which the hands only come and go. t-SNE keeps neighbours, not distances,
and finds groups in anything: so the picture says how often the nearest latent of *another clip* has the same gloss, which needs no
picture, beside what chance would give. Draw an untrained SignMAE too before you read pretraining's worth from it.

The rows are of isolated signs: they have a label, or a gloss of one word.
"""

from pathlib import Path

from train.engine.commands import CommandParser

COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#333333", "#ee7733", "#009988", "#bbbbbb")
MARKERS = ("o", "s", "^")  # of further glosses, in the same colours again
FORMATS = (".svg", ".pdf", ".png")


def parse(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument("--checkpoint", required=True, help="of a SignMAE")
    parser.add_argument("--datasets", nargs="+", required=True, help="folders or Hub ids of canonical rows")
    parser.add_argument("--split", default="test", help="of the datasets; by default test")
    parser.add_argument("--num_glosses", type=int, default=10, help=f"the most frequent ones, 2 to {len(COLORS) * len(MARKERS)}")
    parser.add_argument("--stride", type=int, help="frames between segment starts; by default the checkpoint's")
    parser.add_argument("--seed", type=int, default=0, help="of t-SNE; by default 0")
    parser.add_argument("--cache_dir", help="where processed frames and latents are kept; by default in the cache of datasets")
    parser.add_argument("--output", type=Path, required=True, help=".svg, .pdf or .png")
    arguments = parser.parse_args(argv)
    if arguments.output.suffix.lower() not in FORMATS:
        parser.error(f"--output {arguments.output}: expected a name that ends in {', '.join(FORMATS)}")
    if not 2 <= arguments.num_glosses <= len(COLORS) * len(MARKERS):
        parser.error(f"--num_glosses {arguments.num_glosses}: expected 2 to {len(COLORS) * len(MARKERS)}")
    return arguments


if __name__ == "__main__":
    parse()  # answers --help and mistakes before the imports that take seconds

from collections import Counter

import numpy as np

from modeling_unigloR import SignMAEEncoderModel
from train.data.clips import Clips, LatentStore
from train.data.segments import specs
from train.engine.loading import load_model, load_processor
from train.engine.runs import run_script
from train.figures.plots import new_figure, plain, save_figure

PERPLEXITY = 30  # t-SNE's usual number of neighbours


def main(argv=None):
    arguments = parse(argv)
    sign_mae, processor = load_model(arguments.checkpoint, SignMAEEncoderModel), load_processor(arguments.checkpoint)
    clips = Clips(specs(arguments.datasets), arguments.split, processor, arguments.cache_dir, needs=None)
    glosses, chosen = most_frequent(sign_names(clips), arguments.num_glosses)
    store = LatentStore.build(clips, sign_mae, arguments.stride or sign_mae.config.stride, arguments.cache_dir)
    latents = np.concatenate([store[index] for index, _ in chosen])  # (N, D)
    clip, gloss = (np.repeat(values, [store.lengths[index] for index, _ in chosen]) for values in zip(*chosen))  # (N,), (N,)
    share, chance = neighbours_share(latents, gloss, clip)
    caption = (
        f"{len(latents)} segments of {len(chosen)} clips. The nearest segment of another clip has the same gloss: "
        f"{100 * share:.0f} %, by chance {100 * chance:.0f} %"
    )
    save_figure(draw(plane(latents, arguments.seed), gloss, glosses, caption), arguments.output)
    print(f"{caption}.\nWrote {arguments.output}")
    return {"segments": len(latents), "clips": len(chosen), "glosses": glosses, "share": share, "chance": chance}


def sign_names(clips):
    """What each clip shows: the name of its label, or a gloss of one word; None where that is not known."""
    names = []
    for gloss, text, label in zip(clips.glosses, clips.texts, clips.labels):
        isolated = label is not None or len((gloss or "").split()) == 1
        names.append((gloss or text or f"LABEL_{label}") if isolated else None)
    return names


def most_frequent(names, num_glosses):
    """-> the names of most clips, in alphabetical order, and [(clip, number of its name)].

    Raises:
        ValueError: fewer than two names.
    """
    counts = Counter(name for name in names if name is not None)
    if len(counts) < 2:
        raise ValueError(
            f"Found {len(counts)} glosses of isolated signs in {len(names)} clips, expected at least 2: rows with a label, or with a gloss "
            "of one word. Of a sentence nobody knows which of its segments is which sign."
        )
    glosses = sorted(sorted(counts, key=lambda name: (-counts[name], name))[:num_glosses])
    number = {name: place for place, name in enumerate(glosses)}
    return glosses, [(clip, number[name]) for clip, name in enumerate(names) if name in number]


def neighbours_share(latents, gloss, clip, batch_size=512):
    """How often the nearest latent of another clip has the same gloss, and how often a random one of another clip would.

    Args:
        latents: (N, D), gloss, clip: (N,) ints.
    """
    same, random = neighbours(latents, gloss, clip, batch_size)
    return float(same.mean()), float(random.mean())


def neighbours(latents, gloss, clip, batch_size=512):
    """Of each latent, whether its nearest one of another clip has the same gloss, and how often a random one would: (N,), (N,)."""
    same, random, square = [], [], np.square(latents).sum(1)
    for start in range(0, len(latents), batch_size):
        batch = slice(start, start + batch_size)
        distance = square - 2 * latents[batch] @ latents.T  # the square of it, without the term that is the same along a row
        others = clip[batch, None] != clip
        equal = gloss[batch, None] == gloss
        nearest = np.where(others, distance, np.inf).argmin(1)
        same.append(np.take_along_axis(equal, nearest[:, None], 1)[:, 0])
        random.append((equal & others).sum(1) / others.sum(1))
    return np.concatenate(same), np.concatenate(random)


def plane(latents, seed=0):
    """(N, D) -> (N, 2) by t-SNE."""
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ImportError("t-SNE needs scikit-learn: pip install scikit-learn") from error
    perplexity = min(PERPLEXITY, (len(latents) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(latents.astype(np.float32))


def draw(points, gloss, glosses, caption):
    """A figure of a plane.

    Args:
        points: (N, 2); gloss: (N,) ints, places in `glosses`.
        caption: the line above the plane.
    """
    figure = new_figure(8, 6)
    axes = figure.add_subplot()
    counts = np.bincount(gloss, minlength=len(glosses))
    for number, name in enumerate(glosses):
        gloss_points = points[gloss == number]
        color, marker = COLORS[number % len(COLORS)], MARKERS[number // len(COLORS)]
        axes.scatter(*gloss_points.T, s=16, color=color, marker=marker, alpha=0.8, linewidths=0, label=plain(f"{name}, {counts[number]}"))
    axes.set_aspect("equal", adjustable="datalim")  # one scale for both axes
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(f"Segments of isolated signs, by t-SNE of their latents\n{caption}", fontsize=9)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)
    return figure


if __name__ == "__main__":
    run_script(main)
