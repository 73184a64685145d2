"""Verifies webhooks with the official Python library: a line of JSON for each, in and out."""

import json
import sys

import pusher

for line in sys.stdin:
    hook = json.loads(line)
    hub = pusher.Pusher(app_id="77", key=hook["key"], secret=hook["secret"])
    headers = hook["headers"]
    body = hub.validate_webhook(headers["X-Pusher-Key"], headers["X-Pusher-Signature"], hook["body"])
    assert body is not None, "the library refuses " + line
    assert hub.validate_webhook(headers["X-Pusher-Key"], headers["X-Pusher-Signature"], hook["body"] + " ") is None
    print(json.dumps(body["events"]))
