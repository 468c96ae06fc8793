"""Who sent a request: the identities, which give each browser a session id that names nobody.

- `identities`: the identities of PAGESTATS_IDENTITY, and the contract for one of your own.
- `addresses`: the client's address, as far as trusted proxies vouch for it.
- `salts`: the secret of each reporting day, without which its anonymous ids can't be made again.
"""

from pagestats.identity.addresses import client_address, client_network
from pagestats.identity.identities import (
    Identified,
    Identity,
    Lifetime,
    configured,
    id_in_cookie,
    identify,
    lifetime,
    refuse_other_arguments,
    visitors_label,
)
from pagestats.identity.salts import DaySaltCache, DaySalts, day_salts

__all__ = [
    "DaySaltCache",
    "DaySalts",
    "Identified",
    "Identity",
    "Lifetime",
    "client_address",
    "client_network",
    "configured",
    "day_salts",
    "id_in_cookie",
    "identify",
    "lifetime",
    "refuse_other_arguments",
    "visitors_label",
]
