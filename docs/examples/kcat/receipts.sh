#!/usr/bin/env bash
# Print the delivery receipts that there are now, each once, as JSON.
#
# bash receipts.sh
set -euo pipefail

# %h is "ce_specversion=1.0,ce_id=...,ce_source=...": a receipt published twice has it twice.
kcat -C -b "${KAFKA_BROKERS:-127.0.0.1:9092}" -t delivery-receipts -o beginning -e -q \
    -f '%h\t%s\n' |
    awk -F '\t' '{
        name = ""
        count = split($1, headers, ",")
        for (i = 1; i <= count; i++)
            if (headers[i] ~ /^ce_(source|id)=/) name = name " " headers[i]
        if (!seen[name]++) print $2
    }'
