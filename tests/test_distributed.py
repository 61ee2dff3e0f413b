"""The configs for accelerate: understood, and the sharded one tried on two CPU processes. Data parallel is in `test_pretrain.py`."""

import json
import os
import socket
import subprocess
import sys

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from transformers import AutoModel

from modeling_unigloR import SignMAE
from train import pretrain
from train.evaluation.reconstruction import reconstruction_report

from .test_pretrain import ROOT, arguments, corpus  # noqa: F401 (a fixture)

CONFIGS = ROOT / "train" / "configs" / "accelerate"

# accelerate shards on accelerators only. The probe makes it do on a CPU what it does on a GPU, and notes in each step what the
# loss of the same weights is in one piece.
PROBE = """
import json, os, sys
import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor
from modeling_unigloR import SignMAE
from train import pretrain
from train.engine import trainers

init, step = AcceleratorState.__init__, trainers.SegmentTrainer.training_step

def sharding(self, *args, fsdp_plugin=None, **kwargs):
    init(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None:
        self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        self.fsdp_plugin = fsdp_plugin
        fsdp_plugin.set_mixed_precision(self._mixed_precision)

def noted(self, model, inputs, *rest):
    whole = SignMAE(model.config)
    state = {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in model.state_dict().items()}
    whole.load_state_dict(state)
    random = torch.get_rng_state()
    with self.accelerator.autocast():
        expected = whole.train()(inputs["keypoints"], inputs["keypoint_mask"]).loss.item()
    torch.set_rng_state(random)
    loss = step(self, model, inputs, *rest)
    largest = max(parameter.to_local().numel() / parameter.numel() for parameter in model.parameters() if parameter.numel() > 1)
    with open(f"{sys.argv[1]}/rank{os.environ['RANK']}.jsonl", "a") as file:
        file.write(json.dumps({"loss": loss.item(), "in_one_piece": expected, "largest_share": largest}) + "\\n")
    return loss

AcceleratorState.__init__ = sharding
trainers.SegmentTrainer.training_step = noted
pretrain.main(sys.argv[2:])
"""


def test_sharded_pretraining_has_the_loss_of_the_whole_model_and_leaves_one_that_loads(corpus, tmp_path):  # noqa: F811
    """The real script under `fsdp.yaml`, bf16 included: each step, evaluation between them, and what is saved at the end."""
    (tmp_path / "probe.py").write_text(PROBE)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGS / "fsdp.yaml"), "--num_processes", "2"]
    command += ["--main_process_port", str(port), str(tmp_path / "probe.py"), str(tmp_path)]
    fields = arguments(corpus, tmp_path / "out", max_steps=2, per_device_train_batch_size=3)
    environment = os.environ | {"HF_DATASETS_CACHE": str(tmp_path / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command + fields, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]

    for rank in (0, 1):
        steps = [json.loads(line) for line in (tmp_path / f"rank{rank}.jsonl").read_text().splitlines()]
        assert len(steps) == 2 and all(step["largest_share"] < 0.7 for step in steps)  # a row of an odd number more than a half
        for step in steps:
            assert step["loss"] == pytest.approx(step["in_one_piece"], rel=1e-5)

    model = AutoModel.from_pretrained(tmp_path / "out")
    assert type(model) is SignMAE and model.latent_mean.abs().sum() > 0
    assert model.config.auto_map["AutoModel"] == "modeling_sign_mae.SignMAE" and (tmp_path / "out" / "modeling_sign_mae.py").exists()
    data, _, processor, _ = pretrain.parse(fields)
    report = reconstruction_report(model, *pretrain.validation_segments(data, processor, model.config.window_size))
    reported = json.loads((tmp_path / "out" / "report.json").read_text())["validation"]
    assert report["mpjpe"] == pytest.approx(reported["eval_mpjpe"], rel=1e-4)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_knows_every_key_of_its_configs(path):
    config = load_config_from_file(str(path))  # an unknown key is an error
    known = vars(launch_command_parser().parse_args(["script.py"]))
    assert set(config.fsdp_config) <= set(known)
    assert (config.distributed_type.value, config.num_processes, config.mixed_precision) in (("MULTI_GPU", 8, "bf16"), ("FSDP", 8, "bf16"))


def test_what_is_sharded_by_itself_is_a_layer_of_the_model(tiny_sign_mae):
    sharded = load_config_from_file(str(CONFIGS / "fsdp.yaml")).fsdp_config["fsdp_transformer_layer_cls_to_wrap"]
    assert sharded in SignMAE._no_split_modules
    assert set(SignMAE._no_split_modules) <= {type(module).__name__ for module in tiny_sign_mae().modules()}
