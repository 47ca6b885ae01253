#!/usr/bin/env python3
"""Every server on the same cores, with the same ONNX files and the same client, in one run; prints Markdown.

    deploy/bench/side_by_side.py                    # all, at most 25 minutes
    deploy/bench/side_by_side.py --quick            # a look at whether everything works, two minutes
    deploy/bench/side_by_side.py --servers millgate,triton --parts closed --models dense,text

Needs Rust, Python 3.9 to 3.13 and, the first time, the package registry. Listens and asks on 127.0.0.1 only.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

from peers import processes, report, servers  # noqa: E402

MODELS = ["gate", "image-small", "series", "dense", "image-large", "text"]
# One expert each of image, series and text.
MIX = ["image-small", "series", "text"]
PARTS = ["closed", "open", "poison", "reload"]
CONCURRENCY = [1, 8, 64, 256]
BATCHES = "1,2,4,8,16,32"
DEADLINE_MS = 50
POISON = 0.1
RELOADED = "image-small"


def flags():
    numbers = lambda text: {int(number) for number in text.split(",")}
    words = lambda text: text.split(",")
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    cores = sorted(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--servers", type=words, default=list(servers.SERVERS), help="of " + ",".join(servers.SERVERS))
    parser.add_argument("--parts", type=words, default=PARTS, help="of " + ",".join(PARTS))
    parser.add_argument("--models", type=words, default=MODELS, help="of " + ",".join(MODELS))
    parser.add_argument("--rounds", type=int, default=3, help="each cell is measured so often, servers in turn")
    parser.add_argument("--seconds", type=float, default=1.0, help="measured in each cell")
    parser.add_argument("--reloads", type=int, default=1000, help="rounds of unload and load")
    parser.add_argument("--minutes", type=float, default=25, help="no cell is begun after this")
    parser.add_argument("--server-cores", type=numbers, default=set(cores[:1]), help="default: the first")
    parser.add_argument("--client-cores", type=numbers, default=set(cores[1:] or cores), help="default: all others")
    parser.add_argument("--cache", type=pathlib.Path, default=target / "bench", help="for what is installed and made")
    parser.add_argument("--onnxruntime-library", type=pathlib.Path, help="default: that of the package")
    parser.add_argument("--mlserver-batch-time", type=float, default=0.002, help="seconds it waits to fill a batch")
    parser.add_argument("--no-build", action="store_true", help="take the binaries that are there")
    parser.add_argument("--results", type=pathlib.Path, help="every measurement as a line of JSON")
    parser.add_argument("--quick", action="store_true", help="one short round of a few cells")
    parser.set_defaults(target=target)
    given = parser.parse_args()
    for flag, known in (("servers", servers.SERVERS), ("parts", PARTS), ("models", MODELS)):
        unknown = set(getattr(given, flag)) - set(known)
        if unknown:
            parser.error(f"--{flag}: {', '.join(sorted(unknown))} is none of {', '.join(known)}")
    if given.quick:
        given.rounds, given.seconds, given.reloads = 1, 0.5, min(given.reloads, 40)
        given.models = [model for model in given.models if model in ("gate", "dense", "image-small")]
    given.concurrency = [1, 64] if given.quick else CONCURRENCY
    given.cache = given.cache.resolve()
    return given


class Bench:
    def __init__(self, given):
        self.given = given
        self.end = time.monotonic() + 60 * given.minutes
        self.binaries = given.target.resolve() / "release"
        self.records, self.running, self.skipped = [], [], {}
        # How busy the machine was with anything, at the start and at the end.
        self.busy = [os.getloadavg()[0]]
        self.file = given.results.open("w") if given.results else None

    def load(self, arguments, seconds):
        """What `millgate-load` printed, a value for each line; `ready` prints a word."""
        command, *rest = arguments
        models = [flag for flag in rest if flag in MODELS]
        rest = [flag for flag in rest if flag not in MODELS] if command == "ready" else rest
        named = [part for model in models for part in ("--model", model)] if command == "ready" else []
        out = processes.run([self.binaries / "millgate-load", command, *rest, *named, "--output", "json"],
                            self.given.client_cores, seconds)
        return [] if command == "ready" else [json.loads(line) for line in out.splitlines()]

    def note(self, **record):
        self.records.append(record)
        if self.file:
            self.file.write(json.dumps(record) + "\n")
            self.file.flush()

    def is_over(self):
        return time.monotonic() > self.end

    def prepare(self):
        given = self.given
        given.cache.mkdir(parents=True, exist_ok=True)
        if not given.no_build:
            subprocess.run(["cargo", "build", "--release", "-p", "millgate-cloud", "-p", "millgate-load", "--bins"],
                           cwd=ROOT, check=True)
        self.end = time.monotonic() + 60 * given.minutes
        python = servers.venv(given.cache, "onnxruntime") / "bin/python"
        self.python, self.models = python, given.cache / "models"
        make = [python, HERE / "peers/make_models.py", "--bundle", ROOT / "models/factory", "--out", self.models,
                "--instances", str(len(given.server_cores)), "--batch-time", str(given.mlserver_batch_time)]
        subprocess.run(make, check=True)
        self.setting = servers.Setting(given.cache, self.models, given.server_cores, self.binaries, given.onnxruntime_library)
        for name in given.servers:
            try:
                self.running.append(servers.start(name, self.setting, self.load, MODELS))
                tell(f"{name} is ready")
            except servers.Unavailable as why:
                self.skipped[name] = str(why)
                tell(f"{name} is skipped: {why}")

    def call(self, part, server, command, *arguments, **about):
        """One measurement; a failure is noted as such and the run goes on."""
        if self.is_over() or not self.is_alive(server):
            return None
        used = processes.cpu_seconds(server.process.pid)
        began = time.monotonic()
        try:
            [result] = self.load([command, "--url", server.url, *map(str, arguments)], 60 + self.given.seconds * 4)
        except (RuntimeError, subprocess.TimeoutExpired, ValueError) as error:
            self.note(part=part, server=server.name, error=str(error)[-300:], **about)
            tell(f"{server.name}, {part} {about}: {error}")
            return None
        if server.process.poll() is not None:
            self.note(part="end", server=server.name, during=part, code=server.process.returncode)
            tell(f"{server.name} ended by itself during {part}, exit code {server.process.returncode}")
        used = processes.cpu_seconds(server.process.pid) - used
        result["server_cpu"] = used / (time.monotonic() - began)
        self.note(part=part, server=server.name, result=result, **about)
        return result

    def is_alive(self, server):
        """One that ended by itself is started again."""
        if server.process.poll() is None:
            return True
        processes.stop(server.process)
        try:
            again = servers.start(server.name, self.setting, self.load, MODELS)
        except servers.Unavailable as why:
            tell(f"{server.name} does not start again: {why}")
            return False
        server.process, server.url = again.process, again.url
        return True

    def measured(self, seconds=None):
        seconds = seconds or self.given.seconds
        return ["--seconds", seconds, "--warm-up", round(min(0.5, seconds / 2), 3)]

    def turn(self, number):
        """The servers, in the reverse order every other time."""
        return self.running if number % 2 == 0 else self.running[::-1]

    def bare(self, number):
        """What the engines do without a server, on the servers' cores."""
        threads, seconds = str(len(self.given.server_cores)), str(min(0.4, self.given.seconds / 2))
        for model in self.given.models:
            about = ["--file", self.models / "onnx" / model / "1/model.onnx", "--threads", threads, "--batch", BATCHES,
                     "--seconds", seconds]
            rust = [self.binaries / "millgate-load", "engine", *about, "--output", "json"]
            python = [self.python, HERE / "peers/bare_onnxruntime.py", *about]
            for command in (rust, python) if number % 2 == 0 else (python, rust):
                if self.is_over():
                    return
                for line in processes.run(command, self.given.server_cores, 120).splitlines():
                    self.note(part="bare", round=number, model=model, result=json.loads(line))

    def closed(self, number):
        self.bare(number)
        for model in self.given.models:
            for concurrency in self.given.concurrency:
                for server in self.turn(number):
                    self.call("closed", server, "closed", "--model", model, "--concurrency", concurrency,
                              *self.measured(), model=model, concurrency=concurrency, round=number)

    def open(self, number):
        mix = [part for model in MIX for part in ("--model", model)]
        deadline = ["--deadline-ms", DEADLINE_MS]
        longer = max(2 * self.given.seconds, 1)
        for server in self.turn(number):
            about = dict(round=number)
            full = self.call("capacity", server, "closed", *mix, "--concurrency", 64, *self.measured(longer), **about)
            if not full or not full["throughput"]:
                continue
            capacity = full["throughput"]
            for part, times in (("steady", 0.5), ("overload", 3.0)):
                self.call(part, server, "open", *mix, *deadline, "--rate", f"{times * capacity:.1f}",
                          *self.measured(longer), capacity=capacity, **about)
            self.call("burst", server, "open", *mix, *deadline, "--rate", f"{0.5 * capacity:.1f}",
                      "--burst-rate", f"{2 * capacity:.1f}", "--burst-every-ms", 1000,
                      *self.measured(max(8 * self.given.seconds, 3)), capacity=capacity, **about)

    def poison(self, number):
        """Without and with, in turn, so that a drifting machine weighs on both alike."""
        for model in [model for model in ("image-small", "text") if model in self.given.models]:
            for server in self.turn(number):
                shares = (0.0, POISON) if number % 2 == 0 else (POISON, 0.0)
                for share in shares:
                    self.call("poison", server, "closed", "--model", model, "--concurrency", 16, "--poison", share,
                              "--verify", *self.measured(2 * self.given.seconds), model=model, share=share, round=number)

    def reload(self):
        for server in self.running:
            if server.name == "mlserver":
                continue  # Its repository calls are a service of its own, which this client does not speak.
            self.call("reload", server, "reload", "--model", RELOADED, "--rounds", self.given.reloads,
                      "--most-seconds", 5 if self.given.quick else 100, "--pid", server.process.pid)

    def run(self):
        self.prepare()
        if not self.running:
            raise SystemExit("no server could be started")
        for server in self.running:
            self.note(part="memory", server=server.name, when="ready", **processes.memory_mib(server.process.pid))
        for number in range(self.given.rounds):
            for part in ("closed", "open", "poison"):
                if part in self.given.parts and not self.is_over():
                    tell(f"round {number + 1} of {self.given.rounds}: {part}")
                    getattr(self, part)(number)
        for server in self.running:
            self.note(part="memory", server=server.name, when="loaded", **processes.memory_mib(server.process.pid))
        if "reload" in self.given.parts and not self.is_over():
            tell("reload")
            self.reload()

    def stop(self):
        for server in self.running:
            processes.stop(server.process)


def tell(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main():
    given = flags()
    # Both ways of being stopped end what was started; Ctrl-C also where a shell starts us with it ignored.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    bench = Bench(given)
    try:
        bench.run()
    except KeyboardInterrupt:
        tell("stopped; what was measured so far follows")
    finally:
        bench.stop()
    bench.busy.append(os.getloadavg()[0])
    print(report.markdown(bench.records, bench.skipped, given, bench.busy, bench.is_over()))


if __name__ == "__main__":
    main()
