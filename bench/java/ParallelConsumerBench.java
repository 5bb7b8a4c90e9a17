import com.sun.management.OperatingSystemMXBean;
import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.lang.management.ManagementFactory;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Line 5's peer: Confluent's Parallel Consumer, ordered by key, whose handlers sleep. Its defaults apart from order,
 * concurrency and the size of a poll. Prints one line of JSON, the same that our own arm prints.
 */
public final class ParallelConsumerBench {
  private static final int KEYS = 5_000;

  private final int count;
  private final int warmUp;
  private final long sleepNanos;
  private final CountDownLatch done = new CountDownLatch(1);
  private final boolean[] busy = new boolean[KEYS];
  private final long[] lastOffset = new long[KEYS];
  private final double[] sleptMs = new double[KEYS];
  private final OperatingSystemMXBean machine =
      (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
  private int handled;
  private int running;
  private int runningMax;
  private int overlaps;
  private int disorder;
  private long numbers;
  private double totalMs;
  private long startNanos;
  private long startCpu;
  private boolean begun;
  private String report = "";

  private ParallelConsumerBench(int count, int warmUp, long sleepNanos) {
    this.count = count;
    this.warmUp = warmUp;
    this.sleepNanos = sleepNanos;
    java.util.Arrays.fill(lastOffset, -1);
  }

  public static void main(String[] args) throws Exception {
    String servers = args[0];
    String topic = args[1];
    int count = Integer.parseInt(args[2]);
    int warmUp = Integer.parseInt(args[3]);
    int concurrency = Integer.parseInt(args[4]);
    long sleepNanos = Math.round(Double.parseDouble(args[5]) * 1e6);
    ParallelConsumerBench bench = new ParallelConsumerBench(count, warmUp, sleepNanos);
    Map<String, Object> config =
        Map.of(
            "bootstrap.servers", servers,
            "group.id", "bench-" + topic + "-" + ProcessHandle.current().pid(),
            "auto.offset.reset", "earliest",
            "enable.auto.commit", false,
            "max.poll.records", 5_000);
    KafkaConsumer<String, byte[]> consumer =
        new KafkaConsumer<>(config, new StringDeserializer(), new ByteArrayDeserializer());
    ParallelStreamProcessor<String, byte[]> processor =
        ParallelStreamProcessor.createEosStreamProcessor(
            ParallelConsumerOptions.<String, byte[]>builder()
                .ordering(ProcessingOrder.KEY)
                .maxConcurrency(concurrency)
                .consumer(consumer)
                .build());
    processor.subscribe(List.of(topic));
    processor.poll(context -> bench.handle(context.getSingleConsumerRecord()));
    bench.done.await();
    System.out.println(bench.report);
    System.out.flush();
    Runtime.getRuntime().halt(0);
  }

  private void handle(ConsumerRecord<String, byte[]> record) {
    int customer = Integer.parseInt(record.key().substring(5));
    long began = System.nanoTime();
    begin(customer, record.offset(), began);
    long until = began + sleepNanos;
    for (long left = sleepNanos; left > 0; left = until - System.nanoTime()) {
      LockSupport.parkNanos(left);
    }
    long ended = System.nanoTime();
    end(customer, record.offset(), began, ended);
  }

  private synchronized void begin(int customer, long offset, long now) {
    if (!begun && warmUp == 0) measureFrom(now);
    if (busy[customer]) overlaps++;
    busy[customer] = true;
    if (lastOffset[customer] >= offset) disorder++;
    lastOffset[customer] = offset;
    runningMax = Math.max(runningMax, ++running);
  }

  private synchronized void end(int customer, long offset, long began, long ended) {
    busy[customer] = false;
    running--;
    numbers += offset;
    if (begun) {
      double ms = (ended - began) / 1e6;
      totalMs += ms;
      sleptMs[customer] += ms;
    }
    handled++;
    if (handled == warmUp) measureFrom(ended);
    if (handled == count) finish(ended);
  }

  private void measureFrom(long now) {
    begun = true;
    startNanos = now;
    startCpu = machine.getProcessCpuTime();
  }

  private void finish(long now) {
    double hottestMs = 0;
    for (double ms : sleptMs) hottestMs = Math.max(hottestMs, ms);
    report =
        String.format(
            Locale.ROOT,
            "{\"wallMs\":%.3f,\"cpuUsPerMessage\":%.4f,\"sleptMs\":%.3f,\"hottestMs\":%.3f,\"handled\":%d,"
                + "\"numbers\":%d,\"disorder\":%d,\"overlaps\":%d,\"runningMax\":%d,\"counters\":null}",
            (now - startNanos) / 1e6,
            (machine.getProcessCpuTime() - startCpu) / 1e3 / (count - warmUp),
            totalMs,
            hottestMs,
            handled,
            numbers,
            disorder,
            overlaps,
            runningMax);
    done.countDown();
  }
}
