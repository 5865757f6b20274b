"""The settings file changes in its values, and in no other byte."""

from __future__ import annotations

import stat
import string
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopbudget.core.errors import SettingsError
from pytest_flopbudget.core.updating import Edit, Written
from pytest_flopbudget.store.budgetfile import rewrite, rewrite_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WHERE = "pyproject.toml: tool.flopbudget.budgets"


def edit(path: str, old: Written, new: Written) -> Edit:
    """An edit of the value at a dotted path below the budgets."""
    keys = tuple(path.split("."))
    return Edit(
        path=("tool", "flopbudget", "budgets", *keys),
        where=f"{WHERE}.{path}",
        old=old,
        new=new,
        why="tightened",
    )


@pytest.mark.parametrize(
    ("before", "path", "old", "new", "after"),
    [
        ('[tool.flopbudget.budgets.a]\nflops = "OLD" # why\n', "a.flops", "OLD", "NEW", None),
        ('[tool.flopbudget.budgets.a]\r\nflops="OLD"\r\n', "a.flops", "OLD", "NEW", None),
        ('[tool.flopbudget.budgets.a]\nflops = "OLD"', "a.flops", "OLD", "NEW", None),
        ("[tool.flopbudget.budgets.a]\nflops = 'OLD'\n", "a.flops", "OLD", "NEW", None),
        ('[tool]\nflopbudget.budgets.a.flops  =  "OLD"\t#\n', "a.flops", "OLD", "NEW", None),
        ('[tool.flopbudget]\nbudgets.a.flops.max = "OLD"\n', "a.flops.max", "OLD", "NEW", None),
        (
            '[tool.flopbudget.budgets]\na={ flops ={max="OLD" , min = 1 }, ops=2 } # c\n',
            "a.flops.max",
            "OLD",
            "NEW",
            None,
        ),
        ('[tool.flopbudget.budgets.a.flops]\n  max = "OLD"\n', "a.flops.max", "OLD", "NEW", None),
        (
            '[tool.flopbudget.budgets.a]\nops=1\n[x]\ny=1\n[tool.flopbudget.budgets.b]\nops="OLD"',
            "b.ops",
            "OLD",
            "NEW",
            None,
        ),
        (
            '[tool.flopbudget.budgets."b c"]\nops="OLD"\n[[tool.flopbudget.match]]\nbudget="b c"\n',
            "b c.ops",
            "OLD",
            "NEW",
            None,
        ),
        ("[tool.flopbudget.budgets.a]\nops = 12_345 #\n", "a.ops", 12345, 1234567, "1_234_567"),
        ("[tool.flopbudget.budgets.a]\nops = 12345 #\n", "a.ops", 12345, 1234567, "1234567"),
        ("[tool.flopbudget.budgets.a]\nops = 1.5e9\n", "a.ops", 1.5e9, 12.25, "12.25"),
    ],
    ids=[
        "comment",
        "CRLF",
        "no newline at the end",
        "literal",
        "dotted from the root",
        "dotted to the bound",
        "inline",
        "table of a limit",
        "out of order",
        "quoted name",
        "grouped digits",
        "plain digits",
        "float",
    ],
)
def test_nothing_but_the_value_changes(
    before: str, path: str, old: Written, new: Written, after: str | None
) -> None:
    token = {"OLD": "OLD", 12345: "12_345" if "_" in before else "12345", 1.5e9: "1.5e9"}[old]
    assert before.count(token) == 1
    text, said = rewrite(before, [edit(path, old, new)])
    assert text == before.replace(token, after or str(new))
    assert len(said) == 1


def test_every_change_is_said_as_it_is_written() -> None:
    before = "[tool.flopbudget.budgets.a]\nflops = '3.7 GFLOP'\nops = 1_000\n"
    _, said = rewrite(before, [edit("a.flops", "3.7 GFLOP", "3 GFLOP"), edit("a.ops", 1000, 2000)])
    assert said == (
        f"{WHERE}.a.flops: '3.7 GFLOP' -> '3 GFLOP' (tightened)",
        f"{WHERE}.a.ops: 1_000 -> 2_000 (tightened)",
    )


@pytest.mark.parametrize(
    "now",
    ["", "[tool]\nflopbudget = 3\n", "[tool.flopbudget.budgets.a]\nops = 4\n"],
    ids=["gone", "no table", "another value"],
)
def test_a_value_that_someone_else_changed_is_not_overwritten(now: str) -> None:
    with pytest.raises(SettingsError) as caught:
        rewrite(now, [edit("a.ops", 3, 5)])
    assert str(caught.value) == f"{WHERE}.a.ops: was changed while the tests ran; run them again"


_SPACE = st.text(" \t", max_size=2)
_COMMENT = st.text(string.ascii_letters + ' "=[]#\u00b5', max_size=8).map(lambda text: f"#{text}")


@st.composite
def _documents(draw: st.DrawFn) -> tuple[str, str]:
    """A settings file with three values, and the same with other values."""
    end = draw(st.sampled_from(["\n", "\r\n"]))
    tails = [draw(_SPACE) + draw(st.just("") | _COMMENT) + end for _ in range(6)]
    equals = [draw(_SPACE) + "=" + draw(_SPACE) for _ in range(4)]
    quote = draw(st.sampled_from("\"'"))
    blank = draw(st.sampled_from(["", end, f"# note{end}"]))
    last = draw(st.sampled_from([end, ""]))

    def page(flops: str, ops: str, peak: str) -> str:
        return (
            f"[project]{tails[0]}name{equals[0]}'x'{tails[1]}{blank}"
            f"[tool.flopbudget.budgets.a]{tails[2]}"
            f"flops{equals[1]}{quote}{flops}{quote}{tails[3]}{blank}"
            f"ops.max{equals[2]}{ops}{tails[4]}"
            f"[tool.other]{tails[5]}"
            f"[tool.flopbudget.budgets.b]{end}"
            f"peak_memory{equals[3]}{{ max = {quote}{peak}{quote}, severity='warn' }}{last}"
        )

    return page("1 GFLOP", "10", "1 MiB"), page("2.5 GFLOP", "7", "3 KiB")


@given(_documents())
def test_all_other_bytes_of_any_layout_stay(pages: tuple[str, str]) -> None:
    before, after = pages
    edits = [
        edit("a.flops", "1 GFLOP", "2.5 GFLOP"),
        edit("a.ops.max", 10, 7),
        edit("b.peak_memory.max", "1 MiB", "3 KiB"),
    ]
    text, said = rewrite(before, edits)
    assert text == after
    assert tomllib.loads(text)["tool"]["flopbudget"]["budgets"]["a"]["ops"] == {"max": 7}
    assert len(said) == 3


FILE = b"[tool.flopbudget.budgets.a]\r\nops = 3 # three\r\n"


def test_a_file_keeps_its_line_endings_its_mode_and_the_link_to_it(tmp_path: Path) -> None:
    real = tmp_path / "real.toml"
    real.write_bytes(FILE)
    real.chmod(0o640)
    link = tmp_path / "pyproject.toml"
    link.symlink_to(real)
    said = rewrite_file(link, [edit("a.ops", 3, 5)])
    assert said == (f"{WHERE}.a.ops: 3 -> 5 (tightened)",)
    assert link.is_symlink()
    assert real.read_bytes() == FILE.replace(b"= 3", b"= 5")
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert sorted(tmp_path.iterdir()) == [link, real]


@pytest.mark.parametrize("content", [None, b"ops = \xff", b"[tool"], ids=["gone", "latin-1", "cut"])
def test_a_file_that_cannot_be_rewritten_is_named_and_left(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "pyproject.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        rewrite_file(path, [edit("a.ops", 3, 5)])
    assert str(caught.value).startswith(f"{path}: cannot be rewritten: ")
    assert not path.exists() if content is None else path.read_bytes() == content
