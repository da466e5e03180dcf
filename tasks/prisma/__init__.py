"""The project's Prisma command line and its migrations."""
