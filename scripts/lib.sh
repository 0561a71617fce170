# Shared by the scripts: what they say, and what they install. Sourced, not run.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
began=$SECONDS
step_began=$SECONDS
step_name=

say() { printf '%s\n' "$*"; }

# step NAME: says what comes now, and how long the last one took.
step() {
  step_end
  step_name=$1 step_began=$SECONDS
  printf '==> %s\n' "$step_name"
}

step_end() {
  [ -z "$step_name" ] || printf '    %s: %d s\n' "$step_name" $((SECONDS - step_began))
  step_name=
}

# die WHAT WAY-OUT: one sentence each.
die() {
  printf 'error: %s\n' "$1" >&2
  [ $# -lt 2 ] || printf '  → %s\n' "$2" >&2
  exit 1
}

need_root() {
  [ "$(id -u)" = 0 ] || die "$0 needs root: it starts containers and jails." "run it with sudo, or as root"
}

need_disk() { # MiB
  local free
  free=$(df -Pm . | awk 'NR==2 {print $4}')
  [ "$free" -ge "$1" ] || die "the disk of $root has $free MiB free; $1 MiB are needed." "free some, or clone to another disk"
}

# packages NAME...: installs what is missing, and says so.
packages() {
  local missing=() p
  for p in "$@"; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "this machine has no apt-get." "on Debian 12 or 13 or Ubuntu 24.04 this script installs what it needs; elsewhere install these by hand: ${missing[*]}"
  say "    installing ${missing[*]}"
  local log
  log=$(mktemp)
  if ! { DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" ||
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"; }; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    die "cannot install ${missing[*]}; the last lines of apt-get are above, all of them in $log." "mend that, and run this again"
  fi
  rm -f "$log"
}

# ensure_go: a Go that can build go.mod, on PATH. Go 1.21 and later fetch the
# toolchain that go.mod asks for by themselves; an older one is used to fetch
# it as the module that it is, checked against the checksum database.
ensure_go() {
  [ -x /usr/local/go/bin/go ] && PATH=$PATH:/usr/local/go/bin
  local want=${GO_TOOLCHAIN:-$(sed -n 's/^toolchain go//p; ' go.mod)} minor
  : "${want:=$(sed -n 's/^go //p' go.mod)}"
  if ! command -v go >/dev/null; then
    say "    there is no Go: installing the distribution's"
    packages golang-go
  fi
  minor=$(go env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
  [ -n "$minor" ] || die "$(command -v go) does not say its version." "put a working Go on PATH"
  if [ "$minor" -lt 21 ]; then
    local dir=$root/.cache/go-$want
    if [ ! -x "$dir/bin/go" ]; then
      say "    Go 1.$minor is too old to fetch newer ones by itself: fetching Go $want as a module"
      mkdir -p .cache
      local said got
      said=$(cd "$(mktemp -d)" && go mod download -json "golang.org/toolchain@v0.0.1-go$want.linux-$(go env GOARCH)") || true
      got=$(sed -n 's/^[[:space:]]*"Dir": "\(.*\)",\{0,1\}$/\1/p' <<<"$said")
      [ -d "$got" ] || sed -n 's/^[[:space:]]*"Error": /    /p' <<<"$said" >&2
      [ -d "$got" ] || die "cannot fetch Go $want through the Go module proxy." "install Go $want or newer, and put it on PATH"
      cp -r "$got" "$dir.new" && chmod -R u+w "$dir.new"
      chmod +x "$dir.new"/bin/* "$dir.new"/pkg/tool/*/* 2>/dev/null
      mv "$dir.new" "$dir"
    fi
    PATH=$dir/bin:$PATH
  fi
  export PATH
  say "    $(go version)"
}

# ensure_docker: a Docker Engine that answers, started where nothing manages it.
ensure_docker() {
  command -v dockerd >/dev/null || packages docker.io iptables
  command -v iptables >/dev/null || packages iptables
  docker_answers && return
  local log=/var/log/bulkhead-dockerd.log pid=
  if [ -d /run/systemd/system ]; then
    systemctl start docker || true
  else
    clear_stale_pid /var/run/docker.pid dockerd
    clear_stale_pid /var/run/docker/containerd/containerd.pid containerd
    say "    starting dockerd (its log: $log)"
    setsid nohup dockerd >"$log" 2>&1 </dev/null &
    pid=$!
  fi
  for _ in $(seq 100); do
    docker_answers && return
    [ -z "$pid" ] || kill -0 "$pid" 2>/dev/null || break
    read -rt 0.3 <> <(:) || true
  done
  if [ -s "$log" ]; then
    tail -n 3 "$log" >&2
    die "the Docker Engine does not start; its last words are above, all of them in $log." "mend that, and run this again"
  fi
  die "the Docker Engine does not start." "see why: journalctl -u docker"
}

# clear_stale_pid FILE NAME: removes the process id that a killed daemon left,
# unless it is that of a living process of this name.
clear_stale_pid() {
  [ -e "$1" ] || return 0
  local pid state
  pid=$(cat "$1")
  state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$pid/status" 2>/dev/null) || true
  if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != "$2" ] || [ "$state" = Z ]; then
    say "    removing $1, left by a $2 that was killed"
    rm -f "$1"
  fi
}

docker_answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# build: the binaries, static, in bin/.
build() {
  mkdir -p bin
  local version
  version=$(git describe --always --dirty 2>/dev/null) || version=unknown
  for b in bulkhead bulkhead-runner bulkhead-cell bulkhead-jail; do
    # The commit goes only into the operator's binary, so that a commit that
    # leaves the others alone leaves the image and what runs alone.
    CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-X main.version=$version" -o "bin/$b" "./cmd/$b" || die "cannot build $b; the compiler's words are above." "is the checkout whole? git status"
  done
}
