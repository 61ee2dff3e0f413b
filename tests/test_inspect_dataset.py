"""Inspection finds what was put there: duplicates, leaks, gaps, swapped hands, jumps; and its report is one file."""

import json
import re

import datasets
import numpy as np
import pytest

from datasets_scripts.build import build
from datasets_scripts.inspect_dataset import findings, histogram, inspect, main, report_html, words_of
from datasets_scripts.schema import FEATURES

from .conftest import random_signing
from .test_build import write_clips

LEFT, RIGHT = slice(27, 48), slice(50, 71)  # the hands' own 21 points


def row(name, seed=0, num_frames=30, text=None, **fields):
    keypoints = random_signing(num_frames, seed=seed) * 100 + 300
    return {
        "id": name, "keypoints": keypoints, "confidence": np.ones(keypoints.shape[:2], np.float32), "layout": "uniglor73", "fps": 25.0,
        "width": 600, "height": 600, "text": text, "gloss": None, "label": None, "signer": None, "language": "gsg",
    } | fields  # fmt: skip


def inspected(**splits):
    rows = {name: datasets.Dataset.from_list(rows, features=FEATURES) for name, rows in splits.items()}
    return inspect(rows)


def test_counts_of_texts_and_vocabulary_against_train():
    train = [row("a", 0, text="Es regnet, es regnet."), row("b", 1, text="Die Sonne scheint"), row("c", 2, label=4, signer="x", fps=None)]
    test = [row("d", 3, text="es schneit heute !"), row("e", 4, 50, text="die sonne scheint.", signer="x")]
    report, _ = inspected(train=train, test=test)
    facts = report["splits"]["train"]
    assert (facts["clips"], facts["frames"], facts["texts"], facts["words"], facts["vocabulary"]) == (3, 90, 2, 7, 5)
    assert facts["words_per_text"] == {"min": 3, "median": 3.5, "mean": 3.5, "max": 4} and facts["hours"] == round(60 / 25 / 3600, 3)
    assert facts["fps"] == {"25.0": 2, "unknown": 1} and facts["labels"] == 1 and facts["signers"] == {"x": 1}
    facts = report["splits"]["test"]
    assert facts["out_of_vocabulary"] == {"words": round(2 / 6, 4), "vocabulary": round(2 / 6, 4)}
    assert facts["texts_also_in_train"] == 0.5 and facts["signers_also_in_train"] == ["x"]


def test_a_split_without_any_text_or_label_is_named():
    report, _ = inspected(train=[row("a", 0), row("b", 1)], test=[row("c", 2, text="Hallo")], other=[row("d", 3, label=1)])
    assert [sentence for sentence in findings(report) if "no clip" in sentence] == ["train: no clip has a text or a label"]


def test_words_are_lower_case_and_without_punctuation():
    assert words_of("So, don't re-fry it!  Größe") == ["so", "don't", "re-fry", "it", "größe"]


def test_clips_that_are_there_twice_are_found_within_and_across_splits():
    hidden = row("hidden", 0)
    hidden["confidence"][:, 0] = 0
    other = row("other", 0)
    other["confidence"][:, 0], other["keypoints"][:, 0] = 0, 7  # differs only in what was not seen
    report, _ = inspected(train=[hidden, other, row("a", 1)], test=[row("b", 1), row("c", 2)])
    assert report["splits"]["train"]["duplicate_clips"] == [["hidden", "other"]]
    assert report["splits"]["test"]["clips_also_in_train"] == [{"clips": ["b"], "train": ["a"]}]
    assert any(sentence.startswith("test: 1 clips are in train too") for sentence in findings(report))


def test_missing_points_jumps_and_swapped_hands_are_measured():
    gaps, jumping, swapped = row("gaps", 0), row("jumping", 1), row("swapped", 2)
    gaps["confidence"][:15, RIGHT] = 0
    jumping["keypoints"][10:12] += 5000
    swapped["keypoints"][:, LEFT], swapped["keypoints"][:, RIGHT] = swapped["keypoints"][:, RIGHT], swapped["keypoints"][:, LEFT].copy()
    report, _ = inspected(train=[gaps, jumping, swapped])
    facts = report["splits"]["train"]
    assert facts["missing_points"] == {"body": 0, "face": 0, "left_hand": 0, "right_hand": round(0.5 * 21 / 23 / 3, 4)}
    assert facts["jumping_clips"] == [{"id": "jumping", "frames": 2}] and facts["frames_dropped"] == 2
    assert facts["swapped_hands"] == 1


def test_clips_that_training_leaves_out_are_counted():
    """Two of 90 were shorter than a segment, which nobody was told before the training."""
    report, _ = inspected(train=[row("short", 0, 14), row("long", 1, 15)])
    assert report["splits"]["train"]["shorter_than_a_segment"] == ["short"]
    assert "train: 1 of 2 clips are shorter than the 15 frames of a segment: training leaves them out" in findings(report)


def test_unusable_clips_and_hands_far_from_their_wrists_are_named():
    headless = row("headless", 0)
    headless["confidence"][:, 1:8] = 0
    scrambled = row("scrambled", 1)
    scrambled["keypoints"] = scrambled["keypoints"][:, np.roll(np.arange(73), 7)]  # as of a layout that begins with other points
    report, _ = inspected(train=[headless, scrambled])
    facts = report["splits"]["train"]
    assert [entry["id"] for entry in facts["unusable"]] == ["headless"] and "no frame shows both" in facts["unusable"][0]["reason"]
    assert [entry["id"] for entry in facts["hands_off_their_wrists"]] == ["scrambled"]


def test_the_command_writes_json_and_one_page_that_loads_nothing(tmp_path, capsys):
    table = write_clips(tmp_path / "clips", 6, splits=("train", "train", "test"))
    build("folder", tmp_path / "clips", tmp_path / "rows", annotations=table)
    main([str(tmp_path / "rows"), "--output_dir", str(tmp_path / "report")])
    assert "train: 4 clips" in capsys.readouterr().out
    written = json.loads((tmp_path / "report" / "inspection.json").read_text(encoding="utf-8"))
    assert written["splits"]["test"]["clips"] == 2
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count("<iframe") == 3 + 2 and "<svg" in page and "satz nummer" in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)


def test_a_single_parquet_file_is_inspected_too(tmp_path):
    write_clips(tmp_path / "clips", 2, texts=False)
    build("folder", tmp_path / "clips", tmp_path / "rows", "uniglor73")
    path = tmp_path / "rows" / "data" / "train-00000-of-00001.parquet"
    report = main([str(path), "--output_dir", str(tmp_path / "report")])
    assert report["splits"]["train"]["clips"] == 2


def test_rows_of_another_kind_are_refused():
    with pytest.raises(ValueError, match=r"train: found the columns \['text'\], expected canonical rows with id, keypoints"):
        inspect({"train": datasets.Dataset.from_dict({"text": ["a"]})})


def test_what_comes_from_the_data_is_escaped():
    report, inspectors = inspected(train=[row("<b>a</b>", text="<script>alert(1)</script>")])
    page = report_html("<i>", report, inspectors)
    assert "<script>alert" not in page and "<b>a" not in page and "<i>" not in page


@pytest.mark.parametrize("values", [[5], [3, 3, 3], [0.0, np.nan], list(range(1000)), [0.1] * 99 + [1e6]])
def test_histograms_count_every_value(values):
    picture = histogram(values, "x")
    counts = [int(count.replace(",", "")) for count in re.findall(r": ([\d,]+)</title>", picture)]
    assert sum(counts) == np.isfinite(values).sum()
    assert histogram([], "x") == ""
