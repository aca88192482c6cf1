"""`meshd doctor`: what is wrong with this host, and what to do about each thing."""

from __future__ import annotations
