"""The losses of the baselines, and what is saved of a model that was trained with them."""

import logging

import pytest
import torch
from transformers import AutoModel

from modeling_unigloR import SignToText, SignToTextConfig
from tests.conftest import TINY, TINY_TEXT
from tests.test_sign_to_text import batch
from train.engine.baselines import BaselineArguments, BaselineSignToText

GLOSSES = ["REGEN", "SONNE", "MORGEN"]


def make(**fields):
    torch.manual_seed(0)
    return BaselineSignToText(SignToTextConfig(sign_mae_config=TINY, text_config=TINY_TEXT | {"vocab_size": 40}, **fields)).eval()


def test_the_gloss_loss_is_ctc_over_the_encoder():
    model = make(sign_encoder="frames", gloss_loss_weight=2.0, glosses=GLOSSES)
    inputs, labels = batch()
    gloss_labels = torch.tensor([[0, 2], [1, -100]])
    output = model(**inputs, labels=labels, gloss_labels=gloss_labels)
    plain = model(**inputs, labels=labels)
    log_probs = model.gloss_head(output.encoder_last_hidden_state).log_softmax(-1)
    expected = [
        torch.nn.functional.ctc_loss(log_probs[b, :length, None], torch.tensor([glosses]), [length], [len(glosses)])
        for b, length, glosses in ((0, 40, [1, 3]), (1, 25, [2]))
    ]
    torch.testing.assert_close(output.loss - plain.loss, 2.0 * torch.stack(expected).mean())


def test_the_contrastive_loss_pulls_two_dropout_states_together():
    model = make(contrastive_loss_weight=1.0)
    embeddings = model.text_model.get_output_embeddings().weight
    hidden = torch.randn(1, 2, 16)
    labels, negatives = torch.tensor([[5, -100]]), torch.tensor([5, 6, 7])
    cosine = torch.nn.functional.cosine_similarity
    near = cosine(hidden[0, 0], hidden[0, 0], dim=0) / 0.1
    far = torch.stack([cosine(hidden[0, 0], embeddings[token], dim=0) / 0.1 for token in (6, 7)])  # 5 is in the sentence
    expected = -(near - torch.cat([near[None], far]).logsumexp(0))
    torch.testing.assert_close(model.contrastive_losses(hidden, hidden, labels, negatives), expected[None])
    inputs, labels = batch()
    assert model.train()(**inputs, labels=labels).loss > SignToText.forward(model, **inputs, labels=labels).loss


def test_gloss_labels_out_of_range_are_refused():
    model = make(sign_encoder="frames", gloss_loss_weight=1.0, glosses=GLOSSES)
    inputs, labels = batch()
    with pytest.raises(ValueError, match="gloss_labels"):
        model(**inputs, labels=labels, gloss_labels=torch.tensor([[3], [0]]))


def test_what_is_saved_translates_as_a_sign_to_text_and_keeps_the_head_for_its_own_class(tmp_path, caplog):
    model = make(sign_encoder="frames", gloss_loss_weight=1.0, glosses=GLOSSES)
    model.save_pretrained(tmp_path)
    assert "modeling_sign_to_text.SignToText" in (tmp_path / "config.json").read_text() and not list(tmp_path.glob("baselines*"))
    with caplog.at_level(logging.WARNING):
        plain = AutoModel.from_pretrained(tmp_path)
    assert type(plain) is SignToText and not any("gloss" in name for name in plain.state_dict()) and "gloss_head" not in caplog.text
    inputs, labels = batch()
    torch.testing.assert_close(plain(**inputs, labels=labels).logits, model(**inputs, labels=labels).logits, rtol=0, atol=0)
    again = BaselineSignToText.from_pretrained(tmp_path)
    assert again.config.glosses == GLOSSES and again.losses == model.losses
    torch.testing.assert_close(again.gloss_head.weight, model.gloss_head.weight, rtol=0, atol=0)


def test_an_evaluation_generates_from_its_whole_batch():
    model = make(sign_encoder="frames", gloss_loss_weight=1.0, glosses=GLOSSES)
    inputs, labels = batch()
    options = dict(max_new_tokens=3, num_beams=1)
    ids = model.generate(**inputs, labels=labels, gloss_labels=torch.zeros(2, 1, dtype=torch.long), **options)
    assert torch.equal(ids, model.generate(**inputs, **options))


def test_without_a_weight_a_plain_sign_to_text_is_trained():
    assert BaselineArguments().model_of({"stride": 3}, None) == (SignToText, {"stride": 3})
    model_class, fields = BaselineArguments(gloss_loss_weight=1.0).model_of({"stride": 3}, lambda: {"B", "A"})
    assert model_class is BaselineSignToText and fields["glosses"] == ["A", "B"] and fields["stride"] == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gloss_loss_weight": 1.0, "glosses": ["A"]}, "needs sign_encoder='frames'"),
        ({"gloss_loss_weight": 1.0, "sign_encoder": "frames"}, "glosses is empty"),
        ({"contrastive_temperature": 0}, "contrastive_temperature=0"),
        ({"contrastive_negatives": 2.5}, "contrastive_negatives=2.5"),
        ({"gloss_loss_weight": -1}, "gloss_loss_weight=-1"),
    ],
)
def test_losses_that_cannot_be_say_why(fields, message):
    with pytest.raises(ValueError, match=message):
        make(**fields)
