"""From an event to a payload: JavaScript engine and fast path, without I/O or a clock."""
