"""Load the statements and rows of a dump into an open session, and verify the rows."""
