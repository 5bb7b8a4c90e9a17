// Makes test/fixtures/kafka/cooperative-sticky-assignor.json.gz: random groups that go through some rebalances each
// (members join and leave, topics grow and appear, subscriptions change, claims are stale or disputed), and what Kafka's
// own CooperativeStickyAssignor gives each member every time.
//
// Run: java -Dorg.slf4j.simpleLogger.defaultLogLevel=off -cp ".cache/kafka-4.3.1/libs/*" tools/protocol/CooperativeStickyVectors.java > test/fixtures/kafka/cooperative-sticky-assignor.json.gz
//
// [[round, …], …]; a round is { p: partitions by topic, m: [[member id, instance id, topics, owned, generation, generation
// in the assignor's bytes], …], a: assigned by member }. Topics are letters. A generation of null is not said at all.
import java.io.OutputStreamWriter;
import java.io.Writer;
import java.nio.ByteBuffer;
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
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.common.Cluster;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;

public class CooperativeStickyVectors {
  static final int GROUPS = 1000;
  static final Random random = new Random(20261122);
  static int names = 0;

  static class Member {
    String id;
    String instance;
    List<String> topics;
    List<TopicPartition> owned = new ArrayList<>();
    int generation = -1;
    // How its subscription says the generation: in the field (version 2 and later), in the assignor's bytes, or not.
    int says;
  }

  public static void main(String[] args) throws Exception {
    try (Writer out = new OutputStreamWriter(new GZIPOutputStream(System.out), StandardCharsets.UTF_8)) {
      out.write("[\n");
      for (int i = 0; i < GROUPS; i++) {
        out.write("[");
        group(out, i);
        out.write(i + 1 < GROUPS ? "],\n" : "]\n");
      }
      out.write("]\n");
    }
  }

  static void group(Writer out, int index) throws Exception {
    boolean large = index % 20 == 19;
    boolean alike = large ? index % 60 == 59 : random.nextInt(2) == 0;
    TreeMap<String, Integer> counts = new TreeMap<>();
    int topicCount = 1 + random.nextInt(5);
    for (int t = 0; t < topicCount; t++) counts.put("" + (char) ('a' + t), random.nextInt(9) == 0 ? 0 : 1 + random.nextInt(large ? 30 : 9));
    List<Member> members = new ArrayList<>();
    int memberCount = large ? 4 + random.nextInt(12) : 1 + random.nextInt(6);
    for (int m = 0; m < memberCount; m++) members.add(join(counts, alike));
    int rounds = 2 + random.nextInt(5);
    for (int generation = 1; generation <= rounds; generation++) {
      if (generation > 1) disturb(members, counts, alike);
      if (generation > 1) out.write(",\n ");
      round(out, members, counts, generation);
    }
  }

  static Member join(TreeMap<String, Integer> counts, boolean alike) {
    Member member = new Member();
    member.id = (random.nextBoolean() ? "Svc" : "svc") + Integer.toHexString(random.nextInt()) + names++;
    member.instance = random.nextInt(8) == 0 ? "pod" + names : null;
    member.topics = topics(counts, alike);
    int says = random.nextInt(8);
    member.says = says == 0 ? 1 : says == 1 ? 2 : 0;
    return member;
  }

  static List<String> topics(TreeMap<String, Integer> counts, boolean alike) {
    List<String> topics = new ArrayList<>();
    for (String topic : counts.keySet()) if (alike || random.nextInt(3) > 0) topics.add(topic);
    if (topics.isEmpty()) topics.add(counts.firstKey());
    Collections.shuffle(topics, random);
    return topics;
  }

  // Something happens between two rebalances.
  static void disturb(List<Member> members, TreeMap<String, Integer> counts, boolean alike) {
    for (int n = random.nextInt(3); n > 0; n--) {
      switch (random.nextInt(8)) {
        case 0, 1 -> members.add(random.nextInt(members.size() + 1), join(counts, alike));
        case 2, 3 -> { if (members.size() > 1) members.remove(random.nextInt(members.size())); }
        case 4 -> {
          String topic = (String) counts.keySet().toArray()[random.nextInt(counts.size())];
          counts.put(topic, counts.get(topic) + 1 + random.nextInt(4));
        }
        case 5 -> {
          counts.put("" + (char) ('a' + counts.size()), 1 + random.nextInt(6));
          if (alike) for (Member member : members) member.topics = new ArrayList<>(counts.keySet());
        }
        case 6 -> { if (!alike) {
          Member member = members.get(random.nextInt(members.size()));
          member.topics = topics(counts, false);
          // A member gives up at once what it does not want any more.
          if (random.nextBoolean()) member.owned.removeIf(tp -> !member.topics.contains(tp.topic()));
        } }
        default -> {
          Member member = members.get(random.nextInt(members.size()));
          Member other = members.get(random.nextInt(members.size()));
          switch (random.nextInt(4)) {
            // It lost everything.
            case 0 -> { member.owned.clear(); member.generation = -1; }
            // It slept through some generations.
            case 1 -> member.generation = Math.max(-1, member.generation - 1 - random.nextInt(2));
            // It claims what another has.
            default -> { for (TopicPartition tp : other.owned) if (random.nextInt(2) == 0 && member.topics.contains(tp.topic()) && !member.owned.contains(tp)) member.owned.add(tp); }
          }
        }
      }
    }
  }

  static void round(Writer out, List<Member> members, TreeMap<String, Integer> counts, int generation) throws Exception {
    Node node = new Node(1, "localhost", 9092);
    List<PartitionInfo> infos = new ArrayList<>();
    counts.forEach((topic, count) -> {
      for (int p = 0; p < count; p++) infos.add(new PartitionInfo(topic, p, node, new Node[] {node}, new Node[] {node}));
    });
    Cluster cluster = new Cluster("c", List.of(node), infos, Collections.emptySet(), Collections.emptySet());
    // Java would give a member back what it held generations ago even when it does not subscribe to that topic any more; its
    // own members never say so, because they give such partitions up before they join.
    int latest = -1;
    for (Member member : members) if (member.says != 2) latest = Math.max(latest, member.generation);
    for (Member member : members) if (member.says == 2 || member.generation < latest) member.owned.removeIf(tp -> !member.topics.contains(tp.topic()));
    Map<String, Subscription> subscriptions = new HashMap<>();
    StringBuilder line = new StringBuilder("{\"p\":{");
    counts.forEach((topic, count) -> line.append(line.charAt(line.length() - 1) == '{' ? "" : ",").append(text(topic)).append(":").append(count));
    line.append("},\"m\":[");
    for (Member member : members) {
      ByteBuffer userData = member.says == 1 ? ByteBuffer.allocate(4).putInt(0, member.generation) : null;
      int field = member.says == 0 ? member.generation : -1;
      Subscription subscription = new Subscription(member.topics, userData, member.owned, field, Optional.empty());
      subscription.setGroupInstanceId(Optional.ofNullable(member.instance));
      subscriptions.put(member.id, subscription);
      if (line.charAt(line.length() - 1) != '[') line.append(",");
      line.append("[").append(text(member.id)).append(",").append(member.instance == null ? "null" : text(member.instance)).append(",").append(text(String.join("", member.topics)));
      line.append(",").append(parts(member.owned)).append(",").append(member.says == 0 ? member.generation : "null").append(",").append(member.says == 1 ? member.generation : "null").append("]");
    }
    Map<String, Assignment> result = new CooperativeStickyAssignor().assign(cluster, new GroupSubscription(subscriptions)).groupAssignment();
    line.append("],\"a\":{");
    for (Member member : members) {
      List<TopicPartition> assigned = result.get(member.id).partitions();
      if (line.charAt(line.length() - 1) != '{') line.append(",");
      line.append(text(member.id)).append(":").append(parts(assigned));
      member.owned = new ArrayList<>(assigned);
      member.generation = generation;
    }
    out.write(line.append("}}").toString());
  }

  static String text(String value) {
    return "\"" + value + "\"";
  }

  static String parts(List<TopicPartition> parts) {
    TreeMap<String, List<Integer>> byTopic = new TreeMap<>();
    for (TopicPartition tp : parts) byTopic.computeIfAbsent(tp.topic(), topic -> new ArrayList<>()).add(tp.partition());
    StringBuilder out = new StringBuilder("{");
    byTopic.forEach((topic, list) -> {
      Collections.sort(list);
      out.append(out.length() > 1 ? "," : "").append(text(topic)).append(":").append(list.toString().replace(" ", ""));
    });
    return out.append("}").toString();
  }
}
