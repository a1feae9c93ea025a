"""The battery: attempts to get out of a runtime or to look into others, each a small harmless program of our own."""
