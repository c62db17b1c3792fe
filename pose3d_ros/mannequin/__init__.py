"""The free mannequin: a body model made by formulas, and the steps by which it is made."""
