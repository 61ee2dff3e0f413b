"""What a user may get wrong: each command says it in one line that names what was given, and ends with status 2."""

import json
import shutil
import signal

import pytest

from train import (
    cache,
    checkpoints,
    embed,
    evaluate_checkpoint,
    pose_weights,
    pretrain,
    publish,
    train_judges,
    train_recognition,
    train_sign_to_text,
    train_text_to_sign,
)
from train.engine.runs import run_script
from train.figures import attention, latents, strips

from .conftest import TINY, TINY_ENCODER, TINY_TEXT
from .test_segments import dataset_of


@pytest.fixture(scope="module")
def place(tmp_path_factory, corpus, sign_mae_dir):
    """A folder with what the commands of this file name."""
    folder = tmp_path_factory.mktemp("mistakes")
    shutil.copytree(corpus, folder / "rows")
    shutil.copytree(sign_mae_dir, folder / "sign-mae")
    dataset_of([60] * 4, text=lambda row, number: None).to_parquet(folder / "silent.parquet")
    dataset_of([5]).to_parquet(folder / "short.parquet")
    (folder / "broken.parquet").write_bytes(b"PAR1 and no more")
    (folder / "empty").mkdir()
    for name, file, content in (("truncated", "model.safetensors", b"\x08"), ("no-json", "config.json", b"{model_type:")):
        shutil.copytree(folder / "sign-mae", folder / name)
        (folder / name / file).write_bytes(content)
    (folder / "list.yaml").write_text("- output_dir")
    (folder / "card.yaml").write_text("licence: cc-by-4.0")
    (folder / "words.pose").write_bytes(b"no pose")
    (folder / "words.jsonl").write_text("no JSON\n")
    (folder / "judges").mkdir()
    (folder / "judges" / "judges.json").write_text(json.dumps({"selection": 0, "judges": [{"seed": 0, "role": "selection"}]}))
    latents_of = folder / "latents"
    embed.embed(folder / "sign-mae", str(folder / "rows"), ["test"], latents_of)
    return folder


def words(**fields):
    return [word for name, value in fields.items() for word in (f"--{name}", str(value))]


SHORT = {"max_steps": 2, "per_device_train_batch_size": 2, "use_cpu": True, "disable_tqdm": True, "overwrite_output_dir": True}
ONE_LAYER = words(output_dir="PLACE/out", text_config=json.dumps(TINY_TEXT), generation_num_beams=1, **SHORT)
MAE = ["paper.yaml", *words(output_dir="PLACE/out", bank_clips=2, **SHORT | TINY)]
PRETRAIN = [*MAE, "--datasets", "PLACE/rows"]
READ = [*ONE_LAYER, "--sign_mae", "PLACE/sign-mae", "--datasets", "PLACE/rows"]
SIGN = ["--output_dir", "PLACE/out", "--sign_mae", "PLACE/sign-mae", "--datasets", "PLACE/rows"]
RECOGNISE = [*words(output_dir="PLACE/out", **SHORT | TINY_ENCODER), "--sign_mae", "PLACE/sign-mae", "--datasets", "PLACE/rows"]
EVALUATE = ["--checkpoint", "PLACE/sign-mae", "--datasets", "PLACE/rows", "--output_dir", "PLACE/scores"]
EMBED = ["--checkpoint", "PLACE/sign-mae", "--datasets", "PLACE/rows", "--output_dir", "PLACE/new"]
SEARCH = ["--latents", "PLACE/latents"]
PUBLISH = ["--checkpoint", "PLACE/sign-mae", "--repo_id", "me/name", "--dry_run", "--output_dir", "PLACE/upload"]

MISTAKES = {
    # Those that were met on the way from a clone to own data
    "a field that is mistyped": (pretrain, [*PRETRAIN, "--hiden_size", "16"], "Did you mean hidden_size"),
    "a config file that is not there": (pretrain, ["papr.yaml"], "No config file 'papr.yaml'"),
    "a data set that is not there": (pretrain, [*MAE, "--datasets", "outputs/rows"], "'outputs/rows' does not exist"),
    "a data set's name that looks like a Hub id": (pretrain, [*MAE, "--datasets", "./mine/rows"], "datasets_scripts.build"),
    "a split that is not there": (pretrain, [*MAE, "--datasets", "{path: PLACE/rows, split: dev}"], "dev"),
    "clips that are too short": (pretrain, [*MAE, "--datasets", "PLACE/short.parquet"], "5"),
    "a clip that is not there": (embed, [*SEARCH, "--nearest", "test-99:0"], "No clip 'test-99' here. Did you mean test-"),
    "text for a number": (pretrain, [*PRETRAIN, "--hidden_size", "many"], "expected a whole number"),
    "text for a number of steps": (train_sign_to_text, [*READ, "--max_steps", "two"], "expected a whole number"),
    "text for a rate": (train_text_to_sign, [*SIGN, "--learning_rate", "1e-3x"], "expected a number"),
    "a checkpoint that is not there": (train_recognition, [*RECOGNISE, "--sign_mae", "a/b/c"], "'a/b/c' does not exist"),
    "a checkpoint of the config file that is not there": (
        train_sign_to_text, ["paper_sign_to_text.yaml", *ONE_LAYER, "--datasets", "PLACE/rows"], "train/pretrain.py",
    ),
    "a checkpoint of another kind": (evaluate_checkpoint, EVALUATE, "holds a model of type 'sign_mae', expected 'sign_to_text'"),
    # Our own, against the trainings
    "a config file that is a list": (pretrain, ["PLACE/list.yaml"], "holds the list"),
    "a file that is no Parquet": (pretrain, [*MAE, "--datasets", "PLACE/broken.parquet"], "broken.parquet"),
    "an output folder that is a file": (pretrain, [*PRETRAIN, "--output_dir", "PLACE/list.yaml"], "list.yaml"),
    "a layout that nobody has": (pretrain, [*PRETRAIN, "--layout", "uniglor74"], "uniglor74"),
    "sizes that do not fit": (pretrain, [*PRETRAIN, "--num_attention_heads", "5"], "must be an even multiple of num_attention_heads=5"),
    "no clip in a batch": (pretrain, [*PRETRAIN, "--per_device_train_batch_size", "0"], "per_device_train_batch_size"),
    "an optimiser that nobody has": (pretrain, [*PRETRAIN, "--optim", "adamx"], "adamx"),
    "a schedule that nobody has": (pretrain, [*PRETRAIN, "--lr_scheduler_type", "cosin"], "cosin"),
    "a score that nobody has": (train_sign_to_text, [*READ, "--metric_for_best_model", "blue4"], "blue4"),
    "an augmentation that nobody has": (
        train_sign_to_text, [*READ, "--sign_encoder", "frames", "--augmentation", "{sped: 2}"], "sped",
    ),
    "a text model that cannot be": (train_sign_to_text, [*READ, "--text_config", "{d_model: 7}"], "7"),
    "a kind of text model that nobody has": (train_sign_to_text, [*READ, "--text_config", "{model_type: brat}"], "brat"),
    "a tokenizer that nobody has": (train_sign_to_text, [*READ, "--tokenizer", "./wrods"], "wrods"),
    "a text model that is not there": (train_text_to_sign, [*SIGN, "--text_model", "outputs/bert"], "outputs/bert"),
    "a dot that nobody knows": (train_sign_to_text, [*READ, "--final_dot", "keeep"], "expected one of keep, strip, add"),
    "rows without a text": (train_sign_to_text, [*READ, "--datasets", "PLACE/silent.parquet", "--validation", "[]"], "text"),
    "rows without a label": (train_recognition, RECOGNISE, "label"),
    "weights that are cut off": (train_sign_to_text, [*READ, "--sign_mae", "PLACE/truncated"], "its weights cannot be read"),
    "a config of a checkpoint that is no JSON": (train_sign_to_text, [*READ, "--sign_mae", "PLACE/no-json"], "no-json"),
    "a judge that is none": (train_text_to_sign, [*SIGN, "--judge", "PLACE/sign-mae"], "--judge"),
    "judges without data": (train_judges, ["--output_dir", "PLACE/judges", "--seeds", "zero"], "argument --seeds"),
    "judges with a field that nobody has": (
        train_judges, ["--output_dir", "PLACE/new-judges", "--datasets", "PLACE/rows", "--max_stepps", "2"], "Did you mean max_steps",
    ),
    # Against what reads checkpoints
    "judges that are not there": (
        evaluate_checkpoint,
        [*EVALUATE, "--task", "text-to-sign", "--judges", "PLACE/empty", "--train_datasets", "PLACE/rows", "--sign_mae", "PLACE/sign-mae"],
        "sign_mae",
    ),
    "a task that nobody has": (evaluate_checkpoint, [*EVALUATE, "--task", "sign-to-speech"], "sign-to-speech"),
    "predictions that are not there": (evaluate_checkpoint, ["--compare", "PLACE/a.jsonl", "PLACE/words.jsonl"], "a.jsonl"),
    "predictions that are no JSON": (evaluate_checkpoint, ["--compare", "PLACE/words.jsonl", "PLACE/words.jsonl"], "words.jsonl"),
    "a device that is not there": (embed, [*EMBED, "--device", "cuda:7"], "cuda:7"),
    "a stride of nothing": (embed, [*EMBED, "--stride", "0"], "stride=0"),
    "an option that is mistyped": (embed, [*EMBED, "--strid", "2"], "--strid: did you mean --stride?"),
    "latents that are not there": (embed, ["--latents", "PLACE/empty", "--nearest", "test-0:0"], "holds no latents"),
    "a folder that is no checkpoint": (checkpoints, ["PLACE/empty"], "is no checkpoint"),
    "a processor that is none": (pose_weights, ["--datasets", "PLACE/rows", "--processor", "PLACE/empty"], "--processor"),
    "clips that a figure does not find": (
        strips, ["--checkpoint", "PLACE/sign-mae", "--datasets", "PLACE/rows", "--ids", "nobody", "--output", "PLACE/a.svg"], "nobody",
    ),
    "a figure of a kind that nobody draws": (
        strips, ["--checkpoint", "PLACE/sign-mae", "--datasets", "PLACE/rows", "--output", "PLACE/a.bmp"], "a.bmp",
    ),
    "a figure of signs without glosses": (
        latents, ["--checkpoint", "PLACE/sign-mae", "--datasets", "PLACE/silent.parquet", "--split", "train", "--output", "PLACE/a.svg"],
        "expected at least 2",
    ),
    "attention of a model that has none": (
        attention, ["--checkpoint", "PLACE/sign-mae", "--clip", "PLACE/words.pose", "--output", "PLACE/a.svg"], "sign_to_text",
    ),
    "days that are none": (cache, ["clean", "--older_than", "-1"], "--older_than -1"),
    "a kind that is not kept": (cache, ["list", "--kind", "all"], "--kind"),
    "a card with a field that is mistyped": (publish, [*PUBLISH, "--card", "PLACE/card.yaml"], "expected license"),
    "a card that is not there": (publish, [*PUBLISH, "--card", "PLACE/nothing.yaml"], "nothing.yaml"),
    "a name that the Hub does not take": (publish, [*PUBLISH, "--repo_id", "me/my name"], "my name"),
    "a checkpoint to publish that is not there": (publish, [*PUBLISH, "--checkpoint", "PLACE/nothing"], "nothing"),
}  # fmt: skip


@pytest.fixture
def own_signals():
    """`run_script` sets a handler for SIGTERM."""
    kept = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, kept)


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_status_2(mistake, place, capsys, monkeypatch):
    script, argv, said = MISTAKES[mistake]
    argv = [word.replace("PLACE", str(place)) for word in argv]
    monkeypatch.chdir(place / "empty")
    with pytest.raises(SystemExit) as ended:
        run_script(lambda: script.main(argv))
    told = capsys.readouterr().err.strip().split("\n")
    assert ended.value.code == 2 and said in told[-1], (ended.value.code, told)
    assert not any("Traceback" in line for line in told)
