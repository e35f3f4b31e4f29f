#!/usr/bin/env bash
# Send events: one JSON value on each line of standard input, all of one pipeline.
#
# bash produce.sh orders < orders.ndjson
set -euo pipefail

# Idempotent: a retry after a lost response does not write the event twice. The partitioner is that
# of the other clients: kcat's default would use another partition for the same pipeline.
exec kcat -P -b "${KAFKA_BROKERS:-127.0.0.1:9092}" -t events -k "$1" \
    -X enable.idempotence=true -X topic.partitioner=murmur2_random
