"""Configuration: settings, `.env`, database URL."""
