"""Kafka events to S3 once a minute, exactly once, with a receipt for every object."""

__version__ = "0.2.0"
