"""Hosts on real networks: network namespaces joined by a bridge, or by a wire that can be made bad."""
