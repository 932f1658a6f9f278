"""The site on Ray Serve, and the only place that knows Ray (docs/adr/0008-serving.md).

``application`` has the builder (``serve run xpert_services.serving.application:app store=FOLDER``). Nothing is imported here: Ray
reads its environment when it is imported, and ``cluster.prepare`` sets that first.
"""
