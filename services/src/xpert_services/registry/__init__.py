"""What is registered: base models, style spaces and pLLMs."""

from xpert_services.registry.bases import Bases
from xpert_services.registry.direct import Direct
from xpert_services.registry.intake import Intake
from xpert_services.registry.pllms import Explained, Pllms, check_files
from xpert_services.registry.quarantine import Quarantine
from xpert_services.registry.spaces import Spaces

__all__ = ["Bases", "Direct", "Explained", "Intake", "Pllms", "Quarantine", "Spaces", "check_files"]
