"""Pictures of people with known joints: bodies of tapered capsules, posed by motion capture, in two kinds of place."""
