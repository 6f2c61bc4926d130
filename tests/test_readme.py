"""Every command of the README runs; the tiny model stands in for the real one."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NEEDS_HUB = ("model=qwen3_0_6b", "TwentyNewsgroups")


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    joined = "".join(blocks).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.startswith(("python", "embedllm"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_path: Path) -> Path:
    """A folder with the files that the README speaks of."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "my-decoder").symlink_to(tiny_path)
    words = ("river", "engine", "bread")
    rows = [f"the {word} number {i} is here,{word}" for i in range(8) for word in words]
    (folder / "my-labels.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    for name in ("cluster_stackoverflow20.csv", "pkg_debian_sections.csv"):
        (folder / name).write_text((folder / "my-labels.csv").read_text())
    (folder / "my-pairs.csv").write_text("sentence1,sentence2,score\na cat,a dog,1\na cat,the cat,4\nsky,car,0\n")
    (folder / "my-texts.txt").write_text(
        "".join(f"Text {i} is about the {word} here.\n" for i in range(8) for word in words)
    )
    pairs = [f"the {word} number {i},a {word} of {i} metres" for i in range(6) for word in words]
    (folder / "my-training.csv").write_text("anchor,positive\n" + "\n".join(pairs) + "\n")
    _make_adapter(tiny_path, folder / "my-adapter")
    return folder


def _make_adapter(base: Path, folder: Path) -> None:
    """Write what PEFT writes for a causal language model, its weights all random."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)


@pytest.mark.slow
@pytest.mark.parametrize("command", commands())
def test_command_runs(command: str, folder: Path) -> None:
    words = shlex.split(command)
    if words[0] == "python":
        more = [word for word in ("model=tiny", "eval.max_documents=30") if word.split("=")[0] not in command]
        more = [word for word in more if not (word == "model=tiny" and "model.name" in command)]
        if "model.layers=20" in command:
            words[words.index("model.layers=20")] = "model.layers=1"
        words = [sys.executable, str(ROOT / "train.py"), *words[2:], *more]
    else:
        words = [sys.executable, "-m", "embedllm.cli", *words[1:]]
        words = [str(next(folder.glob(word))) if "*" in word else word for word in words]
        if "synth" in words and "--inspect" not in words and "generator=" not in command:
            words += ["generator.model=embedded:tiny", "mine.model=embedded:tiny", "gates=none"]
    environment = {**os.environ, "EMBEDLLM_DATA": str(folder), "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    if any(name in command for name in NEEDS_HUB):
        assert done.returncode in (1, 2), done.stderr
        assert "Traceback" not in done.stderr
    else:
        assert done.returncode == 0, done.stderr


def test_the_python_of_the_readme_runs(tiny_path: Path) -> None:
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "Embedder.load" in b]
    names: dict[str, object] = {}
    exec(block.replace("smollm2_135m", "tiny"), names)
    assert names["vectors"].shape == (2, 32)  # type: ignore[attr-defined]


def test_the_head_of_the_readme_works(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The class as printed, by the path that its YAML names."""
    from embedllm import Embedder
    from embedllm.storage import build_head

    (block,) = [b for b in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "my_heads.py" in b]
    (tmp_path / "my_heads.py").write_text(block)
    monkeypatch.syspath_prepend(str(tmp_path))
    head = build_head({"_target_": "my_heads.FirstTokenPooling", "pool_over": "all", "normalize": True}, 32)
    model = Embedder.from_pretrained(str(tiny_path), head=lambda size: head)
    together, alone = model.encode(["a car", "a much longer text"]), model.encode(["a car"])
    assert abs(together[0] - alone[0]).max() < 1e-6
