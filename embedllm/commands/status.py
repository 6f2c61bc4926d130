"""``embedllm status``: how far a study is."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from embedllm.commands.base import Commands
from embedllm.study import DONE, FAILED, MISSING, RUNNING, RunState, StudyFolder, time_left

_LONGEST = 160  # characters of a detail


def add_command(commands: Commands) -> None:
    """Add the command to the parser of ``embedllm``."""
    status = commands.add_parser("status", help="say which runs of a study are done, running, failed or missing")
    status.add_argument("study", metavar="STUDY", type=Path, help="the folder of a study, such as runs/mine")
    status.add_argument("--all", action="store_true", help="list runs that are done too")
    status.add_argument("--json", action="store_true", help="write JSON")
    status.set_defaults(run=_status)


def _status(options: argparse.Namespace) -> int:
    states, damaged = StudyFolder(options.study.expanduser()).states()
    left = time_left(states)
    counts = {name: sum(state.state == name for state in states) for name in (DONE, RUNNING, FAILED, MISSING)}
    if options.json:
        found = {**counts, "seconds_left": left, "runs": [asdict(state) for state in states], "damaged": damaged}
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    print(f"{options.study}: {', '.join(f'{count} {name}' for name, count in counts.items())}")
    for line in damaged:
        print(line)
    shown = [state for state in states if options.all or state.state != DONE]
    width = max((len(state.name) for state in shown), default=0)
    for state in sorted(shown, key=lambda state: (RUNNING, FAILED, MISSING, DONE).index(state.state)):
        print(f"  {state.state:8}{state.name:{width}}  {_detail(state)}".rstrip())
    if left != 0:
        print(_time_left(left, counts))
    return 0


def _detail(state: RunState) -> str:
    time = "" if state.seconds is None else duration(state.seconds)
    text = ", ".join(part for part in (time, state.detail) if part)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _time_left(left: float | None, counts: dict[str, int]) -> str:
    if left is None:
        return "time left: not known before a run is done"
    at_once = max(1, counts[RUNNING])
    return f"time left: about {duration(left)} with {at_once} run{'s' * (at_once > 1)} at a time"


def duration(seconds: float) -> str:
    """Return a time as ``45 s``, ``12 min`` or ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    parts: Sequence[str] = [f"{hours} h"] * (hours > 0) + [f"{minutes} min"] * (minutes > 0 or hours == 0)
    return " ".join(parts)
