#!/usr/bin/env bash
# Print the present delivery receipts, each once, as JSON. Only those with the status `delivered` or
# `redelivered` have an object.
#
# bash receipts.sh
set -euo pipefail

# %h is "ce_specversion=1.0,ce_id=...,ce_source=...": equal for both copies of a receipt.
kcat -C -b "${KAFKA_BROKERS:-127.0.0.1:9092}" -t delivery-receipts -o beginning -e -q \
    -f '%h\t%s\n' |
    awk -F '\t' '{
        name = ""
        count = split($1, headers, ",")
        for (i = 1; i <= count; i++)
            if (headers[i] ~ /^ce_(source|id)=/) name = name " " headers[i]
        if (!seen[name]++) print $2
    }'
