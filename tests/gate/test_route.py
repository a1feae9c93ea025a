"""Claims, and paths that could be read in two ways."""

import pytest

from mutirao.gate.route import Route, RouteError, claims, locate, read_claims, route_for, twin_specs, twin_target

SECRET = "s3cret"
ANA = Route("http://127.0.0.1:4000", "ana", "", "/user/ana/")


def at(path: str, route: Route = ANA, secret: str = SECRET):
    return locate(f"/r/{claims(route, secret)}{path}", SECRET)


def test_equal_routes_have_equal_claims_so_that_the_hub_can_compare():
    assert claims(ANA, SECRET) == claims(Route("http://127.0.0.1:4000", "ana", "", "/user/ana/"), SECRET)
    assert claims(ANA, SECRET) != claims(ANA, "another")


@pytest.mark.parametrize(
    ("routespec", "user", "server"),
    [
        ("/user/ana/", "ana", ""),
        ("/user/%C3%BCser/", "üser", ""),
        ("/user/a@b.org/", "a@b.org", ""),
        ("/user/a%2Bb/", "a+b", ""),
        ("/user/a%20b/", "a b", ""),
        ("/user/ana/..%2F..%2Fx/", "ana", "../../x"),
        ("/user/" + "%F0%9F%A6%9C" * 255 + "/", "🦜" * 255, ""),
        ("/hub-below/user/ana/gpu/", "ana", "gpu"),
        ("ana.hub.example/user/ana/", "ana", ""),
    ],
    ids=lambda value: value[:24],
)
def test_a_server_is_known_by_its_route_whatever_its_name(routespec, user, server):
    route = route_for(routespec, "http://127.0.0.1:4000", user, server)
    place = at(f"{route.prefix}api/kernels/k-1/channels?session_id=%2F..", route)
    assert (place.route.user, place.route.server) == (user, server)
    assert (place.kernel, place.action) == ("k-1", "channels")
    assert place.target_url == f"http://127.0.0.1:4000{route.prefix}api/kernels/k-1/channels?session_id=%2F.."


def test_a_twin_hangs_below_its_server_and_leads_to_the_gate():
    assert twin_specs("/user/ana/") == ("/user/ana/api/kernels/", "/user/ana/api/sessions/")
    assert twin_target("http://gate:1/", ANA, SECRET) == f"http://gate:1/r/{claims(ANA, SECRET)}"


@pytest.mark.parametrize(
    "forged",
    [
        "",
        ".",
        "x",
        "x.y",
        claims(ANA, "another secret"),
        claims(ANA, SECRET)[:-1],
        claims(ANA, SECRET).replace(".", "x."),
        claims(ANA, SECRET).partition(".")[0] + ".ü",
    ],
)
def test_claims_that_this_secret_did_not_sign_are_refused(forged):
    with pytest.raises(RouteError, match="bad signature"):
        read_claims(forged, SECRET)


AMBIGUOUS = {
    "double slash": "/user/ana/api/kernels//k/channels",
    "double slash before": "/user/ana//api/kernels/k/channels",
    "encoded slash": "/user/ana/api%2fkernels/k/channels",
    "encoded slash within": "/user/ana/api/kernels/k%2Fchannels",
    "encoded backslash": "/user/ana/api/kernels/k%5cchannels",
    "backslash": "/user/ana/api/kernels/k\\channels",
    "dots": "/user/ana/api/kernels/../kernels/k/channels",
    "a dot": "/user/ana/api/kernels/./k/channels",
    "dots at the end": "/user/ana/api/kernels/k/..",
    "encoded dots": "/user/ana/api/kernels/%2e%2e/k",
    "half encoded dots": "/user/ana/api/kernels/.%2E/k",
    "encoded letter": "/user/ana/%61pi/kernels/k/channels",
    "encoded letter in the action": "/user/ana/api/kernels/k/%63hannels",
    "encoded digit": "/user/ana/api/kernels/%31/channels",
    "NUL": "/user/ana/api/kernels/k%00/channels",
    "newline": "/user/ana/api/kernels/k%0a/channels",
    "DEL": "/user/ana/api/kernels/k%7f",
    "raw newline": "/user/ana/api/kernels/k\n",
    "not ASCII": "/user/ana/api/kernels/ü",
    "a broken escape": "/user/ana/api/kernels/k%zz",
    "a cut escape": "/user/ana/api/kernels/k%4",
    "fragment": "/user/ana/api/kernels/k/channels#/..",
    "overlong": "/user/ana/api/kernels/" + "k" * 2100,
    "another member": "/user/bob/api/kernels/k/channels",
    "the name otherwise encoded": "/user/%61na/api/kernels/k/channels",
    "name in another case": "/user/Ana/api/kernels/k/channels",
    "beside the kernels": "/user/ana/api/kernelspecs",
    "not below the kernels": "/user/ana/api/contents/x",
    "nothing": "",
}


@pytest.mark.parametrize("path", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_path_that_could_mean_something_else_is_refused(path):
    with pytest.raises(RouteError) as caught:
        at(path)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("target", ["/", "/healthz/", "/user/ana/api/kernels", "*", "http://x/r/", "/r", "/r/"])
def test_a_request_without_claims_is_refused_and_told_how_to_come(target):
    with pytest.raises(RouteError, match=r"prepend-path|signature"):
        locate(target, SECRET)


@pytest.mark.parametrize("tail", ["api/kernels", "api/kernels/", "api/kernels/k-1", "api/kernels/k/ext%20ra?x=%2e"])
def test_everything_clear_below_the_kernels_passes_as_it_came(tail):
    assert at(f"/user/ana/{tail}").target_url == f"http://127.0.0.1:4000/user/ana/{tail}"
