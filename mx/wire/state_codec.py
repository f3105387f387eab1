"""Messages about a server and its stores, of ``mx.admin.v1`` ⇄ ``core`` values."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

from mx.core.server_state import BackendState, RawRecord, Reaped, ServerStatus, SettingRow
from mx.wire import admin_codec
from mx.wire.codec import build
from mx.wire.v1 import admin

# ---- server ------------------------------------------------------------------------------------


def encode_status(status: ServerStatus) -> admin.GetServerStatusResponse:
    return build(
        admin.GetServerStatusResponse,
        version=status.version,
        started_at_ms=status.started_at_ms,
        ready=status.ready,
        draining=status.draining,
        store_backend=status.store_backend,
        store_ok=status.store_ok,
        store_latency_ms=status.store_latency_ms,
        sources_by_status=dict(status.sources_by_status),
        listen=status.listen,
        settings_file=status.settings_file,
        read_only=status.read_only,
    )


def decode_status(message: admin.GetServerStatusResponse) -> ServerStatus:
    return ServerStatus(
        version=message.version,
        started_at_ms=message.started_at_ms,
        ready=message.ready,
        draining=message.draining,
        store_backend=message.store_backend,
        store_ok=message.store_ok,
        store_latency_ms=message.store_latency_ms,
        sources_by_status=MappingProxyType(dict(message.sources_by_status)),
        listen=message.listen,
        settings_file=message.settings_file,
        read_only=message.read_only,
    )


# ---- stores, reaper, settings ------------------------------------------------------------------


def encode_states(states: Iterable[BackendState]) -> admin.GetBackendStatesResponse:
    return admin.GetBackendStatesResponse(
        states=[
            build(
                admin.BackendState,
                duty=one.duty,
                backend=one.backend,
                address=one.address,
                ok=one.ok,
                latency_ms=one.latency_ms,
                facts=[build(admin.Fact, name=name, value=value) for name, value in one.facts],
                error=one.error,
            )
            for one in states
        ]
    )


def decode_states(message: admin.GetBackendStatesResponse) -> tuple[BackendState, ...]:
    return tuple(
        BackendState(
            one.duty,
            one.backend,
            one.address,
            one.ok,
            one.latency_ms,
            tuple((fact.name, fact.value) for fact in one.facts),
            one.error,
        )
        for one in message.states
    )


def encode_raw(record: RawRecord) -> admin.GetRawRecordResponse:
    return build(admin.GetRawRecordResponse, backend=record.backend, place=record.place, text=record.text)


def decode_raw(message: admin.GetRawRecordResponse) -> RawRecord:
    return RawRecord(message.backend, message.place, message.text)


def encode_reaped(reaped: Reaped) -> admin.ReapSourcesResponse:
    return build(
        admin.ReapSourcesResponse,
        seen=reaped.seen,
        marked=map(admin_codec.encode_key, reaped.marked),
        removed=map(admin_codec.encode_key, reaped.removed),
    )


def decode_reaped(message: admin.ReapSourcesResponse) -> Reaped:
    return Reaped(
        message.seen,
        tuple(map(admin_codec.decode_key, message.marked)),
        tuple(map(admin_codec.decode_key, message.removed)),
    )


def encode_settings(rows: Iterable[SettingRow]) -> admin.ListSettingsResponse:
    settings = [build(admin.Setting, key=one.key, value=one.value, origin=one.origin) for one in rows]
    return admin.ListSettingsResponse(settings=settings)


def decode_settings(message: admin.ListSettingsResponse) -> tuple[SettingRow, ...]:
    return tuple(SettingRow(one.key, one.value, one.origin) for one in message.settings)
