"""What a person at a real terminal gets: bars that move, no traceback, and nothing raw from a name."""

from __future__ import annotations

import io
import os
import re
import signal
from typing import TYPE_CHECKING

import pytest
from rich.console import Console
from rich.progress import Progress

from tasks.cli.terminal import Reporter, _bars, _share, print_table, shorten_middle
from tasks.config.settings import Output
from tasks.system.runtime import Interruption, interruptible
from tests.bulk import journal_like
from tests.terminals import at_a_terminal

if TYPE_CHECKING:
    from tests.support import Database, Project


@pytest.mark.parametrize("output", ["quiet", "normal", "verbose"])
def test_commands_work_at_a_terminal(output: str, database: Database, project: Project) -> None:
    """Dump, restore and verify end well with bars, and without a traceback."""
    journal_like(database, 50_000)
    project.use(database)
    project.env["INVOKE_DB_OUTPUT"] = output

    for arguments in (["db.dump", "--gzip"], ["db.restore", "--clean", "--yes"], ["db.verify"], ["db.list"]):
        code, said = at_a_terminal(project, *arguments)

        assert code == 0, said
        assert "Traceback" not in said
    assert "definitions agree." in at_a_terminal(project, "db.verify")[1]


def test_a_bar_moves_while_a_dump_is_made(database: Database, project: Project) -> None:
    """At a terminal the progress is drawn, with the table in work, and taken away at the end."""
    journal_like(database, 300_000)
    project.use(database)

    code, said = at_a_terminal(project, "db.dump")

    assert code == 0, said
    assert "dumping " in said
    assert "rows" in said


def test_dumps_take_a_line_each_when_the_terminal_is_narrow(database: Database, project: Project) -> None:
    """Free text is cut; id, age, size, rows and state are whole, and a name that a person chose begins the note."""
    project.use(database)
    assert project.inv("db.dump", "--note=before the billing migration, which is long").returncode == 0
    assert project.inv("db.dump", "--file=mine.sql", "--note=second").returncode == 0

    code, said = at_a_terminal(project, "db.list", columns=80)

    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    first, second = (line for line in plain.splitlines() if "0 min" in line)
    assert code == 0
    assert re.search(r" [0-9a-f]{4}  test_.+… .+ 0 min  .+     0  complete  before.+…", first)
    assert "mine.sql: sec" in second
    assert all(len(line) <= 80 for line in plain.splitlines())


def test_warning_is_broken_between_words_when_the_terminal_is_narrow(database: Database, project: Project) -> None:
    """What is read before the countdown ends fits the lines, and a path stays in one piece."""
    database.execute("CREATE TABLE t AS SELECT 1 AS i")
    project.use(database)
    assert project.inv("db.dump").returncode == 0

    code, said = at_a_terminal(project, "db.restore", "--clean", "--yes", columns=60)

    plain = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line).rpartition("\r")[2] for line in said.split("\r\n")]
    assert code == 0, said
    assert all(len(line) <= 60 for line in plain)
    assert "  These tables are locked" not in plain
    assert any(line.startswith("    ") and "disk space" in line for line in plain)


def test_no_bar_is_drawn_into_what_the_migration_says(database: Database, project: Project) -> None:
    """While a program of the project's own has the terminal, we draw nothing there."""
    database.execute("CREATE TABLE t AS SELECT 1 AS i")
    project.use(database)
    project.env["INVOKE_DB_MIGRATE_COMMAND"] = "sh migrate.sh"
    project.write("migrate.sh", "echo begun; sleep 0.5; echo 'half way'; sleep 0.5; echo finished\n")
    assert project.inv("db.dump").returncode == 0

    code, said = at_a_terminal(project, "db.restore", "--clean", "--yes", "--migrate")

    _, _, rest = said.partition("begun")
    assert code == 0, said
    assert "; then migrated" in rest
    assert rest.startswith("\r\nhalf way\r\nfinished\r\n")


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_bar_is_one_line(width: int, encoding: str) -> None:
    """However long the name in work, however narrow the terminal, and however few its letters."""
    written = io.TextIOWrapper(io.BytesIO(), encoding, errors="backslashreplace")
    at = Console(file=written, width=width, force_terminal=True, color_system=None, soft_wrap=True)
    bars = _bars(at)
    bars.add_task("CREATE INDEX " + "a_long_name_" * 9, total=9, completed=9, amount="123.4 MB, 100 %, 1,234.5 MB/s")

    at.print(bars.get_renderable(), soft_wrap=False)

    written.seek(0)
    (line,) = written.read().splitlines()
    assert len(line) <= width
    assert "1,234.5 MB/s" in line
    assert line.rstrip().endswith("0:00:00")


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (9, "loa...ers"),
        (20, "loading a...t_orders"),
        (40, "loading app.customer_account_orders"),
    ],
)
def test_a_label_is_shortened_in_its_middle(width: int, shown: str) -> None:
    """The name in work is whole where there is room, and keeps its beginning and end where there is not."""
    assert shorten_middle("loading app.customer_account_orders", width) == shown


@pytest.mark.parametrize("width", [80, 100])
def test_a_bar_names_the_table_in_full(width: int) -> None:
    """At a usual width a usual name is not cut, whatever is said of the amount."""
    written = io.StringIO()
    at = Console(file=written, width=width, force_terminal=True, color_system=None, soft_wrap=True)
    bars = _bars(at)
    bars.add_task("loading app.customers", total=9, completed=9, amount="123.4 MB, 100 %, 1,234.5 MB/s")

    at.print(bars.get_renderable(), soft_wrap=False)

    assert "loading app.customers" in written.getvalue()


def test_a_bar_says_at_once_what_is_waited_for() -> None:
    """What begins right after something else is shown before it ends."""
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    reporter, bar = Reporter(Output.NORMAL, lambda: console), Progress(console=console, auto_refresh=False)
    vars(reporter).update(_progress=bar, _next=0.0)

    reporter.progress("counting", 0, 0, "")
    reporter.progress("waiting for Prisma", 0, 0, "")
    shown = bar.tasks[0].description
    reporter.close()

    assert shown == "waiting for Prisma"


def test_the_countdown_counts(database: Database, project: Project) -> None:
    """At a terminal each second is shown on one line; a log has one sentence."""
    database.execute("CREATE TABLE t AS SELECT 1 AS i")
    project.use(database)

    code, said = at_a_terminal(project, "db.reset")

    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said)
    assert code == 0, said
    assert "Press Ctrl-C to stop it. Beginning in 3… 2… 1… \r\n" in plain


class InterruptedBar(Progress):
    """A bar that a signal meets in the instant in which it begins."""

    begun = False

    def start(self) -> None:
        """Begin, with a signal half-way."""
        os.kill(os.getpid(), signal.SIGINT)
        super().start()
        self.begun = True


def test_a_signal_waits_until_the_bar_has_begun() -> None:
    """Else it could not be taken down, and the terminal would have no cursor."""
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    reporter, bar = Reporter(Output.NORMAL, lambda: console), InterruptedBar(console=console)
    vars(reporter).update(_progress=bar, _next=0.0)

    with pytest.raises(Interruption), interruptible():
        reporter.progress("loading", 1, 2, "bytes")
    reporter.close()

    assert bar.begun
    assert bar.live.is_started is False


def test_a_share_of_a_total_that_was_too_low_is_not_shown() -> None:
    """Before ANALYZE the server knows of few rows; what goes on is not said to be done."""
    low, reached = _share(70, 50, "rows", 1), _share(50, 50, "rows", 1)

    assert low == ": 70 rows, 70 rows/s"
    assert reached == ": 50 rows, 100 %, 50 rows/s"


def test_speed_is_that_of_the_phase() -> None:
    """What is counted from its beginning again is as fast as it is, however long the work before it took."""
    at = Console(file=io.StringIO(), width=200)
    reporter = Reporter(Output.NORMAL, lambda: at)
    reporter._began -= 1000
    reporter.progress("reading", 900, 1000, "bytes")
    reporter.progress("loading", 0, 1000, "bytes")
    reporter._began -= 1
    reporter._next = reporter._lines_from = 0.0

    reporter.progress("loading", 5_000_000, 10_000_000, "bytes")

    assert isinstance(at.file, io.StringIO)
    speed = re.search(r"50 %, ([0-9.]+) MB/s", at.file.getvalue())
    assert speed is not None
    assert 4 < float(speed[1]) <= 5


def test_a_note_can_not_write_to_the_terminal(database: Database, project: Project) -> None:
    """Escape sequences in a note are shown as letters."""
    project.use(database)
    database.execute("CREATE TABLE t AS SELECT 1 AS i")
    assert project.inv("db.dump", "--note=\x1b[31mred\x07").returncode == 0

    result = project.inv("db.list")

    assert "\x1b" not in result.stdout
    assert "\\x1b[31mred\\x07" in result.stdout


@pytest.mark.parametrize("color", ["", "1"], ids=["plain", "rich"])
def test_a_name_in_a_table_can_not_write_to_the_terminal(
    color: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor break the table's lines; it may come from a manifest that somebody else wrote."""
    monkeypatch.setenv("FORCE_COLOR", color)
    monkeypatch.setenv("COLUMNS", "100")
    rows = [("public.\x1b[2Jred\nline", "1"), ("[bold]b", "1,000")]

    print_table(("table", "rows"), rows, right=("rows",))

    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[2:] == [
        r" public.\x1b[2Jred\nline" + f"   {1:5}",
        f" {'[bold]b':23}   1,000",
    ]


def test_table_in_a_pipe_is_as_wide_as_its_widest_letters(capsys: pytest.CaptureFixture[str]) -> None:
    """Wide letters take two cells, and what stands above or below another letter none."""
    rows = [("日本", "7", "x" * 300), ("e\u0301", "10", "")]

    print_table(("table", "rows", "note"), rows, right=("rows",))

    assert capsys.readouterr().out.split("\n") == [
        "",
        " table   rows   note",
        " " + "-" * (5 + 3 + 4 + 3 + 300),
        " 日本       7   " + "x" * 300,
        " e\u0301         10",
        "",
        "",
    ]


def test_empty_table_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Not even its head."""
    print_table(("table", "rows"), [])

    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("columns", [40, 80])
def test_numbers_stay_where_a_long_name_leaves_no_room(columns: int, database: Database, project: Project) -> None:
    """What differs is said in words and numbers, not by a colour; nothing is cut."""
    name = "a_name_as_long_as_postgresql_takes_them_which_is_63_letters_abc"
    database.execute(f"CREATE TABLE {name} AS SELECT generate_series(1, 12345) AS i; CREATE TABLE b (i int)")
    assert project.use(database).inv("db.dump", "--file=t.sql").returncode == 0
    database.execute(f"DELETE FROM {name} WHERE i = 7")

    code, said = at_a_terminal(project, "db.verify", "--file=t.sql", columns=columns)

    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said)
    words = " ".join(plain.split())
    assert code == 6
    assert f"public.{name} expected 12,345, found 12,344, differs" in words
    assert "public.b expected 0, found 0, same" in words


def test_colours_in_a_pipe_fold_nothing(database: Database, project: Project) -> None:
    """As a log of CI has them; its lines are as long as they are, and so are those that one copies."""
    database.execute(f"CREATE TABLE {'long_' * 11} AS SELECT 1 AS i")
    assert project.use(database).inv("db.dump", "--file=t.sql").returncode == 0
    database.execute(f"DELETE FROM {'long_' * 11}")

    result = project.inv("db.verify", "--file=t.sql", env={"FORCE_COLOR": "1"})

    assert "\x1b[" in result.stdout
    assert re.search(rf"public\.{'long_' * 11} +1 +0 +differs", result.stdout)
    assert re.search(rf"has no statistics\. Fix: ANALYZE public\.{'long_' * 11};", result.stdout)


@pytest.mark.parametrize("value", ["", "0"])
def test_colours_are_not_forced_by_nothing(value: str, project: Project) -> None:
    """`FORCE_COLOR=0` is how others turn them off."""
    result = project.inv("db.list", env={"FORCE_COLOR": value})

    assert result.stdout == "No dumps yet. `inv db.dump` makes one.\n"
