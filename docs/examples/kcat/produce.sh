#!/usr/bin/env bash
# Send events: one JSON value on each line of standard input, all of one pipeline.
#
# bash produce.sh orders < orders.ndjson
set -euo pipefail

# Idempotent: what kcat sends again after a lost answer is not there twice. The partitioner is that
# of the other clients: without it, kcat would put the same pipeline into another partition.
exec kcat -P -b "${KAFKA_BROKERS:-127.0.0.1:9092}" -t events -k "$1" \
    -X enable.idempotence=true -X topic.partitioner=murmur2_random
