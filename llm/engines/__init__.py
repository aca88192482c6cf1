"""What answers a request on the host that has the model."""
