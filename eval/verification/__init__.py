"""What `resonance verify` derives again, one module per kind of claim."""
