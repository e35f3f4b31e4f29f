import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Send events: one JSON value on each line of standard input, all of one pipeline.
 *
 * java -cp 'lib/*' Produce.java orders < orders.ndjson
 */
public class Produce {
    public static void main(String[] arguments) throws Exception {
        String pipeline = arguments[0];
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", System.getenv().getOrDefault("KAFKA_BROKERS", "127.0.0.1:9092"),
                // A retry after a lost response does not write the event twice.
                "enable.idempotence", true,
                "linger.ms", 20);
        var failure = new AtomicReference<Exception>();
        var input = new InputStreamReader(System.in, StandardCharsets.UTF_8);
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
                var lines = new BufferedReader(input)) {
            for (String line; (line = lines.readLine()) != null && failure.get() == null; ) {
                if (!line.isBlank()) {
                    // Waits when `buffer.memory` is full, and sends in the background otherwise.
                    producer.send(new ProducerRecord<>("events", pipeline, line), (written, error) -> {
                        if (error != null) failure.compareAndSet(null, error);
                    });
                }
            }
            // Every event is sent, or has failed, when this returns.
            producer.flush();
        }
        if (failure.get() != null) throw failure.get();
    }
}
