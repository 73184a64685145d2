import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.pusher.rest.Pusher;
import com.pusher.rest.data.Event;
import com.pusher.rest.data.PresenceUser;
import com.pusher.rest.data.Result;
import com.pusher.rest.data.Validity;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** The calls of the official Java library against a running server. It has none for users. */
public final class Library {
  private static Pusher hub;

  private Library() {}

  public static void main(String[] args) throws Exception {
    hub = new Pusher(args[1], args[2], args[3], args[4]);
    hub.setHost("127.0.0.1:" + args[0]);
    hub.setRequestTimeout(60_000);
    Lines.serve(Map.of(
        "trigger", call -> answer(hub.trigger(Lines.texts(call, "channels"), Lines.text(call, "event_name"), call.get("data"), Lines.text(call, "socket_id"))),
        "batch", call -> answer(hub.trigger(batch(call))),
        "channels", call -> answer(hub.get("/channels", parameters(call, "prefix"))),
        "channel", call -> answer(hub.get("/channels/" + Lines.text(call, "channel"), parameters(call, null))),
        "users", call -> answer(hub.get("/channels/" + Lines.text(call, "channel") + "/users")),
        "authorize", Library::authorize,
        "webhook", Library::webhook));
  }

  private static JsonElement answer(Result result) {
    if (result.getStatus() != Result.Status.SUCCESS) {
      throw new IllegalStateException(result.getHttpStatus() + " " + result.getMessage());
    }
    return JsonParser.parseString(result.getMessage());
  }

  private static List<Event> batch(JsonObject call) {
    List<Event> batch = new ArrayList<>();
    for (JsonElement each : call.getAsJsonArray("batch")) {
      JsonObject event = each.getAsJsonObject();
      batch.add(new Event(Lines.text(event, "channel"), Lines.text(event, "name"), event.get("data")));
    }
    return batch;
  }

  private static Map<String, String> parameters(JsonObject call, String prefix) {
    Map<String, String> parameters = new HashMap<>();
    if (call.has("info")) {
      parameters.put("info", String.join(",", Lines.texts(call, "info")));
    }
    if (prefix != null && call.has(prefix)) {
      parameters.put("filter_by_prefix", Lines.text(call, prefix));
    }
    return parameters;
  }

  private static JsonElement authorize(JsonObject call) {
    String socket = Lines.text(call, "socket_id");
    String channel = Lines.text(call, "channel");
    if (!call.has("user")) {
      return JsonParser.parseString(hub.authenticate(socket, channel));
    }
    JsonObject user = call.getAsJsonObject("user");
    return JsonParser.parseString(hub.authenticate(socket, channel, new PresenceUser(Lines.text(user, "user_id"), user.get("user_info"))));
  }

  private static JsonElement webhook(JsonObject call) {
    JsonObject headers = call.getAsJsonObject("headers");
    String body = Lines.text(call, "body");
    Validity validity = hub.validateWebhookSignature(Lines.text(headers, "X-Pusher-Key"), Lines.text(headers, "X-Pusher-Signature"), body);
    if (validity != Validity.VALID) {
      throw new IllegalArgumentException("the webhook is " + validity);
    }
    return JsonParser.parseString(body).getAsJsonObject().get("events");
  }
}
