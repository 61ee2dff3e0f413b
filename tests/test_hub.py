"""The Hub, on a loopback server: what is pushed from one process is loaded by id in others, which never saw the first.

One process publishes everything. A stranger, who does not have the package, and a guest, who imports it and trusts no remote code,
load it and answer the same clip and sentence; their answers are compared with the models' own.
"""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

from modeling_unigloR import (
    KeypointProcessor,
    SignFeatureExtractionPipeline,
    SignMAE,
    SignMAEConfig,
    SignRecognition,
    SignRecognitionPipeline,
    SignToText,
    SignToTextPipeline,
    TextToSign,
    TextToSignPipeline,
)
from train.data.text_tokenizers import train_tokenizer

from .conftest import TEXTS, TINY, TINY_DECODER, TINY_ENCODER, TINY_TEXT, TINY_TEXT_ENCODER, random_signing
from .hub_server import TOKEN, HubServer

ROOT = Path(__file__).parents[1]
TASKS = ("sign-feature-extraction", "sign-to-text", "text-to-sign", "sign-recognition")


def answer_of_pipeline(pipe, task, clip):
    """{name: array} of what a pipeline says of a clip, or of a sentence."""
    if task == "text-to-sign":
        return {"keypoints": pipe("am sonntag regnet es .")["keypoints"]}
    found = pipe(clip, layout="uniglor73", fps=50.0)
    if task == "sign-feature-extraction":
        return {"latents": found["latents"], "end": np.array(found["end"])}
    if task == "sign-to-text":
        return {"text": np.array(found["translation_text"]), "score": np.array(found["score"])}
    return {"labels": np.array([entry["label"] for entry in found]), "scores": np.array([entry["score"] for entry in found])}


def answer_of_model(model, task, processor, tokenizer, clip):
    """{name: array} of what a model makes of a clip, or of a sentence."""
    with torch.no_grad():
        if task == "text-to-sign":
            return {"keypoints": model.generate(**tokenizer("am sonntag regnet es .", return_tensors="pt")).keypoints.numpy()}
        batch = processor(clip, layout="uniglor73", fps=50.0, return_tensors="pt")
        inputs = batch["keypoints"], batch["attention_mask"]
        if task == "sign-feature-extraction":
            return {"latents": model.encode_sequence(*inputs)[0].numpy()}
        return {"ids": model.generate(*inputs).numpy()} if task == "sign-to-text" else {"logits": model(*inputs).logits.numpy()}


ANSWERS = inspect.getsource(answer_of_pipeline) + inspect.getsource(answer_of_model)

PUBLISHER = """
import json, os, pathlib, subprocess, sys, traceback
import numpy as np
from transformers import AutoFeatureExtractor, AutoModel, AutoTokenizer, pipeline
import modeling_unigloR
from datasets_scripts import build
from train import pretrain, publish

folder = pathlib.Path(sys.argv[1])
for task in TASKS:
    source = str(folder / task)
    AutoModel.from_pretrained(source).push_to_hub(f"me/{task}.parts")
    AutoFeatureExtractor.from_pretrained(source).push_to_hub(f"me/{task}.parts")
    if "text" in task:
        AutoTokenizer.from_pretrained(source).push_to_hub(f"me/{task}.parts")
    pipeline(task, model=source, device="cpu").push_to_hub(f"me/{task}.pipeline")
    publish.main(["--checkpoint", source, "--repo_id", f"me/{task}", *CARD])
pretrain.main(json.loads((folder / "pretrain.json").read_text()))
rows = ["folder", "--data_dir", str(folder / "clips"), "--annotations", str(folder / "clips.csv"), "--output_dir", str(folder / "rows")]
build.main([*rows, "--language", "gsg", "--push_to_hub", "me/rows"])

def refusal(command):
    try:
        command()
    except (SystemExit, ValueError) as error:
        return str(error)

source, said = str(folder / "sign-to-text"), {}
publish.main(["--checkpoint", source, "--repo_id", "me/seen-by-me", "--private", *CARD])
said["public"] = refusal(lambda: publish.main(["--checkpoint", source, "--repo_id", "me/sign-to-text", "--private", *CARD]))
said["others"] = refusal(lambda: publish.main(["--checkpoint", source, "--repo_id", "others/theirs", *CARD]))
said["nobody's"] = refusal(lambda: publish.main(["--checkpoint", source, "--repo_id", "nobody/new", *CARD]))
said["rows of others"] = refusal(lambda: build.main([*rows, "--language", "gsg", "--push_to_hub", "others/rows"]))
os.environ["HF_TOKEN"] = "hf_unknown"
said["unknown token"] = refusal(lambda: publish.main(["--checkpoint", source, "--repo_id", "me/x", *CARD]))
del os.environ["HF_TOKEN"]
said["no token"] = refusal(lambda: publish.main(["--checkpoint", source, "--repo_id", "me/x", *CARD]))
os.environ["HF_TOKEN"] = TOKEN
import huggingface_hub
huggingface_hub.constants.ENDPOINT = "http://127.0.0.1:9"  # the port "discard": nobody listens
said["nobody listens"] = refusal(lambda: publish.main(["--checkpoint", source, "--repo_id", "me/x", *CARD]))
(folder / "said.json").write_text(json.dumps(said))
"""

LOADER = """
import json, pathlib, sys
folder, me = pathlib.Path(sys.argv[1]), sys.argv[2]
if me == "stranger":
    sys.modules["modeling_unigloR"] = None  # as if it were not installed
else:
    import modeling_unigloR
import numpy as np, torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoProcessor, AutoTokenizer, pipeline
trust = {"trust_remote_code": True} if me == "stranger" else {}
clip, home = np.load(folder / "clip.npy"), "transformers_modules" if me == "stranger" else "modeling_unigloR"

for task, place, name, is_pipeline in json.loads((folder / "places.json").read_text()):
    if is_pipeline:
        pipe = pipeline(task, model=place, device="cpu", **trust)
        assert type(pipe.model).__module__.startswith(home) and type(pipe).__module__.startswith(home), (name, type(pipe))
        answers = answer_of_pipeline(pipe, task, clip)
    else:
        model, processor = AutoModel.from_pretrained(place, **trust), AutoFeatureExtractor.from_pretrained(place, **trust)
        assert type(model).__module__.startswith(home) and type(processor).__module__.startswith(home), (name, type(model))
        assert AutoConfig.from_pretrained(place, **trust).model_type == model.config.model_type
        both = AutoProcessor.from_pretrained(place, **trust)
        assert type(both).__name__ in ("KeypointProcessor", "TokenizersBackend"), type(both)
        tokenizer = AutoTokenizer.from_pretrained(place) if "text" in task else None
        answers = answer_of_model(model, task, processor, tokenizer, clip)
    np.savez(folder / f"{me}.{name}.npz", **answers)
"""

CARD = ["--license", "cc-by-4.0", "--training_data", "made up:CC0:yes", "--sign_language", "gsg", "--text_language", "de"]
STRANGER_ONLY = """
import datasets
from huggingface_hub import snapshot_download
rows = datasets.load_dataset("me/rows")
np.savez(folder / "stranger.rows.npz", ids=np.array(rows["train"]["id"]), keypoints=np.array(rows["train"][0]["keypoints"]))
for task in TASKS:  # the card's own lines
    import os, re
    os.chdir(folder)
    text = open(snapshot_download(f"me/{task}", allow_patterns="README.md") + "/README.md", encoding="utf-8").read()
    names = {}
    exec(re.search(r"## How to load it.*?```python\\n(.*?)```", text, re.DOTALL).group(1).replace("clip.npy", "openpose.npy"), names)
    assert names["answer"], task
"""


@pytest.fixture(scope="module")
def pipes():
    """{task: a pipeline around a tiny random model}."""
    torch.manual_seed(0)
    processor, tokenizer = KeypointProcessor(), train_tokenizer(TEXTS)
    sign_mae = SignMAE(SignMAEConfig(**TINY)).eval()
    sign_mae.set_latent_statistics(torch.randn(16), torch.rand(16) + 0.5)
    read = SignToText.from_parts(sign_mae, text_config=TINY_TEXT | {"vocab_size": len(tokenizer)})
    sign = TextToSign.from_parts(sign_mae, **TINY_DECODER, head="mean", text_config=TINY_TEXT_ENCODER | {"vocab_size": len(tokenizer)})
    recognise = SignRecognition.from_parts(sign_mae, ("REGEN", "SONNE", "SCHNEE"), **TINY_ENCODER)
    torch.nn.init.normal_(recognise.classifier.weight)
    made = (
        SignFeatureExtractionPipeline(model=sign_mae, feature_extractor=processor, device="cpu"),
        SignToTextPipeline(model=read.eval(), tokenizer=tokenizer, feature_extractor=processor, device="cpu"),
        TextToSignPipeline(model=sign.eval(), tokenizer=tokenizer, feature_extractor=processor, device="cpu"),
        SignRecognitionPipeline(model=recognise.eval(), feature_extractor=processor, device="cpu"),
    )
    return dict(zip(TASKS, made))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pipes, corpus):
    """What the processes read: checkpoints, a clip, a small data set of clips and a table, arguments of a pretraining."""
    folder = tmp_path_factory.mktemp("hub")
    for task, pipe in pipes.items():
        pipe.save_pretrained(folder / task)
    np.save(folder / "clip.npy", random_signing(90, seed=1) * 100)
    np.save(folder / "openpose.npy", np.random.default_rng(0).normal(300, 50, (100, 137, 2)))
    (folder / "clips").mkdir()
    for number in range(3):
        np.savez(folder / "clips" / f"{number}.npz", keypoints=random_signing(20, seed=number) * 100 + 300, fps=25.0)
    (folder / "clips.csv").write_text("id,text\n" + "".join(f"{number},{text}\n" for number, text in enumerate(TEXTS)))
    fields = TINY | dict(
        output_dir=folder / "pretrained", datasets=corpus, validation=corpus, max_steps=2, save_steps=1, save_strategy="steps",
        per_device_train_batch_size=4, eval_strategy="no", use_cpu=True, disable_tqdm=True, bank_clips=4, push_to_hub=True,
        hub_model_id="me/pretrained", cache_dir=folder / "frames",
    )  # fmt: skip
    words = ["paper.yaml"] + [word for name, value in fields.items() for word in (f"--{name}", str(value))]
    (folder / "pretrain.json").write_text(json.dumps(words))
    return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with HubServer(tmp_path_factory.mktemp("server")) as hub:
        hub.create("others/theirs")
        earlier = {
            name: hub.store(b"of an earlier version") for name in ("modeling_old.py", "model-00001-of-00002.safetensors", "notes.md")
        }
        hub.commit(hub.create("me/seen-by-me", private=True), "earlier", lambda files: files.update(earlier))
        yield hub
        assert hub.unknown == []


def run(hub, folder, script, *arguments, cwd=None, home="home"):
    env = os.environ | hub.environment(folder / home) | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=cwd, env=env
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def published(hub, folder):
    """The hub with everything on it."""
    constants = f"TASKS, CARD, TOKEN = {TASKS!r}, {CARD!r}, {TOKEN!r}\n"
    run(hub, folder, constants + PUBLISHER, cwd=folder, home="publisher")
    return hub


@pytest.fixture(scope="module", params=["stranger", "guest"])
def reader(request, published, folder):
    """Who loads everything by id, and from plain folders: one process each. -> (name, {place: (task, is_pipeline)})"""
    me = request.param
    places = [(task, f"me/{task}.parts", f"{task}.parts", False) for task in TASKS]
    places += [(task, f"me/{task}{suffix}", f"{task}{suffix}.used", True) for task in TASKS for suffix in (".pipeline", "")]
    places += [(task, str(folder / task), f"{task}.folder", True) for task in TASKS]
    places += [("sign-feature-extraction", "me/pretrained", "pretrained", False)]
    (folder / "places.json").write_text(json.dumps(places))
    elsewhere = folder / f"elsewhere-{me}"
    elsewhere.mkdir()
    script = ANSWERS + LOADER + (f"TASKS = {TASKS!r}\n{STRANGER_ONLY}" if me == "stranger" else "")
    run(published, folder, script, me, cwd=elsewhere, home=me)
    return me, {name: (task, is_pipeline) for task, _, name, is_pipeline in places}


def test_every_model_and_pipeline_answers_the_same_elsewhere(reader, folder, pipes):
    me, places = reader
    clip = np.load(folder / "clip.npy")
    for name, (task, is_pipeline) in places.items():
        if name == "pretrained":  # trained by the publisher's process: nothing to compare with
            continue
        pipe = pipes[task]
        if is_pipeline:
            expected = answer_of_pipeline(pipe, task, clip)
        else:
            expected = answer_of_model(pipe.model, task, pipe.feature_extractor, pipe.tokenizer, clip)
        found = np.load(folder / f"{me}.{name}.npz")
        assert set(found) == set(expected)
        for key, value in expected.items():
            if value.dtype.kind == "f":
                np.testing.assert_allclose(found[key], value, atol=1e-5, err_msg=f"{me} {name} {key}")
            else:
                np.testing.assert_array_equal(found[key], value, err_msg=f"{me} {name} {key}")


def test_a_pretraining_pushes_what_it_leaves_on_the_disk(reader, published, folder):
    me, _ = reader
    assert np.load(folder / f"{me}.pretrained.npz")["latents"].shape[-1] == TINY["hidden_size"]
    files = published.files("me/pretrained")
    assert {"model.safetensors", "config.json", "preprocessor_config.json", "modeling_sign_mae.py", "report.json"} <= set(files)
    assert files["report.json"] == (folder / "pretrained" / "report.json").read_bytes()
    assert published.repos["models", "me/pretrained"]["private"]


def test_a_data_set_is_loaded_by_its_id(reader, published, folder):
    assert published.repos["datasets", "me/rows"]["private"]
    rows = np.load(folder / "stranger.rows.npz")
    assert rows["ids"].tolist() == ["0", "1", "2"] and rows["keypoints"].shape == (20, 73, 2)
    card = ModelCard(published.files("me/rows", "datasets")["README.md"].decode())
    assert card.data.license == "unknown" and "keypoints can identify a signer" in card.text


def test_no_repository_ever_held_a_pickle_or_a_path_of_the_publisher(published, folder):
    paths = [str(folder).encode(), os.path.realpath(folder).encode(), str(ROOT).encode(), f"{Path.home()}/".encode()]
    for (_, repo_id), repo in published.repos.items():
        for _, _, files in repo["commits"]:
            for path, sha in files.items():
                assert not path.endswith((".bin", ".pt", ".pth", ".pkl")) and "checkpoint-" not in path, (repo_id, path)
                content = published.blob(sha).read_bytes()
                assert not any(place in content for place in paths), (repo_id, path)


def test_publishing_is_one_commit_with_a_card(published):
    for task in TASKS:
        commits = published.repos["models", f"me/{task}"]["commits"]
        assert len(commits) == 2 and commits[0][2] == {}
        card = ModelCard(published.files(f"me/{task}")["README.md"].decode())
        assert card.data.license == "cc-by-4.0" and task in card.data.tags
    assert not published.repos["models", "me/sign-to-text"]["private"] and published.repos["models", "me/seen-by-me"]["private"]


def test_a_new_version_takes_the_place_of_the_old_and_leaves_other_files(published):
    files = set(published.files("me/seen-by-me"))
    assert "notes.md" in files and files - {"notes.md"} == set(published.files("me/sign-to-text"))


@pytest.mark.parametrize(
    "case, expected",
    [
        ("public", r"me/sign-to-text is there already, and public; .* Make it private on its page, or leave --private out\."),
        ("others", r"others/theirs is not yours to write: .* refused it \(403\)\. Give --repo_id OWNER/NAME below your own name"),
        ("nobody's", r"nobody/new is not yours to write"),
        ("rows of others", r"rows is built, but was not uploaded as others/rows: .*403 Forbidden.* The same command then uploads it\."),
        ("unknown token", r"does not know the token\. Run `hf auth login`"),
        ("no token", r"No token for http.* Run `hf auth login`"),
        ("nobody listens", r"http://127\.0\.0\.1:9 cannot be reached \(.*\)\. Check the network and HF_ENDPOINT\."),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_line(published, folder, case, expected):
    said = json.loads((folder / "said.json").read_text())[case]
    assert "\n" not in said
    assert re.search(expected, said), said
