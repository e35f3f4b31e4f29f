"""Second delivery of the events that receipts name as owed, without a commit."""
