"""Settings of mx: one frozen value, built from defaults, file, environment and flags.

The only reader of settings files and of the environment; everything else is handed a
``Settings``. Knows nothing of gRPC, stores, torch or the terminal, starts nothing and logs
nothing: what the reader should know comes back as ``Settings.notices`` or as one SettingsError.
Dynaconf is used here and nowhere else.
"""

from __future__ import annotations

from mx.config.home import HOME_FILE, write_home_file
from mx.config.kinds import ServiceAccount
from mx.config.load import load_settings
from mx.config.options import Origin, Scope
from mx.config.report import SettingRow, setting_rows, validate_report
from mx.config.tree import (
    CacheSettings,
    ClientSettings,
    LoggingSettings,
    ProvidersSettings,
    SecuritySettings,
    ServerSettings,
    Settings,
    SourcesSettings,
    TransferSettings,
    WorkerSettings,
)

__all__ = [
    "HOME_FILE",
    "CacheSettings",
    "ClientSettings",
    "LoggingSettings",
    "Origin",
    "ProvidersSettings",
    "Scope",
    "SecuritySettings",
    "ServerSettings",
    "ServiceAccount",
    "SettingRow",
    "Settings",
    "SourcesSettings",
    "TransferSettings",
    "WorkerSettings",
    "load_settings",
    "setting_rows",
    "validate_report",
    "write_home_file",
]
