"""Prisma: the project's own command line, and its migrations."""
