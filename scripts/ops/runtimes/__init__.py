"""The two ways to run: containers and plain processes."""
