"""Local Kafka broker and S3 server for the demo and the tests, with no knowledge of a worker."""
