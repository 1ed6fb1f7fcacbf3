# shellcheck shell=bash
# Sourced by tools that compile a Debian package's source anew. Nothing of the machine's apt configuration is changed.

# Prints the machine's own package sources, as sources of source packages.
source_lists() {
  local directory=$1 file parts
  eval "$(apt-config shell parts Dir::Etc::sourceparts/d file Dir::Etc::sourcelist/f)"
  if [ -f "${file:-}" ]; then sed -n 's/^deb[[:space:]]/deb-src /p' "$file" >"$directory/main.list"; fi
  for file in "${parts:-/etc/apt/sources.list.d/}"/*.sources; do
    [ -f "$file" ] && sed 's/^Types:.*/Types: deb-src/' "$file" >"$directory/${file##*/}"
  done
  for file in "${parts:-/etc/apt/sources.list.d/}"/*.list; do
    [ -f "$file" ] && sed -n 's/^deb[[:space:]]/deb-src /p' "$file" >"$directory/${file##*/}"
  done
  return 0
}

# fetch_debian_source PACKAGE DIRECTORY: unpacks it as DIRECTORY, where it is not yet. A download that breaks off leaves
# nothing behind.
fetch_debian_source() {
  local package=$1 target=$2 work options
  [ -d "$target" ] && return 0
  command -v apt-get >/dev/null && command -v dpkg-source >/dev/null || return 1
  work=$(mktemp -d "${TMPDIR:-/tmp}/source.XXXXXX") || return 1
  mkdir -p "$work/lists/partial" "$work/sources" "$work/unpacked"
  source_lists "$work/sources"
  options=(-qq -o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$work/sources"
    -o "Dir::State::lists=$work/lists" -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache="
    -o "APT::Sandbox::User=$(id -un)")
  # One source of the machine that does not answer should not hinder the others.
  apt-get "${options[@]}" update >"$work/log" 2>&1 || true
  if (cd "$work/unpacked" && apt-get "${options[@]}" source "$package") >>"$work/log" 2>&1 &&
    mkdir -p "$(dirname "$target")" && mv "$work"/unpacked/*/ "$target"; then
    rm -rf "$work"
    return 0
  fi
  tail -n 3 "$work/log" >&2
  rm -rf "$work"
  return 1
}
