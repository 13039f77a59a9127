"""The `remediate` command; each command is a module of its own that is loaded when it is asked for."""
