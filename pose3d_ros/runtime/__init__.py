"""Networks at run time: the model store (fetch, check, convert) and the engines that run ONNX files."""

import os

# ONNX Runtime from 1.29 on writes an identifier to the disk and reports its use over the network, unless told otherwise
# before it is imported. A robot does not do that unasked; whoever wants it sets the variable to 0.
os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')
