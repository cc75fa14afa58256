"""Latency of a bundle on this machine: measured in turns, with advice, tables and a page."""
