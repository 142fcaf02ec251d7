"""`resonance bench`: the engine's speed and memory, compared with the machine's limits and with other programs."""
