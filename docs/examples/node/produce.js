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
  // What the client sends again after a lost answer is not there twice.
  idempotent: true,
  // That of the other clients: the default would put the same pipeline into another partition.
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
// Resolves when the brokers have all of them; throws if they do not take one.
if (messages.length > 0) await producer.send({ messages })
await producer.close()
