"""What was measured, as Markdown: medians over the rounds with the range, ratios, and the goals with what was reached."""

import platform
import statistics
import time

# Rust's peer is the engine that is built in; the other engine is every other server's.
ENGINE = {"millgate": ["tract"], "millgate-ort": ["onnxruntime", "tract"], "triton": ["onnxruntime"],
          "pytriton": ["onnxruntime"], "mlserver": ["onnxruntime"]}
# Both are Triton with Python behind it: the bare server, and as the package has it.
TRITONS = ["triton", "pytriton"]
OURS = ["millgate", "millgate-ort"]
# An expert is small below this many microseconds in the bare engine.
SMALL_US = 1000
# A client that uses so much of its cores may be what is slow.
BUSY = 0.9


class Records:
    def __init__(self, records):
        self.records = records

    def of(self, part, **about):
        fits = lambda record: record["part"] == part and all(record.get(key) == value for key, value in about.items())
        return [record for record in self.records if fits(record)]

    def values(self, part, pick, **about):
        return [pick(record["result"]) for record in self.of(part, **about) if "result" in record]

    def median(self, part, pick, **about):
        values = [value for value in self.values(part, pick, **about) if value is not None]
        return statistics.median(values) if values else None

    def bare(self, model, pick, engines, **about):
        """The best engine's."""
        return [value for engine in engines if (value := self.one_engine(model, pick, engine, **about)) is not None]

    def one_engine(self, model, pick, engine, batch=None):
        by_batch = {}
        for record in self.of("bare", model=model):
            result = record["result"]
            if result["engine"] == engine and batch in (None, result["batch"]):
                by_batch.setdefault(result["batch"], []).append(pick(result))
        medians = [statistics.median(values) for values in by_batch.values()]
        return (max(medians) if batch is None else medians[0]) if medians else None


def cell(values, form="{:.2f}", mark=""):
    """Median and range."""
    values = [value for value in values if value is not None]
    if not values:
        return "–"
    middle = form.format(statistics.median(values))
    if len(values) == 1 or max(values) == min(values):
        return middle + mark
    return f"{middle}{mark} ({form.format(min(values))}–{form.format(max(values))})"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def ratio(a, b, form="{:.2f}×"):
    return form.format(a / b) if a is not None and b else "–"


p50_us = lambda result: result["latency_ms"]["p50"] * 1e3 if result["ok"] else None
p99_ms = lambda result: result["latency_ms"]["p99"] if result["ok"] else None
throughput = lambda result: result["throughput"]
items = lambda result: result["items_per_second"]
call_us = lambda result: result["call_us_p50"]


class Goals:
    """Verdicts, collected while the tables are made."""

    def __init__(self):
        self.rows = []

    def add(self, goal, server, value, reached, form="{:.2f}"):
        if value is not None:
            self.rows.append([goal, server, form.format(value), "reached" if reached(value) else "**not reached**"])


def lone(records, models, names, goals):
    rows = []
    for model in models:
        of = {name: records.median("closed", p50_us, server=name, model=model, concurrency=1) for name in names}
        engines = {engine: records.one_engine(model, call_us, engine, batch=1) for engine in ("tract", "onnxruntime")}
        row = [model, *(cell([engines[engine]], "{:.0f}") for engine in engines)]
        row += [cell(records.values("closed", p50_us, server=name, model=model, concurrency=1), "{:.0f}") for name in names]
        for ours in [name for name in OURS if name in names]:
            bare = records.bare(model, call_us, ENGINE[ours], batch=1)
            added = of[ours] - min(bare) if of[ours] and bare else None
            row += [cell([added], "{:.0f}"), *(ratio(of[ours], of.get(peer)) for peer in TRITONS)]
            goals.add(f"{model}: lone request, added to the bare engine, us, ≤ 300", ours, added, lambda v: v <= 300, "{:.0f}")
            for peer in TRITONS:
                if of[ours] and of.get(peer):
                    goals.add(f"{model}: lone request, of {peer}'s, ≤ 0.25", ours, of[ours] / of[peer], lambda v: v <= 0.25)
        rows.append(row)
    head = ["model", "bare tract", "bare onnxruntime", *names]
    for ours in [name for name in OURS if name in names]:
        head += [f"{ours} adds", *(f"{ours} / {peer}" for peer in TRITONS)]
    return "## One client, one request at a time: p50, us\n\n" + table(head, rows)


def concurrent(records, models, names, goals, given):
    rows = []
    cores = len(given.client_cores)
    for model in models:
        best = {engine: records.one_engine(model, items, engine) for engine in ("tract", "onnxruntime")}
        for concurrency in given.concurrency:
            about = dict(model=model, concurrency=concurrency)
            of = {name: records.median("closed", throughput, server=name, **about) for name in names}
            row = [model, str(concurrency), *(cell([best[engine]], "{:.0f}") for engine in best)]
            for name in names:
                cpu = records.median("closed", lambda result: result["client_cpu"], server=name, **about)
                mark = " \\*" if cpu and cpu > BUSY * cores else ""
                row.append(cell(records.values("closed", throughput, server=name, **about), "{:.0f}", mark))
            for ours in [name for name in OURS if name in names]:
                bare = max(records.bare(model, items, ENGINE[ours]), default=None)
                row += [ratio(of[ours], bare), *(ratio(of[ours], of.get(peer)) for peer in TRITONS)]
                alone = records.bare(model, call_us, ENGINE[ours], batch=1)
                if concurrency != 64 or not alone:
                    continue
                is_small = min(alone) < SMALL_US
                if of[ours] and bare and not is_small:
                    goals.add(f"{model}: throughput at 64, of the bare engine's best batch, ≥ 0.9", ours, of[ours] / bare, lambda v: v >= 0.9)
                for peer in TRITONS if is_small else []:
                    if of[ours] and of.get(peer):
                        goals.add(f"{model}: throughput at 64, of {peer}'s, ≥ 3", ours, of[ours] / of[peer], lambda v: v >= 3)
            rows.append(row)
    head = ["model", "clients", "best bare tract", "best bare onnxruntime", *names]
    for ours in [name for name in OURS if name in names]:
        head += [f"{ours} / its bare engine", *(f"{ours} / {peer}" for peer in TRITONS)]
    note = "\n\\* this client used more than 90 % of its cores: the server may be faster than it could show.\n"
    return "## Many clients: answers per second\n\n" + table(head, rows) + note


def latency_at(records, models, names, given):
    rows = []
    for model in models:
        for concurrency in given.concurrency:
            about = dict(model=model, concurrency=concurrency)
            rows.append([model, str(concurrency), *(cell(records.values("closed", p99_ms, server=name, **about)) for name in names)])
    return "## The same loads: p99, ms\n\n" + table(["model", "clients", *names], rows)


def offered(records, names, goals):
    rows = []
    for name in names:
        def part(of, pick):
            found = [(record["result"], record["capacity"]) for record in records.of(of, server=name) if "result" in record]
            return [pick(result, capacity) for result, capacity in found]
        bursts = lambda pick: part("burst", lambda result, capacity: pick(result["burst"], capacity) if result.get("burst") else None)
        share = lambda result, _: result["in_time"] / max(result["requests"], 1)
        good = part("overload", lambda result, capacity: result["goodput"] / capacity)
        burst_good = bursts(lambda burst, capacity: burst["goodput"] / capacity)
        recovery = bursts(lambda burst, _: burst["recovery_ms"])
        rows.append([
            name,
            cell(records.values("capacity", throughput, server=name), "{:.0f}"),
            cell(part("steady", lambda result, _: p99_ms(result))),
            cell(part("steady", share), "{:.3f}"),
            cell(good, "{:.3f}"),
            cell(burst_good, "{:.3f}"),
            cell(bursts(lambda burst, _: burst["share"]), "{:.3f}"),
            "not seen" if recovery and all(value is None for value in recovery) else cell(recovery, "{:.0f}"),
            cell(part("overload", lambda result, _: result["lag_ms_p99"])),
        ])
        if name in OURS:
            middle = lambda values: statistics.median(values) if (values := [v for v in values if v is not None]) else None
            goals.add("mix: goodput in a 2× burst, of capacity, ≥ 0.90", name, middle(burst_good), lambda v: v >= 0.9, "{:.3f}")
            goals.add("mix: goodput at a steady 3×, of capacity, ≥ 0.85", name, middle(good), lambda v: v >= 0.85, "{:.3f}")
            seen = middle(recovery) if recovery else None
            goals.add("mix: recovery after a burst, ms, ≤ 50", name, float("inf") if recovery and seen is None else seen, lambda v: v <= 50, "{:.0f}")
    head = ["server", "capacity /s", "p99 ms at 0.5×", "in time at 0.5×", "goodput / capacity at 3×",
            "goodput / capacity in bursts of 2×", "in time of the bursts'", "recovery ms", "client's lag ms at 3×"]
    return ("## A mix of image, series and text at random times, deadline 50 ms\n\nCapacity is what 64 clients got of the same mix; "
            "bursts last 200 ms, one a second, over a load of 0.5×.\n\n" + table(head, rows))


def poison(records, models, names, goals):
    rows = []
    for model in models:
        for name in names:
            with_share = lambda share, pick: records.values("poison", pick, server=name, model=model, share=share)
            clean, beside = with_share(0.0, p99_ms), with_share(0.1, p99_ms)
            if not beside:
                continue
            total = lambda pick: sum(with_share(0.1, pick))
            failed = total(lambda result: sum(result["errors"].values()))
            wrong = total(lambda result: result["wrong"])
            answered = total(lambda result: result["poison"]["ok"])
            sent = total(lambda result: result["poison"]["requests"])
            rows.append([model, name, cell(clean), cell(beside), str(total(lambda result: result["requests"])), str(failed),
                         str(wrong), f"{answered} of {sent}"])
            if name in OURS:
                goals.add(f"{model}: good requests that failed or were answered wrongly beside 10 % poison, 0", name, failed + wrong, lambda v: v == 0, "{:.0f}")
                known = [value for value in clean if value], [value for value in beside if value]
                if all(known):
                    before, after = map(statistics.median, known)
                    limit = max(1.1, max(known[0]) / before)
                    goals.add(f"{model}: p99 beside 10 % poison, of that without, ≤ {limit:.2f} (noise)", name, after / before, lambda v: v <= limit)
    head = ["model", "server", "p99 ms without", "p99 ms beside poison", "good requests", "failed", "wrong", "poison answered"]
    return ("## Good requests beside 10 % of poisoned ones, 16 clients\n\nPoison in turn: not a number or an index out of range, a byte "
            "too few, an axis too long.\n\n" + table(head, rows)) if rows else ""


def memory(records, names, goals):
    rows = []
    for name in names:
        at = {when: next(iter(records.of("memory", server=name, when=when)), None) for when in ("ready", "loaded")}
        text = lambda when, key: f"{at[when][key]:.0f}" if at[when] else "–"
        drift = next((record["result"] for record in records.of("reload", server=name) if "result" in record), None)
        rows.append([name, text("ready", "rss_mib"), text("ready", "pss_mib"), text("loaded", "rss_mib"), text("loaded", "pss_mib"),
                     str(drift["rounds"]) if drift else "–",
                     " → ".join(f"{drift[key]:.0f}" for key in ("start_mib", "settled_mib", "end_mib")) if drift else "–",
                     f"{100 * drift['drift']:+.1f} %" if drift else "–"])
        if drift and name in OURS:
            goals.add(f"RSS drift over {drift['rounds']} reloads, %, ≤ 5", name, 100 * drift["drift"], lambda v: v <= 5, "{:+.1f}")
    head = ["server", "RSS MiB, ready", "PSS", "RSS MiB, after the loads", "PSS", "reloads", "RSS MiB: before → after a tenth → after all", "drift since a tenth"]
    return "## Memory, with all models loaded\n\n" + table(head, rows)


def markdown(found, skipped, given, busy, is_over):
    records, goals = Records(found), Goals()
    names = [name for name in given.servers if name not in skipped]
    cores = lambda which: ",".join(map(str, sorted(which)))
    parts = [
        f"# Side by side, {time.strftime('%Y-%m-%d %H:%M')}\n\n{platform.machine()}, {given.rounds} rounds of {given.seconds} s a cell, "
        f"servers in turn and in reverse; servers on core {cores(given.server_cores)}, the client on core {cores(given.client_cores)}. "
        f"Load average {busy[0]:.1f} before, {busy[-1]:.1f} after. Medians, with the range over the rounds. `millgate` runs tract, `millgate-ort` the faster of tract and ONNX Runtime.\n"]
    parts += [f"- **{name} is missing**: {' '.join(why.split())[:300]}" for name, why in skipped.items()]
    for name in names:
        ends = records.of("end", server=name)
        during = ", ".join(f"{end['during']} (exit code {end['code']})" for end in ends)
        parts += [f"- **{name} ended by itself** and was started again, during: {during}"] if ends else []
    failed = [record for record in found if "error" in record]
    parts += [f"- {len(failed)} measurements failed; the first: {' '.join(str(failed[0]).split())[:300]}"] if failed else []
    parts += ["- The time was over before all was measured."] if is_over else []
    if "closed" in given.parts:
        parts += [lone(records, given.models, names, goals), concurrent(records, given.models, names, goals, given),
                  latency_at(records, given.models, names, given)]
    if "open" in given.parts:
        parts.append(offered(records, names, goals))
    if "poison" in given.parts:
        parts.append(poison(records, given.models, names, goals))
    parts.append(memory(records, names, goals))
    if goals.rows:
        parts.append("## Goals\n\n" + table(["goal", "server", "measured", ""], goals.rows))
    return "\n".join(part for part in parts if part)
