"""A checkpoint to the Hub: weights, what stands before and after them, the code, the scores and a model card, in one commit.

What is published holds no pickle, no training state, no sentence of a corpus, and no path of this machine.
"""

import json
import os
import re
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    BadRequestError,
    HfHubHTTPError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from datasets_scripts.whole import open_files
from train.engine.loading import load_pipeline
from train.publishing.model_cards import KINDS, model_card

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
TRAINING_STATE = re.compile(r"optimizer.*|scheduler\.pt|scaler\.pt|rng_state.*\.pth|training_args\.bin|trainer_state\.json")
# Files of an earlier upload that are deleted: otherwise those without a successor would stay in the repository.
STALE = ["*.safetensors", "*.safetensors.index.json", "*.py", *(f"*{suffix}" for suffix in PICKLES)]
RECORDS = ("config.json", "generation_config.json", "preprocessor_config.json", "tokenizer_config.json")
LOCAL_PATH = re.compile(  # absolute, of at least two names; its last one. The slashes of a URL are none.
    r"""(?<![\w./\\~-])(?:~|[A-Za-z]:)?(?![/\\]{2})(?:[/\\][^\s/\\"',;|]+)+[/\\]([^\s/\\"',;|]+)"""
)


def publish(checkpoint, repo_id, card, scores=None, private=False):
    """Uploads a checkpoint.

    Args:
        checkpoint: a folder that a training script wrote.
        repo_id: "owner/name"; made where it is not there yet.
        card: a `CardFields`.
        scores: path of a `scores.json`, see `find_scores`.
        private: whether the repository is to be seen by its owner only.

    Returns:
        `huggingface_hub.CommitInfo`.

    Raises:
        ValueError, OSError: in one line, what was found, what was expected, and what to do.
    """
    check_repo_id(repo_id)
    with tempfile.TemporaryDirectory() as folder:
        assemble(checkpoint, folder, repo_id, card, scores)
        with plain_errors(repo_id):
            api = HfApi()
            api.whoami()  # its error for a missing or unknown token is plainer than an upload's
            api.create_repo(repo_id, private=private, exist_ok=True)
            if private and not api.model_info(repo_id).private:
                raise ValueError(
                    f"{repo_id} is there already, and public; --private makes new repositories only. Make it private on its page, "
                    "or leave --private out."
                )
            return api.upload_folder(
                repo_id=repo_id, folder_path=folder, commit_message="Published by uniglor", delete_patterns=list(STALE)
            )


def push(pipe, repo_id, folder, **options):
    """Uploads the pipeline of a training that has ended; `folder` is where it lies on the disk.

    Raises:
        ConnectionError: in one line, that nothing is lost and how to upload it later.
    """
    try:
        return pipe.push_to_hub(repo_id, **options)
    except (OSError, HTTPError) as error:
        raise ConnectionError(
            f"The training has ended and {folder} holds its model, but it was not uploaded as {repo_id} ({first_line(error)}). "
            f"Upload it later: python -m train.publish --checkpoint {folder} --repo_id OWNER/NAME"
        ) from error


def assemble(checkpoint, folder, repo_id, card, scores=None):
    """Writes into an empty folder all that is published.

    Args:
        checkpoint, repo_id, card, scores: see `publish`.
        folder: is made where it is not there.

    Raises:
        ValueError: the checkpoint is none, or holds a pickle; the card is not complete; a file holds a path of this machine.
    """
    checkpoint, folder = Path(checkpoint), Path(folder)
    kind = KINDS[check_checkpoint(checkpoint)]
    card.check(kind)
    report = _read_json(checkpoint / "report.json") if (checkpoint / "report.json").exists() else None
    card.check_data(report or {}, checkpoint / "report.json")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(f"Found files in {folder}, expected an empty folder: what is in it would be published too. Give another one.")
    measured = without_sentences(without_paths(_read_json(scores))) if scores else None
    if measured is not None and ("rows" not in measured or measured.get("task", kind.task) != kind.task):
        raise ValueError(
            f"{scores} holds {measured.get('task', 'no')} scores, expected those of {kind.task}: what train.evaluate_checkpoint wrote."
        )
    pipe = load_pipeline(kind.task, checkpoint, "cpu")  # what does not load whole is not published
    pipe.save_pretrained(folder)
    for name in RECORDS:
        if (folder / name).exists():
            _write_json(folder / name, _without_names(_read_json(folder / name)))
    if measured is not None:
        _write_json(folder / "scores.json", measured)
    written = model_card(repo_id, pipe.model.config, card, measured, report, fps=pipe.feature_extractor.fps)
    (folder / "README.md").write_text(str(written), encoding="utf-8")
    open_files(folder)
    check_folder(folder, checkpoint)


# --- What may be published ------------------------------------------------------------------------------------------------------------


def check_repo_id(repo_id):
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repo_id) or ".." in repo_id or "--" in repo_id:
        raise ValueError(
            f"Found repo_id={repo_id!r}, expected owner/name of letters, digits, '.', '_' and single '-', such as me/sign-mae."
        )


def check_checkpoint(checkpoint):
    """The model type of a checkpoint of ours that is whole and holds no pickle; anything else raises `ValueError`."""
    if not (checkpoint / "config.json").is_file():
        raise ValueError(f"{checkpoint} is no checkpoint: it has no config.json. Give a folder that a training script in train/ wrote.")
    model_type = _read_json(checkpoint / "config.json").get("model_type")
    if model_type not in KINDS:
        raise ValueError(f"{checkpoint} holds a model of type {model_type!r}, expected one of {', '.join(KINDS)}.")
    if pickles := find_pickles(checkpoint):
        raise ValueError(
            f"{', '.join(map(str, pickles))} in {checkpoint}: a pickle runs code where it is loaded, and is not published. Save the model "
            "with save_pretrained (safetensors), and remove it."
        )
    if not any((checkpoint / name).exists() for name in ("model.safetensors", "model.safetensors.index.json")):
        raise ValueError(f"{checkpoint} has no weights: expected model.safetensors. Save the model with save_pretrained.")
    needed = ["preprocessor_config.json"] + ["tokenizer_config.json"] * (model_type in ("sign_to_text", "text_to_sign"))
    if missing := [name for name in needed if not (checkpoint / name).exists()]:
        raise ValueError(
            f"{checkpoint} has no {', '.join(missing)}: expected model, processor and tokenizer in one folder. Give the output_dir "
            "of a finished training, not one of its checkpoint-* folders."
        )
    return model_type


def find_pickles(checkpoint):
    """Paths in a checkpoint that are pickles by name or by content, but for the states of a training, which stay where they are."""
    pickles = []
    for path in sorted(checkpoint.rglob("*")):
        name = path.relative_to(checkpoint)
        if not path.is_file() or any(re.fullmatch(r"checkpoint-\d+", part) for part in name.parts) or TRAINING_STATE.fullmatch(path.name):
            continue
        if path.suffix in PICKLES or is_pickle(path):
            pickles.append(name)
    return pickles


def is_pickle(path):
    """Whether a file's content is a pickle, or an archive of one, as torch.save writes them."""
    if path.suffix == ".safetensors":  # starts with a length, which may look like anything
        return False
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    with open(path, "rb") as file:
        start = file.read(2)
        if len(start) < 2 or start[0] != 0x80 or not 2 <= start[1] <= 5:  # the opcode PROTO
            return False
        file.seek(-1, os.SEEK_END)
        return file.read() == b"."  # the opcode STOP


def without_paths(value):
    """A JSON value whose strings name files and folders of this machine by their last name only."""
    if isinstance(value, dict):
        return {without_paths(name): without_paths(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [without_paths(entry) for entry in value]
    if not isinstance(value, str):
        return value
    if ("/" in value or "\\" in value) and len(value) < 4096 and Path(value).expanduser().exists():  # a relative one too
        return Path(value).expanduser().resolve().name
    return LOCAL_PATH.sub(r"\1", value)


def without_sentences(scores: dict) -> dict:
    """Scores without the training sentence that is the constant floor."""
    if not isinstance(scores.get("rows"), dict):
        return scores
    return scores | {
        "rows": {name: {key: value for key, value in row.items() if key != "sentence"} for name, row in scores["rows"].items()}
    }


def _without_names(value):
    """A configuration without what says where its model was loaded from."""
    if isinstance(value, dict):
        return {name: _without_names(entry) for name, entry in value.items() if name not in ("_name_or_path", "name_or_path")}
    return [_without_names(entry) for entry in value] if isinstance(value, list) else value


def check_folder(folder, checkpoint):
    """Raises `ValueError` where a file that is to be published is a pickle, or holds a path of this machine."""
    if pickles := find_pickles(folder):
        raise ValueError(f"{', '.join(map(str, pickles))} would be published, and is a pickle.")
    places = {Path.home(), Path.cwd(), Path(tempfile.gettempdir()), checkpoint, folder}
    places |= {place.resolve() for place in places}
    # A folder right below the root, as /tmp or /root, is a word of any text: with what is in it, it is a path.
    needles = {f"{str(place).rstrip(os.sep)}{os.sep * (len(place.parts) < 3)}" for place in places if place.is_absolute() and place.name}
    needles |= {json.dumps(needle)[1:-1] for needle in needles}
    for path in sorted(folder.rglob("*")):
        content = _readable(path) if path.is_file() else b""
        for needle in sorted(needles):
            if needle.encode() in content:
                raise ValueError(
                    f"{path.relative_to(folder)} would be published with the path {needle} of this machine. Remove it from the "
                    "checkpoint's file, the scores or the card."
                )


def _readable(path):
    """The bytes of a file; of weights, the header only, since what follows is numbers."""
    if path.suffix != ".safetensors":
        return path.read_bytes()
    with open(path, "rb") as file:
        return file.read(int.from_bytes(file.read(8), "little"))


def find_scores(checkpoint, split="test"):
    """Where `train.evaluate_checkpoint` puts the scores of a checkpoint, or None."""
    path = Path(checkpoint) / f"evaluation-{split}" / "scores.json"
    return path if path.exists() else None


def _read_json(path):
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: expected a JSON file ({error}).") from error


def _write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# --- The Hub --------------------------------------------------------------------------------------------------------------------------


@contextmanager
def plain_errors(repo_id):
    """What the Hub refuses, and a Hub that cannot be reached, in one line that says what to do."""
    endpoint = huggingface_hub.constants.ENDPOINT
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise PermissionError(f"No token for {endpoint}. Run `hf auth login` with one that may write, or set HF_TOKEN.") from error
    except OfflineModeIsEnabled as error:
        raise ConnectionError(
            "HF_HUB_OFFLINE is set: nothing can be uploaded. Unset it; --dry_run --output_dir OUT needs no Hub."
        ) from error
    except BadRequestError as error:
        raise ValueError(f"{endpoint} refused what was sent for {repo_id}: {first_line(error)}") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status == 401 and not isinstance(error, RepositoryNotFoundError):
            raise PermissionError(
                f"{endpoint} does not know the token. Run `hf auth login` with one that may write, or set HF_TOKEN."
            ) from error
        if status in (401, 403, 404):
            raise PermissionError(
                f"{repo_id} is not yours to write: {endpoint} refused it ({status}). Give --repo_id OWNER/NAME below your own name or an "
                "organisation of yours, and a token that may write there."
            ) from error
        raise ConnectionError(f"{endpoint} failed ({status}): {first_line(error)} Try again later.") from error
    except HTTPError as error:  # of the transport: no connection, no answer
        raise ConnectionError(f"{endpoint} cannot be reached ({first_line(error)}). Check the network and HF_ENDPOINT.") from error


def first_line(error):
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
