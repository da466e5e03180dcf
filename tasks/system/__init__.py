"""Programs, signals and streams of this machine."""
