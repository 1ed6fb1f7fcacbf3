# shellcheck shell=bash
# Sourced by the tools that set up a machine: which Debian packages stand, and how to get those that do not.

have_package() {
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Prints those of the named packages that are not installed.
missing_packages() {
  local package
  for package in "$@"; do
    have_package "$package" || printf '%s\n' "$package"
  done
}

apt_install() {
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "not root, and there is no sudo: as root, run: apt-get install $*" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  echo "installing: $*"
  if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" \
    >/dev/null 2>&1; then
    # A new machine has no package lists yet, or old ones.
    "${as_root[@]}" apt-get update -qq &&
      "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  fi
}

# Installs the named packages where they are missing; ends the script when that is impossible.
require_packages() {
  local missing
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    echo "no apt-get here: these must be present under whatever name this system has for them: $*" >&2
    return 0
  fi
  mapfile -t missing < <(missing_packages "$@")
  [ "${#missing[@]}" = 0 ] && return 0
  if ! apt_install "${missing[@]}"; then
    echo "these packages are needed and could not be installed: ${missing[*]}" >&2
    exit 1
  fi
}

# As require_packages, but the script goes on without what cannot be had: each package is tried alone.
wish_packages() {
  local missing package
  command -v apt-get >/dev/null && command -v dpkg-query >/dev/null || return 0
  mapfile -t missing < <(missing_packages "$@")
  for package in "${missing[@]}"; do
    apt_install "$package" || echo "going on without $package"
  done
}
