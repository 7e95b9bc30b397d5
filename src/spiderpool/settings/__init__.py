"""Settings: the ConfigMap's file and the environment, read once at start into frozen dataclasses.

``table`` holds every name, default and bound, ``source`` reads, and one module per daemon holds its dataclasses.
Nothing here may know what a setting is used for. docs/reference/settings.md is generated from the table.
"""

from spiderpool.settings.agent import AgentSettings, agent_settings
from spiderpool.settings.cloud import CloudSettings, LoadBalancerSettings, PreallocationSettings, cloud_settings
from spiderpool.settings.common import CommonSettings, ProviderSettings
from spiderpool.settings.controller import ControllerSettings, PodInject, controller_settings
from spiderpool.settings.source import (
    SettingsSource,
    file_source,
    load_source,
    read_mapping,
    text_source,
    unread_variables,
)

__all__ = [
    "AgentSettings",
    "CloudSettings",
    "CommonSettings",
    "ControllerSettings",
    "LoadBalancerSettings",
    "PodInject",
    "PreallocationSettings",
    "ProviderSettings",
    "SettingsSource",
    "agent_settings",
    "cloud_settings",
    "controller_settings",
    "file_source",
    "load_source",
    "read_mapping",
    "text_source",
    "unread_variables",
]
