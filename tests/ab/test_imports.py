"""A side that measures another copy of the project than its own tree is found out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_flopbudget.ab.environment import counterparts, import_path
from pytest_flopbudget.ab.imports import (
    ForeignModule,
    foreign_modules,
    own_packages,
    refusal,
)

FINDER = """
import importlib.util, sys
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "model":
            return importlib.util.spec_from_file_location(
                name, {package!r} + "/__init__.py", submodule_search_locations=[{package!r}]
            )
        return None
"""
ANSWER = """
import json, sys
import model.layers
files = {
    name: module.__file__ for name, module in sys.modules.items()
    if getattr(module, "__file__", None)
}
print(json.dumps({"files": files, "path": sys.path}))
"""


class Sides:
    """A repository that is installed in some editable way, and a tree of it elsewhere."""

    def __init__(self, directory: Path, place: str) -> None:
        self.repository, self.tree = directory / "repo", directory / "tree/repo"
        for top in (self.repository, self.tree):
            package = top / place / "model"
            package.mkdir(parents=True)
            (package / "__init__.py").touch()
            (package / "layers.py").touch()
        self.package = self.repository / place / "model"
        self.site = directory / "site"
        self.site.mkdir()

    def install_path(self, place: str) -> None:
        (self.site / "_model.pth").write_text(f"{self.repository / place}\n")

    def install_finder(self, call: str) -> None:
        (self.site / "finder.py").write_text(FINDER.format(package=str(self.package)))
        line = f"import sys, finder; sys.meta_path.{call}finder.Finder)\n"
        (self.site / "_model.pth").write_text(line)

    def run(self, path: str) -> tuple[dict[str, str], list[str]]:
        """What a worker with this PYTHONPATH imports the project's modules from."""
        # An interpreter reads the .pth files of a site directory like those of its own.
        add = f"import site; site.addsitedir({str(self.site)!r})\n"
        done = subprocess.run(
            [sys.executable, "-c", add + ANSWER],
            cwd=self.tree,
            env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        answer = json.loads(done.stdout)
        return answer["files"], answer["path"]

    def foreign(self, path: str) -> list[tuple[str, str]]:
        files, _ = self.run(path)
        found = foreign_modules(files, self.tree, self.repository)
        # The tool itself may be installed from anywhere, also from a repository under test.
        return [(one.name, one.place) for one in found]


@pytest.mark.parametrize("place", [".", "src"])
def test_the_tree_s_packages_win_over_an_editable_path(tmp_path: Path, place: str) -> None:
    sides = Sides(tmp_path, place)
    sides.install_path(place)
    assert sides.foreign(import_path(sides.tree, {})) == []
    # The control: without the tree's path it is the user's checkout that is measured.
    assert sides.foreign("") == [("model", place), ("model.layers", place)]


def test_packages_that_are_elsewhere_are_found_by_the_path_that_the_install_added(
    tmp_path: Path,
) -> None:
    sides = Sides(tmp_path, "python/lib")
    sides.install_path("python/lib")
    alone = import_path(sides.tree, {})
    assert sides.foreign(alone) == [("model", "python/lib"), ("model.layers", "python/lib")]
    _, user_s = sides.run("")
    moved = counterparts(user_s, [sides.repository], sides.tree)
    assert moved == (sides.tree / "python/lib",)
    assert sides.foreign(import_path(sides.tree, {}, counterparts=moved)) == []


def test_an_import_hook_behind_the_path_loses_and_one_before_it_is_found_out(
    tmp_path: Path,
) -> None:
    sides = Sides(tmp_path, ".")
    sides.install_finder("append(")
    assert sides.foreign(import_path(sides.tree, {})) == []
    sides.install_finder("insert(0, ")
    assert sides.foreign(import_path(sides.tree, {})) == [("model", "."), ("model.layers", ".")]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "repo").mkdir()
    (tmp_path / "tree").mkdir()
    return tmp_path / "repo"


def foreign(repository: Path, **modules: str) -> list[tuple[str, str]]:
    tree = repository.parent / "tree"
    files = {name.replace("__", "."): file.format(repository) for name, file in modules.items()}
    return [(one.name, one.place) for one in foreign_modules(files, tree, repository)]


def test_what_is_installed_in_an_environment_inside_the_repository_is_not_foreign(
    repository: Path,
) -> None:
    assert foreign(repository, torch="{}/.venv/lib/python3.12/site-packages/torch/a.py") == []
    assert foreign(repository, apt="{}/env/lib/python3/dist-packages/apt/__init__.py") == []
    assert foreign(repository, torch="{}/site/torch/__init__.py") == [("torch", "site")]


def test_a_tree_inside_the_repository_is_not_foreign_and_a_neighbour_of_a_like_name_neither(
    repository: Path,
) -> None:
    tree = repository / "tmp/tree"
    files = {"model": str(tree / "model.py"), "other": f"{repository}-two/other.py"}
    assert foreign_modules(files, tree, repository) == ()


def test_compiled_modules_namespace_packages_and_archives_are_seen(repository: Path) -> None:
    assert foreign(
        repository,
        model___C="{}/build/model/_C.cpython-312-x86_64-linux-gnu.so",
        space="{}/packages/space",
        packed="{}/dist/packed.zip/packed/__init__.py",
        renamed="{}/deep/lib/__init__.py",
    ) == [
        ("model._C", "build"),
        ("packed", "dist/packed.zip"),
        ("renamed", "."),
        ("space", "packages"),
    ]


def test_a_link_leads_to_where_the_file_is(repository: Path) -> None:
    (repository / "model.py").touch()
    tree = repository.parent / "tree"
    (tree / "kept.py").touch()
    (tree / "linked.py").symlink_to(repository / "model.py")
    (repository / "back.py").symlink_to(tree / "kept.py")
    files = {"linked": str(tree / "linked.py"), "back": str(repository / "back.py")}
    found = foreign_modules(files, tree, repository)
    assert [one.name for one in found] == ["linked"]
    other = repository.parent / "other"
    other.symlink_to(repository)
    assert foreign_modules({"model": str(other / "model.py")}, tree, other) == (
        ForeignModule(name="model", file=repository / "model.py", place="."),
    )


def installed(site: Path, *files: str) -> None:
    info = site / "my_model-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-model\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in files))


def named(directory: Path, table: str, name: str) -> None:
    (directory / "pyproject.toml").write_text(f'{table}\nname = "{name}"\n')


def test_an_installed_copy_of_the_project_is_foreign(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = repository.parent / "lib/site-packages"
    files = ("model/__init__.py", "model/data.json", "_model_C.abi3.so", "../../../bin/tool.py")
    installed(site, *files, "my_model-1.0.dist-info/RECORD")
    monkeypatch.syspath_prepend(str(site))
    tree = repository.parent / "tree"
    assert own_packages(tree) == frozenset()
    named(tree, "[project]", "not-installed-anywhere")
    assert own_packages(tree) == frozenset()
    named(tree, "[tool.poetry]", "My_Model")
    own = own_packages(tree)
    assert own == {"model", "_model_C"}

    modules = {"model.x": f"{site}/model/x.py", "torch": f"{site}/torch/__init__.py"}
    found = foreign_modules(modules, tree, repository, own=own)
    assert [(one.name, one.place) for one in found] == [("model.x", "")]
    assert foreign_modules({"model": f"{tree}/py/model.py"}, tree, repository, own=own) == ()


def test_an_editable_install_has_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finder = "__editable___my_model_1_0_finder.py"
    installed(tmp_path, "__editable__.my_model-1.0.pth", finder, f"__pycache__/{finder}c")
    monkeypatch.syspath_prepend(str(tmp_path))
    named(tmp_path, "[project]", "my-model")
    assert own_packages(tmp_path) == frozenset()


@pytest.mark.parametrize(
    ("place", "mend"),
    [
        ("lib/py", "pass '-- -o pythonpath=lib/py', or uninstall the project here"),
        (
            "src",
            (
                "an import hook, or code that changes sys.path, stands before PYTHONPATH; "
                "take it out, or uninstall the project here"
            ),
        ),
        ("", "pass '-- -o pythonpath=DIR', with the directory that has it in the tree"),
    ],
)
def test_a_refusal_names_module_file_and_mend_in_one_line(place: str, mend: str) -> None:
    one = ForeignModule(name="model", file=Path("/repo/model.py"), place=place)
    start = "base: model{} came from /repo/model.py, not from the base's own tree: "
    assert refusal("base", [one]) == start.format("") + mend
    assert refusal("base", [one, one, one]) == start.format(" and 2 more") + mend
