"""The Inspector: what became of each event, read from the events and the receipts topic alone.

Its core (`outcomes`, `rows`, `minutes`) is handed messages and returns what a page shows; its shell
reads topics and objects and serves the page. It only reads, and it changes nothing.
"""
