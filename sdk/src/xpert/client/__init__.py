"""Ask an XPerT server: publish, list, and fetch catalogues and adapters, from ordinary code or under asyncio.

Neither torch nor anything of the server's is loaded. `xpert.client.fake` is a server in memory for your own tests.
"""

from xpert.client.answers import Retries
from xpert.client.awaiting import AsyncClient
from xpert.client.blocking import Client
from xpert.client.cache import Cache
from xpert.client.catalogues import OfflineWarning, RemoteCatalogue
from xpert.client.link import PlainHttpWarning

__all__ = ["AsyncClient", "Cache", "Client", "OfflineWarning", "PlainHttpWarning", "RemoteCatalogue", "Retries"]
