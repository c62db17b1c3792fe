"""Several cameras, one person: triangulation that survives wrong views and exchanged sides."""
