#!/bin/sh
# A copy of a collector's data folder, journal and embedded store together, that is consistent: the collector is stopped,
# and cannot start while this runs. It takes seconds whatever the size, because the parts of the store never change and
# are linked, not copied. Where the target is on another file system everything is copied.
#
#   systemctl stop tailsight-collector
#   deploy/back-up.sh /var/lib/tailsight /var/lib/tailsight-back-up/2026-11-22
#   systemctl start tailsight-collector
#   tar -C /var/lib/tailsight-back-up/2026-11-22 -cf … .      from here on at leisure
#
# Clients keep what they have to send while it is stopped, and send it then.
set -eu

if [ $# -ne 2 ]; then
  echo "usage: $0 DATA-FOLDER NEW-FOLDER" >&2
  exit 2
fi
data=${1%/}
target=${2%/}

if [ ! -f "$data/journal/lock" ]; then
  echo "$0: $data is no collector's data folder: there is no journal/lock in it" >&2
  exit 2
fi
if [ -e "$target" ]; then
  echo "$0: $target is there already; name a new folder" >&2
  exit 2
fi

# The lock that a running collector holds. It is kept until the end of this script.
exec 9<"$data/journal/lock"
if ! flock --exclusive --nonblock 9; then
  echo "$0: a collector uses $data: stop it first (systemctl stop tailsight-collector)" >&2
  exit 4
fi

unfinished="$target.unfinished"
mkdir -p "$(dirname "$target")"
rm -rf "$unfinished"
mkdir -m 0700 "$unfinished"

# The bulk of the store is *.bin files, which are written once and never changed: a second name for each is a copy. All
# else is copied: the journal, the checkpoints, the engine's logs and small files. data/tmp holds nothing that lasts.
tar -C "$data" --exclude='./clickhouse/store/*.bin' --exclude='./tmp/*' -cf - . | tar -C "$unfinished" -xpf -
how=--link
ln "$data/journal/lock" "$unfinished/same-file-system" 2>/dev/null || how=--archive
rm -f "$unfinished/same-file-system"
if [ -d "$data/clickhouse/store" ]; then
  absolute=$(cd "$unfinished" && pwd)
  (cd "$data" && find ./clickhouse/store -type f -name '*.bin' -print0 |
    xargs -0 -r cp $how --parents --target-directory="$absolute")
fi
sync --file-system "$unfinished"
mv "$unfinished" "$target"
echo "$target"
