"""Reads what W&B recorded offline, with W&B's own reader (``wandb leet inspect``)."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Record:
    """One offline record of a W&B run."""

    run: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    artifacts: dict[str, list[Path]] = field(default_factory=dict)
    exit_code: int | None = None

    def values(self, metric: str) -> list[tuple[int, float]]:
        """Return step and value of each time that ``metric`` was logged."""
        return [(item["trainer/global_step"], item[metric]) for item in self.history if metric in item]


def read(folder: Path) -> list[Record]:
    """Return the offline records below a folder, the oldest first."""
    return [_read(path) for path in sorted(folder.rglob("offline-run-*/*.wandb"))]


def _read(path: Path) -> Record:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    record = Record()
    for line in done.stdout.splitlines():
        entry = json.loads(line)
        found = entry.get(entry["type"], {})
        match entry["type"]:
            case "run":
                record.run |= found
            case "config":
                record.config |= found.get("update", {})
            case "summary":
                record.summary |= found.get("update", {})
            case "history":
                record.history.append(found["item"])
            case "artifact":
                contents = found["manifest"]["contents"]
                record.artifacts[found["name"]] = [Path(item["local_path"]) for item in contents]
            case "exit":
                record.exit_code = found.get("exit_code", 0)
    return record
