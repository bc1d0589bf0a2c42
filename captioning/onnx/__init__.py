"""Captioning by onnxruntime, without torch: the graphs of a model folder, and the engine that runs them."""
