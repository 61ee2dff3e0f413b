"""Publishing: what goes into the folder that is uploaded, what its card says, and what is refused. The Hub itself: test_hub.py."""

import json
import pickle
import re
import shutil
import tempfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index
from transformers import AutoFeatureExtractor, AutoModel

from modeling_unigloR import SignFeatureExtractionPipeline
from modeling_unigloR.keypoints_uniglor import get_layout
from train import pretrain, train_recognition, train_sign_to_text, train_text_to_sign
from train.engine.arguments import UniGloRTrainingArguments
from train.evaluation.sign_to_text import evaluate_sign_to_text
from train.evaluation.tables import without_nan
from train.metrics.recognition import recognition_scores, top1_interval
from train.publish import main, read_card
from train.publishing.model_cards import KINDS, CardFields, TrainingSet, citation, parse_training_set
from train.publishing.upload import assemble, find_pickles, is_pickle, without_paths

FIELDS = dict(
    license="cc-by-nc-sa-4.0", training_data=["Corpus A:CC BY-NC-SA 3.0:yes"], sign_language="gsg", text_language="de",
)  # fmt: skip


@pytest.fixture
def checkpoints(tiny_sign_mae, tiny_sign_to_text, tiny_text_to_sign, tiny_sign_recognition, tmp_path):
    """A factory of checkpoint folders: `checkpoints("sign_to_text")`."""

    def make(model_type):
        if model_type == "sign_mae":
            pipe = SignFeatureExtractionPipeline(
                model=tiny_sign_mae(), feature_extractor=tiny_sign_to_text().feature_extractor, device="cpu"
            )
        else:
            makers = {"sign_to_text": tiny_sign_to_text, "text_to_sign": tiny_text_to_sign, "sign_recognition": tiny_sign_recognition}
            pipe = makers[model_type]()
        pipe.save_pretrained(tmp_path / model_type)
        return tmp_path / model_type

    return make


@pytest.fixture
def checkpoint(checkpoints):
    return checkpoints("sign_to_text")


def dry_run(checkpoint, output_dir, *arguments):
    """`main` with what every card needs; -> the output."""
    card = [word for name, value in FIELDS.items() for word in (f"--{name}", *([value] if isinstance(value, str) else value))]
    main(["--checkpoint", str(checkpoint), "--repo_id", "me/name", "--dry_run", "--output_dir", str(output_dir), *card, *arguments])
    return output_dir


def refused(*arguments):
    """What `main` says as it ends."""
    with pytest.raises(ValueError) as refusal:
        main(list(map(str, arguments)))
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def write_scores(folder, bleurt=None):
    """Scores of three texts beside three of training, by the functions that `train.evaluate_checkpoint` writes them with."""
    from train.metrics.text import bootstrap_interval, text_scores
    from train.metrics.text_floors import constant_sentence_floor

    texts = ["am sonntag regnet es .", "morgen scheint die sonne .", "im norden schnee ."]
    system = text_scores(texts[:2] + ["im norden ."], texts, max_new_tokens=20)
    if bleurt:
        system |= {"bleurt": 0.5, "signatures": system["signatures"] | {"bleurt": f"bleurt|checkpoint:{bleurt}"}}
    rows = {"system": system, "floor: one constant sentence": constant_sentence_floor(texts, texts, max_new_tokens=20)}
    report = {"rows": rows, "interval": bootstrap_interval(texts, texts), "task": "sign-to-text", "dataset": [str(folder)], "split": "test"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.json").write_text(json.dumps(without_nan(report)))
    return folder / "scores.json"


# --- What is published ----------------------------------------------------------------------------------------------------------------


def test_what_is_published_is_what_a_stranger_needs_and_nothing_of_the_training(checkpoint, tmp_path):
    (checkpoint / "checkpoint-10").mkdir()
    for name in ("checkpoint-10/optimizer.pt", "checkpoint-10/rng_state.pth", "optimizer.pt", "training_args.bin", "scheduler.pt"):
        torch.save({"a": 1}, checkpoint / name)
    (checkpoint / "training_args.json").write_text("{}")
    (checkpoint / "report.json").write_text("{}")
    write_scores(checkpoint / "evaluation-test")
    (checkpoint / "evaluation-test" / "predictions.jsonl").write_text('{"reference": "a text of the corpus"}\n')
    out = dry_run(checkpoint, tmp_path / "out")
    names = {path.relative_to(out).as_posix() for path in out.rglob("*")}
    code = {name for name in names if name.endswith(".py")}
    assert {"configuration_uniglor.py", "modeling_sign_to_text.py", "modeling_sign_mae.py", "pipelines_uniglor.py"} <= code
    usual = (tmp_path / "out" / "README.md").stat().st_mode
    assert (out / "model.safetensors").stat().st_mode == usual  # which safetensors 0.8 makes private
    assert names - code == {
        "README.md", "config.json", "generation_config.json", "model.safetensors", "preprocessor_config.json", "scores.json",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


@pytest.mark.parametrize("model_type", KINDS)
def test_the_weights_are_the_checkpoints(checkpoints, tmp_path, model_type):
    checkpoint = checkpoints(model_type)
    out = dry_run(checkpoint, tmp_path / "out")
    published, own = (AutoModel.from_pretrained(folder).state_dict() for folder in (out, checkpoint))
    assert set(published) == set(own) and all(torch.equal(published[name], own[name]) for name in own)
    assert AutoFeatureExtractor.from_pretrained(out).to_dict() == AutoFeatureExtractor.from_pretrained(checkpoint).to_dict()


@pytest.mark.parametrize("model_type", KINDS)
def test_no_published_file_names_a_folder_of_this_machine(checkpoints, tmp_path, model_type):
    checkpoint = checkpoints(model_type)
    config = json.loads((checkpoint / "config.json").read_text())
    config |= {"_name_or_path": str(tmp_path / "base")}
    for part in ("sign_mae_config", "text_config"):
        if part in config:
            config[part]["_name_or_path"] = str(tmp_path / part)
    (checkpoint / "config.json").write_text(json.dumps(config))
    (checkpoint / "report.json").write_text(json.dumps({"validation": {"eval_bleu4": 3.0}, "data": str(tmp_path)}))
    scores = (
        ["--scores", str(write_scores(tmp_path / "data" / "phoenix14t", tmp_path / "BLEURT-20"))] if model_type == "sign_to_text" else []
    )
    out = dry_run(checkpoint, tmp_path / "out", *scores)
    for path in out.rglob("*"):
        content = path.read_bytes()
        for place in (tmp_path, tempfile.gettempdir() + "/", f"{Path.home()}/", f"{Path.cwd()}/"):
            assert str(place).encode() not in content, (path.name, place)
    if scores:
        published = json.loads((out / "scores.json").read_text())
        assert published["dataset"] == ["phoenix14t"]
        assert published["rows"]["system"]["signatures"]["bleurt"].startswith("bleurt|checkpoint:BLEURT-20")


@pytest.mark.parametrize(
    "value, expected",
    [
        ("/srv/corpora/phoenix14t", "phoenix14t"),
        ("bleurt|checkpoint:/srv/models/BLEURT-20|n:3", "bleurt|checkpoint:BLEURT-20|n:3"),
        ('{"path": "/srv/corpora/rows", "split": "dev"}', '{"path": "rows", "split": "dev"}'),
        ("~/corpora/rows", "rows"),
        ("C:\\Users\\me\\rows", "rows"),
        ("someone/phoenix14t", "someone/phoenix14t"),  # of the Hub
        ("https://arxiv.org/abs/2407.02854", "https://arxiv.org/abs/2407.02854"),
        ("wer|edits/length of all|case:lc", "wer|edits/length of all|case:lc"),
    ],
)
def test_a_path_becomes_its_last_name(value, expected):
    assert without_paths({"a": [value]}) == {"a": [expected]}


def test_a_relative_path_that_is_there_becomes_its_last_name(tmp_path, monkeypatch):
    (tmp_path / "data" / "rows").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert without_paths("data/rows") == "rows" and without_paths("data/other") == "data/other"


def test_a_path_of_this_machine_in_the_card_is_refused(checkpoint, tmp_path):
    with pytest.raises(ValueError, match=r"^README\.md would be published with the path .*Remove it"):
        dry_run(checkpoint, tmp_path / "out", "--limitations", f"Trained on {tmp_path}/rows")


# --- What is refused ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, write",
    [
        ("pytorch_model.bin", lambda path: path.write_bytes(b"anything")),
        ("weights.dat", lambda path: torch.save({"a": 1}, path)),
        ("notes", lambda path: path.write_bytes(pickle.dumps({"a": 1}))),
        ("part/old.ckpt", lambda path: path.write_bytes(b"")),
    ],
)
def test_a_pickle_is_refused_by_its_name(checkpoint, tmp_path, name, write):
    (checkpoint / name).parent.mkdir(exist_ok=True)
    write(checkpoint / name)
    with pytest.raises(ValueError, match=rf"^{name} in .*: a pickle runs code where it is loaded"):
        dry_run(checkpoint, tmp_path / "out")


def test_what_is_no_pickle_is_not_taken_for_one(checkpoint, tmp_path):
    np.savez(tmp_path / "clip.npz", keypoints=np.zeros(3))
    (tmp_path / "text").write_text("€.")
    (tmp_path / "empty").touch()
    assert not any(is_pickle(tmp_path / name) for name in ("clip.npz", "text", "empty")) and find_pickles(checkpoint) == []


def test_a_folder_that_is_no_whole_checkpoint_is_refused(checkpoint, tmp_path):
    def said(change, folder=tmp_path / "changed"):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(checkpoint, folder)
        change(folder)
        with pytest.raises(ValueError) as refusal:
            dry_run(folder, tmp_path / "out")
        return str(refusal.value)

    assert "is no checkpoint: it has no config.json" in said(lambda folder: (folder / "config.json").unlink())
    assert "holds a model of type 'bert', expected one of sign_mae, sign_to_text" in said(
        lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}')
    )
    assert "has no weights: expected model.safetensors" in said(lambda folder: (folder / "model.safetensors").unlink())
    assert "has no preprocessor_config.json" in said(lambda folder: (folder / "preprocessor_config.json").unlink())
    assert "has no tokenizer_config.json" in said(lambda folder: (folder / "tokenizer_config.json").unlink())
    assert "cannot be read: expected a JSON file" in said(lambda folder: (folder / "config.json").write_text("{"))


def test_scores_of_another_task_are_refused(checkpoints, tmp_path):
    with pytest.raises(ValueError, match="holds sign-to-text scores, expected those of text-to-sign"):
        dry_run(checkpoints("text_to_sign"), tmp_path / "out", "--scores", str(write_scores(tmp_path / "scores")))


def test_an_output_with_files_in_it_is_refused(checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    with pytest.raises(ValueError, match="expected an empty folder"):
        dry_run(checkpoint, tmp_path / "out")


@pytest.mark.parametrize("repo_id", ["name", "me/na me", "me/a--b", "me/../x", "https://huggingface.co/me/name"])
def test_what_is_no_repo_id_is_refused(checkpoint, repo_id, tmp_path):
    said = refused("--checkpoint", checkpoint, "--repo_id", repo_id, "--dry_run", "--output_dir", tmp_path / "out")
    assert said.startswith(f"Found repo_id={repo_id!r}, expected owner/name")


def test_without_a_network_one_line_says_so(checkpoint, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_any")
    card = ["--license", "mit", "--training_data", "a:b:yes", "--sign_language", "gsg", "--text_language", "de"]
    said = refused("--checkpoint", checkpoint, "--repo_id", "me/name", *card)
    assert said.startswith("HF_HUB_OFFLINE is set: nothing can be uploaded.")


@pytest.mark.parametrize("script", [pretrain, train_sign_to_text, train_text_to_sign, train_recognition])
def test_a_training_pushes_once_at_its_end_and_privately(script, tmp_path):
    """Between checkpoints, the Trainer would upload training_args.bin and, if asked, optimizer states."""
    usual = ["--datasets", "x", "--sign_mae", "y", "--push_to_hub", "true", "--output_dir", str(tmp_path), "--use_cpu", "true"]
    given = [word for word in usual if not (script is pretrain and word in ("--sign_mae", "y"))]
    args = script.parse(["paper.yaml" if script is pretrain else f"paper_{script.__name__.split('.train_')[1]}.yaml", *given])[-1]
    assert args.hub_strategy == "end" and args.hub_private_repo is True
    with pytest.raises(ValueError, match="Found hub_strategy='every_save', expected 'end'"):
        UniGloRTrainingArguments(output_dir=str(tmp_path), push_to_hub=True, hub_strategy="every_save")
    assert UniGloRTrainingArguments(output_dir=str(tmp_path), hub_private_repo=False).hub_private_repo is False


# --- The card -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", KINDS)
def test_the_cards_metadata_is_what_the_hub_reads(checkpoints, tmp_path, model_type):
    card = ModelCard.load(dry_run(checkpoints(model_type), tmp_path / "out") / "README.md")
    kind = KINDS[model_type]
    assert card.data.license == "cc-by-nc-sa-4.0" and card.data.library_name == "transformers"
    assert card.data.pipeline_tag is None and kind.task in card.data.tags  # none promises texts or videos as input
    assert "no trained weights yet" in card.text
    assert card.data.language == (["gsg", "de"] if kind.has_text else ["gsg"])
    assert f'pipeline("{kind.task}", model="me/name", trust_remote_code=True)' in card.text and "{" + "task}" not in card.text
    for needed in ("no substitute for an interpreter", "can identify a signer", "| Corpus A | CC BY-NC-SA 3.0 | yes |", citation()):
        assert needed in card.text
    points = len(get_layout("uniglor73").names)
    assert f"layout `uniglor73`, {points} points of 2 coordinates, at 25 frames a second" in card.text


def test_scores_stand_in_the_card_with_their_signatures_and_floors(checkpoint, tmp_path):
    path = write_scores(checkpoint / "evaluation-test")
    scores = json.loads(path.read_text())["rows"]
    card = ModelCard.load(dry_run(checkpoint, tmp_path / "out") / "README.md")
    results = {result.metric_name: result for result in card.data.eval_results}
    bleu4 = results["bleu4"]
    assert bleu4.metric_value == round(scores["system"]["bleu4"], 4) and bleu4.metric_type == "bleu" and bleu4.dataset_split == "test"
    assert bleu4.metric_args["signature"] == scores["system"]["signatures"]["bleu4"]
    assert bleu4.metric_args["floors"]["one constant sentence"] == round(scores["floor: one constant sentence"]["bleu4"], 4)
    assert eval_results_to_model_index(card.data.model_name, card.data.eval_results)[0]["name"] == "name"
    assert f"| system | {scores['system']['bleu1']:.2f} |" in card.text and "| floor: one constant sentence |" in card.text
    assert f"- bleu4: `{scores['system']['signatures']['bleu4']}`" in card.text


def test_the_card_takes_what_an_evaluation_gives(tiny_sign_to_text, corpus, checkpoint, tmp_path):
    from train.data.clips import Clips

    pipe = tiny_sign_to_text()
    clips, train = (Clips([corpus], split, pipe.feature_extractor, str(tmp_path / "frames")) for split in ("test", "train"))
    report, _ = evaluate_sign_to_text(pipe.model, pipe.tokenizer, clips, train, num_beams=1, max_new_tokens=4)
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(without_nan(report | {"task": "sign-to-text", "dataset": [corpus], "split": "test"})))
    card = ModelCard.load(dry_run(checkpoint, tmp_path / "out", "--scores", str(path)) / "README.md")
    floors = {name for result in card.data.eval_results for name in result.metric_args["floors"]}
    assert floors == {"random training sentence", "one constant sentence", "sentence of the nearest training clip"}


def test_scores_of_recognition_stand_in_the_card(checkpoints, tmp_path):
    labels, logits = np.array([0, 1, 2, 2]), np.eye(4, 3)
    rows = {"system": recognition_scores(logits, labels), "floor: most frequent labels": recognition_scores(logits[::-1].copy(), labels)}
    report = {"rows": rows, "interval": top1_interval(logits, labels), "task": "sign-recognition", "dataset": ["words"], "split": "test"}
    (tmp_path / "scores.json").write_text(json.dumps(report))
    out = dry_run(checkpoints("sign_recognition"), tmp_path / "out", "--scores", str(tmp_path / "scores.json"))
    card = ModelCard.load(out / "README.md")
    top1 = next(result for result in card.data.eval_results if result.metric_name == "top1")
    assert top1.metric_type == "accuracy" and top1.metric_value == 75.0 and "most frequent labels" in top1.metric_args["floors"]
    assert "| system | 75.00 |" in card.text


def test_without_scores_the_card_says_what_the_report_says_or_untested(checkpoint, tmp_path):
    assert "Take it for untested." in (dry_run(checkpoint, tmp_path / "a") / "README.md").read_text()
    report = {"validation": {"eval_bleu4": 3.25}, "compute": {"device": "Some GPU", "processes": 2, "hours": 1.5}}
    (checkpoint / "report.json").write_text(json.dumps(report))
    text = (dry_run(checkpoint, tmp_path / "b") / "README.md").read_text()
    assert "| this model | 3.25 |" in text and "no test set was scored" in text and "1.5 hours on 2 x Some GPU." in text


def test_a_training_of_seconds_took_seconds_and_a_score_below_its_floor_says_so(checkpoint, tmp_path):
    """The card said 0.00245 hours on 1 x 1 threads of a CPU, and listed a score below its floor without a word."""
    report = {
        "validation": {"eval_bleu4": 0.3}, "floors": {"one constant sentence": {"bleu4": 4.12}}, "verdict": ["bleu4 0.3 is not usable."],
        "compute": {"device": "1 threads of a CPU", "processes": 1, "hours": 0.00245},
    }  # fmt: skip
    (checkpoint / "report.json").write_text(json.dumps(report))
    text = (dry_run(checkpoint, tmp_path / "out") / "README.md").read_text()
    assert "9 seconds on 1 CPU thread." in text and "| floor: one constant sentence | 4.12 |" in text
    assert "**What they say:** bleu4 0.3 is not usable." in text


def test_scores_below_a_floor_say_so_whatever_wrote_them(checkpoint, tmp_path):
    path = write_scores(checkpoint / "evaluation-test")
    scores = json.loads(path.read_text())
    del scores["interval"]
    scores["rows"]["system"]["bleu4"], scores["rows"]["floor: one constant sentence"]["bleu4"] = 0.3, 4.12
    path.write_text(json.dumps(scores))
    text = (dry_run(checkpoint, tmp_path / "out") / "README.md").read_text()
    assert "**What they say:** bleu4 0.3 is worse than one constant sentence (4.12): not usable." in text
    assert "Higher is better: bleu1, bleu4, rouge_l, chrf. Lower is better: wer, cer." in text


def test_the_front_matter_has_few_scores_and_no_sentence_of_the_corpus_leaves(checkpoint, tmp_path):
    scores = write_scores(checkpoint / "evaluation-test").read_text()
    assert '"sentence": "' in scores
    out = dry_run(checkpoint, tmp_path / "out")
    assert {result.metric_name for result in ModelCard.load(out / "README.md").data.eval_results} == {"bleu4", "rouge_l", "cer"}
    assert '"sentence"' not in (out / "scores.json").read_text()


@pytest.mark.parametrize(
    "seen, told",
    [
        (["phoenix14t"], ["PHOENIX14T:CC BY:yes"]),
        (["data/phoenix14t"], ["PHOENIX-14T:CC BY:yes"]),
        (["rows"], ["DGS Corpus (rows):CC BY:yes"]),
        (["me/phoenix14t-keypoints"], ["PHOENIX14T:CC BY:yes"]),
        ([], ["PHOENIX14T:CC BY:yes"]),
    ],
)
def test_a_card_that_names_what_was_trained_on_is_taken(seen, told):
    CardFields(**FIELDS | {"training_data": told}).check_data({"datasets": seen}, "report.json")


@pytest.mark.parametrize("key", ["datasets", "earlier_datasets"])
def test_a_card_of_other_data_than_the_checkpoints_is_refused_with_both_named(checkpoint, tmp_path, key):
    """The guide's card was taken as it stands, for a model of other data: it named PHOENIX14T, and below, the folder of another corpus."""
    (checkpoint / "report.json").write_text(json.dumps({key: ["dgs"]}))
    with pytest.raises(
        ValueError, match=r"was trained on dgs, but training_data names Corpus A\. Name every set; .* 'NAME \(dgs\):LICENSE"
    ):
        dry_run(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    dry_run(checkpoint, tmp_path / "out", "--training_data", "Corpus A:CC BY-NC-SA 3.0:yes", "A (dgs):own:yes")


@pytest.mark.parametrize("answer", ["no", "unknown"])
def test_terms_that_do_not_allow_it_need_a_permission_that_the_card_prints(checkpoint, tmp_path, answer):
    data = ["--training_data", "Corpus A:CC BY-NC-SA 3.0:yes", f"Corpus B:its own terms:{answer}"]
    with pytest.raises(ValueError, match=rf"not answered yes for Corpus B \(its own terms\): {answer}\. Ask the owner"):
        dry_run(checkpoint, tmp_path / "out", *data)
    text = (dry_run(checkpoint, tmp_path / "out", *data, "--permission", "Letter of its owner, 1 May.") / "README.md").read_text()
    assert f"| Corpus B | its own terms | {answer} |" in text
    assert "Not all of these terms are known to allow it. Of the permission, the publisher states: Letter of its owner, 1 May." in text


@pytest.mark.parametrize(
    "changed, expected",
    [
        ({"license": None}, r"Found license=None, expected an identifier of the Hub"),
        ({"license": "other"}, r"Found license='other' with name None, link None\. Give both"),
        ({"training_data": []}, r"No training data is named\. Give --training_data NAME:LICENSE:yes\|no\|unknown"),
        ({"sign_language": []}, r"Found sign_language=None, expected ISO 639-3 codes"),
        ({"sign_language": ["DGS"]}, r"Found sign_language=\['DGS'\]"),
        ({"text_language": ["German"]}, r"Found text_language=\['German'\]"),
    ],
)
def test_a_card_that_is_not_complete_is_refused(checkpoint, tmp_path, changed, expected):
    with pytest.raises(ValueError, match=expected):
        assemble(checkpoint, tmp_path / "out", "me/name", CardFields(**FIELDS | changed))
    assert not (tmp_path / "out").exists()


def test_line_breaks_in_a_card_make_no_headings(checkpoint, tmp_path):
    """They were printed as they were: a heading of the publisher's stood between ours."""
    plain, broken = (
        CardFields(**FIELDS | {"training_data": [f"Corpus A{more}:CC BY{more}:no"], "extractor": f"OpenPose{more}", "compute": start + more,
                               "permission": f"the owner{more}"})
        for more, start in (("", "2 hours"), ("\n\n# Evil\r## Worse\x0b\u2028# Third\n===\n|a|", "# Evil\n---\n```"))
    )  # fmt: skip
    headings = []
    for name, card in (("plain", plain), ("broken", broken)):
        assemble(checkpoint, tmp_path / name, "me/name", card)
        text = (tmp_path / name / "README.md").read_text(encoding="utf-8").split("\n---\n", 1)[1]
        headings.append([line for line in text.splitlines() if line.startswith("#")])
        assert text.count("\n```") == 4  # two blocks of ours
        assert not [line for line in text.splitlines() if line and not line.strip("=-")]
    assert headings[0] == headings[1]


def test_training_data_are_read_from_one_word():
    assert parse_training_set("How2Sign:cc-by-nc-4.0:no") == TrainingSet("How2Sign", "cc-by-nc-4.0", "no")
    assert parse_training_set("Mine:https://x.org/terms:yes") == TrainingSet("Mine", "https://x.org/terms", "yes")
    for wrong in ("How2Sign", "How2Sign:cc-by-nc-4.0", "How2Sign:cc-by-nc-4.0:maybe", ":mit:yes"):
        with pytest.raises(ValueError, match=r"expected NAME:LICENSE:ANSWER with one of yes, no, unknown"):
            parse_training_set(wrong)


def test_the_guides_card_is_complete(tmp_path):
    guide = (Path(__file__).parents[1] / "docs" / "publishing.md").read_text(encoding="utf-8")
    (tmp_path / "card.yaml").write_text(re.search(r"```yaml\n(.*?)```", guide, re.DOTALL).group(1))
    CardFields(**read_card(tmp_path / "card.yaml", [field.name for field in fields(CardFields)])).check(KINDS["sign_to_text"])


def test_a_card_comes_from_a_file_with_flags_over_it(checkpoint, tmp_path):
    card = tmp_path / "card.yaml"
    card.write_text("license: mit\nsign_language: ase\ntext_language: [en]\nextractor: OpenPose 1.7\ntraining_data:\n- Corpus C:own:yes\n")
    place = ["--checkpoint", str(checkpoint), "--repo_id", "me/name", "--dry_run", "--output_dir", str(tmp_path / "out")]
    main([*place, "--card", str(card), "--license", "apache-2.0"])
    written = ModelCard.load(tmp_path / "out" / "README.md")
    assert written.data.license == "apache-2.0" and written.data.language == ["ase", "en"] and "OpenPose 1.7" in written.text
    card.write_text("licence: mit\n")
    assert "has the field 'licence', expected license." in refused(*place, "--card", card)
