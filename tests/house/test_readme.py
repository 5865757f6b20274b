"""What the README shows is what happens: every command, file, output and figure in it."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pytest_flopbudget import measure
from pytest_flopbudget.cli import main as command_line

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TITLES = {
    "ResNet-18": "resnet18",
    "ViT-B/16": "vit_b_16",
    "MobileNetV2": "mobilenet_v2",
    "EfficientNet-B0": "efficientnet_b0",
}
TIMES = "\N{MULTIPLICATION SIGN}"


def block(mark: str) -> str:
    """The fenced block below the comment of this name."""
    found = re.search(rf"<!-- {re.escape(mark)} -->\n```\w*\n(.*?)```\n", README, re.DOTALL)
    assert found is not None, f"README.md has no block marked {mark!r}"
    return found[1]


def row(title: str) -> list[str]:
    """The cells of the one table row that starts so."""
    (line,) = [line for line in README.splitlines() if line.startswith(f"| {title} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def lines(text: str) -> list[str]:
    """Its lines with single spaces, since the widths of columns depend on the other rows."""
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs pytest in a process of its own, on a terminal of 80 columns."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=kept | {"COLUMNS": "80", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def models() -> ModuleType:
    path = ROOT / "examples" / "vision" / "models.py"
    spec = importlib.util.spec_from_file_location("readme_models", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def torch_counts(fn: Callable[..., Any], *args: Any) -> int:
    """FLOPs as torch's own counter sees them, of contractions alone."""
    with FlopCounterMode(display=False) as counter:
        fn(*args)
    return int(counter.get_total_flops())


def test_the_rows_of_resnet18_are_what_pytest_prints() -> None:
    result = run(ROOT, "examples/vision", "-k", "resnet18")
    assert result.returncode == 0, result.stdout + result.stderr

    def without_times(rows: list[str]) -> list[str]:
        return [
            re.sub(r"latency [\d.]+ m?s <= 2 s \S+ %", "latency T <= 2 s P %", text)
            for text in rows
        ]

    shown = without_times(lines(block("output: vision")))
    printed = without_times([text for text in lines(result.stdout) if "within" in text])
    assert "test_resnet18 latency T <= 2 s P % within" in shown
    assert printed == shown


def test_the_failing_sentence_is_what_pytest_prints() -> None:
    result = run(ROOT / "examples" / "over_budget")
    assert result.returncode == 1, result.stdout + result.stderr
    assert block("output: over_budget") in result.stdout


def committed(folder: Path, report: Path) -> None:
    """Commits what is in the folder, and runs its budgets, which must hold."""
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "add", "."], cwd=folder, check=True)
    subprocess.run(["git", *identity, "commit", "-qm", "x"], cwd=folder, check=True)
    result = run(folder, f"--flopbudget-json={report}")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_comment_is_that_of_a_doubled_mlp_with_a_raised_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, reports = tmp_path / "project", [tmp_path / "base.json", tmp_path / "head.json"]
    folder.mkdir()
    example = ROOT / "examples" / "over_budget"
    settings = (example / "pyproject.toml").read_text(encoding="utf-8")
    doubled = (example / "test_mlp.py").read_text(encoding="utf-8")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)

    (folder / "pyproject.toml").write_text(settings, encoding="utf-8")
    (folder / "test_mlp.py").write_text(
        re.sub("HIDDEN = 400.*", "HIDDEN = 200", doubled), encoding="utf-8"
    )
    committed(folder, reports[0])
    raised = settings.replace('"2 MMAC"', '"4 MMAC"').replace('"4.03 MFLOP"', '"8.05 MFLOP"')
    (folder / "pyproject.toml").write_text(raised, encoding="utf-8")
    (folder / "test_mlp.py").write_text(doubled, encoding="utf-8")
    committed(folder, reports[1])

    assert command_line.main(["comment", *map(str, reports), "--dry-run"]) == 0
    comment = capsys.readouterr().out
    shown = re.search(r"<!-- comment -->\n(.*?)\n<!-- end of comment -->", README, re.DOTALL)
    assert shown is not None

    def without_commits(text: str) -> str:
        return re.sub(r"[0-9a-f]{9} vs [0-9a-f]{9}", "BASE vs HEAD", text)

    assert "BASE vs HEAD" in without_commits(shown[1])
    begins = comment[comment.index("###") : comment.index("<details>")].rstrip()
    assert without_commits(shown[1]) == without_commits(begins)


def test_an_own_project_fails_first_and_passes_with_its_budget_written(
    tmp_path: Path,
) -> None:
    test = tmp_path / "test_classifier.py"
    source = block("file: test_classifier.py")
    test.write_text(source, encoding="utf-8")
    assert "`pytest -q test_classifier.py`" in README
    first = run(tmp_path, "-q", "test_classifier.py")
    assert first.returncode == 1, first.stdout + first.stderr
    assert block("output: first run") in first.stdout

    marker = '@pytest.mark.flop_budget("classifier")'
    assert f"`{marker}`" in README
    changed = re.sub("@pytest.mark.*", marker, source)
    assert changed != source
    test.write_text(changed, encoding="utf-8")
    settings = tmp_path / "pyproject.toml"
    settings.write_text(block("file: pyproject.toml"), encoding="utf-8")
    second = run(tmp_path, "-q", "test_classifier.py")
    assert second.returncode == 0, second.stdout + second.stderr
    assert block("output: second run") in second.stdout


def test_the_python_snippet_prints_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    exec(block("python: measure"), {})  # noqa: S102 - the README's own lines
    assert capsys.readouterr().out == block("output: measure")


@pytest.mark.parametrize("title", TITLES)
def test_the_table_of_models_is_measured(title: str, models: ModuleType) -> None:
    with torch.device("meta"):
        model = getattr(models, TITLES[title])()
    # Counts depend on shapes alone, and drawing the weights would take the most time.
    model, image = model.to_empty(device="cpu"), torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.zero_()
        seen = torch_counts(model, image)
        m = measure(model, image)
    assert row(title) == [
        title,
        f"{m.macs / 1e9:.3f}",
        f"{2 * m.macs / 1e9:.3f}",
        f"{m.flops:,}",
        f"{m.params:,}",
        f"{seen / (2 * m.macs):.3f} {TIMES}",
    ]
    assert m.uncounted == ()


def test_torch_misses_the_attention_modules_of_vit_b_16() -> None:
    tokens, width = 14 * 14 + 1, 768
    attention = nn.MultiheadAttention(width, 12, batch_first=True).eval()
    x = torch.rand(1, tokens, width)
    with torch.inference_mode():
        assert torch_counts(lambda: attention(x, x, x, need_weights=False)) == 0
    missed = 12 * (tokens * 4 * width * width + 2 * tokens * tokens * width)
    share = 1 - missed / 17_563_828_224
    title = "torch's own counter, ViT-B/16 with `nn.MultiheadAttention`, as in torchvision"
    assert row(title)[1].startswith(f"{share:.3f} {TIMES}")


def test_torch_sees_nothing_of_an_lstm_and_of_a_transformer_encoder() -> None:
    with torch.inference_mode():
        lstm = torch_counts(nn.LSTM(32, 64), torch.rand(10, 4, 32))
        layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
        encoder = nn.TransformerEncoder(layer, 2).eval()
        transformer = torch_counts(encoder, torch.rand(2, 32, 64))
    assert row("torch's own counter, `nn.LSTM`")[1] == str(lstm)
    title = "torch's own counter, `nn.TransformerEncoder` in inference mode"
    assert row(title)[1] == str(transformer)


def test_torch_counts_the_backward_of_mobilenet_v2_several_times(models: ModuleType) -> None:
    with torch.device("meta"):
        model, image = models.mobilenet_v2().train(), torch.rand(1, 3, 224, 224)

    def train() -> None:
        model(image).logits.sum().backward()

    ratio = torch_counts(train) / (2 * measure(train).macs)
    title = "torch's own counter, MobileNetV2, forward and backward"
    assert row(title)[1].startswith(f"{ratio:.3f} {TIMES}")


def test_figures_in_billions_follow_from_the_table() -> None:
    params = int(row("ResNet-18")[4].replace(",", ""))
    assert f"ResNet-18 has {params / 1e6:.1f} billion FLOPs" in README
    assert f"it takes {float(row('ResNet-18')[2]):.1f} GFLOP" in README
    assert row("ViT-B/16 has 81.9 billion FLOPs")[1].startswith(
        f"{float(row('ViT-B/16')[2]):.1f} GFLOP"
    )


def test_the_two_commands_install_what_pyproject_and_ci_name() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    setup, tests = block("shell: setup"), block("shell: tests")
    for text in (setup, tests):
        extra = re.search(r'pip install -c (\S+) "\.\[(\w+)\]" && pytest', text)
        assert extra is not None
        assert (ROOT / extra[1]).is_file()
        assert re.search(rf"^{extra[2]} = \[", project, re.MULTILINE)
        assert f"-c {extra[1]}" in ci
    # What CI installs and runs is what the README says.
    assert "[test]" in tests
    assert '[test]"' in ci
    assert tests.endswith("&& pytest -n auto --dist loadscope\n")
    assert re.search(r"^pytest -n auto --dist loadscope </dev/null$", ci, re.MULTILINE)
    assert setup.endswith("&& pytest examples/vision\n")


def test_the_workflow_is_that_of_the_page_on_the_action() -> None:
    page = (ROOT / "docs" / "action.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n.*?```", README, re.DOTALL)
    assert shown in page


def test_every_command_is_in_the_table_and_takes_what_it_shows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = re.findall(r"^\| `flopbudget (\w+)([^`]*)`", README, re.MULTILINE)
    assert [name for name, _ in shown] == list(command_line._COMMANDS)
    for name, arguments in shown:
        with pytest.raises(SystemExit):
            command_line.main([name, "--help"])
        usage = capsys.readouterr().out
        assert all(option in usage for option in re.findall(r"--[\w-]+", arguments))


def test_every_option_of_the_plugin_that_is_named_is_there() -> None:
    named = set(re.findall(r"--flopbudget[\w-]*", README))
    assert "--flopbudget-json" in named
    help_text = run(ROOT, "--help").stdout
    assert {option for option in named if option not in help_text} == set()


def test_what_is_said_to_be_missing_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert not {"merge", "report", "history", "export"} & set(command_line._COMMANDS)
    assert all(f"`flopbudget {name}`" not in README for name in ("merge", "history", "export"))
    with pytest.raises(SystemExit):
        command_line.main(["measure", "--help"])
    has = capsys.readouterr().out
    options = ("--train", "--fake", "--lines", "--cross-check")
    assert all(option in README and option in has for option in options)


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
    assert "docs/counting.md" in links
    assert [link for link in links if not (ROOT / link).is_file()] == []
