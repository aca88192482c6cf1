"""The order of a proof between nodes, and what it is worth, by calling the deciders."""
