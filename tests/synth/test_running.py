"""A run of ``embedllm synth`` that is stopped anywhere ends with the bytes of one that was not."""

import errno
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pyarrow import parquet

from embedllm.errors import InputError
from embedllm.synth.documents import SameLabel
from embedllm.synth.draft import Draft, Gate, Item, Rows
from embedllm.synth.gates.duplicates import Duplicates
from embedllm.synth.pair_file import METADATA, merged_notes
from embedllm.synth.parts import Parts
from embedllm.synth.rows import read_rows
from embedllm.synth.running import SynthPlan, make_pairs
from embedllm.synth.word_level import WordNoise


class Stop(BaseException):
    """Stands for a kill: no handler of errors sees it."""


class Stopping(WordNoise):
    """Word noise that is stopped after so many calls."""

    calls = 10**9

    def generate(self, items: Sequence[Item]) -> list[Draft]:
        type(self).calls -= 1
        if self.calls < 0:
            raise Stop
        return super().generate(items)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rng = random.Random(0)
    lines = [" ".join(rng.choice("abcdefgh") * rng.randrange(1, 9) for _ in range(8)) for _ in range(45)]
    path = tmp_path / "texts.txt"
    path.write_text("\n".join([*lines[:20], "", *lines[20:], "one", "x" * 300]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def plan(source: Path, tmp_path: Path) -> Callable[..., SynthPlan]:
    def make(name: str = "pairs.parquet", **changes: object) -> SynthPlan:
        rows = read_rows(str(source), column="anchor")
        gates: list[Gate] = [Duplicates()]
        whole = SynthPlan(
            rows, tmp_path / name, Stopping(), gates, {"generator": "noise"}, block=10, max_characters=200
        )
        return replace(whole, **changes)  # type: ignore[arg-type]

    return make


@pytest.fixture(autouse=True)
def never_stop() -> None:
    Stopping.calls = 10**9


def test_every_row_is_a_pair_or_has_a_reason(plan: Callable[..., SynthPlan]) -> None:
    notes = make_pairs(plan(), progress=False)
    assert (notes["drafts"], notes["kept"]) == (48, 45)
    assert notes["removed"] == {"source_empty": 1, "source_too_long": 1, "unchanged": 1}
    table = parquet.read_table(plan().output)
    assert table.column_names == ["anchor", "positive", "generator", "style", "seed", "source_row", "copy"]
    assert table["source_row"].to_pylist() == [*range(20), *range(21, 46)]


@pytest.mark.parametrize("stops", [[0], [1, 2], [4]], ids=str)
def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(plan: Callable[..., SynthPlan], stops: list[int]) -> None:
    make_pairs(plan("whole.parquet"), progress=False)
    for calls in stops:  # of five blocks
        Stopping.calls = calls
        with pytest.raises(Stop):
            make_pairs(plan(), progress=False)
    Stopping.calls = 10**9
    make_pairs(plan(), progress=False)
    assert plan().output.read_bytes() == plan("whole.parquet").output.read_bytes()
    assert sorted(path.name for path in plan().output.parent.iterdir()) == [
        "pairs.parquet",
        "texts.txt",
        "whole.parquet",
    ]


def test_blocks_that_are_done_are_not_done_again(plan: Callable[..., SynthPlan]) -> None:
    Stopping.calls = 3
    with pytest.raises(Stop):
        make_pairs(plan(), progress=False)
    Stopping.calls = 2  # of five blocks
    make_pairs(plan(), progress=False)
    assert Stopping.calls == 0


def test_a_finished_output_is_left_as_it_is(plan: Callable[..., SynthPlan]) -> None:
    first = make_pairs(plan(), progress=False)
    before = plan().output.stat().st_mtime_ns
    Stopping.calls = 0
    assert make_pairs(plan(), progress=False) == first
    assert plan().output.stat().st_mtime_ns == before


def test_a_damaged_part_is_made_again(plan: Callable[..., SynthPlan]) -> None:
    make_pairs(plan("whole.parquet"), progress=False)
    Stopping.calls = 3
    with pytest.raises(Stop):
        make_pairs(plan(), progress=False)
    part = Parts.beside(plan().output, plan().identity).path(1)
    part.write_bytes(part.read_bytes()[:100])
    Stopping.calls = 10**9
    make_pairs(plan(), progress=False)
    assert plan().output.read_bytes() == plan("whole.parquet").output.read_bytes()


def test_parts_of_other_settings_are_refused_and_left_alone(plan: Callable[..., SynthPlan]) -> None:
    Stopping.calls = 3
    with pytest.raises(Stop):
        make_pairs(plan(), progress=False)
    with pytest.raises(
        InputError, match=r"parts of another run \(generator='noise', not 'other'\).*delete that folder"
    ):
        make_pairs(plan(settings={"generator": "other"}), progress=False)
    assert Parts.beside(plan().output, plan().identity).read(2) is not None


def test_a_run_that_failed_before_its_first_block_keeps_no_other_settings_out(plan: Callable[..., SynthPlan]) -> None:
    with pytest.raises(InputError, match="^generator.p: 1 is not a probability"):
        make_pairs(plan(generator=WordNoise(p=1), settings={"p": 1}), progress=False)
    parts = Parts.beside(plan().output, plan().identity)
    assert not parts.folder.exists()
    parts.folder.mkdir()  # as a kill leaves it
    (parts.folder / "manifest.json").write_text("{")
    assert make_pairs(plan(), progress=False)["kept"] == 45


def test_parts_and_outputs_of_another_input_are_refused(plan: Callable[..., SynthPlan], source: Path) -> None:
    Stopping.calls = 3
    with pytest.raises(Stop):
        make_pairs(plan(), progress=False)
    Stopping.calls = 10**9
    make_pairs(plan("done.parquet"), progress=False)
    source.write_text(source.read_text().replace("a", "z"))
    with pytest.raises(InputError, match="parts of another run.*another input"):
        make_pairs(plan(), progress=False)
    with pytest.raises(InputError, match="was made by another input; choose another name or delete it"):
        make_pairs(plan("done.parquet"), progress=False)


def test_what_mining_made_is_no_output_of_the_same_settings(plan: Callable[..., SynthPlan]) -> None:
    make_pairs(plan(), progress=False)
    table = parquet.read_table(plan().output)
    notes = merged_notes(table.schema.metadata, {"mined": {}})
    parquet.write_table(table.replace_schema_metadata({METADATA: notes}), plan().output)
    with pytest.raises(InputError, match="is there and was made by --mine; choose another name"):
        make_pairs(plan(), progress=False)


def test_somebody_elses_file_is_never_overwritten(plan: Callable[..., SynthPlan]) -> None:
    plan().output.write_bytes(b"mine")
    with pytest.raises(InputError, match="cannot be read as parquet"):
        make_pairs(plan(), progress=False)
    assert plan().output.read_bytes() == b"mine"


def test_a_full_disk_loses_nothing(plan: Callable[..., SynthPlan], monkeypatch: pytest.MonkeyPatch) -> None:
    make_pairs(plan("whole.parquet"), progress=False)
    write, written = parquet.write_table, []

    def full(table: object, where: object, **options: object) -> None:
        write(table, where, **options)
        written.append(where)
        if len(written) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(parquet, "write_table", full)
        with pytest.raises(
            OSError, match="No space left on device; what is written stays, and the same command goes on"
        ):
            make_pairs(plan(), progress=False)
    Stopping.calls = 2
    make_pairs(plan(), progress=False)
    assert plan().output.read_bytes() == plan("whole.parquet").output.read_bytes()


def test_a_kill_while_the_output_is_written_leaves_nothing_beside_it(
    plan: Callable[..., SynthPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda path, missing_ok=False: None)
        write = parquet.write_table

        def killed(table: object, where: Path, **options: object) -> None:
            write(table, where, **options)
            if "whole" in where.name:
                raise Stop

        patch.setattr(parquet, "write_table", killed)
        with pytest.raises(Stop):
            make_pairs(plan(), progress=False)
    assert {path.name for path in plan().output.parent.iterdir()} == {"texts.txt", "pairs.parquet.parts"}
    make_pairs(plan(), progress=False)
    assert {path.name for path in plan().output.parent.iterdir()} == {"texts.txt", "pairs.parquet"}


def test_two_processes_make_an_output_once(plan: Callable[..., SynthPlan], monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Parts.opened

    def late(parts: Parts) -> object:
        monkeypatch.setattr(Parts, "opened", opened)
        make_pairs(plan(), progress=False)  # the other process, between our look at the output and the lock
        Stopping.calls = 0
        return opened(parts)

    monkeypatch.setattr(Parts, "opened", late)
    assert make_pairs(plan(), progress=False)["kept"] == 45
    assert not Parts.beside(plan().output, plan().identity).folder.exists()


def test_a_second_process_is_kept_out(plan: Callable[..., SynthPlan]) -> None:
    parts = Parts.beside(plan().output, plan().identity)
    with parts.opened(), pytest.raises(InputError, match="another process is at work"):
        make_pairs(plan(), progress=False)


def test_what_gates_need_is_checked_before_the_generator_loads(plan: Callable[..., SynthPlan]) -> None:
    class Lacking(Duplicates):
        def prepare(self, written: bool) -> None:
            raise InputError("gates: something is missing")

    class Loud(WordNoise):
        def prepare(self, rows: Rows) -> None:
            raise AssertionError

    with pytest.raises(InputError, match="something is missing"):
        make_pairs(plan(generator=Loud(), gates=[Lacking()]), progress=False)


@pytest.mark.parametrize("column", ["anchor", "label"])
def test_a_row_that_is_too_long_is_in_no_pair_of_another_row(
    plan: Callable[..., SynthPlan], tmp_path: Path, column: str
) -> None:
    rows = [{"anchor": f"short {i}", "label": "a"} for i in range(3)]
    rows[1][column] += " long" * 50
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    read = read_rows(str(file), column="anchor", fields=["label"])
    notes = make_pairs(plan(rows=read, generator=SameLabel("label"), gates=[], copies=9), progress=False)
    assert notes["removed"] == {"source_too_long": 9}
    assert set(parquet.read_table(plan().output)["positive"].to_pylist()) == {"short 0", "short 2"}


def test_copies_of_a_row_differ(plan: Callable[..., SynthPlan]) -> None:
    make_pairs(plan(copies=3, gates=[]), progress=False)
    rows = parquet.read_table(plan().output).to_pylist()
    positives = {}
    for row in rows:
        positives.setdefault(row["source_row"], set()).add(row["positive"])
    assert sum(len(found) == 3 for found in positives.values()) > 40
