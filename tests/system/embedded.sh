#!/bin/sh
# Builds and runs a program that has libgcrt as a meson subproject, in a directory of its own that goes afterwards.
#
# Usage: embedded.sh SOURCE_ROOT. The program is smoke.c. Exit status 77: skipped, with the reason.
set -eu

root=$1
here=$root/tests/system
for tool in meson ninja; do
  if ! command -v $tool > /dev/null; then
    echo "skipped: no $tool"
    exit 77
  fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -R "$here/subproject-user/." "$work"
cp "$here/smoke.c" "$work/user.c"
mkdir "$work/subprojects"
ln -s "$root" "$work/subprojects/gcrt"

# The build's own variables would reach into the other project.
unset DESTDIR MESON_BUILD_ROOT MESON_SOURCE_ROOT
log=$work/log
if ! meson setup "$work/build" "$work" > "$log" 2>&1 || ! ninja -C "$work/build" user >> "$log" 2>&1; then
  cat "$log"
  echo "the subproject does not build; to repeat: sh $0 $root"
  exit 1
fi
"$work/build/user" || { echo "to repeat: sh $0 $root"; exit 1; }
# Nothing of the tests was built on the way.
if find "$work/build" -name 'libtest_support*' | grep -q .; then
  echo "a subproject builds the tests; to repeat: sh $0 $root"
  exit 1
fi
