"""Keeps long-lived agents' conversations: many sequences in one llama.cpp context, in a child process of their own."""
