"""The calls of the official Python library against a running server.

Without terminate_user_connections: version 3.3.4 leaves /apps/{id} out of its path, which is nobody's path.
"""

import sys

import pusher

from lines import serve

port, app_id, key, secret, master_key = sys.argv[1:]
hub = pusher.Pusher(app_id=app_id, key=key, secret=secret, host="127.0.0.1", port=int(port), ssl=False,
                    encryption_master_key_base64=master_key, timeout=60)


def authorize(socket_id, channel, user=None):
    answer = hub.authenticate(channel, socket_id, user)
    if "shared_secret" in answer:
        answer["shared_secret"] = answer["shared_secret"].decode()
    return answer


def webhook(headers, body):
    valid = hub.validate_webhook(headers["X-Pusher-Key"], headers["X-Pusher-Signature"], body)
    if valid is None:
        raise ValueError("the webhook is not valid")
    return valid["events"]


serve({
    "trigger": hub.trigger,
    "batch": hub.trigger_batch,
    "channels": lambda prefix=None, info=(): hub.channels_info(prefix, list(info)),
    "channel": lambda channel, info=(): hub.channel_info(channel, list(info)),
    "users": hub.users_info,
    "send_to_user": hub.send_to_user,
    "authorize": authorize,
    "authenticate": hub.authenticate_user,
    "webhook": webhook,
})
