import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** Calls come as lines of JSON and are answered as lines of JSON; see lib/program.mjs. */
final class Lines {
  interface Call {
    JsonElement make(JsonObject arguments) throws Exception;
  }

  static final Gson GSON = new Gson();

  private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

  private Lines() {}

  static void serve(Map<String, Call> calls) throws IOException {
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line; (line = in.readLine()) != null; ) {
      JsonObject arguments = JsonParser.parseString(line).getAsJsonObject();
      Call call = calls.get(text(arguments, "call"));
      try {
        if (call == null) {
          throw new IllegalArgumentException("no such call");
        }
        say("result", call.make(arguments));
      } catch (Exception e) {
        say("error", GSON.toJsonTree(e.toString()));
      }
    }
  }

  static synchronized void say(String kind, JsonElement what) {
    JsonObject line = new JsonObject();
    line.add(kind, what);
    OUT.println(line);
  }

  static String text(JsonObject arguments, String name) {
    return arguments.has(name) ? arguments.get(name).getAsString() : null;
  }

  static List<String> texts(JsonObject arguments, String name) {
    List<String> all = new ArrayList<>();
    if (arguments.has(name)) {
      arguments.getAsJsonArray(name).forEach(each -> all.add(each.getAsString()));
    }
    return all;
  }
}
