// Follow the delivery receipts, each once, as a member of a consumer group.
//
// node receipts.js my-group

import { Consumer, stringDeserializers } from '@platformatic/kafka'

const SEEN_MAX = 100_000

function handle(receipt) {
  // Only these have an object; of a `retrying` or `failed` window nothing is delivered.
  const isStored = ['delivered', 'redelivered'].includes(receipt.status)
  const { lines, key } = isStored ? receipt.object : { lines: 0, key: '-' }
  console.log(receipt.status, receipt.destination, lines, key)
}

const [groupId] = process.argv.slice(2)
const consumer = new Consumer({
  groupId,
  clientId: 'receipts',
  bootstrapBrokers: (process.env.KAFKA_BROKERS ?? '127.0.0.1:9092').split(','),
  deserializers: stringDeserializers
})
const receipts = await consumer.consume({
  topics: ['delivery-receipts'],
  mode: 'committed',
  fallbackMode: 'earliest',
  autocommit: false
})

const seen = new Set() // a Set keeps its order: the oldest is first
for await (const message of receipts) {
  const name = `${message.headers.get('ce_source')} ${message.headers.get('ce_id')}`
  if (!seen.has(name)) {
    seen.add(name)
    handle(JSON.parse(message.value))
  }
  if (seen.size > SEEN_MAX) seen.delete(seen.values().next().value)
  await message.commit()
}
