import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonNull;
import com.pusher.client.Pusher;
import com.pusher.client.PusherOptions;
import com.pusher.client.channel.Channel;
import com.pusher.client.channel.PresenceChannelEventListener;
import com.pusher.client.channel.PrivateChannel;
import com.pusher.client.channel.PrivateEncryptedChannelEventListener;
import com.pusher.client.channel.PusherEvent;
import com.pusher.client.channel.User;
import com.pusher.client.connection.ConnectionEventListener;
import com.pusher.client.connection.ConnectionStateChange;
import com.pusher.client.util.HttpChannelAuthorizer;
import com.pusher.client.util.HttpUserAuthenticator;
import java.util.Map;
import java.util.Set;

/** The official Java client, which does what it is told, and tells what it hears. */
public final class Client {
  private static Pusher pusher;

  private Client() {}

  public static void main(String[] args) throws Exception {
    HttpChannelAuthorizer channels = new HttpChannelAuthorizer(args[2]);
    channels.setHeaders(Map.of("X-User", args[3]));
    HttpUserAuthenticator users = new HttpUserAuthenticator(args[2]);
    users.setHeaders(Map.of("X-User", args[3]));
    pusher = new Pusher(args[1], new PusherOptions().setHost("127.0.0.1").setWsPort(Integer.parseInt(args[0])).setUseTLS(false)
        .setChannelAuthorizer(channels).setUserAuthenticator(users)
        .setMaxReconnectionAttempts(1000).setMaxReconnectGapInSeconds(1));
    pusher.user().bindGlobal(Client::tell);
    pusher.connect(new ConnectionEventListener() {
      @Override
      public void onConnectionStateChange(ConnectionStateChange change) {
        tell("state", change.getCurrentState().toString().toLowerCase());
      }

      @Override
      public void onError(String message, String code, Exception e) {
        tell("error", message + " " + code);
      }
    });
    Lines.serve(Map.of("subscribe", Client::subscribe, "unsubscribe", Client::unsubscribe, "trigger", Client::trigger, "signin", Client::signin));
    pusher.disconnect();
    System.exit(0);
  }

  private static JsonElement subscribe(JsonObject call) {
    String name = Lines.text(call, "channel");
    Listener listener = new Listener();
    Channel channel;
    if (name.startsWith("private-encrypted-")) {
      channel = pusher.subscribePrivateEncrypted(name, listener);
    } else if (name.startsWith("private-")) {
      channel = pusher.subscribePrivate(name, listener);
    } else if (name.startsWith("presence-")) {
      channel = pusher.subscribePresence(name, listener);
    } else {
      channel = pusher.subscribe(name, listener);
    }
    channel.bindGlobal(listener);
    return JsonNull.INSTANCE;
  }

  private static JsonElement unsubscribe(JsonObject call) {
    pusher.unsubscribe(Lines.text(call, "channel"));
    return JsonNull.INSTANCE;
  }

  private static JsonElement trigger(JsonObject call) {
    String name = Lines.text(call, "channel");
    PrivateChannel channel = name.startsWith("presence-") ? pusher.getPresenceChannel(name) : pusher.getPrivateChannel(name);
    channel.trigger(Lines.text(call, "event_name"), call.get("data").toString());
    return JsonNull.INSTANCE;
  }

  private static JsonElement signin(JsonObject call) {
    pusher.signin();
    return JsonNull.INSTANCE;
  }

  private static void tell(String kind, String what) {
    JsonObject told = new JsonObject();
    told.addProperty(kind, what);
    Lines.say("told", told);
  }

  private static void tell(PusherEvent event) {
    JsonObject told = new JsonObject();
    told.addProperty("channel", event.getChannelName());
    told.addProperty("event", event.getEventName());
    told.addProperty("data", event.getData());
    told.addProperty("user_id", event.getUserId());
    Lines.say("told", told);
  }

  private static final class Listener implements PresenceChannelEventListener, PrivateEncryptedChannelEventListener {
    private static void member(String channel, String event, User user) {
      JsonObject told = new JsonObject();
      told.addProperty("channel", channel);
      told.addProperty(event, user.getId());
      told.addProperty("info", user.getInfo());
      Lines.say("told", told);
    }

    @Override
    public void onEvent(PusherEvent event) {
      if (!event.getEventName().startsWith("pusher")) {
        tell(event);
      }
    }

    @Override
    public void onSubscriptionSucceeded(String channel) {
      tell("subscribed", channel);
    }

    @Override
    public void onAuthenticationFailure(String message, Exception e) {
      tell("refused", message + " " + e);
    }

    @Override
    public void onDecryptionFailure(String event, String reason) {
      tell("undecipherable", event + " " + reason);
    }

    @Override
    public void onUsersInformationReceived(String channel, Set<User> users) {
      users.forEach(user -> member(channel, "here", user));
    }

    @Override
    public void userSubscribed(String channel, User user) {
      member(channel, "joining", user);
    }

    @Override
    public void userUnsubscribed(String channel, User user) {
      member(channel, "leaving", user);
    }
  }
}
