"""Real data sets as canonical Parquet files, split by what is independent in them, and the rendered one.

Everything real is brought to `uniglor73`. Held out are a document of the DGS sentences (another signer), the test sentences of PHOENIX14T,
every fifth webcam take and a tenth of the lexicon; one sentence of How2Sign and one `.pose` file are trained on only. INCLUDE and the
British manual alphabet come in folds of whole recording sessions and of signers.
"""

import csv
import hashlib
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq

from datasets_scripts.schema import FEATURES, check_row, features
from experiments import rendered_phoenix
from modeling_unigloR import map_layout, read_keypoints
from modeling_unigloR.keypoint_readers_uniglor import clip_from_array, read_skels

DGS_TEST_DOCUMENT = "1413683"
NEVER_TRAINED_ON = ("include", "bsl_fingerspelling")  # what a SignMAE is judged by

# --- Sets without labels: (id, split, KeypointClip) of every clip --------------------------------------------------------------------


def dgs_sentences(folder):
    for line in read_csv(folder / "sentences.csv"):
        split = "validation" if line["document"] == DGS_TEST_DOCUMENT else "train"
        yield line["id"], split, read_keypoints(folder / "motion" / f"{line['id']}.npz", width=16, height=9, fps=float(line["fps"]))


def include(folder):
    for line in read_csv(folder / "labels.csv"):
        yield Path(line["path"]).stem, "validation", read_keypoints(folder / line["path"], width=16, height=9)


def phoenix14t_skels(folder):
    for part in ("train", "dev", "test"):
        for number, clip in enumerate(read_skels(folder / f"{part}.skels", fps=25.0)):
            yield f"{part}-{number}", "validation" if part == "test" else "train", clip


def asl_webcam(folder):
    for path in sorted(folder.glob("*.npz")):
        for take, points in enumerate(np.load(path)["keypoints"]):
            yield f"{path.stem}-{take}", "validation" if take % 5 == 4 else "train", clip_from_array(points, width=4, height=3)


def lexicon(folder):
    for path in sorted((folder / "npz").glob("*.npz")):
        yield path.stem, "validation" if in_hash_part(path.stem, 10) else "train", read_keypoints(path)


def how2sign(folder):
    for path in sorted((folder / "json").iterdir()):
        yield path.name, "train", read_keypoints(path, fps=24.0)


def dgs_pose_file(folder):
    for path in sorted((folder / "train").glob("*.pose")):
        yield path.stem, "train", read_keypoints(path)


SETS = {  # name: (folder of the real data, language, its clips)
    "dgs_sentences": ("dgs_sentences", "gsg", dgs_sentences),
    "include": ("include43", "ins", include),
    "phoenix14t_skels": ("phoenix14t_skels", "gsg", phoenix14t_skels),
    "asl_webcam": ("asl_webcam10", "ase", asl_webcam),
    "lexicon": ("lexicon_unlabelled", "und", lexicon),
    "how2sign": ("how2sign_openpose", "ase", how2sign),
    "dgs_pose_file": ("dgs_pose_files", "gsg", dgs_pose_file),
}


def real_mix(place, limit=None):
    """{set: {split: Parquet file}} of all `SETS`; of each split at most `limit` clips. INCLUDE has no training part."""
    return {name: _set_files(place, name, limit) for name in SETS}


def training_files(mix):
    """The files that the SignMAE of the real mix is trained on, and that principal components are fitted on."""
    return [files["train"] for name, files in mix.items() if "train" in files and name not in NEVER_TRAINED_ON]


def _set_files(place, name, limit):
    source, language, clips = SETS[name]

    def write(folder):
        rows = {"train": [], "validation": []}
        for id, split, clip in clips(place.data("real", source)):
            if limit is None or len(rows[split]) < limit:
                mapped = map_layout(clip.in_pixels(), "uniglor73")
                mapped.keypoints = np.nan_to_num(mapped.keypoints[..., :2])
                rows[split].append(check_row(mapped.row(f"{name}/{id}", language)))
        for split, split_rows in rows.items():
            if split_rows:
                datasets.Dataset.from_list(split_rows, features=FEATURES).to_parquet(folder / f"{split}.parquet")

    folder = place.folder_once(place.path(f"set-{name}", limit), write)
    return {path.stem: path for path in sorted(folder.glob("*.parquet"))}


# --- Folds ------------------------------------------------------------------------------------------------------------------------


def blocks(sessions):
    """{session: number of its run of neighbouring sessions}."""
    ordered = sorted(set(sessions))
    return dict(zip(ordered, np.cumsum([0, *(later - earlier > 1 for earlier, later in zip(ordered, ordered[1:]))]).tolist()))


def labels_of(lines):
    """(clips,) number of each clip's label in alphabetical order, and the labels."""
    names = sorted({line["label"] for line in lines})
    return np.array([names.index(line["label"]) for line in lines]), names


def folds_of(groups, labels, num_folds):
    """(clips,) fold that tests each clip: whole groups, the largest first into the smallest fold; -1 is never tested.

    Raises:
        ValueError: fewer groups than folds.
    """
    groups_of_label = [set(groups[labels == label]) for label in range(labels.max() + 1)]
    testable = np.array([len(groups_of_label[label]) > 1 for label in labels])
    unique_groups, sizes = np.unique(groups[testable], return_counts=True)
    if len(unique_groups) < num_folds:
        raise ValueError(
            f"Found {len(unique_groups)} groups of clips that can be tested, expected at least num_folds={num_folds}. Lower it."
        )
    folds, filled = np.full(len(groups), -1), np.zeros(num_folds)
    for index in np.argsort(-sizes, kind="stable"):
        smallest = filled.argmin()
        folds[testable & (groups == unique_groups[index])] = smallest
        filled[smallest] += sizes[index]
    for fold in range(num_folds):  # two groups of a label may have come into one fold
        lost = set(labels[folds == fold]) - set(labels[folds != fold])
        folds[(folds == fold) & np.isin(labels, list(lost))] = -1
    return folds


def write_folds(place, name, rows, folds):
    """The folder of fold-0.parquet ... and always-trained.parquet; rows are canonical, with a label."""

    def write(folder):
        for fold in sorted(set(folds.tolist())):
            chosen = [rows[index] for index in np.flatnonzero(folds == fold)]
            num_points, num_channels = np.shape(chosen[0]["keypoints"])[1:]
            file = folder / ("always-trained.parquet" if fold < 0 else f"fold-{fold}.parquet")
            datasets.Dataset.from_list(chosen, features=features(num_points, num_channels)).to_parquet(file)

    return place.folder_once(place.path(f"folds-{name}", [row["id"] for row in rows], folds.tolist()), write)


def regardless_of_groups(folds, labels):
    """(clips,) folds of the same clips in which every fold holds clips of every group: a ceiling, since training knows every group."""
    mixed, seen = np.array(folds), {}
    for index in np.flatnonzero(folds >= 0):
        label = labels[index]
        seen[label] = seen.get(label, label - 1) + 1  # every label begins in another fold: labels of few clips fill them all
        mixed[index] = seen[label] % (folds.max() + 1)
    return mixed


def include_folds(place, num_folds=5, limit=None):
    """INCLUDE in folds of recording sessions -> their folder, that of `regardless_of_groups`, {id: fold}, and the labels.

    Takes that follow each other are near-copies, and neighbouring sessions may be one recording. Therefore a group is a run of neighbouring
    session numbers. A word that was recorded in one group only cannot be tested: its clips are always trained on, and never scored.
    """
    source = place.data("real", "include43")
    lines = read_csv(source / "labels.csv")
    labels, names = labels_of(lines)
    runs = blocks(int(line["session"]) for line in lines)
    folds = folds_of(np.array([runs[int(line["session"])] for line in lines]), labels, num_folds)
    chosen = _thinned(folds, labels, limit)
    rows = []
    for index in chosen:
        keypoints = np.load(source / lines[index]["path"]).astype(np.float32)
        seen = np.isfinite(keypoints).all(-1)
        rows.append(_labelled(Path(lines[index]["path"]).stem, keypoints, seen, names, labels[index], (16, 9), 25.0, "ins"))
    folder = write_folds(place, "include", rows, folds[chosen])
    mixed = write_folds(place, "include", rows, regardless_of_groups(folds[chosen], labels[chosen]))
    return folder, mixed, {rows[place]["id"]: int(folds[index]) for place, index in enumerate(chosen) if folds[index] >= 0}, names


def bsl_folds(place, num_folds=5, limit=None):
    """The British manual alphabet in folds of signers -> their folder, that of `regardless_of_groups`, {id: signer} of what is tested,
    and the labels.

    It has hands only. A standing body is put behind them, so that hands of all clips have one size and one place.
    """
    source = place.data("real", "bsl_fingerspelling")
    lines = read_csv(source / "labels.csv")
    labels, names = labels_of(lines)
    _, signers = np.unique([line["signer"] for line in lines], return_inverse=True)
    folds = folds_of(signers, labels, num_folds)
    chosen = _thinned(folds, labels, limit)
    rows = []
    for index in chosen:
        line = lines[index]
        keypoints = with_a_body(np.load(source / "npz" / line["file"])["keypoints"], float(line["width"]) / float(line["height"]))
        seen = np.isfinite(keypoints).all(-1)
        rows.append(_labelled(Path(line["file"]).stem, keypoints, seen, names, labels[index], (1000, 1000), float(line["fps"]), "bfi"))
    folder = write_folds(place, "bsl", rows, folds[chosen])
    mixed = write_folds(place, "bsl", rows, regardless_of_groups(folds[chosen], labels[chosen]))
    return folder, mixed, {rows[place]["id"]: int(signers[index]) for place, index in enumerate(chosen) if folds[index] >= 0}, names


HAND_SIZE, HANDS_PLACE = 0.23, (0.0, 0.6)  # of wrist to middle knuckle, and the middle of both hands, in shoulder lengths about the neck
STANDING = {0: (0, -0.6), 11: (0.5, 0), 12: (-0.5, 0), 13: (0.7, 0.7), 14: (-0.7, 0.7)}  # MediaPipe's nose, shoulders and elbows


def with_a_body(hands, aspect):
    """(T, 42, 3) left and right hand relative to a picture of this width over height -> (T, 75, 2) pixels with a standing body."""
    flat = np.asarray(hands, np.float64)[..., :2] * [aspect, 1]
    lengths = np.concatenate([np.linalg.norm(flat[:, first + 9] - flat[:, first], axis=-1) for first in (0, 21)])
    size = np.nanmedian(lengths)
    placed = (flat - np.nanmedian(flat.reshape(-1, 2), 0)) / size * HAND_SIZE + HANDS_PLACE
    points = np.full((len(hands), 75, 2), np.nan)
    for index, position in STANDING.items():
        points[:, index] = position
    points[:, 15], points[:, 16] = placed[:, 0], placed[:, 21]  # wrists
    points[:, 33:] = placed
    return (points * 100 + 500).astype(np.float32)


def _labelled(id, keypoints, seen, names, label, size, fps, language):
    return dict(
        id=id, keypoints=np.where(seen[..., None], keypoints, 0), confidence=seen.astype(np.float32), layout="mediapipe75", fps=fps,
        width=size[0], height=size[1], text=None, gloss=names[label], label=int(label), signer=None, language=language,
    )  # fmt: skip


def _thinned(folds, labels, limit):
    """Indices of at most `limit` clips of each label and fold."""
    if limit is None:
        return np.arange(len(folds))
    seen, chosen = {}, []
    for index, key in enumerate(zip(folds.tolist(), labels.tolist())):
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= limit:
            chosen.append(index)
    return np.array(chosen)


# --- Rendered PHOENIX14T ----------------------------------------------------------------------------------------------------------


PROBE_SENTENCES = 1500


def rendered(place, variation, limit=None):
    """{split: Parquet file}, of each at most `limit[split]` sentences.

    `train`; `validation`, one of fourteen training sentences, by a hash of the id; `test`, which is the official dev; and `probe`, some of
    train's sentences by themselves.
    """

    def write(folder):
        parts = {"train": [], "validation": [], "test": []}
        for source, names in (("train", ("train", "validation")), ("dev", ("test",))):
            for record in pq.read_table(place.data("phoenix14t_annotations", f"{source}.parquet")).to_pylist():
                split = names[-1] if len(names) == 1 or in_hash_part(record["id"], 14) else "train"
                if limit is None or len(parts[split]) < limit[split]:
                    parts[split].append(record)
        parts["probe"] = parts["train"][:: max(1, len(parts["train"]) // PROBE_SENTENCES)][:PROBE_SENTENCES]
        for split, records in parts.items():
            rendered_phoenix.write(records, folder / f"{split}.parquet", variation=variation)

    folder = place.folder_once(place.path("rendered", variation, limit), write)
    return {split: folder / f"{split}.parquet" for split in ("train", "validation", "test", "probe")}


def in_hash_part(name, parts):
    """Whether a name is among about 1 / parts of all names; its hash decides, so the answer is always the same."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % parts == 0


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
