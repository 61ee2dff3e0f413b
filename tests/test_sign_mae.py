"""SignMAE: shapes, masks, windows, and what does not change its latents."""

import copy

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from transformers import AutoConfig, AutoModel

from modeling_unigloR import SignMAE, SignMAEConfig
from modeling_unigloR.keypoints_uniglor import paths_to_center, point_index
from modeling_unigloR.modeling_layers_uniglor import interpolate_hidden

from .conftest import assert_same_weights, random_signing

ABLATIONS = [
    {}, {"decoding": "autoregressive"}, {"query_type": "sinusoidal"}, {"num_memory_tokens": 1}, {"mask_stage": "keypoints"},
    {"mask_strategy": "drop"}, {"block_norm": "batch"}, {"block_norm": "layer"},
    {"window_size": 32}, {"num_channels": 3}, {"keypoint_weighting": "none"},
    {"decoding": "autoregressive", "query_type": "sinusoidal", "num_memory_tokens": 1},
    {"input_streams": ["position", "offset", "velocity"]}, {"input_streams": ["offset"]}, {"input_whitening": 12},
    {"input_streams": ["position", "offset"], "input_whitening": 12, "num_channels": 3},
    {"graph_channels": 0, "input_whitening": 12}, {"graph_channels": 0, "input_whitening": 12, "linear_skip": True},
    {"linear_skip": True}, {"linear_skip": True, "decoding": "autoregressive", "mask_strategy": "drop", "input_whitening": 12},
]  # fmt: skip


def segments(model, num=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, *model.segment_shape, generator=generator) * 0.3


@pytest.mark.parametrize("fields", ABLATIONS)
def test_every_ablation_trains_every_parameter(tiny_sign_mae, fields):
    model = tiny_sign_mae(**fields).train()
    keypoints = segments(model)
    model.calibrate(keypoints)  # as pretraining does: else a branch of two channels, as tiny as here, may be dead from the start
    output = model(keypoints, keypoint_mask=torch.ones(keypoints.shape[:3]))
    output.loss.backward()
    config = model.config
    assert output.loss.shape == () and output.latent.shape == (6, 16)
    assert output.reconstruction.shape == keypoints.shape
    assert output.masked.shape == (6, config.window_size) and output.masked.dtype == torch.bool
    # adding one number to every key changes no softmax: key biases have no gradient but roundings
    dead = [name for name, p in model.named_parameters() if "k_proj.bias" not in name and (p.grad is None or not p.grad.any())]
    assert dead == []


@pytest.mark.parametrize("fields", ABLATIONS)
def test_saved_and_loaded_models_agree(tiny_sign_mae, fields, tmp_path):
    model = tiny_sign_mae(**fields)
    model.calibrate(segments(model, num=8))
    model.set_latent_statistics(torch.randn(16), torch.rand(16) + 0.5)
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is SignMAE and loaded.config.to_dict() == model.config.to_dict() | {"dtype": "float32"} | {
        key: loaded.config.to_dict()[key] for key in ("_name_or_path",) if key in loaded.config.to_dict()
    }
    with torch.no_grad():
        latents = model.encode(segments(model))
        torch.testing.assert_close(loaded.encode(segments(model)), latents)
        torch.testing.assert_close(loaded.decode(latents), model.decode(latents))
    assert_same_weights(model, loaded)


def test_the_paper_sized_model_has_the_papers_numbers():
    config = SignMAEConfig()
    assert (config.window_size, config.stride, config.mask_ratio, config.hidden_size, config.num_hidden_layers) == (15, 7, 0.25, 512, 3)
    assert config.num_masked_frames == 4 and config.num_memory_tokens == 15 and config.num_keypoints == 73
    assert SignMAE(config).encoder.temporal.out_channels == 96


def test_exactly_four_of_fifteen_frames_are_masked(tiny_sign_mae):
    masked = tiny_sign_mae()(segments(tiny_sign_mae(), 50)).masked
    assert masked.sum(1).tolist() == [4] * 50
    assert len({tuple(row.tolist()) for row in masked}) > 20


def test_noise_decides_which_frames_are_masked(tiny_sign_mae):
    model, noise = tiny_sign_mae(), torch.arange(15).float().expand(6, 15)
    first, second = (model(segments(model), noise=noise) for _ in range(2))
    assert first.masked[:, :4].all() and not first.masked[:, 4:].any()
    torch.testing.assert_close(first.latent, second.latent, rtol=0, atol=0)


@pytest.mark.parametrize("strategy", ["replace", "drop"])
def test_hidden_at_the_keypoints_a_frame_has_no_way_into_the_latent(tiny_sign_mae, strategy):
    model = tiny_sign_mae(mask_stage="keypoints", mask_strategy=strategy)
    keypoints, noise = segments(model), torch.arange(15).float().expand(6, 15)
    changed = keypoints.clone()
    changed[:, :4] += 1
    with torch.no_grad():
        torch.testing.assert_close(model(changed, noise=noise).latent, model(keypoints, noise=noise).latent)


def test_hidden_at_the_tokens_its_neighbours_still_carry_it(tiny_sign_mae):
    """The features pass the temporal block before masking (section 3.2): nobody may claim that unseen frames are predicted."""
    model = tiny_sign_mae()
    keypoints, noise = segments(model), torch.arange(15).float().expand(6, 15)
    changed = keypoints.clone()
    changed[:, 3] += 1
    with torch.no_grad():
        assert (model(changed, noise=noise).latent - model(keypoints, noise=noise).latent).abs().max() > 1e-4


def test_encode_never_masks(tiny_sign_mae):
    model = tiny_sign_mae().train()
    model.apply(lambda m: setattr(m, "p", 0.0) if isinstance(m, torch.nn.Dropout) else None)
    for layer in model.encoder.layers:
        layer.attention.dropout = 0.0
    torch.testing.assert_close(model.encode(segments(model)), model.encode(segments(model)))


def test_encode_standardises_and_decode_undoes_it(tiny_sign_mae):
    model = tiny_sign_mae()
    with torch.no_grad():
        raw, plain = model.encoder(segments(model)), model.reconstruct(segments(model))
        model.set_latent_statistics(raw.mean(0), raw.std(0))
        latents = model.encode(segments(model))
        torch.testing.assert_close(latents.mean(0), torch.zeros(16), atol=1e-4, rtol=0)
        torch.testing.assert_close(latents.std(0), torch.ones(16), atol=1e-4, rtol=0)
        torch.testing.assert_close(model.decode(latents), plain, atol=1e-4, rtol=1e-4)
        assert model.decode(latents.view(2, 3, 16)).shape == (2, 3, *model.segment_shape)


def test_an_untrained_decoder_gives_the_training_sets_mean_pose(tiny_sign_mae, signing):
    """Its output is offsets from parents in units of their spread: with a last projection of 0 it is their mean."""
    model, paths = tiny_sign_mae(), torch.from_numpy(paths_to_center("uniglor73"))
    frames = torch.from_numpy(signing(200))
    offsets = torch.linalg.solve(paths, frames)
    model.set_keypoint_statistics(torch.ones(73), offsets.mean(0), offsets.std(0))
    model.decoder.keypoint_projection.weight.data.zero_()
    with torch.no_grad():
        decoded = model.decode(torch.randn(3, 16))
    torch.testing.assert_close(decoded, frames.mean(0).expand_as(decoded), atol=1e-4, rtol=1e-4)


def test_unseen_points_carry_no_loss(tiny_sign_mae):
    model = tiny_sign_mae(keypoint_weighting="none")
    keypoints, noise = segments(model), torch.rand(6, 15)
    mask = torch.ones(6, 15, 73)
    mask[:, :, 50:] = 0
    target = keypoints.clone()
    with torch.no_grad():
        reconstruction = model(keypoints, noise=noise).reconstruction
        target[:, :, 50:] += 100
        expected = (reconstruction - keypoints)[:, :, :50].square().mean()
        torch.testing.assert_close(model.reconstruction_loss(reconstruction, target, mask), expected)


def test_the_loss_divides_by_present_coordinates_not_by_weights(tiny_sign_mae):
    model = tiny_sign_mae(keypoint_weighting="fixed")
    weights = torch.cat([torch.full((8,), 1.0), torch.full((19,), 1.17), torch.full((46,), 1.18)])
    loss = model.reconstruction_loss(torch.ones(2, 15, 73, 2), torch.zeros(2, 15, 73, 2))
    torch.testing.assert_close(loss, weights.mean())


@pytest.mark.parametrize(
    "num_frames, stride, expected", [(15, 7, 1), (21, 7, 1), (22, 7, 2), (100, 7, 13), (3, 7, 1), (45, 15, 3), (16, 1, 2)]
)
def test_the_number_of_segments_is_the_papers_formula(tiny_sign_mae, num_frames, stride, expected):
    model = tiny_sign_mae()
    assert model.num_segments(num_frames, stride) == expected
    assert model.num_segments(torch.tensor([num_frames]), stride).tolist() == [expected]
    found, mask = model.segment(torch.randn(1, num_frames, 73, 2), stride=stride)
    assert len(found) == mask.sum() == expected


def test_segments_are_the_windows_that_a_loop_cuts(tiny_sign_mae):
    model = tiny_sign_mae()
    keypoints, lengths = torch.randn(3, 60, 73, 2), [60, 33, 9]
    attention_mask = torch.tensor([[1] * length + [0] * (60 - length) for length in lengths])
    found, latent_mask = model.segment(keypoints, attention_mask, stride=7)
    expected = []
    for clip, length in zip(keypoints, lengths):
        frames = [clip[min(t, length - 1)] for t in range(max(length, 15))]
        expected += [torch.stack(frames[start : start + 15]) for start in range(0, len(frames) - 14, 7)]
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=0)
    assert latent_mask.sum(1).tolist() == [7, 3, 1]


def test_padding_and_batching_change_no_latent(tiny_sign_mae, signing):
    """Padding never enters the convolutions: what stands there, NaN even, cannot matter."""
    model = tiny_sign_mae()
    clips = [torch.from_numpy(signing(length, seed=length)) for length in (50, 31, 8, 15)]
    padded = torch.full((4, 60, 73, 2), float("nan"))
    attention_mask = torch.zeros(4, 60, dtype=torch.long)
    for index, clip in enumerate(clips):
        padded[index, : len(clip)] = clip
        attention_mask[index, : len(clip)] = 1
    with torch.no_grad():
        latents, latent_mask = model.encode_sequence(padded, attention_mask, batch_size=3)
        for index, clip in enumerate(clips):
            alone, _ = model.encode_sequence(clip[None])
            torch.testing.assert_close(latents[index, : alone.shape[1]], alone[0], atol=1e-5, rtol=1e-5)
            assert latent_mask[index].sum() == alone.shape[1] and (latents[index, alone.shape[1] :] == 0).all()


def test_autoregressive_training_sees_only_earlier_frames(tiny_sign_mae):
    model = tiny_sign_mae(decoding="autoregressive")
    keypoints, latent = segments(model), torch.randn(6, 16)
    changed = keypoints.clone()
    changed[:, 7:] += 1
    with torch.no_grad():
        before, after = (model.decoder(latent, previous_keypoints=k) for k in (keypoints, changed))
    torch.testing.assert_close(after[:, :8], before[:, :8])
    assert (after[:, 8:] - before[:, 8:]).abs().max() > 1e-4


def test_autoregressive_decoding_feeds_itself_its_own_frames(tiny_sign_mae):
    model = tiny_sign_mae(decoding="autoregressive")
    with torch.no_grad():
        latents = torch.randn(6, 16)
        free = model.decode(latents)
        torch.testing.assert_close(model.decoder(latents, previous_keypoints=free), free, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fields", [{}, {"decoding": "autoregressive"}])
def test_eager_and_sdpa_attention_agree(tiny_sign_mae, fields, tmp_path):
    model = tiny_sign_mae(**fields)
    model.save_pretrained(tmp_path)
    eager = SignMAE.from_pretrained(tmp_path, attn_implementation="eager")
    assert eager.config._attn_implementation == "eager"
    with torch.no_grad():
        torch.testing.assert_close(eager.reconstruct(segments(model)), model.reconstruct(segments(model)), atol=1e-5, rtol=1e-5)


def calibrated(tiny_sign_mae, **fields):
    model = tiny_sign_mae(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **fields)
    model.calibrate(segments(model, num=64, seed=7) * 5 + 3)
    return model


def test_a_training_step_sees_a_segment_as_every_later_use_does(tiny_sign_mae):
    """Whatever else is in its batch; with the batch's own statistics, every position moves with its neighbours."""
    keypoints = segments(model := calibrated(tiny_sign_mae))
    expected = model.eval().encoder(keypoints)
    model.train()
    torch.testing.assert_close(model.encoder(keypoints), expected)
    torch.testing.assert_close(model.encoder(keypoints[:1]), expected[:1])
    cited = calibrated(tiny_sign_mae, block_norm="batch").train()
    assert (cited.encoder(keypoints[:2])[:1] - cited.encoder(keypoints)[:1]).abs().max() > 1e-2


def test_calibration_gives_every_coordinate_mean_0_and_deviation_1(tiny_sign_mae):
    model = tiny_sign_mae()
    keypoints = segments(model, num=64) * torch.linspace(0.1, 5, 73)[:, None] + 3
    model.calibrate(keypoints)
    normalised = model.encoder.input_norm(keypoints).flatten(0, 1)
    assert normalised.mean(0).abs().max() < 1e-3 and (normalised.std(0) - 1).abs().max() < 1e-2
    before = {name: value.clone() for name, value in model.named_buffers()}
    model.train()(keypoints)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


# --- What is read of a frame ------------------------------------------------------------------------------------------------------


def test_an_offset_is_a_points_place_relative_to_the_one_that_it_hangs_on(tiny_sign_mae):
    model = tiny_sign_mae(input_streams=["position", "offset"])
    keypoints = segments(model)
    index = point_index("uniglor73")
    read = model.encoder.streams(keypoints)
    torch.testing.assert_close(read[..., :2], keypoints)
    hangs_on = {"left_hand_index_4": "left_wrist", "mouth_left": "nose", "right_wrist": "right_elbow", "left_hand_wrist": "left_elbow"}
    for point, anchor in hangs_on.items():
        torch.testing.assert_close(read[:, :, index[point], 2:], keypoints[:, :, index[point]] - keypoints[:, :, index[anchor]])


def test_a_hand_that_is_carried_elsewhere_keeps_its_offsets(tiny_sign_mae):
    model = tiny_sign_mae(input_streams=["offset"])
    keypoints = segments(model)
    carried = keypoints.clone()
    hand = [index for name, index in point_index("uniglor73").items() if name.startswith("left_hand")] + [
        point_index("uniglor73")["left_wrist"]
    ]
    carried[:, :, hand] += 0.7
    fingers = hand[:21]
    torch.testing.assert_close(model.encoder.streams(carried)[:, :, fingers], model.encoder.streams(keypoints)[:, :, fingers])


def test_velocity_is_the_step_from_the_frame_before_and_0_in_the_first(tiny_sign_mae):
    model = tiny_sign_mae(input_streams=["velocity"])
    keypoints = segments(model)
    read = model.encoder.streams(keypoints)
    assert not read[:, 0].any()
    torch.testing.assert_close(read[:, 4], keypoints[:, 4] - keypoints[:, 3])


def test_a_frame_that_is_hidden_before_the_convolutions_is_in_no_token(tiny_sign_mae):
    """Also where a token holds the whitened frame, and where velocity compares a frame with the one before."""
    fields = {"mask_stage": "keypoints", "input_streams": ["position", "offset", "velocity"], "input_whitening": 12}
    model = tiny_sign_mae(**fields)
    keypoints = segments(model)
    model.calibrate(keypoints)
    masked = torch.zeros(keypoints.shape[:2], dtype=torch.bool)
    masked[:, 5] = True
    other = keypoints.clone()
    other[:, 5] += torch.randn_like(other[:, 5])
    with torch.no_grad():
        torch.testing.assert_close(model.encoder(other, masked), model.encoder(keypoints, masked))


def test_whitened_frames_have_similar_variances_and_no_covariance(tiny_sign_mae):
    model = tiny_sign_mae(input_whitening=12)
    keypoints = segments(model, num=64) * torch.linspace(0.1, 5, 73)[:, None] + 3
    model.calibrate(keypoints)
    whitened = model.encoder.whitening(keypoints).flatten(0, 1)
    torch.testing.assert_close(torch.cov(whitened.T), torch.eye(12), atol=0.02, rtol=0)
    assert whitened.mean(0).abs().max() < 1e-3


def test_a_coordinate_that_never_moved_says_nothing_in_the_whitened_frame(tiny_sign_mae):
    model = tiny_sign_mae(input_whitening=12)
    keypoints = segments(model, num=64)
    keypoints[..., 10, :] = 0.3
    model.calibrate(keypoints)
    moved = keypoints.clone()
    moved[..., 10, :] += 0.5
    offsets_alone = model.encoder.whitening(moved) - model.encoder.whitening(keypoints)
    model.calibrate(torch.full_like(keypoints, 0.3))
    assert offsets_alone.isfinite().all() and not model.encoder.whitening(moved).any()


def test_a_model_with_linear_parts_starts_as_the_principal_components_of_its_segments(tiny_sign_mae):
    """As scikit-learn's: what 16 of them give back, it gives back before its first step, but for what its networks add at first."""
    model = tiny_sign_mae(linear_skip=True)
    keypoints = torch.from_numpy(random_signing(900)).view(60, 15, 73, 2)
    model.calibrate(keypoints)
    components = PCA(16, svd_solver="full").fit(keypoints.flatten(1))
    expected = torch.from_numpy(components.inverse_transform(components.transform(keypoints.flatten(1)))).view_as(keypoints)
    codes = model.encoder.linear_part(keypoints)
    given_back = model.decoder.linear_part(codes) + keypoints.mean(0)
    torch.testing.assert_close(given_back, expected.float(), atol=1e-3, rtol=0)
    deviations = torch.linalg.eigvalsh(torch.cov(codes.T)).flip(0).sqrt()
    half = torch.from_numpy(components.explained_variance_).float() ** 0.25
    torch.testing.assert_close(deviations / deviations[0], half / half[0], atol=1e-3, rtol=0)
    codes = codes.detach()
    assert float(codes.std()) == pytest.approx(1, abs=0.05) and codes.std(0).min() > 0.3  # no dimension is left to small components alone


def test_fewer_segments_than_dimensions_give_a_linear_part_of_fewer_components(tiny_sign_mae):
    model = tiny_sign_mae(linear_skip=True)
    keypoints = segments(model, num=5)
    model.calibrate(keypoints)
    codes = model.encoder.linear_part(keypoints)
    assert codes.isfinite().all() and torch.linalg.matrix_rank(codes, tol=1e-3) == 4
    torch.testing.assert_close(model.decoder.linear_part(codes) + keypoints.mean(0), keypoints, atol=1e-4, rtol=0)


def test_hidden_frames_lie_on_lines_between_those_that_are_seen():
    """Against a loop with numpy's interpolation, which holds the nearest value at the ends."""
    generator = torch.Generator().manual_seed(0)
    keypoints = torch.randn(20, 15, 3, 2, generator=generator)
    hidden = torch.rand(20, 15, generator=generator) < 0.5
    hidden[:, 7] = False
    hidden[0], hidden[0, 4] = True, False
    found = interpolate_hidden(keypoints, hidden)
    for segment in range(20):
        seen = np.flatnonzero(~hidden[segment])
        for point in range(3):
            for channel in range(2):
                line = np.interp(np.arange(15), seen, keypoints[segment, seen, point, channel])
                np.testing.assert_allclose(found[segment, :, point, channel], line, atol=1e-6)


def test_a_masked_frame_is_not_in_the_linear_part(tiny_sign_mae):
    model = tiny_sign_mae(linear_skip=True)
    keypoints = segments(model)
    model.calibrate(keypoints)
    masked = torch.zeros(keypoints.shape[:2], dtype=torch.bool)
    masked[:, 5] = True
    other = keypoints.clone()
    other[:, 5] += 1
    torch.testing.assert_close(model.encoder.linear_part(other, masked), model.encoder.linear_part(keypoints, masked))
    assert not torch.allclose(model.encoder.linear_part(other), model.encoder.linear_part(keypoints), atol=1e-3)


def test_a_model_that_reads_nothing_of_a_frame_is_refused():
    with pytest.raises(ValueError, match="graph_channels=0 leaves out the convolutions.*one must be above 0"):
        SignMAEConfig(graph_channels=0, input_whitening=0)


def test_linear_parts_stay_in_float32_in_a_model_of_half_precision(tiny_sign_mae, tmp_path):
    model = tiny_sign_mae(linear_skip=True, graph_channels=0, input_whitening=12)
    model.calibrate(segments(model, num=40))
    model.save_pretrained(tmp_path)
    half = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    keypoints = segments(model).bfloat16()
    assert half.encoder.window_projection.weight.dtype == torch.float32 and half.dtype == torch.bfloat16
    with torch.no_grad():
        latents = half.encode(keypoints)
        assert latents.dtype == torch.bfloat16
        torch.testing.assert_close(latents.float(), model.encode(keypoints.float()), atol=0.1, rtol=0.05)


def test_streams_that_are_unknown_or_stand_twice_are_refused():
    for streams in (["place"], ["position", "position"], []):
        with pytest.raises(ValueError, match="must be one or more of 'position', 'offset', 'velocity', each once"):
            SignMAEConfig(input_streams=streams)


def test_a_coordinate_that_stood_still_while_calibrating_may_move_later(tiny_sign_mae):
    model = tiny_sign_mae()
    model.calibrate(torch.zeros(4, *model.segment_shape))
    assert model.eval().encoder.input_norm(torch.full((1, *model.segment_shape), 0.01)).abs().max() <= 1


def test_bfloat16_stays_finite(tiny_sign_mae):
    model = tiny_sign_mae()
    with torch.autocast("cpu", torch.bfloat16):
        assert model(segments(model)).loss.isfinite()
    assert model.bfloat16()(segments(model).bfloat16()).loss.isfinite()


def test_a_config_survives_json(tmp_path):
    config = SignMAEConfig(window_size=32, decoding="autoregressive", temporal_dilations=[1, 2])
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert (
        loaded.window_size == loaded.num_memory_tokens == 32
        and loaded.temporal_dilations == [1, 2]
        and loaded.layout_hash == config.layout_hash
    )


@pytest.mark.parametrize(
    "fields, message",
    [({"window_size": 0}, "window_size=0 must be at least 1"), ({"hidden_size": 100}, "hidden_size=100 .* num_attention_heads=8"),
     ({"decoding": "beam"}, "decoding='beam' must be one of"), ({"mask_ratio": 1.0}, "at least one"),
     ({"num_memory_tokens": 3}, "num_memory_tokens=3"),
     ({"layout": "openpose137"}, "Unknown keypoint layout"), ({"layout_hash": "0123456789ab"}, "its points differ")],
)  # fmt: skip
def test_bad_configs_say_what_is_wrong(fields, message):
    with pytest.raises(ValueError, match=message):
        SignMAEConfig(**fields)


def test_segments_of_the_wrong_shape_say_what_was_expected(tiny_sign_mae):
    model = tiny_sign_mae()
    with pytest.raises(ValueError, match=r"\(6, 16, 73, 2\), expected \(segments, 15, 73, 2\)"):
        model(torch.zeros(6, 16, 73, 2))
    with pytest.raises(ValueError, match="expected .clips, frames"):
        model.encode_sequence(torch.zeros(60, 73, 2))


def test_a_copied_model_is_its_own(tiny_sign_mae):
    model = tiny_sign_mae()
    other = copy.deepcopy(model)
    other.encoder.graph.alpha.data.fill_(9)
    assert model.encoder.graph.alpha.item() != 9


def test_the_graph_knows_that_a_hand_hangs_on_its_arm(tiny_sign_mae):
    """Moving the elbow changes the features of the wrist, its neighbour, and not those of the other hand's tips (alpha 0)."""
    model, index = tiny_sign_mae(), point_index("uniglor73")
    model.encoder.graph.alpha.data.zero_()
    features = torch.randn(1, 2, 73, 15)
    moved = features.clone()
    moved[:, :, index["right_elbow"]] += 1
    with torch.no_grad():
        change = (model.encoder.graph(moved) - model.encoder.graph(features)).abs().amax((0, 1, 3))
    assert change[index["right_wrist"]] > 0 and change[index["left_hand_index_4"]] == 0


def test_recomputed_activations_change_no_gradient(tiny_sign_mae):
    gradients = []
    for recompute in (False, True):
        model = tiny_sign_mae(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
        if recompute:
            model.activation_checkpointing_enable()
        model(segments(model), noise=torch.arange(15).float().expand(6, 15)).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_encoding_of_whole_clips_compiles_into_one_graph_and_gives_the_same(tiny_sign_mae):
    """Also of clips with padding, of which one is shorter than a window."""
    model = tiny_sign_mae()
    keypoints = torch.from_numpy(random_signing(80)).view(2, 40, 73, 2)
    attention_mask = torch.ones(2, 40, dtype=torch.long)
    attention_mask[1, 9:] = 0
    with torch.no_grad():
        expected = model.encode_sequence(keypoints, attention_mask)
        found = torch.compile(model.encode_sequence, backend="eager", fullgraph=True)(keypoints, attention_mask)
    assert torch.equal(found[1], expected[1])
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-5)
