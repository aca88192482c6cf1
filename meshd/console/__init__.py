"""The console on :3131: a page without a build step, the routes behind it, and metrics."""
