"""Sessions: key exchange for two ends that can both speak (SPEC 18)."""
