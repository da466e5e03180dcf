"""The server: targets, clients, sessions, the loading transaction, what a database holds."""
