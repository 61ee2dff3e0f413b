"""The confusion matrix of a recognition; `python -m train.evaluate_checkpoint --task sign-recognition` draws it."""

import numpy as np

from train.figures.plots import new_figure, plain

MAX_LABELS_DRAWN = 80
NUM_NAMED = 5  # errors that the caption names
INCHES_PER_LABEL = 0.14
RIGHT, WRONG = (0.03, 0.32, 0.61), (0.80, 0.09, 0.11)  # blue, red


def draw_confusion(matrix, names, max_labels=MAX_LABELS_DRAWN):
    """A confusion matrix as a matplotlib figure: true labels on the left, predicted ones below; right answers blue, wrong ones red.

    Args:
        matrix: (L, L), see `metrics.recognition.confusion_matrix`. A cell is as dark as its share of its row is large.
        names: of the labels, in order.
        max_labels: of more labels, those with the most errors are drawn.
    """
    wrong = matrix - np.diag(np.diag(matrix))
    occurring = np.flatnonzero(matrix.sum(0) + matrix.sum(1))
    by_error = occurring[np.argsort(-(wrong.sum(0) + wrong.sum(1))[occurring], kind="stable")]
    shown = np.sort(by_error[:max_labels])
    share = (matrix / np.maximum(matrix.sum(1, keepdims=True), 1))[np.ix_(shown, shown)]
    cells = np.ones((len(shown), len(shown), 4))
    cells[..., :3] = np.where(np.eye(len(shown), dtype=bool)[..., None], RIGHT, WRONG)
    cells[..., 3] = np.where(share > 0, np.maximum(share, 0.1), 0)

    side = INCHES_PER_LABEL * len(shown)
    figure = new_figure(max(side + 1.8, 5), max(side, 1.2) + 2.2)
    axes = figure.add_subplot()
    axes.imshow(cells, interpolation="nearest")
    labels = [plain(_short(names[label])) for label in shown]
    axes.set_xticks(range(len(shown)), labels, rotation=90, fontsize=7)
    axes.set_yticks(range(len(shown)), labels, fontsize=7)
    axes.set_ylabel("true label", fontsize=8)
    axes.set_xlabel("\n".join(["predicted label", *_most_frequent_errors(wrong, matrix.sum(1), names)]), fontsize=8)
    title = f"{int(matrix.sum())} clips, {100 * np.diag(matrix).sum() / max(matrix.sum(), 1):.1f} % right"
    if len(shown) < len(occurring):
        title += f"; {len(shown)} of {len(occurring)} labels, those with the most errors"
    axes.set_title(title, fontsize=9)
    return figure


def _most_frequent_errors(wrong, num_clips, names):
    """A line for each of the most frequent errors."""
    for cell in np.argsort(-wrong, axis=None, kind="stable")[:NUM_NAMED]:
        true, predicted = np.unravel_index(cell, wrong.shape)
        if wrong[true, predicted]:
            yield plain(f"{names[true]} taken for {names[predicted]}: {wrong[true, predicted]} of {num_clips[true]}")


def _short(name):
    return name if len(name) <= 18 else name[:17] + "…"
