"""INT8 by explicit Q/DQ: what is quantized, with which ranges, what is left out, and if it is good enough."""
