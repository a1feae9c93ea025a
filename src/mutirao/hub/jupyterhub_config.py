"""The hub's configuration, worked out from mutirao.toml; JupyterHub executes this file."""

import os
from pathlib import Path

from mutirao.entrance import LoginKind
from mutirao.hub import actor_api
from mutirao.hub.guard import roles
from mutirao.hub.language_hook import dress
from mutirao.hub.place import here
from mutirao.hub.proxy import GuardedProxy
from mutirao.hub.recipe import PORT
from mutirao.hub.session import harden
from mutirao.hub.spawner import SandboxSpawner, standings
from mutirao.hub.warden import SCOPES, SERVICE
from mutirao.origins import subdomain
from mutirao.sandbox.client import Client

place = here()
settings = place.settings
data = settings.service.data / "hub"

c = get_config()  # type: ignore[name-defined]  # noqa: F821 - JupyterHub puts it here
host = settings.service.host
c.JupyterHub.bind_url = f"http://{f'[{host}]' if ':' in host else host}:{settings.service.port}"
c.JupyterHub.hub_bind_url = place.hub_url
c.JupyterHub.db_url = settings.hub_database_url
if not settings.hub_database_url.startswith("sqlite"):
    c.JupyterHub.db_kwargs = {"pool_pre_ping": True, "connect_args": {"connect_timeout": 3}}
c.JupyterHub.cookie_secret_file = str(data / "cookie_secret")
# A hub that ends takes nothing along: the supervisor stops what is to be stopped.
c.JupyterHub.cleanup_servers = False
c.JupyterHub.cleanup_proxy = False
if settings.service.subdomain_host:
    c.JupyterHub.subdomain_host = settings.service.subdomain_host
    c.JupyterHub.subdomain_hook = subdomain
    # So that no page of a member's can plant a login of another's: such a name is the host's own, for https alone.
    c.JupyterHub.cookie_host_prefix_enabled = settings.origins.secure
elif settings.service.public_url:
    c.JupyterHub.public_url = settings.service.public_url
# Or whoever takes the challenge out of the way to the hub gets a code that needs no proof (RFC 9700, 4.8.2).
c.JupyterHub.oauth_require_pkce = True
c.JupyterHub.trusted_downstream_ips = list(settings.tls.trusted_proxies) if settings.tls.behind_proxy else []
c.JupyterHub.log_level = os.environ.get("MUTIRAO_LOG_LEVEL", "INFO")

c.JupyterHub.proxy_class = GuardedProxy
c.GuardedProxy.should_start = False
c.GuardedProxy.api_url = place.proxy_api_url
c.GuardedProxy.auth_token = place.proxy_token
c.GuardedProxy.gate_url = ",".join(place.gate_urls)
c.GuardedProxy.gate_secret = place.gate_secret

c.JupyterHub.spawner_class = SandboxSpawner
c.Spawner.ip = "0.0.0.0"  # noqa: S104 - inside the sandbox, where only the host can come in
c.Spawner.port = PORT
c.Spawner.hub_connect_url = place.forwarder_url
c.Spawner.default_url = "/lab"
c.Spawner.env_keep = []
c.Spawner.http_timeout = settings.sandbox.start_timeout_s
c.Spawner.start_timeout = settings.sandbox.start_timeout_s

c.JupyterHub.services = [
    {
        "name": "mutirao",
        "url": place.web_url,
        "api_token": place.service_token,
        "oauth_no_confirm": True,
        "oauth_client_allowed_scopes": ["inherit"],
        "display": False,
    },
    # Has the hub tell a restarted proxy its routes; whoever may do that could also send the hub to another proxy.
    {"name": "mutirao-supervisor", "api_token": place.supervisor_token, "display": False},
    # Stops the runtimes of members who may no longer run code.
    {"name": SERVICE, "api_token": place.warden_token, "display": False},
]
c.JupyterHub.load_roles = [
    *roles(),
    {"name": "mutirao-supervisor", "services": ["mutirao-supervisor"], "scopes": ["proxy"]},
    {"name": SERVICE, "services": [SERVICE], "scopes": SCOPES},
]
c.JupyterHub.extra_handlers = [(actor_api.PATH, actor_api.ActorAPIHandler)]
dress(
    c,
    native=settings.login.kind is LoginKind.NATIVE,
    default_language=settings.service.language,
    origins=settings.origins,
    hsts_s=settings.tls.hsts_days * 86_400,
    standings=standings(place),
)


match settings.login.kind:
    case LoginKind.DEMO:
        c.JupyterHub.authenticator_class = "shared-password"
        c.SharedPasswordAuthenticator.user_password = place.demo_password
        if place.operator_password:
            c.SharedPasswordAuthenticator.admin_password = place.operator_password
        c.Authenticator.allow_all = True
    case LoginKind.NATIVE:
        c.JupyterHub.authenticator_class = "mutirao.hub.native.InviteAuthenticator"
        c.InviteAuthenticator.invite_folder = str(data / "invites")
        c.InviteAuthenticator.had_a_holder = Client(Path(place.broker_socket)).had_a_home
        c.NativeAuthenticator.open_signup = settings.login.open_sign_up
        c.NativeAuthenticator.minimum_password_length = 8
        c.NativeAuthenticator.check_common_password = True
        c.NativeAuthenticator.allowed_failed_logins = 5
        c.NativeAuthenticator.seconds_before_next_try = 60
        c.Authenticator.allow_all = True  # who is let in is the authenticator's own table of approvals
    case LoginKind.CLASS:
        c.JupyterHub.authenticator_class = settings.login.class_name
        for trait, value in settings.login.resolved_options().items():
            setattr(c[settings.login.class_name.rpartition(".")[2]], trait, value)
harden(c, c.JupyterHub.trusted_downstream_ips)
# The hub's table holds no longer ones; control characters have no place in logs and pages.
c.Authenticator.username_pattern = r"[^\x00-\x1f\x7f/]{1,255}\Z"
c.Authenticator.admin_users = set(settings.login.operators)
