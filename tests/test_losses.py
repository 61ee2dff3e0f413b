"""A loss does not depend on how a batch is cut: into steps of gradient accumulation, into processes, into batches of an evaluation.

Dropout is off, the masks are given and the norms are calibrated ("frames" has a BatchNorm, whose statistics are a batch's own); the
contrastive loss draws its negatives for a batch, so they are given too.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import Seq2SeqTrainingArguments, TrainerCallback, TrainingArguments

from modeling_unigloR import (
    SignMAE,
    SignMAEConfig,
    SignRecognition,
    SignRecognitionConfig,
    SignToText,
    SignToTextConfig,
    TextToSign,
    TextToSignConfig,
)
from tests.conftest import TEXTS, TINY, TINY_DECODER, TINY_ENCODER, TINY_TEXT, TINY_TEXT_ENCODER
from train.data.text_tokenizers import train_tokenizer
from train.engine.baselines import LOSS_FIELDS, BaselineSignToText
from train.engine.trainers import RecognitionTrainer, SegmentTrainer, TextToSignTrainer, TranslationTrainer

SIZE = 12  # items of a batch: 1, 2, 3, 4 and 6 divide it
DROPOUT = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
TINY_MAE = TINY | DROPOUT
ALL = ("sign_mae", "sign_to_text", "text_to_sign", "sign_recognition")


class Items(list):
    """Items of one padded batch, as a data set of a trainer."""

    def __init__(self, batch):
        super().__init__({name: value[index] for name, value in batch.items()} for index in range(len(next(iter(batch.values())))))
        self.lengths = [1] * len(self)


def collate(items):
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def make(kind, **fields):
    """A tiny model in float64, and a batch of items that differ in what a loss counts of them."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    counts = torch.arange(SIZE) * 5 % 7 + 1  # 1 to 7
    if kind == "sign_mae":
        model = SignMAE(SignMAEConfig(**TINY_MAE, **fields))
        seen = torch.rand(SIZE, 15, 73, generator=generator) < counts[:, None, None] / 7
        batch = {"keypoints": random(SIZE, 15, 73, 2), "keypoint_mask": seen, "noise": random(SIZE, 15)}
        model.encoder.graph.norm.weight.data.fill_(1.0)
        return model.double(), batch
    latents, latent_mask = random(SIZE, 8, 16), (torch.arange(8) < counts[:, None]).long()
    if kind == "sign_to_text":
        text = TINY_TEXT | dict(dropout=0.0, attention_dropout=0.0, vocab_size=40)
        model_class = BaselineSignToText if LOSS_FIELDS & fields.keys() else SignToText
        model = model_class(SignToTextConfig(sign_mae_config=TINY_MAE, text_config=text, label_smoothing=0.1, **fields))
        labels = torch.randint(3, 40, (SIZE, 8), generator=generator).masked_fill(latent_mask.flip(0) == 0, -100)
        batch = {"latents": latents, "latent_mask": latent_mask, "labels": labels}
        if model.config.sign_encoder == "frames":
            batch = {"keypoints": random(SIZE, 16, 73, 2), "labels": labels, "gloss_labels": torch.full((SIZE, 3), -100)}
            for index, count in enumerate(counts.tolist()):
                batch["gloss_labels"][index, : count % 4] = torch.arange(count % 4) % 2
        if "contrastive_loss_weight" in fields:
            batch["negatives"] = torch.arange(3, 9)
    elif kind == "text_to_sign":
        text = TINY_TEXT_ENCODER | DROPOUT | {"vocab_size": 40}
        model = TextToSign(TextToSignConfig(sign_mae_config=TINY_MAE, text_config=text, **TINY_DECODER, **DROPOUT, **fields))
        ids = torch.randint(3, 40, (SIZE, 8), generator=generator)
        batch = {"input_ids": ids, "attention_mask": latent_mask.flip(0), "latents": latents, "latent_mask": latent_mask}
    else:
        config = SignRecognitionConfig(sign_mae_config=TINY_MAE, num_labels=3, label_smoothing=0.1, **TINY_ENCODER, **DROPOUT, **fields)
        model = SignRecognition(config)
        torch.nn.init.normal_(model.classifier.weight)
        labels = torch.where(counts == 2, -100, counts % 3)  # not every clip has one
        batch = {"latents": latents, "latent_mask": latent_mask, "labels": labels}
    return model.double(), batch


def parts(batch, cuts):
    """The batch, cut before these items; what belongs to the whole batch goes with every part."""
    for start, stop in zip((0, *cuts), (*cuts, SIZE)):
        yield {name: value if name == "negatives" else value[start:stop] for name, value in batch.items()}


def gradients(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


VARIANTS = [
    ("sign_mae", {}),
    ("sign_mae", {"keypoint_weighting": "none", "decoding": "autoregressive"}),
    ("sign_to_text", {}),
    ("sign_to_text", {"contrastive_loss_weight": 0.5}),
    ("sign_to_text", {"sign_encoder": "frames", "gloss_loss_weight": 2.0, "glosses": ["A", "B"]}),
    ("text_to_sign", {}),
    ("text_to_sign", {"keypoint_loss_weight": 3.0, "latent_loss_weight": 0.5}),
    ("sign_recognition", {}),
]


@pytest.mark.parametrize(("kind", "fields"), VARIANTS)
def test_the_shares_of_a_batchs_parts_add_up_to_its_loss_and_gradients(kind, fields):
    model, batch = make(kind, **fields)  # in eval mode: the BatchNorm of "frames" has no part in it
    model.eval()
    whole = model(**batch).loss
    whole.backward()
    expected = gradients(model)
    items = model.count_items(**batch)
    assert len(items) == SIZE and len(items[:, 0].unique()) > 1
    model.zero_grad()
    shares = [model(**part, num_items_in_batch=items.sum(0)).loss for part in parts(batch, (1, 3, 8))]
    sum(shares).backward()
    torch.testing.assert_close(sum(shares), whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradients(model), expected, rtol=1e-5, atol=1e-12)
    means = torch.stack([model(**part).loss.detach() for part in parts(batch, (1, 3, 8))])
    assert (means.mean() - whole).abs() > 1e-3 * whole  # the mean of the parts' means is another number


def test_one_number_cannot_stand_for_two_counts():
    model, batch = make("text_to_sign")
    with pytest.raises(ValueError, match="one num_items_in_batch for a loss of 2 terms"):
        model(**batch, num_items_in_batch=torch.tensor(7))
    model, batch = make("sign_to_text")  # what transformers' own Trainer counts: tokens
    expected = model(**batch).loss
    torch.testing.assert_close(model(**batch, num_items_in_batch=(batch["labels"] != -100).sum()).loss, expected)


# --- By the trainers --------------------------------------------------------------------------------------------------------------


class Noted(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.gradients = gradients(model)


def trainer_of(kind, folder, model, batch, **arguments):
    arguments = dict(output_dir=str(folder), max_steps=1, max_grad_norm=0.0, save_strategy="no", use_cpu=True) | arguments
    arguments |= dict(logging_steps=1, report_to="none", remove_unused_columns=False, disable_tqdm=True)
    parts = dict(model=model, train_dataset=Items(batch), eval_dataset=Items(batch), data_collator=collate)
    if kind == "sign_mae":
        return SegmentTrainer(args=TrainingArguments(**arguments), **parts)
    if kind == "sign_recognition":
        return RecognitionTrainer(args=TrainingArguments(**arguments), **parts)
    trainer_class = TextToSignTrainer
    if kind == "sign_to_text":
        trainer_class = TranslationTrainer
        model.generation_config.update(max_new_tokens=3, num_beams=1)
    arguments = Seq2SeqTrainingArguments(predict_with_generate=True, **arguments)
    return trainer_class(args=arguments, processing_class=train_tokenizer(TEXTS), **parts)


def trained(kind, folder, batch_size, steps):
    """Gradients of one step on all items, and the logged loss."""
    trainer = trainer_of(kind, folder, *make(kind), per_device_train_batch_size=batch_size, gradient_accumulation_steps=steps)
    noted = Noted()
    trainer.add_callback(noted)
    trainer.train()
    return noted.gradients, next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)


def evaluated(kind, folder, batch_size):
    """eval_loss of all but the last item: an odd number."""
    model, batch = make(kind)
    batch = {name: value[:-1] for name, value in batch.items()}
    trainer = trainer_of(kind, folder, model, batch, per_device_eval_batch_size=batch_size)
    trainer.compute_metrics = lambda evaluation: {}
    return trainer.evaluate()["eval_loss"]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What two processes find, each with a half of every batch: {kind: (gradients, loss)} and {kind: eval_loss}."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "-m", "tests.test_losses", str(folder)], capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[1]
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / "trained.pt", weights_only=True), json.loads((folder / "evaluated.json").read_text())


@pytest.mark.parametrize("kind", ALL)
def test_accumulation_and_processes_give_the_gradients_of_one_large_batch(kind, tmp_path, two_processes):
    expected, loss = trained(kind, tmp_path, SIZE, 1)
    assert expected and all(gradient.dtype == torch.float64 for gradient in expected.values())
    for found, reported in (trained(kind, tmp_path, 3, 4), trained(kind, tmp_path, 1, SIZE), two_processes[0][kind]):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)
        assert reported == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("kind", ALL[1:])  # SignMAE's evaluation has no loss
def test_eval_loss_depends_on_no_batch_size_and_no_number_of_processes(kind, tmp_path, two_processes):
    model, batch = make(kind)
    expected = model.eval()(**{name: value[:-1] for name, value in batch.items()}).loss.item()
    for found in (evaluated(kind, tmp_path, 1), evaluated(kind, tmp_path, 4), evaluated(kind, tmp_path, 16), two_processes[1][kind]):
        assert found == pytest.approx(expected, rel=1e-6)


if __name__ == "__main__":  # one of the two processes
    out = Path(sys.argv[1])
    results = {kind: trained(kind, out, 3, 2) for kind in ALL}
    losses = {kind: evaluated(kind, out, 4) for kind in ALL[1:]}
    if os.environ["RANK"] == "0":
        torch.save(results, out / "trained.pt")
        (out / "evaluated.json").write_text(json.dumps(losses))
