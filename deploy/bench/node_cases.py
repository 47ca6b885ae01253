#!/usr/bin/env python3
"""The node cases of the onnx package, and others made at random, through the pool or the built-in engine alone.

    deploy/bench/node_cases.py --engine tract                 # the onnx package's own, through the pool
    deploy/bench/node_cases.py --engine auto --onnxruntime-library FILE
    deploy/bench/node_cases.py --bare                         # the built-in engine without a pool and its self-test
    deploy/bench/node_cases.py --bare --random 40 --seed 7    # 40 of each operator, judged by onnxruntime
    deploy/bench/node_cases.py --compare tract=A.jsonl auto=B.jsonl   # the table of docs/serving.md, from --results

Needs the packages of tests/tritonclient/requirements.txt and the binaries (`cargo build --release -p millgate-cloud
-p millgate-load`). Prints a table by operator; the exit code is 1 if any answer was wrong or anything crashed.
"""

import argparse
import collections
import json
import os
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

from nodes import bare, made, own, pool  # noqa: E402

COLUMNS = ["right", "rounding", "refused at load", "refused at request", "refused at run", "not a tensor", "WRONG", "CRASH", "ENDLESS", "judges differ"]
BAD = {"WRONG", "CRASH", "ENDLESS"}


def flags():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["tract", "auto", "onnxruntime"], default="tract", help="of the pool")
    parser.add_argument("--onnxruntime-library", type=pathlib.Path, help="default: that of the Python package")
    parser.add_argument("--bare", action="store_true", help="the built-in engine through millgate-load, without a pool")
    parser.add_argument("--fixed-shapes", action="store_true", help="with --bare: load for the shapes of the inputs alone")
    parser.add_argument("--random", type=int, metavar="N", help="N made cases of each operator instead of the package's")
    parser.add_argument("--seed", type=int, default=1, help="of the made cases")
    parser.add_argument("--operators", type=lambda text: set(text.split(",")), help="made cases of these alone")
    parser.add_argument("-k", default="", help="only cases whose name holds this")
    parser.add_argument("--binaries", type=pathlib.Path, default=target / "release", help="where they lie")
    parser.add_argument("--results", type=pathlib.Path, help="each case as a line of JSON")
    parser.add_argument("--keep", type=pathlib.Path, help="a folder for the models of what was wrong")
    parser.add_argument("--compare", nargs="+", metavar="NAME=FILE", help="earlier results side by side; runs nothing")
    return parser.parse_args()


def library(given):
    if given:
        return given
    import onnxruntime

    folder = pathlib.Path(onnxruntime.__file__).parent / "capi"
    return next(folder.glob("libonnxruntime.*"))


def table(cases) -> str:
    """Operators that behave alike share a row."""
    counts = collections.defaultdict(collections.Counter)
    for case in cases:
        counts[case.family][case.outcome] += 1
    used = [column for column in COLUMNS if any(count[column] for count in counts.values())]
    lines = ["| operator | " + " | ".join(used) + " |", "| --- |" + " ---: |" * len(used)]
    for family in sorted(counts):
        lines.append(f"| {family} | " + " | ".join(str(counts[family][column] or "") for column in used) + " |")
    total = collections.Counter(case.outcome for case in cases)
    lines.append(f"| **all {len(cases)}** | " + " | ".join(f"**{total[column]}**" for column in used) + " |")
    return "\n".join(lines)


def compare(named) -> str:
    """Operators by engine: right and refused. Those that are right everywhere share the last row but one."""
    columns, rows = [], collections.defaultdict(lambda: collections.defaultdict(collections.Counter))
    for pair in named:
        name, _, path = pair.partition("=")
        columns.append(name)
        for line in pathlib.Path(path).read_text().splitlines():
            case = json.loads(line)
            outcome = {"rounding": "right"}.get(case["outcome"], case["outcome"])
            outcome = outcome if outcome in {"right", *BAD} else "refused"
            for operator in (case["operator"], "**all**"):
                rows[operator][name][outcome] += 1
    plain, lines = [], ["| operator | cases | " + " | ".join(columns) + " |", "| --- | ---: |" + " ---: |" * len(columns)]
    def cell(count):
        bad = sum(count[outcome] for outcome in BAD)
        return f"{count['right']}" + (f", **{bad} wrong**" if bad else "")

    whole = rows.pop("**all**")
    for operator in sorted(rows):
        counts = [rows[operator][name] for name in columns]
        cases = sum(counts[0].values())
        if all(count["right"] == cases for count in counts):
            plain.append((operator, cases))
            continue
        lines.append(f"| {operator} | {cases} | " + " | ".join(cell(count) for count in counts) + " |")
    others = sum(cases for _, cases in plain)
    lines.append(f"| {len(plain)} others | {others} |" + f" {others} |" * len(columns))
    lines.append(f"| **all** | {sum(whole[columns[0]].values())} | " + " | ".join(cell(whole[name]) for name in columns) + " |")
    return "\n".join(lines)


def main() -> int:
    given = flags()
    if given.compare:
        print(compare(given.compare))
        return 0
    cases = made.cases(given.seed, given.random, given.operators) if given.random else own.cases()
    cases = [case for case in cases if given.k in case.name]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        if given.bare:
            bare.run(cases, given.binaries / "millgate-load", folder / "cases", given.fixed_shapes)
        else:
            with_library = None if given.engine == "tract" else library(given.onnxruntime_library)
            pool.run(cases, given.binaries / "millgate-cloud", folder / "pool", given.engine, with_library)
    for case in cases:
        if given.random and case.outcome == "WRONG":
            other = made.second_opinion(case)
            if other and not other.startswith("?"):
                case.outcome, case.detail = "judges differ", f"{case.detail}; the judges: {other}"
    print(table(cases))
    bad = [case for case in cases if case.outcome in BAD]
    for case in bad:
        print(f"{case.outcome} {case.name}: {case.detail}")
        if given.keep:
            given.keep.mkdir(parents=True, exist_ok=True)
            (given.keep / f"{case.name}.onnx").write_bytes(case.model)
    if given.results:
        with given.results.open("w") as file:
            for case in cases:
                line = {"name": case.name, "operator": case.family, "outcome": case.outcome, "detail": case.detail}
                file.write(json.dumps(line) + "\n")
    print(f"{len(cases)} cases, {len(bad)} wrong or crashed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
