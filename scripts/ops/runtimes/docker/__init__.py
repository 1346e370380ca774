"""The Docker runtime: the stack as containers, by Compose."""
