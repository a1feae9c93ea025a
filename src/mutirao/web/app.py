"""The app: routes, errors and static files put together; nothing here reads the environment."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles

import mutirao
from mutirao.cases.office import Office
from mutirao.cases.wording import Pages as Addresses
from mutirao.errors import ConfigError, MutiraoError, StoreError
from mutirao.hub.headers import hsts
from mutirao.origins import Origins
from mutirao.policy.version import PolicyVersion
from mutirao.store.store import Store
from mutirao.web import metrics
from mutirao.web.api import api_routes
from mutirao.web.api_acts import act_routes
from mutirao.web.guard import Guard
from mutirao.web.hub import Hub, HubAway
from mutirao.web.limit import Limits, TooMany
from mutirao.web.login import Login, LoginFailed, LoginNeeded
from mutirao.web.metrics import Watch
from mutirao.web.page import Pages
from mutirao.web.report import report_routes
from mutirao.web.review import review_routes
from mutirao.web.routes import page_routes
from mutirao.web.site import Site
from mutirao.web.standing import standing_routes

log = logging.getLogger(__name__)

PREFIX = "/services/mutirao/"
NOTHING_WATCHED = Watch()


class Assets(StaticFiles):
    """Style, script and logo, which browsers may keep for an hour; their addresses carry the version."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """The file with its time to live."""
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "public, max-age=3600"
        return response


def make_app(
    store: Store,
    policies: Mapping[int, PolicyVersion],
    hub: Hub,
    *,
    secret: str,
    clock: Callable[[], datetime],
    prefix: str = PREFIX,
    base_url: str = "/",
    contact: str = "",
    default_language: str = "en",
    origins: Origins = Origins(),  # noqa: B008 - frozen
    limits: Limits | None = None,
    hsts_s: int = 0,
    watch: Watch = NOTHING_WATCHED,
    service_token: str = "",
    office: Office | None = None,
) -> FastAPI:
    """The pages as an ASGI app.

    `secret` signs cookies, at least 32 characters; `clock` gives aware UTC times; `contact` is a mail address or URL;
    `origins` says where hub and members are; `office` brings the rules of enforcement, the shipped ones if None;
    `service_token` is what the hub asks with.
    """
    if len(secret) < 32:
        raise ConfigError(f"MUTIRAO_COOKIE_SECRET has {len(secret)} characters: at least 32 are needed.")
    pages = Pages(prefix, base_url, default_language, contact, origins)
    login = Login(hub, secret, prefix, origins)
    office = office or Office(policies, Addresses(prefix))
    site = Site(store, policies, hub, login, pages, clock, base_url, prefix, origins, limits or Limits(), office)
    app = FastAPI(
        title="Mutirão",
        version=mutirao.__version__,
        description="Policy, cases and records of a Mutirão service.",
        openapi_url=f"{prefix}api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    router = APIRouter(prefix=prefix.rstrip("/"))
    router.include_router(api_routes(site))
    router.include_router(act_routes(site))
    router.include_router(page_routes(site))
    router.include_router(standing_routes(site, service_token))
    router.include_router(review_routes(site))
    router.include_router(report_routes(site))

    @router.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        found = await metrics.health(site)
        return JSONResponse(found, status_code=200 if found["status"] == "ok" else 503)

    @router.get("/metrics", include_in_schema=False)
    async def read_metrics(request: Request) -> Response:
        if not await metrics.may_read(request, site, watch):
            raise HTTPException(403)
        return Response(await metrics.exposition(site, watch), media_type=CONTENT_TYPE_LATEST)

    app.include_router(router)
    app.mount(f"{prefix}static", Assets(directory=str(files("mutirao.web") / "static")))
    _handle_errors(app, site, hsts(origins, hsts_s))
    return app


def _handle_errors(app: FastAPI, site: Site, more_headers: Mapping[str, str]) -> None:
    """Every error is a page in the visitor's language, or JSON below api/."""
    api = f"{site.prefix}api/"

    def answer(request: Request, status: int, kind: str = "") -> Response:
        if request.url.path.startswith(api):
            return JSONResponse({"detail": kind or _KINDS.get(status, "error")}, status_code=status)
        return site.pages.render(request, "error.html", status, code=status, kind=kind or _KINDS.get(status, ""))

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code < 400:
            return await http_exception_handler(request, error)
        return answer(request, error.status_code)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        wrong_path = any(problem["loc"][0] == "path" for problem in error.errors())
        return answer(request, 404 if wrong_path else 422)

    async def log_in(request: Request, _error: Exception) -> Response:
        if request.url.path.startswith(api):
            return JSONResponse({"detail": "log in, or send a token"}, status_code=401)
        if request.method != "GET":
            return answer(request, 403)
        query = f"?{request.url.query}" if request.url.query else ""
        return site.login.begin(request, f"{request.url.path}{query}")

    async def failed_login(request: Request, _error: Exception) -> Response:
        return answer(request, 403, "login")

    async def too_many(request: Request, error: Exception) -> Response:
        assert isinstance(error, TooMany)
        response = answer(request, 429)
        response.headers["retry-after"] = str(error.wait_s)
        return response

    async def away(request: Request, error: Exception) -> Response:
        log.error("%s", error)
        return answer(request, 503, "hub" if isinstance(error, HubAway) else "store")

    async def broken(request: Request, _error: Exception) -> Response:
        return answer(request, 500)

    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(LoginNeeded, log_in)
    app.add_exception_handler(LoginFailed, failed_login)
    app.add_exception_handler(TooMany, too_many)
    for kind in (HubAway, StoreError, MutiraoError):
        app.add_exception_handler(kind, away if kind is not MutiraoError else broken)
    app.add_middleware(Guard, on_error=broken, limits=site.limits, on_too_many=too_many, more_headers=more_headers)


_KINDS = {
    403: "forbidden",
    404: "not-found",
    405: "not-allowed",
    413: "too-large",
    422: "invalid",
    429: "too-many",
    500: "broken",
}
