"""Two at once, an owner that died, and a store that lets nobody change its tables."""

import dataclasses
import threading
import uuid

import pytest

from tailsight_storage import MigrationError, QueryFailedError, Store, migration_lock, migrations
from tailsight_storage.migration_lock import migration_lock as lock

PATIENCE_S = 30


class Refusing:
    """A connection that may read and change nothing, and remembers what it was asked."""

    def __init__(self, store, code=497):
        self._store, self._code = store, code
        self.changes = []

    def run(self, statement, **_):
        self.changes.append(statement.split()[0])
        raise QueryFailedError(f"Code: {self._code}. refused", self._code)

    def rows(self, statement, **parameters):
        return self._store.rows(statement, **parameters)


@pytest.fixture
def fresh(engine):
    """Connections to an empty database beside the others."""
    name = f"fresh_{uuid.uuid4().hex[:8]}"
    opened = []
    engine.run("CREATE DATABASE {name:Identifier}", name=name)

    def connect():
        store = Store(dataclasses.replace(engine.dsn, database=name), engine.another()._client)
        store.run("USE {name:Identifier}", name=name)
        store._client.database = name
        opened.append(store)
        return store

    yield connect
    for store in opened:
        store.close()
    engine.run("DROP DATABASE {name:Identifier}", name=name)


def lock_tables(store):
    rows = store.rows(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND startsWith(name, 'migration_lock')"
    )
    return sorted(str(name) for (name,) in rows)


def leave_behind(store, owner="deadbeefdeadbeef"):
    store.run(f"CREATE TABLE migration_lock (unused UInt8) ENGINE = Memory COMMENT '{owner} elsewhere:1'")


def test_an_up_to_date_store_is_only_read(engine):
    reader = Refusing(engine)
    assert migrations.migrate(reader) == []
    assert reader.changes == []


@pytest.mark.parametrize("code", [497, 164])
def test_a_store_that_lets_nobody_change_its_tables_says_what_to_do(fresh, code):
    with pytest.raises(MigrationError, match="upgrade the collector that owns the store"):
        migrations.migrate(Refusing(fresh(), code))


def test_of_several_that_start_at_once_one_migrates(fresh, monkeypatch):
    every = migrations.load_migrations()
    stores = [fresh() for _ in range(3)]
    together = threading.Barrier(len(stores))
    applied, failed = [], []

    def start(store):
        together.wait(PATIENCE_S)
        try:
            applied.append(len(migrations.migrate(store)))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=start, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert failed == []
    assert sorted(applied) == [0, 0, len(every)]
    [(rows, versions)] = stores[0].rows("SELECT count(), uniqExact(version) FROM schema_migrations")
    assert rows == versions == len(every)
    assert lock_tables(stores[0]) == []


def test_a_holder_that_shows_life_is_waited_for(fresh):
    holder, waiter = fresh(), fresh()
    waits = threading.Event()
    entered = threading.Event()

    def second():
        with lock(waiter, sleep=lambda seconds: (waits.set(), threading.Event().wait(seconds))):
            entered.set()

    with lock(holder):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(PATIENCE_S)
        assert not entered.is_set()
    thread.join(PATIENCE_S)
    assert entered.is_set()


def test_a_lock_whose_owner_died_is_taken_over_after_a_while(fresh):
    store = fresh()
    leave_behind(store)
    slept = []
    with lock(store, abandoned_s=1, sleep=lambda seconds: (slept.append(seconds), threading.Event().wait(seconds))):
        assert "migration_lock" in lock_tables(store)
    assert slept, "a fresh lock of somebody else was not waited for"
    assert lock_tables(store) == ["migration_lock_abandoned_deadbeefdeadbeef"]


def test_in_a_folder_of_our_own_a_dead_process_is_not_waited_for(fresh):
    """chDB lets one process into a folder: whoever is not of this one is dead."""
    store = fresh()
    leave_behind(store)

    def never(_):
        raise AssertionError("waited")

    with lock(store, alone=True, sleep=never):
        pass


def test_of_several_that_find_an_abandoned_lock_one_takes_it(fresh):
    """The second to rename must not put the first one's new lock aside."""
    store, slow = fresh(), fresh()
    leave_behind(store)
    with lock(store, abandoned_s=0):
        mine = migration_lock._owner(store)
        migration_lock._put_aside(slow, "deadbeefdeadbeef")  # it saw the dead owner before we came
        assert migration_lock._owner(store) == mine


def test_an_owner_that_was_given_up_notices_and_leaves_the_new_owners_lock(fresh, monkeypatch):
    store, other = fresh(), fresh()
    monkeypatch.setattr(migration_lock, "LIFE_EVERY_S", -1)
    with lock(store) as show_life:
        show_life()
        taken_over = lock(other, abandoned_s=0)
        taken_over.__enter__()
        with pytest.raises(MigrationError, match="taken over"):
            show_life()
    assert lock_tables(other)[0] == "migration_lock", "the first owner gave a lock back that was not its own"
    taken_over.__exit__(None, None, None)
    assert "migration_lock" not in lock_tables(other)


def test_a_migration_that_fails_gives_the_lock_back(fresh, monkeypatch):
    store = fresh()
    broken = migrations.Migration(1, "broken", "SELECT nothing FROM nowhere;")
    monkeypatch.setattr(migrations, "load_migrations", lambda: [broken])
    with pytest.raises(QueryFailedError):
        migrations.migrate(store)
    assert lock_tables(store) == []
