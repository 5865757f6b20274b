"""Sentences about dependencies that two trees declare differently."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_flopbudget.ab.dependencies import dependency_differences

SAME = "; both sides run with what is installed here"


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    for side in ("base", "head"):
        (tmp_path / side).mkdir()
    return tmp_path / "base", tmp_path / "head"


def found(sides: tuple[Path, Path], name: str, base: str | None, head: str | None) -> str | None:
    """What is told of one file, without what every sentence has; None when nothing is."""
    for directory, text in zip(sides, (base, head), strict=True):
        if text is not None:
            path = directory / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    sentences = dependency_differences(*sides)
    if not sentences:
        return None
    (sentence,) = sentences
    assert sentence.startswith(f"{name}: ")
    assert sentence.endswith(SAME)
    return sentence.removeprefix(f"{name}: ").removesuffix(SAME)


def project(*lines: str) -> str:
    return "\n".join(['[project]\nname = "model"', *lines])


def test_a_changed_requirement_is_shown_as_either_side_has_it(sides: tuple[Path, Path]) -> None:
    base = project('dependencies = ["torch>=2.10", "numpy"]')
    head = project('dependencies = ["numpy", "torch>=2.11"]')
    assert found(sides, "pyproject.toml", base, head) == (
        "dependencies differ: base has torch>=2.10, head has torch>=2.11"
    )


@pytest.mark.parametrize(
    ("base", "head", "difference"),
    [
        ('dependencies = ["a"]', 'dependencies = ["a", "b<2"]', "only head has b<2"),
        ('dependencies = ["a", "B.x_y"]', 'dependencies = ["b-X-y>1"]', None),
        ('requires-python = ">=3.10"', 'requires-python = ">=3.11"', None),
        (
            '[project.optional-dependencies]\ntest = ["x==1"]',
            '[project.optional-dependencies]\ntest = ["x==2"]',
            "base has x==1 (test), head has x==2 (test)",
        ),
        (
            '[dependency-groups]\ndev = ["x", {include-group = "t"}]\nt = ["y"]',
            '[dependency-groups]\ndev = ["x"]\nt = []',
            "only base has y (t)",
        ),
        (
            '[build-system]\nrequires = ["setuptools>=77"]',
            "",
            "only base has setuptools>=77 (build)",
        ),
        (
            '[tool.poetry.dependencies]\ntorch = "^2.1"',
            '[tool.poetry.dependencies]\ntorch = {version = "^2.2", optional = true}',
            "base has torch ^2.1, head has torch ^2.2",
        ),
        (
            '[tool.poetry.group.dev.dependencies]\nx = "1"',
            "",
            "only base has x 1 (dev)",
        ),
        (
            "dependencies = [\"t>=2; python_version < '3.11'\", 't>=1']",
            "dependencies = [\"t>=2; python_version < '3.11'\", 't>=3']",
            None,
        ),
    ],
)
def test_every_place_in_pyproject_is_read(
    sides: tuple[Path, Path], base: str, head: str, difference: str | None
) -> None:
    several = {
        "dependencies = [\"t>=2; python_version < '3.11'\", 't>=1']": (
            "base has t>=2; python_version < '3.11' and t>=1, "
            "head has t>=2; python_version < '3.11' and t>=3"
        ),
        'requires-python = ">=3.10"': "base has Python >=3.10, head has Python >=3.11",
        'dependencies = ["a", "B.x_y"]': "only base has a; base has B.x_y, head has b-X-y>1",
    }
    assert found(sides, "pyproject.toml", project(base), project(head)) == (
        f"dependencies differ: {difference or several[base]}"
    )


def test_what_asks_for_the_same_does_not_differ(sides: tuple[Path, Path]) -> None:
    base = project('version = "1"', 'dependencies = ["torch >= 2.10", "numpy"]')
    head = project('version = "2"', 'dependencies = ["numpy","torch>=2.10"]', "[tool.x]\ny = 1")
    assert found(sides, "pyproject.toml", base, head) is None


def test_requirements_are_compared_without_comments_hashes_and_line_ends(
    sides: tuple[Path, Path],
) -> None:
    base = "# a\ntorch==2.10 \\\n    --hash=sha256:12\nnumpy==1 # why\n-r other.txt\n"
    same = "numpy==1\ntorch==2.10 --hash=sha256:34 --hash=sha256:56\n-r other.txt\n"
    assert found(sides, "requirements-dev.txt", base, same) is None
    other = "numpy==1\ntorch==2.11\n-r more.txt\n"
    assert found(sides, "requirements-dev.txt", base, other) == (
        "dependencies differ: only head has -r more.txt; only base has -r other.txt; "
        "base has torch==2.10, head has torch==2.11"
    )


def test_a_link_with_a_fragment_is_kept_whole(sides: tuple[Path, Path]) -> None:
    link = "model @ https://host.test/m.whl#sha256={}\n"
    assert found(sides, "requirements.txt", link.format(1), link.format(2)) == (
        "dependencies differ: base has model @ https://host.test/m.whl#sha256=1, "
        "head has model @ https://host.test/m.whl#sha256=2"
    )


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("uv.lock", "package"),
        ("poetry.lock", "package"),
        ("pdm.lock", "package"),
        ("pylock.gpu.toml", "packages"),
    ],
)
def test_a_lock_file_names_the_packages_whose_versions_changed(
    sides: tuple[Path, Path], name: str, array: str
) -> None:
    def lock(**versions: str) -> str:
        own = f'[[{array}]]\nname = "model"\nversion = "{versions["torch"]}"\n'
        own += 'source = { editable = "." }\n'
        return own + "".join(
            f'[[{array}]]\nname = "{package}"\nversion = "{version}"\n'
            for package, version in versions.items()
        )

    assert found(sides, name, lock(torch="2.10", a="1"), lock(torch="2.11", a="1")) == (
        "dependencies differ: base has torch 2.10, head has torch 2.11"
    )


def test_a_new_file_names_its_first_three(sides: tuple[Path, Path]) -> None:
    text = "a==1\nb==1\nc==1\nd==1\ne==1\n"
    assert found(sides, "requirements/test.txt", None, text) == (
        "dependencies differ: only head has a==1; only head has b==1; only head has c==1; "
        "and 2 more"
    )


def test_setup_cfg_is_read_for_its_requirements_alone(sides: tuple[Path, Path]) -> None:
    text = (
        "[options]\npython_requires = >={0}\ninstall_requires =\n    torch>={1}\n"
        "[options.extras_require]\ntest =\n    x=={2}\n[tool:pytest]\naddopts = -{3} %%x\n"
    )
    base = text.format("3.10", 1, 1, "q")
    assert found(sides, "setup.cfg", base, text.format("3.10", 1, 1, "v")) is None
    assert found(sides, "setup.cfg", base, text.format("3.11", 2, 2, "q")) == (
        "dependencies differ: base has torch>=1, head has torch>=2; "
        "base has Python >=3.10, head has Python >=3.11; base has x==1 (test), head has x==2 (test)"
    )


def test_setup_cfg_may_have_percent_signs(sides: tuple[Path, Path]) -> None:
    text = "[options]\ninstall_requires =\n    model @ https://host.test/a%20{}\n"
    assert found(sides, "setup.cfg", text.format(1), text.format(2)) == (
        "dependencies differ: base has model @ https://host.test/a%201, "
        "head has model @ https://host.test/a%202"
    )


@pytest.mark.parametrize("name", ["setup.py", "environment.yml", "Pipfile.lock", "conda-lock.yml"])
def test_what_is_not_read_is_told_to_differ(sides: tuple[Path, Path], name: str) -> None:
    assert found(sides, name, "a", "a") is None
    assert found(sides, name, "a", "b") == "base and head differ in it"


@pytest.mark.parametrize("broken", ["[project", "project = 1", "[project]\ndependencies = 1"])
def test_a_file_that_is_not_what_it_should_be_is_told_to_differ(
    sides: tuple[Path, Path], broken: str
) -> None:
    assert found(sides, "pyproject.toml", broken, project()) == ("base and head differ in it")


def test_trees_without_such_files_do_not_differ(sides: tuple[Path, Path]) -> None:
    assert dependency_differences(*sides) == ()
