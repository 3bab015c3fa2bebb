#!/bin/bash
# A cluster of this one machine: slurmctld, slurmd and munged on loopback, all files in DIR.
#
#   tests/slurm/cluster.sh install      # Debian or Ubuntu, as root
#   tests/slurm/cluster.sh start DIR    # as root; then: export SLURM_CONF=DIR/slurm.conf
#   tests/slurm/cluster.sh stop DIR
#
# No cgroups and no accounting, so it works in a container. Nothing outside DIR is written, and no
# other SLURM or munge of the machine is touched.
set -eu
export PATH="$PATH:/usr/sbin:/sbin"

configure() {
    local name cpus
    name=$(hostname -s)
    cpus=$(nproc)
    mkdir -p "$1/state" "$1/spool"
    cat > "$1/slurm.conf" << END
ClusterName=g2t
SlurmctldHost=$name(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthInfo=socket=$1/munge.socket,cred_expire=10
StateSaveLocation=$1/state
SlurmdSpoolDir=$1/spool
SlurmctldPidFile=$1/slurmctld.pid
SlurmdPidFile=$1/slurmd.pid
SlurmctldLogFile=$1/slurmctld.log
SlurmdLogFile=$1/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=60
MinJobAge=3600
JobCompType=jobcomp/filetxt
JobCompLoc=$1/finished.txt
NodeName=$name NodeAddr=127.0.0.1 CPUs=$cpus State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
    case "$(slurmd -V)" in
        *" 22."*) echo "CgroupPlugin=cgroup/v1" ;;  # knows no other way to do without
        *) echo "CgroupPlugin=disabled" ;;
    esac > "$1/cgroup.conf"
}

start() {
    mkdir -p "$1"
    configure "$1"
    export SLURM_CONF="$1/slurm.conf"
    (umask 077 && head -c 1024 /dev/urandom > "$1/munge.key")
    # By force: munged wants its socket where all users reach it, and here is only one.
    munged --force --key-file="$1/munge.key" --socket="$1/munge.socket" --pid-file="$1/munge.pid" \
        --log-file="$1/munge.log" --seed-file="$1/munge.seed" 2> "$1/munge.said"
    slurmctld
    slurmd
    for _ in $(seq 60); do
        if sinfo --noheader --format=%T 2> /dev/null | grep -q idle; then
            return
        fi
        sleep 1
    done
    tail -n 5 "$1"/*.log >&2
    echo "no node is idle after a minute" >&2
    exit 1
}

stop() {
    local daemon
    for daemon in slurmd slurmctld munge; do
        if [ -e "$1/$daemon.pid" ]; then
            kill "$(cat "$1/$daemon.pid")" || true
        fi
    done
}

case "${1:-}" in
    install) apt-get update -qq && apt-get install -y -qq slurm-wlm munge ;;
    start) start "$(realpath -m "${2:?DIR is missing}")" ;;
    stop) stop "$(realpath -m "${2:?DIR is missing}")" ;;
    *)
        sed -n 's/^#   //p' "$0" >&2
        exit 2
        ;;
esac
