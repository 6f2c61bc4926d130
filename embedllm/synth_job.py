"""From the settings of ``embedllm synth`` to a pair file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedllm.errors import InputError
from embedllm.synth.draft import Gate, Generator
from embedllm.synth.gates.contamination import Contamination
from embedllm.synth.gates.evaluation_texts import evaluation_files
from embedllm.synth.rows import read_rows
from embedllm.synth.running import SynthPlan, check_output, make_pairs
from embedllm.synth_settings import build
from embedllm.targets import locate


def run_synth(source: str, output: Path, settings: Mapping[str, Any], *, progress: bool = True) -> dict[str, Any]:
    """Make the pairs, or the rest of them, and return the notes of the file.

    Args:
        source: ``FILE``.
        output: the pair file.
        settings: as :func:`embedllm.synth_settings.read_settings` returns them.
        progress: show a bar.

    Raises:
        InputError: something is wrong with the source, a setting or the output.
    """
    if Path(source).expanduser().resolve() == output.expanduser().resolve():
        raise InputError(f"-o: {str(output)!r} is FILE itself; choose another name")
    generator: Generator = build(settings["generator"])
    gates: list[Gate] = [build(gate) for gate in settings["gates"].values() if gate is not None]
    seed = settings["seed"]
    rows = read_rows(source, column=settings["column"], fields=generator.columns, seed=seed, limit=settings["rows"])
    decisive = _decisive({name: value for name, value in settings.items() if name != "mine"})
    held = [gate.tasks for gate in gates if isinstance(gate, Contamination)]
    files = {name: digest for tasks in held for name, digest in evaluation_files(tasks).items()}
    plan = SynthPlan(
        rows,
        output.expanduser(),
        generator,
        gates,
        {**decisive, "files": files},
        seed=seed,
        block=settings["block"],
        copies=settings["copies"],
        max_characters=settings["max_characters"],
    )
    return make_pairs(plan, progress=progress)


def _decisive(node: Any) -> Any:
    """Return settings without those that decide no draft."""
    if not isinstance(node, Mapping):
        return node
    aside = getattr(locate(node["_target_"]), "ASIDE", ()) if "_target_" in node else ()
    return {name: _decisive(value) for name, value in node.items() if name not in aside}


def run_mining(source: str, output: Path, settings: Mapping[str, Any]) -> dict[str, int]:
    """Write a pair file again with hard negatives, and return how many pairs it has and how many got none.

    Args:
        source: ``FILE``, a pair file.
        output: another one.
        settings: as for :func:`run_synth`.

    Raises:
        InputError: something is wrong with the file, a setting or the output.
    """
    from embedllm.synth.mining import Mining, mine_negatives

    output = output.expanduser()
    check_output(output)
    if output.exists():
        raise InputError(f"-o: {str(output)!r} is there already; choose another name or delete it")
    mining: Mining = build(settings["mine"])
    return mine_negatives(Path(source).expanduser(), output, mining, settings["seed"])
