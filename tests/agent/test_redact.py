"""Secrets in command lines: what is masked, what is left alone, by example and at random."""

import shlex

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vedette.agent.redact import MASK, redact

MASKED = [
    "prog --password={}",
    "prog --password {}",
    "prog -password {}",
    "prog --db-password={} --verbose",
    "prog --passphrase {} file",
    "prog --api-key={}",
    "prog --api_key {}",
    "prog --token {}",
    "prog --auth-token={}",
    "prog --client-secret {}",
    "prog 'password={} more of it'",
    "mysql -uroot -p{} shop",
    "sudo -u root /usr/bin/mysqldump -p{} shop",
    "sshpass -p {} ssh -p 22 host",
    "sshpass -p{} ssh host",
    "redis-cli -h host -a {} ping",
    "mosquitto_pub -h host -u user -P {} -t topic -m text",
    "ldapsearch -x -w {} -b dc=example",
    "ldapsearch -xw {} -b dc=example",
    "smbclient //host/share -U user%{}",
    "snmpget -v2c -c {} host sysName.0",
    "unzip -P {} archive.zip",
    "7z x -p{} archive.7z",
    "useradd -m -p {} user",
    "docker login -u user -p {} registry.example",
    "nmcli dev wifi connect network password {}",
    "curl -u user:{} https://host/",
    "curl -su user:{} https://host/",
    "curl --user=user:{} https://host/",
    "curl -H 'Authorization: Bearer {}' https://host/",
    "curl -H 'authorization: Basic {}' https://host/",
    "wget '--header=Authorization: token {}' https://host/",
    "curl -H 'X-Auth-Token: {}' https://host/",
    """curl -d '{{"user": "me", "password": "{}"}}' https://host/""",
    "curl 'https://host/path?token={}&page=2'",
    "curl 'https://host/c/blob?sv=2020&sig={}&se=2030'",
    "git clone https://user:{}@host/repository",
    "psql postgresql://user:{}@host:5432/shop",
    "redis-cli -u redis://:{}@host",
    "env PGPASSWORD={} psql shop",
    "env MYSQL_PWD={} mysql shop",
    "env SSHPASS={} sshpass -e ssh host",
    "env AWS_SECRET_ACCESS_KEY={} aws s3 ls",
    "sh -c 'PASSWORD={} exec program --fast'",
    "bash -lc 'mysql -p{} shop && mkdir -pv directory'",
    "sh -c 'mysql --password {} shop'",
    "ssh host 'mysql -p{} shop'",
    """sh -c 'ssh host "mysql -p{} shop"'""",
    "sh -c 'curl -H \"Authorization: Bearer {}\" https://host/'",
    "'daemon --password={} --port 80'",
    "openssl rsa -passin pass:{} -in key.pem",
    "mount -o username=me,password={},uid=0 //host/share /mnt",
    "prog 'HostName=hub;DeviceId=d;SharedAccessKey={}'",
    "prog 'AccountName=a;AccountKey={};EndpointSuffix=core'",
    "xfreerdp /u:user /p:{} /v:host",
    "prog ghp_{}{}",
    "prog glpat-{}{}",
]
"""Command lines with places for a secret."""

SHAPES = [
    "AKIAABCDEFGHIJKLMNOP",
    "github_pat_11ABCDEFG0abcdefghij_klmnop",
    "xoxb-123456789012-abcdefghijkl",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdefghijk",
]

UNTOUCHED = [
    "ls -la /home",
    "mkdir -p /srv/data",
    "cp -p mysql.conf /etc",
    "ssh -p 2222 user@host",
    "docker run -p 8080:80 nginx",
    "ps -ef",
    "psql --no-password shop",
    "ansible-playbook --ask-vault-pass site.yml",
    "docker login --password-stdin registry.example",
    "mysql -u root -p shop",
    "curl -u user https://host:8443/path",
    "curl https://host:8443/a@b",
    "env PWD=/home/me OLDPWD=/ program",
    "git log --author=me --format=%H",
    "program --bypass=all --compass=north --max-tokens=5",
    "passwd root",
    "grep -r password /etc",
    "grep 'password is wrong' /var/log/auth.log",
    "sh -c 'mysqladmin status; mkdir -pv directory'",
    "sh -c 'for i in 1 2 3; do echo $i; done'",
    "/bin/login -p -- ",
    "systemd-ask-password --icon=drive-harddisk",
    "python3 -c 'import secrets; print(secrets.choice(range(9)))'",
    "sshd: user [priv]",
]

secrets = st.text(
    "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz0123456789_+", min_size=10, max_size=40
).map(lambda text: f"Zq{text}")


@pytest.mark.parametrize("line", MASKED)
@settings(max_examples=20)
@given(secret=secrets)
@example(secret="hunter2hunter2")
def test_a_planted_secret_is_gone_and_the_rest_is_there(line: str, secret: str):
    """Exactly the secret is replaced, wherever a program takes one."""
    if "_{}{}" in line or "-{}{}" in line:  # a shape: word characters only
        secret = secret.replace("+", "x")
        expected = ["prog", MASK]
    else:
        expected = [a.replace(secret, MASK) for a in shlex.split(line.format(secret))]
        expected = [a.replace(f"{MASK} more of it", MASK) for a in expected]
    found = redact(shlex.split(line.format(secret, secret)))
    assert found.arguments == expected
    assert found.masks == 1


@pytest.mark.parametrize("token", SHAPES)
def test_tokens_are_known_by_their_shape(token: str):
    """No name is needed beside them."""
    assert redact(["prog", token, f"--x={token}"]) == (["prog", MASK, f"--x={MASK}"], 2)


@pytest.mark.parametrize("line", UNTOUCHED)
def test_ordinary_command_lines_stay_as_they_are(line: str):
    """Not a letter changes, and nothing is counted."""
    arguments = shlex.split(line)
    assert redact(arguments) == (arguments, 0)


@pytest.mark.parametrize(
    "arguments",
    [["--password", ""], ["--password="], ["mysql", "-p"], ["curl", "-u", ""], ["curl", "-u", ":"], [""]],
)
def test_where_nothing_is_given_nothing_is_masked(arguments: list[str]):
    """An empty value is no secret, and no mistake."""
    assert redact(arguments) == (arguments, 0)


def test_a_private_key_is_masked_to_its_end():
    """Whatever its lines are."""
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\nAAAA\n-----END OPENSSH PRIVATE KEY-----"
    assert redact(["echo", key]).arguments == ["echo", f"-----BEGIN OPENSSH PRIVATE KEY-----{MASK}"]


def test_every_secret_of_a_line_is_counted():
    """Two options and a header are three."""
    line = "prog --password=a1 --token b2 -H 'Authorization: Bearer c3'"
    assert redact(shlex.split(line)).masks == 3


words = st.sampled_from(
    [
        "sh",
        "-c",
        "mysql",
        "-p",
        "--password",
        "PASSWORD=",
        "x y",
        "'",
        '"',
        "\\",
        "://a:b@",
        "=",
        "Bearer ",
        ";",
    ]
)


@given(st.lists(st.text(max_size=30) | st.lists(words, max_size=6).map("".join), max_size=8))
def test_any_arguments_are_masked_once_and_for_all(arguments: list[str]):
    """Nothing crashes, no argument comes or goes, and masking twice is masking once."""
    once = redact(arguments)
    assert len(once.arguments) == len(arguments)
    assert once.masks or once.arguments == arguments
    assert redact(once.arguments).masks == 0


@pytest.mark.parametrize("text", ["password", "'\"", "x-a", "://:", "-----BEGIN ", "eyJ", "token=", "a b "])
def test_a_page_of_anything_is_masked_in_bounded_steps(text: str):
    """Patterns do not run away on a command line of the greatest length."""
    redact(["sh", "-c", text * (4096 // len(text))])
