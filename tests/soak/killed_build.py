"""A process that works on a set of shards until it is killed, run as `killed_build.py <what, as JSON>`.

It says "ready" before it begins. With `event` it kills itself (SIGKILL) just before the event's turn: the opening,
renaming or removing of a file below `below`, counted in itself or (`who`: worker) in any of its worker processes.
At its end it prints how many there were.
"""

import json
import os
import signal
import sys
from pathlib import Path

from clef.datasets.cards import Card
from clef.sharding import build, shard_plan
from clef.sharding.reshard import reshard

FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir"}


def main(what: dict) -> None:
    """Count the events, and do what is asked."""
    main_process, seen = os.getpid(), 0

    def count(event: str, arguments: tuple) -> None:
        nonlocal seen
        counted = (os.getpid() == main_process) == (what["who"] == "main")
        if counted and event in FILE_EVENTS and str(arguments[0]).startswith(what["below"]):
            seen += 1
            if seen == what["event"]:
                os.kill(main_process, signal.SIGKILL)

    print("ready", flush=True)
    sys.addaudithook(count)
    work(what)
    print(seen, flush=True)


def work(what: dict) -> None:
    """One command of `python -m clef.shard`."""
    card, source, out = Card.model_validate_json(what["card"]), Path(what["source"]), Path(what["out"])
    if what["command"] == "build":
        build.build(card, source, out, what["workers"])
    elif what["command"] == "part":
        build.build_part(card, source, out, shard_plan.parse_part(what["part"]), what["workers"])
    elif what["command"] == "finish":
        build.finish_parts(card, source, out)
    else:
        reshard(source, what["samples"], out, what["workers"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
