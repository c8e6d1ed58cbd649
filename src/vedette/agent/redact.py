"""Secrets in command lines: masked before anything is stored, told apart by the words around them.

Pure. What a secret is called decides (`--password x`, `TOKEN=x`, `Authorization: Bearer x`), the place that
a program takes it at (`mysql -px`), or its own shape (`ghp_…`); never how random it looks. In doubt a value
is masked: a command line tells its story without it. Secrets that stand where nothing names them (`echo x`)
cannot be known. To cover another program, add it to PROGRAMS; the examples of the tests are a table, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

MASK = "REDACTED"
"""What stands for a secret; needs no quoting in a shell."""


class Takes(NamedTuple):
    """Options by which a program takes a secret: as the next argument, in the same one, or after a mark
    (`user:secret`, `user%secret`) in either."""

    next: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    marked: tuple[str, ...] = ()


_MYSQL = Takes(same=("-p",))
_MONGO = Takes(next=("-p",), same=("-p",))
_MQTT = Takes(next=("-P",))
_LDAP = Takes(next=("-w",), same=("-w",))
_SMB = Takes(marked=("-U", "--user"))
_SNMP = Takes(next=("-c", "-A", "-X"), same=("-c", "-A", "-X"))
_ZIP = Takes(next=("-P",), same=("-P",))
_SEVEN_ZIP = Takes(same=("-p",))
_ACCOUNT = Takes(next=("-p",))

PROGRAMS: dict[str, Takes] = {
    **dict.fromkeys(("mysql", "mysqldump", "mysqladmin", "mysqlimport", "mysqlcheck", "mysqlshow"), _MYSQL),
    **dict.fromkeys(("mariadb", "mariadb-dump", "mariadb-admin", "mariadb-import"), _MYSQL),
    **dict.fromkeys(("mongo", "mongosh", "mongodump", "mongorestore", "sshpass"), _MONGO),
    **dict.fromkeys(("mosquitto_pub", "mosquitto_sub", "mosquitto_rr", "ipmitool", "sqlcmd", "bcp"), _MQTT),
    **dict.fromkeys(("ldapsearch", "ldapadd", "ldapmodify", "ldapdelete", "ldappasswd", "ldapwhoami"), _LDAP),
    **dict.fromkeys(("smbclient", "rpcclient", "smbget"), _SMB),
    **dict.fromkeys(("snmpget", "snmpset", "snmpwalk", "snmpbulkwalk", "snmptrap"), _SNMP),
    **dict.fromkeys(("zip", "unzip"), _ZIP),
    **dict.fromkeys(("7z", "7za", "7zr"), _SEVEN_ZIP),
    **dict.fromkeys(("useradd", "usermod", "login"), _ACCOUNT),  # login: of docker, az, helm
    "curl": Takes(marked=("-u", "--user", "-U", "--proxy-user")),
    "nmcli": Takes(next=("password", "wifi-sec.psk", "802-11-wireless-security.psk")),
    "redis-cli": Takes(next=("-a",)),
    "xfreerdp": Takes(same=("/p:",)),
    **dict.fromkeys(("ssh", "scp", "sftp", "rsync"), Takes()),  # what sshpass runs has another -p
}
"""By name, wherever it stands in the command line (`sudo mysql …`), for the words that follow it."""

_NAME = (
    r"(?:passw(?:or)?d|passphrase|sshpass|(?<![a-z])pass|(?<![a-z])pwd(?!=/)|secret|access[_-]?key|token"
    r"|(?:api|private|account|secret)[_-]?key|(?<![a-z])psk|(?<![a-z0-9])sig)"
)
"""How the name of a secret ends; `PWD=/home` is none. Patterns begin with it: so a search is linear."""

_ASSIGNED = re.compile(rf"(?is)([-\w.]*{_NAME}=)(.+)")
"""A whole word: an option or variable with its value."""

_OPTION = re.compile(rf"(?i)-(?!-?(?:no|ask|prompt)-)[-\w.]*{_NAME}")
"""A whole word: an option whose value comes next."""

_VALUE = r"""("[^"]*"?|'[^']*'?|[^\s"'&;,|<>)}\]]+)"""

_WITHIN = [
    re.compile(r"(?i)(authorization\s?[:=]\s?(?:(?:bearer|basic|digest|token|negotiate)\s)?)([^\"']+)"),
    re.compile(r"(?i)(\bx-[\w-]{0,64}(?:token|key|secret)\s?:\s?)([^\"']+)"),
    re.compile(r"(?i)(\bbearer\s)([\w.~+/=-]{8,})"),
    re.compile(rf"(?i)({_NAME}=){_VALUE}"),
    re.compile(rf"""(?i)({_NAME}["']\s?:\s?){_VALUE}"""),
    re.compile(r"(://[^\s/:@'\"]*:)([^\s/?#'\"]+)(?=@)"),
    re.compile(r"(\bpass:)([^\s'\"]+)"),
    re.compile(r"(\b)((?:AKIA|ASIA)[0-9A-Z]{16})\b"),
    re.compile(r"(\b)(gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|xox[abeoprs]-[\w-]{10,})"),
    re.compile(r"(\b)(sk-[\w-]{20,}|npm_\w{20,}|pypi-[\w-]{20,}|eyJ[\w-]{8,}\.eyJ[\w-]*(?:\.[\w-]*)?)"),
    re.compile(r"(?s)(-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----)(.+)"),
]
"""Anywhere in a word: what introduces a secret, and the secret. Headers come first: they are whole."""

_HINT = re.compile(r"(?i)[=:]|bearer|AKIA|ASIA|gh[pousr]_|_pat_|glpat|xox|sk-|npm_|pypi-|eyJ|-----BEGIN")
"""Something that every pattern above needs: most words have none of it, and are passed on at once. A burst
of new command lines has to be read as fast as the kernel's ring fills."""

_WORD = re.compile(r"""(?:'[^']*'?|"[^"]*"?|\\.?|[^\s'"\\])+""")
"""A word of a shell's command text, with its quotes."""

_COMMAND_TEXT = re.compile(r"-[a-z]*c")
"""`sh -c`, `bash -lc`, `su -c`: the next argument is command text."""

_SHORT = re.compile(r"-[A-Za-z]+")
_COMMAND_ENDS = (";", "&&", "||", "|", "&")


class Redacted(NamedTuple):
    """Arguments without their secrets, and how many secrets were masked."""

    arguments: list[str]
    masks: int


def redact(arguments: Iterable[str]) -> Redacted:
    """Mask the secrets of a command line."""
    arguments = list(arguments)
    walk = _Walk(title=len(arguments) == 1)
    masked = [walk.argument(argument) for argument in arguments]
    return Redacted(masked, walk.masks)


class _Walk:
    """One pass over the words of a command.

    title: the first argument is command text: a process may have written its title over its arguments.
    """

    def __init__(self, *, title: bool = False) -> None:
        self.masks = 0
        self._takes = Takes()
        self._secret_next = self._marked_next = False
        self._text_next = title

    def argument(self, argument: str) -> str:
        """The next argument, masked; words in it that a shell may take apart are looked at one by one."""
        as_text, self._text_next = self._text_next, bool(_COMMAND_TEXT.fullmatch(argument))
        expected = self._secret_next or self._marked_next
        if (
            any(map(str.isspace, argument))
            and not expected
            and (as_text or not _ASSIGNED.fullmatch(argument))
        ):
            return self._command_text(self._within(argument))
        return self._word(argument)

    def _command_text(self, text: str) -> str:
        inner = _Walk()
        masked = _WORD.sub(lambda word: inner._quoted(word[0]), text)
        self.masks += inner.masks
        return masked

    def _quoted(self, word: str) -> str:
        if len(word) > 2 and word[0] == word[-1] and word[0] in "'\"" and not self._secret_next:
            return word[0] + self.argument(word[1:-1]) + word[0]
        return self._word(word)

    def _word(self, word: str) -> str:
        secret, self._secret_next = self._secret_next, False
        marked, self._marked_next = self._marked_next, False
        if secret and word and not word.startswith("-"):
            return self._mask(word)
        if marked:
            return self._after_mark(word)
        if "=" in word and (assigned := _ASSIGNED.fullmatch(word)):
            return assigned[1] + self._mask(assigned[2])
        if masked := self._attached(word):
            return masked
        self._secret_next = (word.startswith("-") and bool(_OPTION.fullmatch(word))) or _is_one_of(
            word, self._takes.next
        )
        self._marked_next = _is_one_of(word, self._takes.marked)
        self._takes = PROGRAMS.get(word.rpartition("/")[2], self._takes)
        if word.endswith(_COMMAND_ENDS):
            self._takes = Takes()
        return self._within(word)

    def _attached(self, word: str) -> str:
        """A word that is option and secret in one, masked; empty if it is none."""
        for option in self._takes.same:
            if word.startswith(option) and word != option:
                return option + self._mask(word[len(option) :])
        for option in self._takes.marked:
            if word.startswith(option) and word != option:
                return option + self._after_mark(word[len(option) :])
        return ""

    def _after_mark(self, word: str) -> str:
        user, mark, secret = next((word.partition(m) for m in ":%" if m in word), (word, "", ""))
        return f"{user}{mark}{self._mask(secret)}" if secret else word

    def _within(self, text: str) -> str:
        if not _HINT.search(text):
            return text
        for pattern in _WITHIN:
            text = pattern.sub(lambda found: found[1] + self._mask(found[2]), text)
        return text

    def _mask(self, secret: str) -> str:
        quote = secret[0] if secret[0] in "\"'" and secret[0] == secret[-1] else ""
        self.masks += secret.strip("\"'") != MASK  # or else another pattern has been here
        return f"{quote}{MASK}{quote}"


def _is_one_of(word: str, options: tuple[str, ...]) -> bool:
    """Whether a word is one of the options, or a cluster of short ones that ends with one (`-xw`)."""
    return word in options or bool(_SHORT.fullmatch(word) and f"-{word[-1]}" in options)
