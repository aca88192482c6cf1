"""The agent: configuration, wiring, and the doors for people and programs."""

__version__ = "0.1.0"
