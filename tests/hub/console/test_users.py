"""Users: roles, passwords and sessions."""

import time
from collections.abc import Iterator

import pytest
from sqlalchemy import select, update

from vedette.hub.detect.schema import Database
from vedette.hub.registry import AlreadyExists, RegistryError
from vedette.hub.registry.users import FIRST_USER, MAX_SESSIONS, SESSION_S, Role, SessionRow, UserRow, Users

LONG = "correct horse battery staple"


@pytest.fixture
def database(keyed_url: str) -> Iterator[Database]:
    opened = Database(keyed_url)
    yield opened
    opened.close()


@pytest.fixture
def users(database: Database) -> Users:
    return Users(database.read, database.write)


def test_the_first_start_makes_one_admin_whose_password_has_to_be_changed(users: Users):
    """A second start makes none, and tells nothing."""
    password = users.ensure_admin()
    assert password is not None
    assert users.ensure_admin() is None
    user = users.verify(FIRST_USER, password)
    assert user is not None
    assert (user.role, user.must_change) == (Role.ADMIN, True)
    users.set_password(FIRST_USER, LONG)
    assert users.verify(FIRST_USER, password) is None
    changed = users.verify(FIRST_USER, LONG)
    assert changed is not None
    assert not changed.must_change


def test_wrong_names_and_passwords_are_nobody(users: Users):
    """Neither an empty password nor an unknown name opens anything."""
    users.add("ana", Role.VIEWER)
    assert users.verify("ana", "") is None
    assert users.verify("nobody", "") is None
    assert users.verify("", "") is None


def test_neither_passwords_nor_tokens_stand_in_the_database(users: Users, database: Database):
    """Whoever copies it cannot sign in with what is in it."""
    password = users.add("ana", Role.VIEWER)
    user = users.verify("ana", password)
    assert user is not None
    token = users.open_session(user)
    with database.read() as session:
        rows = [row for table in (UserRow, SessionRow) for row in session.execute(select(table.__table__))]
    dump = "\n".join(value.hex() if isinstance(value, bytes) else str(value) for row in rows for value in row)
    assert "ana" in dump
    for secret in (password, token):
        assert secret not in dump
        assert secret.encode().hex() not in dump.lower()


def test_a_session_ends_by_sign_out_by_age_and_by_a_new_password(users: Users, database: Database):
    """Each way, the token is worth nothing afterwards."""
    password = users.add("ana", Role.ANALYST)
    user = users.verify("ana", password)
    assert user is not None
    signed_out, old, other = (users.open_session(user) for _ in range(3))
    assert users.session(old) == user
    users.close_session(signed_out)
    assert users.session(signed_out) is None
    assert users.session(old) == user
    with database.write.begin() as session:
        session.execute(update(SessionRow).values(begun=time.time() - SESSION_S - 1))
    assert users.session(old) is None
    fresh = users.open_session(user)
    users.set_password("ana", LONG)
    assert users.session(fresh) is None
    assert users.session(other) is None
    assert users.session("") is None


def test_a_user_has_a_bounded_number_of_sessions(users: Users):
    """The oldest ends when there is one too many."""
    password = users.add("ana", Role.VIEWER)
    user = users.verify("ana", password)
    assert user is not None
    tokens = [users.open_session(user) for _ in range(MAX_SESSIONS + 1)]
    assert users.session(tokens[0]) is None
    assert all(users.session(token) for token in tokens[1:])


def test_a_removed_user_is_signed_out_and_the_last_admin_stays(users: Users):
    """Nobody can lock everybody out."""
    users.ensure_admin()
    password = users.add("ana", Role.OPERATOR)
    user = users.verify("ana", password)
    assert user is not None
    token = users.open_session(user)
    users.remove("ana")
    assert users.session(token) is None
    with pytest.raises(RegistryError, match="last admin"):
        users.remove(FIRST_USER)


@pytest.mark.parametrize("name", ["", "a b", "-x", "<b>", "x" * 65, "ä"])
def test_odd_user_names_are_refused(users: Users, name: str):
    """A name goes into logs and pages."""
    with pytest.raises(RegistryError, match="user name"):
        users.add(name, Role.VIEWER)


def test_a_name_is_given_once_and_short_passwords_are_refused(users: Users):
    """The reason is in the error."""
    users.add("ana", Role.VIEWER)
    with pytest.raises(AlreadyExists, match="ana"):
        users.add("ana", Role.ADMIN)
    with pytest.raises(RegistryError, match="12 to 256"):
        users.set_password("ana", "short")
    assert [(user.name, user.role) for user in users.list()] == [("ana", Role.VIEWER)]
