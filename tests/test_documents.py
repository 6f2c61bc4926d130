"""All commands, Python and YAML of README.md and docs/ run; the tiny model stands in for the real one.

Blocks are run in the order of the pages, in a copy of the checkout, as later commands use what earlier ones made.
``sh`` and ``text`` blocks are not run. A Python or YAML block whose first line names a file is that file.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import pytest
import yaml
from warm_programs import WarmPrograms

from embedllm.targets import check_targets

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    *(
        f"docs/{name}.md"
        for name in (
            "index",
            "getting_started",
            "concepts",
            "scoring",
            "training",
            "sweeps",
            "pairs",
            "analysis",
            "serving",
            "extend",
            "architecture",
            "api",
            "paper",
            "studies",
            "troubleshooting",
        )
    ),
]
LANGUAGES = {"bash", "sh", "python", "yaml", "text"}
NEEDS_HUB = ("model=qwen3_0_6b", "TwentyNewsgroups")


class Block(NamedTuple):
    """A block of code of a page."""

    page: str
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that its first line names."""
        named = re.match(r"# ([\w/.]+\.(?:py|yaml))(?::|$)", self.text.partition("\n")[0])
        return named[1] if named else None


def read_blocks(page: str) -> list[Block]:
    """Return the fenced blocks; those of directives, such as ``{toctree}``, are no code."""
    blocks: list[Block] = []
    language: str | None = None
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.startswith("```"):
            if language is not None:
                blocks[-1] = blocks[-1]._replace(text=blocks[-1].text + line)
        elif language is None:
            language = line.removeprefix("```").strip()
            blocks.append(Block(page, language, ""))
        else:
            language = None
    return [block for block in blocks if not block.language.startswith("{")]


BLOCKS = [block for page in PAGES for block in read_blocks(page)]
FILES = [block for block in BLOCKS if block.file]
SNIPPETS = [block for block in BLOCKS if block.language == "python" and not block.file]


def commands() -> list[str]:
    joined = "".join(block.text for block in BLOCKS if block.language == "bash").replace("\\\n", " ")
    lines = [
        re.sub(r"\s+#.*", "", line).strip() for line in joined.splitlines() if line.startswith(("python", "embedllm"))
    ]
    return list(dict.fromkeys(lines))


TESTS = [command for command in commands() if command.startswith("python -m pytest")]
PROGRAMS = [command for command in commands() if command not in TESTS]


def name_of(block: Block) -> str:
    return block.file or f"{block.page}:{block.text.splitlines()[0][:40]}"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, tiny_path: Path) -> Path:
    """A copy of the checkout with the files that the pages write, and those that they speak of."""
    folder = tmp_path_factory.mktemp("user")
    for name in ("embedllm", "conf", "hydra_plugins", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    for block in FILES:
        path = folder / str(block.file)
        assert not path.exists(), f"{block.page} would write over {block.file}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
    (folder / "my-decoder").symlink_to(tiny_path)
    _write_data(folder)
    _make_adapter(tiny_path, folder / "my-adapter")
    return folder


def _write_data(folder: Path) -> None:
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
    (folder / "my-tickets.csv").write_text("question,answer\n" + "\n".join(pairs) + "\n")
    sentences = (ROOT / "embedllm/data/embedded/wikipedia_sentences.csv").read_text(encoding="utf-8").splitlines()[1:61]
    texts = [line.partition(",")[2].strip('"').rstrip(".") for line in sentences]
    documents = [". ".join(texts[i : i + 3]) + "." for i in range(0, len(texts), 3)]
    (folder / "my-documents.txt").write_text("\n".join(documents) + "\n", encoding="utf-8")


def _make_adapter(base: Path, folder: Path) -> None:
    """Write what PEFT writes for a causal language model, its weights all random."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)


def environment(folder: Path) -> dict[str, str]:
    more = {"EMBEDLLM_DATA": str(folder), "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
    return {**os.environ, **more}


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def programs(checkout: Path) -> Iterator[WarmPrograms]:
    made = WarmPrograms(checkout, environment(checkout))
    yield made
    made.close()


def test_every_page_is_tested() -> None:
    found = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")}
    assert found == set(PAGES) - {"README.md"}


def test_every_block_says_its_language() -> None:
    assert {block.language for block in BLOCKS} <= LANGUAGES


def test_every_yaml_block_is_a_file_of_conf() -> None:
    named = [block.file for block in BLOCKS if block.language == "yaml"]
    assert all(str(name).startswith("conf/") for name in named), named


@pytest.mark.slow
@pytest.mark.parametrize("command", PROGRAMS)
def test_command_runs(command: str, checkout: Path, programs: WarmPrograms) -> None:
    words = shlex.split(command)
    if words[0] == "python":
        more = [word for word in ("model=tiny", "eval.max_documents=30") if word.split("=")[0] not in command]
        more = [word for word in more if not (word == "model=tiny" and "model.name" in command)]
        if "model.layers=20" in command:
            words[words.index("model.layers=20")] = "model.layers=1"
        words = ["train.py", *words[2:], *more]
    else:
        words = ["-m", "embedllm.cli", *words[1:]]
        words = [str(next(checkout.glob(word))) if "*" in word else word for word in words]
        if "synth" in words and "--inspect" not in words and "generator=" not in command:
            words += ["generator.model=embedded:tiny", "mine.model=embedded:tiny", "gates=none"]
    again = "trainer.devices" in command  # it starts itself again as it was started
    done = run(words, checkout) if again else programs.run(words)
    if any(name in command for name in NEEDS_HUB):
        assert done.returncode in (1, 2), done.stderr
        assert "Traceback" not in done.stderr
    else:
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_tests_in_the_pages_pass(checkout: Path) -> None:
    """Those that a newcomer writes, and those that find what the newcomer has written."""
    paths = dict.fromkeys(word for command in TESTS for word in shlex.split(command)[3:])
    assert {str(block.file) for block in FILES if str(block.file).startswith("tests/")} <= set(paths)
    done = run(["-m", "pytest", "-q", "-p", "no:cacheprovider", *paths], checkout)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("block", [block for block in FILES if block.language == "yaml"], ids=name_of)
def test_the_yaml_of_a_page_composes(block: Block, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    from embedllm.config import Config, check_known
    from embedllm.synth_settings import SynthConfig

    monkeypatch.syspath_prepend(str(checkout))
    ConfigStore.instance().store("schema", Config)
    ConfigStore.instance().store("synth_schema", SynthConfig)
    group, _, option = str(block.file).removeprefix("conf/").removesuffix(".yaml").rpartition("/")
    root = "conf"
    if group.startswith("synth/"):
        root, group = "conf/synth", group.removeprefix("synth/")
    with initialize_config_dir(str(checkout / root), version_base="1.3"):
        composed = compose("config", [f"{group}={option}"], return_hydra_config=True)
    plain = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(plain, dict)
    hydra = plain.pop("hydra")
    if group == "hydra/launcher":
        plain = {"launcher": {**yaml.safe_load(block.text), "_target_": hydra["launcher"]["_target_"]}}
    elif root == "conf":
        check_known(plain)
    check_targets(plain)


@pytest.fixture
def server() -> Iterator[str]:
    """The address of what answers as OpenAI's endpoint for embeddings does."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
            rows = [{"object": "embedding", "index": i, "embedding": [0.6, 0.8]} for i in range(len(texts))]
            usage = {"prompt_tokens": 0, "total_tokens": 0}
            body = json.dumps({"object": "list", "data": rows, "model": asked["model"], "usage": usage}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    made = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=made.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


@pytest.mark.parametrize(
    "block",
    [pytest.param(b, marks=[pytest.mark.slow] if "embedllm.eval" in b.text else [], id=name_of(b)) for b in SNIPPETS],
)
def test_the_python_of_a_page_runs(block: Block, checkout: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code = compile(re.sub(r"127\.0\.0\.1:\d+", server, block.text.replace("smollm2_135m", "tiny")), block.page, "exec")
    for module in re.findall(r"^(?:from|import) (\w+)", block.text, re.MULTILINE):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    monkeypatch.chdir(checkout)
    names: dict[str, object] = {}
    exec(code, names)
    if "embedder.encode" in block.text and "vectors" in names:
        assert names["vectors"].shape == (2, 32)  # type: ignore[attr-defined]
