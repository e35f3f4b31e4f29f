"""Metrics, health and the minute's summary of a worker, without influence on it."""
