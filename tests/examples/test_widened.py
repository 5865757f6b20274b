"""The vision example as it stands, and with one layer made wider."""

from __future__ import annotations

from typing import Any

# Latency is a matter of the machine, and the budgets for it say nothing of a layer.
EXACT = "--flopbudget-latency=never"


def test_every_example_is_within_its_budget(copy_example: Any, run_pytest: Any) -> None:
    run = run_pytest(copy_example("vision"), EXACT)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "8 passed" in run.stdout


def test_a_wider_last_stage_fails_the_test_and_is_named(copy_example: Any, run_pytest: Any) -> None:
    project = copy_example("vision")
    source = project / "models.py"
    text = source.read_text(encoding="utf-8")
    assert text.count("256, 512]") == 1
    source.write_text(text.replace("256, 512]", "256, 640]"), encoding="utf-8")

    run = run_pytest(project, "test_inference.py::test_resnet18", EXACT)

    def last_stage_and_head(width: int) -> int:
        convolutions = 9 * 256 * width + 3 * 9 * width * width + 256 * width
        return 7 * 7 * convolutions + width * 1000

    macs = 1_814_073_344 - last_stage_and_head(512) + last_stage_and_head(640)
    assert macs == 2_025_341_952
    assert run.returncode == 1, run.stdout + run.stderr
    line = next(line for line in run.stdout.splitlines() if "GMAC" in line)
    assert "used 2.025 GMAC, budget 1.814 GMAC" in line
    assert "(+11.7 %)" in line  # 2.025341952 / 1.814 = 1.1165
    # The three convolutions of 640 to 640 channels: 7 x 7 x 640 x 640 x 9 = 180,633,600
    for layer in ("0.layer.1", "1.layer.0", "1.layer.1"):
        widened = f"resnet.encoder.stages.3.layers.{layer}.convolution"
        assert f"{widened} (aten.convolution, 180.6 MMAC)" in line
