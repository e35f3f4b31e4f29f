#!/usr/bin/env python3
"""Connects to --bootstrap-server; the official command of this name also asks what the broker speaks."""

import socket
import sys

host, _, port = sys.argv[2].rpartition(":")
socket.create_connection((host, int(port)), timeout=5).close()
