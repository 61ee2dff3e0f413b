"""Configurations that other versions of the package wrote, and the one place of its version."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModel

import modeling_unigloR
from modeling_unigloR import SignMAE, SignMAEConfig, SignRecognitionConfig, SignToTextConfig, TextToSignConfig, configuration_uniglor
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
    "num_memory_tokens": 15,
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
    assert (config.graph_channels, config.num_memory_tokens, config.a_field_of_another_version) == (16, 15, "kept")


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


# --- Types and ranges -------------------------------------------------------------------------------------------------------------


WRONG = [
    (SignMAEConfig, "window_size", 7.5, "window_size=7.5 must be of type int"),
    (SignMAEConfig, "window_size", True, "must be of type int"),
    (SignMAEConfig, "window_size", 0, "window_size=0 must be at least 1 and at most 1000"),
    (SignMAEConfig, "window_size", 10**9, "at most 1000"),
    (SignMAEConfig, "hidden_size", "abc", "hidden_size='abc' must be of type int"),
    (SignMAEConfig, "hidden_dropout_prob", float("nan"), "hidden_dropout_prob=nan must be at least 0 and below 1"),
    (SignMAEConfig, "hidden_act", "flat", "hidden_act='flat' must be the name of an activation"),
    (SignMAEConfig, "temporal_dilations", [1, 0], "must be at least 1"),
    (SignMAEConfig, "temporal_dilations", [1, "2"], "must be of type list"),
    (SignMAEConfig, "num_channels", 4, "num_channels=4 must be one of 2, 3"),
    (SignMAEConfig, "layout", ["uniglor73"], "must be of type str"),
    (SignMAEConfig, "fixed_hand_weight", 10**400, "must be at least 0"),
    (SignToTextConfig, "freeze_sign_mae", "yes", "freeze_sign_mae='yes' must be of type bool"),
    (SignToTextConfig, "lora_targets", "q", "must be of type list"),
    (SignToTextConfig, "label_smoothing", 1, "must be at least 0 and below 1"),
    (SignToTextConfig, "text_config", [1], "must be of type dict"),
    (TextToSignConfig, "text_pooling", "cls", "text_pooling='cls' must be one of 'token', 'mean'"),
    (TextToSignConfig, "max_segments", 10**9, "at most 10000"),
    (SignRecognitionConfig, "stride", -1, "stride=-1 must be at least 1"),
]


@pytest.mark.parametrize(("kind", "field", "value", "message"), WRONG)
def test_a_wrong_value_is_refused_when_given_when_assigned_and_when_loaded(kind, field, value, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        kind(**{field: value})
    config = kind()
    with pytest.raises(ValueError, match=message):
        setattr(config, field, value)
    if isinstance(value, float) and value != value:  # JSON has no NaN
        return
    config.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text()) | {field: value}
    with pytest.raises(ValueError, match=message):
        load(tmp_path, content)


def test_what_fits_the_meaning_of_a_field_is_taken(tmp_path):
    config = SignToTextConfig(
        sign_mae_config=SignMAEConfig(mask_ratio=0, hidden_dropout_prob=0, temporal_dilations=(1, 3)),
        text_config={"model_type": "t5", "d_model": 16},
        label_smoothing=0,
        lora_targets=("q", "v"),
        of_another_version={"kept": 1},
    )
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert again.sign_mae_config.temporal_dilations == [1, 3] and again.lora_targets == ["q", "v"]
    assert again.of_another_version == {"kept": 1} and again.text_config.model_type == "t5"
    assert SignRecognitionConfig(num_labels=4).id2label.keys() == {0, 1, 2, 3}


def test_fields_that_depend_on_each_other_are_set_one_after_the_other(tmp_path):
    config = SignMAEConfig(num_attention_heads=8)
    config.update({"hidden_size": 96, "num_attention_heads": 6})
    config.validate()
    config.num_attention_heads = 5
    for used in (config.validate, lambda: config.save_pretrained(tmp_path), lambda: SignMAE(config)):
        with pytest.raises(ValueError, match="hidden_size=96 must be an even multiple of num_attention_heads=5"):
            used()


@pytest.mark.parametrize(
    "name", ["num_keypoints", "num_masked_frames", "to_dict", "validate", "__class__", "from_pretrained", "sub_configs"]
)
def test_a_config_json_takes_the_place_of_no_method_and_of_nothing_that_is_computed(name, tmp_path):
    with pytest.raises(ValueError, match=f"SignMAEConfig computes '{name}' itself"):
        load(tmp_path, OLDER | {name: 5})


def test_a_sign_mae_config_of_another_model_is_refused():
    with pytest.raises(ValueError, match="sign_mae_config is a 'sign_recognition', expected a 'sign_mae'"):
        SignToTextConfig(sign_mae_config=SignRecognitionConfig())


HUGE = [
    (SignMAEConfig, {"num_hidden_layers": 10**6}),
    (SignMAEConfig, {"decoder_num_hidden_layers": 10**6}),
    (SignMAEConfig, {"temporal_dilations": [1] * 10**5}),
    (SignMAEConfig, {"hidden_size": 10**9}),
    (SignMAEConfig, {"num_labels": 10**9}),
    (SignToTextConfig, {"text_config": {"model_type": "mbart", "encoder_layers": 10**7}}),
    (SignToTextConfig, {"text_config": {"model_type": "mbart", "d_model": 10**9}}),
    (SignToTextConfig, {"text_config": {"model_type": "t5", "num_layers": 10**7}}),
    (SignToTextConfig, {"text_config": {"model_type": "t5", "num_labels": 10**9}}),
    (SignToTextConfig, {"sign_mae_config": {"num_hidden_layers": 10**6}}),
    (SignToTextConfig, {"glosses": ["A"] * 10**6}),
    (TextToSignConfig, {"text_config": {"model_type": "bert", "num_hidden_layers": 10**7}}),
    (TextToSignConfig, {"text_config": {"model_type": "bert", "max_position_embeddings": 10**9}}),
    (TextToSignConfig, {"text_config": {"model_type": "encoder-decoder", "encoder": {"num_hidden_layers": 10**7}}}),
    (TextToSignConfig, {"max_segments": 10**9}),
    (SignRecognitionConfig, {"num_labels": 10**9}),
    (SignRecognitionConfig, {"id2label": {str(label): "A" for label in range(2 * 10**5)}}),
]


@pytest.mark.parametrize(("kind", "fields"), HUGE, ids=lambda value: str(value)[:60])
def test_a_config_json_that_asks_for_too_much_is_refused_before_anything_is_made_of_it(kind, fields, tmp_path, monkeypatch):
    kind().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content.pop("uniglor_version")
    (tmp_path / "config.json").write_text(json.dumps(content | fields))

    def nothing_is_made(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr(torch.nn.Module, "__init__", nothing_is_made)
    with pytest.raises(ValueError, match="at most"):
        AutoModel.from_pretrained(tmp_path)


def test_labels_that_are_no_map_are_refused():
    with pytest.raises(ValueError, match="SignRecognitionConfig cannot be made of these values"):
        SignRecognitionConfig(id2label=["a", "b"])
