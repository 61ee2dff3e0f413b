"""What CONTRIBUTING.md, the Makefile and the continuous integration name is there; what is imported is declared."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ROOMS = ("modeling_unigloR", "datasets_scripts", "train", "experiments", "benchmarks", "app.py")


def test_every_file_that_a_walk_names_is_there():
    named = {path for path in re.findall(r"`([\w./-]+/[\w./-]*|[\w-]+\.\w+)`", CONTRIBUTING) if "NAME" not in path}
    assert len(named) > 20
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    "name, definition, path",
    [
        ("CORPORA", "CORPORA = {", "datasets_scripts/options.py"),
        ("list_clips(data_dir)", "def list_clips(data_dir", "datasets_scripts/how2sign.py"),
        ("SOURCE_LAYOUTS", "\nSOURCE_LAYOUTS = {", "modeling_unigloR/keypoints_uniglor.py"),
        ("LAYOUTS", "\nLAYOUTS = {", "modeling_unigloR/keypoints_uniglor.py"),
        ("@checked", "@checked\nclass SignRecognitionConfig", "modeling_unigloR/configuration_uniglor.py"),
        ("ModelChecks", "class ModelChecks", "tests/model_checks.py"),
        ("ModelChecks", "(ModelChecks)", "tests/test_models.py"),
    ],
)
def test_every_name_that_a_walk_gives_stands_in_its_file(name, definition, path):
    assert f"`{name}`" in CONTRIBUTING and definition in (ROOT / path).read_text(encoding="utf-8")


def test_the_corpora_layouts_and_models_of_the_examples_stand_in_all_files_of_their_walk():
    """Who follows the example's name through the code meets each step."""
    walks = {
        "how2sign": ("datasets_scripts/options.py", "datasets_scripts/README.md", "tests/test_builders.py"),
        "SignRecognition": (
            "modeling_unigloR/configuration_uniglor.py", "modeling_unigloR/modeling_sign_recognition.py",
            "modeling_unigloR/pipelines_uniglor.py", "modeling_unigloR/__init__.py", "tests/test_models.py", "train/train_recognition.py",
        ),
        "recognition": (
            "train/engine/trainers.py", "train/evaluate_checkpoint.py", "train/publishing/model_cards.py", "docs/architecture.md",
            "train/configs/paper_recognition.yaml", "train/evaluation/recognition.py",
        ),
    }  # fmt: skip
    for name, paths in walks.items():
        assert [path for path in paths if name.lower() not in (ROOT / path).read_text(encoding="utf-8").lower()] == []


def test_every_make_target_that_is_named_is_there():
    targets = set(re.findall(r"^([\w.]+):", MAKEFILE, re.MULTILINE))
    named = set(re.findall(r"^make (\w+)", CONTRIBUTING, re.MULTILINE)) | set(re.findall(r"^make (\w+)", ci(), re.MULTILINE))
    assert {"test", "lint", "coverage", "slow"} <= named <= targets
    assert set(re.search(r"\.PHONY: (.*)", MAKEFILE).group(1).split()) == targets - {".PHONY"}


def test_make_test_checks_style_types_and_behaviour():
    recipe = re.search(r"^test: .*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE).group(1)
    for part in ("ruff check .", "ruff format --check .", "mypy -p modeling_unigloR -p datasets_scripts", "pytest"):
        assert part in recipe


def test_the_workflow_runs_what_one_machine_runs():
    jobs = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))["jobs"]
    assert any(step.get("run") == ".ci/run" for step in jobs["test"]["steps"])
    assert "make test" in ci() and "make slow" in ci()


def ci():
    return (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_what_is_imported_is_declared():
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    declared = {re.split(r"[\s\[<>=;~!]", line)[0].lower().replace("_", "-") for line in lines}
    distributions = packages_distributions()
    brought = {"starlette", "gradio-client", "bleurt"}  # parts of gradio; what no registry has, for a user who asks for it
    missing = {}
    for room in ROOMS:
        for path in [ROOT / room] if room.endswith(".py") else (ROOT / room).rglob("*.py"):
            for module in imported(path) - set(sys.stdlib_module_names) - {*ROOMS, "app", "tests"}:
                names = {name.lower().replace("_", "-") for name in distributions.get(module, [module])}
                if not names & (declared | brought):
                    missing.setdefault(module, path.relative_to(ROOT).as_posix())
    assert missing == {}


def imported(path):
    """Top-level names of the absolute imports of a file, those inside functions too."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0}
    return {name.split(".")[0] for name in names}
