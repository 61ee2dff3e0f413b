"""Shared fixtures: no network, one thread unless OMP_NUM_THREADS says more, tiny random models, keypoints of a body that moves."""

import os
from contextlib import contextmanager
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

import hypothesis
import numpy as np
import pytest
import torch
from transformers import Trainer

from modeling_unigloR import (
    KeypointProcessor,
    SignMAE,
    SignMAEConfig,
    SignRecognition,
    SignRecognitionPipeline,
    SignToText,
    SignToTextPipeline,
    TextToSign,
    TextToSignPipeline,
)
from modeling_unigloR.keypoints_uniglor import get_layout, point_index
from tests.seeds import TEST_SEED, shift_seeds

shift_seeds(TEST_SEED)
hypothesis.settings.register_profile("suite", deadline=None, database=None)  # a busy machine is slow
hypothesis.settings.load_profile("suite")

REAL_DATA = Path(os.environ.get("UNIGLOR_DATA", Path(__file__).parents[2] / "shared" / "data")) / "real"

TINY = dict(
    hidden_size=16, num_hidden_layers=2, decoder_num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
    graph_channels=4, relation_channels=2, temporal_branch_channels=2,
)  # fmt: skip


def pytest_configure(config):
    if config.getoption("hypothesis_seed", None) is None:
        config.option.hypothesis_seed = str(TEST_SEED)  # the same examples on every machine


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Data sets and processed frames go to a folder of this test run."""
    import datasets

    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def tiny_sign_mae():
    """A factory of tiny random SignMAEs in eval mode, whose graph refinement is switched on: `tiny_sign_mae(window_size=8)`."""

    def make(seed=0, **fields):
        torch.manual_seed(seed)
        model = SignMAE(SignMAEConfig(**TINY | fields)).eval()
        if model.config.graph_channels:
            model.encoder.graph.alpha.data.fill_(0.5)
            model.encoder.graph.norm.weight.data.fill_(1.0)
        return model

    return make


@torch.no_grad()
def standardised(sign_mae, keypoints):
    """`sign_mae` with the statistics of its latents, as pretraining leaves it.

    Without, what a random SignMAE says of two clips differs by a tenth of what it says of any: a Transformer learns that late or never.
    """
    latents, _ = sign_mae.encode_sequence(keypoints, stride=7)
    sign_mae.set_latent_statistics(latents.mean((0, 1)), latents.std((0, 1)))
    return sign_mae


TINY_ENCODER = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
TINY_TEXT = dict(
    d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
    decoder_ffn_dim=32, max_position_embeddings=128,
)  # fmt: skip
TEXTS = ["am sonntag regnet es .", "morgen scheint die sonne .", "im norden schnee ."]


@pytest.fixture
def tiny_sign_to_text(tiny_sign_mae):
    """A factory of pipelines around tiny random SignToTexts: `tiny_sign_to_text(sign_encoder="frames").model`."""

    def make(seed=0, texts=TEXTS, sign_mae=None, text_config=None, **fields):
        from train.data.text_tokenizers import train_tokenizer

        tokenizer = train_tokenizer(texts)
        sign_mae = tiny_sign_mae(seed) if sign_mae is None else sign_mae
        torch.manual_seed(seed)
        text_config = TINY_TEXT | {"vocab_size": len(tokenizer)} | (text_config or {})
        model = SignToText.from_parts(sign_mae, text_config=text_config, **fields).eval()
        processor = KeypointProcessor(layout=sign_mae.config.layout, num_channels=sign_mae.config.num_channels)
        return SignToTextPipeline(model=model, tokenizer=tokenizer, feature_extractor=processor, device="cpu")

    return make


TINY_TEXT_ENCODER = dict(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_position_embeddings=32,
)  # fmt: skip
CODES_FLOW = dict(latent_decoder="codes_flow", codebook_size=8, flow_layers=2)
TINY_DECODER = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_segments=8)


@pytest.fixture
def tiny_text_to_sign(tiny_sign_mae):
    """A factory of pipelines around tiny random TextToSigns: `tiny_text_to_sign(text_pooling="mean").model`."""

    def make(seed=0, texts=TEXTS, sign_mae=None, **fields):
        from train.train_text_to_sign import TextToSignArguments, make_tokenizer

        tokenizer = make_tokenizer(TextToSignArguments(), texts)
        sign_mae = tiny_sign_mae(seed) if sign_mae is None else sign_mae
        torch.manual_seed(seed)
        fields = TINY_DECODER | {"text_config": TINY_TEXT_ENCODER | {"vocab_size": len(tokenizer)}} | fields
        model = TextToSign.from_parts(sign_mae, **fields).eval()
        if model.samples:
            set_random_codes(model, seed)
        processor = KeypointProcessor(layout=sign_mae.config.layout, num_channels=sign_mae.config.num_channels)
        return TextToSignPipeline(model=model, tokenizer=tokenizer, feature_extractor=processor, device="cpu")

    return make


def set_random_codes(model, seed=0):
    """Codes that were fitted on nothing, and a decoder of latents that gives other answers for other texts."""
    generator = torch.Generator().manual_seed(seed)
    codes = model.latent_decoder.codes
    size, num_components = codes.component_axes.shape
    axes = torch.linalg.qr(torch.randn(size, size, generator=generator))[0][:, :num_components]
    scales, remainders = (torch.rand(num_components, generator=generator) + 0.5 for _ in range(2))
    model.set_codes(torch.zeros(size), axes, scales, torch.randn(codes.codebooks.shape, generator=generator), remainders)
    with torch.no_grad():  # a new decoder's codes are all equally probable
        for head in model.latent_decoder.code_heads:
            head[-1].weight.normal_(generator=generator)
        model.latent_decoder.flow.output_projection.weight.normal_(std=0.1, generator=generator)


@pytest.fixture
def tiny_sign_recognition(tiny_sign_mae):
    """A factory of pipelines around tiny random SignRecognitions: `tiny_sign_recognition(sign_encoder="frames").model`."""

    def make(seed=0, labels=("REGEN", "SONNE", "SCHNEE"), sign_mae=None, **fields):
        sign_mae = tiny_sign_mae(seed) if sign_mae is None else sign_mae
        torch.manual_seed(seed)
        model = SignRecognition.from_parts(sign_mae, labels, **TINY_ENCODER | fields).eval()
        torch.nn.init.normal_(model.classifier.weight)  # answers of a new head are nearly the same for every clip
        processor = KeypointProcessor(layout=sign_mae.config.layout, num_channels=sign_mae.config.num_channels)
        return SignRecognitionPipeline(model=model, feature_extractor=processor, device="cpu")

    return make


def assert_same_weights(model, loaded):
    """Bit for bit. What is computed with them may round differently: loaded weights lie at other addresses, which kernels go by."""
    weights, found = model.state_dict(), loaded.state_dict()
    assert weights.keys() == found.keys()
    for name, value in weights.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A folder of canonical rows: 12 clips of training, 5 of validation and 5 of test, of lengths that differ."""
    import datasets

    from datasets_scripts.schema import FEATURES

    folder = tmp_path_factory.mktemp("corpus")
    for split, count, seed in (("train", 12, 0), ("validation", 5, 100), ("test", 5, 200)):
        rows = []
        for index in range(count):
            keypoints = (random_signing(20 + 5 * (index % 4), seed + index) * 100 + 300).astype(np.float32)
            rows.append(
                dict(
                    id=f"{split}-{index}", keypoints=keypoints, confidence=np.ones(keypoints.shape[:2], np.float32), layout="uniglor73",
                    fps=25.0, width=600, height=600, text=TEXTS[index % 3], gloss="REGEN SONNE" if index % 2 else "SCHNEE", label=None,
                    signer=None, language="gsg",
                )
            )  # fmt: skip
        datasets.Dataset.from_list(rows, features=FEATURES).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return str(folder)


@pytest.fixture(scope="session")
def sign_mae_dir(tmp_path_factory):
    """The folder of a tiny random SignMAE and its processor."""
    folder = tmp_path_factory.mktemp("sign-mae")
    torch.manual_seed(0)
    SignMAE(SignMAEConfig(**TINY)).save_pretrained(folder)
    KeypointProcessor().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def signing():
    """A factory of smooth random motion about a plausible body: `signing(num_frames)` -> (T, 73, 2) in shoulder lengths."""
    return random_signing


def random_signing(num_frames, seed=0, layout_name="uniglor73", num_channels=2):
    rng = np.random.default_rng(seed)
    layout, index = get_layout(layout_name), point_index(layout_name)
    pose = rng.normal(0, 0.05, (len(layout.names), num_channels))
    places = {
        "nose": (0, -0.6), "neck": (0, 0), "right_shoulder": (-0.5, 0), "left_shoulder": (0.5, 0), "right_elbow": (-0.6, 0.6),
        "left_elbow": (0.6, 0.6), "right_wrist": (-0.3, 0.4), "left_wrist": (0.3, 0.4),
    }  # fmt: skip
    for name in layout.names:
        origin = layout.copies.get(name, name)
        while origin not in places:
            origin = layout.anchors[origin]
        pose[index[name], :2] += places[origin]
    for name, place in places.items():
        pose[index[name]] = 0
        pose[index[name], :2] = place
    time = np.arange(num_frames)[:, None, None]
    speed, phase = rng.uniform(0.05, 0.3, pose.shape), rng.uniform(0, 6, pose.shape)
    moving = 0.1 * np.sin(time * speed + phase)
    moving[:, [index[name] for name in (layout.center, *layout.scale)]] = 0
    motion = pose + moving
    for copy, original in layout.copies.items():
        motion[:, index[copy]] = motion[:, index[original]]
    return motion.astype(np.float32)


@contextmanager
def stopped_at(step):
    """A training in it is stopped after so many steps, as by Ctrl-C."""
    taken = Trainer.training_step

    def training_step(self, *args, **kwargs):
        if self.state.global_step >= step:
            raise KeyboardInterrupt
        return taken(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "training_step", training_step)
        yield
