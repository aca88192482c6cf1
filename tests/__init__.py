"""Shows that each package does what it says, alone and together."""
