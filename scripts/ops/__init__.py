"""What the scripts share. Standard library only, apart from compose.py, which uses the Docker SDK."""
