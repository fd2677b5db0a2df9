//! Debian's python3: start, threads, processes, sockets, and the modules in C that people use most.

use crate::harness::check;

fn check_python(script: &str, expect: &str) {
    check(&["/usr/bin/python3", "-c", script], expect);
}

#[test]
fn start_and_modules() {
    check_python("pass", "");
    check_python("print(6*7)", "42\n");
    check_python(
        "import json, re, decimal; print(json.dumps({'a': [1, 2]}))",
        "{\"a\": [1, 2]}\n",
    );
    check_python(
        "import sys; sys.exit('no') if sys.platform != 'linux' else print('ok')",
        "ok\n",
    );
    check_python(
        "import os, tempfile; f = tempfile.NamedTemporaryFile(); f.write(b'x'); f.flush(); print(os.path.getsize(f.name))",
        "1\n",
    );
    check_python(
        "import hashlib, zlib; print(hashlib.sha256(zlib.decompress(zlib.compress(b'x' * 10**6))).hexdigest()[:8])",
        "1b977e9f\n",
    );
}

#[test]
fn threads() {
    check_python(
        "
import queue, threading
work, done = queue.Queue(), queue.Queue()
def serve():
    while (item := work.get()) is not None:
        done.put(item * item)
threads = [threading.Thread(target=serve) for _ in range(8)]
[t.start() for t in threads]
[work.put(n) for n in range(1000)]
[work.put(None) for _ in threads]
[t.join() for t in threads]
print(sum(done.get() for _ in range(1000)))
",
        "332833500\n",
    );
    check_python(
        "import threading; e = threading.Event(); threading.Timer(0.05, e.set).start(); print(e.wait(30))",
        "True\n",
    );
}

#[test]
fn subprocesses() {
    check_python(
        "import subprocess; print(subprocess.check_output(['echo', 'hi'], text=True), end='')",
        "hi\n",
    );
    check_python(
        "import subprocess; p = subprocess.run('read x; echo got $x; exit 5', shell=True, input='1\\n', text=True, capture_output=True); print(p.stdout.strip(), p.returncode)",
        "got 1 5\n",
    );
    check_python(
        "import os; r, w = os.pipe(); pid = os.fork()\nif pid == 0: os.write(w, b'child'); os._exit(4)\nprint(os.read(r, 9).decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))",
        "child 4\n",
    );
    check_python(
        "import subprocess, signal; p = subprocess.Popen(['sleep', '100']); p.send_signal(signal.SIGINT); print(p.wait())",
        "-2\n",
    );
}

#[test]
fn multiprocessing() {
    check_python(
        "
from multiprocessing import Pool
def square(n):
    return n * n
if __name__ == '__main__':
    with Pool(4) as pool:
        print(sum(pool.map(square, range(100))))
",
        "328350\n",
    );
    check_python(
        "
from multiprocessing import Process, Value, Queue, shared_memory
def add(total, queue, name):
    block = shared_memory.SharedMemory(name=name)
    for _ in range(100):
        with total.get_lock():
            total.value += 1
    queue.put(bytes(block.buf[:5]))
    block.close()
if __name__ == '__main__':
    total, queue = Value('i', 0), Queue()
    block = shared_memory.SharedMemory(create=True, size=4096)
    block.buf[:5] = b'hello'
    workers = [Process(target=add, args=(total, queue, block.name)) for _ in range(4)]
    [w.start() for w in workers]
    seen = {queue.get() for _ in workers}
    [w.join() for w in workers]
    block.close(); block.unlink()
    print(total.value, seen)
",
        "400 {b'hello'}\n",
    );
}

#[test]
fn asyncio_server() {
    check_python(
        "
import asyncio
async def serve(reader, writer):
    writer.write((await reader.readline()).upper())
    await writer.drain()
    writer.close()
async def ask(port, text):
    reader, writer = await asyncio.open_connection('127.0.0.1', port)
    writer.write(text)
    answer = await reader.read()
    writer.close()
    return answer
async def main():
    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    port = server.sockets[0].getsockname()[1]
    answers = await asyncio.gather(*(ask(port, b'n%d\\n' % n) for n in range(50)))
    print(len(set(answers)), answers[7].decode(), end='')
asyncio.run(main())
",
        "50 N7\n",
    );
    check_python(
        "
import asyncio
async def main():
    p = await asyncio.create_subprocess_exec('cat', stdin=-1, stdout=-1)
    out, _ = await p.communicate(b'through')
    print(out.decode(), p.returncode)
asyncio.run(main())
",
        "through 0\n",
    );
}

#[test]
fn signals_and_timers() {
    check_python(
        "
import signal
hits = []
signal.signal(signal.SIGALRM, lambda *a: hits.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
n = 0
while len(hits) < 20:
    n += 1
signal.setitimer(signal.ITIMER_REAL, 0)
print('hit')
",
        "hit\n",
    );
    check_python(
        "import time; a = time.monotonic(); time.sleep(0.05); print(0.05 <= time.monotonic() - a < 20)",
        "True\n",
    );
}

#[test]
fn sqlite() {
    check_python(
        "
import os, sqlite3, tempfile
path = os.path.join(tempfile.mkdtemp(), 'x.db')
db = sqlite3.connect(path)
db.execute('pragma journal_mode=wal')
db.execute('create table t (n integer)')
with db:
    db.executemany('insert into t values (?)', ((n,) for n in range(1000)))
other = sqlite3.connect(path)
print(other.execute('select count(*), sum(n) from t').fetchone())
",
        "(1000, 499500)\n",
    );
}

/// A TLS server and client on the loopback, with a certificate made by openssl in the same machine.
#[test]
fn tls() {
    check_python(
        "
import os, socket, ssl, subprocess, tempfile, threading
os.chdir(tempfile.mkdtemp())
subprocess.run('openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k -out c -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost',
               shell=True, check=True, stderr=subprocess.DEVNULL)
server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
server.load_cert_chain('c', 'k')
listener = socket.create_server(('127.0.0.1', 0))
def serve():
    with server.wrap_socket(listener.accept()[0], server_side=True) as s:
        s.sendall(s.recv(100)[::-1])
threading.Thread(target=serve).start()
client = ssl.create_default_context(cafile='c')
with client.wrap_socket(socket.create_connection(listener.getsockname()), server_hostname='localhost') as s:
    s.sendall(b'secret')
    print(s.version(), s.recv(100).decode())
",
        "TLSv1.3 terces\n",
    );
}
