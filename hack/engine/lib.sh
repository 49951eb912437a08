# shellcheck shell=bash
# What up, down and check share. Sourced, never run.

# Everything that `up` leaves behind lives here, so that `down` can tell the daemon it may stop from any other.
state_dir=${DRILL_ENGINE_STATE_DIR:-/run/drill-engine}
pid_file=$state_dir/dockerd.pid
log_file=$state_dir/dockerd.log

# How long to wait for a daemon. Starting includes bringing back the containers of the last time, which may be whole clusters.
# shellcheck disable=SC2034 # up and down use it
wait_seconds=${DRILL_ENGINE_WAIT:-120}

say() { printf 'engine: %s\n' "$*" >&2; }

die() {
  say "$1"
  shift
  local line
  for line in "$@"; do printf '        %s\n' "$line" >&2; done
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# answers is true when engine $1 has a command line here and a daemon (or none to need) that replies.
# The bound matters: a client whose daemon hangs waits for ever.
answers() { have "$1" && timeout 10 "$1" info >/dev/null 2>&1; }

# socket_closed is true when Docker's daemon can be seen, but this user has no rights on its socket.
socket_closed() {
  candidates | grep -qx docker && have docker || return 1
  local said
  said=$(timeout 10 docker info 2>&1) && return 1
  [[ ${said,,} == *"permission denied"* ]]
}

# open_socket prints the command that helps then.
open_socket() { printf 'sudo usermod -aG docker %s\n' "$(id -un)"; }

# candidates prints the engines kind would take, in its order; an explicit wish leaves just that one.
candidates() {
  if [[ -n ${KIND_EXPERIMENTAL_PROVIDER:-} ]]; then
    printf '%s\n' "$KIND_EXPERIMENTAL_PROVIDER"
  else
    printf '%s\n' docker nerdctl podman
  fi
}

# find_engine prints the first engine that answers, or fails.
find_engine() {
  local name
  while read -r name; do
    if answers "$name"; then
      printf '%s\n' "$name"
      return 0
    fi
  done < <(candidates)
  return 1
}

# advise_selection covers a trap: kind takes docker as soon as the command exists, even when no daemon answers.
advise_selection() {
  if [[ $1 != docker && -z ${KIND_EXPERIMENTAL_PROVIDER:-} ]] && have docker; then
    say "a docker command without a daemon is on the PATH as well and kind would pick it; set KIND_EXPERIMENTAL_PROVIDER=$1"
  fi
}

has_systemd() { [[ -d /run/systemd/system ]]; }

# os_release prints one field of os-release(5), or nothing.
os_release() {
  # shellcheck disable=SC1091
  (. /etc/os-release 2>/dev/null && printf '%s' "${!1:-}") || true
}

is_debian_like() { [[ " $(os_release ID) $(os_release ID_LIKE) " == *" debian "* ]] && have apt-get; }

# bounding_set_limited is true when this process can never hold some capability that the kernel knows.
bounding_set_limited() {
  local bound last
  bound=$(awk '/^CapBnd:/ {print $2}' /proc/self/status)
  last=$(</proc/sys/kernel/cap_last_cap)
  ((16#$bound != (1 << (last + 1)) - 1))
}

# is_program is true when process $1 runs program $2: not another that took over a stale number, and not one that has
# ended but is never collected, which happens where process 1 is not an init.
is_program() {
  [[ -n ${1:-} && $(cat "/proc/$1/comm" 2>/dev/null) == "$2" ]] || return 1
  ! grep -q '^State:[[:space:]]*[ZX]' "/proc/$1/status" 2>/dev/null
}

is_daemon() { is_program "${1:-}" dockerd; }

# any_daemon is true when some dockerd runs, whoever started it.
any_daemon() {
  local pid
  for pid in $(pgrep -x dockerd || true); do
    if is_daemon "$pid"; then return 0; fi
  done
  return 1
}

# our_pid prints the number of the daemon that `up` started and that still runs, or fails.
our_pid() {
  local pid
  pid=$(cat "$pid_file" 2>/dev/null) || return 1
  is_daemon "$pid" && printf '%s\n' "$pid"
}

# wait_until polls the command $3... until it is true or $1 seconds have passed; $2 says what is awaited.
wait_until() {
  local limit=$1 what=$2 end
  shift 2
  end=$((SECONDS + limit))
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
  say "$what after $((SECONDS - end + limit)) s"
}

last_log_lines() { tail -n 15 "$log_file" 2>/dev/null || true; }
