"""The routes, one group a file."""

from xpert_services.api.routes import access, catalogues, files, jobs, pllms, registry, system

ROUTERS = (system.router, registry.router, files.router, pllms.router, catalogues.router, jobs.router, access.router)
