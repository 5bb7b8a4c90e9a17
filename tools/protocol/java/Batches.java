// Apache Kafka's classes as the judge of record batches. See tools/protocol/judge-batches.ts.
//   java -cp 'libs/*' Batches.java read   one batch in hex per line on stdin; one JSON array of records per line
//   java -cp 'libs/*' Batches.java write  batches made by Java: one JSON object per line
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.Random;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.*;

public class Batches {
  static final HexFormat HEX = HexFormat.of();

  public static void main(String[] args) throws Exception {
    if (args[0].equals("read")) {
      BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        System.out.println(describe(MemoryRecords.readableRecords(ByteBuffer.wrap(HEX.parseHex(line)))));
      }
      return;
    }
    Compression[] kinds = {
      Compression.NONE, Compression.gzip().build(), Compression.zstd().build(), Compression.snappy().build(),
      Compression.lz4().build(),
    };
    Random random = new Random(7);
    for (Compression kind : kinds) {
      for (int size : new int[] {1, 3, 40}) {
        ByteBuffer buffer = ByteBuffer.allocate(1 << 16);
        MemoryRecordsBuilder builder = MemoryRecords.builder(buffer, RecordBatch.CURRENT_MAGIC_VALUE, kind,
            TimestampType.CREATE_TIME, 1000L, RecordBatch.NO_TIMESTAMP, 4711L, (short) 3, 17);
        for (int i = 0; i < size; i++) {
          builder.append(1_760_000_000_000L + i * (long) random.nextInt(100_000) - 50_000L,
              random.nextInt(4) == 0 ? null : bytes(random, 20),
              random.nextInt(4) == 0 ? null : bytes(random, 200), headers(random));
        }
        ByteBuffer bytes = builder.build().buffer();
        byte[] raw = new byte[bytes.remaining()];
        bytes.duplicate().get(raw);
        System.out.printf("{\"name\":\"%s, %d records\",\"hex\":\"%s\",\"records\":%s}%n",
            kind.type().name, size, HEX.formatHex(raw), describe(MemoryRecords.readableRecords(bytes)));
      }
    }
  }

  static Header[] headers(Random random) {
    Header[] headers = new Header[random.nextInt(3)];
    for (int i = 0; i < headers.length; i++) {
      headers[i] = new RecordHeader(random.nextBoolean() ? "ключ" : "h" + i, random.nextInt(3) == 0 ? null : bytes(random, 80));
    }
    return headers;
  }

  static byte[] bytes(Random random, int max) {
    byte[] bytes = new byte[random.nextInt(max)];
    random.nextBytes(bytes);
    return bytes;
  }

  static String describe(MemoryRecords records) {
    StringBuilder out = new StringBuilder("[");
    for (MutableRecordBatch batch : records.batches()) {
      batch.ensureValid();
      for (var record : batch) {
        if (out.length() > 1) out.append(',');
        out.append(String.format("{\"offset\":%d,\"timestampMs\":%d,\"key\":%s,\"value\":%s,\"sequence\":%d,\"producerId\":%d,"
            + "\"transactional\":%b,\"headers\":[", record.offset(), record.timestamp(), hex(record.key()), hex(record.value()),
            record.sequence(), batch.producerId(), batch.isTransactional()));
        for (int i = 0; i < record.headers().length; i++) {
          Header header = record.headers()[i];
          out.append(i == 0 ? "" : ",").append(String.format("[\"%s\",%s]",
              HEX.formatHex(header.key().getBytes(StandardCharsets.UTF_8)),
              header.value() == null ? "null" : "\"" + HEX.formatHex(header.value()) + "\""));
        }
        out.append("]}");
      }
    }
    return out.append("]").toString();
  }

  static String hex(ByteBuffer bytes) {
    if (bytes == null) return "null";
    byte[] raw = new byte[bytes.remaining()];
    bytes.duplicate().get(raw);
    return "\"" + HEX.formatHex(raw) + "\"";
  }
}
