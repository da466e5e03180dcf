"""Plain functions that compose the wings into what a task does. They know nothing of Invoke."""
