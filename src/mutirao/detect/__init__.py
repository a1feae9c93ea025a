"""Pure: code in, findings out. Opens no socket and no database."""
