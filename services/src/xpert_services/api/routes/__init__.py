"""The routes, one group a file."""

from xpert_services.api.routes import access, catalogues, files, jobs, pllms, registry, system, uploads

ROUTERS = (
    system.router,
    registry.router,
    files.router,
    uploads.router,
    pllms.router,
    catalogues.router,
    jobs.router,
    access.router,
)
