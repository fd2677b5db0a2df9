"""A guest book as a WSGI application: entries are rows of a table in PostgreSQL."""

import html
import os
import queue
import socketserver
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import psycopg2

PAGE = """<!doctype html>
<title>Guest book</title>
<h1>Guest book</h1>
<form method="post"><input name="name" placeholder="name"> <input name="text" placeholder="text"> <button>Write</button></form>
<p>{count} entries</p>
<ul>
{entries}</ul>
"""
LENGTH_MAX = 10_000
# As many at once as there are workers, each with a connection of its own once it was needed.
WORKERS = queue.Queue()


class Worker:
    def __init__(self):
        self.connection = None

    def query(self, sql, values=()):
        """Rows of one statement, which is committed when this returns."""
        try:
            if self.connection is None:
                self.connection = psycopg2.connect(host="db", user="guestbook", dbname="postgres", connect_timeout=5)
            with self.connection, self.connection.cursor() as cursor:
                cursor.execute(sql, values)
                return cursor.fetchall() if cursor.description else []
        except psycopg2.Error:
            # The next one who asks gets a new connection.
            if self.connection is not None:
                self.connection.close()
            self.connection = None
            raise


def query(sql, values=()):
    worker = WORKERS.get()
    try:
        return worker.query(sql, values)
    finally:
        WORKERS.put(worker)


def page():
    count = query("select count(*) from entry")[0][0]
    rows = query("select name, text from entry order by id desc limit 50")
    entries = [f"<li><b>{html.escape(name)}</b>: {html.escape(text)}</li>\n" for name, text in rows]
    return PAGE.format(count=count, entries="".join(entries))


def write(environ):
    length = min(int(environ.get("CONTENT_LENGTH") or 0), LENGTH_MAX)
    form = parse_qs(environ["wsgi.input"].read(length).decode(errors="replace"))
    name, text = (form.get(field, [""])[0].replace("\0", "") for field in ("name", "text"))
    query("insert into entry (name, text) values (%s, %s)", (name or "somebody", text))


def application(environ, start_response):
    status, headers, body = "200 OK", [("Content-Type", "text/html; charset=utf-8")], ""
    try:
        if environ["PATH_INFO"] == "/healthz":
            query("select 1")
            body = "well\n"
        elif environ["PATH_INFO"] != "/":
            status = "404 Not Found"
        elif environ["REQUEST_METHOD"] == "POST":
            write(environ)
            status, headers = "303 See Other", headers + [("Location", "/")]
        else:
            body = page()
    except psycopg2.Error as error:
        print(error)
        status, body = "503 Service Unavailable", "The database cannot be reached.\n"
    body = body.encode()
    start_response(status, headers + [("Content-Length", str(len(body)))])
    return [body]


class Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class Handler(WSGIRequestHandler):
    def address_string(self):
        return self.client_address[0]

    def log_message(self, *_):
        pass


for _ in range(int(os.environ.get("WORKERS", "2"))):
    WORKERS.put(Worker())
query("create table if not exists entry (id serial primary key, name text not null, text text not null)")
make_server("", 8000, application, Server, Handler).serve_forever()
