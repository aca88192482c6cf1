"""The command line: one module a group of commands; results on stdout, messages on stderr."""
