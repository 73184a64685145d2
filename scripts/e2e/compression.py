"""Python's websockets against a running server, with windows of 12 bits both ways, as it recommends for saving memory.

Reads until an event "end" comes, sends each event of the channel back as a client event, and exits with an error if
something is not as it should be.
"""

import asyncio
import hashlib
import hmac
import json
import sys

import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

port, key, secret, channel = sys.argv[1:]


async def main():
    small = ClientPerMessageDeflateFactory(server_max_window_bits=12, client_max_window_bits=12)
    async with websockets.connect(f"ws://127.0.0.1:{port}/app/{key}?protocol=7", extensions=[small], max_size=None) as ws:
        assert [e.name for e in ws.protocol.extensions] == ["permessage-deflate"], ws.protocol.extensions
        assert ws.protocol.extensions[0].remote_max_window_bits == 12, ws.protocol.extensions
        socket_id = json.loads(json.loads(await ws.recv())["data"])["socket_id"]
        signature = hmac.new(secret.encode(), f"{socket_id}:{channel}".encode(), hashlib.sha256).hexdigest()
        await ws.send(json.dumps({"event": "pusher:subscribe", "data": {"channel": channel, "auth": f"{key}:{signature}"}}))
        assert json.loads(await ws.recv())["event"] == "pusher_internal:subscription_succeeded"
        print("ready", flush=True)
        while True:
            message = json.loads(await ws.recv())
            if message["event"] == "end":
                return
            if message["event"] == "text":
                await ws.send(json.dumps({"event": "client-back", "channel": channel, "data": message["data"]}))


asyncio.run(main())
