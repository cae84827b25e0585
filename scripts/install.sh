#!/usr/bin/env bash
# Installs what this machine lacks: `install.sh build` what building needs, `install.sh` what testing needs too. Silent,
# and asks nobody's leave, when nothing is missing: then it only looks. Written for Debian and Ubuntu; elsewhere it says
# what is missing. Rust itself is left to rustup.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

purpose=${1:-test}

have() { command -v "$1" >/dev/null 2>&1; }

# One line a need: how to see that it is there || the Debian package that brings it.
missing() {
  have cc && have make || echo build-essential
  have pkg-config || echo pkg-config
  have perl || echo perl
  [ -e /usr/include/openssl/ssl.h ] || echo libssl-dev
  [ -e /usr/include/zlib.h ] || echo zlib1g-dev
  [ "$purpose" = build ] && return
  have java || echo default-jre-headless
  have mvn || echo maven
  have initdb || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || echo postgresql
  have openssl || echo openssl
  have kcat || echo kcat
  have setsid && have setpriv || echo util-linux
  have python3 || echo python3
  python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

if ! have cargo; then
  [ -x "$HOME/.cargo/bin/cargo" ] && die "cargo is in ~/.cargo/bin but not on the PATH: run '. \"\$HOME/.cargo/env\"' first"
  die "Rust is missing: install it with rustup (the version is in Cargo.toml, rust-version), then run this again"
fi

for component in rustfmt clippy; do
  cargo "${component#rust}" --version >/dev/null 2>&1 && continue
  have rustup || die "cargo ${component#rust} is missing: install Rust's component $component"
  say "installing Rust's component $component"
  rustup --quiet component add "$component"
done

packages=$(missing | tr '\n' ' ')
[ -n "$packages" ] || exit 0
have apt-get || die "missing on this machine: $packages(named as Debian packages; install them, then run this again)"

sudo=""
if [ "$(id -u)" != 0 ]; then
  have sudo || die "missing: $packages(run as root: apt-get install $packages)"
  sudo=sudo
fi
say "installing $packages"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
  # shellcheck disable=SC2086 # a list of packages
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $packages </dev/null >"$log" 2>&1
}
if ! install; then
  $sudo apt-get update -q </dev/null >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "apt-get update failed"; }
  install || { tail -n 20 "$log" >&2; die "apt-get could not install $packages"; }
fi
left=$(missing | tr '\n' ' ')
[ -z "$left" ] || die "still missing after apt-get: $left"
