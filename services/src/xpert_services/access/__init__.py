"""Who may do what: tokens, signed addresses, and the log of writes."""

from xpert_services.access.audit import Audit
from xpert_services.access.signing import Signer
from xpert_services.access.tokens import Caller, Tokens, includes

__all__ = ["Audit", "Caller", "Signer", "Tokens", "includes"]
