//! Servers whose clients are in the same machine: nothing of them lies outside, so they go on through rests too.

use crate::harness::check;

fn check_script(script: &str, expect: &str) {
    check(&["/bin/sh", "-ec", script], expect);
}

#[test]
fn redis_and_its_client() {
    check_script(
        "
cd /tmp
redis-server --port 7000 --save '' --appendonly yes > log &
until redis-cli -p 7000 ping > pong 2>&1 && grep -q PONG pong; do sleep 0.01; done
redis-cli -p 7000 -r 2000 incr counter | tail -n 1
redis-benchmark -q -p 7000 -c 20 -n 5000 -t set,lpush > rates
redis-cli -p 7000 llen mylist
redis-cli -p 7000 shutdown
wait
redis-server --port 7000 --save '' --appendonly yes > log &
until redis-cli -p 7000 ping > pong 2>&1 && grep -q PONG pong; do sleep 0.01; done
redis-cli -p 7000 get counter
redis-cli -p 7000 shutdown
wait
",
        "2000\n5000\n2000\n",
    );
}

#[test]
fn nginx_and_its_client() {
    check_script(
        "
mkdir -p /tmp/site && cd /tmp/site && echo hello > index.html
cat > nginx.conf <<'END'
user root;
worker_processes 2;
pid /tmp/site/pid;
events {}
http {
    access_log off;
    server { listen 127.0.0.1:8000; root /tmp/site; }
}
END
nginx -c /tmp/site/nginx.conf -e /tmp/site/errors
python3 -c '
import urllib.request
found = {urllib.request.urlopen(\"http://127.0.0.1:8000/\").read() for _ in range(500)}
print(found)
'
kill -HUP $(cat pid)
python3 -c 'import urllib.request; print(urllib.request.urlopen(\"http://127.0.0.1:8000/\").read())'
kill -QUIT $(cat pid)
while [ -e pid ]; do sleep 0.01; done
",
        "{b'hello\\n'}\nb'hello\\n'\n",
    );
}

#[test]
fn postgres_and_its_client() {
    check_script(
        "
mkdir /tmp/data && chown postgres: /tmp/data && cd /tmp/data
cat > work <<'END'
PATH=/usr/lib/postgresql/15/bin:$PATH
initdb -D db -A trust -N > log
pg_ctl -D db -w -o '-c listen_addresses= -k /tmp/data' -l log start > started
export PGHOST=/tmp/data PGDATABASE=postgres
pgbench -q -i -s 1 2> made
pgbench -c 4 -t 100 > rates 2> progress
psql -Atc 'select count(*) from pgbench_history'
psql -Atc 'select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)'
pg_ctl -D db -w -m fast stop > stopped
END
setpriv --reuid=postgres --regid=postgres --clear-groups sh -e work
",
        "400\nt\n",
    );
}
