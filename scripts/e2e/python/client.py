"""pysher, which does what it is told, and tells what it hears.

It knows no encrypted channels, and takes its part in presence channels with the app's secret only: what its
auth_endpoint answers for those it does not use.
"""

import json
import logging
import queue
import sys
import threading

import pysher

from lines import say, serve

port, key, endpoint, user, secret = sys.argv[1:]
logging.basicConfig(stream=sys.stderr, level=logging.WARNING)


def connect(**options):
    """A client of its own: one has the secret or an endpoint."""
    client = pysher.Pusher(key=key, custom_host="127.0.0.1", port=int(port), secure=False, auto_sub=True,
                           reconnect_interval=1, user_data={"user_id": user, "user_info": {"name": f"name of {user}"}}, **options)
    connected = threading.Event()

    def on_established(_):
        tell(state="connected")
        connected.set()

    client.connection.bind("pusher:connection_established", on_established)
    # What a subscription brings is lost if it comes before the bindings, which pysher allows only after it. So
    # it is done as the README of pysher does it, in the thread that would bring it.
    client.to_do = queue.SimpleQueue()

    def on_pong(_):
        while not client.to_do.empty():
            client.to_do.get()()

    client.connection.bind("pusher:pong", on_pong)
    client.connection.bind("pusher:error", lambda data: tell(error=data))
    client.connect()
    connected.wait()
    return client


def tell(**what):
    say({"told": what})


with_endpoint = connect(auth_endpoint=endpoint, auth_endpoint_headers={"X-User": user})
with_secret = None


def client_of(channel):
    global with_secret  # pylint: disable=global-statement
    if not channel.startswith("presence-"):
        return with_endpoint
    if with_secret is None:
        with_secret = connect(secret=secret)
    return with_secret


def subscribe(channel, events=()):
    client = client_of(channel)

    def succeeded(data):
        tell(subscribed=channel)
        for name, info in json.loads(data).get("presence", {}).get("hash", {}).items():
            tell(channel=channel, here=name, info=json.dumps(info))

    def member(kind):
        def changed(data):
            change = json.loads(data)
            tell(**{"channel": channel, kind: change["user_id"], "info": json.dumps(change.get("user_info"))})
        return changed

    def do():
        subscribed = client.subscribe(channel)
        subscribed.bind("pusher_internal:subscription_succeeded", succeeded)
        subscribed.bind("pusher_internal:member_added", member("joining"))
        subscribed.bind("pusher_internal:member_removed", member("leaving"))
        for name in events:
            subscribed.bind(name, lambda data, name=name: tell(channel=channel, event=name, data=data))

    client.to_do.put(do)
    client.connection.send_ping()


serve({
    "subscribe": subscribe,
    "unsubscribe": lambda channel: client_of(channel).unsubscribe(channel),
    "trigger": lambda channel, event_name, data: client_of(channel).channel(channel).trigger(event_name, data),
})
