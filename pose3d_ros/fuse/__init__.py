"""Several cameras, one set of people: who is who, robust triangulation, exchanged sides, motion; and extrinsics."""
