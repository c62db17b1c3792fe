"""Networks at run time: the model store (fetch, check, convert) and the engines that run ONNX files."""
