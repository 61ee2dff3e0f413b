"""Every command that a document, a config file or a module's docstring prints names a script, options and values that are there.

Those of docs/own_data.md run, in test_own_data.py.
"""

import ast
import importlib
import inspect
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from train.engine.arguments import CONFIGS, distribute, read_fields

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "datasets_scripts" / "README.md", *sorted((ROOT / "docs").glob("*.md")))
CODE = [
    path
    for folder in ("modeling_unigloR", "datasets_scripts", "train", "experiments", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
]
OURS = re.compile(r"(python (-m (train|datasets_scripts|experiments|benchmarks)\.|app\.py|train/)|accelerate launch )")


def fenced(text):
    """Lines of shell in a document, as lists of words."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def in_running_text(text):
    """Commands of ours between backticks; what they leave out ("...") is left out."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    found = [" ".join(line.split()) for line in re.findall(r"`([^`]+)`", text)]
    return [[word for word in shlex.split(line) if word != "..."] for line in found if OURS.match(line)]


def indented(text):
    """Commands of ours on lines of their own, as docstrings and the heads of config files print them; [optional] words are left out."""
    lines = re.sub(r"\\\n#?", " ", text).splitlines()
    found = [re.sub(r"\[[^\]]*\]", "", line.lstrip("# ")) for line in lines]
    return [shlex.split(line, comments=True) for line in found if OURS.match(line) and " ... " not in line]


def check(words, whole=True):
    """Parses a command as its script does, up to what needs files: raises, or exits, where it names what is not there.

    Args:
        words: of the command.
        whole: whether it holds all that the script requires; else only a script's name and the options of a training are looked at.
    """
    launch, words = words[0] == "accelerate", words[1:]
    if launch:
        start = next((number for number, word in enumerate(words) if word.endswith(".py")), len(words))
        config = [word for word in words[:start] if word.endswith(".yaml")]
        assert all((ROOT / path).is_file() for path in config), config
        words = words[start:]
        if not words:  # accelerate itself is talked of
            return
    module = words[1] if words[0] == "-m" else words[0].removesuffix(".py").replace("/", ".")
    module, given = importlib.import_module(module), words[2:] if words[0] == "-m" else words[1:]
    if {"-h", "--help", "--help_all"} & set(given):
        return
    if hasattr(module, "OWNERS"):
        distribute(read_fields(given, inspect.signature(module.parse).parameters["default_config"].default), module.OWNERS)
    elif module.__name__ == "train.train_judges" and whole:
        arguments, others = module.parse(given)
        distribute(read_fields([arguments.config, *others], arguments.config), importlib.import_module("train.train_sign_to_text").OWNERS)
    elif whole and (parse := getattr(module, "parse_options", None) or getattr(module, "parse", None)):
        parse(given)
    else:
        known = re.findall(r"""["'](--\w+)["']""", Path(module.__file__).read_text(encoding="utf-8"))
        assert {word for word in given if word.startswith("--")} <= set(known), words


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_commands_of_a_document_name_what_is_there(path):
    text = path.read_text(encoding="utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    targets = re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for words in fenced(text):
        if OURS.match(" ".join(words)):
            check(words)
        if words[0] == "make":
            assert set(words[1:]) <= set(targets), words
    for words in in_running_text(text):
        check(words, whole=False)
    for line in re.findall(r"pip install -e '\.\[([\w,]+)\]'", text):
        assert set(line.split(",")) <= set(extras), line


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_commands_at_the_head_of_a_config_file_name_what_is_there(path):
    for words in indented(path.read_text(encoding="utf-8")):
        check(words)


def test_the_commands_of_docstrings_name_what_is_there():
    found = [words for path in CODE for words in indented(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")]
    assert len(found) > 40
    for words in found:
        check(words)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_python_of_a_document_can_be_parsed(path):
    for block in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        compile(block, path.name, "exec")


def test_nothing_says_to_install_this_package_from_a_registry():
    """`pip install "uniglor[video]"`, the first command of two guides, found nothing: no registry has the package."""
    for path in [*DOCUMENTS, *CODE, ROOT / "app.py"]:
        assert not re.search(r"install\s+(-\S+\s+)*[\"']?uniglor\b", path.read_text(encoding="utf-8")), path
