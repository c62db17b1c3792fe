"""`pose3d doctor`: what is installed, what works, what is wrong and the cure."""
