"""`resonance bench`: how fast the engine is on this machine, beside its limits and beside other programs."""
