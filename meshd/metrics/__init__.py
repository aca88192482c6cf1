"""What this node counts and measures, for Prometheus and for the console. docs/metrics.md lists every name."""
