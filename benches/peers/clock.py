"""Runs one command and says what it took. Nothing else is timed: no shell, no Python of ours runs between start and end."""

import os
import shlex
import tempfile
import threading
import time
from dataclasses import dataclass


@dataclass
class Took:
    wall: float  # seconds, by the monotonic clock
    cpu: float  # seconds of the command and what it waited for, not of a daemon
    largest: float  # MiB: the greatest resident size of any one of its processes; 0 unless watched, as the next
    together: float  # MiB: the greatest sum over all its processes seen at one moment


class Failed(Exception):
    """A command ended with another status than 0."""


def run(argv, env=None, output=None, watch=False):
    """Runs argv to its end. env adds to ours; output is a file for its stdout; watch samples the memory of all its processes."""
    argv = [str(word) for word in argv]
    with tempfile.TemporaryFile() as errors:
        files = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(output or "/dev/null"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
            (os.POSIX_SPAWN_DUP2, errors.fileno(), 2),
        ]
        start = time.monotonic()
        pid = os.posix_spawnp(argv[0], argv, {**os.environ, **(env or {})}, file_actions=files)
        seen = Watch(pid) if watch else None
        _, status, usage = os.wait4(pid, 0)
        wall = time.monotonic() - start
        largest, together = seen.stop() if seen else (0.0, 0.0)
        if status:
            errors.seek(0)
            last = errors.read().decode(errors="replace").strip().splitlines()[-15:]
            raise Failed("\n  ".join([f"{shlex.join(argv)}: status {os.waitstatus_to_exitcode(status)}", *last]))
    # Not ru_maxrss: a process that was spawned begins with the size of the one that spawned it, which is ours.
    return Took(wall, usage.ru_utime + usage.ru_stime, largest, together)


class Watch:
    """Sums the resident memory of a process and its descendants every few milliseconds. Pages that they share count for each."""

    def __init__(self, pid):
        self.pid, self.largest, self.most, self.ended = pid, 0.0, 0.0, threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()

    def look(self):
        page = os.sysconf("SC_PAGE_SIZE") / (1 << 20)
        while not self.ended.wait(0.01):
            parents, sizes = {}, {}
            for name in filter(str.isdigit, os.listdir("/proc")):
                try:
                    with open(f"/proc/{name}/stat") as file:
                        fields = file.read().rpartition(")")[2].split()
                except OSError:  # it has ended meanwhile
                    continue
                parents[int(name)], sizes[int(name)] = int(fields[1]), int(fields[21]) * page
            # What still is a copy of us, between fork and exec, is none of the command's.
            own = [pid for pid in sizes if self.ours(pid, parents) and executed(pid)]
            self.most = max(self.most, sum(sizes[pid] for pid in own))
            self.largest = max(self.largest, *(highest(pid) for pid in own), 0.0)

    def ours(self, pid, parents):
        while pid and pid != self.pid:
            pid = parents.get(pid)
        return pid == self.pid

    def stop(self):
        self.ended.set()
        self.thread.join()
        return self.largest, self.most


def executed(pid):
    try:
        return os.readlink(f"/proc/{pid}/exe") != os.readlink("/proc/self/exe")
    except OSError:
        return False


def highest(pid):
    """MiB: the greatest resident size that the process has had so far."""
    try:
        with open(f"/proc/{pid}/status") as file:
            return next((int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM:")), 0.0)
    except OSError:
        return 0.0
