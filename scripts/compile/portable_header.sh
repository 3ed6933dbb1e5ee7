#!/bin/sh
# reactantserver @VERSION@ (commit @COMMIT@) in one file: this text, and behind it Deno and the program,
# compressed. Unpacks itself once, into a folder named by the digest of what it holds, and runs from
# there. Needs sh and what Debian calls essential: coreutils, findutils, gzip, tar.
set -u

digest=@DIGEST@ # SHA-256 of all that follows this text
text_bytes=@TEXT_BYTES@
deno_packed_bytes=@DENO_PACKED_BYTES@
deno_bytes=@DENO_BYTES@
files_digest=@FILES_DIGEST@ # of the program's files: names and lengths

case $0 in
/*) self=$0 ;;
*) self=$PWD/$0 ;;
esac
reasons=''

# Whether a folder holds everything. It gets its name only when it does; names and lengths show what a
# lost disk or a cleaner of temporary files, which takes what was not read for days, did to it later.
is_complete() {
  [ "$(cd "$1/program" 2>/dev/null && find . ! -type d -printf '%P %s\n' | LC_ALL=C sort | sha256sum)" = "$files_digest  -" ] &&
    [ -f "$1/deno" ] && [ "$(wc -c <"$1/deno")" -eq "$deno_bytes" ]
}

is_whole() {
  [ -x "$1/deno" ] && is_complete "$1"
}

# In a folder that everybody can write, another user may have made ours before us.
is_ours() {
  [ ! -L "$1" ] && [ -n "$(find "$1" -maxdepth 0 -user "$(id -u)" ! -perm /022 2>/dev/null)" ]
}

cannot() {
  reasons="$reasons
  $1: $2"
  return 1
}

unpack() {
  tail -c "+$((text_bytes + 1))" "$self" | head -c "$deno_packed_bytes" |
    gzip -dc >"$1/deno" &&
    chmod 755 "$1" "$1/deno" &&
    tail -c "+$((text_bytes + deno_packed_bytes + 1))" "$self" | gzip -dc | tar -xof - -C "$1" &&
    is_complete "$1"
}

# Unpacks below the folder $1. Processes that start together take turns; each works in a folder of its
# own, which is renamed when it is whole, so an interrupted one leaves nothing that looks done.
unpack_below() {
  if [ ! -d "$1" ]; then
    (umask 022 && mkdir -p "$1") 2>/dev/null || cannot "$1" 'cannot be created' || return
  fi
  [ "$2" = shared ] || is_ours "$1" || cannot "$1" 'belongs to, or can be written by, others' || return
  ( : >"$1/.lock") 2>/dev/null || cannot "$1" 'cannot be written' || return
  exec 9>"$1/.lock"
  if command -v flock >/dev/null 2>&1 && flock 9 2>/dev/null; then
    is_whole "$1/$digest" && return
    rm -rf "$1"/.partial-*
  fi
  partial=$(mktemp -d "$1/.partial-XXXXXX" 2>/dev/null) ||
    cannot "$1" 'cannot be written' || return
  if ! error=$(unpack "$partial" 2>&1); then
    rm -rf "$partial"
    error=$(printf %s "$error" | tr -s '\n' ' ')
    cannot "$1" "${error:-unpacking failed} (is the disk full?)" || return
  fi
  if ! "$partial/deno" --version >/dev/null 2>&1; then
    rm -rf "$partial"
    cannot "$1" 'programs cannot be run from there (mounted noexec, or not this machine?)' || return
  fi
  # What is there under the final name and not whole was damaged since.
  [ ! -e "$1/$digest" ] || is_whole "$1/$digest" || rm -rf "${1:?}/$digest"
  mv -T "$partial" "$1/$digest" 2>/dev/null || rm -rf "$partial"
  is_whole "$1/$digest" || cannot "$1" 'the unpacked folder could not be put in place'
}

temporary=${TMPDIR:-/tmp}/reactantserver-$(id -u)
home=''
if [ -n "${REACTANTSERVER_UNPACK_DIR-}" ]; then
  set -- "$REACTANTSERVER_UNPACK_DIR" '' '' "$@"
else
  cache=''
  [ -z "${HOME-}" ] || cache=$HOME/.cache/reactantserver
  case ${XDG_CACHE_HOME-} in
  /*) cache=$XDG_CACHE_HOME/reactantserver ;;
  esac
  set -- '' "$cache" "$temporary" "$@"
fi
for place in "$1" "$2" "$3"; do
  [ -n "$place" ] || continue
  is_whole "$place/$digest" || continue
  [ "$place" != "$3" ] || is_ours "$place" || continue
  home=$place/$digest
  break
done
if [ -z "$home" ]; then
  found=$(tail -c "+$((text_bytes + 1))" "$self" | sha256sum) || found=unreadable
  if [ "${found%% *}" != "$digest" ]; then
    echo "reactantserver: $self is damaged or cut short (SHA-256 ${found%% *} instead of $digest);" \
      'copy or download it again' >&2
    exit 1
  fi
  for place in "$1" "$2" "$3"; do
    [ -n "$place" ] || continue
    kind=shared
    [ "$place" != "$3" ] || kind=private
    unpack_below "$place" "$kind" || continue
    home=$place/$digest
    break
  done
  { exec 9>&-; } 2>/dev/null
fi
if [ -z "$home" ]; then
  echo "reactantserver: found no folder to unpack into:$reasons
Give a writable folder with REACTANTSERVER_UNPACK_DIR, for example REACTANTSERVER_UNPACK_DIR=/var/tmp/reactantserver" >&2
  exit 1
fi
shift 3

export REACTANTSERVER_FILE="$self" DENO_DIR="$home/cache" DENO_NO_UPDATE_CHECK=1 DENO_NO_PACKAGE_JSON=1
exec "$home/deno" run --quiet --cached-only --no-lock @PERMISSIONS@ \
  --v8-flags="${@ENGINE_FLAGS_VARIABLE@:-@ENGINE_FLAGS@}" \
  --config "$home/program/deno.json" "$home/program/main.ts" "$@"
