"""What lies in `dumps/`: names, streams, statements, manifests. Knows nothing of a server."""
