"""How much longer a grown workload takes than its base, in one process, by turns.

Two models in one process share its heap and its luck, so that this is the truest value there
is; prints it for each name given, such as `w50-5`, with its standard error:

    python true_growth.py SECONDS NAME ...
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from dataclasses import replace

from blocks import built

from pytest_flopbudget.core.ratios import log_ratio
from pytest_flopbudget.core.turns import TurnPlan, take_turns
from pytest_flopbudget.core.witness import Witness
from pytest_flopbudget.meters.slices import SliceTimer

PARTS = 10
"""Of the turns, from whose spread the error is found."""


def main() -> None:
    plan = TurnPlan(side_s=float(sys.argv[1]) / 2)
    for name in sys.argv[2:]:
        workload, growth = name.split("-")
        base, head = (SliceTimer(built(workload, units), (), {}) for units in (0, int(growth)))
        with base, head:
            series = take_turns(base, head, plan, head_leads=False)
        parts = [
            log_ratio(replace(series, turns=series.turns[part::PARTS]), Witness.CPU)
            for part in range(PARTS)
        ]
        error = statistics.stdev(parts) / math.sqrt(PARTS)
        ratio = math.exp(log_ratio(series, Witness.CPU))
        print(json.dumps({"name": name, "growth": ratio - 1, "error": ratio * error}), flush=True)


if __name__ == "__main__":
    main()
