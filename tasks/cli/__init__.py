"""What `inv` loads: tasks, terminal output and confirmation."""
