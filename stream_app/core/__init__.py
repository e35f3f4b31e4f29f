"""Decisions about windows, objects, receipts and commits, without I/O, clock or asyncio."""
