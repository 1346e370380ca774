"""What runs beside Triton when a profile asks for it: the gateway, and what others add, a small file each."""
