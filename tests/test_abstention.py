"""How far a clip lies from what a model was trained on, and texts that are withheld."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModel, pipeline

from modeling_unigloR import SignToText
from modeling_unigloR.modeling_clip_reader import ClipReadingModel
from train import train_recognition, train_sign_to_text
from train.data.clips import Clips

from .conftest import TINY_ENCODER, TINY_TEXT, random_signing, standardised


def clip_latents(num_clips=200, seed=0, size=16, spread=1.0, low=3, high=9):
    """Latents of clips, whose directions have very different variances."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(5).normal(size=(size, size)) * np.logspace(0, -1.5, size)
    values = [rng.normal(0, spread, (rng.integers(low, high), size)) @ mixing for _ in range(num_clips)]
    return [torch.from_numpy(clip.astype(np.float32)) for clip in values]


@pytest.fixture
def fitted(tiny_sign_to_text):
    model = tiny_sign_to_text().model
    model.set_training_distances(clip_latents())
    return model


def batch(clips):
    return torch.nn.utils.rnn.pad_sequence(clips, batch_first=True), torch.nn.utils.rnn.pad_sequence(
        [torch.ones(len(clip)) for clip in clips], batch_first=True
    )


def test_the_distance_is_mahalanobis_by_dimension_and_segment(fitted):
    """Of the four fifths of the clips that mean and covariance come from; small variances are floored at a hundredth of their mean."""
    known = np.concatenate([clip.numpy() for index, clip in enumerate(clip_latents()) if index % 5]).astype(float)
    covariance = np.cov(known.T)
    floored = covariance + 0.01 * np.trace(covariance) / 16 * np.eye(16)
    for clip in clip_latents(3, seed=1):
        centred = clip.numpy() - known.mean(0)
        expected = np.mean([row @ np.linalg.solve(floored, row) / 16 for row in centred])
        assert fitted.latent_distance(clip[None]).item() == pytest.approx(expected, rel=1e-3)


def test_clips_like_the_training_clips_are_spread_over_all_percentiles(fitted):
    found = fitted.distance_percentile(*batch(clip_latents(200, seed=1))).numpy()
    assert 20 < np.median(found) < 80 and found.min() < 15 and found.max() > 85  # 40 clips set the scale: the median errs by 8
    assert fitted.distance_percentile(*batch(clip_latents(5, seed=2, spread=3))).tolist() == [100] * 5
    nothing = fitted.distance_mean.expand(1, 4, 16)
    assert fitted.distance_percentile(nothing).item() == 0


def test_percentiles_are_those_of_the_training_clips_that_were_held_out(fitted):
    held_out = clip_latents()[::5]
    found = fitted.distance_percentile(*batch(held_out)).numpy()
    distances = fitted.latent_distance(*batch(held_out)).numpy()
    ranks = [100 * (distances < value).sum() / (len(held_out) - 1) for value in distances]
    np.testing.assert_allclose(found, ranks, atol=1)


def test_padding_has_no_part_in_the_distance(fitted):
    clips = clip_latents(4, seed=3)
    together = fitted.latent_distance(*batch(clips))
    alone = torch.cat([fitted.latent_distance(clip[None]) for clip in clips])
    torch.testing.assert_close(together, alone)


def test_a_turn_and_a_scale_of_all_latents_change_no_distance(tiny_sign_to_text, fitted):
    """The floor is relative to the mean variance, which both keep."""
    turn = torch.linalg.qr(torch.randn(16, 16, generator=torch.manual_seed(0)))[0] * 7
    other = tiny_sign_to_text().model
    other.set_training_distances([clip @ turn for clip in clip_latents()])
    clips, mask = batch(clip_latents(6, seed=4))
    torch.testing.assert_close(other.latent_distance(clips @ turn, mask), fitted.latent_distance(clips, mask), rtol=1e-3, atol=1e-3)


def test_distances_travel_with_the_checkpoint_and_older_ones_have_none(fitted, tmp_path):
    fitted.save_pretrained(tmp_path / "new")
    loaded = AutoModel.from_pretrained(tmp_path / "new")
    clips = batch(clip_latents(3, seed=1))
    torch.testing.assert_close(loaded.distance_percentile(*clips), fitted.distance_percentile(*clips))
    state = {name: value for name, value in fitted.state_dict().items() if not name.startswith("distance_")}
    fitted.save_pretrained(tmp_path / "old", state_dict=state)
    old = SignToText.from_pretrained(tmp_path / "old")
    assert not old.has_distances and old.distance_axes.shape == (16, 16)
    with pytest.raises(ValueError, match="does not know how far clips lie"):
        old.distance_percentile(*clips)


def test_a_few_clips_set_and_measure_distances_alike(tiny_sign_to_text):
    model = tiny_sign_to_text().model
    model.set_training_distances(clip_latents(6))
    assert model.has_distances and model.distance_percentile(*batch(clip_latents(6))).max() == pytest.approx(100)


@pytest.fixture
def reader(tiny_sign_to_text):
    """A pipeline that was trained on calm signing."""
    pipe = tiny_sign_to_text()
    calm = [random_signing(40, seed) for seed in range(30)]
    standardised(pipe.model.sign_mae, torch.from_numpy(np.stack(calm)))
    pipe.model.set_training_distances([pipe.model.encode_sequence(torch.from_numpy(clip)[None])[0][0] for clip in calm])
    return pipe


def test_an_answer_says_how_far_the_clip_lies_and_withholds_its_text_on_request(reader):
    near, far = random_signing(40, 100) * 100 + 300, random_signing(40, 101) * 100 + 300
    far += np.random.default_rng(0).normal(0, 60, far.shape)
    options = dict(layout="uniglor73", fps=25.0, width=600, height=600, max_new_tokens=4)
    answers = [reader(clip, **options) for clip in (near, far)]
    assert answers[0]["distance"] < 100 and answers[1]["distance"] == 100
    assert all(isinstance(answer["translation_text"], str) for answer in answers)
    assert reader(far, abstain=True, **options)["translation_text"] is None
    assert reader(far, abstain=False, **options)["translation_text"] == answers[1]["translation_text"]
    assert reader(near, abstain=100, **options) == answers[0]
    together = reader([near, far], abstain=True, batch_size=2, **options)
    assert together[1]["translation_text"] is None and together[1]["distance"] == 100
    with pytest.raises(ValueError, match="abstain='no', expected a number from 0 to 100"):
        reader(near, abstain="no", **options)


@pytest.mark.parametrize("fields", [{}, {"sign_encoder": "frames"}])
def test_a_model_without_distances_answers_as_before_and_cannot_abstain(tiny_sign_to_text, fields):
    pipe = tiny_sign_to_text(**fields)
    options = dict(layout="uniglor73", fps=25.0, width=600, height=600, max_new_tokens=4)
    clip = random_signing(40) * 100 + 300
    assert set(pipe(clip, **options)) == set(pipe(clip, abstain=False, **options)) == {"translation_text", "score"}
    with pytest.raises(ValueError, match="abstain needs a model that knows how far clips lie"):
        pipe(clip, abstain=True, **options)


def test_a_checkpoint_whose_own_code_is_older_answers_as_before(tiny_sign_to_text, monkeypatch):
    """The pipeline may be newer than the classes that come with a checkpoint."""
    pipe = tiny_sign_to_text()
    for name in ("has_distances", "distance_percentile", "latent_distance"):
        monkeypatch.delattr(ClipReadingModel, name)
    answer = pipe(random_signing(40) * 100 + 300, layout="uniglor73", fps=25.0, width=600, height=600, max_new_tokens=4)
    assert set(answer) == {"translation_text", "score"}


def test_a_recognition_says_it_beside_each_label(tiny_sign_recognition):
    pipe = tiny_sign_recognition()
    options = dict(layout="uniglor73", fps=25.0, width=600, height=600)
    clip = random_signing(40) * 100 + 300
    before = pipe(clip, **options)
    pipe.model.set_training_distances([pipe.model.encode_sequence(torch.from_numpy(random_signing(40, s))[None])[0][0] for s in range(9)])
    after = pipe(clip, **options)
    assert [answer.pop("distance") for answer in after] == [after_distance(pipe, clip, options)] * 3
    for one, other in zip(before, after):
        assert one["label"] == other["label"] and one["score"] == pytest.approx(other["score"], abs=1e-5)


def after_distance(pipe, clip, options):
    return pipe(clip, top_k=1, **options)[0]["distance"]


STEPS = ["--max_steps", "1", "--per_device_train_batch_size", "4", "--eval_strategy", "no", "--save_strategy", "no", "--use_cpu", "true"]
STEPS += ["--load_best_model_at_end", "false", "--early_stopping_patience", "null"]


def test_trainings_on_cached_latents_set_them(corpus, sign_mae_dir, tmp_path):
    argv = ["--datasets", corpus, "--validation", "[]", "--sign_mae", sign_mae_dir, "--output_dir", str(tmp_path / "text")]
    argv += ["--text_config", json.dumps(TINY_TEXT), "--max_new_tokens", "4", "--sign_encoder", "segments", *STEPS]
    train_sign_to_text.main(argv)
    pipe = pipeline("sign-to-text", model=str(tmp_path / "text"), device="cpu")
    assert pipe.model.has_distances
    clips = Clips([corpus], "train", pipe.feature_extractor, tmp_path)
    latents, mask = pipe.model.encode_sequence(torch.from_numpy(clips.keypoints(0)[0])[None])
    assert 0 <= pipe.model.distance_percentile(latents, mask).item() <= 100


def test_a_training_that_varies_its_clips_sets_none(labelled_corpus, sign_mae_dir, tmp_path):
    sizes = [word for name, value in TINY_ENCODER.items() for word in (f"--{name}", str(value))]
    for cached in ("true", "false"):
        argv = ["--datasets", labelled_corpus, "--validation", "[]", "--sign_mae", sign_mae_dir, "--output_dir", str(tmp_path / cached)]
        train_recognition.main([*argv, "--cache_latents", cached, *sizes, *STEPS])
        assert AutoModel.from_pretrained(tmp_path / cached).has_distances == (cached == "true")


@pytest.fixture
def labelled_corpus(corpus, tmp_path):
    import datasets

    rows = datasets.load_dataset(corpus, split="train")
    rows = rows.map(lambda row, index: {"label": index % 2, "gloss": "AB"[index % 2]}, with_indices=True, features=rows.features)
    (tmp_path / "labelled").mkdir()
    rows.to_parquet(tmp_path / "labelled" / "train-00000-of-00001.parquet")
    return str(tmp_path / "labelled")
