"""TensorFlow to ONNX, with golden samples of the source model's own answers."""
