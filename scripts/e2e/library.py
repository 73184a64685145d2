"""The calls of the official Python library against a running server.

Without terminate_user_connections: version 3.3.4 leaves /apps/{id} out of its path, which is nobody's path.
"""

import sys

import pusher

port, app_id, key, secret = sys.argv[1:]
hub = pusher.Pusher(app_id=app_id, key=key, secret=secret, host="127.0.0.1", port=int(port), ssl=False)

assert hub.trigger("chat", "x", {"n": 1}) == {}
assert hub.trigger(["chat", "other"], "x", {"n": 2}) == {}
assert hub.trigger_batch([{"channel": "chat", "name": "x", "data": {"n": n}} for n in (3, 4)]) == {}
assert hub.channels_info() == {"channels": {"chat": {}, "presence-lobby": {}}}
assert hub.channels_info("presence-", ["user_count"]) == {"channels": {"presence-lobby": {"user_count": 1}}}
assert hub.channel_info("presence-lobby", ["user_count", "subscription_count"]) == {
    "occupied": True, "user_count": 1, "subscription_count": 1}
assert hub.channel_info("nobody") == {"occupied": False}
assert hub.users_info("presence-lobby") == {"users": [{"id": "42"}]}
assert hub.send_to_user("u-7", "x", {}) == {}
try:
    hub.trigger("chat", "x", "y" * 10_239 + "zzz")
except Exception as error:  # pylint: disable=broad-except
    assert "10240" in str(error), error
else:
    raise AssertionError("an event that is too large was taken")
