"""A lock that works on network file systems: a file that is made exclusively, and touched as long as its owner works.

A process on this machine is looked up by its number. One on another machine is watched: it works if it touches its
file, and to take its lock, clocks of two machines are never compared. The file of a process that is no more is taken
over. Who only wants to tell of a lock, and not to wait, believes the clock (:func:`holder`).
"""

import json
import logging
import os
import signal
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

log = logging.getLogger(__name__)

BEAT_S = 10.0
"""Seconds between two touches."""

PATIENCE_S = 60.0
"""A file of another machine that was not touched for so many seconds is that of a dead process."""

LOOK_S = 1.0
"""Seconds between two looks at it."""


class Held(Exception):
    """Another process has the lock."""


@dataclass(frozen=True)
class Owner:
    """The process that has a lock."""

    host: str
    machine: str
    """Tells apart hosts, their boots, and containers with process numbers of their own."""
    process: int
    started: str | None
    """When the process started, in the system's ticks: its number may be given to another one later."""
    token: str
    """Of this taking of the lock."""
    since: float | None = None
    """When it was taken, by the clock of the process; only shown, and compared with nothing."""

    @classmethod
    def here(cls) -> "Owner":
        """Return this process as the owner of a lock that it takes now."""
        process = os.getpid()
        return cls(socket.gethostname(), _machine(), process, _started(process), uuid.uuid4().hex, time.time())

    @property
    def is_of_this_machine(self) -> bool:
        """Whether the number of the process means something here."""
        return self.machine == _machine()

    def works(self) -> bool:
        """Return whether the process is there; it must be one of this machine."""
        if self.started is not None:
            return _started(self.process) == self.started
        try:
            os.kill(self.process, 0)
        except PermissionError:  # somebody else's
            return True
        except (OSError, OverflowError):
            return False
        return True


@dataclass(frozen=True)
class Look:
    """What a lock's file said at one time."""

    owner: Owner | None
    """None: it is damaged, or not yet written."""
    touched: int
    """Nanoseconds, by the clock of the file system."""

    @property
    def name(self) -> str:
        """What tells it from the files of others."""
        return self.owner.token if self.owner is not None else str(self.touched)

    @property
    def host(self) -> str:
        """Where the process is."""
        return self.owner.host if self.owner is not None else "another machine"


class RunLock:
    """A lock between processes that see the same folder.

    Args:
        path: of the file; its folder must exist.
        beat: seconds between two touches.
        patience: seconds that another machine's file may stay untouched.
    """

    def __init__(self, path: Path, beat: float | None = None, patience: float | None = None) -> None:
        self.path = path
        self.beat = BEAT_S if beat is None else beat
        self.patience = PATIENCE_S if patience is None else patience
        self.owner = Owner.here()
        self._ended = threading.Event()

    def acquire(self) -> None:
        """Take the lock; that of a dead process is taken over, which may take ``patience`` to find out.

        Raises:
            Held: another process has it.
            OSError: the file cannot be made.
        """
        while not self._makes(self.path):
            seen = look(self.path)
            if seen is not None and self._takes_over(seen):
                break
        threading.Thread(target=self._keep, name=f"lock of {self.path.parent.name}", daemon=True).start()

    def release(self) -> None:
        """Give the lock back, if it is still this one's."""
        self._ended.set()
        with suppress(OSError):
            if self._is_ours():
                self.path.unlink(missing_ok=True)

    def _makes(self, path: Path) -> bool:
        """Make a file that names this owner; False if there is one. The server of the files decides who is first."""
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(self.owner), file)
        return True

    def _takes_over(self, seen: Look) -> bool:
        """Take the lock over if its owner is dead; False if it has changed meanwhile.

        Only one process can make the file that claims the lock of a given owner, and moves it to the lock's place. A
        claim whose maker died is claimed like the lock itself.

        Raises:
            Held: another process has the lock, or is taking it over.
        """
        claims, dead, place = list[Path](), seen, self.path
        while True:
            if self._is_held(dead, place):
                raise Held
            if look(place) != dead:
                return False
            place = self.path.with_name(f"{self.path.name}.{dead.name}.claim")
            if self._makes(place):
                break
            claim = look(place)
            if claim is None:
                return False
            claims.append(place)
            dead = claim
        if look(self.path) != seen:
            place.unlink()
            return False
        place.replace(self.path)
        for claim_of_dead in claims:
            claim_of_dead.unlink(missing_ok=True)
        return True

    def _is_held(self, seen: Look, path: Path) -> bool:
        """Return whether the process that made ``path`` works; one on another machine is watched."""
        if seen.owner is not None and seen.owner.is_of_this_machine:
            return seen.owner.works()
        where = seen.owner.host if seen.owner is not None else "an unknown machine"
        log.info("%s: looking whether a process on %s is still at work on it", self.path.parent, where)
        end = time.monotonic() + self.patience
        while time.monotonic() < end:
            time.sleep(min(LOOK_S, self.patience / 4))
            if (now := look(path)) != seen:
                return now is not None
        return False

    def _keep(self) -> None:
        """Touch the file until the end. A process that was stopped for long may find that it has lost its lock."""
        lost = 0
        while lost < 2 and not self._ended.wait(self.beat):
            try:
                lost = 0 if self._is_ours() else lost + 1  # it is away for a moment while another one looks at it
                if not lost:
                    os.utime(self.path)
            except OSError as error:
                log.debug("%s could not be touched: %s", self.path, error)
        if lost and not self._ended.is_set():
            log.error("%s: the lock of this run is gone or another process's, so this one stops", self.path.parent)
            os.kill(os.getpid(), signal.SIGTERM)

    def _is_ours(self) -> bool:
        seen = look(self.path)
        return seen is not None and seen.owner == self.owner


def look(path: Path) -> Look | None:
    """Return what a lock's file says; None if there is none. Opening it asks the server of a network file system."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            touched, text = os.fstat(file.fileno()).st_mtime_ns, file.read()
    except FileNotFoundError:
        return None
    try:
        return Look(Owner(**json.loads(text)), touched)
    except (ValueError, TypeError):
        return Look(None, touched)


def holder(path: Path) -> Look | None:
    """Return who has a lock, without waiting: one on another machine counts if its file was touched lately."""
    try:
        seen = look(path)
    except OSError:
        return None
    if seen is None:
        return None
    if seen.owner is not None and seen.owner.is_of_this_machine:
        return seen if seen.owner.works() else None
    return seen if abs(time.time() - seen.touched / 1e9) < PATIENCE_S else None


def _machine() -> str:
    facts = [socket.gethostname()]
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with suppress(OSError):
        facts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(facts)


def _started(process: int) -> str | None:
    """Return when a process started; None if it is not there (or only waits to be forgotten), or without /proc."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        state, *rest = text.rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else rest[18]
