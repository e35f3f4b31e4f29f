// Make a CloudEvent of a receipt as kafkajs hands it out, with Buffers.

import { Kafka } from 'cloudevents'

export function toEvent(message) {
  // With Buffers as headers the SDK fails: contentType.startsWith is not a function.
  const headers = Object.fromEntries(
    Object.entries(message.headers).map(([name, value]) => [name, value.toString()])
  )
  return Kafka.toEvent({ ...message, headers, value: message.value.toString() })
}
