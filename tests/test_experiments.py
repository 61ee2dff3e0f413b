"""Experiments at a toy size: their rows, their form, what is done once; folds, encoders and intervals against naive versions."""

import csv
import json
from types import SimpleNamespace

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy import stats

from experiments import (
    bsl,
    corpora,
    dgs,
    encoders,
    gloss_probe,
    include,
    inputs,
    intervals,
    isolated,
    real_mix,
    results,
    run,
    sentences,
    signing,
    table,
    translation,
)
from experiments.pretraining import TINY
from experiments.readers import MOST_RATES, rate_that_is_best
from experiments.workplace import MissingDataError, Workplace
from modeling_unigloR import KeypointProcessor
from modeling_unigloR.keypoint_readers_uniglor import clip_from_array
from tests.conftest import REAL_DATA, TINY_TEXT, random_signing
from train import train_recognition
from train.data.clips import Clips
from train.metrics.text import bootstrap_interval

TOY = TINY | {"hidden_size": 16, "intermediate_size": 16, "per_device_train_batch_size": 4, "segments_per_clip": 2}
WORDS = ("REGEN", "SONNE", "SCHNEE")


def holistic(seed, num_frames=30):
    """(T, 75, 3) of a body that moves, as MediaPipe gives it."""
    points = random_signing(num_frames, seed, "uniglor73")[:, :1].repeat(75, 1) * 0.1 + 0.5
    points = np.concatenate([points, points[..., :1]], -1).astype(np.float32)
    points[:, 11], points[:, 12] = (0.6, 0.5, 0), (0.4, 0.5, 0)  # shoulders
    return points + np.random.default_rng(seed).normal(0, 0.01, points.shape).astype(np.float32)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Made-up files in the places of the real ones."""
    folder = tmp_path_factory.mktemp("data")
    lines = []
    for index in range(24):  # 3 words, 4 sessions that are no neighbours, 2 takes
        path = folder / "real" / "include43" / WORDS[index % 3] / f"{index}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, holistic(index % 3))
        lines.append({"path": f"{WORDS[index % 3]}/{index}.npy", "label": WORDS[index % 3], "session": 10 * (index // 6)})
    write_csv(folder / "real" / "include43" / "labels.csv", lines)
    lines = []
    for index in range(12):  # 2 letters, 4 signers
        path = folder / "real" / "bsl_fingerspelling" / "npz" / f"{index}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, keypoints=holistic(index)[:, 33:], fps=25.0)
        facts = {"label": "AB"[index % 2], "signer": f"s{index // 3}", "fps": 25, "width": 400, "height": 300}
        lines.append({"file": path.name, **facts})
    write_csv(folder / "real" / "bsl_fingerspelling" / "labels.csv", lines)
    lines = []
    for index in range(18):
        path = folder / "real" / "dgs_sentences" / "motion" / f"{index}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        points = np.random.default_rng(index).uniform(0.3, 0.7, (40 + index, 67, 2)) * 0.02 + np.random.default_rng(0).uniform(
            0.3, 0.7, (67, 2)
        )
        points[:, 2], points[:, 5] = (0.4, 0.5), (0.6, 0.5)
        np.savez(path, keypoints=points.reshape(len(points), -1).astype(np.float32))
        facts = {"german": " ".join(["wort"] * (1 + index % 4)), "gloss": "WORT"}
        lines.append({"id": index, "document": f"d{index % 3}", "fps": 25, **facts})
    write_csv(folder / "real" / "dgs_sentences" / "sentences.csv", lines)
    (folder / "phoenix14t_annotations").mkdir()
    for part, count in (("train", 60), ("dev", 6)):
        records = []
        for index in range(count):
            states = ([0, 0] + [4] * 5 + [5] * 5 + [6] * 5 + [13 + 3 * (index % 3)] * 12 + [0] * 4)[: 24 + index % 8]
            shapes = [frame % 7 for frame in range(len(states))]
            records.append(
                dict(id=f"{part}-{index}", signer=f"Signer0{index % 3}", text=["morgen regen .", "am tag sonne ."][index % 2],
                     gloss="MORGEN REGEN", num_frames=len(states), sign_state=states, mouth_shape=shapes, hand_shape=shapes)
            )  # fmt: skip
        pq.write_table(pa.Table.from_pylist(records), folder / "phoenix14t_annotations" / f"{part}.parquet")
    return folder


def write_csv(path, lines):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)


@pytest.fixture
def place(data_dir, tmp_path, monkeypatch):
    """Made-up data; one set without labels in the place of the real mix, and no INCLUDE in it."""

    def clips(folder):
        for index in range(8):
            yield str(index), "validation" if index % 4 == 3 else "train", clip_from_array(holistic(index, 34), width=4, height=3)

    monkeypatch.setattr(corpora, "SETS", {"toy": ("include43", "und", clips)})
    return Workplace(data_dir, tmp_path)


def only(monkeypatch, module, *names):
    """Of the rows of representations only some: what is the same for all of them is tried once."""
    made = module.representations

    def some(*arguments):
        rows, processor = made(*arguments)
        return {name: rows[name] for name in names}, processor

    monkeypatch.setattr(module, "representations", some)


def check_form(name, result, folder):
    """Every row and contrast has a mean and an interval or none, and what is written can be read."""
    written = results.write(name, result, folder, "tiny", "python -m experiments.run ...")
    assert json.loads((folder / f"{name}.json").read_text()) == written == results.read(name, folder)
    assert {"rows", "contrasts", "unit", "scored", "config", "command", "commit", "versions", "device", "scale", "date"} <= set(written)
    for row in written["rows"].values():
        assert all(set(score) == {"mean", "interval", "seeds"} and score["seeds"] >= 1 for score in row.values())
    for row in written["contrasts"].values():
        assert all(set(score) == {"mean", "interval"} for score in row.values())
    assert results.read_predictions(name, folder)
    assert table.TINY in table.format_result(written)
    assert str(folder) not in (folder / f"{name}.json").read_text()
    return written


# --- Experiments ------------------------------------------------------------------------------------------------------------------

WORD_SIZES = {"sign_mae": TOY, "pretrain_steps": 2, "pretrain_seeds": 1, "rates": [1e-3], "seeds": 2, "steps": 2, "folds": 2, "limit": None}


def test_words_are_recognised_by_sessions_and_what_was_killed_goes_on(place, tmp_path, monkeypatch):
    """Killed in the third of six trainings, the second try begins with that one; a third does nothing."""
    only(monkeypatch, include, "pretrained", "pca")
    sizes = WORD_SIZES | {"seeds": 1}
    trainings, train = [], train_recognition.main

    def main(*arguments, **options):
        trainings.append(1)
        if len(trainings) == 3:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    monkeypatch.setattr(train_recognition, "main", main)
    with pytest.raises(KeyboardInterrupt):
        include.run(place, sizes)
    result = include.run(place, sizes)
    assert len(trainings) == 3 + 4
    written = check_form("include", result, tmp_path / "results")
    assert set(written["rows"]) == {
        "pretrained", "pca", "ceiling_known_recordings", "floor_class_means_of_latents", "floor_class_means_of_keypoints",
        "floor_most_frequent",
    }  # fmt: skip
    assert list(written["contrasts"]) == ["pretrained - pca"] and written["clips"] == 24
    again = include.run(place, sizes)
    assert len(trainings) == 7 and again.rows == result.rows
    kept = results.read_predictions("include", tmp_path / "results")
    scored = isolated.scores(kept["rank_and_labels"]["pca"], kept["unit_of"])
    assert intervals.over_units({"pca": scored})[0]["pca"]["top1"]["mean"] == pytest.approx(
        written["rows"]["pca"]["top1"]["mean"], rel=1e-5
    )


def test_glosses_are_probed_on_sentences_that_nothing_learnt_from(place, tmp_path):
    sizes = {"sign_mae": TOY, "pretrain_steps": 2, "limit": {"train": 30, "validation": 4, "test": 2}, "labelled": [20, 5], "seeds": 2}
    result = gloss_probe.run(place, sizes | {"variations": [1.2]})
    written = check_form("gloss_probe", result, tmp_path / "results")
    assert set(written["rows"]) == {
        "pretrained", "untrained", "pca", "frames", "every_nth_frame", "ceiling_all_labels", "floor_most_frequent",
    }  # fmt: skip
    assert set(written["rows"]["pca"]) == {"top1", "top1_5"} and len(written["contrasts"]) == 4
    files = corpora.rendered(place, 1.2, sizes["limit"])
    ids = {part: set(pq.read_table(path)["id"].to_pylist()) for part, path in files.items()}
    assert ids["probe"] <= ids["train"] and not ids["train"] & ids["validation"] and all(name.startswith("dev") for name in ids["test"])


@pytest.mark.slow
def test_inputs_are_compared_on_development_data_with_their_untrained_twins(place, tmp_path, monkeypatch):
    chosen = ("paper", "linear_skip_whitening_alone")
    monkeypatch.setattr(inputs, "VARIANTS", {name: inputs.VARIANTS[name] for name in chosen})
    sizes = {"sign_mae": TOY, "pretrain_steps": 2, "seeds": 1, "folds": 4, "limit": None, "labelled": [20]}
    written = check_form(
        "inputs", inputs.run(place, sizes | {"sentences": {"train": 30, "validation": 4, "test": 2}}), tmp_path / "results"
    )
    assert set(written["rows"]) == {*chosen, *(f"untrained_{name}" for name in chosen), "pca"}
    for row in written["rows"].values():
        assert set(row) == {"top1_20", "mpjpe", "mpjpe_hands", "hand_shape", "include", "bsl"}
    assert "linear_skip_whitening_alone - paper" in written["contrasts"]


@pytest.mark.slow
def test_letters_are_recognised_by_signers(place, tmp_path, monkeypatch):
    only(monkeypatch, include, "pretrained")
    written = check_form("bsl", bsl.run(place, WORD_SIZES), tmp_path / "results")
    assert written["units"] == 4 and written["rows"]["pretrained"]["top1"]["seeds"] == 2


@pytest.mark.slow
def test_a_mix_is_given_back_beside_a_linear_code_and_floors(place, tmp_path):
    written = check_form("real_mix", real_mix.run(place, WORD_SIZES), tmp_path / "results")
    assert set(written["rows"]) == {
        "pretrained", "untrained", "pca", "every_nth_frame", "floor_mean_pose", "floor_static_pose", "floor_nearest_segment",
    }  # fmt: skip
    assert written["rows"]["floor_static_pose"]["mpjpe"]["mean"] <= written["rows"]["every_nth_frame"]["mpjpe"]["mean"]
    assert list(written["sets"]) == ["toy"] and "| mpjpe of a set | toy |" in table.format_result(written)


@pytest.mark.slow
def test_documents_are_left_out_in_turn(place, tmp_path, monkeypatch):
    only(monkeypatch, dgs, "pretrained")
    sizes = {"sign_mae": TOY, "pretrain_steps": 2, "rates": [1e-3], "seeds": 1, "steps": 2, "limit": None}
    written = check_form("dgs", dgs.run(place, sizes), tmp_path / "results")
    assert set(written["rows"]) == {"pretrained", "ceiling_true_glosses", "floor_length"} and len(written["documents"]) == 3
    assert written["rows"]["pretrained"]["recall5"]["interval"] is None
    assert "| recall5 of a document | d0, chance 83.3 |" in table.format_result(written)


@pytest.mark.slow
def test_sentences_are_translated_by_every_row_and_the_floors(place, tmp_path, monkeypatch):
    only(monkeypatch, sentences, "pretrained", "pca", "frames")
    sizes = {"sign_mae": TOY, "pretrain_steps": 2, "rates": [1e-3], "seeds": 2, "steps": 2}
    result = sentences.phoenix_rendered(place, sizes | {"limit": {"train": 12, "validation": 4, "test": 4}})
    written = check_form("phoenix_rendered", result, tmp_path / "results")
    assert {"pretrained", "pca", "frames", "ceiling_true_glosses", "ceiling_gloss_of_each_window"} < set(written["rows"])
    assert {"bleu4", "wer", "rouge_l"} <= set(written["rows"]["floor_constant_sentence"])


@pytest.mark.slow
def test_sentences_are_signed_and_scored_beside_ceilings_and_floors(place, tmp_path):
    sizes = {"sign_mae": TOY, "pretrain_steps": 2, "judges": 1, "judge_steps": 2, "steps": 2, "seeds": 2, "rates": [1e-3]}
    sizes |= {"model": {"hidden_size": 16, "codebook_size": 8}}
    sizes |= {"judge_text_config": TINY_TEXT, "limit": {"train": 12, "validation": 4, "test": 4}}
    written = check_form("signing", signing.signing_varied(place, sizes), tmp_path / "results")
    systems = {"regression", "regression_reference_length", "codes_flow", "codes_flow_reference_length", "retrieval"}
    assert systems | {"ceiling_real", "ceiling_oracle", "floor_backwards", "floor_mean_pose"} <= set(written["rows"])
    assert written["rows"]["codes_flow"]["bleu4"]["seeds"] == 2 and written["rows"]["floor_mean_pose"]["bleu4"]["seeds"] == 1
    assert written["rows"]["codes_flow"]["diversity"]["mean"] > 0 and written["rows"]["regression"]["diversity"]["mean"] == 0
    assert len(written["lengths"]["regression"]) == 2 and written["config"]["chosen_rates"] == {"regression": 1e-3, "codes_flow": 1e-3}


def test_every_name_has_an_experiment_at_every_scale():
    for name in run.NAMES:
        for scale in ("small", "tiny"):
            function, sizes = run.experiment(name, scale, seeds=2)
            assert callable(function) and sizes["seeds"] == 2


def test_without_the_data_an_experiment_ends_in_one_line(tmp_path):
    with pytest.raises(MissingDataError, match="^No real data are named. Set UNIGLOR_DATA or give --data_dir"):
        Workplace(None, tmp_path).data("real")
    with pytest.raises(SystemExit, match="real is missing. Set UNIGLOR_DATA"):
        Workplace(tmp_path, tmp_path).data("real")


# --- Folds and rates --------------------------------------------------------------------------------------------------------------


def test_neighbouring_sessions_are_one_group():
    assert corpora.blocks([46, 42, 43, 44, 50, 49]) == {42: 0, 43: 0, 44: 0, 46: 1, 49: 2, 50: 2}


def test_folds_never_split_a_group_and_leave_no_tested_word_without_training():
    groups = np.array([0, 0, 1, 1, 2, 2, 2, 3, 3, 3])
    labels = np.array([0, 1, 0, 1, 0, 1, 1, 2, 2, 2])
    folds = corpora.folds_of(groups, labels, num_folds=3)
    assert folds.tolist()[7:] == [-1, -1, -1]  # word 2 was recorded in one group: it is always trained, and never scored
    assert all(len(set(folds[(groups == group) & (folds >= 0)])) <= 1 for group in range(4))
    for fold in range(3):
        assert set(labels[folds == fold]) <= set(labels[folds != fold])


def test_folds_of_the_ceiling_hold_clips_of_every_group():
    folds, labels = np.array([0] * 4 + [1] * 4 + [-1]), np.array([0, 0, 1, 1] * 2 + [2])
    mixed = corpora.regardless_of_groups(folds, labels)
    assert mixed.tolist() == [0, 1, 1, 0] * 2 + [-1]
    one_each = corpora.regardless_of_groups(np.repeat([0, 1, 2], 4), np.array([0, 1, 2, 3] * 3))
    assert set(one_each.tolist()) == {0, 1, 2}
    few = corpora.regardless_of_groups(np.array([0, 1, 1, 2]), np.array([0, 0, 1, 1]))  # two clips of each of two labels
    assert set(few.tolist()) == {0, 1, 2}


def test_sessions_of_the_real_set_are_split_by_recording(tmp_path):
    if not (REAL_DATA / "include43").exists():
        pytest.skip(f"no {REAL_DATA / 'include43'}")
    lines = corpora.read_csv(REAL_DATA / "include43" / "labels.csv")
    sessions = np.array([int(line["session"]) for line in lines])
    runs = corpora.blocks(sessions.tolist())
    folds = corpora.folds_of(np.array([runs[session] for session in sessions.tolist()]), corpora.labels_of(lines)[0], 5)
    assert set(folds) == {-1, 0, 1, 2, 3, 4} and len(lines) == 432
    for fold in range(5):
        others, scored = sessions[folds != fold], sessions[folds == fold]
        assert not set(scored) & set(others[folds[folds != fold] >= 0])
        assert np.abs(scored[:, None] - others[None]).min() > 1


@pytest.mark.parametrize("best, tried", [(1e-3, 3), (4e-3, 5), (1e-9, MOST_RATES)])
def test_the_grid_of_rates_grows_until_the_best_is_not_at_its_edge(best, tried):
    asked = []

    def score(rate):
        asked.append(rate)
        return -abs(np.log(rate) - np.log(best))

    chosen = rate_that_is_best([5e-4, 1e-3, 2e-3], score)
    assert len(asked) == len(set(asked)) == tried
    assert chosen == min(asked, key=lambda rate: abs(np.log(rate) - np.log(best)))
    assert tried == MOST_RATES or min(asked) < chosen < max(asked)


# --- Encoders ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clips(corpus, tmp_path):
    return Clips([corpus], "train", KeypointProcessor(), tmp_path)


def test_windows_are_those_of_the_sign_mae(clips, tiny_sign_mae):
    for index, windows in enumerate(encoders.windows_of(clips, 15, 7)):
        segments, _ = tiny_sign_mae().segment(torch.from_numpy(clips.keypoints(index)[0])[None], stride=7)
        np.testing.assert_array_equal(windows, segments.numpy())
        if index == 4:
            break


def test_a_clip_that_is_shorter_than_a_window_gives_one_vector():
    class Short:
        num_frames = np.array([5])

        def __len__(self):
            return 1

        def keypoints(self, index):
            return random_signing(5), None

    short = Short()
    assert encoders.every_nth_frame(15, 7)(short).lengths.tolist() == encoders.raw_windows(15, 7)(short).lengths.tolist() == [1]


def test_every_row_of_a_clip_has_as_many_vectors_as_it_has_windows(clips):
    components = encoders.PrincipalComponents.fit(clips, 12, 15, 7)
    windows = [len(some) for some in encoders.windows_of(clips, 15, 7)]
    assert components(clips).lengths.tolist() == encoders.every_nth_frame(15, 7)(clips).lengths.tolist() == windows
    assert encoders.frames(clips).lengths.tolist() == clips.num_frames.tolist()
    assert components(clips)[0].shape[1] == 12 and encoders.frames(clips)[0].shape[1] == 146


def test_principal_components_are_those_of_a_singular_value_decomposition(clips):
    windows = np.concatenate([some.reshape(len(some), -1) for some in encoders.windows_of(clips, 15, 1)]).astype(np.float64)
    components = encoders.PrincipalComponents.fit(clips, 6, 15, 1)
    axes = np.linalg.svd(windows - windows.mean(0), full_matrices=False)[2]
    expected = (windows - windows.mean(0)) @ axes[:6].T
    made = np.concatenate(components(clips).arrays)
    np.testing.assert_allclose(np.abs(made), np.abs(expected), atol=2e-3)  # a component's sign is free; float32 against float64
    back = components.given_back(torch.from_numpy(windows[:7].astype(np.float32)))
    np.testing.assert_allclose(back, (windows[:7] - windows.mean(0)) @ axes[:6].T @ axes[:6] + windows.mean(0), atol=1e-3)


def test_whitened_vectors_are_uncorrelated_and_their_deviations_are_square_roots(rng):
    mixed = rng.normal(size=(3000, 4)) @ rng.normal(size=(4, 6)) * [1, 10, 100, 1, 1, 0] + 5  # two of six dimensions are dead or dependent
    vectors = encoders.Vectors(np.split(mixed, 30))
    made = np.concatenate(encoders.Whitening.fit(vectors)(vectors).arrays)
    covariance = np.cov(made.T)
    assert made.std() == pytest.approx(1, abs=0.01) and np.abs(made.mean(0)).max() < 1e-3
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-3
    deviations = np.sqrt(np.linalg.eigvalsh(np.cov(mixed.T))[::-1][:2])
    halved = np.sqrt(np.sort(np.diag(covariance))[::-1][:2]) / np.sqrt(deviations)
    assert halved[0] == pytest.approx(halved[1], rel=0.01)
    still = encoders.Vectors([np.ones((3, 6))] * 4)
    assert not np.concatenate(encoders.Whitening.fit(still)(still).arrays).any()


def test_a_window_has_the_gloss_that_fills_more_than_half_of_it():
    some = SimpleNamespace(ids=["a"], num_frames=np.array([30]))
    states = {"a": [0] * 8 + [4, 5, 6] * 4 + [7] * 9}  # rest, gloss 1 for 12 frames, gloss 2 for 9; then one frame that was added
    assert gloss_probe.window_glosses(some, states, window_size=10, stride=5)[0].tolist() == [-1, 1, 1, -1, 2]


def test_a_probe_finds_a_gloss_that_is_linearly_there_and_none_in_noise(rng):
    glosses = {part: rng.integers(0, 5, size) for part, size in (("train", 1200), ("tune", 200), ("test", 500))}
    noise = {part: rng.standard_normal((len(some), 30)) for part, some in glosses.items()}
    told = {part: (some + 20 * np.eye(5, 30)[glosses[part]], glosses[part]) for part, some in noise.items()}
    assert gloss_probe.probe(told, 1000, seed=0).mean() > 0.99
    assert gloss_probe.probe({part: (some, glosses[part]) for part, some in noise.items()}, 1000, seed=0).mean() < 0.4


@pytest.mark.parametrize("size", [6, 40])
def test_a_discriminant_is_the_naive_one(rng, size):
    """With fewer dimensions than examples, and with more."""
    labels = np.arange(30) % 3
    features = rng.normal(size=(30, size)) + 2 * rng.normal(size=(3, size))[labels]
    names, counts = np.unique(labels, return_counts=True)
    means = np.stack([features[labels == name].mean(0) for name in names])
    within = sum(np.outer(row - means[label], row - means[label]) for row, label in zip(features, labels)) / (len(features) - 1)
    tested = rng.normal(size=(50, size)) * 2
    precision = np.linalg.inv(within + 0.1 * np.eye(size))
    scores = [[np.log(count / 30) - 0.5 * (row - mean) @ precision @ (row - mean) for mean, count in zip(means, counts)] for row in tested]
    assert gloss_probe.Discriminant(features, labels).answer(tested, 0.1).tolist() == np.argmax(scores, 1).tolist()


def test_the_ceiling_knows_each_gloss_and_nothing_else(clips):
    vectors = translation.true_glosses(8)(clips)
    found = {}
    for index, line in enumerate(clips.glosses):
        assert len(vectors[index]) == vectors.lengths[index] == len(line.split())
        for gloss, vector in zip(line.split(), vectors[index]):
            np.testing.assert_array_equal(found.setdefault(gloss, vector), vector)
    assert len(np.unique(np.stack(list(found.values())), axis=0)) == len(found)
    clips.glosses[3] = None
    with pytest.raises(ValueError, match="1 of 12 clips have no gloss"):
        translation.true_glosses(8)(clips)


def test_resampling_keeps_first_and_last_frame():
    keypoints = np.arange(10.0)[:, None, None] * np.ones((1, 2, 2))
    np.testing.assert_allclose(isolated.resample_frames(keypoints, 4)[:, 0, 0], [0, 3, 6, 9])
    np.testing.assert_allclose(isolated.resample_frames(keypoints[:1], 4)[:, 0, 0], 0)


def test_a_body_is_put_behind_hands_of_any_size_and_place():
    hands = np.random.default_rng(0).uniform(0.2, 0.4, (6, 42, 3))
    hands[2, :21] = np.nan
    for scale, shift in ((1, 0), (2, 0.1)):
        made = corpora.with_a_body(hands * scale + shift, 1.0)
        np.testing.assert_allclose(made, corpora.with_a_body(hands, 1.0), atol=0.01)
    assert made.shape == (6, 75, 2) and np.isnan(made[2, 33:54]).all() and np.linalg.norm(made[0, 11] - made[0, 12]) == 100


# --- Intervals --------------------------------------------------------------------------------------------------------------------


def test_a_t_interval_is_scipys():
    values = [16.8, 15.1, 3.9, 34.1, -2.3]
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    np.testing.assert_allclose(intervals.t_interval(values), [expected.low, expected.high])
    assert np.isnan(intervals.t_interval([1.0])).all()


def test_units_are_averaged_over_seeds_before_they_are_compared(rng):
    rows = {"pretrained": {"top1": rng.random((3, 5))}, "pca": {"top1": rng.random((1, 5))}, "floor": {"top1": rng.random((1, 5))}}
    found, contrasts = intervals.over_units(rows)
    difference = rows["pretrained"]["top1"].mean(0) - rows["pca"]["top1"][0]
    assert list(contrasts) == ["pretrained - pca"]
    assert contrasts["pretrained - pca"]["top1"] == {"mean": pytest.approx(difference.mean()), "interval": intervals.t_interval(difference)}
    assert found["pretrained"]["top1"]["seeds"] == 3 and found["pca"]["top1"]["mean"] == pytest.approx(rows["pca"]["top1"].mean())


def test_one_systems_interval_over_sentences_is_that_of_the_text_metrics():
    predictions, truth = ["a b c d", "a b c e", "x y", "a b c d e"] * 3, ["a b c d", "a b c d", "x y z", "a b d e"] * 3
    rows, contrasts = translation.score({"pretrained": [predictions], "pca": [truth]}, truth)
    expected = bootstrap_interval(predictions, truth)
    assert rows["pretrained"]["bleu4"]["interval"] == [pytest.approx(expected["low"]), pytest.approx(expected["high"])]
    assert rows["pca"]["bleu4"]["mean"] == pytest.approx(100) and rows["pca"]["wer"]["mean"] == 0
    assert contrasts["pretrained - pca"]["bleu4"]["mean"] == pytest.approx(expected["score"] - 100)


def test_a_ratio_is_resampled_by_units():
    hits, counts = np.array([3, 0, 5, 1]), np.array([4, 2, 5, 9])
    drawn = np.random.default_rng(0).integers(4, size=(50, 4))
    expected = [sum(hits[unit] for unit in some) / sum(counts[unit] for unit in some) for some in drawn]
    np.testing.assert_allclose(intervals.draws_of_ratio(hits, counts, 50), expected)


def test_items_are_drawn_by_the_parts_that_they_are_made_of():
    times = intervals.times_of_parts([["a", "b"], ["a", "a", "b", "c"], ["c"]], 4000)
    drawn = np.random.default_rng(0).multinomial(3, [1 / 3] * 3, 4000)  # of a, b and c
    np.testing.assert_allclose(times[:, 0], drawn[:, :2].mean(1))
    np.testing.assert_allclose(times[:, 1], (2 * drawn[:, 0] + drawn[:, 1] + drawn[:, 2]) / 4)
    np.testing.assert_allclose(times[:, 2], drawn[:, 2])
    texts, truth = ["a b c d", "a b c", "x y"], ["a b c d", "a b d", "x z"]
    scores = [translation.score({"pca": [texts]}, truth, some)[0]["pca"]["wer"] for some in (None, np.ones((5, 3)))]
    assert scores[0]["mean"] == scores[1]["mean"] == pytest.approx(scores[1]["interval"][0])


def test_permutations_tell_a_true_assignment_from_chance(rng):
    scores = np.eye(12) + rng.normal(0, 0.01, (12, 12))
    assert intervals.permutation_p(lambda order: scores[np.arange(12), order].sum(), 12, 200) == 1 / 201
    assert intervals.permutation_p(lambda order: 0.0, 12, 200) == 1  # chance is as good as the true one, always


# --- Ranking sentences --------------------------------------------------------------------------------------------------------------


def test_ranks_count_what_scores_higher_among_all_and_among_candidates():
    scores = np.array([[3.0, 2, 1], [3, 2, 1], [3, 2, 1]])
    assert dgs.ranks_among(scores, np.arange(3), None).tolist() == [1, 2, 3]
    assert dgs.ranks_among(scores, np.arange(3), np.array([[0, 1], [1, 2], [2, 1]])).tolist() == [1, 1, 2]


def test_candidates_are_the_nearest_in_length_with_the_true_one_among_them(monkeypatch):
    monkeypatch.setattr(dgs, "NUM_MATCHED", 3)
    found = dgs.matched(np.array([1, 5, 5, 5, 9]))
    assert [row[0] for row in found.tolist()] == [0, 1, 2, 3, 4]
    assert set(found[1]) == {1, 2, 3}


def test_a_permutation_within_blocks_leaves_every_item_in_its_block(rng):
    blocks = np.array([0, 1, 0, 1, 2, 0])
    made = dgs.within(rng.permutation(6), blocks)
    assert sorted(made) == list(range(6)) and (blocks[made] == blocks).all()


def test_the_floor_of_lengths_finds_sentences_by_how_long_they_are():
    texts = ["a", "a b c d", "a b c d e f g h i"]
    frames = np.array([30, 120, 270])
    scores = dgs.length_floor(frames, texts, frames, texts)
    assert (scores.argmax(1) == [0, 1, 2]).all()


# --- Tables -----------------------------------------------------------------------------------------------------------------------


def test_a_table_that_differs_from_its_result_is_refused(tmp_path, monkeypatch):
    score = {"top1": {"mean": 50.0, "interval": [40.0, 60.0], "seeds": 3}}
    content = {
        "scale": "small",
        "rows": {"pretrained": score, "pca": score},
        "contrasts": {},
        "unit": "u",
        "scored": "once",
        "command": "c",
        "date": "d",
    }
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "include.json").write_text(json.dumps(content))
    document = tmp_path / "README.md"
    document.write_text(f"{table.MARKER.format('include')}\n\n<!-- /include -->\n")
    for name, value in (("RESULTS", tmp_path / "results"), ("ROOT", tmp_path), ("DOCUMENTS", ("README.md",))):
        monkeypatch.setattr(table, name, value)
    with pytest.raises(SystemExit, match="README.md"):
        table.main(["--check"])
    table.main(["--write"])
    table.main(["--check"])
    assert "| pretrained | 50.0 (40.0 to 60.0) | 3 |" in document.read_text()
    document.write_text(document.read_text().replace("50.0 (", "51.0 (", 1))
    with pytest.raises(SystemExit, match="python -m experiments.table --write"):
        table.main(["--check"])
    (tmp_path / "results" / "include.json").unlink()
    with pytest.raises(SystemExit, match="no result of"):
        table.main(["--check"])


def test_a_run_that_lies_outside_of_the_kept_interval_is_named():
    kept = {
        "scale": "small",
        "rows": {"a": {"top1": {"mean": 50.0, "interval": [40.0, 60.0]}}, "b": {"top1": {"mean": 10.0, "interval": None}}},
    }
    mine = json.loads(json.dumps(kept))
    assert results.differences(mine, kept) == []
    mine["rows"]["a"]["top1"]["mean"], mine["rows"]["b"]["top1"]["mean"] = 61.0, 10.2
    assert [told.split(":")[0] for told in results.differences(mine, kept)] == ["a, top1", "b, top1"]
    assert len(results.differences(mine, kept | {"tolerance": {"top1": 0.5}})) == 1  # for b alone, which has no interval
    assert "--scale small" in results.differences(mine | {"scale": "tiny"}, kept)[0]


def test_the_command_writes_a_result_and_compares_it_with_the_kept_one(tmp_path, monkeypatch, capsys):
    mean = [50.0]

    def experiment(place, sizes):
        rows = {"pretrained": {"top1": {"mean": mean[0], "interval": [40.0, 60.0], "seeds": sizes["seeds"]}}}
        return results.Result("made up", rows, {}, "clips", "once", sizes, {"ids": ["a"]})

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", datasets.config.HF_DATASETS_CACHE)  # which the command sets
    monkeypatch.setattr(run, "experiment", lambda name, scale, seeds: (experiment, {"seeds": seeds}))
    told = ["include", "--scale", "tiny", "--seeds", "2", "--output_dir", str(tmp_path)]
    run.main([*told, "--results_dir", str(tmp_path / "kept")])
    assert "| pretrained | 50.0 (40.0 to 60.0) | 2 |" in capsys.readouterr().out
    monkeypatch.setattr(results, "RESULTS", tmp_path / "kept")
    run.main([*told, "--expect"])
    mean[0] = 70.0
    with pytest.raises(SystemExit, match="include: pretrained, top1: found 70, expected 40 to 60"):
        run.main([*told, "--expect"])
    assert results.read("include", tmp_path / "results")["rows"]["pretrained"]["top1"]["mean"] == 70
