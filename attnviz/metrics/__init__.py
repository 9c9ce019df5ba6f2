"""Pure functions of maps and records that give one number per image."""
