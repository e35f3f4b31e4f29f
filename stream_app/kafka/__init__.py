"""Kafka through aiokafka, which only this room and `worker` import, without decisions."""
