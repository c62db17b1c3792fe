"""`pose3d bench`: how long networks and the pipeline take, on each runtime."""
