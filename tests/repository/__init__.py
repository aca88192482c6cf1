"""The repository itself: what the wheel holds, and what no file may say."""
