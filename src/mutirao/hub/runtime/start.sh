#!/bin/sh
# The first process of a runtime's server, inside the walls: lays a thin environment into the member's home, on top
# of the shared read-only one, so that `pip install` has a place of its own; then becomes the server.
set -eu
umask 077
base=${0%/bin/*}
mine=$HOME/.mutirao/${MUTIRAO_ENVIRONMENT:?}
version=$("$base/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
site=$mine/lib/python$version/site-packages
if ! mkdir -p "$mine/bin" "$site" 2>/dev/null; then
  echo "Your home is full or can't be written: $mine" >&2
  exit 1
fi
ln -sf /usr/bin/python3 "$mine/bin/python"
ln -sf python "$mine/bin/python3"
printf 'home = /usr/bin\ninclude-system-site-packages = false\nversion = %s\n' "$version" >"$mine/pyvenv.cfg"
echo "$base/lib/python$version/site-packages" >"$site/_mutirao.pth"
for name in pip pip3; do
  printf '#!%s/bin/python\nimport sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n' "$mine" >"$mine/bin/$name"
  chmod 700 "$mine/bin/$name"
done
# JupyterLab speaks the language of the page that started it, until the member chooses another in its own settings.
choice=$HOME/.jupyter/lab/user-settings/@jupyterlab/translation-extension/plugin.jupyterlab-settings
if [ "${MUTIRAO_LANGUAGE:-en}" != en ] && [ ! -e "$choice" ]; then
  mkdir -p "${choice%/*}"
  printf '{"locale": "%s"}\n' "$(echo "$MUTIRAO_LANGUAGE" | tr - _)" >"$choice"
fi
export MUTIRAO_KERNEL_PYTHON="$mine/bin/python" PATH="$mine/bin:$base/bin:$PATH" VIRTUAL_ENV="$mine"
exec "$base/bin/python" -m jupyterhub.singleuser "$@"
