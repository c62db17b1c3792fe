"""Networks on NVIDIA GPUs with TensorRT."""
