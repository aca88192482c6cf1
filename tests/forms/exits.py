"""A module that ends whoever imports it, but not the agent."""

raise SystemExit(3)
