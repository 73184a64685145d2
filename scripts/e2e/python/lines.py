"""Calls come as lines of JSON and are answered as lines of JSON; see lib/program.mjs."""

import json
import sys
import threading

_lock = threading.Lock()


def say(line):
    with _lock:
        print(json.dumps(line), flush=True)


def serve(calls):
    for line in sys.stdin:
        call = json.loads(line)
        try:
            say({"result": calls[call.pop("call")](**call)})
        except Exception as error:  # pylint: disable=broad-except
            say({"error": f"{type(error).__name__}: {error}"})
