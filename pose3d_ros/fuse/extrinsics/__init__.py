"""Where cameras stand, from the people that they see together: see `estimate` for the whole of it."""
