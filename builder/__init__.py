"""The builder: model spec -> ONNX -> engine -> parity gate -> release on the models volume."""
