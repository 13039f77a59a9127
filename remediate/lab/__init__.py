"""Stand-ins for what a site runs: real processes with real faults, and nothing of the product itself."""
