"""The file of a study: SQLite in WAL mode, in which every transaction is on the disk before it returns."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FORMAT = 1
NAME = "study.db"
BUSY_SECONDS = 30.0  # that a process waits for another's transaction

SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE clips (
    id TEXT PRIMARY KEY, audio TEXT NOT NULL, tokens TEXT NOT NULL, roll TEXT NOT NULL, midi BLOB NOT NULL,
    sheet TEXT NOT NULL, seconds REAL NOT NULL, loudness REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE pairs (
    id INTEGER PRIMARY KEY, prompt TEXT NOT NULL,
    a TEXT NOT NULL REFERENCES clips, b TEXT NOT NULL REFERENCES clips,
    system_a TEXT NOT NULL, system_b TEXT NOT NULL,
    catch TEXT NOT NULL DEFAULT '', expected TEXT NOT NULL DEFAULT '',
    gain REAL NOT NULL DEFAULT 1, round INTEGER NOT NULL DEFAULT 0, withdrawn INTEGER NOT NULL DEFAULT 0,
    selected REAL, given INTEGER NOT NULL DEFAULT 0, balance INTEGER NOT NULL DEFAULT 0,
    UNIQUE (prompt, a, b, catch)
) STRICT;
CREATE TABLE raters (
    id INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, name TEXT NOT NULL, quota INTEGER NOT NULL,
    simulated INTEGER NOT NULL, created TEXT NOT NULL
) STRICT;
CREATE TABLE trials (
    id INTEGER PRIMARY KEY, rater INTEGER NOT NULL REFERENCES raters, pair INTEGER NOT NULL REFERENCES pairs,
    kind TEXT NOT NULL, swapped INTEGER NOT NULL, propensity REAL, candidates INTEGER,
    nonce TEXT NOT NULL UNIQUE, issued REAL NOT NULL, is_open INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE UNIQUE INDEX one_trial ON trials (rater, pair, kind);
CREATE INDEX trials_of_pair ON trials (pair);
CREATE TABLE answers (
    id INTEGER PRIMARY KEY, trial INTEGER NOT NULL REFERENCES trials, nonce TEXT NOT NULL UNIQUE,
    choice TEXT NOT NULL, strength INTEGER, given TEXT NOT NULL, withdrawn INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX one_answer ON answers (trial) WHERE NOT withdrawn;
CREATE TABLE events (
    id INTEGER PRIMARY KEY, trial INTEGER NOT NULL REFERENCES trials, side TEXT NOT NULL,
    first REAL NOT NULL, last REAL NOT NULL, received REAL NOT NULL
) STRICT;
CREATE INDEX events_of_trial ON events (trial);
CREATE TABLE rounds (
    number INTEGER PRIMARY KEY, answers INTEGER NOT NULL, state TEXT NOT NULL, report TEXT NOT NULL,
    begun TEXT NOT NULL, ended TEXT
) STRICT;
"""


class StudyError(ValueError):
    """A study that cannot be used, or is asked for what it cannot do; the message says why and what to do."""


class Database:
    """One connection, which threads use in turn."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._connection.row_factory = sqlite3.Row
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            "trusted_schema = OFF",
        ):
            self._connection.execute(f"PRAGMA {pragma}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Database]:
        """All or nothing: committed to the disk at the end, or undone if an error leaves the block.

        One within another is a part of it.
        """
        with self._lock:
            if self._connection.in_transaction:
                yield self
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextlib.contextmanager
    def part(self) -> Iterator[None]:
        """A part of a transaction, which is undone alone if an error leaves the block."""
        self.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            self.execute("ROLLBACK TO part")
            raise
        finally:
            self.execute("RELEASE part")

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """All rows of a query."""
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, *values: Any) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        with self._lock:
            return self._connection.execute(sql, values).fetchone()

    def value(self, sql: str, *values: Any) -> Any:
        """The first value of the first row of a query, or None."""
        row = self.row(sql, *values)
        return None if row is None else row[0]

    def insert(self, table: str, **columns: Any) -> int:
        """Insert a row -> its number."""
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        with self._lock:
            sql = f"INSERT INTO {table} ({names}) VALUES ({marks})"
            return self._connection.execute(sql, tuple(columns.values())).lastrowid or 0

    def execute(self, sql: str, *values: Any) -> int:
        """Execute a statement -> the number of rows that it changed."""
        with self._lock:
            return self._connection.execute(sql, values).rowcount

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()


def create(folder: Path) -> Database:
    """A new study's database in a folder, readable by its owner only; StudyError if there is one."""
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        raise StudyError(f"{folder} holds a study already: open it, or choose another folder") from None
    database = Database(path)
    with database.transaction():
        for statement in SCHEMA.split(";\n"):
            if statement.strip():
                database.execute(statement)
        database.insert("about", name="format", value=str(FORMAT))
    return database


def open_database(folder: Path) -> Database:
    """The database of a study; StudyError if there is none, it is damaged, or of another version."""
    path = folder / NAME
    if path.is_symlink() or not path.is_file():
        raise StudyError(f"there is no study in {folder}: `mammadai rate` makes one")
    try:
        database = Database(path)
        stored = database.value("SELECT value FROM about WHERE name = 'format'")
    except sqlite3.DatabaseError as error:
        raise StudyError(f"{path} is no study, or is damaged ({error}): put back a copy of it") from None
    if stored != str(FORMAT):
        raise StudyError(
            f"{path} is a study of another version, format {stored}, and this one reads {FORMAT}"
        )
    return database
