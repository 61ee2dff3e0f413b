"""What a command line and a config file may hold: types as declared, with one clear error for all others."""

import math

import pytest
import torch
import yaml

from modeling_unigloR import SignMAE
from train import pretrain, train_recognition, train_sign_to_text, train_text_to_sign
from train.data.data_arguments import data_entries
from train.engine.arguments import CONFIGS, declared_fields, declared_types, distribute, read_fields
from train.engine.loading import load_model

from . import test_pretrain

SCRIPTS = [pretrain, train_sign_to_text, train_text_to_sign, train_recognition]


def parsed(*words, script=pretrain, config="paper.yaml"):
    shares = distribute(read_fields([config, *words], config), script.OWNERS)
    return {name: value for share in shares.values() for name, value in share.items()}


def refusal(*words, **kwargs):
    with pytest.raises(ValueError) as error:
        parsed(*words, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "words, found, expected, remedy",
    [
        (["--max_steps", "ten"], "the text 'ten'", "a whole number", "--max_steps 100"),
        (["--segments_per_clip", "many"], "the text 'many'", "a number", "--segments_per_clip 0.001"),
        (["--learning_rate", "1e-3x"], "the text '1e-3x'", "a number", "--learning_rate 0.001"),
        (["--learning_rate", ".nan"], "nan", "a number", "--learning_rate 0.001"),
        (["--window_size", "fifteen"], "the text 'fifteen'", "a whole number", "--window_size 100"),
        (["--window_size", "7.5"], "7.5", "a whole number", "--window_size 100"),
        (["--hidden_size", "many"], "the text 'many'", "a whole number", "--hidden_size 100"),
        (["--hidden_size"], "true", "a whole number", "--hidden_size 100"),
        (["--bf16", "maybe"], "the text 'maybe'", "true or false", "--bf16 true"),
        (["--fps", "fast"], "the text 'fast'", "a number or null", "--fps 0.001"),
        (["--max_steps", "1", "2"], "the list [1, 2]", "a whole number", "--max_steps 100"),
        (["--output_dir", "a", "b"], "the list ['a', 'b']", "text or null", "--output_dir NAME"),
        (["--temporal_dilations", "3"], "3", "a list, each a whole number or null", '--temporal_dilations "[100, 100]"'),
        (["--temporal_dilations", "1", "two"], "the list [1, 'two']", "a list, each a whole number or null", '"[100, 100]"'),
        (["--lr_scheduler_kwargs", "1", "2"], "the list [1, 2]", "fields in braces or text or null", '"{name: value}"'),
        (["--block_norm", "{a: 1}"], "the fields {'a': 1}", "text", "--block_norm NAME"),
    ],
)
def test_a_value_of_another_type_is_refused_with_what_was_given_what_is_expected_and_an_example(words, found, expected, remedy):
    said = refusal(*words)
    assert said.startswith(f"{' '.join(words)}: found {found}, expected {expected}. Give for example ") and remedy in said


def test_a_config_file_is_checked_too(tmp_path):
    (tmp_path / "c.yaml").write_text("max_steps: ten\n")
    assert "max_steps: 'ten' in the config file: found the text 'ten', expected a whole number" in refusal(config=str(tmp_path / "c.yaml"))
    (tmp_path / "c.yaml").write_text("output_dir: 2024\n")
    assert "output_dir: 2024 in the config file: found 2024, expected text or null. Give for example --output_dir NAME, quoted" in refusal(
        config=str(tmp_path / "c.yaml")
    )


@pytest.mark.parametrize(
    "words, value",
    [
        (["--max_steps", "1e3"], 1000),
        (["--num_train_epochs", "10"], 10),
        (["--learning_rate", "1e-3"], 1e-3),
        (["--output_dir", "2024"], "2024"),  # a folder's name, that YAML takes for a number
        (["--run_name", "007"], "007"),
        (["--run_name", "off"], "off"),
        (["--bf16"], True),
        (["--fps", "null"], None),
        (["--eval_strategy", "no"], False),
        (["--resume_from_checkpoint", "true"], True),
        (["--resume_from_checkpoint", "outputs/x"], "outputs/x"),
        (["--temporal_dilations", "1", "2"], [1, 2]),
        (["--lr_scheduler_kwargs", "{min_lr_rate: 0.02}"], {"min_lr_rate": 0.02}),
        (["--datasets", "a"], "a"),
        (["--datasets", "a", "{path: b, weight: 2}"], ["a", {"path": "b", "weight": 2}]),
    ],
)
def test_values_of_the_declared_type_are_taken(words, value):
    found = parsed(*words)[words[0].removeprefix("--")]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_every_field_has_a_type_and_every_default_is_of_it(script):
    for kind in script.OWNERS.values():
        fields, types = declared_fields(kind), declared_types(kind)
        assert set(fields) == set(types)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_values_of_our_configs_have_the_declared_types(path):
    fields = yaml.safe_load(path.read_text())
    fitting = [script for script in SCRIPTS if set(fields) <= set().union(*(declared_fields(kind) for kind in script.OWNERS.values()))]
    assert fitting
    for script in fitting:
        assert parsed(script=script, config=path.name)["output_dir"]


def test_unknown_fields_still_name_their_neighbours():
    assert "Unknown field 'hiden_size'. Did you mean hidden_size" in refusal("--hiden_size", "3")


@pytest.mark.parametrize(
    "content, message", [("a: [1", "cannot be read as YAML"), ("- a\n- b", "holds the list"), ("just words", "holds the text")]
)
def test_a_config_file_that_is_none_is_one_error(content, message, tmp_path):
    (tmp_path / "c.yaml").write_text(content)
    assert message in refusal(config=str(tmp_path / "c.yaml"))
    assert "No config file 'nowhere.yaml'. Expected a path or one of adapt.yaml, " in refusal(config="nowhere.yaml")


def test_a_value_that_is_no_yaml_is_one_error():
    assert "--lr_scheduler_kwargs {min_lr_rate: cannot be read as YAML" in refusal("--lr_scheduler_kwargs", "{min_lr_rate:")


@pytest.mark.parametrize(
    "entries, message",
    [
        ([3], "--datasets holds 3, expected a folder, a Hub id, or {path: ...}"),
        ([{"weight": 2}], "holds {'weight': 2}, expected a folder"),
        ([{"path": "a", "weight": "heavy"}], "--datasets 'a' has the weight 'heavy', expected a number that is at least 0"),
        ([{"path": "a", "weight": -1}], "has the weight -1"),
    ],
)
def test_entries_that_are_no_data_sets_are_refused(entries, message):
    with pytest.raises(ValueError) as error:
        data_entries(entries, "--datasets")
    assert message in str(error.value)


# --- A bare start -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--datasets", "rows"], ["--init_from", "outputs/sign-mae"], ["--init_from=x", "--datasets", "rows"]])
def test_own_data_without_a_config_file_do_not_get_the_demos_settings(words):
    """The demo's learning rate is 20 times the paper's, and its validation is fingerspelling of five other languages."""
    with pytest.raises(ValueError, match="without a config file. .*paper.yaml trains .*adapt.yaml goes on from --init_from") as error:
        pretrain.main(words)
    assert all(path.name in str(error.value) for path in CONFIGS.glob("*.yaml"))


def test_the_demo_itself_needs_no_config_file():
    data, _, _, args = pretrain.parse(["--output_dir", "x"])
    assert data.datasets[0]["path"] == "fingerspelling" and args.learning_rate == 2e-3


@pytest.mark.parametrize("script", [train_sign_to_text, train_recognition, train_text_to_sign], ids=lambda script: script.__name__)
def test_the_other_scripts_start_with_the_papers_settings(script, corpus):
    parse = script.parse(["--datasets", corpus, "--sign_mae", "x"])
    assert parse[0].datasets == [corpus] and parse[-1].learning_rate == 1e-4


def test_adapting_is_gentler_than_training_from_the_start(corpus, sign_mae_dir):
    data, model_fields, processor, args = pretrain.parse(["adapt.yaml", "--init_from", sign_mae_dir, "--datasets", corpus])
    assert data.validation is None and not model_fields and args.learning_rate < 1e-4 and not args.dataloader_drop_last
    steps = 300 * data.segments_per_clip * args.num_train_epochs / args.per_device_train_batch_size  # of 300 clips
    assert 500 <= steps <= 5000 and args.get_warmup_steps(int(steps)) <= 0.1 * steps


def test_the_processor_of_the_checkpoint_is_kept(corpus, sign_mae_dir):
    argv = ["paper.yaml", "--init_from", sign_mae_dir, "--datasets", corpus]
    assert pretrain.parse(argv)[2].min_confidence == 0.0
    with pytest.raises(ValueError, match="differ from the processor of .*, which its latents were learnt with"):
        pretrain.parse([*argv, "--min_confidence", "0.3"])


# --- What the device can do ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def cpu_alone(monkeypatch):
    """A machine without a GPU, whose CPU has bfloat16 or not: `cpu_alone({"avx512_bf16": True})`."""

    def make(capabilities):
        monkeypatch.setattr("torch.accelerator.is_available", lambda *args: False)
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True, **capabilities}, raising=False)

    return make


@pytest.mark.parametrize("capabilities", [{"avx512_bf16": True}, {"amx_bf16": True, "avx512_bf16": False}, {"bf16": True}])
def test_bfloat16_is_taken_on_a_cpu_that_has_it(capabilities, cpu_alone, tmp_path, caplog):
    """It ended in "Your setup doesn't support bf16/gpu. You need to assign use_cpu if you want to train the model on CPU"."""
    cpu_alone(capabilities)
    args = pretrain.UniGloRTrainingArguments(output_dir=str(tmp_path), bf16=True)
    assert args.bf16 and args.device.type == "cpu" and not caplog.records


@pytest.mark.parametrize("capabilities", [{}, {"avx512_bf16": False}])
@pytest.mark.parametrize("name", ["bf16", "bf16_full_eval"])
def test_elsewhere_it_is_float32_and_one_line_says_so(name, capabilities, cpu_alone, tmp_path, caplog):
    cpu_alone(capabilities)
    args = pretrain.UniGloRTrainingArguments(output_dir=str(tmp_path), **{name: True})
    assert not args.bf16 and not args.bf16_full_eval and len(caplog.records) == 1
    assert caplog.records[0].message.startswith("This CPU does not compute in bfloat16: training in float32")


def test_a_training_in_bfloat16_on_a_cpu_gives_a_finite_model(corpus, cpu_alone, tmp_path):
    cpu_alone({"avx512_bf16": True})
    report = pretrain.main(test_pretrain.arguments((corpus, corpus), tmp_path, bf16="true", max_steps=2))
    model = load_model(tmp_path, SignMAE)
    assert report["steps"] == 2 and model.dtype == torch.float32 and math.isfinite(report["validation"]["eval_mpjpe"])


def test_batches_are_pinned_where_there_is_a_gpu_or_where_the_user_asks(cpu_alone, tmp_path, monkeypatch):
    """torch warned of it in every training on a CPU."""
    cpu_alone({})
    assert not pretrain.UniGloRTrainingArguments(output_dir=str(tmp_path)).dataloader_pin_memory
    assert pretrain.UniGloRTrainingArguments(output_dir=str(tmp_path), dataloader_pin_memory=True).dataloader_pin_memory
    monkeypatch.setattr("torch.accelerator.is_available", lambda *args: True)
    assert pretrain.UniGloRTrainingArguments(output_dir=str(tmp_path)).dataloader_pin_memory
    assert not pretrain.UniGloRTrainingArguments(output_dir=str(tmp_path), use_cpu=True).dataloader_pin_memory
