"""The format of the models volume: the one description of it, read by every part."""
