"""What an unchanged `tritonclient` can ask of the pool, every answer compared with onnxruntime's.

    python suite.py --grpc HOST:PORT --http HOST:PORT --models DIR [--metrics HOST:PORT]
        [--engine tract|onnxruntime|auto] [-k WORDS]

Prints a line for each check; the exit code is 1 if any failed.
"""

import argparse
import pathlib
import sys
import traceback

import engine_checks  # noqa: F401
import grpc_checks  # noqa: F401
import http_checks  # noqa: F401
import metrics_checks  # noqa: F401
import repositories
import trials
from peer import CHECKS, Peer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grpc", required=True)
    parser.add_argument("--http", required=True)
    parser.add_argument("--models", required=True, type=pathlib.Path)
    parser.add_argument("--metrics", default="", help="HOST:PORT of /metrics")
    parser.add_argument("--engine", default="tract", choices=["tract", "onnxruntime", "auto"], help="what the pool runs with")
    parser.add_argument("-k", default="", help="only checks whose name holds this")
    arguments = parser.parse_args()
    peer = Peer(arguments.grpc, arguments.http, arguments.models, arguments.metrics, arguments.engine)
    failed = 0
    checks = CHECKS + repositories.CHECKS + trials.CHECKS
    for function in checks:
        name = function.__name__
        if arguments.k not in name:
            continue
        try:
            function(peer)
            print(f"ok   {name}")
        except Exception:  # noqa: BLE001
            failed += 1
            print(f"FAIL {name}")
            traceback.print_exc(file=sys.stdout)
    print(f"{len(checks)} checks, {failed} failed")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
