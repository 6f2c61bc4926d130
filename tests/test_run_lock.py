"""The lock of a run: one owner at a time, and none that is dead."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from embedllm import run_lock
from embedllm.run_lock import Held, Owner, RunLock, holder, look


def of_another_machine(path: Path) -> Owner:
    """Write the lock of a process elsewhere, which touches it no more."""
    owner = replace(Owner.here(), machine="elsewhere", host="node7", token="theirs")
    path.write_text(json.dumps(asdict(owner)))
    return owner


def taken(path: Path) -> bool:
    try:
        RunLock(path, patience=0.4).acquire()
    except Held:
        return False
    return True


def test_the_lock_is_gone_when_it_is_given_back(tmp_path: Path) -> None:
    lock = RunLock(tmp_path / ".lock")
    lock.acquire()
    assert not taken(lock.path)
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_one_of_many_that_ask_at_once_gets_the_lock_of_a_dead_process(tmp_path: Path) -> None:
    for round_ in range(5):
        path = tmp_path / f"{round_}.lock"
        of_another_machine(path)
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(taken, [path] * 8)) == 1


def test_a_process_of_this_machine_that_is_gone_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys, pathlib, embedllm.run_lock as locks; locks.RunLock(pathlib.Path(sys.argv[1])).acquire()"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / ".lock")], check=True)
    assert look(tmp_path / ".lock") is not None
    monkeypatch.setattr("embedllm.run_lock.time.sleep", lambda _: pytest.fail("it was waited for"))
    RunLock(tmp_path / ".lock").acquire()


def test_a_later_process_of_the_same_number_is_another_one(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    path.write_text(json.dumps(asdict(replace(Owner.here(), started="1"))))
    assert holder(path) is None
    assert taken(path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 1}'])
def test_a_damaged_lock_is_taken_over_when_nobody_touches_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / ".lock"
    path.write_text(content)
    assert taken(path)


def test_a_process_elsewhere_that_touches_its_lock_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    owner = of_another_machine(path)
    os.utime(path, (1, 1))  # clocks of two machines may differ
    lock = RunLock(path, patience=5)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(lock.acquire)
        time.sleep(0.2)
        os.utime(path, (2, 2))
        assert isinstance(asked.exception(), Held)
    seen = look(path)
    assert seen is not None
    assert seen.owner == owner


def test_the_owner_touches_its_lock(tmp_path: Path) -> None:
    lock = RunLock(tmp_path / ".lock", beat=0.05)
    lock.acquire()
    os.utime(lock.path, (1, 1))
    time.sleep(0.5)
    assert lock.path.stat().st_mtime > 1
    lock.release()


SLEEPER = """
import sys, time
from pathlib import Path
from embedllm.run_lock import RunLock
RunLock(Path(sys.argv[1]), beat=0.05).acquire()
print("locked", flush=True)
time.sleep(60)
"""


def test_a_process_that_has_lost_its_lock_stops(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with subprocess.Popen([sys.executable, "-c", SLEEPER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        of_another_machine(path)
        assert process.wait(timeout=20) == -15
    seen = look(path)
    assert seen is not None
    assert seen.owner is not None
    assert seen.owner.host == "node7"


def test_one_that_died_while_it_took_a_lock_over_does_not_block_it(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    owner = of_another_machine(path)
    claim = tmp_path / f".lock.{owner.token}.claim"
    claim.write_text(json.dumps(asdict(replace(owner, token="heir"))))
    lock = RunLock(path, patience=0.2)
    lock.acquire()
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_who_comes_late_does_not_take_a_lock_that_was_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".lock"
    of_another_machine(path)
    dead = look(path)
    faster, late = RunLock(path, patience=0.2), RunLock(path, patience=0.2)
    faster.acquire()
    with monkeypatch.context() as patch:
        looks = iter([dead])  # it looked before the other one was faster
        patch.setattr(run_lock, "look", lambda asked: next(looks, None) or look(asked))
        patch.setattr(late, "_is_held", lambda *_: False)
        assert dead is not None
        assert not late._takes_over(dead)
    seen = look(path)
    assert seen is not None
    assert seen.owner == faster.owner
    faster.release()
    assert list(tmp_path.iterdir()) == []
