"""An HTTP proxy that only tunnels: CONNECT, asked for user and password where they are given.

Prints its port, then a line for each CONNECT: the target, and the user it came with.
Usage: connect_proxy.py [user:password]
"""
import base64
import socket
import sys
import threading


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(client, wanted):
    head = b""
    while b"\r\n\r\n" not in head:
        data = client.recv(4096)
        if not data:
            return
        head += data
    lines = head.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ")
    given = ""
    for line in lines[1:]:
        name, _, value = line.partition(": ")
        if name.lower() == "proxy-authorization":
            given = base64.b64decode(value.split(" ")[1]).decode()
    print(method, target, given.split(":")[0] or "-", flush=True)
    if method != "CONNECT" or given != wanted:
        client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        client.close()
        return
    host, _, port = target.rpartition(":")
    with socket.create_connection((host, int(port))) as server, client:
        client.sendall(b"HTTP/1.1 200 Connection established\r\nX-Proxy: yes\r\n\r\n")
        back = threading.Thread(target=pump, args=(server, client), daemon=True)
        back.start()
        pump(client, server)
        back.join()


wanted = sys.argv[1] if len(sys.argv) > 1 else ""
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0], wanted), daemon=True).start()
