// Prints facts of the Java client as JSON: error codes, and murmur2 of some keys.
//   java -cp 'libs/*' tools/protocol/java/Facts.java errors|murmur2
import java.nio.charset.StandardCharsets;
import java.util.Random;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.utils.Utils;

public class Facts {
  public static void main(String[] args) {
    StringBuilder out = new StringBuilder("[\n");
    if (args[0].equals("errors")) {
      for (Errors e : Errors.values()) {
        boolean retriable = e.exception() instanceof RetriableException;
        out.append(String.format("[%d,\"%s\",%b],%n", e.code(), e.name(), retriable));
      }
    } else {
      Random random = new Random(42);
      for (int i = 0; i < 200; i++) {
        byte[] key = new byte[i < 70 ? i : random.nextInt(300)];
        random.nextBytes(key);
        row(out, key);
      }
      for (String text : new String[] {"", "a", "orders", "ключ", "21", "foobar", "a-little-bit-long-string"}) {
        row(out, text.getBytes(StandardCharsets.UTF_8));
      }
    }
    out.setLength(out.lastIndexOf(","));
    System.out.println(out.append("\n]"));
  }

  private static void row(StringBuilder out, byte[] key) {
    StringBuilder hex = new StringBuilder();
    for (byte b : key) hex.append(String.format("%02x", b));
    int hash = Utils.murmur2(key);
    out.append(String.format("[\"%s\",%d,%d],%n", hex, hash, Utils.toPositive(hash) % 12));
  }
}
