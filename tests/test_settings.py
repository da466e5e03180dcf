"""Settings are cast once: a value that can't be used is a sentence, and paths start at the project."""

from pathlib import Path

import pytest
from invoke.config import Config
from invoke.context import Context

from tasks.config.defaults import DEFAULTS
from tasks.config.settings import Output, Settings, load_settings
from tasks.dumpformat.compression import Compression
from tasks.errors import BadInputError
from tests.support import Project


def loaded(root: Path, values: dict[str, object] | None = None, *, flag: str = "") -> Settings:
    """Load the settings as a task does, with values over the defaults.

    :param flag: The task's `--url-env`.
    """
    config = Config(defaults={"db": {**DEFAULTS, **(values or {})}, "run": {"dry": False}}, lazy=True)
    config.set_project_location(root)
    return load_settings(Context(config), url_env=flag)


def test_defaults_are_what_the_documentation_says(tmp_path: Path) -> None:
    """Nothing needs to be configured."""
    settings = loaded(tmp_path)

    assert settings.root == tmp_path
    assert settings.cwd == Path.cwd()
    assert settings.dumps == tmp_path / "dumps"
    assert settings.url_env == "DATABASE_URL"
    assert settings.bin_dir is None
    assert settings.prisma_dir is None
    assert settings.migrate_command == ""
    assert settings.compress is Compression.NONE
    assert settings.lock_timeout == 10_000
    assert settings.protected == ()
    assert settings.output is Output.NORMAL
    assert settings.dry is False


@pytest.mark.parametrize(
    ("name", "value", "attribute", "expected"),
    [
        ("lock_timeout", "0", "lock_timeout", 0),
        ("lock_timeout", "5", "lock_timeout", 5000),
        ("lock_timeout", 5, "lock_timeout", 5000),
        ("lock_timeout", 0.5, "lock_timeout", 500),
        ("lock_timeout", " 250ms ", "lock_timeout", 250),
        ("lock_timeout", "1.5s", "lock_timeout", 1500),
        ("lock_timeout", "2 min", "lock_timeout", 120_000),
        ("compress", "ZSTD", "compress", Compression.ZSTD),
        ("compress", "", "compress", Compression.NONE),
        ("compress", None, "compress", Compression.NONE),
        ("output", "quiet", "output", Output.QUIET),
        ("output", "Verbose", "output", Output.VERBOSE),
        ("protected", "db.example.com, shop", "protected", ("db.example.com", "shop")),
        ("protected", ["a", " b ", ""], "protected", ("a", "b")),
        ("protected", None, "protected", ()),
        ("url_env", "DIRECT_URL", "url_env", "DIRECT_URL"),
    ],
)
def test_value_is_cast(name: str, value: object, attribute: str, expected: object, tmp_path: Path) -> None:
    """From a text of the environment, or from what YAML makes of it."""
    settings = loaded(tmp_path, {name: value})

    assert getattr(settings, attribute) == expected


@pytest.mark.parametrize(
    ("name", "value", "attribute", "expected"),
    [
        ("dumps_dir", "backups", "dumps", "backups"),
        ("dumps_dir", "../backups", "dumps", "../backups"),
        ("dumps_dir", "/var/backups", "dumps", "/var/backups"),
        ("dumps_dir", "with blank, ünïcödé", "dumps", "with blank, ünïcödé"),
        ("bin_dir", "bin", "bin_dir", "bin"),
        ("prisma_dir", "packages/db", "prisma_dir", "packages/db"),
    ],
)
def test_path_starts_at_the_project(name: str, value: str, attribute: str, expected: str, tmp_path: Path) -> None:
    """Wherever the person stands."""
    settings = loaded(tmp_path, {name: value})

    assert getattr(settings, attribute) == tmp_path / expected


@pytest.mark.parametrize(("name", "attribute"), [("dumps_dir", "dumps"), ("bin_dir", "bin_dir")])
def test_tilde_is_the_home(name: str, attribute: str, tmp_path: Path) -> None:
    """In a file of configuration no shell expands it."""
    settings = loaded(tmp_path, {name: "~/somewhere"})

    assert getattr(settings, attribute) == Path.home() / "somewhere"


BAD = [
    ("lock_timeout", "abc"),
    ("lock_timeout", "-1"),
    ("lock_timeout", "10h"),
    ("lock_timeout", "1e3"),
    ("lock_timeout", ""),
    ("lock_timeout", "inf"),
    ("lock_timeout", "25days"),
    ("lock_timeout", "99999999999"),
    ("compress", "lz4"),
    ("compress", "gzip9"),
    ("output", "loud"),
    ("dumps_dir", ""),
    ("dumps_dir", "  "),
    ("url_env", ""),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=[f"{name}={value}" for name, value in BAD])
def test_value_that_can_not_be_used_is_refused(name: str, value: str, tmp_path: Path) -> None:
    """The sentence names the setting, its variable, and what it is."""
    with pytest.raises(BadInputError) as raised:
        loaded(tmp_path, {name: value})

    assert f"db.{name} (INVOKE_DB_{name.upper()})" in str(raised.value)
    assert f"it is {value!r}" in str(raised.value)


@pytest.mark.parametrize("value", [["a"], {"a": 1}, True], ids=str)
@pytest.mark.parametrize("name", sorted(DEFAULTS.keys() - {"protected", "local"}))
def test_value_of_the_wrong_kind_is_refused(name: str, value: object, tmp_path: Path) -> None:
    """YAML has lists, mappings and booleans; none is a folder's name or a number."""
    with pytest.raises(BadInputError, match=rf"db\.{name}\b"):
        loaded(tmp_path, {name: value})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LOCK_TIMEOUT", "soon"),
        ("COMPRESS", "bzip2"),
        ("OUTPUT", "1"),
        ("DUMPS_DIR", ""),
        ("URL_ENV", ""),
        ("URL_ENV", "postgresql://u:s3cr3t@h/d"),
        ("BIN_DIR", "/nowhere"),
    ],
)
def test_bad_variable_ends_in_a_sentence(variable: str, value: str, project: Project) -> None:
    """Exit 2 (3 where a program is missing), one line, no traceback, nothing written."""
    project.env["DATABASE_URL"] = "postgresql://postgres@127.0.0.1:1/x"

    result = project.inv("db.dump", env={f"INVOKE_DB_{variable}": value})

    assert result.returncode == (4 if variable == "BIN_DIR" else 2)
    assert result.stderr.count("\n") == 1
    assert "s3cr3t" not in result.stderr
    assert not list(project.dumps.glob("db_dump*"))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("db: 5", "`db`"),
        ("db: [1]", "`db`"),
        ("db:", "`db`"),
        ("db: {trust: [a]}", "INVOKE_"),
        ("db: {keep: [a]}", "db.keep"),
        ("db: {trust: {a: 1}}", "`db.trust`"),
        ("run: 5", "`run`"),
        ("- 1", "invoke.yaml"),
        ('db: "x', "line 1"),
    ],
)
def test_a_file_of_the_wrong_type_ends_in_a_sentence(text: str, named: str, project: Project) -> None:
    """Invoke merges and reads it before a task begins; that ends with exit code 2 and without a traceback."""
    project.write("invoke.yaml", text + "\n")

    result = project.inv("db.list", fresh=True)

    assert result.returncode == 2
    assert named in result.stderr
    assert "Traceback" not in result.stderr


def test_an_error_of_a_task_is_shown_as_before(project: Project) -> None:
    """Only errors of the configuration end in a sentence."""
    shown = project.root / "tasks.py"
    shown.write_text(
        f"{shown.read_text()}\nfrom invoke.tasks import task\n@task\ndef broken(c): return c.config.nothing\n"
        "ns.add_task(broken)\n"
    )

    result = project.inv("broken", fresh=True)

    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_task_flag_goes_before_the_configuration(tmp_path: Path) -> None:
    """`--url-env` over `db.url_env`."""
    assert loaded(tmp_path, {"url_env": "A"}, flag="B").url_env == "B"


def test_invoke_yaml_is_honoured_and_the_environment_wins(project: Project) -> None:
    """In Invoke's own order."""
    project.write("invoke.yaml", "db:\n  dumps_dir: backups\n  url_env: OTHER_URL\n")
    project.write("backups/a.sql", "x")
    project.write("elsewhere/b.sql", "x")
    env = {"OTHER_URL": "postgresql://u@other.example/d", "DATABASE_URL": "postgresql://u@wrong.example/d"}

    listed = project.inv("db.list")
    overridden = project.inv("db.list", env={"INVOKE_DB_DUMPS_DIR": "elsewhere"})
    shown = project.inv("db.url", env=env)

    assert "a.sql" in listed.stdout
    assert "b.sql" in overridden.stdout
    assert "a.sql" not in overridden.stdout
    assert "other.example" in shown.stdout


def test_project_is_where_tasks_py_is_when_somebody_stands_deeper(project: Project) -> None:
    """The dumps, the `.env` and `invoke.yaml` are found from any folder below."""
    project.write(".env", 'DATABASE_URL="postgresql://u@found.example/d"\n')
    project.write("invoke.yaml", "db:\n  dumps_dir: backups\n")
    project.write("backups/a.sql", "x")
    below = project.root / "src" / "deep"
    below.mkdir(parents=True)

    listed = project.inv("db.list", cwd=below)
    shown = project.inv("db.url", cwd=below)

    assert "a.sql" in listed.stdout
    assert "found.example" in shown.stdout


ENV, PRISMA = 'DATABASE_URL="postgresql://u@root.example/d"\n', 'DATABASE_URL="postgresql://u@prisma.example/d"\n'


@pytest.mark.parametrize(
    ("environment", "root", "prisma", "host", "source"),
    [
        ("postgresql://u@environment.example/d", ENV, PRISMA, "environment.example", "environment"),
        (None, ENV, PRISMA, "root.example", ".env"),
        (None, "OTHER=1\n", PRISMA, "prisma.example", "prisma/.env"),
        (None, None, PRISMA, "prisma.example", "prisma/.env"),
    ],
    ids=["environment", "file in the root", "prisma's file after another", "prisma's file"],
)
def test_url_comes_from_the_first_that_has_it(
    environment: str | None, root: str | None, prisma: str, host: str, source: str, project: Project
) -> None:
    """The environment, then `.env`, then `prisma/.env`; and `db.url` says which."""
    if root is not None:
        project.write(".env", root)
    project.write("prisma/.env", prisma)

    result = project.inv("db.url", env={"DATABASE_URL": environment})

    assert result.returncode == 0, result.stderr
    assert f"DATABASE_URL from {source}" in result.stdout
    assert host in result.stdout


def test_url_of_a_monorepo_is_that_of_its_application(project: Project) -> None:
    """The one workspace with a schema has the URL; of two, `prisma_dir` has to name one."""
    project.write("package.json", '{"workspaces": ["apps/*"]}')
    for name in ("web", "admin"):
        project.write(f"apps/{name}/package.json", "{}")
        project.write(f"apps/{name}/.env", f'DATABASE_URL="postgresql://u@{name}.example/d"\n')
    project.write("apps/web/prisma/schema.prisma", "")

    alone = project.inv("db.url")
    project.write("apps/admin/prisma/schema.prisma", "")
    refused = project.inv("db.url")
    chosen = project.inv("db.url", env={"INVOKE_DB_PRISMA_DIR": "apps/admin"})

    assert [alone.returncode, refused.returncode, chosen.returncode] == [0, 2, 0]
    assert "DATABASE_URL from apps/web/.env" in alone.stdout
    assert "apps/admin, apps/web" in refused.stderr
    assert "admin.example" in chosen.stdout


def test_missing_url_is_a_sentence(project: Project) -> None:
    """It says where one is looked for."""
    result = project.inv("db.url")

    assert result.returncode == 2
    assert "DATABASE_URL" in result.stderr
