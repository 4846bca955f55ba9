"""Litestar as both applications of this server use it."""

from litestar import Litestar
from litestar.config.app import AppConfig
from litestar.plugins import PluginProtocol


class Application(Litestar):
    """Litestar without the plugins that it adds by itself, for pydantic and attrs.

    No handler here uses them, and importing them took a fifth of the start-up. (A test notices should
    Litestar come to add them elsewhere.)
    """

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        return plugins

    @staticmethod
    def _patch_opentelemetry_middleware(config: AppConfig) -> AppConfig:
        return config  # it would be imported wherever it is installed; `--otel` adds it by itself
