"""Imports only point downwards, and the heavy ones stay where they belong."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "embedllm"
LAYERS = [  # a module may import those of its own layer and of the layers before it
    {"errors"},
    {
        "targets",
        "runs",
        "run_lock",
        "study",
        "provenance",
        "quiet",
        "config",
        "hydra_errors",
        "launch",
        "processes",
        "pieces",
        "partial_array",
    },
    {
        "prompt",
        "tokenization",
        "pooling",
        "losses",
        "data",
        "model_cache",
        "tiny_model",
        "embedded_models",
        "model_source",
    },
    {"decoder", "decoder_config", "backbone"},
    {"batches", "kernels"},
    {"adapter_files", "adapter_spec", "lora", "adapter"},
    {"centring", "model_spec", "storage", "blueprint", "embedder"},
    {"scan", "encode_file", "kept"},
    {
        "eval",
        "tracking",
        "engine",
        "memory",
        "start_line",
        "checkpoint",
        "datamodule",
        "selection",
        "module",
        "callbacks",
        "mteb_callback",
        "training",
        "estimate",
    },
    {"scoring", "analysis", "report", "recipe", "export", "synth", "doctor"},
    {"scorebook", "development", "tracked"},
    {"fine_tune", "synth_settings"},
    {"job", "scan_settings", "scan_job", "synth_job", "outcomes"},
    {"sweep"},
    {"reproduction", "dashboard"},
    {"commands"},
    {"train", "cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
ONLY_IN = {
    "mteb": {"eval"},
    "wandb": {"tracking"},
    "wandb_workspaces": {"tracking"},
    "sentence_transformers": {"export", "eval"},
    "lightning": {"checkpoint", "module", "datamodule", "callbacks", "mteb_callback", "training"},
    "hydra": {"train", "recipe", "tracking", "hydra_errors", "synth_settings", "reproduction"},
    "omegaconf": {"train", "sweep", "config", "hydra_errors", "synth_settings", "reproduction"},
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def part(path: Path) -> str:
    """Name a file by the module or subpackage below ``embedllm`` that it belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(str(node.module))
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    own = LEVEL[part(path)]
    ours = [name.split(".")[1] for name in imported(path) if name.startswith("embedllm.")]
    assert [name for name in ours if LEVEL[name] > own] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_packages_stay_in_their_rooms(path: Path) -> None:
    packages = {name.split(".")[0] for name in imported(path)}
    assert [name for name in packages & set(ONLY_IN) if part(path) not in ONLY_IN[name]] == []


@pytest.mark.parametrize(
    "module", ["embedllm", "embedllm.train", "embedllm.cli", "embedllm.job", "embedllm.eval.score"]
)
def test_importing_the_programs_imports_nothing_heavy(module: str) -> None:
    check = f"import sys, {module}; print(sorted({{'torch', 'mteb', 'transformers', 'lightning'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
