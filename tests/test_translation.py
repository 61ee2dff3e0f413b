"""Whole data sets through a SignToText: bounded memory, the order of the data set."""

import pytest
import torch

from modeling_unigloR import KeypointProcessor
from train.data.clips import Clips, LatentStore
from train.evaluation import translation
from train.evaluation.translation import translate, translate_inputs


@pytest.mark.parametrize("sign_encoder", ["segments", "frames"])
def test_only_the_clips_of_a_batch_are_read_before_it_is_translated(sign_encoder, tiny_sign_to_text, corpus, tmp_path, monkeypatch):
    pipe = tiny_sign_to_text(sign_encoder=sign_encoder)
    clips = Clips([corpus], "train", KeypointProcessor(), tmp_path)
    expected = translate(pipe.model, pipe.tokenizer, clips, 12, tmp_path, max_new_tokens=5)
    events, generate = [], pipe.model.generate
    source = LatentStore if sign_encoder == "segments" else Clips
    name = "__getitem__" if sign_encoder == "segments" else "keypoints"
    read = getattr(source, name)
    monkeypatch.setattr(source, name, lambda self, index: events.append("read") or read(self, index))
    monkeypatch.setattr(pipe.model, "generate", lambda **inputs: events.append("translated") or generate(**inputs))
    assert translate(pipe.model, pipe.tokenizer, clips, 5, tmp_path, max_new_tokens=5) == expected
    assert events == (["read"] * 5 + ["translated"]) * 2 + ["read"] * 2 + ["translated"]


def test_clips_of_like_length_are_read_together_and_texts_keep_their_order(tiny_sign_to_text, monkeypatch):
    pipe, lengths = tiny_sign_to_text(sign_encoder="frames"), [40, 20, 41, 21, 42, 22]
    torch.manual_seed(0)
    inputs = [torch.randn(length, 73, 2) for length in lengths]
    padded, pad = [], translation.pad
    monkeypatch.setattr(translation, "pad", lambda tensors: padded.append([len(values) for values in tensors]) or pad(tensors))
    texts = translate_inputs(pipe.model, pipe.tokenizer, inputs, 3, max_new_tokens=5)
    assert padded == [[20, 21, 22], [40, 41, 42]]
    assert texts == [translate_inputs(pipe.model, pipe.tokenizer, [values], max_new_tokens=5)[0] for values in inputs]
