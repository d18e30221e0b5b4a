"""Pure functions with their equations: returns, policy and value losses, KL, soft backups, distributions."""
