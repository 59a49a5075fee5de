# shellcheck shell=bash
# What the scripts of this folder share: each makes a corpus from Debian packages, which are fetched and not installed.
# To be sourced, with the arguments of the script at hand:
#
#   source "$(dirname "$0")/common.sh"
#   begin "$@"            # shows the script's opening comment unless there is a folder to write to; sets $folder, $out
#   unpack PACKAGE...     # to $out/packages/usr/...
#   ... writes $out/* ...
#   finish                # $out becomes $folder
#
# A script that fails leaves nothing.

begin() {
  if [[ $# -lt 1 || $1 == -* ]]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit 2
  fi
  folder=$1
  out=$folder.partial
  if [[ -e $folder ]]; then
    echo "$0: $folder exists; give a folder that does not" >&2
    exit 2
  fi
  rm -rf "$out"
  mkdir -p "$out/packages"
  trap 'rm -rf "$out"' EXIT
}

unpack() {
  (
    cd "$out/packages"
    if ! apt-get download -q "$@" >/dev/null 2>errors; then
      cat errors >&2
      echo "$0: could not fetch $*; does \`apt-get update\` work?" >&2
      exit 1
    fi
    for package in ./*.deb; do dpkg -x "$package" .; done
  )
}

finish() {
  rm -rf "$out/packages"
  mv "$out" "$folder"
  trap - EXIT
}
