#!/usr/bin/env bash
# Runs the image as in production: within 512 MB, on a read-only file system, not as root. It must answer within
# three seconds of its start, answer every photo of a minute's load, survive a minute's flood of large uploads and
# one of photos that lie about their cost (HOSTILE=FOLDER: those of a folder), and lose no request when it is
# stopped under load.
#
#   tests/container/run.sh [BUNDLE]      a folder; by default untrained networks of recipe quick
#
# Needs docker or podman. E2E=TOOL takes another program in their place, which is called with
#   -f DOCKERFILE -c CONTEXT -p PORT -m MEGABYTES -b BUILD_ARG=VALUE -o 'OPTIONS OF RUN' -- COMMAND
# and does what `on_engine` does below.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
export here PYTHON=${PYTHON:-python3} PORT=${PORT:-42450}
export scratch; scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

mkdir "$scratch/context"
cp -r "$root"/{pyproject.toml,README.md,LICENSE,src,deploy} "$scratch/context"
if [ $# -gt 0 ]; then cp -r "$1" "$scratch/context/bundle"
else "$PYTHON" "$here/bundle.py" "$scratch/context/bundle"; fi

beside() { # while the container runs, named `app`
  "$ENGINE" exec -i app python - <"$here/packages.py"
  "$ENGINE" exec app python -m fovsfe.service.healthy
  "$ENGINE" exec app sh -c '! touch /venv/x 2>/dev/null && [ "$(id -u)" != 0 ]'
  "$PYTHON" "$here/load.py" "$URL" "${SECONDS_OF_LOAD:-60}"
  "$ENGINE" exec app grep -E '^(Rss(Anon|File)|VmHWM)' /proc/1/status
  "$PYTHON" "$here/load.py" "$URL" flood "${SECONDS_OF_LOAD:-60}"
  "$ENGINE" exec app grep -E '^(Rss(Anon|File)|VmHWM)' /proc/1/status
  "$PYTHON" "$here/load.py" "$URL" hostile "${SECONDS_OF_LOAD:-60}" ${HOSTILE:-}
  "$ENGINE" exec app grep -E '^(Rss(Anon|File)|VmHWM)' /proc/1/status
  "$PYTHON" "$here/load.py" "$URL" until-stopped >"$scratch/stop" 2>&1 & # goes on when this has ended
  echo $! >"$scratch/load"
  until grep -q 'under way' "$scratch/stop"; do kill -0 "$(cat "$scratch/load")" && sleep .5; done
  sleep 5
}
export -f beside

on_engine() {
  local image=fovsfe:test start code=
  "$ENGINE" build -q -f "$scratch/context/deploy/Dockerfile" --build-arg BUNDLE=bundle -t $image "$scratch/context"
  echo "image $(($("$ENGINE" image inspect -f '{{.Size}}' $image) >> 20)) MiB"
  start=$(date +%s%N)
  "$ENGINE" run -d --name app --network host -e PORT="$PORT" -m 512m --memory-swap 512m $options $image >/dev/null
  until curl -fsS -o /dev/null "$URL/" 2>/dev/null || [ $(($(date +%s%N) - start)) -gt 60000000000 ]; do sleep .1; done
  echo "first answer after $((($(date +%s%N) - start) / 1000000)) ms"
  bash -eo pipefail -c beside || code=beside
  "$ENGINE" stop -t 30 app >/dev/null
  code+=$("$ENGINE" inspect -f '{{.State.ExitCode}}{{if .State.OOMKilled}} out of memory{{end}}' app)
  [ "$code" = 0 ] || "$ENGINE" logs --tail 20 app
  "$ENGINE" rm -f app >/dev/null
  [ "$code" = 0 ] || { echo "it ended with: $code"; return 1; }
}

options='--read-only --tmpfs /tmp --cap-drop ALL'
export URL=http://127.0.0.1:$PORT ENGINE
if [ -n "${E2E:-}" ]; then
  ENGINE=podman
  "$E2E" -f "$scratch/context/deploy/Dockerfile" -c "$scratch/context" -p "$PORT" -m 512 -b BUNDLE=bundle -o "$options" \
    -- bash -eo pipefail -c beside
else
  ENGINE=$(command -v docker || command -v podman) || { echo "run.sh: needs docker or podman" >&2; exit 2; }
  on_engine
fi 2>&1 | tee "$scratch/log"

first=$(sed -n 's/^first answer after \([0-9]*\) ms.*/\1/p' "$scratch/log")
[ "$first" -le 3000 ] || { echo "the first answer took longer than three seconds"; exit 1; }
echo "stopped under load:"
tail --pid="$(cat "$scratch/load")" -f /dev/null # until it ends
cat "$scratch/stop"
[ "$(tail -1 "$scratch/stop")" = "no request was lost" ]
