"""The translation baselines: what travels, what padding does, their losses against naive versions, and a row of a table at a toy size."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModel

from experiments import corpora, translation
from experiments.baselines import ConSLT, GloFE, JointSLT, glofe, translators
from experiments.workplace import Workplace
from modeling_unigloR import KeypointProcessor, keypoint_weights
from tests.conftest import REAL_DATA, TINY, TINY_TEXT
from tests.test_sign_to_text import batch

GLOSSES = ["REGEN", "SONNE", "MORGEN"]
MADE = {
    "joint_slt": (JointSLT, {}),
    "joint_slt_glosses": (JointSLT, {"gloss_loss_weight": 5.0, "glosses": GLOSSES}),
    "conslt": (ConSLT, {}),
    "glofe": (GloFE, {"anchors": ["regen", "sonne", "morgen"], "least_anchors": 1, "stride": 6}),
}
EACH = pytest.mark.parametrize("name", MADE)


def make(name, **fields):
    torch.manual_seed(0)
    model_class, own = MADE[name]
    signing = TINY | {"window_size": 8, "block_norm": "batch"} | fields.pop("sign_mae_config", {})
    fields = {"sign_mae_config": signing, "text_config": TINY_TEXT | {"vocab_size": 40}} | own | fields
    return model_class(model_class.config_class(**fields)).eval()


def targets(name):
    """What a baseline's losses read of `batch()` beside the texts."""
    labels = torch.tensor([[0, 2], [1, -100]])
    return {"joint_slt_glosses": {"gloss_labels": labels}, "glofe": {"anchor_labels": labels}}.get(name, {})


# --- Checkpoints and padding ------------------------------------------------------------------------------------------------------


@EACH
def test_a_checkpoint_gives_the_same_loss_and_carries_no_code(name, tmp_path):
    weighted = {} if name == "glofe" else {"reconstruction_loss_weight": 1.0}
    model = make(name, **weighted)
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    inputs, labels = batch()
    torch.manual_seed(0)  # of ConSLT's negatives
    expected = model(**inputs, labels=labels, **targets(name))
    torch.manual_seed(0)
    found = again(**inputs, labels=labels, **targets(name))
    assert type(again) is MADE[name][0] and again.config.model_type == json.loads((tmp_path / "config.json").read_text())["model_type"]
    torch.testing.assert_close(found.loss, expected.loss, rtol=0, atol=0)
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=0)
    assert not list(tmp_path.glob("*.py")) and "auto_map" not in (tmp_path / "config.json").read_text()


@EACH
def test_neither_padding_nor_what_stands_in_it_changes_an_answer(name):
    model = make(name)
    lengths = (40, 25, 5)  # the last one is shorter than a window
    inputs, labels = batch(lengths)
    filled = inputs | {"keypoints": inputs["keypoints"] + 7 * (1 - inputs["attention_mask"])[..., None, None]}
    together = model(**inputs, labels=labels).logits
    torch.testing.assert_close(model(**filled, labels=labels).logits, together, atol=1e-5, rtol=1e-5)
    ids = model.generate(**filled, max_new_tokens=4, num_beams=1)
    for index, length in enumerate(lengths):
        alone = {key: value[index : index + 1, :length] for key, value in inputs.items()}
        torch.testing.assert_close(model(**alone, labels=labels[index : index + 1]).logits[0], together[index], atol=1e-5, rtol=1e-5)
        own = model.generate(**alone, max_new_tokens=4, num_beams=1)[0]
        assert torch.equal(own, ids[index, : len(own)])


@EACH
def test_every_weight_gets_a_gradient_and_a_batch_in_parts_gives_the_loss_of_the_whole(name):
    model = make(name, contrastive_negatives=40) if name == "conslt" else make(name)
    inputs, labels = batch()
    labels[1, 2:] = -100
    more = targets(name)
    whole = model(**inputs, labels=labels, **more)
    whole.loss.backward()
    assert [key for key, value in model.named_parameters() if value.grad is None] == []
    if name == "glofe":
        more = {}  # anchor words are compared within a batch
        whole = model(**inputs, labels=labels)
    counts = model.count_items(labels=labels, **inputs).sum(0)
    parts = [{key: value[row : row + 1] for key, value in (inputs | more | {"labels": labels}).items()} for row in (0, 1)]
    shares = sum(model(**part, num_items_in_batch=counts).loss for part in parts)
    torch.testing.assert_close(shares, whole.loss)


@EACH
def test_an_evaluation_generates_from_its_whole_batch(name):
    model = make(name)
    inputs, labels = batch()
    options = {"max_new_tokens": 3, "num_beams": 1}
    seen = torch.ones(inputs["keypoints"].shape[:3])
    ids = model.generate(**inputs, labels=labels, keypoint_mask=seen, **targets(name), **options)
    assert torch.equal(ids, model.generate(**inputs, **options))


@EACH
def test_the_encoder_shows_what_it_attends_to(name):
    """Fig 8 draws it."""
    model = make(name)
    inputs, _ = batch()
    output = model.attentions(torch.tensor([[2], [2]]), **inputs)
    num_inputs = output.input_mask.shape[1]
    assert output.encoder_attentions[0].shape == (2, 2, num_inputs, num_inputs)
    assert model.input_frames(num_inputs)[-1, 1] >= 40  # the longer clip's last frame is read


@EACH
def test_a_batch_is_learnt_by_heart(name):
    model = make(name).train()
    inputs, labels = batch((12, 9))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        model(**inputs, labels=labels, **targets(name)).loss.backward()
        optimizer.step()
    assert torch.equal(model.eval()(**inputs, labels=labels).logits.argmax(-1), labels)


# --- Joint-SLT --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_losses_of_joint_slt_are_normalised_as_slt_does(reduction):
    model = make("joint_slt_glosses", gloss_loss_reduction=reduction)
    inputs, labels = batch()
    labels[1, 2:] = -100
    output = model(**inputs, labels=labels, **targets("joint_slt_glosses"))
    log_probs = model.gloss_head(output.encoder_last_hidden_state).log_softmax(-1)
    ctc = torch.nn.CTCLoss(blank=0, zero_infinity=True, reduction=reduction)  # slt's is the mean, which is torch's default
    recognition = ctc(log_probs.transpose(0, 1), torch.tensor([[1, 3], [2, 0]]), torch.tensor([40, 25]), torch.tensor([2, 1]))
    recognition = recognition / 2 if reduction == "sum" else recognition
    words = F.cross_entropy(output.logits.flatten(0, 1), labels.flatten(), reduction="sum") / 2  # of the batch's clips, not of its words
    torch.testing.assert_close(output.loss, words + 5 * recognition)


def test_glosses_out_of_range_or_missing_are_refused():
    inputs, labels = batch()
    with pytest.raises(ValueError, match="gloss_labels"):
        make("joint_slt_glosses")(**inputs, labels=labels, gloss_labels=torch.tensor([[3], [0]]))
    with pytest.raises(ValueError, match="glosses is empty"):
        make("joint_slt", gloss_loss_weight=5.0)


# --- ConSLT -----------------------------------------------------------------------------------------------------------------------


def test_the_contrast_of_tokens_equals_a_naive_version():
    model = make("conslt")
    embeddings = model.text_model.get_output_embeddings().weight
    states, again = torch.randn(2, 1, 3, 16).unbind(0)
    labels, negatives = torch.tensor([[5, 9, -100]]), torch.tensor([5, 6, 7])

    def distance(one, other):
        p, q = one.softmax(-1), other.softmax(-1)
        return ((p * (p / q).log()).mean() + (q * (q / p).log()).mean()) / 2

    expected = 0
    for token in range(2):  # the third is padding
        near = torch.exp(-distance(states[0, token], again[0, token]) / 0.1)
        far = sum(torch.exp(-distance(states[0, token], embeddings[other]) / 0.1) for other in (6, 7))  # 5 is in the sentence
        expected = expected - torch.log(near / (near + far))
    torch.testing.assert_close(model.contrastive_losses(states, again, labels, negatives), expected[None])


def test_conslt_contrasts_the_states_that_its_words_are_read_from_and_averages_both_passes():
    model = make("conslt")
    inputs, labels = batch()
    embeddings, mask = model.embed(**inputs)
    options = {"decoder_input_ids": model.decoder_inputs(2, labels), "output_hidden_states": True}
    outputs = model.text_model(inputs_embeds=embeddings, attention_mask=mask, **options)
    states = outputs.decoder_hidden_states[-1]
    torch.testing.assert_close(states @ model.text_model.get_output_embeddings().weight.T, outputs.logits)
    plain = model.token_losses(outputs.logits, labels) + 0.5 * model.contrastive_losses(states, states, labels, torch.arange(40))
    torch.testing.assert_close(model(**inputs, labels=labels, negatives=torch.arange(40)).loss, plain.mean())
    torch.manual_seed(0)
    assert model.train()(**inputs, labels=labels).loss > model.eval()(**inputs, labels=labels).loss - 1  # two dropout masks, finite


# --- GloFE ------------------------------------------------------------------------------------------------------------------------


def test_anchor_words_are_neither_rare_nor_everywhere_nor_short():
    texts = ["morgen regen im norden ."] * 5 + ["heute sonne im süden ."] * 4 + ["Morgen wind 12grad ."] + ["am tag ."] * 20
    assert glofe.anchor_words(texts) == ["morgen", "norden", "regen"]  # sonne 4 times, wind once, tag and im short
    assert glofe.anchor_words(texts[:10]) == []  # of ten texts, more than a quarter have them
    with pytest.raises(ValueError, match="anchors is empty"):
        make("glofe", anchors=[])


def test_the_contrast_of_anchor_words_equals_a_naive_version():
    model = make("glofe", least_anchors=2, anchors=["a", "b", "c", "d"])
    torch.manual_seed(1)
    hidden, mask = torch.randn(4, 6, 16), torch.ones(4, 6, dtype=torch.long)
    mask[1, 4:] = 0
    words = [[0, 1], [0, 2, 1], [3], [0, 3]]  # the third clip has too few; all that are left have the first word
    labels = torch.tensor([line + [-100] * (3 - len(line)) for line in words])

    def similarity(clip, word):
        query, states = model.anchors.weight[word], hidden[clip, mask[clip].bool()][None]
        return F.cosine_similarity(model.look_up(query[None, None], states, states)[0][0, 0], query, dim=0)

    with_it, without_it = [], []
    for word in (1, 2, 3):
        having = [clip for clip in (0, 1, 3) if word in words[clip]]
        with_it.append(sum(similarity(clip, word) for clip in having) / len(having))
        others = [clip for clip in (0, 1, 3) if clip not in having]
        without_it.append(sum(similarity(clip, word) for clip in others) / len(others))
    expected = (0.4 + sum(without_it) / 3 - sum(with_it) / 3).clamp_min(0)
    torch.testing.assert_close(model.anchor_loss(hidden, mask, labels), expected)
    assert model.anchor_loss(hidden[2:3], mask[2:3], labels[2:3]) == 0  # nothing to compare


def test_windows_hold_every_frame_once_or_more_and_no_padding():
    model = make("glofe")
    for num_frames in (1, 8, 9, 14, 15, 40):
        starts, end = [0], 8
        while end < num_frames:
            starts.append(starts[-1] + 6)
            end = starts[-1] + 8
        assert int(model.num_windows(torch.tensor(num_frames))) == len(starts)
        embeddings, mask = model.embed(torch.randn(1, num_frames, 73, 2))
        assert embeddings.shape == (1, len(starts), 16) and mask.all()
        assert model.input_frames(len(starts))[-1].tolist() == [starts[-1], end]


# --- Reconstruction ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["fixed", "adaptive"])
def test_the_reconstruction_is_weighed_by_part_and_counts_the_frames(weights):
    model = make("joint_slt", reconstruction_loss_weight=2.0, sign_mae_config={"keypoint_weighting": weights})
    inputs, labels = batch()
    seen = torch.rand(2, 40, 73) > 0.2
    output = model(**inputs, labels=labels, keypoint_mask=seen)
    expected = 0
    for clip, length in ((0, 40), (1, 25)):
        keypoints, mask = inputs["keypoints"][clip, None, :length], seen[clip, None, :length].float()
        read = model.keypoint_head(output.encoder_last_hidden_state[clip, :length]).view(length, 73, 2)  # the norm's mean is 0, its std 1
        weight = keypoint_weights(keypoints, mask, model.config.sign_mae_config)
        expected = expected + ((read - keypoints[0]).square().sum(-1) * weight[0] * mask[0]).sum()
    alone = make("joint_slt")(**inputs, labels=labels)
    torch.testing.assert_close(output.loss - alone.loss, 2 * expected / 65, rtol=1e-4, atol=1e-4)
    assert not hasattr(make("joint_slt"), "keypoint_head")


def test_windows_have_no_frames_to_reconstruct():
    with pytest.raises(ValueError, match="GloFE encodes windows"):
        make("glofe", reconstruction_loss_weight=1.0)


# --- Rows of a table --------------------------------------------------------------------------------------------------------------

FIELDS = translation.READER | {"text_config": TINY_TEXT, "per_device_train_batch_size": 4, "max_new_tokens": 4}
SIZES = {"rates": [1e-3], "seeds": 2, "steps": 2}


def files_of(folder):
    return {split: Path(folder) / f"{split}-00000-of-00001.parquet" for split in ("train", "validation", "test")}


@pytest.mark.parametrize(("name", "weights"), [("joint_slt_glosses", "adaptive"), ("glofe", "none")])
def test_a_row_is_trained_tuned_and_kept(name, weights, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(glofe, "LEAST_CLIPS", 1)
    monkeypatch.setattr(glofe, "LARGEST_SHARE", 0.5)
    arguments = Workplace(None, tmp_path), files_of(corpus), name, SIZES, KeypointProcessor(), weights, FIELDS
    texts, rate, facts = translators.translations(*arguments)
    assert [len(of_seed) for of_seed in texts] == [5, 5] and rate == 1e-3
    assert set(facts) == {"parameters", "steps", "seconds", "num_beams", "length_penalty"} and facts["steps"] == 2
    monkeypatch.setattr(translators, "train", None)  # all is kept
    assert translators.translations(*arguments) == (texts, rate, facts)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_the_best_decoding_is_the_one_whose_texts_are_best(monkeypatch):
    class Held:
        texts = ["a b c d e", "f g h i j"]

        def __len__(self):
            return 2

    def translate(model, tokenizer, clips, decoding, chosen):
        return [clips.texts[index] if decoding == {"num_beams": 5, "length_penalty": 1.0} else "a b" for index in chosen]

    monkeypatch.setattr(translators, "_translate", translate)
    assert translators.best_decoding(None, None, Held()) == {"num_beams": 5, "length_penalty": 1.0}


def test_what_a_corpus_lacks_is_said_before_anything_runs(corpus, tmp_path):
    files = files_of(corpus)
    rows = pq.read_table(files["train"])
    pq.write_table(rows.drop_columns("gloss"), tmp_path / "without.parquet")
    lines = [None] + rows["gloss"].to_pylist()[1:]
    place = rows.column_names.index("gloss")
    pq.write_table(rows.set_column(place, rows.schema.field("gloss"), [lines]), tmp_path / "some.parquet")
    for path, found in (("without.parquet", "no column 'gloss'"), ("some.parquet", "1 of 12 clips have no gloss")):
        with pytest.raises(ValueError, match=found):
            arguments = Workplace(None, tmp_path / "made"), files | {"train": tmp_path / path}, "joint_slt_glosses"
            translators.translations(*arguments, SIZES, KeypointProcessor())
    assert not (tmp_path / "made").exists()
    translators.check("joint_slt", files | {"train": tmp_path / "without.parquet"}, "fixed")
    for arguments, found in (
        (("glofe", files, "fixed"), "weights='fixed' for glofe"),
        (("glofe", files), "needs anchor words, but the texts of"),
        (("slt", files), "Unknown baseline"),
        (("conslt", files, "apw"), "weights"),
    ):
        with pytest.raises(ValueError, match=found):
            translators.check(*arguments)


@pytest.mark.slow
@pytest.mark.skipif(not (REAL_DATA.parent / "phoenix14t_annotations").is_dir(), reason="needs PHOENIX14T's annotations")
@pytest.mark.parametrize("name", translators.NAMES)
def test_rows_on_rendered_sentences(name, tmp_path):
    place = Workplace(REAL_DATA.parent, tmp_path)
    files = corpora.rendered(place, 1.2, {"train": 24, "validation": 4, "test": 4})
    sizes = SIZES | {"rates": [1e-3, 2e-3]}
    fields = FIELDS | {"text_config": TINY_TEXT | {"max_position_embeddings": 512}}  # as many frames as a clip may have
    texts, rate, facts = translators.translations(place, files, name, sizes, KeypointProcessor(), fields=fields)
    assert np.shape(texts) == (2, 4) and rate > 0 and facts["parameters"] > 10_000
