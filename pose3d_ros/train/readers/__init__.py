"""Readers of motion files as they are downloaded: each turns one file into clips of the 17 joints of HUMAN17."""
