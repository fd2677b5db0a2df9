#!/bin/sh
# Makes the database where there is none, and serves it.
set -e
PATH=/usr/lib/postgresql/15/bin:$PATH
if [ ! -e /data/made ]; then
    # Nothing is in it before it is whole, so what is there is what an attempt that was ended has left.
    rm -rf /data/cluster
    initdb -D /data/cluster -U guestbook -A trust --no-instructions >/dev/null
    # Who reaches this port at all is decided outside of this machine: see [policy] in cormus.toml.
    echo 'host all all all trust' >>/data/cluster/pg_hba.conf
    sync
    touch /data/made
fi
# A machine that was killed leaves its lock behind. The volume is this machine's alone.
rm -f /data/cluster/postmaster.pid
exec postgres -D /data/cluster -k /tmp -c 'listen_addresses=*'
