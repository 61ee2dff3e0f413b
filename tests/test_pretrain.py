"""The real script, on tiny data: it learns, resumes exactly, stops on a loss that is no number, and leaves what loads."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoFeatureExtractor, AutoModel

from datasets_scripts.schema import features
from modeling_unigloR import KeypointProcessor, SignMAE
from modeling_unigloR.keypoints_uniglor import paths_to_center
from train import pretrain
from train.engine.arguments import distribute, read_fields
from train.engine.trainers import BatchTooLargeError, NonFiniteLossError

from .conftest import TINY, stopped_at
from .test_segments import dataset_of, rows_of

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two canonical data sets as Parquet files: (training, validation)."""
    folder = tmp_path_factory.mktemp("corpus")
    paths = folder / "train.parquet", folder / "validation.parquet"
    dataset_of([60] * 12).to_parquet(paths[0])
    dataset_of([61] * 3).to_parquet(paths[1])
    return paths


def arguments(corpus, output_dir, **fields):
    usual = dict(
        output_dir=output_dir, datasets=corpus[0], validation=corpus[1], max_steps=4, per_device_train_batch_size=4, learning_rate=1e-3,
        eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2, logging_steps=1,
        use_cpu=True, disable_tqdm=True, bank_clips=4,
    )  # fmt: skip
    fields = usual | TINY | fields
    return ["paper.yaml"] + [word for key, value in fields.items() for word in (f"--{key}", str(value))]


def test_four_steps_leave_a_loadable_model_and_a_report(corpus, tmp_path, capsys):
    report = pretrain.main(arguments(corpus, tmp_path))
    printed = capsys.readouterr().out
    model, processor = AutoModel.from_pretrained(tmp_path), AutoFeatureExtractor.from_pretrained(tmp_path)
    assert model.latent_mean.abs().sum() > 0 and (model.latent_std != 1).any() and model.config.hidden_size == 16
    assert processor.layout_hash == model.config.layout_hash
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert set(report["floors"]) == {"mean_pose", "static", "nearest_segment", "bank_segments"}
    assert 0 < report["linear_codes"]["32"] < report["linear_codes"]["16"]
    assert {"eval_mpjpe", "eval_mpjpe_hands", "eval_motion_ratio", "eval_border_jump"} <= set(report["validation"])
    assert report["latents"]["effective_rank"] > 1 and report["datasets"] == [corpus[0].name]
    assert (
        report["selection"]["why"].endswith("No score selects (metric_for_best_model), so the last weights are kept.")
        and report["selection"]["kept_step"] == report["steps"] == 4
    )
    assert report["validation_data"] == {
        "from": "named", "datasets": [corpus[1].name], "why": f"Validation: {corpus[1].name}, as named.",
    }  # fmt: skip
    assert "sign-feature-extraction" in json.loads((tmp_path / "config.json").read_text())["custom_pipelines"]
    assert f"The model is in {tmp_path}\n  kept:    {report['selection']['why']}\n  took:" in printed
    assert f"| this model | {report['validation']['eval_mpjpe']:.4f} |" in printed and "| floor: static |" in printed
    assert f"  verdict: {report['verdict'][0]}\n" in printed and report["verdict"][0].startswith("mpjpe")
    assert f"paper_sign_to_text.yaml --sign_mae {tmp_path} --datasets {corpus[0]}" in printed.splitlines()[-1]
    assert not re.search(r"\d\.\d{10}", printed)  # numbers that nobody reads
    usual = (tmp_path / "report.json").stat().st_mode
    assert {path.stat().st_mode for path in tmp_path.rglob("*.safetensors")} == {usual}  # safetensors 0.8 makes them private
    assert not list(tmp_path.rglob("*.bin")) and (tmp_path / "checkpoint-4" / "model.safetensors").exists()


def weights(folder):
    return AutoModel.from_pretrained(folder).state_dict()


def test_resuming_after_two_steps_gives_the_same_weights(corpus, tmp_path):
    """In the middle of an epoch and across one (3 batches make one), with dropout and random masks."""
    pretrain.main(arguments(corpus, tmp_path / "whole", max_steps=6))
    with stopped_at(3):
        pretrain.main(arguments(corpus, tmp_path / "parts", max_steps=6))
    pretrain.main(arguments(corpus, tmp_path / "parts", max_steps=6, resume_from_checkpoint="true"))
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=0, atol=0, msg=name)


def test_a_loss_that_is_not_a_number_stops_training_and_names_the_clips(corpus, tmp_path, monkeypatch):
    """And the last good checkpoint stays."""
    from modeling_unigloR import SignMAE

    calm, calls = SignMAE.reconstruction_loss, []

    def loss(self, *args):
        calls.append(1)
        return calm(self, *args) * (float("nan") if len(calls) == 4 else 1.0)

    monkeypatch.setattr(SignMAE, "reconstruction_loss", loss)
    with pytest.raises(NonFiniteLossError, match="The loss of step 4 is nan.*clip-"):
        pretrain.main(arguments(corpus, tmp_path, max_steps=8))
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-2"]
    assert all(value.isfinite().all() for value in weights(tmp_path / "checkpoint-2").values())


SHORT_OF_MEMORY = """
import resource, runpy, sys
from train.engine import trainers

step = trainers.SegmentTrainer.training_step

def with_64_mib_more(*arguments):
    with open("/proc/self/statm") as file:
        in_use = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 2**26, -1))
    return step(*arguments)

trainers.SegmentTrainer.training_step = with_64_mib_more
runpy.run_module("train.pretrain", run_name="__main__")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_a_batch_that_does_not_fit_ends_in_one_line(corpus, tmp_path):
    """The real script with 64 MiB left, where a step on 4,000 segments takes half a gigabyte."""
    fields = dict(per_device_train_batch_size=4000, segments_per_clip=400)
    command = [sys.executable, "-c", SHORT_OF_MEMORY, *arguments(corpus, tmp_path / "out", **fields)]
    environment = os.environ | {"HF_DATASETS_CACHE": str(tmp_path / "cache"), "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("A training step with a batch of 4000 does not fit into memory (can't allocate memory: you tried to allocate")
    assert "Lower --per_device_train_batch_size and raise --gradient_accumulation_steps" in said


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), RuntimeError("shapes differ")]
)
def test_only_a_lack_of_memory_is_said_to_be_one(corpus, tmp_path, monkeypatch, error):
    from modeling_unigloR import SignMAE

    def fail(*args):
        raise error

    monkeypatch.setattr(SignMAE, "reconstruction_loss", fail)
    fits = str(error) == "shapes differ"
    with pytest.raises(RuntimeError if fits else BatchTooLargeError, match="shapes differ" if fits else "batch of 4 does not fit"):
        pretrain.main(arguments(corpus, tmp_path))


def test_a_streamed_mix_trains(corpus, tmp_path):
    mix = json.dumps(
        [{"path": str(corpus[0]), "streaming": True, "weight": 2}, {"path": str(corpus[1]), "split": "train", "streaming": True}]
    )
    report = pretrain.main(arguments(corpus, tmp_path, datasets=mix))
    assert report["validation"]["eval_mpjpe"] > 0 and "latents" not in report


def test_a_resumed_stream_shows_what_an_unstopped_one_shows(tmp_path, monkeypatch):
    """Also after the stream has begun anew (three batches are all its clips): resuming began its second pass at the start again."""
    for number in range(3):  # as `datasets_scripts.build` and `extract` write them
        (tmp_path / "rows" / "data").mkdir(parents=True, exist_ok=True)
        rows = Dataset.from_list(list(rows_of([60] * 12))[4 * number : 4 * number + 4], features=features(73, 2))
        rows.to_parquet(tmp_path / "rows" / "data" / f"train-{number:05d}-of-00003.parquet")
    stream, shown, train = json.dumps([{"path": str(tmp_path / "rows"), "streaming": True}]), [], SignMAE.forward

    def note(self, keypoints, *rest, **more):
        if self.training:
            shown.append(keypoints.detach().clone())
        return train(self, keypoints, *rest, **more)

    monkeypatch.setattr(SignMAE, "forward", note)
    fields = dict(datasets=stream, validation="[]", max_steps=6)
    pretrain.main(arguments(("",) * 2, tmp_path / "whole", **fields))
    unstopped = shown[-6:]
    with stopped_at(5):
        pretrain.main(arguments(("",) * 2, tmp_path / "parts", **fields))
    del shown[:]
    pretrain.main(arguments(("",) * 2, tmp_path / "parts", resume_from_checkpoint="true", **fields))
    for resumed, expected in zip(shown[-2:], unstopped[4:]):  # checkpoint-4 is the last one
        torch.testing.assert_close(resumed, expected, rtol=0, atol=0)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=0, atol=0, msg=name)


def test_a_streamed_training_leaves_standardised_latents(corpus, tmp_path):
    """It left mean 0 and deviation 1: on such a SignMAE, recognition with 128 dimensions learnt no batch by heart from 20 seeds."""
    pretrain.main(arguments(corpus, tmp_path, datasets=json.dumps([{"path": str(corpus[0]), "streaming": True}]), validation="[]"))
    model = AutoModel.from_pretrained(tmp_path)
    processor = KeypointProcessor.from_pretrained(tmp_path)
    clips = [torch.from_numpy(processor.process_row(row).keypoints) for row in rows_of([60] * 12)]
    with torch.no_grad():
        latents = model.encode_sequence(torch.stack(clips))[0].flatten(0, 1)  # other windows of the clips than training drew
    assert latents.mean(0).abs().mean() < 0.5 and 0.5 < latents.std(0).mean() < 2


def test_a_weighted_mix_trains_without_validation(corpus, tmp_path):
    mix = json.dumps([{"path": str(corpus[0]), "weight": 0.5}, {"path": str(corpus[1]), "split": "train", "weight": 2}])
    assert "validation" not in pretrain.main(arguments(corpus, tmp_path, datasets=mix, validation="[]"))


def test_going_on_from_a_checkpoint_keeps_its_config_and_says_what_is_left_out(corpus, tmp_path, caplog):
    pretrain.main(arguments(corpus, tmp_path / "a", max_steps=2))
    pretrain.main(arguments(corpus, tmp_path / "b", max_steps=2, init_from=tmp_path / "a", hidden_size=32, num_attention_heads=4))
    assert AutoModel.from_pretrained(tmp_path / "b").config.hidden_size == 16
    assert "is kept: " in caplog.text and "hidden_size 16 (not 32)" in caplog.text


def test_the_decoder_knows_how_each_point_lies_to_its_parent(corpus, tmp_path):
    pretrain.main(arguments(corpus, tmp_path, max_steps=2))
    frames = np.concatenate([KeypointProcessor().process_row(row).keypoints for row in rows_of([60] * 12)])
    offsets = np.linalg.inv(paths_to_center("uniglor73")) @ frames.astype(np.float64)
    decoder = AutoModel.from_pretrained(tmp_path).decoder
    np.testing.assert_allclose(decoder.offset_mean.numpy(), offsets.mean(0), atol=1e-4)
    np.testing.assert_allclose(decoder.offset_std.numpy(), np.maximum(offsets.std(0), 0.01), atol=1e-4)


def test_norms_are_calibrated_on_training_segments_and_kept_by_training(corpus, tmp_path):
    for steps in (1, 4):
        pretrain.main(arguments(corpus, tmp_path / str(steps), max_steps=steps))
    early, late = (weights(tmp_path / str(steps)) for steps in (1, 4))
    norms = [name for name in early if "encoder" in name and "running" in name]
    assert len(norms) == 10 and all(torch.equal(early[name], late[name]) for name in norms)
    assert (early["encoder.input_norm.norm.running_var"] != 1).any()


def test_going_on_from_a_checkpoint_keeps_its_norms(corpus, tmp_path):
    pretrain.main(arguments(corpus, tmp_path / "first"))
    pretrain.main(arguments(corpus, tmp_path / "second", init_from=tmp_path / "first", seed=5))
    first, second = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert all(torch.equal(first[name], second[name]) for name in first if "running" in name)


def test_points_that_training_rarely_showed_are_not_scored(tmp_path):
    def without_face(row, number):
        row["confidence"][:, 8:27] = 0
        return row["confidence"]

    dataset_of([60] * 4, confidence=without_face).to_parquet(tmp_path / "faceless.parquet")
    faceless = (tmp_path / "faceless.parquet", tmp_path / "faceless.parquet")
    report = pretrain.main(arguments(faceless, tmp_path / "out"))
    assert AutoModel.from_pretrained(tmp_path / "out").keypoint_presence.sum() == 73 - 19
    assert "eval_mpjpe_face" not in report["validation"]  # a 0 would read as perfect


def test_accelerate_launches_it_from_any_folder(corpus, tmp_path):
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", str(ROOT / "train" / "pretrain.py")]
    environment = os.environ | {"HF_DATASETS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        command + arguments(corpus, tmp_path / "out", max_steps=2), capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert AutoModel.from_pretrained(tmp_path / "out").config.hidden_size == 16


def test_two_processes_share_an_epoch_and_its_segments_change(corpus, tmp_path):
    """Data parallel over gloo. Each of 12 clips is drawn once an epoch, by one process or the other, and anew in the next epoch."""
    probe = tmp_path / "probe.py"
    probe.write_text(
        "import json, os, sys\n"
        "from train import pretrain\nfrom train.engine import trainers\n"
        "step = trainers.SegmentTrainer.training_step\n"
        "def noted(self, model, inputs, *rest):\n"
        "    firsts = inputs['keypoints'][:, 0, 4].tolist()\n"
        "    with open(f'{sys.argv[1]}/seen{os.environ[\"RANK\"]}.jsonl', 'a') as file:\n"
        "        file.write(json.dumps([inputs['clip_index'].tolist(), firsts]) + '\\n')\n"
        "    return step(self, model, inputs, *rest)\n"
        "trainers.SegmentTrainer.training_step = noted\n"
        "pretrain.main(sys.argv[2:])\n"
    )
    fields = dict(max_steps=4, per_device_train_batch_size=3, save_steps=4, eval_steps=4)  # two steps make an epoch
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "--rdzv_backend", "c10d"]
    command += ["--rdzv_endpoint", "localhost:0", str(probe), str(tmp_path)]  # any free port
    environment = os.environ | {"HF_DATASETS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command + arguments(corpus, tmp_path / "out", **fields), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    seen = [[json.loads(line) for line in (tmp_path / f"seen{rank}.jsonl").read_text().splitlines()] for rank in (0, 1)]
    epochs = [[seen[rank][step] for rank in (0, 1) for step in steps] for steps in ((0, 1), (2, 3))]
    for epoch in epochs:
        assert sorted(clip for clips, _ in epoch for clip in clips) == list(range(12))
    first, second = ({clip: tuple(point) for clips, points in epoch for clip, point in zip(clips, points)} for epoch in epochs)
    assert sum(first[clip] != second[clip] for clip in first) >= 6
    assert AutoModel.from_pretrained(tmp_path / "out").latent_mean.abs().sum() > 0


def test_the_configs_in_the_repository_are_understood(tmp_path):
    for name in ("demo.yaml", "paper.yaml"):
        data, model_fields, processor, args = pretrain.parse([name, "--output_dir", str(tmp_path)])
        assert data.datasets and processor.layout == "uniglor73" and args.learning_rate > 0


def test_the_paper_config_is_the_papers_optimiser(tmp_path):
    _, model_fields, _, args = pretrain.parse(["paper.yaml", "--output_dir", str(tmp_path)])
    assert (args.learning_rate, args.adam_beta1, args.adam_beta2, args.weight_decay, args.num_train_epochs) == (1e-4, 0.9, 0.98, 1e-3, 50)
    assert args.per_device_train_batch_size == 64 and args.lr_scheduler_kwargs == {"min_lr_rate": 0.5}
    assert args.get_warmup_steps(1000) == 100 and args.get_warmup_steps(10**6) == 10_000
    assert model_fields["num_memory_tokens"] is None and model_fields["mask_ratio"] == 0.25


def test_command_line_fields_stand_over_the_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("learning_rate: 1e-3\nhidden_size: 8\n")
    assert read_fields([str(path), "--hidden_size", "16", "--bf16", "--datasets", "a", "b"], "demo.yaml") == {
        "learning_rate": 1e-3, "hidden_size": 16, "bf16": True, "datasets": ["a", "b"],
    }  # fmt: skip


def test_an_unknown_field_names_its_neighbours():
    with pytest.raises(ValueError, match="'hiden_size'.*hidden_size"):
        distribute({"hiden_size": 3}, pretrain.OWNERS)


def test_a_missing_data_set_is_named(tmp_path, corpus):
    with pytest.raises((ValueError, FileNotFoundError), match="nowhere"):
        pretrain.main(arguments(corpus, tmp_path, datasets=str(tmp_path / "nowhere.parquet")))
    with pytest.raises(ValueError, match="Unknown keys .'weigth'."):
        pretrain.main(arguments(corpus, tmp_path, datasets=json.dumps([{"path": str(corpus[0]), "weigth": 2}])))


def test_keypoints_on_disk_are_not_pickles(corpus, tmp_path):
    pretrain.main(arguments(corpus, tmp_path, cache_dir=tmp_path / "frames", max_steps=2))
    index = next((tmp_path / "frames").rglob("index.npz"))
    assert {np.load(index, allow_pickle=False)[key].dtype.kind for key in ("offsets", "ids", "point_shape")} == {"i", "U"}


def test_asked_to_keep_the_best_weights_it_keeps_those_of_the_lowest_error(corpus, tmp_path):
    report = pretrain.main(arguments(corpus, tmp_path, load_best_model_at_end="true"))
    errors = {
        entry["step"]: entry["eval_mpjpe"]
        for entry in json.loads((tmp_path / "checkpoint-4" / "trainer_state.json").read_text())["log_history"]
        if "eval_mpjpe" in entry
    }
    assert report["selection"]["metric"] == "mpjpe" and report["selection"]["kept_step"] == min(errors, key=errors.get)
