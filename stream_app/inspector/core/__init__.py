"""The Inspector's data, computed from messages without I/O, clock or asyncio."""
