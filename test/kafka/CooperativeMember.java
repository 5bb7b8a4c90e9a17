// A member of Apache Kafka's own client with the cooperative-sticky assignor, as its manual says one should be written: it
// commits what it has handled after each poll and once more when partitions are taken from it. (VerifiableConsumer does
// not do the latter, so that what it handles while a group shares out again is handled again by the next owner.)
//
// Run: java -cp "<jars>/*" CooperativeMember.java <servers> <topic and group>; one line per record: its value.
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;

public class CooperativeMember {
  public static void main(String[] args) throws Exception {
    Properties config = new Properties();
    config.put("bootstrap.servers", args[0]);
    config.put("group.id", args[1]);
    config.put("group.protocol", "classic");
    config.put("enable.auto.commit", "false");
    config.put("auto.offset.reset", "earliest");
    config.put("session.timeout.ms", "30000");
    config.put("heartbeat.interval.ms", "300");
    config.put("partition.assignment.strategy", CooperativeStickyAssignor.class.getName());
    KafkaConsumer<String, String> consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    Map<TopicPartition, OffsetAndMetadata> handled = new HashMap<>();
    Thread main = Thread.currentThread();
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      consumer.wakeup();
      try {
        main.join(20_000);
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
    }));
    consumer.subscribe(List.of(args[1]), new ConsumerRebalanceListener() {
      @Override
      public void onPartitionsRevoked(Collection<TopicPartition> parts) {
        Map<TopicPartition, OffsetAndMetadata> last = new HashMap<>(handled);
        last.keySet().retainAll(parts);
        // A wakeup may already be waiting for the next call; what it interrupts is tried once more.
        try {
          consumer.commitSync(last);
        } catch (WakeupException e) {
          consumer.commitSync(last);
        }
        handled.keySet().removeAll(parts);
      }

      @Override
      public void onPartitionsAssigned(Collection<TopicPartition> parts) {}
    });
    try {
      while (true) {
        for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
          System.out.println(record.value());
          handled.put(new TopicPartition(record.topic(), record.partition()), new OffsetAndMetadata(record.offset() + 1));
        }
        try {
          consumer.commitSync(handled);
        } catch (RebalanceInProgressException e) {
          // The next poll goes on with the rebalance; what is taken away is committed there.
        }
      }
    } catch (WakeupException e) {
      // Told to end.
    } finally {
      consumer.close();
    }
  }
}
