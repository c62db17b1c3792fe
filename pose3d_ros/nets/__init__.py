"""The networks, in PyTorch. Robots run their ONNX exports and never import this package."""
