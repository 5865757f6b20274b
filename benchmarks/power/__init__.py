"""The parts of latency_power.py."""
