"""The Inspector's HTTP server: routes, log-in and headers, without a Kafka client."""
