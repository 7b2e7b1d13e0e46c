"""What the tests of the pool share: statements, the server's own view, and a relay that breaks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import time
from collections.abc import Callable
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import psycopg

from amphibase.database.pool import PipelinePool
from amphibase.database.statement import Call, Statement

PID = Call(Statement("select pg_backend_pid()"))
SLEEP = Statement("select pg_sleep($1::float8)")
WHO = Call(Statement("select current_user, current_setting('request.jwt.claims', true)"))
ASSUME = Statement(
    "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)"
)


def call(sql: str, *values: object) -> Call:
    return Call(Statement(sql), values)


class Server:
    """What the server says about the connections of the pools under test, and to them."""

    def __init__(self, connection: psycopg.Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self.info = connection.info

    def execute(self, sql: str) -> None:
        self._connection.execute(sql.encode())

    def value(self, sql: str) -> Any:
        row = self._connection.execute(sql.encode()).fetchone()
        return row and row[0]

    def backends(self, state: str = "%") -> int:
        return int(
            self.value(
                f"select count(*) from pg_stat_activity where application_name = '{self._name}'"
                f" and state like '{state}'"
            )
        )

    def terminate(self) -> None:
        """End all the pools' backends, and wait until they are gone."""
        self.value(
            "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity"
            f" where application_name = '{self._name}'"
        )

    async def until(self, condition: Callable[[], bool], limit: float = 60) -> None:
        deadline = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < deadline, "it never came to that"
            await asyncio.sleep(0.01)


class Proxy:
    """A TCP relay to the server that counts what the client sends, and can break."""

    def __init__(self, server: psycopg.ConnectionInfo) -> None:
        self._server = server
        self._writers: list[asyncio.StreamWriter] = []
        self._listener: asyncio.Server | None = None
        self.port = 0
        self.sent: list[bytes] = []
        self.cut_at_next_send = False
        self.reset_at_next_answer = False
        self.keeps_open = False

    async def start(self) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def refuse(self) -> None:
        """Accept no further connection; keep those there are."""
        assert self._listener
        self._listener.close()

    def stop(self) -> None:
        self.refuse()
        self.cut()

    async def shut(self) -> None:
        """Stop, and wait until every relay has ended."""
        self.stop()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._server.hostaddr or self._server.host, self._server.port
        upstream_reader, upstream = await (
            asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
            if host.startswith("/")
            else asyncio.open_connection(host, port)
        )
        self._writers += [writer, upstream]
        back = asyncio.create_task(self._relay(upstream_reader, writer))
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                self.sent.append(data)
                if self.cut_at_next_send:
                    self.cut_at_next_send = False
                    writer.transport.abort()
                    break
                upstream.write(data)
                await upstream.drain()
        upstream.close()
        await back

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                if self.reset_at_next_answer and len(data) > 1000:
                    self.reset_at_next_answer = False
                    socket = writer.get_extra_info("socket")
                    # At once, so that the reset arrives while there is still something to read.
                    os.write(socket.fileno(), data[:1000])
                    socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
                    break
                writer.write(data)
                await writer.drain()
        if not self.keeps_open:
            writer.close()


MakePool = Callable[..., PipelinePool]

PREPARED = Call(Statement("select count(*) from pg_prepared_statements where statement like $1"))


def prepared(like: str) -> Call:
    return Call(PREPARED.statement, [like])
