"""`pose3d evaluate paper` (under way)."""


def add_parser(subparsers: object) -> None:
    """Add nothing yet."""
