"""Makes what `--help` prints of a training script. It reads the source and imports nothing heavy, which takes a fraction of a second.

A field's sentence is that of its class's docstring, else the comment beside its line or above it. `--help_all` adds what transformers'
own training arguments say, and imports them for it.
"""

import ast
import re
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import NamedTuple

from train.engine.commands import wait_passively

ROOT = Path(__file__).parents[2]
WIDTH = 120
NOT_SET = {"model_type", "layout_hash", "padding_value", "is_encoder_decoder"}  # parameters that no command line sets
CHECKED = ("number", "choice", "activation")  # of configuration_uniglor: fields whose first argument is the default


class Field(NamedTuple):
    """A field as the source declares it: texts of its type and default, None where there is none, and a sentence, maybe empty."""

    name: str
    type: str | None
    default: str | None
    help: str


def answer_help(script, argv=None):
    """Prints the help of a training script and ends the process, if the command line asks for it; else readies the process for torch.

    Args:
        script: path of the file; its `OWNERS` names the classes whose fields it takes.
        argv: words of the command line; by default the process's.
    """
    wait_passively()
    argv = sys.argv[1:] if argv is None else argv
    if {"-h", "--help", "--help_all"} & set(argv):
        print(help_of(script, "--help_all" in argv))
        sys.exit(0)


def help_of(script, with_trainer=False):
    """The text that `--help`, or with `with_trainer` `--help_all`, prints."""
    script = Path(script).resolve()
    lines = [
        ast.get_docstring(_tree(script)),
        "",
        "Usage: [CONFIG.yaml] [--field value ...]; CONFIG.yaml is a path, or a name in train/configs.",
    ]
    for owner, name in owners_of(script).items():
        lines += ["", f"{owner} ({name}):", *map(_line, own_fields(script, name))]
    if not with_trainer:
        return "\n".join([*lines, "", "--help_all lists the fields of transformers' training arguments too."])
    for cls in _trainer_classes(script):
        lines += ["", f"training ({cls.__name__} of transformers):", *map(_line, _trainer_fields(cls))]
    return "\n".join(lines)


def owners_of(script):
    """{owner: name of its class} of a script's `OWNERS`."""
    for node in _tree(Path(script)).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "OWNERS":
            return {key.value: value.id for key, value in zip(node.value.keys, node.value.values)}
    raise ValueError(f"{script} has no OWNERS = {{owner: class}}.")


def own_fields(path, name):
    """The `Field`s of a class that is named in a file, with those of its base classes of ours, the nearest first."""
    declaration = _find(path, name)
    if declaration is None:  # of a library
        return []
    path, node = declaration
    fields = {field.name: field for field in _declared(path, node)}
    for base in node.bases:
        for field in own_fields(path, base.id) if isinstance(base, ast.Name) else ():
            own = fields.get(field.name, field)  # with another default, or another sentence, than the base class has
            here = own.help if field.name in fields else _described(ast.get_docstring(node) or "", field.name)
            fields[field.name] = own._replace(help=here or field.help)
    return list(fields.values())


@cache
def _tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def _find(path, name):
    """-> the file and the node of a class that a file defines, or imports from a file of ours; None of one from a library."""
    for node in _tree(path).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return path, node
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    source = _file_of(path, node)
                    return None if source is None else _find(source, alias.name)
    return None


def _file_of(path, node):
    """The file of ours that an import statement reads, or None."""
    start = path.parents[node.level - 1] if node.level else ROOT
    place = start.joinpath(*(node.module or "").split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


def _declared(path, node):
    """The `Field`s that a class declares itself: annotated lines, or else the parameters of its `__init__`."""
    text = ast.get_docstring(node) or ""
    lines = path.read_text(encoding="utf-8").splitlines()
    annotated = [line for line in node.body if isinstance(line, ast.AnnAssign)]
    fields = []
    for line in annotated:
        if line.target.id not in NOT_SET and not _is_computed(line.value):
            sentence = _described(text, line.target.id) or _comment(lines, line)
            choices = _choices(line.value)
            sentence = "; ".join(filter(None, [sentence, choices and f"one of {choices}"]))
            fields.append(Field(line.target.id, ast.unparse(line.annotation), _default(line.value), sentence))
    if annotated:
        return fields
    init = next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)
    if init is None:
        return []
    parameters, defaults = init.args.args[1:], init.args.defaults
    for parameter, default in zip(parameters[len(parameters) - len(defaults) :], defaults):
        if parameter.arg not in NOT_SET:
            kind = parameter.annotation and ast.unparse(parameter.annotation)
            fields.append(Field(parameter.arg, kind, ast.unparse(default), _described(text, parameter.arg)))
    return fields


def _described(docstring, name):
    """The sentence of a docstring's section Args or Attributes on a name, which may share its entry with others; or nothing."""
    section = re.search(r"(?ms)^(?:Args|Attributes):\n(.*?)(?=^\S|\Z)", docstring)
    entries = re.split(r"(?m)^    (?=\w[\w, ]*:)", section[1]) if section else []
    for entry in entries:
        names, _, sentence = entry.partition(":")
        if name in names.split(", "):
            return " ".join(sentence.split())
    return ""


def _comment(lines, node):
    """The comment at the end of a field's line, or on the lines right above it; one after an empty line is about a group of fields."""
    _, mark, beside = lines[node.end_lineno - 1][node.end_col_offset :].partition("# ")
    if mark:
        return beside.strip()
    above = []
    for number in range(node.lineno - 2, -1, -1):
        line = lines[number].strip()
        if not line.startswith("# "):
            return " ".join(above) if line else ""
        above.insert(0, line[2:])
    return ""


def _default(value):
    """A default as a command line would give it; None where there is none."""
    if isinstance(value, ast.Call):
        if getattr(value.func, "id", None) in CHECKED:
            return ast.unparse(value.args[0])
        keywords = {keyword.arg: keyword.value for keyword in value.keywords}
        factory = keywords.get("default_factory")
        if isinstance(factory, ast.Lambda):
            return ast.unparse(factory.body)
        if isinstance(factory, ast.Name):
            return {"list": "[]", "dict": "{}"}.get(factory.id)
        return ast.unparse(keywords["default"]) if "default" in keywords else None
    return None if value is None else ast.unparse(value)


def _choices(value):
    if isinstance(value, ast.Call) and getattr(value.func, "id", None) == "choice":
        return ", ".join(ast.unparse(part) for part in value.args)
    return ""


def _is_computed(value):
    """Whether a field is no parameter: `field(init=False)`."""
    keywords = value.keywords if isinstance(value, ast.Call) else []
    return any(word.arg == "init" and ast.unparse(word.value) == "False" for word in keywords)


def _line(field):
    start = f"  --{field.name}" + (f" {field.type}" if field.type else "") + (f" (default {field.default})" if field.default else "")
    return "\n".join([start, *textwrap.wrap(field.help, WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8)])


def _trainer_classes(script):
    """The training arguments of transformers that a script's own ones extend."""
    import importlib

    from transformers import Seq2SeqTrainingArguments, TrainingArguments

    module = importlib.import_module(f"train.{Path(script).stem}")
    kind = module.OWNERS["training"]
    return [cls for cls in (Seq2SeqTrainingArguments, TrainingArguments) if issubclass(kind, cls)]


def _trainer_fields(cls):
    import dataclasses

    for field in sorted(dataclasses.fields(cls), key=lambda field: field.name):
        if field.init and field.name in cls.__annotations__:
            default = None if field.default is dataclasses.MISSING else repr(field.default)
            kind = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type))
            yield Field(field.name, kind, default, " ".join(str(field.metadata.get("help", "")).split()))
