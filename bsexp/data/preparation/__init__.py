"""Data sets from their original files, written as TFDS folders without TensorFlow."""
