"""The wheel works in other people's projects."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support import Database, Databases

ROOT = Path(__file__).resolve().parent.parent
BARE = "from invoke_postgres import ns\n"
OWN = '''
from invoke.collection import Collection
from invoke.tasks import task
import invoke_postgres

@task
def lint(ctx):
    """Lint."""
    print("linted")

ns = Collection(lint)
ns.add_collection(invoke_postgres.database)
'''


def uv(*arguments: str) -> None:
    """Run uv, which the README tells to install."""
    program = shutil.which("uv")
    command = [program] if program else [sys.executable, "-m", "uv"]
    subprocess.run([*command, *arguments], check=True, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel and nothing of the repository; its folder of programs."""
    folder = tmp_path_factory.mktemp("wheel")
    # As the README says it: the wheel is made from the source archive.
    uv("build", "--quiet", "--out-dir", str(folder))
    uv("venv", "--quiet", "--python", sys.executable, str(folder / "venv"))
    (wheel,) = folder.glob("*.whl")
    uv("pip", "install", "--quiet", "--python", str(folder / "venv" / "bin" / "python"), str(wheel))
    return folder / "venv" / "bin"


def run(project: Path, installed: Path, database: Database, *arguments: str) -> str:
    """Run `inv` of the fresh environment in a project, where it must end in 0."""
    environment = {
        "PATH": f"{installed}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(project),
        "LC_ALL": "C.UTF-8",
        "INVOKE_DB_BIN_DIR": str(database.server.bin_dir),
        "INVOKE_DB_DUMPS_DIR": "kept/here",
    }
    (project / ".env").write_text(f'DATABASE_URL="{database.url}"\n', encoding="utf-8")
    done = subprocess.run(
        [str(installed / "inv"), *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("tasks", [BARE, OWN], ids=["bare", "own-tasks"])
def test_the_wheel_dumps_and_restores_in_another_project(
    tasks: str, installed: Path, database: Database, new_database: Databases, tmp_path: Path
) -> None:
    """`inv --list`, a dump and a restore, with that project's `.env` and INVOKE_DB_DUMPS_DIR."""
    (tmp_path / "tasks.py").write_text(tasks, encoding="utf-8")
    database.execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS i")
    copy = new_database()

    listed = run(tmp_path, installed, database, "--list")
    run(tmp_path, installed, database, "db.dump", "--gzip")
    (dump,) = (tmp_path / "kept" / "here").glob("db_dump_*.sql.gz")
    run(tmp_path, installed, copy, "db.restore", f"--file={dump}", "db.verify")

    assert "db.restore" in listed
    assert ("lint" in listed) == (tasks is OWN)
    assert copy.scalar("SELECT count(*) FROM t") == 100


def test_the_wheel_holds_the_package_alone(installed: Path) -> None:
    """No top-level `tasks` is put into site-packages."""
    names = {path.name for path in (installed.parent / "lib").glob("python*/site-packages/*")}

    assert "invoke_postgres" in names
    assert not names & {"tasks", "tasks.py", "tests", "examples"}


def test_vendoring_works(database: Database, new_database: Databases, tmp_path: Path) -> None:
    """A copy of `tasks.py` and `tasks/` in another repository dumps and restores as well."""
    shutil.copy(ROOT / "tasks.py", tmp_path)
    shutil.copytree(ROOT / "tasks", tmp_path / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
    database.execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS i")
    copy = new_database()

    run(tmp_path, Path(sys.executable).parent, database, "db.dump", "--file=whole.sql")
    run(tmp_path, Path(sys.executable).parent, copy, "db.restore", "--file=whole.sql", "db.verify")

    assert copy.scalar("SELECT count(*) FROM t") == 100
