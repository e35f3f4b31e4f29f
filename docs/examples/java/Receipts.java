import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Follow the delivery receipts, each once, as a member of a consumer group.
 *
 * java -cp 'lib/*' Receipts.java my-group
 */
public class Receipts {
    static final int SEEN_MAX = 100_000;

    static void handle(JsonNode receipt) {
        String status = receipt.get("status").asText();
        // Only these have an object; of a `retrying` or `failed` window nothing is delivered.
        boolean isStored = status.equals("delivered") || status.equals("redelivered");
        System.out.printf("%s %s %d %s%n",
                status,
                receipt.get("destination").asText(),
                isStored ? receipt.get("object").get("lines").asLong() : 0,
                isStored ? receipt.get("object").get("key").asText() : "-");
    }

    static String header(ConsumerRecord<String, String> message, String name) {
        return new String(message.headers().lastHeader(name).value(), StandardCharsets.UTF_8);
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", System.getenv().getOrDefault("KAFKA_BROKERS", "127.0.0.1:9092"),
                "group.id", arguments[0],
                "auto.offset.reset", "earliest",
                "enable.auto.commit", false);
        var json = new ObjectMapper();
        Set<String> seen = Collections.newSetFromMap(new LinkedHashMap<String, Boolean>() {
            @Override
            protected boolean removeEldestEntry(Map.Entry<String, Boolean> oldest) {
                return size() > SEEN_MAX;
            }
        });
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of("delivery-receipts"));
            while (true) {
                for (var message : consumer.poll(Duration.ofSeconds(1))) {
                    if (seen.add(header(message, "ce_source") + " " + header(message, "ce_id"))) {
                        handle(json.readTree(message.value()));
                    }
                }
                consumer.commitSync();
            }
        }
    }
}
