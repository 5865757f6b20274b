"""Pure data and decisions: neither pytest, nor torch, nor a network."""
