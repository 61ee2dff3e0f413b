"""Configurations that other versions of the package wrote, and the one place of its version."""

import json
import re
from pathlib import Path

import pytest
import yaml
from transformers import AutoConfig

import modeling_unigloR
from modeling_unigloR import SignMAEConfig, SignRecognitionConfig, SignToTextConfig, TextToSignConfig, configuration_uniglor
from modeling_unigloR.configuration_uniglor import VERSION

ROOT = Path(__file__).parents[1]

OLDER = {  # config.json of a SignMAE from before configurations named their version, and a field that no version knows
    "architectures": ["SignMAE"],
    "attention_probs_dropout_prob": 0.0,
    "auto_map": {"AutoConfig": "configuration_uniglor.SignMAEConfig", "AutoModel": "modeling_sign_mae.SignMAE"},
    "block_norm": "batch",
    "decoder_num_hidden_layers": 2,
    "decoding": "parallel",
    "dtype": "float32",
    "fixed_body_weight": 1.0,
    "fixed_face_weight": 1.17,
    "fixed_hand_weight": 1.18,
    "graph_channels": 16,
    "hidden_act": "relu",
    "hidden_dropout_prob": 0.0,
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 512,
    "keypoint_weighting": "adaptive",
    "latent_views": 15,
    "layer_norm_eps": 1e-06,
    "layout": "uniglor73",
    "layout_hash": "638d0fa07a42",
    "mask_ratio": 0.25,
    "mask_stage": "tokens",
    "mask_strategy": "replace",
    "model_type": "sign_mae",
    "num_attention_heads": 8,
    "num_channels": 2,
    "num_hidden_layers": 2,
    "query_type": "learned",
    "relation_channels": 4,
    "stride": 7,
    "temporal_branch_channels": 4,
    "temporal_dilations": [1, 2, 3, 4],
    "temporal_kernel_size": 3,
    "transformers_version": "5.23.0",
    "use_cache": False,
    "weight_variance": "pooled",
    "window_size": 15,
    "a_field_of_another_version": "kept",
}


def load(folder, content):
    (folder / "config.json").write_text(json.dumps(content))
    return AutoConfig.from_pretrained(folder)


@pytest.fixture
def warnings(monkeypatch):
    said = []
    monkeypatch.setattr(configuration_uniglor.logger, "warning", said.append)
    return said


@pytest.mark.parametrize("kind", [SignMAEConfig, SignToTextConfig, TextToSignConfig, SignRecognitionConfig])
def test_a_new_config_says_which_version_made_it(kind, tmp_path):
    kind().save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["uniglor_version"] == VERSION
    if kind is not SignMAEConfig:
        assert written["sign_mae_config"]["uniglor_version"] == VERSION


def test_a_loaded_config_keeps_the_version_that_made_it(tmp_path, warnings):
    config = load(tmp_path, OLDER | {"uniglor_version": "0.0.7"})
    config.save_pretrained(tmp_path / "again")
    assert AutoConfig.from_pretrained(tmp_path / "again").uniglor_version == "0.0.7" and not warnings


def test_a_sign_mae_inside_another_config_keeps_its_own_version(tmp_path):
    SignToTextConfig(sign_mae_config=OLDER | {"uniglor_version": "0.0.7"}).save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert (config.uniglor_version, config.sign_mae_config.uniglor_version) == (VERSION, "0.0.7")


def test_an_older_config_with_a_field_that_nobody_knows_still_loads(tmp_path, warnings):
    config = load(tmp_path, OLDER)
    assert isinstance(config, SignMAEConfig) and not warnings
    assert config.uniglor_version is None  # nobody knows: not this one by default
    assert (config.graph_channels, config.latent_views, config.a_field_of_another_version) == (16, 15, "kept")


def test_a_config_of_a_newer_major_version_warns_before_it_is_refused(tmp_path, warnings):
    newer = OLDER | {"uniglor_version": f"{int(VERSION.split('.')[0]) + 1}.0.0rc1"}
    assert load(tmp_path, newer).hidden_size == 256
    assert len(warnings) == 1 and re.search(rf"SignMAEConfig was made by uniglor \d+\.0\.0rc1, and this is uniglor {VERSION}", warnings[0])
    with pytest.raises(ValueError, match="block_norm='instance' must be one of"):
        load(tmp_path, newer | {"block_norm": "instance"})
    assert len(warnings) == 2


def test_a_version_that_is_none_is_refused():
    with pytest.raises(ValueError, match="uniglor_version='new' must be a version such as"):
        SignMAEConfig(uniglor_version="new")


def test_every_file_that_names_the_version_names_the_same():
    assert modeling_unigloR.__version__ == VERSION
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == VERSION
    newest = re.search(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert newest == VERSION
