"""Training, export and measures. `metrics` and the data modules need NumPy only; the rest needs PyTorch."""
