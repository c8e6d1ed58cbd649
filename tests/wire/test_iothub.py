"""The dialect's words: connection strings, tokens, property bags, and that secrets stay in them."""

import base64
import contextlib
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from vedette.wire.iothub import (
    ConnectionString,
    DialectError,
    Identity,
    Token,
    decode_key,
    decode_properties,
    encode_properties,
    make_token,
    query_of,
    signature,
    username,
    valid_id,
)

KEY = "dmVkZXR0ZSB0ZXN0IGtleSwgMzIgYnl0ZXMgbG9uZyE="
OTHER = base64.b64encode(b"another key that signed nothing!").decode()
MODULE = Identity("press-7", "vedette")
ALPHABET = "ABCabc019-:.+%_#*?!(),=@$'"

ids = st.text(ALPHABET, min_size=1, max_size=128)
identities = st.builds(Identity, ids, ids | st.just(""))
texts = st.text(st.characters(exclude_categories=["Cs"]))


def shown(value: object) -> str:
    """Everything that printing a value can reveal."""
    console = Console(width=1000)
    with console.capture() as capture:
        console.print(value)
    return f"{value!r} {value} {value:} {capture.get()}"


# Identities


@given(identities)
def test_a_client_id_reads_back(identity):
    """Device and module survive the way through an MQTT client id."""
    assert Identity.parse(identity.client_id) == identity


@pytest.mark.parametrize(
    "text", ["", "/", "a/", "/m", "a/b/c", "a b", "a\n", "ä", "x" * 129, "d/" + "x" * 129, "a;b"]
)
def test_other_client_ids_are_refused(text):
    """The service's alphabet, length and shape hold."""
    with pytest.raises(DialectError, match="client id"):
        Identity.parse(text)


def test_topics_and_resources_of_an_identity():
    """Topics carry ids as they are; resources, which are signed, percent-encode them."""
    assert Identity("d").events_topic == "devices/d/messages/events/"
    assert MODULE.events_topic == "devices/press-7/modules/vedette/messages/events/"
    assert Identity("d").resource == "devices/d"
    assert Identity("a#b", "m%1").resource == "devices/a%23b/modules/m%251"
    assert username("hub.example.net", MODULE).startswith("hub.example.net/press-7/vedette/?api-version=20")


# Connection strings


@given(ids, ids | st.just(""), st.binary(min_size=1, max_size=64))
def test_a_connection_string_reads_back(device, module, key):
    """What `format` writes `parse` understands."""
    connection = ConnectionString("hub.example.net", Identity(device, module), base64.b64encode(key).decode())
    assert ConnectionString.parse(connection.format()) == connection


def test_parts_come_in_any_order_and_case():
    """As they are found in the wild, with spaces, a final semicolon and a gateway."""
    text = f" sharedaccesskey={KEY}; MODULEID=vedette;GatewayHostName=edge ;DeviceId=press-7;HostName=hub; "
    assert ConnectionString.parse(text) == ConnectionString("hub", MODULE, KEY, gateway="edge")


def test_a_certificate_takes_the_place_of_a_key():
    """`x509=true` needs no key."""
    connection = ConnectionString.parse("HostName=h;DeviceId=d;x509=true")
    assert connection.x509
    assert connection.key == ""
    assert ConnectionString.parse(connection.format()) == connection


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no hostname"),
        (f"DeviceId=d;SharedAccessKey={KEY}", "no hostname"),
        (f"HostName=h;SharedAccessKey={KEY}", "no deviceid"),
        (f"HostName=h;DeviceId=;SharedAccessKey={KEY}", "no deviceid"),
        ("HostName=h;DeviceId=d", "shared access key: empty"),
        ("HostName=h;DeviceId=d;SharedAccessKey=not!base64", "not base64"),
        ("HostName=h;DeviceId=d;SharedAccessKey=ä", "not base64"),
        (f"HostName=h;DeviceId=a b;SharedAccessKey={KEY}", "character"),
        (f"HostName=h;DeviceId=d;ModuleId=a/b;SharedAccessKey={KEY}", "character"),
        (f"HostName=h;DeviceId=d;{KEY.rstrip('=')}", "no `=`"),
    ],
)
def test_a_wrong_connection_string_is_refused_by_name(text, reason):
    """The error names the part and never its value."""
    with pytest.raises(DialectError, match=reason) as caught:
        ConnectionString.parse(text)
    for secret in (KEY.rstrip("="), "not!base64", "ä"):
        assert secret not in str(caught.value)


def test_a_connection_string_never_shows_its_key():
    """Neither repr, str, format nor the terminal's pretty printer."""
    assert KEY not in shown(ConnectionString("h", MODULE, KEY))
    assert "press-7/vedette" in shown(ConnectionString("h", MODULE, KEY))


# Tokens

NOW = 1_800_000_000.0

VECTORS = [
    # HEX=$(printf 'vedette test key, 32 bytes long!' | xxd -p -c 100)
    # printf 'hub.example.net%%2Fdevices%%2F...\n1800003600' |
    #   openssl dgst -sha256 -mac HMAC -macopt hexkey:$HEX -binary | base64
    (
        MODULE,
        "hub.example.net%2Fdevices%2Fpress-7%2Fmodules%2Fvedette",
        "Nb0Vv/azEwoUe1dErqbu7lI1ybiP3NsqDNUEz016uXc=",
    ),
    (Identity("a#b"), "hub.example.net%2Fdevices%2Fa%2523b", "jQ1x9T2dGZ8Zp46ZDBm8jLNNnDkvITxA1KkBSdPc8uQ="),
]


@pytest.mark.parametrize(("identity", "resource", "expected"), VECTORS)
def test_tokens_agree_with_openssl(identity, resource, expected):
    """Signatures are those that another program computed."""
    token = Token.parse(make_token("hub.example.net", identity, KEY, now=NOW, ttl=3600))
    assert token == Token(resource, expected, "1800003600")
    assert signature(KEY, resource, "1800003600") == expected


@given(identities, st.floats(0, 4e9), st.integers(1, 10**7))
def test_a_made_token_is_signed_and_expires(identity, now, ttl):
    """A token of ours is good for its key until its second of expiry, and for no other key."""
    token = Token.parse(make_token("hub.example.net", identity, KEY, now=now, ttl=ttl))
    assert token.signed_by([OTHER, KEY])
    assert not token.signed_by([OTHER])
    assert not token.signed_by([])
    assert not token.expired(int(now + ttl) - 1)
    assert token.expired(int(now + ttl))


def test_parts_of_a_token_come_in_any_order():
    """SDKs write them in different orders, with and without a policy."""
    one = "SharedAccessSignature sr=h%2Fdevices%2Fd&sig=a%2Bb%3D&se=17&skn=own%20er"
    two = "SharedAccessSignature skn=own%20er&se=17&sig=a%2Bb%3D&sr=h%2Fdevices%2Fd"
    assert Token.parse(one) == Token.parse(two) == Token("h%2Fdevices%2Fd", "a+b=", "17", "own er")


def test_a_token_covers_what_was_signed_as_it_was_sent():
    """The resource is not decoded before it is verified: clients sign what they send."""
    for resource in ("h/devices/d", "h%2Fdevices%2Fd", "h%2fdevices%2fd"):
        made = signature(KEY, resource, "17")
        token = Token.parse(f"SharedAccessSignature sr={resource}&sig={made.replace('+', '%2B')}&se=17")
        assert token.signed_by([KEY])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a SharedAccessSignature"),
        ("Bearer sr=a&sig=b&se=1", "not a SharedAccessSignature"),
        ("SharedAccessSignature sig=c2VjcmV0&se=1", "no sr"),
        ("SharedAccessSignature sr=a&se=1", "no sig"),
        ("SharedAccessSignature sr=a&sig=c2VjcmV0", "no se"),
        ("SharedAccessSignature sr=a&sig=c2VjcmV0&se=1e9", "se is not a number"),
        ("SharedAccessSignature sr=a&sig=c2VjcmV0&se=-1", "se is not a number"),
        ("SharedAccessSignature sr=a&sig=c2VjcmV0&se=\u0661\u0667", "se is not a number"),
    ],
)
def test_a_wrong_token_is_refused_by_name(text, reason):
    """The error names the part and never its value."""
    with pytest.raises(DialectError, match=reason) as caught:
        Token.parse(text)
    assert "c2VjcmV0" not in str(caught.value)


def test_a_token_never_shows_its_signature():
    """Whoever holds it may connect."""
    token = Token.parse(make_token("h", MODULE, KEY, now=NOW))
    assert token.signature not in shown(token)
    assert "devices" in shown(token)


@given(st.text())
def test_no_token_text_raises_anything_else(text):
    """Whatever a client sends as password, it is a token or a DialectError."""
    for candidate in (text, "SharedAccessSignature " + text, "SharedAccessSignature sr=a&se=1&sig=" + text):
        with contextlib.suppress(DialectError):
            assert not Token.parse(candidate).signed_by([KEY])


@pytest.mark.parametrize("key", ["", "=", "a", "a b", "ä", KEY + "\n"])
def test_keys_are_strict_base64(key):
    """Anything else is refused without being shown."""
    with pytest.raises(DialectError, match="shared access key") as caught:
        decode_key(key)
    assert not key.strip() or repr(key) not in str(caught.value)


def test_values_cross_processes():
    """Identities and connection strings are plain values."""
    connection = ConnectionString("h", MODULE, KEY)
    assert pickle.loads(pickle.dumps(connection)) == connection


# Property bags


@given(st.dictionaries(texts.filter(bool), texts))
def test_a_property_bag_reads_back(properties):
    """Any text survives, and the bag is fit for a topic."""
    bag = encode_properties(properties.items())
    assert decode_properties(bag) == properties
    assert bag.isascii()
    assert not set(bag) & set("/+# ")


def test_bags_as_clients_write_them():
    """A plus is a plus; names without a value, empty parts, a final slash are harmless; hex in any case."""
    assert decode_properties("%24.mid=a+b&%24.ct=application%2fjson&x&y=&&z=1=2/") == {
        "$.mid": "a+b",
        "$.ct": "application/json",
        "x": "",
        "y": "",
        "z": "1=2",
    }
    assert decode_properties("") == {}


def test_the_query_of_a_topic():
    """Request ids and versions stand behind the question mark."""
    assert query_of("$iothub/twin/res/204/?$rid=4a&$version=6") == {"$rid": "4a", "$version": "6"}
    assert query_of("$iothub/twin/res/204/") == {}


@given(st.text(max_size=140))
def test_valid_ids_are_those_of_the_alphabet(text):
    """128 characters of the documented alphabet, nothing else."""
    assert valid_id(text) == (
        1 <= len(text) <= 128 and all(c in ALPHABET or (c.isascii() and c.isalnum()) for c in text)
    )
