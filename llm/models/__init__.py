"""Model files: which ones a name means, where they come from, and what this node keeps of them."""
