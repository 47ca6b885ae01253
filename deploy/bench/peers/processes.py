"""Processes that stay on their cores and end with us, and what Linux knows of them."""

import ctypes
import os
import pathlib
import signal
import socket
import subprocess
import time

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)
GRACE = 5.0
TICKS = os.sysconf("SC_CLK_TCK")


def _before_exec(cores):
    os.sched_setaffinity(0, cores)
    # Whatever becomes of us, nothing that we started goes on.
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(command, cores, log, env=None, cwd=None):
    """In a session of its own, so that all it starts can be ended with it."""
    with open(log, "wb") as file:
        return subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})}, cwd=cwd, start_new_session=True,
            preexec_fn=lambda: _before_exec(cores))


def run(command, cores, seconds, env=None):
    """Standard output; raises on failure and after `seconds`."""
    done = subprocess.run(
        [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        timeout=seconds, text=True, env={**os.environ, **(env or {})}, preexec_fn=lambda: _before_exec(cores))
    if done.returncode:
        raise RuntimeError(f"{command[0]} {command[1]}: {done.stderr.strip()[-500:]}")
    return done.stdout


def stop(process):
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
        except ProcessLookupError:
            pass
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            continue
        # The leader is gone; what it started may need telling once more.
        if kind is signal.SIGTERM:
            time.sleep(0.1)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def family(pid):
    """The process and all that descend from it."""
    parents = {}
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int(_after_name(folder)[1])
            except (OSError, IndexError):
                pass
    found, more = {pid}, True
    while more:
        more = {child for child, parent in parents.items() if parent in found} - found
        found |= more
    return found


def _after_name(folder):
    return (folder / "stat").read_text().rpartition(")")[2].split()


def memory_mib(pid):
    """Resident, and the proportional share that counts shared pages once, summed over the family."""
    resident = proportional = 0
    for member in family(pid):
        try:
            text = pathlib.Path(f"/proc/{member}/smaps_rollup").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("Rss:"):
                resident += int(line.split()[1])
            elif line.startswith("Pss:"):
                proportional += int(line.split()[1])
    return {"rss_mib": resident / 1024, "pss_mib": proportional / 1024}


def cpu_seconds(pid):
    total = 0
    for member in family(pid):
        try:
            fields = _after_name(pathlib.Path(f"/proc/{member}"))
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS
