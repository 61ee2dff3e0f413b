"""The training script of sign-to-text, its parts, and what scores its result."""

import json
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSeq2SeqLM, MBartConfig, pipeline

from modeling_unigloR import KeypointProcessor
from tests.conftest import TEXTS, TINY_TEXT, random_signing, stopped_at
from train import evaluate_checkpoint, train_sign_to_text
from train.data.augmentation import KeypointAugmentation
from train.data.clips import Clips, ClipSampler, LatentStore, TranslationCollator, TranslationDataset
from train.data.text_tokenizers import KINDS, share_unknown, train_tokenizer

ROOT = Path(__file__).parents[1]


def arguments(corpus, output_dir, *more, steps=4):
    config = Path(output_dir).parent / "tiny.yaml"
    config.write_text(json.dumps({"text_config": TINY_TEXT}))
    return [
        str(config), "--datasets", corpus, "--validation", corpus, "--output_dir", str(output_dir), "--max_steps", str(steps),
        "--per_device_train_batch_size", "4", "--eval_strategy", "steps", "--eval_steps", "2", "--save_strategy", "steps",
        "--save_steps", "2",
        "--generation_num_beams", "1", "--max_new_tokens", "6", "--use_cpu", "true", "--learning_rate", "1e-2",
        "--early_stopping_patience", "null", "--save_total_limit", "5", *more,
    ]  # fmt: skip


# --- Tokenizers -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_gives_back_the_text_that_it_was_made_from(kind, tmp_path):
    tokenizer = train_tokenizer(TEXTS, kind, vocab_size=60)
    tokenizer.save_pretrained(tmp_path)
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("Am  Sonntag scheint die Sonne .", *TEXTS):
        ids = loaded(text).input_ids
        assert ids[-1] == loaded.eos_token_id and loaded.unk_token_id not in ids
        assert loaded.decode(ids, skip_special_tokens=True) in (text.lower(), " ".join(text.lower().split()))
    assert [loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id, loaded.unk_token_id] == [0, 1, 2, 3]


def test_unknown_words_are_counted():
    assert share_unknown(train_tokenizer(TEXTS), ["morgen regnet es nie"]) == 0.25


def test_a_training_set_without_text_is_refused():
    with pytest.raises(ValueError, match="column 'text' is empty in every training row"):
        train_tokenizer(["", None])


# --- Clips ------------------------------------------------------------------------------------------------------------------------


def test_latents_are_cached_once_and_equal_encode_sequence(corpus, tiny_sign_mae, tmp_path, monkeypatch):
    clips = Clips([corpus], "train", KeypointProcessor(), tmp_path)
    model = tiny_sign_mae()
    store = LatentStore.build(clips, model, 7, tmp_path)
    for index in (0, 3, 11):
        keypoints = torch.from_numpy(clips.keypoints(index)[0])[None]
        np.testing.assert_allclose(store[index], model.encode_sequence(keypoints)[0][0].detach(), atol=1e-5)
    monkeypatch.setattr(type(model), "encode_sequence", None)
    assert len(LatentStore.build(clips, model, 7, tmp_path)) == 12
    other = tiny_sign_mae(seed=1)
    monkeypatch.undo()
    assert not np.allclose(LatentStore.build(clips, other, 7, tmp_path)[0], store[0])


def test_every_clip_stands_once_in_an_epoch_and_the_epoch_decides_the_order():
    sampler = ClipSampler(np.arange(103) % 17, batch_size=8, seed=3)
    first = list(sampler)
    assert sorted(first) == list(range(103)) and list(sampler) == first
    sampler.set_epoch(1)
    assert sorted(sampler) == list(range(103)) and list(sampler) != first
    lengths = (np.arange(103) % 17)[first][:96].reshape(-1, 8)
    assert np.ptp(lengths, axis=1).mean() < 4  # batches of like length


def test_too_long_texts_are_cut_before_their_end(corpus, tmp_path):
    clips = Clips([corpus], "train", KeypointProcessor(), tmp_path)
    tokenizer = train_tokenizer(clips.texts)
    item = TranslationDataset(clips, tokenizer, max_target_length=3)[0]
    assert len(item["labels"]) == 3 and item["labels"][-1] == tokenizer.eos_token_id


def test_a_row_without_text_and_an_id_twice_are_refused(corpus, tmp_path):
    rows = datasets.load_dataset(corpus, split="train")
    without = rows.map(lambda row: {"text": None}, features=rows.features)
    without.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="clip 'train-0' has no text"):
        Clips([str(tmp_path / "a.parquet")], "train", KeypointProcessor(), tmp_path)
    datasets.concatenate_datasets([rows, rows.select([2])]).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="1 ids stand there twice"):
        Clips([str(tmp_path / "b.parquet")], "train", KeypointProcessor(), tmp_path)


def test_augmentation_changes_speed_and_view_within_its_bounds():
    torch.manual_seed(0)
    keypoints = torch.from_numpy(random_signing(100)).float()
    assert {len(KeypointAugmentation(speed=(0.8, 1.25))(keypoints)) for _ in range(20)} <= set(range(80, 126))
    still = KeypointAugmentation(speed=(1, 1), rotation=0, stretch=(1, 1), noise=0)
    torch.testing.assert_close(still(keypoints), keypoints)
    batch = TranslationCollator(KeypointAugmentation())([{"keypoints": keypoints, "labels": torch.tensor([1, 2])}] * 2)
    assert batch["keypoints"].shape[:2] == batch["attention_mask"].shape


# --- The script -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [[], ["--cache_latents", "false"], ["--sign_encoder", "frames"]])
def test_the_script_writes_a_folder_that_the_pipeline_loads(corpus, sign_mae_dir, tmp_path, more):
    report = train_sign_to_text.main(arguments(corpus, tmp_path / "out", "--sign_mae", sign_mae_dir, *more))
    assert report["steps"] == 4 and "eval_bleu4" in report["validation"] and "eval_cer" in report["validation"]
    assert set(report["floors"]) == {"one constant sentence", "random training sentence"} and report["interval"]["metric"] == "bleu4"
    assert report["verdict"] and json.loads((tmp_path / "out" / "report.json").read_text())["verdict"] == report["verdict"]
    pipe = pipeline("sign-to-text", model=str(tmp_path / "out"), device="cpu")
    answer = pipe(random_signing(40), layout="uniglor73", fps=25.0)
    known = {"translation_text", "score"} | ({"distance"} if not more else set())  # distances are fitted to cached latents
    assert set(answer) == known
    written = {path.name for path in (tmp_path / "out").rglob("*")}
    assert "training_args.bin" not in written and "training_args.json" in written
    assert sign_mae_dir not in (tmp_path / "out" / "config.json").read_text()
    decoding = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert decoding["max_new_tokens"] == 6 and "max_length" not in decoding  # with both, transformers warned at every call


def test_stopped_and_resumed_it_ends_with_the_same_weights(corpus, sign_mae_dir, tmp_path):
    train_sign_to_text.main(arguments(corpus, tmp_path / "whole", "--sign_mae", sign_mae_dir, "--load_best_model_at_end", "false"))
    half = arguments(corpus, tmp_path / "half", "--sign_mae", sign_mae_dir, "--load_best_model_at_end", "false")
    with stopped_at(3):
        train_sign_to_text.main(half)
    train_sign_to_text.main([*half, "--resume_from_checkpoint", "true"])
    weights = [AutoModel.from_pretrained(tmp_path / name).state_dict() for name in ("whole", "half")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_glosses_of_the_training_set_become_labels(corpus, sign_mae_dir, tmp_path):
    more = ["--sign_encoder", "frames", "--gloss_loss_weight", "1.0"]
    train_sign_to_text.main(arguments(corpus, tmp_path / "out", *more, steps=2))
    assert AutoModel.from_pretrained(tmp_path / "out").config.glosses == ["REGEN", "SCHNEE", "SONNE"]


def test_a_pretrained_text_model_with_adapters_is_saved_without_them(corpus, sign_mae_dir, tmp_path):
    pytest.importorskip("peft")
    text_model = tmp_path / "text"
    tokenizer = train_tokenizer(TEXTS)
    AutoModelForSeq2SeqLM.from_config(MBartConfig(**TINY_TEXT, vocab_size=len(tokenizer))).save_pretrained(text_model)
    tokenizer.save_pretrained(text_model)
    more = ["--sign_mae", sign_mae_dir, "--text_model", str(text_model), "--lora_rank", "2"]
    train_sign_to_text.main(arguments(corpus, tmp_path / "out", *more, steps=2))
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert model.config.lora_rank == 0 and not any("lora" in name for name in model.state_dict())


def test_two_processes_score_every_clip_once(corpus, sign_mae_dir, tmp_path):
    """Seq2SeqTrainer gathers the clips that fill the last batch too: 5 clips became 6, and the score another."""
    more = ["--sign_mae", sign_mae_dir, "--per_device_eval_batch_size", "2"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "--rdzv_backend", "c10d"]
    command += ["--rdzv_endpoint", "localhost:0", "train/train_sign_to_text.py", *arguments(corpus, tmp_path / "out", *more, steps=2)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-3000:]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["validation"]["eval_bleu4"] >= 0  # TranslationTrainer raises where the numbers differ


@pytest.mark.parametrize(
    "more, message",
    [
        ([], "No SignMAE to read the signing with"),
        (["--sign_mae", "x", "--augmentation", "{}"], "give --cache_latents false"),
        (["--sign_mae", "x", "--freeze_sign_mae", "false"], "give --cache_latents false"),
        (["--sign_mae", "x", "--nonsense", "1"], "Unknown field 'nonsense'"),
    ],
)
def test_arguments_that_cannot_be_say_why(corpus, tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        train_sign_to_text.main(arguments(corpus, tmp_path / "out", *more))


def test_a_processor_that_differs_from_the_sign_maes_is_refused(corpus, sign_mae_dir, tmp_path):
    with pytest.raises(ValueError, match="differ from the processor of"):
        train_sign_to_text.main(arguments(corpus, tmp_path / "out", "--sign_mae", sign_mae_dir, "--fps", "50"))


# --- Scores -----------------------------------------------------------------------------------------------------------------------


def test_evaluate_checkpoint_prints_floors_and_writes_what_it_scored(corpus, sign_mae_dir, tmp_path, capsys):
    train_sign_to_text.main(arguments(corpus, tmp_path / "out", "--sign_mae", sign_mae_dir))
    argv = ["--checkpoint", str(tmp_path / "out"), "--datasets", corpus, "--train_datasets", corpus, "--split", "test", "--device", "cpu"]
    report = evaluate_checkpoint.main(argv)
    printed = capsys.readouterr().out
    for row in (
        "system",
        "floor: random training sentence",
        "floor: one constant sentence",
        "floor: sentence of the nearest training clip",
    ):
        assert f"| {row} |" in printed and report["rows"][row]["num_scored"] == 5
    assert report["rows"]["system, sentences seen in training"]["num_scored"] == 5
    folder = tmp_path / "out" / "evaluation-test"
    assert json.loads((folder / "scores.json").read_text())["rows"]["system"]["signatures"]["bleu4"]
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"test-{index}" for index in range(5)] and lines[0]["reference"] == TEXTS[0]
    found = evaluate_checkpoint.main(["--compare", str(folder / "predictions.jsonl"), str(folder / "predictions.jsonl")])
    assert found["paired"]["delta"] == 0 and found["paired"]["p_value"] == 1


def test_a_frame_model_has_a_retrieval_floor_where_a_sign_mae_is_given(corpus, sign_mae_dir, tmp_path):
    train_sign_to_text.main(arguments(corpus, tmp_path / "out", "--sign_encoder", "frames", steps=2))
    argv = ["--checkpoint", str(tmp_path / "out"), "--datasets", corpus, "--train_datasets", corpus, "--device", "cpu"]
    assert "floor: sentence of the nearest training clip" not in evaluate_checkpoint.main(argv)["rows"]
    assert "floor: sentence of the nearest training clip" in evaluate_checkpoint.main([*argv, "--sign_mae", sign_mae_dir])["rows"]


@pytest.mark.parametrize(
    "a, b, names",
    [
        ("runs/frames/evaluation-test", "runs/segments/evaluation-test", ["frames", "segments"]),
        ("frames/0/evaluation-test", "segments/0/evaluation-test", ["frames/0", "segments/0"]),
        ("model/evaluation-test", "model/evaluation-test-beams", ["evaluation-test", "evaluation-test-beams"]),
        ("one", "other", ["one", "other"]),
    ],
)
def test_a_comparison_names_both_systems_and_says_what_is_subtracted(a, b, names, tmp_path, capsys):
    """Both are called evaluation-test by default: the second row replaced the first, and no word said which was subtracted from which."""
    files = [tmp_path / place / "predictions.jsonl" for place in (a, b)]
    for file, prediction in zip(files, ("morgen regnet es", TEXTS[0])):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"id": "1", "prediction": prediction, "reference": TEXTS[0]}) + "\n")
    found = evaluate_checkpoint.main(["--compare", *map(str, files)])
    printed = capsys.readouterr().out
    rows = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| ")][2:]
    if names[0].startswith("evaluation"):
        names = [f"{name}/predictions.jsonl" for name in names]
    assert rows == found["names"] == [f"A: {names[0]}", f"B: {names[1]}"]
    assert f"bleu4, B - A ({names[1]} minus {names[0]}): +100.00" in printed and found["paired"]["delta"] == pytest.approx(100)


def test_scores_of_a_checkpoint_that_is_no_folder_need_one(tmp_path, monkeypatch):
    """They went into a new folder of the Hub id's name, which then hid the checkpoint of that name."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="--checkpoint 'me/model' is no folder here, .* Give --output_dir"):
        evaluate_checkpoint.main(["--checkpoint", "me/model", "--datasets", "me/rows"])
    assert not list(tmp_path.iterdir())
