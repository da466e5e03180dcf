"""Settings, `.env` files and database URLs."""
