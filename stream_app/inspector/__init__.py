"""The Inspector, a web page with the outcome of each event: reads Kafka and S3, writes nothing."""
