"""Programs for whoever works on meshd; none is part of what is installed."""
