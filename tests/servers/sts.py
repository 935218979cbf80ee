"""S3 behind a role: keys come from an STS that takes tokens of service accounts, and S3 takes no others.

S3 is moto with its access control switched on: it checks signatures, session tokens and what the role may
do. moto's own STS wants signatures where AWS wants none (AssumeRoleWithWebIdentity), hence an STS of our own
before it. Touch it when tests need another answer of STS.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import boto3
import urllib3

from tests.servers.s3 import S3Server, moto_server

REGION = "us-east-1"
LIFE = timedelta(minutes=14)
"""Of the keys. botocore asks again for keys with less than 15 minutes left: here at each request."""

_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}],
}


@dataclass
class RoleServer:
    """``accepted`` are the tokens that STS takes at present, ``presented`` those that it was shown."""

    s3: S3Server
    sts_url: str
    role_arn: str
    accepted: set[str] = field(default_factory=set)
    presented: list[str] = field(default_factory=list)


@contextlib.contextmanager
def role_server() -> Iterator[RoleServer]:
    """A fresh S3 and its STS, until the block ends."""
    with moto_server() as s3:
        arn, admin = _people(s3)
        answered = urllib3.request("POST", f"{s3.endpoint_url}/moto-api/reset-auth", body=b"0", timeout=10)
        assert answered.status == 200  # from here on every request must be allowed
        known = S3Server(s3.endpoint_url, *admin, REGION)
        http = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
        made = RoleServer(known, f"http://127.0.0.1:{http.server_address[1]}", arn)
        http.RequestHandlerClass = _answering(made)
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield made
        finally:
            http.shutdown()
            http.server_close()
            thread.join()


def _people(server: S3Server) -> tuple[str, tuple[str, str]]:
    """The role's ARN, and the keys of a user who may do everything."""
    iam = _client("iam", server)
    iam.create_user(UserName="admin")
    iam.put_user_policy(UserName="admin", PolicyName="all", PolicyDocument=json.dumps(_ALL))
    key = iam.create_access_key(UserName="admin")["AccessKey"]
    role = iam.create_role(RoleName="train", AssumeRolePolicyDocument=json.dumps(_TRUST))["Role"]
    reading = {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*", "s3:Head*"], "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [reading]})
    iam.put_role_policy(RoleName="train", PolicyName="read", PolicyDocument=policy)
    return role["Arn"], (key["AccessKeyId"], key["SecretAccessKey"])


def _client(service: str, server: S3Server) -> Any:
    return boto3.session.Session().client(
        service,
        endpoint_url=server.endpoint_url,
        region_name=REGION,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )


def _answering(server: RoleServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            status, text = _assume(server, {name: values[0] for name, values in form.items()})
            self.send_response(status)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Says nothing."""

    return Handler


def _assume(server: RoleServer, form: dict[str, str]) -> tuple[int, bytes]:
    """Status and answer (AWS STS API reference, AssumeRoleWithWebIdentity)."""
    if form["Action"] != "AssumeRoleWithWebIdentity" or form["RoleArn"] != server.role_arn:
        return _fault("AccessDenied", f"{form['Action']} of {form.get('RoleArn')}")
    token = form["WebIdentityToken"]
    server.presented.append(token)
    if token not in server.accepted:
        return _fault("InvalidIdentityToken", "the token is not of this cluster")
    session = form["RoleSessionName"]
    answer = _client("sts", server.s3).assume_role(RoleArn=server.role_arn, RoleSessionName=session)
    keys = answer["Credentials"] | {"Expiration": (datetime.now(UTC) + LIFE).strftime("%Y-%m-%dT%H:%M:%SZ")}
    inner = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in keys.items())
    result = f"<AssumeRoleWithWebIdentityResult><Credentials>{inner}</Credentials>"
    return 200, _document(f"{result}</AssumeRoleWithWebIdentityResult>", "AssumeRoleWithWebIdentityResponse")


def _fault(code: str, message: str) -> tuple[int, bytes]:
    inner = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    return 400, _document(inner, "ErrorResponse")


def _document(inner: str, name: str) -> bytes:
    return f'<{name} xmlns="https://sts.amazonaws.com/doc/2011-06-15/">{inner}</{name}>'.encode()
