"""Dumps that several tests need alike: made in one project, and put into the projects of the others."""

from tests.support import Project

Files = dict[str, bytes]


def files_of(project: Project) -> Files:
    """Return the dumps of a project with all that lies beside them, but no folders."""
    return {path.name: path.read_bytes() for path in project.dumps.iterdir() if path.is_file()}


def put_files(project: Project, files: Files) -> None:
    """Put them into another project, with the rights of dumps."""
    for name, content in files.items():
        path = project.dumps / name
        path.write_bytes(content)
        path.chmod(0o600)
