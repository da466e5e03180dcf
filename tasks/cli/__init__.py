"""The tasks that `inv` loads, their output and confirmations."""
