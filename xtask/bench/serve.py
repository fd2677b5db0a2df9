"""The server of connections.rs: HTTP by Python's own library. serve.py plain|threads|fork PORT"""
import http.server
import signal
import socketserver
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'hello\n'
        if self.path == '/stay':
            self.close_connection = False
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


class Forking(socketserver.ForkingMixIn, http.server.HTTPServer):
    max_children = 2000


class Server:
    plain = http.server.HTTPServer
    threads = http.server.ThreadingHTTPServer
    fork = Forking


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
kind = getattr(Server, sys.argv[1])
kind.request_queue_size = 1024
kind.handle_error = lambda *_: None
with kind(('0.0.0.0', int(sys.argv[2])), Handler) as server:
    print('serving', flush=True)
    server.serve_forever()
