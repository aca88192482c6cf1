"""What runs on a node, service by service: each module makes one, `service` says what one is, `node` has the list."""
