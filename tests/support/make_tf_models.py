"""Make TensorFlow models of several kinds in the folder given: run by the builder's Python."""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf

folder = sys.argv[1]
layers = tf.keras.layers

# Two inputs of different dtypes and two outputs.
left = tf.keras.Input((4,), name="left")
right = tf.keras.Input((4,), name="right")
total = layers.Add(name="total")([left, right])
product = layers.Multiply(name="product")([left, right])
tf.keras.Model([left, right], [total, product]).save(f"{folder}/two.keras")


class Doubler(tf.Module):
    """A SavedModel with a named signature and a variable."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="values")])
    def serve(self, values):  # type: ignore[no-untyped-def]
        return {"doubled": values * self.factor}


module = Doubler()
tf.saved_model.save(module, f"{folder}/doubler", signatures={"serving_default": module.serve})
