// Makes test/fixtures/kafka/range-assignor.json.gz: random groups and what Kafka's own RangeAssignor gives each member.
// Run: java -Dorg.slf4j.simpleLogger.defaultLogLevel=off -cp ".cache/kafka-4.3.1/libs/*" tools/protocol/RangeVectors.java > test/fixtures/kafka/range-assignor.json.gz
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.TreeMap;
import java.util.zip.GZIPOutputStream;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Assignment;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.GroupSubscription;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Subscription;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.common.Cluster;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;

public class RangeVectors {
  public static void main(String[] args) throws Exception {
    Random random = new Random(20261122);
    StringBuilder out = new StringBuilder("[\n");
    int cases = 1000;
    for (int i = 0; i < cases; i++) {
      int topicCount = 1 + random.nextInt(5);
      TreeMap<String, Integer> counts = new TreeMap<>();
      List<PartitionInfo> infos = new ArrayList<>();
      Node node = new Node(1, "localhost", 9092);
      for (int t = 0; t < topicCount; t++) {
        int partitions = random.nextInt(8) == 0 ? 0 : 1 + random.nextInt(13);
        String topic = "topic-" + (char) ('a' + t);
        counts.put(topic, partitions);
        for (int p = 0; p < partitions; p++) infos.add(new PartitionInfo(topic, p, node, new Node[] {node}, new Node[] {node}));
      }
      Cluster cluster = new Cluster("c", List.of(node), infos, Collections.emptySet(), Collections.emptySet());
      int memberCount = 1 + random.nextInt(7);
      Map<String, Subscription> subscriptions = new HashMap<>();
      StringBuilder members = new StringBuilder();
      for (int m = 0; m < memberCount; m++) {
        String memberId = (random.nextBoolean() ? "Svc" : "svc") + "-" + Integer.toHexString(random.nextInt()) + "-" + m;
        List<String> topics = new ArrayList<>();
        for (String topic : counts.keySet()) if (random.nextInt(3) > 0) topics.add(topic);
        Collections.shuffle(topics, random);
        String instance = random.nextInt(6) == 0 ? "pod-" + random.nextInt(20) + "-" + m : null;
        Subscription subscription = new Subscription(topics);
        subscription.setGroupInstanceId(Optional.ofNullable(instance));
        subscriptions.put(memberId, subscription);
        if (m > 0) members.append(",");
        members.append("{\"memberId\":\"").append(memberId).append("\",\"instanceId\":").append(instance == null ? "null" : "\"" + instance + "\"").append(",\"topics\":").append(list(topics)).append("}");
      }
      Map<String, Assignment> result = new RangeAssignor().assign(cluster, new GroupSubscription(subscriptions)).groupAssignment();
      StringBuilder assigned = new StringBuilder();
      boolean first = true;
      for (Map.Entry<String, Assignment> entry : new TreeMap<>(result).entrySet()) {
        TreeMap<String, List<Integer>> byTopic = new TreeMap<>();
        for (TopicPartition tp : entry.getValue().partitions()) byTopic.computeIfAbsent(tp.topic(), k -> new ArrayList<>()).add(tp.partition());
        if (!first) assigned.append(",");
        first = false;
        assigned.append("\"").append(entry.getKey()).append("\":{");
        boolean firstTopic = true;
        for (Map.Entry<String, List<Integer>> t : byTopic.entrySet()) {
          Collections.sort(t.getValue());
          if (!firstTopic) assigned.append(",");
          firstTopic = false;
          assigned.append("\"").append(t.getKey()).append("\":").append(t.getValue().toString().replace(" ", ""));
        }
        assigned.append("}");
      }
      StringBuilder partitions = new StringBuilder();
      for (Map.Entry<String, Integer> entry : counts.entrySet()) {
        if (partitions.length() > 0) partitions.append(",");
        partitions.append("\"").append(entry.getKey()).append("\":").append(entry.getValue());
      }
      out.append("{\"partitions\":{").append(partitions).append("},\"members\":[").append(members).append("],\"assigned\":{").append(assigned).append("}}");
      out.append(i + 1 < cases ? ",\n" : "\n");
    }
    try (GZIPOutputStream zipped = new GZIPOutputStream(System.out)) {
      zipped.write(out.append("]\n").toString().getBytes(StandardCharsets.UTF_8));
    }
  }

  static String list(List<String> values) {
    StringBuilder out = new StringBuilder("[");
    for (String value : values) out.append(out.length() > 1 ? "," : "").append("\"").append(value).append("\"");
    return out.append("]").toString();
  }
}
