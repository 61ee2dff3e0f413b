"""Latents of a data set: what is written is what the model says, and the nearest are the nearest."""

import json

import datasets
import numpy as np
import pytest
import torch

from datasets_scripts.schema import FEATURES
from modeling_unigloR import KeypointProcessor, SignMAE
from train import embed
from train.data.segments import load_rows

from .conftest import random_signing


@pytest.fixture(scope="module")
def latents_dir(sign_mae_dir, corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents") / "written"
    argv = ["--checkpoint", sign_mae_dir, "--datasets", corpus, "--split", "train", "test", "--batch_size", "5"]
    embed.main([*argv, "--output_dir", str(folder)])
    return folder


def test_rows_hold_what_the_model_says_of_each_segment(latents_dir, sign_mae_dir, corpus, tmp_path):
    rows = datasets.load_dataset(str(latents_dir), split="train", cache_dir=str(tmp_path)).with_format("numpy")
    model, processor = SignMAE.from_pretrained(sign_mae_dir), KeypointProcessor.from_pretrained(sign_mae_dir)
    place = 0
    for row in load_rows(corpus, "train").with_format("numpy"):
        clip = processor.process_row(row)
        with torch.no_grad():
            latents = model.encode_sequence(torch.from_numpy(clip.keypoints)[None])[0][0].numpy()
        written = rows[place : place + len(latents)]
        np.testing.assert_allclose(written["latent"], latents, atol=1e-5)
        assert set(written["id"]) == {row["id"]} and set(written["text"]) == {row["text"]}
        assert written["segment"].tolist() == list(range(len(latents)))
        np.testing.assert_allclose(written["start"], clip.frame_times[: 7 * len(latents) : 7])
        place += len(latents)
    assert place == len(rows)


def test_the_json_says_what_made_them(latents_dir, sign_mae_dir, corpus):
    facts = json.loads((latents_dir / "embedding.json").read_text())
    assert (facts["model"], facts["dataset"], facts["stride"], facts["window_size"]) == (sign_mae_dir, corpus, 7, 15)
    assert facts["splits"]["train"]["clips"] == 12 and facts["splits"]["test"]["clips"] == 5
    assert facts["splits"]["train"]["segments"] > 12 and facts["splits"]["train"]["unusable_clips"] == 0
    assert facts["splits"]["train"]["mean_of_standard_deviations"] > 0


def test_the_stride_is_ones_own(sign_mae_dir, corpus, tmp_path):
    facts = embed.embed(sign_mae_dir, corpus, ["test"], tmp_path / "out", stride=1)
    segments = embed.EmbeddedSegments(tmp_path / "out")
    assert facts["stride"] == 1 and len(segments) == sum(20 + 5 * (index % 4) - 14 for index in range(5))
    assert segments.starts[1] == pytest.approx(1 / 25) and segments.ends[0] == pytest.approx(15 / 25)


def write_rows(folder, **changes):
    """Two clips as Parquet, the second of them changed."""
    rows = []
    for index in range(2):
        keypoints = random_signing(30, index) * 100 + 300
        row = dict(id=f"clip-{index}", keypoints=keypoints, confidence=np.ones((30, 73), np.float32), layout="uniglor73", fps=25.0)
        row |= dict(width=600, height=600, text="a", gloss=None, label=3, signer="anna", language="gsg")
        rows.append(row | (changes if index else {}))
    datasets.Dataset.from_list(rows, features=FEATURES).to_parquet(folder / "train-00000-of-00001.parquet")
    return str(folder)


def test_clips_that_cannot_be_used_are_counted(sign_mae_dir, tmp_path):
    rows = write_rows(tmp_path, confidence=np.zeros((30, 73), np.float32))
    facts = embed.embed(sign_mae_dir, rows, ["train"], tmp_path / "out")
    assert facts["splits"]["train"]["clips"] == 1 and facts["splits"]["train"]["unusable_clips"] == 1
    assert set(embed.EmbeddedSegments(tmp_path / "out").ids) == {"clip-0"}


def test_times_of_clips_of_unknown_rate_are_frames(sign_mae_dir, tmp_path):
    rows = write_rows(tmp_path, fps=None, label=None)
    facts = embed.embed(sign_mae_dir, rows, ["train"], tmp_path / "out")
    assert facts["splits"]["train"]["clips_of_unknown_rate"] == 1
    written = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    ends = {name: [row["end"] for row in written if row["id"] == name] for name in ("clip-0", "clip-1")}
    assert ends == {"clip-0": pytest.approx([0.6, 0.88, 1.16]), "clip-1": [15, 22, 29]}
    assert [row["label"] for row in written] == [3, 3, 3, None, None, None] and set(written["signer"]) == {"anna"}


def test_a_run_that_fails_leaves_nothing(sign_mae_dir, corpus, tmp_path, monkeypatch):
    process, calls = KeypointProcessor.process_row, []

    def fail_at_the_eighth(self, row):
        calls.append(row)
        if len(calls) == 8:
            raise RuntimeError("out of luck")
        return process(self, row)

    monkeypatch.setattr(KeypointProcessor, "process_row", fail_at_the_eighth)
    with pytest.raises(Exception, match="out of luck"):
        embed.embed(sign_mae_dir, corpus, ["train"], tmp_path / "out", batch_size=2)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_says_why(sign_mae_dir, corpus, latents_dir, tmp_path):
    with pytest.raises(ValueError, match="is already there"):
        embed.embed(sign_mae_dir, corpus, ["train"], latents_dir)
    with pytest.raises(ValueError, match="stride=0"):
        embed.embed(sign_mae_dir, corpus, ["train"], tmp_path / "out", stride=0)
    rows = write_rows(tmp_path, confidence=np.zeros((30, 73), np.float32))
    nobody = datasets.load_dataset(rows, split="train", cache_dir=str(tmp_path / "cache")).select([1])
    nobody.to_parquet(tmp_path / "nobody.parquet")
    with pytest.raises(ValueError, match="none of 1 clips can be used"):
        embed.embed(sign_mae_dir, str(tmp_path / "nobody.parquet"), ["train"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit):
        embed.main(["--nearest", "a:0"])
    with pytest.raises(SystemExit):
        embed.main(["--datasets", corpus])


# --- The nearest ------------------------------------------------------------------------------------------------------------------


def test_the_nearest_are_those_of_a_search_one_by_one(rng):
    latents, query = rng.normal(size=(50, 8)), rng.normal(size=8)
    cosine = [float(latent @ query / np.linalg.norm(latent) / np.linalg.norm(query)) for latent in latents]
    indices, similarities = embed.nearest_segments(latents, query, top=5)
    assert indices.tolist() == sorted(range(50), key=lambda n: -cosine[n])[:5]
    np.testing.assert_allclose(similarities, sorted(cosine, reverse=True)[:5])


def test_of_equally_near_segments_the_first_come_first(rng):
    latents = np.repeat(rng.normal(size=(4, 8)), 10, axis=0)
    indices, _ = embed.nearest_segments(latents, latents[25], top=5)
    assert indices.tolist() == [20, 21, 22, 23, 24]
    again, _ = embed.nearest_segments(latents, latents[25], top=5, lengths=embed.vector_lengths(latents))
    assert again.tolist() == indices.tolist()


def test_length_does_not_count_and_the_excluded_are_left_out():
    latents = np.array([[3.0, 0.0], [0.5, 0.1], [0.0, 1.0], [0.0, 0.0]])
    indices, similarities = embed.nearest_segments(latents, np.array([2.0, 0.0]), top=9)
    assert indices.tolist() == [0, 1, 2, 3] and similarities[0] == 1 and similarities[2:].tolist() == [0, 0]
    assert embed.nearest_segments(latents, latents[0], 9, exclude=np.array([1, 0, 1, 0]))[0].tolist() == [1, 3]


def test_bad_queries_say_what_was_found():
    latents = np.eye(3)
    with pytest.raises(ValueError, match=r"query of shape \(2,\)"):
        embed.nearest_segments(latents, np.ones(2))
    with pytest.raises(ValueError, match="top=0"):
        embed.nearest_segments(latents, np.ones(3), 0)
    with pytest.raises(ValueError, match="no direction"):
        embed.nearest_segments(latents, np.zeros(3))
    with pytest.raises(ValueError, match="No other segment is left"):
        embed.nearest_segments(latents, np.ones(3), exclude=np.ones(3))


def test_the_command_prints_the_segment_and_its_neighbours(latents_dir, capsys):
    indices, _ = embed.main(["--latents", str(latents_dir), "--nearest", "train-3:1", "--top", "4", "--other_clips"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and lines[0].split()[:4] == ["1.000", "0.28", "0.88", "train-3:1"]
    segments = embed.EmbeddedSegments(latents_dir)
    for line, index in zip(lines[1:], indices):
        similarity, start, end, name, text = line.split(maxsplit=4)
        assert name == f"{segments.ids[index]}:{segments.segments[index]}" and not name.startswith("train-3:")
        assert text == segments.texts[index] and float(end) > float(start) and -1 <= float(similarity) <= 1
    own, _ = embed.main(["--latents", str(latents_dir), "--nearest", "train-3:1", "--top", "1000"])
    assert len(own) == len(segments) - 1  # all but itself


def test_a_segment_that_is_not_there_is_named(latents_dir, tmp_path):
    def nearest(name, folder=latents_dir):
        embed.main(["--latents", str(folder), "--nearest", name])

    with pytest.raises(ValueError, match="Did you mean .*train-3"):
        nearest("trane-3:0")
    with pytest.raises(ValueError, match="'train-3' has segments 0 to 2, found 7"):
        nearest("train-3:7")
    with pytest.raises(ValueError, match="expected CLIP_ID:SEGMENT"):
        nearest("train-3")
    with pytest.raises(ValueError, match="holds no latents"):
        nearest("train-3:0", tmp_path)
