// Send events: one JSON value on each line of standard input, all of one pipeline.
//
// node produce.js orders < orders.ndjson

import { createInterface } from 'node:readline'
import { compatibilityPartitioner, Producer, stringSerializers } from '@platformatic/kafka'

const BATCH_MAX = 1_000

const [pipeline] = process.argv.slice(2)
const producer = new Producer({
  clientId: 'produce',
  bootstrapBrokers: (process.env.KAFKA_BROKERS ?? '127.0.0.1:9092').split(','),
  serializers: stringSerializers,
  // A retry after a lost response does not write the event twice.
  idempotent: true,
  // The partitioner of the other clients: the default would use another partition for the same pipeline.
  partitioner: compatibilityPartitioner
})

let messages = []
for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim() !== '') messages.push({ topic: 'events', key: pipeline, value: line })
  if (messages.length === BATCH_MAX) {
    await producer.send({ messages })
    messages = []
  }
}
// Resolves when the brokers have acknowledged all; throws if one is refused.
if (messages.length > 0) await producer.send({ messages })
await producer.close()
