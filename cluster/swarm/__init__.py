"""The stack file of Docker Swarm, made from the Compose files.

It needs nothing but Python 3.8's standard library, since ./scripts/swarm runs it with its own interpreter.
"""
