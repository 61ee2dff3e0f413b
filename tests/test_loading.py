"""Checkpoints that are named: found at once or refused at once, of the right kind, whole, and without a NaN."""

import json
import logging
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from modeling_unigloR import SignMAE, SignMAEDecoderModel, SignMAEEncoderModel, SignToText
from train import embed, evaluate_checkpoint, pretrain, train_recognition, train_sign_to_text, train_text_to_sign
from train.data.segments import load_rows
from train.engine.loading import check_path, load_model, load_pipeline, load_processor
from train.figures import attention as draw_attention
from train.figures import latents as draw_latents
from train.figures import strips as draw_strips
from train.publish import main as publish
from train.publishing.upload import check_checkpoint


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture
def sign_to_text_dir(checkpoints, tiny_sign_to_text):
    if not (checkpoints / "sign-to-text").exists():
        tiny_sign_to_text().save_pretrained(checkpoints / "sign-to-text")
    return str(checkpoints / "sign-to-text")


@pytest.fixture
def text_to_sign_dir(checkpoints, tiny_text_to_sign):
    if not (checkpoints / "text-to-sign").exists():
        tiny_text_to_sign().save_pretrained(checkpoints / "text-to-sign")
    return str(checkpoints / "text-to-sign")


@pytest.fixture
def said(caplog):
    """What transformers says, whose loggers do not reach caplog by themselves."""
    logging.getLogger("transformers").addHandler(caplog.handler)
    yield caplog
    logging.getLogger("transformers").removeHandler(caplog.handler)


def damaged(folder, copy, change):
    """A copy of a checkpoint whose tensors `change` has changed in place."""
    shutil.copytree(folder, copy)
    tensors = load_file(copy / "model.safetensors")
    change(tensors)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return str(copy)


# --- Paths and Hub ids ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "outputs/sign-mae",
        "data/phoenix14t",
        "/nowhere/sign-mae",
        "./sign-mae",
        "../sign-mae",
        "~/sign-mae-that-is-not",
        "sign-mae",
        "a/b/c",
        "runs/x",
        "-x/y",
    ],
)
def test_a_local_folder_that_is_missing_is_not_asked_of_the_hub(name, tmp_path, monkeypatch):
    """`outputs/sign-mae`, the configs' own default, cost 48 seconds of retries, or loaded what somebody of that name has on the Hub."""
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="--sign_mae '.*' does not exist. Expected a folder"):
        check_path(name, "--sign_mae")


@pytest.mark.parametrize("name", ["me/sign-mae", "M-CLIP/M-BERT-Distil-40", "https://huggingface.co/x.parquet", "data/*.parquet"])
def test_hub_ids_addresses_and_patterns_are_passed_on(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert check_path(name, "--checkpoint") == name


def test_only_text_models_may_have_a_name_without_an_owner(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert check_path("t5-small", "--text_model", single_names=True) == "t5-small"
    with pytest.raises(ValueError, match="does not exist"):
        check_path("t5-small", "--checkpoint")


def test_what_is_there_is_taken(tmp_path, monkeypatch):
    (tmp_path / "outputs" / "sign-mae").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert check_path("outputs/sign-mae", "--sign_mae") == "outputs/sign-mae" and check_path(tmp_path, "--sign_mae") == str(tmp_path)


def test_a_hub_id_that_cannot_be_had_is_one_error(sign_mae_dir):
    with pytest.raises(ValueError, match="--sign_mae 'me/nobody-has-this' cannot be loaded: .*[Cc]heck the name, or give a folder"):
        load_model("me/nobody-has-this", SignMAE, "--sign_mae")


def test_a_missing_data_set_is_not_asked_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="Data set 'data/phoenix14t' does not exist"):
        load_rows("data/phoenix14t", "validation")


# --- Kinds ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_class", [SignMAE, SignMAEEncoderModel, SignMAEDecoderModel])
def test_a_whole_checkpoint_loads_in_eval_mode_and_in_silence(model_class, sign_mae_dir, said):
    loaded, plain = load_model(sign_mae_dir, model_class), model_class.from_pretrained(sign_mae_dir)
    assert not loaded.training and not said.records
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_a_checkpoint_of_another_kind_is_refused_wherever_one_is_named(corpus, sign_mae_dir, sign_to_text_dir, text_to_sign_dir, tmp_path):
    """--sign_mae SIGN_TO_TEXT trained with a decoder of random values, --sign_mae TEXT_TO_SIGN with a random encoder; rc 0."""
    data = ["--datasets", corpus, "--validation", "[]", "--output_dir", str(tmp_path / "out"), "--use_cpu", "true"]
    clips = ["--datasets", corpus, "--train_datasets", corpus]
    judges = tmp_path / "judges"
    shutil.copytree(sign_mae_dir, judges / "1")
    (judges / "judges.json").write_text(json.dumps({"selection": 0, "judges": [{"seed": 1, "role": "report"}]}))
    drawn = ["--datasets", corpus, "--output", str(tmp_path / "x.svg")]
    calls = {
        "--sign_mae": [
            (train_sign_to_text.main, [*data, "--sign_mae", text_to_sign_dir], "sign_mae"),
            (train_text_to_sign.main, [*data, "--sign_mae", sign_to_text_dir], "sign_mae"),
            (train_recognition.main, [*data, "--sign_mae", sign_to_text_dir], "sign_mae"),
            (
                evaluate_checkpoint.main,
                ["--checkpoint", sign_to_text_dir, *clips, "--sign_mae", text_to_sign_dir, "--device", "cpu"],
                "sign_mae",
            ),
        ],
        "--init_from": [(pretrain.main, ["paper.yaml", *data, "--init_from", sign_to_text_dir], "sign_mae")],
        "--judge": [(train_text_to_sign.main, [*data, "--sign_mae", sign_mae_dir, "--judge", text_to_sign_dir], "sign_to_text")],
        "--judges": [
            (
                evaluate_checkpoint.main,
                ["--task", "text-to-sign", "--checkpoint", text_to_sign_dir, *clips, "--judges", str(judges), "--sign_mae", sign_mae_dir],
                "sign_to_text",
            )
        ],
        "--checkpoint": [
            (evaluate_checkpoint.main, ["--checkpoint", sign_mae_dir, *clips], "sign_to_text"),
            (embed.main, ["--checkpoint", sign_to_text_dir, "--datasets", corpus, "--output_dir", str(tmp_path / "latents")], "sign_mae"),
            (draw_latents.main, ["--checkpoint", sign_to_text_dir, *drawn], "sign_mae"),
            (draw_strips.main, ["--checkpoint", sign_to_text_dir, *drawn], "sign_mae"),
            (draw_attention.main, ["--checkpoint", sign_mae_dir, "--clip", "x.npy", "--output", str(tmp_path / "x.svg")], "sign_to_text"),
        ],
    }
    for option, each in calls.items():
        for main, argv, expected in each:
            with pytest.raises(ValueError, match=f"{option} '.*' holds a model of type '.*', expected '{expected}'"):
                main(argv)
    assert not list((tmp_path / "out").rglob("*.safetensors"))


@pytest.mark.parametrize("content", [{}, {"model_type": "bert"}, {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}])
def test_a_stranger_checkpoint_is_refused_and_none_of_its_code_asked_for(content, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(content))
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ValueError, match="expected 'sign_to_text': a folder that train/train_sign_to_text.py wrote"):
        load_pipeline("sign-to-text", tmp_path)


def test_a_folder_without_a_config_and_one_without_a_processor_are_refused(sign_mae_dir, tmp_path):
    with pytest.raises(ValueError, match="is no checkpoint: it has no config.json. Give a folder that train/pretrain.py wrote"):
        load_model(tmp_path, SignMAE)
    shutil.copytree(sign_mae_dir, tmp_path / "bare")
    (tmp_path / "bare" / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match="has no keypoint processor that can be read"):
        load_processor(tmp_path / "bare")


# --- Weights ----------------------------------------------------------------------------------------------------------------------


def test_missing_tensors_are_named(sign_mae_dir, tmp_path, said):
    """They were given random values, and the only sign was a report of 60 to 120 lines."""
    folder = damaged(sign_mae_dir, tmp_path / "x", lambda tensors: [tensors.pop(name) for name in sorted(tensors) if "layers.0" in name])
    with pytest.raises(
        ValueError, match=r"--sign_mae '.*x' lacks decoder.layers.0.* and \d+ more tensors. Expected the weights of the SignMAE"
    ):
        load_model(folder, SignMAE, "--sign_mae")
    assert not said.records


def test_tensors_of_another_size_are_named_with_both_sizes(sign_mae_dir, tmp_path):
    folder = damaged(sign_mae_dir, tmp_path / "x", lambda tensors: tensors.update(latent_mean=torch.zeros(3)))
    with pytest.raises(ValueError, match=r"in other sizes than its config names latent_mean \(\(3,\), expected \(16,\)\)"):
        load_model(folder, SignMAEEncoderModel)


def test_tensors_that_the_config_does_not_name_are_refused(sign_mae_dir, tmp_path):
    """A config.json of fewer layers than the weights would load a part of them."""
    folder = damaged(sign_mae_dir, tmp_path / "x", lambda tensors: tensors.update({"encoder.layers.9.norm": torch.zeros(3)}))
    with pytest.raises(ValueError, match=r"has, but its config does not name, encoder.layers.9.norm"):
        load_model(folder, SignMAE)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_statistics_that_are_not_finite_are_refused_and_never_published(value, sign_mae_dir, tmp_path):
    """One clip gave a latent_std of NaN, which loaded, and which train.publish --dry_run accepted."""
    folder = damaged(sign_mae_dir, tmp_path / "x", lambda tensors: tensors["latent_std"].fill_(value))
    with pytest.raises(ValueError, match=r"has values that are not finite \(NaN or infinite\) in latent_std"):
        load_model(folder, SignMAEEncoderModel)
    assert check_checkpoint(tmp_path / "x") == "sign_mae"
    card = ["--license", "mit", "--training_data", "X:mit:yes", "--sign_language", "gsg", "--extractor", "x"]
    with pytest.raises(ValueError, match="not finite .* in latent_std"):
        publish(["--checkpoint", folder, "--repo_id", "me/x", "--dry_run", "--output_dir", str(tmp_path / "out"), *card])


@pytest.mark.parametrize("change", ["cut", "gone", "pickle"])
def test_weights_that_cannot_be_read_are_refused(change, sign_mae_dir, tmp_path):
    folder = tmp_path / "x"
    shutil.copytree(sign_mae_dir, folder)
    weights = folder / "model.safetensors"
    if change == "cut":
        weights.write_bytes(weights.read_bytes()[:-1000])
    else:
        weights.unlink()
    if change == "pickle":
        torch.save(SignMAE.from_pretrained(sign_mae_dir).state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="its weights cannot be read .* Expected a whole model.safetensors"):
        load_model(folder, SignMAE)


def test_the_pipeline_is_the_one_that_transformers_makes(sign_to_text_dir):
    pipe = load_pipeline("sign-to-text", sign_to_text_dir, "cpu")
    assert isinstance(pipe.model, SignToText) and pipe.tokenizer.eos_token_id is not None and pipe.feature_extractor.layout == "uniglor73"
