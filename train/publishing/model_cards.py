"""The model card of a checkpoint: what it is, what it must not be used for, what it was trained on and how well it does.

What only the publisher knows stands in a `CardFields`; the rest is read from the checkpoint's configuration, its scores and its report.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from train.evaluation.closing import validation_rows
from train.evaluation.tables import compute_in_words, format_table
from train.evaluation.verdicts import directions, verdict_of_rows

ANSWERS = ("yes", "no", "unknown")
PAPER = "https://arxiv.org/abs/2407.02854"
CITATION = Path(__file__).parents[2] / "CITATION.cff"
NO_WEIGHTS = (  # until there are some
    "Its authors have published no trained weights yet: the letter clips of the demo carry no licence of their own, and the terms of most "
    "corpora have to be asked for. The weights here are their publisher's."
)


class TrainingSet(NamedTuple):
    """A data set that weights were trained on: its name, its licence, and whether its terms allow publishing them (`ANSWERS`)."""

    name: str
    license: str
    may_publish: str


@dataclass
class CardFields:
    """What a card says that no file of the checkpoint knows.

    Attributes:
        license: of the weights: an identifier of the Hub, or "other" with license_name and license_link.
        training_data: "NAME:LICENSE:ANSWER" for each data set, SignMAE's too; ANSWER (yes, no, unknown) says whether its terms allow
            publishing weights trained on it.
        sign_language: ISO 639-3 codes.
        text_language: ISO 639 codes of the texts; only models of signs alone have none.
        permission: who allowed publishing where an answer is not yes; printed in the card.
        extractor: which program with which version estimated the keypoints.
        compute: what training took; by default what report.json says.
        base_model: Hub ids that it was made from: a published SignMAE, a pretrained text model.
        datasets: Hub ids of the training data, where they are there.
        limitations: what you know of this model beside what holds for all.
    """

    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    training_data: list = field(default_factory=list)
    sign_language: list = field(default_factory=list)
    text_language: list = field(default_factory=list)
    permission: str | None = None
    extractor: str | None = None
    compute: str | None = None
    base_model: list = field(default_factory=list)
    datasets: list = field(default_factory=list)
    limitations: str | None = None

    def __post_init__(self):
        for name in ("training_data", "sign_language", "text_language", "base_model", "datasets"):
            value = getattr(self, name)
            setattr(self, name, [value] if isinstance(value, str) else list(value or ()))
        self.training_data = [entry if isinstance(entry, TrainingSet) else parse_training_set(entry) for entry in self.training_data]

    def check(self, kind):
        """Raises `ValueError` for what is missing or wrong for a model of this `Kind`, and where terms stand against publishing."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9.\-]*", self.license or ""):
            raise ValueError(
                f"Found license={self.license!r}, expected an identifier of the Hub, such as --license cc-by-nc-sa-4.0, or other."
            )
        if self.license == "other" and not (self.license_name and self.license_link):
            raise ValueError(f"Found license='other' with name {self.license_name!r}, link {self.license_link!r}. Give both.")
        if not self.training_data:
            raise ValueError("No training data is named. Give --training_data NAME:LICENSE:yes|no|unknown for each set, SignMAE's too.")
        _check_codes("sign_language", self.sign_language, r"[a-z]{3}", "ISO 639-3 codes of sign languages, such as gsg or ase")
        if kind.has_text:
            _check_codes("text_language", self.text_language, r"[a-z]{2,3}(-[A-Za-z]+)?", "ISO 639 codes of the texts, such as de or en")
        doubtful = [f"{entry.name} ({entry.license}): {entry.may_publish}" for entry in self.training_data if entry.may_publish != "yes"]
        if doubtful and not (self.permission or "").strip():
            raise ValueError(
                f"Whether terms allow publishing weights is not answered yes for {', '.join(doubtful)}. Ask the owner, and give "
                '--permission "who allowed it, and when": the card will say so.'
            )

    def check_data(self, report: dict, place: str | Path) -> None:
        """Raises `ValueError` where a report names data that the card does not.

        Args:
            report: what a training script wrote; `datasets`, and `earlier_datasets` that its SignMAE has seen.
            place: of the report, for the message.
        """
        named = [entry.name for entry in self.training_data]
        seen = dict.fromkeys([*(report.get("datasets") or ()), *(report.get("earlier_datasets") or ())])
        missing = [name for name in seen if not any(_same_data(name, other) for other in [*named, *self.datasets])]
        if missing:
            raise ValueError(
                f"{place} says that the model was trained on {', '.join(missing)}, but training_data names {', '.join(named)}. Name every "
                f"set; where a folder is called otherwise than the data in it, name both: 'NAME ({missing[0]}):LICENSE:ANSWER'."
            )


def _same_data(name, other):
    """Whether two names may be of one data set: "data/phoenix14t" and "PHOENIX14T", "rows" and "DGS Corpus (rows)"."""
    name, other = (re.sub(r"[\W_]", "", text.lower()) for text in (name.rstrip("/").split("/")[-1], other))
    return name == other or (min(len(name), len(other)) >= 3 and (name in other or other in name))


def parse_training_set(text):
    """ "NAME:LICENSE:ANSWER" -> `TrainingSet`. A licence may hold colons, as links do."""
    name, _, rest = str(text).partition(":")
    license, _, answer = rest.rpartition(":")
    answer = {"True": "yes", "False": "no"}.get(answer, answer)  # as YAML reads the words
    if not name.strip() or not license.strip() or answer not in ANSWERS:
        raise ValueError(f"Found training_data {text!r}, expected NAME:LICENSE:ANSWER with one of {', '.join(ANSWERS)}.")
    return TrainingSet(name.strip(), license.strip(), answer)


def _check_codes(name, codes, pattern, expected):
    wrong = [code for code in codes if not re.fullmatch(pattern, str(code))]
    if wrong or not codes:
        raise ValueError(f"Found {name}={wrong or None}, expected {expected}. Give --{name} CODE ...")


class Kind(NamedTuple):
    """A type of model: its pipeline, and what a card says of it.

    It has no `pipeline_tag`: every tag of the Hub is for models of texts, pictures or videos, and these models take keypoints.

    Attributes:
        task: of its pipeline.
        has_text: whether texts go in or come out.
        what: a sentence or two.
        call: how the pipeline is used; `{layout}` is the model's.
        dangers: what must not be done with it, beside what holds for all.
        limits: what it cannot do, beside what holds for all.
    """

    task: str
    has_text: bool
    what: str
    call: str
    dangers: str
    limits: str


CLIP_CALL = """{name} = pipeline("{task}", model="{repo_id}", trust_remote_code=True)
# A path (.pose, .npz, .npy, .skels, a folder of OpenPose JSON files, a video) or an array (frames, keypoints, x and y)
# whose points are ordered as your estimator orders them: "openpose137", "mediapipe543", "wholebody133", "{layout}", ...
answer = {name}("clip.npy", layout="openpose137", fps=25.0)  # {gives}"""

KINDS = {
    "sign_mae": Kind(
        "sign-feature-extraction",
        False,
        "A SignMAE: it turns every {window} frames of signing, as body keypoints, into one vector of {hidden} numbers (a latent, the "
        "paper's implicit gloss-level representation), and such a vector back into moving keypoints. It knows neither texts nor labels.",
        CLIP_CALL.replace("{name}", "encode").replace("{gives}", '{{"latents": (segments, {hidden}), "start", "end" in seconds}}'),
        "- to tell people apart, or to find a person's recordings: its vectors carry manner and body as well as signs;",
        "That it gives keypoints back says nothing of what they mean. Its features pass a temporal convolution before frames are masked, "
        "so it was not taught to predict frames that it has not seen.",
    ),
    "sign_to_text": Kind(
        "sign-to-text",
        True,
        "A SignToText: it guesses a written sentence for a clip of signing that is given as body keypoints.",
        CLIP_CALL.replace("{name}", "read").replace("{gives}", '{{"translation_text", "score"}}'),
        "- to judge what somebody has signed: the text is a guess, and fluent where it is wrong;",
        "It answers every clip with a sentence of the kind that it was trained on, also a clip of no signing at all.",
    ),
    "text_to_sign": Kind(
        "text-to-sign",
        True,
        "A TextToSign: it guesses moving body keypoints for a written sentence.",
        """sign = pipeline("{task}", model="{repo_id}", trust_remote_code=True)
answer = sign("{example}")  # {{"keypoints": (frames, {points}, {channels}) in shoulder lengths, "keypoint_mask", "fps", "layout"}}""",
        "- to give information to Deaf people: what it signs may be wrong or no sign at all, and nobody who does not sign will see it;",
        "Words that it was not trained on are signed as something else. Scores of generated signing come from another model that reads "
        "it back, not from people who sign.",
    ),
    "sign_recognition": Kind(
        "sign-recognition",
        False,
        "A SignRecognition: it names which of {labels} signs a clip of body keypoints shows.",
        CLIP_CALL.replace("{name}", "recognise").replace("{gives}", '[{{"label", "score"}}, ...], the most probable first'),
        "- to judge learners' signing: the score is a probability among its labels, not a mark;",
        "It knows isolated signs. A clip of another sign, or of a sentence, gets one of its labels all the same.",
    ),
}

# How names of scores begin, and the Hub's name for such a score.
METRIC_TYPES = {"bleu": "bleu", "rouge": "rouge", "chrf": "chrf", "wer": "wer", "cer": "cer", "bleurt": "bleurt", "top": "accuracy"}
HEADLINES = ("bleu4", "rouge_l", "cer", "top1", "top5")  # in the front matter, where a list of all would be too long to read
SHOWN = ("bleu1", "bleu4", "rouge_l", "chrf", "wer", "cer", "top1", "top5", "top10")  # in the card; scores.json has all


def model_card(repo_id, config, fields, scores=None, report=None, fps=None):
    """The card of a checkpoint, with the front matter that the Hub reads.

    Args:
        repo_id: "owner/name".
        config: the model's configuration.
        fields: `CardFields`; checked here.
        scores: what `train.evaluate_checkpoint` wrote (`scores.json`), or None.
        report: what the training script wrote (`report.json`), or None.
        fps: frames a second that the model's processor gives; None: any.

    Returns:
        A `huggingface_hub.ModelCard`.
    """
    kind = KINDS[config.model_type]
    fields.check(kind)
    results = eval_results(kind, scores) if scores else None
    languages = [*fields.sign_language, *(fields.text_language if kind.has_text else ())]
    metadata = ModelCardData(
        language=languages,
        license=fields.license,
        license_name=fields.license_name,
        license_link=fields.license_link,
        library_name="transformers",
        tags=["sign-language", "keypoints", "uniglor", kind.task],
        base_model=fields.base_model or None,
        datasets=fields.datasets or None,
        metrics=sorted({result.metric_type for result in results}) if results else None,
        model_name=repo_id.split("/")[-1] if results else None,
        eval_results=results,
    )
    return ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{_body(repo_id, config, kind, fields, scores, report, fps)}{_robustness(report)}")


def eval_results(kind, scores):
    """`EvalResult` of the system's `HEADLINES`, with the signature of what made it and the floors' values beside it."""
    system, floors = _system_and_floors(scores)
    row = scores["rows"][system]
    name = ", ".join(map(str, scores["dataset"])) if scores.get("dataset") else "unknown"
    results = []
    for metric, signature in row["signatures"].items():
        if metric not in HEADLINES or row.get(metric) is None:
            continue
        type_ = next((type_ for start, type_ in METRIC_TYPES.items() if metric.startswith(start)), metric)
        beside = {floor: round(values[metric], 4) for floor, values in floors.items() if values.get(metric) is not None}
        results.append(
            EvalResult(
                task_type=kind.task,
                task_name=kind.task,
                dataset_type=re.sub(r"[^\w.\-/]+", "-", name).lower(),
                dataset_name=name,
                dataset_split=scores.get("split"),
                metric_type=type_,
                metric_name=metric,
                metric_value=round(row[metric], 4),
                metric_args={"signature": signature} | ({"floors": beside} if beside else {}),
            )
        )
    return results


def _system_and_floors(scores):
    """The name of the system's row, and {name: row} of the floors."""
    rows = scores["rows"]
    system = next((name for name in rows if name.split(",")[0] == "system"), None)
    if system is None:
        raise ValueError(f"scores.json has the rows {', '.join(rows)}, expected one called system, as train.evaluate_checkpoint writes.")
    return system, {name.removeprefix("floor: "): row for name, row in rows.items() if name.startswith("floor")}


def _body(repo_id, config, kind, fields, scores, report, fps):
    facts = _facts(repo_id, config, kind)
    sections = {
        "What it is for": USES.format(dangers=kind.dangers),
        "How to load it": LOADING.format(call=kind.call.format(**facts)),
        "Training data": _training_data(fields, kind, facts, fps),
        "Scores": _scores(scores) if scores else _validation(report or {}),
        "Limitations": LIMITS.format(limits=kind.limits) + (f"\n\n{fields.limitations.strip()}" if fields.limitations else ""),
        "Signers and consent": CONSENT,
        "The Deaf community": COMMUNITY,
        "Compute": _line(fields.compute or _compute(report)),
        "Citation": citation(),
    }
    name, what = repo_id.split("/")[-1], kind.what.format(**facts)
    head = f"# {name}\n\n{what}\n\n{MADE_WITH}"
    return "\n\n".join([head, *(f"## {title}\n\n{text.strip()}" for title, text in sections.items())]) + "\n"


MADE_WITH = f"""Made with UniGloR, an independent implementation of [Hwang et al. 2024]({PAPER}), which shares no code with the authors'.
{NO_WEIGHTS}"""

USES = """Research on sign languages, teaching, and building on its weights, together with Deaf people.

**It is no substitute for an interpreter.** It must not be used

- in medical, legal, police, emergency, asylum or social matters, in court, at work or at school, or anywhere else that a Deaf person
  is entitled to an interpreter, or would need one;
{dangers}
- to watch people, or to recognise who is signing;
- to decide anything about a person."""

LOADING = """```python
from transformers import pipeline

{call}
```

`trust_remote_code=True` runs the Python files of this repository: read them, and pin `revision=` to what you read. Where the package
`modeling_unigloR` is imported, its own classes are used, and the flag is not needed."""

LIMITS = """Keypoints lose much of signing, faces most of all, and the model knows the few signers, topics and cameras of its training
data. Signers of another region, age or hand, and cropped hands, several people or a mirrored camera are outside of it. {limits}"""

CONSENT = """Keypoints can identify a signer by body and manner, and weights may remember them. The signers' consent, and the terms of
the corpora above, go on to apply to this model and to what is made with it."""

COMMUNITY = """Sign languages belong to the communities that sign them. Models like this one are mostly made without them, trained on
what broadcasters and interpreters recorded, and wrong answers fall on Deaf people, who are also the ones asked to make do with a machine
in the place of an interpreter. Work with Deaf people who sign the languages above, from the question to the judgement of what comes out,
and pay them."""


def _facts(repo_id, config, kind):
    sign_mae = getattr(config, "sign_mae_config", config)
    return {
        "repo_id": repo_id, "task": kind.task, "layout": config.layout, "window": sign_mae.window_size, "hidden": sign_mae.hidden_size,
        "points": sign_mae.num_keypoints, "channels": sign_mae.num_channels, "labels": f"{config.num_labels:,}", "example": "your sentence",
    }  # fmt: skip


def _training_data(fields, kind, facts, fps):
    sets = "\n".join(f"| {_cell(entry.name)} | {_cell(entry.license)} | {entry.may_publish} |" for entry in fields.training_data)
    permission = ""
    if any(entry.may_publish != "yes" for entry in fields.training_data):
        stated = _line(fields.permission)
        permission = f"\nNot all of these terms are known to allow it. Of the permission, the publisher states: {stated}\n"
    texts = f" Texts (ISO 639): {', '.join(fields.text_language)}." if kind.has_text else ""
    rate = f"{fps:g} frames a second" if fps else "the clip's own rate"
    return f"""| data set | licence | do its terms allow publishing weights? |
| --- | --- | --- |
{sets}
{permission}
Sign languages (ISO 639-3): {", ".join(fields.sign_language)}.{texts}

Keypoints: layout `{facts["layout"]}`, {facts["points"]} points of {facts["channels"]} coordinates, at {rate}; centred on the neck, the
shoulders 1 wide. They were estimated by {_line(fields.extractor or "a program that is not recorded")}; other estimators place
points elsewhere, and scores fall where yours differs."""


def _scores(scores):
    """The card's section on a data set that `train.evaluate_checkpoint` scored."""
    system, floors = _system_and_floors(scores)
    row = scores["rows"][system]
    columns = [name for name in SHOWN if row.get(name) is not None] or list(row["signatures"])
    shown = {name: values for name, values in scores["rows"].items() if name == system or name.startswith(("floor", "ceiling"))}
    where = f"`{', '.join(map(str, scores.get('dataset') or ['unknown']))}`, split `{scores.get('split')}`"
    text = f"On {where}. A floor knows nothing of the clip's signing; a score says something only by its distance from it. "
    text += f"{directions(columns)}\n\n{format_table(shown, columns)}\n\n"
    text += f"**What they say:** {' '.join(verdict_of_rows(scores['rows'], scores.get('interval')))}\n"
    if floors == {}:
        text += "\nNo floors were scored: what these numbers are worth is open.\n"
    if judges := scores.get("judges"):
        text += f"\nThe generated signing was read back by {judges} model{'s' if judges > 1 else ''} trained on real keypoints.\n"
    if interval := scores.get("interval"):
        name = interval.get("metric", "top1" if "top1" in row else "bleu4")  # older files do not name the metric
        text += f"\n95 % interval of {name}: {interval['low']:.2f} to {interval['high']:.2f} (`{interval['signature']}`).\n"
    signatures = "\n".join(f"- {name}: `{row['signatures'][name]}`" for name in columns if name in row["signatures"])
    return f"{text}\n{signatures}\n\n`scores.json` has all of them."


def _validation(report):
    """The card's section on scores where no test set was scored: those of the validation set, from the training's report."""
    rows, columns, decimals = validation_rows(report)
    if not columns:
        return "None were given. Take it for untested."
    text = "On the validation set, at the end of training; no test set was scored. "
    text += "Errors (mpjpe) are in shoulder widths. " if "mpjpe" in columns else ""
    verdict = f"\n\n**What they say:** {' '.join(report['verdict'])}" if report.get("verdict") else ""
    return f"{text}{directions(columns)}\n\n{format_table(rows, columns, decimals)}{verdict}"


def _robustness(report):
    """What `evaluate_checkpoint --robustness` wrote into the report, as a section; nothing where it did not run."""
    measured = (report or {}).get("robustness")
    if not measured:
        return ""
    columns = [name for name in next(iter(measured["rows"].values())) if name != "num_scored"]
    data = _line(", ".join(map(str, measured["dataset"])))
    return (
        f"\n## Robustness\n\nThe same clips ({data}, split {_line(measured['split'])}), changed in one respect each:\n\n"
        f"{format_table(measured['rows'], columns)}\n"
    )


def _compute(report):
    used = (report or {}).get("compute")
    return f"{compute_in_words(used)}." if used else "Not recorded."


def _cell(text):
    return _line(text).replace("|", "\\|")


def _line(text):
    """A publisher's words in one line, which make no heading, list or block of their own."""
    line = " ".join(str(text).split())
    return f"\\{line}" if line[:1] in tuple("#=-`~>+*") else line


def citation():
    """BibTeX of the paper that the method is from, as CITATION.cff names it."""
    paper = yaml.safe_load(CITATION.read_text(encoding="utf-8"))["preferred-citation"]
    authors = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    fields = {"title": paper["title"], "author": authors, "journal": paper["journal"], "year": paper["year"]}
    key = f"{paper['authors'][0]['family-names'].lower()}{paper['year']}uniglor"
    lines = ",\n".join(f"  {name}={{{value}}}" for name, value in fields.items())
    return f"```bibtex\n@article{{{key},\n{lines}\n}}\n```"
