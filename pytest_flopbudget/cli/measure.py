"""Measure one callable, with no test, and print what it costs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pytest_flopbudget.cli.exits import Exit
from pytest_flopbudget.core.errors import FlopBudgetError, MeasureError, nearest

if TYPE_CHECKING:
    from pytest_flopbudget.core.measurement import Measurement
    from pytest_flopbudget.core.report import Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `flopbudget measure`."""
    parser.add_argument(
        "target",
        metavar="FILE.py:CALLABLE|MODULE:CALLABLE",
        help="what to call; one that returns a torch module when called bare is its factory",
    )
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="DTYPE[SIZES]",
        help="a tensor argument, such as 'f32[1,3,224,224]'; give it again for a second one",
    )
    parser.add_argument(
        "--train",
        action="store_true",
        help="put a module in training mode and run backward from its summed outputs; without "
        "it a module is put in evaluation mode and run without gradients",
    )
    parser.add_argument(
        "--fake",
        action="store_true",
        help="make the module and the inputs without memory, and compute nothing: every exact "
        "metric of a model larger than this machine",
    )
    parser.add_argument(
        "--cross-check",
        action="store_true",
        help="also count with torch's FlopCounterMode and fvcore, and explain each difference",
    )
    parser.add_argument(
        "--latency",
        action="store_true",
        help="time further calls as well, and hold them to the machine's roof",
    )
    parser.add_argument(
        "--lines", action="store_true", help="show the source lines that spent the most"
    )
    parser.add_argument(
        "--process-memory",
        action="store_true",
        help="take the allocator's peak, scratch inside operators included, and the process's "
        "too; they are of this machine",
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="PATH",
        help="write a report of this one measurement to PATH, or to standard output",
    )
    parser.add_argument(
        "--html", type=Path, metavar="PATH", help="write the same report as one HTML page"
    )


def run(args: argparse.Namespace) -> Exit:
    """Measure, print the table or the report."""
    from pytest_flopbudget.render.terminal import render_measurement

    if args.cross_check and args.json == "-":
        raise MeasureError(
            "--cross-check is printed beside the table, which --json replaces; "
            "write the report to a file: --json PATH"
        )
    if args.fake and args.latency:
        raise MeasureError("--fake computes nothing, so that there is no latency: leave one out")
    fn = _callable(args.target, is_fake=args.fake)
    with _made(is_fake=args.fake):
        inputs = [_tensor(text) for text in args.input]
    try:
        with _made(is_fake=args.fake):
            measurement = _measured(fn, inputs, args)
    except FlopBudgetError:
        raise
    except Exception as error:
        hint = "" if inputs else "; does it need an argument, such as --input 'f32[1,3,224,224]'?"
        said = next(iter(str(error).splitlines()), "")
        raise MeasureError(f"{args.target} raised {type(error).__name__}: {said}{hint}") from error
    if args.json is not None or args.html is not None:
        _write_report(_report(measurement, args.target), args.json, args.html)
    if args.json != "-":
        sys.stdout.write(render_measurement(measurement, title=args.target))
    if args.cross_check:
        sys.stdout.write(_second_opinions(fn, inputs, measurement, is_training=args.train))
    return Exit.WITHIN


def _measured(fn: Callable[..., Any], inputs: list[Any], args: argparse.Namespace) -> Measurement:
    import torch

    from pytest_flopbudget.meters.latency import LatencyTimer
    from pytest_flopbudget.meters.measure import measure, time_call, with_backward
    from pytest_flopbudget.session.lock import machine_lock

    if isinstance(fn, torch.nn.Module):
        fn.train(args.train)
    gradients: AbstractContextManager[object] = (
        torch.enable_grad() if args.train else torch.no_grad()
    )
    with gradients:
        measurement = measure(
            fn, *inputs, train=args.train, lines=args.lines, process_memory=args.process_memory
        )
        if args.latency:
            timed = with_backward(fn) if args.train else fn
            with machine_lock():
                return time_call(
                    measurement, LatencyTimer(), timed, tuple(inputs), {}, has_utilization=True
                )
    return measurement


@contextmanager
def _made(*, is_fake: bool) -> Iterator[None]:
    """A block in which modules and tensors are made, without memory if they are to be fake."""
    if not is_fake:
        yield
        return
    from pytest_flopbudget.meters.fake import fake

    with fake():
        yield


def _second_opinions(
    fn: Callable[..., Any], inputs: list[Any], measurement: Measurement, *, is_training: bool
) -> str:
    from pytest_flopbudget.meters.second_opinion import cross_check
    from pytest_flopbudget.render.second_opinion import render_opinions

    opinions = cross_check(fn, tuple(inputs), measurement, train=is_training)
    return render_opinions(opinions, measurement)


def _callable(target: str, *, is_fake: bool) -> Callable[..., Any]:
    """The callable that the target names, or the module that it makes."""
    from inspect import Parameter, signature

    import torch

    place, separator, path = target.rpartition(":")
    if not separator or not place or not path:
        raise MeasureError(f"{target!r}: write FILE.py:CALLABLE or MODULE:CALLABLE")
    found: Any = _load(place)
    for name in path.split("."):
        if not hasattr(found, name):
            guess = nearest(name, [n for n in dir(found) if not n.startswith("_")])
            hint = f"; did you mean {guess!r}?" if guess else ""
            raise MeasureError(f"{place}: has no {name!r}{hint}")
        found = getattr(found, name)
    if not callable(found):
        raise MeasureError(f"{target}: is a {type(found).__name__}, which cannot be called")
    if isinstance(found, torch.nn.Module):
        return found
    try:
        required = [
            parameter
            for parameter in signature(found).parameters.values()
            if parameter.default is Parameter.empty
            and parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        ]
    except (TypeError, ValueError):
        required = []
    if not required:
        with _made(is_fake=is_fake):
            made = found()
        if isinstance(made, torch.nn.Module):
            return made
    return found  # type: ignore[no-any-return]  # checked to be callable above


def _load(place: str) -> ModuleType:
    if not place.endswith(".py"):
        sys.path.insert(0, str(Path.cwd()))
        try:
            return import_module(place)
        except ModuleNotFoundError as error:
            raise MeasureError(
                f"{place}: cannot be imported: {error}; for a file write {place}.py:CALLABLE"
            ) from error
    path = Path(place)
    spec = spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise MeasureError(f"{place}: there is no such file")
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.resolve().parent))
    spec.loader.exec_module(module)
    return module


def _tensor(text: str) -> Any:
    """A tensor of random numbers, or of zeros where the dtype is no floating-point one."""
    import torch

    from pytest_flopbudget.meters.dtypes import SHORT

    name, bracket, rest = text.partition("[")
    sizes = rest.removesuffix("]")
    if not bracket or not rest.endswith("]"):
        raise MeasureError(f"--input {text}: write a dtype and sizes, such as f32[1,3,224,224]")
    dtype = SHORT.get(name)
    if dtype is None:
        guess = nearest(name, SHORT) or "f32"
        raise MeasureError(f"--input {text}: unknown dtype {name!r}; did you mean {guess!r}?")
    try:
        shape = [int(size) for size in sizes.split(",")] if sizes.strip() else []
    except ValueError:
        raise MeasureError(f"--input {text}: the sizes must be whole numbers") from None
    if any(size < 0 for size in shape):
        raise MeasureError(f"--input {text}: a size cannot be negative")
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(shape, dtype=dtype)
    return torch.zeros(shape, dtype=dtype)


def _report(measurement: Measurement, target: str) -> Report:
    from pytest_flopbudget.core.report import Report, TestOutcome, TestReport
    from pytest_flopbudget.meters.machine import machine_facts
    from pytest_flopbudget.meters.versions import versions
    from pytest_flopbudget.store.git import git_state

    return Report(
        machine=machine_facts(),
        versions=versions(),
        git=git_state(Path.cwd()),
        tests=(
            TestReport(
                id=target,
                file=target.rpartition(":")[0],
                line=1,
                outcome=TestOutcome.PASSED,
                measurements=(measurement,),
            ),
        ),
    )


def _write_report(report: Report, json_path: str | None, html_path: Path | None) -> None:
    import json

    from pytest_flopbudget.core.codec import report_to_json
    from pytest_flopbudget.render.html import render_html
    from pytest_flopbudget.store.files import write_report, write_text

    if json_path == "-":
        sys.stdout.write(json.dumps(report_to_json(report), indent=1) + "\n")
    elif json_path is not None:
        write_report(report, Path(json_path))
    if html_path is not None:
        write_text(html_path, render_html(report))
