"""The `pose3d` command: one module per sub-command, each with add_parser(subparsers) and run(args) -> exit status."""
