"""TLS and mutual TLS of all three ports, with real clients and certificates of a CA that lives for a test run."""

import contextlib
import os
import re
import socket
import ssl
import subprocess
import sys
import uuid
from pathlib import Path
from urllib.parse import quote

import grpc
import httpx
import psutil
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from testkit.otlp import request, span
from testkit.processes import PROTOBUF, CollectorProcess

from tailsight_collector import SettingsError, Tls
from tailsight_storage import StoreUnavailableError, open_store

TRACES_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Certificates:
    """A CA, a server's certificate for 127.0.0.1, a client's, and the files of them."""

    def __init__(self, folder: Path):
        ca, others = trustme.CA(), trustme.CA()
        self.ca, self.others_ca = folder / "ca.pem", folder / "others-ca.pem"
        ca.cert_pem.write_to_path(self.ca)
        others.cert_pem.write_to_path(self.others_ca)
        self.server = self._written(folder, "server", ca.issue_cert("127.0.0.1", "localhost"))
        self.client = self._written(folder, "client", ca.issue_cert("client.example"))
        self.others_client = self._written(folder, "others", others.issue_cert("client.example"))

    @staticmethod
    def _written(folder, name, leaf):
        cert, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
        cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(key)
        return cert, key

    def context(self, ca=None, client=None):
        context = ssl.create_default_context(cafile=ca or self.ca)
        if client:
            context.load_cert_chain(*client)
        return context

    def server_options(self, *, mutual=False):
        cert, key = self.server
        return ["--tls-cert", str(cert), "--tls-key", str(key), *(["--tls-client-ca", str(self.ca)] if mutual else [])]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def encrypted(made, tmp_path_factory):
    with CollectorProcess(tmp_path_factory.mktemp("tls"), *made.server_options(), verify=made.context()) as running:
        yield running
    assert "Traceback" not in "".join(running.log)


@pytest.fixture(scope="module")
def mutual(made, tmp_path_factory):
    verify = made.context(client=made.client)
    options = made.server_options(mutual=True)
    with CollectorProcess(tmp_path_factory.mktemp("mutual"), *options, verify=verify) as running:
        yield running
    assert "Traceback" not in "".join(running.log)


def one_span():
    service = f"service-{uuid.uuid4().hex[:12]}"
    return service, request([span()], {"service.name": service}).SerializeToString()


def dsn(running, **files):
    return running.store + "".join(f"{'&' if n else '?'}{k}={quote(str(v))}" for n, (k, v) in enumerate(files.items()))


def count(store, service):
    return store.rows("SELECT count() FROM spans WHERE service = {s:String}", s=service)[0][0]


def export(target, body, ca, client=None):
    credentials = grpc.ssl_channel_credentials(
        ca.read_bytes(), *((client[1].read_bytes(), client[0].read_bytes()) if client else ())
    )
    with grpc.secure_channel(target, credentials) as channel:
        return channel.unary_unary(TRACES_METHOD)(body, timeout=30)


# --- TLS ----------------------------------------------------------------------------------------------------------


def test_the_addresses_say_that_it_is_tls(encrypted):
    assert encrypted.otlp_url.startswith("https://127.0.0.1:")
    assert encrypted.store.startswith("clickhouses://127.0.0.1:")


def test_who_trusts_the_ca_sends_and_reads(made, encrypted):
    service, body = one_span()
    assert encrypted.post(body).status_code == 200
    assert export(encrypted.grpc_target, body, made.ca) == b""
    encrypted.wait_until_loaded()
    with open_store(dsn(encrypted, ca=made.ca)) as store:
        assert count(store, service) == 2


def test_who_trusts_another_ca_does_not_talk_to_it(made, encrypted):
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.post(f"{encrypted.otlp_url}/v1/traces", headers=PROTOBUF, verify=made.context(made.others_ca))
    with pytest.raises(grpc.RpcError) as caught:
        export(encrypted.grpc_target, b"", made.others_ca)
    assert caught.value.code().name == "UNAVAILABLE"
    for files in ({"ca": made.others_ca}, {}):
        with pytest.raises(StoreUnavailableError, match="certificate"):
            open_store(dsn(encrypted, **files))
    assert encrypted.health()["status"] == "ok"


def test_clients_that_never_shake_hands_keep_nobody_out(made, tmp_path):
    """They need no token, and each holds one of the files that the database needs too."""
    options = [*made.server_options(), "--max-connections", "64", "--header-timeout", "1"]
    with (
        CollectorProcess(tmp_path, *options, verify=made.context()) as running,
        contextlib.ExitStack() as clients,
    ):
        usual = psutil.Process(running.pid).num_fds()
        address = ("127.0.0.1", httpx.URL(running.otlp_url).port)
        silent = [clients.enter_context(socket.create_connection(address)) for _ in range(300)]
        for client in silent[:-64]:
            client.settimeout(30)
            assert client.recv(1) == b""
        assert running.post(one_span()[1]).status_code == 200
        assert psutil.Process(running.pid).num_fds() < usual + 100
        for client in silent:
            client.settimeout(30)
            assert client.recv(1) == b""
        page = httpx.get(f"{running.otlp_url}/metrics", verify=made.context()).text
        closed = dict(re.findall(r'connections_closed_total\{reason="(\w+)"\} (\d+)', page))
        assert int(closed["too_many_connections"]) >= 236
        assert int(closed["slow_handshake"]) > 50
    assert "Traceback" not in "".join(running.log)


def test_plain_http_and_noise_to_a_tls_port_fail_cleanly_and_it_goes_on(made, encrypted):
    plain = encrypted.otlp_url.replace("https", "http")
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        httpx.post(f"{plain}/v1/traces", content=b"x", headers=PROTOBUF)
    for address in (
        plain,
        encrypted.store.replace("clickhouses", "http").removesuffix("/tailsight"),
        f"http://{encrypted.grpc_target}",
    ):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(b"\x16\x03\x01\x00\x05noise" * 100)
            while True:  # it answers with an alert or not at all, and closes
                try:
                    if not connection.recv(4096):
                        break
                except ConnectionResetError:
                    break
    with pytest.raises(grpc.RpcError), grpc.insecure_channel(encrypted.grpc_target) as channel:
        channel.unary_unary(TRACES_METHOD)(b"", timeout=5)
    assert encrypted.health()["status"] == "ok"
    assert export(encrypted.grpc_target, b"", made.ca) == b""


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("newest", "works"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)],
)
def test_tls_before_1_2_is_not_spoken(made, encrypted, newest, works):
    context = made.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = min(newest, ssl.TLSVersion.TLSv1_2)
    context.maximum_version = newest
    for address in (encrypted.otlp_url.removeprefix("https://"), encrypted.grpc_target):
        host, port = address.split(":")
        context.set_alpn_protocols(["h2", "http/1.1"])
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            try:
                with context.wrap_socket(connection, server_hostname=host) as secured:
                    spoken = secured.version()
            except (ssl.SSLError, ConnectionError):
                spoken = None
        assert (spoken is not None) is works, address


def test_the_sdk_sends_over_tls(made, encrypted, tmp_path):
    service = f"sdk-{uuid.uuid4().hex[:12]}"
    for name, url in (("http/protobuf", encrypted.otlp_url), ("grpc", f"https://{encrypted.grpc_target}")):
        program = (
            "import tailsight\n"
            f"tailsight.configure(service={service!r}, endpoint={url!r}, protocol={name!r}, device_interval_s=0)\n"
            "with tailsight.request('work'):\n    pass\n"
            "assert tailsight.flush(30), tailsight.stats()\n"
        )
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("TAILSIGHT_", "OTEL_"))}
        clean |= {"TAILSIGHT_SPOOL_DIR": str(tmp_path / "spool"), "SSL_CERT_FILE": str(made.ca)}
        clean.pop("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", None)  # a machine's own, which would win
        done = subprocess.run(
            [sys.executable, "-c", program], env=clean, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stderr
    encrypted.wait_until_loaded()
    with open_store(dsn(encrypted, ca=made.ca)) as store:
        assert count(store, service) == 2


# --- mutual TLS ---------------------------------------------------------------------------------------------------


def test_a_client_certificate_of_the_ca_opens_everything(made, mutual):
    service, body = one_span()
    assert mutual.post(body).status_code == 200
    assert export(mutual.grpc_target, body, made.ca, made.client) == b""
    mutual.wait_until_loaded()
    cert, key = made.client
    for user in ("", "me@", "me:password@"):
        with open_store(dsn(mutual, ca=made.ca, cert=cert, key=key).replace("://", f"://{user}")) as store:
            assert count(store, service) == 2
    assert "journal" in mutual.health(), "it is known well enough to be told everything"


@pytest.mark.parametrize("who", ["nobody", "another CA's client"])
def test_without_a_certificate_of_the_ca_nothing_opens(made, mutual, who):
    client = made.others_client if who != "nobody" else None
    with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError, httpx.WriteError)):
        httpx.get(f"{mutual.otlp_url}/healthz", verify=made.context(client=client), timeout=30)
    with pytest.raises(grpc.RpcError) as caught:
        export(mutual.grpc_target, b"", made.ca, client)
    assert caught.value.code().name == "UNAVAILABLE"
    files = {"ca": made.ca} | (dict(zip(("cert", "key"), client, strict=True)) if client else {})
    with pytest.raises(StoreUnavailableError):
        open_store(dsn(mutual, **files))
    assert mutual.health()["status"] == "ok"


def test_mutual_tls_stands_for_tokens_on_a_public_address(made, tmp_path):
    options = ["--host", "0.0.0.0", *made.server_options(mutual=True)]
    with CollectorProcess(tmp_path, *options, verify=made.context(client=made.client)) as running:
        running.otlp_url = running.otlp_url.replace("0.0.0.0", "127.0.0.1")
        assert running.health()["status"] == "ok"
    assert "WARNING" not in "".join(running.log)


def test_tls_alone_does_not(made, tmp_path):
    with pytest.raises(AssertionError, match="nobody would be asked who they are"):
        CollectorProcess(tmp_path, "--host", "0.0.0.0", *made.server_options()).start()


# --- wrong files --------------------------------------------------------------------------------------------------


@pytest.fixture
def wrong(made, tmp_path):
    (tmp_path / "empty.pem").touch()
    (tmp_path / "folder").mkdir()
    key = load_pem_private_key(made.server[1].read_bytes(), None)
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
    (tmp_path / "encrypted.pem").write_bytes(encrypted)
    return tmp_path


@pytest.mark.parametrize(
    ("cert", "key", "ca", "says"),
    [
        ("missing.pem", "", "", "--tls-cert .*missing.pem cannot be read: No such file"),
        ("", "missing.pem", "", "--tls-key .*missing.pem cannot be read: No such file"),
        ("", "", "missing.pem", "--tls-client-ca .*missing.pem cannot be read: No such file"),
        ("folder", "", "", "--tls-cert .* cannot be read: Is a directory"),
        ("empty.pem", "", "", "--tls-cert .*empty.pem holds no certificate"),
        ("", "empty.pem", "", "--tls-key .*empty.pem holds no key"),
        ("", "", "empty.pem", "--tls-client-ca .*empty.pem holds no certificate"),
        ("client", "", "", "--tls-key .* is not the key of --tls-cert"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(made, wrong, cert, key, ca, says):
    right_cert, right_key = made.server
    tls = Tls(
        made.client[0] if cert == "client" else wrong / cert if cert else right_cert,
        wrong / key if key else right_key,
        wrong / ca if ca else None,
    )
    for make in (tls.context, tls.grpc_credentials):
        with pytest.raises(SettingsError, match=says) as caught:
            make()
        assert "\n" not in str(caught.value)


def test_an_encrypted_key_asks_nobody_for_a_password(made, wrong):
    with pytest.raises(SettingsError, match=r"the key is encrypted, .*`openssl pkey`"):
        Tls(made.server[0], wrong / "encrypted.pem").context()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("c", None, None), "--tls-cert alone"),
        ((None, "k", None), "--tls-key alone"),
        ((None, None, "a"), "--tls-client-ca alone"),
    ],
)
def test_half_of_it_is_not_enough(given, says):
    with pytest.raises(SettingsError, match=says):
        Tls.of(*(Path(name) if name else None for name in given))
    assert Tls.of(None, None, None) is None


def test_a_collector_with_a_wrong_file_says_one_line(made, tmp_path):
    with pytest.raises(AssertionError) as caught:
        CollectorProcess(tmp_path / "data", "--tls-cert", str(made.server[0]), "--tls-key", str(made.client[1])).start()
    assert "is not the key of --tls-cert" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert not (tmp_path / "data" / "journal").exists()
